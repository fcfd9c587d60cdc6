"""What docs/threat-model.md points at is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:gateway|tests)/[\w/]+\.py)(?:::(\w+))?`", TEXT)))


def defined_in(path: Path) -> set[str]:
    """Functions, classes and methods of a file."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_code_and_tests_that_it_names_exist(file: str, name: str) -> None:
    assert (ROOT / file).is_file()
    assert not name or name in defined_in(ROOT / file)
    assert file.startswith("gateway/") or not name or name.startswith("test_")


def test_every_threat_names_what_stops_it() -> None:
    threats = [block for block in re.split(r"\n(?=- |## )", TEXT) if block.startswith("- **")]
    assert len(threats) > 15 and len(NAMED) > 50
    assert [threat[:60] for threat in threats if "`gateway/" not in threat and "`tests/" not in threat] == []


def test_no_reference_is_written_so_that_it_is_not_checked() -> None:
    written = re.findall(r"(?:gateway|tests)/[\w/]*\w\.\w+(?:::\w+)?", TEXT)
    assert len(set(written)) == len(NAMED)


def test_readme_leads_there() -> None:
    deploy = (ROOT / "README.md").read_text().partition("\n## Deploy it\n")[2].partition("\n## ")[0]
    assert "docs/threat-model.md" in deploy

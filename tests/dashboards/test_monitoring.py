"""What docs/monitoring.md tells people to do works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dashboards.build import GRAFANA, ROOT
from tests.dashboards.test_rules import run
from tests.test_docs import blocks_of

TEXT = (ROOT / "docs" / "monitoring.md").read_text()
BLOCKS = blocks_of(TEXT)


@pytest.mark.system
def test_rules_are_checked_and_their_runbooks_moved_as_written(
    tmp_path: Path, system_tool: Callable[[str], str]
) -> None:
    environ = {**os.environ, "PATH": f"{Path(system_tool('promtool')).parent}:{os.environ['PATH']}"}
    shutil.copytree(ROOT / "dashboards" / "rules", tmp_path / "dashboards" / "rules")
    scripts = [text for kind, text in BLOCKS if kind == "sh"]
    assert len(scripts) == 2
    for script in [*scripts, scripts[0]]:
        subprocess.run(["sh", "-euc", script], cwd=tmp_path, env=environ, check=True)
    moved = "".join(path.read_text() for path in (tmp_path / "dashboards" / "rules").glob("*.yaml"))
    pages = set(re.findall(r"runbook_url: https://wiki\.example\.com/headgate/(\S+)", moved))
    assert pages == {path.name for path in (ROOT / "docs" / "runbooks").glob("*.md")}


@pytest.mark.system
def test_prometheus_takes_what_is_to_be_added(tmp_path: Path, system_tool: Callable[[str], str]) -> None:
    (added,) = (text for kind, text in BLOCKS if kind == "yaml")
    shutil.copytree(ROOT / "dashboards" / "rules", tmp_path / "rules")
    (tmp_path / "prometheus.yml").write_text(added)
    assert "4 rule files found" in run(
        system_tool("promtool"), "check", "config", str(tmp_path / "prometheus.yml")
    )


def test_links_and_paths_are_there() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / "docs" / link).exists()
    for path in re.findall(r"`(dashboards/[\w/.]+|compose\.yaml)`", TEXT):
        assert (ROOT / path).exists(), path
    for title in ("Overview", "Cost", "Reliability", "Limits & budgets", "Provider comparison"):
        assert any(f'"title": "Headgate / {title}"' in path.read_text() for path in GRAFANA.glob("*.json"))
        assert title in TEXT
    for objective in re.findall(r"`(0\.\d+)`", TEXT):
        assert f"* {objective}" in (ROOT / "dashboards" / "rules" / "slo.yaml").read_text()

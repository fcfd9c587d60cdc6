"""What has no place in the source, because it has been the hole in others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent / "gateway"

FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "breakpoint", "input", "os.system", "os.popen", "os.execv",
    "os.execve", "os.posix_spawn", "yaml.load", "yaml.unsafe_load", "tempfile.mktemp",
    "ssl._create_unverified_context", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell",
}  # fmt: skip
FORBIDDEN_MODULES = {
    "code", "ctypes", "dbm", "ftplib", "http.client", "jinja2", "logging", "marshal", "pickle", "pty",
    "requests", "shelve", "telnetlib", "urllib.request", "xmlrpc",
}  # fmt: skip
"""`logging`: what is logged is a record of its own kind (telemetry), or a place without words."""
ALLOWED = {
    ("control/supervisor.py", "subprocess"),
    ("control/supervisor.py", "subprocess.Popen"),
    ("cli/serve.py", "os.execv"),
    ("control/vocabulary.py", "ctypes"),
    ("control/exporting.py", "logging"),
    ("cli/asking.py", "http.client"),
    ("cli/asking.py", "urllib.request"),
}
"""Our own processes, with nothing of a request in their command lines; malloc_trim after vocabularies were
read; what exporters of OpenTelemetry complain of, taken from their logger and told in words of ours; what a
command asks of the admin port that its user names."""


def uses(tree: ast.AST) -> Iterator[str]:
    """Modules imported and functions called, by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Call):
            yield ast.unparse(node.func)
            if any(word.arg == "shell" for word in node.keywords):
                yield "shell="


def forbidden(file: str, text: str) -> list[str]:
    names = FORBIDDEN_CALLS | FORBIDDEN_MODULES | {"subprocess", "shell="}
    found = {name for name in uses(ast.parse(text)) if name in names or name.startswith("subprocess.")}
    return sorted(f"{file}: {name}" for name in found if (file, name) not in ALLOWED)


def test_nothing_runs_or_loads_what_was_sent() -> None:
    files = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.rglob("*.py")}
    assert len(files) > 80
    assert [line for file, text in files.items() for line in forbidden(file, text)] == []


def test_rule_would_see_it() -> None:
    text = "import pickle\nimport subprocess\nsubprocess.run(['x'], shell=True)\neval('1')\n"
    assert forbidden("line/x.py", text) == [
        "line/x.py: eval", "line/x.py: pickle", "line/x.py: shell=", "line/x.py: subprocess",
        "line/x.py: subprocess.run",
    ]  # fmt: skip

"""The house rules of gateway/: floors, one door per library, no cycles, and what a worker loads.

Every rule is a function of {file: source}, so that the last table can show that each one catches its offence.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
Sources = dict[str, str]

FLOORS = (
    ("clock", "errors", "money", "usage"),
    ("wire", "pricing"),
    ("policy", "routing", "quota", "drift"),
    ("http", "telemetry", "link", "stores"),
    ("line",),
    ("control", "simulator", "cli"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

DOORS = {
    "aiohttp": ("control/", "simulator/"),
    "genai_prices": ("pricing/catalogue.py",),
    "httptools": ("http/caller.py", "http/upstream.py"),
    "numpy": ("drift/", "control/drift/judge.py"),
    "opentelemetry": (
        "control/otlp.py",
        "control/otlp_events.py",
        "control/otlp_metrics.py",
        "control/spans.py",
    ),
    "orjson": ("wire/json.py", "link/", "control/", "simulator/"),
    "prometheus_client": ("control/exposition.py",),
    "pydantic": (
        "policy/spec.py",
        "policy/quota_spec.py",
        "policy/probe_spec.py",
        "policy/question_spec.py",
        "policy/expectation_spec.py",
        "policy/telemetry_spec.py",
        "policy/drift_spec.py",
        "policy/parts.py",
        "policy/values.py",
        "policy/amounts.py",
        "policy/merge.py",
    ),
    "pydantic_core": ("policy/merge.py",),
    "redis": ("stores/redis.py", "stores/redis_client.py", "stores/drift_log.py"),
    "tiktoken": ("control/vocabulary.py",),
    "typer": ("cli/",),
    "uvloop": ("line/worker.py", "control/keeper.py"),
    "watchfiles": ("control/reload.py",),
    "yaml": ("policy/load.py",),
}
"""Library → the files or folders that may import it. What is not here may not be imported at all."""

IO = {
    "asyncio",
    "multiprocessing",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "urllib.request",
}
LAZY = {
    ("control/process.py", "gateway.simulator"),
    ("control/process.py", "gateway.control.otlp"),
    ("control/store_choice.py", "gateway.stores.redis"),
    ("control/drift/service.py", "gateway.control.drift.alone"),
    ("control/drift/service.py", "gateway.control.drift.keeping"),
    ("control/drift/service.py", "gateway.control.drift.shared"),
    ("control/drift/service.py", "gateway.drift.features"),
    ("control/drift/service.py", "gateway.stores.drift_log"),
    ("control/otlp.py", "opentelemetry.exporter.otlp.proto.grpc"),
}
"""Half of control's memory otherwise, and of the keeper's; and what only some have installed. All others are
at the top: what a worker imports is what it runs."""

NEVER_IN_A_WORKER = (
    "aiohttp",
    "opentelemetry",
    "redis",
    "tiktoken",
    "numpy",
    "genai_prices",
    "prometheus_client",
    "pydantic",
    "typer",
    "watchfiles",
    "yaml",
)
SUPERVISORS = ("gateway.link.target_table", "gateway.telemetry")
"""What the supervisor imports of gateway/, besides the standard library: it must outlive all others."""
LONGEST_FILE_LINES = 500


class Import(NamedTuple):
    """One import statement's module, and how it stands in its file."""

    file: str
    module: str
    lazy: bool
    for_types: bool

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]


def sources() -> Sources:
    """Every file of gateway/, by its path in it."""
    folder = ROOT / "gateway"
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.py"))}


def imports(files: Sources) -> Iterator[Import]:
    """All imports; `from gateway.x import y` counts as gateway.x.y where that is a file."""
    yield from _imports(tuple(files.items()))


@cache
def _imports(files: tuple[tuple[str, str], ...]) -> list[Import]:
    # Six rules ask for those of the whole gateway, 0.8 s each time.
    known = dict(files)
    return [
        each
        for file, text in files
        for each in _imports_in(file, _tree(text), known, lazy=False, for_types=False)
    ]


@cache
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


def _imports_in(file: str, node: ast.AST, files: Sources, *, lazy: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(file, alias.name, lazy, for_types) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = "." * child.level + (child.module or "")
            for name in (f"{module}.{alias.name}" for alias in child.names):
                yield Import(file, name if _file_of(name, files) else module, lazy, for_types)
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        yield from _imports_in(file, child, files, lazy=lazy or inside, for_types=for_types or typing)


def _file_of(module: str, files: Sources) -> str | None:
    path = "/".join(module.split(".")[1:])
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in files), None)


def _room(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def climbing(files: Sources) -> list[str]:
    """Imports that go up, leave the package by a relative name, or lie on no floor."""
    found = [f"{file} is on no floor" for file in files if _room(file) not in (*FLOOR, "__init__")]
    for each in imports(files):
        room = each.module.split(".")[1] if each.root == "gateway" and "." in each.module else ""
        if each.module.startswith(".") or each.module == "gateway":
            found.append(f"{each.file} imports {each.module}")
        elif room and FLOOR.get(room, 99) > FLOOR.get(_room(each.file), 99):
            found.append(f"{each.file} imports {each.module}, which is above it")
    return found


def strangers(files: Sources) -> list[str]:
    """Libraries imported past their door."""
    return [
        f"{each.file} imports {each.module}"
        for each in imports(files)
        if each.root not in ("gateway", "") and each.root not in sys.stdlib_module_names
        if not each.file.startswith(DOORS.get(each.root, ()))
    ]


def impure(files: Sources) -> list[str]:
    """I/O and clocks on floors 0 to 2, where time is an argument. Only policy/load.py opens files."""
    low = {file: text for file, text in files.items() if FLOOR.get(_room(file), 99) <= 2}
    found = [f"{each.file} imports {each.module}" for each in imports(low) if IO & {each.root, each.module}]
    found += [
        f"{each.file} imports time"
        for each in imports(low)
        if each.root == "time" and each.file != "clock.py"
    ]
    for file, text in low.items():
        calls = (node for node in ast.walk(_tree(text)) if isinstance(node, ast.Call))
        names = {ast.unparse(call.func) for call in calls}
        found += [f"{file} calls {name}" for name in names if name.endswith((".now", ".utcnow", ".today"))]
        found += [f"{file} opens files" for name in names if name == "open" and file != "policy/load.py"]
    return found


def cycles(files: Sources) -> list[str]:
    """Files that import each other, also inside functions; what only type checkers see does not count."""
    graph: dict[str, set[str]] = {file: set() for file in files}
    for each in imports(files):
        target = _file_of(each.module, files)
        if target is not None and not each.for_types:
            graph[each.file].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" → ".join(reversed(error.args[1]))]
    return []


def late(files: Sources) -> list[str]:
    """Imports inside functions that LAZY does not name."""
    return [
        f"{each.file} imports {each.module} in a function"
        for each in imports(files)
        if each.lazy and not any(each.file == file and each.module.startswith(name) for file, name in LAZY)
    ]


def early_simulator(files: Sources) -> list[str]:
    """Control's imports of the simulator at its top."""
    return [
        f"{each.file} imports {each.module}"
        for each in imports(files)
        if each.file.startswith("control/") and each.module.startswith("gateway.simulator") and not each.lazy
    ]


def heavy_supervisor(files: Sources) -> list[str]:
    """The supervisor's imports beyond the standard library and SUPERVISORS."""
    return [
        f"{each.file} imports {each.module}"
        for each in imports(files)
        if each.file == "control/supervisor.py" and each.root not in sys.stdlib_module_names
        if not any(each.module == name or each.module.startswith(f"{name}.") for name in SUPERVISORS)
    ]


def busy_inits(files: Sources) -> list[str]:
    """`__init__` files with more in them than a docstring."""
    return [
        file
        for file, text in files.items()
        if file.endswith("__init__.py")
        and not (len(body := _tree(text).body) == 1 and ast.get_docstring(ast.Module(body, [])))
    ]


def long_files(files: Sources) -> list[str]:
    """Files that should be two."""
    return [file for file, text in files.items() if text.count("\n") > LONGEST_FILE_LINES]


RULES = (
    climbing,
    strangers,
    impure,
    cycles,
    late,
    early_simulator,
    heavy_supervisor,
    busy_inits,
    long_files,
)


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_kept(rule: Callable[[Sources], list[str]]) -> None:
    assert rule(sources()) == []


def test_rules_have_something_to_walk() -> None:
    files = sources()
    seen = list(imports(files))
    assert {_room(file) for file in files} == {*FLOOR, "__init__"}
    assert {file for file, _ in LAZY} == {each.file for each in seen if each.lazy}
    assert any(each.for_types for each in seen)
    assert any(_file_of(each.module, files) for each in seen if not each.for_types)
    supervisors = [each.module for each in seen if each.file == "control/supervisor.py"]
    assert all(any(module.startswith(name) for module in supervisors) for name in SUPERVISORS)


def test_every_door_is_used() -> None:
    used = {(each.root, each.file) for each in imports(sources())}
    unused = [
        f"{library} in {place}"
        for library, places in DOORS.items()
        for place in places
        if not any(root == library and file.startswith(place) for root, file in used)
    ]
    assert unused == []


def _loaded_by(module: str) -> set[str]:
    code = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("process", "needed", "libraries", "rooms"),
    [
        (
            "gateway.line.worker",
            "gateway.line.pipeline",
            NEVER_IN_A_WORKER,
            {"control", "simulator", "cli"},
        ),
        (
            "gateway.control.supervisor",
            "gateway.telemetry.slots",
            tuple(DOORS),
            FLOOR.keys() - {"control", "link", "routing", "telemetry"},
        ),
    ],
)
def test_process_loads_only_its_own(
    process: str, needed: str, libraries: tuple[str, ...], rooms: set[str]
) -> None:
    loaded = _loaded_by(process)
    assert {process, needed} <= loaded
    assert {module.partition(".")[0] for module in loaded}.isdisjoint(libraries)
    assert {module.split(".")[1] for module in loaded if module.startswith("gateway.")}.isdisjoint(rooms)


_INIT = {"wire/__init__.py": '"""Bytes."""\n', "wire/json.py": "import orjson\n"}


@pytest.mark.parametrize(
    ("rule", "offence"),
    [
        (climbing, {"wire/json.py": "from gateway.line import pipeline\n"}),
        (climbing, {"wire/json.py": "def f():\n    import gateway.policy.spec\n"}),
        (climbing, {"wire/json.py": "if TYPE_CHECKING:\n    from gateway.http.head import Head\n"}),
        (climbing, {"wire/json.py": "from . import sse\n"}),
        (climbing, {"wire/json.py": "import gateway\n"}),
        (climbing, {"helpers/things.py": "\n"}),
        (strangers, {"line/relay.py": "import orjson\n"}),
        (strangers, {"line/relay.py": "def f():\n    import numpy.linalg\n"}),
        (impure, {"policy/decide.py": "import asyncio\n"}),
        (impure, {"routing/retry.py": "from time import monotonic\n"}),
        (impure, {"policy/decide.py": "at = datetime.now(UTC)\n"}),
        (impure, {"pricing/price.py": "text = open('x').read()\n"}),
        (cycles, {"wire/sse.py": "import gateway.wire.a\n", "wire/a.py": "from gateway.wire import sse\n"}),
        (late, {"line/relay.py": "def f():\n    import json\n"}),
        (
            late,
            {"line/relay.py": "class A:\n    async def f(self):\n        from gateway.wire import json\n"},
        ),
        (early_simulator, {"control/process.py": "from gateway.simulator.server import start\n"}),
        (
            cycles,
            {
                "wire/sse.py": "import gateway.wire.a\n",
                "wire/a.py": "def f():\n    import gateway.wire.sse\n",
            },
        ),
        (heavy_supervisor, {"control/supervisor.py": "import orjson\n"}),
        (heavy_supervisor, {"control/supervisor.py": "from gateway.link.control_end import WorkerLinks\n"}),
        (busy_inits, {"wire/__init__.py": '"""Bytes."""\nfrom gateway.wire.json import loads\n'}),
        (busy_inits, {"wire/__init__.py": ""}),
        (long_files, {"wire/json.py": "x = 1\n" * 501}),
    ],
)
def test_rule_catches_its_offence(rule: Callable[[Sources], list[str]], offence: Sources) -> None:
    assert rule(_INIT) == []
    assert len(rule({**_INIT, **offence})) == 1

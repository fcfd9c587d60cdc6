"""Reading policy: a folder of YAML → one checked `Policy`. The only door to YAML.

YAML is read as events, by libyaml, into our own tree: that keeps every position, and what YAML can do
that a policy should not (aliases, tags, several documents, `yes` for true) never gets in.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from gateway.policy.merge import Policy, merge_files, policy_of
from gateway.policy.node import ListNode, MapNode, Node, Scalar
from gateway.policy.parts import SecretRef
from gateway.policy.probe_spec import is_prompts_file
from gateway.policy.problem import Place, PolicyError, Problem, SecretError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
PROBES = "probes"
SKIPPED_FOLDERS = frozenset({"tests", PROBES})
"""Folders beside the policies that hold other things than policies."""

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?")
_WORDS: Mapping[str, bool | None] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
"""YAML 1.2's core schema. `on`, `off`, `yes` and `no` are text, as are dates and long numbers (a sha256
may well be all digits)."""


def load_folder(folder: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> Policy:
    """The policy in a folder: every `*.yaml` and `*.yml` in it and below, merged and checked.

    Hidden files and folders are left out (so a Kubernetes ConfigMap mount, whose files are links into
    `..data`, is read once), and so are `tests/` and `probes/`. Raises `PolicyError` with all that is wrong.
    """
    root = Path(folder)
    name = str(root)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise PolicyError([Problem.at(Place(name), "", f"the policy folder {what}")])
    # A ConfigMap is changed by pointing ..data elsewhere; files read from before and after must not be mixed.
    for _ in range(5):
        version = _link(root / "..data")
        roots, problems = _read(root)
        if version == _link(root / "..data"):
            break
    if not roots and not problems:
        raise PolicyError([Problem.at(Place(name), "", "the policy folder has no .yaml or .yml file")])
    return merge_files(roots, problems, environ, lambda merged, found: _add_prompts(root, merged, found))


def policy_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The files that `load_folder` reads, or may."""
    return [*_files(Path(folder), []), *_files(Path(folder) / PROBES, [])]


def load_text(
    text: str | bytes, environ: Mapping[str, str] = os.environ, *, file: str = "policy.yaml"
) -> Policy:
    """The policy in one text, as if it were the only file. Raises `PolicyError`."""
    problems: list[Problem] = []
    root = _parse(text.encode() if isinstance(text, str) else text, file, problems)
    return merge_files([root] if root is not None else [], problems, environ)


def from_document(document: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Policy:
    """The policy that `Compiled.document` was made of; its problems have no lines. Raises `PolicyError`."""
    return policy_of(dict(document), None, [], environ)


def secret_reader(environ: Mapping[str, str] = os.environ) -> Callable[[SecretRef], str]:
    """Reads what a `SecretRef` names; one trailing line end of a file is dropped.

    What it returns raises `SecretError` if the variable is unset or empty, or the file cannot be read.
    """

    def read(ref: SecretRef) -> str:
        if ref.env is not None:
            value = environ.get(ref.env, "")
            if not value:
                raise SecretError(f"the environment variable {ref.env} is not set")
            return value
        try:
            with open(ref.file or "", encoding="ascii") as file:
                value = file.read(64 * 1024).removesuffix("\n").removesuffix("\r")
        except UnicodeError:
            raise SecretError(
                f"the secret file {ref.file} holds something else than plain ASCII text"
            ) from None
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else "bad path"
            raise SecretError(f"the secret file {ref.file} cannot be read: {reason}") from None
        if not value:
            raise SecretError(f"the secret file {ref.file} is empty")
        return value

    return read


def _link(path: Path) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _read(root: Path) -> tuple[list[MapNode], list[Problem]]:
    roots: list[MapNode] = []
    problems: list[Problem] = []
    for path in _files(root, problems):
        parsed = read_file(path, problems)
        if parsed is not None:
            roots.append(parsed)
    return roots, problems


def read_file(path: Path, problems: list[Problem]) -> MapNode | None:
    """One YAML file as a tree; None if it is empty, or (with a problem added) cannot be read."""
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as exc:
        problems.append(Problem.at(Place(str(path)), "", f"the file cannot be read: {exc.strerror}"))
        return None
    return _parse(text, str(path), problems)


def yaml_files(folder: Path, problems: list[Problem]) -> list[Path]:
    """The YAML files in a folder and below, in the order of their names."""
    return list(_files(folder, problems))


def _add_prompts(root: Path, merged: MapNode, problems: list[Problem]) -> None:
    """Puts the golden prompts of a suite's file where the policy names it, each with its own place."""
    drift = merged.entries.get("drift")
    probes = drift.entries.get("probes") if isinstance(drift, MapNode) else None
    suites = probes.entries.get("suites") if isinstance(probes, MapNode) else None
    for suite in suites.items if isinstance(suites, ListNode) else ():
        named = suite.entries.get("prompts") if isinstance(suite, MapNode) else None
        # What is no file below probes/ is the spec's to refuse.
        if not isinstance(named, Scalar) or not is_prompts_file(named.value):
            continue
        assert isinstance(suite, MapNode)
        path = root / str(named.value)
        if not path.is_file():
            problems.append(Problem.at(named.place, "", f"there is no file {path}"))
            continue
        before = len(problems)
        found = read_file(path, problems)
        if found is None:
            if len(problems) == before:
                problems.append(Problem.at(Place(str(path)), "", "the file holds no prompts"))
            continue
        for name, place in found.key_places.items():
            if name != "prompts":
                problems.append(Problem.at(place, name, "unknown key; prompts stand under 'prompts'"))
        prompts = found.entries.get("prompts")
        if isinstance(prompts, MapNode):
            suite.entries["prompts"] = prompts
            suite.key_places["prompts"] = found.key_places["prompts"]
        else:
            where = found.place if prompts is None else prompts.place
            problems.append(Problem.at(where, "prompts", "must be a mapping of names to prompts"))


def _files(root: Path, problems: list[Problem]) -> Iterator[Path]:
    """Policy files in the order of their names; links are followed, but no folder is entered twice."""

    def unreadable(exc: OSError) -> None:
        problems.append(
            Problem.at(Place(str(exc.filename)), "", f"the folder cannot be read: {exc.strerror}")
        )

    entered = set()
    for folder, folders, names in os.walk(root, onerror=unreadable, followlinks=True):
        here = Path(folder)
        entered.add(os.path.realpath(folder))
        top = here == root
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and not (top and name in SKIPPED_FOLDERS)
            and os.path.realpath(here / name) not in entered
        )
        for name in sorted(names):
            path = here / name
            if name.endswith((".yaml", ".yml")) and not name.startswith(".") and _is_readable(path):
                yield path


def _is_readable(path: Path) -> bool:
    """False for pipes, sockets and devices. A dangling link is a file that cannot be read."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _parse(data: bytes, file: str, problems: list[Problem]) -> MapNode | None:
    """One file as a tree; None if it is empty or (with a problem added) unreadable."""
    wrong = _bytes_problem(data, file)
    if wrong is None:
        try:
            return _Builder(file, problems).build(data)
        except _Stop as stop:
            wrong = stop.problem
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark or exc.context_mark
            place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
            said = ", ".join(part for part in (exc.context, exc.problem) if part)
            if mark and b"${" in b"".join(data.split(b"\n")[mark.line : mark.line + 1]):
                said += "; a value with ${…} between { } or [ ] must be in quotes"
            wrong = Problem.at(place, "", f"not valid YAML: {said}")
        except (yaml.YAMLError, ValueError) as exc:
            reason = getattr(exc, "reason", None) or "it cannot be parsed"
            wrong = Problem.at(Place(file), "", f"not valid YAML: {reason}")
    problems.append(wrong)
    return None


def _bytes_problem(data: bytes, file: str) -> Problem | None:
    """What a parser would say badly or not at all."""
    if len(data) > MAX_BYTES:
        return Problem.at(Place(file), "", "the file is larger than 1 MiB")
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return Problem.at(
            Place(file, 1, 1), "", "the file starts with a byte order mark; save it as plain UTF-8"
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        before = data[: exc.start]
        line, column = before.count(b"\n") + 1, exc.start - before.rfind(b"\n")
        return Problem.at(Place(file, line, column), "", "the file is not UTF-8; save it as UTF-8")
    for number, line_text in enumerate(text.split("\n"), 1):
        indent = len(line_text) - len(line_text.lstrip(" \t"))
        if "\t" in line_text[:indent] and line_text.strip() and line_text[indent] != "#":
            column = line_text.index("\t") + 1
            return Problem.at(Place(file, number, column), "", "a tab in the indentation; YAML wants spaces")
    return None


class _Stop(Exception):
    """Ends the reading of a file at something that would make all that follows guesswork."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem


class _Builder:
    """Builds the tree of one file. A duplicate key is noted and the reading goes on."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self._file = file
        self._problems = problems
        self._events: Iterator[Any] = iter(())

    def build(self, data: bytes) -> MapNode | None:
        self._events = yaml.parse(data, Loader=yaml.CSafeLoader)
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._stop(event, "a second document (---) in one file; make it a file of its own")
                root = self._node(next(self._events), 0)
        if root is None or (isinstance(root, Scalar) and root.value is None):
            return None
        if not isinstance(root, MapNode):
            raise _Stop(
                Problem.at(root.place, "", "a policy file holds 'name: value' pairs at its top level")
            )
        return root

    def _place(self, event: Any) -> Place:
        return Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _stop(self, event: Any, message: str) -> _Stop:
        return _Stop(Problem.at(self._place(event), "", message))

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise self._stop(
                event, "YAML anchors and aliases (&name, *name) are not supported; write it out or quote it"
            )
        if event.tag is not None:
            raise self._stop(event, "YAML tags (!name) are not supported; remove it or quote the value")
        if depth > MAX_DEPTH:
            raise self._stop(event, f"nested deeper than {MAX_DEPTH} levels")
        place = self._place(event)
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(place, _value(event.value) if event.implicit[0] else event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(event, depth + 1))
            return ListNode(place, items)
        return self._mapping(place, depth)

    def _mapping(self, place: Place, depth: int) -> MapNode:
        found = MapNode(place)
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key_place, key = self._place(event), self._node(event, depth + 1)
            if not isinstance(key, Scalar) or event.value == "":
                raise self._stop(event, "a key must be plain text")
            name: str = event.value
            if name == "<<":
                raise self._stop(event, "YAML merge keys (<<) are not supported; write it out")
            value = self._node(next(self._events), depth + 1)
            if name in found.entries:
                first = found.key_places[name]
                self._problems.append(
                    Problem.at(key_place, "", f"the key {name!r} is given twice; first on line {first.line}")
                )
                continue
            found.entries[name] = value
            found.key_places[name] = key_place
        return found


def _value(text: str) -> str | int | float | bool | None:
    """A plain (unquoted) scalar by YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text

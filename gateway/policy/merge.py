"""Many files → one policy: merged by name, `${…}` expanded, checked against the spec."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.policy.node import ListNode, MapNode, Node, Path, Scalar, map_text, place_of, plain
from gateway.policy.parts import Spec
from gateway.policy.problem import Place, PolicyError, Problem, did_you_mean, dotted
from gateway.policy.spec import PolicySpec, fields_at

S = TypeVar("S", bound=Spec)
_REFERENCE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that says nothing impossible; whether its names fit together is `compile`'s question."""

    spec: PolicySpec
    document: dict[str, Any]
    """The merged files as written, `${…}` unexpanded: JSON-able, no secrets; for `load.from_document`."""
    _root: MapNode | None

    def problem(self, path: Sequence[str | int], message: str, *, of_key: bool = False) -> Problem:
        """A problem at a key path, with the place it stands at if the policy came from files."""
        place = place_of(self._root, path, of_key=of_key) if self._root is not None else Place("")
        return Problem.at(place, dotted(path), message)


def merge_files(
    roots: Sequence[MapNode],
    problems: list[Problem],
    environ: Mapping[str, str],
    complete: Callable[[MapNode, list[Problem]], None] = lambda merged, problems: None,
) -> Policy:
    """One policy of several files' trees; `complete` adds to the merged one what stands in other files.

    Raises `PolicyError` with these problems and all that are found.
    """
    problems = list(problems)
    merged = MapNode(roots[0].place if roots else Place(""))
    for root in roots:
        for section, node in root.entries.items():
            _add(merged, section, node, root.key_places[section], problems)
    complete(merged, problems)
    return policy_of(plain(merged), merged, problems, environ)


def policy_of(
    document: dict[str, Any], root: MapNode | None, problems: Sequence[Problem], environ: Mapping[str, str]
) -> Policy:
    """The checked policy of a merged document. Raises `PolicyError`."""
    return Policy(validated(PolicySpec, document, root, problems, environ), document, root)


def validated(
    kind: type[S],
    document: dict[str, Any],
    root: MapNode | None,
    problems: Sequence[Problem],
    environ: Mapping[str, str],
) -> S:
    """A document of this kind, `${…}` expanded. Raises `PolicyError` with these problems and all that are
    found."""
    found = list(problems)
    unexpanded: set[Path] = set()

    def say(path: Sequence[str | int], message: str, *, of_key: bool = False) -> None:
        place = place_of(root, path, of_key=of_key) if root is not None else Place("")
        found.append(Problem.at(place, dotted(path), message))

    def expand(text: str, path: Path) -> str:
        try:
            return _expand(text, environ)
        except LookupError as exc:
            say(path, str(exc.args[0]))
            unexpanded.add(path)
            return text

    expanded = map_text(document, expand)
    try:
        spec = kind.model_validate(expanded)
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_context=True, include_input=False):
            path, message, of_key = _explain(error, document, kind)
            if path not in unexpanded:
                say(path, message, of_key=of_key)
    if found:
        raise PolicyError(found)
    return spec


def _add(merged: MapNode, section: str, node: Node, place: Place, problems: list[Problem]) -> None:
    """Adds one top-level section of one file to what is there of it."""
    present = merged.entries.get(section)
    if isinstance(node, Scalar) and node.value is None and section != "version":
        # `teams:` with nothing (or only comments) below it.
        node = ListNode(place) if section in ("routes", "limits", "budgets") else MapNode(place)
    if present is None:
        # A copy: the tree of a file stays as it was read.
        if isinstance(node, MapNode):
            node = MapNode(node.place, dict(node.entries), dict(node.key_places))
        elif isinstance(node, ListNode):
            node = ListNode(node.place, list(node.items))
        merged.entries[section] = node
        merged.key_places[section] = place
    elif isinstance(present, ListNode) and isinstance(node, ListNode):
        present.items.extend(node.items)
    elif isinstance(present, MapNode) and isinstance(node, MapNode):
        for name, entry in node.entries.items():
            first = present.key_places.get(name)
            if first is None:
                present.entries[name] = entry
                present.key_places[name] = node.key_places[name]
            elif section == "admin":
                _add(present, name, entry, node.key_places[name], problems)
            else:
                message = f"{name!r} is defined twice; first in {first.file}:{first.line}"
                problems.append(Problem.at(node.key_places[name], dotted((section, name)), message))
    elif section == "version" and isinstance(node, Scalar) and isinstance(present, Scalar):
        if node.value != present.value:
            problems.append(Problem.at(node.place, "version", "must be 1, in every file that gives it"))
    else:
        message = f"must have the same form in all files; see {place_text(present)}"
        problems.append(Problem.at(place, section, message))


def place_text(node: Node) -> str:
    """`file:line` of a node."""
    return f"{node.place.file}:{node.place.line}"


def _expand(text: str, environ: Mapping[str, str]) -> str:
    """`${NAME}` and `${NAME:-default}` replaced, `$$` made `$`. What comes in is not expanded again.

    As in OpenTelemetry's configuration files; an empty variable counts as unset. Raises LookupError.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if name is None:
            if match[0] == "$$":
                return "$"
            raise LookupError(
                "'${' begins a variable: write ${NAME} or ${NAME:-default}, or $$ for a dollar sign"
            )
        found = environ.get(name) or default
        if found is None:
            raise LookupError(
                f"the environment variable {name} is not set; set it or write ${{{name}:-default}}"
            )
        return found

    return _REFERENCE.sub(value, text) if "$" in text else text


def _explain(
    error: ErrorDetails, document: Mapping[str, Any], root: type[Spec]
) -> tuple[tuple[str | int, ...], str, bool]:
    """Path, message and whether the key is meant. Never repeats a value: it may be a secret."""
    kind, path = error["type"], _clean(error["loc"], document)
    context = error.get("ctx") or {}
    if kind == "extra_forbidden":
        name = str(path[-1])
        return path, f"unknown key{did_you_mean(name, fields_at(path[:-1], root))}", True
    if kind == "missing":
        return path, "is missing", True
    if kind in ("string_type", "string_sub_type"):
        return path, "must be text; put it in quotes", False
    if kind in ("model_type", "model_attributes_type", "dict_type", "mapping_type"):
        return path, "must be a mapping of 'name: value' pairs", False
    if kind == "list_type":
        return path, "must be a list", False
    if kind == "literal_error":
        written = _written(path, document)
        words = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        hint = did_you_mean(written, words) if isinstance(written, str) and "${" not in written else ""
        choices = f"one of {', '.join(words)}" if words else context.get("expected", "")
        return path, f"must be {choices}{hint}", False
    if kind == "value_error":
        return path, str(context.get("error", "is not valid")), False
    message = error["msg"]
    for start in ("Input should be ", "Value should be "):
        if message.startswith(start):
            message = "must be " + message.removeprefix(start)
    return path, message.split(", unable to")[0], False


def _clean(loc: Sequence[str | int], document: Mapping[str, Any]) -> tuple[str | int, ...]:
    """The path of an error without pydantic's own steps (names of union members, `[key]`)."""
    path: list[str | int] = []
    here: Any = document
    for index, step in enumerate(loc):
        inside = _written((step,), here)
        if inside is not None:
            here = inside
        elif index < len(loc) - 1 or step in ("[key]", "ref", "text") or not isinstance(here, Mapping):
            continue
        path.append(step)
    return tuple(path)


def _written(path: Sequence[str | int], document: Any) -> Any:
    """What stands at a path of the document as it was written; None if nothing does."""
    for step in path:
        try:
            document = None if isinstance(document, str) else document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document

"""A value that is valid for a JSON schema, from a seeded random number generator.

Knows what structured outputs and tool parameters use: type (also lists of types), properties, required, enum,
const, arrays and strings with their bounds, common formats, numbers with their bounds and multipleOf, $ref
and $defs, anyOf, oneOf, allOf. Anything else is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

_WORDS = ("river", "gate", "amber", "north", "seven", "clear", "stone", "field")
_FORMATS = {
    "date": "2026-01-15",
    "time": "12:30:00Z",
    "date-time": "2026-01-15T12:30:00Z",
    "duration": "PT30M",
    "email": "ada@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
}
_MAX_DEPTH = 12
"""Below this depth recursive schemas get the shortest value they allow."""


def value_for(schema: Any, random: Random, *, root: Any = None, depth: int = 0) -> Any:
    """A JSON value valid for the schema; a schema that allows anything gives a word."""
    root = schema if root is None else root
    if not isinstance(schema, Mapping):
        return random.choice(_WORDS)
    if isinstance(reference := schema.get("$ref"), str):
        return value_for(_resolve(reference, root), random, root=root, depth=depth + 1)
    if "const" in schema:
        return schema["const"]
    if isinstance(choices := schema.get("enum"), list) and choices:
        return random.choice(choices)
    for key in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(key), list) and options:
            plain = [
                option for option in options if isinstance(option, Mapping) and option.get("type") == "null"
            ]
            option = plain[0] if plain and depth >= _MAX_DEPTH else random.choice(options)
            return value_for(option, random, root=root, depth=depth + 1)
    if isinstance(parts := schema.get("allOf"), list) and parts:
        return value_for(_merged(schema, parts, root), random, root=root, depth=depth + 1)
    return _by_type(schema, random, root, depth)


def _by_type(schema: Mapping[str, Any], random: Random, root: Any, depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list) and kind:
        kind = "null" if "null" in kind and depth >= _MAX_DEPTH else random.choice(kind)
    if kind == "object" or (kind is None and "properties" in schema):
        return _object(schema, random, root, depth)
    if kind == "array" or (kind is None and "items" in schema):
        return _array(schema, random, root, depth)
    if kind == "integer":
        return _integer(schema, random)
    if kind == "number":
        step = schema.get("multipleOf")
        return _integer(schema, random) if step else round(_between(schema, random, 0.5), 3)
    if kind == "boolean":
        return random.random() < 0.5
    if kind == "null":
        return None
    return _string(schema, random)


def _object(schema: Mapping[str, Any], random: Random, root: Any, depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    required = schema.get("required")
    names = list(properties) if depth < _MAX_DEPTH else []
    names += [name for name in required if name not in names] if isinstance(required, list) else []
    return {name: value_for(properties.get(name), random, root=root, depth=depth + 1) for name in names}


def _array(schema: Mapping[str, Any], random: Random, root: Any, depth: int) -> list[Any]:
    least = _whole(schema.get("minItems"), 0)
    most = _whole(schema.get("maxItems"), max(least, 3))
    size = least if depth >= _MAX_DEPTH else random.randint(max(least, min(1, most)), min(most, least + 2))
    first = schema.get("prefixItems")
    first = first if isinstance(first, list) else []
    kinds = [first[at] if at < len(first) else schema.get("items") for at in range(max(size, least))]
    return [value_for(kind, random, root=root, depth=depth + 1) for kind in kinds]


def _integer(schema: Mapping[str, Any], random: Random) -> int:
    step = schema.get("multipleOf")
    step = step if isinstance(step, int) and step > 0 else 1
    value = int(_between(schema, random, 1))
    up = -(-value // step) * step
    most = schema.get("maximum")
    return up if not isinstance(most, int | float) or up <= most else value // step * step


def _between(schema: Mapping[str, Any], random: Random, margin: float) -> float:
    """A number within minimum and maximum; `margin` keeps it off exclusive ends."""
    least, most = schema.get("minimum"), schema.get("maximum")
    if isinstance(above := schema.get("exclusiveMinimum"), int | float) and not isinstance(above, bool):
        least = above + margin
    if isinstance(below := schema.get("exclusiveMaximum"), int | float) and not isinstance(below, bool):
        most = below - margin
    if least is None:
        least = 0 if most is None or most >= 0 else most - 100
    if most is None:
        most = least + 100
    if margin == 1:
        least, most = -(-least // 1), most // 1
        return random.randint(int(least), max(int(least), int(most)))
    return float(random.uniform(least, most))


def _string(schema: Mapping[str, Any], random: Random) -> str:
    if (known := _FORMATS.get(schema.get("format", ""))) is not None:
        return known
    text = " ".join(random.choices(_WORDS, k=2))
    least, most = _whole(schema.get("minLength"), 0), _whole(schema.get("maxLength"), 10**6)
    return text.ljust(least, "a")[:most]


def _resolve(reference: str, root: Any) -> Any:
    """What a reference within the same document points at; True (anything) when nothing is there."""
    if not reference.startswith("#"):
        return True
    found = root
    for part in reference[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key, True) if isinstance(found, Mapping) else True
    return found


def _merged(schema: Mapping[str, Any], parts: list[Any], root: Any) -> dict[str, Any]:
    """`allOf` put together: properties and required are united, of other keywords the last wins."""
    merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
    for part in parts:
        if isinstance(part, Mapping) and isinstance(part.get("$ref"), str):
            part = _resolve(part["$ref"], root)
        if not isinstance(part, Mapping):
            continue
        properties = {**merged.get("properties", {}), **part.get("properties", {})}
        required = [*merged.get("required", []), *part.get("required", [])]
        merged.update(part)
        if properties:
            merged["properties"] = properties
        if required:
            merged["required"] = list(dict.fromkeys(required))
    return merged


def _whole(value: Any, otherwise: int) -> int:
    return value if type(value) is int and value >= 0 else otherwise

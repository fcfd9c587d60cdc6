"""Whether a value fits a JSON Schema, as far as structured outputs use them: types, enums, properties, items.

Keywords that it does not know are passed over, so what is said to be wrong is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_DEPTH = 32


def fits(value: Any, schema: Any, depth: int = 0) -> bool:
    """Whether `value` fits; whatever is nested deeper than 32 does."""
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return schema is not False
    kinds = schema.get("type")
    if isinstance(kinds, str | list) and not _is_of(value, [kinds] if isinstance(kinds, str) else kinds):
        return False
    enum = schema.get("enum")
    if isinstance(enum, list) and value not in enum:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    options = schema.get("anyOf")
    if isinstance(options, list) and not any(fits(value, option, depth + 1) for option in options):
        return False
    if isinstance(value, dict):
        return _members_fit(value, schema, depth)
    items = schema.get("items")
    if isinstance(value, list) and items is not None:
        return all(fits(item, items, depth + 1) for item in value)
    return True


def _is_of(value: Any, kinds: list[Any]) -> bool:
    for kind in kinds:
        known = _TYPES.get(kind) if isinstance(kind, str) else None
        if known is None:
            return True
        if isinstance(value, known) and (kind == "boolean" or not isinstance(value, bool)):
            return True
        if kind == "integer" and isinstance(value, float) and value.is_integer():
            return True
    return False


def _members_fit(value: dict[str, Any], schema: Mapping[str, Any], depth: int) -> bool:
    required, properties = schema.get("required"), schema.get("properties")
    if isinstance(required, list) and any(name not in value for name in required):
        return False
    known = properties if isinstance(properties, Mapping) else {}
    if schema.get("additionalProperties") is False and any(name not in known for name in value):
        return False
    return all(fits(value[name], below, depth + 1) for name, below in known.items() if name in value)

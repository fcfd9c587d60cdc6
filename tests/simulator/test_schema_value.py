"""Values for a schema are valid for it."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from gateway.simulator.schema_value import value_for

PAIR = {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "minItems": 2, "maxItems": 2}
UNITED = {
    "allOf": [{"properties": {"a": {"const": 1}}}, {"$ref": "#/$defs/x"}],
    "$defs": {"x": {"type": "object", "properties": {"b": {"const": 2}}, "required": ["b"]}},
}
CASES: list[tuple[Any, Any]] = [
    ({"const": 3}, lambda v: v == 3),
    ({"enum": ["a", None, 3]}, lambda v: v in ("a", None, 3)),
    ({"type": "null"}, lambda v: v is None),
    ({"type": "boolean"}, lambda v: type(v) is bool),
    ({"type": "integer", "minimum": 3, "maximum": 5}, lambda v: type(v) is int and 3 <= v <= 5),
    ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}, lambda v: v == 4),
    ({"type": "integer", "minimum": 1, "maximum": 20, "multipleOf": 7}, lambda v: v in (7, 14)),
    ({"type": "integer", "maximum": -5}, lambda v: v <= -5),
    ({"type": "number", "minimum": 0.25, "maximum": 0.5}, lambda v: type(v) is float and 0.25 <= v <= 0.5),
    ({"type": "string", "minLength": 30, "maxLength": 30}, lambda v: len(v) == 30),
    ({"type": "string", "maxLength": 3}, lambda v: len(v) <= 3),
    ({"type": "string", "format": "date"}, lambda v: v == "2026-01-15"),
    ({"type": ["string", "null"]}, lambda v: v is None or isinstance(v, str)),
    ({"type": "array", "items": {"type": "integer"}}, lambda v: v and all(type(x) is int for x in v)),
    ({"type": "array", "items": {"type": "null"}, "minItems": 5, "maxItems": 6}, lambda v: 5 <= len(v) <= 6),
    ({"type": "array", "maxItems": 0}, lambda v: v == []),
    (PAIR, lambda v: v == [1, 2]),
    ({"anyOf": [{"const": 1}, {"const": 2}]}, lambda v: v in (1, 2)),
    ({"properties": {"a": {"const": 1}}, "required": ["a", "b"]}, lambda v: v["a"] == 1 and "b" in v),
    ({"$ref": "#/$defs/x", "$defs": {"x": {"const": 9}}}, lambda v: v == 9),
    ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": 9}}}, lambda v: v == 9),
    (UNITED, lambda v: v == {"a": 1, "b": 2}),
    (True, lambda v: isinstance(v, str)),
    ({"$ref": "https://example.com/other.json"}, lambda v: isinstance(v, str)),
]


@pytest.mark.parametrize(("schema", "is_valid"), CASES)
def test_value_is_valid_for_its_schema(schema: Any, is_valid: Any) -> None:
    for seed in range(30):
        value = value_for(schema, Random(seed))
        assert is_valid(value), value


def test_recursive_schema_ends() -> None:
    again = {"$ref": "#/$defs/node"}
    following = {"anyOf": [again, {"type": "null"}]}
    properties = {"next": following, "all": {"type": "array", "items": again}}
    node = {"type": "object", "properties": properties, "required": ["next", "all"]}
    for seed in range(5):
        value = value_for({"$ref": "#/$defs/node", "$defs": {"node": node}}, Random(seed))
        assert set(value) == {"next", "all"}

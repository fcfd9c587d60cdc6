"""The JSON Schema that editors use says what the loader says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.policy.schema import json_schema, schema_text

POLICIES = Path(__file__).parents[2] / "policies"


def test_committed_schema_is_the_one_the_code_makes() -> None:
    assert (POLICIES / "schema.json").read_text() == schema_text(), (
        "run: headgate schema > policies/schema.json"
    )


def test_committed_schema_of_expectations_is_the_one_the_code_makes() -> None:
    assert (POLICIES / "tests.schema.json").read_text() == schema_text(tests=True), (
        "run: headgate schema --tests > policies/tests.schema.json"
    )


def test_schema_refuses_unknown_keys_everywhere() -> None:
    objects = [part for part in _parts(json_schema()) if "properties" in part]
    assert len(objects) > 12
    assert all(part["additionalProperties"] is False for part in objects)


def test_schema_describes_every_key() -> None:
    bare = [
        name
        for part in _parts(json_schema())
        for name, field in part.get("properties", {}).items()
        if not field.get("description") and "$ref" not in field
    ]
    assert bare == []


def test_schema_keeps_to_draft_7() -> None:
    text = schema_text()
    assert json.loads(text)["$schema"] == "http://json-schema.org/draft-07/schema#"
    for newer in ("unevaluatedProperties", "dependentSchemas", "prefixItems", "$dynamicRef"):
        assert newer not in text


def test_schema_offers_the_short_form_of_targets() -> None:
    target = json_schema()["$defs"]["TargetSpec"]
    assert [form["type"] for form in target["anyOf"]] == ["string", "object"]


def _parts(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [part for item in value for part in _parts(item)]
    if isinstance(value, dict):
        return [value, *(part for item in value.values() for part in _parts(item))]
    return []

"""The JSON Schema of policy files, for editors: written from the same models that check them.

Draft 7, which is what yaml-language-server reads.
"""

from __future__ import annotations

import json
from typing import Any

from gateway.policy.expectation_spec import ExpectationsFile
from gateway.policy.probe_spec import PromptsFile
from gateway.policy.spec import PolicySpec


def json_schema() -> dict[str, Any]:
    """The schema of a policy file."""
    schema = _without_null(PolicySpec.model_json_schema())
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **schema,
        "title": "Headgate policy",
        "description": "One file of a policy folder; the files of a folder are merged.",
    }


def prompts_schema() -> dict[str, Any]:
    """The schema of a file of golden prompts."""
    schema = _without_null(PromptsFile.model_json_schema())
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **schema,
        "title": "Headgate probes",
        "description": "Golden prompts: a file in the folder probes/ of a policy folder.",
    }


def tests_schema() -> dict[str, Any]:
    """The schema of a file of expectations."""
    schema = _without_null(ExpectationsFile.model_json_schema())
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **schema,
        "title": "Headgate expectations",
        "description": "What is expected of a policy: a file in the folder tests/ of a policy folder.",
    }


def schema_text(*, prompts: bool = False, tests: bool = False) -> str:
    """The schema as the text of `policies/schema.json`, `policies/probes.schema.json` or
    `policies/tests.schema.json`."""
    schema = prompts_schema() if prompts else tests_schema() if tests else json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _without_null(value: Any) -> Any:
    """A schema in which what is optional may be left out, but is not offered as null."""
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = {key: _without_null(item) for key, item in value.items() if not _says_null(key, item)}
    choices = fields.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        del fields["anyOf"]
        return {**fields, **rest[0]} if len(rest) == 1 else {**fields, "anyOf": rest}
    return fields


def _says_null(key: str, value: Any) -> bool:
    """True for defaults that are null or made of nulls: they say nothing to a reader."""
    return key == "default" and (value is None or (isinstance(value, dict) and None in value.values()))

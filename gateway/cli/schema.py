"""`headgate schema`: the JSON Schema of policy files."""

from __future__ import annotations

import sys

from gateway.policy.schema import schema_text


def schema() -> None:
    """Print the JSON Schema of policy files, for editors."""
    sys.stdout.write(schema_text())

"""What to paste to make the first call: for the banner of `make run` and for the console."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

DEMO_KEY = "hg-demo-key-for-make-run-only-do-not-deploy-0"
"""The caller's key of the example policies."""
YOUR_KEY = "YOUR-KEY"
"""Stands for the key of a caller: control knows digests only."""


class FirstCall(NamedTuple):
    """A call of the policy's first model, as a line for a shell."""

    url: str
    """The OpenAI base URL."""
    key: str
    curl: str


def first_call(listen: str, tables: Mapping[str, Any]) -> FirstCall:
    """`listen` is where callers are served, `tables` the compiled policy."""
    digest = hashlib.sha256(DEMO_KEY.encode()).hexdigest()
    key = DEMO_KEY if any(row["sha256"] == digest for row in tables["keys"]) else YOUR_KEY
    url = f"http://{listen}/v1"
    model = next((row["name"] for row in tables["models"]), "MODEL")
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    curl = f"curl -s {url}/chat/completions -H 'Authorization: Bearer {key}' -d '{body}'"
    return FirstCall(url, key, curl)

"""Calls that are passed through: the policy that opens them, forms, and how to ask."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from gateway.wire.dialects.openai_families import FAMILIES
from tests.relaying import Answered, Relay
from tests.running import KEY, policy_for
from tests.scripted import answer

OTHER_KEY = "hg-" + "o" * 43
CLOSED_KEY = "hg-" + "c" * 43
BOUNDARY = "b0undary"
JSONL = b'{"custom_id": "1"}\n'
USAGE = {"input_tokens": 10, "output_tokens": 6, "total_tokens": 16}
RESPONSE = {
    "id": "resp_counted",
    "output": [],
    "usage": {
        **USAGE,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 2},
    },
}
COUNTED = (
    answer(json.dumps(RESPONSE).encode()),
    answer(
        b"".join(
            b"event: %b\ndata: %b\n\n"
            % (kind.encode(), json.dumps({"type": kind, "response": response}).encode())
            for kind, response in (
                ("response.created", {**RESPONSE, "usage": None}),
                ("response.completed", RESPONSE),
            )
        ),
        kind="text/event-stream",
    ),
)
"""A response with its usage, plain and streamed."""


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def open_policy(url: str, *, more: str = "", models: str = '["gpt-*", whisper-1, "tts-*"]') -> str:
    """Everything open to the teams `search` and `other`, nothing to `closed`."""
    families = ", ".join(FAMILIES)
    passages = "\n".join(f"  {family}: {{provider: upstream{more}}}" for family in FAMILIES)
    text = policy_for(
        url,
        rest=f"""  app-other: {{team: other, sha256: {sha256(OTHER_KEY)}}}
  app-closed: {{team: closed, sha256: {sha256(CLOSED_KEY)}}}
pass_through:
{passages}""",
    )
    return text.replace(
        '  search: {models: ["*"]}',
        f"""  search: {{models: {models}, pass_through: [{families}]}}
  other: {{models: {models}, pass_through: [{families}]}}
  closed: {{models: ["*"]}}""",
    )


def form(*parts: tuple[str, str, bytes], boundary: str = BOUNDARY) -> bytes:
    """(name, further disposition, content) → a multipart body."""
    blocks = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, more, content in parts
    ]
    return b"".join(blocks) + f"--{boundary}--\r\n".encode()


FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
FILE = ("file", '; filename="a.jsonl"', JSONL)


async def ask(
    relay: Relay,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: str = KEY,
    headers: Mapping[str, str] | None = None,
) -> Answered:
    """One call; `body` is JSON unless it is bytes."""
    sent = {"authorization": f"Bearer {key}", **(headers or {})}
    data = body
    if body is not None and not isinstance(body, bytes):
        data, sent["content-type"] = json.dumps(body).encode(), "application/json"
    async with relay.http.request(method, relay.url + path, data=data, headers=sent) as answer:
        return Answered(answer.status, answer.headers, await answer.read())


async def uploaded(relay: Relay, key: str = KEY) -> str:
    answer = await ask(relay, "POST", "/files", form(("purpose", "", b"batch"), FILE), key=key, headers=FORM)
    assert answer.status == 200, answer.body
    return str(answer.json["id"])


async def batched(relay: Relay, key: str = KEY) -> dict[str, Any]:
    file = await uploaded(relay, key)
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    answer = await ask(relay, "POST", "/batches", asked, key=key)
    assert answer.status == 200, answer.body
    return dict(answer.json)

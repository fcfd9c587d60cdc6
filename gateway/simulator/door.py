"""Who is let in, what every answer carries, and how a refusal is sent."""

from __future__ import annotations

import uuid

import orjson
from aiohttp import web

from gateway.simulator.faults import Refusal
from gateway.simulator.judge import RefusedError, refuse
from gateway.simulator.settings import Settings
from gateway.simulator.witness import Captured, Seen

_RATE_LIMITS = {
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "1999984",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "0s",
}


def new_headers() -> dict[str, str]:
    """The headers of one answer, with an `x-request-id` of its own."""
    return {
        "x-request-id": f"req_{uuid.uuid4().hex}",
        "openai-organization": "simulated-org",
        "openai-processing-ms": "12",
        "openai-version": "2020-10-01",
        **_RATE_LIMITS,
    }


async def capture(request: web.Request, requests: Seen[Captured]) -> object:
    """Keep the request as it arrived; returns its JSON, None if it is none."""
    raw = await request.read()
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
    requests.add(Captured(request.method, request.path_qs, headers, body, raw, id(request.protocol)))
    return body


def key_of(request: web.Request) -> str:
    """The key of a request: `Authorization: Bearer`, Azure's `api-key` or Anthropic's `x-api-key`; empty for
    none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.headers.get("api-key", "") or request.headers.get("x-api-key", "")


def admit(request: web.Request, settings: Settings) -> str:
    """The key of a request that is let in; else raises `RefusedError` as OpenAI or Azure words it."""
    key = key_of(request)
    dated = "deployment" in request.match_info
    if dated and not request.query.get("api-version"):
        raise RefusedError(Refusal(404, "invalid_request_error", "404", "Resource not found"))
    if not settings.api_keys or key in settings.api_keys:
        return key
    if dated:
        message = "Access denied due to invalid subscription key or wrong API endpoint."
        raise refuse(401, message, code="401")
    if not key:
        raise refuse(
            401, "You didn't provide an API key. You need to provide your API key in an Authorization header."
        )
    # OpenAI repeats the ends of the key; a gateway must not pass that on.
    shown = f"{key[:8]}{'*' * 8}{key[-4:]}" if len(key) > 12 else "*" * len(key)
    message = (
        f"Incorrect API key provided: {shown}. You can find your API key at https://example.com/api-keys."
    )
    raise refuse(401, message, code="invalid_api_key")


def unknown_model(name: str) -> RefusedError:
    """404 for a model there is not, to be raised."""
    message = f"The model `{name}` does not exist or you do not have access to it."
    return refuse(404, message, code="model_not_found")


def refusal_answer(refusal: Refusal, headers: dict[str, str]) -> web.Response:
    """A refusal as an HTTP answer."""
    return web.Response(
        status=refusal.status,
        body=refusal.body(),
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )

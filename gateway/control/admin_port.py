"""The HTTP of the admin port: aiohttp's, less what that repeats and logs of a request.

aiohttp answers a head that it cannot parse with the bytes in question, logs them with a traceback, and
puts the value of `Expect` into its refusal: a key in a broken header would stand in all three places.
"""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from gateway.telemetry.diagnostics import report

WHO = web.RequestKey("who", str)
"""Of a request: who asks, for the records."""
IDLE_S = 75.0
"""Also the time for a head: aiohttp has one clock for both, and by default it is an hour."""
_CODES = {404: "not_found", 405: "method_not_allowed"}


def json_answer(value: object, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def refusal(status: int, code: str, message: str) -> web.Response:
    """An error with OpenAI's four fields."""
    kind = "invalid_request_error" if status < 500 else "api_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return json_answer({"error": error}, status)


class AdminPort:
    """An application served on one socket."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        self._listener: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serves from now on."""
        loop = asyncio.get_running_loop()
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        self._listener = await loop.create_server(
            lambda: _Connection(server, loop=loop, keepalive_timeout=IDLE_S), sock=listener
        )

    async def close(self) -> None:
        """Takes no new connections and ends those there are."""
        if self._listener is not None:
            self._listener.close()
        await self._runner.cleanup()


class _Connection(web.RequestHandler):
    """What aiohttp would say by itself, said in our words."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status < 500:
            answer = refusal(status, "bad_request", "The request is not valid HTTP/1.1.")
        else:
            if exc is not None:
                report(exc)
            answer = refusal(status, "internal_error", "The gateway failed. Its log says why.")
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException):
            allowed = resp.headers.get("allow")
            resp = refusal(resp.status, _CODES.get(resp.status, "bad_request"), _phrase(resp.status))
            if allowed is not None:
                resp.headers["allow"] = allowed
        return await super().finish_response(request, resp, start_time)

    def log_exception(self, *args: Any, exc_info: object = None, **kw: Any) -> None:
        if isinstance(exc_info, BaseException):
            report(exc_info)


def _phrase(status: int) -> str:
    return f"{HTTPStatus(status).phrase}."

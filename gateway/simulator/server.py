"""The simulated provider's server: OpenAI's API, Anthropic's Messages, and `/_simulator/…` to look at it and
to direct it.

`start` runs it inside a test, `run` is `headgate simulate`.

- `GET /_simulator/bill`: the bill so far, `{"entries", "models", "total"}`
- `GET /_simulator/requests`: the requests it got, `{"total", "requests"}`
- `GET /_simulator/departed`: the callers that left early, `{"total", "departed"}`
- `POST /_simulator/script`: what happens to the next calls, `{"script": [null, "status_500", {"fault": "cut",
  "after_chunks": 2}], "model": "…"}` (no model: any)
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import orjson
from aiohttp import web

from gateway.clock import now_s
from gateway.simulator import messages, shapes
from gateway.simulator.call import Call
from gateway.simulator.door import admit, capture, new_headers, refusal_answer, unknown_model
from gateway.simulator.faults import Fault
from gateway.simulator.judge import RefusedError, refuse
from gateway.simulator.memory import Memory
from gateway.simulator.responses import ResponsesCall
from gateway.simulator.settings import Settings
from gateway.simulator.shelf import Shelf

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ENDPOINTS = {"/chat/completions": "chat", "/completions": "completions", "/embeddings": "embeddings"}
_LISTED = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5-mini", "o4-mini", "text-embedding-3-small")
"""What `GET /v1/models` names when the settings name no models."""
_MAX_BODY_BYTES = 64 * 2**20
_STOP_S = 0.2
"""How long open answers get when the simulator stops; hanging ones would wait for ever."""


class Simulator(Memory):
    """A running provider, with its memory."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.url = ""
        """Base URL for clients, `http://127.0.0.1:port/v1`; empty before it listens."""
        self._runner: web.AppRunner | None = None

    async def listen(self, host: str, port: int) -> None:
        """Open the port; 0 takes a free one. Raises `OSError`."""
        self._runner = web.AppRunner(
            build_app(self.settings, self),
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=self.settings.keep_alive_s,
            shutdown_timeout=_STOP_S,
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError:
            await self.stop()
            raise
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        """Close the port and all connections, then the bill."""
        self.is_stopping = True
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.bill.close()


_MEMORY: web.AppKey[Memory] = web.AppKey("memory", Memory)


def build_app(settings: Settings, memory: Memory | None = None) -> web.Application:
    """The simulator as an aiohttp application; with `handler_cancellation=True` it sees callers leave."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app[_MEMORY] = memory or Memory(settings)
    for path, endpoint in _ENDPOINTS.items():
        handler = _answering(endpoint)
        app.router.add_post("/v1" + path, handler)
        app.router.add_post("/openai/v1" + path, handler)
        app.router.add_post("/openai/deployments/{deployment}" + path, handler)
    app.router.add_post("/v1/messages", _messages)
    app.router.add_post("/v1/messages/count_tokens", _count_tokens)
    for prefix in ("/v1", "/openai/v1"):
        app.router.add_get(prefix + "/models", _models)
        app.router.add_get(prefix + "/models/{model:.+}", _models)
    shelf = Shelf(app[_MEMORY])
    for prefix in ("/v1", "/openai/v1"):
        app.router.add_post(prefix + "/responses", _responding(shelf))
    shelf.add_routes(app)
    app.router.add_get("/_simulator/bill", _show_bill)
    app.router.add_get("/_simulator/requests", _show_requests)
    app.router.add_get("/_simulator/departed", _show_departed)
    app.router.add_post("/_simulator/script", _set_script)
    app.router.add_route("*", "/{path:.*}", _nothing_here)
    return app


async def start(host: str = "127.0.0.1", port: int = 0, settings: Settings | None = None) -> Simulator:
    """A running simulator; `await simulator.stop()` ends it. Raises `OSError` if the port is taken."""
    simulator = Simulator(settings or Settings())
    await simulator.listen(host, port)
    return simulator


async def run(host: str, port: int, settings: Settings, ready: Callable[[Simulator], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called once the port is open."""
    simulator = await start(host, port, settings)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        ready(simulator)
        await stopped.wait()
    finally:
        await simulator.stop()


def _answering(endpoint: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        memory = request.app[_MEMORY]
        body = await capture(request, memory.requests)
        headers = new_headers()
        try:
            return await Call(memory, request, endpoint, headers, body).answer()
        except RefusedError as exc:
            return refusal_answer(exc.refusal, headers)

    return handler


def _responding(shelf: Shelf) -> Handler:
    """Answers, and stores what it answered unless it is told not to."""

    async def handler(request: web.Request) -> web.StreamResponse:
        memory = request.app[_MEMORY]
        body = await capture(request, memory.requests)
        headers = new_headers()
        try:
            before = body.get("previous_response_id") if isinstance(body, dict) else None
            call = ResponsesCall(memory, request, headers, body, shelf.response(before))
            answer = await call.answer()
        except RefusedError as exc:
            return refusal_answer(exc.refusal, headers)
        if isinstance(body, dict) and body.get("store") is not False:
            shelf.keep_response(call.made)
        return answer

    return handler


async def _messages(request: web.Request) -> web.StreamResponse:
    memory = request.app[_MEMORY]
    body = await capture(request, memory.requests)
    headers = messages.new_headers()
    try:
        return await messages.MessagesCall(memory, request, headers, body).answer()
    except RefusedError as exc:
        return messages.refusal_answer(exc.refusal, headers)


async def _count_tokens(request: web.Request) -> web.StreamResponse:
    memory = request.app[_MEMORY]
    body = await capture(request, memory.requests)
    headers = messages.new_headers()
    try:
        return _json({"input_tokens": messages.count_tokens(request, memory, body)}, headers)
    except RefusedError as exc:
        return messages.refusal_answer(exc.refusal, headers)


async def _models(request: web.Request) -> web.StreamResponse:
    memory = request.app[_MEMORY]
    await capture(request, memory.requests)
    headers = new_headers()
    names = memory.settings.models or _LISTED
    created = int(now_s())
    try:
        admit(request, memory.settings)
        name = request.match_info.get("model")
        if name is None:
            return _json(shapes.models_answer(names, created), headers)
        if memory.settings.models and name not in names:
            raise unknown_model(name)
        return _json(shapes.model_answer(name, created), headers)
    except RefusedError as exc:
        return refusal_answer(exc.refusal, headers)


async def _nothing_here(request: web.Request) -> web.StreamResponse:
    await capture(request, request.app[_MEMORY].requests)
    refused = refuse(404, f"Invalid URL ({request.method} {request.path})", code="unknown_url")
    return refusal_answer(refused.refusal, new_headers())


async def _show_bill(request: web.Request) -> web.StreamResponse:
    return _json(request.app[_MEMORY].bill.as_json())


async def _show_requests(request: web.Request) -> web.StreamResponse:
    seen = request.app[_MEMORY].requests
    shown = [{**asdict(one), "raw": one.raw.decode("utf-8", "replace")} for one in seen]
    return _json({"total": seen.total, "requests": shown})


async def _show_departed(request: web.Request) -> web.StreamResponse:
    seen = request.app[_MEMORY].departed
    return _json({"total": seen.total, "departed": [asdict(one) for one in seen]})


async def _set_script(request: web.Request) -> web.StreamResponse:
    try:
        asked = orjson.loads(await request.read())
        script = asked["script"] if isinstance(asked, dict) else None
        model = asked.get("model") if isinstance(asked, dict) else None
        if not isinstance(script, list) or not isinstance(model, str | None):
            raise ValueError("A script is an object: 'script' is a list of faults, 'model' is a name.")
        faults = [Fault.read(entry) for entry in script]
    except (ValueError, KeyError) as exc:
        message = (
            exc.args[0]
            if type(exc) is ValueError
            else "The body must be a JSON object with a field 'script'."
        )
        return refusal_answer(refuse(400, message, param="script").refusal, new_headers())
    request.app[_MEMORY].script(faults, model)
    return _json({"entries": len(faults)})


def _json(value: object, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(value), headers=headers, content_type="application/json")

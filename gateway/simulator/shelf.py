"""The rest of the provider's API: what it stores for its account, and pictures, sounds and judgements.

Everybody with a key of the account sees all that is stored, as at a real provider: keeping teams apart is
the gateway's work.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Awaitable, Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import HTTP
from typing import Any

import orjson
from aiohttp import web

from gateway.clock import now_s
from gateway.simulator.bill import Entry, key_digest
from gateway.simulator.delivery import hang_up
from gateway.simulator.door import admit, capture, new_headers, refusal_answer
from gateway.simulator.faults import REFUSALS, Refusal
from gateway.simulator.judge import RefusedError, refuse
from gateway.simulator.memory import Memory

_PIXEL = base64.b64encode(bytes.fromhex("89504e470d0a1a0a0000000d49484452")).decode()
_SOUND = bytes(range(256)) * 64


class Shelf:
    """The objects of one simulated account, by id; made in order, so lists are newest first."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._objects: dict[str, dict[str, Any]] = {}
        self._contents: dict[str, bytes] = {}

    def add_routes(self, app: web.Application) -> None:
        """Puts the paths under `/v1`."""
        made = (
            ("POST", "/files", self._upload),
            ("GET", "/files/{id}/content", self._content),
            ("POST", "/batches", self._batch),
            ("POST", "/fine_tuning/jobs", self._job),
            ("POST", "/images/generations", self._picture),
            ("POST", "/images/edits", self._picture),
            ("POST", "/audio/speech", self._speech),
            ("POST", "/audio/transcriptions", self._transcript),
            ("POST", "/moderations", self._judgement),
        )
        for method, path, handler in made:
            app.router.add_route(method, "/v1" + path, self._guarded(path.split("/")[1], handler))
        for family, prefix, path in (
            ("files", "file-", "/files"),
            ("batches", "batch_", "/batches"),
            ("fine_tuning", "ftjob-", "/fine_tuning/jobs"),
            ("responses", "resp_", "/responses"),
        ):
            one = f"/v1{path}/{{id}}"
            app.router.add_get(f"/v1{path}", self._guarded(family, self._list_of(prefix)))
            app.router.add_get(one, self._guarded(family, self._one))
            app.router.add_delete(one, self._guarded(family, self._delete))
            app.router.add_post(f"{one}/cancel", self._guarded(family, self._cancel))
        app.router.add_get("/v1/responses/{id}/input_items", self._guarded("responses", self._inputs))

    def _guarded(
        self, family: str, handler: Callable[[web.Request, Any], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Captured, admitted, with the next fault of a script for the family."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            memory = self._memory
            body = await capture(request, memory.requests)
            headers = new_headers()
            try:
                admit(request, memory.settings)
                fault = memory.scripts.take(family)
                if fault is not None and fault.name in REFUSALS:
                    return refusal_answer(REFUSALS[fault.name], {**headers, **fault.headers()})
                if fault is not None:
                    hang_up(request, reset=fault.name == "reset")
                    return web.Response()
                answer = await handler(request, body)
            except RefusedError as exc:
                return refusal_answer(exc.refusal, headers)
            if not answer.prepared:
                answer.headers.extend(headers)
            return answer

        return guarded

    def _found(self, id_: str) -> dict[str, Any]:
        found = self._objects.get(id_)
        if found is None:
            raise RefusedError(Refusal(404, "invalid_request_error", None, f"No such object: {id_}", "id"))
        return found

    def _keep(self, prefix: str, kind: str, **fields: Any) -> dict[str, Any]:
        made = {"id": prefix + uuid.uuid4().hex, "object": kind, "created_at": int(now_s()), **fields}
        self._objects[made["id"]] = made
        return made

    def response(self, id_: object) -> dict[str, Any] | None:
        """The stored response that another one follows; None if it names none. Raises `RefusedError`."""
        found = self._objects.get(id_) if isinstance(id_, str) else None
        if id_ is not None and found is None:
            raise refuse(
                400,
                f"Previous response with id '{id_}' not found.",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        return found

    def keep_response(self, made: dict[str, Any]) -> None:
        """Stores a response, if it became whole."""
        if made:
            self._objects[made["id"]] = made

    def _list_of(self, prefix: str) -> Callable[[web.Request, Any], Awaitable[web.StreamResponse]]:
        async def page(request: web.Request, body: Any) -> web.StreamResponse:
            found = [row for id_, row in reversed(self._objects.items()) if id_.startswith(prefix)]
            after = request.query.get("after")
            ids = [row["id"] for row in found]
            start = ids.index(after) + 1 if after in ids else 0
            end = start + int(request.query.get("limit", "100"))
            some = found[start:end]
            return _json(
                {
                    "object": "list",
                    "data": some,
                    "first_id": some[0]["id"] if some else None,
                    "last_id": some[-1]["id"] if some else None,
                    "has_more": end < len(found),
                }
            )

        return page

    async def _one(self, request: web.Request, body: Any) -> web.StreamResponse:
        found = self._found(request.match_info["id"])
        if request.query.get("stream") != "true":
            return _json(found)
        events = (("response.created", {**found, "output": []}), (f"response.{found['status']}", found))
        told = []
        for number, (kind, one) in enumerate(events):
            data = orjson.dumps({"type": kind, "sequence_number": number, "response": one})
            told.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))
        return web.Response(body=b"".join(told), content_type="text/event-stream")

    async def _inputs(self, request: web.Request, body: Any) -> web.StreamResponse:
        """What a response was asked; one item of it."""
        found = self._found(request.match_info["id"])
        item = {"id": f"msg_of_{found['id']}", "type": "message", "role": "user", "content": []}
        return _json({"object": "list", "data": [item], "has_more": False})

    async def _delete(self, request: web.Request, body: Any) -> web.StreamResponse:
        found = self._found(request.match_info["id"])
        del self._objects[found["id"]]
        return _json({"id": found["id"], "object": found["object"], "deleted": True})

    async def _cancel(self, request: web.Request, body: Any) -> web.StreamResponse:
        found = self._found(request.match_info["id"])
        found["status"] = "cancelled"
        return _json(found)

    # files and what is made of them

    async def _upload(self, request: web.Request, body: Any) -> web.StreamResponse:
        form = await _form(request)
        content = _content_of(form, "file")
        made = self._keep(
            "file-",
            "file",
            bytes=len(content),
            filename=form["file"].get_filename(),
            purpose=_text(form, "purpose", ""),
            status="processed",
        )
        self._contents[made["id"]] = content
        return _json(made)

    async def _content(self, request: web.Request, body: Any) -> web.StreamResponse:
        found = self._found(request.match_info["id"])
        return web.Response(body=self._contents[found["id"]], content_type="application/octet-stream")

    async def _batch(self, request: web.Request, body: Any) -> web.StreamResponse:
        source = self._found(_field(body, "input_file_id"))
        output = self._keep(
            "file-", "file", bytes=2, filename="output.jsonl", purpose="batch_output", status="processed"
        )
        self._contents[output["id"]] = b"{}"
        made = self._keep(
            "batch_",
            "batch",
            endpoint=body.get("endpoint"),
            input_file_id=source["id"],
            completion_window="24h",
            status="completed",
            output_file_id=output["id"],
            metadata=body.get("metadata"),
        )
        return _json(made)

    async def _job(self, request: web.Request, body: Any) -> web.StreamResponse:
        source = self._found(_field(body, "training_file"))
        made = self._keep(
            "ftjob-",
            "fine_tuning.job",
            model=_field(body, "model"),
            training_file=source["id"],
            status="queued",
            fine_tuned_model=None,
            hyperparameters={"n_epochs": "auto"},
            organization_id="org-simulated",
            result_files=[],
            seed=1,
            trained_tokens=None,
            validation_file=None,
            error=None,
            finished_at=None,
        )
        return _json(made)

    # answers that are counted

    async def _picture(self, request: web.Request, body: Any) -> web.StreamResponse:
        default = "gpt-image-1"
        given = body.get("model", default) if isinstance(body, dict) else None
        model = str(given or _text(await _form(request), "model", default))
        self._charge(request, uuid.uuid4().hex, "images", model, 12, 272)
        usage = {"input_tokens": 12, "output_tokens": 272, "total_tokens": 284}
        return _json({"created": int(now_s()), "data": [{"b64_json": _PIXEL}], "usage": usage})

    async def _speech(self, request: web.Request, body: Any) -> web.StreamResponse:
        _field(body, "input")
        answer = web.StreamResponse(headers={**new_headers(), "content-type": "audio/mpeg"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        for _ in range(8):
            await answer.write(_SOUND)
        await answer.write_eof()
        return answer

    async def _transcript(self, request: web.Request, body: Any) -> web.StreamResponse:
        form = await _form(request)
        _content_of(form, "file")
        model = _text(form, "model", "")
        self._charge(request, uuid.uuid4().hex, "audio", model, 14, 5)
        details = {"text_tokens": 0, "audio_tokens": 14}
        usage = {"type": "tokens", "input_tokens": 14, "input_token_details": details, "output_tokens": 5}
        return _json({"text": "Simulated.", "usage": {**usage, "total_tokens": 19}})

    async def _judgement(self, request: web.Request, body: Any) -> web.StreamResponse:
        _field(body, "input")
        result = {
            "flagged": False,
            "categories": {},
            "category_scores": {},
            "category_applied_input_types": {},
        }
        model = body.get("model", "omni-moderation-latest")
        return _json({"id": f"modr-{uuid.uuid4().hex}", "model": model, "results": [result]})

    def _charge(
        self, request: web.Request, id_: str, family: str, model: str, input_: int, output: int
    ) -> None:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        entry = Entry(
            id=id_,
            request_id="",
            time_s=now_s(),
            endpoint=family,
            model=model,
            input_tokens=input_,
            output_tokens=output,
            cached_input_tokens=0,
            reasoning_tokens=0,
            api_key_sha256=key_digest(key),
            stream=False,
            finished=True,
            fault=None,
        )
        self._memory.bill.add(entry)
        self._memory.billed.add(entry)


async def _form(request: web.Request) -> dict[str, EmailMessage]:
    """The parts of a form by name; the body was read before, which `Request.post` cannot follow."""
    head = f"content-type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    message = message_from_bytes(head + await request.read(), _class=EmailMessage, policy=HTTP)
    return {
        str(part.get_param("name", header="content-disposition")): part
        for part in message.iter_parts()
        if isinstance(part, EmailMessage)
    }


def _content_of(form: dict[str, EmailMessage], name: str) -> bytes:
    part = form.get(name)
    if part is None or part.get_filename() is None:
        raise refuse(400, f"'{name}' is a required property", param=name)
    return bytes(part.get_payload(decode=True) or b"")


def _text(form: dict[str, EmailMessage], name: str, default: str) -> str:
    part = form.get(name)
    return default if part is None else bytes(part.get_payload(decode=True) or b"").decode()


def _field(body: Any, name: str) -> str:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str) or not value:
        raise refuse(400, f"'{name}' is a required property", param=name)
    return value


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")

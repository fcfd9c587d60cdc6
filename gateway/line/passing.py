"""Calls that are passed through: guarded at the door, unread on the way.

Guarded means: the family is open to the key, a model that is named is one of its, and a stored object that
is named is its team's. One attempt, at the one provider of the family.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gateway.errors import (
    BAD_REQUEST,
    BAD_TYPE,
    MODEL_FORBIDDEN,
    NOT_OPEN,
    UPSTREAM_BAD_ANSWER,
    CallerGone,
    GatewayError,
)
from gateway.http.message import Answer, status_line
from gateway.line.attempt import AttemptFailed
from gateway.line.attempts import final_error, settle_failed
from gateway.line.exchange import DeadlinePassed, Exchange
from gateway.line.outbound import passing_head
from gateway.line.owner import must_own, owned
from gateway.line.relay import TailCopy, answer_head
from gateway.line.reply import Reply, fetch
from gateway.line.upload import Upload
from gateway.money import usd
from gateway.policy.decide import Facts
from gateway.policy.snapshot import Passage, Target
from gateway.usage import Usage
from gateway.wire.dialects.openai_chat import Call, usage_in_tail
from gateway.wire.dialects.openai_families import (
    Passing,
    keep_listed,
    listed_ids,
    made_ids,
    read_other_usage,
    stored_ids,
    with_cursor,
)
from gateway.wire.form import boundary_of
from gateway.wire.json import dumps, read_object, try_object
from gateway.wire.sse import data_of

_FIRST_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"([A-Za-z0-9_-]+)"').match
MAX_PAGES = 10
"""Pages of a list that are read for one that has something of the team's on it."""
LIST_BYTES = 16 << 20
"""A page of files may have 10,000 entries."""


class _Ready(NamedTuple):
    """A request that may go out."""

    head: bytes
    """Up to the headers that frame the body."""
    body: bytes | Upload


async def pass_through(exchange: Exchange, passing: Passing) -> None:
    """One call from its head to its answer."""
    passage = _open(exchange, passing)
    exchange.call = Call(passing.family, {}, "", stream=False, wants_usage=False, size=0)
    exchange.total_at_s = exchange.started_s + passage.model.timeouts.total_s
    guard = _Guard(exchange, passage, passing)
    ready = await guard.request()
    exchange.model, exchange.target = passage.model, guard.target
    exchange.facts = Facts(
        exchange.admission.key, passing.family, passing.family, tags=exchange.admission.tags
    )
    costs = passage.nanousd_per_call if passing.makes else 0
    exchange.claim = await exchange.limits.claim_passing(exchange, passage, costs)
    exchange.attempts = 1
    try:
        await _answer(exchange, guard, ready)
    except AttemptFailed as failure:
        exchange.line.meters.attempt_failed(
            passage.model.name, guard.target.name, failure.reason or "refused"
        )
        settle_failed(exchange, None, failure)
        raise final_error(exchange, failure) from None
    except (CallerGone, GatewayError, DeadlinePassed) as ended:
        if not exchange.upstream_s and exchange.claim is not None:
            # Nothing of it was sent.
            claim, exchange.claim = exchange.claim, None
            claim.unused(exchange, 0, "caller_gone" if isinstance(ended, CallerGone) else "stopped")
        raise


def _open(exchange: Exchange, passing: Passing) -> Passage:
    admission = exchange.admission
    passage = admission.snapshot.passages.get(passing.family)
    if passage is None or passing.family not in admission.key.families:
        raise GatewayError(NOT_OPEN)
    return passage


class _Guard:
    """What is checked before anything goes out, and what is known of the call then."""

    def __init__(self, exchange: Exchange, passage: Passage, passing: Passing) -> None:
        self.exchange = exchange
        self.passage = passage
        self.passing = passing
        self.target: Target = passage.target
        """Stands for the call in metrics and prices: the policy's own target if a model of its was named."""

    async def request(self) -> _Ready:
        """The request as it goes out. Raises `GatewayError` for what may not."""
        exchange = self.exchange
        known = exchange.request.head.known
        type_ = known.get(b"content-type", b"")
        boundary = boundary_of(type_)
        if boundary is not None:
            caller = exchange.caller
            upload = Upload(exchange, boundary, self._field, max_bytes=caller.max_form_bytes)
            await upload.begin()
            await self._own(self.passing.ids)
            return _Ready(self._head(f'multipart/form-data; boundary="{boundary.decode()}"'), upload)
        body = await exchange.body()
        if not body or exchange.request.head.method != b"POST":
            await self._own(self.passing.ids)
            return _Ready(self._head(""), b"")
        if type_.partition(b";")[0].strip().lower() != b"application/json":
            raise GatewayError(BAD_TYPE)
        fields = read_object(body)
        if fields.get("model") is not None:
            fields["model"] = self._model(fields["model"])
        await self._own({*self.passing.ids, *stored_ids(fields)})
        try:
            body = dumps(fields)
        except TypeError:
            raise GatewayError(BAD_REQUEST, "The body is nested more than 254 levels deep.") from None
        return _Ready(self._head("application/json"), body)

    async def _own(self, ids: Iterable[str]) -> None:
        await must_own(self.exchange, self.passage.target.provider, ids)

    def _head(self, type_: str, *, after: str | None = None) -> bytes:
        passing, provider = self.passing, self.passage.target.provider
        query = passing.query if after is None else with_cursor(passing.query, after)
        path = f"{passing.path}?{query}" if query else passing.path
        method = self.exchange.request.head.method.decode()
        # Stored objects belong to the account of a key, so the keys do not take turns here.
        key = provider.keys[0] if provider.keys else None
        exchange = self.exchange
        head = passing_head(provider, key, method, path, type_)
        return head + exchange.admission.forwarded + exchange.line.tracer.context(exchange)

    def next_page(self, after: str) -> _Ready:
        """The request for the page of a list that follows an entry."""
        return _Ready(self._head("", after=after), b"")

    def _field(self, name: str, value: str) -> None:
        """A field of a form: goes on as it is, so a name cannot be replaced by the target's."""
        if name == "model" and self._model(value) != value:
            raise GatewayError(
                BAD_REQUEST,
                f"In a form 'model' must be the provider's own name: {self.target.model}.",
                param="model",
            )
        if stored_ids(value):
            raise GatewayError(BAD_REQUEST, "Stored objects cannot be named in a form.", param=name)

    def _model(self, name: object) -> str:
        """The provider's name for a model that the caller named."""
        key, provider = self.exchange.admission.key, self.passage.target.provider
        if type(name) is not str or not key.may_name(name):
            raise GatewayError(MODEL_FORBIDDEN, param="model")
        model = key.models.get(name)
        for target in () if model is None else model.targets:
            if target.provider is provider:
                self.target = target
                return target.model
        return name


async def _answer(exchange: Exchange, guard: _Guard, ready: _Ready) -> None:
    passing = guard.passing
    reply = await fetch(
        exchange, guard.passage, ready.head, ready.body, limit=LIST_BYTES if passing.lists else 0
    )
    try:
        page = None if passing.is_content or not reply.is_json else try_object(reply.body)
        if passing.lists:
            await _write_list(exchange, guard, reply, page)
            return
        made = set() if passing.is_content else made_ids(_beginning(reply, page))
        if made:
            await owned(exchange, guard.passage.target.provider, "record", sorted(made))
        if reply.complete:
            usage = _usage_in(passing, reply.body) if page is None else read_other_usage(page)
            _write(exchange, guard, reply, reply.body, usage)
        else:
            await _copy(exchange, guard, reply)
    finally:
        if not reply.complete:
            reply.close()


def _beginning(reply: Reply, page: dict[str, Any] | None) -> Mapping[str, Any]:
    """What an answer tells of the object it makes: a page whole, the first event of a stream
    (`response.created`), of what is too long to be held its first field."""
    if page is not None:
        return page
    if not reply.streamed:
        id_ = _FIRST_ID(reply.body) if reply.is_json else None
        return {} if id_ is None else {"id": id_[1].decode()}
    first = reply.body.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    event = try_object(data_of(first + b"\n\n")) or {}
    inner = event.get("response", event)
    return inner if type(inner) is dict else {}


async def _write_list(exchange: Exchange, guard: _Guard, reply: Reply, page: dict[str, Any] | None) -> None:
    """A page of a list with what is the team's; the next one, as long as nothing is on it."""
    provider = guard.passage.target.provider
    for _ in range(MAX_PAGES):
        ids = [] if page is None else listed_ids(page)
        if page is None or not reply.complete:
            raise AttemptFailed("bad_answer", UPSTREAM_BAD_ANSWER)
        kept = keep_listed(page, await owned(exchange, provider, "owned", ids)) if ids else page
        if not ids or kept["data"] or page.get("has_more") is not True:
            break
        ready = guard.next_page(ids[-1])
        reply = await fetch(exchange, guard.passage, ready.head, ready.body, limit=LIST_BYTES)
        page = try_object(reply.body)
    _write(exchange, guard, reply, dumps(kept), None)


def _write(exchange: Exchange, guard: _Guard, reply: Reply, body: bytes, usage: Usage | None) -> None:
    """An answer that is there whole."""
    cost = _price(exchange, guard, usage)
    framing = _type_of(reply.answer)
    if reply.answer.status != 204:
        framing += b"content-length: %d\r\n" % len(body)
    if cost is not None:
        framing += b"x-headgate-cost-usd: %b\r\n" % usd(cost)
    exchange.mark_written()
    exchange.status = reply.answer.status
    head = answer_head(exchange, reply.answer, framing, status_line(reply.answer.status))
    exchange.caller.write(head + body)
    exchange.caller.finish(keep_alive=exchange.request.keep_alive and exchange.request.complete)


async def _copy(exchange: Exchange, guard: _Guard, reply: Reply) -> None:
    """An answer that goes on as it comes."""
    answer = reply.answer
    copy = TailCopy(exchange, reply.connection, reply.body)
    length = answer.headers.get(b"content-length")
    framing = _type_of(answer)
    if length is not None:
        copy.chunked = False
        framing += b"content-length: %b\r\n" % length
    elif copy.chunked:
        framing += b"transfer-encoding: chunked\r\n"
    exchange.mark_written()
    exchange.status = answer.status
    exchange.caller.write(answer_head(exchange, answer, framing, status_line(answer.status)))
    copy.write(reply.body)
    reply.resume()
    try:
        await copy.run(answer)
    finally:
        _price(exchange, guard, _usage_in(guard.passing, copy.tail))
    if copy.failure is not None:
        exchange.attempt_outcome = "server_error"
        exchange.failed_after_commit(copy.failure.error_type)
        exchange.caller.cut()
        return
    copy.finish()


def _type_of(answer: Answer) -> bytes:
    type_ = answer.headers.get(b"content-type")
    return b"" if type_ is None else b"content-type: %b\r\n" % type_


def _usage_in(passing: Passing, tail: bytes) -> Usage | None:
    """Usage at the end of an answer that was not read as JSON; what callers stored is none."""
    return None if passing.is_content else usage_in_tail(tail, read_other_usage)


def _price(exchange: Exchange, guard: _Guard, usage: Usage | None) -> int | None:
    """The cost of a call in nano-dollars: the price of its family, else that of its tokens."""
    exchange.usage = usage
    per_call = guard.passage.nanousd_per_call
    if per_call is not None:
        exchange.cost_nanousd = per_call if guard.passing.makes else 0
    elif usage is not None:
        exchange.price(usage)
    return exchange.cost_nanousd

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
    OBJECT_UNKNOWN,
    UPSTREAM_BAD_ANSWER,
    CallerGone,
    GatewayError,
)
from gateway.http.message import Answer, status_line
from gateway.http.upstream import UpstreamConnection
from gateway.line.attempt import AttemptFailed
from gateway.line.attempts import final_error, settle_failed
from gateway.line.exchange import DeadlinePassed, Exchange
from gateway.line.outbound import passing_head
from gateway.line.owner import must_own, owned
from gateway.line.relay import TailCopy, answer_head
from gateway.line.reply import Reply, fetch
from gateway.line.stored import Pinned, passage_to
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
from gateway.wire.stored_id import Renaming

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
    guard = _guard(exchange, passing)
    passage = guard.passage
    exchange.call = Call(passing.family, {}, "", stream=False, wants_usage=False, size=0)
    exchange.total_at_s = exchange.started_s + passage.model.timeouts.total_s
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


def _guard(exchange: Exchange, passing: Passing) -> _Guard:
    admission, family = exchange.admission, passing.family
    passage = admission.snapshot.passages.get(family)
    if passage is None and family == "responses" and passing.ids:
        return _StoredGuard(exchange, *passage_to(admission.key, passing), passing)
    if passage is None or family not in admission.key.families:
        raise GatewayError(NOT_OPEN)
    return _Guard(exchange, passage, passing)


class _Guard:
    """What is checked before anything goes out, and what is known of the call then."""

    limit = 0
    """Bytes of JSON that are read whole (0: 1 MiB)."""
    renames = False
    """True if an answer may grow on its way."""

    def __init__(self, exchange: Exchange, passage: Passage, passing: Passing) -> None:
        self.exchange = exchange
        self.passage = passage
        self.passing = passing
        self.target: Target = passage.target
        """Stands for the call in metrics and prices: the policy's own target if a model of its was named."""
        self.key = next(iter(passage.target.provider.keys), None)
        """Stored objects belong to the account of a key, so the keys do not take turns here."""
        self.path = passing.path
        self.names = Renaming()
        """What of the answer the caller knows by another name."""

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
        path = f"{self.path}?{query}" if query else self.path
        exchange = self.exchange
        method = exchange.request.head.method.decode()
        head = passing_head(provider, self.key, method, path, type_)
        return head + exchange.admission.forwarded + exchange.line.tracer.context(exchange)

    async def look(self, told: Mapping[str, Any]) -> None:
        """What the provider tells of an object: one that was made is the team's from now on. Raises
        `GatewayError` (503) if that cannot be written down."""
        made = made_ids(told)
        if made:
            await owned(self.exchange, self.passage.target.provider, "record", sorted(made))

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


class _StoredGuard(_Guard):
    """The same for an answer that its target stored, or may have: the id of the caller's says whose it is."""

    limit = LIST_BYTES
    renames = True

    def __init__(self, exchange: Exchange, passage: Passage, pinned: Pinned, passing: Passing) -> None:
        super().__init__(exchange, passage, passing)
        handed = passing.ids[0]
        self.key = pinned.key
        self.path = passing.path.replace(handed, pinned.made, 1)
        self.names.add(pinned.made, handed)
        self._account = pinned.account

    async def _own(self, ids: Iterable[str]) -> None:
        if set(ids) != {self.passing.ids[0]}:
            raise GatewayError(OBJECT_UNKNOWN)

    async def look(self, told: Mapping[str, Any]) -> None:
        """Gives the caller its own id of the response that this one follows."""
        before = told.get("previous_response_id")
        if type(before) is str:
            self.names.add(before, self._account.hand_out(before))


async def _answer(exchange: Exchange, guard: _Guard, ready: _Ready) -> None:
    passing = guard.passing
    reply = await fetch(
        exchange, guard.passage, ready.head, ready.body, limit=LIST_BYTES if passing.lists else guard.limit
    )
    try:
        page = None if passing.is_content or not reply.is_json else try_object(reply.body)
        if passing.lists:
            await _write_list(exchange, guard, reply, page)
            return
        told = {} if passing.is_content else _beginning(reply, page)
        await guard.look(told)
        if reply.complete:
            usage = _usage_in(passing, reply.body) if page is None else read_other_usage(page)
            usage = await _news(exchange, guard, told, usage)
            _write(exchange, guard, reply, guard.names.whole(reply.body), usage)
        else:
            await _copy(exchange, guard, reply, told)
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


class _NamedCopy(TailCopy):
    """Copies whatever comes, with the names that the caller knows."""

    __slots__ = ("_names",)

    def __init__(
        self, exchange: Exchange, connection: UpstreamConnection, begun: bytes, names: Renaming
    ) -> None:
        super().__init__(exchange, connection, begun)
        self._names = names

    def passed(self, block: bytes) -> bytes:
        return self._names.feed(block)

    def ended(self) -> None:
        self.write(self._names.feed(b"", last=True))
        super().ended()


async def _copy(exchange: Exchange, guard: _Guard, reply: Reply, told: Mapping[str, Any]) -> None:
    """An answer that goes on as it comes; `told` is the object that it began with."""
    answer = reply.answer
    copy = _NamedCopy(exchange, reply.connection, reply.body, guard.names)
    length = answer.headers.get(b"content-length")
    framing = _type_of(answer)
    if length is not None and not guard.renames:
        copy.chunked = False
        framing += b"content-length: %b\r\n" % length
    elif copy.chunked:
        framing += b"transfer-encoding: chunked\r\n"
    exchange.mark_written()
    exchange.status = answer.status
    exchange.caller.write(answer_head(exchange, answer, framing, status_line(answer.status)))
    copy.write(guard.names.feed(reply.body))
    reply.resume()
    try:
        await copy.run(answer)
    finally:
        if guard.passing.makes:
            _price(exchange, guard, _usage_in(guard.passing, copy.tail))
    if not guard.passing.makes and copy.failure is None:
        _price(exchange, guard, await _news(exchange, guard, told, _usage_in(guard.passing, copy.tail)))
    if copy.failure is not None:
        exchange.attempt_outcome = "server_error"
        exchange.failed_after_commit(copy.failure.error_type)
        exchange.caller.cut()
        return
    copy.finish()


async def _news(
    exchange: Exchange, guard: _Guard, told: Mapping[str, Any], usage: Usage | None
) -> Usage | None:
    """The usage that an answer tells, if it counts now. A call that only asks for a stored object is told it
    each time: it counts once, unless whoever made the object was told it. `told`: the object as it began."""
    if usage is None or guard.passing.makes:
        return usage
    id_ = told.get("id")
    if type(id_) is not str or told.get("status") == "queued":
        return None
    if guard.passing.family == "responses" and told.get("background") is not True:
        return None
    counted, provider = f"usage-{id_}", guard.passage.target.provider
    if await owned(exchange, provider, "owned", [counted]):
        return None
    return usage if await owned(exchange, provider, "record", [counted]) else None


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
    if per_call is not None and (usage is None or not guard.renames):
        exchange.cost_nanousd = per_call if guard.passing.makes else 0
    elif usage is not None:
        exchange.price(usage)
    return exchange.cost_nanousd

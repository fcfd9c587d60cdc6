"""The life of one request, top to bottom. Read this first.

admit → read → decide → send → relay → settle → observe. A step that refuses raises; whatever
happens, a call is settled and observed once.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from gateway.clock import now_s
from gateway.errors import (
    BUDGET_SPENT,
    INTERNAL,
    MODEL_UNKNOWN,
    NOT_READY,
    OVERLOADED,
    STORE_UNAVAILABLE,
    UPSTREAM_TIMEOUT,
    CallerGone,
    GatewayError,
)
from gateway.http.message import Request, status_line
from gateway.line.admission import Admission, admit
from gateway.line.attempt import Attempt
from gateway.line.attempts import send
from gateway.line.counting import ESTIMATED, counting, likely_tokens
from gateway.line.endpoints import dialect_of
from gateway.line.exchange import DeadlinePassed, Exchange
from gateway.line.limits import UseInstead
from gateway.line.observe import observe
from gateway.line.owner import must_own
from gateway.line.passing import pass_through
from gateway.line.relay import relay
from gateway.line.stored import keep_to
from gateway.link.journal import JournalFull
from gateway.policy.decide import Decision, Facts, State, decide
from gateway.policy.snapshot import Key, Model, Snapshot
from gateway.telemetry.diagnostics import report
from gateway.wire.dialects.openai_chat import read_call
from gateway.wire.dialects.openai_families import stored_ids
from gateway.wire.json import dumps
from gateway.wire.speech import read_own

if TYPE_CHECKING:
    from gateway.http.caller import CallerConnection
    from gateway.line.worker import Line


async def serve(exchange: Exchange) -> None:
    """One call, from its head to its last log line."""
    try:
        snapshot = ready(exchange)
        admission = exchange.admission = admit(exchange.request.head, snapshot)
        exchange.key, exchange.parent = admission.key, admission.parent
        endpoint = admission.endpoint
        if endpoint.kind == "models":
            list_models(exchange, exchange.key, endpoint.model)
            return
        if endpoint.passing is not None:
            await pass_through(exchange, endpoint.passing)
            return
        body = await exchange.body()
        dialect = endpoint.dialect
        exchange.call = (
            read_call(endpoint.kind, body, endpoint.model) if dialect.speaks_all else read_own(dialect, body)
        )
        files = snapshot.passages.get("files")
        if files is not None and b'"file_id"' in body:
            said = exchange.call.own or exchange.call.fields
            named = stored_ids([said.get("messages"), said.get("input")])
            await must_own(exchange, files.target.provider, named)
        decision = choose(exchange, admission)
        if dialect.followed is not None and exchange.call.own is not None:
            handed = dialect.followed(exchange.call.own)
            if handed is not None:
                decision = keep_to(exchange, decision, handed)
        if endpoint.kind == "count_tokens":
            asked = counting(exchange, decision)
            if asked is None:
                exchange.status = 200
                estimate = dumps({"input_tokens": likely_tokens(exchange, decision.targets[0])})
                write(exchange, estimate, headers=ESTIMATED, keep_alive=exchange.request.keep_alive)
                return
            decision = asked
        await relay(exchange, await _answer(exchange, decision))
    except CallerGone:
        exchange.outcome, exchange.error_type = "caller_gone", "caller_gone"
    except GatewayError as error:
        refuse(exchange, error)
    except DeadlinePassed:
        refuse(exchange, GatewayError(UPSTREAM_TIMEOUT))
    except JournalFull:
        refuse(exchange, GatewayError(STORE_UNAVAILABLE))
    except Exception as error:
        # Ours, always: whatever a caller or a provider sends has its own type. Types and lines only, so that
        # nothing of the call gets into the log.
        report(error)
        refuse(exchange, GatewayError(INTERNAL))
    finally:
        exchange.limits.finish(exchange)
        observe(exchange)


async def _answer(exchange: Exchange, decision: Decision) -> Attempt:
    """The answer of the model that was chosen, or of the one that a spent budget names instead of it."""
    spent: set[str] = set()
    while True:
        try:
            return await send(exchange, decision)
        except UseInstead as instead:
            if instead.budget in spent or exchange.pinned is not None:
                raise GatewayError(BUDGET_SPENT) from None
            spent.add(instead.budget)
            decision = choose_instead(exchange, instead.model)


def ready(exchange: Exchange) -> Snapshot:
    """The policy in force. Raises `GatewayError` (503) while there is none, or too much to do."""
    if exchange.snapshot is None:
        raise GatewayError(NOT_READY)
    if exchange.line.is_overloaded():
        raise GatewayError(OVERLOADED)
    return exchange.snapshot


def choose(exchange: Exchange, admission: Admission) -> Decision:
    """Asks `decide`, with the dice and the counters that it must not have. Raises its refusal."""
    call, line = exchange.call, exchange.line
    assert call is not None
    facts = Facts(
        admission.key,
        call.model,
        call.endpoint,
        call.stream,
        tags=admission.tags,
        metadata=call.metadata,
        draw=random.random(),
        turn=line.turn(call.model),
    )
    exchange.facts = facts
    return _decided(exchange, decide(admission.snapshot, facts, State(line.health.down)))


def choose_instead(exchange: Exchange, model: Model) -> Decision:
    """Asks `decide` again, for the model that a spent budget names. Raises its refusal."""
    snapshot = exchange.admission.snapshot
    state = State(exchange.line.health.down)
    return _decided(exchange, decide(snapshot, exchange.facts, state, instead=model))


def _decided(exchange: Exchange, decision: Decision) -> Decision:
    exchange.model = decision.model
    if decision.refusal is not None:
        raise GatewayError(decision.refusal, param="model")
    return decision


def list_models(exchange: Exchange, key: Key, wanted: str | None) -> None:
    """`GET /v1/models` and `/v1/models/{id}`: what this caller may use, and nothing else."""
    body: dict[str, object]
    model_object = dialect_of(exchange.request.head).model_object
    if wanted is None:
        # What one SDK does not know of these the other needs.
        body = {"object": "list", "data": [model_object(name) for name in key.models], "has_more": False}
    elif wanted in key.models:
        body = model_object(wanted)
    else:
        raise GatewayError(MODEL_UNKNOWN, param="model")
    exchange.status = 200
    write(exchange, dumps(body), keep_alive=exchange.request.keep_alive)


def refuse(exchange: Exchange, error: GatewayError) -> None:
    """Answers with an error; by an event, if a stream's head was sent to keep its caller waiting. After the
    commit point nothing can be said here any more: the connection is cut."""
    kind = error.kind
    exchange.error_type = kind.error_type
    exchange.outcome = "upstream_failed" if kind.error_type.startswith("provider_") else "refused"
    exchange.status = kind.status
    exchange.line.shed(kind)
    if exchange.first_written_s:
        exchange.caller.cut()
        return
    try:
        if exchange.keep_alive is not None and exchange.keep_alive.has_begun:
            exchange.status = 200
            exchange.keep_alive.fail(error)
            return
        write(
            exchange,
            dialect_of(exchange.request.head).error_body(error, exchange.request_id),
            headers=error.extra_headers,
            keep_alive=exchange.request.keep_alive and exchange.request.complete,
        )
    except Exception as failure:
        report(failure)
        exchange.caller.cut()


def write(
    exchange: Exchange, body: bytes, *, headers: tuple[tuple[str, str], ...] = (), keep_alive: bool
) -> None:
    """Writes an answer of our own, whole."""
    head = b"%bcontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n" % (
        status_line(exchange.status),
        len(body),
        exchange.request_id,
    )
    head += b"x-headgate-request-id: %b\r\n" % exchange.request_id
    if exchange.attempts and exchange.target is not None:
        head += b"x-headgate-attempts: %d\r\n%b" % (
            exchange.attempts,
            exchange.line.target_lines(exchange.target, exchange.snapshot),
        )
    for name, value in headers:
        head += f"{name}: {value}\r\n".encode("latin-1")
    head = dialect_of(exchange.request.head).lines_for_caller(head, now_s())
    head += b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
    if exchange.request.head.method == b"HEAD":
        body = b""
    exchange.caller.write(head + body)
    exchange.caller.finish(keep_alive=keep_alive)


def begin(line: Line, caller: CallerConnection, request: Request) -> None:
    """Starts the life of one request."""
    exchange = Exchange(line, caller, request)
    caller.exchange = exchange
    line.exchanges.add(exchange)
    exchange.run(serve(exchange))

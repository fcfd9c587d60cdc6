"""What single pieces of the line cost: python benchmarks/micro.py [part of a name]."""

import sys
import tempfile
import timeit
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from machine import description
from systems import KEY, Upstream, policy, request_body

from gateway.line.endpoints import endpoint_of
from gateway.line.exchange import Exchange
from gateway.line.tracing import tracer_of
from gateway.policy.compile import compile_policy
from gateway.policy.decide import Facts, State, decide
from gateway.policy.load import load_text, secret_reader
from gateway.policy.sampling import Sampling
from gateway.policy.snapshot import Snapshot
from gateway.pricing.catalogue import Catalogue
from gateway.telemetry.meters import Meters
from gateway.telemetry.slots import SlotFile
from gateway.usage import Usage
from gateway.wire.conversation import Toward
from gateway.wire.dialect import ANTHROPIC, CHAT, Dialect
from gateway.wire.dialects.openai_chat import read_call, read_usage, write_body
from gateway.wire.dialects.openai_stream import AnswerStream
from gateway.wire.json import dumps, read_object, try_object
from gateway.wire.speech import speech_of
from gateway.wire.sse import Scanner
from gateway.wire.translated import EventStream, TranslatedStream

Piece = Callable[[], object]

_ANSWER = (
    b'{"id":"chatcmpl-bench0001","object":"chat.completion","created":1795510800,"model":"gpt-4o-mini","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"%b","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":'
    b'{"prompt_tokens":212,"completion_tokens":100,"total_tokens":312,"prompt_tokens_details":{"cached_tokens":0,'
    b'"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}}'
) % (b"The line carries what it is given. " * 12)


def event(number: int) -> bytes:
    """One chunk of 220 bytes, as upstream.c sends them."""
    head = (
        b'data: {"id":"chatcmpl-bench0001","object":"chat.completion.chunk","created":1795510800,'
        b'"model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"'
    )
    tail = b'"},"finish_reason":null}],"usage":null}\n\n'
    return head + (b" word%d" % number).ljust(220 - len(head) - len(tail)) + tail


DELTAS = 200
"""Of the streams that are translated: what they cost is told per event."""
_MESSAGE = {"id": "msg_bench0001", "type": "message", "role": "assistant", "model": "claude-haiku-4-5"}
_TOLD = {"input_tokens": 212, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}


def delta(number: int) -> bytes:
    """One piece of text as Anthropic sends it: with blanks before its last brace, seldom as many
    as before."""
    text = dumps(f" word{number}" if number % 8 else f",\n{number}")
    told = b'"index":0,"delta":{"type":"text_delta","text":%b}%b' % (text, b" " * (number % 12))
    return b'event: content_block_delta\ndata: {"type":"content_block_delta",%b}\n\n' % told


def anthropic_start() -> bytes:
    """What a stream of Anthropic's begins with, up to its first piece of text."""
    message: dict[str, Any] = {
        **_MESSAGE,
        "content": [],
        "stop_reason": None,
        "usage": {**_TOLD, "output_tokens": 1},
    }
    block = {"type": "text", "text": ""}
    found: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
    ]
    return b"".join(b"event: %b\ndata: %b\n\n" % (f["type"].encode(), dumps(f)) for f in found)


def begun(caller: Dialect, target: Dialect, start: bytes) -> EventStream:
    """A stream on its way from a target to a caller, of which the start has come."""
    if caller is target:
        stream = EventStream(target.reader())
    else:
        stream = TranslatedStream(target.reader(), caller.writer(True))
    stream.feed(start)
    return stream


def _feed_each(stream: EventStream, parts: list[bytes]) -> None:
    for part in parts:
        stream.feed(part)


def translated() -> Iterator[tuple[str, Piece]]:
    """What another dialect costs, at the caller's or at the provider's side. Streams are 200 events a run."""
    deltas, events = [delta(i) for i in range(DELTAS)], [event(i) for i in range(DELTAS)]
    for name, caller, target, start, parts in (
        ("anthropic to chat", CHAT, ANTHROPIC, anthropic_start(), deltas),
        ("chat to anthropic", ANTHROPIC, CHAT, event(0), events),
        ("anthropic relayed", ANTHROPIC, ANTHROPIC, anthropic_start(), deltas),
    ):
        stream, block = begun(caller, target, start + parts[0]), b"".join(parts)
        yield f"{name}, {DELTAS} events in one block", partial(stream.feed, block)
        yield f"{name}, {DELTAS} events in as many blocks", partial(_feed_each, stream, parts)
    speech, relay = speech_of(CHAT, ANTHROPIC), speech_of(CHAT, CHAT)
    body = request_body("plain")
    call, toward = read_call("chat", body), Toward("claude-haiku-4-5")
    content = [{"type": "text", "text": "The line carries what it is given. " * 20}]
    ended = {"content": content, "stop_reason": "end_turn", "stop_sequence": None}
    answer = dumps(
        {**_MESSAGE, **ended, "usage": {**_TOLD, "output_tokens": 100, "service_tier": "standard"}}
    )

    def request() -> None:
        call.said = None
        speech.body(call, toward, None)

    yield "request to anthropic, 1 KiB", request
    yield "request relayed, 1 KiB", lambda: relay.body(call, toward, None)
    yield "answer of anthropic, 1 KB", lambda: speech.told(try_object(answer) or {}, answer, 0.0)
    yield "answer relayed, 0.9 KB", lambda: relay.told(try_object(_ANSWER) or {}, _ANSWER, 0.0)


def traced() -> Iterator[tuple[str, Piece]]:
    """What traces cost a call, in the head it sends and at its end, if none is kept, or each."""
    answer = try_object(_ANSWER) or {}
    stream = AnswerStream(strips_usage=True)
    for part in (*(event(i) for i in range(100)), event(100).replace(b"null}]", b'"stop"}]')):
        stream.feed(part)
    with tempfile.TemporaryDirectory() as folder:
        meters = Meters(SlotFile.create(Path(folder) / "slots"))
        for ratio, name in ((0.0, "not kept"), (1.0, "kept")):
            for is_stream in (False, True):
                snapshot = snapshot_of(sampling=Sampling(ratio))
                tracer = tracer_of(snapshot.traces, meters, lambda line: None)
                exchange = _ended(snapshot)
                exchange.answer, exchange.stream = (None, stream) if is_stream else (answer, None)
                what = f"{name}, {'stream' if is_stream else 'plain'}"
                yield f"trace, {what}: context", partial(tracer.context, exchange)
                yield f"trace, {what}: end", partial(tracer.ended, exchange, exchange.started_s + 0.002)


def _ended(snapshot: Snapshot) -> Exchange:
    """A call that has had its answer, as far as traces look at it."""
    line: Any = SimpleNamespace(snapshot=snapshot, limits=None)
    exchange = Exchange(line, cast(Any, None), cast(Any, SimpleNamespace(received_s=1000.0)))
    endpoint = endpoint_of(b"POST", b"/v1/chat/completions", snapshot.passages)
    exchange.key = key = snapshot.key_of(KEY.encode())
    assert key is not None
    exchange.admission = cast(Any, SimpleNamespace(endpoint=endpoint))
    exchange.call = read_call("chat", request_body("plain"))
    exchange.model = key.models["gpt-4o-mini"]
    exchange.target = exchange.model.targets[0]
    exchange.attempts, exchange.status, exchange.upstream_s = 1, 200, exchange.started_s
    exchange.price(Usage(input=212, output=100))
    exchange.usage = Usage(input=212, output=100)
    return exchange


def pieces() -> Iterator[tuple[str, Piece]]:
    """Names and what they stand for."""
    snapshot = snapshot_of()
    caller = snapshot.key_of(KEY.encode())
    assert caller is not None
    model = caller.models["gpt-4o-mini"]
    price = model.targets[0].price
    assert price is not None
    body, block = request_body("plain"), b"".join(event(i) for i in range(100))
    call, token, state, usage = read_call("chat", body), KEY.encode(), State({}), Usage(input=212, output=100)

    yield "json.read_object, 1 KiB", lambda: read_object(body)
    yield "openai_chat.read_call, 1 KiB", lambda: read_call("chat", body)
    yield "openai_chat.write_body, 1 KiB", lambda: write_body(call, "gpt-4o-mini")
    yield "snapshot.key_of", lambda: snapshot.key_of(token)
    yield "decide, one target", lambda: decide(snapshot, Facts(caller, "gpt-4o-mini"), state)
    yield "usage of a plain answer, 0.9 KB", lambda: read_usage(try_object(_ANSWER) or {})
    yield "price.cost_nanousd", lambda: price.cost_nanousd(usage)
    scanner = Scanner()
    yield "sse.Scanner.feed, 22 KB: 100 events", lambda: scanner.feed(block)
    odd = [block[at : at + 4096] for at in range(0, len(block), 4096)]
    yield "sse.Scanner.feed, the same in 6 blocks", lambda: [scanner.feed(part) for part in odd]
    stream, one = AnswerStream(strips_usage=True), event(1)
    stream.feed(one)
    yield "AnswerStream.feed, 22 KB: 100 events", lambda: stream.feed(block)
    yield "AnswerStream.feed, one event", lambda: stream.feed(one)
    yield from translated()
    yield from traced()


def snapshot_of(rules: str = "", sampling: Sampling | None = None) -> Snapshot:
    """The bench's policy as a worker has it, with these rules and this share of traces."""
    environment = {"BENCH_UPSTREAM_KEY": "sk-bench"}
    compiled = compile_policy(
        load_text(policy(Upstream(port=8080, pid=0)) + rules, environment),
        secret_of=secret_reader(environment),
        row_of=lambda _name: 0,
        catalogue=Catalogue(),
        at=datetime.now(UTC),
        sampling=sampling,
    )
    return Snapshot.from_tables(compiled.tables)


def main() -> None:
    """Best of five, so that neighbours on the machine count as little as they can."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    print(description(), file=sys.stderr)
    for name, piece in pieces():
        if wanted in name:
            timer = timeit.Timer(piece)
            count, took_s = timer.autorange()
            best_s = min(took_s, *timer.repeat(4, count))
            print(f"{name:42} {best_s / count * 1e6:8.3f} us")


if __name__ == "__main__":
    main()

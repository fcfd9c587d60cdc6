"""A provider that cannot be reached: the next target at once, else one more try, else 502."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.http.test_dialling import Site
from tests.line.conftest import StartRelay, StartScripted
from tests.line.faults.answers import GOOD_BODY, GOOD_STREAM
from tests.line.faults.models import attempts, two_models
from tests.relaying import CHAT
from tests.scripted import STALL, answer, streamed


@contextmanager
def nobody_listening() -> Iterator[int]:
    """A port that refuses."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def nobody_accepting() -> Iterator[int]:
    """A port whose queue is full: the kernel drops what comes, as a firewall does."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(tmp_path, stack)


@pytest.fixture(
    params=["refused", "unknown name", "no TLS", "untrusted", "other name", "TLS hangs", "dropped"]
)
async def unreachable(
    request: pytest.FixtureRequest, site: Site, scripted: StartScripted
) -> AsyncIterator[tuple[str, str]]:
    """(a URL that no connection comes to, further settings of its provider)."""
    trusted = f", tls: {{ca_file: {site.ca_file}}}"
    match request.param:
        case "refused":
            with nobody_listening() as port:
                yield f"http://127.0.0.1:{port}/v1", ""
        case "unknown name":
            yield "http://nowhere.invalid/v1", ""
        case "no TLS":
            plain = await scripted(answer(GOOD_BODY))
            yield plain.url.replace("http:", "https:"), ""
        case "untrusted":
            yield f"https://localhost:{await site.serve()}/v1", ""
        case "other name":
            yield f"https://localhost:{await site.serve(name='elsewhere.example')}/v1", trusted
        case "TLS hangs":
            hanging = await asyncio.start_server(_never_answers, "127.0.0.1", 0)
            yield f"https://127.0.0.1:{hanging.sockets[0].getsockname()[1]}/v1", ""
            hanging.close()
        case "dropped":
            with nobody_accepting() as port:
                yield f"http://127.0.0.1:{port}/v1", ""


async def _never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_fault(
    start: StartRelay, scripted: StartScripted, unreachable: tuple[str, str], stream: bool
) -> None:
    url, settings = unreachable
    second = await scripted(streamed(GOOD_STREAM) if stream else answer(GOOD_BODY))
    policy = two_models(url, url, second.url, "timeouts: {connect: 250ms, total: 8s}")
    for name in ("one", "first"):
        policy = policy.replace(f'  {name}: {{base_url: "{url}"', f'  {name}: {{base_url: "{url}"{settings}')
    relay = await start(policy)
    alone, pair = await asyncio.gather(
        relay.post({**CHAT, "model": "alone", "stream": stream}),
        relay.post({**CHAT, "model": "pair", "stream": stream}),
    )
    assert (alone.status, alone.error["code"]) == (502, "upstream_unreachable")
    assert alone.headers["x-should-retry"] == "false"
    assert (pair.status, pair.headers["x-headgate-target"]) == (200, "second/m")
    assert attempts(relay, "alone", "one/m") == {"connect": 2}
    assert attempts(relay, "pair", "first/m") == {"connect": 1}
    assert relay.counted("headgate_fallbacks_total", "pair", "connect") == 1
    records = {record["model"]: record for record in await relay.logged(2)}
    assert (
        records["alone"]["outcome"],
        records["alone"]["error_type"],
        records["alone"]["usage_source"],
    ) == (
        "upstream_failed",
        "provider_unreachable",
        "none",
    )
    assert records["pair"]["outcome"] == "ok"


async def test_time_of_the_whole_call_ends_connecting_too(start: StartRelay, scripted: StartScripted) -> None:
    second = await scripted(answer(GOOD_BODY), STALL)
    with nobody_accepting() as port:
        url = f"http://127.0.0.1:{port}/v1"
        relay = await start(two_models(url, url, second.url, "timeouts: {connect: 5s, total: 250ms}"))
        told = await asyncio.wait_for(relay.post({**CHAT, "model": "pair"}), 3)
    assert (told.status, told.error["code"]) == (504, "upstream_timeout")
    assert second.asked == 0

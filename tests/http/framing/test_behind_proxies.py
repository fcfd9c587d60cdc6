"""Behind nginx and haproxy both ends agree where each request ends: no payload makes more upstream requests
than it may, each of them has the one form of a call, and whoever comes next gets its own answer.

A proxy may tidy up what the gateway would refuse, and send it on as a call (`Payload.proxied`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.http.framing.payload import BODY, Payload
from tests.http.framing.proxies import Proxy
from tests.http.framing.recorder import Answer, Caller, NotFramed, Recorder
from tests.http.framing.test_framing import PAYLOADS, answers_itself
from tests.relaying import Relay
from tests.running import SECRET

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]
REFUSALS = {400, 401, 403, 404, 405, 408, 411, 413, 414, 417, 421, 422, 431, 494, 501, 505}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["nginx", "haproxy"])
async def proxy(
    request: pytest.FixtureRequest,
    framed: Relay,
    system_tool: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Proxy]:
    name = request.param
    proxy = Proxy(name, system_tool(name), tmp_path_factory.mktemp(name), framed.port)
    await proxy.ready()
    yield proxy
    proxy.stop()


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.name)
async def test_proxy_and_gateway_agree_on_every_payload(
    proxy: Proxy, recorder: Recorder, payload: Payload
) -> None:
    recorder.requests.clear()
    kept = await Caller.connect(proxy.port)
    await answers_itself(kept, "connection before")
    caller = await Caller.connect(proxy.port)
    caller.send(payload.data)
    answers = await all_answers(caller, payload)
    caller.close()
    await answers_itself(kept, "connection kept")
    kept.close()
    fresh = await Caller.connect(proxy.port)
    await answers_itself(fresh, "connection after")
    fresh.close()
    received = [request for request in recorder.requests if b'"connection ' not in request]
    contents = [answer.content for answer in answers if answer.status == 200]
    assert received == [recorder.reference(BODY, SECRET)] * len(received)
    assert contents == ["payload"] * len(received)
    assert len(received) <= max(payload.serves, payload.proxied)
    assert {answer.status for answer in answers} <= REFUSALS | {200}
    assert not recorder.unread()


async def all_answers(caller: Caller, payload: Payload) -> list[Answer]:
    """All that a proxy gives: it may refuse earlier than the gateway, or read on where that closes."""
    answers: list[Answer] = []
    wanted = payload.serves + bool(payload.status)
    quiet_s = 3.0 if payload.status == 408 else 0.4
    while len(answers) < wanted or payload.closes:
        try:
            answer = await caller.answer(3.0 if len(answers) < wanted else quiet_s)
        except (TimeoutError, NotFramed):
            break  # nginx answers HTTP/0.9 in kind, without a head
        if answer is None:
            break
        answers.append(answer)
        if answer.headers.get("connection") == "close":
            break
    return answers

"""Whatever a caller sends is refused and closed, or makes exactly the upstream requests that it says.

Checked on the bytes that the upstream received: the one form that a call may have, byte by byte.
"""

from __future__ import annotations

import pytest

from tests.http.framing import bodies, heads
from tests.http.framing.payload import BODY, Payload, call
from tests.http.framing.recorder import Caller, Recorder
from tests.relaying import Relay
from tests.running import SECRET

TABLES = (
    bodies.LENGTHS,
    bodies.BOTH,
    bodies.CODINGS,
    bodies.SIZES,
    bodies.TRAILERS,
    bodies.SEQUELS,
    heads.REQUEST_LINES,
    heads.TARGETS,
    heads.FIELDS,
    heads.HOSTS,
    heads.CREDENTIALS,
    heads.UPGRADES,
)
PAYLOADS = [payload for table in TABLES for payload in table]


def test_there_are_enough_payloads_and_no_two_are_the_same() -> None:
    assert len(PAYLOADS) >= 150
    assert len({payload.name for payload in PAYLOADS}) == len(PAYLOADS)
    assert len({payload.data for payload in PAYLOADS}) == len(PAYLOADS)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.name)
async def test_payload_is_refused_or_makes_its_upstream_requests(
    framed: Relay, recorder: Recorder, payload: Payload
) -> None:
    recorder.requests.clear()
    caller = await Caller.connect(framed.port)
    caller.send(payload.data + payload.sequel)
    wanted = payload.serves + bool(payload.status)
    if payload.closes:
        answers = await caller.answers()
    else:
        answers = [await caller.answer() for _ in range(wanted)]
    assert [answer and answer.status for answer in answers] == [200] * payload.serves + [
        payload.status
    ] * bool(payload.status)
    for answer in answers:
        assert answer is not None
        if answer.status == 200:
            assert answer.content == "payload"
        else:
            assert answer.error["message"]
    if payload.closes:
        assert answers[-1] is not None
        assert answers[-1].headers["connection"] == "close"
    else:
        await answers_itself(caller, "the same connection")
    caller.close()
    fresh = await Caller.connect(framed.port)
    await answers_itself(fresh, "a fresh connection")
    fresh.close()
    received = [
        request for request in recorder.requests if b"connection" not in request.rpartition(b"\r\n")[2]
    ]
    assert received == [recorder.reference(BODY, SECRET)] * payload.serves
    assert not recorder.unread()


async def answers_itself(caller: Caller, content: str) -> None:
    """A call with this content gets the answer to this content."""
    caller.send(call(content=content))
    answer = await caller.answer()
    assert answer is not None and answer.status == 200
    assert answer.content == content

"""What a model thought comes back to its own provider whole, whatever dialect its caller speaks."""

from __future__ import annotations

import pytest

from gateway.wire.answered import Answer, Candidate, Closed, Done, Ended, Opened, Piece, Sealed
from gateway.wire.conversation import Leftovers, Thinking, Toward
from gateway.wire.dialect import ANTHROPIC, CHAT, RESPONSES, Dialect
from gateway.wire.json import read_object
from gateway.wire.seal import seal_for, unmarked
from gateway.wire.sse import data_of, events

OF_ANTHROPIC = Thinking("Hm.", "c2lnbmVk", dialect="anthropic")
HIDDEN = Thinking("", redacted="aGlkZGVu", dialect="anthropic")
OF_RESPONSES = Thinking("Hm.", "gAAAA==", dialect="responses", id="rs_1")
SILENT = Thinking("", "gAAAA==", dialect="responses", id="rs_2")
SEALED = {"anthropic": [OF_ANTHROPIC, HIDDEN], "responses": [OF_RESPONSES, SILENT]}


def sent_back(part: Thinking, caller: Dialect) -> dict[str, object]:
    """The next request of a caller that sends back what it got, whole."""
    told = caller.write_answer(Answer("a1", "m", [Candidate([part])]))
    if caller is RESPONSES:
        return {"model": "m", "input": told["output"]}
    if caller is ANTHROPIC:
        return {"model": "m", "messages": [{"role": "assistant", "content": told["content"]}]}
    return {"model": "m", "messages": [told["choices"][0]["message"]]}


def streamed_back(part: Thinking, caller: Dialect) -> dict[str, object]:
    """The same of a stream."""
    writer = caller.writer(True)
    begun = Thinking("", redacted=part.redacted, dialect=part.dialect, id=part.id)
    out = writer.write(Opened(0, begun))
    out += writer.write(Piece(0, part.text)) if part.text else b""
    out += writer.write(Sealed(0, part.signature)) if part.signature else b""
    out += b"".join(writer.write(event) for event in (Closed(0), Ended("stop"), Done()))
    told = [read_object(data_of(raw)) for raw, data in events(out) if data != b"[DONE]"]
    if caller is RESPONSES:
        return {"model": "m", "input": told[-1]["response"]["output"]}
    if caller is CHAT:
        blocks = [
            block
            for chunk in told
            for choice in chunk["choices"]
            for block in choice["delta"].get("thinking_blocks", ())
        ]
        return {"model": "m", "messages": [{"role": "assistant", "thinking_blocks": blocks}]}
    block = dict(told[0]["content_block"])
    for event in told:
        delta = event.get("delta", {})
        block |= {name: block[name] + delta[name] for name in ("thinking", "signature") if name in delta}
    return {"model": "m", "messages": [{"role": "assistant", "content": [block]}]}


def thoughts_for(target: Dialect, caller: Dialect, fields: dict[str, object]) -> list[dict[str, object]]:
    """What a target is sent of thoughts."""
    asked = target.write_request(caller.read_request(fields), Toward("t"), None, Leftovers("it"))
    if target is RESPONSES:
        return [item for item in asked["input"] if item.get("type") == "reasoning"]
    blocks = [block for message in asked["messages"] for block in message["content"]]
    return [block for block in blocks if "thinking" in block["type"]]


def as_the_provider_said(part: Thinking) -> dict[str, object]:
    if part.redacted:
        return {"type": "redacted_thinking", "data": part.redacted}
    if part.dialect == "anthropic":
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    return {"type": "reasoning", "id": part.id, "summary": summary, "encrypted_content": part.signature}


@pytest.mark.parametrize("back", [sent_back, streamed_back])
@pytest.mark.parametrize("target", [ANTHROPIC, RESPONSES], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("caller", [CHAT, ANTHROPIC, RESPONSES], ids=lambda dialect: dialect.name)
def test_a_seal_comes_back_to_its_provider(caller: Dialect, target: Dialect, back: object) -> None:
    for part in SEALED[target.name]:
        told = back(Thinking(part.text, part.signature, part.redacted, part.dialect, part.id), caller)  # type: ignore[operator]
        assert thoughts_for(target, caller, told) == [as_the_provider_said(part)]


@pytest.mark.parametrize("caller", [CHAT, ANTHROPIC, RESPONSES], ids=lambda dialect: dialect.name)
def test_nobody_is_sent_the_seal_of_another(caller: Dialect) -> None:
    for target, other in ((ANTHROPIC, "responses"), (RESPONSES, "anthropic")):
        for part in SEALED[other]:
            assert thoughts_for(target, caller, sent_back(part, caller)) == []


@pytest.mark.parametrize("seal", ["", "x", "headgate:", "headgate:a:b:c:d", "x:a:signed:c:d", ":::::"])
def test_what_is_no_mark_is_a_seal_of_its_own(seal: str) -> None:
    assert unmarked(seal, "Hm.", "anthropic", "rs_1") == Thinking("Hm.", seal, dialect="anthropic", id="rs_1")


def test_a_seal_may_hold_colons() -> None:
    part = Thinking("Hm.", "a:b:c", dialect="responses", id="x:y")
    back = unmarked(seal_for(part, "anthropic"), "Hm.", "anthropic")
    assert back == Thinking("Hm.", "a:b:c", dialect="responses", id="")

"""What every dialect knows of a request is still there once it was written in one and read again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.wire.conversation import Conversation, Leftovers, Toward
from gateway.wire.dialect import ANTHROPIC, CHAT, COMPLETIONS, RESPONSES, Dialect
from gateway.wire.json import dumps, read_object
from tests.wire.hub_strategies import EACH, conversations, known_to, meant, meant_to

SOME = settings(max_examples=40, deadline=None)


def round_trip(dialect: Dialect, said: Conversation, **toward: Any) -> Conversation:
    """Through the bytes of a body; nothing may be left out."""
    left = Leftovers("the target")
    fields = dialect.write_request(said, Toward("model-x", **toward), None, left)
    assert left.dropped == []
    return dialect.read_request(read_object(dumps(fields)))


@EACH
@SOME
@given(said=conversations())
def test_what_every_dialect_knows_is_kept(dialect: Dialect, said: Conversation) -> None:
    said = known_to(dialect, said)
    found = round_trip(dialect, said)
    assert found.model == "model-x"
    assert meant(found) == meant_to(dialect, said)


@EACH
@SOME
@given(said=conversations())
def test_writing_leaves_the_conversation_as_it_is(dialect: Dialect, said: Conversation) -> None:
    said = known_to(dialect, said)
    before = repr(said)
    first = dumps(dialect.write_request(said, Toward("m"), None, Leftovers("it")))
    assert dumps(dialect.write_request(said, Toward("m"), None, Leftovers("it"))) == first
    assert repr(said) == before


@EACH
@SOME
@given(said=conversations(), cap=st.integers(RESPONSES.least_cap, 10**6))
def test_cap_that_limits_want_stands_for_the_callers(dialect: Dialect, said: Conversation, cap: int) -> None:
    fields = dialect.write_request(known_to(dialect, said), Toward("m"), cap, Leftovers("it"))
    assert dialect.read_request(fields).cap_tokens == cap


@EACH
def test_lowest_cap_is_said_and_not_replaced(dialect: Dialect) -> None:
    least = dialect.least_cap
    said = Conversation("m", cap_tokens=least)
    for limits in (None, least):
        fields = dialect.write_request(said, Toward("m", max_output=100), limits, Leftovers("it"))
        assert dialect.read_request(fields).cap_tokens == least


@pytest.mark.parametrize("cap", [0, 1, RESPONSES.least_cap - 1])
@pytest.mark.parametrize("limits", [None, RESPONSES.least_cap])
@pytest.mark.parametrize(
    ("caller", "asked", "field"),
    [
        (CHAT, {"messages": []}, "max_tokens"),
        (CHAT, {"messages": []}, "max_completion_tokens"),
        (COMPLETIONS, {"prompt": "x"}, "max_tokens"),
        (ANTHROPIC, {"messages": []}, "max_tokens"),
    ],
)
def test_cap_below_the_least_is_refused_by_the_callers_own_name(
    caller: Dialect, asked: dict[str, Any], field: str, cap: int, limits: int | None
) -> None:
    said = caller.read_request({"model": "m", **asked, field: cap})
    with pytest.raises(GatewayError, match="caller_unsupported") as caught:
        RESPONSES.write_request(said, Toward("m"), limits, Leftovers("it"))
    assert caught.value.param == field
    left = Leftovers("it", drops_all=True)
    assert RESPONSES.write_request(said, Toward("m"), limits, left)["max_output_tokens"] == 16
    assert left.dropped == [field]

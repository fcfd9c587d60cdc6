"""What every dialect knows of a request is still there once it was written in one and read again."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.conversation import Conversation, Leftovers, Toward
from gateway.wire.dialect import Dialect
from gateway.wire.json import dumps, read_object
from tests.wire.hub_strategies import EACH, conversations, meant

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
    found = round_trip(dialect, said)
    assert found.model == "model-x"
    assert meant(found) == meant(said)


@EACH
@SOME
@given(said=conversations())
def test_writing_leaves_the_conversation_as_it_is(dialect: Dialect, said: Conversation) -> None:
    before = repr(said)
    first = dumps(dialect.write_request(said, Toward("m"), None, Leftovers("it")))
    assert dumps(dialect.write_request(said, Toward("m"), None, Leftovers("it"))) == first
    assert repr(said) == before


@EACH
@SOME
@given(said=conversations(), cap=st.integers(1, 10**6))
def test_cap_that_limits_want_stands_for_the_callers(dialect: Dialect, said: Conversation, cap: int) -> None:
    fields = dialect.write_request(said, Toward("m"), cap, Leftovers("it"))
    assert dialect.read_request(fields).cap_tokens == cap


@EACH
def test_cap_of_zero_is_said_and_not_replaced(dialect: Dialect) -> None:
    said = Conversation("m", cap_tokens=0)
    for limits in (None, 0):
        fields = dialect.write_request(said, Toward("m", max_output=100), limits, Leftovers("it"))
        assert dialect.read_request(fields).cap_tokens == 0

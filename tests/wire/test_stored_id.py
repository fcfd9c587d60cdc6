"""Ids of stored answers: given to one team, for one target; and put in the place of the provider's."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.dialects.openai_families import stored_ids
from gateway.wire.stored_id import Account, Renaming

MADE = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=60).map("resp_{}".format)
ACCOUNT = Account("openai/gpt-4o", "sk-one", "search")


@given(made=MADE)
def test_what_was_handed_out_is_found_again(made: str) -> None:
    handed = ACCOUNT.hand_out(made)
    assert handed != made
    assert stored_ids([handed]) == {handed} or len(made) < 10
    assert ACCOUNT.made_by_provider(handed) == made


@pytest.mark.parametrize(
    "other",
    [
        ACCOUNT._replace(target="openai/gpt-4o-mini"),
        ACCOUNT._replace(secret="sk-two"),
        ACCOUNT._replace(secret=""),
        ACCOUNT._replace(team="other"),
        ACCOUNT._replace(team=""),
    ],
)
def test_it_is_nobody_elses(other: Account) -> None:
    handed = ACCOUNT.hand_out("resp_0123456789abcdef")
    assert other.made_by_provider(handed) is None
    assert other.hand_out("resp_0123456789abcdef") != handed


@given(made=MADE, at=st.integers(0, 100), letter=st.sampled_from("0f_Z"))
def test_no_letter_of_it_may_change(made: str, at: int, letter: str) -> None:
    handed = ACCOUNT.hand_out(made)
    at %= len(handed)
    changed = handed[:at] + letter + handed[at + 1 :]
    assert changed == handed or ACCOUNT.made_by_provider(changed) is None


@pytest.mark.parametrize(
    "id_", ["", "resp_", "resp_1", "msg_1", "chatcmpl-1", "resp_a b", "resp_" + "x" * 200]
)
def test_what_was_not_handed_out_is_unknown(id_: str) -> None:
    assert ACCOUNT.made_by_provider(id_) is None


@pytest.mark.parametrize("id_", ["", "msg_1", "chatcmpl-1", "resp_a/b"])
def test_what_is_no_id_of_a_stored_answer_stays(id_: str) -> None:
    assert ACCOUNT.hand_out(id_) == id_


@given(
    text=st.lists(st.sampled_from([b"resp_ab", b"resp_a", b"resp_", b"r", b"_ab", b"resp_xyz", b" "])),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_any_split_gives_the_same(text: list[bytes], cuts: list[int]) -> None:
    names, whole = Renaming(), b"".join(text)
    names.add("resp_ab", "resp_1_ab")
    names.add("resp_xyz", "resp_22_xyz")
    out, start = b"", 0
    for cut in sorted(cuts):
        out += names.feed(whole[start:cut])
        start = max(start, cut)
    out += names.feed(whole[start:]) + names.feed(b"", last=True)
    assert out == whole.replace(b"resp_ab", b"resp_1_ab").replace(b"resp_xyz", b"resp_22_xyz")

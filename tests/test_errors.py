"""The table of errors: closed, told apart by whose fault it was, and safe to send."""

from __future__ import annotations

from typing import get_args

import pytest

from gateway.errors import (
    ALL_KINDS,
    FALLBACK_REASONS,
    OVERLOADED,
    UNAUTHORIZED,
    UPSTREAM_TIMEOUT,
    GatewayError,
    Kind,
    ProviderError,
)
from gateway.policy.spec import Reason

STATUSES = {
    "caller": {400, 401, 404, 405, 408, 413, 415, 431, 501},
    "policy": {400, 403, 404, 429},
    "provider": {400, 429, 502, 503, 504},
    "gateway": {500, 503},
}
"""Whose fault → what it is answered with. A provider's 401 is none of these: it becomes 502."""
LIMITED = {"requests", "tokens", "insufficient_quota"}
"""OpenAI's types of a 429."""


def test_error_types_are_told_apart() -> None:
    names = [kind.error_type for kind in ALL_KINDS]
    assert len(names) == len(set(names)) > 20


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.error_type)
def test_first_word_says_whose_fault_it_was(kind: Kind) -> None:
    assert kind.status in STATUSES[kind.error_type.partition("_")[0]]


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.error_type)
def test_every_kind_is_one_clear_sentence_or_two_and_its_headers_are_plain(kind: Kind) -> None:
    assert kind.message[0].isupper()
    assert kind.message.endswith(".")
    assert kind.type.endswith("_error") or kind.type in LIMITED
    for name, value in kind.headers:
        assert name == name.lower()
        assert "\r" not in name + value
        assert "\n" not in name + value


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind.status in (502, 504)])
def test_answer_that_exhausted_its_targets_is_not_retried_by_sdks(kind: Kind) -> None:
    assert ("x-should-retry", "false") in kind.headers


def test_overload_says_when_to_come_back() -> None:
    assert ("retry-after", "1") in OVERLOADED.headers


def test_error_takes_what_it_is_not_given_from_its_kind() -> None:
    plain = GatewayError(UNAUTHORIZED)
    assert (plain.message, plain.param, plain.details) == (UNAUTHORIZED.message, None, None)
    assert plain.extra_headers == (("www-authenticate", "Bearer"),)
    full = GatewayError(
        UPSTREAM_TIMEOUT, "Too late.", param="n", headers=(("x-a", "1"),), details={"inner": 1}
    )
    assert (full.message, full.param, full.details) == ("Too late.", "n", {"inner": 1})
    assert full.extra_headers == (("x-should-retry", "false"), ("x-a", "1"))


def test_text_of_an_error_is_its_type_alone() -> None:
    # What is logged by accident is `str(error)`: it must hold nothing a caller or a provider wrote.
    assert str(GatewayError(UPSTREAM_TIMEOUT, "sk-secret", details={"a": "sk-secret"})) == "provider_timeout"


def test_policy_files_may_name_every_fallback_reason_and_no_other() -> None:
    assert set(get_args(Reason)) == set(FALLBACK_REASONS)


def test_details_of_one_provider_error_are_not_those_of_another() -> None:
    one, two = ProviderError(500, ""), ProviderError(500, "")
    one.details["a"] = 1
    assert two.details == {}

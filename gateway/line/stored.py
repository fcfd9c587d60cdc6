"""Stored answers that a call names: where they are, and that they are its team's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from gateway.errors import OBJECT_UNKNOWN, GatewayError
from gateway.line.exchange import Exchange
from gateway.policy.decide import Decision
from gateway.policy.snapshot import Key, Model, Passage, ProviderKey, Target
from gateway.wire.dialect import RESPONSES
from gateway.wire.dialects.openai_families import Passing
from gateway.wire.stored_id import Account


class Pinned(NamedTuple):
    """The one place where a call may go."""

    model: Model
    target: Target
    key: ProviderKey | None
    """The provider's; None if it has none."""
    account: Account
    made: str
    """The provider's id of what the call names."""


def keep_to(exchange: Exchange, decision: Decision, handed: str) -> Decision:
    """The decision for a call that follows a stored answer: there and nowhere else. Raises `GatewayError`
    (404) if that is not the team's, or none of the model's targets has it."""
    model = decision.model
    assert model is not None
    pinned = exchange.pinned = _find(exchange.admission.key, [model], handed, "previous_response_id")
    return replace(decision, targets=(pinned.target,))


def passage_to(key: Key, passing: Passing) -> tuple[Passage, Pinned]:
    """Where a call goes that asks for a stored answer, or about it. Raises `GatewayError` (404)."""
    pinned = _find(key, key.models.values(), passing.ids[0], None)
    return Passage(passing.family, pinned.model, pinned.target, nanousd_per_call=0), pinned


def _find(key: Key, models: Iterable[Model], handed: str, param: str | None) -> Pinned:
    for model in models:
        for target in model.targets:
            if target.provider.spoken_by(RESPONSES) is not RESPONSES:
                continue
            for own in target.provider.keys or (None,):
                account = Account(target.name, "" if own is None else own.secret, key.team)
                made = account.made_by_provider(handed)
                if made is not None:
                    return Pinned(model, target, own, account, made)
    raise GatewayError(OBJECT_UNKNOWN, param=param)

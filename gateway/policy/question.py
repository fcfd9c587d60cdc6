"""A question in the words of people → `policy.explain`'s question and what is known, under one policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from gateway.money import NANO_PER_USD
from gateway.policy.explain import Question
from gateway.policy.merge import validated
from gateway.policy.problem import did_you_mean
from gateway.policy.question_spec import QuestionSpec, StateSpec, amount_of
from gateway.policy.snapshot import Key, Snapshot
from gateway.quota.contract import Balance
from gateway.quota.level import Levels
from gateway.quota.ratio import START
from gateway.wire.dialect import CHAT, COMPLETIONS, SPOKEN, Dialect
from gateway.wire.dialects.openai_chat import Call, read_call
from gateway.wire.json import dumps
from gateway.wire.speech import read_own

INPUT_TOKENS = 1_000
"""Of a call of which nobody says how long its input is."""


def asked(document: Mapping[str, Any]) -> QuestionSpec:
    """A question as JSON has it. Raises `PolicyError` with all that is wrong with it."""
    return validated(QuestionSpec, dict(document), None, (), {})


class BadQuestion(Exception):
    """What is asked about is not there, or cannot be. `path`: which part of the question it is."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


def question_of(spec: QuestionSpec, snapshot: Snapshot) -> Question:
    """The call that a question is about. Raises `BadQuestion`, and `GatewayError` (400) for a body that the
    line would refuse before it decides anything."""
    caller, dialect = _caller(spec, snapshot), _dialect(spec)
    call, tokens = _call(spec, dialect), spec.input_tokens
    assumed: tuple[str, ...] = ()
    if spec.body is None and tokens is None:
        tokens, assumed = INPUT_TOKENS, (f"{INPUT_TOKENS:,} input tokens",)
    if tokens is not None:
        call = replace(call, size=_bytes(tokens))
    return Question(caller, call, dialect, spec.tags, spec.draw, spec.turn, assumed)


def _call(spec: QuestionSpec, dialect: Dialect) -> Call:
    if spec.body is not None:
        body = dumps(spec.body)
        speaks_all = dialect.speaks_all
        return read_call(spec.endpoint, body, spec.model) if speaks_all else read_own(dialect, body)
    if dialect not in (CHAT, COMPLETIONS):
        raise BadQuestion(("dialect",), "needs the body of the call")
    content = {"chat": "messages", "embeddings": "input", "completions": "prompt"}[spec.endpoint]
    fields: dict[str, Any] = {
        "model": spec.model,
        content: [{"role": "user", "content": ""}] if content == "messages" else "",
        "stream": spec.stream or None,
        "max_tokens": spec.max_tokens,
        "metadata": spec.metadata or None,
        "user": spec.user,
    }
    said = {name: value for name, value in fields.items() if value is not None}
    return read_call(spec.endpoint, dumps(said))


def levels_of(state: StateSpec, snapshot: Snapshot, now_ms: int, balances: Iterable[Balance] = ()) -> Levels:
    """What limits and budgets have left. `now_ms` if the state names no time. Raises `BadQuestion`."""
    used: dict[str, int | float] = {}
    known = {rule.name: rule for rule in snapshot.rules} | {rule.policy_name: rule for rule in snapshot.rules}
    for name, amount in state.used.items():
        rule = known.get(name)
        if rule is None:
            raise BadQuestion(
                ("used", name), f"there is no limit or budget {name!r}{did_you_mean(name, known)}"
            )
        if isinstance(amount, str):
            unit = NANO_PER_USD if rule.is_money else 1
            used[name] = amount_of(amount, unit) or 0
        else:
            used[name] = amount
    at_ms = now_ms if state.at is None else int(state.at.timestamp() * 1000)
    return Levels(at_ms, balances, used)


def down_of(state: StateSpec, snapshot: Snapshot) -> dict[int, int]:
    """Rows of targets that are out (0) or on trial (1). Raises `BadQuestion`."""
    rows = {target.name: target.row for model in snapshot.models.values() for target in model.targets}
    found: dict[int, int] = {}
    for field, verdict in (("down", 0), ("trial", 1)):
        for number, name in enumerate(getattr(state, field) or ()):
            if name not in rows:
                message = f"there is no target {name!r}{did_you_mean(name, rows)}"
                raise BadQuestion((field, number), message)
            found[rows[name]] = verdict
    return found


def _caller(spec: QuestionSpec, snapshot: Snapshot) -> Key:
    keys = snapshot.keys
    if spec.sha256 is not None:
        found = keys.get(bytes.fromhex(spec.sha256))
        if found is None:
            raise BadQuestion(("sha256",), "no key of the policy has this text: a call with it gets 401")
        return found
    by_name = {key.name: key for key in keys.values()}
    if spec.key is not None:
        if spec.key not in by_name:
            message = f"there is no key {spec.key!r}{did_you_mean(spec.key, by_name)}"
            raise BadQuestion(("key",), message)
        return by_name[spec.key]
    of_team = [key for key in keys.values() if key.team == spec.team]
    if not of_team:
        teams = {key.team for key in keys.values()}
        hint = did_you_mean(str(spec.team), teams)
        raise BadQuestion(("team",), f"there is no team {spec.team!r} with a key{hint}")
    return of_team[0]


def _dialect(spec: QuestionSpec) -> Dialect:
    if spec.dialect not in SPOKEN or spec.dialect in ("azure", "simulated"):
        raise BadQuestion(("dialect",), "must be openai, anthropic or responses")
    if spec.endpoint == "completions":
        return COMPLETIONS
    return SPOKEN[spec.dialect]


def _bytes(tokens: int) -> int:
    """Of a body with so many tokens, as they are estimated where nothing was learned."""
    return int(tokens * START)

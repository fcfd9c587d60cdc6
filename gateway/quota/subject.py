"""Which buckets of a rule a call is counted in: one subject, several (a bucket per tag), or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import product
from typing import Protocol

from gateway.policy.match import Matchable
from gateway.quota.rule import Rule

ALL = "all"
"""The subject of rules that have one bucket."""
OTHER = "_other"
"""Stands for the users and tags beyond `Rule.max_subjects`."""
MAX_BYTES = 64
"""Of a tag or user as it stands in a bucket's name; `MAX_TARGET_BYTES` of a target."""
MAX_TARGET_BYTES = 192

_SEPARATORS = frozenset("|#,")
"""What the names of buckets and accounts are put together with."""


class Caller(Matchable, Protocol):
    """What a subject is made of; `policy.decide.Facts` is one."""


def user_of(document: Mapping[str, object]) -> str | None:
    """The user that a caller names in its request: OpenAI's `user`, else its successor `safety_identifier`.
    None if it names none."""
    for field in ("user", "safety_identifier"):
        value = document.get(field)
        if type(value) is str and value:
            return value
    return None


def subjects(rule: Rule, facts: Caller, model: str, target: str, user: str | None) -> tuple[str, ...]:
    """The subjects of a rule that a call is counted under; empty: the rule is not for it.

    `model` is the one that is used, after routes; `target` is `provider/model`, "" where calls are counted.
    A rule per user (or tag) is not for calls without one. With `per: tag` each tag has a bucket; if the match
    names tags, those only.
    """
    if rule.match is not None and rule.match.misses(facts, model, target):
        return ()
    if not rule.per:
        return (ALL,)
    parts: list[Sequence[str]] = []
    for what in rule.per:
        if what == "tag":
            parts.append([f"tag={plain(tag)}" for tag in _tags(rule, facts)])
        elif what == "user":
            parts.append([] if not user else [f"user={plain(user)}"])
        elif what == "target":
            parts.append([f"target={plain(target, MAX_TARGET_BYTES)}"])
        elif what == "model":
            parts.append([f"model={model}"])
        elif what == "team":
            parts.append([f"team={facts.team}"])
        else:
            parts.append([f"key={facts.key}"])
    return tuple(map(",".join, product(*parts)))


def subject(rule: Rule, facts: Caller, model: str, target: str, user: str | None) -> str | None:
    """The one subject of a rule that is not per tag; None: the rule is not for this call."""
    found = subjects(rule, facts, model, target, user)
    return found[0] if found else None


def plain(text: str, max_bytes: int = MAX_BYTES) -> str:
    """A text of a caller's as part of a bucket's name: itself, or `~` and 32 hexadecimal digits of its
    BLAKE2b where it is long, not printable, or could be taken for another name."""
    short = len(text) <= max_bytes and text.isprintable() and len(text.encode()) <= max_bytes
    if short and _SEPARATORS.isdisjoint(text) and text[:1] not in ("~", "_"):
        return text
    return "~" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _tags(rule: Rule, facts: Caller) -> Sequence[str]:
    """Each tag of a call once, that the rule looks at."""
    wanted = None if rule.match is None else rule.match.tag
    return list(dict.fromkeys(tag for tag in facts.tags if tag and (wanted is None or tag in wanted)))

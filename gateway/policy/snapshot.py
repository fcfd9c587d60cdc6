"""The compiled policy as a worker holds it: immutable, swapped by one assignment.

Built from the plain tables that control ships; needs no pydantic, no YAML, no price library.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cache
from typing import Any

from gateway.policy.match import Match
from gateway.pricing.price import Price
from gateway.quota.ratio import START
from gateway.quota.rule import Rule
from gateway.wire.conversation import Toward
from gateway.wire.dialect import RESPONSES, SPOKEN, Dialect

_NOBODY = Toward("")


@dataclass(frozen=True, slots=True, eq=False)
class ProviderKey:
    """One API key of a provider. `row` is its row in the target table (-1: none)."""

    name: str
    secret: str = field(repr=False)
    row: int


@dataclass(frozen=True, slots=True, eq=False)
class Provider:
    """Where a provider's API is and how it is spoken to."""

    name: str
    dialect: str
    scheme: str
    host: str
    port: int
    base_path: str
    api_version: str | None
    auth: str
    stream_options: bool
    """False for providers that send usage unasked and refuse `stream_options` (Mistral)."""
    cap_field: str
    """The field of a chat call that caps its output and that the provider heeds for sure."""
    keys: tuple[ProviderKey, ...]
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    ca_file: str | None
    client_cert: str | None
    client_key: str | None
    verify: bool
    proxy: str | None = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    """What it may know of ours and must not tell callers, the longest first."""
    otel_name: str
    max_connections: int
    idle_s: float
    speaks: Dialect
    """What it is spoken to in …"""
    own: Mapping[Dialect, Dialect]
    """… but for callers of these."""

    def spoken_by(self, caller: Dialect) -> Dialect:
        """What it is spoken to in for a caller of this dialect."""
        return self.own.get(caller, self.speaks)

    @property
    def authority(self) -> str:
        """The Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, eq=False)
class Timeouts:
    """Seconds. `first_token_s` and `stall_s` hold for streams only."""

    connect_s: float
    first_token_s: float
    stall_s: float
    total_s: float


@dataclass(frozen=True, slots=True, eq=False)
class HealthRule:
    """When a target is ejected and for how long at first."""

    failures: int
    eject_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A provider and the model it serves. `name` is `provider/model`; `row` as in `ProviderKey`."""

    name: str
    provider: Provider
    model: str
    weight: int
    match: Match | None
    price: Price | None
    row: int
    context: int | None = None
    """Tokens of its context window, as the policy says or as published; None if nobody does."""
    max_output: int | None = None
    """The most tokens of one answer, if the policy says so."""
    reasoning: bool = False
    bytes_per_token: float = START
    """Where estimates of its input start from."""
    toward: Toward = _NOBODY
    """What a request for it is written by."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A name that callers use."""

    name: str
    strategy: str
    targets: tuple[Target, ...]
    fallback_on: frozenset[str]
    retry_attempts: int
    retry_budget: float
    retry_uncertain: bool
    keep_alive_s: float
    """How often the caller of a stream hears that it waits for another attempt; 0: never."""
    timeouts: Timeouts
    health: HealthRule
    has_matches: bool
    """True if a target has a `match`, or does not take every kind of call: else the order needs no look at
    the call."""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """`routes:` of the policy: calls that match use another model than they named."""

    name: str
    match: Match
    use: Model


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """A family of OpenAI's API that goes to one provider unread. `model` and `target` stand for it where a
    call names no model of the policy's: they are called by the family."""

    family: str
    model: Model
    target: Target
    nanousd_per_call: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """A caller's key: what it may use, and which routes can ever match it."""

    name: str
    team: str
    expires_s: float | None
    models: Mapping[str, Model]
    routes: tuple[Route, ...]
    families: frozenset[str] = frozenset()
    """What of OpenAI's API may be passed through."""
    names: tuple[re.Pattern[str], ...] = ()
    rules: tuple[Rule, ...] = ()
    """The limits and budgets that can ever count its calls, in the order of `Snapshot.rules`."""

    def may_name(self, model: str) -> bool:
        """True if a call that is passed through may name this model: all patterns must hold."""
        return all(pattern.match(model) for pattern in self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Traces:
    """Which calls become traces: a share of them, and besides those that fail or take long (0.0: none)."""

    ratio: float
    parent_based: bool
    slow_s: float
    errors: bool
    content_keys: frozenset[str]
    """Names of the keys whose sampled calls are kept with what was asked and answered."""
    content_bytes: int

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Traces:
        """From `policy.compile`'s table."""
        content = table["content"]
        plain = {name: table[name] for name in ("ratio", "parent_based", "slow_s", "errors")}
        return cls(**plain, content_keys=frozenset(content["keys"]), content_bytes=content["max_bytes"])


@dataclass(frozen=True, slots=True)
class Watching:
    """Whose answers are looked at: `share` of those of `models`, `max_per_second` of all workers together.
    `headers` of providers go with them."""

    share: float
    max_per_second: float
    headers: tuple[str, ...]
    models: frozenset[str]

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Watching:
        """From `policy.drift_compile`'s table."""
        models = frozenset(table["models"])
        return cls(table["share"], table["max_per_second"], tuple(table["headers"]), models)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Everything the line looks up. `keys` is by the SHA-256 digest of the key's text."""

    hash: str
    keys: Mapping[bytes, Key]
    models: Mapping[str, Model]
    providers: tuple[Provider, ...]
    passages: Mapping[str, Passage] = field(default_factory=dict)
    """By family."""
    rules: tuple[Rule, ...] = ()
    """Limits and budgets, by `Rule.index`."""
    stamp: int = 0
    """Milliseconds since the epoch at which the policy was accepted."""
    traces: Traces | None = None
    """None: nobody takes any."""
    watching: Watching | None = None
    """None: no answers are looked at."""

    def key_of(self, token: bytes) -> Key | None:
        """The caller whose key this is. One hash and one lookup (0.3 µs), whatever the number of keys."""
        return self.keys.get(hashlib.sha256(token).digest())

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any]) -> Snapshot:
        """From `policy.compile`'s tables."""
        providers = tuple(_provider(row) for row in tables["providers"])
        models = [_model(row, providers) for row in tables["models"]]
        routes = tuple(
            Route(row["name"], Match.from_table(row["match"]), models[row["use"]]) for row in tables["routes"]
        )
        # Tables from before there were limits have none.
        rules = tuple(
            Rule.from_table(row, index, models) for index, row in enumerate(tables.get("rules") or ())
        )
        teams = [row["name"] for row in tables["teams"]]
        rules_of = [_rules_of_team(rules, team) for team in teams]
        keys = {
            bytes.fromhex(row["sha256"]): _key(
                row,
                teams[row["team"]],
                models,
                routes,
                () if row.get("apart") else _rules_of_key(rules_of[row["team"]], row["name"]),
            )
            for row in tables["keys"]
        }
        return cls(
            hash=tables["hash"],
            keys=keys,
            models={model.name: model for model in models},
            providers=providers,
            passages={row["family"]: _passage(row, providers) for row in tables["pass_through"]},
            rules=rules,
            stamp=tables.get("stamp", 0),
            traces=Traces.from_table(tables["traces"]) if tables.get("traces") else None,
            watching=Watching.from_table(tables["drift"]) if tables.get("drift") else None,
        )


def _provider(row: Mapping[str, Any]) -> Provider:
    keys = tuple(ProviderKey(key["name"], key["secret"], key["row"]) for key in row["keys"])
    made = ("keys", "headers", "secrets", "speaks", "own")
    plain = {name: row[name] for name in Provider.__slots__ if name not in made}
    return Provider(
        **plain,
        keys=keys,
        headers=tuple(row["headers"].items()),
        secrets=tuple(row["secrets"]),
        speaks=SPOKEN[row["dialect"]],
        # Tables from before there was the Responses API do not say.
        own={RESPONSES: RESPONSES} if row.get("responses") else {},
    )


def _model(row: Mapping[str, Any], providers: tuple[Provider, ...]) -> Model:
    targets = tuple(
        Target(
            name=target["name"],
            provider=providers[target["provider"]],
            model=target["model"],
            weight=target["weight"],
            match=None if target["match"] is None else Match.from_table(target["match"]),
            price=None if target["price"] is None else Price.from_table(target["price"]),
            row=target["row"],
            context=target.get("context"),
            max_output=target.get("max_output"),
            reasoning=target.get("reasoning", False),
            bytes_per_token=target.get("bytes_per_token", START),
            toward=_toward(target, providers[target["provider"]], drops=row.get("drops_unsupported", False)),
        )
        for target in row["targets"]
    )
    return Model(
        name=row["name"],
        strategy=row["strategy"],
        targets=targets,
        fallback_on=frozenset(row["fallback_on"]),
        retry_attempts=row["retries"]["attempts"],
        retry_budget=row["retries"]["budget"],
        retry_uncertain=row["retries"]["uncertain"],
        keep_alive_s=row["keep_alive_s"],
        timeouts=Timeouts(**row["timeouts"]),
        health=HealthRule(row["health"]["failures"], int(row["health"]["eject_s"] * 1000)),
        has_matches=any(
            target.match is not None or not target.provider.speaks.speaks_all for target in targets
        ),
    )


def _toward(target: Mapping[str, Any], provider: Provider, *, drops: bool) -> Toward:
    return Toward(
        target["model"],
        max_output=target.get("max_output"),
        cap_field=provider.cap_field,
        asks_usage=provider.stream_options,
        reasons=target.get("reasoning", False),
        drops=drops,
    )


def _key(
    row: Mapping[str, Any],
    team: str,
    models: list[Model],
    routes: tuple[Route, ...],
    rules: tuple[Rule, ...],
) -> Key:
    return Key(
        name=row["name"],
        team=team,
        expires_s=row["expires"],
        models={models[index].name: models[index] for index in row["models"]},
        routes=()
        if row.get("apart")
        else tuple(route for route in routes if route.match.may_hold_for(team=team, key=row["name"])),
        families=frozenset(row["pass_through"]),
        names=tuple(_any_of(tuple(patterns)) for patterns in row["names"]) if row["pass_through"] else (),
        rules=rules,
    )


def _rules_of_team(rules: tuple[Rule, ...], team: str) -> tuple[tuple[Rule, ...], dict[str, list[Rule]]]:
    """The rules for every key of a team, and those for some keys by the keys' names."""
    shared, by_key = [], defaultdict(list)
    for rule in rules:
        if rule.match is not None and rule.match.team is not None and team not in rule.match.team:
            continue
        if rule.match is None or rule.match.key is None:
            shared.append(rule)
        else:
            for key in rule.match.key:
                by_key[key].append(rule)
    return tuple(shared), by_key


def _rules_of_key(of_team: tuple[tuple[Rule, ...], dict[str, list[Rule]]], key: str) -> tuple[Rule, ...]:
    # Most keys of a team have the same: one tuple for all of them.
    shared, by_key = of_team
    own = by_key.get(key)
    return shared if own is None else tuple(sorted((*shared, *own), key=lambda rule: rule.index))


@cache
def _any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    # Thousands of keys share a few lists; compiling one costs 0.1 ms.
    return re.compile("|".join(map(translate, globs)) or r"(?!)")


def _passage(row: Mapping[str, Any], providers: tuple[Provider, ...]) -> Passage:
    family, provider = row["family"], providers[row["provider"]]
    target = Target(f"{provider.name}/{family}", provider, family, 1, None, None, -1)
    model = Model(
        name=family,
        strategy="priority",
        targets=(target,),
        fallback_on=frozenset(),
        retry_attempts=0,
        retry_budget=0.0,
        retry_uncertain=False,
        keep_alive_s=0.0,
        timeouts=Timeouts(**row["timeouts"]),
        health=HealthRule(1, 0),
        has_matches=False,
    )
    return Passage(family, model, target, row["nanousd_per_call"])

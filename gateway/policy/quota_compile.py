"""Limits and budgets of a policy → rules, one for each thing that is counted; the store and the alerts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from gateway.money import NANO_PER_USD
from gateway.policy.merge import Policy
from gateway.policy.parts import MatchSpec, SecretRef
from gateway.policy.problem import NOT_READ, Problem, SecretError, did_you_mean, dotted
from gateway.policy.provider_row import url_mistake
from gateway.policy.quota_spec import (
    BudgetSpec,
    LimitSpec,
    RuleMatchSpec,
    RuleSpec,
    TargetLimitsSpec,
)
from gateway.quota.contract import MONEY, RATE, ROLLING, SLOTS

MINUTE_MS = 60_000
PER_IN_ORDER = ("key", "team", "model", "target", "tag", "user")
"""In the names of buckets, so that `per: [user, key]` is `per: [key, user]`."""
SHOWN_TARGETS = 5

_REDIS = re.compile(r"(redis|rediss)(\+sentinel|\+cluster)?://(?P<hosts>[^/?#\s]+)(/[^?#\s]*)?(\?[^#\s]*)?")
_UNIX = re.compile(r"unix://[^?#\s]+(\?[^#\s]*)?")

Path = tuple[str | int, ...]


class QuotaCompiler:
    """Compiles rules; mistakes and warnings go to the lists it was given.

    `tables` are the compiled models, keys and pass-throughs; `match_of` compiles a match at its path.
    """

    def __init__(
        self,
        policy: Policy,
        problems: list[Problem],
        warnings: list[Problem],
        secret_of: Callable[[SecretRef], str],
        match_of: Callable[[Path, MatchSpec], dict[str, Any]],
        tables: Mapping[str, Any],
    ) -> None:
        self._policy = policy
        self._spec = policy.spec
        self._problems = problems
        self._warnings = warnings
        self._secret_of = secret_of
        self._match_of = match_of
        self._models: list[Mapping[str, Any]] = tables["models"]
        self._keys: list[Mapping[str, Any]] = tables["keys"]
        self._providers: list[Mapping[str, Any]] = tables["providers"]
        self._passages: list[Mapping[str, Any]] = tables["pass_through"]
        self._index = {model["name"]: index for index, model in enumerate(self._models)}
        self._teams = list(self._spec.teams)
        self._targets = {
            f"{target.provider}/{target.model}"
            for model in self._spec.models.values()
            for target in model.targets
        } | {f"{passage.provider}/{family}" for family, passage in self._spec.pass_through.items()}
        self._names: set[str] = set()

    def rules(self) -> list[dict[str, Any]]:
        """The rules of limits, then of budgets, then of targets' own limits."""
        found: list[dict[str, Any]] = []
        for number, limit in enumerate(self._spec.limits):
            found += self._named(("limits", number), limit, self._limit(("limits", number), limit))
        for number, budget in enumerate(self._spec.budgets):
            found += self._named(("budgets", number), budget, [self._budget(("budgets", number), budget)])
        return found + list(self._target_limits())

    def store(self) -> dict[str, Any]:
        """Where buckets are kept: {"redis": URL (it may hold a password) or None, "accept_lossy": bool}."""
        spec, path = self._spec.store, ("store", "redis")
        url = self.secret(path, spec.redis)
        if url is not None and url != NOT_READ:
            message = _redis_mistake(url, credentials=isinstance(spec.redis, SecretRef))
            if message:
                self._say(path, message)
        elif url is None and spec.accept_lossy_store:
            self._warn(("store", "accept_lossy_store"), "has an effect only with redis")
        return {"redis": url, "accept_lossy": spec.accept_lossy_store}

    def alerts(self) -> dict[str, Any] | None:
        """Who is told of budgets that run out: {"webhook": URL, "secret": text or None}."""
        spec = self._spec.alerts
        if spec is None:
            return None
        url, is_ref = self.secret(("alerts", "webhook"), spec.webhook), isinstance(spec.webhook, SecretRef)
        message = "" if url in (None, NOT_READ) else url_mistake(str(url), credentials=is_ref, query=is_ref)
        if message:
            self._say(("alerts", "webhook"), message)
        if not any(budget.alert_at for budget in self._spec.budgets) and not self._spec.watches_drift():
            self._warn(("alerts",), "is never used: no budget has alert_at, and drift is not watched")
        return {"webhook": url, "secret": self.secret(("alerts", "secret"), spec.secret)}

    def _say(self, path: Sequence[str | int], message: str) -> None:
        self._problems.append(self._policy.problem(path, message))

    def _warn(self, path: Sequence[str | int], message: str) -> None:
        self._warnings.append(self._policy.problem(path, message))

    def secret(self, path: Sequence[str | int], value: str | SecretRef | None) -> str | None:
        """The text that is meant; NOT_READ, and a problem, if it cannot be read."""
        if not isinstance(value, SecretRef):
            return value
        try:
            return self._secret_of(value)
        except SecretError as exc:
            self._say(path, str(exc))
            return None

    def _named(self, path: Path, spec: RuleSpec, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # A limit `a` makes `a.requests`, which a budget may be called too.
        names = {spec.name, *(rule["name"] for rule in rules)}
        if taken := names & self._names:
            self._say((*path, "name"), f"there are two limits or budgets called {min(taken, key=len)!r}")
        self._names |= names
        return rules

    def _limit(self, path: Path, spec: LimitSpec) -> list[dict[str, Any]]:
        if spec.strict and not any(rate != "requests" for rate in spec.rates):
            self._warn((*path, "strict"), "has an effect only on tokens")
        common = {
            **self._common(path, spec),
            "strict": spec.strict,
            "store_down": spec.when_store_down or "share",
        }
        return list(self._measures(path, spec, spec.name, common))

    def _budget(self, path: Path, spec: BudgetSpec) -> dict[str, Any]:
        if spec.rolling is not None and "timezone" in spec.model_fields_set:
            self._warn((*path, "timezone"), "has an effect only with every")
        if spec.alert_at and self._spec.alerts is None:
            self._warn((*path, "alert_at"), "tells nobody, since there is no alerts.webhook")
        if spec.mode == "enforce" and spec.unpriced == "refuse":
            self._check_prices(path, spec)
        nanousd = int(spec.usd * NANO_PER_USD)
        return {
            **_DEFAULTS,
            **self._common(path, spec),
            "name": spec.name,
            "measure": "usd",
            "kind": MONEY if spec.rolling is None else ROLLING,
            "limit": nanousd,
            "burst": nanousd,
            "window_ms": spec.rolling or 0,
            "every": spec.every or "",
            "timezone": spec.timezone,
            "strict": spec.exactness == "strict",
            "store_down": spec.when_store_down or "closed",
            "default_output_tokens": spec.default_output_tokens,
            "unbounded": spec.unbounded,
            "unpriced": spec.unpriced,
            "use": self._use(path, spec),
            "alert_at": sorted(set(spec.alert_at)),
        }

    def _common(self, path: Path, spec: RuleSpec) -> dict[str, Any]:
        match = self._match_of((*path, "match"), spec.match)
        self._check_match((*path, "match"), spec.match)
        return {
            "policy_name": spec.name,
            "per": [what for what in PER_IN_ORDER if what in spec.per],
            "match": match,
            "mode": spec.mode,
            "max_subjects": spec.max_subjects,
            "attempts": spec.match.target is not None or "target" in spec.per,
        }

    def _measures(
        self, path: Path, spec: TargetLimitsSpec, name: str, common: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """A rule for each rate, and one for calls at once."""
        for rate, (amount, window_ms) in spec.rates.items():
            yield {
                **_DEFAULTS,
                **common,
                "name": f"{name}.{rate}",
                "measure": rate,
                "kind": RATE,
                "limit": amount,
                "burst": getattr(spec.burst, rate) or default_burst(rate, amount, window_ms),
                "window_ms": window_ms,
            }
        for rate in spec.burst.model_fields_set - set(spec.rates):
            self._say((*path, "burst", rate), f"is the burst of {rate}, which this limit does not have")
        if spec.concurrent is not None:
            yield {
                **_DEFAULTS,
                **common,
                "name": f"{name}.concurrent",
                "measure": "concurrent",
                "kind": SLOTS,
                "limit": spec.concurrent,
                "burst": spec.concurrent,
            }

    def _target_limits(self) -> Iterator[dict[str, Any]]:
        served = {target["name"] for model in self._models for target in model["targets"]}
        first: dict[str, tuple[Path, TargetLimitsSpec]] = {}
        for model, model_spec in self._spec.models.items():
            for number, target in enumerate(model_spec.targets):
                path: Path = ("models", model, "targets", number, "limits")
                name = f"{target.provider}/{target.model}"
                if target.limits is None:
                    continue
                if name in first:
                    where, same = first[name]
                    if same != target.limits:
                        self._say(path, f"differs from {dotted(where)}, which is of the same target")
                    continue
                first[name] = path, target.limits
                if not target.limits.rates and target.limits.concurrent is None:
                    self._say(path, "limits nothing")
                rules = list(
                    self._measures(path, target.limits, f"target.{_escaped(name)}", _of_target(name))
                )
                if name in served:
                    yield from rules

    def _use(self, path: Path, spec: BudgetSpec) -> int | None:
        use, place = spec.when_spent.use, (*path, "when_spent", "use")
        if use is None:
            return None
        if use not in self._spec.models:
            self._say(place, f"there is no model {use!r}{did_you_mean(use, self._spec.models)}")
        elif use not in self._index:
            self._warn(place, f"has no effect, since the model {use!r} is left out")
        elif "model" not in spec.per and spec.match.target is None and _is_any(use, spec.match.model):
            self._warn(place, f"has no effect, since {use!r} counts towards this budget too; see match.model")
        return self._index.get(use)

    def _check_match(self, path: Path, match: RuleMatchSpec) -> None:
        for field, known in (
            ("model", {*self._spec.models, *self._spec.pass_through}),
            ("target", self._targets),
        ):
            for number, pattern in enumerate(getattr(match, field) or ()):
                if not any(fnmatchcase(name, pattern) for name in known):
                    hint = did_you_mean(pattern, known)
                    self._warn((*path, field, number), f"{pattern!r} is the name of no {field}{hint}")
        named = all(name in self._spec.teams for name in match.team or ())
        if self._keys and named and not self._keys_of(match):
            self._warn(path, "is for no key")

    def _keys_of(self, match: MatchSpec) -> list[Mapping[str, Any]]:
        return [
            key
            for key in self._keys
            if (match.team is None or self._teams[key["team"]] in match.team)
            and (match.key is None or key["name"] in match.key)
        ]

    def _check_prices(self, path: Path, spec: BudgetSpec) -> None:
        """Warns of targets that a budget closes, since nobody knows what they cost."""
        keys = self._keys_of(spec.match)
        open_models = {index for key in keys for index in key["models"]}
        open_families = {family for key in keys for family in key["pass_through"]}
        unpriced = {
            target["name"]
            for index, model in enumerate(self._models)
            if index in open_models and _is_any(model["name"], spec.match.model)
            for target in model["targets"]
            if target["price"] is None
        } | {
            f"{self._providers[passage['provider']]['name']}/{passage['family']}"
            for passage in self._passages
            if passage["family"] in open_families and _is_any(passage["family"], spec.match.model)
            if passage["nanousd_per_call"] is None
        }
        names = sorted(name for name in unpriced if _is_any(name, spec.match.target))
        if names:
            more = len(names) - SHOWN_TARGETS
            listed = ", ".join(names[:SHOWN_TARGETS]) + (f" and {more} more" if more > 0 else "")
            self._warn(
                (*path, "unpriced"),
                f"calls to {listed} are refused under this budget, since they have no price; "
                "give them one, or say unpriced: allow",
            )


_DEFAULTS: Mapping[str, Any] = {
    "window_ms": 0,
    "every": "",
    "timezone": "UTC",
    "strict": False,
    "default_output_tokens": 4_096,
    "unbounded": "hold",
    "unpriced": "allow",
    "use": None,
    "alert_at": [],
}


def default_burst(rate: str, amount: int, window_ms: int) -> int:
    """What may come at once if a policy does not say: a tenth of the limit; of tokens, what a minute brings
    if that is more, since one call needs thousands of them at a moment."""
    tenth = max(1, amount // 10)
    return tenth if rate == "requests" else max(tenth, amount * MINUTE_MS // window_ms)


def _of_target(name: str) -> dict[str, Any]:
    """What the rules of a target's own limits have in common."""
    literally = re.sub(r"([*?[])", r"[\1]", name)
    return {
        "policy_name": name,
        "per": ["target"],
        "match": RuleMatchSpec(target=[literally]).model_dump(mode="json"),
        "mode": "enforce",
        "store_down": "share",
        "max_subjects": 1,
        "attempts": True,
    }


def _escaped(name: str) -> str:
    """A target's name without the characters that part the names of buckets."""
    return name.replace("%", "%25").replace("|", "%7C").replace("#", "%23")


def _is_any(name: str, globs: Sequence[str] | None) -> bool:
    return globs is None or any(fnmatchcase(name, glob) for glob in globs)


def _redis_mistake(text: str, *, credentials: bool) -> str:
    """What is wrong with the URL of a Redis, "" if nothing. Never repeats any of it."""
    match = _REDIS.fullmatch(text)
    if match is None and not _UNIX.fullmatch(text):
        return "must be a URL like redis://host:6379/0, rediss://host:6379/0 or unix:///path/to/socket"
    if not credentials and ("@" in text or "password=" in urlsplit(text).query):
        return "must not hold a user or password; write {env: NAME} or {file: /path}"
    hosts = match["hosts"].rpartition("@")[2].split(",") if match else []
    if not all(re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?", host) for host in hosts):
        return "has a host or port that cannot exist"
    return ""

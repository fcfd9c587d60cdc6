"""One rule as compiled: what it counts, for whom, and how much there may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.policy.match import Match
from gateway.quota.contract import MONEY, RATE, ROLLING, Terms

if TYPE_CHECKING:
    from gateway.policy.snapshot import Model

_CHANGES = frozenset({"tag", "user"})
"""What `per` may name and a call brings along."""


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A limit's measure, or a budget. Several rules can come of one entry of a policy file."""

    name: str
    """Begins its buckets' names: `search-rate.tokens`, `search-month`, `target.openai/gpt-4o.tokens`."""
    policy_name: str
    """The name in the policy file; of a target's own limits `provider/model`."""
    index: int
    """Its place in `Snapshot.rules`."""
    measure: str
    """requests, tokens, input_tokens, output_tokens, concurrent or usd."""
    kind: str
    """money, rolling, rate or slots (`quota.contract`)."""
    limit: int
    """Requests or tokens per `window_ms`, calls at once, or nano-dollars per window."""
    burst: int
    """Rates: the most there may be at a moment. Others: the limit."""
    window_ms: int
    """Rates and rolling windows; 0 for others."""
    every: str
    """Calendar windows: hour, day, week or month; "" for others."""
    timezone: str
    per: tuple[str, ...]
    """What a bucket is for: key, team, model, target, tag, user, in this order in its name. Empty: all."""
    match: Match | None
    """Which calls it is for; None: all."""
    mode: str
    """enforce or shadow."""
    strict: bool
    """The worst case is held, not an estimate."""
    store_down: str
    """closed, open or share: what happens while the store cannot be asked."""
    default_output_tokens: int
    unbounded: str
    """hold or refuse: input that nothing bounds."""
    unpriced: str
    """refuse or allow: calls whose price is not known."""
    use: Model | None
    """The model that answers when nothing is left; None: calls are refused."""
    alert_at: tuple[float, ...]
    """Shares of the limit, ascending."""
    max_subjects: int
    """Users or tags that are told apart in a window."""
    attempts: bool
    """True: attempts are counted, since the rule looks at the target. False: calls."""
    is_static: bool
    """True: the subject depends on nothing but the key, the model and the target."""

    @classmethod
    def from_table(cls, table: Mapping[str, Any], index: int, models: Sequence[Model]) -> Rule:
        """From the compiled policy."""
        match = Match.from_table(table["match"])
        plain = {name: table[name] for name in cls.__slots__ if name in table}
        return cls(
            **{
                **plain,
                "index": index,
                "per": tuple(table["per"]),
                "match": None if match == Match() else match,
                "use": None if table["use"] is None else models[table["use"]],
                "alert_at": tuple(table["alert_at"]),
                "is_static": match.is_static and _CHANGES.isdisjoint(table["per"]),
            }
        )

    @property
    def is_money(self) -> bool:
        """True for budgets."""
        return self.kind in (MONEY, ROLLING)

    @property
    def is_shadow(self) -> bool:
        """True if it refuses nothing."""
        return self.mode == "shadow"

    def terms(self, stamp: int) -> Terms:
        """What its buckets begin with. `stamp`: milliseconds at which the policy was accepted."""
        window_ms = self.window_ms if self.kind in (RATE, ROLLING) else 0
        return Terms(self.kind, self.limit, self.burst, window_ms, self.is_shadow, stamp)

"""How a budget or limit stands for one subject: a bucket's balance, read with the rule it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.control.exposition import Sample
from gateway.money import NANO_PER_USD, usd_text
from gateway.quota import window
from gateway.quota.contract import MONEY, RATE, ROLLING
from gateway.quota.moment import iso
from gateway.quota.subject import ALL
from gateway.telemetry import table

USERS, TAGS, OTHER = "_users", "_tags", "_other"
"""Stand in metrics for what callers made up."""
MOST_SERIES = 5_000
"""Subjects of all budgets that metrics tell apart; the others are summed as `_other` of their budget."""

Table = Mapping[str, Any]
"""A compiled rule, a row of the policy's `rules`."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One bucket of a rule. Amounts are nano-dollars for budgets, else requests, tokens or calls."""

    rule: Table
    bucket: str
    subject: str
    spent: int
    held: int
    """The most that calls under way may still take."""
    idle: int
    """In workers' purses: to be had, but not counted as free."""
    free: int
    limit: int
    """As the bucket has it: a policy that was just changed may say another."""
    window: window.Window | None
    """Calendar windows; None for rolling ones and limits."""

    @property
    def topped_up(self) -> int:
        """Budgets: what was added to the window by hand (negative: taken away)."""
        return self.most - self.limit if self.rule["kind"] in (MONEY, ROLLING) else 0

    @property
    def most(self) -> int:
        """What there is in all: of a budget in the window, top-ups included; of a rate at a moment."""
        kind = self.rule["kind"]
        if kind in (MONEY, ROLLING):
            return self.spent + self.held + self.idle + self.free
        return int(self.rule["burst"]) if kind == RATE else self.limit

    @property
    def used_share(self) -> float:
        """Spent and held, of all there is; for display."""
        most = self.most
        taken = most - self.free - self.idle
        return round(taken / most, 4) if most > 0 else 1.0

    def is_current(self, now_ms: int) -> bool:
        """False for a window that has ended, or that the rule does not have any more."""
        if self.rule["kind"] != MONEY:
            return True
        return self.window is not None and self.window.starts_ms <= now_ms < self.window.ends_ms

    def as_json(self, now_ms: int) -> dict[str, Any]:
        """What the admin API says of it. Money as decimal text, in fields that end in `_usd`."""
        rule = self.rule
        row: dict[str, Any] = {
            "id": self.bucket,
            "name": rule["policy_name"],
            "rule": rule["name"],
            "kind": "limit",
            "measure": rule["measure"],
            "subject": self.subject,
            "mode": rule["mode"],
        }
        if rule["kind"] not in (MONEY, ROLLING):
            row |= {"limit": self.limit, "held": self.held, "idle": self.idle, "free": self.free}
            if rule["kind"] == RATE:
                row |= {"per_s": rule["window_ms"] / 1000, "burst": rule["burst"]}
            return {**row, "used_share": self.used_share}
        row["kind"] = "budget"
        for name in ("limit", "topped_up", "spent", "held", "idle", "free"):
            row[f"{name}_usd"] = usd_text(getattr(self, name))
        row |= {"used_share": self.used_share, "alert_at": list(rule["alert_at"])}
        if rule["kind"] == ROLLING:
            return {**row, "window": {"name": "rolling", "rolling_s": rule["window_ms"] // 1000}}
        named: dict[str, Any] = {"name": self.bucket.rpartition("|")[2]}
        if self.window is not None:
            named |= {"starts": iso(self.window.starts_ms), "ends": iso(self.window.ends_ms)}
        return {**row, "window": named | {"ended": not self.is_current(now_ms)}, "timezone": rule["timezone"]}


def standings(rules: Iterable[Table], balances: Iterable[Table], now_ms: int) -> Iterator[Standing]:
    """Every balance (a row of the keeper's "balances") of a rule in the policy, and for rules with one bucket
    that nobody has used yet a full one."""
    by_name = {rule["name"]: rule for rule in rules}
    windows: dict[tuple[str, str], window.Window | None] = {}
    unused = {name for name, rule in by_name.items() if not rule["per"]}
    for balance in balances:
        name, _, rest = balance["bucket"].partition("|")
        subject, _, called = rest.partition("|")
        rule = by_name.get(name)
        if rule is None or rule["kind"] != balance["terms"]["kind"]:
            continue
        if rule["kind"] == MONEY and (name, called) not in windows:
            windows[name, called] = window.named(called, rule["every"], rule["timezone"])
        standing = Standing(
            rule=rule,
            bucket=balance["bucket"],
            subject=subject,
            spent=balance["spent"],
            held=balance["held"],
            idle=balance["idle"],
            free=balance["free"],
            limit=balance["terms"]["limit"],
            window=windows.get((name, called)),
        )
        if standing.is_current(now_ms):
            unused.discard(name)
        yield standing
    for name in sorted(unused):
        yield _full(by_name[name], now_ms)


def _full(rule: Table, now_ms: int) -> Standing:
    """The bucket of a rule for all that was not made yet."""
    current = window.window(rule["every"], rule["timezone"], now_ms) if rule["kind"] == MONEY else None
    called = current.name if current is not None else "rolling" if rule["kind"] == ROLLING else ""
    most = rule["burst"] if rule["kind"] == RATE else rule["limit"]
    return Standing(rule, f"{rule['name']}|{ALL}|{called}", ALL, 0, 0, 0, most, rule["limit"], current)


def gauges(found: Iterable[Standing], now_ms: int) -> list[Sample]:
    """The metrics of budgets in their windows under way. Labels are names of the policy."""
    sums: dict[tuple[str, str], list[int]] = {}
    for each in found:
        if each.rule["kind"] not in (MONEY, ROLLING) or not each.is_current(now_ms):
            continue
        labels = each.rule["policy_name"], label_of(each.rule, each.subject)
        if labels not in sums and len(sums) >= MOST_SERIES:
            labels = labels[0], OTHER
        total = sums.setdefault(labels, [0, 0, 0])
        for place, amount in enumerate((each.most, each.held, each.spent)):
            total[place] += amount
    metrics = (table.BUDGET_LIMIT, table.BUDGET_HELD, table.BUDGET_SPENT)
    return [
        (metric, labels, amount / NANO_PER_USD)
        for labels, amounts in sorted(sums.items())
        for metric, amount in zip(metrics, amounts, strict=True)
    ]


def limit_gauges(found: Iterable[Standing]) -> list[Sample]:
    """How full limits are: of the buckets of one label the fullest."""
    shares: dict[tuple[str, str], float] = {}
    for each in found:
        if each.rule["kind"] in (MONEY, ROLLING):
            continue
        labels = each.rule["policy_name"], label_of(each.rule, each.subject)
        if labels not in shares and len(shares) >= MOST_SERIES:
            labels = labels[0], OTHER
        shares[labels] = max(shares.get(labels, 0.0), each.used_share)
    return [(table.LIMIT_USED, labels, share) for labels, share in sorted(shares.items())]


def window_gauges(rules: Iterable[Table], now_ms: int) -> list[Sample]:
    """From when to when the windows under way are."""
    samples: list[Sample] = []
    for rule in rules:
        if rule["kind"] == MONEY:
            current, name = window.window(rule["every"], rule["timezone"], now_ms), (rule["policy_name"],)
            samples.append((table.BUDGET_STARTS, name, current.starts_ms / 1000))
            samples.append((table.BUDGET_ENDS, name, current.ends_ms / 1000))
    return samples


def label_of(rule: Table, subject: str) -> str:
    """A subject in a metric: `team=search,user=x` → `search,_users`. Tags are shown where the rule's match
    names them."""
    return ",".join(_label(rule, part) for part in subject.split(","))


def _label(rule: Table, part: str) -> str:
    what, is_named, value = part.partition("=")
    if not is_named:
        return what
    if what == "user":
        return USERS
    if what == "tag" and value not in (rule["match"].get("tag") or ()):
        return TAGS
    return value


def is_of(subject: str, asked: str) -> bool:
    """Whether an operator who writes `asked` means a subject: `team=search`, or `search` alone."""
    return asked in (subject, subject.partition("=")[2] if "," not in subject else subject)


def by_bucket(found: Iterable[Standing]) -> Sequence[Standing]:
    """In the order of pages."""
    return sorted(found, key=lambda each: each.bucket)

"""What limits and budgets mean for a call: barred for what it is, refused, or sent to another model. The line
and whoever explains it ask here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import (
    BUDGET_HELD,
    BUDGET_SPENT,
    RATE_LIMITED,
    TOKENS_LIMITED,
    UNBOUNDED,
    UNMETERED,
    UNPRICED,
    Kind,
)
from gateway.pricing.price import UNLIMITED
from gateway.quota.bound import BACKGROUND, Bound
from gateway.quota.contract import Refusal
from gateway.quota.purse import Purse
from gateway.quota.rule import Rule

if TYPE_CHECKING:
    from gateway.policy.snapshot import Model
    from gateway.quota.need import Need
    from gateway.quota.plan import Plan


def barred(plan: Plan, need: Need, bound: Bound) -> Kind | None:
    """Why an attempt may not be made whatever is left: nobody knows its price (another target may have one),
    nobody would hear what it used, or nothing bounds its input (these two end the call). Only if `need.worst`
    is None or `bound.unbounded` says something."""
    if need.worst is None and plan.must_price:
        return UNPRICED
    if bound.unbounded == BACKGROUND and plan.writes_cap:
        return UNMETERED
    if bound.unbounded and plan.is_strict and (plan.refuses_unbounded or need.input >= UNLIMITED):
        return UNBOUNDED
    return None


def instead_of(rule: Rule, model: Model) -> Model | None:
    """The model that a rule without enough names instead of this one."""
    return rule.use if rule.is_money and rule.use is not model else None


def kind_of(purse: Purse, refusal: Refusal) -> Kind:
    """What a caller is told of a refusal by a bucket."""
    if purse.is_money:
        return BUDGET_HELD if refusal.is_held else BUDGET_SPENT
    return RATE_LIMITED if purse.has_slots or purse.at_once else TOKENS_LIMITED

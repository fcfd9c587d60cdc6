"""Limits and budgets on the line: what a call must have before its bytes leave.

One object is chosen when a policy comes into force: `Free` if it has no rules, else `Governed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.clock import monotonic_s, now_s
from gateway.errors import BUDGET_SPENT, STORE_UNAVAILABLE, UNBOUNDED, UNPRICED, GatewayError
from gateway.line.claim import Claim
from gateway.line.exchange import SUSPEND, DeadlinePassed, Exchange
from gateway.line.rates import rate_lines
from gateway.line.refused import TargetFull, refused
from gateway.line.teller import NEWS_S, REFUND_S, Teller
from gateway.policy.snapshot import Model, Passage, Snapshot, Target
from gateway.quota.bound import bound_input
from gateway.quota.contract import Refusal
from gateway.quota.hold import UNDECIDED, Hold, Seats
from gateway.quota.need import MOST_ASKS, Flat, Guess, Need
from gateway.quota.plan import UNCOUNTED, Plan, Planner
from gateway.quota.purse import Purse
from gateway.quota.purses import Purses
from gateway.quota.rule import Rule
from gateway.quota.share import Share
from gateway.quota.verdict import barred, instead_of
from gateway.telemetry.meters import Meters

ASK_S = 1.0
"""How long a call waits for the keeper: as long as a new one takes to start, or a disk to sync. The keeper
itself waits 100 ms for a store, and says when it is out; then nobody waits."""


_DEGRADED = b"x-headgate-degraded: store\r\n"


class UseInstead(Exception):
    """A budget is spent, and its policy names another model for that case."""

    def __init__(self, model: Model, budget: str) -> None:
        super().__init__(budget)
        self.model = model
        self.budget = budget


class Ledger:
    """What a worker tells the store, whatever the policy: its purses and usage rows."""

    __slots__ = ("guesses", "purses", "teller")

    def __init__(self, purses: Purses, teller: Teller) -> None:
        self.purses = purses
        self.teller = teller
        self.guesses: dict[str, Guess] = {}
        """By target."""

    def row(self, row: Sequence[Any]) -> None:
        """An attempt has ended."""
        self.purses.rows.add(row)
        self.teller.later(REFUND_S if self.purses.has_refunds else NEWS_S)


class Free:
    """A policy without limits."""

    __slots__ = ()

    def take(self, exchange: Exchange, model: Model, target: Target) -> Claim | None:
        """The claim of an attempt: nothing is held."""
        return Claim(target)

    async def ask(self, exchange: Exchange, model: Model, target: Target) -> Claim:
        """Never needed."""
        return Claim(target)

    async def claim_passing(self, exchange: Exchange, passage: Passage, nanousd: int | None) -> Claim:
        """The claim of a call that is passed through."""
        return Claim(passage.target)

    def finish(self, exchange: Exchange) -> None:
        """The call has ended."""
        claim, exchange.claim = exchange.claim, None
        if claim is not None:
            claim.used(exchange, 200, outcome_of(exchange))


class Governed:
    """A policy with limits or budgets."""

    __slots__ = ("_ledger", "_meters", "_planner", "_purses", "_short", "_teller")

    def __init__(self, snapshot: Snapshot, ledger: Ledger, meters: Meters) -> None:
        self._ledger = ledger
        self._purses = ledger.purses
        self._teller = ledger.teller
        self._meters = meters
        self._planner = Planner(ledger.purses, snapshot.stamp)
        self._short: tuple[Plan, Need | Flat | None] = (Plan((), 0), None)
        """Of the attempt whose `take` found too little, for its `ask`, which follows at once."""

    def take(self, exchange: Exchange, model: Model, target: Target) -> Claim | None:
        """The claim of an attempt, if the purses have all of it: no waiting, no I/O. None: `ask` for it.

        Raises `GatewayError` for what may not be sent at all, `TargetFull` if another target might be,
        `JournalFull` if this worker holds too much already.
        """
        key, call = exchange.key, exchange.call
        assert key is not None and call is not None
        plan = self._planner.known.get((key, model, target))
        if plan is None or now_s() * 1000 >= plan.until_ms:
            plan = self._planner.plan(key, model, target, exchange.facts, call.fields, int(now_s() * 1000))
        if not plan.first.all:
            # An earlier target had rules of its own.
            exchange.own_lines, exchange.tells_rates = b"", False
            return Claim(target, plan)
        need: Need | None = None
        amounts: Sequence[int] = UNCOUNTED
        if plan.is_measured:
            need = self._need(exchange, plan, target)
            amounts = need.amounts
        at_s = monotonic_s()
        seats = plan.attempts if exchange.is_counted else plan.first
        hold = self._purses.take(seats, amounts, at_s)
        if hold is None:
            self._short = plan, need
            self._meters.purse_missed()
            return None
        self._meters.purse_hit()
        if exchange.is_degraded:
            return self._claimed(exchange, target, plan, need, hold, at_s)
        # The same in short: nothing is shrunk here, nor let through without the store.
        exchange.own_lines = b""
        exchange.tells_rates = plan.tells_rates
        if plan.tells_rates:
            exchange.own_lines = (
                plan.told if at_s < plan.told_until_s else rate_lines(plan, self._purses, at_s)
            )
        if not exchange.is_counted:
            exchange.is_counted, exchange.slots = True, plan.kept
            hold.seats = plan.attempts
        return Claim(target, plan, need, hold)

    async def ask(self, exchange: Exchange, model: Model, target: Target) -> Claim:
        """The claim of an attempt for which the purses had too little. Raises what refuses it."""
        plan, need = self._short
        seats = self._seats(exchange, plan)
        for _ in range(MOST_ASKS):
            amounts = UNCOUNTED if need is None else need.amounts
            outcome: Hold | Refusal | None = self._purses.refusal(seats, amounts, monotonic_s())
            if outcome is None:
                if not self._teller.is_up:
                    return self._without_store(exchange, target, plan, need)
                outcome = await self._decide(exchange, seats, amounts)
            if outcome is None:
                self._teller.too_late()
                return self._without_store(exchange, target, plan, need)
            if type(outcome) is Hold:
                for purse in outcome.over:
                    self._meters.limit_refused(purse.rule.policy_name, purse.rule.mode)
                return self._claimed(exchange, target, plan, need, outcome, monotonic_s())
            assert isinstance(outcome, Refusal)
            refusal = outcome
            if need is None or not need.shrink(refusal):
                break
        raise self._error(plan, model, refusal)

    async def claim_passing(self, exchange: Exchange, passage: Passage, nanousd: int | None) -> Claim:
        """The claim of a call that is passed through, which costs `nanousd` (None: nobody knows). Its tokens
        count when its answer tells them. Raises what refuses it."""
        key, call = exchange.key, exchange.call
        assert key is not None and call is not None
        model, target = passage.model, passage.target
        plan = self._planner.plan(key, model, target, exchange.facts, call.fields, int(now_s() * 1000))
        if plan.must_price and nanousd is None:
            raise GatewayError(UNPRICED)
        need = Flat(nanousd)
        at_s = monotonic_s()
        hold = self._purses.take(plan.first, need.amounts, at_s)
        if hold is not None:
            self._meters.purse_hit()
            return self._claimed(exchange, target, plan, need, hold, at_s)
        self._meters.purse_missed()
        self._short = plan, need
        try:
            return await self.ask(exchange, model, target)
        except TargetFull as full:
            raise full.error from None
        except UseInstead:
            raise GatewayError(BUDGET_SPENT) from None

    def finish(self, exchange: Exchange) -> None:
        """The call has ended: what it held as a call is free, and its last attempt is settled."""
        slots, claim = exchange.slots, exchange.claim
        if slots is not None:
            exchange.slots = None
            self._purses.free(slots, monotonic_s() - exchange.started_s)
        if claim is not None:
            exchange.claim = None
            claim.used(exchange, 200, outcome_of(exchange))
        elif slots is not None:
            self._teller.later(REFUND_S if self._purses.has_refunds else NEWS_S)

    # parts

    def _seats(self, exchange: Exchange, plan: Plan) -> Seats:
        return plan.attempts if exchange.is_counted else plan.first

    def _guess(self, target: Target) -> Guess:
        found = self._ledger.guesses.get(target.name)
        if found is None:
            found = self._ledger.guesses[target.name] = Guess(target)
        return found

    def _need(self, exchange: Exchange, plan: Plan, target: Target) -> Need:
        call, bound, guess = exchange.call, exchange.bound, plan.guess
        assert call is not None
        if bound is None:
            bound = exchange.bound = bound_input(call)
        if guess is None:
            guess = plan.guess = self._guess(target)
        spoken = target.provider.spoken_by(exchange.admission.endpoint.dialect)
        need = Need(plan, call, bound, target, guess, least_cap=spoken.least_cap)
        if need.worst is None or bound.unbounded:
            kind = barred(plan, need, bound)
            if kind is UNPRICED:
                raise TargetFull(GatewayError(UNPRICED))
            if kind is UNBOUNDED:
                raise GatewayError(kind, f"{kind.message} It is {bound.unbounded}.")
            if kind is not None:
                raise GatewayError(kind)
        return need

    def _claimed(
        self,
        exchange: Exchange,
        target: Target,
        plan: Plan,
        need: Need | Flat | None,
        hold: Hold,
        at_s: float,
    ) -> Claim:
        """The claim of what is held now; the headers of the answer tell what is left of it."""
        lines = b""
        if exchange.is_degraded:
            lines = _DEGRADED
        if need is not None and need.is_shrunk and need.cap is not None:
            lines += b"x-headgate-max-tokens: %d\r\n" % need.cap
        if plan.tells_rates:
            lines += plan.told if at_s < plan.told_until_s else rate_lines(plan, self._purses, at_s)
        exchange.own_lines, exchange.tells_rates = lines, plan.tells_rates
        if not exchange.is_counted:
            exchange.is_counted = True
            if plan.kept is not None:
                exchange.slots = self._purses.release(hold, plan.kept, plan.attempts)
        return Claim(target, plan, need, hold)

    async def _decide(
        self, exchange: Exchange, seats: Seats, amounts: Sequence[int]
    ) -> Hold | Refusal | None:
        """What the store says; None if it does not in time."""
        key = exchange.key
        assert key is not None
        ask = self._purses.ask(key.name, seats, amounts)
        answer: list[Hold | Refusal] = []
        ask.decided = _waking(exchange, answer)
        self._teller.hurry()
        exchange.set_deadline(ASK_S)
        try:
            while not answer:
                await SUSPEND
        except DeadlinePassed as passed:
            if passed.total:
                raise
        finally:
            self._purses.leave(ask)
            exchange.caller.deadline.set(exchange.total_at_s)
        return answer[0] if answer and answer[0] is not UNDECIDED else None

    def _without_store(
        self, exchange: Exchange, target: Target, plan: Plan, need: Need | Flat | None
    ) -> Claim:
        """The store cannot be asked: each rule that has nothing in a purse says what happens."""
        seats = self._seats(exchange, plan)
        amounts = UNCOUNTED if need is None else need.amounts
        at_s = monotonic_s()
        may_serve = at_s < self._purses.until_s
        served: dict[Purse, Share] = {}
        for purse, place in seats:
            rule, amount = purse.rule, amounts[place]
            if may_serve and purse.balance >= amount:
                continue
            is_open = rule.is_shadow or rule.store_down == "open"
            if rule.store_down == "closed" and not is_open:
                raise self._refused(rule, GatewayError(STORE_UNAVAILABLE))
            share = served[purse] = purse.own_share(self._purses.owners, at_s)
            if not is_open and not share.has(amount, purse.held + purse.lent):
                refusal = Refusal(0, purse.bucket, 1000, 0, False)
                raise self._refused(rule, refused(purse, refusal))
        hold = self._purses.uncovered(seats, amounts, served)
        exchange.is_degraded = True
        return self._claimed(exchange, target, plan, need, hold, at_s)

    def _error(self, plan: Plan, model: Model, refusal: Refusal) -> Exception:
        """What a refusal of the store means for the call."""
        purse = next(purse for purse, _ in plan.first if purse.bucket == refusal.bucket)
        rule = purse.rule
        if rule.is_money and rule.strict and self._teller.why_unfit:
            return self._refused(rule, GatewayError(STORE_UNAVAILABLE))
        instead = instead_of(rule, model)
        if instead is not None:
            return UseInstead(instead, rule.policy_name)
        return self._refused(rule, refused(purse, refusal))

    def _refused(self, rule: Rule, error: GatewayError) -> Exception:
        """Counts a refusal. One that is for a target lets the next target be tried."""
        self._meters.limit_refused(rule.policy_name, rule.mode)
        return TargetFull(error) if rule.attempts else error


def _waking(exchange: Exchange, answer: list[Hold | Refusal]) -> Callable[[Hold | Refusal], None]:
    def decided(outcome: Hold | Refusal) -> None:
        answer.append(outcome)
        exchange.wake(None)

    return decided


def outcome_of(exchange: Exchange) -> str:
    """How the last attempt of a call ended, as its row says it."""
    if exchange.outcome == "ok" or exchange.outcome == "caller_gone":
        return exchange.outcome
    return "failed"

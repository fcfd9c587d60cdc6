"""From a decision to an answer: attempts in order, retried and fallen back inside one deadline."""

from __future__ import annotations

import random
from dataclasses import replace

from gateway.clock import monotonic_s
from gateway.errors import (
    UNSUPPORTED,
    UPSTREAM_AUTH,
    UPSTREAM_ERROR,
    UPSTREAM_OVERLOADED,
    UPSTREAM_RATE_LIMITED,
    UPSTREAM_REFUSED,
    UPSTREAM_TIMEOUT,
    CallerGone,
    GatewayError,
    Kind,
    ProviderError,
)
from gateway.http.message import Answer
from gateway.line.attempt import Attempt, AttemptFailed
from gateway.line.exchange import DeadlinePassed, Exchange
from gateway.line.keepalive import KeepAlive
from gateway.line.provider_words import as_told
from gateway.line.refused import TargetFull
from gateway.policy.decide import Decision
from gateway.policy.snapshot import Model, ProviderKey, Target
from gateway.routing import retry
from gateway.usage import Usage

KEY_EJECT_MS = 60_000
"""How long a provider key that was refused (401, 403, quota) is not used, at first."""

NOT_THE_TARGETS = frozenset({"", "auth", "rate_limited", "context_window", "content_filter"})
"""Reasons that say nothing about a target's health."""


async def send(exchange: Exchange, decision: Decision) -> Attempt:
    """The first attempt whose answer may go to the caller.

    Raises `GatewayError` with the last failure when no target is left or time is up.
    """
    model, call = decision.model, exchange.call
    assert model is not None and call is not None
    line = exchange.line
    now_s = exchange.started_s
    exchange.total_at_s = now_s + model.timeouts.total_s
    exchange.caller.deadline.set(exchange.total_at_s)
    line.retry_budget(model.name).call(now_s)
    last = len(decision.targets) - 1
    soonest: TargetFull | None = None
    failed: AttemptFailed | None = None
    try:
        for place, target in enumerate(decision.targets):
            retries = 0
            full: TargetFull | None = None
            refused_keys: frozenset[ProviderKey] = frozenset()
            while True:
                try:
                    claim = exchange.limits.take(exchange, model, target)
                    if claim is None:
                        claim = await exchange.limits.ask(exchange, model, target)
                except TargetFull as error:
                    full = error
                    break
                exchange.claim = claim
                pinned = exchange.pinned
                key = line.provider_key(target.provider, refused_keys) if pinned is None else pinned.key
                attempt = Attempt(exchange, call)
                try:
                    failure = await _attempt(exchange, attempt, target, key, model)
                except GatewayError as error:
                    if error.kind is not UNSUPPORTED:
                        raise
                    if place == last:
                        raise (error if failed is None else final_error(exchange, failed)) from None
                    _pass_over(exchange, model, target, "unsupported")
                    break
                if failure is None:
                    return attempt
                failed = failure
                if key is not None:
                    refused_keys |= {key}
                    if failure.reason == "auth" or failure.quota:
                        line.health.eject(key.row, KEY_EJECT_MS)
                has_key = pinned is None and line.has_other_key(target.provider, refused_keys)
                step = _step(exchange, model, failure, retries, has_key=has_key, has_next=place < last)
                line.tracer.failed(exchange, attempt, failure, step)
                if step == retry.STOP:
                    raise final_error(exchange, failure)
                if call.stream and model.keep_alive_s and exchange.keep_alive is None:
                    exchange.keep_alive = KeepAlive(exchange, model.keep_alive_s)
                if step == retry.FALL_BACK:
                    exchange.fallbacks += 1
                    line.meters.fallback(model.name, failure.reason)
                    break
                exchange.retries += 1
                line.meters.retry(model.name, target.name)
                if step == retry.RETRY:
                    await _wait(exchange, failure, retries)
                    retries += 1
            if full is not None:
                if soonest is None or full.wait_ms < soonest.wait_ms:
                    soonest = full
                if place == last:
                    raise soonest.error
                _pass_over(exchange, model, target, "limit")
    finally:
        if exchange.keep_alive is not None:
            exchange.keep_alive.stop()
    raise AssertionError("a decision without targets")  # decide() refuses these


def _pass_over(exchange: Exchange, model: Model, target: Target, reason: str) -> None:
    """The next target is asked instead, and this one never was."""
    exchange.fallbacks += 1
    exchange.line.meters.fallback(model.name, reason)
    exchange.line.tracer.skipped(exchange, target, reason)


def _step(
    exchange: Exchange, model: Model, failure: AttemptFailed, retries: int, *, has_key: bool, has_next: bool
) -> str:
    """What follows a failure, within the time of the call and the budget of retries."""
    if failure.ends_call:
        return retry.STOP
    error = failure.provider_error
    falls_back = failure.reason in model.fallback_on
    step = retry.next_step(
        failure.reason,
        quota=failure.quota,
        retries=retries,
        attempts=model.retry_attempts,
        retry_after_s=None if error is None else error.retry_after_s,
        has_key=has_key,
        has_next=has_next,
        falls_back=falls_back,
        uncertain=model.retry_uncertain,
    )
    # A key that was refused for good is out for all calls; one that is only busy costs a retry.
    costs = step == retry.RETRY or (
        step == retry.OTHER_KEY and failure.reason == "rate_limited" and not failure.quota
    )
    if costs and not exchange.line.retry_budget(model.name).take(model.retry_budget, monotonic_s()):
        exchange.line.meters.not_retried(model.name)
        return retry.FALL_BACK if has_next and falls_back else retry.STOP
    return step


async def _attempt(
    exchange: Exchange, attempt: Attempt, target: Target, key: ProviderKey | None, model: Model
) -> AttemptFailed | None:
    """Makes one attempt and writes down how it went; what it failed of, or None."""
    line = exchange.line
    exchange.attempts += 1
    exchange.target = target
    line.health.begin(target.row)
    try:
        await attempt.make(target, key, model)
    except AttemptFailed as failure:
        settle_failed(exchange, attempt.answer, failure)
        if failure.reason in NOT_THE_TARGETS:
            line.health.undecided(target.row)
        else:
            line.health.failed(target.row, model.health)
        line.meters.attempt_failed(model.name, target.name, failure.reason or "refused")
        if failure.reason == "stall":
            line.meters.stalled(model.name, target.name)
        return failure
    except BaseException as ended:
        line.health.undecided(target.row)
        _settle_ended(exchange, attempt, ended)
        if isinstance(ended, CallerGone):
            line.meters.attempt_failed(model.name, target.name, "caller_gone")
        elif isinstance(ended, GatewayError) and attempt.connection is not None:
            line.meters.attempt_failed(model.name, target.name, "stopping")
        elif isinstance(ended, GatewayError):
            # Nothing was sent: a mistake of the caller's, found when its body was written, or our own end.
            exchange.attempts -= 1
            exchange.target = None
        raise
    if attempt.stream is None or target.row in line.health.down:
        # How a stream ends is seen at its end; but a trial has passed with its first content.
        line.health.succeeded(target.row)
    if key is not None and key.row in line.health.down:
        line.health.succeeded(key.row)
    return None


def settle_failed(exchange: Exchange, answer: Answer | None, failure: AttemptFailed) -> None:
    """An attempt failed. Nothing was consumed if it was never sent, or refused with a status of its own that
    came whole; else nobody knows, and what was held counts as billed."""
    claim, exchange.claim = exchange.claim, None
    if claim is None:
        return
    outcome = failure.reason or "refused"
    status = failure.status if answer is None else answer.status
    if failure.reason == "connect" or (failure.status and failure.status not in (408, 504)):
        claim.unused(exchange, status, outcome)
    else:
        claim.unknown(exchange, status, outcome)


def _settle_ended(exchange: Exchange, attempt: Attempt, ended: BaseException) -> None:
    """The call itself ended, while an attempt was under way or before it was sent."""
    claim, exchange.claim = exchange.claim, None
    if claim is None:
        return
    outcome = "caller_gone" if isinstance(ended, CallerGone) else "stopped"
    if attempt.connection is None:
        claim.unused(exchange, 0, outcome)
    elif attempt.reads_on(claim):
        return
    elif attempt.stream is not None and outcome == "caller_gone":
        # Nothing of it has passed yet.
        most = attempt.stream.most_tokens(attempt.connection.unread())
        exchange.usage, exchange.output_bytes = Usage(estimated=True), most
        claim.used(exchange, 0, outcome)
        exchange.usage = exchange.cost_nanousd = None
    else:
        claim.unknown(exchange, 0, outcome)


async def _wait(exchange: Exchange, failure: AttemptFailed, retries: int) -> None:
    """Waits before a retry: as long as the provider asked, else full jitter. Never past the deadline."""
    error = failure.provider_error
    wait_s = retry.backoff_s(retries, random.random())
    if error is not None and error.retry_after_s is not None:
        wait_s = max(wait_s, error.retry_after_s)
    if monotonic_s() + wait_s >= exchange.total_at_s:
        raise final_error(exchange, failure)
    exchange.caller.deadline.set(exchange.total_at_s)
    try:
        await exchange.sleep(wait_s)
    except DeadlinePassed:
        raise GatewayError(UPSTREAM_TIMEOUT) from None


def final_error(exchange: Exchange, failure: AttemptFailed) -> GatewayError:
    """What the caller is told when no attempt is left."""
    error = failure.provider_error
    return GatewayError(failure.kind) if error is None else error_of(exchange, error)


def error_of(exchange: Exchange, error: ProviderError) -> GatewayError:
    """A provider's error as its caller is told it: in the provider's words, unless they are about us."""
    kind, told = _kind_of(error)
    headers: tuple[tuple[str, str], ...] = ()
    if error.retry_after_s is not None and kind.status in (429, 503):
        headers = (("retry-after", str(-int(-error.retry_after_s // 1))),)
    if not told:
        return GatewayError(kind, headers=headers)
    assert exchange.target is not None
    error = as_told(error, exchange.target.provider)
    if error.quota:
        headers += (("x-should-retry", "false"),)
    return GatewayError(
        replace(
            kind,
            status=error.status if error.status in _PASSED_STATUS else kind.status,
            type=error.type if error.type is not None else kind.type,
            code=None if error.code is None else str(error.code),
        ),
        error.message or kind.message,
        param=error.param,
        headers=headers,
        details=error.details,
    )


_PASSED_STATUS = frozenset(range(400, 500)) - {401, 402, 403, 407, 408}


def _kind_of(error: ProviderError) -> tuple[Kind, bool]:
    """The kind of a provider's error, and whether its own words may go to the caller."""
    if error.reason == "auth":
        return UPSTREAM_AUTH, False
    if error.status in (402, 429):
        return UPSTREAM_RATE_LIMITED, True
    if error.status in (408, 504):
        return UPSTREAM_TIMEOUT, False
    if error.status in (503, 529):
        return UPSTREAM_OVERLOADED, True
    if error.status >= 500:
        return UPSTREAM_ERROR, True
    return UPSTREAM_REFUSED, True

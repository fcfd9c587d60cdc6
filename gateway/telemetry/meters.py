"""What the line counts, in slots. Series are bound when first seen; a call then costs a few additions.

Labels come from policy names only; what a caller invented is "_other", what is not known "_none".
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from gateway.telemetry import drift_table, probe_table, table
from gateway.telemetry.metric import Metric
from gateway.telemetry.slots import SlotFile
from gateway.usage import KINDS, Usage

NONE, OTHER = "_none", "_other"
_INPUT, _OUTPUT = KINDS.index("input"), KINDS.index("output")


class CallLabels(NamedTuple):
    """What the series of an answered call differ by."""

    team: str
    key: str
    model: str
    target: str
    served: str
    """The target's own model name."""
    provider: str
    """`gen_ai.provider.name`."""
    operation: str
    """`gen_ai.operation.name`."""


class Histogram:
    """One histogram series: `observe` finds its bucket and adds to two slots (0.25 µs)."""

    __slots__ = ("_at", "_bounds", "_scale", "_sum_at", "_values")

    def __init__(self, slots: SlotFile, metric: Metric, labels: tuple[str, ...] = ()) -> None:
        self._values = slots.values
        self._bounds = metric.buckets
        self._at = slots.series(metric, labels)
        self._sum_at = self._at + len(metric.buckets) + 1
        self._scale = round(1 / metric.scale)

    def observe(self, value: float) -> None:
        """Counts one value, in the metric's unit."""
        values = self._values
        values[self._at + bisect_left(self._bounds, value)] += 1
        values[self._sum_at] += int(value * self._scale)


class CallMeters:
    """The series of all calls with the same labels, bound once."""

    __slots__ = (
        "_attempts",
        "_cost",
        "_duration",
        "_first_token",
        "_input_tokens",
        "_operation",
        "_output_tokens",
        "_requests",
        "_time_per_token",
        "_time_to_first",
        "_tokens",
        "_unpriced",
        "_values",
        "labels",
    )

    def __init__(self, slots: SlotFile, labels: CallLabels) -> None:
        team, key, model, target, served, provider, operation = labels
        gen_ai = (operation, provider, model, served, served)
        self.labels = labels
        self._values = slots.values
        self._requests = slots.series(table.REQUESTS, (team, key, model, target, "ok", ""))
        self._attempts = slots.series(table.ATTEMPTS, (model, target, "ok"))
        self._cost = slots.series(table.COST, (team, key, model, target))
        self._unpriced = slots.series(table.UNPRICED, (model, target))
        self._tokens = tuple(slots.series(table.TOKENS, (team, model, target, kind)) for kind in KINDS)
        self._input_tokens = Histogram(slots, table.GEN_AI_TOKEN_USAGE, (*gen_ai, "input"))
        self._output_tokens = Histogram(slots, table.GEN_AI_TOKEN_USAGE, (*gen_ai, "output"))
        self._operation = Histogram(slots, table.GEN_AI_OPERATION_DURATION, (*gen_ai, ""))
        self._duration = Histogram(slots, table.GEN_AI_REQUEST_DURATION, (*gen_ai, ""))
        self._first_token = Histogram(slots, table.FIRST_TOKEN, (model, target))
        self._time_to_first = Histogram(slots, table.GEN_AI_TIME_TO_FIRST_TOKEN, gen_ai)
        self._time_per_token = Histogram(slots, table.GEN_AI_TIME_PER_OUTPUT_TOKEN, gen_ai)

    def attempted(self) -> None:
        """An attempt whose answer came whole, or as far as the caller wanted it."""
        self._values[self._attempts] += 1

    def answered(self, usage: Usage, cost_nanousd: int | None) -> None:
        """A call that a target answered: its tokens and its money, also if the caller left half-way."""
        values = self._values
        if cost_nanousd is None:
            values[self._unpriced] += 1
        else:
            values[self._cost] += cost_nanousd
        if usage.has_parts():
            for slot, tokens in zip(self._tokens, usage.by_kind(), strict=True):
                values[slot] += tokens
        else:
            values[self._tokens[_INPUT]] += usage.input
            values[self._tokens[_OUTPUT]] += usage.output
        self._input_tokens.observe(usage.total_input)
        self._output_tokens.observe(usage.total_output)

    def charged(self, cost_nanousd: int) -> None:
        """A call that is paid for as such, without tokens."""
        self._values[self._cost] += cost_nanousd

    def finished(self, duration_s: float, upstream_s: float) -> None:
        """A call that ended well. Seconds: of the whole call, of its last attempt."""
        self._values[self._requests] += 1
        self._duration.observe(duration_s)
        self._operation.observe(upstream_s)

    def streamed(self, first_token_s: float, per_token_s: float | None) -> None:
        """A stream: seconds to its first content, and between tokens after it (None: fewer than two)."""
        self._first_token.observe(first_token_s)
        self._time_to_first.observe(first_token_s)
        if per_token_s is not None:
            self._time_per_token.observe(per_token_s)


class Meters:
    """The metrics of one worker."""

    __slots__ = (
        "_calls_open",
        "_connections_open",
        "_counters",
        "_histograms",
        "_overshoot",
        "_purse_hits",
        "_purse_misses",
        "_slots",
        "_streams_open",
        "_traces",
        "_values",
        "overhead",
    )

    def __init__(self, slots: SlotFile) -> None:
        self._slots = slots
        self._values = slots.values
        self._counters: dict[tuple[Metric, tuple[str, ...]], int] = {}
        self._histograms: dict[tuple[Metric, tuple[str, ...]], Histogram] = {}
        self._traces: dict[str, int] = {}
        self._streams_open = slots.series(table.STREAMS_OPEN, ())
        self._calls_open = slots.series(table.CALLS_OPEN, ())
        self._connections_open = slots.series(table.CONNECTIONS_OPEN, ())
        self._purse_hits = slots.series(table.PURSE_HITS, ("true",))
        self._purse_misses = slots.series(table.PURSE_HITS, ("false",))
        self._overshoot = slots.series(table.OVERSHOOT, ())
        self.overhead = Histogram(slots, table.OVERHEAD)

    def of_calls(self, labels: CallLabels) -> CallMeters:
        """The meters of calls with these labels; to be kept by whoever asks."""
        return CallMeters(self._slots, labels)

    def streams_open(self, change: int) -> None:
        """One stream more or less."""
        self._values[self._streams_open] += change

    def under_way(self, calls: int, connections: int) -> None:
        """How many there are now."""
        self._values[self._calls_open] = calls
        self._values[self._connections_open] = connections

    def failed(self, team: str, key: str, model: str, target: str, outcome: str, error_type: str) -> None:
        """A call that did not end well."""
        self._count(table.REQUESTS, (team, key, model, target, outcome, error_type))

    def failed_operation(self, labels: CallLabels, error_type: str, seconds: float) -> None:
        """How long a call took that a provider failed."""
        gen_ai = (labels.operation, labels.provider, labels.model, labels.served, labels.served, error_type)
        for metric in (table.GEN_AI_OPERATION_DURATION, table.GEN_AI_REQUEST_DURATION):
            self._histogram(metric, gen_ai).observe(seconds)

    def attempt_failed(self, model: str, target: str, outcome: str) -> None:
        """An attempt that brought no answer; `outcome` is its fallback reason, "refused", "caller_gone" or
        "stopping"."""
        self._count(table.ATTEMPTS, (model, target, outcome))

    def retry(self, model: str, target: str) -> None:
        """The same target once more."""
        self._count(table.RETRIES, (model, target))

    def fallback(self, model: str, reason: str) -> None:
        """On to the next target."""
        self._count(table.FALLBACKS, (model, reason))

    def stalled(self, model: str, target: str) -> None:
        """A stream stopped in mid-answer."""
        self._count(table.STREAM_STALLS, (model, target))

    def unknown_events(self, model: str, target: str, events: int) -> None:
        """A stream had events, or parts, of types that are not known."""
        self._count(table.UNKNOWN_EVENTS, (model, target), events)

    def not_retried(self, model: str) -> None:
        """The model's retry budget is used up."""
        self._count(table.RETRY_BUDGET_EXHAUSTED, (model,))

    def waited_for_connection(self, provider: str, seconds: float) -> None:
        """A call had to have a new connection, or wait for one."""
        self._histogram(table.CONNECTION_WAIT, (provider,)).observe(seconds)

    def shed(self, reason: str) -> None:
        """A call was turned away: "calls", "connections" or "body_memory"."""
        self._count(table.SHED, (reason,))

    def limit_refused(self, limit: str, mode: str) -> None:
        """A limit or budget refused a call, or would have: `limit` is its name in the policy (a target's own
        limits: the target), `mode` enforce or shadow."""
        self._count(table.LIMIT_REFUSED, (limit, mode))

    def purse_hit(self) -> None:
        """A call under limits found all that it needs in this worker."""
        self._values[self._purse_hits] += 1

    def purse_missed(self) -> None:
        """A call under limits had to ask the store."""
        self._values[self._purse_misses] += 1

    def overshot(self, nanousd: int) -> None:
        """A call cost so much more than was held for it."""
        self._values[self._overshoot] += nanousd

    def log_dropped(self, lines: int) -> None:
        """Log lines that found no room."""
        self._count(table.LOG_DROPPED, (), lines)

    def traced(self, kept: str) -> None:
        """A call becomes a trace: "sampled", or for being an "error", or "slow"."""
        slot = self._traces.get(kept)
        if slot is None:
            slot = self._traces[kept] = self._slots.series(table.TRACES, (kept,))
        self._values[slot] += 1

    def trace_dropped(self, calls: int) -> None:
        """Traces that found no room on their way to control."""
        self._count(table.TRACE_DROPPED, ("worker",), calls)

    def unwatched(self, reason: str, answers: int = 1) -> None:
        """Answers that are not looked at for drift: "rate", "failed", "too_long"."""
        self._count(drift_table.DRIFT_SKIPPED, (reason,), answers)

    def answer_dropped(self, answers: int) -> None:
        """Answers that found no room on their way to who looks at them."""
        if answers:
            self._count(drift_table.DRIFT_SKIPPED, ("queue_full",), answers)

    def _count(self, metric: Metric, labels: tuple[str, ...], by: int = 1) -> None:
        slot = self._counters.get((metric, labels))
        if slot is None:
            slot = self._counters[metric, labels] = self._slots.series(metric, labels)
        self._values[slot] += by

    def _histogram(self, metric: Metric, labels: tuple[str, ...]) -> Histogram:
        found = self._histograms.get((metric, labels))
        if found is None:
            found = self._histograms[metric, labels] = Histogram(self._slots, metric, labels)
        return found


class ControlMeters:
    """The metrics of control."""

    __slots__ = (
        "_drifts",
        "_dropped",
        "_exports",
        "_features",
        "_processor",
        "_reloads",
        "_slots",
        "_traces_dropped",
        "_values",
        "_webhooks",
    )

    def __init__(self, slots: SlotFile) -> None:
        self._slots = slots
        self._values = slots.values
        self._dropped = slots.series(table.LOG_DROPPED, ())
        self._traces_dropped = slots.series(table.TRACE_DROPPED, ("export",))
        self._exports = {
            (signal, ok): slots.series(table.OTLP_EXPORTS, (signal, "ok" if ok else "failed"))
            for signal in ("traces", "metrics")
            for ok in (True, False)
        }
        self._processor: dict[str, int] = {}
        self._drifts: dict[tuple[Metric, tuple[str, ...]], int] = {}
        self._features: Histogram | None = None
        self._reloads = {
            accepted: slots.series(table.POLICY_RELOADS, ("accepted" if accepted else "rejected",))
            for accepted in (True, False)
        }

        self._webhooks = {
            ok: slots.series(table.WEBHOOKS, ("ok" if ok else "failed",)) for ok in (True, False)
        }

    def used_processor(self, process: str, nanoseconds: int) -> None:
        """Processes of this name ran for so long."""
        at = self._processor.get(process)
        if at is None:
            at = self._processor[process] = self._slots.series(table.PROCESS_CPU, (process,))
        self._values[at] += nanoseconds

    def alerted(self, ok: bool) -> None:
        """An alert was taken by the webhook, or was not."""
        self._values[self._webhooks[ok]] += 1

    def reloaded(self, *, accepted: bool) -> None:
        """A policy was put in force, or could not be."""
        self._values[self._reloads[accepted]] += 1

    def exported(self, signal: str, ok: bool) -> None:
        """The OTLP endpoint took a message of "traces" or "metrics", or did not."""
        self._values[self._exports[signal, ok]] += 1

    def trace_dropped(self, calls: int) -> None:
        """Traces that could not be exported."""
        self._values[self._traces_dropped] += calls

    def drift_skipped(self, reason: str, answers: int = 1) -> None:
        """Answers that were not judged."""
        self._drift((drift_table.DRIFT_SKIPPED, (reason,)), answers)

    def drift_analyzed(self, model: str, target: str) -> None:
        """An answer was judged."""
        self._drift((drift_table.DRIFT_ANALYZED, (model, target)), 1)

    def identity_changed(self, model: str, target: str, field: str) -> None:
        """A target's answers name something else in a field."""
        self._drift((drift_table.IDENTITY_CHANGES, (model, target, field)), 1)

    def drift_took(self, seconds: float) -> None:
        """Reading and judging one answer."""
        if self._features is None:
            self._features = Histogram(self._slots, drift_table.DRIFT_FEATURE_SECONDS, ())
        self._features.observe(seconds)

    def probed(self, suite: str, target: str, result: str, nanousd: int) -> None:
        """A golden prompt was answered ("ok"), was not ("error"), or was too dear ("budget")."""
        self._drift((probe_table.PROBE_RUNS, (suite, target, result)), 1)
        if nanousd:
            self._drift((probe_table.PROBE_COST, (suite, target)), nanousd)

    def _drift(self, series: tuple[Metric, tuple[str, ...]], by: int) -> None:
        at = self._drifts.get(series)
        if at is None:
            at = self._drifts[series] = self._slots.series(*series)
        self._values[at] += by

    def log_dropped(self, lines: int) -> None:
        """Log lines that could not be written."""
        self._values[self._dropped] += lines


class KeeperMeters:
    """The metrics of the keeper."""

    __slots__ = ("_outages", "_seconds", "_trips", "_up", "_values")

    def __init__(self, slots: SlotFile) -> None:
        self._values = slots.values
        self._trips = slots.series(table.STORE_ROUND_TRIPS, ())
        self._up = slots.series(table.STORE_UP, ())
        self._outages = slots.series(table.STORE_OUTAGES, ())
        self._seconds = Histogram(slots, table.STORE_ROUND_TRIP)

    def round_trip(self) -> None:
        """The store is asked once."""
        self._values[self._trips] += 1

    def answered(self, seconds: float) -> None:
        """The store answered, after so long."""
        self._seconds.observe(seconds)

    def outage(self) -> None:
        """The store, which was up, does not answer."""
        self._values[self._outages] += 1

    def store_is_up(self, is_up: bool) -> None:
        """The store answers, or does not."""
        self._values[self._up] = is_up

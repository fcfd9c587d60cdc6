"""The threads that send traces and metrics to a collector. It may be down, slow or wrong: nobody waits for
it, what it does not take is dropped and counted, and said once a minute.

The threads are daemons: one that hangs in a request does not keep the process.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from gateway.clock import monotonic_s, now_s
from gateway.control.exemplars import Exemplars
from gateway.control.exposition import Series, give_way
from gateway.control.otel_environment import OtelSettings
from gateway.link.traces import unpack
from gateway.telemetry.diagnostics import report, say
from gateway.telemetry.meters import ControlMeters

HELD_BYTES = 16 << 20
"""Of traces that wait; calls with content are large."""
SAY_S = 60.0
Record = Mapping[str, Any]


class Exporter(Protocol):
    """Of OpenTelemetry's SDK: blocks, tries again for a while, and returns an enum whose SUCCESS is 0."""

    def export(self, batch: Any, /) -> Any: ...

    def shutdown(self) -> None: ...


class Trouble(logging.Handler):
    """Hears what OpenTelemetry's libraries log, for a reason that can be told: of a message only a status or
    the type of an exception, for URLs, headers and answers may hold secrets."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reason = ""
        self._said_s: dict[str, float] = {}
        logger = logging.getLogger("opentelemetry")
        logger.handlers, logger.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        for told in record.args if isinstance(record.args, tuple) else ():
            if isinstance(told, BaseException):
                self.reason = f": {type(told).__name__}"
            elif type(told) is int:
                self.reason = f": status {told}"

    def say(self, signal: str) -> None:
        """An export failed; said once a minute."""
        at_s = monotonic_s()
        if at_s - self._said_s.get(signal, -SAY_S) >= SAY_S:
            self._said_s[signal] = at_s
            say(f"{signal} could not be sent to the OTLP endpoint{self.reason}; they are dropped and counted")
        self.reason = ""


class TraceExport:
    """Sends the records of calls as spans, in batches. `spans_of` makes those of a record."""

    def __init__(
        self,
        exporter: Exporter,
        spans_of: Callable[[Record], Sequence[object]],
        settings: OtelSettings,
        meters: ControlMeters,
        trouble: Trouble,
        exemplars: Exemplars,
    ) -> None:
        self._exporter = exporter
        self._spans_of = spans_of
        self._settings = settings
        self._meters = meters
        self._trouble = trouble
        self._exemplars = exemplars
        self._waiting: deque[bytes] = deque()
        self._held = 0
        """Bytes of `_waiting`."""
        self._ready = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def take(self, lines: bytes) -> None:
        """Takes records, a line each; never waits."""
        with self._ready:
            for line in lines.splitlines():
                if (
                    len(self._waiting) >= self._settings.queue_calls
                    or self._held + len(line) > HELD_BYTES
                    or self._closing
                ):
                    self._meters.trace_dropped(1)
                else:
                    self._waiting.append(line)
                    self._held += len(line)
            if self._is_full():
                self._ready.notify()

    def stop(self) -> None:
        """Nothing more comes: what is left is sent, as far as `join` lets it."""
        with self._ready:
            self._closing = True
            self._ready.notify()

    def join(self, timeout_s: float) -> None:
        """Waits for the end, not longer than this; what was not sent then is dropped."""
        self._thread.join(timeout_s)
        self._exporter.shutdown()
        with self._ready:
            self._meters.trace_dropped(len(self._waiting))

    def _is_full(self) -> bool:
        return len(self._waiting) >= min(self._settings.batch_calls, self._settings.queue_calls)

    def _run(self) -> None:
        give_way()
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._closing or self._is_full(), self._settings.delay_s)
                count = min(len(self._waiting), self._settings.batch_calls)
                batch = [self._waiting.popleft() for _ in range(count)]
                self._held -= sum(map(len, batch))
                if not batch and self._closing:
                    return
            if batch:
                self._send(batch)

    def _send(self, batch: list[bytes]) -> None:
        records, is_ok = [], False
        try:
            records = [unpack(line) for line in batch]
            spans = [span for record in records for span in self._spans_of(record)]
            is_ok = self._exporter.export(spans).value == 0
        except Exception as error:
            report(error)
        self._meters.exported("traces", is_ok)
        if is_ok:
            for record in records:
                self._exemplars.see(record)
            return
        self._trouble.say("traces")
        with self._ready:
            self._meters.trace_dropped(len(batch))


class MetricExport:
    """Sends all metrics, again and again, and a last time at the end. `gather` reads what there is, `data_of`
    makes the exporter's message of it, as of a time in nanoseconds since 1970."""

    def __init__(
        self,
        exporter: Exporter,
        gather: Callable[[], list[Series]],
        data_of: Callable[[list[Series], int], object],
        settings: OtelSettings,
        meters: ControlMeters,
        trouble: Trouble,
    ) -> None:
        self._exporter = exporter
        self._gather = gather
        self._data_of = data_of
        self._interval_s = settings.interval_s
        self._meters = meters
        self._trouble = trouble
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-metrics", daemon=True)

    def start(self) -> None:
        """Begins to send, first after one interval."""
        self._thread.start()

    def stop(self) -> None:
        """Sends a last time, as far as `join` lets it."""
        self._closing.set()

    def join(self, timeout_s: float) -> None:
        """Waits for the end, not longer than this."""
        self._thread.join(timeout_s)
        self._exporter.shutdown()

    def _run(self) -> None:
        give_way()
        while not self._closing.wait(self._interval_s):
            self._send()
        self._send()

    def _send(self) -> None:
        is_ok = False
        try:
            data = self._data_of(self._gather(), int(now_s() * 1e9))
            is_ok = self._exporter.export(data).value == 0
        except Exception as error:
            report(error)
        self._meters.exported("metrics", is_ok)
        if not is_ok:
            self._trouble.say("metrics")

"""The standard OTEL_* variables, as far as they decide what is done; exporters read how it is sent.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ — what cannot be read is
said, and counts as not given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.policy.sampling import Sampling

_SAMPLERS = {
    "always_on": (1.0, False),
    "always_off": (0.0, False),
    "traceidratio": (None, False),
    "parentbased_always_on": (1.0, True),
    "parentbased_always_off": (0.0, True),
    "parentbased_traceidratio": (None, True),
}
"""OTEL_TRACES_SAMPLER → (ratio, or None: its argument; whether callers decide for their calls)."""
HTTP, GRPC = "http/protobuf", "grpc"


class OtelMistake(Exception):
    """What the variables ask for cannot be done; the message says what may be."""


@dataclass(frozen=True, slots=True)
class OtelSettings:
    """What is exported, and how often."""

    traces: str | None
    """The protocol, `HTTP` or `GRPC`; None: traces go nowhere."""
    metrics: str | None
    logs: str | None
    """Of events: what the log says of calls goes to the log alone."""
    sampling: Sampling
    queue_calls: int
    batch_calls: int
    delay_s: float
    """How long a trace waits at most until its batch is sent."""
    interval_s: float
    """How often metrics are sent."""
    traces_timeout_s: float
    """How long one message may take, with all attempts."""
    metrics_timeout_s: float
    logs_timeout_s: float


def read_otel(environ: Mapping[str, str], warn: Callable[[str], None]) -> OtelSettings:
    """From the environment. Raises `OtelMistake`."""
    variables = _Variables(environ, warn)
    is_off = variables.text("OTEL_SDK_DISABLED").lower() == "true"
    return OtelSettings(
        traces=None if is_off else variables.protocol("TRACES"),
        metrics=None if is_off else variables.protocol("METRICS"),
        logs=None if is_off else variables.protocol("LOGS"),
        sampling=variables.sampling(),
        queue_calls=int(variables.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)),
        batch_calls=int(variables.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)),
        delay_s=variables.number("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
        interval_s=variables.number("OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1000,
        traces_timeout_s=variables.timeout_s("TRACES"),
        metrics_timeout_s=variables.timeout_s("METRICS"),
        logs_timeout_s=variables.timeout_s("LOGS"),
    )


class _Variables:
    def __init__(self, environ: Mapping[str, str], warn: Callable[[str], None]) -> None:
        self._environ = environ
        self._warn = warn

    def text(self, *names: str) -> str:
        """The first that is not empty; an empty one counts as not given."""
        return next((value for name in names if (value := self._environ.get(name, "").strip())), "")

    def number(self, name: str, default: int) -> float:
        text = self.text(name)
        if text.isdecimal() and 0 < int(text) < 10**9:
            return int(text)
        if text:
            self._warn(f"{name} is not a number above 0; {default} is used")
        return default

    def timeout_s(self, signal: str) -> float:
        # Milliseconds, as specified: OpenTelemetry for Python reads them as seconds.
        own, shared = f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"
        return self.number(own if self.text(own) else shared, 10_000) / 1000

    def protocol(self, signal: str) -> str | None:
        """None if there is no endpoint, or the signal is not to be exported."""
        if not self.text(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
            return None
        exporter = self.text(f"OTEL_{signal}_EXPORTER") or "otlp"
        if exporter == "none":
            return None
        if exporter != "otlp":
            self._warn(f"OTEL_{signal}_EXPORTER is neither otlp nor none; otlp is used")
        name = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"
        protocol = self.text(name, "OTEL_EXPORTER_OTLP_PROTOCOL") or HTTP
        if protocol not in (HTTP, GRPC):
            raise OtelMistake(f"OTEL_EXPORTER_OTLP_PROTOCOL must be {HTTP} or {GRPC}.")
        return protocol

    def sampling(self) -> Sampling:
        default, name = Sampling(), self.text("OTEL_TRACES_SAMPLER")
        if name and name not in _SAMPLERS:
            self._warn(
                f"OTEL_TRACES_SAMPLER is none of {', '.join(_SAMPLERS)}; {default.ratio:.0%} are sampled"
            )
            return default
        ratio, parent_based = _SAMPLERS.get(name, (None, default.parent_based))
        if ratio is None:
            ratio = self._share(1.0 if name else default.ratio)
        return Sampling(ratio, parent_based)

    def _share(self, default: float) -> float:
        text = self.text("OTEL_TRACES_SAMPLER_ARG")
        try:
            share = float(text or default)
        except ValueError:
            share = -1.0
        if 0.0 <= share <= 1.0:
            return share
        self._warn(f"OTEL_TRACES_SAMPLER_ARG is not a number from 0 to 1; {default:g} is used")
        return default

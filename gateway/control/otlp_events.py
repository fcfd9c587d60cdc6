"""Events by OTLP: log records with a name. Imported only where there is an endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.resources import Resource

from gateway.control.spans import SCOPE

DELAY_MS = 1_000


class OtlpEvents:
    """Sends events by `exporter`, in a thread of the SDK's."""

    def __init__(self, exporter: LogRecordExporter, resource: Resource) -> None:
        self._provider = LoggerProvider(resource, shutdown_on_exit=False)
        self._provider.add_log_record_processor(BatchLogRecordProcessor(exporter, DELAY_MS))
        self._logger = self._provider.get_logger(SCOPE.name, SCOPE.version)

    def drifted(self, alarm: Mapping[str, Any], text: str) -> None:
        """`headgate.drift.detected`: what moved, from what to what, since when, where. Never waits."""
        first = alarm["moved"][0] if alarm["moved"] else {}
        found = {
            "headgate.drift.id": alarm["id"],
            "headgate.drift.kind": alarm["kind"],
            "headgate.drift.cause": alarm["cause"],
            "headgate.model": alarm["model"],
            "headgate.target": alarm["target"],
            "gen_ai.response.model": alarm["target"].partition("/")[2],
            "headgate.drift.channel": first.get("channel"),
            "headgate.drift.from": first.get("before"),
            "headgate.drift.to": first.get("after"),
            "headgate.drift.effect": first.get("effect"),
            "headgate.drift.since": alarm["since_s"],
            "headgate.drift.answers": alarm["answers"],
            "headgate.drift.evidence": alarm["evidence"],
            "headgate.drift.baseline": alarm["baseline"] or None,
            "headgate.drift.strata": [key for key, _ in alarm["strata"]],
            "headgate.drift.exemplars": list(alarm["exemplars"]),
            "headgate.drift.moved": json.dumps(alarm["moved"]),
        }
        self._emit("headgate.drift.detected", alarm["at_s"], SeverityNumber.WARN, text, found)

    def probe_drifted(self, alarm: Mapping[str, Any], text: str) -> None:
        """`headgate.drift.detected`, of probes."""
        self._emit(
            "headgate.drift.detected",
            alarm["at_s"],
            SeverityNumber.WARN,
            text,
            {
                "headgate.drift.id": alarm["id"],
                "headgate.drift.kind": "probes",
                "headgate.probe.suite": alarm["suite"],
                "headgate.target": alarm["target"],
                "gen_ai.response.model": alarm["target"].partition("/")[2],
                "headgate.drift.since": alarm["since_s"],
                "headgate.drift.evidence": alarm["evidence"],
                "headgate.probe.prompts": list(alarm["prompts"]),
            },
        )

    def evaluated(self, verdict: Mapping[str, Any]) -> None:
        """`gen_ai.evaluation.result` of one golden prompt (GenAI conventions, v1.41): agreement with the
        earlier answers is the score, and whether it is as expected the label."""
        labels = {True: "pass", False: "fail", None: None}
        self._emit(
            "gen_ai.evaluation.result",
            verdict["at_s"],
            SeverityNumber.INFO,
            None,
            {
                "gen_ai.evaluation.name": f"{verdict['suite']}/{verdict['prompt']}",
                "gen_ai.evaluation.score.value": verdict["agreement"],
                "gen_ai.evaluation.score.label": labels[verdict["passes"]],
                "gen_ai.request.model": verdict["target"].partition("/")[2],
                "headgate.target": verdict["target"],
            },
        )

    def _emit(
        self,
        name: str,
        at_s: float,
        severity: SeverityNumber,
        text: str | None,
        attributes: Mapping[str, Any],
    ) -> None:
        self._logger.emit(
            LogRecord(
                timestamp=round(at_s * 1e9),
                severity_number=severity,
                severity_text=severity.name,
                body=text,
                attributes={key: value for key, value in attributes.items() if value is not None},
                event_name=name,
            )
        )

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()

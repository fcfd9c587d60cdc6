"""The metric table's rows on drift: whether a model's answers changed, and whether that is looked at."""

from __future__ import annotations

from gateway.telemetry.metric import NANO, Metric

DRIFT_STATE = Metric(
    "headgate_drift_state",
    "gauge",
    "",
    ("model", "target"),
    "Whether a target's answers changed: 1 learning, 2 as before, 3 notice, 4 drift.",
)
DRIFT_EVIDENCE = Metric(
    "headgate_drift_log10_evidence",
    "gauge",
    "",
    ("model", "target"),
    "Evidence that answers changed, log10: passes x once in 10^x answers while nothing changes.",
)
DRIFT_CHANNEL_EVIDENCE = Metric(
    "headgate_drift_channel_log10_evidence",
    "gauge",
    "",
    ("model", "target", "channel"),
    "The same of the channels that moved most.",
)
DRIFT_EFFECT = Metric(
    "headgate_drift_effect",
    "gauge",
    "",
    ("model", "target", "channel"),
    "How far the channels that moved most have moved, 0 to 1.",
)
DRIFT_REFERENCE_VALUE = Metric(
    "headgate_drift_reference_value",
    "gauge",
    "",
    ("model", "target", "channel"),
    "Their mean before the change, in the channel's unit.",
)
DRIFT_CURRENT_VALUE = Metric(
    "headgate_drift_current_value",
    "gauge",
    "",
    ("model", "target", "channel"),
    "Their mean since the change.",
)
DRIFT_CHANGEPOINT = Metric(
    "headgate_drift_changepoint_timestamp_seconds",
    "gauge",
    "seconds",
    ("model", "target"),
    "When the change was that stands, seconds since 1970.",
)
DRIFT_REFERENCE = Metric(
    "headgate_drift_reference_responses",
    "gauge",
    "",
    ("model", "target"),
    "Answers that new ones are compared with.",
)
DRIFT_INPUT_EVIDENCE = Metric(
    "headgate_drift_input_log10_evidence",
    "gauge",
    "",
    ("model", "target"),
    "Evidence that what is asked changed.",
)
DRIFT_PERFORMANCE_EVIDENCE = Metric(
    "headgate_drift_performance_log10_evidence",
    "gauge",
    "",
    ("model", "target"),
    "Evidence that a target's speed changed.",
)
DRIFT_ALARMS = Metric(
    "headgate_drift_alarms_total",
    "counter",
    "",
    ("model", "target", "kind", "cause"),
    "Alarms, by what changed (answers, creep, performance) and what it may come of.",
)
DRIFT_ACTION = Metric(
    "headgate_drift_action",
    "gauge",
    "",
    ("model", "target"),
    "1 while calls go elsewhere, by the policy's on_alarm, because a target's answers changed.",
)
DRIFT_ANALYZED = Metric(
    "headgate_drift_analyzed_total",
    "counter",
    "",
    ("model", "target"),
    "Answers that were looked at.",
)
DRIFT_SKIPPED = Metric(
    "headgate_drift_skipped_total",
    "counter",
    "",
    ("reason",),
    "Answers that were not: above the rate, repeats, bursts, failed, too long, no room, no time, unreadable.",
)
IDENTITY_CHANGES = Metric(
    "headgate_model_identity_changes_total",
    "counter",
    "",
    ("model", "target", "field"),
    "How often a target's answers named another model, fingerprint or header value.",
)
IDENTITY = Metric(
    "headgate_model_identity_info",
    "gauge",
    "",
    ("model", "target", "field", "value"),
    "What a target's answers say that they are from: 1.",
)
DRIFT_FEATURE_SECONDS = Metric(
    "headgate_drift_feature_seconds",
    "histogram",
    "seconds",
    (),
    "Time to read and judge one answer.",
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1),
    NANO,
)

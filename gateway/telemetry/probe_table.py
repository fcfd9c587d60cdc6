"""The metric table's rows on probes: golden prompts, and whether the answers to them are as they were."""

from __future__ import annotations

from gateway.telemetry.metric import NANO, Metric

PROBE_EVIDENCE = Metric(
    "headgate_probe_log10_evidence",
    "gauge",
    "",
    ("suite", "target"),
    "Evidence that answers to golden prompts changed, log10: passes 6 once in 10^6 answers by chance.",
)
PROBE_PASSES = Metric(
    "headgate_probe_pass_ratio",
    "gauge",
    "",
    ("suite", "target"),
    "Of the last answers to prompts with an expected answer, those that are it.",
)
PROBE_AGREEMENT = Metric(
    "headgate_probe_agreement_ratio",
    "gauge",
    "",
    ("suite", "target"),
    "How far the last answers agree with the earlier ones, 0 to 1.",
)
PROBE_RUNS = Metric(
    "headgate_probe_runs_total",
    "counter",
    "",
    ("suite", "target", "result"),
    "Golden prompts by what became of them: ok, error, or budget if the day's was spent.",
)
PROBE_COST = Metric(
    "headgate_probe_cost_usd_total",
    "counter",
    "usd",
    ("suite", "target"),
    "What their answers cost.",
    scale=NANO,
)

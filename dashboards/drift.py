"""Drift: whether a model's answers changed, what moved, since when, and what is not looked at."""

from __future__ import annotations

from dashboards import panels
from dashboards.board import Board, Row
from dashboards.panels import BLUE, GREEN, RED, YELLOW, Column, Query, lines, number, rows
from dashboards.queries import WINDOW, increase, level, quantile, rate, share
from gateway.telemetry import drift_table as table
from gateway.telemetry import probe_table

_NAMES = ("model", "target")
_NOTICE, _ALARM = 4.0, 6.3
"""log10 of the settings' defaults: one in 10,000 and one in 2,000,000 answers."""
_EVIDENCE: panels.Steps = [(None, GREEN), (_NOTICE, YELLOW), (_ALARM, RED)]
_WORDS = {
    "0": ("off", BLUE),
    "1": ("learning", BLUE),
    "2": ("ok", GREEN),
    "3": ("notice", YELLOW),
    "4": ("drift", RED),
}


def board() -> Board:
    """What to look at when a model may have changed."""
    return Board(
        "drift",
        "Headgate / Drift",
        "Whether the answers of a model's targets are as before. `headgate drift explain` has the same in "
        "words, with the kinds of prompts it is seen in.",
        [
            Row("Now", _now()),
            Row("Answers", _answers()),
            Row("What moved", _moved()),
            Row("What else changed", _around()),
            Row("Golden prompts", _probing()),
            Row("How much is looked at", _looking()),
        ],
    )


def _state(value: int) -> str:
    return f"count({level(table.DRIFT_STATE, *_NAMES, how='max')} == {value}) or vector(0)"


def _now() -> list[panels.PanelBuilder]:
    return [
        number(
            "Targets that drift",
            "Targets whose answers changed, and nobody has said yet that it is all right.",
            panels.COUNT,
            Query(_state(4), "drift"),
            steps=[(None, GREEN), (1, RED)],
        ),
        number(
            "Notices",
            "Targets whose answers may have changed: one such notice in 10,000 answers is chance.",
            panels.COUNT,
            Query(_state(3), "notice"),
            steps=[(None, GREEN), (1, YELLOW)],
        ),
        number(
            "As before",
            "Targets whose answers are as before.",
            panels.COUNT,
            Query(_state(2), "ok"),
        ),
        number(
            "Learning",
            "Targets with too few answers yet to judge by.",
            panels.COUNT,
            Query(_state(1), "learning"),
        ),
        number(
            "Alarms",
            "Alarms in the time shown.",
            panels.COUNT,
            Query(increase(table.DRIFT_ALARMS), "alarms"),
            decimals=0,
        ),
        number(
            "Looked at",
            "Share of the answers taken for this that were judged.",
            panels.SHARE,
            Query(share(rate(table.DRIFT_ANALYZED), _taken()), "looked at"),
            steps=[(None, RED), (0.5, YELLOW), (0.9, GREEN)],
            decimals=1,
        ),
    ]


def _taken() -> str:
    return f"({rate(table.DRIFT_ANALYZED)} + ({rate(table.DRIFT_SKIPPED)} or vector(0)))"


def _answers() -> list[panels.PanelBuilder]:
    return [
        rows(
            "Targets",
            "How each target stands. Evidence and references as they are now; the change is where it began.",
            _NAMES,
            Column("Evidence", panels.COUNT, level(table.DRIFT_EVIDENCE, *_NAMES, how="max"), _EVIDENCE),
            Column("State", panels.COUNT, level(table.DRIFT_STATE, *_NAMES, how="max"), words=_WORDS),
            Column("References", panels.COUNT, level(table.DRIFT_REFERENCE, *_NAMES, how="max")),
            Column(
                "Changed",
                panels.AGO,
                f"1000 * {level(table.DRIFT_CHANGEPOINT, *_NAMES, how='max')}",
            ),
        ),
        lines(
            "Evidence that answers changed",
            "log10: passes 6.3 once in two million answers while nothing changes. It is an alarm above the "
            "upper line, if the effect is large enough too.",
            panels.COUNT,
            Query(level(table.DRIFT_EVIDENCE, *_NAMES, how="max"), "{{model}}: {{target}}"),
            steps=_EVIDENCE,
        ),
        lines(
            "Alarms over time",
            "By what changed and what it may come of; and targets that calls are kept from because of one.",
            panels.COUNT,
            Query(
                increase(table.DRIFT_ALARMS, "target", "kind", "cause", window=WINDOW),
                "{{target}}: {{kind}} ({{cause}})",
            ),
            Query(level(table.DRIFT_ACTION, *_NAMES, how="max"), "calls of {{model}} kept from {{target}}"),
        ),
    ]


def _moved() -> list[panels.PanelBuilder]:
    by = (*_NAMES, "channel")
    return [
        rows(
            "Channels that moved most",
            "Their mean before and since, in the channel's unit, and how much of the answers moved.",
            by,
            Column("Effect", panels.SHARE, level(table.DRIFT_EFFECT, *by, how="max")),
            Column("Evidence", panels.COUNT, level(table.DRIFT_CHANNEL_EVIDENCE, *by, how="max"), _EVIDENCE),
            Column("Before", panels.COUNT, level(table.DRIFT_REFERENCE_VALUE, *by, how="max")),
            Column("Since", panels.COUNT, level(table.DRIFT_CURRENT_VALUE, *by, how="max")),
        ),
        lines(
            "Evidence by channel",
            "Of the channels that moved most.",
            panels.COUNT,
            Query(
                f"topk(10, {level(table.DRIFT_CHANNEL_EVIDENCE, *by, how='max')})",
                "{{target}}: {{channel}}",
            ),
        ),
        lines(
            "Effect by channel",
            "0: as before; 1: no answer is where answers were. Below the policy's min_effect it is no alarm.",
            panels.SHARE,
            Query(f"topk(10, {level(table.DRIFT_EFFECT, *by, how='max')})", "{{target}}: {{channel}}"),
            most=1,
        ),
    ]


def _around() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Evidence that prompts changed",
            "If this rises with the answers', the cause says mixed.",
            panels.COUNT,
            Query(level(table.DRIFT_INPUT_EVIDENCE, *_NAMES, how="max"), "{{model}}: {{target}}"),
            steps=_EVIDENCE,
        ),
        lines(
            "Evidence that speed changed",
            "Time to the first token, time per token, tokens per second.",
            panels.COUNT,
            Query(level(table.DRIFT_PERFORMANCE_EVIDENCE, *_NAMES, how="max"), "{{model}}: {{target}}"),
            steps=_EVIDENCE,
        ),
        lines(
            "Another name in the answers",
            "Answers that named another model, fingerprint or header value than the one before.",
            panels.PER_SECOND,
            Query(rate(table.IDENTITY_CHANGES, "target", "field"), "{{target}}: {{field}}"),
        ),
        rows(
            "Who answers",
            "What a target's answers say that they are from.",
            ("model", "target", "field", "value"),
            Column("Gateways", panels.COUNT, level(table.IDENTITY, *_NAMES, "field", "value")),
            width=12,
        ),
    ]


def _probing() -> list[panels.PanelBuilder]:
    names = ("suite", "target")
    return [
        lines(
            "Evidence of probes",
            "log10 that answers to golden prompts changed: passes 6 once in a million answers by chance.",
            panels.COUNT,
            Query(level(probe_table.PROBE_EVIDENCE, *names, how="max"), "{{suite}}: {{target}}"),
            steps=[(None, GREEN), (6.0, RED)],
        ),
        lines(
            "As expected",
            "Of the last answers to prompts with an expected answer, those that are it.",
            panels.SHARE,
            Query(level(probe_table.PROBE_PASSES, *names, how="min"), "{{suite}}: {{target}}"),
            most=1,
        ),
        lines(
            "Agreement",
            "How far the last answers say the same as earlier ones to the same prompts.",
            panels.SHARE,
            Query(level(probe_table.PROBE_AGREEMENT, *names, how="min"), "{{suite}}: {{target}}"),
            most=1,
        ),
        lines(
            "Prompts asked",
            "By what became of them; budget: the day's was spent.",
            panels.PER_SECOND,
            Query(rate(probe_table.PROBE_RUNS, "target", "result"), "{{target}}: {{result}}"),
        ),
        lines(
            "Cost of probes",
            "In the time shown.",
            panels.USD,
            Query(increase(probe_table.PROBE_COST, "suite", "target"), "{{suite}}: {{target}}"),
        ),
    ]


def _looking() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Judged",
            "Answers that were judged, by target.",
            panels.PER_SECOND,
            Query(rate(table.DRIFT_ANALYZED, "target"), "{{target}}"),
            stacked=True,
        ),
        lines(
            "Passed over",
            "Answers that were not judged, by reason.",
            panels.PER_SECOND,
            Query(rate(table.DRIFT_SKIPPED, "reason"), "{{reason}}"),
            stacked=True,
        ),
        lines(
            "Time to judge an answer",
            "In a thread of its own, never on the line; the policy's cpu_share bounds it.",
            panels.SECONDS,
            *(
                Query(quantile(part, table.DRIFT_FEATURE_SECONDS), f"p{round(part * 100)}")
                for part in (0.5, 0.95, 0.99)
            ),
        ),
        lines(
            "References",
            "Answers that new ones are compared with, up to the policy's grow_to.",
            panels.COUNT,
            Query(level(table.DRIFT_REFERENCE, *_NAMES, how="max"), "{{model}}: {{target}}"),
        ),
    ]

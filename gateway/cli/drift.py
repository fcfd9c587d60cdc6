"""`headgate drift`: whether models' answers changed, what moved, and what to make of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from gateway.cli.asking import DEFAULT_STATE, Admin, AdminOption, CannotAsk, StateOption, gateway, telling
from gateway.cli.columns import RED, YELLOW, shown, table
from gateway.cli.main import new_app
from gateway.drift.words import change, moment, paragraphs

app = new_app("See whether models' answers changed, and what moved.")
baseline = new_app("Keep what answers are like now as a baseline, by name.")
app.add_typer(baseline, name="baseline")

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A model's name in the policy.")]
TargetOption = Annotated[
    str, typer.Option(metavar="T", help="provider/model; needed if the model has several.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
BAR = 40


@app.callback()
def drift() -> None:
    """See whether models' answers changed, and what moved."""


@app.command()
def status(as_json: JsonOption = False, admin: AdminOption = "", state: StateOption = DEFAULT_STATE) -> None:
    """Show every target whose answers are watched, a line each.

    learning: too few answers to judge; ok: as before; notice: perhaps; drift: changed, until 'headgate drift
    reset'. Evidence is a power of ten: without a change it passes 6.3 once in two million answers.

    Exit codes: 0; 1 if a target drifts; 2 if it cannot be told.
    """
    with telling():
        streams = _streams(gateway(admin, state))
    if as_json:
        print(json.dumps({"streams": streams}, indent=2, ensure_ascii=False))
    else:
        print(_table(streams) if streams else "No answers were watched yet.")
    if any(stream["state"] == "drift" for stream in streams):
        raise typer.Exit(1)


@app.command()
def explain(
    model: ModelArgument,
    target: TargetOption = "",
    as_json: JsonOption = False,
    admin: AdminOption = "",
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Say in words what changed in a model's answers, with the reference and the present side by side.

    Exit codes: 0; 2 if it cannot be told.
    """
    with telling():
        asked = gateway(admin, state)
        stream = _one(_streams(asked), model, target)
        query = {"model": model, "target": stream["target"]}
        channels = json.loads(asked.get("/admin/drift/channels", query))["channels"]
        exemplars = json.loads(asked.get("/admin/drift/exemplars", query))["exemplars"]
    if as_json:
        whole = {**stream, "distributions": channels, "exemplars": exemplars}
        print(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    print("\n".join(_told(stream)))
    for channel in channels[:3]:
        print()
        print("\n".join(_picture(channel)))
    if exemplars:
        print("\nAnswers since:")
        for exemplar in exemplars:
            print(f"  {exemplar['hash']}  {shown(' '.join(exemplar['text'].split()))[:400]}")


@app.command()
def reset(
    model: ModelArgument,
    target: TargetOption = "",
    relearn: Annotated[
        bool, typer.Option("--relearn", help="Forget the reference too, and learn from nothing.")
    ] = False,
    admin: AdminOption = "",
    state: StateOption = DEFAULT_STATE,
) -> None:
    """End an alarm: answers since the change are the reference from now on.

    Exit codes: 0; 2 if it could not be done.
    """
    _order("relearn" if relearn else "reset", model, target, {}, admin, state)


@baseline.command()
def pin(
    model: ModelArgument,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The baseline's name.")] = "pinned",
    target: TargetOption = "",
    admin: AdminOption = "",
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Keep the reference as it is now, by name; slow changes are measured against the one pinned last.

    Exit codes: 0; 2 if it could not be done.
    """
    _order("pin", model, target, {"name": name}, admin, state)


@baseline.callback()
def baselines() -> None:
    """Keep what answers are like now as a baseline, by name."""


def _order(what: str, model: str, target: str, more: Mapping[str, str], admin: str, state: Any) -> None:
    with telling():
        asked = gateway(admin, state)
        stream = _one(_streams(asked), model, target)
        body = {"model": model, "target": stream["target"], **more}
        done = asked.post(f"/admin/drift/{what}", body)
    print(f"{model} on {done['target']}: {done['done']}.")


def _streams(asked: Admin) -> list[dict[str, Any]]:
    try:
        return list(json.loads(asked.get("/admin/drift"))["streams"])
    except (ValueError, KeyError, TypeError):
        raise CannotAsk("What answers there is no gateway.") from None


def _one(streams: Sequence[dict[str, Any]], model: str, target: str) -> dict[str, Any]:
    found = [stream for stream in streams if stream["model"] == model and target in ("", stream["target"])]
    if len(found) == 1:
        return found[0]
    if not found:
        known = ", ".join(sorted({stream["model"] for stream in streams})) or "none"
        raise CannotAsk(f"No answers of {model} are watched yet; of these they are: {known}.")
    targets = ", ".join(stream["target"] for stream in found)
    raise CannotAsk(f"{model} has several targets; give --target, one of: {targets}.")


def _table(streams: Sequence[Mapping[str, Any]]) -> str:
    head = ("model", "target", "state", "evidence", "answers", "reference", "moved most")
    colours = [{"drift": RED, "notice": YELLOW}.get(stream["state"], "") for stream in streams]
    return table(head, [_cells(stream) for stream in streams], left=3, colours=colours)


def _cells(stream: Mapping[str, Any]) -> list[str]:
    moved = stream["channels"][0]["channel"] if stream["state"] in ("drift", "notice") else ""
    evidence = f"{stream['evidence']:.1f}" if stream["state"] != "learning" else ""
    counts = [str(stream["answers"]), str(stream["reference"])]
    return [stream["model"], stream["target"], stream["state"], evidence, *counts, moved]


def _told(stream: Mapping[str, Any]) -> list[str]:
    if stream["alarm"] is not None:
        lines = list(paragraphs(stream["alarm"]))
        if stream["action"]:
            lines.append(f"As the policy says, {stream['action']} until then.")
        lines.append("When that is how it should be: headgate drift reset " + stream["model"])
    else:
        where = f"{stream['model']} on {stream['target']}"
        known = {
            "learning": f"{where}: learning, {stream['reference']} of {stream['arms_at']} answers.",
            "ok": f"{where}: answers are as before, by {stream['reference']} of them.",
            "notice": f"{where}: answers may have changed (10^{stream['evidence']:.1f}).",
        }
        lines = [known.get(stream["state"], where)]
        if stream["state"] == "notice":
            lines += [f"  {change(moved)}" for moved in stream["channels"][:3]]
    if stream["performance_alarm"] is not None:
        lines += paragraphs(stream["performance_alarm"])
    for field, before, after, at_s in stream["changes"][-3:]:
        lines.append(f"{moment(at_s)}: {field} {before} → {after}")
    return lines


def _picture(channel: Mapping[str, Any]) -> list[str]:
    """Two distributions as bars, the bins that hold anything."""
    lines = [f"{channel['tells']} ({channel['channel']})", f"{'':16} {'before':{BAR // 2}} now"]
    most = max(max(channel["reference"]), max(channel["current"]), 1e-9)
    for index, (old, new) in enumerate(zip(channel["reference"], channel["current"], strict=True)):
        if old >= 0.005 or new >= 0.005:
            bars = ["█" * round(share / most * (BAR // 2 - 1)) for share in (old, new)]
            lines.append(f"{_bin(channel, index):>16} {bars[0]:{BAR // 2}} {bars[1]}")
    return lines


def _bin(channel: Mapping[str, Any], index: int) -> str:
    if channel["kind"] == "rate":
        return ("no", "yes")[index]
    if channel["kind"] == "nominal":
        return str(channel["cells"][index])[:16]
    edges = channel["edges"]
    edge = edges[max(0, index - 1)]
    shown = f"{edge:.0f}" if edge >= 100 else f"{edge:.3g}"
    return f"< {shown}" if index == 0 else f">= {shown}"

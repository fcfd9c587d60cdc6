"""PromQL over rows of the metric table. A label or a kind that the table does not have is an error here, so
that no dashboard asks for what nobody emits.

Each selector is narrowed to what the dashboard's variables choose, as far as the metric has the label.
"""

from __future__ import annotations

from gateway.telemetry.metric import Metric

WINDOW = "$__rate_interval"
"""As wide as a rate needs to be for the panel's resolution and the scrape interval."""
SHOWN = "$__range"
"""All of the time that the dashboard shows."""
_CHOSEN = {
    "team": "$team",
    "model": "$model",
    "gen_ai_original_model": "$model",
}


def selector(metric: Metric, suffix: str = "", **where: str) -> str:
    """The series of a metric. `where` is label → value; a value may begin with `~`, `!` or `!~`."""
    matchers = ['job=~"$job"', 'instance=~"$instance"']
    matchers += [f'{label}=~"{variable}"' for label, variable in _CHOSEN.items() if label in metric.labels]
    for label, value in where.items():
        _known(metric, label, suffix)
        matchers.append(f"{label}{_matcher(value)}")
    return f"{metric.name}{suffix}{{{', '.join(matchers)}}}"


def rate(metric: Metric, *by: str, suffix: str = "", **where: str) -> str:
    """How fast a counter rises, per second, summed by labels."""
    return _summed(metric, "rate", WINDOW, by, suffix, where)


def increase(metric: Metric, *by: str, window: str = SHOWN, suffix: str = "", **where: str) -> str:
    """How much a counter rose in a window, summed by labels."""
    return _summed(metric, "increase", window, by, suffix, where)


def level(metric: Metric, *by: str, how: str = "sum", **where: str) -> str:
    """A gauge, brought together by labels: `how` is sum, max, min or avg."""
    _of_kind(metric, "gauge")
    return f"{_aggregated(how, metric, by)}({selector(metric, **where)})"


def quantile(share: float, metric: Metric, *by: str, **where: str) -> str:
    """The value that this share of a histogram's observations does not pass."""
    _of_kind(metric, "histogram")
    buckets = selector(metric, "_bucket", **where)
    summed = _aggregated("sum", metric, ("le", *by), "_bucket")
    return f"histogram_quantile({share}, {summed}(rate({buckets}[{WINDOW}])))"


def mean(metric: Metric, *by: str, **where: str) -> str:
    """The mean of a histogram's observations."""
    return ratio(rate(metric, *by, suffix="_sum", **where), rate(metric, *by, suffix="_count", **where))


def ratio(part: str, whole: str) -> str:
    """One by the other; nothing where there is nothing to divide by."""
    return f"{part} / ({whole} > 0)"


def share(part: str, whole: str) -> str:
    """A part of its whole, 0 to 1; both have the same labels. 0 as long as the part has no series."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def provider_of(query: str) -> str:
    """A query by target, with the provider (the target's first word) as a label of its own."""
    return f'label_replace({query}, "provider", "$1", "target", "([^/]+)/.*")'


def _summed(
    metric: Metric, function: str, window: str, by: tuple[str, ...], suffix: str, where: dict[str, str]
) -> str:
    _of_kind(metric, "histogram" if suffix else "counter")
    return f"{_aggregated('sum', metric, by)}({function}({selector(metric, suffix, **where)}[{window}]))"


def _aggregated(how: str, metric: Metric, by: tuple[str, ...], suffix: str = "") -> str:
    for label in by:
        _known(metric, label, suffix)
    return f"{how} by ({', '.join(by)}) " if by else how


def _matcher(value: str) -> str:
    for sign, operator in (("!~", "!~"), ("!", "!="), ("~", "=~")):
        if value.startswith(sign):
            return f'{operator}"{value.removeprefix(sign)}"'
    return f'="{value}"'


def _of_kind(metric: Metric, kind: str) -> None:
    if metric.kind != kind:
        raise ValueError(f"{metric.name} is no {kind}, but a {metric.kind}")


def _known(metric: Metric, label: str, suffix: str) -> None:
    scraped = {"job", "instance"} | ({"le"} if suffix == "_bucket" else set())
    if label not in scraped and label not in metric.labels:
        raise ValueError(f"{metric.name} has no label {label}")

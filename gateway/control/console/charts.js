// Which charts there are, and the columns of the history that they draw.

import { Chart } from "./chart.js";
import { amount, bytes, duration, usd } from "./format.js";

const MOST_ERRORS = 5;
const ERROR_TONES = ["bad", "warn", "violet", "blue", "deep"];
const PROCESSES = [["worker", "Workers", "deep"], ["control", "Control", "warn"], ["keeper", "Keeper", "violet"],
  ["supervisor", "Supervisor", "gone"]];

/** Lines for columns of known names. A rate that was never told is 0, a quantile that was not is a gap. */
function columns(names, { rate = true } = {}) {
  return (history) => names.map(([column, name, tone]) =>
    ({ name, tone, values: rate ? zeroed(history, column) : history.columns[column] ?? history.at.map(() => null) }));
}

function zeroed(history, column) {
  const values = history.columns[column];
  return values ? values.map((value) => value ?? 0) : history.at.map(() => 0);
}

function quantiles(what) {
  return columns([[`${what}.p95`, "95 % within", "deep"], [`${what}.p50`, "half within", "blue"]], { rate: false });
}

/** The error types that failed most calls in the time shown, and the sum of all others. */
function errors(history, start) {
  const names = Object.keys(history.columns).filter((name) => name.startsWith("errors."));
  const sums = names.map((name) => [name, zeroed(history, name).slice(start).reduce((sum, value) => sum + value, 0)])
    .filter(([, sum]) => sum > 0).sort((a, b) => b[1] - a[1]);
  const lines = sums.slice(0, MOST_ERRORS).map(([column], at) =>
    ({ name: column.slice("errors.".length), tone: ERROR_TONES[at], values: zeroed(history, column) }));
  const rest = sums.slice(MOST_ERRORS).map(([column]) => zeroed(history, column));
  if (rest.length) {
    lines.push({ name: `${rest.length} more`, tone: "gone", values: history.at.map((_, at) => rest.reduce((sum, values) => sum + values[at], 0)) });
  }
  return lines;
}

function present(history, names, prefix, suffix = "") {
  return names.filter(([name]) => history.columns[`${prefix}${name}${suffix}`])
    .map(([name, said, tone]) => [`${prefix}${name}${suffix}`, said, tone]);
}

const perSecond = (value) => (value == null ? "–" : `${amount(value)}/s`);

export const traffic = () => [
  new Chart({
    title: "Calls", note: "per second, by how they ended", stacked: true, format: perSecond,
    lines: columns([["calls.ok", "answered", "good"], ["calls.refused", "refused", "warn"],
      ["calls.upstream_failed", "provider failed", "bad"], ["calls.caller_gone", "caller left", "gone"]]),
  }),
  new Chart({
    title: "Errors", note: "per second, by type", stacked: true, format: perSecond, lines: errors,
    none: "No call failed in this time.",
  }),
  new Chart({
    title: "First token", note: "of streams, over a minute each", format: duration, lines: quantiles("first_token"),
    none: "No streams in this time.",
  }),
  new Chart({
    title: "Whole call", note: "of calls that ended well", format: duration, lines: quantiles("duration"),
    none: "No calls in this time.",
  }),
  new Chart({
    title: "Cost", note: "dollars per hour, at the rate of the moment", stacked: true, format: usd,
    lines: columns([["usd_per_hour", "an hour", "good"]]),
  }),
  new Chart({
    title: "Tokens", note: "per second, by kind", stacked: true, format: perSecond,
    lines: columns([["tokens.input", "input", "blue"], ["tokens.cached", "cached input", "violet"], ["tokens.output", "output", "deep"]]),
  }),
  new Chart({
    title: "Overhead", note: "time that the gateway itself adds", format: duration, lines: quantiles("overhead"),
    none: "No calls in this time.",
  }),
  new Chart({
    title: "Attempts", note: "per second: failed, made again, taken elsewhere", format: perSecond,
    lines: columns([["again.attempts_failed", "failed", "bad"], ["again.retries", "retries", "warn"], ["again.fallbacks", "fallbacks", "violet"]]),
  }),
];

export const gateway = () => [
  new Chart({
    title: "Event loops", note: "how late they are, 95 % within", format: duration,
    lines: (history, start) => columns(present(history, PROCESSES, "lag.", ".p95"), { rate: false })(history, start),
  }),
  new Chart({
    title: "Memory", note: "resident, by process", stacked: true, format: bytes,
    lines: (history, start) => columns(present(history, PROCESSES, "memory."))(history, start),
  }),
];

// Everything that is no chart: figures, tables and facts, made from what the gateway tells.

import { bar, byId, el, say, table } from "./dom.js";
import { amount, bytes, clock, count, duration, share, span, usd } from "./format.js";
import { place } from "./notices.js";

const FAULTS = { caller: "the caller’s", policy: "the policy’s", provider: "the provider’s", gateway: "the gateway’s" };
const STATES = { up: ["up", "good"], trial: ["on trial", "warn"], ejected: ["ejected", "bad"] };
const NAMES = { _other: "all others", _none: "none" };
const MEASURES = { requests: "requests", tokens: "tokens", concurrent: "at once" };

export function figures(told) {
  const { summary } = told;
  const tokens = summary.quantiles.first_token ?? {};
  const whole = summary.quantiles.duration ?? {};
  const overhead = summary.quantiles.overhead ?? {};
  say(byId("over"), summary.over_s ? `over ${span(summary.over_s)}` : "");
  byId("figures").replaceChildren(
    figure("Calls", `${amount(summary.calls_per_s)}/s`, `${count(summary.open_calls)} open, ${amount(summary.calls)} since start`),
    figure("Failed", share(summary.failed_share), `${amount(summary.failed)} since start`, summary.failed_share >= 0.05 ? "bad" : ""),
    figure("Cost", `${usd(summary.usd_per_hour)}/h`, `${usd(summary.usd_last_hour)} last hour, ${usd(summary.usd_today)} ${today(summary)}`),
    figure("Tokens", `${amount(summary.tokens_per_s)}/s`, `${amount(summary.tokens)} since start`),
    figure("First token", duration(tokens.p50), `95 % within ${duration(tokens.p95)}`),
    figure("Whole call", duration(whole.p50), `95 % within ${duration(whole.p95)}`),
    figure("Overhead", duration(overhead.p50), `95 % within ${duration(overhead.p95)}`),
  );
}

/** The day is UTC's; the first one begins when the gateway is first looked at. */
function today({ today_since_ms: since }) {
  return since % 86400000 === 0 ? "today (UTC)" : `since ${clock(since)}`;
}

function figure(name, value, note, tone = "") {
  return el("div", { class: `figure ${tone}` }, el("dt", {}, name), el("dd", {}, el("span", { class: "value" }, value), el("small", {}, note)));
}

export function errors({ tables, meanings }) {
  const { rows } = tables.error_type;
  byId("errors-card").hidden = !rows.length;
  byId("errors").replaceChildren(table("Errors by type", [
    { name: "Type", cell: ({ name }) => el("code", {}, name) },
    { name: "Last hour", number: true, cell: ({ hour }) => count(hour.failed) },
    { name: "Since start", number: true, cell: ({ ever }) => count(ever.failed) },
    { name: "Whose fault", cell: ({ name }) => FAULTS[name.split("_")[0]] ?? "–" },
    { name: "What the caller is told", wide: true, cell: ({ name }) => meanings[name] ?? "" },
  ], rows));
}

export function spend({ tables }, by) {
  const { rows, left_out: leftOut } = tables[by];
  const most = Math.max(...rows.map(({ hour }) => hour.usd), 0);
  const title = { team: "Team", key: "Key", model: "Model" }[by];
  const columns = [
    { name: title, cell: ({ name }) => named(name, leftOut) },
    { name: "Cost, last hour", number: true, cell: ({ hour }) => usd(hour.usd) },
    { name: "Share", cell: ({ name, hour }) => bar(`${named(name, leftOut)}: ${usd(hour.usd)}`, [{ share: most ? hour.usd / most : 0, class: "part" }]) },
    { name: "Calls", number: true, cell: ({ hour }) => count(hour.calls) },
    { name: "Failed", number: true, cell: ({ hour }) => count(hour.failed) },
    { name: "Tokens", number: true, cell: ({ hour }) => amount(hour.tokens) },
    { name: "Cost since start", number: true, cell: ({ ever }) => usd(ever.usd) },
    { name: "Calls since start", number: true, cell: ({ ever }) => count(ever.calls) },
  ].filter(({ name }) => by !== "key" || name !== "Tokens");
  byId("spend-table").replaceChildren(table(`Spend by ${by}`, columns, rows));
}

function named(name, leftOut) {
  return name === "_other" && leftOut ? `${leftOut} others` : NAMES[name] ?? name;
}

export function targets({ targets: all, tables }) {
  const seen = new Map(tables.target.rows.map((row) => [row.name, row.hour]));
  const hour = ({ model, target }) => seen.get(`${model} ${target}`) ?? { attempts: 0, attempts_failed: 0, retries: 0 };
  byId("targets-table").replaceChildren(all.length ? table("Targets", [
    { name: "Target", cell: ({ target }) => target },
    { name: "Model", cell: ({ model }) => model },
    { name: "State", cell: ({ state }) => badge(...(STATES[state] ?? [state, "warn"])) },
    { name: "Attempts, last hour", number: true, cell: (row) => count(hour(row).attempts) },
    { name: "Failed", number: true, cell: (row) => failed(hour(row)) },
    { name: "Retries", number: true, cell: (row) => count(hour(row).retries) },
  ], all) : nothing("The policy has no models: name one under ", "models:"));
}

function failed({ attempts, attempts_failed: bad }) {
  return bad ? `${count(bad)} (${share(bad / attempts)})` : "0";
}

function badge(text, tone) {
  return el("span", { class: `badge ${tone}` }, text);
}

export function budgets({ budgets: { rows, left_out: leftOut }, store, now }) {
  if (!rows.length) {
    byId("budgets-table").replaceChildren(store.used ? nothing("No call has counted towards a limit yet.")
      : nothing("The policy limits nothing. Name what may be spent or called under ", "budgets:", " and ", "limits:"));
    return;
  }
  const made = table("Budgets and limits, the fullest first", [
    { name: "Name", cell: (row) => el("span", {}, row.name, row.mode === "shadow" && badge("shadow", "gone")) },
    { name: "For", cell: ({ subject }) => (subject === "all" ? "everybody" : subject) },
    { name: "Used", cell: used },
    { name: "Spent", number: true, cell: (row) => (row.kind === "budget" ? usd(Number(row.spent_usd)) : "–") },
    { name: "Held", number: true, cell: (row) => (row.kind === "budget" ? usd(Number(row.held_usd)) : amount(row.held)) },
    { name: "Limit", number: true, cell: limit },
    { name: "Window ends", cell: (row) => ends(row, now) },
  ], rows);
  byId("budgets-table").replaceChildren(made, leftOut ? el("p", { class: "quiet" }, `${count(leftOut)} more are less full: `, el("code", {}, "headgate budget list")) : "");
}

function used(row) {
  const most = row.kind === "budget" ? Number(row.limit_usd) + Number(row.topped_up_usd) : 0;
  const held = row.kind === "budget" && most > 0 ? Math.min(row.used_share, Number(row.held_usd) / most) : 0;
  const tone = row.used_share >= 1 ? "bad" : row.used_share >= 0.9 ? "warn" : "part";
  const said = `${share(row.used_share)} used${held ? `, of it ${share(held)} held by calls under way` : ""}`;
  return el("span", { class: "used" }, bar(said, [{ share: row.used_share - held, class: tone }, { share: held, class: "held" }]),
    el("span", {}, share(row.used_share)));
}

function limit(row) {
  if (row.kind === "budget") {
    const added = Number(row.topped_up_usd);
    return added ? `${usd(Number(row.limit_usd))} ${added > 0 ? "+" : "−"} ${usd(Math.abs(added))}` : usd(Number(row.limit_usd));
  }
  const what = MEASURES[row.measure] ?? row.measure;
  return row.per_s ? `${amount(row.limit)} ${what}/${per(row.per_s)}` : `${amount(row.limit)} ${what}`;
}

function per(seconds) {
  return { 1: "s", 60: "min", 3600: "h", 86400: "day" }[seconds] ?? span(seconds);
}

function ends({ kind, window, timezone, per_s: seconds }, now) {
  if (kind !== "budget") return seconds ? "fills as time goes by" : "when calls end";
  if (window.rolling_s) return `rolling, ${span(window.rolling_s)}`;
  if (!window.ends) return "–";
  return el("time", { datetime: window.ends, title: `${window.ends} (${timezone})` }, `in ${span((Date.parse(window.ends) - now) / 1000)}`);
}

function nothing(...parts) {
  return el("p", { class: "quiet" }, parts.map((part, at) => (at % 2 ? el("code", {}, part) : part)));
}

export function facts({ policy, workers, store, not_ready: notReady, summary, version }, columns) {
  const ready = workers.running.filter((worker) => worker.policy === policy.hash).length;
  const trips = summary.quantiles.store;
  const memory = Object.entries(columns).filter(([name]) => name.startsWith("memory."))
    .reduce((sum, [, values]) => sum + (values[values.length - 1] ?? 0), 0);
  const lag = Math.max(...Object.entries(summary.quantiles).filter(([name]) => name.startsWith("lag.")).map(([, found]) => found.p95 ?? 0), 0);
  byId("facts").replaceChildren(
    fact("Policy", policy.hash ? el("code", {}, policy.hash.slice(0, 12)) : "none", policy.hash ? `in force for ${span(policy.age_s)}` : ""),
    fact("Last reload", policy.problems.length ? badge("rejected", "bad") : badge("accepted", "good"), counted(policy.problems.length, "mistake") || counted(policy.warnings.length, "warning") || "no warnings"),
    fact("Workers", badge(`${ready} of ${workers.asked}`, ready === workers.asked ? "good" : "bad"), "use the policy in force"),
    fact("Ready", notReady.length ? badge("no", "bad") : badge("yes", "good"), notReady.join("; ") || "new calls are welcome"),
    fact("Store", store.used ? badge(store.up ? "answers" : "out", store.up ? "good" : "bad") : "not used", store.used ? store.why || (trips ? `half within ${duration(trips.p50)}` : "of limits and budgets") : "the policy has no limits"),
    fact("Loops late", duration(lag || null), "95 % within, the latest process"),
    fact("Memory", memory ? bytes(memory) : "–", "all processes"),
    fact("Streams", count(summary.open_streams), "open now"),
  );
  byId("policy-notes").replaceChildren(...notes("Mistakes of the last reload", policy.problems.map(place)), ...notes("Warnings", policy.warnings));
  say(byId("foot"), `Headgate ${version}`);
}

function counted(size, what) {
  return size ? `${size} ${what}${size > 1 ? "s" : ""}` : "";
}

function fact(name, value, note) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value, el("small", {}, note)));
}

function notes(title, lines) {
  return lines.length ? [el("h3", {}, title), el("ul", { class: "lines" }, lines.map((line) => el("li", {}, line)))] : [];
}

export function firstCall({ first_call: call, summary }) {
  const isQuiet = summary.calls === 0 && call != null;
  byId("first").hidden = !isQuiet;
  for (const id of ["now", "traffic", "spend"]) {
    byId(id).hidden = isQuiet;
    document.querySelector(`nav a[href="#${id}"]`).hidden = isQuiet;
  }
  if (!isQuiet) return;
  say(byId("curl"), call.curl);
  byId("key-note").hidden = call.key !== "YOUR-KEY";
}

// What needs somebody: found in what the gateway tells, worst first.

import { el } from "./dom.js";
import { share } from "./format.js";

// Steps, not figures: what is said here is read aloud whenever it changes.
const FAILED_STEPS = [0.5, 0.25, 0.1, 0.05];
const FEWEST_CALLS = 20;
const NEARLY = 0.9;

/** [{tone: "bad" | "warn", text, href, rows}] */
export function notices(told) {
  const found = [...ofPolicy(told), ...ofProcesses(told), ...ofTargets(told.targets), ...ofBudgets(told.budgets.rows),
    ...ofErrors(told), ...ofDrift(told.drift)];
  return found.sort((a, b) => (a.tone === "bad" ? 0 : 1) - (b.tone === "bad" ? 0 : 1));
}

export function notice({ tone, text, href, rows = [] }) {
  return el("div", { class: `notice ${tone}` },
    el("p", {}, el("b", {}, tone === "bad" ? "Wrong: " : "Look: "), text, " ", href && el("a", { href }, "Show")),
    rows.length > 0 && el("ul", {}, rows.map((row) => el("li", {}, row))));
}

/** "03-teams.yaml:12:5: teams.demo: message" */
export function place({ file, line, column, path, message }) {
  const where = [file, line, column].filter(Boolean).join(":");
  return [where, path, message].filter(Boolean).join(": ");
}

function ofPolicy({ policy }) {
  if (!policy.problems.length) return [];
  const text = "the policy folder has mistakes, so it was not put in force; the policy before goes on.";
  return [{ tone: "bad", text, rows: policy.problems.slice(0, 5).map(place), href: policy.problems.length > 5 ? "#gateway" : null }];
}

function ofProcesses({ not_ready, store }) {
  const found = not_ready.map((reason) => ({ tone: "bad", text: `not ready: ${reason}.`, href: "#gateway" }));
  if (store.used && !store.up && !store.why) {
    found.push({ tone: "bad", text: "the store of limits and budgets does not answer.", href: "#gateway" });
  }
  return found;
}

function ofTargets(targets) {
  return targets.filter(({ state }) => state !== "up").map(({ model, target, state }) => ({
    tone: "warn", href: "#targets",
    text: state === "trial" ? `${target} (${model}) is on trial after it failed.` : `${target} (${model}) is ejected: its calls go elsewhere.`,
  }));
}

function ofBudgets(rows) {
  return rows.filter((row) => row.kind === "budget" && row.mode === "enforce" && row.used_share >= NEARLY).map((row) => {
    const whose = row.subject === "all" ? "" : ` of ${row.subject}`;
    return row.used_share >= 1
      ? { tone: "bad", text: `the budget ${row.name}${whose} is used up: its calls are refused.`, href: "#budgets" }
      : { tone: "warn", text: `the budget ${row.name}${whose} is more than ${share(NEARLY)} used.`, href: "#budgets" };
  });
}

function ofErrors({ summary }) {
  const calls = summary.calls_per_s * summary.over_s;
  const step = FAILED_STEPS.find((least) => summary.failed_share >= least);
  if (calls < FEWEST_CALLS || step == null) return [];
  return [{ tone: "warn", text: `more than ${share(step)} of the calls of the last minutes failed.`, href: "#traffic" }];
}

function ofDrift(streams) {
  return streams.filter(({ state }) => state === "drift").map(({ model, target }) => ({
    tone: "warn", href: "#drift", text: `the answers of ${target} (${model}) changed.`,
  }));
}

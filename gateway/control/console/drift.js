// Drift: how each target's answers stand, and one target's reference and present side by side.

import { byId, el, svg, table } from "./dom.js";
import { amount, clock, count, share } from "./format.js";

const STATES = {
  learning: ["learning", "gone"], ok: ["as before", "good"], notice: ["notice", "warn"], drift: ["changed", "bad"],
};
const CAUSES = {
  model: "nothing else changed, so it is the model or what it is run on",
  mixed: "what is asked changed as well",
  fingerprint: "the provider named another model or build",
  confirmed: "probes with fixed prompts changed too",
};
const WIDTH = 300;
const HEIGHT = 76;
const MOST_CELLS = 6;

/** Of each target: the state, the evidence, what moved. `choose(stream)` is called to have one compared. */
export function standing({ drift }, chosen, choose) {
  byId("drift").hidden = !drift.length;
  document.querySelector('nav a[href="#drift"]').hidden = !drift.length;
  if (!drift.length) return;
  byId("drift-table").replaceChildren(table("Answers of each target, and whether they changed", [
    { name: "Target", cell: ({ target }) => target },
    { name: "Model", cell: ({ model }) => model },
    { name: "Answers", cell: ({ state }) => badge(...STATES[state]) },
    { name: "Speed", cell: ({ performance_state: state }) => badge(...STATES[state]) },
    { name: "Evidence", number: true, cell: ({ evidence }) => el("span", { title: "A power of ten: 6.3 is one chance in two million answers" }, evidence.toFixed(1)) },
    { name: "Looked at", number: true, cell: ({ answers }) => count(answers) },
    { name: "Since", cell: ({ alarm, reference, arms_at: arms }) => (alarm ? el("time", { datetime: new Date(alarm.since_s * 1000).toISOString() }, clock(alarm.since_s * 1000)) : reference < arms ? `${count(reference)} of ${count(arms)} learnt` : "–") },
    { name: "", cell: (stream) => compareButton(stream, chosen, choose) },
    { name: "What moved most", wide: true, cell: moved },
  ], drift));
}

function badge(text, tone) {
  return el("span", { class: `badge ${tone}` }, text);
}

function moved({ alarm, state, channels, action }) {
  if (state !== "drift" && state !== "notice") return "";
  const said = channels.slice(0, 3).map(({ text }) => text).join("; ");
  return alarm ? `${said}. Cause: ${CAUSES[alarm.cause]}.${action ? ` Done: ${action}.` : ""}` : said;
}

function compareButton(stream, chosen, choose) {
  const isChosen = chosen != null && same(stream, chosen);
  const made = el("button", { type: "button", "aria-pressed": String(isChosen), "aria-label": `Compare ${stream.model} on ${stream.target}` }, "Compare");
  made.addEventListener("click", () => choose(isChosen ? null : stream));
  return made;
}

export function same(one, other) {
  return one.model === other.model && one.target === other.target;
}

/** `told` is what /admin/drift/channels says; null closes the panel. */
export function comparison(told) {
  byId("drift-compare").hidden = told == null;
  if (told == null) return;
  byId("drift-compare").replaceChildren(
    el("h3", {}, `${told.model} on ${told.target}`),
    el("p", { class: "quiet" }, el("span", { class: "swatch tone-gone" }), "reference ", el("span", { class: "swatch tone-blue" }), "now"),
    el("div", { class: "distributions" }, told.channels.map(distribution)),
    el("p", { class: "quiet" }, "All right as it is? ", el("code", {}, `headgate drift reset ${told.model}`), " makes it the reference."),
  );
}

function distribution(channel) {
  const cells = channel.kind === "number" ? bins(channel) : named(channel);
  const title = `${channel.tells}: moved by ${channel.effect.toFixed(2)} of 1`;
  return el("figure", {}, el("figcaption", {}, channel.tells, el("small", {}, ` moved by ${channel.effect.toFixed(2)} of 1`)),
    channel.kind === "number" ? histogram(title, cells, channel.unit) : pairs(cells));
}

/** The bins that have anything, without the empty ones at either end. */
function bins({ edges, reference, current }) {
  const all = reference.map((before, at) => ({ from: edges[at - 1], to: edges[at], before, after: current[at] }));
  const filled = all.map(({ before, after }) => before + after > 0.002);
  return filled.includes(true) ? all.slice(filled.indexOf(true), filled.lastIndexOf(true) + 1) : all;
}

function named({ cells, reference, current }) {
  const all = cells.map((name, at) => ({ name, before: reference[at] ?? 0, after: current[at] ?? 0 }));
  return all.sort((a, b) => Math.max(b.before, b.after) - Math.max(a.before, a.after)).slice(0, MOST_CELLS)
    .filter(({ before, after }) => before + after > 0);
}

function histogram(title, cells, unit) {
  const most = Math.max(...cells.flatMap(({ before, after }) => [before, after]), 0.001);
  const step = WIDTH / cells.length;
  const rect = (value, x, tone) => svg("rect", { class: `fill ${tone}`, x, width: Math.max(1, step * 0.42), y: HEIGHT - (value / most) * HEIGHT, height: (value / most) * HEIGHT });
  return [
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}. ${described(cells)}`, preserveAspectRatio: "none" },
      cells.flatMap(({ before, after }, at) => [rect(before, at * step, "tone-gone"), rect(after, at * step + step * 0.45, "tone-blue")])),
    el("p", { class: "ends" }, el("span", {}, edge(cells[0].from, cells[0].to, "below")), el("span", {}, unit),
      el("span", {}, edge(cells.at(-1).to, cells.at(-1).from, "above"))),
  ];
}

function edge(own, other, word) {
  return own == null ? `${word} ${amount(other)}` : amount(own);
}

function described(cells) {
  const [before, after] = ["before", "after"].map((side) => cells.reduce((best, cell) => (cell[side] > best[side] ? cell : best)));
  const told = ({ from, to }) => `${amount(from ?? 0)} to ${to == null ? "more" : amount(to)}`;
  return `Most were ${told(before)}, most are ${told(after)}.`;
}

function pairs(cells) {
  return el("dl", { class: "pairs" }, cells.flatMap(({ name, before, after }) => [
    el("dt", {}, name),
    el("dd", {}, line(before, "tone-gone", "reference"), line(after, "tone-blue", "now")),
  ]));
}

function line(value, tone, which) {
  const filled = el("span", { class: `fill ${tone}` });
  filled.style.width = `${value * 100}%`;
  return el("span", { class: "pair", role: "img", "aria-label": `${which}: ${share(value)}` }, el("span", { class: "track" }, filled), el("small", {}, share(value)));
}

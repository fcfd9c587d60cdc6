// The console: asks for what the gateway tells every few seconds, and shows it.

import { gateway, traffic } from "./charts.js";
import { byId, say } from "./dom.js";
import { comparison, same, standing } from "./drift.js";
import { amount, clockSeconds } from "./format.js";
import { notice, notices } from "./notices.js";
import * as views from "./views.js";

const HOUR_MS = 3600000;
const AGAIN_MS = 5000;
const WITHIN_MS = 10000;
const KEY = "headgate-admin-key";
const THEME = "headgate-theme";
const SPAN = "headgate-span";

const history = { at: [], columns: {} };
const charts = { traffic: traffic(), gateway: gateway() };
let told = null;
let shown = "";
let timer = 0;
let isPaused = false;
let isAsking = false;
let lostSince = null;
let compared = null;

class Refused extends Error {}

async function ask(what) {
  const key = sessionStorage.getItem(KEY);
  const answer = await fetch(`admin/${what}`, {
    headers: key ? { authorization: `Bearer ${key}` } : {},
    cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(WITHIN_MS),
  });
  if (answer.status === 401) throw new Refused();
  if (!answer.ok) throw new Error(`it answers ${answer.status}`);
  return answer.json();
}

async function look() {
  if (isAsking) return;
  clearTimeout(timer);
  let wait = AGAIN_MS;
  isAsking = true;
  try {
    told = await ask(`console?since=${history.at.at(-1) ?? 0}`);
    remember(told.series);
    await compare();
    found();
    show();
    wait = untilNext(told);
  } catch (error) {
    if (error instanceof Refused) {
      askForKey();
      return;
    }
    lost();
  } finally {
    isAsking = false;
  }
  if (!isPaused && !document.hidden) timer = setTimeout(look, wait);
}

/** Asks for the distributions of the target that somebody compares. */
async function compare() {
  if (compared != null && !told.drift.some((stream) => same(stream, compared))) compared = null;
  const { model, target } = compared ?? {};
  const found = compared == null ? null : await ask(`drift/channels?${new URLSearchParams({ model, target })}`);
  if (compared == null || (compared.model === model && compared.target === target)) comparison(compared && found);
}

async function choose(stream) {
  compared = stream;
  show();
  // What went wrong here goes wrong again, and is told, when the gateway is looked at next.
  await compare().catch(() => comparison(null));
}

/** Until a moment after the next step of the history. */
function untilNext({ now, series, budgets, store }) {
  // Balances are asked for once somebody looks, so the first answer has none.
  if (store.used && !budgets.rows.length && history.at.length < 3) return 1000;
  const last = history.at.at(-1) ?? now;
  return Math.max(1000, Math.min(AGAIN_MS, last + series.step_s * 1000 + 300 - now));
}

function remember({ at, columns }) {
  const known = history.at.length;
  history.at.push(...at);
  for (const name of Object.keys(columns)) history.columns[name] ??= Array(known).fill(null);
  for (const [name, values] of Object.entries(history.columns)) values.push(...(columns[name] ?? at.map(() => null)));
  const old = history.at.findIndex((moment) => moment > history.at.at(-1) - HOUR_MS - 10000);
  if (old > 0) for (const values of [history.at, ...Object.values(history.columns)]) values.splice(0, old);
}

function show() {
  if (told == null) return;
  views.firstCall(told);
  views.figures(told);
  views.errors(told);
  views.spend(told, chosen("by"));
  views.targets(told);
  views.budgets(told);
  standing(told, compared, choose);
  views.facts(told, history.columns);
  draw();
  announce();
}

function draw() {
  const minutes = Number(chosen("span"));
  for (const chart of [...charts.traffic, ...charts.gateway]) chart.update(history, told?.now ?? Date.now(), minutes);
}

/** Redrawn only when it says something else: it is read aloud. */
function announce() {
  const needed = notices(told);
  const text = JSON.stringify(needed);
  if (text !== shown) {
    byId("notices").replaceChildren(...needed.map(notice));
    shown = text;
  }
  const worst = needed[0]?.tone;
  byId("standing").className = `standing ${worst ?? "good"}`;
  say(byId("standing"), !needed.length ? "All is well" : needed.length === 1 ? "1 thing needs you" : `${needed.length} things need you`);
  document.title = `${worst ? "● " : ""}${amount(told.summary.calls_per_s)}/s · Headgate`;
}

function lost() {
  lostSince ??= Date.now();
  byId("lost").hidden = false;
  say(byId("lost"), `The gateway has not answered since ${clockSeconds(lostSince)}. What is shown is from before; it is asked again every few seconds.`);
  document.body.classList.add("stale");
  byId("standing").className = "standing bad";
  say(byId("standing"), "No answer");
  document.title = "● No answer · Headgate";
}

function found() {
  lostSince = null;
  byId("lost").hidden = true;
  document.body.classList.remove("stale");
  byId("forget").hidden = sessionStorage.getItem(KEY) == null;
}

function askForKey() {
  const had = sessionStorage.getItem(KEY) != null;
  sessionStorage.removeItem(KEY);
  say(byId("ask-wrong"), had ? "The gateway does not know that key." : "");
  say(byId("standing"), "Locked");
  if (!byId("ask").open) byId("ask").showModal();
  byId("key").value = "";
  byId("key").focus();
}

/** Browsers let only pages of localhost and https write to the clipboard: elsewhere the line is selected. */
async function copy() {
  const done = await navigator.clipboard?.writeText(byId("curl").textContent).then(() => true, () => false);
  if (!done) getSelection().selectAllChildren(byId("curl"));
  say(byId("copied"), done ? "Copied" : "Selected. Copy it with Ctrl C");
  say(byId("copy"), done ? "Copied" : "Selected");
}

function chosen(name) {
  return document.querySelector(`input[name="${name}"]:checked`).value;
}

function wire() {
  byId("traffic-charts").append(...charts.traffic.map((chart) => chart.element));
  byId("gateway-charts").append(...charts.gateway.map((chart) => chart.element));
  const span = localStorage.getItem(SPAN) ?? "5";
  (document.querySelector(`input[name="span"][value="${span}"]`) ?? document.querySelector('input[name="span"]')).checked = true;
  byId("span").addEventListener("change", () => {
    localStorage.setItem(SPAN, chosen("span"));
    draw();
  });
  byId("by").addEventListener("change", show);
  byId("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    byId("pause").setAttribute("aria-pressed", String(isPaused));
    if (isPaused) clearTimeout(timer);
    else look();
  });
  byId("theme").value = localStorage.getItem(THEME) ?? "";
  byId("theme").addEventListener("change", () => {
    localStorage.setItem(THEME, byId("theme").value);
    colour();
  });
  byId("copy").addEventListener("click", copy);
  byId("forget").addEventListener("click", () => {
    sessionStorage.removeItem(KEY);
    location.reload();
  });
  byId("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, byId("key").value.trim());
    byId("ask").close();
    look();
  });
  byId("ask").addEventListener("cancel", (event) => event.preventDefault());
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !isPaused && !byId("ask").open) look();
  });
}

function colour() {
  document.documentElement.dataset.theme = byId("theme").value;
}

wire();
colour();
look();

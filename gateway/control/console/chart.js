// A chart over time: lines or stacked areas in SVG, read with the pointer or the arrow keys, and as a table.

import { el, say, svg } from "./dom.js";
import { clock, clockSeconds } from "./format.js";

const HEIGHT = 168;
const INSET = { left: 52, right: 10, top: 10, bottom: 22 };
const TICK_MINUTES = { 5: 1, 15: 5, 60: 15 };
const PAGE = 12;

/** The moment that all charts read: one cursor for the whole page. */
export const cursor = {
  at: null,
  charts: new Set(),
  move(at) {
    this.at = at;
    for (const chart of this.charts) chart.read();
  },
};

export class Chart {
  /**
   * `lines(history, from)` → [{name, tone, values}]: what is drawn, one value or null for each of
   * `history.at`. `format` writes a value, `none` stands where nothing was seen.
   */
  constructor({ title, note, stacked = false, format, lines, none = "Nothing in this time." }) {
    Object.assign(this, { title, stacked, format, lines, none });
    this.legend = el("ul", { class: "legend" });
    this.when = el("span", { class: "when" });
    this.plot = svg("svg", { "aria-hidden": "true", height: HEIGHT, focusable: "false" });
    this.empty = el("p", { class: "nothing", hidden: true }, none);
    this.slider = el("div", {
      class: "plot", tabindex: "0", role: "slider", "aria-label": `${title}, over time`,
      "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0", "aria-valuetext": "Nothing yet",
    }, this.plot, this.empty);
    this.rows = el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `${title}, as a table` });
    this.behind = el("details", {}, el("summary", {}, "Table", el("span", { class: "unseen" }, ` of ${title}`)), this.rows);
    this.element = el("figure", { class: "card chart" },
      el("figcaption", {}, el("h3", {}, title), el("p", { class: "quiet" }, note), this.when),
      this.legend, this.slider, this.behind);
    this.slider.addEventListener("pointermove", (event) => this.point(event));
    this.slider.addEventListener("pointerleave", () => cursor.move(null));
    this.slider.addEventListener("keydown", (event) => this.key(event));
    this.slider.addEventListener("blur", () => cursor.move(null));
    this.behind.addEventListener("toggle", () => this.tabulate());
    new ResizeObserver(() => this.history && this.draw()).observe(this.slider);
    cursor.charts.add(this);
  }

  /** Shows the last `minutes` of `history` ({at, columns}) until `now`. */
  update(history, now, minutes) {
    const from = now - minutes * 60000;
    const first = history.at.findIndex((at) => at >= from);
    const start = first < 0 ? history.at.length : first;
    this.history = history;
    this.range = { from, now, minutes };
    this.at = history.at.slice(start);
    this.series = this.lines(history, start).map((line) => ({ ...line, values: line.values.slice(start) }));
    this.draw();
    this.tabulate();
  }

  draw() {
    const width = Math.max(120, this.slider.clientWidth);
    const stacks = this.stacks();
    const top = nice(Math.max(0, ...stacks.flatMap(({ upper }) => upper.filter((value) => value != null))));
    const seen = this.series.some(({ values }) => values.some((value) => value != null));
    this.scale = {
      x: (at) => INSET.left + ((at - this.range.from) / (this.range.now - this.range.from)) * (width - INSET.left - INSET.right),
      y: (value) => INSET.top + (1 - value / top) * (HEIGHT - INSET.top - INSET.bottom),
    };
    this.pen = svg("g");
    this.plot.replaceChildren(this.axes(top, width), ...(seen ? stacks.map((stack) => this.shape(stack)) : []), this.pen);
    this.plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.plot.setAttribute("width", width);
    this.empty.hidden = seen;
    this.slider.setAttribute("aria-valuemax", Math.max(0, this.at.length - 1));
    this.read();
  }

  stacks() {
    if (!this.stacked) return this.series.map((line) => ({ ...line, upper: line.values }));
    const sum = this.at.map(() => 0);
    const found = this.series.map((line) => {
      const lower = [...sum];
      line.values.forEach((value, at) => { sum[at] += value ?? 0; });
      return { ...line, lower, upper: [...sum] };
    });
    return found.reverse();
  }

  axes(top, width) {
    const group = svg("g", { class: "axes" });
    for (const part of [0, 0.5, 1]) {
      const y = this.scale.y(top * part);
      group.append(svg("line", { x1: INSET.left, x2: width - INSET.right, y1: y, y2: y }),
        svg("text", { x: INSET.left - 8, y: y + 4, "text-anchor": "end" }, this.format(top * part)));
    }
    const step = TICK_MINUTES[this.range.minutes] * 60000;
    for (let at = Math.ceil(this.range.from / step) * step; at <= this.range.now; at += step) {
      const x = this.scale.x(at);
      if (x > INSET.left + 14 && x < width - 18) group.append(svg("text", { x, y: HEIGHT - 5, "text-anchor": "middle" }, clock(at)));
    }
    return group;
  }

  shape({ tone, lower, upper }) {
    const group = svg("g", { class: `tone-${tone}` });
    for (const [first, last] of runs(upper)) {
      const over = [];
      const under = [];
      for (let at = first; at <= last; at += 1) {
        const x = this.scale.x(this.at[at]).toFixed(1);
        over.push(`${x},${this.scale.y(upper[at]).toFixed(1)}`);
        if (lower) under.unshift(`${x},${this.scale.y(lower[at]).toFixed(1)}`);
      }
      if (lower) group.append(svg("polygon", { class: "area", points: [...over, ...under].join(" ") }));
      if (first === last) over.push(over[0]);
      group.append(svg("polyline", { class: first === last ? "stroke dot" : "stroke", points: over.join(" ") }));
    }
    return group;
  }

  /** The values at the cursor, or the newest, beside the names. */
  read() {
    if (!this.series) return;
    const place = this.place();
    const chosen = cursor.at != null && place >= 0;
    const values = this.series.map(({ name, values: all }) => [name, this.format(all[place])]);
    say(this.when, chosen ? clockSeconds(this.at[place]) : "");
    this.legend.replaceChildren(...this.series.map(({ name, tone }, at) =>
      el("li", {}, el("span", { class: `swatch tone-${tone}` }), `${name} `, el("b", {}, place < 0 ? "–" : values[at][1]))));
    this.slider.setAttribute("aria-valuenow", Math.max(0, place));
    this.slider.setAttribute("aria-valuetext", place < 0 ? "Nothing yet"
      : `${clockSeconds(this.at[place])}: ${values.map((pair) => pair.join(" ")).join(", ")}`);
    this.pen.replaceChildren();
    if (chosen) {
      const x = this.scale.x(this.at[place]);
      this.pen.append(svg("line", { class: "cursor", x1: x, x2: x, y1: INSET.top, y2: HEIGHT - INSET.bottom }));
    }
  }

  /** Which point the cursor is at: the last one while there is no cursor. */
  place() {
    if (cursor.at == null) return this.at.length - 1;
    let best = this.at.length - 1;
    for (let at = best; at >= 0 && Math.abs(this.at[at] - cursor.at) <= Math.abs(this.at[best] - cursor.at); at -= 1) best = at;
    return best;
  }

  point(event) {
    const box = this.slider.getBoundingClientRect();
    const part = (event.clientX - box.left - INSET.left) / (box.width - INSET.left - INSET.right);
    cursor.move(this.range.from + Math.max(0, Math.min(1, part)) * (this.range.now - this.range.from));
  }

  key(event) {
    const last = this.at.length - 1;
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -PAGE, PageUp: PAGE, Home: -last, End: last };
    if (event.key === "Escape") cursor.move(null);
    if (!(event.key in moves) || last < 0) return;
    event.preventDefault();
    cursor.move(this.at[Math.max(0, Math.min(last, this.place() + moves[event.key]))]);
  }

  /** One row a minute, the newest first: the mean of what was seen in it. */
  tabulate() {
    if (!this.behind.open || !this.series) return;
    const minutes = new Map();
    this.at.forEach((at, place) => {
      const minute = Math.floor(at / 60000) * 60000;
      minutes.set(minute, [...(minutes.get(minute) ?? []), place]);
    });
    const rows = [...minutes].reverse().map(([minute, places]) =>
      el("tr", {}, el("th", { scope: "row" }, clock(minute)),
        this.series.map(({ values }) => el("td", { class: "number" }, this.format(mean(places.map((place) => values[place])))))));
    const head = el("tr", {}, el("th", { scope: "col" }, "Minute"),
      this.series.map(({ name }) => el("th", { scope: "col", class: "number" }, name)));
    this.rows.replaceChildren(el("table", {}, el("caption", { class: "unseen" }, `${this.title}, mean of each minute`),
      el("thead", {}, head), el("tbody", {}, rows)));
  }
}

function mean(values) {
  const seen = values.filter((value) => value != null);
  return seen.length ? seen.reduce((sum, value) => sum + value, 0) / seen.length : null;
}

/** The top of an axis: the next number whose half is as easy to read. */
function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** [first, last] of every stretch without a gap. */
function runs(values) {
  const found = [];
  values.forEach((value, at) => {
    if (value == null) return;
    if (at && values[at - 1] != null) found[found.length - 1][1] = at;
    else found.push([at, at]);
  });
  return found;
}

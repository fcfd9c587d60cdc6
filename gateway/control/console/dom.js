// Elements without a framework. Text is always text: nothing that the gateway tells is read as HTML.

const SVG = "http://www.w3.org/2000/svg";

export function byId(id) {
  return document.getElementById(id);
}

/** el("td", {class: "number"}, "12", child): attributes that are null or false are left out. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** Sets text only if it changed, so that screen readers are not told the same again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A table from columns and rows. A column: {name, cell(row) → text or node, number, wide}; the first one names
 * its row.
 */
export function table(caption, columns, rows) {
  const head = columns.map((column) => el("th", { scope: "col", class: kind(column) }, column.name));
  const body = rows.map((row) =>
    el("tr", {}, columns.map((column, at) =>
      el(at ? "td" : "th", { scope: at ? null : "row", class: kind(column) }, column.cell(row)))));
  return el("table", {}, el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, head)), el("tbody", {}, body));
}

function kind(column) {
  return [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ") || null;
}

/** A horizontal bar: parts are [{share, class}], of a width of 1. */
export function bar(label, parts) {
  const filled = parts.map(({ share, class: name }) => {
    const part = el("span", { class: name });
    part.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    return part;
  });
  return el("span", { class: "bar", role: "img", "aria-label": label }, filled);
}

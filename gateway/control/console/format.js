// Numbers as people read them.

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** 0.0123 → "0.012", 4.56 → "4.6", 1234 → "1,234", 45678 → "45.7k". */
export function amount(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return `${trimmed(value / 1e9)}G`;
  if (size >= 1e6) return `${trimmed(value / 1e6)}M`;
  if (size >= 1e4) return `${trimmed(value / 1e3)}k`;
  if (size >= 100 || Number.isInteger(value)) return grouped.format(value);
  if (size >= 1) return String(Number(value.toFixed(1)));
  return size < 0.001 ? String(Number(value.toPrecision(1))) : String(Number(value.toFixed(size < 0.1 ? 3 : 2)));
}

function trimmed(value) {
  return String(Number(value.toFixed(Math.abs(value) >= 100 ? 0 : 1)));
}

/** Whole numbers, all digits. */
export function count(value) {
  return grouped.format(value);
}

/** Dollars with as many digits as say something: 12.5 → "$12.50", 0.0000423 → "$0.000042". */
export function usd(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  if (size === 0) return "$0";
  if (size >= 10000) return `$${grouped.format(value)}`;
  if (size >= 1) return `$${value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  const places = Math.min(9, Math.max(2, 1 - Math.floor(Math.log10(size))));
  return `$${value.toFixed(places)}`;
}

/** Seconds: 0.00042 → "420 µs", 0.0421 → "42 ms", 3.2 → "3.2 s". */
export function duration(value) {
  if (value == null) return "–";
  if (value === 0) return "0";
  if (value < 0.000999) return `${Math.round(value * 1e6)} µs`;
  if (value < 0.0995) return `${Number((value * 1e3).toFixed(value < 0.00995 ? 1 : 0))} ms`;
  if (value < 0.9995) return `${Math.round(value * 1e3)} ms`;
  return value < 99.5 ? `${Number(value.toFixed(value < 9.95 ? 2 : 1))} s` : `${Math.round(value)} s`;
}

export function bytes(value) {
  if (value == null) return "–";
  return value >= 1e9 ? `${(value / 1e9).toFixed(2)} GB` : `${Math.round(value / 1e6)} MB`;
}

export function share(value) {
  if (value == null) return "–";
  const percent = value * 100;
  return `${percent > 0 && percent < 9.95 ? Number(percent.toFixed(1)) : Math.round(percent)}\u00a0%`;
}

/** A long time in its two largest units: "3 d 4 h", "12 min". */
export function span(seconds) {
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let left = Math.max(0, Math.floor(seconds));
  const said = [];
  for (const [unit, size] of parts) {
    const whole = Math.floor(left / size);
    if (whole || (unit === "s" && !said.length)) said.push(`${whole} ${unit}`);
    left -= whole * size;
    if (said.length === 2 || (said.length && unit === "min")) break;
  }
  return said.join(" ");
}

const toMinute = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const toSecond = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export function clock(ms) {
  return toMinute.format(ms);
}

export function clockSeconds(ms) {
  return toSecond.format(ms);
}

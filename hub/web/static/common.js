// What every page shares: the data it came with, words, numbers and times as people read them, and the event stream.
// Decides form only: every figure arrives from the hub as integers and a rounded value.

export const data = JSON.parse(document.getElementById("data").textContent);
const words = data.words;
const locale = data.language === "zh-Hant" ? "zh-HK" : "en-GB";

export function t(key, fill = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => fill[name] ?? "");
}

export const $ = (id) => document.getElementById(id);

export function text(node, value) {
  if (node && node.textContent !== value) node.textContent = value;
}

// An element with properties, attributes and children. Text always goes in as text, never as HTML.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";
export function svg(tag, attributes = {}) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

export function shape(category) {
  const node = svg("svg", { "aria-hidden": "true" });
  node.append(svg("use", { href: `#s-${category}`, fill: "currentColor" }));
  return node;
}

const whole = new Intl.NumberFormat(locale, { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat(locale, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
export const count = (n) => whole.format(n);
export const number1 = (n) => tenth.format(n);
export function signed1(n) {
  const rounded = Math.round(n * 10) / 10;
  return (rounded > 0 ? "+" : rounded < 0 ? "−" : "±") + tenth.format(Math.abs(rounded));
}

const clocks = new Map();
function clock(zone, seconds) {
  const key = `${zone}/${seconds}`;
  if (!clocks.has(key)) {
    const form = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: zone };
    if (seconds) form.second = "2-digit";
    clocks.set(key, new Intl.DateTimeFormat("en-GB", form));
  }
  return clocks.get(key);
}
export const time = (ms, zone) => clock(zone, false).format(ms);
export const timeSeconds = (ms, zone) => clock(zone, true).format(ms);
export function day(ms, zone) {
  return new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", timeZone: zone }).format(ms);
}
export function dayTime(ms, zone) {
  return `${day(ms, zone)} ${time(ms, zone)}`;
}

// Durations: seconds under a minute and a half, then minutes, then h:min.
export function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return t("seconds", { n: s });
  const min = Math.round(s / 60);
  if (min < 60) return t("minutes", { n: min });
  return t("hours", { n: `${Math.floor(min / 60)}:${String(min % 60).padStart(2, "0")}` });
}

// A percentage into a node: "–" with the reason on hover where it is undefined.
export function percent(node, share, withUnit = true) {
  if (!node) return;
  if (share.percent === null) {
    text(node, t("undefined"));
    node.title = t(share.undefined_because);
    return;
  }
  node.title = share.numerator === null ? t("told_sparkplug") : `${share.numerator} / ${share.denominator}`;
  const shown = number1(share.percent);
  if (!withUnit) { text(node, `${shown} %`); return; }
  if (node.firstChild?.nodeValue === shown) return;
  node.replaceChildren(shown, el("span", { class: "unit" }, "%"));
}

export function stateChip(node, category) {
  if (node.dataset.category === category) return;
  node.dataset.category = category;
  node.className = `state c-${category}`;
  node.replaceChildren(shape(category), t(`category_${category}`));
}

// The stretch that a ribbon shows: the shift; or, when the line has only just begun to speak, from its first word on,
// for a minute in eight hours would be a hair's breadth.
const JUST_BEGUN = 0.1, LEAST_MS = 600000;
export function stretch(view) {
  const first = view.ribbon[0][0];
  const start = view.shift && view.shift_start_ms !== null ? view.shift_start_ms : first;
  const end = Math.max((view.shift && view.shift_end_ms) || view.time_ms, view.time_ms, start + 1);
  const said = view.time_ms - first;
  if (said < JUST_BEGUN * (end - start)) return [first, first + Math.max(LEAST_MS, said)];
  return [start, end];
}

// The ribbon: one rectangle a run, the rest of the shift left empty.
export function ribbon(node, view, height) {
  if (!view.ribbon.length) { node.replaceChildren(); return; }
  const [start, end] = stretch(view);
  const x = (ms) => (1000 * (Math.min(Math.max(ms, start), end) - start)) / (end - start);
  const shapes = view.ribbon.map(([from, category], i) => {
    const to = i + 1 < view.ribbon.length ? view.ribbon[i + 1][0] : view.time_ms;
    // Half a unit at least, so that a short stop in a long shift is still a line that can be seen.
    const width = Math.max(x(to) - x(from), 0.7);
    const run = svg("rect", { x: x(from).toFixed(2), y: 0, width: width.toFixed(2), height, class: `f-${category}` });
    const tip = svg("title");
    tip.textContent = `${t(`category_${category}`)} ${time(from, view.timezone)}–${time(to, view.timezone)} (${duration(to - from)})`;
    run.append(tip);
    return run;
  });
  shapes.push(svg("rect", { x: x(view.time_ms), y: 0, width: 2, height, class: "now" }));
  node.replaceChildren(...shapes);
}

export function shiftWords(view) {
  if (!view.shift) return t("no_shift");
  const [date, name] = view.shift.split("/");
  if (name === undefined) return view.shift; // of another make of gateway, by Sparkplug
  const spoken = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", timeZone: "UTC" });
  const parsed = Date.parse(`${date}T00:00:00Z`);
  return t("of_shift", { name, day: Number.isNaN(parsed) ? date : spoken.format(parsed) });
}

// The figures of a view. Those that Sparkplug tells are rounded by the gateway: no fraction, no losses, no coverage.
export function figuresOf(view) {
  if (view.shift_figures) return view.shift_figures;
  const told = view.told;
  const share = (percent) => ({ percent, numerator: null, denominator: null, undefined_because: "not_told" });
  return {
    oee: share(told.oee_percent), availability: share(told.availability_percent),
    effectiveness: share(told.effectiveness_percent), quality: share(told.quality_percent), coverage: share(null),
    standing: "told", losses: null, good_count: told.good_count,
  };
}
// Why Effectiveness is over 100 %; "" where it is not.
export const overWords = (f) => (f?.excess ? t(f.excess, { count: count(f.estimated_count), unknown: duration(f.unknown_ms) }) : "");
export const recentOee = (view) => (view.recent_figures ? view.recent_figures.oee : { percent: null, undefined_because: "not_told" });

// Why a line is not heard: the broker or its gateway said so, or nothing came for a while.
export function silentWords(view, since, zone, clock = time) {
  if (!view || since === undefined) return t("never_heard");
  return t({ gateway: "gone_gateway", plc: "gone_plc" }[view.gone] ?? "silent_line", { gateway: view.gateway, time: clock(since, zone) });
}

// The live stream. `heard` is called with each view; silence is watched on the browser's monotonic clock, because the
// clocks of browser and hub need not agree.
const SILENT_MS = 5000;
// A gateway may tell its lines less often than once a second, and a message may be lost.
const silentMs = (view) => SILENT_MS + 3000 * (view.interval_s - 1);
export class Live {
  constructor(heard, { line = null, beat = () => {} } = {}) {
    this.heardAt = new Map();  // line -> when it was heard (performance.now()), its view
    this.hubAt = [performance.now(), data.hub.now_ms];
    this.brokerGoneMs = data.hub.broker_connected ? null : data.hub.now_ms;
    for (const view of data.views ?? []) {
      this.heardAt.set(view.line, { at: performance.now() - Math.max(0, data.hub.now_ms - view.received_ms), view });
      heard(view);
    }
    beat(data.hub);
    if (!data.live) return;
    const url = "/api/v1/live" + (line ? `?line=${encodeURIComponent(line)}` : "");
    const open = () => {
      const source = new EventSource(url);
      source.addEventListener("line", (event) => {
        const view = JSON.parse(event.data);
        const known = this.heardAt.get(view.line)?.view;
        // When the stream opens again the hub repeats its newest views: old news is not a sign of life.
        if (known && view.received_ms <= known.received_ms && view.gone_ms === known.gone_ms && view.source === known.source) return;
        const age = Math.max(0, this.hubNow() - view.received_ms);
        this.heardAt.set(view.line, { at: performance.now() - (age > silentMs(view) ? age : 0), view });
        heard(view);
      });
      source.addEventListener("hub", (event) => {
        const state = JSON.parse(event.data);
        this.hubAt = [performance.now(), state.now_ms];
        if (state.broker_connected) this.brokerGoneMs = null;
        else this.brokerGoneMs ??= state.now_ms;
        beat(state);
      });
      // A browser gives up for good on some errors (a 503, say): try again ourselves.
      source.onerror = () => { if (source.readyState === EventSource.CLOSED) setTimeout(open, 3000); };
    };
    open();
  }
  hubNow() { return this.hubAt[1] + performance.now() - this.hubAt[0]; }
  // Null while news come; else the hub's wall clock at the last news.
  hubSilentSince() {
    return data.live && performance.now() - this.hubAt[0] > SILENT_MS ? this.hubAt[1] : null;
  }
  // The same of a line; undefined when it was never heard. Sparkplug says only what changes, and lives until a death.
  lineSilentSince(line) {
    const heard = this.heardAt.get(line);
    if (!heard) return undefined;
    if (heard.view.gone) return heard.view.gone_ms;
    if (heard.view.source === "sparkplug") return this.brokerGoneMs;
    return performance.now() - heard.at > silentMs(heard.view) ? heard.view.received_ms : null;
  }
}

export function showZone(zone) { text($("zone"), t("times_in", { zone })); }

export function hubBanner(live, zone) {
  const since = live.hubSilentSince();
  const banner = $("silent-hub");
  banner.hidden = since === null;
  if (since !== null) text(banner, t("silent_hub", { time: timeSeconds(since, zone) }));
  return since !== null;
}

// The live page of one line. Fills the slots of line.html from each view; says so when nothing moves any more.
import { $, Live, count, data, dayTime, duration, el, figuresOf, hubBanner, overWords, percent, recentOee, ribbon, shape, shiftWords, showZone, silentWords, stateChip, stretch, svg, t, text, time, timeSeconds } from "./common.js";

const line = data.lines[0];
const gateway = data.gateways[0] ?? "–";
let view = null;

function factor(id, share, lost) {
  const node = $(id);
  percent(node.querySelector(".value"), share, false);
  const value = share.percent;
  node.querySelector(".have").setAttribute("width", value === null ? 0 : Math.min(100, value));
  text(node.querySelector(".lost"), lost);
}

function availabilityLost(losses) {
  if (!losses) return "";
  if (!losses.availability_ms) return t("lost_nothing");
  const parts = Object.entries(losses.by_category_ms).sort((a, b) => b[1] - a[1]).slice(0, 3)
    .map(([category, ms]) => `${t(`category_${category}`)} ${duration(ms)}`);
  return `${t("lost", { what: duration(losses.availability_ms) })} · ${parts.join(t("comma"))}`;
}

function effectivenessLost(figures) {
  if (!figures.losses) return "";
  const ms = figures.losses.effectiveness_ms;
  if (ms === null) return t("no-ideal-cycle");
  const why = overWords(figures);
  if (figures.excess === "over-unobserved") return why;
  if (ms < 0) return [t("gained", { what: duration(-ms) }), why].filter(Boolean).join(". ");
  return ms ? t("lost", { what: duration(ms) }) : t("lost_nothing");
}

function qualityLost(figures) {
  if (!figures.losses) return "";
  const { quality_count: n, quality_ms: ms } = figures.losses;
  if (!n) return t("lost_nothing");
  const pieces = t("rejects", { count: count(n) });
  return ms ? `${pieces} · ${t("lost", { what: duration(ms) })}` : pieces;
}

function trend(points) {
  const node = $("trend");
  if (points.length < 2) { node.replaceChildren(); return; }
  const [from, to] = [points[0][0], points[points.length - 1][0]];
  const top = Math.max(...points.map((p) => p[1]), 1);
  const xy = points.map(([at, value]) => `${((100 * (at - from)) / (to - from)).toFixed(2)} ${(40 - (38 * value) / top).toFixed(2)}`);
  node.replaceChildren(
    svg("path", { class: "under", d: `M0 40L${xy.join("L")}L100 40Z` }),
    svg("path", { d: `M${xy.join("L")}` }));
}

function ticks() {
  if (!view.ribbon.length) return;
  const [start, end] = stretch(view);
  const key = `${start}/${end}/${view.timezone}`;
  const node = $("ticks");
  if (node.dataset.key === key) return;
  node.dataset.key = key;
  const steps = end - start > 3600000 ? 4 : 5;
  node.replaceChildren(...Array.from({ length: steps + 1 }, (_, i) => {
    const mark = el("span", i === steps ? { class: "last" } : {}, time(start + ((end - start) * i) / steps, view.timezone));
    mark.style.left = `${(100 * i) / steps}%`;
    return mark;
  }));
}

function legend() {
  const spent = new Map();
  view.ribbon.forEach(([from, category], i) => {
    const to = i + 1 < view.ribbon.length ? view.ribbon[i + 1][0] : view.time_ms;
    spent.set(category, (spent.get(category) ?? 0) + Math.max(0, to - from));
  });
  $("key").replaceChildren(...[...spent].sort((a, b) => b[1] - a[1]).map(([category, ms]) =>
    el("span", {}, el("span", { class: `dot c-${category}` }, shape(category)), `${t(`category_${category}`)} ${duration(ms)}`)));
}

// A reason that was given afterwards stands with what was measured beside it.
function reason(stop) {
  const cell = el("td", stop.reason ? {} : { class: "quiet" }, stop.reason || t("no_reason"));
  if (stop.measured_reason !== null) {
    cell.append(el("div", { class: "small quiet" }, t("amended_reason", { old: stop.measured_reason || t("no_reason") })));
  }
  return cell;
}

function stops() {
  const rows = view.stops.map((stop) => el("tr", {},
    el("td", {}, timeSeconds(stop.start_ms, view.timezone)),
    el("td", { class: "num" }, stop.end_ms === null ? `${duration(view.time_ms - stop.start_ms)} · ${t("still")}` : duration(stop.end_ms - stop.start_ms)),
    el("td", {}, el("span", { class: `dot c-${stop.category}` }, shape(stop.category)), t(`category_${stop.category}`)),
    reason(stop)));
  if (!rows.length) rows.push(el("tr", {}, el("td", { colspan: "4", class: "quiet" }, t(view.told ? "not_told" : "no_stops"))));
  $("stops").replaceChildren(...rows);
}

function pieces(f) {
  text($("good"), f.good_count === null ? t("undefined") : count(f.good_count));
  const now = view.target_now, whole = view.target_shift;
  const node = $("targets");
  if (now === null) { text(node, t(view.told ? "not_told" : "no_target")); node.className = "small quiet"; }
  else {
    const apart = f.good_count - now;
    node.className = "small";
    node.replaceChildren(
      el("span", { class: "quiet" }, `${t("of_target_now", { target: count(now) })} · `),
      el("span", { class: apart >= 0 ? "ahead" : "behind" }, t(apart >= 0 ? "ahead" : "behind", { count: count(Math.abs(apart)) })),
      el("span", { class: "quiet" }, whole === null ? "" : ` · ${t("of_target_shift", { target: count(whole) })}`));
  }
  const bar = $("pieces-bar");
  bar.style.display = now === null && whole === null ? "none" : ""; // without an end a full bar would tell nothing
  const end = Math.max(whole ?? now ?? 0, f.good_count, 1);
  bar.querySelector(".have").setAttribute("width", (100 * f.good_count) / end);
  const mark = bar.querySelector(".mark");
  mark.setAttribute("width", now === null ? 0 : 0.7);
  mark.setAttribute("x", now === null ? 0 : Math.min(99.3, (100 * now) / end));
}

function show(next) {
  view = next;
  const f = figuresOf(view);
  showZone(view.timezone);
  if (view.name) text($("name"), view.name);
  stateChip($("state"), view.category);
  text($("packml"), t(`state_${view.state}`));
  text($("since"), `${t("since", { time: timeSeconds(view.since_ms, view.timezone) })} · ${duration(view.time_ms - view.since_ms)}`);
  $("simulated").hidden = !(view.simulated || data.lines[0].simulated);
  text($("making"), [view.product && `${t("making")}: ${view.product}`, view.order && `${t("order")}: ${view.order}`].filter(Boolean).join(" · "));
  text($("shift"), `· ${shiftWords(view)}`);
  percent($("oee"), f.oee);
  $("oee").classList.toggle("weak", f.standing === "withheld");
  text($("standing"), t(`standing_${f.standing}`));
  percent($("oee-recent"), recentOee(view), false);
  if (view.recent_figures?.excess) $("oee-recent").title = overWords(view.recent_figures);
  percent($("coverage"), f.coverage, false);
  factor("availability", f.availability, availabilityLost(f.losses));
  factor("effectiveness", f.effectiveness, effectivenessLost(f));
  factor("quality", f.quality, qualityLost(f));
  pieces(f);
  text($("rate"), view.pieces_per_hour === null ? t("undefined") : count(view.pieces_per_hour));
  $("rate").title = view.pieces_per_hour === null ? t("no-planned-time") : "";
  trend(view.trend);
  ribbon($("ribbon"), view, 40);
  ticks();
  legend();
  stops();
  text($("receipt"), view.told ? t("not_told") : view.receipt ? t("receipt_at", { sequence: count(view.receipt.sequence), time: dayTime(view.receipt.time_ms, view.timezone) }) : t("receipt_none"));
  text($("spool"), t("spool_records", { count: count(view.spool_depth) }));
  text($("gateway"), view.gateway);
  $("late").hidden = $("late-term").hidden = !view.late_count;
  text($("late"), t("late_values", { count: count(view.late_count) }));
  text($("definition"), view.definition || line.definition || "–");
  $("definition").title = view.definition_hash;
}

showZone(line.timezone);
stateChip($("state"), "UNKNOWN");
text($("gateway"), gateway);
const live = new Live(show, { line: line.id, beat: (hub) => text($("log-size"), count(hub.log_size)) });

function watch() {
  const hubSilent = hubBanner(live, line.timezone);
  const banner = $("silent-line");
  const since = live.lineSilentSince(line.id);
  const silent = !hubSilent && data.live && since !== null;
  banner.hidden = !silent;
  if (view) stateChip($("state"), silent ? "UNKNOWN" : view.category);
  if (!silent) return;
  text(banner, silentWords(view, since, line.timezone, timeSeconds));
}
watch();
setInterval(watch, 500);

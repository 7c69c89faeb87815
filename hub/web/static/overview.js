// The wall: a card a line, the worst first, readable at three metres.
import { $, Live, count, data, duration, el, figuresOf, hubBanner, overWords, percent, ribbon, shiftWords, showZone, silentWords, stateChip, svg, t, text, time } from "./common.js";

const cards = new Map();
const views = new Map();
const simulated = new Set(data.lines.filter((line) => line.simulated).map((line) => line.id));
const zoneOf = new Map(data.lines.map((line) => [line.id, line.timezone]));

function card(line) {
  const parts = {
    title: el("span", { class: "title" }, line.name),
    badge: el("span", { class: "badge" }, t("simulated")),
    state: el("span", { class: "state c-UNKNOWN" }, t("waiting")),
    since: el("span", { class: "since" }),
    oee: el("div", { class: "big oee" }, t("undefined")),
    shift: el("div", { class: "label" }, t("oee_shift")),
    good: el("span", {}, t("undefined")),
    target: el("div", { class: "below" }),
    rate: el("span", {}, t("undefined")),
    standing: el("div", { class: "below" }),
    ribbon: svg("svg", { class: "ribbon", viewBox: "0 0 1000 40", preserveAspectRatio: "none", role: "img", "aria-label": t("ribbon_title") }),
    note: el("div", { class: "note", role: "alert" }),
  };
  parts.badge.hidden = !line.simulated;
  parts.note.hidden = true;
  parts.root = el("a", { class: "panel card", href: `/lines/${encodeURIComponent(line.id)}`, "data-line": line.id },
    el("div", { class: "in" },
      el("div", { class: "row head" }, el("div", { class: "who" }, parts.title, parts.state), parts.badge),
      el("div", { class: "row" }, parts.shift, parts.since),
      el("div", { class: "row main" },
        el("div", {}, parts.oee, parts.standing),
        el("div", { class: "facts" },
          el("div", {}, el("div", { class: "label" }, t("pieces_good")), el("div", { class: "big fact", "data-f": "good" }, parts.good), parts.target),
          el("div", {}, el("div", { class: "label" }, t("throughput")), el("div", { class: "big fact" }, parts.rate), el("div", { class: "below" }, t("an_hour"))))),
      parts.ribbon),
    parts.note);
  cards.set(line.id, parts);
  return parts.root;
}

function show(view) {
  const c = cards.get(view.line);
  if (!c) return;
  views.set(view.line, view);
  const f = figuresOf(view);
  if (view.name) text(c.title, view.name);
  c.badge.hidden = !(view.simulated || simulated.has(view.line));
  stateChip(c.state, view.category);
  text(c.since, `${t("since", { time: time(view.since_ms, view.timezone) })} · ${duration(view.time_ms - view.since_ms)}`);
  percent(c.oee, f.oee);
  if (f.excess) c.oee.title = overWords(f);
  text(c.shift, `${t("oee_short")} · ${shiftWords(view)}`);
  text(c.standing, f.standing === "firm" ? "" : t(`standing_${f.standing}`));
  text(c.good, f.good_count === null ? t("undefined") : count(f.good_count));
  text(c.target, view.target_now === null ? "" : t("of_target_now", { target: count(view.target_now) }));
  text(c.rate, view.pieces_per_hour === null ? t("undefined") : count(view.pieces_per_hour));
  c.rate.title = view.pieces_per_hour === null ? t("no-planned-time") : "";
  ribbon(c.ribbon, view, 40);
}

// Worst first: silent lines, then by OEE; a line without an OEE stands between, since nobody knows.
function rank(id) {
  const view = views.get(id);
  if (!view) return -1;
  if (live && live.lineSilentSince(id) !== null) return -2;
  const oee = figuresOf(view).oee.percent;
  return oee === null ? 50 : oee;
}

let order = data.lines.map((line) => line.id);
function sort() {
  // Cards change places only when it matters by two points, so that the wall does not dance.
  const next = [...order].sort((a, b) => (Math.abs(rank(a) - rank(b)) < 2 ? order.indexOf(a) - order.indexOf(b) : rank(a) - rank(b)));
  if (next.join() === order.join()) return;
  order = next;
  for (const id of order) $("wall").append(cards.get(id).root);
}

let live = null;
if ($("wall")) {
  for (const line of data.lines) $("wall").append(card(line));
  const zones = [...new Set(zoneOf.values())];
  showZone(zones.join(", "));
  live = new Live(show);
  const watch = () => {
    const hubSilent = hubBanner(live, zones[0] ?? "UTC");
    for (const [id, c] of cards) {
      const since = live.lineSilentSince(id);
      const silent = !hubSilent && since !== null;
      c.root.classList.toggle("silent", silent || hubSilent);
      c.note.hidden = !silent;
      // Whoever is silent is in no known state; its last figures stay, in grey.
      if (silent && since !== undefined) stateChip(c.state, "UNKNOWN");
      else if (!silent && views.has(id)) stateChip(c.state, views.get(id).category);
      if (silent) text(c.note, silentWords(views.get(id), since, zoneOf.get(id)));
    }
    sort();
  };
  watch();
  setInterval(watch, 500);
}

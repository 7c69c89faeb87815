// Where the time went: the tree of losses as a waterfall, over a period, by what the reader chooses.
// Decides form only: sums, figures and tree come exact from /api/v1/rollup, with a rounded value for show.
import { $, count, data, day, dayTime, duration, el, number1, shape, svg, t, text } from "./common.js";

const DAY = 86400000;
const FIGURES = ["oee", "availability", "effectiveness", "quality", "utilization", "teep"];
// The colour and, where there is one, the shape of a part: those of its category.
const LOOK = {
  setup: "SETUP", failure: "FAILURE", "minor-stops": "MINOR_STOP", restraint: "RESTRAINT", held: "HELD",
  unassigned: "UNASSIGNED", "no-order": "NO_ORDER", "planned-down": "PLANNED_DOWN", "not-scheduled": "NOT_SCHEDULED",
  unknown: "UNKNOWN", "reduced-speed": "SPEED", rejects: "REJECTS", "startup-rejects": "STARTUP",
};
const STACK = [
  ["fully-productive", "PRODUCING"], ["breakdown", "FAILURE"], ["setup", "SETUP"], ["minor-stops", "MINOR_STOP"],
  ["reduced-speed", "SPEED"], ["process-defects", "REJECTS"], ["startup-yield", "STARTUP"], ["other-stops", "UNASSIGNED"],
];
// A choice of the reader, in the words of the API.
const BY = { none: [], shift_of_day: ["day", "shift"] };

const only = data.losses;  // {line} or {project} or {}
let answer = null, chosen = null, asked = 0;

function hours(ms) {
  if (Math.abs(ms) < 3570000) return (ms <= -500 ? "−" : "") + duration(Math.abs(ms));
  const min = Math.round(Math.abs(ms) / 60000);
  const sign = ms < 0 && min ? "−" : "";
  return sign + t("hours", { n: `${count(Math.floor(min / 60))}:${String(min % 60).padStart(2, "0")}` });
}

const parts = (node) => [node, ...node.children.flatMap(parts)];
const find = (row, name) => parts(row.tree).find((part) => part.name === name);

function share(figure) {
  const node = el("span", {});
  if (figure.value === null) { text(node, t("undefined")); node.title = t(figure.undefined_because); return node; }
  node.title = `${figure.numerator} / ${figure.denominator}`;
  text(node, `${number1(100 * figure.value)} %`);
  return node;
}

function valueOf(word, figure) {
  if (figure.value === null) return el("span", { title: t(figure.undefined_because) }, t("undefined"));
  const shown = { share: () => `${number1(100 * figure.value)} %`, ms: () => hours(figure.value) }[word.unit];
  return el("span", { title: `${figure.numerator} / ${figure.denominator}` }, shown ? shown() : number1(figure.value));
}

function keyWords(row) {
  const said = Object.entries(row.key).filter(([name]) => !(name === "enterprise" && ("site" in row.key)) && !(name === "scheme" && "project" in row.key));
  const words = said.map(([name, id]) => {
    if (name === "day" && id) {
      const at = Date.parse(`${id}T00:00:00Z`);
      return Number.isNaN(at) ? id : day(at, "UTC");
    }
    return answer.names[name]?.[id] || id || t(`without_${name}`);
  });
  return words.join(" · ") || t("by_none");
}

function bar(shapes) {
  const node = svg("svg", { viewBox: "0 0 1000 18", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const [x, width, kind, words] of shapes) {
    const rect = svg("rect", { x: x.toFixed(2), width: Math.max(0, width).toFixed(2), height: 18, class: `f-${kind}` });
    const tip = svg("title");
    tip.textContent = words;
    rect.append(tip);
    node.append(rect);
  }
  return node;
}

// The groups: each bar is the planned busy time of its own row, so that rows of any length compare.
function groups() {
  const rows = answer.rows.filter((row) => row.sums.planned_ms || row.sums.total_count || row.sums.planned_down_ms);
  $("r-groups-part").hidden = !answer.by.length;
  if (!answer.by.length) return;
  const used = new Set();
  $("r-groups").replaceChildren(...rows.map((row) => {
    const good = find(row, "fully-productive"), whole = find(row, "planned-busy").ms.value;
    const spent = new Map(Object.entries(row.losses).map(([name, ms]) => [name, ms.value]));
    if (good) spent.set("fully-productive", good.ms.value);
    const full = Math.max([...spent.values()].reduce((sum, ms) => sum + Math.max(0, ms), 0), whole, 1);
    let at = 0;
    const shapes = STACK.filter(([name]) => (spent.get(name) ?? 0) > 0).map(([name, kind]) => {
      used.add(name);
      const width = (1000 * spent.get(name)) / full;
      at += width;
      return [at - width, width, kind, `${t(`big_${name}`)} ${hours(spent.get(name))}`];
    });
    const button = el("button", { class: "group", type: "button" },
      el("span", { class: "what" }, keyWords(row)), bar(shapes),
      el("span", { class: "num oee" }, share(row.figures.oee)),
      el("span", { class: "num quiet" }, `${count(row.sums.good_count)} ${t("pieces")}`));
    if (row.standing === "withheld") { button.classList.add("weak"); button.title = t("standing_withheld"); }
    button.setAttribute("aria-pressed", String(chosen === row));
    button.addEventListener("click", () => { chosen = chosen === row ? null : row; groups(); one(); });
    return button;
  }));
  if (!rows.length) $("r-groups").replaceChildren(el("p", { class: "quiet" }, t("nothing_measured")));
  $("r-key").replaceChildren(...STACK.filter(([name]) => used.has(name)).map(([name, kind]) =>
    el("span", {}, el("span", { class: `dot c-${kind}` }, shape(kind)), t(`big_${name}`))));
}

// The waterfall: levels from zero, each loss hung where the level above it ends.
function waterfall(row) {
  const busy = find(row, "planned-busy");
  const rows = [];
  function walk(level, depth) {
    rows.push([level, 0, level.ms.value, depth, true]);
    let end = level.ms.value;
    for (const part of level.children.filter((child) => !child.children.length && child.name !== "fully-productive" && child.name !== "unvalued-production")) {
      const ms = part.ms.value;
      end -= ms;
      if (Math.abs(ms) >= busy.ms.value / 2000 && ms) rows.push([part, Math.min(end, end + ms), Math.abs(ms), depth + 1, false]);
    }
    for (const child of level.children) {
      if (child.children.length) walk(child, depth + 1);
      else if (child.name === "fully-productive" || child.name === "unvalued-production") rows.push([child, 0, child.ms.value, depth + 1, true]);
    }
  }
  walk(busy, 0);
  const full = Math.max(...rows.map(([, from, ms]) => from + ms), 1);
  const whole = busy.ms.value;
  const unseen = row.notes.some((note) => note.code === "over-unobserved");
  const lines = [el("div", { class: "step head" }, el("span", {}), el("span", {}),
    ...["time", "pieces_lost", "of_busy"].map((word) => el("span", { class: "num" }, t(word))))];
  for (const [part, from, ms, , isLevel] of rows) {
    const kind = isLevel ? (part.name === "fully-productive" ? "PRODUCING" : "LEVEL") : LOOK[part.name];
    const gained = part.ms.value < 0;
    const name = el("span", { class: isLevel ? "what level" : "what" });
    if (!isLevel) name.append(el("span", { class: `dot c-${kind}` }, shape(kind)));
    name.append(gained ? t(unseen ? "more_than_observed" : "faster_than_ideal") : t(`part_${part.name}`));
    lines.push(el("div", { class: "step" }, name,
      bar([[(1000 * from) / full, (1000 * ms) / full, gained ? "PRODUCING" : kind, `${t(`part_${part.name}`)} ${hours(part.ms.value)}`]]),
      el("span", { class: "num", title: `${part.ms.numerator}${part.ms.denominator === 1 ? "" : ` / ${part.ms.denominator}`} ms` }, hours(part.ms.value)),
      el("span", { class: "num quiet", title: part.pieces === null ? t("no-ideal-cycle") : "" }, part.pieces === null ? t("undefined") : count(part.pieces.value)),
      el("span", { class: "num" }, whole ? `${number1((100 * part.ms.value) / whole)} %` : t("undefined"))));
  }
  $("r-waterfall").replaceChildren(...lines);
}

function one() {
  const row = chosen ?? answer.total;
  text($("r-title"), chosen ? keyWords(chosen) : answer.by.length ? t("together") : "");
  $("r-figures").replaceChildren(...FIGURES.map((name) => el("div", {},
    el("div", { class: "label" }, t(`figure_${name}`)), el("div", { class: "value-2" }, share(row.figures[name])))));
  $("r-figures").classList.toggle("weak", row.standing === "withheld");
  const outside = row.tree.children.filter((part) => part.name !== "planned-busy" && part.ms.value >= 500)
    .map((part) => `${t(`part_${part.name}`)} ${hours(part.ms.value)}`);
  text($("r-outside"), t("outside_busy", { all: hours(row.tree.ms.value), busy: hours(find(row, "planned-busy").ms.value), rest: outside.join(t("comma")) || t("none") }));
  waterfall(row);
  const notes = [...answer.notes, ...row.notes].map((note) => t(`note_${note.code}`, { count: count(note.count), unknown: hours(row.sums.unknown_ms) }));
  if (row.standing === "indicative" || row.standing === "withheld") notes.unshift(t(`standing_${row.standing}`));
  $("r-notes").replaceChildren(...notes.map((words) => el("li", {}, words)));
  const head = (...names) => el("thead", {}, el("tr", {}, ...names.map(([word, kind]) => el("th", kind ? { class: kind } : {}, t(word)))));
  $("r-every").replaceChildren(head(["figure"], ["value", "num"], ["formula"], ["source"]), el("tbody", {}, ...answer.words.map((word) =>
    el("tr", {}, el("td", {}, t(`figure_${word.name}`)), el("td", { class: "num" }, valueOf(word, row.figures[word.name]), word.unit === "pieces/h" ? ` ${t("an_hour")}` : ""),
      el("td", { class: "mono" }, word.formula), el("td", { class: "quiet small" }, word.source)))));
  $("r-sums").replaceChildren(head(["sum"], ["value", "num"]), el("tbody", {}, ...Object.entries(row.sums).map(([name, value]) =>
    el("tr", {}, el("td", { class: "mono" }, name), el("td", { class: "num" }, count(value))))));
}

function amended(rows) {
  const said = (row) => row.kind === "reason" ? [[t("stop_reason"), row.change[0] || t("no_reason"), row.change[1]]] : row.change.map(([field, old, now]) => [field, count(old), count(now)]);
  const head = el("thead", {}, el("tr", {}, ...["when", "what_changed", "amended_who", "amended_why", "amended_record"].map((word) => el("th", {}, t(word)))));
  const body = rows.map((row) => el("tr", row.refusal ? { class: "quiet" } : {},
    el("td", {}, dayTime(row.start_ms, answer.timezone)),
    el("td", {}, ...said(row).map(([what, old, now]) => el("div", {}, `${what}: ${old} → ${now}`)), ...(row.refusal ? [el("div", { class: "small" }, t("amended_refused", { why: row.refusal }))] : [])),
    el("td", {}, row.who), el("td", {}, row.why), el("td", { class: "num" }, count(row.leaf_index))));
  if (!body.length) body.push(el("tr", {}, el("td", { colspan: "5", class: "quiet" }, t("amended_none"))));
  $("r-amended").replaceChildren(head, el("tbody", {}, ...body));
}

// Each machine of the line apart; what blocked or starved it is charged to it only where the reader says so.
async function machines() {
  if (!$("r-machines") || !answer) return;
  const query = new URLSearchParams({ from: answer.from_ms, to: answer.to_ms, definition: $("r-definition").value, waiting: $("r-waiting").checked ? "availability" : "excluded" });
  const found = await fetch(`/api/v1/lines/${encodeURIComponent(only.line)}/machines?${query}`);
  if (!found.ok) return;
  const got = await found.json();
  const line = $("r-bottleneck");
  line.replaceChildren(`${t("line_oee")}: `, share(got.oee));
  const head = el("thead", {}, el("tr", {}, el("th", {}, t("machine")), el("th", { class: "num" }, t("oee_short")), el("th", { class: "num" }, t("part_restraint")), el("th", {}, t("bottleneck_for"))));
  $("r-machines").replaceChildren(head, el("tbody", {}, ...got.machines.map((each) => el("tr", {},
    el("td", {}, el("a", { href: `/lines/${encodeURIComponent(each.line_id)}` }, each.name)), el("td", { class: "num" }, share(each.oee)),
    el("td", { class: "num" }, hours(each.waiting_ms)), el("td", {}, each.constrains.join(t("comma")) || t("none"))))));
}

function span() {
  if ($("r-period").value !== "dates") {
    const days = Number($("r-period").value);
    return only.last_ms === null ? null : [only.last_ms - days * DAY, only.last_ms];
  }
  const [from, to] = [$("r-from").value, $("r-to").value];
  if (!from || !to || from > to) return null;
  // The last day is in: the API wants the first moment that is out.
  return [from, new Date(Date.parse(`${to}T00:00:00Z`) + DAY).toISOString().slice(0, 10)];
}

function trouble(words) {
  $("r-trouble").hidden = !words;
  text($("r-trouble"), words);
  $("r-busy").hidden = true;
  if (words) $("r-body").hidden = true;
  $("losses-panel").setAttribute("aria-busy", "false");
}

async function load() {
  const dates = $("r-period").value === "dates";
  for (const label of document.querySelectorAll(".dates")) label.hidden = !dates;
  const asks = span();
  if (asks === null) { trouble(dates ? t("choose_dates") : t("nothing_measured")); return; }
  const query = new URLSearchParams({ from: asks[0], to: asks[1], definition: $("r-definition").value, zone: only.timezone });
  const by = $("r-by").value;
  for (const name of BY[by] ?? [by]) query.append("by", name);
  if (only.line) query.set("line", only.line);
  if (only.project) query.set("project", only.project);
  const mine = ++asked;
  $("r-busy").hidden = false;
  $("losses-panel").setAttribute("aria-busy", "true");
  const got = await fetch(`/api/v1/rollup?${query}`);
  if (mine !== asked) return;
  if (!got.ok) { trouble(t("report_failed", { why: (await got.json()).detail })); return; }
  answer = await got.json();
  chosen = null;
  trouble("");
  $("r-body").hidden = false;
  const words = $("r-span");
  text(words, t("span_words", { from: dayTime(answer.from_ms, answer.timezone), to: dayTime(answer.to_ms, answer.timezone), zone: answer.timezone, coverage: share(answer.total.figures.coverage).textContent, definition: answer.definition }));
  words.title = answer.definition_hash;
  groups();
  one();
  machines();
  if ($("r-amended")) {
    const found = await fetch(`/api/v1/lines/${encodeURIComponent(only.line)}/amendments?${new URLSearchParams({ from_ms: answer.from_ms, to_ms: answer.to_ms })}`);
    if (found.ok && mine === asked) amended(await found.json());
  }
}

if ($("losses-panel")) {
  for (const id of ["r-period", "r-from", "r-to", "r-by", "r-definition"]) $(id).addEventListener("change", load);
  $("r-waiting")?.addEventListener("change", machines);
  load();
}

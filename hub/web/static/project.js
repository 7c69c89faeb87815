// A project: the verdict, the weeks before and after, the losses, the gateways, and the bundle.
import { $, count, data, day, dayTime, el, number1, overWords, percent, shape, showZone, signed1, svg, t, text } from "./common.js";

const project = data.project;
const api = `/api/v1/projects/${encodeURIComponent(project.id)}`;
let zone = data.timezone;

const LOSSES = ["SETUP", "FAILURE", "MINOR_STOP", "RESTRAINT", "HELD", "UNASSIGNED", "NO_ORDER"];

function verdict(outcome) {
  const v = outcome.verdict;
  if (outcome.missing.length || v === null) {
    text($("verdict"), t("missing_title"));
    $("reasons").replaceChildren(...outcome.missing.map((name) => el("li", {}, t(`missing_${name}`))));
    return;
  }
  text($("verdict"), t(`verdict_${v.word}`));
  // Data that cannot carry an answer give no figure to quote.
  if (v.word !== "insufficient" && v.change_percent !== null && v.low_percent !== null) {
    text($("verdict-words"), t("verdict_words", {
      change: `${signed1(v.change_percent)} %`, level: String(v.level_percent),
      low: `${signed1(v.low_percent)} %`, high: `${signed1(v.high_percent)} %`,
    }));
  }
  $("reasons").replaceChildren(...v.reasons.map((reason) => el("li", {}, data.language === "en" ? reason.words : t(`reason_${reason.code}`))));
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function chart(outcome) {
  const weeks = outcome.weeks.filter((week) => week.index !== null);
  if (!weeks.length || !window.Plotly) { $("chart").closest("section").hidden = true; return; }
  $("chart").closest("section").hidden = false;
  const looks = { baseline: colour("--no-order"), commissioning: colour("--bar-lost"), reporting: colour("--accent") };
  const traces = Object.entries(looks).map(([period, fill]) => {
    const rows = weeks.filter((week) => week.period === period);
    return {
      type: "bar", name: t(period), x: rows.map((w) => w.day), y: rows.map((w) => w.index), marker: { color: fill },
      width: 86400000 * 5.4, xperiodalignment: "middle",
      hovertemplate: `${t("week_of")} %{x|%Y-%m-%d}<br>%{y:.1f}<extra></extra>`,
    };
  }).filter((trace) => trace.x.length);
  const line = { color: colour("--ink-2"), width: 1.5, dash: "dot" };
  const shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 100, y1: 100, line }];
  const notes = [];
  const first = weeks.find((week) => week.period !== "baseline");
  if (first) {
    const at = Date.parse(`${first.day}T00:00:00Z`) - 3.5 * 86400000;
    const x = new Date(at).toISOString().slice(0, 19);
    shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x, line: { color: colour("--ink"), width: 2 } });
    notes.push({ x, y: 1, yref: "paper", yanchor: "bottom", xanchor: "left", showarrow: false, text: `<b>${t("upgrade")}</b>`, font: { color: colour("--ink"), size: 13 } });
  }
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line"), zerolinecolor: colour("--line") };
  Plotly.react($("chart"), traces, {
    margin: { l: 52, r: 12, t: 26, b: 56 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", bargap: 0.2,
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--ink-2") },
    xaxis: { ...axis, type: "date", tickformat: "%d %b" },
    yaxis: { ...axis, rangemode: "tozero", title: { text: t("chart_axis"), standoff: 8, font: { size: 13 } } },
    legend: { orientation: "h", y: -0.16, x: 0 }, shapes, annotations: notes, barmode: "overlay", showlegend: true,
  }, { displayModeBar: false, responsive: true, locale: "en" });
  const head = el("thead", {}, el("tr", {}, ...[t("week_of"), t("period")].map((w) => el("th", {}, w)),
    ...[t("index"), t("good_per_hour"), t("coverage")].map((w) => el("th", { class: "num" }, w))));
  const body = el("tbody", {}, ...outcome.weeks.map((week) => {
    const covered = el("td", { class: "num" });
    percent(covered, week.coverage, false);
    return el("tr", {}, el("td", {}, week.day), el("td", {}, t(week.period)),
      el("td", { class: "num" }, week.index === null ? "–" : number1(week.index)),
      el("td", { class: "num" }, week.good_per_hour.value === null ? "–" : number1(week.good_per_hour.value)), covered);
  }));
  $("weeks").replaceChildren(head, body);
}

const COMPARED = {
  "good-output-rate": "good_output_rate", oee: "oee", availability: "availability", effectiveness: "effectiveness",
  quality: "quality", "good-throughput": "good_per_hour",
};

function sides(outcome) {
  const [a, b] = [outcome.baseline, outcome.reporting];
  if (!a || !b) { $("sides").closest("section").hidden = true; return; }
  const period = (side) => `${day(side.start_ms, zone)} – ${day(side.end_ms - 1, zone)}`;
  const head = el("thead", {}, el("tr", {}, el("th", {}, ""),
    ...[t("before"), t("after"), t("change"), t("interval", { level: String(outcome.verdict?.level_percent ?? 95) })].map((w) => el("th", { class: "num" }, w))));
  const row = (name, first, second, change = "", interval = "") => el("tr", {}, el("td", {}, name), first, second, cell(change), cell(interval));
  const cell = (value) => el("td", { class: "num" }, value);
  // Without a verdict there is no change to tell, and what was measured is shown all the same.
  const figures = outcome.verdict?.figures ?? ["oee", "availability", "effectiveness", "quality"].map((name) => ({
    name, unit: "share", baseline: a.figures[name].percent, reporting: b.figures[name].percent, change: null, low: null, high: null,
  }));
  const compared = (figure) => {
    const shown = (n) => (n === null ? "–" : `${number1(n)}${figure.unit === "share" ? " %" : ""}`);
    const change = figure.change === null ? "–" : figure.relative ? `${signed1(figure.change)} %` : t("points", { count: signed1(figure.change) });
    const interval = figure.low === null ? "–" : signed1(figure.low) + t("to") + signed1(figure.high);
    return row(t(COMPARED[figure.name]), cell(shown(figure.baseline)), cell(shown(figure.reporting)), change, interval);
  };
  const coverage = [a, b].map((side) => { const node = cell(""); percent(node, side.coverage, false); return node; });
  $("sides").replaceChildren(head, el("tbody", {},
    row(t("period"), cell(period(a)), cell(period(b))),
    ...figures.filter((figure) => figure.name in COMPARED).map(compared),
    row(t("coverage"), ...coverage),
    row(t("gaps"), cell(count(a.gap_count)), cell(count(b.gap_count)))),
    ...[[t("before"), a], [t("after"), b]].filter(([, side]) => side.figures.excess).map(([when, side]) =>
      el("tbody", {}, el("tr", {}, el("td", { class: "small", colspan: "5" }, `${t("effectiveness")}, ${when}: ${overWords(side.figures)}`)))));
}

function losses(outcome) {
  const both = [outcome.baseline, outcome.reporting];
  if (both.some((side) => !side || side.figures.planned_ms - side.figures.unknown_ms <= 0)) { $("losses").closest("section").hidden = true; return; }
  const spent = both.map((side) => {
    const { losses: l, planned_ms, unknown_ms } = side.figures;
    const known = planned_ms - unknown_ms;
    const parts = new Map(LOSSES.map((category) => [category, (l.by_category_ms[category] ?? 0) / known]));
    if (l.effectiveness_ms !== null) parts.set("speed", Math.max(0, l.effectiveness_ms / known));
    if (l.quality_ms !== null) parts.set("rejects", l.quality_ms / known);
    return parts;
  });
  const names = [...spent[0].keys()].filter((name) => spent.some((parts) => (parts.get(name) ?? 0) >= 0.0005))
    .sort((x, y) => (spent[0].get(y) ?? 0) - (spent[0].get(x) ?? 0));
  const top = Math.max(...spent.flatMap((parts) => [...parts.values()]), 0.001);
  const cells = [el("span", {}), ...[t("before"), t("after")].flatMap((word) => [el("span", { class: "head" }, word), el("span", { class: "head" })])];
  for (const name of names) {
    const what = name === "speed" || name === "rejects" ? el("span", { class: "what" }, t(`loss_${name}`))
      : el("span", { class: "what" }, el("span", { class: `dot c-${name}` }, shape(name)), t(`category_${name}`));
    cells.push(what);
    spent.forEach((parts, i) => {
      const part = parts.get(name) ?? 0;
      const bar = svg("svg", { viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" });
      bar.append(svg("rect", { class: `b${i}`, width: (100 * part) / top, height: 14 }));
      cells.push(bar, el("span", { class: "num" }, `${number1(100 * part)} %`));
    });
  }
  $("losses").replaceChildren(...cells);
}

function gateways() {
  $("gateways").tBodies[0].replaceChildren(...data.gateways.map((gateway) => el("tr", {},
    el("td", { title: `${t("fingerprint")}: ${gateway.fingerprint}` }, gateway.id),
    el("td", {}, t(`health_${gateway.state}`)),
    el("td", {}, gateway.lines.join(", ")),
    el("td", { class: "num" }, gateway.last_sequence === null ? "–" : count(gateway.last_sequence + 1)),
    el("td", {}, gateway.last_receipt_ms === null ? t("receipt_none") : dayTime(gateway.last_receipt_ms, zone)))));
  if (!data.gateways.length) $("gateways").tBodies[0].append(el("tr", {}, el("td", { colspan: "5", class: "quiet" }, t("none"))));
}

function auditors() {
  $("auditors")?.tBodies[0].replaceChildren(...data.auditors.map((auditor) => el("tr", {},
    el("td", {}, auditor.id),
    el("td", {}, t(`health_${auditor.state}`)),
    el("td", { class: "num" }, count(auditor.audit_count)),
    el("td", { class: "mono" }, auditor.fingerprint))));
}

function evidence(outcome) {
  const pair = (name, ...value) => [el("dt", {}, t(name)), el("dd", {}, ...value)];
  const hashes = (list) => (list.length ? list.map((hash) => el("div", { class: "mono", title: hash }, `${hash.slice(0, 24)}…`)) : ["–"]);
  $("evidence").replaceChildren(
    ...pair("log_origin", data.hub.log_origin),
    ...pair("log_size", count(data.hub.log_size), " · ", el("a", { href: "/log/checkpoint" }, t("log_link"))),
    ...pair("checkpoint", el("span", { id: "checkpoint", class: "mono" }, "–")),
    ...pair("plan", ...(outcome && outcome.plan_hash ? [t("plan_at", { index: count(outcome.plan_leaf_index) }), ...hashes([outcome.plan_hash])] : [t("none")])),
    ...(outcome ? pair("definition_hash", ...hashes(outcome.definition_hashes)) : []),
    ...(outcome ? pair("configurations", ...hashes(outcome.configuration_hashes)) : []));
}

// The checkpoint is a signed note: origin, size, base64 root, blank line, signatures (c2sp.org/tlog-checkpoint).
async function checkpoint() {
  const answer = await fetch("/log/checkpoint");
  if (!answer.ok) return;
  const [, size, root] = (await answer.text()).split("\n");
  if (root) text($("checkpoint"), t("checkpoint_of", { size: count(Number(size)), root }));
}

// The bundle
function job(state) {
  const making = state.state === "making";
  if ($("make")) $("make").disabled = making;
  $("report-busy").hidden = !making;
  $("report-links").hidden = state.state !== "ready";
  if (state.state === "failed") text($("report-words"), t("report_failed", { why: state.words }));
  if (state.state === "ready") {
    text($("report-words"), t("report_ready", { size: count(state.log_size) }));
    $("bundle").href = state.bundle;
    $("pdf").href = state.pdf;
    text($("report-hash"), `SHA-256 ${state.sha256}`);
  } else text($("report-hash"), "");
}

async function follow() {
  const began = performance.now();
  for (;;) {
    const answer = await fetch(`${api}/report`);
    if (!answer.ok) return;
    const state = await answer.json();
    job(state);
    if (state.state !== "making") return;
    text($("report-words"), t("making_report", { seconds: count((performance.now() - began) / 1000) }));
    await new Promise((resume) => setTimeout(resume, 500));
  }
}

async function make() {
  $("make").disabled = true;
  const answer = await fetch(`${api}/report`, { method: "POST" });
  if (!answer.ok) {
    $("make").disabled = false;
    text($("report-words"), t("report_failed", { why: (await answer.json()).detail }));
    return;
  }
  job(await answer.json());
  await follow();
}

async function load() {
  text($("verdict-words"), t("computing"));
  const answer = await fetch(`${api}/outcome`);
  $("computing").hidden = true;
  text($("verdict-words"), "");
  if (!answer.ok) { text($("verdict"), t("report_failed", { why: String(answer.status) })); return; }
  const outcome = await answer.json();
  if (outcome.plan_hash) zone = outcome.timezone;
  showZone(zone);
  verdict(outcome);
  sides(outcome);
  losses(outcome);
  evidence(outcome);
  gateways();
  checkpoint();
  const draw = () => chart(outcome);
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

showZone(zone);
gateways();
auditors();
evidence(null);
$("make")?.addEventListener("click", make);
load();
follow();

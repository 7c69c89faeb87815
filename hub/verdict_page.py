"""The verdict as one page for people: HTML that needs nothing but itself, and prints on one sheet of A4.

Decides how a verdict looks on paper. No script, no font, no picture from elsewhere: the page's own policy forbids what
is not in it. Every word of the bundle is escaped. What the verdict is, `protocols.evidence.verify` has found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from fractions import Fraction
from html import escape
from typing import Any, Final

from protocols.evidence.bodies import RawGap
from protocols.evidence.verdict import GapFound, GapKind, Result, Verdict
from protocols.measurement.rounding import rounded

LINES_SHOWN: Final = 12
GAPS_SHOWN: Final = 4
NOTES_SHOWN: Final = 4
_WIDTH: Final = 640
_ROW: Final = 16
_BAR: Final = 9.0
_LABEL: Final = 90
_LEAST: Final = 1.2
"""Of a bar in both directions, so that what is small can still be seen."""
_MARKS: Final = {Result.PASSED: ("✓", "passed"), Result.FAILED: ("✗", "failed"), Result.NOT_FINISHED: ("·", "open")}
_SHOWN: Final = ("good-output-rate", "oee", "availability", "effectiveness", "quality", "throughput")
_TITLES: Final = {
    "good-output-rate": "Good output rate (primary)",
    "oee": "OEE",
    "availability": "Availability",
    "effectiveness": "Effectiveness",
    "quality": "Quality",
    "throughput": "Throughput",
}

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #5b6470; --line: #d5dae0; --paper: #fff; --soft: #f3f5f7;
  --good: #1a6e3c; --bad: #b3261e; --seen: #2f6f9f; --hole: #b3261e; --unseen: #c77700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --dim: #a2abb5; --line: #3a424b; --paper: #14181c;
  --soft: #1e242a; --good: #63c98a; --bad: #ff8a80; --seen: #6fb1e0; --hole: #ff8a80; --unseen: #f0b04a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 20px 24px; max-width: 800px; background: var(--paper); color: var(--ink);
  font: 13px/1.4 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK TC", sans-serif; }
header { display: flex; gap: 18px; align-items: center; border-bottom: 2px solid var(--ink); padding-bottom: 10px; }
.word { font-size: 40px; font-weight: 700; line-height: 1; letter-spacing: .02em; }
.passed { color: var(--good); } .failed { color: var(--bad); } .open, .dim { color: var(--dim); }
h1 { font-size: 17px; margin: 0; } h2 { font-size: 13px; margin: 12px 0 4px; }
p { margin: 2px 0; } ul { margin: 2px 0; padding-left: 18px; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: 1px 10px 1px 0;
  vertical-align: top; font-weight: 400; } th { color: var(--dim); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.checks td:nth-child(2) { white-space: nowrap; }
@media (max-width: 640px) { .checks td:nth-child(2) { white-space: normal; } .two { display: block; } }
.checks td:first-child { width: 18px; font-weight: 700; } .checks td:last-child { color: var(--dim); }
.why { background: var(--soft); border-left: 4px solid var(--bad); padding: 6px 10px; margin-top: 10px; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 0 24px; }
.hash { font: 11px/1.4 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--ink); }
.seen { fill: var(--seen); } .hole { fill: var(--hole); } .unseen { fill: var(--unseen); }
.axis { stroke: var(--line); }
svg text.dim { fill: var(--dim); }
.key { display: inline-block; width: 10px; height: 10px; margin: 0 4px 0 12px; }
footer { margin-top: 12px; border-top: 1px solid var(--line); padding-top: 6px; }
@page { size: A4; margin: 12mm; }
@media print { :root { color-scheme: light; --ink: #000; --dim: #4a4a4a; --line: #bbb; --paper: #fff; --soft: #f3f3f3;
  --good: #1a6e3c; --bad: #b3261e; --seen: #2f6f9f; --hole: #b3261e; --unseen: #c77700; }
  body { padding: 0; max-width: none; font-size: 10px; line-height: 1.25; } .word { font-size: 30px; }
  h1 { font-size: 14px; } h2 { font-size: 10.5px; margin: 7px 0 2px; } .hash { font-size: 9px; }
  svg text { font-size: 9px; } td, th { padding-top: 0; padding-bottom: 0; } footer { margin-top: 8px; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What was verified with what, by whom, when. `zone`: of the plan; `now`: aware. Hashes are hex."""

    bundle_name: str
    bundle_sha256: str
    policy_name: str
    policy_sha256: str
    who: str
    now: datetime
    zone: tzinfo
    proves: Sequence[str]
    cannot: Sequence[str]


def page(verdict: Verdict, of: Circumstances) -> str:
    """The whole document."""
    word, style = ("PASS", "passed") if verdict.ok else ("FAIL", "failed")
    body = "".join(
        (
            _header(verdict, of, word, style),
            _why(verdict),
            _checks(verdict),
            _coverage(verdict, of.zone),
            _figures(verdict),
            _notes(verdict),
            _meaning(verdict, of),
            _footer(verdict, of),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{word} – {escape(of.bundle_name)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _header(verdict: Verdict, of: Circumstances, word: str, style: str) -> str:
    plan = verdict.plan or {}
    title = " – ".join(str(plan[key]) for key in ("title", "enterprise", "scheme") if key in plan)
    finding = f"Outcome: {verdict.figures['finding']}. " if verdict.ok and verdict.figures else ""
    return (
        f'<header><div class="word {style}">{word}</div><div><h1>{escape(_cut(title or of.bundle_name, 160))}</h1>'
        f'<p>{escape(finding)}<span class="dim">{escape(of.bundle_name)}, {verdict.records:,} records</span></p>'
        "</div></header>"
    )


def _why(verdict: Verdict) -> str:
    failure = verdict.first_failure
    if failure is None:
        return ""
    where = f"<p>Where: {escape(failure.place)}</p>" if failure.place else ""
    return (
        f'<div class="why"><p><b>{escape(failure.words)}</b></p>{where}'
        "<p>Nothing in this bundle should be relied on.</p></div>"
    )


def _checks(verdict: Verdict) -> str:
    rows = []
    for check in verdict.checks:
        mark, style = _MARKS[check.result]
        words = {Result.PASSED: check.words, Result.FAILED: "no", Result.NOT_FINISHED: "not finished"}[check.result]
        rows.append(
            f'<tr><td class="{style}" title="{check.result.value}">{mark}</td><td>{escape(check.step.value)}</td>'
            f"<td>{escape(words)}</td></tr>"
        )
    return f'<h2>What was checked</h2><table class="checks">{"".join(rows)}</table>'


def _coverage(verdict: Verdict, zone: tzinfo) -> str:
    if not verdict.coverage:
        return ""
    lines = list(dict.fromkeys(each.line_id for each in verdict.coverage))
    shown = lines[:LINES_SHOWN]
    more = f"<p class=dim>and {len(lines) - len(shown)} more lines (--json lists all)</p>" if shown != lines else ""
    legend = "".join(
        f'<span class="key" style="background:var(--{name})"></span>{words}'
        for name, words in (("seen", "observed"), ("unseen", "not observed"), ("hole", "no record"))
    )
    return (
        f"<h2>Coverage <span class=dim>(times in {escape(str(zone))})</span>{legend}</h2>"
        f"{_timeline(verdict, shown, zone)}{more}{_gaps(verdict.gaps, zone)}{_raw_gaps(verdict.raw_gaps, zone)}"
    )


def _timeline(verdict: Verdict, lines: Sequence[str], zone: tzinfo) -> str:
    """One row a line: each period as a bar, with what nobody saw on top of it."""
    first = min(each.from_ms for each in verdict.coverage)
    span = max(each.to_ms for each in verdict.coverage) - first or 1
    plot = _WIDTH - _LABEL

    def x(at_ms: int) -> float:
        return _LABEL + plot * (at_ms - first) / span

    def bar(from_ms: int, to_ms: int, row: int, style: str, title: str, part: float = 1.0) -> str:
        width, height = max(x(to_ms) - x(from_ms), _LEAST), max(_BAR * part, _LEAST)
        top = row * _ROW + 3 + _BAR - height
        return (
            f'<rect class="{style}" x="{x(from_ms):.2f}" y="{top:.2f}" width="{width:.2f}" height="{height:.2f}">'
            f"<title>{escape(title)}</title></rect>"
        )

    parts = []
    for row, line_id in enumerate(lines):
        label = _cut(line_id, 14)
        parts.append(f'<text x="0" y="{row * _ROW + 11}">{escape(label)}</text>')
        for each in verdict.coverage:
            if each.line_id == line_id:
                words = f"{line_id}, {each.period}: {each.permille / 10:.1f} % observed"
                parts.append(bar(each.from_ms, each.to_ms, row, "seen", words))
        nearest_ms = int(span / plot * _LEAST) + 1
        for from_ms, to_ms, missing_ms, kind in _merged(verdict.gaps, line_id, nearest_ms):
            style = "hole" if kind is GapKind.NO_RECORD else "unseen"
            words = f"{line_id}: {kind.value}, {_time(from_ms, zone)} to {_time(to_ms, zone)}"
            # A minute with five unseen seconds is no minute unseen: its height is what was missing of its width.
            part = 1.0 if kind is GapKind.NO_RECORD else missing_ms / max(to_ms - from_ms, nearest_ms)
            parts.append(bar(from_ms, to_ms, row, style, words, part))
    height = len(lines) * _ROW
    spans = list(dict.fromkeys((each.period, each.from_ms, each.to_ms) for each in verdict.coverage))
    for i, (name, from_ms, to_ms) in enumerate(spans):
        at_ms, anchor = (to_ms, "end") if i == len(spans) - 1 else (from_ms, "start")
        words = f"{name}: {_time(from_ms, zone)[:10]} to {_time(to_ms, zone)[:10]}"
        parts.append(
            f'<text class="dim" x="{x(at_ms):.2f}" y="{height + 12}" text-anchor="{anchor}">{escape(words)}</text>'
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height + 16}" role="img" aria-label="Coverage of each line over time">'
        f'<line class="axis" x1="{_LABEL}" x2="{_WIDTH}" y1="{height}" y2="{height}"/>{"".join(parts)}</svg>'
    )


def _merged(gaps: Iterable[GapFound], line_id: str, nearest_ms: int) -> Iterator[tuple[int, int, int, GapKind]]:
    """(from, to, missing, kind) of a line; gaps of one kind that a picture could not tell apart are one."""
    for kind in GapKind:
        last: tuple[int, int, int] | None = None
        for gap in gaps:
            if gap.line_id != line_id or gap.kind is not kind:
                continue
            if last is not None and gap.to_ms - last[0] < nearest_ms:
                last = last[0], gap.to_ms, last[2] + gap.missing_ms
                continue
            if last is not None:
                yield *last, kind
            last = gap.from_ms, gap.to_ms, gap.missing_ms
        if last is not None:
            yield *last, kind


def _gaps(gaps: Sequence[GapFound], zone: tzinfo) -> str:
    if not gaps:
        return "<p>No gaps: every minute of both periods was observed.</p>"
    rows = []
    for gap in sorted(gaps, key=lambda each: -each.missing_ms)[:GAPS_SHOWN]:
        cells = (
            gap.line_id,
            f"{_time(gap.from_ms, zone)} to {_time(gap.to_ms, zone)}",
            _duration(gap.missing_ms),
            gap.kind.value,
            _cut(gap.reason or "no reason given", 60),
        )
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    all_ms = sum(gap.missing_ms for gap in gaps)
    which = f", the {GAPS_SHOWN} longest" if len(gaps) > GAPS_SHOWN else ""
    return (
        f'<p class="dim">{len(gaps):,} gaps, {_duration(all_ms)} of line time in all{which}:</p>'
        f"<table>{''.join(rows)}</table>"
    )


def _raw_gaps(gaps: Sequence[RawGap], zone: tzinfo) -> str:
    """One sentence: a list has no room on the sheet (the terminal and --json have it)."""
    if not gaps:
        return ""
    longest = max(gaps, key=lambda each: each.to_ms - each.from_ms)
    span = f"{_time(longest.from_ms, zone)} to {_time(longest.to_ms, zone)}"
    which = "" if len(gaps) == 1 else f" in {len(gaps):,} stretches, the longest"
    words = (
        f"Raw samples not held: {sum(gap.chunks for gap in gaps):,} chunks{which}: {_cut(longest.line_id, 14)}, "
        f"{span}, {longest.chunks:,} chunks ({_cut(longest.reason, 60)}). No figure depends on them; an audit cannot "
        "replay them."
    )
    return f'<p class="dim">{escape(words)}</p>'


def _figures(verdict: Verdict) -> str:
    if verdict.figures is None:
        return ""
    found = {figure["name"]: figure for figure in verdict.figures["figures"]}
    rows = "".join(_figure(name, found[name]) for name in _SHOWN if name in found)
    confidence = verdict.figures["interval"]["confidence_permille"] / 10
    head = "".join(
        f'<th class="number">{title}</th>' for title in ("before", "after", "change", f"{confidence:g} % interval")
    )
    return f"<h2>Figures, computed again from the records</h2><table><tr><th></th>{head}</tr>{rows}</table>"


def _figure(name: str, figure: Mapping[str, Any]) -> str:
    share = figure["unit"] == "share"
    values = [_value(figure[side], share) for side in ("baseline", "reporting")]
    unit = " %" if figure["relative"] else " points"
    change = _ppm(figure["change_ppm"], unit)
    low, high = (_ppm(figure[end], "") for end in ("low_ppm", "high_ppm"))
    interval = f"{low} to {high}{unit}" if figure["low_ppm"] is not None else "–"
    cells = "".join(f'<td class="number">{escape(cell)}</td>' for cell in (*values, change, interval))
    title = _TITLES[name] + ("" if share else f" ({figure['unit']})")
    return f"<tr><td>{escape(title)}</td>{cells}</tr>"


def _value(fraction: Sequence[int] | None, share: bool) -> str:
    if fraction is None:
        return "–"
    value = Fraction(*fraction) * (100 if share else 1)
    return f"{rounded(value, 1) / 10:,.1f}{' %' if share else ''}"


def _ppm(value: int | None, unit: str) -> str:
    if value is None:
        return "–"
    number = f"{rounded(Fraction(value, 10_000), 1) / 10:+,.1f}"
    return ("0.0" if number in ("+0.0", "-0.0") else number.replace("-", "−")) + unit


def _notes(verdict: Verdict) -> str:
    if not verdict.notes:
        return ""
    shown = "".join(f"<li>{escape(_cut(note, 200))}</li>" for note in verdict.notes[:NOTES_SHOWN])
    left = len(verdict.notes) - NOTES_SHOWN
    more = f"<li class=dim>and {left} more (--json lists all)</li>" if left > 0 else ""
    return f"<h2>To be known</h2><ul>{shown}{more}</ul>"


def _meaning(verdict: Verdict, of: Circumstances) -> str:
    if not verdict.ok:
        return ""
    columns = "".join(
        f"<div><h2>{title}</h2><ul>{''.join(f'<li>{escape(each)}</li>' for each in sentences)}</ul></div>"
        for title, sentences in (("This proves", of.proves), ("It cannot prove", of.cannot))
    )
    return f'<div class="two">{columns}</div>'


def _footer(verdict: Verdict, of: Circumstances) -> str:
    rows = [
        ("Bundle", f"SHA-256 {of.bundle_sha256}"),
        ("Policy", f"SHA-256 {of.policy_sha256}  {of.policy_name}"),
    ]
    if verdict.evidence_sha256:
        rows.append(("Evidence", f"SHA-256 {verdict.evidence_sha256.hex()}  as the PDF must show it"))
    if verdict.log_origin:
        rows.append(("Log", f"{verdict.log_origin}, {verdict.log_size:,} entries, root {verdict.log_root.hex()}"))
    cells = "".join(f'<tr><td>{name}</td><td class="hash">{escape(words)}</td></tr>' for name, words in rows)
    when = f"{of.now:%Y-%m-%d %H:%M} {of.now.tzname() or ''}".strip()
    return (
        f"<footer><table>{cells}</table><p class=dim>Verified offline by {escape(of.who)}, {escape(when)}, with "
        "linetally-verify. Whoever doubts this page runs the same command on the same two files.</p></footer>"
    )


def _time(at_ms: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(at_ms / 1000, zone).strftime("%Y-%m-%d %H:%M")


def _duration(length_ms: int) -> str:
    minutes, rest = divmod(length_ms, 60_000)
    return f"{rest / 1000:.0f} s" if minutes == 0 else f"{minutes // 60:,}:{minutes % 60:02d} h"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"

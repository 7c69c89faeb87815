"""Which minutes an audit's command is about: the options that draw or name them.

Decides what each option means and which of several wins. The draw itself is `hub.audit.minutes`'s.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import date, datetime
from typing import Final

from hub.audit import challenges
from hub.audit.evidence import Evidence
from hub.audit.examination import Asked
from hub.audit.minutes import Span, decide_ms, draw
from protocols.errors import Malformed
from protocols.measurement.account import Window
from protocols.measurement.configuration import LineConfiguration

_MAX_MINUTES: Final = 1_440


def asked_for(
    evidence: Evidence, known: list[challenges.Asked], args: argparse.Namespace
) -> tuple[bytes, Asked | None]:
    """(seed, the windows that are asked for); None: all that raw samples cover."""
    if args.from_time or args.to_time:
        from_ms, to_ms = _time(args.from_time, "--from"), _time(args.to_time, "--to")
        every = {
            line_id: [w.start_ms for w, _ in evidence.windows(line_id, from_ms, to_ms) if w.start_ms >= from_ms]
            for line_id in evidence.line_ids
        }
        return b"", {line_id: frozenset(starts) for line_id, starts in every.items()}
    if seed := given_seed(args):
        drawn = drawn_windows(evidence, seed, args)
        return seed, {line_id: frozenset(start for start, _ in spans) for line_id, spans in drawn.items()}
    if args.days:
        raise Malformed("--days draws minutes, and needs the --seed that they were drawn with")
    if not known:
        return b"", None
    asked: dict[str, frozenset[int]] = {}
    for each in known:
        asked[each.line_id] = asked.get(each.line_id, frozenset()) | {start for start, _ in each.windows}
    seeds = {each.seed for each in known}
    return seeds.pop() if len(seeds) == 1 else b"", asked


def drawn_windows(evidence: Evidence, seed: bytes, args: argparse.Namespace) -> dict[str, list[Span]]:
    if not 1 <= args.minutes <= _MAX_MINUTES:
        raise Malformed(f"--minutes must be from 1 to {_MAX_MINUTES}")
    days = _days(args.days)
    lines = sorted(set(args.line) or evidence.line_ids)
    return {
        line_id: spans
        for line_id in lines
        if (spans := draw(seed, line_id, (w for w, _ in evidence.windows(line_id)), days, args.minutes))
    }


def named_windows(evidence: Evidence, at: list[str]) -> dict[str, list[Span]]:
    """The windows that hold these instants."""
    found: dict[str, list[Span]] = {}
    for text in at:
        at_ms = _time(text, "--at")
        for line_id in evidence.line_ids:
            for window, _ in evidence.windows(line_id, at_ms, at_ms + 1):
                found.setdefault(line_id, []).append((window.start_ms, window.end_ms))
    return {line_id: sorted(set(spans)) for line_id, spans in found.items()}


def decide_times(evidence: Evidence, drawn: Mapping[str, list[Span]]) -> dict[Span, int]:
    out: dict[Span, int] = {}
    known = {hash_: decide_ms(LineConfiguration.from_data(data)) for hash_, data in evidence.configurations.items()}
    for line_id, spans in drawn.items():
        wanted = set(spans)
        for window, hash_ in evidence.windows(line_id, spans[0][0], spans[-1][1]):
            if (span := _span(window)) in wanted:
                out[span] = max(out.get(span, 0), known[hash_])
    return out


def _span(window: Window) -> Span:
    return window.start_ms, window.end_ms


def _days(text: str | None) -> tuple[date, date]:
    if text is None:
        return date.min, date.max
    first, _, last = text.partition("..")
    try:
        days = date.fromisoformat(first), date.fromisoformat(last or first)
    except ValueError:
        raise Malformed(f"--days {text!r}: write 2026-11-01..2026-11-20") from None
    if days[1] < days[0]:
        raise Malformed(f"--days {text!r}: the last day is before the first")
    return days


def given_seed(args: argparse.Namespace) -> bytes:
    if args.seed is None:
        return b""
    try:
        seed = bytes.fromhex(args.seed)
    except ValueError:
        seed = b""
    if not 1 <= len(seed) <= 64:
        raise Malformed("--seed: write 1 to 64 bytes as hex digits")
    return seed


def _time(text: str | None, option: str) -> int:
    try:
        instant = datetime.fromisoformat(text or "")
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise Malformed(f"{option} {text!r}: write a time with its zone, 2026-11-03T10:15+08:00")
    return round(instant.timestamp() * 1000)

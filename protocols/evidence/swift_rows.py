"""The measured windows of many records, line by line, and how they are added up.

Decides nothing that `continuity` and `measurement.tally` have not decided; see `swift`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from protocols.evidence.continuity import LineTime
from protocols.evidence.late import Places
from protocols.evidence.lockstep import I64, Flags, Walk
from protocols.evidence.statement import ROW_HEAD
from protocols.evidence.swift_statements import PRODUCT, SHIFT, Statements, Texts, last_of_runs, read_statements
from protocols.measurement.plan import Plan
from protocols.measurement.tally_columns import add_columns


@dataclass(slots=True)
class Rows:
    """One line's rows. `owner`: of each row the statement; `record`: of each statement the record it stands in."""

    line_id: str
    record: I64
    configuration: list[bytes]  # hash, of each statement
    owner: I64
    columns: I64  # as in `statement`, one row of this array for each integer of a window
    start_ms: I64
    end_ms: I64
    product: I64  # number of the text, of each row
    shift: I64

    @classmethod
    def together(cls, parts: Sequence[Rows]) -> Rows:
        """The same line's rows from several places in the records, in the records' order."""
        if len(parts) == 1:
            return parts[0]
        shifts = np.cumsum([0, *(len(part.record) for part in parts[:-1])])
        record = np.concatenate([part.record for part in parts])
        owner = np.concatenate([part.owner + shift for part, shift in zip(parts, shifts, strict=True)])
        order = np.argsort(record[owner], kind="stable")
        return cls(
            parts[0].line_id,
            record,
            [each for part in parts for each in part.configuration],
            owner[order],
            np.concatenate([part.columns for part in parts], axis=1)[:, order],
            np.concatenate([part.start_ms for part in parts])[order],
            np.concatenate([part.end_ms for part in parts])[order],
            np.concatenate([part.product for part in parts])[order],
            np.concatenate([part.shift for part in parts])[order],
        )

    def configurations(self, plan: Plan) -> Iterator[tuple[bytes, int, int]]:
        """(hash, first and last start) of one statement under each configuration; of one in a period if there is."""
        ends = last_of_runs(self.owner)
        first_ms, last_ms = self.start_ms[np.concatenate(([0], ends[:-1] + 1))], self.start_ms[ends]
        counts = np.zeros(len(ends), bool)
        for period in (plan.baseline, plan.reporting):
            counts |= (period.from_ms <= last_ms) & (first_ms < period.to_ms)
        shown: dict[bytes, int] = {}
        hashes = [self.configuration[i] for i in self.owner[ends].tolist()]
        for i, each in enumerate(hashes):
            if each not in shown or (counts[i] and not counts[shown[each]]):
                shown[each] = i
        for each, i in shown.items():
            yield each, int(first_ms[i]), int(last_ms[i])

    def take_in(self, time: LineTime, sequences: I64, places: Places, texts: Texts) -> None:
        """Adds the rows to the line's tallies; `sequences`: of each record."""
        for tally in time.tallies.values():
            first, end = np.searchsorted(self.start_ms, (tally.period.from_ms, tally.period.to_ms)).tolist()
            if first == end:
                continue
            part = slice(first, end)
            start_ms, end_ms, owner = self.start_ms[part], self.end_ms[part], self.owner[part]
            product, shift, ints = self.product[part], self.shift[part], self.columns[ROW_HEAD:, part]
            add_columns(tally, start_ms, end_ms, product, shift, texts.text, ints)
            from_, to, rows = _span_columns(start_ms, end_ms, owner[1:] != owner[:-1])
            time.revisions.stated(from_.tolist(), to.tolist(), sequences[self.record[owner[rows]]].tolist(), places)
        time.end_ms = int(self.end_ms[-1])


def read_lines(walk: Walk, start_ms: I64, end_ms: I64, texts: Texts) -> list[Rows]:
    """The bodies of measurement records that span [start_ms, end_ms). Raises Unusual."""
    return [rows for which, found in read_statements(walk, start_ms, end_ms, texts) for rows in _by_line(found, which)]


def _by_line(found: Statements, which: I64) -> Iterator[Rows]:
    """Each line's rows by themselves; `which`: the record of each statement."""
    columns, owner = found.columns, found.owner
    of_row = found.start_ms, found.end_ms, found.text_of_row(PRODUCT), found.text_of_row(SHIFT)
    lines = {line_id: i for i, line_id in enumerate(dict.fromkeys(found.line_ids))}
    if len(lines) == 1:
        yield Rows(found.line_ids[0], which, found.configurations, owner, columns, *of_row)
        return
    of_line = np.array([lines[line_id] for line_id in found.line_ids])
    for line_id, i in lines.items():
        mine = np.flatnonzero(of_line == i)
        rows = np.flatnonzero(of_line[owner] == i)
        place = np.zeros(len(of_line), np.int64)
        place[mine] = np.arange(len(mine))
        yield Rows(
            line_id,
            which[mine],
            [found.configurations[j] for j in mine.tolist()],
            place[owner[rows]],
            columns[:, rows],
            *(each[rows] for each in of_row),
        )


def _span_columns(start_ms: I64, end_ms: I64, breaks: Flags) -> tuple[I64, I64, I64]:
    lasts = np.append(np.flatnonzero(breaks), len(start_ms) - 1)
    firsts = np.concatenate(([0], lasts[:-1] + 1))
    return start_ms[firsts], end_ms[lasts], firsts

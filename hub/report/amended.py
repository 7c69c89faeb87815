"""The windows of a report as they stand at its checkpoint.

Decides where the hub reads what was signed and what was amended. The index is ahead of a checkpoint as often as not, so
a window that was restated is read from the log again, and only the amendments of the report's own chains are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hub.projections.columns import LineColumns
from hub.projections.index import IndexedRecord
from hub.report.reading import Entries, Sources, incomplete
from protocols.evidence.cose import Kid
from protocols.evidence.record import Measurement, RecordType, SignedRecord
from protocols.measurement.account import TimeAccount, Window
from protocols.measurement.amendment import Amendment, Source
from protocols.measurement.plan import Plan
from protocols.measurement.revisions import FINAL, Revisions


def as_amended(
    sources: Sources,
    plan: Plan,
    found: Mapping[str, LineColumns],
    trusted: Mapping[int, IndexedRecord],
    chains: Mapping[Kid, Sequence[IndexedRecord]],
) -> dict[str, ColumnRevisions]:
    """The windows `found` that count, with the amendments that are in `chains`, as the verifier will make them.

    `trusted`: the records of the chains by leaf. Raises Refused when the log does not state what the index has of it.
    """
    lines = {}
    for line_id, columns in found.items():
        counts = np.zeros(len(columns), bool)
        for period in (plan.baseline, plan.reporting):
            counts |= (period.from_ms <= columns.start_ms) & (columns.start_ms < period.to_ms)
        kept = columns.where(counts)
        for place in np.flatnonzero(kept.version != FINAL).tolist():
            kept.restate(place, _as_signed(sources, kept, place).account)
        lines[line_id] = ColumnRevisions(
            line_id, lambda at: at in plan.baseline or at in plan.reporting, columns=kept, trusted=trusted
        )
    late = [record for records in chains.values() for record in records if record.type == RecordType.AMENDMENT]
    late.sort(key=lambda record: record.leaf_index)
    for record, raw in zip(late, Entries(sources.log, [record.leaf_index for record in late]), strict=True):
        body = SignedRecord(raw).record.body
        if isinstance(body, Amendment) and body.line_id in lines:
            lines[body.line_id].amend(body, Source(record.kid, record.sequence))
    return lines


@dataclass(slots=True)
class ColumnRevisions(Revisions):
    """The windows of one line as they stand, in columns. `trusted`: the records that state them, by leaf."""

    columns: LineColumns = field(kw_only=True)
    trusted: Mapping[int, IndexedRecord] = field(kw_only=True)

    def stated_by(self, at_ms: int) -> Source | None:
        place = self.columns.place(at_ms)
        if place is None:
            return None
        record = self.trusted[int(self.columns.leaf_index[place])]
        return Source(record.kid, record.sequence)

    def window(self, at_ms: int) -> Window:
        place = self.columns.place(at_ms)
        assert place is not None
        return self.columns.window(place)

    def replace(self, window: Window, account: TimeAccount) -> None:
        place = self.columns.place(window.start_ms)
        assert place is not None
        self.columns.restate(place, account)


def _as_signed(sources: Sources, columns: LineColumns, place: int) -> Window:
    leaf, start_ms = int(columns.leaf_index[place]), int(columns.start_ms[place])
    body = SignedRecord(sources.log.entry(leaf)).record.body
    if isinstance(body, Measurement):
        for line in body.lines:
            for window in line.windows:
                if (line.line_id, window.start_ms) == (columns.line_id, start_ms):
                    return window
    raise incomplete(f"what entry {leaf} of the log states")

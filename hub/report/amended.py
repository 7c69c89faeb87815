"""The windows of a report as they stand at its checkpoint.

Decides where the hub reads what was signed and what was amended. The index is ahead of a checkpoint as often as not, so
a window that was restated is read from the log again, and only the amendments of the report's own chains are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hub.projections.index import IndexedRecord, IndexedWindow
from hub.report.reading import Entries, Sources, incomplete
from protocols.evidence.cose import Kid
from protocols.evidence.record import Measurement, RecordType, SignedRecord
from protocols.measurement.account import Window
from protocols.measurement.plan import Plan
from protocols.measurement.revisions import FINAL, Amendment, LineRevisions, Source


def as_amended(
    sources: Sources,
    plan: Plan,
    found: Sequence[IndexedWindow],
    trusted: Mapping[int, IndexedRecord],
    chains: Mapping[Kid, Sequence[IndexedRecord]],
) -> dict[str, LineRevisions]:
    """The windows `found` with the amendments that are in `chains`, by line, as the verifier will make them.

    `trusted`: the records of the chains by leaf. Raises Refused when the log does not state what the index has of it.
    """
    lines = {
        line_id: LineRevisions(line_id, lambda at: at in plan.baseline or at in plan.reporting)
        for line_id in plan.line_ids
    }
    for each in found:
        record = trusted[each.leaf_index]
        window = each.window if each.version == FINAL else _as_signed(sources, each)
        lines[each.line_id].add([window], Source(record.kid, record.sequence))
    late = [record for records in chains.values() for record in records if record.type == RecordType.AMENDMENT]
    late.sort(key=lambda record: record.leaf_index)
    for record, raw in zip(late, Entries(sources.log, [record.leaf_index for record in late]), strict=True):
        body = SignedRecord(raw).record.body
        if isinstance(body, Amendment) and body.line_id in lines:
            lines[body.line_id].amend(body, Source(record.kid, record.sequence))
    return lines


def _as_signed(sources: Sources, found: IndexedWindow) -> Window:
    body = SignedRecord(sources.log.entry(found.leaf_index)).record.body
    if isinstance(body, Measurement):
        for line in body.lines:
            for window in line.windows:
                if (line.line_id, window.start_ms) == (found.line_id, found.window.start_ms):
                    return window
    raise incomplete(f"what entry {found.leaf_index} of the log states")

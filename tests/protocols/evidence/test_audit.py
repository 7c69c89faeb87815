"""An audit as a record: what it can say, and what it cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from protocols.errors import Malformed
from protocols.evidence.audit import Audit, AuditDifference, AuditedLine, audit_from_wire, audit_to_wire
from protocols.evidence.record import SignedRecord
from tests.support.evidence import START_MS, record, signed

LINE = AuditedLine("filling", START_MS, START_MS + 86_400_000, 3, 3, 3)
AUDIT = Audit("P-7", "Ms Chan", bytes(32), (LINE,), None)
DIFFERENCE = AuditDifference("filling", START_MS, "total_count", 100, 99)


@pytest.mark.parametrize(
    "audit",
    [
        AUDIT,
        replace(AUDIT, seed=b"", lines=(LINE, replace(LINE, line_id="packing", asked=5, compared=4, equal=4))),
        replace(AUDIT, lines=(replace(LINE, equal=1),), difference=DIFFERENCE),
        replace(AUDIT, difference=replace(DIFFERENCE, field="product", signed="a", replayed="")),
    ],
)
def test_an_audit_comes_back_from_its_record(audit: Audit) -> None:
    made = signed(record(audit, start_ms=START_MS, end_ms=START_MS))
    assert SignedRecord(made.raw).record.body == audit
    assert made.record.type == "audit"


def test_equal_means_all_that_was_asked_for() -> None:
    assert AUDIT.is_equal
    assert not replace(AUDIT, lines=(replace(LINE, asked=4),)).is_equal
    assert not replace(AUDIT, difference=DIFFERENCE).is_equal


@pytest.mark.parametrize(
    ("audit", "words"),
    [
        (replace(AUDIT, lines=()), "at least one"),
        (replace(AUDIT, lines=(LINE, LINE)), "ascending"),
        (replace(AUDIT, lines=(replace(LINE, equal=2),)), "first is not named"),
        (replace(AUDIT, lines=(replace(LINE, asked=2),)), "must not rise"),
        (replace(AUDIT, lines=(replace(LINE, to_ms=START_MS),)), "before it starts"),
        (replace(AUDIT, difference=replace(DIFFERENCE, replayed=100)), "the same"),
        (replace(AUDIT, seed=bytes(65)), "at most 64"),
        (replace(AUDIT, who=""), "who"),
        (replace(AUDIT, project_id="a/b"), "project id"),
    ],
)
def test_an_impossible_audit_is_refused(audit: Audit, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        audit_from_wire(audit_to_wire(audit))


@pytest.mark.parametrize("value", [None, [], [1, 2, 3, 4, 5], ["P-7", "x", "", [], None]])
def test_another_form_is_refused(value: Any) -> None:
    with pytest.raises(Malformed):
        audit_from_wire(value)

"""Amendments in the index: the window as it stands, what it was, and the same again after a rebuild or a revocation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub import database as db
from hub.projections import projector
from hub.projections.index import Index
from protocols.evidence.cose import key_id
from protocols.evidence.record import Amendment, Body, Revocation, SignedRecord
from protocols.measurement.account import ACCOUNT_FIELDS, total
from protocols.measurement.amendment import AmendmentKind, FieldChange, ReasonChange, WindowChange
from tests.support.evidence import GATEWAY, GATEWAY_KEY, START_MS, WINDOW_MS, record, signed
from tests.support.hub import LINES, HubInFolder, hub_in, measurements, raw_public, table_rows
from tests.support.postgres import postgres_in

GOOD, REJECT, STANDARD_GOOD = map(ACCOUNT_FIELDS.index, ("good_count", "reject_count", "standard_good_ns"))
KID = key_id(raw_public(GATEWAY_KEY))


@pytest.fixture(params=["sqlite", "postgresql"])
def hub(request: pytest.FixtureRequest, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[HubInFolder]:
    if request.param == "sqlite":
        with hub_in(tmp_path) as made:
            yield made
    else:
        with postgres_in(tmp_path, free_port()) as url, hub_in(tmp_path, url) as made:
            yield made


def followed(chain: list[SignedRecord], *bodies: Body) -> list[SignedRecord]:
    """The chain with these bodies after it."""
    chain = list(chain)
    for body in bodies:
        at = chain[-1].record.end_ms
        made = record(body, sequence=len(chain), previous=chain[-1].hash, start_ms=at, end_ms=at)
        chain.append(signed(made))
    return chain


def rejects(minute: int, pieces: int, *, good: int = 95, sequence: int | None = None) -> WindowChange:
    start, bad = START_MS + minute * WINDOW_MS, 100 - good
    fields = (
        FieldChange(GOOD, good, good - pieces),
        FieldChange(REJECT, bad, bad + pieces),
        FieldChange(STANDARD_GOOD, good * 500_000_000, (good - pieces) * 500_000_000),
    )
    return WindowChange(start, start + WINDOW_MS, minute // 15 if sequence is None else sequence, fields)


def late(*changes: WindowChange, line_id: str = "filling") -> Amendment:
    return Amendment(line_id, AmendmentKind.REJECT, changes, "QC lab", "sample 4711")


def reason(old: str, new: str, minute: int = 3) -> Amendment:
    change = ReasonChange(START_MS + minute * WINDOW_MS + 7, old, new)
    return Amendment("filling", AmendmentKind.REASON, change, "M. Chan", "seen late")


def rejected(index: Index, minutes: int = 45) -> list[int]:
    return [row.window.account.reject_count for row in index.windows(["filling"])[:minutes]]


def test_windows_hours_and_rows_of_an_amendment(hub: HubInFolder) -> None:
    chain = followed(
        measurements(6),
        late(rejects(2, 7), rejects(20, 1)),
        late(rejects(2, -2, good=88)),
        late(rejects(2, 1, good=95)),  # it does not see the two before
        late(rejects(3, 1, sequence=1)),  # another record states that minute
        reason("", "jam"),
        reason("jam", "film torn"),
        reason("", "jam"),
        reason("", "jam", 900),
    )
    hub.take(*(made.raw for made in chain[:5]))
    hub.take(*(made.raw for made in chain[5:]))  # a measurement and its amendment in one batch
    index = Index(hub.engine)
    expected = [5] * 90
    expected[2], expected[20] = 10, 6
    assert rejected(index, 90) == expected
    rows = index.windows(["filling"])
    assert [(row.version, row.changed_index, row.leaf_index) for row in (rows[2], rows[3], rows[20])] == [
        (3, 8, 1),
        (1, 1, 1),
        (2, 7, 2),
    ]
    assert [row.window.account.good_count + row.window.account.reject_count for row in rows] == [100] * 90
    assert all(row.version == 1 for row in index.windows(["packing"]))
    hours = index.hours(["filling"], 0, 2**60)
    assert total(hour.account for hour in hours) == total(row.window.account for row in rows)

    found = index.amendments(["filling"])
    assert [(row.leaf_index, row.kind, row.version) for row in found] == [
        (7, "reject", 2), (7, "reject", 2), (8, "reject", 3), (9, "reject", 0), (10, "reject", 0),
        (11, "reason", 0), (12, "reason", 0), (13, "reason", 0), (14, "reason", 0),
    ]  # fmt: skip
    assert [bool(row.refusal) for row in found] == [False] * 3 + [True] * 2 + [False] * 2 + [True] * 2
    assert found[3].refusal == "good_count stands at 90, not at 95"
    assert (found[0].who, found[0].why, found[0].change[0]) == ("QC lab", "sample 4711", ["good_count", 95, 88])
    assert list(found[6].change) == ["jam", "film torn"]
    assert [row.leaf_index for row in index.amendments(["filling"], START_MS + 20 * WINDOW_MS)] == [7, 14]
    assert index.amendments(["packing"]) == []

    # Whoever follows the log hears of the restated windows again.
    assert [row.window.start_ms for row in index.windows_of_leaves(7, 15)] == [
        START_MS + 20 * WINDOW_MS,
        START_MS + 2 * WINDOW_MS,
    ]
    before = table_rows(hub.engine, db.PROJECTIONS)
    projector.rebuild(hub.engine, hub.log)
    assert table_rows(hub.engine, db.PROJECTIONS) == before


def test_a_revocation_takes_amendments_back(hub: HubInFolder) -> None:
    chain = followed(measurements(3), late(rejects(2, 7)), late(rejects(2, 1, good=88)), reason("", "jam"))
    hub.take(*(made.raw for made in chain))
    index = Index(hub.engine)
    assert rejected(index)[2] == 13
    (leaf,) = (row.leaf_index for row in index.amendments(["filling"]) if row.version == 3)
    hub.root_signed(Revocation(GATEWAY, KID, leaf, "stolen"))
    row = index.windows(["filling"])[2]
    assert (row.window.account.reject_count, row.version) == (12, 2)
    assert [each.leaf_index for each in index.amendments(["filling"])] == [leaf - 1]
    hours = index.hours(["filling"], 0, 2**60)
    assert total(hour.account for hour in hours) == total(row.window.account for row in index.windows(["filling"]))
    before = table_rows(hub.engine, db.PROJECTIONS)
    projector.rebuild(hub.engine, hub.log)
    assert table_rows(hub.engine, db.PROJECTIONS) == before


def test_a_line_that_is_not_the_gateways_is_not_amended(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        chain = followed(measurements(1), late(rejects(2, 7), line_id="labelling"))
        answers = hub.take(*(made.raw for made in chain))
        assert getattr(answers[-1], "code", "") == "foreign-line"
        assert Index(hub.engine).amendments([*LINES, "labelling"]) == []

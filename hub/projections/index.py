"""Questions to the index: the rows and roll-ups that the projector wrote, as typed values.

Decides the queries. All sums are made by the database over integers; ratios are made by `protocols.measurement.ratios`
from the accounts given here. Reads only. Every figure can be traced: a row names the leaf of the log that it is from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, Select, desc, func, select

from hub import database as db
from hub.projections import columns
from hub.projections.columns import LineColumns
from protocols.evidence.cose import Kid
from protocols.evidence.policy import Revoked
from protocols.measurement.account import ACCOUNT_FIELDS, CalendarKind, TimeAccount, Window


@dataclass(frozen=True, slots=True)
class IndexedWindow:
    """A window, the line it is of, the configuration it was measured under and the leaf that signs it.

    The window is as it stands: `version` 1 as it was signed, more for each amendment; `changed_index` is the leaf of
    the last one (or `leaf_index`).
    """

    line_id: str
    window: Window
    configuration_hash: bytes
    leaf_index: int
    version: int
    changed_index: int


@dataclass(frozen=True, slots=True)
class IndexedRecord:
    """A record's place. `issuer`: the gateway's id. `length`: bytes."""

    leaf_index: int
    kid: bytes
    issuer: str
    subject: str
    sequence: int
    hash: bytes
    type: str
    start_ms: int
    end_ms: int
    length: int


@dataclass(frozen=True, slots=True)
class IndexedGap:
    """A void that a gateway signed."""

    leaf_index: int
    line_id: str
    from_ms: int
    to_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class IndexedAmendment:
    """One change that came late. `start_ms`, `end_ms`: of the window; of a stop's reason both are its start.

    `change`: [[field, old, new], ...]; of a reason [old, new]. `version`: of the window after it. `refusal`: why it
    has no effect, "" where it has.
    """

    leaf_index: int
    start_ms: int
    end_ms: int
    line_id: str
    kind: str
    change: Sequence[Any]
    version: int
    refusal: str
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class IndexedPlan:
    """A registered plan; `data` is `Plan.to_data()`."""

    leaf_index: int
    project_id: str
    data: Mapping[str, Any]
    hash: bytes


@dataclass(frozen=True, slots=True)
class IndexedConfiguration:
    """`data` is `LineConfiguration.to_data()`."""

    leaf_index: int
    line_id: str
    hash: bytes
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LastReceipt:
    """The newest receipt that was sent to a key. `time_ms`: the hub's wall clock."""

    kid: bytes
    sequence: int
    leaf_index: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A statement that was not admitted. `logged_index`: of a fork, the statement that was there first."""

    id: int
    kid: bytes | None
    gateway_id: str | None
    sequence: int | None
    hash: bytes
    code: str
    words: str
    logged_index: int | None
    time_ms: int


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of a line's windows that share `key` (a tuple in the order of the question's groups)."""

    line_id: str
    key: tuple[str, ...]
    start_ms: int
    end_ms: int
    account: TimeAccount


class Group(StrEnum):
    """By what `totals` adds up, besides the line."""

    PRODUCT = "product"
    ORDER = "order_name"
    SHIFT = "shift"
    DAY = "business_day"
    SHIFT_NAME = "shift_name"


@dataclass(frozen=True, slots=True)
class HourTotal:
    """What a line did in the windows that began within the UTC hour from `hour_ms` on."""

    line_id: str
    hour_ms: int
    account: TimeAccount


class Index:
    """The reading side of the projections. Any thread may use it; each call is one short transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def size(self, name: str = "index") -> int:
        """How many entries of the log the projection `name` has taken in."""
        with self._engine.connect() as connection:
            found = connection.scalar(select(db.cursor.c.size).where(db.cursor.c.name == name))
        return int(found or 0)

    def windows(
        self, line_ids: Sequence[str], from_ms: int | None = None, to_ms: int | None = None
    ) -> list[IndexedWindow]:
        """Windows that touch [from_ms, to_ms), by line and time. They are whole: cut what sticks out, or align."""
        return list(self.iter_windows(line_ids, from_ms, to_ms))

    def iter_windows(
        self, line_ids: Sequence[str], from_ms: int | None = None, to_ms: int | None = None
    ) -> Iterator[IndexedWindow]:
        """As `windows`, in bounded memory."""
        t = db.window.c
        query = (
            select(db.window).where(t.line_id.in_(line_ids), *_span(t.start_ms, t.end_ms, from_ms, to_ms))
            .order_by(t.line_id, t.start_ms)
        )  # fmt: skip
        with self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=2_000).execute(query):
                yield _window(row)

    def columns(
        self, line_ids: Sequence[str], from_ms: int | None = None, to_ms: int | None = None
    ) -> dict[str, LineColumns]:
        """The same windows as `windows` gives, of each line as columns: for sums."""
        t = db.window.c
        span = _span(t.start_ms, t.end_ms, from_ms, to_ms)
        with self._engine.connect() as connection:
            return {line_id: columns.read(connection, line_id, *span) for line_id in line_ids}

    def windows_of_leaves(self, from_index: int, to_index: int) -> list[IndexedWindow]:
        """Windows that the leaves [from_index, to_index) changed last, in log order: what a follower still needs."""
        t = db.window.c
        query = (
            select(db.window).where(t.changed_index >= from_index, t.changed_index < to_index)
            .order_by(t.changed_index, t.line_id, t.start_ms)
        )  # fmt: skip
        return [_window(row) for row in self._all(query)]

    def windows_from_leaf(self, from_index: int, limit: int) -> list[IndexedWindow]:
        """The first `limit` windows that the leaves from `from_index` on stated or amended, in log order."""
        t = db.window.c
        query = (
            select(db.window).where(t.changed_index >= from_index)
            .order_by(t.changed_index, t.line_id, t.start_ms).limit(limit)
        )  # fmt: skip
        return [_window(row) for row in self._all(query)]

    def totals(
        self, line_ids: Sequence[str], from_ms: int | None, to_ms: int | None, by: Sequence[Group] = ()
    ) -> list[Total]:
        """Sums by line and `by`, of the windows that *begin* in [from_ms, to_ms), in order of time."""
        t = db.window.c
        keys = [t[group.value] for group in by]
        start, end = func.min(t.start_ms), func.max(t.end_ms)
        conditions: list[ColumnElement[bool]] = [t.line_id.in_(line_ids)]
        if from_ms is not None:
            conditions.append(t.start_ms >= from_ms)
        if to_ms is not None:
            conditions.append(t.start_ms < to_ms)
        query: Select[*tuple[Any, ...]] = (
            select(t.line_id, start, end, *keys, *(func.sum(t[name]) for name in ACCOUNT_FIELDS))
            .where(*conditions).group_by(t.line_id, *keys).order_by(t.line_id, start)
        )  # fmt: skip
        first = 3 + len(keys)
        return [
            Total(
                row[0], tuple(row[3:first]), int(row[1]), int(row[2]), TimeAccount.from_ints([*map(int, row[first:])])
            )
            for row in self._all(query)
        ]

    def hours(self, line_ids: Sequence[str], from_ms: int, to_ms: int) -> list[HourTotal]:
        """The roll-up by UTC hour, of the hours that begin in [from_ms, to_ms)."""
        t = db.hourly.c
        query: Select[*tuple[Any, ...]] = (
            select(t.line_id, t.hour_ms, *(func.sum(t[name]) for name in ACCOUNT_FIELDS))
            .where(t.line_id.in_(line_ids), t.hour_ms >= from_ms, t.hour_ms < to_ms)
            .group_by(t.line_id, t.hour_ms).order_by(t.line_id, t.hour_ms)
        )  # fmt: skip
        return [HourTotal(row[0], row[1], TimeAccount.from_ints([*map(int, row[2:])])) for row in self._all(query)]

    def gaps(self, line_ids: Sequence[str], from_ms: int | None = None, to_ms: int | None = None) -> list[IndexedGap]:
        """Signed gaps that touch [from_ms, to_ms)."""
        t = db.gap.c
        query = (
            select(db.gap).where(t.line_id.in_(line_ids), *_span(t.from_ms, t.to_ms, from_ms, to_ms))
            .order_by(t.line_id, t.from_ms)
        )  # fmt: skip
        return [IndexedGap(**row._mapping) for row in self._all(query)]

    def amendments(
        self, line_ids: Sequence[str], from_ms: int | None = None, to_ms: int | None = None
    ) -> list[IndexedAmendment]:
        """Changes of windows and stops that begin in [from_ms, to_ms), in log order."""
        t = db.amendment.c
        conditions: list[ColumnElement[bool]] = [t.line_id.in_(line_ids)]
        conditions += [] if from_ms is None else [t.start_ms >= from_ms]
        conditions += [] if to_ms is None else [t.start_ms < to_ms]
        query = select(db.amendment).where(*conditions).order_by(t.leaf_index, t.start_ms)
        return [IndexedAmendment(**row._mapping) for row in self._all(query)]

    def records(
        self, kid: bytes | None = None, from_index: int = 0, to_index: int | None = None, limit: int | None = None
    ) -> list[IndexedRecord]:
        """Records in log order, of one key or of all; `limit` keeps the newest."""
        t = db.record.c
        query = select(db.record).where(t.leaf_index >= from_index).order_by(desc(t.leaf_index)).limit(limit)
        if kid is not None:
            query = query.where(t.kid == kid)
        if to_index is not None:
            query = query.where(t.leaf_index < to_index)
        return [IndexedRecord(*row) for row in reversed(self._all(query))]

    def record_by_hash(self, record_hash: bytes) -> IndexedRecord | None:
        rows = self._all(select(db.record).where(db.record.c.hash == record_hash))
        return IndexedRecord(**rows[0]._mapping) if rows else None

    def leaves_of_windows(self, line_ids: Sequence[str], from_ms: int, to_ms: int) -> list[int]:
        """The leaves that sign windows which touch [from_ms, to_ms), ascending."""
        t = db.window.c
        query = (
            select(t.leaf_index).where(t.line_id.in_(line_ids), *_span(t.start_ms, t.end_ms, from_ms, to_ms))
            .distinct().order_by(t.leaf_index)
        )  # fmt: skip
        return [row.leaf_index for row in self._all(query)]

    def configurations(self, line_ids: Sequence[str]) -> list[IndexedConfiguration]:
        """In log order: the last of a line is its newest."""
        t = db.configuration.c
        query = select(db.configuration).where(t.line_id.in_(line_ids)).order_by(t.leaf_index)
        return [IndexedConfiguration(**row._mapping) for row in self._all(query)]

    def plans(self, project_id: str) -> list[IndexedPlan]:
        """In log order: which of them is binding is the report's rule."""
        query = select(db.plan).where(db.plan.c.project_id == project_id).order_by(db.plan.c.leaf_index)
        return [IndexedPlan(**row._mapping) for row in self._all(query)]

    def revoked(self) -> list[Revoked]:
        """Where gateway keys ended, by a revocation or because another key took their place; in the log's order."""
        t = db.enrolment.c
        query = select(db.enrolment).where(t.type.in_(("revoke", "rotate"))).order_by(t.leaf_index)
        return [
            Revoked(Kid(bytes(row.kid)), row.data["first_invalid_index"])
            if row.type == "revoke"
            else Revoked(Kid(bytes.fromhex(row.data["old_kid"])), row.leaf_index)
            for row in self._all(query)
        ]

    def enrolment_leaves(self, gateway_ids: Iterable[str]) -> list[int]:
        """The leaves of `enrol`, `rotate` and `revoke` records of these gateways, ascending."""
        t = db.enrolment.c
        query = select(t.leaf_index).where(t.gateway_id.in_(list(gateway_ids))).order_by(t.leaf_index)
        return [row.leaf_index for row in self._all(query)]

    def last_receipts(self) -> dict[bytes, LastReceipt]:
        """By kid."""
        return {row.kid: LastReceipt(**row._mapping) for row in self._all(select(db.receipt))}

    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        """Newest first, without their bytes."""
        t = db.quarantine.c
        columns = [column for column in t if column is not t.raw]
        query = select(*columns).order_by(desc(t.id)).limit(limit)
        return [Quarantined(**row._mapping) for row in self._all(query)]

    def quarantined_bytes(self, quarantine_id: int) -> bytes | None:
        """The statement itself: with the logged one of the same sequence it proves a fork."""
        rows = self._all(select(db.quarantine.c.raw).where(db.quarantine.c.id == quarantine_id))
        return bytes(rows[0].raw) if rows else None

    def span(self, line_id: str) -> tuple[int, int] | None:
        """From the start of the line's first window to the end of its last; None before its first."""
        t = db.window.c
        row = self._all(select(func.min(t.start_ms), func.max(t.end_ms)).where(t.line_id == line_id))[0]
        return None if row[0] is None else (int(row[0]), int(row[1]))

    def _all(self, query: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
        with self._engine.connect() as connection:
            return connection.execute(query).all()


def _span(start: ColumnElement[int], end: ColumnElement[int], from_ms: int | None, to_ms: int | None) -> list[Any]:
    return [*([] if from_ms is None else [end > from_ms]), *([] if to_ms is None else [start < to_ms])]


def _account(row: Row[*tuple[Any, ...]]) -> TimeAccount:
    mapping = row._mapping
    return TimeAccount.from_ints([mapping[name] for name in ACCOUNT_FIELDS])


def _window(row: Row[*tuple[Any, ...]]) -> IndexedWindow:
    window = Window(
        row.start_ms, row.end_ms, CalendarKind(row.kind), row.product, row.order_name, row.shift, _account(row)
    )
    hash_ = bytes(row.configuration_hash)
    return IndexedWindow(row.line_id, window, hash_, row.leaf_index, row.version, row.changed_index)

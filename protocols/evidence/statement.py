"""The measured windows of one line inside a record, and their wire form.

Decides what is a possible row: the categories add up to the window, no time is negative, windows touch. Does not
decide what the numbers mean (`protocols.measurement`).

The wire form of a line's statement is an array of five:

    [line_id, configuration_hash, raw, strings, rows]

`raw` is null or [root, chunks, samples]. `strings` holds each product, order and shift once, in the order of
first use. A row is one flat array of integers:

    [start_ms - record start_ms, length_ms, kind, product, order, shift, *account]

with product, order and shift as indices into `strings`, and the account as `TimeAccount.as_ints()`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, overload

from protocols.errors import Malformed
from protocols.evidence.fields import MAX_INT, MAX_TIME_MS, as_bytes, as_id, as_int, as_list, as_text, is_id
from protocols.measurement.account import ACCOUNT_FIELDS, ACCOUNT_INTS, CATEGORIES, CalendarKind, TimeAccount, Window

HASH_LENGTH: Final = 32
ROW_HEAD: Final = 6
ROW_INTS: Final = ROW_HEAD + ACCOUNT_INTS
_ONLY_INTS: Final = frozenset({int})
KINDS: Final = tuple(CalendarKind)
_NAMES: Final = ("start", "length", "kind", "product", "order", "shift", *ACCOUNT_FIELDS)
# Positions within a row.
_LENGTH, _KIND, _TEXTS = 1, 2, slice(3, 6)
_TIMES = slice(ROW_HEAD, ROW_HEAD + CATEGORIES)
_PLANNED, _TOTAL, _GOOD, _REJECT = range(ROW_HEAD + CATEGORIES, ROW_HEAD + CATEGORIES + 4)
# A reject that is counted in a later window than its piece makes that window's good count smaller, even negative:
# sums over windows stay exact, and nothing is clamped. Only these may be below zero.
ACCOUNT_MAY_BE_NEGATIVE: Final = frozenset(
    map(ACCOUNT_FIELDS.index, ("good_count", "reject_count", "standard_good_ns"))
)
MAY_BE_NEGATIVE: Final = frozenset(ROW_HEAD + index for index in ACCOUNT_MAY_BE_NEGATIVE)


@dataclass(frozen=True, slots=True)
class RawCommitment:
    """What the gateway holds in raw samples for these windows: root of the tree over the chunks, and its size."""

    root: bytes
    chunk_count: int
    sample_count: int


@dataclass(frozen=True, slots=True)
class LineStatement:
    """One line's windows in a record: at least one, each beginning where the one before ended.

    `configuration_hash` (32 bytes): `LineConfiguration.hash` under which they were measured.
    """

    line_id: str
    configuration_hash: bytes
    raw: RawCommitment | None
    windows: Sequence[Window]


class ReadWindows(Sequence[Window]):
    """The windows of a statement that was read, as good as a tuple of them. Their rows are checked; the objects are
    made when the first is asked for, since a hub admits, logs and answers without asking."""

    __slots__ = ("_made", "_rows", "_start_ms", "_texts")

    def __init__(self, rows: Sequence[Sequence[int]], texts: Sequence[str], start_ms: int) -> None:
        self._rows, self._texts, self._start_ms = rows, texts, start_ms
        self._made: tuple[Window, ...] | None = None

    def _all(self) -> tuple[Window, ...]:
        made = self._made
        if made is None:
            made = self._made = tuple(map(self._window, self._rows))
        return made

    def _window(self, row: Sequence[int]) -> Window:
        start_ms, texts = self._start_ms + row[0], self._texts
        product, order, shift = row[_TEXTS]
        return Window(
            start_ms,
            start_ms + row[_LENGTH],
            KINDS[row[_KIND]],
            texts[product],
            texts[order],
            texts[shift],
            TimeAccount(tuple(row[_TIMES]), *row[_PLANNED:]),
        )

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Window, ...]: ...
    def __getitem__(self, index: int | slice) -> Window | tuple[Window, ...]:
        return self._all()[index]

    def __iter__(self) -> Iterator[Window]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (ReadWindows, tuple)) and self._all() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


def lines_to_wire(lines: tuple[LineStatement, ...], record_start_ms: int) -> list[Any]:
    return [_line_to_wire(line, record_start_ms) for line in lines]


def lines_from_wire(value: object, start_ms: int, end_ms: int) -> tuple[LineStatement, ...]:
    """The statements of a record that spans [start_ms, end_ms). Raises Malformed, naming line, row and field."""
    lines: list[LineStatement] = []
    for i, item in enumerate(as_list(value, "body")):
        try:
            lines.append(_line_from_wire(item, start_ms, end_ms))
        except Malformed as error:
            # Names are put together here: a hub reads thousands of statements a second in which nothing is wrong.
            raise Malformed(f"body[{i}]{_line_in_words(item)}: {error.what}") from None
    if not lines:
        raise Malformed("body: a measurement without a line")
    if len(lines) > 1 and len({line.line_id for line in lines}) != len(lines):
        raise Malformed("body: a line is stated twice")
    return tuple(lines)


def _line_to_wire(line: LineStatement, record_start_ms: int) -> list[Any]:
    strings: dict[str, int] = {}
    rows = [
        [
            window.start_ms - record_start_ms,
            window.end_ms - window.start_ms,
            int(window.kind),
            strings.setdefault(window.product, len(strings)),
            strings.setdefault(window.order, len(strings)),
            strings.setdefault(window.shift, len(strings)),
            *map(int, window.account.as_ints()),
        ]
        for window in line.windows
    ]
    raw = None if line.raw is None else [line.raw.root, line.raw.chunk_count, line.raw.sample_count]
    return [line.line_id, line.configuration_hash, raw, list(strings), rows]


def _line_in_words(value: object) -> str:
    known = isinstance(value, list) and len(value) > 0 and is_id(value[0])
    return f" (line {value[0]})" if known else ""  # type: ignore[index]  # known says that it is a list


def _line_from_wire(value: object, start_ms: int, end_ms: int) -> LineStatement:
    line_id, configuration_hash, raw, strings, rows = as_list(value, "the statement", 5)
    line_id = as_id(line_id, "line id")
    texts = [as_text(text, f"strings[{i}]") for i, text in enumerate(as_list(strings, "strings"))]
    if len(set(texts)) != len(texts):
        raise Malformed("strings: a text stands there twice")
    used = 0
    rows = as_list(rows, "rows")
    if not rows:
        raise Malformed("no rows")
    begins = None
    for i, row in enumerate(rows):
        try:
            used = _check_row(row, used, len(texts))
        except Malformed as error:
            raise Malformed(f"row {i}: {error.what}") from None
        if begins is not None and row[0] != begins:
            raise Malformed(f"row {i}: does not begin where the row before it ended")
        begins = row[0] + row[_LENGTH]
    if start_ms + rows[-1][0] + rows[-1][_LENGTH] > end_ms:
        raise Malformed("the windows end after the record does")
    if used != len(texts):
        raise Malformed("strings: a text that no row uses")
    return LineStatement(
        line_id,
        as_bytes(configuration_hash, "configuration hash", HASH_LENGTH),
        _raw_from_wire(raw),
        ReadWindows(rows, texts, start_ms),
    )


def _check_row(row: object, used: int, texts: int) -> int:
    """Raises Malformed for an impossible row; gives how many texts are in use after it."""
    ints = as_list(row, "the row", ROW_INTS)
    # A verdict over half a year checks some 10^8 of these integers: whole rows in C, not one by one.
    if set(map(type, ints)) != _ONLY_INTS:
        raise Malformed("must be integers")
    if min(ints) < 0 or max(ints) > MAX_INT:
        for i, value in enumerate(ints):
            as_int(value, _NAMES[i], -MAX_INT if i in MAY_BE_NEGATIVE else 0)
    if ints[_LENGTH] == 0 or ints[0] > MAX_TIME_MS:
        raise Malformed("a window without a length, or past the year 9999")
    if ints[_KIND] >= len(KINDS):
        raise Malformed(f"kind {ints[_KIND]} is not a calendar kind")
    for text in ints[_TEXTS]:
        if text > used or text >= texts:
            raise Malformed("a text's index is not the next new one, nor one that was used")
        used = max(used, text + 1)
    if sum(ints[_TIMES]) != ints[_LENGTH]:
        raise Malformed(f"the categories add up to {sum(ints[_TIMES])} ms, the window is {ints[_LENGTH]} ms")
    if ints[_PLANNED] > ints[_LENGTH]:
        raise Malformed("planned time is longer than the window")
    if ints[_GOOD] + ints[_REJECT] > ints[_TOTAL]:
        raise Malformed(f"{ints[_GOOD]} good and {ints[_REJECT]} rejected of {ints[_TOTAL]} pieces in all")
    return used


def _raw_from_wire(value: object) -> RawCommitment | None:
    if value is None:
        return None
    root, chunks, samples = as_list(value, "raw", 3)
    return RawCommitment(
        as_bytes(root, "raw root", HASH_LENGTH),
        as_int(chunks, "raw chunks"),
        as_int(samples, "raw samples"),
    )

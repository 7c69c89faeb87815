"""Payloads that a gateway with a good key could sign: each breaks one rule of a record, or nearly does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cbor2

from protocols.evidence import canonical

Wire = dict[int, Any]


def of_wire(change: Callable[[Wire], None]) -> Callable[[bytes], bytes]:
    def changed(payload: bytes) -> bytes:
        wire = cbor2.loads(payload)
        change(wire)
        return canonical.encode(wire)

    return changed


def in_row(row: int, integer: int, value: int) -> Callable[[bytes], bytes]:
    def change(wire: Wire) -> None:
        wire[8][0][4][row][integer] = value

    return of_wire(change)


def setting(path: Sequence[int], value: object) -> Callable[[bytes], bytes]:
    def change(wire: Wire) -> None:
        inner: Any = wire
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return of_wire(change)


def longer_form(payload: bytes) -> bytes:
    """The kind of the first row, 0, written in two bytes."""
    at = payload.index(b"\x98\x21") + 3 + 5  # over the row's head, its start and its length of an hour's part
    assert payload[at] == 0
    return payload[:at] + b"\x18\x00" + payload[at + 1 :]


def instant(wire: Wire) -> None:
    """One row, of no time at all."""
    line = wire[8][0]
    used = 1 + max(line[4][0][3:6])
    line[3] = line[3][:used]
    line[4] = [[*line[4][0][:1], 0, *line[4][0][2:6], *[0] * 27]]


STRANGE: dict[str, Callable[[bytes], bytes]] = {
    "a longer form": longer_form,
    "a hole between rows": in_row(3, 0, 5),
    "no length": in_row(0, 1, 0),
    "an instant": of_wire(instant),
    "a kind that is none": in_row(1, 2, 3),
    "a text of nowhere": in_row(1, 3, 9),
    "texts out of order": in_row(0, 3, 1),
    "time that does not add up": in_row(2, 7, 1),
    "planned longer than the window": in_row(2, 17, 10_000_000),
    "more good than made": in_row(2, 19, 1_000),
    "a negative count": in_row(2, 18, -1),
    "a negative good count, which may be": in_row(2, 19, -1),
    "past the year 9999": in_row(0, 0, 2**60),
    "more than 63 bits": in_row(0, 25, 2**63),
    "a great number": in_row(0, 25, 2**62),
    "a great negative number": in_row(0, 26, -(2**62)),
    "a very negative number": in_row(0, 26, -(2**63)),
    "a boolean": setting((8, 0, 4, 0, 29), False),
    "a null": setting((8, 0, 4, 0, 29), None),
    "a row too short": setting((8, 0, 4, 0), [0] * 32),
    "no rows": setting((8, 0, 4), []),
    "a text that no row uses": of_wire(lambda wire: wire[8][0][3].append("spare")),
    "a text twice": of_wire(lambda wire: wire[8][0][3].append(wire[8][0][3][0])),
    "a text twice, and both used": of_wire(lambda wire: wire[8][0][3].__setitem__(1, wire[8][0][3][0])),
    "a control character": setting((8, 0, 3, 0), "a\nb"),
    "a line id with a blank": setting((8, 0, 0), "fill ing"),
    "a line twice": of_wire(lambda wire: wire[8].append(wire[8][0])),
    "no lines": setting((8,), []),
    "a raw commitment": setting((8, 0, 2), [bytes(32), 15, 900]),
    "a raw root too short": setting((8, 0, 2), [bytes(31), 15, 900]),
    "a negative chunk count": setting((8, 0, 2), [bytes(32), -1, 900]),
    "another version": setting((1,), 2),
    "another type": setting((2,), "gap"),
    "an unknown type": setting((2,), "measuremint"),
    "another sequence": setting((3,), 99),
    "a short boot id": setting((5,), bytes(15)),
    "a span that ends first": of_wire(lambda wire: wire[6].reverse()),
    "a span too short": of_wire(lambda wire: wire.__setitem__(6, [wire[6][0], wire[6][1] - 1])),
    "a boot that ends first": setting((7, 0), 2**40),
    "a clock without a source": setting((7, 2), ""),
    "a clock with a wide offset": setting((7, 3), 2**53 + 1),
    "a negative error": setting((7, 4), -1),
    "a clock that tells all": of_wire(lambda wire: wire.__setitem__(7, [*wire[7][:3], -5, 12, 64_000])),
    "a checkpoint seen": setting((9,), [17, bytes(32)]),
    "a checkpoint with a short root": setting((9,), [17, bytes(31)]),
    "a further field": setting((10,), 1),
    "another configuration": setting((8, 0, 1), bytes(32)),
    "something after the end": lambda payload: payload + b"\x00",
    "cut off": lambda payload: payload[:-1],
}

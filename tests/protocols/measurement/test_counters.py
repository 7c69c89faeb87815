"""One counter step: each row of the rules' table by an example."""

from __future__ import annotations

import pytest

from protocols.measurement.kernels.scan import from_bcd, unwrap

HOUR = 3_600_000
PER_HOUR = 3_600  # one piece a second: within 10 s, and 2 s that a value may be under way, at most 18 + 2
TEN_S = 10_000
PACKML = 2**31  # its last value is 2147483647


@pytest.mark.parametrize(
    ("raw", "last", "dt_ms", "modulus", "found"),
    [
        (110, 100, TEN_S, 0, (10, 0, 110)),
        (120, 100, TEN_S, 0, (20, 0, 120)),  # the limit itself
        (121, 100, TEN_S, 0, (0, 1, 121)),  # a jump upwards that no machine makes
        (60_000, 100, TEN_S, 65_536, (0, 1, 60_000)),
        (4, 65_530, TEN_S, 65_536, (10, 0, 4)),
        (4, 4_294_967_290, TEN_S, 2**32, (10, 0, 4)),
        (4, 2_147_483_642, TEN_S, PACKML, (10, 0, 4)),
        (4, 9_994, TEN_S, 10_000, (10, 0, 4)),
        (15, 65_530, TEN_S, 65_536, (15, 1, 15)),  # 21 are too many for a roll-over; from 0 it is plausible
        (3, 500, TEN_S, 0, (3, 1, 3)),  # the PLC was restarted
        (20, 500, TEN_S, 0, (20, 1, 20)),
        (21, 500, TEN_S, 0, (0, 1, 21)),  # more than it can have made since
        (110, 100, TEN_S, 20, (10, 1, 110)),  # it may have gone round while the value before was under way
        (110, 100, TEN_S, 21, (10, 0, 110)),
        (497, 500, TEN_S, 65_536, (0, 0, 500)),  # a late value: the high-water mark holds
        (300, 500, TEN_S, 65_536, (0, 1, 300)),  # set by hand
        (200, 100, 20 * HOUR, 65_536, (100, 1, 200)),  # it may have gone round unseen
        (200, 100, HOUR, 65_536, (100, 0, 200)),
        (-5, 100, TEN_S, 0, (0, 1, -5)),  # no restart: a count is not negative
        (2**60, -(2**60), 2**61, 0, (0, 1, 2**60)),
    ],
)
def test_a_step(raw: int, last: int, dt_ms: int, modulus: int, found: tuple[int, int, int]) -> None:
    assert unwrap(raw, last, dt_ms, modulus, PER_HOUR) == found


@pytest.mark.parametrize(
    ("raw", "last", "modulus", "found"),
    [
        (10**9, 1, 0, (10**9 - 1, 0, 10**9)),
        (5, 65_000, 65_536, (541, 0, 5)),  # less than half a round
        (5, 20_000, 65_536, (5, 1, 5)),
        (5, 20_000, 0, (5, 1, 5)),
    ],
)
def test_a_step_of_a_line_whose_limit_nobody_knows(
    raw: int, last: int, modulus: int, found: tuple[int, int, int]
) -> None:
    assert unwrap(raw, last, TEN_S, modulus, 0) == found


@pytest.mark.parametrize(
    ("raw", "number"), [(0, 0), (0x9999, 9999), (0x1234_5678, 12_345_678), (0x1A, -1), (0xA000, -1), (-1, -1)]
)
def test_bcd(raw: int, number: int) -> None:
    assert from_bcd(raw) == number

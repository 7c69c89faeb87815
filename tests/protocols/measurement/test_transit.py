"""A value that was long under way costs no pieces, whichever form measures it; what no line makes is still refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.samples import COLUMNS, START_MS, VALID, tables
from protocols.measurement.account import total
from protocols.measurement.configuration import Counter
from protocols.measurement.kernels import jit
from protocols.measurement.kernels import scan as k
from protocols.measurement.meter import LineMeter
from protocols.plc.roles import ROLES, SignalRole
from protocols.plc.sample import Row, SampleBlock
from tests.protocols.measurement.test_kernels_tiles import Given, by_columns, by_scan, quickly
from tests.protocols.measurement.test_meter import CONFIGURATION

MOST_PER_HOUR = 39_600  # 11 a second, of which the line makes 10
MOST = 51  # from one second to the next: half as many again as in 3 s, and 2
LINE = replace(CONFIGURATION, counters=(Counter(SignalRole.TOTAL, 65_536),), max_pieces_per_hour=MOST_PER_HOUR)
MADE_TABLES = tables()
MADE_TABLES.limits[k.MAX_PER_HOUR] = MOST_PER_HOUR

Shown = list[tuple[int, int]]  # ms, and what the counter showed
Found = tuple[int, int]  # pieces, and how often the count broke


def rows(shown: Shown) -> list[Row]:
    out: list[Row] = []
    for after_ms, count in shown:
        values = [0] * ROLES
        values[SignalRole.STATE], values[SignalRole.PRODUCT], values[SignalRole.ORDER] = 6, 1, 1
        values[SignalRole.TOTAL] = count
        out.append((START_MS + after_ms, tuple(values), VALID))
    return out


def closed(meter: LineMeter) -> Found:
    account = total(window.account for window in meter.advance(START_MS + 240_000))
    return account.total_count, account.lower_bound_count


def row_by_row(shown: Shown) -> Found:
    meter = LineMeter(LINE, START_MS)
    for row in rows(shown):
        meter.push_row(*row)
    return closed(meter)


def as_a_block(shown: Shown) -> Found:
    meter = LineMeter(LINE, START_MS)
    meter.push(SampleBlock.from_rows(rows(shown)))
    return closed(meter)


def by_kernel(form: Callable[[SampleBlock], Given]) -> Callable[[Shown], Found]:
    def measured(shown: Shown) -> Found:
        block = SampleBlock.from_rows([(at, values[:COLUMNS], valid) for at, values, valid in rows(shown)])
        deltas = form(block).deltas
        return sum(deltas.values()), sum(flags & k.BREAK > 0 for _, _, flags in deltas)

    return measured


FORMS = {
    "row by row": row_by_row,
    "block": as_a_block,
    "scan": by_kernel(lambda block: by_scan(block, MADE_TABLES, MADE_TABLES.carry())),
    "quickly": by_kernel(lambda block: quickly(block, MADE_TABLES, MADE_TABLES.carry())),
    "columns": by_kernel(lambda block: by_columns(block, MADE_TABLES, MADE_TABLES.carry(), np.uint16)),
}
EACH_FORM = pytest.mark.parametrize("measured", FORMS.values(), ids=FORMS)


def polled(late_s: int, begins_at: int) -> Shown:
    """A minute of polls. The answer of second 30 is taken in `late_s` late; what was due meanwhile is not asked."""
    shown = [(second * 1_000, begins_at + second * 10) for second in range(60)]
    shown[30] = (30_000 + late_s * 1_000, begins_at + 300)
    return shown[:31] + shown[31 + late_s :]


@EACH_FORM
@pytest.mark.parametrize("late_s", [0, 1, 2])
@pytest.mark.parametrize("begins_at", [0, 65_536 - 315])
def test_a_late_answer_costs_no_pieces(measured: Callable[[Shown], Found], late_s: int, begins_at: int) -> None:
    """Also where the counter goes round in the step after it."""
    shown = [(at, count % 65_536) for at, count in polled(late_s, begins_at)]
    assert measured(shown) == (590, 0)


@EACH_FORM
def test_a_counter_that_restarts_after_a_late_answer_keeps_its_pieces(measured: Callable[[Shown], Found]) -> None:
    shown = [(at, count if at <= 32_000 else count - 9_300) for at, count in polled(2, 9_000)]
    assert shown[31] == (33_000, 30)
    assert measured(shown) == (590, 1)


@EACH_FORM
@pytest.mark.parametrize(("step", "found"), [(MOST, (MOST + 50, 0)), (MOST + 1, (50, 1))])
def test_what_is_beyond_is_a_jump(measured: Callable[[Shown], Found], step: int, found: Found) -> None:
    counts = [0, 10, 20, 30, 30 + step, 40 + step, 50 + step]
    assert measured([(at * 1_000, count) for at, count in enumerate(counts)]) == found


def test_what_is_beyond_a_year_counts_as_a_year() -> None:
    year_ms = 365 * 24 * 3_600_000
    for form in (k.step_limit, k.most_pieces):
        assert form(year_ms, 10_000_000) == form(2**61, 10_000_000) == 10_000_000 * (year_ms + 2_000) // 2_400_000 + 2


@pytest.mark.parametrize("dt_ms", [0, 1, 999, 60_000, 2**61])
@pytest.mark.parametrize("per_hour", [0, 1, 39_600, 10_000_000])
def test_the_limit_is_one_compiled_or_not(dt_ms: int, per_hour: int) -> None:
    with jit.uncompiled():
        uncompiled = k.step_limit(dt_ms, per_hour)
    assert k.step_limit(dt_ms, per_hour) == uncompiled == k.most_pieces(dt_ms, per_hour)

"""Windows of one line as columns into a tally: the same sums as `Tally.add`, many windows at once.

Decides nothing that `tally` has not decided. For whoever has the integers in arrays: the verifier, the hub's reports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.measurement.account import ACCOUNT_FIELDS, Category
from protocols.measurement.tally import WEEK_MS, CellKey, Tally, estimated_share

I64: TypeAlias = NDArray[np.int64]
_TOTAL, _GOOD, _ESTIMATED = (
    ACCOUNT_FIELDS.index(name) for name in ("total_count", "good_count", "estimated_count")
)  # fmt: skip
_UNKNOWN: Final = int(Category.UNKNOWN)


def add_columns(
    tally: Tally,
    start_ms: I64,
    end_ms: I64,
    product: I64,
    shift: I64,
    text: Callable[[int], str],
    ints: NDArray[Any],
) -> None:
    """Windows in order of time that start in the tally's period, none over another. At least one.

    `product`, `shift`: numbers, of which `text` gives the text. `ints`: an array of ACCOUNT_INTS rows, a column for
    each window; so small that no sum of them leaves its type.
    """
    week = (start_ms - tally.period.from_ms) // WEEK_MS
    changes = (product[1:] != product[:-1]) | (shift[1:] != shift[:-1]) | (week[1:] != week[:-1])
    runs = np.concatenate(([0], np.flatnonzero(changes) + 1))
    sums = np.add.reduceat(ints, runs, axis=1).T.tolist()
    cells = []
    for i, of_run in zip(runs.tolist(), sums, strict=True):
        of_shift, at_ms = text(int(shift[i])), int(start_ms[i])
        tally.add_unit(at_ms, of_shift)
        key = CellKey(text(int(product[i])), of_shift, tally.unit, int(week[i]))
        cells.append(tally.add_sums(key, of_run, at_ms))
    some = np.flatnonzero(ints[_ESTIMATED])
    places = np.searchsorted(runs, some, side="right") - 1
    counts = ints[[_GOOD, _TOTAL, _ESTIMATED]][:, some].T.tolist()
    for place, (good, total, estimated) in zip(places.tolist(), counts, strict=True):
        cells[place].estimated_good += estimated_share(good, total, estimated)
    unseen = np.flatnonzero(ints[_UNKNOWN])
    found = (start_ms[unseen], end_ms[unseen], ints[_UNKNOWN][unseen])
    for from_ms, to_ms, unknown_ms in zip(*(each.tolist() for each in found), strict=True):
        tally.add_unseen(from_ms, to_ms, unknown_ms)
    lasts = np.append(np.flatnonzero(start_ms[1:] != end_ms[:-1]), len(start_ms) - 1)
    firsts = np.concatenate(([0], lasts[:-1] + 1))
    for from_ms, to_ms in zip(start_ms[firsts].tolist(), end_ms[lasts].tolist(), strict=True):
        tally.add_stretch(from_ms, to_ms)

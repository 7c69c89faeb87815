"""Sums of a grid of windows from runs and delta rows: the last step of a replay.

Decides nothing: a run's time is shared out over the windows that it covers, pieces go to (start, end]. Minor stops,
calendar and products come after, in `windows`; this form is for raw sums of millions of rows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.measurement.kernels.jit import kernel
from protocols.measurement.kernels.scan import I64
from protocols.measurement.kernels.scan import ROLE as COUNTER_ROLE

I32 = NDArray[np.int32]
CATEGORIES: Final = 11
"""Columns of the sums before the pieces: milliseconds by category."""


@kernel
def add_windows(
    first_ms: int,
    window_ms: int,
    until_ms: int,
    held: I64,
    runs: I64,
    run_rows: int,
    deltas: I64,
    delta_rows: int,
    counters: I64,
    sums: I32,
) -> None:
    """Adds the time up to `until_ms`, and the pieces, to the windows that begin at `first_ms`.

    held int64[2]: (category, from when), the run that holds, changed in place; nothing before `first_ms` counts ·
    runs, deltas, counters as of `scan`, within the windows · sums int32[w, CATEGORIES + c], changed in place.
    """
    window = 0
    for r in range(run_rows + 1):
        end_ms = runs[r, 0] if r < run_rows else until_ms
        at_ms = held[1]
        if at_ms < end_ms:
            category = held[0]
            window = (at_ms - first_ms) // window_ms
            edge_ms = first_ms + (window + 1) * window_ms
            while at_ms < end_ms:
                until = min(end_ms, edge_ms)
                sums[window, category] += until - at_ms
                at_ms = until
                window += 1
                edge_ms += window_ms
        held[1] = max(held[1], end_ms)
        if r < run_rows:
            held[0] = runs[r, 1]
    window = 0
    edge_ms = first_ms + window_ms
    for d in range(delta_rows):
        time_ms = deltas[d, 0]
        if edge_ms < time_ms <= edge_ms + window_ms:  # mostly the same window or the next: no division
            window += 1
            edge_ms += window_ms
        elif not edge_ms - window_ms < time_ms <= edge_ms:
            window = max(0, (time_ms - 1 - first_ms) // window_ms)
            edge_ms = first_ms + (window + 1) * window_ms
        for c in range(counters.shape[0]):
            if counters[c, COUNTER_ROLE] == deltas[d, 1]:
                sums[window, CATEGORIES + c] += deltas[d, 2]

"""The same task by others: a loop in Python, numpy, pandas, polars, DuckDB.

The task: from columns of time, state and two counters to a table of windows: milliseconds by category, pieces. A
state holds until the next sample, time is cut exactly at window edges, pieces are credited to (start, end], counters
roll over at 2^16. This is less than the kernels do: no staleness, no plausibility of a step, no quality, no product,
order or mode, no carry. Each is written as its users would, and gets its samples in its own form beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels import Sums, first_window_ms
from benchmarks.samples import MODULUS, WINDOW_MS, Samples
from protocols.measurement.kernels.account import CATEGORIES
from protocols.measurement.mapping import category_table

I64 = NDArray[np.int64]


def _times(samples: Samples) -> tuple[I64, I64]:
    """Times and, of each sample, the time until its state holds: the next sample, of the last one its own."""
    time_ms = samples.time_ms - first_window_ms()
    return time_ms, np.append(time_ms[1:], time_ms[-1])


def python_loop(samples: Samples) -> Callable[[Sums], None]:
    """Lists and integers."""
    categories = [int(c) for c in category_table()[:, 0]]
    time_ms = _times(samples)[0].tolist()
    state, total, reject = samples.state.tolist(), samples.total.tolist(), samples.reject.tolist()

    def run(sums: Sums) -> None:
        table = [[0] * sums.shape[1] for _ in range(len(sums))]
        before_ms, category, made, bad = time_ms[0], 0, total[0], reject[0]
        for now, code, all_count, bad_count in zip(time_ms, state, total, reject, strict=True):
            window = before_ms // WINDOW_MS
            edge = (window + 1) * WINDOW_MS
            if now <= edge:
                table[window][category] += now - before_ms
            else:
                table[window][category] += edge - before_ms
                table[window + 1][category] += now - edge
            row = table[(now - 1) // WINDOW_MS]
            row[CATEGORIES] += (all_count - made) % MODULUS
            row[CATEGORIES + 1] += (bad_count - bad) % MODULUS
            before_ms, category, made, bad = now, categories[code], all_count, bad_count
        sums[:] = table

    return run


def numpy_arrays(samples: Samples) -> Callable[[Sums], None]:
    """Whole columns and bincount."""
    lookup = category_table()[:, 0]
    time_ms, until_ms = _times(samples)

    def run(sums: Sums) -> None:
        size, width = len(sums), sums.shape[1]
        category = lookup[samples.state].astype(np.int64)
        window = time_ms // WINDOW_MS
        edge = (window + 1) * WINDOW_MS
        first = np.minimum(until_ms, edge) - time_ms
        over = np.flatnonzero(until_ms > edge)
        flat = np.bincount(window * CATEGORIES + category, first, size * CATEGORIES)
        flat += np.bincount(
            (window[over] + 1) * CATEGORIES + category[over], until_ms[over] - edge[over], size * CATEGORIES
        )
        sums[:, :CATEGORIES] = flat.reshape(size, CATEGORIES)
        booked = ((time_ms - 1) // WINDOW_MS)[1:]
        for column, counts in zip(range(CATEGORIES, width), (samples.total, samples.reject), strict=True):
            steps = np.diff(counts)  # uint16: rolls over as the counter does
            sums[:, column] = np.bincount(booked, steps, size)

    return run


def pandas_frame(samples: Samples) -> Callable[[Sums], None]:
    """groupby."""
    import pandas as pd

    lookup = category_table()[:, 0]
    time_ms, _ = _times(samples)
    frame = pd.DataFrame({"time": time_ms, "state": samples.state, "total": samples.total, "reject": samples.reject})

    def run(sums: Sums) -> None:
        sums[:] = 0
        until = frame["time"].shift(-1, fill_value=int(time_ms[-1]))
        window = frame["time"] // WINDOW_MS
        edge = (window + 1) * WINDOW_MS
        category = pd.Series(lookup[frame["state"].to_numpy()])
        parts = pd.DataFrame({"w": window, "c": category, "ms": np.minimum(until, edge) - frame["time"]})
        over = until > edge
        rest = pd.DataFrame({"w": window[over] + 1, "c": category[over], "ms": (until - edge)[over]})
        time = pd.concat([parts, rest]).groupby(["w", "c"])["ms"].sum()
        sums[time.index.get_level_values(0), time.index.get_level_values(1)] = time.to_numpy()
        booked = (frame["time"] - 1) // WINDOW_MS
        steps = frame[["total", "reject"]].astype("int64").diff().fillna(0).astype("int64") % MODULUS
        pieces = steps.groupby(booked).sum()
        sums[pieces.index, CATEGORIES:] = pieces.to_numpy()

    return run


def polars_frame(samples: Samples) -> Callable[[Sums], None]:
    """Lazy expressions, all cores."""
    import polars as pl

    time_ms, _ = _times(samples)
    last = int(time_ms[-1])
    frame = pl.DataFrame(
        {"time": time_ms, "state": samples.state, "total": samples.total, "reject": samples.reject}
    ).lazy()
    lookup = pl.lit(pl.Series(category_table()[:, 0]))

    def run(sums: Sums) -> None:
        sums[:] = 0
        window = pl.col("time") // WINDOW_MS
        whole = frame.select(
            window.cast(pl.Int32).alias("w"),
            lookup.gather(pl.col("state")).alias("c"),
            pl.col("time"),
            pl.col("time").shift(-1, fill_value=last).alias("until"),
            ((window + 1) * WINDOW_MS).alias("edge"),
        )
        parts = whole.select("w", "c", (pl.min_horizontal("until", "edge") - pl.col("time")).alias("ms"))
        rest = whole.filter(pl.col("until") > pl.col("edge")).select(
            pl.col("w") + 1, "c", (pl.col("until") - pl.col("edge")).alias("ms")
        )
        time = pl.concat([parts, rest]).group_by("w", "c").agg(pl.col("ms").sum())
        step = [(pl.col(name).cast(pl.Int32).diff().fill_null(0) + MODULUS) % MODULUS for name in ("total", "reject")]
        pieces = (
            frame.select(((pl.col("time") - 1) // WINDOW_MS).cast(pl.Int32).alias("w"), *step)
            .group_by("w")
            .agg(pl.col("total").sum(), pl.col("reject").sum())
        )
        by_time, by_pieces = pl.collect_all([time, pieces])
        sums[by_time["w"].to_numpy(), by_time["c"].to_numpy()] = by_time["ms"].to_numpy()
        sums[by_pieces["w"].to_numpy(), CATEGORIES:] = by_pieces.select("total", "reject").to_numpy()

    return run


def duckdb_table(samples: Samples) -> Callable[[Sums], None]:
    """SQL with a window function over a native table, all cores."""
    import duckdb
    import pandas as pd

    time_ms, _ = _times(samples)
    link: Any = duckdb.connect()
    link.register(
        "given",
        pd.DataFrame({"t": time_ms, "s": samples.state, "total": samples.total, "reject": samples.reject}),
    )
    link.register("lookup", pd.DataFrame({"s": np.arange(18, dtype=np.uint8), "c": category_table()[:, 0]}))
    link.execute("create table samples as select * from given")
    time_query = f"""
        with held as (
            select t, c, coalesce(lead(t) over (order by t), t) as u, (t // {WINDOW_MS} + 1) * {WINDOW_MS} as e
            from samples join lookup using (s)
        )
        select w, c, sum(ms)::int as ms from (
            select t // {WINDOW_MS} as w, c, least(u, e) - t as ms from held
            union all select t // {WINDOW_MS} + 1, c, u - e from held where u > e
        ) group by all"""
    pieces_query = f"""
        with steps as (
            select (t - 1) // {WINDOW_MS} as w,
                (total::int - lag(total, 1, total) over (order by t)::int + {MODULUS}) % {MODULUS} as a,
                (reject::int - lag(reject, 1, reject) over (order by t)::int + {MODULUS}) % {MODULUS} as b
            from samples
        )
        select w, sum(a)::int as a, sum(b)::int as b from steps group by all"""

    def run(sums: Sums) -> None:
        sums[:] = 0
        time = link.execute(time_query).fetchnumpy()
        sums[time["w"], time["c"]] = time["ms"]
        pieces = link.execute(pieces_query).fetchnumpy()
        sums[pieces["w"], CATEGORIES] = pieces["a"]
        sums[pieces["w"], CATEGORIES + 1] = pieces["b"]

    return run

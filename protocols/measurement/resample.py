"""Resampling: how far a change of two ratios of sums could be luck.

Decides the circular block bootstrap, its block length and its random numbers, in integers only: the same bits on
every machine. What is resampled, and what an interval means for a verdict, is decided in `outcome`.

Why blocks: neighbouring shifts resemble each other (same crew, same order, same fault), and resampling single
shifts would call such luck an effect. Politis and Romano (1992) for the circular bootstrap; Politis and White
(2004) with the correction of Patton, Politis and White (2009) for the length.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Final, NamedTuple

PPM: Final = 1_000_000
UNBOUNDED_PPM: Final = 1_000_000_000
"""What stands for a change without limit, when a resampled baseline happens to be zero: + 100,000 %."""

_WORDS: Final = struct.Struct(">8I")


class Ratio(NamedTuple):
    """A ratio of sums by its columns. `relative`: its change is after / before - 1; else after - before."""

    numerator: int
    denominator: int
    relative: bool


Columns = Sequence[Sequence[int]]
"""One sequence for each summed quantity, one entry for each shift, in order of time."""


def parts_per_million(numerator: int, denominator: int) -> int:
    """numerator / denominator in parts per million, halves upward. The denominator is positive."""
    return (2 * numerator * PPM + denominator) // (2 * denominator)


def draws(seed: bytes, label: str, count: int, below: int) -> list[int]:
    """`count` integers in [0, below), below < 2**32.

    SHA-256 in counter mode: block i is SHA-256(seed || label in UTF-8 || 0x00 || i as u64, big-endian), read as
    eight u32, big-endian; a word w becomes floor(w * below / 2**32). For a hundred shifts the bias is under one
    in 40 million, far below what 2,000 resamples can see.
    """
    prefix = hashlib.sha256(seed + label.encode() + b"\x00")
    words: list[int] = []
    for block in range((count + 7) // 8):
        state = prefix.copy()
        state.update(block.to_bytes(8, "big"))
        words += _WORDS.unpack(state.digest())
    return [(word * below) >> 32 for word in words[:count]]


def block_length(values: Sequence[int], minimum: int) -> int:
    """The block length in shifts: Politis and White's for `values`, at least `minimum`, at most a third of them.

    Their constants: flat-top window, c = 2, K = max(5, sqrt(log10 n)), M = 2 m but at most sqrt(n) + K. log10 n is
    taken in thousandths from the digits of n**1000, and the cube root of an integer is rounded up, so that no
    machine's floating point enters.
    """
    n = len(values)
    most = max(1, min(n // 3, 3 * _root_up(n, 2)))
    least = max(1, min(minimum, most))
    if n < 9:
        return least
    mean_n = sum(values)
    centred = [n * value - mean_n for value in values]  # n times the deviation: the factor n cancels below
    log10_permille = len(str(n**1000)) - 1
    kn = max(5, _root_up((log10_permille + 999) // 1000, 2))
    reach = _root_up(n, 2) + kn
    lags = min(n - 1, reach + kn)
    r = [sum(map(int.__mul__, centred, centred[k:])) for k in range(lags + 1)]
    if r[0] == 0:
        return least
    # |rho(k)| < 2 sqrt(log10(n) / n), squared and cleared of its denominators
    limit = 4 * log10_permille * r[0] * r[0]
    small = [rk * rk * n * 1000 < limit for rk in r]
    run = next((m for m in range(lags - kn + 1) if all(small[m + 1 : m + kn + 1])), reach)
    m = max(1, min(2 * run, reach, lags))
    # lambda(k/M) = 1 up to M/2, then 2 (1 - k/M); times M, so that it stays an integer
    window = [m if 2 * k <= m else 2 * (m - k) for k in range(m + 1)]
    g = 2 * sum(window[k] * k * r[k] for k in range(1, m + 1))
    spectrum = window[0] * r[0] + 2 * sum(window[k] * r[k] for k in range(1, m + 1))
    if spectrum == 0:
        return most
    # b**3 = 2 G**2 n / D with D = 4/3 g(0)**2
    return max(least, min(most, _root_up(-(-(6 * g * g * n) // (4 * spectrum * spectrum)), 3)))


def _root_up(value: int, degree: int) -> int:
    """The smallest integer whose `degree`-th power is at least `value`."""
    low, high = 0, 1
    while high**degree < value:
        high *= 2
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**degree < value else (low, middle)
    return low


def resampled_sums(columns: Columns, block: int, resamples: int, seed: bytes, label: str) -> list[list[int]]:
    """For each column its sum in each resample of n shifts: n // block whole blocks and one shorter for the rest.

    All columns share the draws: a resample is a set of shifts. Sums of blocks are laid out once for each start, so
    a resample costs one addition a block and column.
    """
    n = len(columns[0])
    whole, rest = divmod(n, block)
    starts = draws(seed, label, resamples * whole, n)
    ends = draws(seed, label + "/rest", resamples, n) if rest else []
    out: list[list[int]] = []
    for column in columns:
        prefix = [0, *accumulate((*column, *column))]
        picked = list(map([prefix[i + block] - prefix[i] for i in range(n)].__getitem__, starts))
        sums = [sum(picked[i : i + whole]) for i in range(0, len(picked), whole)]
        if rest:
            tail = [prefix[i + rest] - prefix[i] for i in range(n)]
            sums = [total + tail[i] for total, i in zip(sums, ends, strict=True)]
        out.append(sums)
    return out


def change_ppm(before: tuple[int, int], after: tuple[int, int], relative: bool) -> int:
    """The change from one (numerator, denominator) to another in parts per million, halves upward."""
    (n0, d0), (n1, d1) = before, after
    if d0 <= 0 or d1 <= 0 or (relative and n0 <= 0):
        return UNBOUNDED_PPM
    if relative:
        return min(UNBOUNDED_PPM, parts_per_million(n1 * d0, d1 * n0) - PPM)
    return parts_per_million(n1 * d0 - n0 * d1, d1 * d0)


def intervals(
    before: Columns,
    after: Columns,
    ratios: Sequence[Ratio],
    *,
    block: int,
    resamples: int,
    confidence_permille: int,
    seed: bytes,
    label: str,
) -> list[tuple[int, int]]:
    """The percentile interval (low, high) of each ratio's change, in parts per million.

    Before and after are resampled apart. The ends are the k-th smallest and the k-th largest of the resampled
    changes, k = resamples * (1 - confidence) / 2, at least 1; then stretched for the number of blocks.
    """
    block0, block1 = _fitting(block, before), _fitting(block, after)
    sums0 = resampled_sums(before, block0, resamples, seed, label + "/before")
    sums1 = resampled_sums(after, block1, resamples, seed, label + "/after")
    k = max(1, resamples * (1000 - confidence_permille) // 2000)
    stretch = few_blocks_permille(min(len(before[0]) // block0, len(after[0]) // block1), confidence_permille)
    out: list[tuple[int, int]] = []
    for numerator, denominator, relative in ratios:
        whole0, whole1 = ((sum(side[numerator]), sum(side[denominator])) for side in (before, after))
        pairs0 = zip(sums0[numerator], sums0[denominator], strict=True)
        pairs1 = zip(sums1[numerator], sums1[denominator], strict=True)
        changes = sorted(change_ppm(pair0, pair1, relative) for pair0, pair1 in zip(pairs0, pairs1, strict=True))
        out.append(widened(change_ppm(whole0, whole1, relative), changes[k - 1], changes[-k], stretch))
    return out


def few_blocks_permille(blocks: int, confidence_permille: int) -> int:
    """How much wider an interval from `blocks` blocks must be than one from very many.

    Student's t over the normal quantile z is about 1 + (z**2 + 1) / (4 v), and a variance from v + 1 blocks comes
    out too small by about 1 / (v + 1), v being the blocks less one: together 1 + 7 / (4 v) at 95 %. Above 95 % the
    quantile of 99 % is taken. Without it the interval of 14 blocks holds the truth some 5 times in 100 less often.
    """
    return 1000 + (1750 if confidence_permille <= 950 else 2400) // max(1, blocks - 1)


def _fitting(block: int, columns: Columns) -> int:
    """A block is at most half of what is resampled, or every resample would be nearly the same."""
    return max(1, min(block, len(columns[0]) // 2))


class Placebo(NamedTuple):
    """What the method says where nothing happened: the baseline cut in two at `cuts` places.

    `false_positives`: cuts whose interval leaves out zero. `widening_permille`: the factor by which intervals must
    be stretched about their change for at most one cut in twenty to do so; 1000 when they are wide enough.
    """

    cuts: int
    false_positives: int
    widening_permille: int


PLACEBO_CUTS: Final = 20
PLACEBO_RESAMPLES: Final = 400
PLACEBO_ALLOWED_PERMILLE: Final = 50
WIDENING_MAXIMUM_PERMILLE: Final = 10_000


def placebo(baseline: Columns, ratio: Ratio, *, block: int, confidence_permille: int, seed: bytes) -> Placebo:
    """Repeats the comparison at up to 20 pseudo-cuts, evenly over the middle half of the baseline."""
    n = len(baseline[0])
    first, last = max(2, n // 4), min(n - 2, n - n // 4)
    if last < first:
        return Placebo(0, 0, 1000)
    cuts = sorted({first + (last - first) * i // (PLACEBO_CUTS - 1) for i in range(PLACEBO_CUTS)})
    needed: list[int] = []
    columns = [baseline[ratio.numerator], baseline[ratio.denominator]]
    for cut in cuts:
        before, after = [column[:cut] for column in columns], [column[cut:] for column in columns]
        change = change_ppm((sum(before[0]), sum(before[1])), (sum(after[0]), sum(after[1])), ratio.relative)
        ((low, high),) = intervals(
            before,
            after,
            [Ratio(0, 1, ratio.relative)],
            block=block,
            resamples=PLACEBO_RESAMPLES,
            confidence_permille=confidence_permille,
            seed=seed,
            label=f"placebo/{cut}",
        )
        near = low if change > 0 else high
        if low <= 0 <= high:
            needed.append(1000)
        elif change != near:
            needed.append(min(WIDENING_MAXIMUM_PERMILLE, -(-1000 * abs(change) // abs(change - near))))
        else:  # no spread at all
            needed.append(WIDENING_MAXIMUM_PERMILLE)
    needed.sort()
    allowed = len(cuts) * PLACEBO_ALLOWED_PERMILLE // 1000
    return Placebo(len(cuts), sum(factor > 1000 for factor in needed), needed[-1 - allowed])


def widened(change: int, low: int, high: int, widening_permille: int) -> tuple[int, int]:
    """The interval with both arms stretched about the change, which it always holds; rounded outward."""
    low_arm, high_arm = max(0, change - low) * widening_permille, max(0, high - change) * widening_permille
    return change - -(-low_arm // 1000), change + -(-high_arm // 1000)


def shift_rates_ppm(columns: Columns, ratio: Ratio) -> list[int]:
    """The ratio of each shift that has a denominator, in parts per million: what the block length is read from."""
    pairs = zip(columns[ratio.numerator], columns[ratio.denominator], strict=True)
    return [parts_per_million(numerator, denominator) for numerator, denominator in pairs if denominator > 0]


def exact_change_ppm(before: Fraction, after: Fraction, relative: bool) -> int:
    """`change_ppm` of two ratios that are already exact."""
    return change_ppm(before.as_integer_ratio(), after.as_integer_ratio(), relative)

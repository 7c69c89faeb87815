"""Ratios: the one place where sums become figures.

Each takes a `TimeAccount` and gives an exact Fraction, or None where it is undefined (a zero denominator, or a
product without an ideal cycle). Nothing is capped and nothing is rounded; rounding belongs to whoever shows it.
Formulas: ISO 22400-2:2014, clause 9; *ours* is marked.
"""

from __future__ import annotations

from fractions import Fraction

from protocols.measurement.account import TimeAccount

NS_PER_MS = 1_000_000
MS_PER_HOUR = 3_600_000


def _ratio(numerator: int, denominator: int) -> Fraction | None:
    return Fraction(numerator, denominator) if denominator > 0 else None


def availability(account: TimeAccount) -> Fraction | None:
    """APT / PBT over the time that was observed (ours: unknown time is in neither)."""
    return _ratio(account.producing_ms, account.known_planned_ms)


def availability_bounds(account: TimeAccount) -> tuple[Fraction, Fraction] | None:
    """Availability if all unknown time had been a stop, and if all of it had been production (ours)."""
    if account.planned_ms <= 0:
        return None
    low = Fraction(account.producing_ms, account.planned_ms)
    return low, low + Fraction(account.unknown_ms, account.planned_ms)


def effectiveness(account: TimeAccount) -> Fraction | None:
    """Sum of PRI * PQ / APT. Above 1 the ideal cycle is too slow: shown as it is, and flagged."""
    if account.without_ideal_count:
        return None
    return _ratio(account.standard_total_ns, account.producing_ms * NS_PER_MS)


def quality(account: TimeAccount) -> Fraction | None:
    """GQ / PQ."""
    return _ratio(account.good_count, account.total_count)


def oee(account: TimeAccount) -> Fraction | None:
    """The OEE index: sum of PRI * GQ / PBT, equal to the product of the three where those are defined."""
    if account.without_ideal_count:
        return None
    return _ratio(account.standard_good_ns, account.known_planned_ms * NS_PER_MS)


def coverage(account: TimeAccount) -> Fraction | None:
    """Observed time / planned time (ours)."""
    return _ratio(account.known_planned_ms, account.planned_ms)


def throughput_per_hour(account: TimeAccount) -> Fraction | None:
    """Pieces produced an hour of observed planned time."""
    return _ratio(account.total_count * MS_PER_HOUR, account.known_planned_ms)


def good_per_hour(account: TimeAccount) -> Fraction | None:
    """Good pieces an hour of observed planned time."""
    return _ratio(account.good_count * MS_PER_HOUR, account.known_planned_ms)

"""Accounts as a meter makes them: planned time is what the categories say, and good + reject = total."""

from __future__ import annotations

from hypothesis import strategies as st

from protocols.measurement.account import Category, TimeAccount
from protocols.measurement.definition import CHOICES, ISO, PRESETS, Definition

OUTSIDE = (Category.PLANNED_DOWN, Category.NOT_SCHEDULED)
SECOND_NS = 1_000_000_000


def account(ms: dict[Category, int] | None = None, **sums: int) -> TimeAccount:
    """An account of these times; planned time follows from them."""
    category_ms = tuple((ms or {}).get(category, 0) for category in Category)
    planned = sum(category_ms) - sum(category_ms[c] for c in OUTSIDE)
    return TimeAccount(category_ms, planned, **sums)


@st.composite
def accounts(draw: st.DrawFn, ideal: bool = True) -> TimeAccount:
    """Of one product, with an ideal cycle unless told otherwise."""
    times = {category: draw(st.integers(0, 10_000_000)) for category in Category}
    good, reject = draw(st.integers(0, 5000)), draw(st.integers(0, 500))
    rework = draw(st.integers(0, reject))
    startup = draw(st.integers(0, reject))
    cycle = draw(st.integers(1, 5 * SECOND_NS)) if ideal else 0
    total = good + reject
    return account(
        times,
        total_count=total,
        good_count=good,
        reject_count=reject,
        rework_count=rework,
        startup_reject_count=startup,
        standard_total_ns=cycle * total,
        standard_good_ns=cycle * good,
        without_ideal_count=0 if ideal else total,
        failure_count=draw(st.integers(0, 20)),
    )


definitions = st.sampled_from(sorted(PRESETS)).map(PRESETS.__getitem__) | st.fixed_dictionaries(
    {name: st.sampled_from(choices) for name, choices in CHOICES.items()}
).map(lambda switches: Definition.from_data(ISO.to_data() | {name: str(value) for name, value in switches.items()}))

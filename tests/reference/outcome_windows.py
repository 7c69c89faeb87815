"""A seeded line for outcome tests: windows with known sums, written without the code under test."""

from __future__ import annotations

import random

from protocols.measurement.account import CATEGORIES, CalendarKind, TimeAccount, Window
from protocols.measurement.plan import Period, Plan

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_772_323_200_000  # 2026-03-01T00:00Z, a Sunday
CYCLES_NS = {"Dumpling 12": 500_000_000, "Wonton 20": 800_000_000}


def plan(weeks: int = 6, **changes: object) -> Plan:
    """Baseline, one week of commissioning, reporting period; two shifts a day."""
    week = 7 * DAY_MS
    fields: dict[str, object] = {
        "project_id": "mp-001",
        "scheme": "Manufacturing+",
        "title": "Packing line upgrade",
        "enterprise": "Harbour Foods",
        "line_ids": ("filling",),
        "baseline": Period(START_MS, START_MS + weeks * week),
        "commissioning": Period(START_MS + weeks * week, START_MS + (weeks + 1) * week),
        "reporting": Period(START_MS + (weeks + 1) * week, START_MS + (2 * weeks + 1) * week),
        "ideal_cycles_ns": CYCLES_NS,
        "minimum_effect_permille": 30,
        "timezone": "Asia/Hong_Kong",
    }
    return Plan(**(fields | changes))  # type: ignore[arg-type]


def windows(
    the_plan: Plan,
    *,
    seed: int = 1,
    effect: float = 0.12,
    minutes: int = 60,
    unknown: float = 0.01,
    products: tuple[str, ...] = ("Dumpling 12", "Wonton 20"),
    new_product: str = "",
) -> list[Window]:
    """Contiguous windows from the baseline's start to the reporting period's end. Shifts A 06-14 and B 14-22 UTC."""
    chance = random.Random(seed)
    length = minutes * 60_000
    out: list[Window] = []
    at, mood = the_plan.baseline.from_ms, 0.0
    while at < the_plan.reporting.to_ms:
        hour = (at - START_MS) // HOUR_MS % 24
        day = (at - START_MS) // DAY_MS
        if hour in (6, 14):
            mood = 0.3 * mood + chance.gauss(0, 0.05)
        after = at >= the_plan.commissioning.from_ms
        if not 6 <= hour < 22:
            category = [0] * CATEGORIES
            category[9] = length
            out.append(Window(at, at + length, CalendarKind.NOT_SCHEDULED, "", "", "", TimeAccount(tuple(category))))
            at += length
            continue
        shift = f"{(START_MS // DAY_MS + day)}/{'A' if hour < 14 else 'B'}"
        product = products[(day + (hour >= 14)) % len(products)]
        if new_product and after and day % 5 == 0:
            product = new_product
        category = [0] * CATEGORIES
        blind = length if chance.random() < unknown else 0
        run = int((length - blind) * min(0.95, max(0.2, 0.70 + mood)))
        category[0], category[1] = blind, run
        category[2] = (length - blind - run) // 3
        category[4] = (length - blind - run) // 4
        category[3] = length - blind - run - category[2] - category[4]
        cycle = CYCLES_NS.get(product, 600_000_000)
        total = int(run * 1_000_000 / cycle * (0.85 * (1 + effect) if after else 0.85))
        estimated = 0
        if blind:
            total = estimated = int(length * 1_000_000 / cycle * 0.5)
        reject = sum(chance.random() < 0.02 for _ in range(min(total, 200)))
        good = total - reject
        account = TimeAccount(
            tuple(category),
            length,
            total,
            good,
            reject,
            estimated_count=estimated,
            standard_total_ns=cycle * total,
            standard_good_ns=cycle * good,
            transition_count=3,
            stop_count=1,
            minor_stop_count=1,
        )
        out.append(Window(at, at + length, CalendarKind.SCHEDULED, product, "", shift, account))
        at += length
    return out

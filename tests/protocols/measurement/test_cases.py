"""Published worked examples of OEE and its kin: tests/cases/oee, one folder a case; a new one needs no code.

Every case is fed as sums to the figures; a case with a stream is also laid out as samples, and the meter must come
to the same sums, to the millisecond and the piece. Figures are compared as exact fractions, then in the published
digits. Where a source errs or means something else, the case says so and gives our figure beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest

from protocols.measurement.account import ACCOUNT_FIELDS, TimeAccount
from protocols.measurement.losses import loss_parts
from protocols.measurement.ratios import FIGURES, takt_ms
from tests.support.cases import Case, Shown, account_of, cases, definition_of, in_unit, measured

CASES = cases()
WITH_STREAM = [case for case in CASES if "stream" in case.data]
# What a stream has, and the sums of an example do not tell.
NOT_TOLD = {"transition_count", "illegal_count", "stop_count", "minor_stop_count", "failure_count"}


def value_of(name: str, row: Mapping[str, Any], account: TimeAccount, read: Mapping[str, Any]) -> Fraction | None:
    """A figure by name; "a/b" is the quotient of two; "takt" is of the row's `demand`."""
    definition = definition_of(read)
    if name == "takt":
        return takt_ms(account, row["demand"], definition)
    values = [FIGURES[part](account, definition) for part in name.split("/")]
    if any(value is None for value in values):
        return None
    return values[0] if len(values) == 1 else values[0] / values[1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_published_figures(case: Case) -> None:
    account = case.account
    for read in case.data["read"]:
        for name, row in read["figures"].items():
            where = f"{case.name}, {read['definition']}, {name}"
            value = value_of(name, row, account, read)
            if "exact" in row:
                unit = Shown.parse(row.get("published", row.get("ours"))).unit
                assert value is not None, where
                assert in_unit(value, unit) == Fraction(row["exact"]), where
            expected = Shown.parse(row["ours"] if "ours" in row else row["published"])
            assert expected.of(value) == expected, where
            if "ours" in row:
                assert row["why"], where
                if "published" in row:
                    published = Shown.parse(row["published"])
                    assert published.of(value) != published, f"{where}: they agree after all"
        if "losses_min" in read:
            lost = loss_parts(account)
            for name, minutes in read["losses_min"].items():
                assert lost[name] == Fraction(str(minutes)) * 60_000, f"{case.name}, {name}"


@pytest.mark.parametrize("case", [c for c in CASES if "part" in c.data], ids=lambda case: case.name)
def test_the_parts_of_what_is_added_up(case: Case) -> None:
    definition = definition_of(case.data["read"][0])
    for part in case.parts:
        if "oee" in part:
            assert FIGURES["oee"](account_of(part), definition) == Fraction(part["oee"])


@pytest.mark.parametrize("case", WITH_STREAM, ids=lambda case: case.name)
def test_the_meter_comes_to_the_published_sums(case: Case) -> None:
    told = dict(zip(ACCOUNT_FIELDS, case.account.as_ints(), strict=True))
    found = dict(zip(ACCOUNT_FIELDS, measured(case).as_ints(), strict=True))
    counted = {"minor_stop_count"} if "minor_stops" in case.data.get("counts", {}) else set()
    for name in NOT_TOLD - counted:
        del told[name], found[name]
    assert found == told


def test_every_case_names_its_source() -> None:
    for case in CASES:
        source = case.data["source"]
        assert all(source[key] for key in ("publisher", "author", "title", "url", "date", "says")), case.name
    assert len(CASES) >= 20
    assert len({case.data["source"]["publisher"] for case in CASES}) >= 12
    assert len(WITH_STREAM) >= 8

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
from protocols.measurement.definition import Definition
from protocols.measurement.loss_tree import big_losses, loss_tree
from protocols.measurement.ratios import FIGURES, takt_ms
from protocols.measurement.rollup import fall_off_ratio, line_oee
from tests.support.cases import Case, Shown, account_of, cases, definition_of, ideal_cycle_ns, in_unit, measured

CASES = cases()
WITH_STREAM = [case for case in CASES if "stream" in case.data]
WITH_PARTS = [case for case in CASES if "part" in case.data]
# What a stream has, and the sums of an example do not tell.
NOT_TOLD = {"transition_count", "illegal_count", "stop_count", "minor_stop_count", "failure_count"}


def value_of(name: str, row: Mapping[str, Any], account: TimeAccount, definition: Definition) -> Fraction | None:
    """A figure by name; "a/b" is the quotient of two; "takt" is of the row's `demand`."""
    if name == "takt":
        return takt_ms(account, row["demand"], definition)
    values = [FIGURES[part](account, definition) for part in name.split("/")]
    if any(value is None for value in values):
        return None
    return values[0] if len(values) == 1 else values[0] / values[1]


def agrees(value: Fraction | None, row: Mapping[str, Any], where: str) -> None:
    """Our value is exactly what the case says, and in the published digits what was published, or `ours`."""
    expected = Shown.parse(row["ours"] if "ours" in row else row["published"])
    if "exact" in row:
        assert value is not None, where
        assert in_unit(value, expected.unit) == Fraction(row["exact"]), where
    assert expected.of(value) == expected, where
    if "ours" in row:
        assert row["why"], where
        if "published" in row:
            published = Shown.parse(row["published"])
            assert published.of(value) != published, f"{where}: they agree after all"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_published_figures(case: Case) -> None:
    account = case.account
    for read in case.data["read"]:
        definition = definition_of(read)
        for name, row in read.get("figures", {}).items():
            agrees(value_of(name, row, account, definition), row, f"{case.name}, {read['definition']}, {name}")
        tree = loss_tree(account, definition)
        for name, minutes in read.get("losses_min", {}).items():
            assert tree.find(name).ms == Fraction(str(minutes)) * 60_000, f"{case.name}, {name}"
        for name, pieces in read.get("losses_pieces", {}).items():
            assert tree.find(name).pieces == pieces, f"{case.name}, {name}"
        if "big_losses_min" in read:
            lost = {str(name): ms / 60_000 for name, ms in big_losses(account, definition).ms.items()}
            assert lost == read["big_losses_min"], case.name


@pytest.mark.parametrize("case", WITH_PARTS, ids=lambda case: case.name)
def test_the_published_figures_of_each_part_and_of_the_line(case: Case) -> None:
    definition = definition_of(case.data["read"][0])
    for part in case.parts:
        account = account_of(part)
        for name, row in part.get("figures", {}).items():
            agrees(value_of(name, row, account, definition), row, f"{case.name}, {name}")
    if "line" not in case.data:
        return
    line = case.data["line"]
    machines = {part["machine"]: account_of(part) for part in case.parts}
    cycles = {part["machine"]: {p["name"]: ideal_cycle_ns(p) for p in part["product"]} for part in case.parts}
    found = line_oee(machines[line["planned_time_of"]], line["good_out"], cycles, machines, definition)
    agrees(found.oee, line["oee"], f"{case.name}, line")
    assert {product: at.machine for product, at in found.constraints.items()} == line["constraint"]
    if "fall_off" in line:
        accounts = list(machines.values())
        agrees(fall_off_ratio(accounts[0], accounts), line["fall_off"], f"{case.name}, fall off")


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

"""Roll-up over HTTP: sums equal the windows' own, trees add up exactly, and nobody reaches another's lines."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from hub import database as db
from hub.database import open_database
from hub.projections.index import Index
from hub.projections.sums import sums
from protocols.measurement import ratios
from protocols.measurement.account import ACCOUNT_FIELDS, CalendarKind, Category, TimeAccount, Window, total
from protocols.measurement.calendar import Calendar
from protocols.measurement.configuration import LineConfiguration, Product
from protocols.measurement.definition import ISO, TPM, Definition
from protocols.measurement.loss_tree import loss_tree
from protocols.measurement.notes import notes
from protocols.measurement.rollup import By
from tests.hub.web.plant import HOUR_MS, NOW_MS, ZONE, Plant, fill_hours, make_plant, serving, window_row

MINUTE_MS = 60_000
START_MS = NOW_MS - 30 * HOUR_MS - 17 * MINUTE_MS
PRODUCTS = {"A": 1_500_000_000, "B": 2_000_000_000}


def configuration(line_id: str, definition: Definition = ISO) -> LineConfiguration:
    products = tuple(Product(i, name, cycle) for i, (name, cycle) in enumerate(PRODUCTS.items(), 1))
    return LineConfiguration(line_id, line_id, Calendar(ZONE), products, (), definition=definition)


def windows(line_id: str, count: int) -> list[Window]:
    """Minutes of two products, three orders and two shifts, with rejects, stops and time that nobody saw."""
    luck = random.Random(line_id)
    out = []
    for i in range(count):
        start = START_MS + i * MINUTE_MS
        category = [0] * len(Category)
        what = luck.choice([*Category][:9])
        category[what] = luck.randrange(MINUTE_MS)
        category[Category.PRODUCING] += MINUTE_MS - sum(category)
        product = "AB"[i // 50 % 2]
        pieces = luck.randrange(40)
        good = pieces - min(pieces, luck.randrange(4))
        account = TimeAccount(
            tuple(category), MINUTE_MS, pieces, good, pieces - good, 0, min(1, pieces - good),
            standard_total_ns=pieces * PRODUCTS[product], standard_good_ns=good * PRODUCTS[product],
        )  # fmt: skip
        day, shift = f"2026-11-{19 + i // 700:02d}", "AB"[i // 350 % 2]
        kind = CalendarKind.SCHEDULED
        out.append(Window(start, start + MINUTE_MS, kind, product, f"WO-{i // 300}", f"{day}/{shift}", account))
    return out


WINDOWS = {"filling": windows("filling", 1500), "packing": windows("packing", 800), "rival": windows("rival", 400)}


def fill(plant: Plant, definition: Definition = ISO) -> None:
    with plant.services.engine.begin() as connection:
        connection.execute(db.configuration.delete())
        for line_id, made in WINDOWS.items():
            under = configuration(line_id, definition if line_id == "packing" else ISO)
            connection.execute(insert(db.window), [window_row(line_id, window, under.hash) for window in made])
            values = {"line_id": line_id, "hash": under.hash, "data": under.to_data(), "leaf_index": 1}
            connection.execute(insert(db.configuration).values(values))
        fill_hours(connection)
    plant.registry.place_line("filling", "Tai Po", "Hall 1")
    plant.registry.place_line("packing", "Tai Po", "Hall 2")


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[tuple[Plant, str]]:
    plant = make_plant(tmp_path)
    fill(plant)
    with serving(plant) as address:
        yield plant, address


def ask(filled: tuple[Plant, str], role: str = "operator", path: str = "/api/v1/rollup", **query: Any) -> Any:
    plant, address = filled
    query = {"from": START_MS, "to": NOW_MS} | query
    headers = {"Authorization": f"Bearer {plant.tokens[role]}"}
    answer = httpx.get(address + path, params=query, headers=headers, verify=False, timeout=30)
    return answer.json() if answer.status_code == 200 else answer.status_code


def account(row: Any) -> TimeAccount:
    return TimeAccount.from_ints([row["sums"][name] for name in ACCOUNT_FIELDS])


def exact(value: Any) -> Fraction:
    return Fraction(value["numerator"], value["denominator"])


def test_sums_are_those_of_the_windows_at_any_edge(filled: tuple[Plant, str]) -> None:
    plant, _ = filled
    luck = random.Random(5)
    index = Index(plant.services.engine)
    edges = [START_MS, START_MS + 43 * MINUTE_MS, *(START_MS + luck.randrange(1500) * MINUTE_MS for _ in range(20))]
    for from_ms, to_ms in [*((a, b) for a in edges for b in edges[:4] if a < b), (0, 2**52)]:
        found = sums(plant.services.engine, ["filling", "packing"], from_ms, to_ms, [By.PRODUCT, By.SHIFT])
        naive: dict[tuple[str, str, str], list[TimeAccount]] = {}
        for each in index.windows(["filling", "packing"]):
            w = each.window
            if from_ms <= w.start_ms < to_ms:
                naive.setdefault((each.line_id, w.product, w.shift.split("/")[1]), []).append(w.account)
        assert {(s.line_id, *s.key): s.account for s in found} == {key: total(each) for key, each in naive.items()}


def test_rows_figures_and_trees_add_up(filled: tuple[Plant, str]) -> None:
    for by in ("line", "site", "area", "enterprise", "project", "scheme", "product", "order", "shift", "day"):
        got = ask(filled, by=by)
        whole = total(each.account for made in WINDOWS.values() for each in made)
        assert account(got["total"]) == whole == total(account(row) for row in got["rows"]), by
        for row in [*got["rows"], got["total"]]:
            adds_up(row, ISO)
            told = [(note["code"], note["count"]) for note in row["notes"]]
            assert told == [(note.code, note.count) for note in notes(account(row))], "each row has its own"
        assert got["definition_hash"] == ISO.hash.hex() and got["notes"] == []
        assert got["total"]["notes"][-1]["code"] == "startup-share"
    assert set(got["titles"]) >= {"calendar", "planned-busy", "reduced-speed", "rejects", "unvalued-production"}
    assert [word["name"] for word in got["words"]] == list(ratios.FIGURES)


def adds_up(row: Any, definition: Definition) -> None:
    """Each part is the sum of its own, the whole is all time, and each figure the exact ratio of the sums."""
    found = account(row)
    tree = loss_tree(found, definition)

    def check(part: Any) -> None:
        if part["children"]:
            assert exact(part["ms"]) == sum((exact(child["ms"]) for child in part["children"]), Fraction(0))
            if part["pieces"] is not None:
                assert exact(part["pieces"]) == sum(exact(child["pieces"]) for child in part["children"])
        assert exact(part["ms"]) == tree.find(part["name"]).ms
        for child in part["children"]:
            check(child)

    check(row["tree"])
    assert exact(row["tree"]["ms"]) == sum(found.category_ms)
    for name, shown in row["figures"].items():
        value = ratios.FIGURES[name](found, definition)
        if value is None:
            assert (shown["value"], shown["numerator"]) == (None, None) and shown["undefined_because"]
        else:
            assert exact(shown) == value and shown["value"] == pytest.approx(float(value), abs=1e-6)
    lost = sum((exact(ms) for ms in row["losses"].values()), Fraction(0))
    assert lost + tree.find("fully-productive").ms == tree.find("planned-busy").ms


def test_a_site_is_named_with_its_enterprise_and_two_groups_go_together(filled: tuple[Plant, str]) -> None:
    got = ask(filled, by=["area", "day"])
    assert [row["key"] for row in got["rows"]][:2] == [
        {"enterprise": "acme", "site": "Tai Po", "area": "Hall 1", "day": f"2026-11-{day}"} for day in (19, 20)
    ]
    assert got["rows"][-1]["key"]["site"] == "" and got["names"]["enterprise"]["rival"] == "Rival Ltd"
    by_site = ask(filled, by="site")["rows"]
    assert [row["line_count"] for row in by_site] == [2, 1]


def test_the_definition_is_a_choice_and_the_measured_times_stay(tmp_path: Path) -> None:
    plant = make_plant(tmp_path)
    fill(plant, Definition(preset="mine", minor_stop_ms=120_000))
    with serving(plant) as address:
        filled = (plant, address)
        iso, tpm = ask(filled, line="filling"), ask(filled, line="filling", definition="tpm")
        assert (iso["definition_hash"], tpm["definition_hash"]) == (ISO.hash.hex(), TPM.hash.hex())
        assert iso["total"]["sums"] == tpm["total"]["sums"] and iso["total"]["figures"] != tpm["total"]["figures"]
        adds_up(tpm["total"], TPM)
        own = ask(filled, line="packing")
        assert own["definition"].startswith("mine")
        read = ask(filled, line="packing", definition="tpm")
        assert (
            read["definition_hash"]
            == Definition(
                preset="tpm", minor_stop_ms=120_000, minor_stop_side=TPM.minor_stop_side, no_order=TPM.no_order
            ).hash.hex()
        )
        both = ask(filled, line=["filling", "packing"])
        assert both["notes"][0]["code"] == "mixed-times" and both["definition_hash"] == ISO.hash.hex()


def test_scope_and_bad_questions(filled: tuple[Plant, str]) -> None:
    for role in ("manufacturer", "secretariat", "committee", "auditor"):
        assert ask(filled, role)["lines"] == ["filling", "packing"]
        assert ask(filled, role, line="rival") == 404 == ask(filled, role, project="p-rival")
        assert ask(filled, role, path="/api/v1/lines/rival/machines") == 404
    assert ask(filled, "rival", project="p-rival")["lines"] == ["rival"]
    assert ask(filled, "lost")["rows"] == []
    assert ask(filled, "manufacturer", line="nowhere") == 404
    for wrong in (
        {"from": "yesterday"}, {"from": NOW_MS}, {"from": 0}, {"zone": "Mars"}, {"by": "colour"},
        {"definition": "mine"}, {"from": "2026-13-01"}, {"to": "9" * 15},
    ):  # fmt: skip
        assert ask(filled, **wrong) == 422, wrong


def test_times_may_be_local_days(filled: tuple[Plant, str]) -> None:
    got = ask(filled, **{"from": "2026-11-20", "to": "2026-11-21T06:00"})
    midnight = NOW_MS - 38 * HOUR_MS
    assert (got["from_ms"], got["to_ms"], got["timezone"]) == (midnight, midnight + 30 * HOUR_MS, ZONE)
    assert ask(filled, **{"from": "2026-11-19T16:00+00:00", "to": "2026-11-21"})["from_ms"] == midnight
    assert ask(filled, **{"from": "2026-11-20", "to": "2026-11-21", "zone": "UTC"})["from_ms"] == midnight + 8 * HOUR_MS


def test_machines_of_a_line_are_told_apart_and_never_added_to_it(filled: tuple[Plant, str]) -> None:
    plant, _ = filled
    plant.registry.place_line("packing", part_of="filling")
    got = ask(filled, "manufacturer")
    assert got["lines"] == ["filling"] and account(got["total"]) == total(w.account for w in WINDOWS["filling"])
    assert ask(filled, line=["filling", "packing"]) == 422
    assert len(ask(filled, line=["filling", "packing"], by="line")["rows"]) == 2
    apart = ask(filled, path="/api/v1/lines/filling/machines")
    charged = ask(filled, path="/api/v1/lines/filling/machines", waiting="availability")
    line, machine = (total(w.account for w in WINDOWS[name]) for name in ("filling", "packing"))
    good = {
        name: sum(w.account.good_count for w in WINDOWS["filling"] if w.product == name) * cycle
        for name, cycle in PRODUCTS.items()
    }
    assert exact(apart["oee"]) == Fraction(sum(good.values()), line.known_planned_ms * 1_000_000)
    assert apart["bottlenecks"] == {"A": "packing", "B": "packing"}
    [one], [other] = apart["machines"], charged["machines"]
    assert one["waiting_ms"] == machine.category_ms[Category.RESTRAINT] > 0
    assert exact(other["oee"]) == ratios.oee(machine)
    assert exact(one["oee"]) == Fraction(
        machine.standard_good_ns, (machine.known_planned_ms - one["waiting_ms"]) * 1_000_000
    )


def test_half_a_year_is_read_from_hours(tmp_path: Path) -> None:
    """No window is looked at between whole hours: with the windows taken away the sums are still there."""
    engine = open_database(f"sqlite:///{tmp_path / 'hub.sqlite'}")
    db.metadata.create_all(engine)
    made = WINDOWS["filling"]
    with engine.begin() as connection:
        connection.execute(insert(db.window), [window_row("filling", window, b"h" * 32) for window in made])
        fill_hours(connection)
        connection.execute(db.window.delete())
    first = START_MS // HOUR_MS * HOUR_MS
    [found] = sums(engine, ["filling"], first, first + 40 * HOUR_MS)
    assert found.account == total(window.account for window in made)
    engine.dispose()

"""The pages in Chromium: they move without reloading, and say so when they have stopped."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from hub import database as db
from hub.config import Access
from hub.live import Departure, Loss, SparkplugMessage
from protocols.measurement.account import Category, TimeAccount
from protocols.wire import sparkplug as names
from tests.hub.web.pictures import CHROMIUM
from tests.hub.web.plant import Plant, live_message, make_plant, serving

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield found
        found.close()


@contextmanager
def opened(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A page whose every complaint is kept."""
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    try:
        yield page, complaints
    finally:
        page.close()


@contextmanager
def speaking(plant: Plant) -> Iterator[threading.Event]:
    """The line says something four times a second until the event is set."""
    hush = threading.Event()

    def speak() -> None:
        tick = 0
        while not hush.wait(0.25):
            plant.clock.now_ms += 250
            plant.say(live_message("filling", tick=tick))
            tick += 1

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield hush
    finally:
        hush.set()
        thread.join()


def test_the_line_page_moves_and_says_when_it_has_stopped(local: tuple[Plant, str], browser: Browser) -> None:
    plant, address = local
    with speaking(plant) as hush, opened(browser) as (page, complaints):
        page.goto(address + "/lines/filling?lang=en")
        good = page.locator("#good")
        expect(good).to_contain_text("9,7")
        page.evaluate("window.stillHere = true")
        first = good.inner_text()
        expect(good).not_to_have_text(first)
        expect(page.locator("#state")).to_have_text("Producing")
        expect(page.locator("#oee")).to_contain_text("%")
        expect(page.locator("#stops tr")).to_have_count(5)
        expect(page.locator("#silent-line")).to_be_hidden()
        hush.set()
        banner = page.locator("#silent-line")
        expect(banner).to_be_visible(timeout=9_000)
        expect(banner).to_contain_text("No data from gateway gw-07 since 14:00")
        expect(page.locator("#state")).to_have_text("Not observed")
        plant.clock.now_ms += 20_000
        plant.say(live_message("filling", tick=400))
        expect(banner).to_be_hidden()
        expect(good).to_have_text("10,112")
        assert page.evaluate("window.stillHere"), "the page was loaded again"
        assert not complaints


def test_the_overview_moves_and_puts_the_worst_first(local: tuple[Plant, str], browser: Browser) -> None:
    plant, address = local
    with speaking(plant), opened(browser) as (page, complaints):
        page.goto(address + "/?lang=zh-Hant")
        good = page.locator('[data-line="filling"] [data-f="good"]')
        expect(good).to_contain_text("9,7")
        first = good.inner_text()
        expect(good).not_to_have_text(first)
        expect(page.locator('[data-line="filling"] .state')).to_have_text("生產中")
        expect(page.locator('[data-line="packing"] .note')).to_be_visible()
        expect(page.locator(".card").last).to_have_attribute("data-line", "filling")
        assert not complaints


def test_a_death_shows_at_once_and_sparkplug_alone_is_enough(local: tuple[Plant, str], browser: Browser) -> None:
    plant, address = local
    metrics = {
        names.STATE: "EXECUTE", names.CATEGORY: "PRODUCING", names.PRODUCT: "Lemon tea 500 ml", names.GOOD: 4_711,
        names.OEE: 0.8125, names.AVAILABILITY: 0.9, names.RATE: 2_040.0, names.SHIFT: "2026-11-21/A",
    }  # fmt: skip

    def tells(**changes: object) -> None:
        plant.clock.now_ms += 10_000
        now = plant.clock.now_ms
        plant.bus.publish(SparkplugMessage("filling", "gw-07", now, now, metrics | changes))  # type: ignore[arg-type]

    tells()
    with opened(browser) as (wall, complaints), opened(browser) as (page, more_complaints):
        wall.goto(address + "/?lang=en")
        page.goto(address + "/lines/filling?lang=en")
        card = wall.locator('[data-line="filling"]')
        expect(card.locator(".oee")).to_have_text("81.3%")
        expect(card.locator(".state")).to_have_text("Producing")
        expect(card.locator(".title")).to_have_text("Filling")
        expect(page.locator("#good")).to_have_text("4,711")
        expect(page.locator("#standing")).to_have_text("By Sparkplug, rounded")
        expect(page.locator("#quality .value")).to_have_text("–")
        expect(page.locator("#pieces-bar")).to_be_hidden()
        tells(**{names.GOOD: 4_712, names.SHIFT: "Day"})
        expect(page.locator("#shift")).to_have_text("· Day")
        expect(page.locator("#good")).to_have_text("4,712")
        page.wait_for_timeout(6_000)  # Sparkplug says only what changes
        expect(page.locator("#silent-line")).to_be_hidden()
        plant.bus.publish(Departure("filling", "gw-07", plant.clock.now_ms, Loss.PLC))
        expect(page.locator("#silent-line")).to_contain_text(
            "gw-07 has not read this line's PLC since 14:00", timeout=3_000
        )
        tells()
        expect(page.locator("#silent-line")).to_be_hidden()
        plant.say(live_message("filling"))
        expect(page.locator("#quality .value")).to_contain_text("%")
        plant.bus.gateway_lost("gw-07", plant.clock.now_ms)
        # Sooner than by its staleness, which is five seconds.
        expect(card.locator(".note")).to_contain_text("Gateway gw-07 left the broker at 14:00", timeout=3_000)
        expect(page.locator("#state")).to_have_text("Not observed", timeout=3_000)
        assert not complaints and not more_complaints


def test_a_hostile_name_runs_nothing(tmp_path: Path, browser: Browser) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\">"
    plant = make_plant(tmp_path, Access.LOOPBACK, names={"filling": evil})
    stop = {"start_ms": 1, "end_ms": 2, "category": "FAILURE", "reason": evil}
    with serving(plant) as address, opened(browser) as (page, complaints):
        plant.say(live_message("filling", name=evil, product=evil, stops=[stop]))
        for path in ("/", "/lines/filling", "/projects/p-acme"):
            page.goto(address + path)
            page.wait_for_timeout(300)
            assert "owned" not in page.title() or "<img" in page.title(), path
            assert page.locator("img[src=x]").count() == 0, path
        assert not complaints


def test_the_project_page_draws_and_makes_the_report(tmp_path: Path, browser: Browser) -> None:
    plant = make_plant(tmp_path, Access.LOOPBACK, history=True)
    with serving(plant) as address, opened(browser) as (page, complaints):
        page.goto(address + "/projects/p-acme?lang=en")
        expect(page.locator("#verdict")).to_have_text("Improved", timeout=20_000)
        expect(page.locator("#verdict-words")).to_contain_text("good output for each planned hour, 95 % interval +")
        expect(page.locator("#sides")).to_contain_text(re.compile(r"Good output rate[\d.]+ %[\d.]+ %\+[\d.]+ %\+"))
        expect(page.locator("#chart .bars path").first).to_be_attached()
        expect(page.locator("#checkpoint")).to_contain_text("3 records")
        page.get_by_role("button", name="Make outcome report").click()
        expect(page.locator("#report-words")).to_contain_text("as of 3 records")
        with page.expect_download() as download:
            page.locator("#bundle").click()
        assert download.value.suggested_filename == "p-acme-3.zip"
        assert not complaints


def test_auditors_have_a_heading_of_their_own(tmp_path: Path, browser: Browser) -> None:
    plant = make_plant(tmp_path, Access.LOOPBACK)
    with plant.services.engine.begin() as connection:
        connection.execute(
            db.gateway.insert().values(
                id="auditor-chan", enterprise_id="acme", project_id="p-acme", kid=b"a" * 8, public_key=b"a" * 32,
                fingerprint="3f2a 99c1 77e0 42d5", state="active", lines=[], created_ms=1,
            )
        )  # fmt: skip
        for leaf, project in ((7, "p-acme"), (8, "p-acme"), (9, "p-rival")):
            connection.execute(
                db.audit.insert().values(
                    leaf_index=leaf, project_id=project, auditor="auditor-chan", time_ms=1, equal=True, data={}
                )
            )
    with serving(plant) as address, opened(browser) as (page, complaints):
        (found,) = page.request.get(address + "/api/v1/auditors").json()
        assert (found["id"], found["audit_count"]) == ("auditor-chan", 2)
        assert [each["id"] for each in page.request.get(address + "/api/v1/gateways").json()] == ["gw-07", "gw-99"]
        page.goto(address + "/projects/p-acme?lang=en")
        expect(page.get_by_role("heading", name="Auditors")).to_be_visible()
        expect(page.locator("#auditors tbody tr")).to_have_text(["auditor-chanActive23f2a 99c1 77e0 42d5"])
        expect(page.locator("#gateways tbody tr")).to_have_count(1)
        page.goto(address + "/projects/p-rival?lang=en")
        expect(page.locator("#gateways tbody tr")).to_have_count(1)
        expect(page.get_by_role("heading", name="Auditors")).to_have_count(0)
        assert not complaints


def test_where_the_time_went_follows_the_readers_choice(tmp_path: Path, browser: Browser) -> None:
    plant = make_plant(tmp_path, Access.LOOPBACK, history=True)
    with serving(plant) as address, opened(browser) as (page, complaints):
        page.goto(address + "/lines/filling?lang=en")
        panel = page.locator("#losses-panel")
        expect(panel.locator("#r-span")).to_contain_text("ISO 22400-2")
        steps = panel.locator(".waterfall .step .level")
        expect(steps.first).to_have_text("Planned busy time (PBT)")
        expect(steps.last).to_have_text("Fully productive time")
        expect(panel.locator("#r-every")).to_contain_text("APT / PBT")
        first = panel.locator("#r-figures").inner_text()
        panel.locator("#r-definition").select_option("tpm")
        expect(panel.locator("#r-span")).to_contain_text("TPM")
        assert panel.locator("#r-figures").inner_text() != first
        panel.locator("#r-by").select_option("product")
        expect(panel.locator("button.group")).to_have_count(2)
        panel.locator("button.group").nth(1).click()
        expect(panel.locator("#r-title")).to_have_text("B")
        panel.locator("#r-period").select_option("dates")
        expect(panel.locator("#r-trouble")).to_be_visible()
        panel.locator("#r-from").fill("2026-11-02")
        panel.locator("#r-to").fill("2026-11-03")
        expect(panel.locator("#r-span")).to_contain_text("2 Nov 00:00 to 4 Nov 00:00")
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out on a phone"
        page.goto(address + "/losses?lang=zh-Hant")
        expect(page.locator("button.group .what")).to_have_text(["Filling"])
        assert not complaints


def test_over_100_percent_is_not_blamed_on_the_cycle_when_time_went_unseen(tmp_path: Path, browser: Browser) -> None:
    plant = make_plant(tmp_path, Access.LOOPBACK, history=True)
    with plant.services.engine.begin() as connection:  # product A of the last days: half the time unseen, all pieces
        for table in (db.window, db.hourly):
            half = {
                "producing_ms": table.c.producing_ms / 2,
                "unknown_ms": table.c.unknown_ms + table.c.producing_ms / 2,
            }
            connection.execute(table.update().where(table.c.product == "A").values(**half, estimated_count=8_000))
            slow = {"standard_total_ns": table.c.standard_total_ns * 2}
            connection.execute(table.update().where(table.c.product == "B", table.c.unknown_ms == 0).values(**slow))
    with serving(plant) as address, opened(browser) as (page, complaints):
        page.goto(address + "/lines/filling?lang=en")
        lost, recent = page.locator("#effectiveness .lost"), page.locator("#oee-recent")
        for sums, words, blamed in (
            (sums_of(60, 120, 7_000, 4_700), "4,700 pieces were read after a gap, and 2:00 h were not observed", False),
            (sums_of(120, 0, 7_000, 0), "the configured ideal cycle is slower than the line", True),
            (sums_of(120, 1, 7_000, 40), "the configured ideal cycle is slower than the line", True),
        ):
            plant.clock.now_ms += 1000
            plant.say(live_message("filling", shift_account=sums, window_account=sums, time_ms=plant.clock.now_ms))
            expect(lost).to_contain_text(words)
            assert ("faster than ideal" in lost.inner_text()) is blamed
            assert words in (recent.get_attribute("title") or "")
        panel = page.locator("#losses-panel")
        panel.locator("#r-by").select_option("product")
        for nth, words, step in ((0, "may be right", "More than the time observed holds"), (1, "is slower", "Faster")):
            panel.locator("button.group").nth(nth).click()
            expect(panel.locator("#r-notes")).to_contain_text(words)
            expect(panel.locator(".waterfall")).to_contain_text(step)
        page.goto(address + "/projects/p-acme?lang=en")
        expect(page.locator("#sides")).to_contain_text("Effectiveness, After: Over 100 %: ", timeout=20_000)
        assert not complaints


def sums_of(producing_min: int, unknown_min: int, pieces: int, estimated: int) -> list[int]:
    times = [0] * len(Category)
    times[Category.PRODUCING], times[Category.UNKNOWN] = producing_min * 60_000, unknown_min * 60_000
    standard_ns = pieces * 1_500_000_000
    return list(
        TimeAccount(
            tuple(times), sum(times), pieces, pieces, estimated_count=estimated, standard_total_ns=standard_ns,
            standard_good_ns=standard_ns,
        ).as_ints()
    )  # fmt: skip


def test_the_machines_of_a_line_are_shown_apart(tmp_path: Path, browser: Browser) -> None:
    plant = make_plant(tmp_path, Access.LOOPBACK, history=True)
    plant.registry.place_line("filling", "Tai Po", "Hall 1", part_of="packing")
    with serving(plant) as address, opened(browser) as (page, complaints):
        page.goto(address + "/lines/filling?lang=en")
        expect(page.locator(".heading")).to_contain_text("Tai Po · Hall 1")
        expect(page.get_by_role("link", name="a machine of packing")).to_be_visible()
        with plant.services.engine.begin() as connection:  # the line itself has measured something
            connection.execute(db.hourly.update().values(line_id="packing"))
            connection.execute(db.window.update().values(line_id="packing"))
        page.goto(address + "/lines/packing?lang=en")
        row = page.locator("#r-machines tbody tr")
        expect(row).to_contain_text("Filling")
        expect(page.locator("#r-bottleneck")).to_contain_text("bottleneck: 8")
        page.locator("#r-waiting").check()
        expect(row).to_contain_text("Filling")
        assert not complaints


def test_reasons_given_afterwards_are_shown_with_what_was_measured(tmp_path: Path, browser: Browser) -> None:
    plant = make_plant(tmp_path, Access.LOOPBACK, history=True)
    message = live_message("filling")
    stop_ms = message["stops"][-1]["start_ms"]
    values = {"line_id": "filling", "kind": "reason", "version": 0, "who": "M. Chan", "why": "seen at the shift's end"}
    with plant.services.engine.begin() as connection:
        for leaf, at, new, refusal in ((5, stop_ms, "Film torn", ""), (6, stop_ms + 1, "Elsewhere", "no window")):
            change = {"change": ["", new], "refusal": refusal, "leaf_index": leaf, "start_ms": at, "end_ms": at}
            connection.execute(db.amendment.insert().values(**values, **change))
    with serving(plant) as address, opened(browser) as (page, complaints):
        plant.say(message)
        page.goto(address + "/lines/filling?lang=en")
        row = page.locator("#stops tr", has_text="Film torn")
        expect(row).to_contain_text("given afterwards; measured: no reason given")
        amended = page.locator("#r-amended tbody tr")
        expect(amended).to_have_count(2)
        expect(amended.nth(1)).to_contain_text("no reason given → Film torn")
        expect(amended.nth(1)).to_contain_text("M. Chan")
        expect(amended.nth(0)).to_contain_text("Without effect: no window")
        assert not complaints

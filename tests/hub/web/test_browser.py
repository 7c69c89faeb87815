"""The pages in Chromium: they move without reloading, and say so when they have stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from hub.config import Access
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
        expect(page.locator("#verdict-words")).to_contain_text("good output an hour, 95 % interval +")
        expect(page.locator("#chart .bars path").first).to_be_attached()
        expect(page.locator("#checkpoint")).to_contain_text("3 records")
        page.get_by_role("button", name="Make outcome report").click()
        expect(page.locator("#report-words")).to_contain_text("as of 3 records")
        with page.expect_download() as download:
            page.locator("#bundle").click()
        assert download.value.suggested_filename == "p-acme-3.zip"
        assert not complaints

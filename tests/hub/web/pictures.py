"""Pictures of every page, to be looked at: python -m tests.hub.web.pictures FOLDER

Three sizes, light and dark, both languages, from a hub with synthetic lines; the time is the test's, not today's.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

from hub.config import Access
from tests.hub.web.plant import live_message, make_plant, serving

CHROMIUM = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
SIZES = {"1280": (1280, 800), "1920": (1920, 1080), "390": (390, 844)}


def main(folder: Path, only: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        plant = make_plant(Path(data), Access.LOOPBACK, history=True)
        done = threading.Event()

        def speak() -> None:
            tick = 0
            while not done.is_set():
                plant.clock.now_ms += 1000 if tick else 0
                plant.say(live_message("filling", tick=tick))
                stopped = {"state": "ABORTED", "category": "FAILURE", "simulated": True, "pieces_per_hour": 0.0}
                plant.say(live_message("packing", tick=tick, **stopped))
                tick += 1
                done.wait(0.25)

        speaker = threading.Thread(target=speak)
        with serving(plant) as address:
            speaker.start()
            try:
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
                    for size, (width, height) in SIZES.items():
                        for scheme in ("light", "dark"):
                            for language in ("en", "zh-Hant"):
                                for page_name, path in (
                                    ("overview", "/"), ("line", "/lines/filling"), ("project", "/projects/p-acme"),
                                    ("losses", "/losses"), ("signin", "/sign-in"),
                                ):  # fmt: skip
                                    name = f"{page_name}-{size}-{scheme}-{language}"
                                    if only and only not in name:
                                        continue
                                    page = browser.new_page(
                                        viewport={"width": width, "height": height}, color_scheme=scheme
                                    )
                                    page.on("console", lambda m: print("console:", m.text))
                                    page.on("pageerror", lambda e: print("error:", e))
                                    page.goto(f"{address}{path}?lang={language}")
                                    page.wait_for_timeout(2500 if page_name == "project" else 1200)
                                    page.screenshot(
                                        path=str(folder / f"{name}.png"),
                                        full_page=page_name not in ("overview", "signin") or size == "390",
                                    )
                                    page.close()
                    browser.close()
            finally:
                done.set()
                speaker.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

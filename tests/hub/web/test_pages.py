"""The pages without a browser: what they say, that names stay text, and that nothing comes from elsewhere."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from pathlib import Path

import httpx
from sqlalchemy import text

from tests.hub.web.plant import Plant, live_message, make_plant, serving

EVIL = "<script>alert(1)</script>"


def as_role(plant: Plant, address: str, role: str) -> httpx.Client:
    return httpx.Client(
        base_url=address, headers={"Authorization": f"Bearer {plant.tokens[role]}"}, timeout=30, verify=False
    )


def test_both_languages_and_the_switch(plant: Plant, address: str) -> None:
    for path in ("/", "/lines/filling", "/projects/p-acme", "/sign-in", "/lines/nowhere"):
        in_both_languages(plant, address, path)


def in_both_languages(plant: Plant, address: str, path: str) -> None:
    with as_role(plant, address, "operator") as client:
        english = client.get(path, params={"lang": "en"}, headers={"Accept": "text/html"})
        chinese = client.get(path, params={"lang": "zh-Hant"}, headers={"Accept": "text/html"})
        assert '<html lang="en">' in english.text and '<html lang="zh-Hant">' in chinese.text
        # The cookie remembers.
        assert '<html lang="zh-Hant">' in client.get(path, headers={"Accept": "text/html"}).text
        for page in (english.text, chinese.text):
            assert not re.findall(r'(?:src|href)="(?:https?:)?//', page), "a page loads nothing from elsewhere"
            assert not re.findall(r"<script(?![^>]*(?:src=|application/json))", page), "no script within a page"
            assert not re.findall(r'\son\w+="', page)


def test_a_line_named_as_a_script_is_only_a_name(tmp_path: Path) -> None:
    plant = make_plant(tmp_path, names={"filling": EVIL})
    with serving(plant) as address, as_role(plant, address, "operator") as client:
        plant.say(live_message("filling", name=EVIL, product="</script>" + EVIL, order="'\"><img src=x>"))
        time.sleep(0.2)
        for path in ("/", "/lines/filling", "/projects/p-acme"):
            page = client.get(path).text
            assert EVIL not in page and "<img src=x>" not in page, path
            assert page.count("</script>") == page.count("<script"), path
            data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
            assert data
            json.loads(data.group(1))
        assert "&lt;script&gt;" in client.get("/lines/filling").text


def test_without_its_database_the_hub_says_so_and_what_to_do(plant: Plant, address: str) -> None:
    with plant.services.engine.begin() as connection:
        connection.execute(text("ALTER TABLE line RENAME TO gone"))  # fails as one that is away does
    with as_role(plant, address, "operator") as client:
        for path in ("/", "/lines/filling", "/losses"):
            page = client.get(path, headers={"Accept": "text/html"})
            assert page.status_code == 503 and "Try again in a minute" in page.text, path
            assert page.headers["Retry-After"] == "10" and "default-src" in page.headers["Content-Security-Policy"]
        chinese = client.get("/", params={"lang": "zh-Hant"}, headers={"Accept": "text/html"})
        assert "資料庫目前沒有回應" in chinese.text
        answer = client.get("/api/v1/rollup")
        assert answer.status_code == 503 and "database does not answer" in answer.json()["detail"]
        with plant.services.engine.begin() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO line"))
        assert client.get("/lines/filling").status_code == 200


def test_not_found_is_a_page_for_people_and_json_for_programs(plant: Plant, address: str) -> None:
    with as_role(plant, address, "manufacturer") as client:
        page = client.get("/lines/rival", headers={"Accept": "text/html"})
        assert page.status_code == 404 and "not yours to see" in page.text
        assert client.get("/api/v1/lines/rival", headers={"Accept": "text/html"}).json()["detail"]


def test_a_project_without_a_plan_says_what_is_missing(plant: Plant, address: str) -> None:
    with as_role(plant, address, "operator") as client:
        outcome = client.get("/api/v1/projects/p-acme/outcome").json()
    assert outcome["missing"] == ["plan"] and outcome["verdict"] is None


def test_the_outcome_of_a_project_with_history(tmp_path: Path) -> None:
    plant = make_plant(tmp_path, history=True)
    with serving(plant) as address, as_role(plant, address, "committee") as client:
        outcome = client.get("/api/v1/projects/p-acme/outcome").json()
        assert outcome["missing"] == [] and outcome["verdict"]["word"] == "improved"
        assert (
            outcome["verdict"]["low_percent"]
            < outcome["verdict"]["change_percent"]
            < outcome["verdict"]["high_percent"]
        )
        assert [week["period"] for week in outcome["weeks"]] == ["baseline"] * 8 + ["commissioning"] * 2 + [
            "reporting"
        ] * 8
        first, *others = outcome["verdict"]["figures"]
        assert (first["name"], first["change"]) == ("good-output-rate", outcome["verdict"]["change_percent"])
        oee = next(figure for figure in others if figure["name"] == "oee")
        for side in ("baseline", "reporting"):
            assert oee[side] == outcome[side]["figures"]["oee"]["percent"]
        assert oee["low"] <= oee["change"] <= oee["high"]
        assert outcome["plan_hash"] and outcome["configuration_hashes"] and outcome["definition_hashes"]
        began = time.monotonic()
        assert client.get("/api/v1/projects/p-acme/outcome").json() == outcome
        assert time.monotonic() - began < 1, "computed once"


def test_a_report_is_made_once_for_a_size_of_the_log(plant: Plant, address: str) -> None:
    with as_role(plant, address, "secretariat") as client:
        where = "/api/v1/projects/p-acme/report"
        assert client.get(where).json()["state"] == "none"
        assert client.get(where + "/bundle.zip").status_code == 404
        assert client.post(where).json()["state"] in ("making", "ready")
        job = ready(client, where)
        bundle = client.get(job["bundle"])
        assert bundle.headers["content-disposition"] == 'attachment; filename="p-acme-3.zip"'
        assert zipfile.ZipFile(io.BytesIO(bundle.content)).namelist() == ["report.json", "report.pdf"]
        assert client.get(job["pdf"]).content.startswith(b"%PDF")
        assert client.post(where).json()["state"] == "ready" and plant.reports == ["p-acme"]
        plant.log.size = 4
        client.post(where)
        assert ready(client, where)["log_size"] == 4 and plant.reports == ["p-acme"] * 2


def ready(client: httpx.Client, where: str) -> dict[str, str]:
    for _ in range(200):
        job = client.get(where).json()
        if job["state"] != "making":
            assert job["state"] == "ready", job
            return dict(job)
        time.sleep(0.02)
    raise AssertionError("the report was not made in four seconds")


def test_plotly_comes_from_this_machine(address: str) -> None:
    answer = httpx.get(address + "/static/plotly.min.js")
    assert answer.headers["content-type"].startswith("text/javascript") and len(answer.content) > 1_000_000


def test_an_auditor_is_told_why_nothing_moves(plant: Plant, address: str) -> None:
    plant.say(live_message("filling"))
    with as_role(plant, address, "auditor") as client:
        for path in ("/", "/lines/filling"):
            page = client.get(path, params={"lang": "en"}).text
            assert "Your role sees the signed figures" in page and '"views":[]' in page, path

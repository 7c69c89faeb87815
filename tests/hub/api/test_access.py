"""Every route, every role, every object: nobody reaches more than their own, and another's id looks like no id."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hub.config import Access
from protocols.errors import Refused
from tests.hub.web.plant import NOW_MS, Plant, live_message

ROLES = ("manufacturer", "rival", "lost", "secretariat", "committee", "auditor", "chief-auditor", "operator")
# Who is in scope of Acme's objects, and of Rival's.
ACME = {"manufacturer", "secretariat", "committee", "auditor", "chief-auditor", "operator"}
RIVAL = {"rival", "chief-auditor", "operator"}
SPAN = f"from_ms={NOW_MS - 1000}&to_ms={NOW_MS}"
AUDITORS = {"auditor", "chief-auditor"}

OBJECTS = [
    ("GET", "/api/v1/lines/{line}"),
    ("GET", "/api/v1/lines/{line}/figures?" + SPAN),
    ("GET", "/api/v1/lines/{line}/machines"),
    ("GET", "/api/v1/lines/{line}/amendments?" + SPAN),
    ("GET", "/api/v1/rollup?line={line}"),
    ("GET", "/api/v1/rollup?project={project}"),
    ("GET", "/api/v1/projects/{project}"),
    ("GET", "/api/v1/projects/{project}/outcome"),
    ("GET", "/api/v1/projects/{project}/report"),
    ("GET", "/api/v1/gateways/{gateway}"),
    ("GET", "/lines/{line}"),
    ("GET", "/projects/{project}"),
    ("GET", "/api/v1/lines/{line}/live"),
    ("POST", "/api/v1/projects/{project}/report"),
]
OPEN = {
    "/sign-in",
    "/log/checkpoint",
    "/api/v1/enrolments",
    "/api/v1/openapi.json",
    "/static/plotly.min.js",
    "/sign-out",
}


def ask(address: str, token: str | None, method: str, path: str, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # Without TLS there is nothing to verify, and making a trust store for each request takes most of its time.
    return httpx.request(method, address + path, headers=headers | more.pop("headers", {}), verify=False, **more)


def expected(role: str, method: str, path: str, inside: bool) -> int:
    if method == "POST" and role == "committee":
        return 403
    if path.endswith("/live") and role in AUDITORS:
        return 403
    return (202 if method == "POST" else 200) if inside else 404


def test_routes_by_roles_and_objects(plant: Plant, address: str) -> None:
    plant.say(live_message("filling"))
    plant.say(live_message("rival"), gateway="gw-99")
    acme = {"line": "filling", "project": "p-acme", "gateway": "gw-07"}
    rival = {"line": "rival", "project": "p-rival", "gateway": "gw-99"}
    nobody = {"line": "nowhere", "project": "nothing", "gateway": "none"}
    for role in ROLES:
        for method, form in OBJECTS:
            for names, insiders in ((acme, ACME), (rival, RIVAL), (nobody, set[str]())):
                path = form.format(**names)
                got = ask(address, plant.tokens[role], method, path).status_code
                assert got == expected(role, method, form, role in insiders), (role, method, path)
    other = ask(address, plant.tokens["manufacturer"], "GET", "/api/v1/lines/rival").json()
    none = ask(address, plant.tokens["manufacturer"], "GET", "/api/v1/lines/nowhere").json()
    assert other == none


def test_strangers_get_401_from_every_route_of_the_api(plant: Plant, address: str) -> None:
    paths = httpx.get(address + "/api/v1/openapi.json").json()["paths"]
    assert len(paths) > 12
    for path, methods in paths.items():
        if path in OPEN or path.startswith("/log/"):
            continue
        url = path.format(line_id="filling", project_id="p-acme", gateway_id="gw-07")
        for method in methods:
            answer = ask(address, None, method.upper(), url + (f"?{SPAN}" if "figures" in url else ""))
            assert answer.status_code == 401, (method, url)
            assert answer.headers["www-authenticate"] == "Bearer"
    for token in (plant.tokens["expired"], "wrong", "x" * 5000, "lt_" + "A" * 43):
        assert ask(address, token, "GET", "/api/v1/lines").status_code == 401
    for header in ("", "Bearer", "Basic b3A6b3A=", plant.tokens["operator"]):
        answer = httpx.get(address + "/api/v1/lines", headers={"Authorization": header}, verify=False)
        assert answer.status_code == 401


def test_lists_hold_only_what_is_in_scope(plant: Plant, address: str) -> None:
    for role in ROLES:
        lines = {line["id"] for line in ask(address, plant.tokens[role], "GET", "/api/v1/lines").json()}
        projects = {p["id"] for p in ask(address, plant.tokens[role], "GET", "/api/v1/projects").json()}
        gateways = {g["id"] for g in ask(address, plant.tokens[role], "GET", "/api/v1/gateways").json()}
        acme, rival = role in ACME, role in RIVAL
        assert lines == ({"filling", "packing"} if acme else set()) | ({"rival"} if rival else set())
        assert projects == ({"p-acme"} if acme else set()) | ({"p-rival"} if rival else set())
        assert gateways == ({"gw-07"} if acme else set()) | ({"gw-99"} if rival else set())


def test_alarms_name_other_peoples_gateways_and_go_to_the_unlimited_only(plant: Plant, address: str) -> None:
    assert ask(address, plant.tokens["operator"], "GET", "/api/v1/status").json()["alarms"]
    assert not ask(address, plant.tokens["manufacturer"], "GET", "/api/v1/status").json()["alarms"]
    assert "gw-99" not in ask(address, plant.tokens["manufacturer"], "GET", "/").text


def test_loopback_lets_in_this_machine_and_no_other_name_or_proxy(local: tuple[Plant, str]) -> None:
    plant, address = local
    assert plant.services.config.server.access is Access.LOOPBACK
    assert httpx.get(address + "/api/v1/me").json()["role"] == "operator"
    for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "203.0.113.9"}, {"Forwarded": "for=203.0.113.9"}):
        assert httpx.get(address + "/api/v1/me", headers=headers).status_code == 401, headers
    report = address + "/api/v1/projects/p-acme/report"
    assert httpx.post(report, headers={"Origin": "https://evil.example"}).status_code == 401
    assert httpx.post(report, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 401
    assert httpx.post(report, headers={"Origin": address}).status_code == 202


def test_token_mode_does_not_let_this_machine_in(address: str) -> None:
    assert httpx.get(address + "/api/v1/me").status_code == 401
    assert httpx.get(address + "/").headers["location"].startswith("/sign-in?next=")


def test_sign_in_sets_a_strict_cookie_and_sign_out_removes_it(plant: Plant, address: str) -> None:
    form = {"token": plant.tokens["manufacturer"]}
    wrong = httpx.post(address + "/sign-in", data={"token": "nonsense"})
    assert wrong.status_code == 401 and "nonsense" not in wrong.text
    answer = httpx.post(address + "/sign-in?next=/lines/filling", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/lines/filling")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    for away in ("https://evil.example", "//evil.example", "/\\evil.example", "/sign-out"):
        answer = httpx.post(address + "/sign-in", params={"next": away}, data=form)
        assert answer.headers["location"] == "/"
    assert httpx.post(address + "/sign-in", data=form, headers={"Origin": "https://evil.example"}).status_code == 403
    with httpx.Client(base_url=address) as client:
        client.post("/sign-in", data=form)
        assert client.get("/lines/filling").status_code == 200
        assert client.get("/lines/rival").status_code == 404
        cross = client.post("/api/v1/projects/p-acme/report", headers={"Origin": "https://evil.example"})
        assert cross.status_code == 401
        assert client.post("/sign-out").status_code == 303
        assert client.get("/lines/filling").status_code == 303


def test_enrolment_passes_on_the_hubs_answer(plant: Plant, address: str) -> None:
    answer = httpx.post(address + "/api/v1/enrolments", json={"token": "once"})
    assert (answer.status_code, answer.json()["state"]) == (201, "pending")
    refused = httpx.post(address + "/api/v1/enrolments", json={"token": "twice"})
    assert refused.status_code == 403 and refused.json()["detail"]["code"] == "token"
    assert httpx.post(address + "/api/v1/enrolments", json=["no object"]).status_code == 422
    with pytest.raises(Refused):
        plant.services.enrol({})


def test_every_answer_carries_the_guarding_headers_and_long_bodies_are_refused(address: str) -> None:
    for path in ("/sign-in", "/log/checkpoint", "/api/v1/me", "/static/look.css", "/nowhere"):
        headers = httpx.get(address + path).headers
        assert "script-src 'self'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"
    assert httpx.post(address + "/api/v1/enrolments", content=b"x" * 100_000).status_code == 413

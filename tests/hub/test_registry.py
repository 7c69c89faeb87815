"""The registry: what may be entered, and API tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.database import migrate, open_database
from hub.registry import ApiToken, Enterprise, Line, Project, Registry, Role, Scheme
from protocols.errors import Refused
from tests.support.hub import fill_registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    engine = open_database(f"sqlite:///{tmp_path / 'hub.sqlite'}")
    migrate(engine)
    yield fill_registry(engine)
    engine.dispose()


def test_the_three_schemes_are_there_with_dated_rules(registry: Registry) -> None:
    assert {s.id: s.secretariat for s in registry.schemes()} == {
        "manufacturing-plus": "Hong Kong Productivity Council",
        "nias": "Innovation and Technology Commission",
        "nifs": "Innovation and Technology Commission",
    }
    nias = registry.scheme("nias")
    assert nias is not None
    cost = {rule["from"]: rule["value"] for rule in nias.rules if rule["rule"] == "min_project_cost"}
    assert cost == {"2023-01-01": 200_000_000, "2025-11-18": 150_000_000}
    registry.seed()
    assert len(registry.schemes()) == 3


def test_entries_are_found_again(registry: Registry) -> None:
    project = registry.project("P-7")
    assert project is not None and registry.projects(scheme_id="manufacturing-plus") == [project]
    assert registry.projects(scheme_id="nifs") == []
    assert [line.id for line in registry.lines(project_id="P-7")] == ["filling", "packing"]
    assert registry.enterprise("acme") == Enterprise("acme", "Acme Foods", "宏味食品")
    registry.add_scheme(Scheme("pilot", "Pilot", "", "", ""))
    assert registry.scheme("pilot") is not None


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (Enterprise("acme", "Again"), "exists"),
        (Enterprise("a/b", "Slash"), "bad-id"),
        (Enterprise("../x", "Path"), "bad-id"),
        (Enterprise("new", ""), "bad-value"),
        (Enterprise("new", "a\nb"), "bad-value"),
        (Project("P-8", "nowhere", "acme", "T"), "not-found"),
        (Project("P-8", "nifs", "nobody", "T"), "not-found"),
        (Project("P-8", "nifs", "acme", "T", approved_grant_hkd=-1), "bad-value"),
        (Line("l", "nobody", None, "L", "UTC"), "not-found"),
        (Line("l", "acme", "P-9", "L", "UTC"), "not-found"),
        (Line("l", "acme", None, "L", "Mars/Olympus"), "bad-value"),
        (Line("l", "other", "P-7", "L", "UTC"), "other-enterprise"),
    ],
    ids=str,
)
def test_refused(registry: Registry, entry: Enterprise | Project | Line, code: str) -> None:
    registry.add_enterprise(Enterprise("other", "Other"))
    with pytest.raises(Refused) as caught:
        match entry:
            case Enterprise():
                registry.add_enterprise(entry)
            case Project():
                registry.add_project(entry)
            case Line():
                registry.add_line(entry)
    assert caught.value.code == code


def test_an_api_token_is_known_by_its_text_until_it_expires(registry: Registry, tmp_path: Path) -> None:
    token = ApiToken("Ms Chan", Role.SECRETARIAT, {"schemes": ["nifs"]}, expires_ms=1_000)
    text = registry.issue_api_token(token)
    assert registry.check_api_token(text, 999) == token
    assert registry.check_api_token(text, 1_000) is None
    assert registry.check_api_token(text + "x", 0) is None
    assert all(text.encode() not in file.read_bytes() for file in tmp_path.glob("hub.sqlite*"))


def test_a_line_has_a_place_that_can_be_told_later(registry: Registry) -> None:
    registry.add_line(Line("capper", "acme", None, "Capper", "UTC", site="Tai Po", area="Hall 2", part_of="filling"))
    assert registry.line("filling") == Line("filling", "acme", "P-7", "Filling", "Asia/Hong_Kong")
    placed = registry.place_line("filling", "Tai Po", "Hall 2")
    assert registry.line("filling") == placed and (placed.site, placed.area) == ("Tai Po", "Hall 2")
    assert registry.place_line("filling", area="").site == "Tai Po"
    assert registry.place_line("capper", part_of="").part_of is None


@pytest.mark.parametrize(
    ("line_id", "told", "code"),
    [
        ("nobody", {"site": "Tai Po"}, "not-found"),
        ("filling", {"area": "Hall 2"}, "bad-value"),
        ("filling", {"site": "Tai\nPo"}, "bad-value"),
        ("filling", {"site": "x" * 201}, "bad-value"),
        ("filling", {"part_of": "filling"}, "bad-value"),
        ("filling", {"part_of": "nobody"}, "not-found"),
        ("filling", {"part_of": "alien"}, "other-enterprise"),
        ("packing", {"part_of": "capper"}, "bad-value"),  # a machine has no machines
        ("filling", {"part_of": "packing"}, "bad-value"),  # a line of machines is no machine
    ],
)
def test_a_place_that_cannot_be_is_refused(registry: Registry, line_id: str, told: dict[str, str], code: str) -> None:
    registry.add_enterprise(Enterprise("zeta", "Zeta"))
    registry.add_line(Line("alien", "zeta", None, "Alien", "UTC"))
    registry.add_line(Line("capper", "acme", None, "Capper", "UTC", part_of="filling"))
    with pytest.raises(Refused) as caught:
        registry.place_line(line_id, **told)
    assert caught.value.code == code

"""`browse` at the simulator's OPC UA server: printed, and walked by the keyboard."""

from __future__ import annotations

import asyncio
import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.commissioning.browse_command import print_tree
from agent.commissioning.peers import Unreachable, opcua_peer, opcua_source
from agent.commissioning.toml_edit import put_tags, with_tags
from agent.commissioning.tree import Space
from agent.config import load
from agent.config_opcua import OpcuaTag
from protocols.errors import ConfigurationError
from protocols.plc.roles import SignalRole
from tests.agent import factory
from tests.agent.commissioning.support import Served, Terminal, serving
from tests.agent.opcua.support import Plc


def test_the_tree_is_printed_with_values(plant: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["browse", plant.endpoint, "--plain"]) == 0
    shown = capsys.readouterr().out
    assert "└── filling\n    ├── Status\n    │   ├── StateCurrent = " in shown
    assert "OrderActive = " in shown
    assert "8 variables" in shown


def test_what_fits_is_found(plant: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["browse", plant.endpoint, "--find", "REJECT"]) == 1
    assert main(["browse", plant.endpoint, "--find", "acccount"]) == 0
    assert '{ path = "filling/Admin/ProdProcessedCount/AccCount", namespace = "urn:linetally:simulator" }' in (
        capsys.readouterr().out
    )
    assert main(["browse", plant.endpoint, "--json", "--below", "filling/Status"]) == 0
    assert [each["path"] for each in json.loads(capsys.readouterr().out)] == [
        "filling/Status/StateCurrent", "filling/Status/UnitModeCurrent", "filling/Status/CurMachSpeed",
    ]  # fmt: skip


def test_a_wrong_name_says_which_there_are(plant: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["browse", plant.endpoint, "--below", "filling/Statuss"]) == 2
    assert "there: Status, Admin" in capsys.readouterr().err
    assert main(["browse", "opc.tcp://127.0.0.1:1"]) == 1
    assert "is the PLC on?" in capsys.readouterr().err


def test_a_tag_is_picked_into_the_configuration(plant: Served, tmp_path: Path) -> None:
    config = factory.write(tmp_path, factory.opcua(plant.endpoint))
    before = config.read_text()
    config.chmod(0o640)
    pick = ["--pick", "product=filling/Admin/ProductCode", "--pick", "state=filling/Status/UnitModeCurrent"]
    assert main(["browse", "--config", str(config), *pick]) == 0
    tags = {tag.role: tag for tag in load(config).lines[0].tags if isinstance(tag, OpcuaTag)}
    assert tags[SignalRole.PRODUCT].path == ("filling", "Admin", "ProductCode")
    assert tags[SignalRole.STATE].path[-1] == "UnitModeCurrent"
    assert (tmp_path / "agent.toml.bak").read_text() == before
    assert config.stat().st_mode & 0o777 == 0o640
    changed = set(config.read_text().splitlines()) ^ set(before.splitlines())
    assert len(changed) == 3, "the rest of the file stays as it was"


def test_a_file_that_would_be_wrong_is_not_written(
    plant: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = factory.write(tmp_path, factory.opcua(plant.endpoint))
    before = config.read_text()
    assert main(["browse", "--config", str(config), "--pick", "total=filling/Admin/ProductCode"]) == 2
    said = capsys.readouterr()
    assert "has a table of its own" in said.err
    assert "stays as it was" in said.out
    assert 'total = { path = "filling/Admin/ProductCode"' in said.out
    assert main(["browse", "--config", str(config), "--pick", "colour=filling/Admin/ProductCode"]) == 2
    assert config.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.toml"]


def test_only_the_line_that_is_meant_is_changed() -> None:
    text = (
        '[[line]]\nid = "a"\n[line.tags]\ntotal = { register = 1 } # pieces\n\n[[line]]\nid = "b"\n[line.tags]\n'
        "total = { register = 2 }\n"
    )
    assert with_tags(text, 1, {"total": "{ register = 9 }", "order": "{ register = 8 }"}) == text.replace(
        "[line.tags]\ntotal = { register = 2 }", "[line.tags]\norder = { register = 8 }\ntotal = { register = 9 }"
    )
    assert "total = { register = 9 } # pieces" in with_tags(text, 0, {"total": "{ register = 9 }"})
    with pytest.raises(ConfigurationError, match=r"no \[line.tags\]"):
        with_tags('[[line]]\nid = "a"\n', 0, {"total": "{}"})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('name = "x"\r\n[line.tags]\r\ntotal = { register = 1 } # c\r\n',
         'name = "x"\r\n[line.tags]\r\norder = { register = 8 }\r\ntotal = { register = 9 } # c\r\n'),
        ('name = "one\u2028line"\n[line.tags]\ntotal = { register = 1 }',
         'name = "one\u2028line"\n[line.tags]\norder = { register = 8 }\ntotal = { register = 9 }\n'),
        ('[line.tags]\ntotal = { path = "a}#b", namespace = "x" }  # c } # d\n',
         '[line.tags]\norder = { register = 8 }\ntotal = { register = 9 }  # c } # d\n'),
        ('[line.tags]\ntotal = [{ path = "a} #b" }]\n',
         '[line.tags]\norder = { register = 8 }\ntotal = { register = 9 }\n'),
    ],
)  # fmt: skip
def test_the_rest_stays_to_the_byte(before: str, after: str) -> None:
    head = '[[line]]\nid = "a"\n'
    tags = {"total": "{ register = 9 }", "order": "{ register = 8 }"}
    assert with_tags(head + before, 0, tags) == head + after


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[line.tags]\ntotal = [\n  { register = 1 },\n]\n", "goes over several lines"),
        ("tags = { total = { register = 1 } }\n", r"outside of \[line.tags\]"),
        ("tags.total = { register = 1 }\n", r"outside of \[line.tags\]"),
    ],
)
def test_tags_in_another_form_are_not_touched(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        with_tags(f'[[line]]\nid = "a"\n{text}', 0, {"total": "{ register = 9 }"})


def test_the_one_before_is_kept_first(tmp_path: Path) -> None:
    """Where there is no room for it, or no right, the file stays as it was."""
    config = factory.write(tmp_path, factory.modbus())
    before = config.read_bytes()
    (tmp_path / "agent.toml.bak").symlink_to("agent.toml.bak")  # nothing can be written there
    with pytest.raises(ConfigurationError, match="cannot be written"):
        put_tags(config, None, {"order": "{ register = 8 }"})
    assert config.read_bytes() == before
    (tmp_path / "agent.toml.bak").unlink()
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "agent.toml"
    link.symlink_to(config)
    assert put_tags(link, None, {"order": "{ register = 8 }"}).read_bytes() == before
    assert link.is_symlink() and b"order = { register = 8 }" in config.read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_root_changes_stays_the_agents(tmp_path: Path) -> None:
    config = factory.write(tmp_path, factory.modbus())
    os.chown(config, 0, 65_534)
    config.chmod(0o640)
    put_tags(config, None, {"order": "{ register = 8 }"})
    assert (config.stat().st_gid, config.stat().st_mode & 0o777) == (65_534, 0o640)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_certificate_that_root_makes_is_the_agents(tmp_path: Path) -> None:
    """`sudo linetally-agent init` and `doctor` connect too, and may be the first."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 65_534, 65_534)

    async def connect() -> None:
        async with opcua_peer(opcua_source("opc.tcp://127.0.0.1:1", "Basic256Sha256"), state, "GW-01"):
            raise AssertionError("nobody is there")

    with pytest.raises(Unreachable):
        asyncio.run(connect())
    made = list(state.rglob("*"))
    assert {path.name for path in made} >= {"own.key", "own.der"}
    assert {path.stat().st_uid for path in made} == {65_534}


def test_the_keyboard(plant: Served, tmp_path: Path) -> None:
    config = factory.write(tmp_path, factory.opcua(plant.endpoint))
    with Terminal("browse", "--config", str(config), folder=tmp_path) as person:
        person.see("▸ filling")
        person.type("\x1b[C")
        person.see("▸ Admin")
        person.type("\x1b[B\x1b[B\x1b[C")
        person.see("ProductCode")
        person.type("r")
        person.see("only a variable can have a role")
        person.type("\x1b[B\x1b[B\x1b[Br")
        person.see("which role?")
        person.type("\r")
        person.see("product = ProductCode")
        person.type("w")
        person.see("wrote product into")
        assert person.end() == 0
    assert SignalRole.PRODUCT in {tag.role for tag in load(config).lines[0].tags}


def test_what_was_picked_is_not_lost_with_the_connection(tmp_path: Path) -> None:
    with serving() as own, Terminal("browse", own.endpoint, folder=tmp_path) as person:
        person.see("▸ filling")
        person.type("\x1b[C\x1b[B\x1b[B\x1b[C")
        person.see("ProductCode")
        person.type("\x1b[B\x1b[B\x1b[Br")
        person.see("which role?")
        person.type("\r")
        person.see("product = ProductCode")
        own.stop()
        person.see("the connection broke; what was picked so far")
        person.see('product = { path = "filling/Admin/ProductCode"')
        assert person.end() == 1


def test_a_strangers_names_do_not_reach_the_terminal_as_commands(
    free_port: Callable[[], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name and a text with escape sequences are shown without them, and still lead to the node."""
    name = "State\x1b[2J\x9b1m"

    async def scenario() -> Space:
        plc = Plc(free_port())
        await plc.start("State", name)
        try:
            await plc.add("Text", "all\x1b]0;well\x07")
            async with opcua_peer(opcua_source(plc.endpoint), tmp_path, "GW-01") as client:
                space = await Space.of(client)
                await space.walk(5)
                return space
        finally:
            await plc.stop()

    space = asyncio.run(scenario())
    print_tree(space, space.root, "it")
    shown = capsys.readouterr().out
    assert "State[2J1m = 0" in shown
    assert '"all]0;well"' in shown
    assert not {"\x1b", "\x9b", "\x07"} & set(shown)
    (node,) = [each for each in space.all() if each.name == "State[2J1m"]
    assert tomllib.loads(f"tag = {space.tag(node)}")["tag"]["path"] == f"line/{name}"


def test_leaving_writes_nothing(plant: Served, tmp_path: Path) -> None:
    with Terminal("browse", plant.endpoint, folder=tmp_path) as person:
        person.see("▸ filling")
        person.type("q")
        assert person.end() == 0
    assert list(tmp_path.iterdir()) == []

"""Each template is a whole configuration, and measures what it says it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from asyncua import Server, ua

from agent.__main__ import main
from agent.commissioning.templates_command import FOLDER, TEMPLATES, text
from agent.config import load
from agent.config_line import LineSettings
from agent.config_modbus import ModbusTag
from agent.config_opcua import OpcuaTag
from agent.sources.modbus_values import value
from protocols.measurement.machine import PiecesOnly, RunningBit, StateValues
from protocols.plc.packml import State
from protocols.plc.roles import SignalRole
from tests.agent.opcua.support import reading

STATE, TOTAL = SignalRole.STATE, SignalRole.TOTAL
MACHINERY = "http://opcfoundation.org/UA/Machinery/"
MACHINE_TOOL = "http://opcfoundation.org/UA/MachineTool/"
DI = "http://opcfoundation.org/UA/DI/"
MAKER = "urn:maker:machine"


def line(name: str, folder: Path) -> LineSettings:
    path = folder / "agent.toml"
    path.write_text(text(name), "utf-8")
    return load(path).lines[0]


def test_all_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(TEMPLATES)
    assert main(["templates"]) == 0
    listed = capsys.readouterr().out
    for name in TEMPLATES:
        assert name in listed
        assert main(["templates", name]) == 0
        assert capsys.readouterr().out == text(name)
    assert main(["templates", "s7"]) == 2
    assert "one of: packml-opcua" in capsys.readouterr().err


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_is_taken_as_it_is(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line(name, tmp_path)
    assert main(["check", "--config", str(tmp_path / "agent.toml")]) == 0
    assert "Change: the gateway" in text(name)


class Machine:
    """An OPC UA server with the nodes of a companion specification: paths of (namespace's URI, name)."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"opc.tcp://127.0.0.1:{port}"
        self._server = Server()
        self._folders: dict[tuple[tuple[str, str], ...], ua.NodeId] = {}

    async def start(self, *variables: tuple[tuple[tuple[str, str], ...], ua.Variant]) -> list[ua.NodeId]:
        await self._server.init()
        self._server.set_endpoint(self.endpoint)
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        for spare in ("urn:spare", DI, MACHINERY, MACHINE_TOOL, MAKER):
            await self._server.register_namespace(spare)
        own = await self._server.get_namespace_index(MAKER)
        out = []
        for path, variant in variables:
            above = self._server.nodes.objects
            for depth in range(1, len(path)):
                if path[:depth] not in self._folders:
                    index = await self._index(path[depth - 1][0])
                    found = await above.add_object(own, path[depth - 1][1])
                    await found.write_attribute(
                        ua.AttributeIds.BrowseName,
                        ua.DataValue(ua.Variant(ua.QualifiedName(path[depth - 1][1], index))),
                    )
                    self._folders[path[:depth]] = found.nodeid
                above = self._server.get_node(self._folders[path[:depth]])
            index = await self._index(path[-1][0])
            node = await above.add_variable(own, path[-1][1], variant)
            name = ua.DataValue(ua.Variant(ua.QualifiedName(path[-1][1], index)))
            await node.write_attribute(ua.AttributeIds.BrowseName, name)
            out.append(node.nodeid)
        await self._server.start()
        return out

    async def say(self, node: ua.NodeId, variant: ua.Variant) -> None:
        await self._server.write_attribute_value(node, ua.DataValue(variant))

    async def stop(self) -> None:
        await self._server.stop()

    async def _index(self, uri: str) -> int:
        return 0 if not uri else await self._server.get_namespace_index(uri)


def localized(words: str) -> ua.Variant:
    return ua.Variant(ua.LocalizedText(words, "en"))


async def states_read(
    folder: Path, port: int, name: str, paths: list[tuple[tuple[str, str], ...]], words: dict[str, State]
) -> None:
    settings = line(name, folder)
    mapping = settings.configuration.mapping
    assert isinstance(mapping, StateValues)
    means = dict(mapping.values)
    machine = Machine(port)
    first = next(iter(words))
    nodes = await machine.start((paths[0], localized(first)), (paths[1], ua.Variant(41, ua.VariantType.UInt32)))
    try:
        tags = [tag for tag in settings.tags if isinstance(tag, OpcuaTag)]
        async with reading(folder, machine.endpoint, tags) as seen:
            await seen.until(lambda: seen.newest(TOTAL) == 41 and seen.newest(STATE) is not None)
            for word, state in words.items():
                await machine.say(nodes[0], localized(word))
                await seen.until(lambda state=state: means.get(seen.newest(STATE) or 0) is state)  # type: ignore[misc]
    finally:
        await machine.stop()


def test_opcua_for_machinery(tmp_path: Path, free_port: Callable[[], int]) -> None:
    block = ((MACHINERY, "Machines"), (MAKER, "Machine1"), (MACHINERY, "MachineryBuildingBlocks"))
    state = (*block, (MACHINERY, "MachineryItemState"), ("", "CurrentState"))
    total = (*block, (DI, "OperationCounters"), (MACHINERY, "OperationCycleCounter"))
    words = {"OutOfService": State.STOPPED, "NotExecuting": State.IDLE, "Executing": State.EXECUTE,
             "NotAvailable": State.UNDEFINED}  # fmt: skip
    asyncio.run(states_read(tmp_path, free_port(), "machinery-40001", [state, total], words))


def test_opcua_for_machine_tools(tmp_path: Path, free_port: Callable[[], int]) -> None:
    tool = ((MACHINERY, "Machines"), (MAKER, "MachineTool1"))
    state = (*tool, (MACHINE_TOOL, "Production"), (MACHINE_TOOL, "ActiveProgram"), (MACHINE_TOOL, "State"),
             ("", "CurrentState"))  # fmt: skip
    total = ((MAKER, "MachineTool1"), (MAKER, "PartCounter"))
    words = {"Initializing": State.STARTING, "Running": State.EXECUTE, "Interrupted": State.HELD,
             "Aborted": State.ABORTED, "Ended": State.COMPLETE}  # fmt: skip
    asyncio.run(states_read(tmp_path, free_port(), "machinetool-40501", [state, total], words))


def test_a_plain_counter(tmp_path: Path) -> None:
    settings = line("counter-modbus", tmp_path)
    assert settings.configuration.mapping == PiecesOnly(3, 0, False)
    (tag,) = settings.tags
    assert isinstance(tag, ModbusTag)
    assert value(tag, [0x0012, 0x6291]) == 0x00126291


def test_a_running_bit_and_a_fault_word(tmp_path: Path) -> None:
    settings = line("running-bit-modbus", tmp_path)
    assert settings.configuration.mapping == RunningBit(0x00FF, False)
    tags = {tag.role: tag for tag in settings.tags if isinstance(tag, ModbusTag)}
    assert tags[SignalRole.RUNNING].table == "discrete"
    assert value(tags[SignalRole.FAULT], [0x0100]) == 0x0100  # a message only: not in the mask

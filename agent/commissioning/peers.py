"""PLCs, asked a few times while somebody sets a gateway up.

Decides how a person's words become a connection, and that it ends. The connections are those of `agent.sources`, which
can only read; nothing here measures.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

from agent.certificates import FOLDER, load_or_make_identity
from agent.config_modbus import ModbusLink
from agent.config_opcua import OpcuaSource, endpoint_of
from agent.sources.modbus_frames import NoAnswer, Refusal
from agent.sources.modbus_wire import LinkFailed, Wire
from agent.sources.opcua_client import LINK_ERRORS, ReadOnlyClient, asked
from agent.sources.opcua_security import NotSecure, secured_client
from agent.sources.opcua_words import link_words
from agent.trust import TrustStore, Untrusted
from protocols.errors import ConfigurationError, LinetallyError

TIMEOUT_S: Final = 3.0
CONNECT_S: Final = 20.0


class Unreachable(LinetallyError):
    """The PLC did not answer as it should; the words say why and what to look at."""


def modbus_link(place: str, *, rtu: bool = False, baud_rate: int = 19_200, parity: str = "even") -> ModbusLink:
    """Of `HOST`, `HOST:PORT`, `[::1]:502` or a serial device such as /dev/ttyUSB0. Raises ConfigurationError."""
    if place.startswith("/dev/"):
        return ModbusLink("serial", device=place, baud_rate=baud_rate, parity=parity)
    host, port = _host_port(place, 502)
    return ModbusLink("rtu-over-tcp" if rtu else "tcp", host, port)


def _host_port(place: str, default: int) -> tuple[str, int]:
    mend = "write: 192.168.0.11, 192.168.0.11:502, or a serial device such as /dev/ttyUSB0"
    host, port = place, str(default)
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else port
    elif place.count(":") == 1:
        host, _, port = place.partition(":")
    if not host or "/" in host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise ConfigurationError(f'"{place}" is no address of a Modbus device', mend=mend)
    return host, int(port)


class ModbusPeer:
    """One connection to a Modbus device: an async context."""

    def __init__(self, link: ModbusLink, device_id: int = 1, timeout_s: float = TIMEOUT_S) -> None:
        self.link = link
        self.device_id = device_id
        self._timeout_s = timeout_s
        self._wire: Wire | None = None

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._wire is not None:
            self._wire.close()

    async def read(self, table: str, register: int, count: int) -> list[int]:
        """Registers, or bits as 0 and 1. Raises Refusal where the device refuses them, else Unreachable."""
        if self._wire is None or self._wire.failed is not None:
            await self._open()
        assert self._wire is not None
        try:
            return await self._wire.ask(self.device_id, table, register, count, self._timeout_s)
        except NoAnswer as error:
            self._wire.close()
            self._wire = None
            mend = "" if ";" in str(error) else f"; is its device id (unit, slave) {self.device_id}?"
            raise Unreachable(f"{self.link.words} is there, but: {error}{mend}") from error

    async def read_most(self, table: str, register: int, most: int) -> list[int]:
        """As many as there are from `register` on, up to `most`. Raises as `read`."""
        for count in range(min(most, 65_536 - register), 1, -1):
            try:
                return await self.read(table, register, count)
            except Refusal:
                continue
        return await self.read(table, register, 1)

    async def _open(self) -> None:
        try:
            wire = Wire(self.link, self._timeout_s)
            try:
                await wire.open()
            except BaseException:
                wire.close()
                raise
        except LinkFailed as error:
            raise Unreachable(f"{self.link.words} cannot be reached: {error}") from error
        self._wire = wire


@asynccontextmanager
async def opcua_peer(source: OpcuaSource, state_folder: Path, gateway_id: str) -> AsyncIterator[ReadOnlyClient]:
    """A session as `source` says, nothing less. Raises Unreachable, also where the session breaks meanwhile."""
    client: ReadOnlyClient | None = None
    try:
        async with asyncio.timeout(CONNECT_S):
            identity = None if source.policy == "None" else load_or_make_identity(state_folder, gateway_id)
            client = await secured_client(source, identity, TrustStore(state_folder))
            await asked(client.connect())
        yield client
    except LINK_ERRORS as error:
        raise Unreachable(f"{source.endpoint}: {link_words(error)}") from error
    except (NotSecure, Untrusted) as error:
        raise Unreachable(f"{source.endpoint}: {error}") from error
    finally:
        if client is not None:
            await client.end()
        _hand_over(state_folder)


def _hand_over(state_folder: Path) -> None:
    """Keys and certificates that root made or trusted here go to whom the folder belongs: the agent is not root."""
    if os.geteuid() != 0 or not state_folder.is_dir():
        return
    owner = state_folder.stat()
    below = state_folder / FOLDER
    for path in [below, *below.rglob("*")] if owner.st_uid and below.is_dir() else []:
        if path.lstat().st_uid == 0:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def opcua_source(endpoint: str, policy: str = "None", mode: str = "None", **settings: Any) -> OpcuaSource:
    """Of an address that a person gave. Raises ConfigurationError."""
    address = endpoint_of(endpoint)
    if address is None:
        mend = "write: opc.tcp://192.168.0.10:4840 (the address that the server's maker gives as its endpoint)"
        raise ConfigurationError(f'"{endpoint}" is no address of an OPC UA server', mend=mend)
    if policy != "None" and mode == "None":
        mode = "SignAndEncrypt"
    return OpcuaSource(address, 500, 250, 10_000, settings.pop("username", None),
                       settings.pop("password_file", None), policy, mode, **settings)  # fmt: skip

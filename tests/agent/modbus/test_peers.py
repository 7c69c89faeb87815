"""The reader against servers that we did not write: libmodbus, npm modbus-serial, pymodbus. Nobody gets a write."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pymodbus.server import ModbusTlsServer, ModbusUdpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.config_modbus import ModbusLink
from tests.agent.modbus.rig import reading, require_right, serial, tag, tcp
from tests.support import modbus

TAGS = tuple(
    tag(column, register, table)
    for column, (register, table) in enumerate(
        [(0, "holding"), (1, "holding"), (127, "holding"), (300, "holding"), (7, "input"), (511, "input"),
         (0, "coil"), (5, "coil"), (1899, "coil"), (3, "discrete"), (64, "discrete")]
    )
)  # fmt: skip
READS = 7
"""Holding 0-1, 127, 300; input 7, 511; coils 0-1899; discrete 3-64."""


@pytest.mark.needs("gcc")
def test_libmodbus_over_tcp(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario(port: int) -> None:
        async with reading(tcp(port), TAGS) as line:
            await line.polls(20)
        assert line.events == [f"connected to 127.0.0.1:{port} device 1, 11 of 11 tags in {READS} reads"]
        assert require_right(line, TAGS) >= 20 * len(TAGS)

    port = free_port()
    with modbus.libmodbus(tmp_path, "tcp", port, 1) as peer:
        asyncio.run(scenario(port))
        peer.end()
        assert set(peer.functions) == {1, 2, 3, 4}


@pytest.mark.needs("gcc")
def test_libmodbus_over_a_serial_line(tmp_path: Path) -> None:
    async def scenario() -> dict[int, int]:
        with modbus.Line() as line:
            peer = await asyncio.to_thread(stack.enter_context, modbus.libmodbus(tmp_path, "rtu", line.device, 17))
            tags = [tag(one.column, one.register, one.table, device=17) for one in TAGS]
            async with reading(serial(line.reader), tags) as found:
                await found.polls(10)
            assert require_right(found, tags) >= 10 * len(tags)
            await asyncio.to_thread(peer.end)
            return peer.functions

    with ExitStack() as stack:
        assert set(asyncio.run(scenario())) == {1, 2, 3, 4}


@pytest.mark.needs("gcc")
def test_an_adapter_that_hears_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        with modbus.Line(echo=True) as line:
            peer = await asyncio.to_thread(stack.enter_context, modbus.libmodbus(tmp_path, "rtu", line.device, 1))
            async with reading(serial(line.reader), TAGS) as found:
                await found.said()
            assert "write: local_echo = true" in found.events[0]
            assert found.values == []
            async with reading(replace(serial(line.reader), local_echo=True), TAGS) as found:
                await found.polls(5)
            assert require_right(found, TAGS) >= 5 * len(TAGS)
            await asyncio.to_thread(peer.end)

    with ExitStack() as stack:
        asyncio.run(scenario())


@pytest.mark.needs("gcc")
def test_libmodbus_behind_a_gateway_from_tcp_to_serial(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        with modbus.Line() as line:
            async with modbus.serial_gateway(port, line.reader):
                peer = await asyncio.to_thread(stack.enter_context, modbus.libmodbus(tmp_path, "rtu", line.device, 1))
                async with reading(tcp(port, "rtu-over-tcp"), TAGS) as found:
                    await found.polls(10)
                assert require_right(found, TAGS) >= 10 * len(TAGS)
                await asyncio.to_thread(peer.end)

    with ExitStack() as stack:
        asyncio.run(scenario())


@pytest.mark.needs("node")
def test_modbus_serial_from_npm(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario(port: int) -> None:
        async with reading(tcp(port), TAGS) as line:
            await line.polls(20)
        assert require_right(line, TAGS) >= 20 * len(TAGS)

    port = free_port()
    with modbus.modbus_serial(tmp_path, port) as peer:
        asyncio.run(scenario(port))
        peer.end()
        assert set(peer.functions) == {1, 2, 3, 4}
        assert set(peer.devices) == {1}


REGISTERS = SimDevice(id=1, simdata=[SimData(0, values=[128 * at for at in range(8)], datatype=DataType.REGISTERS)])


def test_udp(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        server = ModbusUdpServer([REGISTERS], address=("127.0.0.1", port))
        async with reading(tcp(port, "udp"), [tag(0, 3)]) as line:
            await line.until(lambda: any("is the PLC on?" in event for event in line.events))
            await server.serve_forever(background=True)
            try:
                await line.polls(3)
            finally:
                await server.shutdown()
            assert line.newest(0) == 3 * 128

    asyncio.run(scenario())


@asynccontextmanager
async def tls_server(folder: Path, port: int) -> AsyncIterator[None]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "plc.pem", folder / "plc.key")
    context.verify_mode = ssl.CERT_REQUIRED
    server = ModbusTlsServer([REGISTERS], address=("127.0.0.1", port), sslctx=context)
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()


def test_tls_checks_the_plc_and_shows_who_the_gateway_is(tmp_path: Path, free_port: Callable[[], int]) -> None:
    certificates(tmp_path)

    async def scenario() -> None:
        port = free_port()
        own = {"certificate_file": tmp_path / "gateway.pem", "key_file": tmp_path / "gateway.key"}

        def link(ca: str) -> ModbusLink:
            return ModbusLink("tls", "127.0.0.1", port, ca_file=tmp_path / ca, **own)

        async with tls_server(tmp_path, port):
            async with reading(link("ca.pem"), [tag(0, 3)]) as line:
                await line.polls(3)
            assert line.newest(0) == 3 * 128
            for ca, words in (
                ("other.pem", "certificate is not trusted"),
                ("none.pem", "none.pem: No such file or directory"),
                ("gateway.key", "gateway.key: it holds no certificate"),
            ):
                async with reading(link(ca), [tag(0, 3)]) as refused:
                    await refused.said()
                assert words in refused.events[0]
                assert refused.values == []
        # A key with a password: asked for at the terminal, it would hold up everything.
        key = serialization.load_pem_private_key((tmp_path / "gateway.key").read_bytes(), None)
        locked = serialization.BestAvailableEncryption(b"secret")
        (tmp_path / "gateway.key").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
        )
        async with reading(link("ca.pem"), [tag(0, 3)]) as refused:
            await refused.said()
        assert "key_file: damaged, with a password, or not made for each other" in refused.events[0]

    asyncio.run(scenario())


def certificates(folder: Path) -> None:
    """A CA, one that nobody trusts, and what the first signed for the PLC at 127.0.0.1 and for the gateway."""
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)

    def write(
        name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = issuer[1] if issuer else key
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0].subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        made = builder.sign(signer, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.key").write_bytes(private)
        return made, key

    ca = write("ca", None)
    write("other", None)
    write("plc", ca)
    write("gateway", ca)

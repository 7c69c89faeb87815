"""Modbus in the configuration: what is read, and how each mistake is said."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from agent.config import load
from agent.config_modbus import ModbusLink, ModbusSource, ModbusTag
from protocols.errors import ConfigurationError
from protocols.plc.roles import SignalRole
from tests.agent import factory

SOURCE = 'host = "127.0.0.1"\nport = 502\n'
TOTAL = "total = { register = 1 }"


def changed(folder: Path, *changes: tuple[str, str]) -> Path:
    text = factory.modbus()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return factory.write(folder, text)


def tag(folder: Path, words: str, name: str = "total") -> ModbusTag:
    if name == "total":
        found = load(changed(folder, (TOTAL, f"total = {{ register = 1, {words} }}"))).lines[0]
    else:
        found = load(changed(folder, (TOTAL, f"{TOTAL}\n{name} = {{ register = 9, {words} }}"))).lines[0]
    wanted = next(one for one in found.tags if one.role is SignalRole[name.upper()])
    assert isinstance(wanted, ModbusTag)
    return wanted


@pytest.mark.parametrize(
    ("words", "link"),
    [
        (SOURCE, ModbusLink("tcp", "127.0.0.1", 502)),
        ('transport = "udp"\nhost = "plc"\n', ModbusLink("udp", "plc", 502)),
        ('host = "fe80::1%eth0"\n', ModbusLink("tcp", "fe80::1%eth0", 502)),
        ('host = "bücher.example."\n', ModbusLink("tcp", "bücher.example.", 502)),
        ('transport = "rtu-over-tcp"\nhost = "gw"\nport = 4001\n', ModbusLink("rtu-over-tcp", "gw", 4001)),
        (
            'transport = "serial"\ndevice = "/dev/ttyUSB0"\n',
            ModbusLink("serial", device="/dev/ttyUSB0", baud_rate=19_200, parity="even"),
        ),
        (
            'transport = "serial"\ndevice = "/dev/ttyS1"\nbaud_rate = 9600\nparity = "none"\nstop_bits = 2\n',
            ModbusLink("serial", device="/dev/ttyS1", baud_rate=9600, parity="none", stop_bits=2),
        ),
    ],
)
def test_every_link_is_read(tmp_path: Path, words: str, link: ModbusLink) -> None:
    source = load(changed(tmp_path, (SOURCE, words))).lines[0].source
    assert isinstance(source, ModbusSource)
    assert source.link == link


def test_tls_files_lie_beside_the_configuration(tmp_path: Path) -> None:
    words = 'transport = "tls"\nhost = "plc"\n'
    tls = '[line.source.tls]\nca_file = "ca.pem"\ncertificate_file = "own.pem"\nkey_file = "own.key"\n\n[line.tags]'
    source = load(changed(tmp_path, (SOURCE, words), ("[line.tags]", tls))).lines[0].source
    assert isinstance(source, ModbusSource)
    assert source.link.port == 802
    assert source.link.ca_file == tmp_path / "ca.pem"
    assert source.link.key_file == tmp_path / "own.key"


@pytest.mark.parametrize(
    ("words", "modulus"),
    [
        ('type = "uint16"', 65_536),
        ('type = "uint32"', 2**32),
        ('type = "uint64"', 0),
        ('type = "int32"', 0),
        ('type = "float32"', 0),
        ('type = "bcd16"', 10_000),
        ('type = "bcd32"', 10**8),
        ("bcd = true", 10_000),
        ("mask = 0x0FFF", 4096),
        ("mask = 0xFFF0", 4096),
        ("mask = 0xFF0F", 0),
        ("scale = 10", 655_360),
        ('type = "uint32", scale = "1000", modulus = 5000', 5000),
    ],
)
def test_where_a_counter_rolls_over_comes_from_its_type(tmp_path: Path, words: str, modulus: int) -> None:
    assert tag(tmp_path, words).modulus == modulus


def test_what_decides_a_number_is_in_the_signed_configuration(tmp_path: Path) -> None:
    words = 'type = "uint32", table = "input", word_order = "little", byte_order = "little", mask = 0xFF00, scale = 3'
    found = tag(tmp_path, words)
    assert found.words == "input 1 uint32, low word first, low byte first, & 0xff00 >> 8, x 3"
    assert found.scale == Fraction(3)
    assert "low word first" in str(load(tmp_path / "agent.toml").lines[0].configuration.to_data())
    assert tag(tmp_path, 'type = "string", length = 8', "product").words == "holding 9 string, of 8 registers"


def test_a_bit_of_a_register_and_a_tag_of_another_device(tmp_path: Path) -> None:
    found = tag(tmp_path, "bit = 15, device_id = 7", "order")
    assert (found.mask, found.shift, found.device_id) == (0x8000, 15, 7)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (SOURCE, 'transport = "tpc"\nhost = "plc"\n', 'did you mean "tcp"?'),
        (SOURCE, 'transport = "serial"\nhost = "plc"\n', "device: is missing"),
        (SOURCE, 'transport = "serial"\ndevice = "COM3"\n', "write its path"),
        (SOURCE, 'transport = "serial"\ndevice = "loop://"\n', "write its path"),
        (SOURCE, 'host = "192.168.0.11:502"\n', "the port has its own key"),
        (SOURCE, 'host = "plc..local"\n', '"plc..local" cannot be used'),
        (SOURCE, 'host = "http://plc"\n', "write a name or an address alone"),
        (SOURCE, 'host = "plc 7"\n', "write a name or an address alone"),
        (SOURCE, 'transport = "serial"\ndevice = "/dev/ttyUSB0"\nport = 502\n', "port: unknown key"),
        (SOURCE, 'transport = "tls"\nhost = "plc"\n', "tls: is missing"),
        (SOURCE, SOURCE + "max_registers = 126\n", "out of range"),
        (SOURCE, 'transport = "serial"\ndevice = "/dev/ttyUSB0"\ndevice_id = 248\n', "out of range"),
        (TOTAL, 'total = { register = 65535, type = "uint32" }', "past the last register"),
        (TOTAL, 'total = { register = 1, type = "bit" }', "one bit of a register is: bit = 3"),
        (TOTAL, 'total = { register = 1, table = "coil", type = "uint16" }', "does not come from the table coil"),
        (TOTAL, 'total = { register = 1, type = "string", length = 4 }', "only a product can"),
        (TOTAL, 'total = { register = 1, scale = "0.5" }', "parts of pieces"),
        (TOTAL, "total = { register = 1, scale = 0 }", "out of range"),
        (TOTAL, 'total = { register = 1, type = "int16", mask = 3 }', "only an unsigned type"),
        (TOTAL, "total = { register = 1, shift = 3 }", "mask: is missing"),
        (TOTAL, "total = { register = 1, mask = 0xF0, shift = 5 }", "out of range"),
        (TOTAL, "total = { register = 1, bit = 3, mask = 8 }", "says the same"),
        (TOTAL, "total = { register = 1, bit = 16 }", "out of range"),
        (TOTAL, 'total = { register = 1, type = "float32", bcd = true }', "goes with an unsigned type"),
        (TOTAL, "total = { register = 1, scale = 2, bcd = true }", "goes with an unsigned type"),
        (TOTAL, 'total = { register = 1, word_order = "middle" }', "one of: big, little"),
        (TOTAL, TOTAL + '\nproduct = { register = 5, type = "string" }', "length: is missing"),
    ],
)
def test_a_mistake_is_said_with_its_mend(tmp_path: Path, before: str, after: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as found:
        load(changed(tmp_path, (before, after)))
    assert words in str(found.value)
    assert found.value.mend


def test_a_tag_of_a_serial_line_names_a_device_that_can_be(tmp_path: Path) -> None:
    serial = (SOURCE, 'transport = "serial"\ndevice = "/dev/ttyUSB0"\n')
    with pytest.raises(ConfigurationError, match="between 1 and 247"):
        load(changed(tmp_path, serial, (TOTAL, "total = { register = 1, device_id = 248 }")))


def test_half_of_a_certificate_is_refused(tmp_path: Path) -> None:
    tls = '[line.source.tls]\nca_file = "ca.pem"\nkey_file = "own.key"\n\n[line.tags]'
    with pytest.raises(ConfigurationError, match="half of the gateway's own certificate"):
        load(changed(tmp_path, (SOURCE, 'transport = "tls"\nhost = "plc"\n'), ("[line.tags]", tls)))

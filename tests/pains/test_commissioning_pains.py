"""What people suffer who set a gateway up, and what they get here: the pains 7, 13 and 18."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.__main__ import main
from agent.certificates import load_or_make_identity
from agent.commissioning.doctor import judge_certificate
from agent.commissioning.finding import Level
from agent.config import load
from agent.trust import TrustStore
from tests.agent import factory
from tests.agent.commissioning.support import serving
from tests.agent.opcua.support import trust_server
from tests.support import opcua


def doctor(config: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    main(["doctor", "--config", str(config), "--json"])
    return {each["about"]: each for each in json.loads(capsys.readouterr().out)["findings"]}


def test_row_7_doctor_says_what_is_wrong_with_certificates_and_the_mend(
    tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """A server without the configured security is not spoken to with less, and the words say what to do."""
    with serving(start_ms=round(datetime.now(UTC).timestamp() * 1000)) as plant:
        secured = factory.opcua(plant.endpoint).replace(
            'protocol = "opcua"', 'protocol = "opcua"\nsecurity_policy = "Basic256Sha256"'
        )
        found = doctor(factory.write(tmp_path, secured), capsys)
        assert found["line filling"]["level"] == "fail"
        assert "does not offer Basic256Sha256 SignAndEncrypt, only: None" in found["line filling"]["words"]
        assert "Nothing less" in found["line filling"]["words"]
        unsecured = doctor(factory.write(tmp_path, factory.opcua(plant.endpoint)), capsys)
        assert unsecured["line filling"]["level"] == "ok"
        assert "security_policy" in unsecured["line filling, security"]["mend"]
        assert unsecured["line filling, clock"]["level"] == "ok"
    identity = load_or_make_identity(tmp_path / "own", "GW-01")
    other = judge_certificate("it", identity.certificate, "urn:linetally:gateway:GW-02")
    assert other.level is Level.FAIL
    assert "linetally-agent certificates" in other.mend


@pytest.mark.needs("node")
def test_row_7_an_unknown_server_is_refused_until_somebody_compared_its_fingerprint(
    tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with opcua.node_server(tmp_path, free_port()) as peer:
        line = factory.opcua(peer.endpoint).replace(
            'protocol = "opcua"', 'protocol = "opcua"\nsecurity_policy = "Basic256Sha256"'
        )
        config = factory.write(tmp_path, line)
        words = doctor(config, capsys)["line filling"]["words"]
        assert "is not trusted yet" in words
        assert "--accept" in words
        state = load(config).state_folder
        (rejected,) = TrustStore(state).rejected_folder.glob("*.der")
        TrustStore(state).accept(rejected.name.partition("[")[2][:12])
        assert "is not trusted yet" not in doctor(config, capsys)["line filling"]["words"]


@pytest.mark.needs("node")
def test_row_7_an_expired_certificate_is_said_with_the_mend(
    tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = opcua.make_certificate(tmp_path, key=opcua.server_key(), days=-2, began_days=30)
    with opcua.node_server(tmp_path, free_port(), certificate=str(certificate), key=str(key)) as peer:
        line = factory.opcua(peer.endpoint).replace(
            'protocol = "opcua"', 'protocol = "opcua"\nsecurity_policy = "Basic256Sha256"'
        )
        config = factory.write(tmp_path, line)
        trust_server(load(config).state_folder, certificate)
        found = doctor(config, capsys)["line filling"]
    assert found["level"] == "fail"
    assert "expired" in found["words"]
    assert "renew it on the server" in found["words"]


@contextmanager
def device(port: int, image: Callable[[int], list[int]]) -> Iterator[None]:
    """A Modbus TCP device whose registers are `image(requests so far)`; it knows function 3 only."""
    import socket

    listener = socket.create_server(("127.0.0.1", port))
    listener.settimeout(10)
    count = 0

    def serve() -> None:
        nonlocal count
        try:
            link, _ = listener.accept()
        except OSError:
            return
        with link:
            while len(head := link.recv(12)) == 12:
                assert head[7] == 3, "probe only reads"
                address, wanted = struct.unpack(">HH", head[8:12])
                registers = image(count)[address : address + wanted]
                count += 1
                data = struct.pack(f">{wanted}H", *registers)
                link.sendall(head[:4] + struct.pack(">HBBB", 3 + len(data), head[6], 3, len(data)) + data)

    thread = threading.Thread(target=serve, name="device")
    thread.start()
    try:
        yield
    finally:
        listener.close()
        thread.join(10)


@pytest.mark.parametrize(
    ("order", "keys"),
    [
        ("ABCD", 'type = "uint32"'), ("CDAB", 'type = "uint32", word_order = "little"'),
        ("BADC", 'type = "uint32", byte_order = "little"'),
        ("DCBA", 'type = "uint32", word_order = "little", byte_order = "little"'),
    ],
)  # fmt: skip
def test_row_13_the_order_of_bytes_and_words_is_not_guessed(
    order: str, keys: str, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """A counter of 32 bits in each of the four orders: its reading is marked, with the keys to write."""

    def image(request: int) -> list[int]:
        count = (8_123_456 + 3 * request).to_bytes(4, "big")
        data = bytes(count["ABCD".index(letter)] for letter in order)
        return [*struct.unpack(">2H", data), 0xFFFF, 0xFFFF]

    with device(port := free_port(), image):
        assert main(["probe", f"127.0.0.1:{port}", "0", "--every", "0.1", "--json"]) == 0
    likely = [each for each in json.loads(capsys.readouterr().out)["readings"] if each["verdict"] == "likely"]
    assert keys in [each["keys"] for each in likely]
    assert [each["order"] for each in likely if each["type"] == "uint32"] == [f"{order[:2]} {order[2:]}"]


def test_row_18_browse_select_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From nothing to a configuration that measures, without an editor; a mistake in it has file, line and mend."""
    config = tmp_path / "agent.toml"
    with serving() as plant:
        assert main(["init", "--no-input", "--file", str(config), "--endpoint", plant.endpoint,
                     "--product", "Soy milk=1.2"]) == 0  # fmt: skip
        assert main(["browse", "--config", str(config), "--pick", "mode=filling/Status/UnitModeCurrent"]) == 0
        assert main(["check", "--config", str(config)]) == 0
        assert "mode" in capsys.readouterr().out
        found = doctor(config, capsys)
        assert found["line line1"]["words"].endswith("6 of 6 tags can be measured")
    text = config.read_text().replace("ideal_cycle_s", "ideal_cicle_s")
    config.write_text(text)
    line = next(number for number, each in enumerate(text.splitlines(), 1) if "cicle" in each)
    assert main(["check", "--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert f"agent.toml, line {line}: " in said
    assert "did you mean ideal_cycle_s?" in said

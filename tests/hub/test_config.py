"""The configuration: what is good is read, what is not is refused with file, line and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.config import Access, HubConfig, LiveConfig, load_config, parse_config
from protocols.errors import ConfigurationError

FOLDER = Path("/etc/linetally")
EXAMPLES = [Path("deploy/examples/hub.toml"), Path("deploy/compose/hub.toml")]


def test_an_empty_file_is_the_defaults() -> None:
    config = parse_config("", "hub.toml", FOLDER)
    assert config.data == FOLDER / "data"
    assert config.log.key_file == FOLDER / "data" / "log.key"
    assert config.database_url == "sqlite:////etc/linetally/data/hub.sqlite"
    assert config.server.access is Access.TOKEN
    assert config.influx is None


@pytest.mark.parametrize("path", EXAMPLES, ids=str)
def test_the_examples_are_good(path: Path) -> None:
    assert isinstance(load_config(Path(__file__).parents[2] / path), HubConfig)


def test_everything_is_read() -> None:
    config = parse_config(
        """
        data = "/var/lib/hub"
        name = "HKPC"
        [server]
        host = "0.0.0.0"
        port = 443
        [broker]
        host = "mqtt.example"
        port = 8883
        ca_file = "ca.crt"
        [log]
        origin = "log.example/2026"
        [database]
        url = "postgresql+psycopg://hub@db/hub"
        [ingest]
        batch_records = 10
        [live]
        sparkplug = true
        sparkplug_groups = ["Tai Po"]
        [influx]
        url = "http://influx:8086"
        org = "o"
        bucket = "b"
        token_file = "influx.token"
        """,
        "hub.toml",
        FOLDER,
    )
    assert config.broker.ca_file == FOLDER / "ca.crt"
    assert config.log.key_file == Path("/var/lib/hub/log.key")
    assert config.database_url == "postgresql+psycopg://hub@db/hub"
    assert config.live == LiveConfig(True, ("Tai Po",), False)
    assert config.influx is not None and config.influx.token_file == FOLDER / "influx.token"
    assert config.ingest.batch_records == 10


@pytest.mark.parametrize(
    ("text", "line", "words", "mend"),
    [
        ("dta = 'x'", 1, "dta: this key is not known", "data"),
        ("[server]\nprot = 1", 2, "server.prot: this key is not known", "port"),
        ("[servr]\nport = 1", 1, "servr: this key is not known", "server"),
        ("\n[server]\nhost = 'localhost'\nport = '80'", 4, "must be a whole number, not '80'", ""),
        ("[server]\nport = true", 2, "must be a whole number, not True", ""),
        ("[server]\nport = 0", 2, "0 is out of range", "1 to 65535"),
        ("[server]\naccess = 'open'", 2, "cannot be 'open'", "'token', 'loopback'"),
        ("[server]\nhost = '0.0.0.0'\naccess = 'loopback'", 3, "this machine only", "token"),
        ("[broker]\nhost = 'mqtt'\nembedded = true", 3, "no access control", "mosquitto"),
        ("[broker]\npassword = 'x'", 2, "broker.password: this key is not known", "password_file"),
        ("[log]\norigin = 'https://log.example'", 2, "log.origin", "hub.example.org/linetally"),
        ("[log]\norigin = 'my log'", 2, "log.origin", ""),
        ("[influx]\nurl = 'x'\norg = 'o'\nbucket = 'b'", 1, "influx.token_file: this key is missing", "add token_file"),
        ("server = 1", 1, "server: must be a table", "[server]"),
        ("data = 1", 1, "data: must be a path", ""),
        ("data = ", 1, "not TOML", ""),
    ],
)
def test_refused_with_line_and_mend(text: str, line: int, words: str, mend: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_config(text, "hub.toml", FOLDER)
    assert caught.value.file == "hub.toml"
    assert caught.value.line == line
    assert words in caught.value.what
    assert mend in caught.value.mend


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="linetally-hub init"):
        load_config(tmp_path / "hub.toml")

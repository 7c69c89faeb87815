"""Provisioning a Grafana is idempotent by uid, and each thing that can go wrong is said with its mend."""

from __future__ import annotations

import argparse
import dataclasses
import socket
from collections.abc import Iterator

import pytest

from hub.grafana.dashboards import uids
from hub.grafana.provision import GrafanaTrouble, Influx, add_parser, provision
from protocols.errors import ConfigurationError
from tests.simulators.grafana_api import GrafanaApi

INFLUX = Influx("http://influxdb:8086", "plant", "linetally", "influx-read-token")


@pytest.fixture
def api() -> Iterator[GrafanaApi]:
    with GrafanaApi() as running:
        yield running


def test_makes_folder_data_source_and_dashboard(api: GrafanaApi) -> None:
    done = provision(api.url, api.token, INFLUX, "acme")
    names = uids("acme")
    assert (done.folder, done.data_source, done.dashboard) == ("made", "made", "made")
    assert done.address == f"{api.url}/d/{names.dashboard}/line-acme"
    assert api.folders[names.folder]["title"] == "linetally – acme"
    source = api.sources[names.data_source]
    assert source["secureJsonData"] == {"token": INFLUX.token}
    assert source["jsonData"] == {
        "version": "Flux",
        "organization": "plant",
        "defaultBucket": "linetally",
        "httpMode": "POST",
    }
    assert api.boards[names.dashboard]["meta"]["folderUid"] == names.folder


def test_a_second_run_changes_nothing_but_writes_the_token_again(api: GrafanaApi) -> None:
    provision(api.url, api.token, INFLUX, "acme")
    before = api.writes
    again = provision(api.url, api.token, dataclasses.replace(INFLUX, token="renewed"), "acme")
    assert (again.folder, again.data_source, again.dashboard) == ("unchanged", "changed", "unchanged")
    assert api.writes == before + 1
    assert api.sources[uids("acme").data_source]["secureJsonData"] == {"token": "renewed"}
    assert (len(api.folders), len(api.sources), len(api.boards)) == (1, 1, 1)


def test_what_somebody_changed_by_hand_is_put_right(api: GrafanaApi) -> None:
    provision(api.url, api.token, INFLUX, "acme")
    names = uids("acme")
    api.folders[names.folder]["title"] = "My folder"
    api.boards[names.dashboard]["dashboard"]["panels"].pop()
    done = provision(api.url, api.token, INFLUX, "acme")
    assert (done.folder, done.dashboard) == ("changed", "changed")
    assert provision(api.url, api.token, INFLUX, "acme").dashboard == "unchanged"


def test_enterprises_stand_beside_each_other(api: GrafanaApi) -> None:
    for enterprise in ("acme", "益豐食品", "a" * 80):
        provision(api.url, api.token, INFLUX, enterprise)
    assert len(api.boards) == len(api.sources) == len(api.folders) == 3


def test_a_grafana_under_a_path_is_reached(api: GrafanaApi) -> None:
    api.prefix = "/monitoring"
    done = provision(f"{api.url}/monitoring/", api.token, INFLUX, "acme")
    assert done.address.startswith(f"{api.url}/monitoring/d/")


@pytest.mark.parametrize(
    ("trouble", "words", "mend"),
    [
        ("token", "said 401", "Service accounts"),
        ("role", "said 403", "role Admin"),
        ("cut", "cannot be reached", "Check that it runs"),
        ("path", "said 404", "root"),
        ("old", "is 11.4.0", "needs Grafana 12"),
        ("files", "provisioned dashboard", "not both"),
        ("read-only", "said 403", "provisioning files"),
        ("name", "said 409", "another uid"),
    ],
)
def test_trouble_is_said_with_its_mend(trouble: str, words: str, mend: str, api: GrafanaApi) -> None:
    names = uids("acme")
    token = api.token
    match trouble:
        case "token":
            token = "wrong"
        case "role":
            api.role = "Viewer"
        case "cut":
            api.cut_next = True
        case "path":
            api.prefix = "/elsewhere"
        case "old":
            api.version = "11.4.0"
        case "files":
            api.provisioned.add(names.dashboard)
        case "read-only":
            provision(api.url, token, INFLUX, "acme")
            api.provisioned.add(names.data_source)
        case "name":
            api.sources["theirs"] = {"name": "linetally – acme"}
    with pytest.raises(GrafanaTrouble) as caught:
        provision(api.url, token, INFLUX, "acme")
    assert words in caught.value.words
    assert mend in caught.value.mend
    assert api.token not in str(caught.value)
    assert INFLUX.token not in str(caught.value)


def test_nothing_there_is_said_plainly() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(GrafanaTrouble, match="cannot be reached"):
            provision(url, "t", INFLUX, "acme")


def test_an_impossible_address_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not Grafana's address"):
        provision("grafana:3000", "t", INFLUX, "acme")


def _command(line: list[str]) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(line)
    code: int = args.run(args)
    return code


def test_the_command_takes_tokens_from_the_environment(
    api: GrafanaApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["grafana", "provision", "--url", api.url, "--influx-url", INFLUX.url, "--influx-org", "plant"]
    line += ["--influx-bucket", "linetally", "--enterprise", "acme"]
    monkeypatch.delenv("GRAFANA_TOKEN", raising=False)
    monkeypatch.delenv("INFLUX_READ_TOKEN", raising=False)
    assert _command(line) == 2
    assert "export INFLUX_READ_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("INFLUX_READ_TOKEN", INFLUX.token)
    monkeypatch.setenv("GRAFANA_TOKEN", "wrong")
    assert _command(line) == 1
    assert "Check the token" in capsys.readouterr().err
    monkeypatch.setenv("GRAFANA_TOKEN", api.token)
    assert _command(line) == 0
    assert "dashboard made" in capsys.readouterr().out

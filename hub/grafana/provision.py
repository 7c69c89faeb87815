"""Puts folder, data source and dashboard into a running Grafana, and says plainly why it could not.

Decides the calls, their order and the words of `linetally-hub grafana`. Everything is found by its uid, never by a
numeric id (off by default from Grafana 13), so the command may run again and again: what is right stays as it is.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import requests
from grafana_api.grafana_api import GrafanaClientError, GrafanaException
from grafana_api.grafana_face import GrafanaFace

from hub.grafana.dashboards import line_dashboard, uids
from hub.grafana.files import data_source, export
from protocols.errors import ConfigurationError, LinetallyError

OLDEST_MAJOR: Final = 12  # the first to read schemaVersion 42
TIMEOUT_S: Final = 15.0
# What Grafana keeps beside the model, and what it may add to it: left out when two models are compared.
_GRAFANAS_OWN: Final = ("id", "version")


class GrafanaTrouble(LinetallyError):
    """Grafana could not be reached or said no. `mend` says what a person can do."""

    def __init__(self, words: str, *, mend: str) -> None:
        super().__init__(f"{words}\n  {mend}")
        self.words = words
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Influx:
    """Where Grafana reads. `token` should be one that may only read this bucket."""

    url: str
    org: str
    bucket: str
    token: str


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What was done: "made", "changed" or "unchanged" for each part, and the dashboard's address."""

    folder: str
    data_source: str
    dashboard: str
    address: str


def provision(url: str, token: str, influx: Influx, enterprise: str) -> Provisioned:
    """Makes or mends the folder, the data source and the dashboard of one enterprise.

    `token` is that of a Grafana service account with the role Admin (data sources need it). Idempotent. The data
    source is written each time, because Grafana never shows the token that it holds. Raises GrafanaTrouble.
    """
    names = uids(enterprise)
    title = f"linetally – {enterprise}"
    with _grafana(url, token) as grafana, _in_plain_words(url):
        _check_version(url, grafana.api.GET("/health"))
        folder = _folder(grafana, names.folder, title)
        body = data_source(names.data_source, title, influx.url, influx.org, influx.bucket, influx.token)
        source = _data_source(grafana, names.data_source, body)
        board, path = _dashboard(grafana, line_dashboard(names, enterprise), names.folder)
    return Provisioned(folder, source, board, url.rstrip("/") + path)


@contextmanager
def _grafana(url: str, token: str) -> Iterator[GrafanaFace]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{url!r} is not Grafana's address", mend='write it as "http://grafana.example:3000"')
    prefix = parts.path.strip("/")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    grafana = GrafanaFace(
        auth=token,
        host=host,
        port=parts.port,
        protocol=parts.scheme,
        url_path_prefix=f"{prefix}/" if prefix else "",
        timeout=TIMEOUT_S,
    )
    try:
        yield grafana
    finally:
        grafana.api.s.close()


@contextmanager
def _in_plain_words(url: str) -> Iterator[None]:
    try:
        yield
    except GrafanaException as error:
        code = int(error.status_code)
        mends = {
            401: "Check the token: make one under Administration, Service accounts, with the role Admin.",
            403: "Give the token's service account the role Admin; if the data source came from provisioning files, "
            "change it there.",
            404: "Check the address: it must be Grafana's root, with its path if it has one.",
            409: "Something with this name is there under another uid: rename or delete it in Grafana.",
            412: "Somebody changed it meanwhile, or another has this name: look in Grafana, then run this again.",
        }
        mend = mends.get(code, "Look at Grafana's own log for the reason.")
        if "provisioned" in str(error.message):
            mend = "This dashboard came from provisioning files. Use those or this command, not both."
        raise GrafanaTrouble(f"Grafana at {url} said {code}: {error.message}", mend=mend) from error
    except requests.exceptions.JSONDecodeError as error:
        raise GrafanaTrouble(
            f"{url} answered, but not as Grafana does", mend="Check the address and the port."
        ) from error
    except requests.exceptions.SSLError as error:
        raise GrafanaTrouble(
            f"Grafana's certificate at {url} is not trusted: {error}",
            mend="Set REQUESTS_CA_BUNDLE to the file of the authority that signed it.",
        ) from error
    except requests.exceptions.RequestException as error:
        raise GrafanaTrouble(
            f"Grafana at {url} cannot be reached: {error}", mend="Check that it runs and that the address is right."
        ) from error


def _check_version(url: str, health: Any) -> None:
    version = str(health.get("version", "")) if isinstance(health, dict) else ""
    major = version.partition(".")[0]
    if major.isdigit() and int(major) < OLDEST_MAJOR:
        raise GrafanaTrouble(f"Grafana at {url} is {version}", mend=f"The dashboard needs Grafana {OLDEST_MAJOR}.")


def _get(call: Callable[[], Any]) -> Any | None:
    """What `call` finds, or None when Grafana says that there is no such thing."""
    try:
        return call()
    except GrafanaClientError as error:
        if error.status_code == 404:
            return None
        raise


def _folder(grafana: GrafanaFace, uid: str, title: str) -> str:
    found = _get(lambda: grafana.folder.get_folder(uid))
    if found is None:
        grafana.folder.create_folder(title, uid)
        return "made"
    if found["title"] == title:
        return "unchanged"
    grafana.folder.update_folder(uid, title, version=found["version"])
    return "changed"


def _data_source(grafana: GrafanaFace, uid: str, body: dict[str, Any]) -> str:
    path = f"/datasources/uid/{quote(uid)}"
    if _get(lambda: grafana.api.GET(path)) is None:
        grafana.api.POST("/datasources", json=body)
        return "made"
    grafana.api.PUT(path, json=body)
    return "changed"


def _dashboard(grafana: GrafanaFace, model: dict[str, Any], folder_uid: str) -> tuple[str, str]:
    found = _get(lambda: grafana.dashboard.get_dashboard(model["uid"]))
    if found is not None and found["meta"].get("folderUid") == folder_uid:
        kept = {key: value for key, value in found["dashboard"].items() if key not in _GRAFANAS_OWN}
        if kept == model:
            return "unchanged", str(found["meta"]["url"])
    body = {
        "dashboard": model,
        "folderUid": folder_uid,
        "overwrite": True,
        "message": "linetally-hub grafana provision",
    }
    answer = grafana.dashboard.update_dashboard(body)
    return ("made" if found is None else "changed"), str(answer["url"])


def add_parser(subparsers: Any) -> None:
    """Adds `grafana` to the hub's command; the parsed arguments carry `run`."""
    grafana = subparsers.add_parser("grafana", help="put the line dashboard into Grafana, or write its files")
    actions = grafana.add_subparsers(dest="action", required=True, metavar="ACTION")
    put = actions.add_parser(
        "provision",
        help="make folder, data source and dashboard in a running Grafana",
        description="Makes folder, data source and dashboard of one enterprise. May run again at any time. Tokens "
        "are read from the environment (GRAFANA_TOKEN, INFLUX_READ_TOKEN), not from the command line, where other "
        "users of the machine could see them.",
        epilog="example: GRAFANA_TOKEN=… INFLUX_READ_TOKEN=… linetally-hub grafana provision "
        "--url http://127.0.0.1:3000 --influx-url http://127.0.0.1:8086 --influx-org plant "
        "--influx-bucket linetally --enterprise acme",
    )
    put.add_argument("--url", required=True, help="Grafana's address")
    put.add_argument("--influx-url", required=True, help="InfluxDB's address, as Grafana reaches it")
    put.add_argument("--influx-org", required=True, help="InfluxDB's organisation")
    put.add_argument("--influx-bucket", required=True, help="the bucket that the hub writes")
    put.add_argument("--enterprise", required=True, help="the enterprise whose lines are shown, by its id")
    write = actions.add_parser("export", help="write the same as provisioning files")
    write.add_argument("--folder", required=True, type=Path, help="where to; made if missing")
    grafana.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `grafana provision` or `grafana export`. Returns 0, 1 (Grafana said no), or 2 (used wrongly)."""
    try:
        if args.action == "export":
            for path in export(args.folder):
                print(path)
            return 0
        influx = Influx(args.influx_url, args.influx_org, args.influx_bucket, _secret("INFLUX_READ_TOKEN"))
        done = provision(args.url, _secret("GRAFANA_TOKEN"), influx, args.enterprise)
    except (ConfigurationError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except GrafanaTrouble as error:
        print(error, file=sys.stderr)
        return 1
    print(f"folder {done.folder}, data source {done.data_source}, dashboard {done.dashboard}: {done.address}")
    return 0


def _secret(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigurationError(f"{name} is not set", mend=f"Put the token into the environment: export {name}=…")
    return value

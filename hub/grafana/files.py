"""The dashboard as Grafana's provisioning files: what a Grafana without the hub's help reads at its start.

Decides the files and their YAML. The same data source and dashboard as `hub.grafana.provision` makes through the
API; addresses and the token come from Grafana's environment, so that the files hold no secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hub.grafana.dashboards import line_dashboard, uids
from hub.grafana.panels import DATA_SOURCE_TYPE

DASHBOARDS_IN_CONTAINER: Final = "/etc/grafana/dashboards"
_HEADING: Final = "# Written by `linetally-hub grafana export`. Change hub/grafana, not this file.\n"
# What YAML 1.1, which Grafana's reader accepts too, would take for something other than a string is quoted.
_PLAIN: Final = re.compile(r"[A-Za-z$/][A-Za-z0-9_./$-]*")
_NOT_STRINGS: Final = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

Yaml = Mapping[str, "Yaml"] | Sequence["Yaml"] | str | int | bool


def data_source(uid: str, name: str, url: str, org: str, bucket: str, token: str) -> dict[str, Any]:
    """The data source as both the API and the provisioning files spell it.

    InfluxDB with Flux: `jsonData.version` chooses the language, the token goes as `Authorization: Token`.
    """
    return {
        "uid": uid,
        "name": name,
        "type": DATA_SOURCE_TYPE,
        "access": "proxy",
        "url": url,
        "basicAuth": False,
        "isDefault": False,
        "jsonData": {"version": "Flux", "organization": org, "defaultBucket": bucket, "httpMode": "POST"},
        "secureJsonData": {"token": token},
    }


def files() -> dict[str, str]:
    """Relative path to text of every provisioning file."""
    names = uids(None)
    source = data_source(
        names.data_source, "linetally", "$INFLUX_URL", "$INFLUX_ORG", "$INFLUX_BUCKET", "$INFLUX_READ_TOKEN"
    )
    sources: Yaml = {"apiVersion": 1, "datasources": [{**source, "orgId": 1, "editable": False}]}
    providers: Yaml = {
        "apiVersion": 1,
        "providers": [
            {
                "name": "linetally",
                "orgId": 1,
                "folder": "linetally",
                "folderUid": names.folder,
                "type": "file",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "options": {"path": DASHBOARDS_IN_CONTAINER},
            }
        ],
    }
    board = json.dumps(line_dashboard(names, None), indent=2, ensure_ascii=False) + "\n"
    return {
        "provisioning/datasources/linetally.yaml": _HEADING + to_yaml(sources),
        "provisioning/dashboards/linetally.yaml": _HEADING + to_yaml(providers),
        "dashboards/linetally-line.json": board,
    }


def export(folder: Path) -> list[Path]:
    """Writes every file under `folder`, and returns their paths. Raises OSError."""
    written = []
    for relative, text in files().items():
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def to_yaml(value: Yaml, indent: int = 0) -> str:
    """`value` in block style. Strings that could be read as anything else are quoted as JSON, which YAML includes."""
    pad = "  " * indent
    if isinstance(value, Mapping):
        return "".join(f"{pad}{key}:{_after_key(item, indent)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = (to_yaml(item, indent + 1) for item in value)
        return "".join(f"{pad}- {item[len(pad) + 2 :]}" for item in items)
    return f"{pad}{_scalar(value)}\n"


def _after_key(value: Yaml, indent: int) -> str:
    if isinstance(value, str | int):
        return f" {_scalar(value)}\n"
    return "\n" + to_yaml(value, indent + 1)


def _scalar(value: str | int | bool) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_STRINGS:
        return value
    return json.dumps(value, ensure_ascii=False)

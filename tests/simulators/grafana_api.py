"""A strict Grafana 12 for tests: health, folders, data sources by uid and dashboards, as its HTTP API documents them.

Written from Grafana's developer documentation (folder, data source and dashboard HTTP API; their status codes and
bodies). Stricter than the server: unknown keys are refused, numeric ids are not served, and a dashboard is looked
at: schema, panel ids, places on the grid, and that each query's data source exists.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.simulators.http_peer import Answer, Cut, HttpPeer, Request

SOURCE_KEYS = {
    "id", "uid", "orgId", "name", "type", "access", "url", "user", "database", "basicAuth", "basicAuthUser",
    "withCredentials", "isDefault", "jsonData", "secureJsonData", "version",
}  # fmt: skip
BOARD_KEYS = {
    "id", "uid", "title", "description", "tags", "timezone", "editable", "graphTooltip", "time", "timepicker",
    "fiscalYearStartMonth", "liveNow", "weekStart", "refresh", "schemaVersion", "version", "panels", "templating",
    "annotations", "links", "snapshot", "preload", "revision", "gnetId",
}  # fmt: skip
PANEL_TYPES = {"stat", "timeseries", "state-timeline", "table", "barchart", "row", "text"}
UID = re.compile(r"[A-Za-z0-9_-]{1,40}")


class Refusal(Exception):
    def __init__(self, status: int, message: str, **more: object) -> None:
        super().__init__(message)
        self.answer = _json(status, {"message": message, **more})


def _json(status: int, body: object) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json; charset=UTF-8"})


def _keys(body: dict[str, Any], allowed: set[str], required: set[str]) -> None:
    if set(body) - allowed:
        raise Refusal(400, f"bad request data: unknown keys {sorted(set(body) - allowed)}")
    if required - set(body):
        raise Refusal(400, f"bad request data: missing {sorted(required - set(body))}")


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


class GrafanaApi(HttpPeer):
    """`folders`, `sources` and `boards` hold what was saved, by uid. `writes` counts changes."""

    def __init__(self, token: str = "grafana-token", version: str = "12.3.0") -> None:
        super().__init__()
        self.token, self.version = token, version
        self.role = "Admin"
        self.prefix = ""
        self.cut_next = False
        self.provisioned: set[str] = set()  # uids that came from files: read only
        self.folders: dict[str, dict[str, Any]] = {}
        self.sources: dict[str, dict[str, Any]] = {}
        self.boards: dict[str, dict[str, Any]] = {}
        self.writes = 0

    def answer(self, request: Request) -> Answer:
        if self.cut_next:
            self.cut_next = False
            raise Cut
        try:
            return self._route(request)
        except Refusal as refusal:
            return refusal.answer

    def _route(self, request: Request) -> Answer:
        if not request.path.startswith(self.prefix + "/api/"):
            return Answer(404, b"<html>not found</html>", {"Content-Type": "text/html"})
        path = request.path.removeprefix(self.prefix + "/api")
        if (request.method, path) == ("GET", "/health"):
            return _json(200, {"database": "ok", "version": self.version, "commit": "0"})
        if request.headers.get("authorization") != f"Bearer {self.token}":
            raise Refusal(401, "Invalid API key", messageId="api-key.invalid", statusCode=401, traceID="")
        body: dict[str, Any] = {}
        if request.method != "GET":
            if not request.headers.get("content-type", "").startswith("application/json"):
                raise Refusal(400, "bad request data: content type")
            body = json.loads(request.body)
            if self.role != "Admin":
                raise Refusal(403, "You'll need additional permissions to perform this action.")
        match [request.method, *path.strip("/").split("/")]:
            case ["GET", "folders", uid]:
                return _json(200, self._found(self.folders, uid, "folder not found"))
            case ["POST", "folders"]:
                return self._make_folder(body)
            case ["PUT", "folders", uid]:
                return self._change_folder(uid, body)
            case ["GET", "datasources", "uid", uid]:
                shown = dict(self._found(self.sources, uid, "Data source not found"))
                shown["secureJsonFields"] = dict.fromkeys(shown.pop("secureJsonData", {}), True)
                return _json(200, shown | {"readOnly": uid in self.provisioned})
            case ["POST", "datasources"]:
                return self._make_source(body)
            case ["PUT", "datasources", "uid", uid]:
                return self._change_source(uid, body)
            case ["GET", "dashboards", "uid", uid]:
                return _json(200, self._found(self.boards, uid, "Dashboard not found"))
            case ["POST", "dashboards", "db"]:
                return self._save_board(body)
        raise Refusal(404, "Not found")

    @staticmethod
    def _found(kept: dict[str, dict[str, Any]], uid: str, message: str) -> dict[str, Any]:
        if uid not in kept:
            raise Refusal(404, message)
        return kept[uid]

    def _make_folder(self, body: dict[str, Any]) -> Answer:
        _keys(body, {"uid", "title", "parentUid", "description"}, {"title"})
        self._check_uid(body["uid"])
        if body["uid"] in self.folders:
            raise Refusal(409, "a folder with that name already exists")
        self.writes += 1
        folder = {"id": len(self.folders) + 1, "uid": body["uid"], "title": body["title"], "version": 1}
        self.folders[body["uid"]] = folder
        return _json(200, folder)

    def _change_folder(self, uid: str, body: dict[str, Any]) -> Answer:
        _keys(body, {"title", "version", "overwrite", "description"}, {"title"})
        folder = self._found(self.folders, uid, "folder not found")
        if not body.get("overwrite") and body.get("version") != folder["version"]:
            raise Refusal(412, "the folder has been changed by someone else", status="version-mismatch")
        self.writes += 1
        folder.update(title=body["title"], version=folder["version"] + 1)
        return _json(200, folder)

    def _make_source(self, body: dict[str, Any]) -> Answer:
        self._check_source(body)
        if any(source["name"] == body["name"] for source in self.sources.values()):
            raise Refusal(409, "data source with the same name already exists")
        self.writes += 1
        self.sources[body["uid"]] = {**body, "id": len(self.sources) + 1, "version": 1}
        return _json(200, {"id": 1, "message": "Datasource added", "name": body["name"], "datasource": {}})

    def _change_source(self, uid: str, body: dict[str, Any]) -> Answer:
        source = self._found(self.sources, uid, "Data source not found")
        if uid in self.provisioned:
            raise Refusal(403, "Cannot update read-only data source")
        self._check_source(body)
        self.writes += 1
        source.update(body, version=source["version"] + 1)
        return _json(200, {"id": 1, "message": "Datasource updated", "name": body["name"], "datasource": {}})

    def _check_source(self, body: dict[str, Any]) -> None:
        _keys(body, SOURCE_KEYS, {"name", "type", "access"})
        self._check_uid(body["uid"])
        if body["access"] not in ("proxy", "direct"):
            raise Refusal(400, "bad request data: access")
        if body["type"] == "influxdb" and body["jsonData"].get("version") == "Flux":
            _keys(
                body["jsonData"],
                {"version", "organization", "defaultBucket", "httpMode", "timeInterval", "tlsSkipVerify", "maxSeries"},
                {"organization", "defaultBucket"},
            )
            _keys(body["secureJsonData"], {"token"}, {"token"})

    def _save_board(self, body: dict[str, Any]) -> Answer:
        _keys(body, {"dashboard", "folderUid", "folderId", "message", "overwrite"}, {"dashboard"})
        model = body["dashboard"]
        if body.get("folderUid") and body["folderUid"] not in self.folders:
            raise Refusal(400, "folder not found", status="not-found")
        self._check_board(model)
        uid = model["uid"]
        if uid in self.provisioned:
            raise Refusal(400, "Cannot save provisioned dashboard")
        old = self.boards.get(uid)
        if old is not None and not body.get("overwrite") and model.get("version") != old["dashboard"]["version"]:
            raise Refusal(412, "The dashboard has been changed by someone else", status="version-mismatch")
        self.writes += 1
        number = 1 if old is None else old["dashboard"]["version"] + 1
        slug = _slug(model["title"])
        url = f"/d/{uid}/{slug}"
        self.boards[uid] = {
            "dashboard": {**model, "id": len(self.boards) + 1, "version": number},
            "meta": {"url": url, "folderUid": body.get("folderUid", ""), "slug": slug, "provisioned": False},
        }
        return _json(200, {"id": 1, "uid": uid, "url": url, "status": "success", "version": number, "slug": slug})

    def _check_board(self, model: dict[str, Any]) -> None:
        _keys(model, BOARD_KEYS, {"uid", "title", "schemaVersion", "panels"})
        self._check_uid(model["uid"])
        if not model["title"] or not isinstance(model["schemaVersion"], int):
            raise Refusal(400, "Dashboard title cannot be empty")
        ids = [panel["id"] for panel in model["panels"]]
        if len(set(ids)) != len(ids):
            raise Refusal(400, "panel ids are not unique")
        taken: set[tuple[int, int]] = set()
        for panel in model["panels"]:
            if panel["type"] not in PANEL_TYPES:
                raise Refusal(400, f"no such panel: {panel['type']}")
            place = panel["gridPos"]
            if place["x"] + place["w"] > 24:
                raise Refusal(400, "a panel is beyond the grid of 24")
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
            if cells & taken:
                raise Refusal(400, "panels overlap")
            taken |= cells
            for target in panel["targets"]:
                if target["datasource"]["uid"] not in self.sources:
                    raise Refusal(400, f"no data source {target['datasource']['uid']}")

    @staticmethod
    def _check_uid(uid: str) -> None:
        if not UID.fullmatch(uid):
            raise Refusal(400, "uid contains illegal characters or is longer than 40")

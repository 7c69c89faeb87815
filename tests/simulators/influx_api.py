"""A strict InfluxDB 2 for tests: POST /api/v2/write as its documentation states it, and nothing else.

Written from the InfluxDB OSS v2 API reference (write: 204, 400, 401, 404, 413, 422, 429, 503; bodies with `code`,
`message` and for a bad line `line`) and the line protocol reference. Stricter than the server: it refuses what the
documentation advises against (names that begin with `_`, doubled keys, a time far from now), so that a client that
satisfies it satisfies the server.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from tests.simulators.http_peer import Answer, Cut, HttpPeer, Request

Value = int | float | str | bool
NS_OF_PRECISION = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
CENTURY_NS = 100 * 366 * 86_400 * 10**9
INTEGER = re.compile(r"-?\d+i")
UNSIGNED = re.compile(r"\d+u")
FLOAT = re.compile(r"-?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
BOOLEANS = {"t": True, "T": True, "true": True, "True": True, "TRUE": True} | {
    "f": False, "F": False, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


class Fault(Enum):
    UNAVAILABLE = auto()  # 503 with Retry-After
    TOO_MANY = auto()  # 429 with Retry-After
    CUT_BEFORE = auto()  # the connection goes before anything is stored
    CUT_AFTER = auto()  # stored, but the answer is lost
    PARTIAL_400 = auto()  # the first half is stored, the rest rejected
    PARTIAL_422 = auto()  # the same, as InfluxDB 2 says it
    PROXY_200 = auto()  # something between answers a friendly page
    REDIRECT = auto()


class BadLine(Exception):
    pass


@dataclass(frozen=True)
class Line:
    measurement: str
    tags: tuple[tuple[str, str], ...]  # sorted
    fields: dict[str, Value]
    time_ns: int | None


def _scan(text: str, start: int, stops: str) -> tuple[str, int]:
    """The raw text from `start` up to an unescaped character of `stops`, as the server scans it.

    A backslash takes the next character with it, whatever that is.
    """
    i = start
    while i < len(text) and text[i] not in stops:
        i += 2 if text[i] == "\\" else 1
    if i > len(text):
        raise BadLine("ends within an escape")
    return text[start:i], i


def _unescape(raw: str, special: str) -> str:
    return re.sub(r"\\([" + re.escape(special) + r"])", r"\1", raw)


def _name(raw: str, special: str, what: str) -> str:
    name = _unescape(raw, special)
    if not name:
        raise BadLine(f"missing {what}")
    if name.startswith("_") or name == "time":
        raise BadLine(f"{what} {name!r} is reserved")
    return name


def parse_line(text: str) -> Line:
    """One line of line protocol. Raises BadLine."""
    raw, i = _scan(text, 0, ", ")
    measurement = _name(raw, ", ", "measurement")
    tags: dict[str, str] = {}
    while i < len(text) and text[i] == ",":
        raw, i = _scan(text, i + 1, "=, ")
        key = _name(raw, ",= ", "tag key")
        if i >= len(text) or text[i] != "=":
            raise BadLine("missing tag value")
        raw, i = _scan(text, i + 1, "=, ")
        if i < len(text) and text[i] == "=":
            raise BadLine("an equals sign in a tag value must be escaped")
        if not raw:
            raise BadLine("missing tag value")
        if key in tags:
            raise BadLine(f"duplicate tag {key!r}")
        tags[key] = _unescape(raw, ",= ")
    if i >= len(text):
        raise BadLine("missing fields")
    fields: dict[str, Value] = {}
    while True:
        raw, i = _scan(text, i + 1, "=, ")
        key = _name(raw, ",= ", "field key")
        if i >= len(text) or text[i] != "=":
            raise BadLine("missing field value")
        value, i = _field_value(text, i + 1)
        if key in fields or key in tags:
            raise BadLine(f"duplicate key {key!r}")
        fields[key] = value
        if i >= len(text) or text[i] != ",":
            break
    if i >= len(text):
        return Line(measurement, tuple(sorted(tags.items())), fields, None)
    stamp = text[i + 1 :]
    if not re.fullmatch(r"-?\d+", stamp):
        raise BadLine(f"bad timestamp {stamp!r}")
    return Line(measurement, tuple(sorted(tags.items())), fields, int(stamp))


def _field_value(text: str, start: int) -> tuple[Value, int]:
    if text[start : start + 1] == '"':
        raw, i = _scan(text, start + 1, '"')
        if i >= len(text):
            raise BadLine("unbalanced quotes")
        return _unescape(raw, '"\\'), i + 1
    raw, i = _scan(text, start, ", ")
    if INTEGER.fullmatch(raw):
        if not -(2**63) <= int(raw[:-1]) < 2**63:
            raise BadLine(f"integer out of range: {raw}")
        return int(raw[:-1]), i
    if UNSIGNED.fullmatch(raw):
        return int(raw[:-1]), i
    if raw in BOOLEANS:
        return BOOLEANS[raw], i
    if FLOAT.fullmatch(raw):
        return float(raw), i
    raise BadLine(f"invalid field value {raw!r}")


def _error(status: int, code: str, message: str, **more: object) -> Answer:
    body = json.dumps({"code": code, "message": message, **more}).encode()
    return Answer(status, body, {"Content-Type": "application/json; charset=utf-8"})


class InfluxApi(HttpPeer):
    """`points` holds what is stored: (measurement, tags, time in ns) to fields. Put Faults into `faults`."""

    def __init__(self, token: str = "secret-token", org: str = "plant", bucket: str = "linetally") -> None:
        super().__init__()
        self.token, self.org, self.bucket = token, org, bucket
        self.max_body_bytes = 50_000_000
        self.retry_after = "1"
        self.faults: deque[Fault] = deque()
        self.points: dict[tuple[str, tuple[tuple[str, str], ...], int], dict[str, Value]] = {}
        self.requests = 0

    def answer(self, request: Request) -> Answer:
        self.requests += 1
        if request.path != "/api/v2/write":
            return _error(404, "not found", "path not found")
        if request.method != "POST":
            return _error(405, "method not allowed", "allow: POST")
        refusal = self._check(request)
        if refusal is not None:
            return refusal
        fault = self.faults.popleft() if self.faults else None
        if fault is Fault.UNAVAILABLE:
            return _later(503, "unavailable", self.retry_after)
        if fault is Fault.TOO_MANY:
            return _later(429, "too many requests", self.retry_after)
        if fault is Fault.PROXY_200:
            return Answer(200, b"<html>Welcome</html>", {"Content-Type": "text/html"})
        if fault is Fault.REDIRECT:
            return Answer(302, b"", {"Location": "http://127.0.0.1:9/"})
        if fault is Fault.CUT_BEFORE:
            raise Cut
        return self._store(request, fault)

    def _check(self, request: Request) -> Answer | None:
        query = dict(request.query)
        if request.headers.get("authorization") not in (f"Token {self.token}", f"Bearer {self.token}"):
            return _error(401, "unauthorized", "unauthorized access")
        if set(query) - {"org", "orgID", "bucket", "precision"} or len(query) != len(request.query):
            return _error(400, "invalid", f"unknown or doubled query parameters: {request.query}")
        if query.get("precision", "ns") not in NS_OF_PRECISION:
            return _error(400, "invalid", f"invalid precision {query['precision']!r}; valid: ns, us, ms, s")
        if query.get("org") != self.org:
            return _error(404, "not found", f'organization name "{query.get("org")}" not found')
        if query.get("bucket") != self.bucket:
            return _error(404, "not found", f'bucket "{query.get("bucket")}" not found')
        if not re.fullmatch(r"text/plain(; ?charset=utf-8)?", request.headers.get("content-type", "")):
            return _error(400, "invalid", f"content type {request.headers.get('content-type')!r}")
        if len(request.body) > self.max_body_bytes:
            return _error(413, "request too large", "request entity too large", maxLength=self.max_body_bytes)
        return None

    def _store(self, request: Request, fault: Fault | None) -> Answer:
        raw = request.body
        if request.headers.get("content-encoding", "identity") == "gzip":
            raw = gzip.decompress(raw)
        unit_ns = NS_OF_PRECISION[dict(request.query).get("precision", "ns")]
        lines = []
        for number, text in enumerate(raw.decode("utf-8").split("\n"), 1):
            if not text or text.startswith("#"):
                continue
            try:
                line = parse_line(text)
                if line.time_ns is None:
                    raise BadLine("no timestamp: this fake wants one")
                time_ns = line.time_ns * unit_ns
                if abs(time_ns - time.time_ns()) > CENTURY_NS:
                    raise BadLine(f"time {line.time_ns} is a century away: wrong precision?")
            except BadLine as error:
                return _error(400, "invalid", f"unable to parse '{text}': {error}", line=number)
            lines.append((line, time_ns))
        partial = fault in (Fault.PARTIAL_400, Fault.PARTIAL_422)
        dropped = len(lines) - len(lines) // 2 if partial else 0
        for line, time_ns in lines[: len(lines) - dropped]:
            stored = self.points.setdefault((line.measurement, line.tags, time_ns), {})
            for key, value in line.fields.items():
                if key in stored and type(stored[key]) is not type(value):
                    return _error(422, "unprocessable entity", f"field type conflict: {key}; partial write: dropped=1")
            stored.update(line.fields)
        if fault is Fault.PARTIAL_400:
            return _error(400, "invalid", f"partial write has occurred, {dropped} lines dropped", line=len(lines))
        if fault is Fault.PARTIAL_422:
            return _error(422, "unprocessable entity", f"failure writing points: partial write: dropped={dropped}")
        if fault is Fault.CUT_AFTER:
            raise Cut
        return Answer(204)


def _later(status: int, code: str, retry_after: str) -> Answer:
    answer = _error(status, code, "try again later")
    return Answer(status, answer.body, {**answer.headers, "Retry-After": retry_after})

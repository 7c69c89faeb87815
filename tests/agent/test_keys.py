"""The key: made once, for this user only; and what enrolment sends."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent.enrol import enrol
from agent.keys import KEY_FILE, load_key, load_log_key, load_or_make_key
from protocols.errors import ConfigurationError, LinetallyError
from protocols.evidence.note import Algorithm, SignerKey
from protocols.wire.enrolment import EnrolmentRequest
from tests.agent import factory

LOG_KEY = str(SignerKey("log.example.org", Algorithm.ED25519, bytes(32)).verifier)


def test_a_key_is_made_once_and_only_for_its_user(tmp_path: Path) -> None:
    first = load_or_make_key(tmp_path / "state")
    again = load_or_make_key(tmp_path / "state")
    assert first.private_bytes_raw() == again.private_bytes_raw()
    assert stat.S_IMODE((tmp_path / "state" / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="not a key"):
        load_key(tmp_path)


@contextmanager
def hub(code: int, answer: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web server that keeps what it was sent."""
    requests: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/api/v1/enrolments"
            requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_enrolment_proves_the_key_and_keeps_the_logs(tmp_path: Path) -> None:
    configuration = factory.configuration(tmp_path)
    with hub(201, {"gateway_id": "GW-01", "state": "pending", "log_key": LOG_KEY}) as (url, requests):
        enrolled = enrol(configuration, url, "token-1")
    sent = requests[0]
    public = bytes.fromhex(sent["public_key"])
    EnrolmentRequest.from_json(sent).check()
    assert sent["token"] == "token-1" and sent["gateway"] == "GW-01"
    assert sent["lines"] == ["filling", "packing"]
    assert enrolled.state == "pending" and len(enrolled.fingerprint.split()) == 8
    assert load_log_key(configuration.state_folder) == LOG_KEY
    assert public == load_key(configuration.state_folder).public_key().public_bytes_raw()


def test_a_refused_enrolment_says_the_hubs_words(tmp_path: Path) -> None:
    configuration = factory.configuration(tmp_path)
    detail = {"detail": {"code": "bad-token", "words": "the token is used up"}}
    with hub(403, detail) as (url, _), pytest.raises(LinetallyError, match="the token is used up"):
        enrol(configuration, url, "x")


def test_a_hub_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(LinetallyError, match="cannot be reached"):
        enrol(factory.configuration(tmp_path), "http://127.0.0.1:1", "x")
    with pytest.raises(LinetallyError, match="not a web address"):
        enrol(factory.configuration(tmp_path), "file:///etc/passwd", "x")

"""The operator's page: what is said there is queued as an amendment with a name; nobody else gets in."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import amendments
from agent.__main__ import main
from agent.clock import ManualClock
from agent.commissioning.operator_command import desk, read_pin
from agent.commissioning.operator_server import OperatorServer
from agent.commissioning.operator_words import CATEGORIES, CHINESE, ENGLISH
from agent.config import AgentConfiguration, load
from agent.raw_meter import RawMeter
from agent.recorder import Recorder
from agent.spool import LineBatch, Spool
from protocols.errors import ConfigurationError
from protocols.evidence.record import SignedRecord
from protocols.measurement.account import Category
from protocols.measurement.amendment import Amendment, AmendmentKind, ReasonChange
from protocols.measurement.timeline import Stop
from tests.agent import factory

KEY = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
START = 1_790_000_100_000 - 1_790_000_100_000 % 900_000
STOP = Stop(START + 120_500, START + 320_500, Category.FAILURE, 7, False, False)


@pytest.fixture
def gateway(tmp_path: Path) -> AgentConfiguration:
    """Fifteen signed minutes of fifty pieces, and a stop in them."""
    text = factory.opcua().replace('name = "Filling line"', 'name = "Filling <line> & 灌裝"')
    configuration = load(factory.write(tmp_path, text))
    configuration.state_folder.mkdir(mode=0o700)
    work(configuration)
    return configuration


def work(configuration: AgentConfiguration) -> None:
    line = configuration.lines[0].configuration
    clock = ManualClock(START, b"\1" * 16)
    with Spool.open(configuration.state_folder) as spool:
        recorder = Recorder(configuration, spool, KEY, clock)
        recorder.start({"filling": START})
        windows = tuple(factory.window(START + minute * 60_000) for minute in range(15))
        meter = RawMeter(line, START + 900_000)
        spool.commit([LineBatch("filling", line.hash, windows, meter.carry(), (STOP,))])
        clock.advance_to(START + 900_000)
        recorder.seal_due(START + 900_000)


class Browser:
    """A client with a cookie jar of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cookies: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    def ask(self, method: str, path: str, form: dict[str, object] | None = None, **headers: str) -> tuple[int, str]:
        link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        try:
            sent = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded", **headers}
            link.request(method, path, None if form is None else urlencode(form), sent)
            answer = link.getresponse()
            body = answer.read().decode()
            for text in answer.headers.get_all("Set-Cookie") or []:
                assert "HttpOnly; SameSite=Strict" in text
                name, _, value = text.partition(";")[0].partition("=")
                self.cookies[name] = value
            self.headers = dict(answer.headers.items())
            return answer.status, body
        finally:
            link.close()

    def token(self) -> str:
        return self.keys()["token"]

    def keys(self, shown: str | None = None) -> dict[str, str]:
        """What each form of the page holds, besides what is typed."""
        shown = self.ask("GET", "/")[1] if shown is None else shown
        found = {name: re.search(f'name={name} value="([^"]+)"', shown) for name in ("token", "id")}
        return {name: match[1] for name, match in found.items() if match is not None}


@contextmanager
def opened(configuration: AgentConfiguration, pin: str | None = None) -> Iterator[Browser]:
    with OperatorServer(("127.0.0.1", 0), desk(configuration, None), pin) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Browser(server.server_port)
        finally:
            server.shutdown()
            thread.join(10)


def queued(configuration: AgentConfiguration) -> list[Amendment]:
    with Spool.open_read_only(configuration.state_folder) as spool:
        return [amendments.from_bytes(each.body) for each in spool.amendments()]


REASON = {"line": "filling", "stop": STOP.start_ms, "reason": "film <torn>", "who": "陳大文", "why": "seen"}


def test_a_reason_is_queued_with_a_name_and_signed(gateway: AgentConfiguration) -> None:
    with opened(gateway) as browser:
        code, shown = browser.ask("GET", "/")
        assert code == 200
        assert "Filling &lt;line&gt; &amp; 灌裝" in shown
        assert "#7" in shown
        assert browser.ask("POST", "/reason", {**REASON, **browser.keys()})[0] == 303
        assert browser.headers["Location"] == "/?done=1", "so that a reload sends nothing again"
        code, shown = browser.ask("GET", "/?done=1")
        assert code == 200
        assert "Thank you" in shown
        assert "film &lt;torn&gt;" in shown
        assert "<torn>" not in shown
    (amendment,) = queued(gateway)
    assert amendment.kind is AmendmentKind.REASON
    assert amendment.change == ReasonChange(STOP.start_ms, "#7", "film <torn>")
    assert (amendment.who, amendment.why) == ("陳大文", "seen")
    with Spool.open(gateway.state_folder) as spool:
        clock = ManualClock(START + 900_000, b"\1" * 16)
        recorder = Recorder(gateway, spool, KEY, clock)
        recorder.start({"filling": START + 900_000})
        recorder.seal_due(START + 900_000)
        bodies = [SignedRecord(each.raw).record.body for each in spool.open_records(0, 99)]
    assert amendment in bodies


def test_late_rejects_are_queued(gateway: AgentConfiguration) -> None:
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    def local(ms: int) -> str:
        zone = ZoneInfo("Asia/Hong_Kong")
        return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone).strftime("%Y-%m-%dT%H:%M")

    form = {
        "line": "filling",
        "from": local(START),
        "to": local(START + 600_000),
        "count": 20,
        "who": "QC",
        "why": "lab",
    }
    with opened(gateway) as browser:
        token = browser.token()
        for bad in ({"count": 0}, {"count": "many"}, {"to": local(START)}, {"line": "other"}, {"who": " "},
                    {"from": "2020-01-01T00:00", "to": "2020-01-02T00:00"}):  # fmt: skip
            code, shown = browser.ask("POST", "/rejects", {**form, **bad, "token": token})
            assert (code, "This cannot be taken" in shown) == (400, True), bad
        assert queued(gateway) == []
        keys = browser.keys()
        for _ in range(3):  # pressed twice, and a phone that loads the page again
            assert browser.ask("POST", "/rejects", {**form, **keys})[0] == 303
        sent = re.sub("<[^>]+>", "", browser.ask("GET", "/")[1])
        assert f"filling, {local(START)[5:].replace('T', ' ')} – {local(START + 600_000)[5:].replace('T', ' ')}" in sent
        assert "Bad pieces 20 QC · waits to be signed" in sent
    (amendment,) = queued(gateway)
    assert amendment.kind is AmendmentKind.REJECT
    assert len(amendment.change) == 10  # type: ignore[arg-type]


def test_the_same_may_be_said_again_from_a_new_page(gateway: AgentConfiguration) -> None:
    form = {"line": "filling", "from": str(START), "to": str(START + 600_000), "count": 5, "who": "QC", "why": "lab"}
    with opened(gateway) as browser:
        for _ in range(2):
            assert browser.ask("POST", "/rejects", {**form, **browser.keys()})[0] == 303
    assert len(queued(gateway)) == 2


def test_what_cannot_be_taken_is_shown_again_as_it_was_typed(gateway: AgentConfiguration) -> None:
    form = {"line": "filling", "from": "2026-11-20T08:00", "to": "2026-11-20T10:00", "count": "99999", "who": '陳"文',
            "why": "lab <7>"}  # fmt: skip
    with opened(gateway) as browser:
        code, shown = browser.ask("POST", "/rejects", {**form, **browser.keys()})
        assert code == 400
        opened_form = shown[shown.index("<details open>") :]
        assert shown.count("<details open>") == 1 and "action=/rejects" in opened_form
        for value in ("2026-11-20T08:00", "2026-11-20T10:00", "99999", "陳&quot;文", "lab &lt;7&gt;"):
            assert f'value="{value}"' in opened_form
        code, shown = browser.ask("POST", "/reason", {**REASON, "reason": " ", **browser.keys()})
        assert code == 400 and "1 to 200 letters" in shown
        assert "action=/reason" in shown[shown.index("<details open>") :].partition("</form>")[0]


def test_a_page_of_before_a_restart_is_sent_again_without_typing_it_again(gateway: AgentConfiguration) -> None:
    with opened(gateway) as before:
        keys, cookies = before.keys(), before.cookies
    with opened(gateway) as browser:
        browser.cookies = cookies
        code, shown = browser.ask("POST", "/reason", {**REASON, **keys})
        assert (code, "too old" in shown, queued(gateway)) == (403, True, [])
        assert 'value="film &lt;torn&gt;"' in shown and "<details open>" in shown
        assert browser.ask("POST", "/reason", {**REASON, **browser.keys(shown)})[0] == 303
    assert len(queued(gateway)) == 1


def test_whoever_comes_by_another_name_is_told_the_mend(gateway: AgentConfiguration) -> None:
    import socket

    with opened(gateway) as browser:
        code, shown = browser.ask("GET", "/", Host="gw-07.factory.example")
        assert code == 403 and "by the gateway&#x27;s IP address" in shown
        assert browser.ask("GET", "/", Host=f"{socket.gethostname()}.local:8480")[0] == 200


def test_a_form_from_elsewhere_is_refused(gateway: AgentConfiguration) -> None:
    """Without the token of its own session, from another origin, or by another name of the host."""
    with opened(gateway) as browser, opened(gateway) as other:
        token = browser.token()
        assert browser.ask("POST", "/reason", REASON)[0] == 403
        assert browser.ask("POST", "/reason", {**REASON, "token": other.token()})[0] == 403
        good = {**REASON, "token": token}
        assert browser.ask("POST", "/reason", good, Origin="http://evil.example")[0] == 403
        assert browser.ask("POST", "/reason", good, Host="evil.example")[0] == 403
        browser.cookies = {}
        assert browser.ask("POST", "/reason", good)[0] == 403
        assert queued(gateway) == []


def test_the_page_runs_no_script_and_is_in_no_frame(gateway: AgentConfiguration) -> None:
    with opened(gateway) as browser:
        _, shown = browser.ask("GET", "/")
        assert "<script" not in shown
        policy = browser.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert browser.ask("POST", "/reason", {"reason": "x" * 9000})[0] == 413
        assert browser.ask("GET", "/../../etc/passwd")[0] == 404


def test_the_pin(gateway: AgentConfiguration) -> None:
    with opened(gateway, "271828") as browser:
        _, shown = browser.ask("GET", "/")
        assert "Filling" not in shown
        assert browser.ask("POST", "/reason", REASON)[0] == 403
        assert browser.ask("POST", "/pin", {"pin": "000000"})[0] == 403
        assert browser.ask("POST", "/pin", {"pin": "271828"})[0] == 303
        assert "Filling" in browser.ask("GET", "/")[1]
        stranger = Browser(browser._port)
        for _ in range(4):
            assert stranger.ask("POST", "/pin", {"pin": "1"})[0] == 403
        assert stranger.ask("POST", "/pin", {"pin": "271828"})[0] == 429, "no guessing"
        assert browser.ask("POST", "/reason", {**REASON, **browser.keys()})[0] == 303


def test_others_need_a_pin(gateway: AgentConfiguration, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["operator", "--config", str(gateway.file), "--listen", "0.0.0.0", "--port", "0"]) == 2
    assert "there is no PIN" in capsys.readouterr().err
    pin = tmp_path / "pin"
    pin.write_text("12345\n")
    pin.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read"):
        read_pin(pin)
    pin.chmod(0o600)
    with pytest.raises(ConfigurationError, match="too short"):
        read_pin(pin)


def test_the_configuration_may_say_how_the_page_is_served(
    gateway: AgentConfiguration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = gateway.file.read_text()

    def served(operator: str) -> str:
        gateway.file.write_text(f"{text}\n[operator]\n{operator}\n")
        assert main(["operator", "--config", str(gateway.file)]) == 2
        return capsys.readouterr().err

    assert "there is no PIN" in served('listen = "0.0.0.0"')
    assert "an IP address of this gateway" in served('listen = "gateway"')
    (tmp_path / "pin").write_text("27\n")
    (tmp_path / "pin").chmod(0o600)
    assert "too short for a PIN" in served('listen = "0.0.0.0"\npin_file = "pin"')
    assert "reasons.txt: cannot be read" in served('reasons_file = "reasons.txt"')
    with opened(gateway) as other:
        assert "cannot be used" in served(f"port = {other._port}")


def test_both_languages_are_whole(gateway: AgentConfiguration) -> None:
    assert ENGLISH.keys() == CHINESE.keys()
    assert all(text.strip() for text in (*ENGLISH.values(), *CHINESE.values()))
    assert {category.name for category in Category} <= set(CATEGORIES)
    with opened(gateway) as browser:
        assert "停機原因" in browser.ask("GET", "/?lang=zh")[1]
        assert "停機原因" in browser.ask("GET", "/")[1], "the choice is kept"
        assert "停機原因" in Browser(browser._port).ask("GET", "/", **{"Accept-Language": "zh-HK,en"})[1]

"""The operator's page on the gateway: who may see it, and what becomes of a form.

Decides access: on this machine alone unless a PIN is set; a form counts only with the token of its own session, and a
request only when it names this gateway and no other host (against rebinding of names). What could not be taken is shown
again as it was typed; what was taken is never sent again by a reload. Knows no measuring.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from agent.commissioning.operator_page import Forms, LineView, SentView, login, note, page
from agent.commissioning.operator_words import STYLE, words
from protocols.errors import LinetallyError, Refused

_MOST_BODY: Final = 8192
_SESSION_S: Final = 12 * 3600
_MOST_SESSIONS: Final = 200
_WRONG: Final = 5
_WAIT_S: Final = 60
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Desk:
    """What the page needs of the gateway. Called from one thread at a time.

    `take`: a form's name ("/reason" or "/rejects") and fields; the same form of the same page twice is one.
    """

    view: Callable[[], tuple[list[LineView], list[SentView]]]
    take: Callable[[str, Mapping[str, str]], None]
    reasons: list[str]


class OperatorServer(ThreadingHTTPServer):
    """Serves until `shutdown`. `pin`: needed from everybody; None only on a loopback address."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], desk: Desk, pin: str | None) -> None:
        if pin is None and not ipaddress.ip_address(address[0]).is_loopback:
            raise ValueError("a PIN is needed for an address that others can reach")
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.desk = desk
        self.pin = pin
        self.lock = threading.Lock()
        self._sessions: dict[str, tuple[float, str, bool]] = {}  # cookie -> (until, form token, may enter)
        self._wrong: list[float] = []
        super().__init__(address, _Handler)

    def session(self, cookie: str | None) -> tuple[str, str, bool]:
        """(cookie, form token, may enter); a new one where there is none."""
        now = time.monotonic()
        with self.lock:
            found = self._sessions.get(cookie or "")
            if cookie is not None and found is not None and found[0] > now:
                self._sessions[cookie] = (now + _SESSION_S, *found[1:])
                return cookie, found[1], found[2]
            self._sessions = {key: each for key, each in self._sessions.items() if each[0] > now}
            while len(self._sessions) >= _MOST_SESSIONS:
                del self._sessions[
                    min(self._sessions, key=lambda key: (self._sessions[key][2], self._sessions[key][0]))
                ]
            return self._begin(may_enter=self.pin is None)

    def _begin(self, *, may_enter: bool) -> tuple[str, str, bool]:
        cookie, token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._sessions[cookie] = (time.monotonic() + _SESSION_S, token, may_enter)
        return cookie, token, may_enter

    def enter(self, given: str) -> str | None:
        """The cookie of a new session for the right PIN; None for a wrong one. Raises Refused after too many."""
        now = time.monotonic()
        with self.lock:
            self._wrong = [at for at in self._wrong if at > now - _WAIT_S]
            if len(self._wrong) >= _WRONG:
                raise Refused("wait", "too many wrong PINs")
            if self.pin is None or not hmac.compare_digest(given.encode(), self.pin.encode()):
                self._wrong.append(now)
                return None
            return self._begin(may_enter=True)[0]


class _Handler(BaseHTTPRequestHandler):
    server: OperatorServer
    timeout = 15
    protocol_version = "HTTP/1.1"
    server_version = "linetally"
    sys_version = ""

    def log_message(self, format: str, *args: Any) -> None:
        """No log of requests: names of people are in none, and an SD card is spared."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if not self._is_ours():
            return
        if parts.path == "/style.css":
            self._send(200, STYLE, "text/css; charset=utf-8")
        elif parts.path == "/":
            asked = parse_qs(parts.query)
            chosen = asked.get("lang", [""])[0]
            cookie, token, may_enter = self.server.session(self._cookies().get("session"))
            language = chosen if chosen in ("en", "zh") else self._language()
            good = words(language)["done"] if "done" in asked else ""
            body = self._page(token, language, good=good) if may_enter else login(language)
            self._send(200, body, cookies={"session": cookie, "lang": language})
        else:
            self._send(404, note("There is no such page; the operators' page is at /"))

    def do_POST(self) -> None:
        if not self._is_ours():
            return
        language = self._language()
        say = words(language)
        form = self._form()
        if form is None:
            return
        if self.path == "/pin":
            try:
                entered = self.server.enter(form.get("pin", ""))
            except Refused:
                self._send(429, login(language, say["wait"]))
                return
            if entered is None:
                self._send(403, login(language, say["wrong_pin"]))
            else:
                self._send(303, "", cookies={"session": entered}, location="/")
            return
        cookie, token, may_enter = self.server.session(self._cookies().get("session"))
        form["form"] = self.path
        if not may_enter:
            self._send(403, login(language), cookies={"session": cookie})
        elif not hmac.compare_digest(form.get("token", "").encode(), token.encode()):
            shown = self._page(token, language, bad=say["stale"], typed=form)
            self._send(403, shown, cookies={"session": cookie})
        else:
            self._take(form, token, language)

    def _take(self, form: Mapping[str, str], token: str, language: str) -> None:
        try:
            with self.server.lock:
                self.server.desk.take(self.path, form)
        except (LinetallyError, ValueError) as error:
            bad = f"{words(language)['cannot']}: {error}"
            self._send(400, self._page(token, language, bad=bad, typed=form))
            return
        self._send(303, "", location="/?done=1")

    def _page(
        self, token: str, language: str, good: str = "", bad: str = "", typed: Mapping[str, str] | None = None
    ) -> str:
        try:
            with self.server.lock:
                lines, sent = self.server.desk.view()
        except LinetallyError as error:
            lines, sent, bad = [], [], str(error)
        forms = Forms(token, secrets.token_urlsafe(12), typed or {})
        return page(lines, sent, self.server.desk.reasons, forms, language, good, bad)

    def _is_ours(self) -> bool:
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        origin = self.headers.get("Origin")
        try:
            ipaddress.ip_address(host)
            named = True
        except ValueError:
            own = socket.gethostname().lower()
            named = host in ("localhost", own, f"{own}.local")
        if named and origin in (
            None,
            f"http://{self.headers.get('Host', '')}",
            f"https://{self.headers.get('Host', '')}",
        ):
            return True
        self._send(
            403, note("Not by this name. Open the page by the gateway's IP address, as its label or router shows it")
        )
        self.close_connection = True
        return False

    def _form(self) -> dict[str, str] | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST_BODY:
            self.close_connection = True
            self._send(413, note("The form is too long; go back and write less"))
            return None
        text = self.rfile.read(int(length)).decode("utf-8", "replace")
        try:
            fields = parse_qs(text, keep_blank_values=True, max_num_fields=20)
            return {key: values[0] for key, values in fields.items()}
        except ValueError:
            self._send(400, note("The form cannot be read; go back, load the page again and send it again"))
            return None

    def _cookies(self) -> dict[str, str]:
        try:
            return {key: found.value for key, found in SimpleCookie(self.headers.get("Cookie", "")).items()}
        except CookieError:
            return {}

    def _language(self) -> str:
        kept = self._cookies().get("lang")
        if kept in ("en", "zh"):
            return kept
        return "zh" if self.headers.get("Accept-Language", "").lower().startswith("zh") else "en"

    def _send(
        self, code: int, body: str, kind: str = "text/html; charset=utf-8", *, cookies: dict[str, str] | None = None,
        location: str = "",
    ) -> None:  # fmt: skip
        data = body.encode()
        self.send_response(code)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        for name, value in (cookies or {}).items():
            self.send_header("Set-Cookie", f"{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={_SESSION_S}")
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(data)

"""Reasons and late rejects by MQTT: what an operator's panel says on the gateway's own topic, as amendments.

Decides the message, how much of it is taken, and the answer. The same message twice is one amendment: its sender gives
each an id, and sends it again until an answer comes. Who may publish there is the broker's to decide (its ACL); what an
amendment is, and whether it has an effect, is `amend_input`'s.

    {"id": …, "line": …, "kind": "reason", "stop": …, "reason": …, "who": …, "why": …}
    {"id": …, "line": …, "kind": "reject", "from": …, "to": …, "count": …, "who": …, "why": …}
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from agent.amend_input import Said, line_of, queue, reason_amendment, reject_amendment
from agent.amend_words import change_words
from agent.spool import QueuedAmendment, Sender, Spool
from agent.stops import find_stop, time_ms
from agent.toml_table import Table
from protocols.errors import ConfigurationError, LinetallyError, Malformed, Refused
from protocols.measurement.amendment import Amendment
from protocols.measurement.configuration import LineConfiguration

MOST_BYTES: Final = 4096
BURST: Final = 30
"""Messages that may come at once; after them one each `EACH_S`."""
EACH_S: Final = 2.0
MOST_WAITING: Final = 200
"""Amendments that wait to be signed: more are taken by nobody's hand."""
_MOST_COUNT: Final = 10_000_000
_MOST_WORDS: Final = 1000
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "operator"})


class OperatorInput:
    """Takes messages of panels for `lines`, which may be set anew. One at a time, in any thread: to look through days
    of records takes a while, so it opens the spool for itself, as the command and the page do.
    """

    def __init__(
        self, state_folder: Path, lines: Iterable[LineConfiguration], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.lines = tuple(lines)
        self._folder = state_folder
        self._clock_s = clock_s
        self._room = float(BURST)
        self._looked_s = clock_s()
        self._told = False

    def take(self, payload: bytes) -> bytes | None:
        """The answer, as JSON; None for a message beyond the rate, of which only the first is answered.

        `id` as it came (null where it cannot be read), `state` ("waiting", "signed" or "refused"), `amendment` (its
        number, or null), `words` for a person.
        """
        if not self._has_room():
            if self._told:
                return None
            self._told = True
            _log.warning("more than %d messages at once; the others are not taken", BURST)
            return _answer(_id_of(payload), "refused", None, f"too many at once: send it again in {EACH_S:.0f} s")
        self._told = False
        id_ = None
        try:
            data = _parsed(payload)
            id_ = _id(data)
            sender = Sender(id_, hashlib.sha256(json.dumps(data, sort_keys=True).encode()).digest())
            with Spool.open_beside(self._folder) as spool:
                return self._taken(spool, Table(data, (), "", dict), sender)
        except ConfigurationError as error:  # of a key of the message; its words are those of a file's
            words = f"{error.what}; {error.mend.replace(' = ', ': ', 1)}"
        except LinetallyError as error:
            words = str(error)
        return _answer(id_, "refused", None, words)

    def _taken(self, spool: Spool, table: Table, sender: Sender) -> bytes:
        known = spool.amendment_of(sender.id)
        if known is not None:
            queued, digest = known
            if digest != sender.digest:
                raise Refused("id-used", f"the id {sender.id} was given to something else: give each message its own")
            return _answer(sender.id, queued.state, queued.id, _state_words(queued))
        amendment = self._amendment(spool, table)
        if len(spool.next_amendments()) >= MOST_WAITING:
            raise Refused("too-many", f"{MOST_WAITING} amendments wait to be signed: send it again later")
        number = queue(spool, amendment, sender)
        changes = change_words(amendment)
        _log.info("amendment %d by %s is queued: %s", number, amendment.who, changes[0])
        more = f" and {len(changes) - 1} more windows" if len(changes) > 1 else ""
        return _answer(sender.id, "waiting", number, f"amendment {number} is queued: {changes[0]}{more}")

    def _amendment(self, spool: Spool, table: Table) -> Amendment:
        kind = table.choice("kind", ("reason", "reject"))
        line = line_of(self.lines, table.text("line", example='"filling"'))
        said = Said(table.text("who", example='"M. Chan"'), table.text("why", example='"seen at the line"'))
        zone = ZoneInfo(line.calendar.timezone)

        def at_ms(key: str) -> int:
            return time_ms(key, table.text(key, example='"2026-11-21T14:03:20"'), zone)

        if kind == "reason":
            stop, reason = table.text("stop", example='"2026-11-21T14:03:20" or "last"'), _reason(table)
            table.done()
            found = find_stop(spool, line.line_id, stop, zone)
            return reason_amendment(spool, line.line_id, found, reason, said)
        lot = (at_ms("from"), at_ms("to"))
        count = table.integer("count", None, -_MOST_COUNT, _MOST_COUNT)
        product = table.optional_text("product")
        counted = None
        if "counted_from" in table or "counted_to" in table:
            counted = (at_ms("counted_from"), at_ms("counted_to"))
        table.done()
        return reject_amendment(spool, line.line_id, lot, count, said, product, counted)

    def _has_room(self) -> bool:
        now_s = self._clock_s()
        self._room = min(BURST, self._room + (now_s - self._looked_s) / EACH_S)
        self._looked_s = now_s
        if self._room < 1:
            return False
        self._room -= 1
        return True


def _reason(table: Table) -> str:
    """A text; a whole number is one of the reason tag's codes, written as it is where one was measured."""
    try:
        return f"#{table.integer('reason', None, 1, 2**53)}"
    except ConfigurationError:
        return table.text("reason", example='"film torn", or a code: 7')


def _parsed(payload: bytes) -> dict[str, Any]:
    """Raises Malformed."""
    if len(payload) > MOST_BYTES:
        raise Malformed(f"the message has {len(payload)} bytes; at most {MOST_BYTES} are taken")
    try:
        data = json.loads(payload.decode())
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the message is no JSON in UTF-8: {error}") from None
    if not isinstance(data, dict):
        raise Malformed('the message must be a JSON object: {"id": "…", "kind": "reason", …}')
    return data


def _id(data: dict[str, Any]) -> str:
    """Takes the id out of the message. Raises Malformed."""
    id_ = data.get("id")
    if not isinstance(id_, str) or not _ID.fullmatch(id_):
        raise Malformed('id: each message needs one of its own, 1 to 64 of A-Z a-z 0-9 _ . : -, for example "p3-0815"')
    return str(data.pop("id"))


def _id_of(payload: bytes) -> str | None:
    try:
        return _id(_parsed(payload))
    except Malformed:
        return None


def _state_words(queued: QueuedAmendment) -> str:
    if queued.state == "signed":
        return f"amendment {queued.id} is signed, in record {queued.sequence}"
    return f"amendment {queued.id} is queued" if queued.state == "waiting" else f"it was refused: {queued.words}"


def _answer(id_: str | None, state: str, number: int | None, words: str) -> bytes:
    return json.dumps({"id": id_, "state": state, "amendment": number, "words": words[:_MOST_WORDS]}).encode()

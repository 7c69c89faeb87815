"""What the hub asks of a gateway's raw samples, and what comes back: the wire form of a challenge and its answers.

Decides their bytes and bounds. Does not decide which minutes are asked for (the hub's audit), nor whether a piece is
what the gateway committed to (`protocols.evidence.raw.verify_piece`).

Deterministic CBOR. A challenge, hub to gateway:

    [1, id, line_id, [[from_ms, to_ms], ...]]

and its answers, gateway to hub, each a message of its own, in any order and perhaps more than once:

    [1, id, number, of, piece, ""]        number 0 .. of - 1: an encoded piece
    [1, id, of, of, null, words]          the end: `of` pieces in all, and in words what was asked for and is not held

Nothing is held of it: `of` is 0, and the end is all there is. A challenge is not signed: an answer proves itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from protocols.errors import Malformed
from protocols.evidence import canonical
from protocols.evidence.fields import as_bytes, as_id, as_int, as_list, as_text, as_time_ms

VERSION: Final = 1
ID_LENGTH: Final = 16
MAX_SPANS: Final = 1000
MAX_ASKED_MS: Final = 31 * 86_400_000
"""All spans of one challenge together."""
MAX_CHALLENGE_BYTES: Final = 32_768
MAX_ANSWER_BYTES: Final = 131_072
"""What every broker on the way takes. A chunk that is longer is handed over as a file."""
MAX_PIECES: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Challenge:
    """All chunks of `line_id` that overlap a span (from_ms, to_ms]. `spans`: in order of time, none over another.

    `id`: 16 random bytes; the same challenge sent again is answered again.
    """

    id: bytes
    line_id: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One message of an answer; its end if `piece` (encoded) is None. `words`: what is not held, for a person."""

    id: bytes
    number: int
    of: int
    piece: bytes | None
    words: str = ""


def encode_challenge(challenge: Challenge) -> bytes:
    """Raises Malformed for a challenge that `decode_challenge` would refuse."""
    data = canonical.encode([VERSION, challenge.id, challenge.line_id, [list(span) for span in challenge.spans]])
    decode_challenge(data)
    return data


def decode_challenge(data: bytes) -> Challenge:
    """Raises Malformed, naming the field."""
    version, id_, line_id, wire_spans = as_list(canonical.decode(data, MAX_CHALLENGE_BYTES), "challenge", 4)
    as_int(version, "challenge: version", VERSION, VERSION)
    items = as_list(wire_spans, "challenge: spans")
    if not 1 <= len(items) <= MAX_SPANS:
        raise Malformed(f"challenge: 1 to {MAX_SPANS} spans")
    spans = []
    for item in items:
        from_ms, to_ms = as_list(item, "challenge: a span", 2)
        spans.append((as_time_ms(from_ms, "challenge: from"), as_time_ms(to_ms, "challenge: to")))
    if any(to_ms <= from_ms for from_ms, to_ms in spans):
        raise Malformed("challenge: a span ends before it starts, or is empty")
    if any(after[0] < before[1] for before, after in pairwise(spans)):
        raise Malformed("challenge: spans must be in order of time, none over another")
    if sum(to_ms - from_ms for from_ms, to_ms in spans) > MAX_ASKED_MS:
        raise Malformed("challenge: more than 31 days in all")
    return Challenge(as_bytes(id_, "challenge: id", ID_LENGTH), as_id(line_id, "challenge: line id"), tuple(spans))


def encode_answer(answer: Answer) -> bytes:
    """Raises Malformed for an answer that `decode_answer` would refuse; a long piece among them."""
    data = canonical.encode([VERSION, answer.id, answer.number, answer.of, answer.piece, answer.words])
    decode_answer(data)
    return data


def decode_answer(data: bytes) -> Answer:
    """Raises Malformed, naming the field. The piece is not looked into."""
    wire = as_list(canonical.decode(data, MAX_ANSWER_BYTES), "answer", 6)
    as_int(wire[0], "answer: version", VERSION, VERSION)
    of = as_int(wire[3], "answer: of", 0, MAX_PIECES)
    number = as_int(wire[2], "answer: number", 0, of)
    piece, words = wire[4], as_text(wire[5], "answer: words")
    if piece is not None and not isinstance(piece, bytes):
        raise Malformed("answer: a piece must be bytes, or null at the end")
    if (piece is None) != (number == of) or (piece is not None and words):
        raise Malformed("answer: the last message, and only it, has no piece and may have words")
    return Answer(as_bytes(wire[1], "answer: id", ID_LENGTH), number, of, piece, words)

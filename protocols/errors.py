"""Whose fault it was: the types of error that every part of linetally raises.

Decides only the names. Evidence stands in fields, so that a caller can act on it; the words are for people.
"""

from __future__ import annotations


class LinetallyError(Exception):
    """The root of every error that linetally raises on purpose."""


class Malformed(LinetallyError):
    """The peer's bytes do not parse, or are not in the one canonical form.

    `offset` is the first byte that is wrong, where it is known.
    """

    def __init__(self, what: str, offset: int | None = None) -> None:
        super().__init__(what if offset is None else f"{what} (at byte {offset})")
        self.what = what
        self.offset = offset


class Unverified(LinetallyError):
    """The bytes parse, but a signature, hash or proof does not hold."""


class Refused(LinetallyError):
    """Valid and genuine, but not allowed: an unknown key, another project's line, a revoked gateway.

    `code` is a short stable word for machines, e.g. "not-enrolled".
    """

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


class ConfigurationError(LinetallyError):
    """The user's configuration cannot be used. Says where, what, and what to write instead."""

    def __init__(self, what: str, *, file: str | None = None, line: int | None = None, mend: str = "") -> None:
        place = "" if file is None else f"{file}: " if line is None else f"{file}, line {line}: "
        super().__init__(place + what + (f"\n  {mend}" if mend else ""))
        self.what = what
        self.file = file
        self.line = line
        self.mend = mend

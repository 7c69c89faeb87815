"""The definition of OEE that a number was made with: one versioned, hashed object.

Decides which switches there are, what they may be, and the presets. What a switch does to a figure is decided in
`ratios` and `losses`; what it says in plain words, in `explain`. The hash stands in every record and beside every
figure, so that two numbers are compared only when they mean the same. An account is measured alike under all of
them, but for the times at the end of `Definition`: one log can be read under several definitions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from protocols.errors import Malformed

VERSION: Final = 1
_LONGEST_MS: Final = 86_400_000  # a "minor" stop of a day would be a mistake in the unit


def data_hash(data: object) -> bytes:
    """SHA-256 (32 bytes) of `data` in the JSON Canonicalization Scheme (RFC 8785).

    Only for objects, arrays, strings and integers below 2**53, for which sorted keys and no spaces are all the
    scheme asks of us; keys must be ASCII, so that code-point order and UTF-16 order are the same.
    """
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).digest()


class Charge(StrEnum):
    """What a kind of time is charged to."""

    AVAILABILITY = "availability"  # planned busy time, lost
    PERFORMANCE = "performance"  # counted as if it were running time, so that it shows as lost speed
    EXCLUDED = "excluded"  # no planned busy time at all: a loss of the schedule


class Rework(StrEnum):
    """What a piece is that was not good at its first pass and went through again. ISO: PQ = GQ + SQ + RQ."""

    BAD = "bad"  # never good
    GOOD = "good"  # good in the end


class Mtbf(StrEnum):
    """How the mean time between failures is made."""

    TTF_AND_TTR = "mttf+mttr"  # running time to a failure, and the repair
    PLANNED_TIME = "pot/failures"  # observed planned operation time for each failure
    UPTIME = "uptime/failures"  # running and set-up time for each failure: ISO 22400-2 (TBF), SMRP 3.5.1


class TeepCalendar(StrEnum):
    """The time that TEEP is taken of."""

    ALL = "all"  # 24 hours, every day
    SHIFTS = "shifts"  # the shifts with their breaks, where running at other times is not allowed


@dataclass(frozen=True, slots=True)
class Definition:
    """The switches. The defaults are ISO 22400-2:2014's, as linetally applies it.

    `minor_stop_ms`: a closed stop shorter than this is a minor stop (0: none is). The threshold is in no standard;
    five minutes is this field's habit (Nakajima, TPM: "less than five to ten minutes").
    `minor_stop_side`: AVAILABILITY (ISO: a minor stop leaves APT) or PERFORMANCE (TPM).
    `setup`, `planned_down`, `no_order`, `restraint`: AVAILABILITY, or EXCLUDED from the planned busy time.
    The last three act when a line is measured, all others when a figure is made. `startup_ms`: how long after a
    start a reject is a start-up reject; `min_run_ms`, `min_stop_ms`: shorter runs and stops are flapping and belong
    to what surrounds them (0: nothing is).
    """

    preset: str = "iso-22400-2"
    version: int = VERSION
    minor_stop_ms: int = 300_000
    minor_stop_side: Charge = Charge.AVAILABILITY
    setup: Charge = Charge.AVAILABILITY
    planned_down: Charge = Charge.EXCLUDED
    no_order: Charge = Charge.AVAILABILITY
    restraint: Charge = Charge.AVAILABILITY
    rework: Rework = Rework.BAD
    mtbf: Mtbf = Mtbf.UPTIME
    teep_calendar: TeepCalendar = TeepCalendar.ALL
    startup_ms: int = 0
    min_run_ms: int = 0
    min_stop_ms: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str) or not 1 <= len(self.preset) <= 64 or not self.preset.isascii():
            raise Malformed(f"a definition's preset is 1 to 64 ASCII characters, not {self.preset!r}")
        if type(self.version) is not int or self.version != VERSION:
            raise Malformed(f"definition version {self.version!r} is not known; this is version {VERSION}")
        for name in TIMES:
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= _LONGEST_MS:
                raise Malformed(f"{name} is whole milliseconds from 0 to {_LONGEST_MS}, not {value!r}")
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed or not isinstance(value, StrEnum):
                raise Malformed(f"{name} is one of {', '.join(allowed)}, not {value!r}")

    def to_data(self) -> dict[str, Any]:
        """Strings and integers by name."""
        return {
            field.name: str(value) if isinstance(value := getattr(self, field.name), str) else value
            for field in fields(self)
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Definition:
        """The inverse of `to_data`. Raises Malformed for unknown or missing keys, and for what is not allowed."""
        if set(data) != _KEYS:
            raise Malformed(f"a definition needs the keys {sorted(_KEYS)}, not {sorted(data, key=str)}")
        values = dict(data)
        for name, allowed in CHOICES.items():
            by_text: dict[Any, StrEnum] = {str(choice): choice for choice in allowed}
            if not isinstance(values[name], str) or values[name] not in by_text:
                raise Malformed(f"{name} is one of {', '.join(allowed)}, not {values[name]!r}")
            values[name] = by_text[values[name]]
        return cls(**values)

    @property
    def hash(self) -> bytes:
        """32 bytes that two definitions share only if every switch is the same."""
        return data_hash(self.to_data())

    @property
    def changes(self) -> tuple[str, ...]:
        """The names of the switches that are not as in the preset that this one is called after."""
        preset = PRESETS.get(self.preset)
        if preset is None:
            return ()
        return tuple(f.name for f in fields(self) if getattr(self, f.name) != getattr(preset, f.name))

    @property
    def words(self) -> str:
        """The definition in one line, as it stands beside a figure: the preset, minor stops, and what was changed."""
        side = self.minor_stop_side.capitalize()
        minor = f"stops under {self.minor_stop_ms / 1000:g} s are {side} loss"
        if not self.minor_stop_ms:
            minor = "no minor stops"
        told = ("minor_stop_ms", "minor_stop_side")
        changed = [f"{name} {getattr(self, name)}" for name in self.changes if name not in told]
        return "; ".join([PRESET_NAMES.get(self.preset, self.preset), minor, *changed])


_LOST_OR_OUT: Final = (Charge.AVAILABILITY, Charge.EXCLUDED)
CHOICES: Final[Mapping[str, tuple[StrEnum, ...]]] = {
    "minor_stop_side": (Charge.AVAILABILITY, Charge.PERFORMANCE),
    "setup": _LOST_OR_OUT,
    "planned_down": _LOST_OR_OUT,
    "no_order": _LOST_OR_OUT,
    "restraint": _LOST_OR_OUT,
    "rework": tuple(Rework),
    "mtbf": tuple(Mtbf),
    "teep_calendar": tuple(TeepCalendar),
}
"""What each switch may be."""
TIMES: Final = ("minor_stop_ms", "startup_ms", "min_run_ms", "min_stop_ms")
"""The switches that are whole milliseconds."""
_KEYS: Final = {"preset", "version", *TIMES, *CHOICES}

ISO: Final = Definition()
TPM: Final = Definition(preset="tpm", minor_stop_side=Charge.PERFORMANCE, no_order=Charge.EXCLUDED)
OEE_INDUSTRY_STANDARD: Final = Definition(
    preset="oee-industry-standard",
    minor_stop_side=Charge.PERFORMANCE,
    planned_down=Charge.AVAILABILITY,
    no_order=Charge.EXCLUDED,
)
SMRP: Final = Definition(
    preset="smrp",
    minor_stop_side=Charge.PERFORMANCE,
    planned_down=Charge.AVAILABILITY,
    no_order=Charge.EXCLUDED,
)
PRESETS: Final = {preset.preset: preset for preset in (ISO, TPM, OEE_INDUSTRY_STANDARD, SMRP)}
PRESET_NAMES: Final = {
    ISO.preset: "ISO 22400-2",
    TPM.preset: "TPM",
    OEE_INDUSTRY_STANDARD.preset: "OEE Industry Standard",
    SMRP.preset: "SMRP 2.1.1",
}

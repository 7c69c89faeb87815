"""The definition of OEE that a number was made with: one versioned, hashed object.

Decides which rules apply; the rules themselves live in `mapping`, `timeline` and `ratios`. The hash stands in
every record and beside every figure, so that two numbers are compared only when they mean the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from protocols.errors import Malformed


def data_hash(data: object) -> bytes:
    """SHA-256 (32 bytes) of `data` in the JSON Canonicalization Scheme (RFC 8785).

    Only for objects, arrays, strings and integers below 2**53, for which sorted keys and no spaces are all the
    scheme asks of us; keys must be ASCII, so that code-point order and UTF-16 order are the same.
    """
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Definition:
    """ISO 22400-2:2014 as linetally applies it.

    `minor_stop_ms`: a closed stop shorter than this is a minor stop (0: none is). The threshold is not in the
    standard; five minutes is this field's habit (Nakajima, TPM: "less than five to ten minutes").
    `minor_stop_in_performance`: False books minor stops as an Availability loss (ISO: they leave APT); True as a
    Performance loss (TPM).
    """

    preset: str = "iso-22400-2"
    version: int = 1
    minor_stop_ms: int = 300_000
    minor_stop_in_performance: bool = False

    def to_data(self) -> dict[str, Any]:
        return {
            "minor_stop_in_performance": int(self.minor_stop_in_performance),
            "minor_stop_ms": self.minor_stop_ms,
            "preset": self.preset,
            "version": self.version,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Definition:
        """The inverse of `to_data`. Raises Malformed for unknown or missing keys."""
        if set(data) != set(ISO.to_data()):
            raise Malformed(f"a definition needs the keys {sorted(ISO.to_data())}, not {sorted(data)}")
        return cls(data["preset"], data["version"], data["minor_stop_ms"], bool(data["minor_stop_in_performance"]))

    @property
    def hash(self) -> bytes:
        return data_hash(self.to_data())

    @property
    def words(self) -> str:
        """The definition in one line, as it stands beside a figure."""
        side = "Performance" if self.minor_stop_in_performance else "Availability"
        return (
            f"{PRESET_NAMES.get(self.preset, self.preset)}; stops under {self.minor_stop_ms // 1000} s are {side} loss"
        )


ISO: Final = Definition()
TPM: Final = Definition(preset="tpm", minor_stop_in_performance=True)
PRESETS: Final = {ISO.preset: ISO, TPM.preset: TPM}
PRESET_NAMES: Final = {ISO.preset: "ISO 22400-2", TPM.preset: "TPM"}

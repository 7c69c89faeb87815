"""A gateway's live message as it comes from the broker, and what is accepted of it.

Decides the limits of unsigned telemetry: it comes over the network and is never evidence. A line that is malformed is
refused by itself, with its reason; the others are taken. What a page shows of a line is decided in
`hub.api.live_message`. docs/formats.md has the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocols.errors import Malformed
from protocols.measurement.account import ACCOUNT_INTS, Category
from protocols.measurement.definition import Definition
from protocols.plc.packml import State
from protocols.wire.live import MAX_BYTES, MAX_INTERVAL_S, VERSION

MAX_LINES: Final = 1_000
"""In one message. No line's part is so short that more of them were in MAX_BYTES."""
# JSON's numbers are doubles in a browser: integers above this would change on their way.
SAFE: Final = 2**53 - 1

Milliseconds = Annotated[int, Field(ge=0, le=SAFE, strict=True)]
Count = Annotated[int, Field(ge=-SAFE, le=SAFE, strict=True)]
Name = Annotated[str, Field(max_length=200)]
StateName = Annotated[str, Field(pattern="^(" + "|".join(State.__members__) + ")$")]
CategoryName = Annotated[str, Field(pattern="^(" + "|".join(Category.__members__) + ")$")]
CategoryNumber = Annotated[int, Field(ge=0, lt=len(Category), strict=True)]
DefinitionHash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
AccountInts = Annotated[
    list[Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]],
    Field(min_length=ACCOUNT_INTS, max_length=ACCOUNT_INTS),
]


class Accepted(BaseModel):
    """Unknown keys are ignored."""

    model_config = ConfigDict(frozen=True)


class Stop(Accepted):
    """A stop of the shift; `end_ms` is null while it lasts."""

    start_ms: Milliseconds
    end_ms: Milliseconds | None
    category: CategoryName
    reason: Annotated[str, Field(max_length=500)] = ""


class LiveReceipt(Accepted):
    """The newest receipt that the gateway holds."""

    sequence: Milliseconds
    time_ms: Milliseconds


class LinePart(Accepted):
    """What a message says of one line. `ribbon` and `stops` are left out while they are as they were told last."""

    line: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]
    name: Name
    definition: DefinitionHash
    state: StateName
    category: CategoryName
    since_ms: Milliseconds
    product: Name = ""
    order: Name = ""
    shift: Name = ""
    shift_start_ms: Milliseconds | None = None
    shift_end_ms: Milliseconds | None = None
    shift_account: AccountInts
    window_account: AccountInts
    target_shift: Count | None = None
    target_now: Count | None = None
    pieces_per_hour: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    ribbon: Annotated[list[tuple[Milliseconds, CategoryName | CategoryNumber]], Field(max_length=1000)] | None = None
    stops: Annotated[list[Stop], Field(max_length=100)] | None = None
    late_count: Annotated[int, Field(ge=0, le=SAFE)] = 0


class DefinitionPart(Accepted):
    """A definition that lines name by its hash."""

    words: Annotated[str, Field(max_length=300)]
    data: Annotated[dict[Name, Name | Count], Field(max_length=40)]


class GatewayPart(Accepted):
    """What a message says once for all its lines, which are not looked at here."""

    v: Annotated[int, Field(ge=VERSION, le=VERSION)]
    time_ms: Milliseconds
    interval_s: Annotated[int, Field(ge=1, le=MAX_INTERVAL_S, strict=True)] = 1
    simulated: bool = False
    receipt: LiveReceipt | None = None
    spool_depth: Annotated[int, Field(ge=0, le=SAFE)] = 0
    definitions: dict[str, Any]
    lines: Annotated[list[Any], Field(max_length=MAX_LINES)]


@dataclass(frozen=True, slots=True)
class LiveLine:
    """One line of a message, with what the message says of all."""

    gateway: GatewayPart
    line: LinePart
    definition: Definition
    words: str
    """The definition's."""

    def after(self, before: LiveLine) -> LiveLine:
        """With the ribbon and the stops that the one before told, where this one leaves them out."""
        left = {name: getattr(before.line, name) for name in ("ribbon", "stops") if getattr(self.line, name) is None}
        return replace(self, line=self.line.model_copy(update=left)) if left else self


@dataclass(frozen=True, slots=True)
class LiveParts:
    """The lines that are taken; and why others are not, a line of words each."""

    lines: list[LiveLine]
    refused: list[str]


def parse_live(payload: bytes | bytearray, speaks_for: Callable[[str], bool]) -> LiveParts:
    """A message's lines, those left out for which its gateway does not speak. Raises Malformed where the message as a
    whole is not within the limits."""
    if len(payload) > MAX_BYTES:
        raise Malformed(f"{len(payload)} bytes are over {MAX_BYTES}")
    gateway = _accepted(GatewayPart, GatewayPart.model_validate_json, payload)
    definitions = _Definitions(gateway.definitions)
    lines, refused = list[LiveLine](), list[str]()
    for part in gateway.lines:
        line_id = part.get("line") if isinstance(part, dict) else None
        if isinstance(line_id, str) and not speaks_for(line_id):
            continue
        try:
            line = _accepted(LinePart, LinePart.model_validate, part)
            lines.append(LiveLine(gateway, line, *definitions[line.definition]))
        except Malformed as error:
            refused.append(f"line {str(line_id)[:64]!r}: {error.what}")
    return LiveParts(lines, refused)


class _Definitions(dict[str, tuple[Definition, str]]):
    """Those that a message brings, with their words, each looked at when a line names it. Raises Malformed."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = parts

    def __missing__(self, name: str) -> tuple[Definition, str]:
        if name not in self._parts:
            raise Malformed(f"the message does not bring its definition {name[:8]}")
        part = _accepted(DefinitionPart, DefinitionPart.model_validate, self._parts[name])
        definition = _definition(tuple(sorted(part.data.items())))
        if definition.hash.hex() != name:
            raise Malformed(f"its definition has another hash than {name[:8]}, by which the message names it")
        self[name] = definition, part.words
        return self[name]


@lru_cache(256)
def _definition(items: tuple[tuple[str, Any], ...]) -> Definition:
    return Definition.from_data(dict(items))


_Model = TypeVar("_Model", bound=Accepted)


def _accepted(model: type[_Model], validate: Callable[[Any], _Model], data: Any) -> _Model:
    try:
        return validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Malformed(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error

"""A gateway's live message: what is accepted of it, and the view that the pages show.

Decides the limits of unsigned telemetry (it comes over the network and is never evidence) and turns its integers
into figures, once for all readers. The signed windows take another way: ingest, log, index.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub.api.figures import Figures, Frozen, figures
from hub.live import Loss
from protocols.errors import Malformed
from protocols.measurement.account import ACCOUNT_INTS, Category, TimeAccount
from protocols.measurement.definition import ISO, Definition
from protocols.plc.packml import State

MAX_MESSAGE_BYTES: Final = 65_536
MAX_RIBBON: Final = 400
MAX_STOPS: Final = 5
# JSON's numbers are doubles in a browser: integers above this would change on their way.
SAFE: Final = 2**53 - 1

Milliseconds = Annotated[int, Field(ge=0, le=SAFE, strict=True)]
Count = Annotated[int, Field(ge=-SAFE, le=SAFE, strict=True)]
Name = Annotated[str, Field(max_length=200)]
StateName = Annotated[str, Field(pattern="^(" + "|".join(State.__members__) + ")$")]
CategoryName = Annotated[str, Field(pattern="^(" + "|".join(Category.__members__) + ")$")]
CategoryNumber = Annotated[int, Field(ge=0, lt=len(Category), strict=True)]
AccountInts = Annotated[
    list[Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]],
    Field(min_length=ACCOUNT_INTS, max_length=ACCOUNT_INTS),
]


class Stop(Frozen):
    """A stop of the shift; `end_ms` is null while it lasts."""

    start_ms: Milliseconds
    end_ms: Milliseconds | None
    category: CategoryName
    reason: Annotated[str, Field(max_length=500)] = ""


class ShownStop(Stop):
    """A stop on a page. `measured_reason`: what the gateway said, where somebody put the reason right afterwards."""

    measured_reason: str | None = None


class LiveReceipt(Frozen):
    """The newest receipt that the gateway holds."""

    sequence: Milliseconds
    time_ms: Milliseconds


class LiveMessage(BaseModel):
    """The wire form: topic linetally/v1/<gateway>/live, JSON, about one a second a line. Unknown keys are ignored."""

    model_config = ConfigDict(frozen=True)

    v: Annotated[int, Field(ge=1, le=1)]
    line: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]
    name: Name
    time_ms: Milliseconds
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
    ribbon: Annotated[list[tuple[Milliseconds, CategoryName | CategoryNumber]], Field(max_length=1000)] = []
    stops: Annotated[list[Stop], Field(max_length=100)] = []
    simulated: bool = False
    late_count: Annotated[int, Field(ge=0, le=SAFE)] = 0
    receipt: LiveReceipt | None = None
    spool_depth: Annotated[int, Field(ge=0, le=SAFE)] = 0
    definition: Annotated[str, Field(max_length=300)] = ""
    definition_hash: Annotated[str, Field(pattern="^[0-9a-f]{0,64}$")] = ""
    definition_data: Annotated[dict[Name, Name | Count], Field(max_length=40)] | None = None


class Source(StrEnum):
    """By what a line was heard."""

    LIVE = "live"  # its agent's live message
    SPARKPLUG = "sparkplug"


class Told(Frozen):
    """The shift so far as Sparkplug tells it: rounded by the gateway, null where it does not say."""

    oee_percent: float | None
    availability_percent: float | None
    effectiveness_percent: float | None
    quality_percent: float | None
    total_count: int | None
    good_count: int | None
    reject_count: int | None


class LineView(Frozen):
    """What a page shows of a line, with figures made from integers. Times are ms UTC; `timezone` is the site's.

    Of a line that is heard by Sparkplug alone, `told` stands instead of the figures, and `name` is empty. `gone`: why
    it is not heard any more, where the broker or its gateway has said so (at `gone_ms`, the hub's clock); a line of the
    source "live" that is silent for some seconds is not heard either, one of the source "sparkplug" says only changes.
    `ribbon`: [start, category] of each run, oldest first; `stops`: newest first; `trend`: [time, pieces an hour].
    """

    line: str
    name: str
    gateway: str
    source: Source = Source.LIVE
    timezone: str
    time_ms: int
    received_ms: int
    gone: Loss | None = None
    gone_ms: int | None = None
    state: str
    category: str
    since_ms: int
    product: str
    order: str
    shift: str
    shift_start_ms: int | None
    shift_end_ms: int | None
    shift_figures: Figures | None
    recent_figures: Figures | None
    told: Told | None = None
    target_shift: int | None
    target_now: int | None
    pieces_per_hour: float | None
    trend: list[tuple[int, float]]
    ribbon: list[tuple[int, str]]
    stops: list[ShownStop]
    simulated: bool
    late_count: int
    receipt: LiveReceipt | None
    spool_depth: int
    definition: str
    definition_hash: str


def parse_live(payload: bytes | str | Mapping[str, Any]) -> LiveMessage:
    """The message of one line. Raises Malformed for anything that is not within the limits above."""
    try:
        if isinstance(payload, Mapping):
            message = LiveMessage.model_validate(dict(payload))
        else:
            if len(payload) > MAX_MESSAGE_BYTES:
                raise Malformed(f"a live message of {len(payload)} bytes, over {MAX_MESSAGE_BYTES}")
            message = LiveMessage.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Malformed(f"live message: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    _definition(message)
    return message


def _definition(message: LiveMessage) -> Definition:
    """What its figures are made with; ISO when it brings none. Raises Malformed when it is not the one it names."""
    if message.definition_data is None:
        return ISO
    definition = Definition.from_data(message.definition_data)
    if definition.hash.hex() != message.definition_hash:
        raise Malformed("live message: its definition has another hash than the one it names")
    return definition


def present(
    message: LiveMessage,
    *,
    gateway: str,
    timezone: str,
    received_ms: int,
    trend: list[tuple[int, float]],
    amended: Mapping[int, str] = MappingProxyType({}),
) -> LineView:
    """The view of a message. `trend`: (time_ms, pieces an hour) of the last minutes, oldest first. `amended`: reasons
    that were given afterwards, by when their stop began."""
    definition = _definition(message)
    return LineView(
        line=message.line,
        name=message.name,
        gateway=gateway,
        timezone=timezone,
        time_ms=message.time_ms,
        received_ms=received_ms,
        state=message.state,
        category=message.category,
        since_ms=message.since_ms,
        product=message.product,
        order=message.order,
        shift=message.shift,
        shift_start_ms=message.shift_start_ms,
        shift_end_ms=message.shift_end_ms,
        shift_figures=figures(TimeAccount.from_ints(message.shift_account), definition),
        recent_figures=figures(TimeAccount.from_ints(message.window_account), definition),
        target_shift=message.target_shift,
        target_now=message.target_now,
        pieces_per_hour=message.pieces_per_hour,
        trend=trend,
        ribbon=[
            (at, Category(what).name if isinstance(what, int) else what) for at, what in message.ribbon[-MAX_RIBBON:]
        ],
        stops=[
            _shown(stop, amended.get(stop.start_ms))
            for stop in sorted(message.stops, key=lambda stop: -stop.start_ms)[:MAX_STOPS]
        ],
        simulated=message.simulated,
        late_count=message.late_count,
        receipt=message.receipt,
        spool_depth=message.spool_depth,
        definition=message.definition,
        definition_hash=message.definition_hash,
    )


def _shown(stop: Stop, amended: str | None) -> ShownStop:
    shown = ShownStop(**stop.model_dump())
    return shown if amended is None else shown.model_copy(update={"reason": amended, "measured_reason": stop.reason})

"""Under which definition sums are read, and where they come from: the selection behind a roll-up.

Decides what "as the lines are measured" is where they are measured differently, and how a preset is applied to what
was measured already: its switches act, but the times within which a stop is minor were settled when the windows were
signed, so the definition that is named, with its hash, has those times and not the preset's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from sqlalchemy import select

from hub import database as db
from hub.api.access import Identity
from hub.services import Services
from protocols.errors import Malformed
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.definition import ISO, OEE_INDUSTRY_STANDARD, SMRP, TIMES, TPM, Definition
from protocols.measurement.rollup import Place


class Wanted(StrEnum):
    """Under which definition figures are asked for."""

    LINE = "line"  # as the lines are measured
    ISO = "iso"
    TPM = "tpm"
    OEE = "oee-industry-standard"
    SMRP = "smrp"


_PRESETS: Final = {
    Wanted.ISO: ISO, Wanted.TPM: TPM, Wanted.OEE: OEE_INDUSTRY_STANDARD, Wanted.SMRP: SMRP,
}  # fmt: skip
MIXED: Final = "mixed-definitions"
MIXED_TIMES: Final = "mixed-times"


@dataclass(frozen=True, slots=True)
class Reading:
    """`doubt`: "", or MIXED or MIXED_TIMES, with `words` for it."""

    definition: Definition
    doubt: str = ""
    words: str = ""


def read_under(wanted: Wanted, measured: Iterable[Definition]) -> Reading:
    """The definition for sums of windows that were measured under these."""
    own = set(measured)
    if not own:
        return Reading(_PRESETS.get(wanted, ISO))
    if wanted is Wanted.LINE and len(own) == 1:
        return Reading(own.pop())
    preset = _PRESETS.get(wanted, ISO)
    times = {tuple(getattr(each, name) for name in TIMES) for each in own}
    if len(times) > 1:
        words = "these windows were measured with different limits for minor stops, start-up or flapping"
        return Reading(preset, MIXED_TIMES, words)
    minor_stop_ms, startup_ms, min_run_ms, min_stop_ms = times.pop()
    read = replace(
        preset, minor_stop_ms=minor_stop_ms, startup_ms=startup_ms, min_run_ms=min_run_ms, min_stop_ms=min_stop_ms
    )
    if wanted is Wanted.LINE:
        return Reading(read, MIXED, f"the lines are measured under {len(own)} definitions; they are read under ISO")
    return Reading(read)


@dataclass(frozen=True, slots=True)
class PlacedLine:
    """A line of the registry with its place. `part_of`: the line of which it is a machine."""

    place: Place
    name: str
    timezone: str
    simulated: bool
    part_of: str | None


def placed_lines(services: Services, who: Identity) -> dict[str, PlacedLine]:
    """Every line and machine in scope, by id."""
    line, project = db.line, db.project
    query = (
        select(line, project.c.scheme_id).outerjoin(project, project.c.id == line.c.project_id)
        .where(who.lines_in()).order_by(line.c.id)
    )  # fmt: skip
    with services.engine.connect() as connection:
        return {
            row.id: PlacedLine(
                Place(row.scheme_id or "", row.enterprise_id, row.site, row.area, row.project_id or "", row.id),
                row.name,
                row.timezone,
                row.simulated,
                row.part_of,
            )
            for row in connection.execute(query)
        }


def definitions(services: Services, used: Iterable[tuple[str, bytes]]) -> list[Definition]:
    """What these (line, configuration hash) pairs were measured under; one of another version is left out."""
    wanted = set(used)
    c = db.configuration.c
    query = select(c.line_id, c.hash, c.data).where(c.line_id.in_({line_id for line_id, _ in wanted}))
    out = []
    with services.engine.connect() as connection:
        for row in connection.execute(query):
            if (row.line_id, bytes(row.hash)) in wanted:
                try:
                    out.append(LineConfiguration.from_data(row.data).definition)
                except Malformed:
                    continue
    return out

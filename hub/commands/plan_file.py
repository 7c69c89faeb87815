"""The plan file: what a secretariat writes so that a plan can be registered.

Decides the file's keys and how its dates become instants; what a plan may say is decided in
`protocols.measurement.plan`. Dates are local days of the plan's time zone; the end is the first day that is out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hub.registry import Registry
from protocols.errors import ConfigurationError, Malformed, Refused
from protocols.measurement.definition import ISO, PRESETS, Definition
from protocols.measurement.plan import Period, Plan

_LIMITS: Final = (
    "minimum_effect_permille", "confidence_permille", "coverage_minimum_permille", "coverage_difference_permille",
    "apart_maximum_permille", "min_shifts",
)  # fmt: skip
_KEYS: Final = (
    "title", "lines", "timezone", "definition", "switches", "baseline", "commissioning", "reporting",
    "ideal_cycles_s", *_LIMITS,
)  # fmt: skip
_NS: Final = 1_000_000_000


def read_plan(path: Path, registry: Registry, project_id: str) -> Plan:
    """The plan of a file for a project. What the file leaves out comes from the registry and the plan's defaults.

    Raises ConfigurationError for the file, Refused for an unknown project.
    """
    project = registry.project(project_id)
    if project is None:
        raise Refused("not-found", f"there is no project {project_id!r}; see `linetally-hub project list`")
    scheme, enterprise = registry.scheme(project.scheme_id), registry.enterprise(project.enterprise_id)
    assert scheme is not None and enterprise is not None, "foreign keys hold"
    lines = registry.lines(project_id=project_id)
    tree = _tree(path)

    def wrong(key: str, what: str, mend: str = "") -> ConfigurationError:
        return ConfigurationError(f"{key}: {what}", file=str(path), mend=mend)

    for key in tree:
        if key not in _KEYS:
            raise wrong(key, "this key is not known", f"known: {', '.join(_KEYS)}")
    line_ids = tree.get("lines", [line.id for line in lines])
    if not isinstance(line_ids, list) or not set(line_ids) <= {line.id for line in lines} or not line_ids:
        raise wrong("lines", "must be lines of this project", f"it has: {', '.join(line.id for line in lines)}")
    name = tree.get("timezone", next(line.timezone for line in lines if line.id in line_ids))
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise wrong("timezone", f"{name!r} is no time zone", 'write one like "Asia/Hong_Kong"') from None
    definition = tree.get("definition", ISO.preset)
    if definition not in PRESETS:
        raise wrong("definition", f"{definition!r} is not known", f"write one of {', '.join(map(repr, PRESETS))}")
    limits = {key: tree[key] for key in _LIMITS if key in tree}
    for key, value in limits.items():
        if type(value) is not int:
            raise wrong(key, "must be a whole number")
    try:
        return Plan(
            project_id=project_id,
            scheme=scheme.id,
            title=str(tree.get("title", project.title)),
            enterprise=enterprise.name,
            line_ids=tuple(line_ids),
            baseline=_period(tree.get("baseline"), zone),
            commissioning=_period(tree.get("commissioning"), zone),
            reporting=_period(tree.get("reporting"), zone),
            ideal_cycles_ns=_cycles(tree.get("ideal_cycles_s")),
            definition=_definition(definition, tree.get("switches", {})),
            timezone=name,
            **limits,
        )
    except Malformed as error:
        raise wrong("the plan", error.what) from error


def _definition(preset: str, switches: object) -> Definition:
    """The preset with the switches that the plan sets otherwise, by the names and units of the definition itself."""
    known = PRESETS[preset].to_data()
    if not isinstance(switches, dict) or not switches.keys() <= known.keys() - {"preset", "version"}:
        raise Malformed(f"switches are of {', '.join(sorted(known.keys() - {'preset', 'version'}))}")
    return Definition.from_data(known | switches)


def _tree(path: Path) -> Mapping[str, Any]:
    try:
        # Decimal, so that 0.42 s is 420,000,000 ns and not the nearest float to it.
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the plan cannot be read: {error}", file=str(path)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"not TOML: {error}", file=str(path)) from error


def _period(value: object, zone: ZoneInfo) -> Period:
    if not isinstance(value, list) or len(value) != 2:
        raise Malformed("each period is [from, to], e.g. baseline = [2026-03-02, 2026-03-30]")
    return Period(_instant(value[0], zone), _instant(value[1], zone))


def _instant(value: object, zone: ZoneInfo) -> int:
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=zone)
    elif isinstance(value, date):
        moment = datetime.combine(value, time(), zone)
    else:
        raise Malformed(f"{value!r} is no date: write 2026-03-02, or 2026-03-02T08:00:00, without quotes")
    return round(moment.timestamp() * 1000)


def _cycles(value: object) -> dict[str, int]:
    if not isinstance(value, dict) or not value:
        raise Malformed('[ideal_cycles_s] needs each product with its seconds a piece, e.g. "Cola 330 ml" = 0.5')
    cycles: dict[str, int] = {}
    for product, seconds in value.items():
        if type(seconds) not in (int, Decimal) or not seconds > 0 or (Decimal(seconds) * _NS) % 1:
            raise Malformed(f"the ideal cycle of {product!r} must be seconds above 0, with at most nine decimals")
        cycles[product] = int(Decimal(seconds) * _NS)
    return cycles

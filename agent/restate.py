"""A window restated: new integers for one that is signed, and what follows from them.

Decides which sums follow by themselves from those that a person gives, so that the account stays one. Whether it may
be changed so is decided in `protocols.measurement.revisions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocols.errors import Refused
from protocols.measurement.account import ACCOUNT_FIELDS, TimeAccount
from protocols.measurement.amendment import FieldChange, WindowChange
from protocols.measurement.revisions import Stated

_PIECES: Final = ("total_count", "good_count", "reject_count")


def restated_window(stated: Stated, given: Mapping[str, int], ideal_cycle_ns: int | None) -> WindowChange:
    """The change that gives a window these integers, by their names in the account.

    Of good + reject = total the count that is not given follows (of two, the rejects); ideal times follow from the
    counts and `ideal_cycle_ns`, the cycle of the window's product. Raises Refused.
    """
    for name, value in given.items():
        if name not in ACCOUNT_FIELDS:
            raise Refused("unknown-sum", f"there is no sum {name!r}; there are: {', '.join(ACCOUNT_FIELDS)}")
        if not -(2**53) < value < 2**53:
            raise Refused("bad-value", f"{name}={value} is out of all bounds")
    window = stated.window
    old = dict(zip(ACCOUNT_FIELDS, window.account.as_ints(), strict=True))
    new = {**old, **given}
    if given.keys() & set(_PIECES):
        if "reject_count" not in given:
            new["reject_count"] = new["total_count"] - new["good_count"]
        elif "good_count" not in given:
            new["good_count"] = new["total_count"] - new["reject_count"]
        elif "total_count" not in given:
            new["total_count"] = new["good_count"] + new["reject_count"]
        _follow(window.account, given, new, ideal_cycle_ns)
    fields = tuple(
        FieldChange(i, old[name], new[name]) for i, name in enumerate(ACCOUNT_FIELDS) if old[name] != new[name]
    )
    if not fields:
        raise Refused("nothing", "the window says this already: nothing changes")
    return WindowChange(window.start_ms, window.end_ms, stated.sequence, fields)


def _follow(account: TimeAccount, given: Mapping[str, int], new: dict[str, int], ideal_cycle_ns: int | None) -> None:
    cycle_ns = ideal_cycle_ns or 0
    if account.total_count and account.standard_total_ns:
        cycle_ns = account.standard_total_ns // account.total_count  # what it was measured with
    for name, pieces in (("standard_total_ns", "total_count"), ("standard_good_ns", "good_count")):
        if name not in given:
            new[name] = cycle_ns * new[pieces]
    if "without_ideal_count" not in given:
        new["without_ideal_count"] = 0 if cycle_ns else new["total_count"]

"""Lots: rejects that were found after the pieces were made, given back to the windows in which they were made.

Decides how whole pieces are shared out over windows. Whether the resulting change has an effect is decided in
`revisions`, as for any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocols.errors import Refused
from protocols.measurement.account import ACCOUNT_FIELDS
from protocols.measurement.amendment import FieldChange, WindowChange
from protocols.measurement.revisions import Stated


def late_rejects(made: Sequence[Stated], count: int, counted: Sequence[Stated] = ()) -> tuple[WindowChange, ...]:
    """`count` rejects of the lot that was made in the windows `made`, found later; negative for pieces found good.

    They are shared out over the lot by its good pieces (by its rejects, if negative), and taken off the windows
    `counted` in which the reject counter saw them, if it did: the view at inspection becomes the view of the lot.
    Largest remainders, the earlier window first. Raises Refused when the windows do not hold so many.
    """
    added: dict[int, int] = {}
    lot = [stated.window.account for stated in made]
    if count < 0:
        if counted:
            raise Refused("not-allowed", "pieces found good were not counted anywhere else: name the lot alone")
        shares = [-share for share in _shared(-count, [account.reject_count for account in lot], "rejects of the lot")]
    else:
        shares = _shared(count, [account.good_count for account in lot], "good pieces of the lot")
    for stated, share in zip(made, shares, strict=True):
        added[stated.window.start_ms] = share
    if counted:
        rejects = [stated.window.account.reject_count for stated in counted]
        for stated, share in zip(counted, _shared(count, rejects, "rejects where they were counted"), strict=True):
            added[stated.window.start_ms] = added.get(stated.window.start_ms, 0) - share
    windows = {stated.window.start_ms: stated for stated in (*made, *counted)}
    return tuple(_moved(windows[start], pieces) for start, pieces in sorted(added.items()) if pieces)


def _moved(stated: Stated, pieces: int) -> WindowChange:
    """The window with `pieces` more rejects and as many fewer good ones."""
    window, account = stated.window, stated.window.account
    pieces_in_all, standard = account.total_count, account.standard_total_ns
    if not pieces_in_all:
        pieces_in_all, standard = account.good_count, account.standard_good_ns
    ideal_ns = standard // pieces_in_all if pieces_in_all else 0
    changes = (
        ("good_count", account.good_count, account.good_count - pieces),
        ("reject_count", account.reject_count, account.reject_count + pieces),
        ("standard_good_ns", account.standard_good_ns, account.standard_good_ns - ideal_ns * pieces),
    )
    fields = tuple(FieldChange(ACCOUNT_FIELDS.index(name), old, new) for name, old, new in changes if old != new)
    return WindowChange(window.start_ms, window.end_ms, stated.sequence, fields)


def _shared(count: int, weights: Sequence[int], words: str) -> list[int]:
    """`count` (0 or more) in whole parts, proportional to the weights above 0 and none above its weight."""
    positive = [max(weight, 0) for weight in weights]
    whole = sum(positive)
    if count > whole:
        raise Refused("too-many", f"{count} pieces, but there are only {whole} {words}")
    if not count:
        return [0] * len(positive)
    parts = [count * weight // whole for weight in positive]
    order = sorted(range(len(parts)), key=lambda i: (-(count * positive[i] % whole), i))
    for i in order[: count - sum(parts)]:
        parts[i] += 1
    return parts

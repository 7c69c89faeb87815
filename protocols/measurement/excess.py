"""Why an Effectiveness is over 100 %: because of what nobody saw, or because the ideal cycle is too slow.

Decides which of the two is said, for every page, report and command; the figure itself is `ratios`'. Pieces made while
nobody looked are real and counted, the time in which they were made is not (docs/adr/0002): that alone can carry an
Effectiveness far over 100 %, and says nothing of the ideal cycle.
"""

from __future__ import annotations

from enum import StrEnum

from protocols.measurement.account import TimeAccount
from protocols.measurement.definition import ISO, Definition
from protocols.measurement.elements import NS_PER_MS, elements


class Excess(StrEnum):
    """The cause. Stable: pages and notes name their words by it."""

    UNOBSERVED = "over-unobserved"
    IDEAL_CYCLE = "over-ideal-cycle"


def excess(account: TimeAccount, definition: Definition = ISO) -> Excess | None:
    """Why Effectiveness is over 100 % in an account; None where it is not, or by no more than one piece.

    UNOBSERVED where it would not be so without the pieces that were read after a gap (each with the mean ideal cycle),
    or if all unknown time had been production: pieces are counted also while only the state is not known, and over
    gaps too short to be flagged. (Not both at once: it is mostly the same time.)
    """
    if account.without_ideal_count or account.total_count <= 0:
        return None
    apt_ms = elements(account, definition).apt_ms
    pieces, standard_ns = account.total_count, account.standard_total_ns
    # Times the pieces, so that all stays whole. One piece more or less is a matter of where the span was cut.
    over = (standard_ns - apt_ms * NS_PER_MS) * pieces - standard_ns
    if apt_ms <= 0 or over <= 0:
        return None
    unseen = max(account.estimated_count * standard_ns, account.unknown_ms * NS_PER_MS * pieces)
    return Excess.UNOBSERVED if over <= unseen else Excess.IDEAL_CYCLE

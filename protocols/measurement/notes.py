"""What must be said beside the figures of an account: where a number rests on a share, an estimate or a lower bound.

Decides which notes there are and when each holds. Codes are stable, for translations; the words are English. What
the figures are is decided in `ratios` and `loss_tree`, why Effectiveness is over 100 % in `excess`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocols.measurement.account import TimeAccount
from protocols.measurement.definition import ISO, Definition, Rework
from protocols.measurement.excess import Excess, excess


@dataclass(frozen=True, slots=True)
class Note:
    """`code`: stable. `count`: the pieces or breaks that it is about. `words` follow the count: see `sentence`."""

    code: str
    count: int
    words: str

    @property
    def sentence(self) -> str:
        return f"{self.count:,} {self.words}"


def notes(account: TimeAccount, definition: Definition = ISO) -> tuple[Note, ...]:
    """The notes of an account under a definition, in the order in which they matter."""
    found = (
        Note(
            "without-ideal",
            account.without_ideal_count,
            "pieces of a product without an ideal cycle: what it cost in speed and rejects is not known",
        ),
        Note(
            "lower-bound",
            account.lower_bound_count,
            "times a counter broke off: what it had counted before is lost, so the count is at least this",
        ),
        Note("estimated", account.estimated_count, "pieces were read after a gap, and are booked where they were read"),
        Note(
            "startup-share",
            account.startup_reject_count,
            "start-up rejects bear their share, by pieces, of the ideal time of all rejects, and are those that were "
            "read after a start, whatever piece they were",
        ),
        Note("rework-mean-cycle", account.rework_count, _REWORK[definition.rework]),
    )
    over = excess_note(account, definition)
    return (*(() if over is None else (over,)), *(note for note in found if note.count))


def excess_note(account: TimeAccount, definition: Definition = ISO) -> Note | None:
    """Why Effectiveness is over 100 %, where it is."""
    match excess(account, definition):
        case Excess.UNOBSERVED:
            unknown_s = account.unknown_ms // 1000
            unknown = f"{unknown_s} s" if unknown_s < 90 else f"{unknown_s // 60:,} min"
            return Note(
                Excess.UNOBSERVED,
                account.estimated_count,
                f"pieces were read after a gap, and {unknown} were not observed: what was made then counts, its time "
                "does not, and that is enough for an Effectiveness over 100 %; the ideal cycle may be right",
            )
        case Excess.IDEAL_CYCLE:
            words = "pieces were made in less than their ideal time: the configured ideal cycle is slower than the line"
            return Note(Excess.IDEAL_CYCLE, account.total_count, words)
        case None:
            return None


_REWORK: Final = {
    Rework.GOOD: "reworked pieces are good once; in a sum over several products each has their mean ideal cycle",
    Rework.BAD: "reworked pieces are never good; they are among the rejects of the window in which they were counted",
}

"""What came late, in a verification: amendments of windows that were added up and let go.

Decides how such a window is found again: which record states it is remembered, a few integers a record, and the record
is read once more from the bundle. Whether the amendment has an effect is decided in `measurement.revisions`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from protocols.evidence.cose import Kid
from protocols.evidence.record import Measurement, SignedRecord
from protocols.measurement.account import TimeAccount, Window
from protocols.measurement.amendment import Source
from protocols.measurement.revisions import Revisions
from protocols.measurement.tally import Tally


@dataclass(slots=True)
class Places:
    """Where the records of one key begin in its file. `read`: the record that begins at an offset."""

    kid: Kid
    read: Callable[[int], bytes]
    first_sequence: int = 0
    offsets: array[int] = field(default_factory=lambda: array("q"))

    def record(self, sequence: int) -> SignedRecord:
        return SignedRecord(self.read(self.offsets[sequence - self.first_sequence]))


@dataclass(slots=True)
class TalliedRevisions(Revisions):
    """The amendments of a line whose windows are in `tallies`, one for each period."""

    tallies: tuple[Tally, ...] = ()
    _places: list[Places] = field(default_factory=list)  # of each key that spoke of this line, in order
    # Of each run of windows that one record states within a period: its span, the record, and the key's place.
    _runs: tuple[array[int], array[int], array[int], array[int]] = field(
        default_factory=lambda: (array("q"), array("q"), array("q"), array("q"))
    )
    _standing: dict[int, Window] = field(default_factory=dict)  # by start, of the restated windows

    def stated(self, from_ms: Sequence[int], to_ms: Sequence[int], sequence: Sequence[int], places: Places) -> None:
        """These records of one key state windows that fill [from_ms, to_ms) and count."""
        if not self._places or self._places[-1] is not places:
            self._places.append(places)
        of = [len(self._places) - 1] * len(from_ms)
        for column, values in zip(self._runs, (from_ms, to_ms, sequence, of), strict=True):
            column.extend(values)

    def stated_by(self, at_ms: int) -> Source | None:
        run = bisect_right(self._runs[0], at_ms) - 1
        if run < 0 or self._runs[1][run] <= at_ms:
            return None
        return Source(self._places[self._runs[3][run]].kid, self._runs[2][run])

    def window(self, at_ms: int) -> Window:
        run = bisect_right(self._runs[0], at_ms) - 1
        body = self._places[self._runs[3][run]].record(self._runs[2][run]).record.body
        assert isinstance(body, Measurement)
        (line,) = (each for each in body.lines if each.line_id == self.line_id)
        (found,) = (each for each in line.windows if each.start_ms <= at_ms < each.end_ms)
        return self._standing.get(found.start_ms, found)

    def replace(self, window: Window, account: TimeAccount) -> None:
        (tally,) = (each for each in self.tallies if window.start_ms in each.period)
        tally.restate(window, account)
        self._standing[window.start_ms] = replace(window, account=account)

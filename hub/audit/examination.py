"""The examination: pieces from any source, cut into jobs, over all cores, to one finding.

Decides how large a job is and what goes along with it. What is found in one is decided in `inspection`.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice

import zstandard

from hub.audit.evidence import Evidence
from hub.audit.inspection import Inspected, Job, Place, inspect
from hub.audit.minutes import decide_ms
from hub.audit.unpacking import span_of
from protocols.errors import Malformed
from protocols.evidence.raw import GRID_MS, Piece, decompress
from protocols.measurement.configuration import LineConfiguration

PIECES_A_JOB = 1_440
"""A day of minutes: enough that what a job costs besides its pieces does not count."""
GATHERED = 240
"""Chunks that are measured at once where there are many: four hours."""
_MAX_TAIL = 240

Asked = Mapping[str, frozenset[int]]
"""By line, the starts (ms) of windows."""


def examine(
    evidence: Evidence,
    pieces: Iterable[Piece],
    asked: Asked | None,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda done: None,
    gather: int | None = None,
) -> Inspected:
    """Everything that pieces and evidence say together. `progress(pieces done)`.

    `gather`: chunks that are measured at once; None: one where they are few, so that each kept memory is compared, a
    few hours' where there are many. Raises Malformed where `pieces` does.
    """
    out, done = Inspected(), 0
    made = _jobs(evidence, iter(pieces), asked, gather)
    first = list(islice(made, 2))
    if jobs == 1 or len(first) < 2:
        for job in (*first, *made):
            out.add(inspect(job))
            progress(done := done + len(job.pieces))
        return out
    waiting: deque[Job] = deque(first)
    running: dict[Future[Inspected], int] = {}
    # Started anew, not forked: the parent has threads (progress) and an open database.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        while True:
            while len(running) < 2 * jobs:
                following = waiting.popleft() if waiting else next(made, None)
                if following is None:
                    break
                running[pool.submit(inspect, following)] = len(following.pieces)
            if not running:
                return out
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                out.add(future.result())
                progress(done := done + running.pop(future))


def _jobs(evidence: Evidence, pieces: Iterator[Piece], asked: Asked | None, gather: int | None) -> Iterator[Job]:
    tail_length = _tail(evidence)
    ahead: list[Piece] = []
    number = 0
    while True:
        ahead = [*ahead, *islice(pieces, PIECES_A_JOB + tail_length - len(ahead))]  # the old one is a job's tail
        if not ahead:
            return
        own, tail = ahead[:PIECES_A_JOB], ahead[PIECES_A_JOB:]
        places = {(piece.kid, piece.sequence) for piece in ahead} | _earlier(evidence, ahead)
        few = number == 0 and not tail
        yield Job(
            own,
            tail,
            evidence.records(places),
            evidence.keys,
            evidence.configurations,
            asked,
            gather or (1 if few else GATHERED),
        )
        ahead, number = tail, number + 1


def _earlier(evidence: Evidence, pieces: Iterable[Piece]) -> set[Place]:
    """Records that state windows of long chunks besides the one that commits to them: where no row came for a while,
    one chunk holds the time of many windows, and only the last of their records names it."""
    found: set[Place] = set()
    decompressor = zstandard.ZstdDecompressor()
    for piece in pieces:
        try:
            span = span_of(decompress(piece.compressed, decompressor))
        except Malformed:
            continue  # the job says so
        if span is not None and span[2] - span[1] > GRID_MS and span[0] in evidence.line_ids:
            found |= evidence.places(*span)
    return found


def _tail(evidence: Evidence) -> int:
    """How many chunks may be needed to decide what the last one of a job leaves open."""
    longest = max(
        (decide_ms(LineConfiguration.from_data(data)) for data in evidence.configurations.values()), default=0
    )
    # Chunks of a line with very many rows are shorter than the grid.
    return min(_MAX_TAIL, 4 * (longest // GRID_MS + 2))

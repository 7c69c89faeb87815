"""An agent killed with -9 at any moment loses no raw chunk that its kept memory speaks of.

LINETALLY_RAW_KILLS=300 kills it more often than the few times here.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from agent.clock import ManualClock
from agent.spool import Spool
from tests.agent.test_raw_chain import MINUTE, START, Life, checked, replayed

KILLS = int(os.environ.get("LINETALLY_RAW_KILLS", "4"))


def alive_again(folder: Path, spool: Spool, seed: int) -> Life:
    kept = spool.carry("filling")
    now_ms = START if kept is None else kept[1]["memory"][1] + 2000
    return Life(folder, spool, random.Random(seed), clock=ManualClock(now_ms, b"\1" * 16))


def worker(folder: Path, seed: int) -> None:
    """An agent that lives as fast as it can, until it is killed. Says when it has begun to work."""
    with Spool.open(folder) as spool:
        life = alive_again(folder, spool, seed)
        print("working", flush=True)
        while True:
            life.tick()


def test_no_chunk_is_lost_however_often_it_is_killed(tmp_path: Path) -> None:
    chance = random.Random(7)
    code = "import sys, pathlib; from tests.agent.test_raw_kill import worker; worker(pathlib.Path(sys.argv[1]), 1)"
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None and process.stdout.readline() == b"working\n"
            time.sleep(chance.uniform(0.05, 0.4))
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    with Spool.open(tmp_path) as spool:
        alive_again(tmp_path, spool, 2).live(20)
        places = spool.shelf.overlapping("filling", START, 2**60)
        assert places[0].start_ms == START
        assert all(one.end_ms == other.start_ms for one, other in pairwise(places)), "no hole, none twice"
        kept = spool.carry("filling")
        assert kept is not None and places[-1].end_ms >= kept[1]["closed_ms"] - MINUTE
        assert replayed(spool, checked(spool)) >= 14

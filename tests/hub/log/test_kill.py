"""kill -9 in the middle of appends, many times: indexes stay contiguous and nothing acknowledged is lost.

LINETALLY_KILLS sets how many kills (40 by default; a release runs 10,000).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hub.log.sequencer import Log
from protocols.evidence import checkpoint, merkle
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.note import Algorithm, SignerKey

SIGNER = SignerKey("hub.example/log", Algorithm.ED25519, bytes(range(32)))
KILLS = int(os.environ.get("LINETALLY_KILLS", "40"))
ROOT = Path(__file__).parents[3]

# Started once; forks a child for each life, so that a kill costs milliseconds and not a start of Python.
NURSERY = """
import os, random, signal, sys
from pathlib import Path
from hub.log.sequencer import Log
from protocols.evidence.note import Algorithm, SignerKey

signer = SignerKey("hub.example/log", Algorithm.ED25519, bytes(range(32)))

def live(folder, seed, countdown):
    choice = random.Random(seed)
    def failpoint(name):
        nonlocal countdown
        countdown -= 1
        if countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    log = Log.open(Path(folder), signer, failpoint=failpoint)
    print("open", log.size, flush=True)
    while True:
        fresh = [b"%d/%d/%d" % (seed, log.size, n) for n in range(choice.choice([1, 2, 5, 60, 300]))]
        given = log.append(fresh)
        for index, entry in zip(given, fresh, strict=True):
            sys.stdout.write(f"ack {index} {entry.decode()}\\n")
        sys.stdout.flush()

for line in sys.stdin:
    folder, seed, countdown = line.rsplit(" ", 2)
    child = os.fork()
    if child == 0:
        try:
            live(folder, int(seed), int(countdown))
        finally:
            os._exit(9)
    print("born", child, flush=True)
    print("dead", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.timeout(60 + KILLS)
def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    Log.create(folder, SIGNER.name, SIGNER).close()
    seed = int(os.environ.get("LINETALLY_SEED", "1"))
    choice = random.Random(seed)
    acknowledged: dict[int, str] = {}
    heads: list[Checkpoint] = []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for life in range(KILLS):
            # Three in four die at a failpoint (recovery's own included), the others at any moment.
            countdown = choice.randrange(1, 90) if life % 4 else 0
            nursery.stdin.write(f"{folder} {life} {countdown}\n")
            nursery.stdin.flush()
            child = 0
            for line in nursery.stdout:
                word, *rest = line.rstrip("\n").split(" ")
                if word == "born":
                    child = int(rest[0])
                elif word == "open":
                    assert int(rest[0]) >= len(acknowledged)
                    if countdown == 0:
                        time.sleep(choice.random() * 0.03)
                        os.kill(child, signal.SIGKILL)
                elif word == "ack":
                    index = int(rest[0])
                    assert index not in acknowledged, f"index {index} was given twice (seed {seed}, life {life})"
                    acknowledged[index] = rest[1]
                else:
                    assert (word, rest) == ("dead", ["-9"]), line
                    break
            # What stands published after each death is signed, and never shrinks or forks.
            heads.append(checkpoint.open((folder / "checkpoint").read_bytes(), SIGNER.verifier))
            assert heads[-1].size >= max(acknowledged, default=-1) + 1
        nursery.stdin.close()
        assert nursery.wait(timeout=10) == 0
    with Log.open(folder, SIGNER) as log:
        entries = [entry.decode() for entry in log.entries()]
        for index, entry in acknowledged.items():
            assert entries[index] == entry, f"entry {index} was lost (seed {seed})"
        assert len(set(entries)) == len(entries), f"an entry is in the log twice (seed {seed})"
        final = checkpoint.open(log.checkpoint(), SIGNER.verifier)
        for head in heads:
            path = log.consistency_proof(head.size)
            merkle.verify_consistency(head.size, final.size, path, head.root, final.root)
        assert [step.fault for step in log.fsck()][-1] is None
    assert len(acknowledged) > KILLS

"""A log of ours read by Go's checksum-database code: note, tiles, hashes, proofs, consistency, cosignature."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest

from hub.log.sequencer import Log
from protocols.evidence import checkpoint, proof
from protocols.evidence.note import Algorithm, SignerKey

LOG = SignerKey("hub.example/linetally", Algorithm.ED25519, bytes(range(32)))
WITNESS = SignerKey("witness.example/w1", Algorithm.COSIGNATURE, bytes([7] * 32))
SIZE = 66_500  # three levels of tiles: 65,536 is the first tree with a level 2


def check(checker: Path, request: dict[str, object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(checker)], input=json.dumps(request), capture_output=True, text=True, check=False)


@pytest.mark.needs("go")
def test_go_accepts_the_log_and_refuses_a_changed_one(checker: Path, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with Log.create(folder, LOG.name, LOG) as log:
        while log.size < SIZE:
            batch = min(SIZE - log.size, 4_999)
            log.append([b"record %d" % n for n in range(log.size, log.size + batch)])
            if log.size == 4_999:
                old = log.checkpoint()
        request: dict[str, object] = {
            "Folder": str(folder),
            "Vkey": str(LOG.verifier),
            "Witness": str(WITNESS.verifier),
            "Cosigned": checkpoint.cosign(log.checkpoint(), LOG.verifier, WITNESS, 1_679_315_147).decode(),
            "Proofs": [proof.format(log.proof(n)).decode() for n in (0, 1, 255, 256, 65_535, 65_536, SIZE - 1)],
            "Old": old.decode(),
            "Consistency": [base64.b64encode(each).decode() for each in log.consistency_proof(4_999)],
        }
    done = check(checker, request)
    assert (done.returncode, done.stderr) == (0, "")
    # 260 of level 0, two of level 1, one of level 2.
    assert done.stdout == "ok: 66500 entries, 263 tiles, 7 proofs\n"

    for path, offset in (("tile/entries/007", 9), ("tile/0/100", 31), ("tile/1/000", 0), ("checkpoint", 30)):
        good = (folder / path).read_bytes()
        (folder / path).write_bytes(good[:offset] + bytes([good[offset] ^ 1]) + good[offset + 1 :])
        assert check(checker, request).returncode == 1
        (folder / path).write_bytes(good)
    assert check(checker, request).returncode == 0

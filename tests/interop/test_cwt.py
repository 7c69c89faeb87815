"""PyPI `cwt`, a COSE implementation that nobody here wrote, verifies our records. In an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from protocols.evidence.bodies import Heartbeat, Measurement
from protocols.evidence.cose import key_id
from tests.support.evidence import GATEWAY_KEY, ROOT_KEY, chain, line_statement, record, signed

VERSION = "3.3.0"
CACHE = Path.home() / ".cache" / "linetally-tests" / f"cwt-{VERSION}-{sys.version_info.major}.{sys.version_info.minor}"
# Reads [[public key, kid, message], ...] in hex; writes for each the payload in hex, or null where it does not verify.
PROGRAM = """
import json, sys
from cwt import COSE, COSEKey
out = []
for public, kid, message in json.load(sys.stdin):
    key = COSEKey.new({1: 1, 3: -19, -1: 6, -2: bytes.fromhex(public), 2: bytes.fromhex(kid)})
    try:
        out.append(COSE.new().decode(bytes.fromhex(message), key).hex())
    except Exception as error:
        out.append(None)
        print(type(error).__name__, error, file=sys.stderr)
json.dump(out, sys.stdout)
"""


@pytest.fixture(scope="module")
def python() -> Path:
    found = CACHE / "bin" / "python"
    if not (CACHE / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", CACHE], check=True, timeout=120)
        words = [found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"cwt=={VERSION}", "cbor2<6"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            reason = f"pip cannot fetch cwt: {done.stderr.strip()[-200:]}"
            assert os.environ.get("CI") != "true", reason
            pytest.skip(reason)
        (CACHE / "complete").touch()
    return found


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_cwt_verifies_our_records_and_refuses_changed_ones(python: Path) -> None:
    records = [signed(), *chain(Heartbeat(), Measurement((line_statement(),)), Heartbeat()), signed(record(), ROOT_KEY)]
    keys = [GATEWAY_KEY] * 4 + [ROOT_KEY]
    asked = []
    for made, key in zip(records, keys, strict=True):
        public = key.public_key().public_bytes_raw()
        changed = bytearray(made.raw)
        changed[-1] ^= 1
        payload = bytearray(made.raw)
        payload[made.raw.index(made.message.payload) + 5] ^= 1
        raws = (made.raw, bytes(changed), bytes(payload))
        asked += [[public.hex(), key_id(public).hex(), raw.hex()] for raw in raws]
    done = subprocess.run(
        [python, "-c", PROGRAM], input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers[0::3] == [made.message.payload.hex() for made in records], done.stderr
    assert set(answers[1::3]) == set(answers[2::3]) == {None}

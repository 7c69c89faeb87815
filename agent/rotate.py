"""`linetally-agent rotate`: a new key for a gateway, made on the device.

Decides the two steps. The first makes the new key beside the old one and writes the request, signed by both; the scheme
signs it into the log (`linetally-hub gateway rotate`). The second, `--finish`, puts the new key in the old one's place;
the new key's chain begins with sequence 0. Between the two the gateway measures on with the old key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.config import AgentConfiguration
from agent.enrol import fingerprint
from agent.keys import NEXT_KEY_FILE, load_key, make_key, take_next_key
from agent.spool import Spool
from protocols.errors import LinetallyError
from protocols.evidence.cose import key_id
from protocols.evidence.rotation import rotation, rotation_to_json

_WAIT: Final = "start the agent, wait until `linetally-agent status` shows no record without a receipt, and stop it"


def request(configuration: AgentConfiguration, file: Path) -> str:
    """Writes the request to `file`; gives the new key's fingerprint. A new key that waits already is used."""
    old = load_key(configuration.state_folder)
    folder = configuration.state_folder
    new: Ed25519PrivateKey = (
        load_key(folder, NEXT_KEY_FILE) if (folder / NEXT_KEY_FILE).exists() else make_key(folder, NEXT_KEY_FILE)
    )
    file.write_bytes(rotation_to_json(rotation(configuration.gateway_id, old, new)))
    return fingerprint(new.public_key().public_bytes_raw())


def finish(configuration: AgentConfiguration) -> str:
    """Puts the new key in place; gives its fingerprint. Safe to run again after a crash in the middle.

    Raises LinetallyError while an agent runs, or a record of the old key has no receipt: nobody would take it any more.
    """
    folder = configuration.state_folder
    with Spool.open(folder) as spool:
        if (folder / NEXT_KEY_FILE).exists():
            new = load_key(folder, NEXT_KEY_FILE)
            if depth := spool.depth():
                raise LinetallyError(f"{depth} records of the old key have no receipt yet; {_WAIT}")
            # First the chain, then the key: after a crash in between the spool is the new key's, so the agent refuses
            # to run with the old one, and running `--finish` again mends it.
            kid = key_id(new.public_key().public_bytes_raw())
            spool.begin_chain(f"{configuration.gateway_id} {kid.hex()}".encode())
            take_next_key(folder)
        else:
            new = load_key(folder)
            if spool.head()[0]:
                raise LinetallyError(f"there is no new key in {folder}; run `linetally-agent rotate` first")
    return fingerprint(new.public_key().public_bytes_raw())

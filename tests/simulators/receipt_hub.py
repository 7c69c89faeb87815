"""A hub's other end of the wire: takes statements from a broker, logs them in memory, and gives real receipts.

The tree, the checkpoint and the proofs are those of `protocols.evidence`; only durability and admission are left out.
`refuse` answers with a refusal instead; `mute` takes records and says nothing. `leaves`: what the log had before.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from protocols.evidence import checkpoint, merkle, proof
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.record import SignedRecord
from protocols.evidence.succession import Consistency
from protocols.wire.receipt import CHECKPOINT_PROPERTY, Receipt, Refusal, encode_receipt
from protocols.wire.topics import Channel, all_gateways, parse_topic, receipt_topic


class ReceiptHub:
    """Use as a context manager. `records`: what was logged, by sequence; `copies`: how often each came."""

    def __init__(self, port: int, seed: bytes = bytes(32), leaves: Sequence[merkle.LeafHash] = ()) -> None:
        self.signer = SignerKey("test.linetally.org/log", Algorithm.ED25519, seed)
        self.records: dict[int, SignedRecord] = {}
        self.copies: dict[int, int] = {}
        self.live: list[bytes] = []
        self._told = 0
        self.mute = False
        self.refuse: tuple[str, str] | None = None
        self.forge = False
        self._port = port
        self.leaves: list[merkle.LeafHash] = list(leaves)
        self._index: dict[bytes, int] = {}
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="hub", protocol=paho.MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message

    @property
    def log_key(self) -> str:
        return str(self.signer.verifier)

    def __enter__(self) -> ReceiptHub:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def payloads(self) -> list[SignedRecord]:
        with self._lock:
            return [self.records[sequence] for sequence in sorted(self.records)]

    def _on_connect(self, client: Any, *_: object) -> None:
        client.subscribe([(all_gateways(Channel.STATEMENT), 1), (all_gateways(Channel.LIVE), 0)])

    def _on_message(self, client: Any, _data: object, message: Any) -> None:
        gateway, channel = parse_topic(message.topic)
        if channel is Channel.LIVE:
            self.live.append(message.payload)
            return
        signed = SignedRecord(message.payload)
        sequence = signed.record.sequence
        with self._lock:
            self.copies[sequence] = self.copies.get(sequence, 0) + 1
        if self.mute:
            return
        answer: Receipt | Refusal
        if self.refuse is not None:
            answer = Refusal(signed.kid, sequence, signed.hash, *self.refuse)
        else:
            known = dict(message.properties.UserProperty)[CHECKPOINT_PROPERTY]
            answer = self._receipt(signed, {int(known), self._told})
        client.publish(receipt_topic(gateway), encode_receipt(answer), 1)

    def _receipt(self, signed: SignedRecord, old_sizes: set[int]) -> Receipt:
        with self._lock:
            known = self.records.setdefault(signed.record.sequence, signed)
            assert known.raw == signed.raw, "the same sequence with other bytes: a fork"
            if signed.hash not in self._index:
                self._index[signed.hash] = len(self.leaves)
                self.leaves.append(merkle.leaf_hash(signed.raw))
            index, size = self._index[signed.hash], len(self.leaves)
            head = Checkpoint(self.signer.name, size, merkle.root(self.leaves))
            path = merkle.inclusion_proof(self.leaves, index, size)
            consistency = tuple(
                Consistency(old, tuple(merkle.consistency_proof(self.leaves, old, size)))
                for old in sorted(old_sizes)
                if 0 < old < size
            )
            self._told = size
        signer = SignerKey(self.signer.name, Algorithm.ED25519, b"\1" * 32) if self.forge else self.signer
        text = proof.format(proof.TlogProof(index, tuple(path), checkpoint.sign(head, signer)))
        return Receipt(signed.kid, signed.record.sequence, signed.hash, text.decode(), consistency)

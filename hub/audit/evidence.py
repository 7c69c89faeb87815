"""What an audit rests on besides raw samples: records, keys, configurations. From the hub's log, or from a bundle.

Decides whom to trust: gateways that the scheme's root key enrolled, up to a revocation. A bundle is verified first, as
a whole; of the hub's own log the files are read as they are (`linetally-hub fsck` checks them).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Protocol

from sqlalchemy import Engine

from hub import root
from hub.audit.inspection import Place
from hub.config import HubConfig
from hub.projections.index import Index
from hub.report.reading import Entries, FolderLog
from protocols.errors import Unverified
from protocols.evidence import bundle as bundles
from protocols.evidence import checkpoint, note
from protocols.evidence.authority import Authority, read_authority
from protocols.evidence.bodies import Configurations, Measurement, RawGap
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.cose import Kid, key_id
from protocols.evidence.policy import Trust
from protocols.evidence.raw import Piece, read_pieces
from protocols.evidence.record import RecordType, SignedRecord
from protocols.evidence.verify import verify
from protocols.measurement.account import Window
from protocols.measurement.definition import data_hash

Keys = Mapping[Kid, tuple[bytes, frozenset[str]]]


class Evidence(Protocol):
    """`checkpoint`: the state of the log that all of it is from. `line_ids`: the project's lines."""

    project_id: str
    line_ids: tuple[str, ...]
    checkpoint: Checkpoint
    keys: Keys
    configurations: Mapping[bytes, Mapping[str, Any]]

    def raw_gaps(self, line_id: str) -> list[tuple[RawGap, int | None]]:
        """What trusted gateways signed not to hold of a line's raw samples, and where in the log, if that is known."""
        ...

    def records(self, places: Iterable[Place]) -> dict[Place, bytes]:
        """The messages at these places, as far as they are there and count."""
        ...

    def places(self, line_id: str, from_ms: int, to_ms: int) -> set[Place]:
        """Where windows of a line that touch [from_ms, to_ms) are stated."""
        ...

    def windows(
        self, line_id: str, from_ms: int | None = None, to_ms: int | None = None
    ) -> Iterator[tuple[Window, bytes]]:
        """Signed windows that touch [from_ms, to_ms) and the hash of their configuration, in no particular order.

        Their cuts and names are as they were signed; the account may be as it was amended.
        """
        ...


class LogEvidence:
    """The hub's own log and index."""

    def __init__(self, config: HubConfig, engine: Engine, project_id: str, line_ids: tuple[str, ...]) -> None:
        self.project_id, self.line_ids = project_id, line_ids
        self._index = Index(engine)
        self._log = FolderLog(config.log_folder)
        self._leaves: dict[Kid, dict[int, int]] = {}
        self._raw_gap_leaves: list[int] = []
        self._raw_gaps: dict[str, list[tuple[RawGap, int | None]]] | None = None
        self.checkpoint = checkpoint.parse(note.parse(self._log.checkpoint()).text)
        self._authority = self._read_authority(engine)
        self.keys: Keys = {
            kid: (gateway.public_key, gateway.line_ids) for kid, gateway in self._authority.gateways.items()
        }
        self.configurations: Mapping[bytes, Mapping[str, Any]] = {
            each.hash: each.data for each in self._index.configurations(line_ids)
        }

    def records(self, places: Iterable[Place]) -> dict[Place, bytes]:
        leaves: dict[int, Place] = {}
        for kid, sequence in places:
            leaf = self._leaves_of(kid).get(sequence)
            if leaf is not None:
                leaves[leaf] = kid, sequence
        entries = Entries(self._log, sorted(leaves))
        return {leaves[leaf]: raw for leaf, raw in zip(sorted(leaves), entries, strict=True)}

    def windows(
        self, line_id: str, from_ms: int | None = None, to_ms: int | None = None
    ) -> Iterator[tuple[Window, bytes]]:
        for each in self._index.iter_windows([line_id], from_ms, to_ms):
            if each.leaf_index < self.checkpoint.size:
                yield each.window, each.configuration_hash

    def places(self, line_id: str, from_ms: int, to_ms: int) -> set[Place]:
        leaves = self._index.leaves_of_windows([line_id], from_ms, to_ms)
        found = (each for leaf in leaves for each in self._index.records(from_index=leaf, to_index=leaf + 1))
        return {(Kid(each.kid), each.sequence) for each in found}

    def raw_gaps(self, line_id: str) -> list[tuple[RawGap, int | None]]:
        if self._raw_gaps is None:
            self._raw_gaps = {}
            for kid in self.keys:
                self._leaves_of(kid)
            leaves = sorted(self._raw_gap_leaves)
            for raw, leaf in zip(Entries(self._log, leaves), leaves, strict=True):
                signed = SignedRecord(raw)
                body = signed.record.body
                if isinstance(body, RawGap) and body.line_id in self.keys[signed.kid][1]:
                    self._raw_gaps.setdefault(body.line_id, []).append((body, leaf))
        return self._raw_gaps.get(line_id, [])

    def _leaves_of(self, kid: Kid) -> dict[int, int]:
        """Where a trusted key's records stand, by sequence; the question to the index is asked once."""
        if kid not in self._leaves:
            gateway = self._authority.gateways.get(kid)
            end = 0 if gateway is None else self.checkpoint.size
            if gateway is not None and gateway.first_invalid_index is not None:
                end = min(end, gateway.first_invalid_index)
            found = self._index.records(kid=kid, to_index=end) if end else []
            self._leaves[kid] = {each.sequence: each.leaf_index for each in found}
            self._raw_gap_leaves += [each.leaf_index for each in found if each.type == RecordType.RAW_GAP]
        return self._leaves[kid]

    def _read_authority(self, engine: Engine) -> Authority:
        found = [
            record
            for key in root.registered(engine)
            for record in self._index.records(kid=key_id(key.public), to_index=self.checkpoint.size)
        ]
        leaves = sorted(record.leaf_index for record in found)
        return read_authority(
            (SignedRecord(raw), leaf) for leaf, raw in zip(leaves, Entries(self._log, leaves), strict=True)
        )


class BundleEvidence:
    """A bundle that passes. Raises Unverified for one that does not."""

    def __init__(self, file: BinaryIO, trust: Trust) -> None:
        verdict = verify(file, trust)
        if verdict.first_failure is not None or verdict.plan is None:
            words = "it has no plan" if verdict.first_failure is None else verdict.first_failure.words
            raise Unverified(f"the bundle does not pass, so nothing can be compared with it: {words}")
        self.project_id, self.line_ids = verdict.plan["project_id"], tuple(verdict.plan["line_ids"])
        self._bundle = bundles.read(file)
        self.checkpoint = trust.policy.accepts(self._bundle.read(bundles.CHECKPOINT_FILE))
        authority = read_authority((SignedRecord(raw), 0) for _, raw in self._bundle.records(bundles.ROOT_FILE))
        self.keys: Keys = {kid: (each.public_key, each.line_ids) for kid, each in authority.gateways.items()}
        configurations: dict[bytes, Mapping[str, Any]] = {}
        self._records: dict[Place, bytes] = {}
        self._spans: dict[str, list[tuple[int, int, Place]]] = {}
        self._raw_gaps: dict[str, list[tuple[RawGap, int | None]]] = {}
        for kid in self._bundle.kids():
            for _, raw in self._bundle.records(bundles.records_file(kid)):
                record = SignedRecord(raw)
                match record.record.body:
                    case Configurations(stated):
                        configurations |= {data_hash(data): data for data in stated}
                    case Measurement(lines):
                        place = kid, record.record.sequence
                        self._records[place] = raw
                        for line in lines:
                            span = line.windows[0].start_ms, line.windows[-1].end_ms
                            self._spans.setdefault(line.line_id, []).append((*span, place))
                    case RawGap(line_id) as gap if line_id in self.keys[kid][1]:
                        self._raw_gaps.setdefault(line_id, []).append((gap, None))
                    case _:
                        pass
        self.configurations: Mapping[bytes, Mapping[str, Any]] = configurations

    def raw_gaps(self, line_id: str) -> list[tuple[RawGap, int | None]]:
        return self._raw_gaps.get(line_id, [])

    def records(self, places: Iterable[Place]) -> dict[Place, bytes]:
        return {place: self._records[place] for place in places if place in self._records}

    def places(self, line_id: str, from_ms: int, to_ms: int) -> set[Place]:
        return {place for start, end, place in self._spans.get(line_id, ()) if start < to_ms and end > from_ms}

    def windows(
        self, line_id: str, from_ms: int | None = None, to_ms: int | None = None
    ) -> Iterator[tuple[Window, bytes]]:
        for raw in self._records.values():
            body = SignedRecord(raw).record.body
            for line in body.lines if isinstance(body, Measurement) else ():
                if line.line_id != line_id:
                    continue
                for window in line.windows:
                    if (to_ms is None or window.start_ms < to_ms) and (from_ms is None or window.end_ms > from_ms):
                        yield window, line.configuration_hash

    def raw_pieces(self) -> Iterator[Piece]:
        """The raw samples that the bundle holds. Raises Malformed."""
        for name in sorted(self._bundle.members):
            if bundles.RAW_NAME.fullmatch(name):
                yield from read_pieces(io.BytesIO(self._bundle.read(name)))

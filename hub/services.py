"""What the hub's pages and API are given to work with: the seam between the running hub and the web.

Decides only the shapes. `app` makes one of these when it serves; a test makes one by hand. The readers here never
write: whatever changes the log goes through `ingest`, whatever changes the registry through `registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine

from hub.config import HubConfig
from hub.live import LiveBus
from hub.projections.index import Index
from hub.registry import Gateway, Registry
from hub.sparkplug_nodes import SparkplugCounts
from protocols.evidence.merkle import NodeHash
from protocols.evidence.proof import TlogProof


class LogReader(Protocol):
    """The reading side of `hub.log.sequencer.Log`. Any thread may call it; `size` never goes back."""

    @property
    def size(self) -> int: ...

    def checkpoint(self) -> bytes: ...

    def entry(self, index: int) -> bytes: ...

    def entries(self, start: int, stop: int) -> Iterator[bytes]: ...

    def inclusion_proof(self, index: int, size: int) -> Sequence[NodeHash]: ...

    def consistency_proof(self, old_size: int, size: int) -> Sequence[NodeHash]: ...

    def proof(self, index: int) -> TlogProof: ...


@dataclass(frozen=True, slots=True)
class HubStatus:
    """How the hub is. `alarms` are whole sentences with what to do; empty when all is well."""

    started_ms: int
    log_size: int
    broker_connected: bool
    last_record_ms: int | None  # the hub's wall clock
    admitted_count: int
    duplicate_count: int
    refused_count: int
    fork_count: int
    alarms: tuple[str, ...] = ()
    sparkplug: SparkplugCounts | None = None  # None: it is not listened to


@dataclass(frozen=True, slots=True)
class Services:
    """All that `hub.api.create_app` needs.

    `enrol(request)` takes the JSON object of POST /api/v1/enrolments and gives the pending gateway; it raises Refused
    or Malformed. `write_report(project_id)` writes the outcome bundle below `config.reports_folder` and gives its
    path; it takes seconds: call it in a worker thread. The static log is served from `config.log_folder`.
    """

    config: HubConfig
    engine: Engine
    registry: Registry
    log: LogReader
    index: Index
    live: LiveBus
    status: Callable[[], HubStatus]
    enrol: Callable[[Mapping[str, Any]], Gateway]
    write_report: Callable[[str], Path]
    log_vkey: str
    now_ms: Callable[[], int]
    extra: Mapping[str, Any] = field(default_factory=dict)

"""What a report says besides its figures: who, under which scheme, and on which evidence.

Decides only the shapes. `hub.report.outcome` fills them from the registry, the index and the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from protocols.measurement.outcome import Outcome


class Chain(NamedTuple):
    """The records of one gateway key that are in the bundle."""

    gateway_id: str
    kid: bytes
    first_sequence: int
    last_sequence: int
    first_index: int
    last_index: int

    @property
    def records(self) -> int:
        return self.last_sequence - self.first_sequence + 1


class GapReason(NamedTuple):
    """A void that a gateway signed, with its reason."""

    line_id: str
    from_ms: int
    to_ms: int
    reason: str
    leaf_index: int


class ConfigurationUsed(NamedTuple):
    """A configuration under which a line was measured. `agrees`: its definition is the plan's."""

    line_id: str
    hash: bytes
    leaf_index: int
    definition: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where the figures come from. `sha256`: over the bundle's evidence files, see `hub.report.outcome`.

    `plan_index` and `first_reporting_index` show that the rules were logged before their result.
    """

    origin: str
    size: int
    root: bytes
    sha256: bytes
    chains: Sequence[Chain]
    proof_count: int
    plan_index: int
    first_reporting_index: int | None
    configurations: Sequence[ConfigurationUsed]
    gap_reasons: Sequence[GapReason]


@dataclass(frozen=True, slots=True)
class ReportContext:
    """All that a report shows. Amounts in whole HK$. `simulated`: names of lines whose plant is a model.

    `milestones`: maps with "title", "planned", "done" and "evidence".
    """

    outcome: Outcome
    scheme_name: str
    scheme_name_zh: str
    committee: str
    secretariat: str
    enterprise: str
    enterprise_zh: str
    agreement_number: str
    approved_grant_hkd: int | None
    project_cost_hkd: int | None
    milestones: Sequence[Mapping[str, Any]]
    line_names: Mapping[str, str]
    simulated: Sequence[str]
    evidence: Evidence
    made_ms: int

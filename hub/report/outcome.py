"""A project's outcome bundle: from the log and the index to one file that can be verified offline.

Decides which records belong to a report, which plan binds it, and what its evidence hash covers. The figures are
`protocols.measurement.outcome`'s, the file's form `protocols.evidence.bundle`'s, the pages `render`'s.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from hub.audit.store import RawStore
from hub.config import HubConfig
from hub.dated import for_bundle
from hub.projections.columns import LineColumns
from hub.projections.index import IndexedPlan, IndexedRecord
from hub.registry import Project
from hub.report.amended import as_amended
from hub.report.context import Chain, ConfigurationUsed, Evidence, GapReason, ReportContext
from hub.report.export import workbook
from hub.report.reading import Entries, Sources, file_hash, incomplete, opened
from hub.report.render import render
from protocols.errors import Malformed, Refused
from protocols.evidence import bundle, checkpoint, note, proof
from protocols.evidence.authority import Authority, read_authority
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.cose import Kid
from protocols.evidence.proof import TlogProof
from protocols.evidence.proof_plan import sequences_to_prove
from protocols.evidence.record import RecordType, SignedRecord
from protocols.measurement.amendment import Included
from protocols.measurement.definition import Definition
from protocols.measurement.outcome import Outcome, outcome_of
from protocols.measurement.periods import period_sums_of
from protocols.measurement.plan import Plan

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""

STEPS = 5


def write_bundle(
    sources: Sources,
    project_id: str,
    out_path: Path,
    progress: Progress = lambda words, done, total: None,
    pdf_path: Path | None = None,
    raw: RawStore | None = None,
) -> Path:
    """Writes the bundle of a project, whole or not at all, and gives its path; the PDF also to `pdf_path`.

    `raw`: its samples of the plan's lines and periods go into the bundle too.
    Raises Refused for an unknown project, one without a registered plan, or an index that lacks records of the log;
    Malformed when the log's windows contradict each other. Takes seconds: call it in a worker thread.
    """
    progress("reading the index", 0, STEPS)
    selection = select(sources, project_id)
    progress("computing the figures", 1, STEPS)
    result = _outcome(selection)
    progress("collecting the evidence", 2, STEPS)
    chains = {
        kid: Entries(sources.log, [record.leaf_index for record in records])
        for kid, records in selection.chains.items()
    }
    root_records = Entries(sources.log, [record.leaf_index for record in selection.root])
    proofs = _proofs(sources, selection)
    dated = _dated(sources, selection, proofs)
    report = result.to_data()
    hashes = {bundle.records_file(kid): file_hash(iter(records)) for kid, records in chains.items()}
    hashes |= {bundle.proof_file(*key): hashlib.sha256(text).hexdigest() for key, text in proofs.items()}
    hashes |= {bundle.dated_file(size): hashlib.sha256(data).hexdigest() for size, data in dated.items()}
    hashes[bundle.ROOT_FILE] = file_hash(iter(root_records))
    hashes[bundle.CHECKPOINT_FILE] = hashlib.sha256(selection.checkpoint_note).hexdigest()
    hashes[bundle.REPORT_FILE] = hashlib.sha256(bundle.report_bytes(report)).hexdigest()
    progress("laying out the report", 3, STEPS)
    context = _context(sources, selection, result, bundle.evidence_hash(hashes), len(proofs))
    pdf = render(context)
    views = {"report.pdf": pdf, "report.xlsx": workbook(context, selection.lines)}
    progress("writing the bundle", 4, STEPS)
    held = _raw(raw, selection.plan)
    parts = bundle.BundleParts(chains, root_records, proofs, selection.checkpoint_note, report, views, held, dated)
    _write_whole(out_path, lambda file: bundle.write(parts, file))
    if pdf_path is not None:
        _write_whole(pdf_path, lambda file: file.write(pdf))
    progress("done", STEPS, STEPS)
    return out_path


def _raw(store: RawStore | None, plan: Plan) -> dict[str, Iterable[bytes]]:
    if store is None:
        return {}
    files = store.files(plan.line_ids, plan.baseline.from_ms, plan.reporting.to_ms)
    return {f"raw/{path.parent.name}/{path.name}": [path.read_bytes()] for path in files}


def write_report(config: HubConfig, project_id: str) -> Path:
    """`write_bundle` to the hub's reports folder, named after the project; beside a running hub or without one."""
    with opened(config) as sources:
        return write_bundle(sources, project_id, config.reports_folder / f"{project_id}.zip")


@dataclass(frozen=True, slots=True)
class Selection:
    """What of the log a report rests on, all at one checkpoint."""

    project: Project
    plan: Plan
    plan_index: int
    checkpoint: Checkpoint
    checkpoint_note: bytes
    root: Sequence[IndexedRecord]
    chains: Mapping[Kid, Sequence[IndexedRecord]]
    lines: Mapping[str, LineColumns]  # the windows of both periods as they stand at the checkpoint
    amendments: Sequence[Included]
    configurations: Sequence[tuple[str, bytes]]  # (line id, hash) under which the windows were measured
    first_reporting_index: int | None


def select(sources: Sources, project_id: str) -> Selection:
    """Chooses plan, checkpoint, chains and windows. Raises Refused."""
    project = sources.registry.project(project_id)
    if project is None:
        known = ", ".join(each.id for each in sources.registry.projects()) or "none yet"
        raise Refused("unknown-project", f"there is no project {project_id!r}; known projects: {known}")
    # The index first: whatever it holds by now, the checkpoint that is read after it covers.
    indexed = sources.index.size()
    checkpoint_note = sources.log.checkpoint()
    head = checkpoint.parse(note.parse(checkpoint_note).text)
    registered, plan = binding_plan(sources, project_id)
    size = min(indexed, head.size)
    root = _chain(sources, Kid(SignedRecord(sources.log.entry(registered.leaf_index)).kid), size)
    authority = _authority(sources, root)
    span = (plan.baseline.from_ms, plan.reporting.to_ms)
    found = sources.index.columns(plan.line_ids, *span)
    found = {line_id: each.where(each.leaf_index < size) for line_id, each in found.items()}
    chains = _chains(sources, {leaf for each in found.values() for leaf in np.unique(each.leaf_index).tolist()}, size)
    chains = {kid: _trusted(records, kid, authority) for kid, records in sorted(chains.items())}
    chains = {kid: records for kid, records in chains.items() if records}
    trusted = {record.leaf_index: record for records in chains.values() for record in records}
    leaves = np.array(sorted(trusted), np.int64)
    found = {line_id: each.where(np.isin(each.leaf_index, leaves)) for line_id, each in found.items()}
    revisions = as_amended(sources, plan, found, trusted, chains)
    configurations = [(line_id, each) for line_id in sorted(found) for each in found[line_id].configurations]
    reporting = [
        record.leaf_index
        for records in chains.values()
        for record in records
        if record.type == RecordType.MEASUREMENT and record.end_ms > plan.reporting.from_ms
    ]
    return Selection(
        project, plan, registered.leaf_index, head, checkpoint_note, root, chains,
        {line_id: line.columns for line_id, line in revisions.items()},
        sorted((each for line in revisions.values() for each in line.included), key=lambda each: each.source),
        configurations, min(reporting, default=None),
    )  # fmt: skip


def _outcome(selection: Selection) -> Outcome:
    """What `measurement.outcome.outcome` gives for the windows of the selection. Raises Malformed when two overlap."""
    plan, lines = selection.plan, selection.lines
    baseline, reporting = (
        period_sums_of(plan, period, [lines[line_id].tally(period) for line_id in plan.line_ids])
        for period in (plan.baseline, plan.reporting)
    )
    return outcome_of(plan, baseline, reporting, selection.amendments)


def binding_plan(sources: Sources, project_id: str) -> tuple[IndexedPlan, Plan]:
    """The first plan that the log holds for a project: a later one could be chosen by its result. Raises Refused."""
    for found in sources.index.plans(project_id):
        try:
            return found, Plan.from_data(found.data)
        except Malformed:
            continue
    raise Refused(
        "no-plan",
        f"project {project_id} has no registered plan; register one with `linetally-hub plan` before the upgrade",
    )


def _chain(sources: Sources, kid: Kid, size: int) -> list[IndexedRecord]:
    records = sorted(sources.index.records(kid=kid, to_index=size), key=lambda record: record.sequence)
    whole = all(after.sequence == before.sequence + 1 for before, after in pairwise(records))
    if not whole or (records and records[0].sequence != 0):
        raise incomplete(f"records of key {kid.hex()}")
    return records


def _chains(sources: Sources, leaves: set[int], size: int) -> dict[Kid, list[IndexedRecord]]:
    """The whole chains of the keys that signed `leaves`: a question to the index for each key, not for each leaf."""
    out: dict[Kid, list[IndexedRecord]] = {}
    left = set(leaves)
    while left:
        leaf = left.pop()
        found = sources.index.records(from_index=leaf, to_index=leaf + 1)
        if not found:
            raise incomplete(f"entry {leaf} of the log")
        kid = Kid(found[0].kid)
        out[kid] = _chain(sources, kid, size)
        left.difference_update(each.leaf_index for each in out[kid])
    return out


def _authority(sources: Sources, root: Sequence[IndexedRecord]) -> Authority:
    entries = Entries(sources.log, [record.leaf_index for record in root])
    return read_authority((SignedRecord(raw), each.leaf_index) for raw, each in zip(entries, root, strict=True))


def _trusted(records: list[IndexedRecord], kid: Kid, authority: Authority) -> list[IndexedRecord]:
    """The chain up to a revocation. A key that the root never enrolled has no say in any report."""
    gateway = authority.gateways.get(kid)
    if gateway is None:
        return []
    end = gateway.first_invalid_index
    return records if end is None else [record for record in records if record.leaf_index < end]


def _proofs(sources: Sources, selection: Selection) -> dict[tuple[Kid, int], bytes]:
    """The tlog-proofs that the verifier asks for, all at the selection's checkpoint."""
    out: dict[tuple[Kid, int], bytes] = {}
    from_ms = [selection.plan.reporting.from_ms]
    for records in (selection.root, *selection.chains.values()):
        by_sequence = {record.sequence: record for record in records}
        frames = ((r.sequence, RecordType(r.type), r.start_ms, r.end_ms) for r in records)
        for sequence in sequences_to_prove(frames, from_ms):
            record = by_sequence[sequence]
            path = tuple(sources.log.inclusion_proof(record.leaf_index, selection.checkpoint.size))
            text = proof.format(TlogProof(record.leaf_index, path, selection.checkpoint_note))
            out[(Kid(record.kid), sequence)] = text
    return out


def _dated(sources: Sources, selection: Selection, proofs: Mapping[tuple[Kid, int], bytes]) -> dict[int, bytes]:
    """The dated checkpoints that bound the clocks of the gateways' proven records."""
    found: list[tuple[int, int | None]] = []
    for kid, records in selection.chains.items():
        for record in records:
            if (kid, record.sequence) in proofs:
                seen = SignedRecord(sources.log.entry(record.leaf_index)).record.checkpoint_seen
                found.append((record.leaf_index, None if seen is None else seen.size))
    return for_bundle(sources.log, found, selection.checkpoint.size)


def _context(sources: Sources, selection: Selection, result: Outcome, sha256: bytes, proof_count: int) -> ReportContext:
    project, plan, registry = selection.project, selection.plan, sources.registry
    scheme, enterprise = registry.scheme(project.scheme_id), registry.enterprise(project.enterprise_id)
    lines = [line for line in map(registry.line, plan.line_ids) if line is not None]
    head = selection.checkpoint
    gaps = sources.index.gaps(plan.line_ids, plan.baseline.from_ms, plan.reporting.to_ms)
    return ReportContext(
        outcome=result,
        scheme_name=scheme.name_en if scheme else plan.scheme,
        scheme_name_zh=scheme.name_zh if scheme else "",
        committee=scheme.committee if scheme else "",
        secretariat=scheme.secretariat if scheme else "",
        enterprise=enterprise.name if enterprise else plan.enterprise,
        enterprise_zh=(enterprise.name_zh or "") if enterprise else "",
        agreement_number=project.agreement_number or "",
        approved_grant_hkd=project.approved_grant_hkd,
        project_cost_hkd=project.project_cost_hkd,
        milestones=project.milestones,
        line_names={line.id: line.name for line in lines},
        simulated=[line.name for line in lines if line.simulated],
        evidence=Evidence(
            origin=head.origin,
            size=head.size,
            root=head.root,
            sha256=sha256,
            chains=[_chain_summary(sources, kid, records) for kid, records in selection.chains.items()],
            proof_count=proof_count,
            plan_index=selection.plan_index,
            first_reporting_index=selection.first_reporting_index,
            configurations=_configurations(sources, selection),
            gap_reasons=[GapReason(gap.line_id, gap.from_ms, gap.to_ms, gap.reason, gap.leaf_index) for gap in gaps],
        ),
        made_ms=sources.now_ms(),
    )


def _chain_summary(sources: Sources, kid: Kid, records: Sequence[IndexedRecord]) -> Chain:
    first, last = records[0], records[-1]
    return Chain(first.issuer, kid, first.sequence, last.sequence, first.leaf_index, last.leaf_index)


def _configurations(sources: Sources, selection: Selection) -> list[ConfigurationUsed]:
    used = dict.fromkeys(selection.configurations)
    out: list[ConfigurationUsed] = []
    for found in sources.index.configurations(selection.plan.line_ids):
        if (found.line_id, found.hash) in used:
            del used[(found.line_id, found.hash)]
            definition = Definition.from_data(found.data["definition"])
            agrees = definition == selection.plan.definition
            out.append(ConfigurationUsed(found.line_id, found.hash, found.leaf_index, definition.words, agrees))
    return out


def _write_whole(path: Path, write: Callable[..., object]) -> None:
    """Beside its place first, then renamed: nobody ever sees half a bundle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise

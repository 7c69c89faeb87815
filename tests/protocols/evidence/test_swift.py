"""Hearing many records at once gives the verdict of hearing them one by one, whatever the bundle holds."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import cbor2
import pytest

from protocols.evidence import bundle as bundles
from protocols.evidence import canonical, cose, testimony
from protocols.evidence.bundle import BundleParts
from protocols.evidence.examination import Entry
from protocols.evidence.record import (
    CONTENT_TYPE,
    Amendment,
    Body,
    Configurations,
    Gap,
    Heartbeat,
    LineStatement,
    Measurement,
    RawCommitment,
    RawGap,
    SignedRecord,
    record_hash,
)
from protocols.evidence.swift import SwiftHearing
from protocols.evidence.testimony import Hearing
from protocols.evidence.verdict import Verdict
from protocols.evidence.verify import verify
from protocols.measurement.account import ACCOUNT_FIELDS, CalendarKind, TimeAccount, Window
from protocols.measurement.amendment import AmendmentKind, FieldChange, ReasonChange, Source, WindowChange
from protocols.measurement.definition import data_hash
from protocols.measurement.outcome import outcome
from protocols.measurement.revisions import LineRevisions
from tests.support.bundle import (
    HOUR_MS,
    LINES,
    PLAN,
    TRUST,
    Site,
    configuration,
    hour,
    log_parts,
    sample_bundle,
)
from tests.support.evidence import GATEWAY, GATEWAY_KEY, SITE, START_MS
from tests.support.strange import STRANGE, in_row

KID = cose.key_id(GATEWAY_KEY.public_key().public_bytes_raw())
RECORDS = bundles.records_file(KID)


class Counting(SwiftHearing):
    """Tells how many records it heard."""

    heard = 0

    def hear(self, of: testimony.Testimony, hearing: Hearing, entries: Sequence[Entry]) -> bool:
        took = super().hear(of, hearing, entries)
        self.heard += len(entries) if took else 0
        return took


def both(data: bytes) -> tuple[Verdict, int]:
    """The verdict, which must be the same in both ways, and how many records were heard in the swift one."""
    swift = Counting()
    fast = verify(io.BytesIO(data), TRUST, swift=swift)
    slow = verify(io.BytesIO(data), TRUST)
    assert fast.to_data() == slow.to_data()
    return fast, swift.heard


def test_an_honest_bundle_is_heard_at_once() -> None:
    site = Site.ordinary()
    verdict, heard = both(sample_bundle(site.parts()))
    assert verdict.ok
    assert heard == len(site.bodies) - 1  # all but the first, which begins the chain


def test_raw_samples_that_are_gone_change_no_figure_and_cost_no_speed() -> None:
    plain, _ = both(sample_bundle(Site.ordinary().parts()))
    site = Site.ordinary()
    at = site.bodies[-1][0] + 1
    site.bodies.append((at, at, RawGap(LINES[0], START_MS, START_MS + HOUR_MS, 60, "older than 35 days")))
    verdict, heard = both(sample_bundle(site.parts()))
    assert verdict.ok and heard == len(site.bodies) - 1
    assert (verdict.figures, verdict.gaps, verdict.coverage) == (plain.figures, plain.gaps, plain.coverage)


def test_signatures_may_be_checked_by_threads() -> None:
    data = sample_bundle()
    with ThreadPoolExecutor(2) as pool:
        swift = Counting(pool.map)
        assert verify(io.BytesIO(data), TRUST, swift=swift).ok
    assert swift.heard > 40


def test_a_changed_byte_fails_alike() -> None:
    data = sample_bundle()
    member = bundles.read(io.BytesIO(data)).members[RECORDS]
    chance = random.Random(5)
    for _ in range(50):
        changed = bytearray(data)
        changed[member.offset + chance.randrange(member.size)] ^= chance.randrange(1, 256)
        verdict, _ = both(bytes(changed))
        assert not verdict.ok


# What a gateway that holds its key can sign: every rule of a row must hold in both ways.


def signed_anew(site: Site, at: int, change: Callable[[bytes], bytes]) -> bytes:
    """The site's bundle with the payload of record `at` changed, and everything after it chained and logged anew."""
    chain: list[Any] = []
    for i, record in enumerate(site.chain()):
        wire = cbor2.loads(record.message.payload)
        if chain:
            wire[4] = chain[-1].hash
        payload = canonical.encode(wire)
        if i == at:
            payload = change(payload)
        raw = cose.sign1(GATEWAY_KEY, payload, issuer=GATEWAY, subject=SITE, content_type=CONTENT_TYPE)
        chain.append(SimpleNamespace(raw=raw, kid=record.kid, record=record.record, hash=record_hash(raw)))
    report = outcome(site.plan, site.windows()).to_data()
    return sample_bundle(log_parts(cast(list[SignedRecord], chain), site.root_chain(), 0, site.plan, report))


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_record_is_judged_alike(name: str) -> None:
    site = Site.ordinary()
    both(signed_anew(site, 4, STRANGE[name]))


def test_any_integer_of_a_row_is_judged_alike() -> None:
    chance = random.Random(11)
    values = (-1, 0, 1, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**47, 2**63 - 1)
    refused = 0
    for _ in range(30):
        change = in_row(chance.randrange(12), chance.randrange(33), chance.choice(values))
        refused += not both(signed_anew(Site.ordinary(), 4, change))[0].ok
    assert refused > 12


# Sites of every shape: what is added up must be the same.


def random_window(start_ms: int, length_ms: int, chance: random.Random) -> Window:
    times = [0] * 11
    for _ in range(chance.randrange(3)):
        times[chance.randrange(11)] += chance.randrange(length_ms // 4)
    times[1] += length_ms - sum(times)
    made = chance.randrange(40)
    bad = chance.randrange(made + 1) if chance.random() < 0.3 else 0
    account = TimeAccount(
        tuple(times), chance.randrange(length_ms + 1), made, made - bad, bad,
        estimated_count=chance.randrange(made + 1) if chance.random() < 0.1 else 0,
        standard_total_ns=made * 500_000_000, standard_good_ns=(made - bad) * 500_000_000,
    )  # fmt: skip
    product = chance.choice(("Cola 330 ml", "Cola 500 ml", ""))
    shift = chance.choice(("", f"{start_ms // 40_000_000}/A"))
    return Window(
        start_ms, start_ms + length_ms, chance.choice(tuple(CalendarKind)), product,
        chance.choice(("", "PO-7", "工單")), shift, account,
    )  # fmt: skip


def random_site(seed: int) -> tuple[Site, dict[str, LineRevisions]]:
    """Two days of the two lines, with holes, splits at any place, and amendments of any kind."""
    chance = random.Random(seed)
    site = Site.ordinary()
    stated = {line: LineRevisions(line, lambda at: at in PLAN.baseline or at in PLAN.reporting) for line in LINES}
    bodies: list[tuple[int, int, Body]] = [(START_MS, START_MS, Configurations(tuple(map(configuration, LINES))))]
    windows: list[tuple[str, Window, int]] = []
    at, end = START_MS, START_MS + 48 * HOUR_MS
    while at < end:
        length = chance.choice((1, 1, 1, 2, 3)) * HOUR_MS
        to = min(at + length, end)
        lines = [line for line in LINES if chance.random() < 0.95]
        chance.shuffle(lines)
        if chance.random() < 0.1:
            bodies.append((at, to, Gap("filling", at, to, "no power")))
        found = []
        for line in lines:
            cuts = sorted({at, to, *(chance.randrange(at, to) for _ in range(chance.randrange(6)))})
            if chance.random() < 0.1 and len(cuts) > 2:
                cuts = cuts[1:]
            rows = tuple(random_window(a, b - a, chance) for a, b in pairwise(cuts))
            raw = RawCommitment(bytes(32), 1, len(rows)) if chance.random() < 0.5 else None
            found.append(LineStatement(line, data_hash(configuration(line)), raw, rows))
            windows += [(line, row, len(bodies)) for row in rows]
            stated[line].add(rows, Source(KID, len(bodies)))
        bodies.append((at, to, Measurement(tuple(found)) if found else Heartbeat()))
        if windows and chance.random() < 0.4:
            amendment = random_amendment(chance, windows)
            stated[amendment.line_id].amend(amendment, Source(KID, len(bodies)))
            bodies.append((to, to, amendment))
        at = to
    site.bodies = bodies
    return site, stated


def random_amendment(chance: random.Random, windows: list[tuple[str, Window, int]]) -> Amendment:
    line, window, sequence = chance.choice(windows)
    if chance.random() < 0.3:
        stop = chance.randrange(window.start_ms, window.end_ms)
        return Amendment(line, AmendmentKind.REASON, ReasonChange(stop, "", "jam"), "A", "seen")
    account = window.account
    if chance.random() < 0.5 and account.category_ms[1] > 2:
        unknown, running = account.category_ms[:2]
        moved = chance.choice((1, -unknown)) or 1
        fields = (FieldChange(0, unknown, unknown + moved), FieldChange(1, running, running - moved))
    else:
        names = ("good_count", "reject_count", "standard_good_ns")
        good, reject, standard = map(ACCOUNT_FIELDS.index, names)
        fields = (
            FieldChange(good, account.good_count, account.good_count - 1),
            FieldChange(reject, account.reject_count, account.reject_count + 1),
            FieldChange(standard, account.standard_good_ns, account.standard_good_ns - 500_000_000),
        )  # type: ignore[assignment]
    change = WindowChange(window.start_ms, window.end_ms, sequence + chance.choice((0, 0, 0, 1)), fields)
    return Amendment(line, AmendmentKind.WINDOW, (change,), "A", "seen")


def parts_of(site: Site, stated: dict[str, LineRevisions]) -> BundleParts:
    included = sorted((each for line in stated.values() for each in line.included), key=lambda each: each.source)
    report = outcome(PLAN, {name: line.windows for name, line in stated.items()}, included).to_data()
    return log_parts(site.chain(), site.root_chain(), 0, PLAN, report)


@pytest.mark.parametrize("seed", range(12))
def test_any_site_gives_the_same_figures(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testimony, "_BATCH_RECORDS", 3 + seed * 4)
    site, stated = random_site(seed)
    verdict, heard = both(sample_bundle(parts_of(site, stated)))
    assert verdict.ok, verdict.first_failure
    assert heard == len(site.bodies) - 1


def test_a_configuration_in_the_middle_ends_a_batch() -> None:
    site = Site.ordinary()
    at = site.bodies[20][0]
    site.bodies.insert(20, (at, at, Configurations((configuration("filling") | {"name": "new"},))))
    verdict, heard = both(sample_bundle(site.parts()))
    assert verdict.ok
    assert heard == len(site.bodies) - 2


def test_what_was_measured_too_early_is_found_in_a_batch() -> None:
    """A configuration that comes after the windows that name it."""
    site = Site.ordinary()
    site.bodies[5:7] = [site.bodies[6], site.bodies[5]]
    verdict, _ = both(
        sample_bundle(log_parts(site.chain(), site.root_chain(), 0, PLAN, dict(Site.ordinary().parts().report)))
    )
    assert not verdict.ok


def test_a_line_of_nobodys_plan_is_checked_too() -> None:
    site = Site.ordinary()
    site.plan = replace(PLAN, line_ids=("filling",))
    site.root_bodies[1] = replace(cast(Any, site.root_bodies[1]), plan=site.plan.to_data())
    assert both(sample_bundle(site.parts()))[0].ok
    start, end, _ = site.bodies[6]
    body = hour(start)
    site.bodies[6] = (start, end, Measurement((body.lines[0], replace(body.lines[1], configuration_hash=bytes(32)))))
    assert not both(sample_bundle(site.parts()))[0].ok

"""Bundles: the same parts give the same bytes, and a hostile ZIP is refused before anything of it is used."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed
from protocols.evidence import bundle as bundles
from protocols.evidence.bundle import BundleParts, read, records_file, write
from tests.support.bundle import Site, sample_bundle
from tests.support.evidence import signed

SITE = Site.ordinary()
PARTS = SITE.parts()
BUNDLE = sample_bundle(PARTS)
KID = signed().kid


def test_the_same_parts_give_the_same_bytes() -> None:
    shuffled = BundleParts(
        PARTS.chains,
        PARTS.root_records,
        dict(reversed(PARTS.proofs.items())),
        PARTS.checkpoint,
        dict(reversed(PARTS.report.items())),
        PARTS.views,
    )
    assert sample_bundle(shuffled) == BUNDLE == sample_bundle()


def test_read_gives_back_what_was_written() -> None:
    bundle = read(io.BytesIO(BUNDLE))
    assert bundle.kids() == [KID]
    assert [raw for _, raw in bundle.records(records_file(KID))] == list(PARTS.chains[KID])
    assert [raw for _, raw in bundle.records(bundles.ROOT_FILE)] == list(PARTS.root_records)
    assert bundle.read(bundles.CHECKPOINT_FILE) == PARTS.checkpoint
    assert bundle.read(bundles.REPORT_FILE) == bundles.report_bytes(PARTS.report)
    assert bundle.read("report.pdf") == PARTS.views["report.pdf"]
    assert bundle.proof_sequences(KID) == {sequence for kid, sequence in PARTS.proofs if kid == KID}
    assert bundle.compared().changed == []
    with pytest.raises(Malformed):
        bundle.read("report.xlsx")


def test_an_ordinary_unzip_reads_it_too() -> None:
    with zipfile.ZipFile(io.BytesIO(BUNDLE)) as archive:
        assert archive.testzip() is None
        assert archive.read(records_file(KID)) == b"".join(PARTS.chains[KID])
        assert all(info.date_time == (1980, 1, 1, 0, 0, 0) for info in archive.infolist())


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60))
def test_records_are_found_across_chunks(count: int) -> None:
    # More than a chunk of 1 MiB, with records of many lengths, so that a record spans a chunk's edge.
    chance = random.Random(count)
    raw = PARTS.chains[KID]
    records = [list(raw)[chance.randrange(54)] for _ in range(count * 30)]
    file = io.BytesIO()
    write(BundleParts({KID: records}, [], {}, b"", {}), file)
    bundle = read(file)
    found = list(bundle.records(records_file(KID)))
    assert [each for _, each in found] == records
    offsets = [offset for offset, _ in found]
    assert offsets == [sum(map(len, records[:i])) for i in range(len(records))]


def test_where_no_record_can_begin_is_named() -> None:
    one = signed().raw
    for tail, offset in ((b"\x00", len(one)), (one[:-1], len(one)), (one[:40], len(one))):
        file = io.BytesIO()
        write(BundleParts({KID: [one + tail]}, [], {}, b"", {}), file)
        with pytest.raises(Malformed) as caught:
            list(read(file).records(records_file(KID)))
        assert caught.value.offset is not None
        assert caught.value.offset >= offset


def test_a_changed_file_is_named() -> None:
    changed = bytearray(BUNDLE)
    changed[BUNDLE.index(b"%PDF-1.7")] ^= 1
    assert read(io.BytesIO(bytes(changed))).compared().changed == ["report.pdf"]


def test_every_bit_of_the_frame_counts() -> None:
    """Headers and directory too: a ZIP that two programs unpack differently shows each reader what he likes."""
    bundle = read(io.BytesIO(BUNDLE))
    within = {at for each in bundle.members.values() for at in range(each.offset, each.offset + each.size)}
    chance = random.Random(3)
    for at in sorted(set(range(len(BUNDLE))) - within):
        changed = bytearray(BUNDLE)
        changed[at] ^= 1 << chance.randrange(8)
        with contextlib.suppress(Malformed):
            assert read(io.BytesIO(bytes(changed))).compared().changed, at
    for padded in (b"#!/bin/sh\n" + BUNDLE, BUNDLE + b"\0", BUNDLE[:-2] + b"\1\0c"):
        with pytest.raises(Malformed):
            read(io.BytesIO(padded)).compared()


def test_the_frame_is_the_same_whichever_python_writes_it() -> None:
    parts = BundleParts({KID: [b"records"]}, [b"root"], {(KID, 0): b"proof"}, b"checkpoint", {})
    found = hashlib.sha256(sample_bundle(parts)).hexdigest()
    assert found == "e01c59c93dd7ce918d88b8057a605414e3745a1da655de63556b373ea3782190"


def rezip(name: str = "report.pdf", data: bytes = b"x", method: int = zipfile.ZIP_STORED, times: int = 1) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for _ in range(times):
            archive.writestr(name, data)
    return file.getvalue()


def other_local_name() -> bytes:
    data = rezip()
    at = data.index(b"report.pdf")
    return data[:at] + b"report.pdg" + data[at + 10 :]


def moved_directory_entry() -> bytes:
    data = bytearray(rezip())
    entry = data.index(b"PK\x01\x02")
    data[entry + 42] = 4  # the offset of the local header
    return bytes(data)


def longer_than_the_file() -> bytes:
    data = bytearray(rezip(data=b"x" * 100))
    entry = data.index(b"PK\x01\x02")
    for at in (entry + 20, entry + 24):
        data[at : at + 4] = (10_000).to_bytes(4, "little")
    return bytes(data)


def encrypted() -> bytes:
    data = bytearray(rezip())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def overlapping() -> bytes:
    """Within report.pdf's bytes stands a whole member "checkpoint", which the directory names too."""
    inner = rezip("checkpoint")[:41]  # header, name, one byte
    data = rezip("report.pdf", inner)
    directory, end = data.index(b"PK\x01\x02"), bytearray(data[-22:])
    first = data[directory:-22]
    second = bytearray(rezip("checkpoint")[41:-22])
    second[42:46] = data.index(inner).to_bytes(4, "little")
    end[8:12] = b"\x02\x00" * 2
    end[12:16] = (len(first) + len(second)).to_bytes(4, "little")
    return data[:directory] + first + bytes(second) + bytes(end)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "not a ZIP": lambda: b"hello",
    "nothing": lambda: b"",
    "cut": lambda: BUNDLE[:-30],
    "a path": lambda: rezip("../checkpoint"),
    "absolute": lambda: rezip("/etc/passwd"),
    "a folder": lambda: rezip("records/"),
    "a short kid": lambda: rezip("records/00.cbor-seq"),
    "a capital kid": lambda: rezip("records/EF30CDAA89974712.cbor-seq"),
    "a leading zero": lambda: rezip(f"proofs/{KID.hex()}/01.tlog-proof"),
    "an unknown file": lambda: rezip("run.exe"),
    "compressed": lambda: rezip("report.pdf", b"x" * 100, zipfile.ZIP_DEFLATED),
    "a long checkpoint": lambda: rezip("checkpoint", bytes((1 << 20) + 1)),
    "another name within": other_local_name,
    "a false place": moved_directory_entry,
    "longer than the file": longer_than_the_file,
    "encrypted": encrypted,
    "one over another": overlapping,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_zip_is_refused(name: str) -> None:
    with pytest.raises(Malformed):
        read(io.BytesIO(HOSTILE[name]()))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_twice_is_refused() -> None:
    with pytest.raises(Malformed, match="twice"):
        read(io.BytesIO(rezip(times=2)))


def test_a_view_of_another_name_is_never_written() -> None:
    with pytest.raises(Malformed):
        sample_bundle(BundleParts({}, [], {}, b"", {}, {"../report.pdf": b""}))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 255))
def test_damage_never_escapes_the_error_types(at: int, mask: int) -> None:
    changed = bytearray(BUNDLE)
    changed[at] ^= mask
    try:
        bundle = read(io.BytesIO(bytes(changed)))
        for kid in bundle.kids():
            list(bundle.records(records_file(kid)))
        bundle.compared()
    except Malformed:
        pass

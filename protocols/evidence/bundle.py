"""The bundle: everything that an offline verdict needs, in one ZIP file.

Decides names, order and size limits of the files inside, and writes the same bytes for the same content. Does not
decide whether any of it is true (`verify`).

    records/<kid>.cbor-seq             each gateway key's chain: its COSE_Sign1 messages one after another (RFC 8742)
    root.cbor-seq                      the root key's chain: enrolments, plans, revocations
    proofs/<kid>/<sequence>.tlog-proof inclusion of that record (c2sp.org/tlog-proof), all at the bundle's checkpoint
    checkpoint                         the log's signed note
    checkpoints/<size>.dated           an older one with its witnesses' times (`dated`)
    report.json                        canonical JSON of `Outcome.to_data()`
    raw/<line>/<UTC day>.raw           raw samples of an audit, where there are any; no verdict rests on them
    report.pdf, report.xlsx            views, never evidence
    README.txt, manifest.json          for people; sizes and SHA-256, which find an accident, not a forger

Members are stored, not compressed, and read by offset without a look at their CRC: a changed byte must be laid at
the record that it changed, and a forger would set the CRC right anyway.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, cast

from protocols.errors import Malformed
from protocols.evidence import cose
from protocols.evidence.canonical import first_difference
from protocols.evidence.cose import Kid

ROOT_FILE: Final = "root.cbor-seq"
CHECKPOINT_FILE: Final = "checkpoint"
REPORT_FILE: Final = "report.json"
MANIFEST_FILE: Final = "manifest.json"
README_FILE: Final = "README.txt"
VIEWS: Final = ("report.pdf", "report.xlsx")
FORMAT: Final = "linetally-bundle/1"

MAX_FILES: Final = 100_000
_RECORDS_NAME: Final = re.compile(r"records/([0-9a-f]{16})\.cbor-seq")
_DATED_NAME: Final = re.compile(r"checkpoints/([1-9][0-9]{0,18})\.dated")
_PROOF_NAME: Final = re.compile(r"proofs/([0-9a-f]{16})/(0|[1-9][0-9]{0,18})\.tlog-proof")
RAW_NAME: Final = re.compile(r"raw/[A-Za-z0-9_-]{1,64}/[0-9]{4}-[0-9]{2}-[0-9]{2}\.raw")
# Half a year of ten lines is some 200 MB; a proof has at most 63 hashes and a note.
_MAX_RECORDS: Final = 1 << 31
_MAX_VIEW: Final = 1 << 28
_MAX_SMALL: Final = 1 << 20
_MAX_RAW: Final = 1 << 30  # a minute of 65,536 rows is some megabytes, a usual day half a megabyte
_MAX_REPORT: Final = 1 << 25
_CHUNK: Final = 1 << 20
_LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")  # APPNOTE.TXT 4.3.7
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_ENCRYPTED: Final = 0x1
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first date that a ZIP can hold

README: Final = """\
This bundle is evidence of a production line's output, made by linetally.

To verify it on any computer, without a network:
  1. pip install '.[verify]' in linetally's source, which you have from where you trust it
  2. get the scheme's policy file from the scheme itself, not from whoever gave you this bundle
  3. linetally-verify THIS-FILE.zip --policy POLICY-FILE
"""


@dataclass(frozen=True, slots=True)
class Compared:
    """`changed`: files that differ from the manifest, are missing, or are not named in it."""

    changed: list[str]
    evidence_sha256: bytes


@dataclass(frozen=True, slots=True)
class BundleParts:
    """What goes into a bundle.

    `chains`: each gateway key's records in order of sequence. `root_records`: the root key's, from sequence 0.
    `proofs`: tlog-proofs by (kid, sequence), each at `checkpoint`. `report`: `Outcome.to_data()`.
    `dated`: dated checkpoints (`dated.format`) by size.
    `views`: "report.pdf" and "report.xlsx", where there are any. `raw`: what the hub holds of raw samples, by name.
    """

    chains: Mapping[Kid, Iterable[bytes]]
    root_records: Iterable[bytes]
    proofs: Mapping[tuple[Kid, int], bytes]
    checkpoint: bytes
    report: Mapping[str, Any]
    views: Mapping[str, bytes] = field(default_factory=dict)
    raw: Mapping[str, Iterable[bytes]] = field(default_factory=dict)
    dated: Mapping[int, bytes] = field(default_factory=dict)


def report_bytes(data: Mapping[str, Any]) -> bytes:
    """report.json: keys sorted, no spaces, UTF-8 (RFC 8785 for data without floats)."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def records_file(kid: Kid) -> str:
    return f"records/{kid.hex()}.cbor-seq"


def proof_file(kid: Kid, sequence: int) -> str:
    return f"proofs/{kid.hex()}/{sequence}.tlog-proof"


def dated_file(size: int) -> str:
    return f"checkpoints/{size}.dated"


def evidence_hash(hashes: Mapping[str, str]) -> bytes:
    """SHA-256 over one line "<hex>  <name>\\n" for each evidence file, sorted by name, as sha256sum prints them.

    Evidence files: root.cbor-seq, records, proofs, checkpoints, report.json. Not the PDF, which shows this hash.
    `hashes`: of these files by name; others are left out.
    """
    lines = (f"{hashes[name]}  {name}\n" for name in sorted(hashes) if is_evidence(name))
    return hashlib.sha256("".join(lines).encode()).digest()


def is_evidence(name: str) -> bool:
    """Whether the evidence hash covers a file."""
    forms = (_RECORDS_NAME, _PROOF_NAME, _DATED_NAME)
    return name in (ROOT_FILE, CHECKPOINT_FILE, REPORT_FILE) or any(form.fullmatch(name) for form in forms)


def write(parts: BundleParts, file: BinaryIO) -> None:
    """Write the bundle. The same parts give the same bytes; records are streamed."""
    contents: dict[str, Iterable[bytes]] = {
        README_FILE: [README.encode()],
        CHECKPOINT_FILE: [parts.checkpoint],
        REPORT_FILE: [report_bytes(parts.report)],
        ROOT_FILE: parts.root_records,
    }
    contents |= {records_file(kid): records for kid, records in parts.chains.items()}
    contents |= {proof_file(kid, sequence): [data] for (kid, sequence), data in parts.proofs.items()}
    contents |= {dated_file(size): [data] for size, data in parts.dated.items()}
    contents |= {name: [data] for name, data in parts.views.items()}
    contents |= parts.raw
    for name in contents:
        _limit(name)  # raises for a view of another name
    _write_archive(contents, file)


def _write_archive(contents: Mapping[str, Iterable[bytes]], file: BinaryIO) -> dict[str, dict[str, Any]]:
    """Write the files and, last, their manifest, which it gives."""
    manifest: dict[str, dict[str, Any]] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            manifest[name] = _write_member(archive, name, contents[name])
        _write_member(archive, MANIFEST_FILE, [report_bytes({"files": manifest, "format": FORMAT})])
    return manifest


def _write_member(archive: zipfile.ZipFile, name: str, pieces: Iterable[bytes]) -> dict[str, Any]:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # Unix, on whatever system it is written
    info.external_attr = 0o644 << 16
    digest, size = hashlib.sha256(), 0
    with archive.open(info, "w", force_zip64=name.startswith("records/")) as member:
        for piece in pieces:
            member.write(piece)
            digest.update(piece)
            size += len(piece)
    return {"bytes": size, "sha256": digest.hexdigest()}


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the bundle: its bytes are [offset, offset + size) of the ZIP."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle. Reads from `file` when asked, never more than a chunk of the records at once."""

    file: BinaryIO
    members: Mapping[str, Member]

    def has(self, name: str) -> bool:
        return name in self.members

    def read(self, name: str) -> bytes:
        """A small file whole. Raises Malformed if it is not there."""
        member = self.members.get(name)
        if member is None:
            raise Malformed(f"the bundle has no {name}")
        self.file.seek(member.offset)
        return self.file.read(member.size)

    def kids(self) -> list[Kid]:
        """The keys whose chains are in the bundle."""
        matches = map(_RECORDS_NAME.fullmatch, sorted(self.members))
        return [Kid(bytes.fromhex(match[1])) for match in matches if match]

    def proof_sequences(self, kid: Kid) -> frozenset[int]:
        """Which records of a key have a proof."""
        matches = map(_PROOF_NAME.fullmatch, self.members)
        return frozenset(int(match[2]) for match in matches if match and match[1] == kid.hex())

    def dated_files(self) -> list[str]:
        """The dated checkpoints."""
        return sorted(name for name in self.members if _DATED_NAME.fullmatch(name))

    def records(self, name: str) -> Iterator[tuple[int, bytes]]:
        """(offset in the file `name`, COSE_Sign1 bytes) of each record, in order.

        Raises Malformed with that offset where no record can begin or the last one is cut off.
        """
        member = self.members.get(name)
        if member is None:
            raise Malformed(f"the bundle has no {name}")
        start, position, buffer = 0, 0, b""  # `buffer` holds the file from `start`; `position` is within it
        while True:
            if len(buffer) - position <= cose.MAX_BYTES and start + len(buffer) < member.size:
                start, buffer, position = start + position, buffer[position:], 0
                self.file.seek(member.offset + start + len(buffer))
                buffer += self.file.read(min(_CHUNK, member.size - start - len(buffer)))
            if position == len(buffer):
                return
            try:
                length = cose.item_length(buffer, position)
            except Malformed as error:
                raise Malformed(error.what, start + (error.offset or 0)) from None
            if length > cose.MAX_BYTES:
                raise Malformed(f"a record of {length} bytes; at most {cose.MAX_BYTES} are allowed", start + position)
            yield start + position, buffer[position : position + length]
            position += length

    def record_at(self, name: str, offset: int) -> bytes:
        """The record that begins at an offset which `records` gave."""
        member = self.members[name]
        self.file.seek(member.offset + offset)
        data = self.file.read(min(cose.MAX_BYTES, member.size - offset))
        return data[: cose.item_length(data, 0)]

    def compared(self) -> Compared:
        """The files beside the manifest.

        Raises Malformed, with the byte, where the ZIP around them is not the one that `write` gives: two programs
        that unpack it could find different files.
        """
        try:
            manifest = json.loads(self.read(MANIFEST_FILE))
            stated = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Malformed(f"{MANIFEST_FILE} does not parse") from error
        again = _Comparison(self.file)
        contents = {name: self._pieces(each) for name, each in self.members.items() if name != MANIFEST_FILE}
        written = _write_archive(contents, cast(BinaryIO, again))
        found = {name: (entry["bytes"], entry["sha256"]) for name, entry in written.items()}
        changed = sorted(name for name in stated.keys() | found.keys() if stated.get(name) != found.get(name))
        if not changed and (at := again.first_difference()) is not None:
            raise Malformed("the ZIP is not written as bundles are", at)
        return Compared(changed, evidence_hash({name: sha256 for name, (_, sha256) in found.items()}))

    def _pieces(self, member: Member) -> Iterator[bytes]:
        for start in range(0, member.size, _CHUNK):
            self.file.seek(member.offset + start)
            yield self.file.read(min(_CHUNK, member.size - start))


class _Comparison:
    """A file to be written, which instead compares what it is given with a file that is there.

    A ZIP's local header is written again when the size is known, in the same place: only the last one counts.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = self._end = 0
        self._differing: dict[int, int] = {}  # where something was written, to the first byte that differs

    def write(self, data: bytes) -> int:
        self._file.seek(self._at)
        there = self._file.read(len(data))
        self._differing.pop(self._at, None)
        if there != data:
            self._differing[self._at] = self._at + first_difference(there, data)
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def first_difference(self) -> int | None:
        """The first byte in which the two files differ."""
        if self._file.seek(0, 2) != self._end:
            self._differing[self._end] = self._end
        return min(self._differing.values(), default=None)

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0, "a ZIP that is written knows where it is"
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        """Nothing is held back."""


def read(file: BinaryIO) -> Bundle:
    """Open a bundle: names, sizes and places are checked, contents are not.

    Raises Malformed for what is not a ZIP, a name that no bundle has, a member twice, compressed, encrypted, too
    long, or that lies over another.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OverflowError) as error:
        raise Malformed(f"not a ZIP file: {error}") from error
    if len(infos) > MAX_FILES:
        raise Malformed(f"a bundle of {len(infos)} files; at most {MAX_FILES} are allowed")
    members: dict[str, Member] = {}
    for info in infos:
        if info.file_size > _limit(info.filename):
            raise Malformed(f"{info.filename} is too long: {info.file_size} bytes")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise Malformed(f"{info.filename} is compressed; a bundle's files are stored")
        if info.flag_bits & _ENCRYPTED:
            raise Malformed(f"{info.filename} is encrypted")
        if info.filename in members:
            raise Malformed(f"{info.filename} is in the bundle twice")
        members[info.filename] = Member(info.filename, _data_offset(file, info), info.file_size)
    end = 0
    for member in sorted(members.values(), key=lambda each: each.offset):
        if member.offset < end:
            raise Malformed(f"{member.name} lies over another file of the bundle")
        end = member.offset + member.size
    return Bundle(file, members)


def _data_offset(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: the local header repeats the name, and has an extra field of its own length."""
    header = b""
    if info.header_offset >= 0:  # zipfile shifts offsets by what it takes for a file before the ZIP, also backwards
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER.size)
    if len(header) != _LOCAL_HEADER.size or not header.startswith(_LOCAL_MAGIC):
        raise Malformed(f"{info.filename} is not where the ZIP's directory says")
    *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    if file.read(name_length) != info.filename.encode():
        raise Malformed(f"{info.filename} has another name in its own header")
    offset: int = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    if file.seek(0, 2) < offset + info.file_size:
        raise Malformed(f"{info.filename} is cut off")
    return offset


def _limit(name: str) -> int:
    """The most bytes that a file of this name may have. Raises Malformed for a name that no bundle has."""
    if name == ROOT_FILE or _RECORDS_NAME.fullmatch(name):
        return _MAX_RECORDS
    if name in (REPORT_FILE, MANIFEST_FILE):
        return _MAX_REPORT
    if name in (CHECKPOINT_FILE, README_FILE) or _PROOF_NAME.fullmatch(name) or _DATED_NAME.fullmatch(name):
        return _MAX_SMALL
    if name in VIEWS:
        return _MAX_VIEW
    if RAW_NAME.fullmatch(name):
        return _MAX_RAW
    raise Malformed(f"{name[:80]!r} is not a file that a bundle has")

"""From an object file to one block of code that runs wherever it is mapped, without a linker or LLVM.

Decides how sections lie beside each other and what may be between them: references relative to the place that refers,
as LLVM writes them for small position-independent code on x86-64 and AArch64. Whatever else there is (a call out, data
that is written, another kind of reference) is no error: the code is then not linked here, and LLVM loads it.
Clauses: System V ABI (ELF-64, section 4), its AMD64 supplement (4.4), ELF for the Arm 64-bit Architecture (5.7).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_X86_64: Final = 62
_AARCH64: Final = 183
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_REFERENCE: Final = struct.Struct("<QQq")
_PROGBITS, _SYMBOLS, _RELA, _NOBITS = 1, 2, 4, 8
_WRITE, _ALLOCATED = 1, 2
_PAGE: Final = 4096  # what ADRP counts in, whatever a machine's own pages are


class NotAlone(Exception):
    """The code refers to something in a way that is not linked here."""


@dataclass(frozen=True, slots=True)
class Linked:
    """`code` is to be mapped so that its first byte lies `at` bytes after the start of a page; `entry` is counted from
    there too."""

    code: bytes
    entry: int


def link(object_file: bytes, name: str, at: int) -> Linked:
    """The code of an ELF object of this machine's byte order, for a place `at` bytes after the start of a page, a
    multiple of what its sections are aligned to. Raises NotAlone."""
    if object_file[:6] != b"\x7fELF\x02\x01":
        raise NotAlone("it is no little-endian ELF-64 file")
    (machine,) = struct.unpack_from("<H", object_file, 18)
    (first,) = struct.unpack_from("<Q", object_file, 40)
    size, count = struct.unpack_from("<HH", object_file, 58)
    sections = [_Section(*_SECTION.unpack_from(object_file, first + size * i)) for i in range(count)]
    code = bytearray()
    bases: dict[int, int] = {}
    for i, section in enumerate(sections):
        if section.is_needed:
            if at % section.alignment:
                raise NotAlone(f"a section is aligned to {section.alignment} bytes")
            code += bytes(-len(code) % section.alignment)
            bases[i] = at + len(code)
            code += section.content(object_file)
    for section in sections:
        if section.kind == _RELA and section.info in bases:
            symbols = sections[section.link].content(object_file)
            for offset, info, addend in _REFERENCE.iter_unpack(section.content(object_file)):
                write = _writer(machine, info & 0xFFFFFFFF)
                place = bases[section.info] + offset
                write(code, place - at, place, _address(symbols, info >> 32, bases) + addend)
    for section in sections:
        if section.kind == _SYMBOLS:
            names = sections[section.link].content(object_file)
            symbols = section.content(object_file)
            for i, symbol in enumerate(_SYMBOL.iter_unpack(symbols)):
                if names[symbol[0] : names.index(b"\0", symbol[0])] == name.encode():
                    return Linked(bytes(code), _address(symbols, i, bases))
    raise NotAlone(f"it does not hold {name}")


@dataclass(frozen=True, slots=True)
class _Section:
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int

    @property
    def is_needed(self) -> bool:
        """Code and constants. (On AArch64 what unwinders read, .eh_frame, is among them; nothing refers to it, and its
        own references are of kinds that are known.)"""
        return self.kind == _PROGBITS and self.flags & _ALLOCATED != 0 and not self.flags & _WRITE and self.size > 0

    def content(self, object_file: bytes) -> bytes:
        return b"" if self.kind == _NOBITS else object_file[self.offset : self.offset + self.size]


def _address(symbols: bytes, index: int, bases: dict[int, int]) -> int:
    _, _, _, section, value, _ = _SYMBOL.unpack_from(symbols, index * _SYMBOL.size)
    if section not in bases:  # undefined, or data that is written
        raise NotAlone("it refers to what it does not hold")
    return bases[section] + int(value)


Writer = Callable[[bytearray, int, int, int], None]
"""(code, where in it, the place's address, the target's address)."""


def _writer(machine: int, kind: int) -> Writer:
    try:
        return _WRITERS[machine, kind]
    except KeyError:
        raise NotAlone(f"it has a reference of kind {kind}") from None


def _relative(form: str) -> Writer:
    def write(code: bytearray, offset: int, place: int, target: int) -> None:
        struct.pack_into(form, code, offset, target - place)

    return write


def _put(code: bytearray, offset: int, mask: int, bits: int) -> None:
    (word,) = struct.unpack_from("<I", code, offset)
    struct.pack_into("<I", code, offset, word & ~mask | bits)


def _branch(code: bytearray, offset: int, place: int, target: int) -> None:
    _put(code, offset, 0x03FFFFFF, (target - place) >> 2 & 0x03FFFFFF)


def _page(code: bytearray, offset: int, place: int, target: int) -> None:
    pages = target // _PAGE - place // _PAGE
    _put(code, offset, 0x60FFFFE0, (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5)


def _within_page(shift: int) -> Writer:
    """The target's place in its page, in units of the size that is loaded or stored."""

    def write(code: bytearray, offset: int, _place: int, target: int) -> None:
        _put(code, offset, 0x003FFC00, (target % _PAGE >> shift) << 10)

    return write


_WRITERS: Final[dict[tuple[int, int], Writer]] = {
    (_X86_64, 2): _relative("<i"),  # PC32
    (_X86_64, 4): _relative("<i"),  # PLT32: no table is needed, the target is here
    (_X86_64, 24): _relative("<q"),  # PC64
    (_AARCH64, 260): _relative("<q"),  # PREL64
    (_AARCH64, 261): _relative("<i"),  # PREL32
    (_AARCH64, 275): _page,  # ADR_PREL_PG_HI21
    (_AARCH64, 277): _within_page(0),  # ADD_ABS_LO12_NC
    (_AARCH64, 278): _within_page(0),  # LDST8_ABS_LO12_NC
    (_AARCH64, 282): _branch,  # JUMP26
    (_AARCH64, 283): _branch,  # CALL26
    (_AARCH64, 284): _within_page(1),  # LDST16
    (_AARCH64, 285): _within_page(2),  # LDST32
    (_AARCH64, 286): _within_page(3),  # LDST64
    (_AARCH64, 299): _within_page(4),  # LDST128
}

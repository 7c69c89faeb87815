"""Code in one block: it runs where it is mapped, on both CPUs it refers to the right places, and what cannot stand
alone is told."""

from __future__ import annotations

import ctypes
import importlib
import mmap
import platform
import struct
from typing import Any

import numpy as np
import pytest

from protocols.measurement.kernels.linked import Linked, NotAlone, link

_AT = 64
_VECTOR = [3, 1, 4, 1, 5, 9, 2, 6]
_TABLE = [7, 70, 700, 7000, 70000, 11]
# A table of constants with an index, a vector of them, and a call that is not put in place.
_SOURCE = f"""
@table = private unnamed_addr constant [6 x i64] [{", ".join(f"i64 {n}" for n in _TABLE)}]
define internal i64 @picked(i64 %i) noinline {{
  %at = getelementptr [6 x i64], ptr @table, i64 0, i64 %i
  %value = load i64, ptr %at
  ret i64 %value
}}
define i64 @first(i64 %i) {{
  %value = call i64 @picked(i64 %i)
  %next = add i64 %value, 1
  ret i64 %next
}}
define void @fill(ptr %out) {{
  store <8 x i32> <{", ".join(f"i32 {n}" for n in _VECTOR)}>, ptr %out, align 4
  ret void
}}
"""


def emitted(source: str, triple: str) -> bytes:
    llvm: Any = importlib.import_module("llvmlite.binding")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(opt=2, reloc="pic", codemodel="small")
    return bytes(machine.emit_object(llvm.parse_assembly(f'target triple = "{triple}"\n{source}')))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the code is for x86-64")
def test_it_runs_where_it_is_mapped() -> None:
    file = emitted(_SOURCE, "x86_64-unknown-linux-gnu")
    for pages in (1, 3):  # at two places
        mapping = mmap.mmap(-1, pages * mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        first, fill = link(file, "first", _AT), link(file, "fill", _AT)
        assert first.code == fill.code
        mapping[_AT : _AT + len(first.code)] = first.code
        start = np.frombuffer(mapping, np.uint8).ctypes.data
        call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(start + first.entry)
        assert [call(i) for i in range(len(_TABLE))] == [n + 1 for n in _TABLE]
        out = (ctypes.c_int32 * len(_VECTOR))()
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(start + fill.entry)(ctypes.addressof(out))
        assert list(out) == _VECTOR


def arm_targets(linked: Linked) -> list[int]:
    """The addresses that ADRP and the addition or load after it come to, as a processor would reckon them."""
    words = [struct.unpack_from("<I", linked.code, at)[0] for at in range(0, len(linked.code) - 3, 4)]
    pages: dict[int, int] = {}
    targets = []
    for i, word in enumerate(words):
        register = word >> 5 & 31
        if word & 0x9F000000 == 0x90000000:  # ADRP
            offset = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
            offset -= (offset & 1 << 20) << 1
            pages[word & 31] = ((_AT + 4 * i) // 4096 + offset) * 4096
        elif word & 0xFFC00000 == 0x91000000 and register in pages:  # ADD
            targets.append(pages.pop(register) + (word >> 10 & 0xFFF))
        elif word & 0xFFC00000 == 0x3DC00000 and register in pages:  # LDR of 16 bytes
            targets.append(pages.pop(register) + (word >> 10 & 0xFFF) * 16)
    return targets


def test_on_aarch64_it_refers_to_its_constants() -> None:
    padding = '@far = private unnamed_addr constant [9000 x i8] c"' + "x" * 9000 + '"\n'
    reader = "define ptr @far_away() {\n  ret ptr @far\n}\n"
    linked = link(emitted(padding + reader + _SOURCE, "aarch64-unknown-linux-gnu"), "first", _AT)
    found = {target: linked.code[target - _AT :] for target in arm_targets(linked)}
    starts = [data[:16] for data in found.values()]
    assert struct.pack("<2q", *_TABLE[:2]) in starts
    assert b"x" * 16 in starts
    assert struct.pack("<4i", *_VECTOR[:4]) in starts
    assert struct.pack("<4i", *_VECTOR[4:]) in starts
    entry = linked.entry - _AT
    calls = [struct.unpack_from("<I", linked.code, entry + 4 * i)[0] for i in range(8)]
    at, word = next((entry + 4 * i, word) for i, word in enumerate(calls) if word >> 26 == 0b100101)  # BL
    back = (word & 0x3FFFFFF) - (1 << 26 if word & 1 << 25 else 0)
    (adrp,) = struct.unpack_from("<I", linked.code, at + 4 * back)
    assert adrp & 0x9F000000 == 0x90000000  # where `picked` begins


@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"])
@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "declare i64 @other(i64)\ndefine i64 @f(i64 %i) {\n  %v = call i64 @other(i64 %i)\n  ret i64 %v\n}",
            "not hold",
        ),
        ("@n = internal global i64 5\ndefine void @f(i64 %i) {\n  store i64 %i, ptr @n\n  ret void\n}", "not hold"),
        ("@n = external global i64\ndefine ptr @f() {\n  ret ptr @n\n}", "a reference of kind"),
        ("define void @g() {\n  ret void\n}", "does not hold f"),
    ],
)
def test_what_cannot_stand_alone_is_told(triple: str, source: str, words: str) -> None:
    with pytest.raises(NotAlone, match=words):
        link(emitted(source, triple), "f", _AT)


def test_a_file_of_another_kind_is_told() -> None:
    with pytest.raises(NotAlone, match="no little-endian ELF-64"):
        link(b"\x7fELF\x01\x01" + bytes(100), "f", _AT)


def test_a_place_that_is_not_aligned_enough_is_told() -> None:
    file = emitted(_SOURCE, "aarch64-unknown-linux-gnu")
    with pytest.raises(NotAlone, match="aligned"):
        link(file, "first", 2)

"""Machine code of kernels: made by numba, kept in a folder for each build, mapped into memory from there.

Decides the form of an entry point (arrays and integers in, integers out), and who loads the code: nobody, where it
could be linked into one block (`linked`), whose file is mapped as a program's is; otherwise llvmlite, which takes
50 MB and a fifth of a second to be there.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import mmap
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from protocols.measurement.kernels import kept

if TYPE_CHECKING:
    from protocols.measurement.kernels.jit import Kernel

_RESULTS: Final = 8  # more than any kernel gives
# numpy's C interface: PyArrayObject_fields begins with CPython's object head, then data, the number of dimensions and
# their sizes. Compiled extensions rely on it, and `_knows_arrays` looks whether this Python keeps to it. (Asking each
# array by __array_interface__ costs 20 us a call.)
ARRAY_DATA: Final = 16
ARRAY_DIMENSIONS: Final = 32
ArgumentType = tuple[str, int] | None
"""(dtype character, dimensions) of an array; None: an integer."""
Spec = Sequence[ArgumentType]


_HEAD: Final = struct.Struct("<B3xII20x")  # results, entry point, bytes of the block
BLOCK_AT: Final = kept.DIGEST + _HEAD.size
"""Where in a kept file its block begins: a multiple of what the widest vectors are aligned to."""


class Unusable(Exception):
    """This machine cannot compile or load kernels."""


@dataclass(frozen=True, slots=True)
class Code:
    """A kernel's code. results: how many integers it gives · block: linked code with its entry point in bytes after the
    start of the page that it is mapped at, or b"" · object_file: the same for LLVM to load."""

    results: int
    entry: int
    block: bytes
    object_file: bytes

    def encode(self) -> bytes:
        return _HEAD.pack(self.results, self.entry, len(self.block)) + self.block + self.object_file

    @classmethod
    def decode(cls, content: bytes) -> Code:
        results, entry, size = _HEAD.unpack_from(content)
        rest = content[_HEAD.size :]
        return cls(results, entry, rest[:size], rest[size:])


class Entry:
    """A kernel's entry point for one combination of argument types.

    An array is passed as the address of its numpy object, which its caller holds while the kernel runs.
    """

    def __init__(self, address: int, arguments: int, results: int) -> None:
        # numba's calling convention: status f(result *, exception **, arguments ...)
        kinds = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * (arguments + 1)]
        self._function = ctypes.CFUNCTYPE(ctypes.c_int32, *kinds)(address)
        self._results = results
        self._words = ctypes.c_int64 * (_RESULTS + 2)

    def call(self, words: Sequence[int]) -> object:
        """The kernel's result. Lets go of the GIL meanwhile."""
        return self._run(words, self._words())

    def bound(self, words: Sequence[int], held: object) -> Callable[[], object]:
        """A call with these words again and again; `held` is what they point to. For one thread at a time."""
        ready = [ctypes.c_int64(word) for word in words]
        results = self._words()
        return lambda held=held: self._run(ready, results)  # type: ignore[misc]

    def _run(self, words: Sequence[int | ctypes.c_int64], results: Any) -> object:
        at = ctypes.addressof(results)
        if self._function(at + 8 * _RESULTS, at + 8 * _RESULTS + 8, *words, at) != 0:
            raise ArithmeticError("a kernel failed")
        if self._results == 0:
            return None
        return results[0] if self._results == 1 else tuple(results[: self._results])


def entry(kernel: Kernel, spec: Spec) -> Entry:
    """The entry point of `kernel` for the arguments' types; kept code if there is some.

    Raises ImportError where there is no numba (or llvmlite), Unusable where its code cannot stand alone.
    """
    if not _knows_arrays():
        raise Unusable("this Python lays out arrays in another way")
    name = _symbol(kernel, spec)
    file = kept.kept_file(name)
    content = kept.read(file) if file is not None else None
    if content is not None:
        code = Code.decode(content)
    else:
        from protocols.measurement.kernels.compiler import compile_kernel

        code = compile_kernel(kernel, spec, name)
        if file is not None:
            kept.write(file, code.encode())
    mapped = _mapped(file, code) if file is not None and code.block else None
    return Entry(_loaded(code, name) if mapped is None else mapped, len(spec), code.results)


_mappings: Final[list[mmap.mmap]] = []  # as long as the process: their code may be running


def _mapped(file: Path, code: Code) -> int | None:
    """The address of the block's entry point, in pages that are never writable; None where the file cannot be mapped
    (a folder without the right to execute)."""
    try:
        with file.open("rb") as kept_file:
            pages = mmap.mmap(kept_file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    except (OSError, ValueError):
        return None
    if pages[kept.DIGEST :] != code.encode():  # another file by now
        return None
    _mappings.append(pages)
    return int(np.frombuffer(pages, np.uint8).ctypes.data) + code.entry


@cache
def _knows_arrays() -> bool:
    array = np.zeros((3, 5), np.int64)
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    data = ctypes.c_int64.from_address(id(array) + ARRAY_DATA).value
    sizes = ctypes.c_int64.from_address(id(array) + ARRAY_DIMENSIONS).value
    if object.__basicsize__ != ARRAY_DATA or data != array.ctypes.data or sizes == 0:
        return False
    return [ctypes.c_int64.from_address(sizes + 8 * d).value for d in range(2)] == [3, 5]


def _symbol(kernel: Kernel, spec: Spec) -> str:
    types = "_".join("int" if part is None else f"{part[0]}{part[1]}" for part in spec)
    short = hashlib.sha256(types.encode()).hexdigest()[:16]
    return f"linetally_{kernel.__name__.strip('_')}_{short}"


@cache
def target_machine(*, moves: bool = False) -> Any:
    """This CPU, with all that it can do. moves: for code in one block that may lie anywhere; otherwise for LLVM's own
    loader, with sections far from each other."""
    llvm: Any = importlib.import_module("llvmlite.binding")

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic" if moves else "default",
        codemodel="small" if moves else "jitdefault",
        jit=not moves,
    )


@cache
def _engine() -> Any:
    llvm: Any = importlib.import_module("llvmlite.binding")

    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())


def _loaded(code: Code, name: str) -> int:
    llvm: Any = importlib.import_module("llvmlite.binding")

    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code.object_file))
    engine.finalize_object()
    address = engine.get_function_address(name)
    if not address:
        raise Unusable(f"the code of {name} does not hold it")
    return int(address)

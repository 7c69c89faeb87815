"""Machine code of kernels: made by numba, kept in a folder for each build, put into memory by llvmlite.

Decides the form of an entry point: arrays and integers in, integers out.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import sys
from collections.abc import Callable, Sequence
from functools import cache
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


class Unusable(Exception):
    """This machine cannot compile or load kernels."""


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
    code = kept.read(file) if file is not None else None
    if code is None:
        from protocols.measurement.kernels.compiler import compile_kernel

        code = compile_kernel(kernel, spec, name)
        if file is not None:
            kept.write(file, code)
    return Entry(_load(code, name), len(spec), code[0])


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
def target_machine() -> Any:
    """This CPU, with all that it can do."""
    llvm: Any = importlib.import_module("llvmlite.binding")

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        codemodel="jitdefault",
        jit=True,
    )


@cache
def _engine() -> Any:
    llvm: Any = importlib.import_module("llvmlite.binding")

    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())


def _load(code: bytes, name: str) -> int:
    llvm: Any = importlib.import_module("llvmlite.binding")

    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code[1:]))
    engine.finalize_object()
    address = engine.get_function_address(name)
    if not address:
        raise Unusable(f"the code of {name} does not hold it")
    return int(address)

"""The one policy by which a kernel is compiled, kept and called.

Decides compiled or not, and where machine code is kept. A kernel's source is plain Python over arrays and integers;
it gives the same integers either way. No fastmath, and nothing in parallel inside a kernel: lines run beside each
other instead (a compiled kernel lets go of the GIL).

numba is imported only to compile. Its own cache needs 0.5 to 0.7 s and 40 MB to start again, nearly all of it for
importing the compiler; here the finished code is kept as a file, which is mapped into memory as a program is
(`machine_code`).
The folder's name is a hash of everything that the code depends on, so that another build, CPU or version of numba
never meets it. The check in `check` still stands between a file and its use.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from protocols.measurement.kernels import machine_code

F = TypeVar("F", bound=Callable[..., object])

_log: Final = logging.getLogger(__name__)
_making: Final = threading.Lock()  # neither the compiler nor the loader may be used by two threads at once
_mode: dict[str, bool] = {"on": os.environ.get("LINETALLY_JIT", "on") != "off"}


def enabled() -> bool:
    """Whether kernels run compiled."""
    return _mode["on"]


def switch_off(reason: str = "") -> None:
    """From now on kernels run uncompiled; a `reason` is logged, since it costs some hundred times the time."""
    if _mode["on"] and reason:
        _log.warning("kernels run uncompiled: %s", reason)
    _mode["on"] = False


@contextmanager
def uncompiled() -> Iterator[None]:
    """Within it kernels run uncompiled, to be compared with. For one thread only."""
    before = _mode["on"]
    _mode["on"] = False
    try:
        yield
    finally:
        _mode["on"] = before


class Kernel:
    """One kernel: compiled for the argument types that it is called with, or its Python form where `enabled` is not.

    Arguments are C-contiguous arrays and integers; the result is None, an integer or a tuple of integers.
    Raises TypeError for other arguments.
    """

    def __init__(self, function: Callable[..., object], *, inside: bool = False) -> None:
        self.py_func = function
        self._inside = inside
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self.__module__, self.__qualname__ = function.__module__, function.__qualname__
        self._dispatcher: Any = None
        self._entries: dict[tuple[machine_code.ArgumentType, ...], machine_code.Entry] = {}

    def __call__(self, *args: Any) -> object:
        if not _mode["on"]:
            return self.py_func(*args)
        entry, words = self._prepared(args)
        return self.py_func(*args) if entry is None else entry.call(words)

    def bound(self, *args: Any) -> Callable[[], object]:
        """A call with these very arguments, to be made again and again: arrays are read and written in place. Saves
        looking at each of them, some 10 us."""
        entry, words = self._prepared(args) if _mode["on"] else (None, [])
        return partial(self.py_func, *args) if entry is None else entry.bound(words, args)

    def _prepared(self, args: tuple[Any, ...]) -> tuple[machine_code.Entry | None, list[int]]:
        """(the entry for these arguments or None, the words that it is called with)."""
        words: list[int] = []
        spec: list[machine_code.ArgumentType] = []
        for arg in args:
            if isinstance(arg, np.ndarray):
                if not arg.flags.c_contiguous:
                    raise TypeError(f"{self.__name__} takes contiguous arrays")
                spec.append((arg.dtype.char, arg.ndim))
                words.append(id(arg))
            else:
                spec.append(None)
                words.append(arg)
        types = tuple(spec)
        return self._entries.get(types) or self._made(types), words

    def _made(self, types: tuple[machine_code.ArgumentType, ...]) -> machine_code.Entry | None:
        from protocols.measurement.kernels import machine_code  # what runs uncompiled needs none of it

        with _making:
            if types not in self._entries:
                try:
                    self._entries[types] = machine_code.entry(self, types)
                except (ImportError, OSError, machine_code.Unusable) as error:
                    switch_off(str(error))
                    return None
            return self._entries[types]

    @property
    def dispatcher(self) -> Any:
        """numba's form of this kernel, for compiling; imports numba."""
        if self._dispatcher is None:
            from protocols.measurement.kernels.compiler import teach_fetch

            numba: Any = importlib.import_module("numba")
            teach_fetch()
            self._dispatcher = numba.njit(
                nogil=True,
                error_model="numpy",
                no_cpython_wrapper=True,
                no_cfunc_wrapper=True,
                forceinline=self._inside,
            )(self.py_func)
        return self._dispatcher

    @property
    def _numba_type_(self) -> Any:
        """What numba's `typeof` asks for, so that one kernel can call another."""
        return self.dispatcher._numba_type_


def kernel(function: F) -> F:
    """`function` under this policy; its Python form stays reachable as `.py_func`."""
    return cast(F, Kernel(function))


def part(function: F) -> F:
    """A kernel that other kernels call for a row or a tile: becomes a part of their code. A call of its own would cost
    more than most of them do, since each array goes over as seven words."""
    return cast(F, Kernel(function, inside=True))


def fetch(array: NDArray[Any], row: int) -> None:
    """Asks the processor to bring `array[row]`, of one dimension, near: memory is read while the kernel works on what
    came before. A row past the end is no error. Uncompiled it does nothing."""

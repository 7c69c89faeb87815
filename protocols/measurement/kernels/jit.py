"""The one policy by which a kernel is compiled.

Decides compiled or not, and how. A kernel's source is plain Python over arrays and integers; it gives the same
integers either way. No fastmath, and nothing in parallel inside a kernel: lines run beside each other instead.
`LINETALLY_JIT=off` runs the same source uncompiled, for a gateway with little memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeVar

F = TypeVar("F", bound=Callable[..., object])

ENABLED: Final = os.environ.get("LINETALLY_JIT", "on") != "off"


def kernel(function: F) -> F:
    """`function`, compiled by numba on its first call; its Python form stays reachable as `.py_func`."""
    if not ENABLED:
        function.py_func = function  # type: ignore[attr-defined]
        return function
    import numba

    compiled: F = numba.njit(nogil=True, cache=False, error_model="numpy")(function)
    return compiled

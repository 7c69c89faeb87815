"""What a result was measured on, and the limit that it is measured against.

Decides the read roofline: how fast one thread (or all) can add up the words of a buffer that no cache holds.
"""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.measurement.kernels.jit import kernel

_PACKAGES = ("numpy", "numba", "llvmlite", "pandas", "polars", "duckdb")


@kernel
def add_words(words: NDArray[np.uint64]) -> int:
    """The sum of all words, modulo 2^64: one read of each, and nothing else."""
    total = np.uint64(0)
    for i in range(words.shape[0]):
        total += words[i]
    return int(total & np.uint64(0xFFFF))


def description() -> dict[str, Any]:
    """CPU, cores, memory, Python and versions."""
    cpu = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "none"
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "load_before": round(os.getloadavg()[0], 2),
    }


def file_name(machine: dict[str, Any]) -> str:
    """A name for the machine's results: its CPU and cores."""
    words = re.sub(r"\((R|TM)\)|CPU|Processor|@.*", " ", machine["cpu"])
    return "-".join([*re.findall(r"[A-Za-z0-9.]+", words), f"{machine['cores']}-cores"]).lower()

"""Random numbers: one seeded stream for each concern of a line.

Decides how a draw is made. A stream of its own for each concern means that a change to one distribution does not
shift the draws of the others. Distributions are transforms of uniform draws, because numpy keeps the stream of
`random()` stable between versions but not that of its distributions (NEP 19).
"""

from __future__ import annotations

import math
import zlib
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_STANDARD_NORMAL = NormalDist()
_BATCH = 512
_SMALLEST = 2.0**-54


class Stream:
    """Draws for one concern of one line; the same draws for the same (seed, concern)."""

    def __init__(self, seed: int, concern: str) -> None:
        entropy = [seed, zlib.crc32(concern.encode())]
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
        self._batch: list[float] = []

    def uniform(self) -> float:
        """In [0, 1)."""
        if not self._batch:
            self._batch = self._generator.random(_BATCH).tolist()
            self._batch.reverse()
        return self._batch.pop()

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """`count` draws in [0, 1). A stream is used for this or for `uniform`, not for both."""
        return self._generator.random(count)

    def exponential(self) -> float:
        """Of mean 1."""
        return -math.log1p(-self.uniform())

    def lognormal(self, median: float, sigma: float) -> float:
        """Of this median; sigma is the standard deviation of the logarithm."""
        return median * math.exp(sigma * _STANDARD_NORMAL.inv_cdf(max(self.uniform(), _SMALLEST)))

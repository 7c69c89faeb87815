from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.commissioning.support import Served, serving


@pytest.fixture(scope="session")
def plant() -> Iterator[Served]:
    """The simulated plant, ten times as fast as real time."""
    with serving(speed=10.0) as served:
        yield served

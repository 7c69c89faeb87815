"""A plant for each test, and a server where one is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.config import Access
from tests.hub.web.plant import Plant, make_plant, serving


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = make_plant(tmp_path)
    yield made
    made.services.engine.dispose()


@pytest.fixture
def address(plant: Plant) -> Iterator[str]:
    with serving(plant) as found:
        yield found


@pytest.fixture
def local(tmp_path: Path) -> Iterator[tuple[Plant, str]]:
    """A hub that lets this machine in as operator."""
    folder = tmp_path / "local"
    folder.mkdir()
    made = make_plant(folder, Access.LOOPBACK)
    with serving(made) as found:
        yield made, found

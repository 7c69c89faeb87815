"""The same plant as the pages' tests stand on."""

from tests.hub.web.conftest import address, local, plant

__all__ = ["address", "local", "plant"]

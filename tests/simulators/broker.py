"""A real MQTT 5 broker (iotcore) on a free port of 127.0.0.1, with a stop and a start for tests of its absence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.broker import EmbeddedBroker


@contextmanager
def running_broker(folder: Path, port: int) -> Iterator[EmbeddedBroker]:
    """A broker that listens on `port`; stopped at the end."""
    broker = EmbeddedBroker(port, folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()

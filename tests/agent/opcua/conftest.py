"""What every test of the OPC UA reader runs under: quick retries, and a watch on what asyncua's servers are asked."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from asyncua import ua
from asyncua.server.uaprocessor import UaProcessor

from agent.backoff import Backoff
from agent.sources import opcua as source
from tests.support.opcua import READ_ONLY


class _Shortly(Backoff):
    def next_s(self) -> float:
        return 0.2


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "QUARANTINE_S", 0.5)
    monkeypatch.setattr(source, "Backoff", _Shortly)
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often each service of asyncua's servers was asked for. A test that could have changed one fails."""
    seen: Counter[str] = Counter()
    process = UaProcessor._process_message

    async def counted(self: Any, typeid: ua.NodeId, *rest: Any) -> Any:
        seen[ua.ObjectIdNames[typeid.Identifier].removesuffix("_Encoding_DefaultBinary")] += 1
        return await process(self, typeid, *rest)

    monkeypatch.setattr(UaProcessor, "_process_message", counted)
    yield seen
    assert set(seen) <= READ_ONLY, seen

"""A sink that we did not write: victoria-metrics takes the points, and its sums are the accounts' sums."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hub.projections.influx import MEASUREMENT, InfluxProjection, InfluxSink, WindowRow
from protocols.measurement.account import ACCOUNT_FIELDS, ACCOUNT_INTS, CalendarKind, TimeAccount, Window, total

pytestmark = pytest.mark.needs("victoria-metrics")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = ["victoria-metrics", f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={tmp_path / 'data'}"]
    # It keeps doubled samples unless told otherwise; InfluxDB overwrites them.
    command += ["-retentionPeriod=10y", "-dedup.minScrapeInterval=1ms", "-memory.allowedBytes=64MB"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_until_ready(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(20)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health").text.strip() == "OK":
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("victoria-metrics did not start")


def _rows() -> list[WindowRow]:
    start = (int(time.time() * 1000) - 86_400_000) // 60_000 * 60_000
    rows = []
    for i in range(300):
        ints = [(i * 97 + j * 1_009) % 60_000 for j in range(ACCOUNT_INTS)]
        window = Window(
            start + i * 60_000,
            start + (i + 1) * 60_000,
            CalendarKind.SCHEDULED,
            f"Tea, {i % 3} = green",
            "",
            f"2026-11-20/{'AB'[i // 150]}",
            TimeAccount.from_ints(ints),
        )
        rows.append(WindowRow(i // 2, "acme", f"line-{i % 2}", window))
    return rows


def test_the_sums_that_were_written_are_the_sums_that_are_read(server: str) -> None:
    rows = _rows()
    cursor = [0]
    with InfluxSink(server, "any", "any", "any") as sink:
        projection = InfluxProjection(
            sink,
            lambda at, limit: [r for r in rows if r.leaf_index >= at][:limit],
            lambda: cursor[0],
            lambda value: cursor.__setitem__(0, value),
            rows_a_step=70,
        )
        written = 0
        while count := projection.step():
            written += count
        assert written == len(rows)
        cursor[0] = 0  # a rebuild: the same points again
        while projection.step():
            pass
    httpx.get(f"{server}/internal/force_flush").raise_for_status()
    selector = f'{{__name__=~"{MEASUREMENT}_.*"}}'
    export = httpx.get(f"{server}/api/v1/export", params={"match[]": selector}, timeout=20).raise_for_status()
    sums: dict[tuple[str, str], int] = {}
    samples = 0
    for text in export.text.splitlines():
        series = json.loads(text)
        name = series["metric"]["__name__"].removeprefix(MEASUREMENT + "_")
        assert series["metric"]["enterprise"] == "acme"
        assert series["metric"]["product"].startswith("Tea, ")
        key = (series["metric"]["line"], name)
        sums[key] = sums.get(key, 0) + sum(int(v) for v in series["values"])
        samples += len(series["values"])
    assert samples == len(rows) * (ACCOUNT_INTS + 1)
    for line in ("line-0", "line-1"):
        account = total(r.window.account for r in rows if r.line_id == line)
        expected = dict(zip(ACCOUNT_FIELDS, account.as_ints(), strict=True))
        assert {name: value for (of, name), value in sums.items() if of == line and name != "leaf"} == expected

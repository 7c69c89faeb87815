"""The health endpoint, asked over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.health import serve_health
from agent.health_metrics import Facts, LineFacts, health_json, metrics_text
from agent.watchdog import Part

WELL = Facts(
    [LineFacts("filling", True, "connected", 1_700_000_000_500, 3), LineFacts("packing", False, "off", 0, 0)],
    [Part("read filling", 0.5, 30.0), Part("sign", 0.1, 30.0)],
    7, 2, True, 1_700_000_000_250, False, None, 512_000, None,
)  # fmt: skip
_SAMPLE = re.compile(r'([a-z_]+)(\{[a-z]+="[^"]+"\})? ([0-9.e+-]+)')


def samples(text: str) -> dict[str, float]:
    """The exposition format, read strictly: each name has its HELP and TYPE before its samples."""
    found: dict[str, float] = {}
    declared: set[str] = set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in ("gauge", "counter") and name not in declared
            declared.add(name)
        elif not line.startswith("# HELP "):
            match = _SAMPLE.fullmatch(line)
            assert match is not None and match[1] in declared, line
            found[match[1] + (match[2] or "")] = float(match[3])
    return found


def test_the_figures_are_what_the_agent_knows() -> None:
    found = samples(metrics_text(WELL))
    assert found['linetally_line_reading{line="filling"}'] == 1
    assert found['linetally_line_reading{line="packing"}'] == 0
    assert found['linetally_line_measured_until_seconds{line="filling"}'] == 1_700_000_000.5
    assert found['linetally_line_late_values_total{line="filling"}'] == 3
    assert found["linetally_records_total"] == 7 and found["linetally_records_waiting"] == 2
    assert found["linetally_last_receipt_seconds"] == 1_700_000_000.25
    assert found["linetally_broker_connected"] == 1 and found["linetally_disk_full"] == 0
    assert found["linetally_raw_bytes"] == 512_000 and found["linetally_raw_full"] == 0
    assert samples(metrics_text(replace(WELL, raw_full="no room")))["linetally_raw_full"] == 1
    assert found['linetally_progress_age_seconds{part="sign"}'] == 0.1
    assert found["process_resident_memory_bytes"] > 10_000_000
    assert found["process_threads"] >= 1 and found["process_open_fds"] >= 3
    assert "linetally_last_receipt_seconds" not in samples(metrics_text(replace(WELL, receipt_ms=None)))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(WELL, parts=[Part("read filling", 200.0, 180.0)]), "read filling has stood still for 200 s"),
        (replace(WELL, disk_full=True), "the disk is full"),
        (replace(WELL, raw_full="no room"), "new raw samples are not kept: no room"),
        (replace(WELL, log_alarm="the hub's log shrank"), "the hub's log shrank"),
    ],
)
def test_it_is_ill_for_what_a_person_must_mend(facts: Facts, words: str) -> None:
    ok, text = health_json(facts)
    assert not ok and any(words in each for each in json.loads(text)["wrong"])


def test_a_plc_or_a_broker_that_is_off_is_no_illness() -> None:
    ok, text = health_json(replace(WELL, connected=False))
    assert ok and json.loads(text)["lines"]["packing"] == {"reading": False, "words": "off"}


def test_over_http(free_port: Callable[[], int], caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    facts = [WELL]

    def get(path: str, method: str = "GET") -> tuple[int, str, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read().decode()

    async def scenario() -> None:
        task = asyncio.create_task(serve_health(port, lambda: facts[0]))
        async with asyncio.timeout(10):
            while "/healthz" not in caplog.text:  # noqa: ASYNC110 - it says when it serves
                await asyncio.sleep(0.01)
            status, kind, text = await asyncio.to_thread(get, "/metrics")
            assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
            assert samples(text)["linetally_records_total"] == 7
            assert (await asyncio.to_thread(get, "/healthz?verbose"))[0] == 200
            facts[0] = replace(WELL, disk_full=True)
            status, kind, text = await asyncio.to_thread(get, "/healthz")
            assert (status, kind) == (503, "application/json") and not json.loads(text)["ok"]
            assert (await asyncio.to_thread(get, "/"))[0] == 404
            with pytest.raises(ConnectionRefusedError):  # another address of this machine
                await asyncio.open_connection("127.0.0.2", port)
            assert (await asyncio.to_thread(get, "/healthz", "POST"))[0] == 405
            await serve_health(port, lambda: WELL)  # a second agent on this machine goes on without
            # Peers that say nothing, or too much, do not keep others out.
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
            _, long = await asyncio.open_connection("127.0.0.1", port)
            long.write(b"GET /" + b"x" * 20_000)
            assert (await asyncio.to_thread(get, "/metrics"))[0] == 200
            for _, writer in [*silent, (None, long)]:
                writer.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level("INFO", "linetally"):
        asyncio.run(scenario())
    assert "give health.port another" in caplog.text

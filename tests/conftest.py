"""What every test may lean on: tools that a machine may lack, ports that nobody holds, PLCs that nobody wrote to."""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

IN_CI = os.environ.get("CI") == "true"

# A machine that has much to do fails no property.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


class _Writes(logging.Handler):
    """What clients tried to write to the simulated PLCs of this process. Those of other processes say it in their logs,
    at which `tests.support.commands` looks."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


_writes = _Writes()
logging.getLogger("linetally.simulator").addHandler(_writes)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """No test may write to a PLC, but for those of the simulator itself."""
    seen, _writes.seen = _writes.seen, []
    if seen and "simulator" not in item.path.parts:
        pytest.fail("\n".join(seen), pytrace=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test whose tool is missing, with the reason; in CI a missing tool is a failure."""
    for marker in item.iter_markers("needs"):
        tool = marker.args[0]
        if shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/usr/local/go/bin"):
            continue
        words = f"{tool} is not on this machine"
        if IN_CI:
            pytest.fail(f"{words}; .ci/run must install it", pytrace=False)
        pytest.skip(words)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a missing tool, and a failure: nothing may go unchecked without a word."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if IN_CI and reporter else []
    if skipped and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{len(skipped)} tests were skipped, and in CI none may be", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that gives a TCP port of 127.0.0.1 which was free a moment ago."""

    return a_free_port


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

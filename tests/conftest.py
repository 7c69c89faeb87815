"""What every test may lean on: tools that a machine may lack, and ports that nobody holds."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable

import pytest

IN_CI = os.environ.get("CI") == "true"


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

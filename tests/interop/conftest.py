"""The Go program of this folder, built once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built from this folder with the module versions that go.sum pins."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    binary = tmp_path_factory.mktemp("go") / "checker"
    built = subprocess.run(
        ["go", "build", "-o", str(binary), "."], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    if built.returncode and "dial tcp" in built.stderr and os.environ.get("CI") != "true":
        pytest.skip("golang.org/x/mod is not on this machine and cannot be downloaded")
    assert built.returncode == 0, built.stderr
    return binary

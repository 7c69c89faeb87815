"""Where machine code comes from and who loads it, and what happens when it cannot be kept, is damaged, or is wrong.

Each case is a process of its own: what is compiled stays with a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from protocols.measurement.kernels import check, jit, kept, scan

_CHECK = """
import logging, sys
logging.basicConfig(format="%(message)s")
if "noexec" in sys.argv:  # as of a folder on a disk without the right to execute
    import mmap
    def refuse(*args):
        raise PermissionError("no")
    mmap.mmap = refuse
from protocols.measurement.kernels import check, jit, scan
holds = check.holds()
if "tamper" in sys.argv:
    entry = next(iter(scan.scan._entries.values()))
    entry.call = lambda flat: (0, 0, 0)
    holds = check.holds()
print(holds, jit.enabled(), *("numba" in sys.modules, "llvmlite" in sys.modules))
"""


def checked(cache: Path, *words: str, **environment: str) -> tuple[str, str]:
    """(holds, enabled, whether numba was needed, whether LLVM was) as text, and what was said."""
    done = subprocess.run(
        [sys.executable, "-c", _CHECK, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
        env={**os.environ, "LINETALLY_JIT": "on", "LINETALLY_CACHE": str(cache), **environment},
    )
    return done.stdout.strip(), done.stderr


@pytest.fixture(scope="module")
def kept_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache into which one process has put its kernels."""
    cache = tmp_path_factory.mktemp("cache")
    assert checked(cache) == ("True True True True", "")
    return cache


def test_a_second_start_needs_no_compiler(kept_folder: Path) -> None:
    assert checked(kept_folder) == ("True True False False", "")


def test_where_its_file_cannot_be_mapped_llvm_loads_it(kept_folder: Path) -> None:
    assert checked(kept_folder, "noexec") == ("True True False True", "")


def test_a_damaged_file_is_made_anew(kept_folder: Path, tmp_path: Path) -> None:
    build = next(kept_folder.iterdir())
    (tmp_path / build.name).mkdir(mode=0o700)
    for file in build.iterdir():
        (tmp_path / build.name / file.name).write_bytes(file.read_bytes()[:-100])
    said, warned = checked(tmp_path)
    assert said == "True True True True"
    assert "is damaged; it is made anew" in warned
    assert checked(tmp_path) == ("True True False False", "")


def test_a_folder_that_others_may_write_is_not_trusted(kept_folder: Path) -> None:
    build = next(kept_folder.iterdir())
    build.chmod(0o777)
    try:
        said, warned = checked(kept_folder)
    finally:
        build.chmod(0o700)
    assert said == "True True True True"
    assert "compiled anew at each start" in warned
    assert "other users can write it" in warned


def test_where_nothing_can_be_kept_kernels_are_compiled_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said, warned = checked(tmp_path / "file")
    assert said == "True True True True"
    assert warned.count("compiled anew at each start") == 1


def test_wrong_machine_code_is_found_and_left(kept_folder: Path) -> None:
    said, warned = checked(kept_folder, "tamper")
    assert said == "False False False False"
    assert "do not agree" in warned


def test_off_needs_no_compiler(tmp_path: Path) -> None:
    assert checked(tmp_path, LINETALLY_JIT="off") == ("True False False False", "")
    assert not list(tmp_path.iterdir())


def test_the_folder_is_the_builds_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LINETALLY_CACHE", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kept.folder() == tmp_path / ".cache" / "linetally" / f"kernels-{kept.build()}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert kept.folder().parent == tmp_path / "xdg" / "linetally"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    assert kept.folder().parent == tmp_path / "numba"


def test_the_check_knows_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both forms are run, and any integer of theirs counts.
    if not jit.enabled():
        pytest.skip("LINETALLY_JIT is off")
    before = check.sums()
    monkeypatch.setattr(scan.scan, "py_func", lambda *args: (0, 0, 0))
    with jit.uncompiled():
        assert check.sums() != before


def test_arrays_that_are_not_contiguous_are_refused() -> None:
    if not jit.enabled():
        pytest.skip("LINETALLY_JIT is off")
    with pytest.raises(TypeError, match="contiguous"):
        scan.from_bcd(np.zeros((4, 4), np.int64)[:, 1])  # type: ignore[arg-type]


_AT_ONCE = """
import threading
from concurrent.futures import ThreadPoolExecutor
from protocols.measurement.kernels import jit, scan
calls = [(scan.unwrap, (5, 3, 1000, 0, 0)), (scan.from_bcd, (0x42,))] * 4
ready = threading.Barrier(len(calls))
def first_call(kernel, args):
    ready.wait()
    return kernel(*args)
with ThreadPoolExecutor(len(calls)) as pool:
    print(list(pool.map(first_call, *zip(*calls))), jit.enabled())
"""


def test_the_first_calls_may_come_from_several_threads(tmp_path: Path) -> None:
    env = {**os.environ, "LINETALLY_CACHE": str(tmp_path), "LINETALLY_JIT": "on"}
    done = subprocess.run([sys.executable, "-c", _AT_ONCE], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == f"{[(2, 0, 5), 42] * 4} True", done.stderr

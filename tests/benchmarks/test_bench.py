"""The benchmarks run, in tiny sizes, and every way of doing the task gives the same sums. No time is judged here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import kernels, measures, peers
from benchmarks.__main__ import main
from benchmarks.samples import line


def test_the_short_form_writes_its_figures(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    assert main(["--small", "--output", str(file)]) == 0
    written = json.loads(file.read_text())
    assert written["small"] is True
    assert written["machine"]["cores"] >= 1
    names = {figure["name"] for figure in written["figures"]}
    assert {"kernel, narrow columns", "numpy", "memory read, one thread", "a tick of 20 lines"} <= names
    assert "verify 2 lines, 2 days (5,760 windows)" in names
    assert "tables rebuilt, 60 rows a statement, a core" in names
    assert "a change of a subscribed node, the client's CPU" in names
    assert all(figure["value"] > 0 for figure in written["figures"])


def test_a_way_that_gives_other_sums_is_named() -> None:
    made = line(2_000)

    def wrong(sums: kernels.Sums) -> None:
        peers.numpy_arrays(made)(sums)
        sums[3, 1] += 1

    with pytest.raises(measures.Disagreement, match="wrong differs in window 3, column 1"):
        measures.require_alike(made, {"right": kernels.narrow(made), "wrong": wrong})


def test_the_sums_hold_every_millisecond_and_piece() -> None:
    made = line(5_000, seed=7)
    sums = np.zeros((kernels.window_count(made), 13), np.int32)
    kernels.narrow(made)(sums)
    assert sums[:, :11].sum() == made.time_ms[-1] - made.time_ms[0]
    assert sums[:, 11].sum() == int(made.total[-1]) - int(made.total[0])


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "there are: task, roofline, tick, start" in capsys.readouterr().err

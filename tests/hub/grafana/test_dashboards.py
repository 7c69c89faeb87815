"""The dashboard: every query divides sums as `ratios` does, and the files in deploy are those of the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.grafana import flux
from hub.grafana.dashboards import line_dashboard, uids
from hub.grafana.files import export, files, to_yaml
from hub.grafana.panels import LOSS_COLOURS, STATES
from protocols.measurement import ratios
from protocols.measurement.account import ACCOUNT_FIELDS, ACCOUNT_INTS, Category, TimeAccount
from protocols.measurement.definition import ISO, PRESETS, Definition
from protocols.measurement.loss_tree import loss_tree

# Several builds may share the machine: time says nothing about right or wrong here.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
REPOSITORY = Path(__file__).parents[3]
BOARD = line_dashboard(uids(None), None)
QUERIES = [target["query"] for panel in BOARD["panels"] for target in panel["targets"]]
VARIABLES = [v["query"]["query"] for v in BOARD["templating"]["list"] if v["type"] == "query"]
presets = st.sampled_from(list(PRESETS.values()))
PAIRS = {
    "availability": (flux.AVAILABILITY, ratios.availability),
    "effectiveness": (flux.EFFECTIVENESS, ratios.effectiveness),
    "quality": (flux.QUALITY, ratios.quality),
    "oee": (flux.OEE, ratios.oee),
    "coverage": (flux.COVERAGE, ratios.coverage),
    "throughput": (flux.THROUGHPUT, ratios.throughput_per_hour),
    "good": (flux.GOOD_THROUGHPUT, ratios.good_per_hour),
}


class _Row(dict[str, int]):
    __getattr__ = dict.__getitem__


def evaluate(expression: str, row: dict[str, int], preset: str) -> float | Fraction | None:
    """A Flux expression of ours, worked out in Python: if/then/else, float(v:), and, + - * / == >."""
    match = re.fullmatch(r'if (.+) then (.+) else debug\.null\(type: "float"\)', expression)
    condition, value = match.groups() if match else ("True", expression)
    names: dict[str, Any] = {"r": _Row(row), "number": Fraction}
    names |= {name: int(preset in ones) for name, ones in flux.SWITCHES.items()}
    if not eval(condition, names):
        return None
    worked: Fraction = eval(re.sub(r"float\(v: ", "number(", value).replace("0000.0", "0000"), names)
    return worked


accounts = st.lists(st.integers(0, 3), min_size=ACCOUNT_INTS, max_size=ACCOUNT_INTS).map(TimeAccount.from_ints) | (
    st.lists(st.integers(0, 10**12), min_size=ACCOUNT_INTS, max_size=ACCOUNT_INTS).map(TimeAccount.from_ints)
)


@pytest.mark.parametrize("name", PAIRS)
@PATIENT
@given(account=accounts, definition=presets)
def test_a_figure_is_the_one_of_ratios(name: str, account: TimeAccount, definition: Definition) -> None:
    ratio, exact = PAIRS[name]
    row = {field: dict(zip(ACCOUNT_FIELDS, account.as_ints(), strict=True))[field] for field in ratio.fields}
    assert evaluate(ratio.expression(), row, definition.preset) == exact(account, definition)


def test_a_query_knows_every_switch_in_which_the_presets_differ() -> None:
    asked = {"preset", "minor_stop_side", "planned_down", "no_order"}
    for preset in PRESETS.values():
        for name, value in preset.to_data().items():
            assert name in asked or value == ISO.to_data()[name], name
    for query in QUERIES:
        for name in flux.SWITCHES:
            assert query.count(f"{name} = if wanted == ") == (name in query)
    [variable] = [v for v in BOARD["templating"]["list"] if v["name"] == "definition"]
    assert [option["value"] for option in variable["options"]] == list(PRESETS)
    assert variable["current"]["value"] == ISO.preset


@PATIENT
@given(account=accounts.filter(lambda a: a.without_ideal_count == 0), definition=presets)
def test_the_losses_and_the_good_pieces_make_up_the_planned_time(account: TimeAccount, definition: Definition) -> None:
    row = dict(zip(ACCOUNT_FIELDS, account.as_ints(), strict=True))
    lost = sum(Fraction(evaluate(e, row, definition.preset) or 0) for e in flux.LOSSES.values())
    worth = Fraction(account.standard_good_ns, 60_000_000_000)
    tree = loss_tree(account, definition)
    assert lost + worth == (tree.find("planned-busy").ms + account.unknown_ms) / 60_000


def test_no_query_averages() -> None:
    for query in QUERIES:
        assert "mean" not in query
        assert query.index("sum") < query.index("|> map(")


def test_undefined_is_a_dash_and_every_panel_says_what_it_shows() -> None:
    for panel in BOARD["panels"]:
        assert panel["title"]
        assert panel["description"]
        if panel["type"] != "state-timeline":
            assert panel["fieldConfig"]["defaults"]["noValue"] == "–"
    assert BOARD["schemaVersion"] >= 42


def test_every_category_and_loss_has_a_colour_of_its_own() -> None:
    assert set(STATES) == {f"{c.name.lower()}_ms" for c in Category}
    assert set(LOSS_COLOURS) == set(flux.LOSSES)
    assert len({colour for _, colour in STATES.values()}) == len(STATES)
    assert len(set(LOSS_COLOURS.values())) == len(LOSS_COLOURS)


def test_an_enterprise_is_fixed_where_it_is_given() -> None:
    board = line_dashboard(uids("acme"), "acme")
    enterprise, line, _definition = board["templating"]["list"]
    assert (enterprise["type"], enterprise["query"], enterprise["hide"]) == ("constant", "acme", 2)
    assert line["type"] == "query"
    assert len(board["uid"]) <= 40


def test_the_files_in_deploy_are_those_of_the_code(tmp_path: Path) -> None:
    """When this fails: linetally-hub grafana export --folder deploy/grafana"""
    written = export(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in written} == set(files())
    for relative, text in files().items():
        assert (tmp_path / relative).read_text() == text
        assert (REPOSITORY / "deploy" / "grafana" / relative).read_text() == text, f"{relative} is out of date"


def test_yaml_quotes_what_would_be_read_as_something_else() -> None:
    text = to_yaml({"a": ["yes", "x: y", {"b": 1, "c": [True, ""]}], "d": {"e": "12"}})
    assert text == 'a:\n  - "yes"\n  - "x: y"\n  - b: 1\n    c:\n      - true\n      - ""\nd:\n  e: "12"\n'


@pytest.mark.needs("node")
def test_the_queries_are_valid_flux() -> None:
    """Parsed and type-checked by the Flux project's own language server, when npm can bring it."""
    package = _flux_checker()
    before = 'option v = {defaultBucket: "b", timeRangeStart: -1h, timeRangeStop: now(), windowPeriod: 5m}\n'
    texts = []
    for query in (*QUERIES, *VARIABLES):
        filled = re.sub(r"\$\{\w+:doublequote\}", '"x"', query)
        assert "$" not in filled
        lines = filled.splitlines()
        imports = [line for line in lines if line.startswith("import ")]
        texts.append("\n".join([*imports, before, *(line for line in lines if line not in imports)]))
    wrong = [texts[0].replace("|> sum()", "|> summ()"), texts[0].replace("float(v:", "float(x:"), "from("]
    script = Path(__file__).with_name("is_valid_flux.mjs")
    done = subprocess.run(
        ["node", script, package], input=json.dumps([*texts, *wrong]), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    valid = json.loads(done.stdout)
    assert [text for text, good in zip(texts, valid, strict=False) if not good] == []
    assert valid[len(texts) :] == [False, False, False]


def _flux_checker() -> Path:
    """The folder of npm's @influxdata/flux-lsp-browser, fetched once into the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "linetally-tests" / "flux"
    package = cache / "node_modules" / "@influxdata" / "flux-lsp-browser"
    if not package.is_dir():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed, so Flux cannot be checked")
        cache.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(cache)]
        try:
            done = subprocess.run(
                [*command, "@influxdata/flux-lsp-browser@0.8.40"], capture_output=True, text=True, timeout=90
            )
        except subprocess.TimeoutExpired:
            pytest.skip("npm did not bring the Flux checker within 90 s")
        if done.returncode != 0 or not package.is_dir():
            pytest.skip(f"npm did not bring the Flux checker: {done.stderr.strip()[-200:]}")
    return package

"""Windows reach InfluxDB exactly once: whatever the link and the server do, nothing is lost and nothing doubled."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.projections.influx import (
    MEASUREMENT,
    InfluxProjection,
    InfluxSink,
    SinkError,
    SinkRefused,
    SinkUnavailable,
    WindowRow,
    point,
    retry_delay_s,
)
from protocols.errors import ConfigurationError
from protocols.measurement.account import ACCOUNT_FIELDS, ACCOUNT_INTS, CalendarKind, TimeAccount, Window
from tests.simulators.influx_api import BadLine, Fault, InfluxApi, parse_line

# Several builds may share the machine: time says nothing about right or wrong here.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
START_MS = 1_795_000_000_000  # November 2026


def row(leaf: int, place: int = 0, **change: object) -> WindowRow:
    start = START_MS + leaf * 600_000 + place * 60_000
    ints = [(leaf * 31 + place * 7 + i * 3) % 1_000 for i in range(ACCOUNT_INTS)]
    window = Window(
        start,
        start + 60_000,
        CalendarKind.SCHEDULED,
        "Cola 0.5",
        "A-1",
        "2026-11-21/early",
        TimeAccount.from_ints(ints),
    )
    return WindowRow(leaf, "acme", "filling", dataclasses.replace(window, **change))  # type: ignore[arg-type]


class Index:
    """The index and its cursor, kept as simply as can be."""

    def __init__(self, rows: Sequence[WindowRow]) -> None:
        self.rows = sorted(rows, key=lambda r: r.leaf_index)
        self.cursor = 0
        self.reads = 0

    def read(self, cursor: int, limit: int) -> list[WindowRow]:
        self.reads += 1
        return [r for r in self.rows if r.leaf_index >= cursor][:limit]

    def store(self, cursor: int) -> None:
        assert cursor > self.cursor
        self.cursor = cursor

    def projection(self, sink: InfluxSink, rows_a_step: int = 10) -> InfluxProjection:
        return InfluxProjection(sink, self.read, lambda: self.cursor, self.store, rows_a_step=rows_a_step)


@pytest.fixture
def api() -> Iterator[InfluxApi]:
    with InfluxApi() as running:
        yield running


@pytest.fixture
def sink(api: InfluxApi) -> Iterator[InfluxSink]:
    with InfluxSink(api.url, api.token, api.org, api.bucket, 3_000) as open_sink:
        yield open_sink


def assert_stored(api: InfluxApi, rows: Sequence[WindowRow]) -> None:
    """What InfluxDB holds is exactly `rows`, each once, to the last integer."""
    assert len(api.points) == len(rows)
    for r in rows:
        tags = (("enterprise", "acme"), ("line", "filling"), ("product", "Cola 0.5"), ("shift", "early"))
        fields = api.points[(MEASUREMENT, tags, r.window.start_ms * 1_000_000)]
        assert fields == dict(zip(ACCOUNT_FIELDS, r.window.account.as_ints(), strict=True)) | {"leaf": r.leaf_index}


def test_writes_every_window_once_and_then_rests(api: InfluxApi, sink: InfluxSink) -> None:
    index = Index([row(leaf, place) for leaf in range(7) for place in range(4)])
    projection = index.projection(sink)
    counts = [projection.step() for _ in range(5)]
    assert counts == [8, 8, 8, 4, 0]  # ten rows a step, cut back to whole leaves of four
    assert_stored(api, index.rows)
    assert index.cursor == 7


def test_a_leaf_larger_than_a_step_is_read_whole(api: InfluxApi, sink: InfluxSink) -> None:
    index = Index([row(3, place) for place in range(45)] + [row(20)])
    projection = index.projection(sink)
    assert [projection.step() for _ in range(3)] == [46, 0, 0]
    assert_stored(api, index.rows)


def test_rebuilding_writes_the_same_points_over_themselves(api: InfluxApi, sink: InfluxSink) -> None:
    index = Index([row(leaf) for leaf in range(20)])
    projection = index.projection(sink)
    while projection.step():
        pass
    index.cursor = 0
    while projection.step():
        pass
    assert_stored(api, index.rows)


@pytest.mark.parametrize("fault", list(Fault))
def test_nothing_is_lost_or_doubled_by(fault: Fault, api: InfluxApi, sink: InfluxSink) -> None:
    index = Index([row(leaf, place) for leaf in range(10) for place in range(3)])
    projection = index.projection(sink)
    projection.step()
    api.faults.extend([fault, fault])
    for _ in range(2):
        before = index.cursor
        with pytest.raises(SinkError) as caught:
            projection.step()
        assert index.cursor == before
        assert caught.value.mend
        if fault in (Fault.UNAVAILABLE, Fault.TOO_MANY):
            assert isinstance(caught.value, SinkUnavailable)
            assert caught.value.retry_after_s == 1.0
    while projection.step():
        pass
    assert_stored(api, index.rows)


@settings(PATIENT, max_examples=40)
@given(st.lists(st.sampled_from([None, *Fault]), max_size=12), st.integers(1, 9))
def test_any_order_of_faults_heals(faults: list[Fault | None], rows_a_step: int) -> None:
    """I1: each window is there exactly once after the faults heal, in whatever order they came."""
    with InfluxApi() as api, InfluxSink(api.url, api.token, api.org, api.bucket, 3_000) as sink:
        index = Index([row(leaf, place) for leaf in range(5) for place in range(leaf % 3)])
        projection = index.projection(sink, rows_a_step)
        for fault in faults:
            if fault is not None:
                api.faults.append(fault)
            try:
                projection.step()
            except SinkError:
                continue
        api.faults.clear()
        while projection.step():
            pass
        assert_stored(api, index.rows)


def test_the_loop_tells_of_a_failure_and_of_its_end(api: InfluxApi, sink: InfluxSink) -> None:
    index = Index([row(leaf) for leaf in range(4)])
    api.faults.append(Fault.UNAVAILABLE)
    stop, healed = threading.Event(), threading.Event()
    reports: list[SinkError | None] = []

    def report(error: SinkError | None) -> None:
        reports.append(error)
        if error is None:
            healed.set()

    loop = threading.Thread(target=index.projection(sink).run, args=(stop, report), kwargs={"uniform": lambda: 0.0})
    loop.start()
    assert healed.wait(10)
    stop.set()
    loop.join(5)
    assert not loop.is_alive()
    assert [type(r) for r in reports] == [SinkUnavailable, type(None)]
    assert_stored(api, index.rows)


def test_an_unreachable_server_is_said_plainly() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with InfluxSink(url, "t", "o", "b", 2_000) as sink, pytest.raises(SinkUnavailable, match="cannot be reached"):
            sink.write([row(0)])


@pytest.mark.parametrize(
    ("token", "bucket", "status", "mend"),
    [("wrong", "linetally", 401, "Check the token"), ("secret-token", "other", 404, "Make the bucket 'other'")],
)
def test_a_wrong_token_or_bucket_is_said_with_its_mend(
    token: str, bucket: str, status: int, mend: str, api: InfluxApi
) -> None:
    with InfluxSink(api.url, token, api.org, bucket) as sink, pytest.raises(SinkRefused) as caught:
        sink.write([row(0)])
    assert caught.value.status == status
    assert mend in caught.value.mend
    assert token not in str(caught.value) or token == "wrong"
    assert not api.points


@pytest.mark.parametrize("field", ["url", "token", "org", "bucket"])
def test_an_impossible_setting_is_refused_before_anything_is_sent(field: str) -> None:
    settings = {"url": "http://127.0.0.1:1", "token": "t", "org": "o", "bucket": "b"} | {field: ""}
    with pytest.raises(ConfigurationError):
        InfluxSink(**settings)


@PATIENT
@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=20))
def test_no_name_can_break_its_line(product: str, line: str, shift: str) -> None:
    """A point is always one line that parses into the same four tags at most, whatever the names hold."""
    odd = row(5, product=product, shift="2026-11-21/" + shift)
    text = point(dataclasses.replace(odd, line_id=line)).to_line_protocol()
    assert "\n" not in text
    parsed = parse_line(text)
    assert {key for key, _ in parsed.tags} <= {"enterprise", "line", "product", "shift"}
    assert parsed.time_ns == odd.window.start_ms
    assert parsed.fields == dict(zip(ACCOUNT_FIELDS, odd.window.account.as_ints(), strict=True)) | {"leaf": 5}
    plain = "".join(c for c in product if c.isprintable() and c != "\\")
    if plain == product and product == product.strip():
        assert dict(parsed.tags).get("product", "") == product


@PATIENT
@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1e9))
def test_a_delay_is_never_under_1_or_over_30_seconds(failures: int, uniform: float, asked: float | None) -> None:
    delay = retry_delay_s(failures, uniform, asked)
    assert 1.0 <= delay <= 30.0
    if asked is not None and asked <= 30.0:
        assert delay >= asked


@pytest.mark.parametrize(
    "text",
    [
        "", "m", "m ", "m 1", "m a=", "m,=b a=1", "m,t= a=1", "m,t a=1", "m,t=b,t=c a=1", "m a=1,a=2", "m a=1x",
        "m a=1i ", "m a=1i x", "m a=1i 1.5", "m a=99999999999999999999i", 'm a="x', "_m a=1i", "m _a=1i", "m time=1i",
        "m,t=a=b a=1", "m  a=1 1", "m a=1i 1 1", "m,t=x\\", " a=1",
    ],
)  # fmt: skip
def test_the_simulated_server_refuses_malformed_lines(text: str) -> None:
    with pytest.raises(BadLine):
        parse_line(text)


def test_the_simulated_server_reads_lines_as_the_reference_says() -> None:
    line = parse_line(r'my\ m\,1,a\=b=c\ d\,e,plain=x i=-3i,u=4u,f=1.5e3,s="q\"\\ ,=",b=T -7')
    assert line.measurement == "my m,1"
    assert line.tags == (("a=b", "c d,e"), ("plain", "x"))
    assert line.fields == {"i": -3, "u": 4, "f": 1500.0, "s": 'q"\\ ,=', "b": True}
    assert line.time_ns == -7

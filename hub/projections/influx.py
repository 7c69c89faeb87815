"""The projection into InfluxDB: one point for each window, written from a cursor on the log.

Decides the form of a point, what counts as written, and when to try again. What a window holds is decided in
`protocols.measurement`; which windows there are, by the index that `read` reads. InfluxDB is a copy that can be
rebuilt: reset the cursor to 0 and every point is written over itself.

influxdb-client's batching mode drops points when a write fails, so the one synchronous call is used, and only the
documented 204 counts as written: a proxy's friendly 200 does not.
"""

# influxdb-client says that it is typed, but most of its functions are not.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from influxdb_client.service.write_service import WriteService
from urllib3.exceptions import HTTPError

from protocols.errors import ConfigurationError, LinetallyError
from protocols.measurement.account import ACCOUNT_FIELDS, Window

MEASUREMENT: Final = "linetally_window"
FIRST_DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 30.0
# A point has some 900 bytes of line protocol; InfluxData advises batches of 5,000 to 10,000 lines at most.
ROWS_A_STEP: Final = 2_000
# The series key (measurement and tags) may have 65,535 bytes; four tags of 1,024 characters stay far below.
TAG_CHARACTERS: Final = 1_024
WRITTEN_STATUS: Final = 204


class SinkError(LinetallyError):
    """A write that is not known to have happened. Nothing is lost: the cursor stays where it was.

    `mend` says what a person can do; `retry_after_s` is what the server asked for, or None.
    """

    def __init__(self, words: str, *, mend: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{words}\n  {mend}")
        self.words = words
        self.mend = mend
        self.retry_after_s = retry_after_s


class SinkUnavailable(SinkError):
    """The link's or the server's passing trouble: not reached, too busy, or an answer that is not InfluxDB's."""


class SinkRefused(SinkError):
    """InfluxDB understood and said no. It will go on saying no until a person acts."""

    def __init__(self, words: str, *, mend: str, status: int) -> None:
        super().__init__(words, mend=mend)
        self.status = status


@dataclass(frozen=True, slots=True)
class WindowRow:
    """One window as the index knows it: the leaf of the log that stated it or last amended it, and whose it is."""

    leaf_index: int
    enterprise_id: str
    line_id: str
    window: Window


def point(row: WindowRow) -> Point:
    """The point of one window; the same window always gives the same point, which overwrites itself.

    Time: the window's start in ms. Tags: enterprise, line, product, shift (its name, without the day, which the
    time already says); "" leaves a tag out. Fields: the account's sums by their names, as integers, and `leaf`,
    the index in the log, so that a figure can be traced. Never a ratio.
    """
    window = row.window
    tags = {
        "enterprise": row.enterprise_id,
        "line": row.line_id,
        "product": window.product,
        "shift": window.shift.rpartition("/")[2],
    }
    result: Point = Point(MEASUREMENT).time(window.start_ms, WritePrecision.MS)
    for key, text in tags.items():
        result.tag(key, tag_value(text))
    for name, value in zip(ACCOUNT_FIELDS, window.account.as_ints(), strict=True):
        result.field(name, value)
    result.field("leaf", row.leaf_index)
    return result


def tag_value(text: str) -> str:
    """`text` as a tag value that cannot break its line.

    Line protocol has no way to write a backslash before a comma, a space or the end of a tag, and a line break
    ends the point: one product's odd name would stop the projection of every line. Both are replaced in this copy;
    the log keeps the name as it was signed.
    """
    return "".join("/" if c == "\\" else c if c.isprintable() else " " for c in text[:TAG_CHARACTERS]).strip()


class InfluxSink:
    """The I/O shell around one bucket. Not for several threads at once; close it, or use it in a `with`."""

    def __init__(self, url: str, token: str, org: str, bucket: str, timeout_ms: int = 10_000) -> None:
        """Raises ConfigurationError for an address or a name that cannot work. Does not connect."""
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigurationError(
                f"{url!r} is not InfluxDB's address", mend='write it as "http://influxdb.example:8086"'
            )
        for name, value in (("token", token), ("org", org), ("bucket", bucket)):
            if not value:
                raise ConfigurationError(f"InfluxDB's {name} is empty", mend=f"give the {name} of InfluxDB")
        self._url = url
        self._org = org
        self._bucket = bucket
        # retries=False: the one loop that tries again is ours, and a redirect is not followed with our token.
        self._client = InfluxDBClient(url, token, org=org, timeout=timeout_ms, retries=False)
        self._service = WriteService(self._client.api_client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def write(self, rows: Sequence[WindowRow]) -> None:
        """Writes all of `rows`, and returns only when InfluxDB said that it has them.

        Raises SinkError otherwise. Some of the rows may then be written, or all (the answer was lost): write the
        same rows again, they overwrite themselves.
        """
        if not rows:
            return
        body = "\n".join(point(row).to_line_protocol() for row in rows)
        try:
            _, status, _ = self._service.post_write_with_http_info(
                org=self._org,
                bucket=self._bucket,
                body=body.encode(),
                precision=WritePrecision.MS,
                content_type="text/plain; charset=utf-8",
                _return_http_data_only=False,
            )
        except ApiException as error:
            raise self._refusal(error) from error
        except (HTTPError, OSError) as error:
            raise SinkUnavailable(
                f"InfluxDB at {self._url} cannot be reached: {error}",
                mend="Check that it runs and that the address is right. Nothing is lost; it will be tried again.",
            ) from error
        if status != WRITTEN_STATUS:
            raise SinkUnavailable(
                f"{self._url} answered {status} where InfluxDB answers {WRITTEN_STATUS}; nothing counts as written",
                mend="Check that the address is InfluxDB's own, not that of a proxy or another program.",
            )

    def _refusal(self, error: ApiException) -> SinkError:
        status = int(error.status or 0)
        said = f"InfluxDB at {self._url} answered {status}: {error.message or error.reason}"
        if status in _MENDS:
            return SinkRefused(said, mend=_MENDS[status].format(bucket=self._bucket, org=self._org), status=status)
        if 400 <= status < 429:
            return SinkRefused(said, mend="Look at InfluxDB's own log for the reason.", status=status)
        headers: Mapping[str, str] = error.headers or {}
        return SinkUnavailable(
            said,
            mend="InfluxDB is busy or in trouble; it will be tried again.",
            retry_after_s=_seconds(headers.get("Retry-After")),
        )


_MENDS: Final = {
    400: "If it speaks of retention, let the bucket {bucket!r} keep its data forever (retention 0).",
    401: "Check the token: it must be an API token that may write to the bucket {bucket!r}.",
    403: "Give the token the right to write to the bucket {bucket!r}.",
    404: "Make the bucket {bucket!r} in the organisation {org!r}, or correct the names.",
    422: "If it speaks of retention, let the bucket {bucket!r} keep its data forever (retention 0); "
    "if of a type conflict, use a bucket of linetally's own.",
}


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds (RFC 9110, 10.2.3). Its form with a date is left to our own back-off."""
    return float(header) if header is not None and header.isascii() and header.isdigit() else None


def retry_delay_s(failures: int, uniform: float, retry_after_s: float | None = None) -> float:
    """How long to wait after `failures` (>= 1) failures in a row, in seconds, always within 1 to 30.

    Doubles each time, with equal jitter: `uniform` in [0, 1) spreads the upper half, so that hubs that failed
    together do not come back together. What the server asked for is the least, up to the cap.
    """
    ceiling = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures, 16))
    jittered = ceiling / 2 + ceiling / 2 * uniform
    return min(LONGEST_DELAY_S, max(FIRST_DELAY_S, jittered, retry_after_s or 0.0))


class InfluxProjection:
    """Carries windows from the index to the sink, each at least once; the sink makes that exactly once.

    `read(cursor, limit)` gives up to `limit` rows with leaf_index >= cursor in the order of leaf_index; the rows of
    one leaf appear together (one transaction). `load_cursor` and `store_cursor` keep the first leaf that is not yet
    written, durably. A crash between the write and the cursor writes the same points again.
    """

    def __init__(
        self,
        sink: InfluxSink,
        read: Callable[[int, int], Sequence[WindowRow]],
        load_cursor: Callable[[], int],
        store_cursor: Callable[[int], None],
        *,
        rows_a_step: int = ROWS_A_STEP,
    ) -> None:
        self._sink = sink
        self._read = read
        self._load_cursor = load_cursor
        self._store_cursor = store_cursor
        self._rows_a_step = rows_a_step

    def step(self) -> int:
        """Writes the next rows and moves the cursor. Returns how many; 0 when there are none. Raises SinkError."""
        rows = self._whole_leaves(self._load_cursor())
        if rows:
            self._sink.write(rows)
            self._store_cursor(rows[-1].leaf_index + 1)
        return len(rows)

    def _whole_leaves(self, cursor: int) -> Sequence[WindowRow]:
        """Rows up to the last leaf that was read in full: a cursor inside a leaf would lose the leaf's rest."""
        limit = self._rows_a_step
        while True:
            rows = self._read(cursor, limit)
            if len(rows) < limit or not rows:
                return rows
            last = rows[-1].leaf_index
            if rows[0].leaf_index != last:
                return [row for row in rows if row.leaf_index != last]
            limit *= 2

    def run(
        self,
        stop: threading.Event,
        report: Callable[[SinkError | None], None],
        *,
        idle_s: float = 2.0,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        """Steps until `stop` is set. The body of one thread of the hub's.

        `report` gets each failure, and None at the first success after one: one line of log for each, and the
        hub's status. Only SinkError is caught; anything else ends the loop, for it is ours to mend.
        """
        failures = 0
        while not stop.is_set():
            try:
                written = self.step()
            except SinkError as error:
                failures += 1
                report(error)
                stop.wait(retry_delay_s(failures, uniform(), error.retry_after_s))
                continue
            if failures:
                report(None)
                failures = 0
            if not written:
                stop.wait(idle_s)

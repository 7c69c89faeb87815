"""The thread that carries windows from the index to InfluxDB, when one is configured.

Decides where the cursor is kept (the `cursor` table, "influx") and what its failures are called. Delays and retries
are `projections.influx`'s.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from sqlalchemy import Engine

from hub import database as db
from hub.config import InfluxConfig
from hub.projections.index import Index
from hub.projections.influx import InfluxProjection, InfluxSink, SinkError, WindowRow
from hub.registry import Registry
from protocols.errors import ConfigurationError

logger = logging.getLogger("hub.influx")

CURSOR = "influx"


class InfluxThread:
    """Starts and stops with the hub. `alarm`: what is wrong, as a sentence; None when nothing is."""

    def __init__(self, config: InfluxConfig, engine: Engine) -> None:
        """Raises ConfigurationError for a token that cannot be read or an address that cannot be used."""
        try:
            token = config.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"influx.token_file cannot be read: {error}", mend="it must be readable by the hub's user, mode 0600"
            ) from error
        self.alarm: str | None = None
        self._engine = engine
        self._index = Index(engine)
        self._registry = Registry(engine)
        self._sink = InfluxSink(config.url, token, config.org, config.bucket)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="influx")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._sink.close()

    def _run(self) -> None:
        projection = InfluxProjection(self._sink, self._read, lambda: self._index.size(CURSOR), self._store_cursor)
        projection.run(self._stopping, self._report)

    def _read(self, cursor: int, limit: int) -> Sequence[WindowRow]:
        enterprises = {line.id: line.enterprise_id for line in self._registry.lines()}
        return [
            WindowRow(row.changed_index, enterprises.get(row.line_id, ""), row.line_id, row.window)
            for row in self._index.windows_from_leaf(cursor, limit)
        ]

    def _store_cursor(self, size: int) -> None:
        with self._engine.begin() as connection:
            insert = db.upsert(connection, db.cursor).values(name=CURSOR, size=size)
            connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"size": size}))

    def _report(self, error: SinkError | None) -> None:
        self.alarm = None if error is None else f"InfluxDB: {error.words}. {error.mend}"
        if error is not None:
            logger.warning("%s", self.alarm)

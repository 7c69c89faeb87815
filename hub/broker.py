"""The embedded broker: iotcore (rumqttd) in a child process, for one machine and nothing to install.

Decides its limits. It listens on 127.0.0.1, keeps everything in memory and has no access control; production runs
mosquitto (deploy/). It ends with the hub, also when the hub is killed.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Final

from iotcore import Broker

from protocols.errors import ConfigurationError

logger = logging.getLogger("hub.broker")

HOST: Final = "127.0.0.1"
PORT_WAIT_S: Final = 5.0
"""After a hub was killed its broker's port may be held for a moment."""

# A payload is one record (65,535 bytes) and its headers. Segments bound what is kept for a session that is away.
_CONFIG: Final = """\
id = 0

[router]
id = 0
max_connections = 1024
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 4

[v5.1]
name = "linetally"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 131072
max_inflight_count = 500
dynamic_filters = true
"""


class EmbeddedBroker:
    """One broker on `port` of this machine; `folder` takes its configuration file."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._path = folder / "broker.toml"
        self._broker: Broker | None = None

    def start(self) -> None:
        """Returns when it listens. Raises ConfigurationError when the port stays in use."""
        self._path.write_text(_CONFIG.format(host=HOST, port=self._port), encoding="utf-8")
        deadline = time.monotonic() + PORT_WAIT_S
        while True:
            broker = Broker(config_path=str(self._path))
            try:
                broker.start()
            except (OSError, RuntimeError) as error:
                if time.monotonic() < deadline:
                    time.sleep(0.2)
                    continue
                raise ConfigurationError(
                    f"the broker cannot listen on {HOST}:{self._port}: the port is in use",
                    mend="write another port in [broker], or stop what uses it",
                ) from error
            self._broker = broker
            logger.info("embedded broker on %s:%d", HOST, self._port)
            return

    @property
    def is_running(self) -> bool:
        return self._broker is not None and bool(self._broker.is_running)

    def stop(self) -> None:
        if self._broker is not None:
            self._broker.stop()

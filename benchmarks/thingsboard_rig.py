"""ThingsBoard gateway as a process: its environment, its configuration for the benchmark's PLCs, a platform for it.

Decides its versions and settings: its own connectors and its own logging, all values as they come, nothing remote. What
is measured is `thingsboard`'s.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.agent_servers import Shape
from benchmarks.measures import LeftOut

PACKAGES: Final = (
    "thingsboard-gateway==3.8.5",
    # What its connectors would install at their first start: the very versions.
    "asyncua==1.1.5", "pymodbus==3.9.2", "pyserial==3.5", "pyserial-asyncio==0.6",
)  # fmt: skip
_INSTALL_S: Final = 600
_TELEMETRY: Final = "v1/gateway/telemetry"
_REQUESTS: Final = ("v1/devices/me/rpc/request/", "v1/devices/me/attributes/request/")


def environment() -> Path:
    """Its Python, in an environment in the temporary folder: made at the first call, which needs a package index.

    Raises LeftOut.
    """
    folder = Path(tempfile.gettempdir()) / "linetally-benchmarks" / "thingsboard-{}.{}".format(*sys.version_info)
    python, stamp = folder / "bin" / "python", folder / "installed"
    if stamp.exists() and stamp.read_text() == "\n".join(PACKAGES):
        return python
    try:
        venv.create(folder, clear=True, with_pip=True)
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input", *PACKAGES])
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise LeftOut(f"ThingsBoard gateway cannot be installed: {said.strip().splitlines()[-1]}") from error
    stamp.write_text("\n".join(PACKAGES))
    return python


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S)


class Platform:
    """What the gateway takes for ThingsBoard: answers what it asks at its start, and counts telemetry."""

    def __init__(self, port: int) -> None:
        self.first_s = 0.0
        self.values = 0
        self.names: set[tuple[str, str]] = set()
        """Device and key of each series that was told."""
        self.lock = threading.Lock()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="platform", protocol=mqtt.MQTTv5)
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def begin(self) -> None:
        """Counts from now on."""
        with self.lock:
            self.values = 0
            self.names.clear()

    def _connected(self, client: Any, *_: object) -> None:
        client.subscribe([(_TELEMETRY, 1), *((f"{request}+", 1) for request in _REQUESTS)])

    def _message(self, client: Any, _data: object, message: Any) -> None:
        if message.topic != _TELEMETRY:
            limits = {"maxPayloadSize": 65_536, "maxInflightMessages": 100, "rateLimits": {}, "gatewayRateLimits": {}}
            answer = limits if "/rpc/" in message.topic else {}
            client.publish(message.topic.replace("/request/", "/response/"), json.dumps(answer), 1)
            return
        now_s = time.monotonic()
        told = [
            (device, key)
            for device, rows in json.loads(message.payload).items()
            for row in rows
            for key in row.get("values", row)
        ]
        with self.lock:
            self.values += len(told)
            self.names.update(told)
            self.first_s = self.first_s or now_s


@contextmanager
def gateway(
    python: Path, folder: Path, ports: tuple[int, int, int], shape: Shape, *, subscribe: bool
) -> Iterator[subprocess.Popen[bytes]]:
    """The gateway, reading both PLCs; it ends with the context. `ports`: of broker, Modbus and OPC UA."""
    settings = folder / f"thingsboard-{subscribe}"
    (settings / "logs").mkdir(parents=True)
    (own,) = python.parents[1].glob("lib/python*/site-packages/thingsboard_gateway/config/logs.json")
    shutil.copy(own, settings)
    for name, content in configuration(*ports, shape, subscribe=subscribe).items():
        (settings / name).write_text(json.dumps(content))
    with (settings / "out").open("wb") as out:
        process = subprocess.Popen(
            [str(python), "-m", "thingsboard_gateway.tb_gateway"],
            cwd=settings, env={**os.environ, "TB_GW_CONFIG_DIR": str(settings)}, stdout=out, stderr=out,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def configuration(port: int, modbus_port: int, opcua_port: int, shape: Shape, *, subscribe: bool) -> dict[str, Any]:
    """Its files: one Modbus slave and one OPC UA device, each with all that its PLC holds, once a second."""
    places = [(line, tag) for line in range(shape.lines) for tag in range(shape.tags)]
    registers = [
        {
            "tag": f"L{line}T{tag}", "type": "16uint", "functionCode": 3, "objectsCount": 1,
            "address": line * shape.tags + tag,
        }
        for line, tag in places
    ]  # fmt: skip
    slave = {
        "host": "127.0.0.1", "port": modbus_port, "type": "tcp", "method": "socket", "unitId": 1,
        "deviceName": "Modbus", "deviceType": "default", "timeout": 5, "byteOrder": "BIG", "wordOrder": "BIG",
        "retries": 3, "pollPeriod": 1000, "attributes": [], "timeseries": registers, "attributeUpdates": [], "rpc": [],
    }  # fmt: skip
    nodes = [{"key": f"L{line}T{tag}", "type": "path", "value": rf"${{L{line}\.T{tag}}}"} for line, tag in places]
    device = {
        "deviceNodeSource": "path", "deviceNodePattern": r"Root\.Objects",
        "deviceInfo": {
            "deviceNameExpression": "OPC UA", "deviceNameExpressionSource": "constant",
            "deviceProfileExpression": "default", "deviceProfileExpressionSource": "constant",
        },
        "attributes": [], "timeseries": nodes, "rpc_methods": [], "attributes_updates": [],
    }  # fmt: skip
    server = {
        "url": f"opc.tcp://127.0.0.1:{opcua_port}/bench", "timeoutInMillis": 5000, "scanPeriodInMillis": 3_600_000,
        "pollPeriodInMillis": 1000, "enableSubscriptions": subscribe, "subCheckPeriodInMillis": 1000,
        "security": "None", "identity": {"type": "anonymous"},
    }  # fmt: skip
    return {
        "tb_gateway.json": {
            "thingsboard": {
                "host": "127.0.0.1", "port": port, "remoteShell": False, "remoteConfiguration": False,
                "statistics": {"enable": False}, "qos": 1, "reportStrategy": {"type": "ON_RECEIVED"},
                "maxPayloadSizeBytes": 65_536, "minPackSendDelayMS": 50, "minPackSizeToSend": 500,
                "security": {"type": "accessToken", "accessToken": "benchmark"},
            },
            "storage": {"type": "memory", "read_records_count": 1000, "max_records_count": 100_000},
            "grpc": {"enabled": False},
            "connectors": [
                {"name": "Modbus", "type": "modbus", "configuration": "modbus.json"},
                {"name": "OPC UA", "type": "opcua", "configuration": "opcua.json"},
            ],
        },
        "modbus.json": {"name": "Modbus", "logLevel": "INFO", "master": {"slaves": [slave]}},
        "opcua.json": {"name": "OPC UA", "logLevel": "INFO", "server": server, "mapping": [device]},
    }  # fmt: skip

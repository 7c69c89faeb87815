"""One connection to the MQTT broker, from connect to loss.

Decides how paho is used: MQTT 5, a new client for each attempt, a clean session (the spool sends again what has no
receipt), acknowledgements by hand. Once there is a connection its socket is the event loop's: paho's own thread would
have to be woken for each message. Tells when a slow network has not taken yet what it was given. Knows nothing of
records.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.config import BrokerSettings
from protocols.errors import ConfigurationError

CONNECT_S: Final = 10.0
_KEEP_ALIVE_S: Final = 20
_LOOK_S: Final = 5.0  # a broker waits for half a keep-alive more
_GOODBYE_TRIES: Final = 20
_MAX_WAITING: Final = 1000
MOST_UNSENT: Final = 32_768
"""Bytes that may be on their way: what is published beyond them waits behind them, a minute at 4 kbit/s."""
_TAKEN_OVER: Final = "another client came with this gateway's id: does a second agent run with its name?"


class BrokerLost(Exception):
    """There is no connection, or it ended; the words say why."""


class BrokerLink:
    """An async context: inside it there is a connection, and `topics` are subscribed at QoS 1.

    The first must be granted; without the others it does. `will`: what the broker says at QoS 1 when we are lost.
    """

    def __init__(
        self, settings: BrokerSettings, client_id: str, *topics: str, will: tuple[str, bytes] | None = None
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._inbox: asyncio.Queue[tuple[str, bytes, int]] = asyncio.Queue(_MAX_WAITING)
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5, manual_ack=True,
            reconnect_on_failure=False,
        )  # fmt: skip
        client.connect_timeout = CONNECT_S
        if will is not None:
            client.will_set(*will, qos=1)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        self._client = client
        self._keeping: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> BrokerLink:
        settings = self._settings
        self._authenticate()
        try:
            # The name lookup and the TCP and TLS handshakes block, so they have a thread.
            connect = asyncio.to_thread(
                self._client.connect, settings.host, settings.port, _KEEP_ALIVE_S, clean_start=True
            )
            async with asyncio.timeout(CONNECT_S + 5):
                await connect
                self._serve()
                await self._connected
        except ssl.SSLError as error:
            await self._stop()
            raise BrokerLost(f"its TLS certificate is not accepted ({error.reason})") from error
        except TimeoutError as error:
            await self._stop()
            raise BrokerLost("no answer in time") from error
        except (socket.gaierror, UnicodeError) as error:
            await self._stop()
            raise BrokerLost(f"nobody here knows the name {settings.host}; write the address as broker.host") from error
        except OSError as error:
            await self._stop()
            words = "nothing answers there" if isinstance(error, ConnectionRefusedError) else str(error)
            raise BrokerLost(words) from error
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    def publish(
        self, topic: str, payload: bytes, qos: int, properties: Mapping[str, str] | None = None
    ) -> Callable[[], bool]:
        """Hands a message to paho, with MQTT user properties.

        The call that it gives tells whether paho is done with it: the broker has it, or it is lost.
        """
        wire = None
        if properties:
            wire = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            wire.UserProperty = list(properties.items())
        info = self._client.publish(topic, payload, qos, properties=wire)
        self._client.loop_write()  # now, so that `has_room` tells what the network has not taken
        return lambda: info.rc != paho.MQTT_ERR_SUCCESS or info.is_published()

    @property
    def has_room(self) -> bool:
        """Whether what is published now goes out soon, and not behind what a slow network has not taken yet."""
        sock = self._client.socket()
        if sock is None or self._client.want_write():
            return False
        # What the kernel holds for the peer, acknowledged by it or not: megabytes, before a write would block.
        (unsent,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
        return bool(unsent < MOST_UNSENT)

    async def receive(self, timeout_s: float) -> list[tuple[str, bytes, Callable[[], None]]]:
        """What came meanwhile: (topic, payload, call to acknowledge it). Raises BrokerLost at the connection's end."""
        if self._lost.done():
            raise BrokerLost(self._lost.result())
        try:
            async with asyncio.timeout(timeout_s):
                found = [await self._inbox.get()]
        except TimeoutError:
            return []
        while not self._inbox.empty():
            found.append(self._inbox.get_nowait())
        return [(topic, payload, lambda mid=mid: self._acknowledge(mid)) for topic, payload, mid in found]  # type: ignore[misc]

    def leave(self, words: str) -> None:
        """Ends the connection: whoever receives hears the words."""
        self._fail(words)

    def _close(self) -> None:
        """Without a goodbye, where there was no way to say it."""
        sock = self._client.socket()
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            sock.close()

    def _acknowledge(self, mid: int) -> None:
        self._client.ack(mid, 1)
        self._client.loop_write()

    def _authenticate(self) -> None:
        settings = self._settings
        if settings.tls is not None:
            tls = settings.tls
            try:
                context = ssl.create_default_context(cafile=str(tls.ca_file))
                if tls.certificate_file is not None:
                    context.load_cert_chain(str(tls.certificate_file), str(tls.key_file), password="")
            except (OSError, ssl.SSLError) as error:
                mend = "check the paths in [broker.tls]; the agent's user must read them, and the key have no password"
                raise ConfigurationError(f"the broker's certificates cannot be used: {error}", mend=mend) from error
            self._client.tls_set_context(context)
        if settings.username is not None:
            self._client.username_pw_set(settings.username, _password(settings.password_file))

    def _serve(self) -> None:
        """From here on paho is called by the event loop alone (its "external event loop support")."""
        sock = self._client.socket()
        if sock is None:
            return  # lost already, and said
        self._client.on_socket_close = self._on_socket_close
        self._client.on_socket_register_write = self._on_register_write
        self._client.on_socket_unregister_write = self._on_unregister_write
        self._loop.add_reader(sock, self._read)
        self._keep_alive()

    def _read(self) -> None:
        self._client.loop_read()
        # What TLS has decrypted already wakes nobody.
        while isinstance(sock := self._client.socket(), ssl.SSLSocket) and sock.pending():
            self._client.loop_read()

    def _keep_alive(self) -> None:
        if self._client.loop_misc() == paho.MQTT_ERR_SUCCESS:
            self._keeping = self._loop.call_later(_LOOK_S, self._keep_alive)

    async def _stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        self._client.disconnect()
        try:
            for _ in range(_GOODBYE_TRIES):
                if self._client.loop_write() != paho.MQTT_ERR_SUCCESS or self._client.socket() is None:
                    break
                await asyncio.sleep(0.05)  # the peer does not take it
        finally:
            self._close()
        if not self._connected.cancel() and not self._connected.cancelled():
            self._connected.exception()  # seen, so that asyncio does not complain of it

    # paho calls these; until there is a connection perhaps in another thread

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._call(self._fail, f"it refuses this gateway ({reason})")
        else:
            self._client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(self, _client: Any, _data: Any, _mid: Any, reasons: Any, _properties: Any) -> None:
        if reasons[0].is_failure:
            self._call(self._fail, f"it does not let this gateway read {self._topics[0]} ({reasons[0]})")
        else:
            self._call(self._succeed)

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason == "Session taken over":
            self._call(self._fail, _TAKEN_OVER)
        elif reason == "Unspecified error":  # paho's words for a socket that was closed
            self._call(self._fail, "the connection ended")
        else:
            self._call(self._fail, f"the connection ended ({reason})")

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        self._call(self._receive, str(message.topic), bytes(message.payload), int(message.mid))

    def _on_socket_close(self, _client: Any, _data: Any, sock: Any) -> None:
        self._loop.remove_reader(sock)

    def _on_register_write(self, _client: Any, _data: Any, sock: Any) -> None:
        self._loop.add_writer(sock, self._client.loop_write)

    def _on_unregister_write(self, _client: Any, _data: Any, sock: Any) -> None:
        self._loop.remove_writer(sock)

    def _call(self, what: Callable[..., None], *args: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, *args)

    # in the event loop

    def _succeed(self) -> None:
        if not self._connected.done():
            self._connected.set_result(None)

    def _fail(self, words: str) -> None:
        if not self._connected.done():
            self._connected.set_exception(BrokerLost(words))
        if not self._lost.done():
            self._lost.set_result(words)

    def _receive(self, topic: str, payload: bytes, mid: int) -> None:
        if not self._inbox.full():  # otherwise not acknowledged, and the hub answers again when it is sent again
            self._inbox.put_nowait((topic, payload, mid))


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text("utf-8").splitlines()[0]
    except (OSError, IndexError, UnicodeDecodeError) as error:
        mend = "a file with the password in its first line, readable by the agent's user"
        raise ConfigurationError(f"the password cannot be read: {error}", file=str(path), mend=mend) from error

"""asyncua's client, made unable to write and able to end.

Decides which services may leave this gateway: at the one function through which each request of a client goes to its
socket, whatever is not discovery, session, browse, translate, read, subscribe or publish raises `WriteRefused`. Also
puts right what asyncua takes for the limits of a connection, says a peer's nonsense as one kind of error, and ends a
connection at once. Where and how to connect is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UaClient, UASocketProtocol
from asyncua.client.ua_session import UaSession
from asyncua.common.shortcuts import Shortcuts
from asyncua.crypto import uacrypto
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import UaError, UaStructParsingError
from cryptography.exceptions import InvalidSignature

from agent.sources.opcua_wire import Told, publish_answer, read_answer

T = TypeVar("T")

logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)  # we say its errors, once and in plain words

ALLOWED: Final = frozenset(
    {
        ua.OpenSecureChannelRequest, ua.CloseSecureChannelRequest,
        ua.FindServersRequest, ua.GetEndpointsRequest,
        ua.CreateSessionRequest, ua.ActivateSessionRequest, ua.CloseSessionRequest,
        ua.BrowseRequest, ua.BrowseNextRequest, ua.TranslateBrowsePathsToNodeIdsRequest,
        ua.ReadRequest,
        ua.CreateSubscriptionRequest, ua.ModifySubscriptionRequest, ua.DeleteSubscriptionsRequest,
        ua.SetPublishingModeRequest, ua.PublishRequest, ua.RepublishRequest, ua.TransferSubscriptionsRequest,
        ua.CreateMonitoredItemsRequest, ua.ModifyMonitoredItemsRequest, ua.DeleteMonitoredItemsRequest,
        ua.SetMonitoringModeRequest,
    }
)  # fmt: skip
"""Every service that may be asked (Part 4). None of them changes a value, calls a method or adds a node."""

LINK_ERRORS: Final = (OSError, TimeoutError, asyncio.TimeoutError, UaError)
"""What a peer that is off, slow or broken ends in; anything else is our mistake and must be seen."""
_NONSENSE: Final = (
    AssertionError, NotImplementedError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    OverflowError, RecursionError, struct.error, InvalidSignature,
    uacrypto.InvalidSignature,  # type: ignore[attr-defined]
)  # fmt: skip
_MOST_RECEIVED: Final = 16 * 1024 * 1024
"""Bytes of one answer; a peer must not fill the memory. It is told, and who has more to say is asked for less."""
_MOST_CHUNKS: Final = _MOST_RECEIVED // 1024
_CHUNK_BYTES: Final = 65_536
"""What our Hello says that a chunk may have."""
_GOODBYE_S: Final = 2.0
_NEVER_S: Final = 86_400.0


class WriteRefused(Exception):
    """Something tried to send a service that could change the server. It was not sent."""


class PeerFault(UaError):
    """The server answered with what cannot be an answer."""


async def asked(answer: Awaitable[T]) -> T:
    """An answer of asyncua's. What it stumbles over in a peer's bytes becomes PeerFault, one of LINK_ERRORS."""
    try:
        return await answer
    except _NONSENSE as error:
        raise PeerFault(f"its answer cannot be understood ({type(error).__name__}: {error})") from error


class ReadOnlySocket(UASocketProtocol):
    """The lowest place that knows what a request is: what it does not pass never becomes bytes."""

    request_bytes = 0
    """How long a request may be, as the server said; 0: it did not say."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # asyncua keeps what it has of a chunk until there is as much as its header claims, which may be 4 GB.
        if len(self.receive_buffer or b"") > max(_CHUNK_BYTES, self._connection._limits.max_recv_buffer):
            self.disconnect_socket()

    def _send_request(
        self, request: Any, timeout: float = 1, message_type: Any = ua.MessageType.SecureMessage
    ) -> asyncio.Future[Any]:
        if type(request) not in ALLOWED:
            raise WriteRefused(f"{type(request).__name__} is not sent: the agent only reads")
        return super()._send_request(request, timeout, message_type)

    async def send_hello(self, url: str, max_messagesize: int = 0, max_chunkcount: int = 0) -> ua.Acknowledge:
        answer = await super().send_hello(url, max_messagesize, max_chunkcount)
        # asyncua takes the server's limits for requests as those of its answers, and mixes up the two buffers
        # (Part 6, 7.1.2.4): a server that takes small requests and gives long answers would be cut off.
        limits = self._connection._limits
        limits.max_send_buffer = answer.ReceiveBufferSize
        limits.max_recv_buffer = min(max(answer.SendBufferSize, _CHUNK_BYTES), _MOST_RECEIVED)
        limits.max_message_size = _MOST_RECEIVED
        limits.max_chunk_count = _MOST_CHUNKS  # chunks may be empty, and each is kept
        sizes = [answer.MaxMessageSize, answer.MaxChunkCount * answer.ReceiveBufferSize * 9 // 10]
        self.request_bytes = min((size for size in sizes if size > 0), default=0)
        return answer


class ReadOnlySession(UaSession):
    """Reads values and notifications by `opcua_wire`, at a tenth of what asyncua's objects cost."""

    async def told(self, parameters: ua.ReadParameters) -> list[Told]:
        """What `read` gives, as it was told. To be `asked` for, as all of asyncua's."""
        request = ua.ReadRequest()
        request.Parameters = parameters
        return read_answer(await self._send_request(request))

    async def publish(self, acks: list[ua.SubscriptionAcknowledgement]) -> ua.PublishResponse:
        """As asyncua's own loop calls it, with `Changes` among what was notified."""
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = acks
        answer = await self._send_request(request, timeout=0)
        try:
            return publish_answer(answer)
        except (*_NONSENSE, UaError) as error:
            raise UaStructParsingError from error  # the loop goes on; the next number tells that one is missing


class _Pulse:
    """What asyncua's watch over a connection reads. Any answer is one, also that this user may not read it."""

    def __init__(self, session: ReadOnlySession) -> None:
        self._session = session

    async def read_value(self) -> None:
        node = ua.NodeId(ua.Int32(ObjectIds.Server_ServerStatus_State))
        await self._session.told(
            ua.ReadParameters(NodesToRead=[ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value)])
        )


class _ReadOnlyTransport(UaClient):
    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self.session: ReadOnlySession = ReadOnlySession(self)

    def _make_protocol(self) -> UASocketProtocol:
        self.protocol = ReadOnlySocket(self._timeout, security_policy=self.security_policy)
        self.protocol.pre_request_hook = self._pre_request_hook
        self.protocol.on_connection_lost = self._on_transport_lost
        self.protocol.is_session_closing = self._is_session_closing
        return self.protocol


class ReadOnlyClient(Client):
    """A client for one connection: it is never connected twice."""

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(url, timeout=timeout_s, watchdog_intervall=timeout_s)
        self.uaclient: _ReadOnlyTransport = _ReadOnlyTransport(timeout_s)
        self.uaclient.pre_request_hook = self._wait_until_ready
        self.nodes = Shortcuts(self.uaclient.session)
        self.nodes.server_state = _Pulse(self.uaclient.session)  # type: ignore[assignment]
        self.name = self.description = "linetally"
        self.product_uri = "urn:linetally:agent"
        self.session_timeout = 60_000
        self.max_messagesize = _MOST_RECEIVED
        self._stale_check_interval = _NEVER_S  # it looks after asyncua's own subscriptions, of which there are none

    @property
    def request_bytes(self) -> int:
        """How long a request may be; 0: the server did not say."""
        protocol = self.uaclient.protocol
        return protocol.request_bytes if isinstance(protocol, ReadOnlySocket) else 0

    async def end(self) -> None:
        """Says goodbye if the peer answers soon, and closes the socket in any case. Never raises for a dead peer.

        Whoever is cancelled while it waits for this leaves it running: it is over after `_GOODBYE_S`.
        """
        self._ending = asyncio.create_task(self._end(), name="opcua goodbye")
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        protocol = self.uaclient.protocol
        # Saying goodbye to a dead peer must not hold the next attempt back.
        with contextlib.suppress(*LINK_ERRORS):
            async with asyncio.timeout(_GOODBYE_S):
                await asked(self.disconnect())
        self.disconnect_socket()
        transport = None if protocol is None else protocol.transport
        if transport is not None and transport.get_write_buffer_size():
            transport.abort()  # close() would wait for a half-open link to take what is left, for a quarter of an hour

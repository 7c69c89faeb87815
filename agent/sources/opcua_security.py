"""From a source's settings to a client that may connect: nothing less than what was configured.

Decides which endpoint is taken, what is checked before a byte of a login leaves, and what is refused. The server's list
of endpoints is unprotected, so it only ever narrows: the policy and the mode come from the configuration, the
certificate must be trusted, and how a password travels is checked again on what the secured session says.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import CertProperties, load_private_key
from asyncua.ua.uaerrors import UaError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.certificates import Identity, read_certificate, read_private_file
from agent.config_opcua import DEPRECATED, OpcuaSource
from agent.sources.opcua_client import ReadOnlyClient, asked
from agent.trust import TrustStore, Untrusted
from protocols.errors import ConfigurationError

POLICY_CLASSES: Final[dict[str, type[security_policies.SecurityPolicy]]] = {
    "None": security_policies.SecurityPolicyNone,
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
    "Basic256": security_policies.SecurityPolicyBasic256,
    "Basic128Rsa15": security_policies.SecurityPolicyBasic128Rsa15,
}
_MODES: Final = {
    "None": ua.MessageSecurityMode.None_,
    "Sign": ua.MessageSecurityMode.Sign,
    "SignAndEncrypt": ua.MessageSecurityMode.SignAndEncrypt,
}
_NAMES: Final = {policy.URI: name for name, policy in POLICY_CLASSES.items()}
_STRONG: Final = frozenset(policy.URI for name, policy in POLICY_CLASSES.items() if name not in ("None", *DEPRECATED))
_LEAST_LIFETIME_MS: Final = 1000
"""A server that says of a channel that it ends at once must not have it renewed without a pause."""
_LOGINS: Final = {
    ua.UserTokenType.Anonymous: "without a login",
    ua.UserTokenType.UserName: "with a user name",
    ua.UserTokenType.Certificate: "with a user certificate",
}


class NotSecure(Exception):
    """What was configured cannot be had from this server; nothing less is used."""


class SecuredClient(ReadOnlyClient):
    """A client that logs in only as configured, and shows a secret only to a trusted server."""

    def __init__(self, source: OpcuaSource, trust: TrustStore) -> None:
        super().__init__(source.endpoint, source.timeout_ms / 1000)
        self._source = source
        self._trust = trust

    async def open_secure_channel(self, renew: bool = False) -> None:
        try:
            await super().open_secure_channel(renew)
        except ConnectionError as error:
            if renew or self.security_policy.Mode == ua.MessageSecurityMode.None_:
                raise
            # Some servers hang up without the reason that Part 6, 7.1.5 asks for.
            mend = "accept this gateway's certificate on the server (linetally-agent certificates), compare both clocks"
            raise NotSecure(f"the server hung up when the secured channel was opened: {mend}") from error
        self.secure_channel_timeout = max(self.secure_channel_timeout, _LEAST_LIFETIME_MS)

    def server_policy(self, token_type: ua.UserTokenType) -> ua.UserTokenPolicy:
        """How a login of this kind is protected. asyncua takes the first way that the server lists; here, the best."""
        self._policy_ids = sorted(self._policy_ids, key=self._weakness)
        return super().server_policy(token_type)

    def _weakness(self, way: ua.UserTokenPolicy) -> int:
        uri = way.SecurityPolicyUri or self.security_policy.URI  # Part 4, UserTokenPolicy: none is the channel's
        plain = uri == security_policies.SecurityPolicyNone.URI
        return 0 if uri in _STRONG else 1 if uri == self.security_policy.URI and not plain else 2 if plain else 3

    async def activate_session(
        self, username: str | None = None, password: str | None = None, certificate: x509.Certificate | None = None
    ) -> ua.ActivateSessionResult:
        login = ua.UserTokenType.Anonymous
        if username is not None or certificate is not None:
            login = ua.UserTokenType.UserName if certificate is None else ua.UserTokenType.Certificate
        offered = {policy.TokenType for policy in self._policy_ids}
        if offered and login not in offered:
            others = ", ".join(words for kind, words in _LOGINS.items() if kind in offered)
            raise NotSecure(f"the server takes no login {_LOGINS[login]} here, only: {others or 'others'}")
        if login is not ua.UserTokenType.Anonymous:
            self._check_secret(login)
        return await super().activate_session(username, password, certificate)

    def _check_secret(self, login: ua.UserTokenType) -> None:
        """Whether a password or a user's signature may be shown."""
        uri = self.server_policy(login).SecurityPolicyUri
        encrypted = self.security_policy.Mode == ua.MessageSecurityMode.SignAndEncrypt
        # Of a password without encryption of its own the channel is the only protection; a signature without an
        # algorithm is none at all.
        plain = uri in ("", None, security_policies.SecurityPolicyNone.URI)
        if plain and not (encrypted and login is ua.UserTokenType.UserName):
            mend = "choose security_policy and security_mode, or let the server's administrator encrypt the login"
            raise NotSecure(f"the server wants the login unprotected; it was not sent: {mend}")
        if not plain and uri not in _STRONG and uri != self.security_policy.URI:
            raise NotSecure(f"the server wants the login by {_NAMES.get(uri, uri)}, which is too weak; it was not sent")
        if self.security_policy.Mode == ua.MessageSecurityMode.None_:
            # With a secured channel the certificate was checked before the channel was opened.
            check_certificate(self._trust, self.security_policy.peer_certificate, None, self._source.policy)


async def secured_client(source: OpcuaSource, identity: Identity | None, trust: TrustStore) -> SecuredClient:
    """A client that is ready to connect, its server's certificate checked. `identity`: where there is a policy.

    Raises NotSecure, Untrusted, ConfigurationError for files, and LINK_ERRORS.
    """
    client = SecuredClient(source, trust)
    if source.policy != "None":
        assert identity is not None
        client.application_uri = identity.application_uri
        endpoint = await asked(_endpoint(source))
        der = check_certificate(trust, endpoint.ServerCertificate, endpoint.Server.ApplicationUri, source.policy)
        await client.set_security(
            POLICY_CLASSES[source.policy],
            CertProperties(identity.der, "der"),
            CertProperties(identity.key_pem, "pem"),
            server_certificate=CertProperties(der, "der"),
            mode=_MODES[source.mode],
        )
    if source.username is not None:
        client.set_user(source.username)
        client.set_password(read_password(source.password_file))
    if source.user_certificate is not None and source.user_key is not None:
        client.user_certificate = read_certificate(source.user_certificate)
        client.user_private_key = await _user_key(source.user_key)
    return client


def check_certificate(trust: TrustStore, der: bytes | None, server_uri: str | None, policy: str) -> bytes:
    """The server's own certificate in DER, when it is trusted. Raises Untrusted."""
    if not der:
        raise Untrusted("the server shows no certificate")
    least = 1024 if policy in DEPRECATED else 2048  # Part 7, the policies' MinAsymmetricKeyLength
    return trust.check(bytes(der), server_uri, least, datetime.now(UTC)).public_bytes(Encoding.DER)


async def _endpoint(source: OpcuaSource) -> ua.EndpointDescription:
    client = ReadOnlyClient(source.endpoint, source.timeout_ms / 1000)
    try:
        endpoints = await asked(client.connect_and_get_server_endpoints())
    finally:
        await client.end()
    uri, mode = POLICY_CLASSES[source.policy].URI, _MODES[source.mode]
    try:
        return Client.find_endpoint(endpoints, mode, uri)
    except UaError:
        offers = sorted({_offer(endpoint) for endpoint in endpoints})
        wanted = f"{source.policy} {source.mode}"
        raise NotSecure(
            f"the server does not offer {wanted}, only: {', '.join(offers) or 'nothing'}. Nothing less than what "
            "security_policy and security_mode say is used; switch it on at the server"
        ) from None


def _offer(endpoint: ua.EndpointDescription) -> str:
    name = _NAMES.get(endpoint.SecurityPolicyUri, "another policy")
    return name if name == "None" else f"{name} {endpoint.SecurityMode.name}"


async def _user_key(path: Path) -> Any:
    try:
        return await load_private_key(read_private_file(path), None, "pem")
    except (ValueError, TypeError) as error:
        mend = "a PEM file without a password"
        raise ConfigurationError("this is not a private key", file=str(path), mend=mend) from error


def read_password(path: Path | None) -> str:
    """The first line of a password file that nobody else may read. Raises ConfigurationError."""
    if path is None:
        return ""
    data = read_private_file(path)
    try:
        return data.decode("utf-8").splitlines()[0]
    except (IndexError, UnicodeDecodeError) as error:
        raise ConfigurationError("this is not a password", file=str(path), mend="one line, UTF-8") from error


def warn(source: OpcuaSource, log: logging.LoggerAdapter[logging.Logger]) -> None:
    """What whoever configured the source should know, once at start."""
    if source.security_warning:
        log.warning("%s", source.security_warning)

"""The gateway's OPC UA application certificate: made once, kept beside the other keys.

Decides what it says (OPC UA Part 6, 6.2.2) and where it is kept, and reads certificates and secrets from files.
Which servers are trusted is decided in `agent.trust`.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.keys import make_state_folder, write_private
from protocols.errors import ConfigurationError

FOLDER: Final = "opcua"
"""Below the state folder."""
KEY_FILE: Final = "own.key"
CERTIFICATE_FILE: Final = "own.der"
YEARS: Final = 10  # ours: a gateway outlives what IT is used to, and an expired certificate stops a line's figures
EXPIRY_WARNING: Final = timedelta(days=30)
_KEY_BITS: Final = 2048
_MAKING: Final = threading.Lock()
"""Two lines that connect at once must not make two keys."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What this gateway shows to OPC UA servers. `key_pem` is PKCS #8."""

    application_uri: str
    certificate: x509.Certificate
    key_pem: bytes

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def application_uri(gateway_id: str) -> str:
    """It stands in the certificate and in each session; servers compare the two."""
    return f"urn:linetally:gateway:{gateway_id}"


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-1 in hexadecimal, the thumbprint that every OPC UA tool shows (Part 6, 6.2.2). A name, not a proof."""
    return certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303


def load_or_make_identity(state_folder: Path, gateway_id: str, *, renew: bool = False) -> Identity:
    """The certificate and its key, made when there are none. `renew`: a new certificate for the same key.

    To make a key takes a small gateway a second or more. Raises ConfigurationError.
    """
    with _MAKING:
        return _load_or_make(state_folder / FOLDER, gateway_id, renew)


def _load_or_make(folder: Path, gateway_id: str, renew: bool) -> Identity:
    make_state_folder(folder)
    uri = application_uri(gateway_id)
    key_file, certificate_file = folder / KEY_FILE, folder / CERTIFICATE_FILE
    key = _load_key(key_file) if key_file.exists() else _make_key(key_file)
    certificate = None if renew or not certificate_file.exists() else read_certificate(certificate_file)
    # One of another key or name would be refused by each server, with words that help nobody.
    if certificate is None or not _belongs(certificate, key, uri):
        certificate = _sign(key, gateway_id, uri)
        write_private(certificate_file, certificate.public_bytes(Encoding.DER))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Identity(uri, certificate, pem)


def read_certificate(path: Path) -> x509.Certificate:
    """A certificate file, DER or PEM. Raises ConfigurationError."""
    try:
        data = path.read_bytes()
        return parse(data)
    except OSError as error:
        what = f"the certificate cannot be read: {error.strerror}"
        raise ConfigurationError(what, file=str(path), mend="check the path and the file's rights") from error
    except ValueError as error:
        mend = "a certificate in DER or PEM"
        raise ConfigurationError("this is not a certificate", file=str(path), mend=mend) from error


def read_private_file(path: Path) -> bytes:
    """A file with a secret, which nobody else may read. Raises ConfigurationError."""
    try:
        # fstat of the open file: the mode that is checked is that of the bytes that are read.
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            data = file.read(65_536)
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise ConfigurationError(what, file=str(path), mend="it must belong to the agent's user") from error
    if mode & 0o077:
        mend = f"run: chmod 600 {path}"
        raise ConfigurationError(f"others may read this secret (mode {mode:04o})", file=str(path), mend=mend)
    return data


def parse(data: bytes) -> x509.Certificate:
    """Of PEM, or the first of a chain in DER. Raises ValueError; the parts are looked at only when they are asked for,
    and raise it too."""
    try:
        if data.lstrip().startswith(b"-----"):
            return x509.load_pem_x509_certificate(data)
        if len(data) > 4 and data[0] == 0x30 and data[1] == 0x82:  # a SEQUENCE with a length of two bytes
            data = data[: int.from_bytes(data[2:4], "big") + 4]
        return x509.load_der_x509_certificate(data)
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from error


def uris(certificate: x509.Certificate) -> list[str]:
    """The URIs that it is made out to."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def name_of(certificate: x509.Certificate) -> str:
    """Its common name, for a person."""
    try:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return "without a name that can be read"
    return printable(str(common[0].value)) if common else "without a name"


def printable(text: str, most: int = 80) -> str:
    """What a stranger chose, fit for a terminal and for UTF-8, which knows no surrogates."""
    return "".join(character for character in text[:most] if character.isprintable())


def _make_key(path: Path) -> rsa.RSAPrivateKey:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=_KEY_BITS)
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def _load_key(path: Path) -> rsa.RSAPrivateKey:
    mend = "move it away; a new key and certificate are made, which the servers must then accept"
    try:
        key = load_pem_private_key(read_private_file(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError("this is not a key", file=str(path), mend=mend) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError("this is not an RSA key", file=str(path), mend=mend)
    return key


def _belongs(certificate: x509.Certificate, key: rsa.RSAPrivateKey, uri: str) -> bool:
    return certificate.public_key() == key.public_key() and uri in uris(certificate)


def _sign(key: rsa.RSAPrivateKey, gateway_id: str, uri: str) -> x509.Certificate:
    """Self-signed. Its extensions are those that Part 6, 6.2.2 asks for; a client's need nothing more."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"linetally {gateway_id}"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "linetally"),
        ]
    )
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "localhost"
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # a PLC's clock may be somewhat behind
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName(host)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )

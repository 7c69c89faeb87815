"""Which OPC UA servers the gateway trusts: two folders of certificates.

Decides what is checked of a server's certificate. It is trusted when it, or the authority that issued it, lies in
`trusted/`; any other is written to `rejected/` and refused, with words how to accept it. Nothing is ever trusted at
first sight, and no check can be switched off. Knows no connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from agent.certificates import FOLDER, fingerprint, name_of, parse, printable, uris
from agent.keys import make_state_folder, write_private
from protocols.errors import ConfigurationError

REJECTED_KEPT: Final = 50
"""At most so many unknown certificates are kept, so that nobody can fill the disk with them."""


class Untrusted(Exception):
    """A server's certificate is not accepted; the words say why, and how to mend it."""


class TrustStore:
    """The folders `trusted/` and `rejected/` below the state folder. They are read anew at each look."""

    def __init__(self, state_folder: Path) -> None:
        self.trusted_folder = state_folder / FOLDER / "trusted"
        self.rejected_folder = state_folder / FOLDER / "rejected"

    def trusted(self) -> list[tuple[Path, x509.Certificate]]:
        return list(_certificates(self.trusted_folder))

    def passed_over(self) -> list[Path]:
        """What somebody put among the trusted and is no certificate, or has none of their endings."""
        known = {path for path, _ in self.trusted()}
        return sorted(set(self.trusted_folder.iterdir()) - known) if self.trusted_folder.is_dir() else []

    def rejected(self) -> list[tuple[Path, x509.Certificate]]:
        return list(_certificates(self.rejected_folder))

    def check(self, der: bytes, server_uri: str | None, least_bits: int, now: datetime) -> x509.Certificate:
        """The server's certificate (the first of `der`, which may be a chain), when it may be used.

        `server_uri`: the ApplicationUri that the server told. Raises Untrusted.
        """
        try:
            return self._checked(parse(der), server_uri, least_bits, now)
        except (ValueError, UnsupportedAlgorithm):
            raise Untrusted("the server's certificate cannot be read; renew it on the server") from None

    def _checked(
        self, certificate: x509.Certificate, server_uri: str | None, least_bits: int, now: datetime
    ) -> x509.Certificate:
        """Raises Untrusted, and of a part that cannot be read ValueError or UnsupportedAlgorithm."""
        name = name_of(certificate)
        if not self._is_trusted(certificate, now):
            words = self._reject(certificate)
            raise Untrusted(words)
        again = "; renew it on the server, then accept the new one"
        if certificate.not_valid_after_utc < now:
            raise Untrusted(f'the server\'s certificate "{name}" expired {certificate.not_valid_after_utc:%F}{again}')
        if certificate.not_valid_before_utc > now + timedelta(minutes=5):
            begins = f"{certificate.not_valid_before_utc:%F %H:%M} UTC"
            raise Untrusted(
                f'the server\'s certificate "{name}" is valid from {begins} only; it is {now:%F %H:%M} UTC here: '
                "check both clocks"
            )
        if server_uri is not None and server_uri not in uris(certificate):
            raise Untrusted(
                f'the server calls itself "{printable(server_uri)}", its certificate '
                f'"{printable(", ".join(uris(certificate)))}"{again}'
            )
        public = certificate.public_key()
        if not isinstance(public, rsa.RSAPublicKey) or public.key_size < least_bits:
            raise Untrusted(f"the key of the server's certificate is no RSA key of {least_bits} bits or more{again}")
        return certificate

    def accept(self, beginning: str) -> x509.Certificate:
        """Moves the one rejected certificate whose fingerprint begins so to the trusted. Raises ConfigurationError."""
        wanted = beginning.replace(":", "").replace(" ", "").lower()
        found = [(path, c) for path, c in self.rejected() if fingerprint(c).startswith(wanted)]
        if len(found) != 1 or len(wanted) < 8:
            mend = "give the fingerprint's first 8 digits or more, as the list shows them"
            raise ConfigurationError(f"{len(found)} rejected certificates begin with {beginning}", mend=mend)
        path, certificate = found[0]
        make_state_folder(self.trusted_folder)
        path.replace(self.trusted_folder / path.name)
        return certificate

    def _is_trusted(self, certificate: x509.Certificate, now: datetime) -> bool:
        for _, known in _certificates(self.trusted_folder):
            if known == certificate:
                return True
            if _is_authority(known) and known.not_valid_before_utc <= now <= known.not_valid_after_utc:
                try:
                    certificate.verify_directly_issued_by(known)
                except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
                    continue
                return True
        return False

    def _reject(self, certificate: x509.Certificate) -> str:
        """Keeps it for a person to look at; the words to say."""
        digits = fingerprint(certificate)
        make_state_folder(self.rejected_folder)
        path = self.rejected_folder / f"{_file_name(certificate)} [{digits}].der"
        words = f'the certificate of the server, "{name_of(certificate)}", is not trusted yet'
        if not path.exists():
            kept = sorted(self.rejected_folder.glob("*.der"), key=lambda file: file.stat().st_mtime)
            for oldest in kept[: max(0, len(kept) - REJECTED_KEPT + 1)]:
                oldest.unlink(missing_ok=True)
            write_private(path, certificate.public_bytes(Encoding.DER))
        spaced = " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))
        return (
            f"{words}. Compare its fingerprint with what the server itself shows: {spaced}. If they are the same: "
            f"linetally-agent certificates --config FILE --accept {digits[:8]}"
        )


def _certificates(folder: Path) -> Iterator[tuple[Path, x509.Certificate]]:
    """What is in a folder, in the order of the names; a file that is no certificate is passed over."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in (".der", ".crt", ".cer", ".pem"):
                try:
                    yield path, parse(path.read_bytes())
                except (ValueError, OSError):
                    continue


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _file_name(certificate: x509.Certificate) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name_of(certificate)).strip("._") or "server"

"""OPC UA servers that we did not write (npm node-opcua), as processes; and certificates for them.

A server says the name of each request that it gets, so that a test knows what was asked even of one that it killed.
When it ends, every request must have been one that cannot change anything.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOME = Path(__file__).parents[1] / "peers" / "node_opcua"
NAMESPACE = "urn:linetally:simulator"
SERVER_URI = "urn:linetally:test:peer"
MODES = ("None", "Sign", "SignAndEncrypt")
POLICIES = ("None", "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
READ_ONLY = {
    "GetEndpointsRequest", "FindServersRequest", "CreateSessionRequest", "ActivateSessionRequest",
    "CloseSessionRequest", "BrowseRequest", "BrowseNextRequest", "TranslateBrowsePathsToNodeIdsRequest",
    "ReadRequest", "CreateSubscriptionRequest", "ModifySubscriptionRequest", "DeleteSubscriptionsRequest",
    "SetPublishingModeRequest", "PublishRequest", "RepublishRequest", "TransferSubscriptionsRequest",
    "CreateMonitoredItemsRequest", "ModifyMonitoredItemsRequest", "DeleteMonitoredItemsRequest",
    "SetMonitoringModeRequest", "OpenSecureChannelRequest", "CloseSecureChannelRequest",
}  # fmt: skip


@cache
def server_key() -> rsa.RSAPrivateKey:
    """The key of each server whose test does not need one of its own."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=2048)


def make_certificate(
    folder: Path, name: str = "peer", *, uri: str = SERVER_URI, days: int = 30, began_days: int = 1,
    key: rsa.RSAPrivateKey | None = None,
) -> tuple[Path, Path]:  # fmt: skip
    """A server's self-signed certificate and key, PEM files in `folder`. `days`: from now to its end."""
    key = key or rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=began_days))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")]), False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.KeyUsage(True, True, True, True, False, True, False, False, False), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.crt.pem", folder / f"{name}.key.pem"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    paths[1].chmod(0o600)
    return paths


class NodeServer:
    """node-opcua at work. `requests`: how often each service was asked for, as far as it was heard yet: see `asked`."""

    def __init__(self, folder: Path, port: int, options: dict[str, Any]) -> None:
        self.endpoint = f"opc.tcp://127.0.0.1:{port}"
        self.certificate = Path(options["certificate"])
        self.requests: Counter[str] = Counter()
        self._log = folder / "node-opcua.log"
        self._answers: Counter[str] = Counter()
        defaults = {
            "port": port, "folder": str(folder), "namespace": NAMESPACE, "applicationUri": SERVER_URI,
            "modes": MODES, "policies": POLICIES,
        }  # fmt: skip
        command = ["node", str(HOME / "server.js"), json.dumps({**defaults, **options})]
        with self._log.open("ab") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._wait("ready", 1, 60)

    def order(self, what: str, **words: Any) -> None:
        """Lets the server do something (see server.js) and waits until it has."""
        wanted = self._answers[what] + 1
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": what, **words}).encode() + b"\n")
        self.process.stdin.flush()
        self._wait(what, wanted, 20)

    async def asked(self) -> Counter[str]:
        """`requests` with all that the server has got by now: what it says comes by a pipe, somewhat later."""
        await asyncio.to_thread(self.order, "count")
        return Counter(self.requests)

    def kill(self) -> None:
        """kill -9, also of one that is frozen."""
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def require_only_reads(self) -> None:
        assert set(self.requests) <= READ_ONLY, self.requests

    def _wait(self, what: str, count: int, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._answers[what] < count:
            assert self.process.poll() is None, self._log.read_text("utf-8")
            assert time.monotonic() < deadline, f"{what}: {self._log.read_text('utf-8')}"
            time.sleep(0.01)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(b"{"):  # node-opcua's own warnings come here too
                said = json.loads(line)
                if "request" in said:
                    self.requests[said["request"]] += 1
                else:
                    self._answers[said.get("done", "ready")] += 1


@contextmanager
def node_server(folder: Path, port: int, **options: Any) -> Iterator[NodeServer]:
    """A server from npm; its packages are fetched once. At the end it must have been asked to read only."""
    if not (HOME / "node_modules" / "node-opcua-server").exists():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=HOME, check=True, capture_output=True, timeout=110)
    if "certificate" not in options:
        certificate, key = make_certificate(folder, key=server_key())
        options |= {"certificate": str(certificate), "key": str(key)}
    server = NodeServer(folder, port, options)
    try:
        yield server
    finally:
        server.kill()
        server.require_only_reads()

"""The gateway's own certificate, and trust: nothing at first sight, everything with words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent import trust
from agent.__main__ import main
from agent.certificates import fingerprint, load_or_make_identity, read_certificate, read_private_file
from agent.trust import REJECTED_KEPT, TrustStore, Untrusted
from protocols.errors import ConfigurationError
from tests.agent import factory
from tests.support.opcua import SERVER_URI, make_certificate, server_key

NOW = datetime.now(UTC)


def der(path: Path) -> bytes:
    return read_certificate(path).public_bytes(Encoding.DER)


def refused(store: TrustStore, data: bytes, uri: str | None = SERVER_URI, now: datetime = NOW, bits: int = 2048) -> str:
    with pytest.raises(Untrusted) as error:
        store.check(data, uri, bits, now)
    return str(error.value)


def accepted(tmp_path: Path, **made: object) -> tuple[TrustStore, bytes]:
    certificate, _ = make_certificate(tmp_path, key=server_key(), **made)  # type: ignore[arg-type]
    store = TrustStore(tmp_path / "state")
    store.trusted_folder.mkdir(parents=True)
    (store.trusted_folder / "server.pem").write_bytes(certificate.read_bytes())
    return store, der(certificate)


def test_the_gateways_certificate_is_made_once_and_says_who_it_is(tmp_path: Path) -> None:
    made = load_or_make_identity(tmp_path, "GW-01")
    assert (tmp_path / "opcua" / "own.key").stat().st_mode & 0o777 == 0o600
    names = made.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:linetally:gateway:GW-01"]
    assert names.get_values_for_type(x509.DNSName)
    assert load_or_make_identity(tmp_path, "GW-01").der == made.der
    renewed = load_or_make_identity(tmp_path, "GW-01", renew=True)
    assert renewed.der != made.der and renewed.key_pem == made.key_pem
    # Another name: the old certificate would be refused by each server.
    other = load_or_make_identity(tmp_path, "GW-02").certificate
    assert "GW-02" in str(other.subject)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    load_or_make_identity(tmp_path, "GW-01")
    (tmp_path / "opcua" / "own.key").chmod(0o640)
    with pytest.raises(ConfigurationError, match="others may read"):
        load_or_make_identity(tmp_path, "GW-01")
    secret = tmp_path / "password"
    secret.write_text("x")
    secret.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_private_file(secret)


def test_an_unknown_certificate_is_kept_and_can_be_accepted(tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path, key=server_key())
    store = TrustStore(tmp_path / "state")
    words = refused(store, der(certificate))
    digits = fingerprint(read_certificate(certificate))
    assert f"--accept {digits[:8]}" in words
    with pytest.raises(ConfigurationError, match="first 8 digits"):
        store.accept(digits[:4])
    with pytest.raises(ConfigurationError, match="0 rejected"):
        store.accept("00000000")
    store.accept(digits[:8].upper())
    assert store.rejected() == []
    assert store.check(der(certificate), SERVER_URI, 2048, NOW) == read_certificate(certificate)
    # A chain after it changes nothing: it is the first that is judged.
    assert store.check(der(certificate) + b"\x30\x03abc", SERVER_URI, 2048, NOW)


def test_what_is_wrong_with_a_trusted_certificate_is_said(tmp_path: Path) -> None:
    store, data = accepted(tmp_path)
    assert store.check(data, None, 2048, NOW)
    assert "expired" in refused(store, data, now=NOW + timedelta(days=400))
    assert "check both clocks" in refused(store, data, now=NOW - timedelta(days=400))
    assert "calls itself" in refused(store, data, uri="urn:another")
    assert "no RSA key of 4096 bits" in refused(store, data, bits=4096)
    assert "cannot be read" in refused(store, b"0\x82\x00\x01x")


def test_strangers_cannot_fill_the_disk_nor_choose_the_name(tmp_path: Path) -> None:
    store = TrustStore(tmp_path / "state")
    for i in range(REJECTED_KEPT + 5):
        certificate, _ = make_certificate(tmp_path, "peer", uri=f"urn:{i}", key=server_key())
        refused(store, der(certificate))
    assert len(store.rejected()) == REJECTED_KEPT
    assert all(path.parent == store.rejected_folder and "/" not in path.name for path, _ in store.rejected())


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_certificate_with_any_byte_wrong_is_refused_and_never_more_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers at a PLC's address chooses these bytes before anything is trusted; some are read only later."""
    whole = der(make_certificate(tmp_path, key=server_key())[0])
    store = TrustStore(tmp_path)
    monkeypatch.setattr(trust, "write_private", lambda *_: None)  # the disk is not what is tried here
    taken = 0
    for by_hand in (False, True):
        if by_hand:  # as if somebody had accepted each of them
            monkeypatch.setattr(store, "_is_trusted", lambda *_: True)
        for place in range(len(whole)):
            for wrong in (0x00, 0xFF, whole[place] ^ 0x80):
                data = whole[:place] + bytes([wrong]) + whole[place + 1 :]
                try:
                    store.check(data, SERVER_URI, 2048, NOW)
                    taken += 1
                except Untrusted as why:
                    assert str(why).isprintable()
        assert by_hand or not taken
    assert taken  # of those that were trusted some are good enough, as with another serial number


def test_an_authority_that_is_trusted_vouches_for_its_servers(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plant authority")])

    def issue(name: x509.Name, *, ca: bool) -> x509.Certificate:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(SERVER_URI)])
        return (
            x509.CertificateBuilder().subject_name(name).issuer_name(authority).serial_number(7)
            .public_key(server_key().public_key()).not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=9)).add_extension(names, False)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), True).sign(server_key(), hashes.SHA256())
        )  # fmt: skip

    store = TrustStore(tmp_path / "state")
    store.trusted_folder.mkdir(parents=True)
    server = issue(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mixer")]), ca=False)
    refused(store, server.public_bytes(Encoding.DER))
    (store.trusted_folder / "a.pem").write_bytes(issue(authority, ca=False).public_bytes(Encoding.PEM))
    refused(store, server.public_bytes(Encoding.DER))  # no authority
    (store.trusted_folder / "a.pem").write_bytes(issue(authority, ca=True).public_bytes(Encoding.PEM))
    assert store.check(server.public_bytes(Encoding.DER), SERVER_URI, 2048, NOW) == server


def test_the_command_shows_exports_and_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = factory.write(tmp_path, factory.opcua())
    out = tmp_path / "gateway.der"
    assert main(["certificates", "--config", str(config), "--export", str(out)]) == 0
    assert "urn:linetally:gateway:GW-01" in capsys.readouterr().out
    assert read_certificate(out) == load_or_make_identity(tmp_path / "state", "GW-01").certificate
    certificate, _ = make_certificate(tmp_path, key=server_key())
    words = refused(TrustStore(tmp_path / "state"), der(certificate))
    assert main(["certificates", "--config", str(config)]) == 0
    digits = words.rpartition(" ")[2]
    assert digits in capsys.readouterr().out.partition("refused")[2]
    assert main(["certificates", "--config", str(config), "--accept", digits]) == 0
    assert main(["certificates", "--config", str(config), "--accept", digits]) == 2
    assert "--config" not in capsys.readouterr().err


def test_the_command_says_what_is_no_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = factory.write(tmp_path, factory.opcua())
    store, _ = accepted(tmp_path)
    for name in ("torn.der", "server.p7b"):
        (store.trusted_folder / name).write_bytes(b"0\x82\x01")
    assert main(["certificates", "--config", str(config)]) == 0
    shown = capsys.readouterr().out
    assert "torn.der: passed over" in shown and "server.p7b: passed over" in shown
    assert "server.pem: passed over" not in shown

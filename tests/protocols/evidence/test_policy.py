"""The policy file: the specification's own example, each of its rules, and errors that name line and mend."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import ConfigurationError, Unverified
from protocols.evidence import checkpoint, merkle, note, policy
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.cose import Kid
from protocols.evidence.note import Algorithm, SignerKey, VerifierKey
from protocols.evidence.policy import Revoked, Trust, format, parse

LOG = SignerKey("example.com/log", Algorithm.ED25519, bytes(32))
ROOT = SignerKey("scheme.example/root", Algorithm.ED25519, bytes([9] * 32))
WITNESSES = {
    name: SignerKey(f"witness.example/{name}", Algorithm.COSIGNATURE, bytes([n + 1] * 32))
    for n, name in enumerate(["X1", "X2", "X3", "Y1", "Y2", "Y3"])
}
PLAIN = f"# linetally-root {ROOT.verifier}\nlog {LOG.verifier}\nquorum none\n".encode()
HEAD = Checkpoint("example.com/log", 3, merkle.RootHash(bytes(32)))
# c2sp.org/tlog-policy, "Example policy", with keys filled in, and our root key's comment line.
EXAMPLE = f"""\
# linetally-root {ROOT.verifier}
log {LOG.verifier}

witness X1 {WITNESSES["X1"].verifier}
witness X2 {WITNESSES["X2"].verifier}
witness\tX3  {WITNESSES["X3"].verifier} https://x3.example/
  group X-witnesses 2 X1 X2 X3

witness Y1 {WITNESSES["Y1"].verifier}
witness Y2 {WITNESSES["Y2"].verifier}
witness Y3 {WITNESSES["Y3"].verifier}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def cosigned(*names: str) -> bytes:
    data = checkpoint.sign(HEAD, LOG)
    for name in names:
        data = checkpoint.cosign(data, LOG.verifier, WITNESSES[name], 1)
    return data


def test_the_example_of_the_specification() -> None:
    parsed = policy.parse(EXAMPLE.encode())
    for count in range(7):
        for names in combinations(WITNESSES, count):
            enough = sum(n.startswith("X") for n in names) >= 2 and any(n.startswith("Y") for n in names)
            if enough:
                assert parsed.accepts(cosigned(*names)) == HEAD
            else:
                with pytest.raises(Unverified):
                    parsed.accepts(cosigned(*names))


def test_cosignatures_alone_do_not_make_a_log() -> None:
    opened = note.parse(cosigned("X1", "X2", "Y1"))
    without_log = note.Note(opened.text, opened.signatures[1:]).encode()
    with pytest.raises(Unverified, match="log"):
        policy.parse(EXAMPLE.encode()).accepts(without_log)


def test_a_wrong_cosignature_refuses_the_checkpoint() -> None:
    signature = WITNESSES["X3"].sign("another text\n", 1)
    data = cosigned("X1", "X2", "Y1") + signature.line().encode()
    with pytest.raises(Unverified):
        policy.parse(EXAMPLE.encode()).accepts(data)


def test_trust_needs_the_root_key() -> None:
    trust = Trust.parse(EXAMPLE.encode())
    assert trust.root_keys == (ROOT.verifier,)
    with pytest.raises(ConfigurationError, match="linetally-root"):
        Trust.parse(b"quorum none\n", "trust.policy")


def test_format_and_parse_are_inverse() -> None:
    parsed = policy.parse(EXAMPLE.encode())
    assert policy.parse(policy.format(parsed)) == parsed


W1, W2 = WITNESSES["X1"].verifier, WITNESSES["X2"].verifier
SAME_KEY = VerifierKey("other.example", Algorithm.COSIGNATURE, W1.public)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", None),
        (f"log {LOG.verifier}\n", None),
        ("quorum none", 1),
        ("quorum none\nquorum none\n", 2),
        ("quorum w\n", 1),
        (f"quorum w\nwitness w {W1}\n", 1),
        (f"witness none {W1}\nquorum none\n", 1),
        (f"witness w {W1}\nwitness w {W2}\nquorum w\n", 2),
        (f"witness v {W1}\nwitness w {W1}\nquorum w\n", 2),
        (f"witness v {W1}\nwitness w {SAME_KEY}\nquorum w\n", 2),
        (f"log {LOG.verifier}\nlog {LOG.verifier}\nquorum none\n", 2),
        (f"log {W1}\nquorum none\n", 1),
        (f"witness w {LOG.verifier}\nquorum none\n", 1),
        (f"log {LOG.verifier} a b\nquorum none\n", 1),
        ("log example.com+00000000+AAAA\nquorum none\n", 1),
        (f"witness w {W1}\ngroup g 0 w\nquorum g\n", 2),
        (f"witness w {W1}\ngroup g 2 w\nquorum g\n", 2),
        (f"witness w {W1}\ngroup g 01 w\nquorum g\n", 2),
        (f"witness w {W1}\ngroup g some w\nquorum g\n", 2),
        (f"witness w {W1}\ngroup g any\nquorum g\n", 2),
        (f"witness w {W1}\ngroup g any w w\nquorum g\n", 2),
        (f"witness w {W1}\ngroup g any w\ngroup h any w\nquorum g\n", 3),
        (f"witness w {W1}\ngroup g any g\nquorum g\n", 2),
        ("group g any none\nquorum none\n", 1),
        ("quorum none\r\n", 1),
        ("Log x\nquorum none\n", 1),
        ("quorum\n", 1),
        ("# linetally-root\nquorum none\n", 1),
        (f"#linetally-root {W1}\nquorum none\n", 1),
    ],
)
def test_errors_name_file_line_and_mend(text: str, line: int | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        policy.parse(text.encode(), "trust.policy")
    assert caught.value.line == line
    assert "trust.policy" in str(caught.value)
    assert caught.value.mend


def test_names_are_octets() -> None:
    # "the name 0x4B (ASCII "K") is different from the name 0xE2 0x84 0xAA (a Kelvin sign encoded using UTF-8)".
    text = f"witness K {W1}\nwitness ".encode() + b"\xe2\x84\xaa" + f" {W2}\nquorum ".encode() + b"\xe2\x84\xaa\n"
    assert policy.parse(text).quorum == "\u212a"
    raw = b"witness \xff " + str(W1).encode() + b"\nquorum \xff\n"
    assert policy.parse(policy.format(policy.parse(raw))) == policy.parse(raw)


def test_at_least_32_of_each() -> None:
    lines = [f"log {SignerKey(f'log{n}', Algorithm.ED25519, bytes([n] * 32)).verifier}" for n in range(40)]
    for n in range(40):
        key = SignerKey(f"w{n}", Algorithm.COSIGNATURE, bytes([100 + n] * 32)).verifier
        lines += [f"witness w{n} {key}", f"group g{n} all w{n}" + (f" g{n - 1}" if n else "")]
    assert len(policy.parse("\n".join([*lines, "quorum g39", ""]).encode()).groups) == 40


@given(st.binary(max_size=200))
def test_any_bytes_are_a_policy_or_a_configuration_error(data: bytes) -> None:
    for candidate in (data, data + b"\nquorum none\n", b"witness \xff " + data + b"\n"):
        try:
            parsed = policy.parse(candidate)
        except ConfigurationError:
            continue
        assert policy.parse(policy.format(parsed)) == parsed


def test_a_revocation_is_read_exactly_or_refused() -> None:
    """Its own check: who copies a wrong letter must not end up with a policy that revokes nobody."""
    ended = Revoked(Kid(bytes(range(8))), 4711)
    whole = replace(parse(PLAIN), revoked=(ended, Revoked(Kid(bytes(8)), 0)))
    assert parse(format(whole)) == whole
    line = f"# linetally-revoked {ended}"
    for wrong in (
        line[:-1], line + "0", line.replace("+4711+", "+4712+"), line.replace("0001", "0002"), line + " and more",
        line.replace("linetally-revoked", "linetally-revoke"), line.replace(" ", ""), "# linetally-revoked",
        line.replace("+4711+", "+04711+"), f"# nothing to see: {ended}",
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match="revocation"):
            parse(PLAIN + wrong.encode() + b"\n")

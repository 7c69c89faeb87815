"""The keys of an OPC UA source and its tags: what they become, and how a mistake is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.__main__ import main
from agent.config import AgentConfiguration, load
from agent.config_opcua import OpcuaSource, OpcuaTag, endpoint_of
from protocols.errors import ConfigurationError
from protocols.plc.roles import SignalRole
from tests.agent import factory

STATE = 'state = { path = "filling/Status/StateCurrent", namespace = "urn:linetally:simulator" }'
MACHINERY = "http://opcfoundation.org/UA/Machinery/"


def loaded(folder: Path, *, source: str = "", state: str = STATE, more: str = "") -> AgentConfiguration:
    text = (
        factory.opcua()
        .replace(STATE, state)
        .replace("sampling_interval_ms = 0\n", f"sampling_interval_ms = 0\n{source}\n")
    )
    return load(factory.write(folder, text + more))


def source_of(folder: Path, source: str) -> OpcuaSource:
    found = loaded(folder, source=source).lines[0].source
    assert isinstance(found, OpcuaSource)
    return found


def tag_of(folder: Path, state: str) -> OpcuaTag:
    (found,) = [tag for tag in loaded(folder, state=state).lines[0].tags if tag.role is SignalRole.STATE]
    assert isinstance(found, OpcuaTag)
    return found


@pytest.mark.parametrize(
    ("endpoint", "source", "said", "warned"),
    [
        ("192.168.0.10", "", "security policy None, neither signed nor encrypted", "read unprotected"),
        ("127.0.0.1", "", "security policy None, neither signed nor encrypted, on this machine", ""),
        ("192.168.0.10", 'security_policy = "Basic256Sha256"', "mode SignAndEncrypt: signed and encrypted", ""),
        (
            "127.0.0.1", 'security_policy = "Basic256"\nsecurity_mode = "Sign"',
            "security policy Basic256, mode Sign: signed, not encrypted", "deprecated (SHA-1)",
        ),
    ],
)  # fmt: skip
def test_check_says_how_each_endpoint_is_protected(
    endpoint: str, source: str, said: str, warned: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = factory.opcua(f"opc.tcp://{endpoint}:4840").replace("sampling_interval_ms = 0\n", f"{source}\n")
    assert main(["check", "--config", str(factory.write(tmp_path, text, factory.modbus()))]) == 0
    shown = capsys.readouterr().out
    assert f"  opc.tcp://{endpoint}:4840: security policy " in shown and f"{said}\n" in shown
    assert shown.count("warning: ") == bool(warned) and warned in shown
    assert shown.count("security policy") == 1, "Modbus has none"


def test_security_login_and_polling(tmp_path: Path) -> None:
    plain = source_of(tmp_path, "")
    assert (plain.policy, plain.mode, plain.poll, plain.wait_ms) == ("None", "None", False, 50)
    secured = source_of(
        tmp_path,
        'security_policy = "Aes256Sha256RsaPss"\nusername = "agent"\npassword_file = "word"\n'
        'read_by = "polling"\npoll_interval_ms = 200\ntimeout_ms = 900',
    )
    assert (secured.policy, secured.mode) == ("Aes256Sha256RsaPss", "SignAndEncrypt")  # never less unless it is said
    assert secured.password_file == tmp_path / "word"
    assert (secured.poll, secured.wait_ms, secured.timeout_ms) == (True, 200, 900)
    signed = source_of(tmp_path, 'security_policy = "Basic256Sha256"\nsecurity_mode = "Sign"')
    assert (signed.policy, signed.mode) == ("Basic256Sha256", "Sign")
    user = source_of(tmp_path, 'user_certificate = "u.der"\nuser_key = "u.key"')
    assert (user.user_certificate, user.user_key) == (tmp_path / "u.der", tmp_path / "u.key")


def test_a_path_through_several_namespaces(tmp_path: Path) -> None:
    tag = tag_of(
        tmp_path,
        f'state = {{ path = "1:Machines/2:Mixer/1:MachineryItemState/0:CurrentState", namespace = ["{MACHINERY}", '
        '"urn:maker"], texts = { Executing = 6, NotExecuting = 2 } }',
    )
    assert tag.names == (
        (MACHINERY, "Machines"), ("urn:maker", "Mixer"), (MACHINERY, "MachineryItemState"), ("", "CurrentState"),
    )  # fmt: skip
    assert dict(tag.texts) == {"Executing": 6, "NotExecuting": 2}
    assert tag.words.endswith("(Executing = 6, NotExecuting = 2)")  # what it means is logged with it


def test_one_namespace_needs_no_numbers(tmp_path: Path) -> None:
    assert tag_of(tmp_path, STATE).names[0] == ("urn:linetally:simulator", "filling")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('security_policy = "Basic256sha256"', 'did you mean "Basic256Sha256"'),
        ('security_mode = "Sign"', "has no use without a policy"),
        ('password_file = "word"', "a password needs a user name"),
        ('password = "secret"', "unknown key"),
        ('user_certificate = "u.der"', "give both user_certificate and user_key"),
        ('username = "a"\nuser_certificate = "u.der"\nuser_key = "u.key"', "two ways to log in"),
        ('read_by = "magic"', "one of: subscription, polling"),
    ],
)
def test_a_wrong_source_is_said(tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        loaded(tmp_path, source=source)
    assert words in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ('state = { path = "a/b", namespace = ["urn:a", "urn:b"] }', 'the namespace of "a" is not told'),
        ('state = { path = "3:a", namespace = ["urn:a", "urn:b"] }', 'the namespace of "3:a" is not told'),
        ('state = { path = "a" }', "namespace: is missing"),
        ('state = { node = "ns=4;s=x" }', "is not a lasting node id"),
        ('state = { path = "a", namespace = "urn:a", texts = { Running = "yes" } }', "is not a whole number"),
    ],
)
def test_a_wrong_tag_is_said(tmp_path: Path, state: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        loaded(tmp_path, state=state)
    assert words in str(error.value)


def test_a_counter_has_no_deadband(tmp_path: Path) -> None:
    text = factory.opcua().replace("modulus = 2147483648", "modulus = 2147483648\ndeadband = 2", 1)
    with pytest.raises(ConfigurationError, match="each piece counts"):
        load(factory.write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("opc.tcp://10.0.0.1", "opc.tcp://10.0.0.1:4840"), ("opc.tcp://plc/UA/S", "opc.tcp://plc:4840/UA/S"),
        ("opc.tcp://[fe80::1]:4841/", "opc.tcp://[fe80::1]:4841/"), ("opc.tcp://[::1]", "opc.tcp://[::1]:4840"),
        ("opc.tcp://10.0.0.1:99999", None), ("opc.tcp://10.0.0.1:0", None), ("opc.tcp://me:word@10.0.0.1", None),
        ("10.0.0.1:4840", None), ("opc.tcp://", None), ("https://10.0.0.1:4840", None), ("opc.tcp://a b", None),
    ],
)  # fmt: skip
def test_an_address_has_a_port_or_the_usual_one(text: str, endpoint: str | None) -> None:
    assert endpoint_of(text) == endpoint

"""deploy/key-ceremony.md, step by step, with the real commands: the hub works without ever having the root key."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

from hub import enrolment
from hub.clock import now_ms
from hub.database import open_database
from protocols.evidence.policy import parse
from protocols.evidence.rotation import rotation, rotation_to_json
from tests.support.commands import command, json_of
from tests.support.evidence import GATEWAY, GATEWAY_KEY, private_key
from tests.support.hub import enrolment_request

ORIGIN = "hub.example.org/linetally"
TEXT = (Path(__file__).parents[2] / "deploy" / "key-ceremony.md").read_text("utf-8")


def test_every_step(tmp_path: Path) -> None:
    hub, offline, safe = tmp_path / "hub.toml", tmp_path / "ceremony", tmp_path / "safe"
    # 1
    made = json_of(
        "linetally-hub", "init", "--config", offline / "hub.toml", "--origin", ORIGIN, "--root-key", safe / "root.key"
    )
    assert stat.S_IMODE((safe / "root.key").stat().st_mode) == 0o600
    stick = tmp_path / "stick.key"
    shutil.copy2(safe / "root.key", stick)
    shutil.rmtree(offline)
    shutil.rmtree(safe)
    # 2
    vkey = made["root_vkey"]
    command("linetally-hub", "init", "--config", hub, "--origin", ORIGIN, "--root-vkey", vkey)
    assert not list(tmp_path.glob("**/root.key")), "the hub never had it"
    assert stat.S_IMODE((tmp_path / "data" / "log.key").stat().st_mode) == 0o600
    # 3
    command("linetally-hub", "policy", "--config", hub, "--output", tmp_path / "policy.txt")
    assert [str(key) for key in parse((tmp_path / "policy.txt").read_bytes()).root_keys] == [vkey]
    # 4
    for words in (
        ("enterprise", "add", "acme", "--name", "Acme"),
        ("project", "add", "P-7", "--scheme", "manufacturing-plus", "--enterprise", "acme", "--title", "Upgrade"),
        ("line", "add", "filling", "--enterprise", "acme", "--project", "P-7", "--name", "Filling"),
    ):
        command("linetally-hub", *words, "--config", hub)
    token = json_of("linetally-hub", "gateway", "token", "P-7", "--config", hub)["token"]
    engine = open_database(f"sqlite:///{tmp_path / 'data' / 'hub.sqlite'}")
    shown = enrolment.enrol(engine, enrolment_request(token), now_ms()).fingerprint
    engine.dispose()
    signing = ("--config", hub, "--root-key", stick)
    stick.chmod(0o644)
    command("linetally-hub", "gateway", "approve", GATEWAY, *signing, ok=False)
    stick.chmod(0o600)
    command("linetally-hub", "gateway", "approve", GATEWAY, *signing, "--fingerprint", "00" * 16, ok=False)
    command("linetally-hub", "gateway", "approve", GATEWAY, *signing, "--fingerprint", shown)
    request = tmp_path / "request"
    request.write_bytes(rotation_to_json(rotation(GATEWAY, GATEWAY_KEY, private_key("new"))))
    rotated = json_of("linetally-hub", "gateway", "rotate", "--request", request, *signing)
    assert rotated["leaf_index"] == 1
    command("linetally-hub", "gateway", "rotate", "--request", request, *signing, ok=False)
    command("linetally-hub", "gateway", "revoke", GATEWAY, "--reason", "stolen", *signing)
    assert "gateway rotate" in TEXT and "--root-vkey" in TEXT

"""What deploy/ gives is well formed, as far as a machine without Docker can tell."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from agent.keys import KEY_FILE, NEXT_KEY_FILE
from hub.config import Access, load_config

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    """Verified with a program that this machine has; any other complaint fails."""
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("name", ["linetally-agent", "linetally-operator"])
def test_a_gateways_unit_is_exposed_little(name: str) -> None:
    """By systemd's own measure, from 0 to 10 (here in tenths)."""
    unit = DEPLOY / "systemd" / f"{name}.service"
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_as_its_own_user_with_few_rights(unit: Path) -> None:
    text = unit.read_text()
    name = unit.stem
    user = "linetally-agent" if name == "linetally-operator" else name  # the spool is the agent's
    assert f"\nUser={user}\n" in text
    assert f"\nu {user} " in (DEPLOY / "systemd" / "linetally.sysusers.conf").read_text()
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "PrivateDevices=yes"):
        assert f"\n{line}\n" in text
    feeds = name == "linetally-agent"  # the hub feeds no watchdog
    assert ("\nType=notify\n" in text) is ("\nWatchdogSec=" in text) is feeds


def test_the_operators_page_cannot_read_the_key_that_signs() -> None:
    """It is the agent's user, for the spool's sake; what the agent names its keys is named here too."""
    text = (DEPLOY / "systemd" / "linetally-operator.service").read_text()
    for name in (KEY_FILE, NEXT_KEY_FILE):
        assert f"\nInaccessiblePaths=-/var/lib/linetally-agent/{name}\n" in text
    agent = (DEPLOY / "systemd" / "linetally-agent.service").read_text()
    protections = {
        line for line in agent.splitlines() if re.match("Protect|Private|Restrict(?!Address)|Lock|NoNew|Cap", line)
    }
    assert len(protections) > 12 and protections <= set(text.splitlines()), "as hard as the agent's"


def test_the_hub_reads_the_configuration_of_the_compose_file() -> None:
    config = load_config(DEPLOY / "compose" / "hub.toml")
    assert config.server.access is Access.TOKEN
    assert (config.broker.host, config.broker.port, config.broker.embedded) == ("mosquitto", 8883, False)
    assert config.influx is not None
    compose = (DEPLOY / "compose.yaml").read_text()
    assert f"{config.influx.token_file}".removeprefix("/run/secrets/") in compose
    assert f"hub-data:{config.data}\n" in compose
    assert config.broker.ca_file == Path("/etc/linetally/certificates/ca.crt")


def test_what_the_compose_file_mounts_is_there() -> None:
    compose = (DEPLOY / "compose.yaml").read_text()
    mounted = re.findall(r"- \./([\w./-]+):", compose)
    own = [path for path in mounted if not path.startswith("certificates/")]
    assert own
    for path in own:
        assert (DEPLOY / path).exists(), path
    assert "grafana/dashboards:/etc/grafana/dashboards" in compose
    assert not re.search(r"(?i)(password|token): +[^$\s]", compose), "a secret stands in the file"


@pytest.mark.skipif(importlib.util.find_spec("yaml") is None, reason="no YAML library is installed")
def test_the_yaml_files_parse() -> None:
    import yaml  # type: ignore[import-untyped]

    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert set(compose["services"]) == {"mosquitto", "influxdb", "grafana", "hub"}
    for path in (DEPLOY / "grafana" / "provisioning").rglob("*.yaml"):
        assert yaml.safe_load(path.read_text())["apiVersion"] == 1

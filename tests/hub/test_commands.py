"""The commands: a hub is made, filled and trusted with them; what goes wrong is said with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub import database as db
from hub import enrolment
from hub.__main__ import main
from hub.clock import now_ms
from hub.database import open_database
from hub.projections.index import Index
from hub.registry import GatewayState, Registry
from protocols.evidence.policy import Trust
from protocols.measurement.plan import Plan
from tests.support.evidence import GATEWAY
from tests.support.hub import enrolment_request, table_rows

PLAN = """
baseline = [2026-03-02, 2026-03-30]
commissioning = [2026-03-30, 2026-04-13T08:00:00]
reporting = [2026-04-13T08:00:00, 2026-07-06]
minimum_effect_permille = 50
[ideal_cycles_s]
"Cola 330 ml" = 0.42
"蘋果汁" = 1
"""


@pytest.fixture
def config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A hub with a project and a line."""
    path = tmp_path / "hub.toml"
    for words in (
        "init --origin log.test/hub",
        "enterprise add acme --name Acme",
        "project add P-7 --scheme manufacturing-plus --enterprise acme --title Upgrade --grant 250000 "
        "--milestone Robot=2026-09-01",
        "line add filling --enterprise acme --project P-7 --name Filling",
    ):
        assert main([*words.split(), "--config", str(path)]) == 0
    capsys.readouterr()
    return path


def _json(capsys: pytest.CaptureFixture[str], config: Path, words: str, code: int = 0) -> dict[str, object]:
    assert main([*words.split(), "--json", "--config", str(config)]) == code
    said = capsys.readouterr()
    return json.loads(said.err if code else said.out)  # type: ignore[no-any-return]


def _enrol(config: Path, token: str) -> None:
    engine = open_database(f"sqlite:///{config.parent / 'data' / 'hub.sqlite'}")
    enrolment.enrol(engine, enrolment_request(token), now_ms())
    engine.dispose()


def test_init_again_changes_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = (config.parent / "data" / "log.key").read_bytes()
    answer = _json(capsys, config, "init --origin log.test/hub")
    assert answer["made"] == []
    assert (config.parent / "data" / "log.key").read_bytes() == key
    assert (config.parent / "data" / "log.key").stat().st_mode & 0o777 == 0o600
    assert (config.parent / "root.key").stat().st_mode & 0o777 == 0o600


def test_a_gateway_from_token_to_revocation(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = _json(capsys, config, "gateway token P-7")["token"]
    _enrol(config, str(token))
    (row,) = _json(capsys, config, "gateway list")
    assert row["state"] == "pending"  # type: ignore[index]
    assert _json(capsys, config, f"gateway approve {GATEWAY} --fingerprint 0000", 1)["error"] == "other-key"
    assert _json(capsys, config, f"gateway approve {GATEWAY}")["leaf_index"] == 0
    assert _json(capsys, config, f"gateway approve {GATEWAY}", 1)["error"] == "not-pending"
    revoked = _json(capsys, config, f"gateway revoke {GATEWAY} --reason stolen")
    assert (revoked["leaf_index"], revoked["first_invalid_index"]) == (1, 1)
    engine = open_database(f"sqlite:///{config.parent / 'data' / 'hub.sqlite'}")
    gateway = Registry(engine).gateway(GATEWAY)
    before = table_rows(engine, db.PROJECTIONS)
    assert gateway is not None and gateway.state is GatewayState.REVOKED
    assert _json(capsys, config, "rebuild") == {"entries": 2}
    assert table_rows(engine, db.PROJECTIONS) == before
    engine.dispose()


def test_a_plan_is_registered_to_the_nanosecond(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config.parent / "plan.toml"
    file.write_text(PLAN)
    simulated = "--simulated-time 2026-02-01T00:00:00Z"
    assert _json(capsys, config, f"plan P-7 --file {file} {simulated}")["leaf_index"] == 0
    engine = open_database(f"sqlite:///{config.parent / 'data' / 'hub.sqlite'}")
    (indexed,) = Index(engine).plans("P-7")
    (record,) = Index(engine).records()
    engine.dispose()
    plan = Plan.from_data(indexed.data)
    assert plan.ideal_cycles_ns == {"Cola 330 ml": 420_000_000, "蘋果汁": 1_000_000_000}
    assert plan.line_ids == ("filling",) and plan.title == "Upgrade" and plan.timezone == "Asia/Hong_Kong"
    assert plan.baseline.from_ms == 1_772_380_800_000  # 2026-03-02 00:00 in Hong Kong
    assert plan.reporting.from_ms == 1_776_038_400_000  # 2026-04-13 08:00 in Hong Kong
    assert record.start_ms == 1_769_904_000_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[2026-03-02,", '["2026-03-02",'), "without quotes"),
        (("0.42", "0.0000000001"), "nine decimals"),
        (("0.42", "-1"), "above 0"),
        (("minimum_effect_permille", "minimum"), "minimum: this key is not known"),
        (("= 50", '= "50"'), "whole number"),
        (("2026-07-06", "2026-01-06"), "before it starts"),
        (("\nbaseline", '\nlines = ["mixing"]\nbaseline'), "lines of this project"),
        (("\nbaseline", '\ntimezone = "Mars"\nbaseline'), "no time zone"),
        (("\nbaseline", '\ndefinition = "mine"\nbaseline'), "not known"),
        (("\nbaseline", '\nswitches = { setup = "performance" }\nbaseline'), "setup is one of availability, excluded"),
        (("\nbaseline", '\nswitches = { set_up = "excluded" }\nbaseline'), "switches are of"),
        (("[ideal_cycles_s]", "["), "not TOML"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_words(
    config: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], words: str
) -> None:
    file = config.parent / "plan.toml"
    file.write_text(PLAN.replace(*change))
    answer = _json(capsys, config, f"plan P-7 --file {file}", 2)
    assert words in str(answer["words"]) and str(file) in str(answer["words"])


def test_the_policy_is_what_verifiers_read(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config.parent / "policy.txt"
    _json(capsys, config, f"policy --output {file}")
    trust = Trust.parse(file.read_bytes())
    assert [key.name for key in trust.policy.logs] == ["log.test/hub"]
    assert [key.name for key in trust.root_keys] == ["log.test/hub/root"]


def test_a_root_key_that_the_hub_does_not_know_signs_nothing(
    config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from hub.root import make_key

    make_key(tmp_path / "other.key", "other")
    _enrol(config, str(_json(capsys, config, "gateway token P-7")["token"]))
    answer = _json(capsys, config, f"gateway approve {GATEWAY} --root-key {tmp_path / 'other.key'}", 1)
    assert answer["error"] == "unknown-root"
    assert "PRIVATE" not in str(answer)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("project add P-8 --scheme nowhere --enterprise acme --title T", 1, "there are: manufacturing-plus"),
        ("line add l --enterprise acme --name L --timezone Mars", 1, "Asia/Hong_Kong"),
        ("line add l --enterprise acme --name L --area Hall", 1, "name the site too"),
        ("line place filling", 1, "--site, --area and --part-of"),
        ("line place nowhere --site X", 1, "no line 'nowhere'"),
        ("gateway token P-9", 1, "no project"),
        ("gateway approve nobody", 1, "none yet"),
        ("plan P-7 --file nowhere.toml", 2, "cannot be read"),
        ("gateway approve x --root-key nowhere.key", 1, "no gateway"),
    ],
)
def test_errors_say_what_to_do(
    config: Path, capsys: pytest.CaptureFixture[str], words: str, code: int, said: str
) -> None:
    assert main([*words.split(), "--config", str(config)]) == code
    assert said in capsys.readouterr().err


def test_an_open_key_file_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "data" / "log.key").chmod(0o644)
    assert "chmod 600" in str(_json(capsys, config, "fsck", 2)["words"])


def test_without_a_hub_the_mend_is_init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hub.toml").write_text("")
    assert "linetally-hub init" in str(_json(capsys, tmp_path / "hub.toml", "line list", 2)["words"])
    assert not (tmp_path / "data").exists()


def test_fsck_names_what_is_wrong(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config.parent / "plan.toml"
    file.write_text(PLAN)
    _json(capsys, config, f"plan P-7 --file {file}")
    assert _json(capsys, config, "fsck") == {"sound": True, "checked": 1}
    (bundle,) = (config.parent / "data" / "log" / "tile" / "entries" / "000.p").iterdir()
    data = bytearray(bundle.read_bytes())
    data[100] ^= 1
    bundle.write_bytes(data)
    # Damage at the log's end is seen when it is opened, before anything is appended to it.
    assert main(["fsck", "--config", str(config)]) == 1
    said = capsys.readouterr()
    assert "tile/entries" in said.out + said.err


def test_a_line_is_placed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _json(capsys, config, "line add capper --enterprise acme --name Capper --site Tai-Po --part-of filling")
    placed = _json(capsys, config, "line place filling --site Tai-Po --area Hall-2")
    assert placed == {"id": "filling", "site": "Tai-Po", "area": "Hall-2", "part_of": None}
    assert main(["line", "place", "capper", "--area", "Hall-2", "--config", str(config)]) == 0
    assert capsys.readouterr().out.strip() == "capper: Tai-Po, Hall-2; a machine of filling"


def test_an_api_token_is_shown_once(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "--role", "operator", "--label", "ops", "--config", str(config)]) == 0
    assert capsys.readouterr().out.startswith("lt_")


@pytest.mark.parametrize("words", [[], ["gateway"], ["project", "add"], ["serve"], ["plan"], ["policy"], ["init"]])
def test_help_teaches(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*words, "--help"])
    assert caught.value.code == 0
    assert "usage: linetally-hub" in capsys.readouterr().out

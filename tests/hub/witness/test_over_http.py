"""A real log and two real witness processes over HTTP: cosigned, split view caught, quorum demanded offline."""

from __future__ import annotations

import io
import json
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hub.__main__ import main
from hub.config import WitnessConfig, load_config
from hub.cosigning import COSIGNED, CosignedLog, Cosigner
from hub.log.sequencer import Log
from hub.report.reading import FolderLog
from protocols.evidence import checkpoint, note
from protocols.evidence.note import VerifierKey
from protocols.evidence.policy import Policy, Trust, format, parse, with_quorum
from protocols.evidence.verdict import Step
from protocols.evidence.verify import verify
from tests.support.bundle import LOG, POLICY, Site, sample_bundle
from tests.support.commands import Cast, command, json_of


@dataclass
class Pair:
    """Two running witnesses, as the hub's configuration names them."""

    cast: Cast
    configs: tuple[WitnessConfig, WitnessConfig]


@pytest.fixture
def pair(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Pair]:
    configs = []
    with Cast(tmp_path) as cast:
        for name in ("w1", "w2"):
            folder, port = tmp_path / name, free_port()
            made = json_of(
                "linetally-hub", "witness", "init", "--folder", folder, "--name", f"witness.test/{name}", "--log",
                LOG.verifier,
            )  # fmt: skip
            cast.start(name, "linetally-hub", "witness", "serve", "--folder", folder, "--listen", f"127.0.0.1:{port}")
            configs.append(WitnessConfig(name, f"http://127.0.0.1:{port}", made["vkey"]))
        for config in configs:
            cast.until(lambda url=config.url: _is_there(url), "the witness answers")  # type: ignore[misc]
        yield Pair(cast, (configs[0], configs[1]))


def _is_there(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


def keys(pair: Pair) -> list[VerifierKey]:
    return [VerifierKey.parse(config.vkey) for config in pair.configs]


def test_a_growing_log_is_cosigned_by_both_and_published(tmp_path: Path, pair: Pair) -> None:
    with Log.create(tmp_path / "log", LOG.name, LOG) as log:
        cosigner = Cosigner(log, log.folder, pair.configs, 2)
        published = CosignedLog(log, cosigner)
        assert published.checkpoint() == log.checkpoint()
        for i in range(3):
            log.append([f"entry {i} {j}".encode() for j in range(100 * i + 1)])
            assert cosigner.collect()
            opened = note.open_note(published.checkpoint(), LOG.verifier, *keys(pair))
            assert set(opened.verified) == {LOG.verifier, *keys(pair)}
            assert checkpoint.parse(opened.text).size == log.size
            assert abs(checkpoint.cosigned_at(published.checkpoint(), keys(pair)[0]) - time.time()) < 60
        assert cosigner.alarms == []
        log.append([b"more"])
        assert checkpoint.parse(note.parse(published.checkpoint()).text).size == log.size - 1, "until it is cosigned"
        # The next process, and a report beside it, find what was published.
        assert Cosigner(log, log.folder, pair.configs, 2).checkpoint() == published.checkpoint()
        assert FolderLog(log.folder).checkpoint() == published.checkpoint()
        # A hub that has forgotten what it showed is told the size, and goes on.
        assert Cosigner(log, log.folder, pair.configs, 2).collect()


def test_the_thread_cosigns_and_a_witness_that_is_away_delays_nothing(tmp_path: Path, pair: Pair) -> None:
    with Log.create(tmp_path / "log", LOG.name, LOG) as log:
        one_of_two = Cosigner(log, log.folder, pair.configs, 1)
        pair.cast.kill("w2")
        one_of_two.start()
        try:
            log.append([b"entry"])
            pair.cast.until(lambda: b"\n1\n" in (one_of_two.checkpoint() or b""), "cosigned by the other", timeout_s=20)
            assert one_of_two.alarms == [], "one is enough here"
        finally:
            one_of_two.stop()
        both = Cosigner(log, log.folder, pair.configs, 2)
        before = (log.folder / COSIGNED).read_bytes()
        assert not both.collect()
        assert (log.folder / COSIGNED).read_bytes() == before
        assert "Too few witnesses" in both.alarms[0] and "w2" in both.alarms[0]


def test_a_witness_that_hangs_is_left_after_a_bounded_time(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.cosigning.TIMEOUT_S", 0.3)
    with socket.socket() as silent, Log.create(tmp_path / "log", LOG.name, LOG) as log:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hanging = replace(pair.configs[1], url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        cosigner = Cosigner(log, log.folder, (pair.configs[0], hanging), 1)
        began = time.monotonic()
        assert cosigner.collect()
        assert time.monotonic() - began < 5


def test_a_split_view_to_two_witnesses_is_caught(tmp_path: Path, pair: Pair) -> None:
    """The operator runs two histories under one key and shows one to each witness."""
    with Log.create(tmp_path / "a", LOG.name, LOG) as log:
        log.append([b"what happened"])
        assert Cosigner(log, log.folder, pair.configs, 2).collect()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with Log.open(tmp_path / "a", LOG) as honest, Log.open(tmp_path / "b", LOG) as other:
        honest.append([b"bad news"])
        other.append([b"good news"])
        assert Cosigner(honest, honest.folder, pair.configs[:1], 1).collect()
        assert Cosigner(other, other.folder, pair.configs[1:], 1).collect()
        # Neither history can get both: the quorum of two is out of reach for ever, and each witness tells why.
        for log in (honest, other):
            cosigner = Cosigner(log, log.folder, pair.configs, 2)
            assert not cosigner.collect()
            log.append([b"on and on"])
            assert not cosigner.collect()
            assert any("two histories" in words for words in cosigner.alarms)
        evidence = [path for name in ("w1", "w2") for path in (tmp_path / name / "evidence").iterdir()]
        assert evidence, "the witnesses kept both notes"


def test_a_log_restored_from_a_backup_is_told_by_the_witness(tmp_path: Path, pair: Pair) -> None:
    with Log.create(tmp_path / "log", LOG.name, LOG) as log:
        log.append([b"one"])
    shutil.copytree(tmp_path / "log", tmp_path / "backup")
    with Log.open(tmp_path / "log", LOG) as log:
        log.append([b"two", b"three"])
        assert Cosigner(log, log.folder, pair.configs, 2).collect()
    with Log.open(tmp_path / "backup", LOG) as log:
        cosigner = Cosigner(log, log.folder, pair.configs, 2)
        assert not cosigner.collect()
        assert "has cosigned 3 entries of this log, which has 1: an old backup" in cosigner.alarms[0]


def test_without_the_quorum_a_bundle_does_not_verify(tmp_path: Path, pair: Pair) -> None:
    site = Site.ordinary()
    parts = site.parts()
    with Log.create(tmp_path / "log", LOG.name, LOG) as log:
        log.append([record.raw for record in (*site.root_chain(), *site.chain())])
        assert log.checkpoint() == parts.checkpoint
        first = Cosigner(log, log.folder, pair.configs[:1], 1)
        assert first.collect()
        one = first.checkpoint()
        both = Cosigner(log, log.folder, pair.configs, 2)
        assert both.collect()
        two = both.checkpoint()
    assert one is not None and two is not None
    whole = replace(POLICY, witnesses=tuple((c.name, VerifierKey.parse(c.vkey)) for c in pair.configs))
    demands_two = with_quorum(whole, 2)
    assert parse(format(demands_two)) == demands_two

    def verdict(checkpoint_note: bytes, policy: Policy) -> tuple[bool, str]:
        proofs = {key: text.replace(parts.checkpoint, checkpoint_note) for key, text in parts.proofs.items()}
        bundle = sample_bundle(replace(parts, checkpoint=checkpoint_note, proofs=proofs))
        found = verify(io.BytesIO(bundle), Trust(policy, policy.root_keys))
        assert found.ok or (found.first_failure is not None and found.first_failure.step is Step.LOG)
        return found.ok, "" if found.first_failure is None else found.first_failure.words

    assert verdict(two, demands_two) == (True, "")
    assert verdict(one, with_quorum(whole, 1)) == (True, "")
    ok, words = verdict(one, demands_two)
    assert not ok and "lacks the quorum" in words and "1 of 2 witnesses cosigned it" in words
    ok, words = verdict(parts.checkpoint, demands_two)
    assert not ok and "0 of 2 witnesses" in words


def test_the_policy_names_the_witnesses_with_their_urls(
    tmp_path: Path, pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "hub.toml"
    command("linetally-hub", "init", "--config", config, "--origin", "log.test/hub")
    tables = "".join(
        f'\n[[witness]]\nname = "{each.name}"\nurl = "{each.url}"\nvkey = "{each.vkey}"\n' for each in pair.configs
    )
    config.write_text(config.read_text() + tables)
    assert load_config(config).quorum == 2
    for words, threshold in (([], 2), (["--quorum", "1"], 1)):
        assert main(["policy", "--config", str(config), "--json", *words]) == 0
        found = parse(json.loads(capsys.readouterr().out)["policy"].encode())
        assert found.groups[0].threshold == threshold and found.groups[0].members == ("w1", "w2")
        assert [url for _, url in found.urls] == [each.url for each in pair.configs]
    assert main(["policy", "--config", str(config), "--quorum", "3"]) == 1
    assert "2 witnesses" in capsys.readouterr().err


def test_what_is_no_request_is_refused(pair: Pair) -> None:
    url = f"{pair.configs[0].url}/add-checkpoint"
    for method, body, status in (("GET", None, 405), ("POST", b"hello", 400), ("POST", b"x" * 100_000, 413)):
        request = urllib.request.Request(url, body, method=method)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        caught.value.close()
        assert caught.value.code == status

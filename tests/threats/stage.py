"""A hub in a folder with the story in its log, worked with the real commands; and the offline verifier's own."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from hub import verify as verify_command
from hub.__main__ import main
from hub.cosigning import COSIGNED
from hub.database import open_database
from hub.log.sequencer import Log
from protocols.evidence import bundle as bundles
from protocols.evidence import policy
from protocols.evidence.bundle import MANIFEST_FILE, BundleParts
from protocols.evidence.verdict import Step
from tests.threats.story import LOG, POLICY, PROJECT, ROOT, SCHEME, Journal, zipped


@dataclass(frozen=True)
class Hub:
    """A hub's folder, as `linetally-hub init` makes it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, journal: Journal) -> Hub:
        """The hub with all records of the journal logged and indexed, its newest checkpoint cosigned by two."""
        hub = cls(folder)
        key = folder / "data" / "log.key"
        key.parent.mkdir(parents=True)
        key.write_text(LOG.export() + "\n")
        key.chmod(0o600)
        hub.run("init", "--origin", LOG.name, "--root-vkey", str(ROOT.verifier))
        hub.run("enterprise", "add", "acme", "--name", "Acme Foods")
        hub.run("project", "add", PROJECT, "--scheme", SCHEME, "--enterprise", "acme", "--title", "A faster filler")
        for line_id in journal.plan.line_ids:
            hub.run("line", "add", line_id, "--enterprise", "acme", "--project", PROJECT, "--name", line_id.title())
        with Log.open(hub.log_folder, LOG) as log:
            for first in range(0, len(journal.records), 7):
                log.append([record.raw for record in journal.records[first : first + 7]])
        (hub.log_folder / COSIGNED).write_bytes(journal.note())
        hub.run("rebuild")
        return hub

    @property
    def log_folder(self) -> Path:
        return self.folder / "data" / "log"

    def run(self, *words: str, ok: bool = True) -> str:
        """What `linetally-hub` said; its exit code must be as expected."""
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            code = main([*words, "--config", str(self.folder / "hub.toml")])
        assert (code == 0) is ok, f"{words}: {code}: {out.getvalue()}"
        return out.getvalue()

    def database(self) -> Engine:
        return open_database(f"sqlite:///{self.folder / 'data' / 'hub.sqlite'}")

    def report(self, name: str = "outcome.zip") -> Path:
        """`linetally-hub report`."""
        path = self.folder / name
        self.run("report", PROJECT, "--out", str(path))
        return path


def verdict_of(bundle: Path | bytes | BundleParts, folder: Path, trusted: policy.Policy = POLICY) -> dict[str, Any]:
    """`linetally-verify --json` on a bundle with the scheme's policy file; its exit code must go with its word."""
    if isinstance(bundle, BundleParts):
        bundle = zipped(bundle)
    if isinstance(bundle, bytes):
        path = folder / "given.zip"
        path.write_bytes(bundle)
        bundle = path
    file = folder / "scheme.policy"
    file.write_bytes(policy.format(trusted))
    out = io.StringIO()
    with redirect_stdout(out):
        code = verify_command.main([str(bundle), "--policy", str(file), "--json"])
    verdict: dict[str, Any] = json.loads(out.getvalue())
    assert code == (0 if verdict["ok"] else 1)
    return verdict


def refused(bundle: Path | bytes | BundleParts, folder: Path, step: Step, words: str, **options: Any) -> dict[str, Any]:
    """The failure, which must be of this check and say this."""
    verdict = verdict_of(bundle, folder, **options)
    assert not verdict["ok"], "accepted"
    failure: dict[str, Any] = verdict["first_failure"]
    assert (failure["step"], words in failure["words"]) == (step.name, True), failure
    return failure


def accepted(bundle: Path | bytes | BundleParts, folder: Path) -> dict[str, Any]:
    verdict = verdict_of(bundle, folder)
    assert verdict["ok"], verdict["first_failure"]
    return verdict


def with_files(bundle: Path, changes: Mapping[str, bytes], *, manifest_too: bool) -> bytes:
    """The bundle with other contents of some files; `manifest_too`: with all checksums made right again."""
    with bundle.open("rb") as file:
        opened = bundles.read(file)
        contents: dict[str, Sequence[bytes]] = {
            name: [changes.get(name, opened.read(name))] for name in opened.members if name != MANIFEST_FILE
        }
        stale = opened.read(MANIFEST_FILE)
    out = io.BytesIO()
    bundles._write_archive(contents, out)
    data = out.getvalue()
    if not manifest_too:
        fresh = bundles.read(io.BytesIO(data)).read(MANIFEST_FILE)
        data = data.replace(fresh, stale) if len(fresh) == len(stale) else data
        assert fresh not in data
    return data

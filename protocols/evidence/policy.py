"""Whom to trust: c2sp.org/tlog-policy (known logs, witnesses, quorum) and the scheme's root key in the same file.

Decides the file's form and whether a checkpoint is valid under it. The root key stands in a comment line
`# linetally-root <vkey>`, which stock parsers ignore. URLs may stand there too; offline nothing reads them.

So do revocations, `# linetally-revoked <kid>+<first invalid index>+<check>`: they stand in the log as well, but whoever
makes a bundle could leave out what the root key signed last. The check is the beginning of the SHA-256 of what is
before it, so that a wrong letter does not revoke nobody without a word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from protocols.errors import ConfigurationError, Malformed, Refused, Unverified
from protocols.evidence import checkpoint, note
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.cose import Kid
from protocols.evidence.note import Algorithm, VerifierKey

ROOT_COMMENT: Final = "linetally-root"
REVOKED_COMMENT: Final = "linetally-revoked"
NO_QUORUM: Final = "none"
QUORUM_NAME: Final = "quorum"
"""The group that `with_quorum` makes."""
MAX_POLICY_BYTES: Final = 1_000_000
_REVOKED: Final = re.compile(r"([0-9a-f]{16})\+([0-9]{1,18})\+[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Group:
    """`group <name> <k> <member>...`: holds where at least `threshold` of its members cosigned."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """From log index `first_invalid_index` on, nothing that the gateway key `kid` signed counts."""

    kid: Kid
    first_invalid_index: int

    @classmethod
    def search(cls, text: str) -> Revoked | None:
        """The first one in a text whose check is right."""
        for match in _REVOKED.finditer(text):
            found = cls(Kid(bytes.fromhex(match[1])), int(match[2]))
            if str(found) == match[0]:
                return found
        return None

    def __str__(self) -> str:
        text = f"{self.kid.hex()}+{self.first_invalid_index}"
        return f"{text}+{sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy. Groups stand in the file's order, so that each refers only to what is before it.

    `urls`: of logs and witnesses, as the file gives them; nothing here opens them.
    """

    logs: tuple[VerifierKey, ...]
    witnesses: tuple[tuple[str, VerifierKey], ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NO_QUORUM
    root_keys: tuple[VerifierKey, ...] = ()
    urls: tuple[tuple[VerifierKey, str], ...] = ()
    revoked: tuple[Revoked, ...] = ()

    def accepts(self, checkpoint_note: bytes) -> Checkpoint:
        """The checkpoint, if one of the logs signed it and the quorum of witnesses cosigned it.

        Raises `Unverified` otherwise, also where any known key's signature is wrong; `Malformed` for broken bytes.
        """
        opened = note.open_note(checkpoint_note, *self.logs, *(key for _, key in self.witnesses))
        signed = [key for key in self.logs if key in opened.verified]
        if not signed:
            raise Unverified("the checkpoint is not signed by a log of the policy")
        for key in signed:  # after a rotation there may be two; each must name this origin
            found = checkpoint.of_log(opened, key)
        if self.quorum != NO_QUORUM:
            holds = {name for name, key in self.witnesses if key in opened.verified}
            present = len(holds)
            for group in self.groups:
                if sum(member in holds for member in group.members) >= group.threshold:
                    holds.add(group.name)
            if self.quorum not in holds:
                raise Unverified(
                    f"the checkpoint of size {found.size} lacks the quorum {self.quorum}: "
                    f"{present} of {len(self.witnesses)} witnesses cosigned it"
                )
        return found


def with_quorum(policy: Policy, threshold: int) -> Policy:
    """The policy that demands cosignatures of `threshold` of its witnesses. Raises Refused for more than there are."""
    if not 1 <= threshold <= len(policy.witnesses):
        raise Refused("bad-quorum", f"a quorum of {threshold} cannot be had from {len(policy.witnesses)} witnesses")
    group = Group(QUORUM_NAME, threshold, tuple(name for name, _ in policy.witnesses))
    return replace(policy, groups=(*policy.groups, group), quorum=QUORUM_NAME)


@dataclass(frozen=True, slots=True)
class Trust:
    """All that a verdict rests on: the log's policy, and the scheme's root keys that enrol gateways."""

    policy: Policy
    root_keys: tuple[VerifierKey, ...]

    @classmethod
    def parse(cls, data: bytes, file: str | None = None) -> Trust:
        """Raises `ConfigurationError` with the line and the mend, also where the root key is missing."""
        policy = parse(data, file)
        if not policy.root_keys:
            raise ConfigurationError(
                "the policy does not name the scheme's root key, so no gateway can be trusted",
                file=file,
                mend=f"add the line the scheme has published: # {ROOT_COMMENT} <vkey>",
            )
        return cls(policy, policy.root_keys)


def format(policy: Policy) -> bytes:
    """The policy as a file; `parse` gives it back."""
    urls = {key: f" {url}" for key, url in policy.urls}
    lines = [f"# {ROOT_COMMENT} {key}" for key in policy.root_keys]
    lines += [f"# {REVOKED_COMMENT} {each}" for each in policy.revoked]
    lines += [f"log {key}{urls.get(key, '')}" for key in policy.logs]
    lines += [f"witness {name} {key}{urls.get(key, '')}" for name, key in policy.witnesses]
    lines += [f"group {each.name} {each.threshold} {' '.join(each.members)}" for each in policy.groups]
    return "".join(line + "\n" for line in [*lines, f"quorum {policy.quorum}"]).encode("utf-8", "surrogateescape")


def parse(data: bytes, file: str | None = None) -> Policy:
    """Raises `ConfigurationError`, which names `file` and the line and says what to write instead."""
    if len(data) > MAX_POLICY_BYTES:
        raise ConfigurationError(f"a policy of {len(data)} bytes is over the limit", file=file)
    # Names are opaque octets to the specification; surrogateescape keeps each byte string one name.
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    if lines.pop():
        raise ConfigurationError(
            "the last line is not ended", file=file, line=len(lines) + 1, mend="end it with a newline"
        )
    parser = _Parser(file)
    for parser.line, text in enumerate(lines, 1):
        parser.take(text)
    if parser.quorum is None:
        raise ConfigurationError(
            "the policy has no quorum line", file=file, mend="write `quorum none` where no witness is required"
        )
    return Policy(
        tuple(parser.logs),
        tuple(parser.witnesses),
        tuple(parser.groups),
        parser.quorum,
        tuple(parser.root_keys),
        tuple(parser.urls),
        tuple(parser.revoked),
    )


class _Parser:
    """Takes a policy line by line; `line` is the number of the current one, from 1."""

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.line = 0
        self.logs: list[VerifierKey] = []
        self.witnesses: list[tuple[str, VerifierKey]] = []
        self.groups: list[Group] = []
        self.root_keys: list[VerifierKey] = []
        self.urls: list[tuple[VerifierKey, str]] = []
        self.revoked: list[Revoked] = []
        self.quorum: str | None = None
        self.names: set[str] = set()
        self.members: set[str] = set()

    def take(self, text: str) -> None:
        if any((c < " " and c != "\t") or c == "\x7f" for c in text):
            raise self.wrong("a control character", "only tab and newline are allowed")
        if text.lstrip(" \t").startswith("#"):
            words = text.lstrip(" \t")[1:].replace("\t", " ").split(" ")
            items = [word for word in words if word]
            if items and items[0] == ROOT_COMMENT:
                self.add_root(items[1:])
            # By its words or by its check: a wrong letter in one of them must not make it a mere comment.
            found = Revoked.search(text)
            if found is not None or REVOKED_COMMENT in text:
                self.add_revoked(items, found)
            return
        items = [word for word in text.replace("\t", " ").split(" ") if word]
        match items:
            case []:
                pass
            case ["log", vkey, *url] if len(url) <= 1:
                self.add_log(vkey)
                self.urls += [(self.logs[-1], each) for each in url]
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self.add_witness(name, vkey)
                self.urls += [(self.witnesses[-1][1], each) for each in url]
            case ["group", name, threshold, *members]:
                self.add_group(name, threshold, members)
            case ["quorum", name]:
                self.set_quorum(name)
            case [word, *_]:
                raise self.wrong(
                    f"a line that no policy has: {_shown(word)}",
                    "a line is `log <vkey> [<url>]`, `witness <name> <vkey> [<url>]`, "
                    "`group <name> all|any|<k> <name>...` or `quorum <name>|none`",
                )

    def wrong(self, what: str, mend: str) -> ConfigurationError:
        return ConfigurationError(what, file=self.file, line=self.line, mend=mend)

    def key(self, text: str, algorithm: Algorithm, owner: str, others: list[VerifierKey]) -> VerifierKey:
        try:
            key = VerifierKey.parse(text)
        except (Malformed, Refused) as error:
            raise self.wrong(
                f"the {owner}'s key cannot be used: {error}", "copy the vkey as it was published"
            ) from None
        if key.algorithm is not algorithm:
            raise self.wrong(
                f"a {owner}'s key has the type 0x{algorithm:02x}, this has 0x{key.algorithm:02x}",
                "a log and a root key are type 0x01 (its base64 begins with AQ to Af), a witness's 0x04 (BA to BP)",
            )
        # "Two vkeys are considered duplicate if they wrap the same underlying public key".
        if any(key.public == other.public for other in others):
            raise self.wrong(f"the {owner}'s key stands here twice", "remove one of the two lines")
        if any((key.name, key.key_id) == (other.name, other.key_id) for other in others):
            raise self.wrong(f"two keys of {key.name} share the id {key.key_id.hex()}", "rename one of them")
        return key

    def add_log(self, vkey: str) -> None:
        self.logs.append(self.key(vkey, Algorithm.ED25519, "log", self.logs))

    def add_root(self, items: list[str]) -> None:
        if len(items) != 1:
            raise self.wrong("the root key's line is not complete", f"write: # {ROOT_COMMENT} <vkey>")
        self.root_keys.append(self.key(items[0], Algorithm.ED25519, "root", self.root_keys))

    def add_revoked(self, items: list[str], found: Revoked | None) -> None:
        if found is None or items != [REVOKED_COMMENT, str(found)]:
            raise self.wrong(
                f"a revocation that cannot be read: {_shown(' '.join(items))}", "copy the line as it was published"
            )
        self.revoked.append(found)

    def add_witness(self, name: str, vkey: str) -> None:
        self.define(name)
        others = [key for _, key in self.witnesses]
        self.witnesses.append((name, self.key(vkey, Algorithm.COSIGNATURE, "witness", others)))

    def add_group(self, name: str, threshold: str, members: list[str]) -> None:
        if not members:
            raise self.wrong(f"the group {_shown(name)} has no members", "name at least one witness or group")
        for member in members:
            if member not in self.names:
                raise self.wrong(f"{_shown(member)} is not defined yet", "define witnesses and groups on lines before")
            if member in self.members:
                raise self.wrong(f"{_shown(member)} is a member twice", "each name may be in one group, once")
            self.members.add(member)
        if threshold == "any":
            k = 1
        elif threshold == "all":
            k = len(members)
        else:
            try:
                k = checkpoint.parse_decimal(threshold)
            except Malformed:
                k = 0
            if not 1 <= k <= len(members):
                raise self.wrong(
                    f"the group's threshold is {_shown(threshold)}", f"write all, any or 1 to {len(members)}"
                )
        self.define(name)
        self.groups.append(Group(name, k, tuple(members)))

    def set_quorum(self, name: str) -> None:
        if self.quorum is not None:
            raise self.wrong("a second quorum line", "a policy has exactly one")
        if name != NO_QUORUM and name not in self.names:
            raise self.wrong(f"the quorum {_shown(name)} is not defined yet", "name a witness or group defined before")
        self.quorum = name

    def define(self, name: str) -> None:
        if name == NO_QUORUM:
            raise self.wrong(f"the name {NO_QUORUM} is taken by the specification", "choose another name")
        if name in self.names:
            raise self.wrong(f"the name {_shown(name)} is defined twice", "choose another name")
        self.names.add(name)


def _shown(word: str) -> str:
    """A word of the file for an error, safe to print whatever octets it had."""
    return repr(word[:60].encode("utf-8", "surrogateescape").decode("utf-8", "replace"))

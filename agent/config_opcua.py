"""An OPC UA server as a line's source: where it is, how it is spoken to, and which nodes carry which role.

Decides the keys of `[line.source]` and of the tags for `protocol = "opcua"`. How they are read is decided in
`agent.sources`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.config_tags import HOW_LANES, ROLE_NAMES, counting, each_tag
from agent.toml_table import Table
from protocols.plc.roles import COUNTER_ROLES, ROLES, SignalRole

POLICIES: Final = (
    "None", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss", "Basic256", "Basic128Rsa15",
)  # fmt: skip
"""OPC UA Part 7; the last two are deprecated since 2018 (SHA-1) and warned of."""
DEPRECATED: Final = ("Basic256", "Basic128Rsa15")
MODES: Final = ("SignAndEncrypt", "Sign")
_ENDPOINT: Final = re.compile(r"opc\.tcp://([^\s/:@\[\]]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?(/\S*)?")
_PORT: Final = 4840
_NODE: Final = re.compile(r"(nsu=[^;]+|ns=0);[isgb]=.+|[isgb]=.+")


@dataclass(frozen=True, slots=True)
class OpcuaSource:
    """An OPC UA server. Intervals are the PLC's, in real milliseconds.

    `policy`: one of `POLICIES`; `mode`: one of `MODES`, or "None" with the policy "None". `user_certificate` and
    `user_key` are files, both or neither. `poll`: values are read each `poll_interval_ms` instead of subscribed.
    """

    endpoint: str
    publishing_interval_ms: int
    sampling_interval_ms: int
    queue_size: int
    username: str | None
    password_file: Path | None
    policy: str = "None"
    mode: str = "None"
    user_certificate: Path | None = None
    user_key: Path | None = None
    poll: bool = False
    poll_interval_ms: int = 1000
    timeout_ms: int = 5000

    @property
    def security_words(self) -> str:
        """How the endpoint is spoken to, for a person."""
        if self.policy == "None":
            return f"security policy None, neither signed nor encrypted{', on this machine' if self._is_here else ''}"
        how = "signed and encrypted" if self.mode == "SignAndEncrypt" else "signed, not encrypted"
        return f"security policy {self.policy}, mode {self.mode}: {how}"

    @property
    def security_warning(self) -> str:
        """What whoever configured it should know; "" for nothing."""
        if self.policy in DEPRECATED:
            return f"security_policy {self.policy} is deprecated (SHA-1); use Basic256Sha256 where the server can"
        if self.policy == "None" and not self._is_here:
            return (
                "this line is read unprotected: anybody on its network could change what is measured; see docs/opcua.md"
            )
        return ""

    @property
    def _is_here(self) -> bool:
        return urlsplit(self.endpoint).hostname in ("127.0.0.1", "::1", "localhost")

    @property
    def wait_ms(self) -> int:
        """How long a change may wait at the server before it is sent."""
        return self.poll_interval_ms if self.poll else self.publishing_interval_ms + self.sampling_interval_ms


@dataclass(frozen=True, slots=True)
class OpcuaTag:
    """A node: a browse path below Objects, or a node id with its namespace's URI in it.

    `namespace`: the URI of the path's names; one that begins with a number and a colon is of OPC UA's own namespace
    (0) or of the nth of `namespaces`. `deadband`: thousandths of the value's unit, 0 for none. `texts`: what a tag that
    speaks texts means.
    """

    role: SignalRole
    path: tuple[str, ...]
    namespace: str
    node: str
    modulus: int
    bcd: bool = False
    lane_column: int = -1  # of a counter's second lane and those after it
    namespaces: tuple[str, ...] = ()
    deadband: int = 0
    texts: tuple[tuple[str, int], ...] = ()

    @property
    def column(self) -> int:
        """Where its values go in a block."""
        return self.lane_column if self.lane_column >= 0 else int(self.role)

    @property
    def words(self) -> str:
        """Where it is, and what its texts mean: it is logged with the line's configuration."""
        where = self.node or "/".join(self.path) or "simulated"
        means = ", ".join(f"{text} = {number}" for text, number in self.texts)
        return f"{where} ({means})" if means else where

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """The path as (namespace's URI, name); the URI is empty for OPC UA's own names."""
        out = []
        for part in self.path:
            number, colon, name = part.partition(":")
            if not (colon and self.namespaces and number.isdecimal()):
                out.append((self.namespace, part))
            elif int(number) == 0:
                out.append(("", name))
            else:
                out.append((self.namespaces[int(number) - 1], name))
        return tuple(out)


def endpoint_of(text: str) -> str | None:
    """The address of a server with its port, IANA's for opc.tcp if it names none; None where it is no address."""
    found = _ENDPOINT.fullmatch(text)
    port = int(found[2][1:]) if found and found[2] else _PORT
    return f"opc.tcp://{found[1]}:{port}{found[3] or ''}" if found and 0 < port < 65_536 else None


def read_opcua_source(table: Table, folder: Path) -> OpcuaSource:
    """Raises ConfigurationError."""
    text = table.text("endpoint", example='"opc.tcp://192.168.0.10:4840"')
    endpoint = endpoint_of(text)
    if endpoint is None:
        raise table.wrong("endpoint", f'"{text}" is not one', 'write: endpoint = "opc.tcp://192.168.0.10:4840"')
    policy = table.choice("security_policy", POLICIES, "None")
    mode = table.choice("security_mode", MODES, MODES[0])
    if policy == "None" and "security_mode" in table:
        mend = 'add: security_policy = "Basic256Sha256", or leave both out'
        raise table.wrong("security_mode", "has no use without a policy", mend)
    username, password = table.optional_text("username"), table.optional_text("password_file")
    certificate, key = table.optional_text("user_certificate"), table.optional_text("user_key")
    if password and username is None:
        raise table.wrong("password_file", "a password needs a user name", 'add: username = "agent"')
    if (certificate is None) != (key is None):
        raise table.wrong("", "a user certificate needs its key", "give both user_certificate and user_key")
    if certificate is not None and username is not None:
        raise table.wrong("user_certificate", "there are two ways to log in", "leave username out, or this")
    return OpcuaSource(
        endpoint,
        table.integer("publishing_interval_ms", 500, 10, 60_000),
        table.integer("sampling_interval_ms", 250, 0, 60_000),
        table.integer("queue_size", 10_000, 1, 1_000_000),
        username,
        folder / password if password else None,
        policy,
        "None" if policy == "None" else mode,
        folder / certificate if certificate else None,
        folder / key if key else None,
        table.choice("read_by", ("subscription", "polling"), "subscription") == "polling",
        table.integer("poll_interval_ms", 1000, 50, 600_000),
        table.integer("timeout_ms", 5000, 100, 60_000),
    )


def read_opcua_tags(tags: Table, *, replay: bool = False) -> tuple[OpcuaTag, ...]:
    """Raises ConfigurationError. In a replay a tag has no address: `total = { modulus = 65536 }`, `state = {}`."""
    out: list[OpcuaTag] = []
    for name, column, table in each_tag(tags, ROLE_NAMES):
        path = node = ""
        namespaces: tuple[str, ...] = ()
        deadband = 0
        texts: tuple[tuple[str, int], ...] = ()
        role = SignalRole[name.upper()]
        if replay and column >= ROLES:
            raise table.wrong("", "a simulated line has one lane", HOW_LANES)
        if not replay:
            path, node = table.text("path", ""), table.text("node", "")
            namespaces = _address(table, path, node)
            texts = _texts(table)
            deadband = table.scaled("deadband", 0, 1000, 0, 10**12)
            if deadband and role in COUNTER_ROLES:
                raise table.wrong("deadband", "a counter has none", "leave it out: each piece counts")
        modulus, bcd = counting(table, name, 0, 0)
        table.done()
        parts = tuple(part for part in path.split("/") if part)
        lane = column if column >= ROLES else -1
        first = namespaces[0] if namespaces else ""
        several = namespaces if len(namespaces) > 1 else ()
        out.append(OpcuaTag(role, parts, first, node, modulus, bcd, lane, several, deadband, texts))
    return tuple(out)


def _address(table: Table, path: str, node: str) -> tuple[str, ...]:
    """Checks where a tag is; gives its namespaces' URIs."""
    if bool(path) == bool(node):
        mend = 'write: path = "FillingLine/Status/StateCurrent", namespace = "urn:…"  (or node = "nsu=urn:…;s=…")'
        raise table.wrong("", "needs either a path or a node", mend)
    if node:
        if not _NODE.fullmatch(node):
            mend = 'write: node = "nsu=urn:maker:machine;s=Name" (by URI: its number may change)'
            raise table.wrong("node", f'"{node}" is not a lasting node id', mend)
        return ()
    several = table.texts("namespace")
    if not several:
        raise table.wrong("namespace", "is missing", 'the namespace\'s URI, for example "urn:maker:machine"')
    for part in path.split("/"):
        number, colon, _ = part.partition(":")
        if len(several) > 1 and not (colon and number.isdecimal() and int(number) <= len(several)):
            mend = f'write its namespace before each name, "1:{part}": 1 is the first of the list, 0 is OPC UA\'s own'
            raise table.wrong("path", f'the namespace of "{part}" is not told', mend)
    return tuple(several)


def _texts(table: Table) -> tuple[tuple[str, int], ...]:
    inner = table.table("texts")
    found = tuple((text, inner.integer(text, None, 0, 2**53)) for text in inner.keys)
    inner.done()
    return found

"""The hub's configuration: one frozen tree, read from one TOML file and checked before anything starts.

Decides the keys, their defaults and limits. An unknown key, a wrong type or an impossible value raises
ConfigurationError with file, line and what to write instead.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from protocols.errors import ConfigurationError, Malformed, Refused
from protocols.evidence.note import Algorithm, VerifierKey
from protocols.evidence.policy import NO_QUORUM, QUORUM_NAME
from protocols.wire.sparkplug import is_group


class Access(Enum):
    """Who may use the API. LOOPBACK: everybody on this machine, and nobody else can reach it."""

    TOKEN = "token"  # noqa: S105 (a word, not a secret)
    LOOPBACK = "loopback"


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the pages and the API listen."""

    host: str = "127.0.0.1"
    port: int = 8080
    access: Access = Access.TOKEN


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """The MQTT 5 broker. `embedded`: the hub starts its own on 127.0.0.1:port, in memory, for one machine only."""

    embedded: bool = False
    host: str = "127.0.0.1"
    port: int = 1883
    client_id: str = "linetally-hub"
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The transparency log. `origin`: its name in every checkpoint, a schema-less URL. `key_file`: its signing key.

    `disbelieve`: gateways whose word that the log has lost entries does not stop the hub. `quorum`: witnesses that must
    cosign a checkpoint before it is published; 0: more than half of those configured.
    """

    origin: str = "localhost/linetally"
    key_file: Path = Path("log.key")
    disbelieve: tuple[str, ...] = ()
    quorum: int = 0


@dataclass(frozen=True, slots=True)
class WitnessConfig:
    """One [[witness]]: who cosigns the log. `url`: where its add-checkpoint is; `vkey`: its key, as it published it."""

    name: str
    url: str
    vkey: str


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """`url`: SQLAlchemy's; empty is SQLite in the data folder."""

    url: str = ""


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """Limits of the way in. A batch is committed when it is full or `batch_wait_ms` after its first statement.

    The queue holds several batches: the broker sends no more than `queue_records` before it is answered. Both are
    bounded in bytes too (`ingest.MAX_BATCH_BYTES`, `MAX_QUEUE_BYTES`).
    """

    batch_records: int = 1024
    batch_wait_ms: int = 50
    queue_records: int = 4096
    quarantine_records: int = 10_000


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """What the live page listens to beside the agents' JSON. `sparkplug`: Sparkplug B on the same broker.

    `sparkplug_groups`: of these groups alone; empty: of all. `sparkplug_rebirth`: a gateway of the registry may be
    asked to be born again where messages were missed; the one thing that is ever sent.
    """

    sparkplug: bool = False
    sparkplug_groups: tuple[str, ...] = ()
    sparkplug_rebirth: bool = False


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """`keep_megabytes`: of raw samples that gateways were asked for; the days that came first go first."""

    keep_megabytes: int = 2_000


@dataclass(frozen=True, slots=True)
class InfluxConfig:
    """Where the time series go; without this table nothing is written. The token stands in a file of its own."""

    url: str
    org: str
    bucket: str
    token_file: Path


@dataclass(frozen=True, slots=True)
class HubConfig:
    """Relative paths are relative to the configuration file; key files and the database to the data folder."""

    data: Path = Path("data")
    name: str = "linetally"
    server: ServerConfig = field(default_factory=ServerConfig)
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    log: LogConfig = field(default_factory=LogConfig)
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    ingest: IngestConfig = field(default_factory=IngestConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    live: LiveConfig = field(default_factory=LiveConfig)
    influx: InfluxConfig | None = None
    witness: tuple[WitnessConfig, ...] = ()

    @property
    def quorum(self) -> int:
        """Witnesses that must cosign a checkpoint before it is published; 0 where there are none."""
        return self.log.quorum or (len(self.witness) // 2 + 1 if self.witness else 0)

    @property
    def log_folder(self) -> Path:
        return self.data / "log"

    @property
    def raw_folder(self) -> Path:
        return self.data / "raw"

    @property
    def reports_folder(self) -> Path:
        return self.data / "reports"

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.data / 'hub.sqlite'}"


_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "server.port": (1, 65_535),
    "broker.port": (1, 65_535),
    "log.quorum": (0, 64),
    "ingest.batch_records": (1, 4_096),
    "ingest.batch_wait_ms": (0, 1_000),
    "ingest.queue_records": (16, 65_535),
    "ingest.quarantine_records": (100, 1_000_000),
    "audit.keep_megabytes": (1, 1_000_000),
}
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_SECRET_KEYS: Final = frozenset({"token", "password"})


def load_config(path: Path) -> HubConfig:
    """The configuration of the file at `path`. Raises ConfigurationError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the configuration cannot be read: {error.strerror or error}",
            file=str(path),
            mend="give another with --config, or make one with `linetally-hub init`",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("the configuration is not UTF-8 text", file=str(path)) from error
    return parse_config(text, str(path), path.resolve().parent)


def parse_config(text: str, file: str, folder: Path) -> HubConfig:
    """Pure form of `load_config`; `folder` is what relative paths are relative to."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = int(found.group(1)) if found else len(text.splitlines())
        raise ConfigurationError(f"not TOML: {error}", file=file, line=line) from error
    config = _Reader(text, file).table(HubConfig, tree, "")
    assert isinstance(config, HubConfig)
    return _resolve(config, folder, _Reader(text, file))


def _resolve(config: HubConfig, folder: Path, reader: _Reader) -> HubConfig:
    from dataclasses import replace

    if config.server.access is Access.LOOPBACK and config.server.host not in _LOOPBACK:
        raise reader.error(
            "server.access", f'"loopback" is for this machine only, and server.host is {config.server.host}',
            'write access = "token", or host = "127.0.0.1"',
        )  # fmt: skip
    if config.broker.embedded and config.broker.host not in _LOOPBACK:
        raise reader.error(
            "broker.embedded", "the embedded broker has no access control and listens on this machine only",
            'remove host, or write embedded = false and run mosquitto',
        )  # fmt: skip
    if not config.log.origin or any(c in config.log.origin for c in " +\t\n") or "://" in config.log.origin:
        raise reader.error(
            "log.origin", "an origin is a name like a URL without https://, with no space and no plus",
            'write origin = "hub.example.org/linetally"',
        )  # fmt: skip
    for group in config.live.sparkplug_groups:
        if not is_group(group):
            raise reader.error(
                "live.sparkplug_groups", f"{group!r} cannot be in a topic", "up to 64 characters without + # /"
            )
    _check_witnesses(config, reader)
    data = folder / config.data

    def at(path: Path | None, base: Path) -> Path | None:
        return None if path is None else base / path

    broker = replace(
        config.broker,
        password_file=at(config.broker.password_file, folder),
        ca_file=at(config.broker.ca_file, folder),
        certificate_file=at(config.broker.certificate_file, folder),
        key_file=at(config.broker.key_file, folder),
    )
    influx = config.influx and replace(config.influx, token_file=folder / config.influx.token_file)
    log = replace(config.log, key_file=data / config.log.key_file)
    return replace(config, data=data, broker=broker, influx=influx, log=log)


def _check_witnesses(config: HubConfig, reader: _Reader) -> None:
    for witness in config.witness:
        try:
            key = VerifierKey.parse(witness.vkey)
            wrong = "" if key.algorithm is Algorithm.COSIGNATURE else "is a log's key, not a witness's (type 0x04)"
        except (Malformed, Refused) as error:
            wrong = f"cannot be used: {error}"
        if wrong:
            raise reader.error(
                "witness.vkey", f"the key of {witness.name!r} {wrong}", "copy the vkey that it published"
            )
        if not re.fullmatch(r"https?://[^\s]+", witness.url):
            raise reader.error("witness.url", f"{witness.url!r} is no web address", 'write url = "https://…"')
        if not re.fullmatch(r"[A-Za-z0-9._/-]{1,100}", witness.name) or witness.name in (NO_QUORUM, QUORUM_NAME):
            raise reader.error(
                "witness.name", f"{witness.name!r} cannot name a witness", "use letters, digits and . _ -"
            )
    for what in ("name", "vkey"):
        values = [getattr(witness, what) for witness in config.witness]
        if len(set(values)) != len(values):
            raise reader.error(f"witness.{what}", "two witnesses have the same", "each witness needs its own")
    if config.log.quorum > len(config.witness):
        raise reader.error(
            "log.quorum", f"{config.log.quorum} witnesses are demanded, {len(config.witness)} are configured",
            "add a [[witness]] table for each",
        )  # fmt: skip


class _Reader:
    """Reads tables into the dataclasses above. `text` is searched only to tell the line of an error."""

    def __init__(self, text: str, file: str) -> None:
        self._lines = text.splitlines()
        self._file = file

    def error(self, key: str, what: str, mend: str = "") -> ConfigurationError:
        return ConfigurationError(f"{key}: {what}", file=self._file, line=self._line_of(key), mend=mend)

    def _line_of(self, key: str) -> int | None:
        """The line on which a dotted key stands, or its table's heading; None if neither is written plainly."""
        table, _, name = key.rpartition(".")
        current, heading = "", None
        for number, line in enumerate(self._lines, 1):
            text = line.split("#")[0].strip()
            if found := re.fullmatch(r"\[{1,2}\s*([\w.-]+)\s*\]{1,2}", text):
                current = found.group(1)
                if current in (table, key):
                    heading = number
            elif current == table and re.match(rf'"?{re.escape(name)}"?\s*[=.]', text):
                return number
        return heading

    def table(self, kind: type, tree: object, prefix: str) -> Any:
        if not isinstance(tree, dict):
            raise self.error(prefix, "must be a table", f"write [{prefix}] on a line of its own, and its keys below")
        known = {f.name: f for f in fields(kind)}
        hints = get_type_hints(kind)
        for name in tree:
            if name not in known:
                if name in _SECRET_KEYS:
                    mend = f"write {name}_file: secrets stand in files of their own, mode 0600"
                else:
                    mend = f"known here: {', '.join(known)}"
                raise self.error(_dotted(prefix, name), "this key is not known", mend)
        values: dict[str, Any] = {}
        for name, definition in known.items():
            key = _dotted(prefix, name)
            if name in tree:
                values[name] = self._value(hints[name], tree[name], key)
            elif definition.default is MISSING and definition.default_factory is MISSING:
                raise self.error(key, "this key is missing", f"add {name} = … to [{prefix}]")
        return kind(**values)

    def _value(self, hint: Any, value: object, key: str) -> Any:
        if get_origin(hint) in (Union, UnionType):
            hint = next(option for option in get_args(hint) if option is not type(None))
        if get_origin(hint) is tuple:
            of = get_args(hint)[0]
            if not isinstance(value, list):
                mend = f"write [[{key}]] above each" if is_dataclass(of) else 'write ["…", "…"]'
                raise self.error(key, "must be a list", mend)
            return tuple(self._value(of, item, key) for item in value)
        if is_dataclass(hint):
            assert isinstance(hint, type)
            return self.table(hint, value, key)
        if issubclass(hint, Enum):
            words = [option.value for option in hint]
            if value not in words:
                raise self.error(key, f"cannot be {value!r}", f"write one of {', '.join(map(repr, words))}")
            return hint(value)
        if hint is Path:
            if not isinstance(value, str) or not value:
                raise self.error(key, "must be a path in quotes")
            return Path(value)
        # bool is an int in Python, but not in a configuration.
        if type(value) is not hint:
            word = {int: "a whole number", str: "text in quotes", bool: "true or false"}[hint]
            raise self.error(key, f"must be {word}, not {value!r}")
        if hint is int and key in _RANGES:
            low, high = _RANGES[key]
            assert isinstance(value, int)
            if not low <= value <= high:
                raise self.error(key, f"{value} is out of range", f"write a number from {low} to {high}")
        return value


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name

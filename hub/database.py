"""The hub's tables, and how its database is opened: SQLite by default, PostgreSQL for many lines.

Decides names, types and constraints. Two kinds of table live here. The registry (who is who) and the operational
tables exist only here and belong in a backup; the PROJECTIONS are rebuilt from the log by one command and are never
the source of a payable figure. How the tables are filled is decided in `registry`, `ingest` and `projections`.

All times are `_ms`: integer milliseconds since the Unix epoch, UTC. Amounts are whole HK dollars.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, NoSuchModuleError, OperationalError, ProgrammingError

from protocols.errors import ConfigurationError
from protocols.measurement.account import ACCOUNT_FIELDS

HEAD: Final = "0001"
"""The newest migration."""

DATABASE_ERRORS: Final = (OperationalError, InterfaceError)
"""What may heal by itself: the disk is full, the server is away."""

HOURLY_KEYS: Final = ("business_day", "shift_name", "product", "order_name")
"""Columns of `window` that keep its sums apart in `hourly`, besides line, hour and configuration."""

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _ms(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


def _references(name: str, target: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, ForeignKey(target), nullable=nullable)


# ---------------------------------------------------------------- registry: who is who

scheme = Table(
    "scheme",
    metadata,
    Column("id", Text, primary_key=True),  # "nifs", "nias", "manufacturing-plus"
    _text("name_en"),
    _text("name_zh"),
    _text("committee"),
    _text("secretariat"),
    Column("rules", JSON, nullable=False),  # [{"rule", "value", "unit", "from": "2025-11-18" | null, "words"}]
)

enterprise = Table(
    "enterprise",
    metadata,
    Column("id", Text, primary_key=True),
    _text("name"),
    _text("name_zh", nullable=True),
    _text("sector", nullable=True),
)

project = Table(
    "project",
    metadata,
    Column("id", Text, primary_key=True),
    _references("scheme_id", "scheme.id"),
    _references("enterprise_id", "enterprise.id"),
    _text("title"),
    _text("agreement_number", nullable=True),
    Column("approved_grant_hkd", BigInteger),
    Column("project_cost_hkd", BigInteger),
    Column("milestones", JSON, nullable=False),  # [{"title", "planned": "2026-09-01", "done": date | null, "evidence"}]
    _ms("created_ms"),
)

line = Table(
    "line",
    metadata,
    Column("id", Text, primary_key=True),
    _references("enterprise_id", "enterprise.id"),
    _references("project_id", "project.id", nullable=True),
    _text("name"),
    _text("timezone"),
    Column("simulated", Boolean, nullable=False, default=False),
    Column("site", Text, nullable=False, default=""),  # IEC 62264: where it stands in its enterprise; "" not told
    Column("area", Text, nullable=False, default=""),  # within its site
    _references("part_of", "line.id", nullable=True),  # of a machine that is measured apart: the line it stands in
)

gateway = Table(
    "gateway",
    metadata,
    Column("id", Text, primary_key=True),
    _references("enterprise_id", "enterprise.id"),
    _references("project_id", "project.id"),
    Column("kid", LargeBinary(8), nullable=False, unique=True),
    Column("public_key", LargeBinary(32), nullable=False, unique=True),
    _text("fingerprint"),  # what two people compare by voice before one of them approves
    _text("state"),
    Column("lines", JSON, nullable=False),  # ["filling", …]: the lines it may speak for
    _ms("created_ms"),
    _ms("approved_ms", nullable=True),
    CheckConstraint("state IN ('pending', 'active', 'revoked')", name="state"),
)

root_key = Table(
    "root_key",
    metadata,
    Column("kid", LargeBinary(8), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False, unique=True),
    _text("name"),
)

enrolment_token = Table(
    "enrolment_token",
    metadata,
    Column("token_sha256", LargeBinary(32), primary_key=True),
    _references("project_id", "project.id"),
    _references("enterprise_id", "enterprise.id"),
    _ms("expires_ms"),
    _ms("used_ms", nullable=True),
    _text("gateway_id", nullable=True),
)

api_token = Table(
    "api_token",
    metadata,
    Column("token_sha256", LargeBinary(32), primary_key=True),
    _text("label"),
    _text("role"),
    Column("scope", JSON, nullable=False),  # {"schemes": […], "enterprises": […]}; {} is everything
    _ms("expires_ms"),
    CheckConstraint("role IN ('manufacturer', 'secretariat', 'committee', 'auditor', 'operator')", name="role"),
)

# ---------------------------------------------------------------- operations: not in the log, not rebuilt from it

submission = Table(  # root-signed records on their way to the one process that may append
    "submission",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kid", LargeBinary(8), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("raw", LargeBinary, nullable=False),
    _text("state"),
    Column("leaf_index", BigInteger),
    _text("words", nullable=True),  # why it was refused
    CheckConstraint("state IN ('waiting', 'logged', 'refused')", name="state"),
    # Two commands at once cannot fork the root chain: the second one's insert fails and it tries again.
    Index(
        "uq_submission_live",
        "kid",
        "sequence",
        unique=True,
        sqlite_where=Column("state") != "refused",
        postgresql_where=Column("state") != "refused",
    ),
)

quarantine = Table(  # what was not admitted: kept so that a fork can be proved
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kid", LargeBinary(8)),
    _text("gateway_id", nullable=True),
    Column("sequence", BigInteger),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    _text("code"),  # "fork", "signature", "not-enrolled", …
    _text("words"),
    Column("logged_index", BigInteger),  # of a fork: the other statement with this sequence
    _ms("time_ms"),
    Column("raw", LargeBinary, nullable=False),
)

receipt = Table(  # the newest receipt that each gateway was sent
    "receipt",
    metadata,
    Column("kid", LargeBinary(8), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
    _ms("time_ms"),
)

challenge = Table(  # minutes whose raw samples a gateway is asked for
    "challenge",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    _text("project_id"),
    _text("line_id"),
    Column("seed", LargeBinary, nullable=False),  # what the minutes were drawn with; empty where they were named
    Column("log_size", BigInteger, nullable=False),  # the checkpoint at which they were drawn
    Column("windows", JSON, nullable=False),  # [[start_ms, end_ms], …]: what was drawn
    Column("spans", JSON, nullable=False),  # [[from_ms, to_ms], …]: what decides them
    _text("state"),
    _ms("asked_ms"),
    _ms("sent_ms", nullable=True),  # last
    Column("pieces", Integer, nullable=False),  # that came and are what the gateway committed to
    _text("words"),  # what the gateway does not hold, in its words
    _text("refused"),  # why a piece was not taken, of the last such; "" for none
    CheckConstraint("state IN ('waiting', 'answered')", name="state"),
    Index(None, "project_id"),
)

cursor = Table(  # how many entries of the log a projection has taken in: "index", "influx"
    "cursor",
    metadata,
    Column("name", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
)

# ---------------------------------------------------------------- projections: rebuilt from the log


def _leaf_index(*, primary_key: bool = False) -> Column[int]:
    return Column("leaf_index", BigInteger, primary_key=primary_key, autoincrement=False, nullable=False)


def _account() -> list[Column[Any]]:
    return [Column(name, BigInteger, nullable=False) for name in ACCOUNT_FIELDS]


record = Table(
    "record",
    metadata,
    _leaf_index(primary_key=True),
    Column("kid", LargeBinary(8), nullable=False),
    _text("issuer"),  # the gateway's id; of a root-signed record the root key's name
    _text("subject"),  # enterprise and site, as the gateway says
    Column("sequence", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    _text("type"),
    _ms("start_ms"),
    _ms("end_ms"),
    Column("length", Integer, nullable=False),  # bytes
    UniqueConstraint("kid", "sequence"),
)

window = Table(
    "window",
    metadata,
    Column("line_id", Text, primary_key=True),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    _ms("end_ms"),
    Column("kind", Integer, nullable=False),  # CalendarKind
    _text("product"),
    _text("order_name"),
    _text("shift"),  # "2026-11-21/A" or ""
    _text("business_day"),  # "2026-11-21" or ""
    _text("shift_name"),  # "A" or ""
    *_account(),  # as it stands, with every amendment made
    Column("configuration_hash", LargeBinary(32), nullable=False),
    Column("version", Integer, nullable=False),  # 1: as it was signed; each amendment adds one
    _leaf_index(),  # the record that states it
    Column("changed_index", BigInteger, nullable=False),  # the record that last changed it, for those who follow
    Index(None, "line_id", "shift"),
    Index(None, "leaf_index"),
    Index(None, "changed_index"),
    quote=True,  # a reserved word in PostgreSQL
)

amendment = Table(  # one row for each change: what stood, what stands now, who and why
    "amendment",
    metadata,
    _leaf_index(primary_key=True),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),  # of the window; or of the stop
    _ms("end_ms"),  # of the window; of a stop the same as start_ms
    _text("line_id"),
    _text("kind"),  # "reason", "reject", "window"
    Column("change", JSON, nullable=False),  # [[field, old, new], …]; of a reason [old, new]
    Column("version", Integer, nullable=False),  # of the window after it; 0 for a reason, or without effect
    _text("refusal"),  # why it has no effect; "" where it has
    _text("who"),
    _text("why"),
    Index(None, "line_id", "start_ms"),
)

hourly = Table(  # sums of the windows that began within a UTC hour, apart by all that a roll-up may ask for
    "hourly",
    metadata,
    Column("line_id", Text, primary_key=True),
    Column("hour_ms", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, Text, primary_key=True) for name in HOURLY_KEYS),
    Column("configuration_hash", LargeBinary(32), primary_key=True),
    *_account(),
)

configuration = Table(
    "configuration",
    metadata,
    Column("line_id", Text, primary_key=True),
    Column("hash", LargeBinary(32), primary_key=True),
    Column("data", JSON, nullable=False),  # LineConfiguration.to_data()
    _leaf_index(),
)

gap = Table(
    "gap",
    metadata,
    _leaf_index(primary_key=True),
    _text("line_id"),
    _ms("from_ms"),
    _ms("to_ms"),
    _text("reason"),
    Index(None, "line_id", "from_ms"),
)

overlap = Table(  # windows that were signed twice for the same time: the first in the log counts, these do not
    "overlap",
    metadata,
    _leaf_index(primary_key=True),
    Column("line_id", Text, primary_key=True),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    _ms("end_ms"),
)

plan = Table(
    "plan",
    metadata,
    _leaf_index(primary_key=True),
    _text("project_id"),
    Column("data", JSON, nullable=False),  # Plan.to_data()
    Column("hash", LargeBinary(32), nullable=False),
    Index(None, "project_id"),
)

audit = Table(
    "audit",
    metadata,
    _leaf_index(primary_key=True),
    _text("project_id"),
    _text("auditor"),  # the id that its key is enrolled as
    _ms("time_ms"),
    Column("equal", Boolean, nullable=False),  # everything asked for was there and came out equal
    Column("data", JSON, nullable=False),  # the record's body; its seed as hex
    Index(None, "project_id"),
)

enrolment = Table(
    "enrolment",
    metadata,
    _leaf_index(primary_key=True),
    Column("kid", LargeBinary(8), nullable=False),
    _text("gateway_id"),
    _text("type"),  # "enrol" or "revoke"
    Column("data", JSON, nullable=False),
)

PROJECTIONS: Final = (record, window, amendment, hourly, configuration, gap, overlap, plan, audit, enrolment)
"""Emptied and filled again by `linetally-hub rebuild`."""


def open_database(url: str) -> Engine:
    """An engine for `url`. A SQLite file is made with its folder; its tables are made by `migrate`.

    SQLite: WAL with synchronous FULL, so a committed row survives a power cut; one writer at a time waits up to 30 s
    for another. Raises ConfigurationError for a URL or driver that cannot be used.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
            Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigurationError(
            f"the database address cannot be used: {error}",
            mend='write database.url = "sqlite:////var/lib/linetally/hub.sqlite" or "postgresql+psycopg://…"',
        ) from error
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the database driver {error.name} is not installed",
            mend=f"pip install '{'psycopg[binary]' if error.name == 'psycopg' else error.name}'",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_pragmas)
    return engine


def _sqlite_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 30000")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def is_current(engine: Engine) -> bool:
    """Whether `migrate` has nothing to do: asked first by commands, for alembic takes a while to import."""
    try:
        with engine.connect() as connection:
            return bool(connection.scalar(text("SELECT version_num FROM alembic_version")) == HEAD)
    except (OperationalError, ProgrammingError):  # no such table: SQLite says the first, PostgreSQL the second
        return False


def migrate(engine: Engine) -> None:
    """Brings the tables to this version's form. Idempotent; runs at `init` and at each start of `serve`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def fault_words(error: Exception) -> str:
    """What went wrong, in one line: a driver says more, and SQLAlchemy adds the query."""
    cause = error.orig if isinstance(error, DATABASE_ERRORS) else error
    return str(cause).partition("\n")[0].rstrip(".")


def upsert(connection: Connection, table: Table) -> Any:
    """An INSERT with `on_conflict_do_nothing` / `on_conflict_do_update`, in the dialect of the connection."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)

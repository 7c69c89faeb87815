"""The database: durable settings, migrations that give exactly the declared tables, and words for a bad address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from hub import database as db
from hub.database import is_current, metadata, migrate, open_database
from protocols.errors import ConfigurationError
from tests.support.hub import fill_registry
from tests.support.postgres import postgres_in


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Engine]:
    if request.param == "sqlite":
        made = open_database(f"sqlite:///{tmp_path / 'deep' / 'hub.sqlite'}")
        yield made
        made.dispose()
    else:
        with postgres_in(tmp_path, free_port()) as url:
            made = open_database(url)
            yield made
            made.dispose()


def test_migrations_give_the_declared_tables_and_may_run_again(engine: Engine) -> None:
    assert not is_current(engine)
    migrate(engine)
    migrate(engine)
    with engine.connect() as connection:
        difference = compare_metadata(MigrationContext.configure(connection), metadata)
    assert difference == []
    assert is_current(engine)
    fill_registry(engine)
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(db.line.insert().values(id="x", enterprise_id="nobody", name="x", timezone="UTC"))


def test_sqlite_is_durable(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'hub.sqlite'}")
    with engine.connect() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    engine.dispose()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize("url", ["nonsense", "oracle9://x", "sqlite"])
def test_a_bad_address_is_said_with_its_mend(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"database\.url"):
        open_database(url)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match="pip install"):
        open_database("postgresql+psycopg://x@127.0.0.1/x")

"""Many rows into a table at once, as plain tuples through the driver.

Decides the SQL for it: on SQLite INSERTs of many rows each, on PostgreSQL COPY. SQLAlchemy's constructs would take
several times as long as the database itself: what is written by the thousand goes through here, all else through them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from sqlalchemy import Connection, Table

_ROWS: Final = 256
"""In one INSERT: SQLite allows 32,766 parameters a statement, and a window has some 40. Fewer rows take longer each; in
these the interpreter's lock is free, so other threads are not kept waiting."""

Row = tuple[Any, ...]


def insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Inserts rows of every column, in the table's order of columns. Values must be plain: no JSON."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _copy(connection, table, rows)
        return
    whole = len(rows) - len(rows) % _ROWS
    for at in range(0, whole, _ROWS):
        connection.exec_driver_sql(_insert_sql(table, _ROWS), tuple(chain.from_iterable(rows[at : at + _ROWS])))
    if whole < len(rows):
        connection.exec_driver_sql(_insert_sql(table, 1), list(rows[whole:]))


def add(connection: Connection, table: Table, keys: Collection[str], rows: Sequence[Row]) -> None:
    """Inserts rows as `insert`; where a row with the same `keys` stands, every other column is added to it."""
    if rows:
        connection.exec_driver_sql(_add_sql(table, tuple(keys), connection.dialect.name == "postgresql"), list(rows))


def scalar(connection: Connection, sql: str, *values: object) -> Any:
    """The first column of the first row, None where there is none. `sql` marks its values with a question mark."""
    marked = sql.replace("?", "%s") if connection.dialect.name == "postgresql" else sql
    return connection.exec_driver_sql(marked, values).scalar()


def _copy(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    driver: Any = connection.connection.driver_connection  # psycopg's, in SQLAlchemy's transaction
    columns = ", ".join(_names(table))
    with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row(row)


@lru_cache(maxsize=64)
def _insert_sql(table: Table, count: int, mark: str = "?") -> str:
    names = _names(table)
    row = f"({', '.join([mark] * len(names))})"
    # The names are this module's tables', the values are bound.
    return f'INSERT INTO "{table.name}" ({", ".join(names)}) VALUES {", ".join([row] * count)}'  # noqa: S608


@lru_cache(maxsize=64)
def _add_sql(table: Table, keys: tuple[str, ...], is_postgresql: bool) -> str:
    sums = ", ".join(f'{name} = "{table.name}".{name} + excluded.{name}' for name in _names(table) if name not in keys)
    head = _insert_sql(table, 1, "%s" if is_postgresql else "?")
    return f"{head} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sums}"


def _names(table: Table) -> list[str]:
    return [column.name for column in table.columns]

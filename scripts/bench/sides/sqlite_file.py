"""Looks into a database file as anybody else would: on a connection of its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def rows(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """What a fresh connection reads."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql, values).fetchall()


def counted_writes(path: Path, table: str) -> Callable[[], list[str]]:
    """Have the database itself note what is written to ``table`` from now on; the call tells."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bench_writes (what TEXT)")
        for what in ("INSERT", "UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER bench_{what} AFTER {what} ON {table} "  # noqa: S608 - fixed words
                f"BEGIN INSERT INTO bench_writes VALUES ('{what}'); END"
            )
        connection.commit()
    return lambda: [what for (what,) in rows(path, "SELECT what FROM bench_writes")]

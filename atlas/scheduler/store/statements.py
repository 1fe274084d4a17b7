"""Statements for many rows: compiled once for each database, then run by its driver in one `executemany`.

Of 15 µs that SQLAlchemy takes for a row 10 go into building its parameters; here they are picked out of a dict in C.
Values must be what the driver takes as it is: text, numbers, booleans, bytes, None.
"""

from __future__ import annotations

import importlib
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection, Dialect

    Pick = Callable[[Mapping[str, Any]], tuple[Any, ...]]


class Statement:
    """An INSERT, UPDATE or DELETE whose bound parameters are named; every row is a mapping that has them all.

    Args:
        make: Makes the statement with the database's own module of SQLAlchemy (``sqlalchemy.dialects.sqlite`` or
            ``.postgresql``), which alone has ``insert(…).on_conflict_…``.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        """Compile when first needed."""
        self._make = make
        self._compiled: dict[str, tuple[str, Pick]] = {}

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it once for each row; nothing for no row."""
        if rows:
            name = connection.dialect.name
            if name not in self._compiled:
                self._compiled[name] = self._compile(connection.dialect)
            text, pick = self._compiled[name]
            connection.exec_driver_sql(text, list(map(pick, rows)))

    def _compile(self, dialect: Dialect) -> tuple[str, Pick]:
        statement = self._make(importlib.import_module(f"sqlalchemy.dialects.{dialect.name}"))
        positional: Any = type(dialect)
        compiled = statement.compile(dialect=positional(paramstyle="qmark" if dialect.name == "sqlite" else "format"))
        names: Sequence[str] = compiled.positiontup
        if len(names) == 1:
            only = names[0]
            return str(compiled), lambda row: (row[only],)
        return str(compiled), itemgetter(*names)

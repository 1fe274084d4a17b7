"""Statements for many rows: compiled once for each database, then run on its driver with as few calls as it allows.

Of 15 µs that SQLAlchemy takes for a row 10 go into building its parameters; here they are picked out in C. SQLite gets
the rows of a group as one statement, ``VALUES (…), (…), …``: that takes 2/3 of the CPU of ``executemany``, which also
lets go of the interpreter at each row and, beside a function that computes, gets it back 5 ms later each time.
Values must be what the driver takes as it is: text, numbers, booleans, bytes, None.
"""

from __future__ import annotations

import importlib
import re
import sqlite3
from itertools import chain, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, column, update, values
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Dialect, Table, Update

    Pick = Callable[[Any], tuple[Any, ...]]

ONCE: Final[dict[str, Any]] = {"compiled_cache": None}
"""Options of a statement that a process runs at its start alone, or once in a while: SQLAlchemy keeps for ever what it
compiles, 15 kB each."""
GROUP: Final = 256
"""Most rows of one statement; what is left over goes in halves of it, so that few texts stand for all numbers."""
_ONE_ROW: Final = re.compile(r"(?<=VALUES )\([?\w', ]+\)")


class Statement:
    """A statement for rows: INSERT, UPDATE, DELETE, or a SELECT that looks something up.

    Args:
        make: Makes the statement, with bound parameters by name, with the database's own module of SQLAlchemy
            (``sqlalchemy.dialects.sqlite`` or ``.postgresql``), which alone has ``insert(…).on_conflict_…``.
        names: Rows are tuples with the parameters of these names, in this order. None: rows are mappings that have
            every parameter by its name.
        padded: A group may be filled up with rows of NULL, which mean nothing to this statement; so up to
            2 × `GROUP` rows are one statement, whatever their number.
    """

    def __init__(self, make: Callable[[Any], Any], names: Sequence[str] | None = None, *, padded: bool = False) -> None:
        """Compile when first needed."""
        self._make, self._names, self._padded = make, names, padded
        self._forms: dict[str, _Form] = {}

    def run(self, connection: Connection, rows: Sequence[Any]) -> int:
        """Run it for each row, nothing for no row; of an INSERT it returns how many are new; no other is counted."""
        if not rows:
            return 0
        form = self._form(connection)
        if form.pick is not None:
            rows = list(map(form.pick, rows))
        if form.one_row is None:
            if len(rows) == 1 and connection.dialect.name == "sqlite":
                return int(run_driver(connection, form.text, rows[0]).rowcount)
            return connection.exec_driver_sql(form.text, rows).rowcount
        groups = form.padded(rows) if self._padded else form.groups(rows)
        return sum(run_driver(connection, text, parameters).rowcount for text, parameters in groups)

    def first(self, connection: Connection, row: Any) -> Any:
        """Run a SELECT with the parameters in ``row``; returns its first row, None if it has none."""
        form = self._form(connection)
        parameters = row if form.pick is None else form.pick(row)
        if connection.dialect.name == "sqlite":
            return run_driver(connection, form.text, parameters).fetchone()
        return connection.exec_driver_sql(form.text, parameters).first()

    def each(self, connection: Connection) -> Iterator[Any]:
        """Run a SELECT without parameters; its rows one by one, as the driver has them."""
        text = self._form(connection).text
        if connection.dialect.name == "sqlite":
            yield from run_driver(connection, text)
        else:
            yield from connection.exec_driver_sql(text)

    def _form(self, connection: Connection) -> _Form:
        name = connection.dialect.name
        form = self._forms.get(name)
        if form is None:
            form = self._forms[name] = _Form(self._make, self._names, connection.dialect)
        return form


class _Form:
    """A statement as text for one database, and how its parameters are picked out of a row."""

    def __init__(self, make: Callable[[Any], Any], names: Sequence[str] | None, dialect: Dialect) -> None:
        statement = make(importlib.import_module(f"sqlalchemy.dialects.{dialect.name}"))
        positional: Any = type(dialect)
        compiled = statement.compile(dialect=positional(paramstyle="qmark" if dialect.name == "sqlite" else "format"))
        order: list[str] = list(compiled.positiontup)
        self.text = str(compiled)
        self.pick = _pick(order, names)
        found = _ONE_ROW.search(self.text) if dialect.name == "sqlite" else None
        # Parameters behind the rows, or among them, are not repeated with them.
        self.one_row = found[0] if found is not None and found[0].count("?") == len(order) else None
        self._texts: dict[int, str] = {}

    def groups(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Texts for some rows each, with their parameters."""
        done, size = 0, GROUP
        while done < len(rows):
            while size > len(rows) - done:
                size //= 2
            yield self._text_for(size), tuple(chain.from_iterable(rows[done : done + size]))
            done += size

    def padded(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """The same with as few texts as can be, the last of them filled up with rows of NULL."""
        for start in range(0, len(rows), 2 * GROUP):
            part = rows[start : start + 2 * GROUP]
            size = 1 << (len(part) - 1).bit_length()
            filler = repeat(None, (size - len(part)) * len(part[0]))
            yield self._text_for(size), (*chain.from_iterable(part), *filler)

    def _text_for(self, size: int) -> str:
        text = self._texts.get(size)
        if text is None:
            assert self.one_row is not None
            text = self._texts[size] = _ONE_ROW.sub(", ".join([self.one_row] * size), self.text)
        return text


def _pick(order: Sequence[str], names: Sequence[str] | None) -> Pick | None:
    """What takes the parameters in ``order`` out of a row; None if the row is what is wanted already."""
    keys: Sequence[Any] = order if names is None else [names.index(name) for name in order]
    if not keys or (names is not None and list(order) == list(names)):
        return None
    if len(keys) == 1:
        only = keys[0]
        return lambda row: (row[only],)
    return itemgetter(*keys)


def insert_into(connection: Connection, table: Table) -> Any:
    """The ``insert`` of this connection's database, which has ``on_conflict_…``; no other dialect is loaded."""
    return importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(table)


def run_driver(connection: Connection, text: str, parameters: Sequence[Any] = ()) -> Any:
    """Run ``text`` on SQLite's driver and return its cursor: SQLAlchemy's own way takes 50 µs more a statement.

    Where somebody listens to SQLAlchemy's events of statements (a tracer, a test) it goes that way after all.

    Raises:
        DBAPIError: As SQLAlchemy would raise it.
    """
    listeners = connection.dispatch
    if listeners.before_cursor_execute or listeners.after_cursor_execute:
        return connection.exec_driver_sql(text, tuple(parameters))
    cursor: Any = connection.connection.cursor()
    try:
        return cursor.execute(text, parameters)
    except sqlite3.Error as error:
        raise DBAPIError.instance(
            text, tuple(parameters), error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
        ) from error


def run_plain(connection: Connection, text: str) -> None:
    """Run ``text``, which has no parameters and no rows: SQLAlchemy compiles its own savepoints anew each time."""
    if connection.dialect.name == "sqlite":
        run_driver(connection, text)
    else:
        connection.exec_driver_sql(text)


def update_rows(
    table: Table, names: Sequence[str], change: Callable[[Update, Mapping[str, ColumnElement[Any]]], Update]
) -> Callable[[Any], Update]:
    """Makes an UPDATE of ``table`` for rows that hold ``names``, of which each brings a value; for `Statement`.

    ``change`` adds what is set, and where; it gets the row's values by name.
    """

    def make(database: Any) -> Update:
        if database.__name__.endswith("sqlite"):
            row = tuple(bindparam(name, type_=table.c[name].type) for name in names)
            given = values(*(column(name, table.c[name].type) for name in names), name="given").data([row]).cte("given")
            return change(update(table), {name: given.c[name] for name in names})
        # Elsewhere a VALUES that holds nothing but NULL has no type; its driver sends many rows in one go anyway.
        return change(update(table), {name: bindparam(name, type_=table.c[name].type) for name in names})

    return make

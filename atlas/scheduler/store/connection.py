"""The writer's own connection: made when needed, dropped after an error, kept to the file it was opened on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from atlas.scheduler.store.database_file import DatabaseFile
from atlas.scheduler.store.engine import file_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


class WriterConnection:
    """One connection for everything this process writes."""

    def __init__(self, engine: Engine) -> None:
        """Connect later; `DatabaseFile.remember` says which file is meant."""
        self._engine, self._is_sqlite = engine, engine.dialect.name == "sqlite"
        self._connection: Connection | None = None
        self._data_version: int | None = None
        self._forgot_seen = True
        self.file = DatabaseFile(file_of(engine.url))

    def get(self) -> Connection:
        """The connection, opened if there is none."""
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(atlas_write=True)
            if self._is_sqlite:
                # A statement for many rows copies each page it changes, to undo them together: not into a file.
                self._connection.connection.cursor().execute("PRAGMA temp_store=MEMORY")
        return self._connection

    def drop(self) -> None:
        """Close it for good; the next `get` opens another one.

        The pool must not hand it out again: one that SQLite opened on a file that was read-only then stays read-only.
        A database in memory is its connection, and stays.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                if not isinstance(self._engine.pool, StaticPool):
                    connection.invalidate()
                connection.close()

    def forget_seen(self) -> None:
        """Take other processes' commits for unseen; from any thread."""
        self._forgot_seen = True

    def others_committed(self) -> bool:
        """True if another process may have committed since the last call: SQLite counts, PostgreSQL is always asked."""
        if not self._is_sqlite:
            return True
        version: int = self.get().connection.cursor().execute("PRAGMA data_version").fetchone()[0]
        changed, self._data_version = version != self._data_version, version
        if self._forgot_seen:  # another thread that says so from here on is heard next time
            self._forgot_seen, changed = False, True
        return changed

"""The writer's own connection: made when needed, dropped after an error, kept to the file it was opened on."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from atlas.scheduler.store.database_file import DatabaseFile
from atlas.scheduler.store.engine import file_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


SURE_NS: Final = 5_000_000_000
"""How long times of a file are relied on at most; then SQLite is asked all the same."""
TICK_NS: Final = 50_000_000
"""Two changes this near to each other may have left one time: kernels count in ticks of up to 10 ms."""


class _LogTimes:
    """Tells that a write-ahead log cannot have grown: one `stat`, where asking SQLite takes ten times as long."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._seen: tuple[int, int, int] | None = None
        self._asked_ns = 0

    def look(self) -> bool:
        """True if the log is what it was at the last look, and nobody can have written since."""
        now_ns, before, self._seen = time.time_ns(), self._seen, None
        if self._name is None:
            return False
        try:
            found = os.stat(self._name)  # noqa: PTH116 - twice a second, for ever; a Path takes twice as long
        except OSError:
            return False
        if abs(now_ns - found.st_mtime_ns) > TICK_NS:
            self._seen = found.st_ino, found.st_size, found.st_mtime_ns
        is_same = self._seen is not None and self._seen == before and 0 <= now_ns - self._asked_ns < SURE_NS
        if not is_same:
            self._asked_ns = now_ns
        return is_same


class WriterConnection:
    """One connection for everything this process writes.

    Args:
        engine: The database.
    """

    def __init__(self, engine: Engine) -> None:
        """Connect later; `DatabaseFile.remember` says which file is meant."""
        self._engine = engine
        self._connection: Connection | None = None
        self._data_version: int | None = None
        self.file = DatabaseFile(file_of(engine.url))
        self._log = _LogTimes(None if self.file.path is None else f"{self.file.path}-wal")

    def get(self) -> Connection:
        """The connection, opened if there is none."""
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(atlas_write=True)
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
        """Take other processes' commits for unseen."""
        self._data_version = None

    def others_committed(self) -> bool:
        """True if another process may have committed since the last call: SQLite counts, PostgreSQL is always asked."""
        if self._engine.dialect.name != "sqlite":
            return True
        if self._log.look() and self._data_version is not None:
            return False
        version: int = self.get().connection.cursor().execute("PRAGMA data_version").fetchone()[0]
        changed, self._data_version = version != self._data_version, version
        return changed

"""The writer's own connection: made when needed, dropped after an error, kept to the file it was opened on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from atlas.scheduler.store.engine import file_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


class WriterConnection:
    """One connection for everything this process writes.

    Args:
        engine: The database.
    """

    def __init__(self, engine: Engine) -> None:
        """Connect later; `remember_file` says which file is meant."""
        self._engine = engine
        self._connection: Connection | None = None
        self._data_version: int | None = None
        self._file = file_of(engine.url)
        self._file_id: tuple[int, int] | None = None

    def get(self) -> Connection:
        """The connection, opened if there is none."""
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(atlas_write=True)
        return self._connection

    def drop(self) -> None:
        """Close it; the next `get` opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except SQLAlchemyError:
                connection.invalidate()

    def remember_file(self) -> None:
        """The database file that is there now is the one that is meant."""
        self._file_id = self._identify_file()

    def _identify_file(self) -> tuple[int, int] | None:
        if self._file is None:
            return None
        found = self._file.stat()
        return found.st_dev, found.st_ino

    def refuse_other_file(self) -> None:
        """Commits to a database file that was deleted or replaced would succeed, and be lost.

        Raises:
            OSError: The file is not the one that was opened.
        """
        if self._identify_file() != self._file_id:
            msg = f"{self._file} was replaced by another file; stop this process, or move the old file back"
            raise OSError(msg)

    def forget_seen(self) -> None:
        """Take other processes' commits for unseen."""
        self._data_version = None

    def others_committed(self) -> bool:
        """True if another process may have committed since the last call: SQLite counts, PostgreSQL is always asked."""
        if self._engine.dialect.name != "sqlite":
            return True
        version: int = self.get().connection.cursor().execute("PRAGMA data_version").fetchone()[0]
        changed, self._data_version = version != self._data_version, version
        return changed

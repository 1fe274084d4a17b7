"""The database of a run, and what can happen to it: SQLite on a small disk of its own, or a private PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from tests.postgres import Postgres, postgres_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISK_MB: Final = 400


class Database(Protocol):
    """What a run needs of its database."""

    url: str
    faults: tuple[str, ...]

    def hurt(self, fault: str, seconds: float) -> None:
        """Let ``fault`` hold for so long."""

    def integrity(self) -> str:
        """``ok``, or what the database finds wrong with itself."""


class Sqlite:
    """A file on a tmpfs of its own where this process may mount one, so that its disk can be filled."""

    def __init__(self, disk: Path, *, small: bool) -> None:
        """Use ``disk``."""
        self.path = disk / "atlas.db"
        self.url = f"sqlite:///{self.path}"
        self.faults: tuple[str, ...] = ("lock", "disk full") if small else ("lock",)

    def hurt(self, fault: str, seconds: float) -> None:
        """Hold the write lock, or leave no room on the disk."""
        (self._lock if fault == "lock" else self._fill)(seconds)

    def _lock(self, seconds: float) -> None:
        connection = sqlite3.connect(self.path, timeout=10.0, isolation_level=None)
        try:
            with suppress(sqlite3.OperationalError):  # it was busy for the whole time-out: locked all the same
                connection.execute("BEGIN IMMEDIATE")
                time.sleep(seconds)
                connection.execute("ROLLBACK")
        finally:
            connection.close()

    def _fill(self, seconds: float) -> None:
        filler = self.path.with_name("filler")
        try:
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(b"\0" * 65_536)
            time.sleep(seconds)
        finally:
            filler.unlink(missing_ok=True)

    def integrity(self) -> str:
        """``PRAGMA integrity_check``."""
        connection = sqlite3.connect(self.path)
        try:
            return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
        finally:
            connection.close()


class PostgreSql:
    """A cluster of the run's own."""

    faults: tuple[str, ...] = ("lock", "restart fast", "restart immediate")

    def __init__(self, server: Postgres) -> None:
        """Make a database in it."""
        self._server = server
        self.url = server.new_database()

    def hurt(self, fault: str, seconds: float) -> None:
        """Lock the tables, or take the server away."""
        if fault == "lock":
            self._lock(seconds)
            return
        self._server.stop(signal.SIGQUIT if fault == "restart immediate" else signal.SIGINT)
        time.sleep(seconds)
        self._server.start()

    def _lock(self, seconds: float) -> None:
        engine = create_engine(self.url)
        with suppress(DBAPIError), engine.begin() as connection:
            connection.execute(text("LOCK TABLE tasks, fires IN ACCESS EXCLUSIVE MODE"))
            time.sleep(seconds)
        engine.dispose()

    def integrity(self) -> str:
        """Every table read whole; PostgreSQL has no check of its own that is always there."""
        engine = create_engine(self.url)
        try:
            with engine.connect() as connection:
                for table in ("tasks", "attempts", "fires", "apscheduler_jobs", "counters"):
                    connection.execute(text(f"SELECT count(*), count(t::text) FROM {table} t")).one()  # noqa: S608 - our names
        except DBAPIError as error:
            return str(error.orig)
        finally:
            engine.dispose()
        return "ok"


@contextmanager
def database(kind: str, folder: Path, *, keep: bool = False) -> Iterator[Database]:
    """An empty database of the kind ``sqlite`` or ``postgresql``; with ``keep`` SQLite's files stay in the folder.

    Raises:
        Missing: This machine has no PostgreSQL.
    """
    with ExitStack() as stack:
        if kind == "postgresql":
            yield PostgreSql(stack.enter_context(postgres_server()))
            return
        disk = folder / "disk"
        disk.mkdir()
        small = _mount(disk)
        if small:
            stack.callback(_unmount, disk)
        if keep:
            stack.callback(shutil.copytree, disk, folder / "kept")
        yield Sqlite(disk, small=small)


def _mount(disk: Path) -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0700", "atlas-chaos", str(disk)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603 - our own words


def _unmount(disk: Path) -> None:
    subprocess.run(["umount", "--lazy", str(disk)], check=False, capture_output=True)  # noqa: S603, S607

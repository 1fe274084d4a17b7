"""The database stops answering while a job of every second runs: the same promises on SQLite and on PostgreSQL.

A fault lasts some seconds; then it ends, the first fire follows at once, and every fire time was served exactly once.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, event, text

from atlas.builtin.health.database import store_check
from atlas.scheduler.errors import AtlasError, StoreUnavailableError
from atlas.scheduler.events import SchedulerEventKind
from atlas.scheduler.store.store import open_store
from tests.clockwork import locked
from tests.queue_bench import LIMIT_S, eventually
from tests.test_traps import Running, running, wait_for_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from tests.postgres import Postgres

LONG_S = 12.0
SHORT_S = 2.5
FIRST_FIRE_S = 2.0
LOOKS_S = 10.0
"""What is promised from the end of a fault to the first fire."""
NOISE_S = 4.0
"""What a loaded machine may add."""

Fault = Callable[[Running], AbstractContextManager[None]]


class Place(NamedTuple):
    """A database, and a way in which it stops answering."""

    target: Path | str
    fault: Fault
    for_s: float
    words: str
    """What health says meanwhile, a pattern."""


# --- SQLite ----------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own; skips where it cannot be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "atlas-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs to mount a tmpfs: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Not a byte is left on the disk of ``folder``."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()


def test_a_start_on_a_full_disk_says_so_where_sqlite_speaks_of_an_io_error(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        open_store(disk / "atlas.db").close()
        with filled(disk), pytest.raises(StoreUnavailableError, match="its disk is full: free space on it"):
            open_store(disk / "atlas.db")
        open_store(disk / "atlas.db").close()


def put_work(atlas: Running, count: int = 60) -> None:
    """Rows that need new pages; what is not taken is no task."""
    arguments = "x" * 8000

    def put() -> None:
        for _ in range(count):
            try:
                atlas.queue.sync.submit("note", arguments)
            except AtlasError:
                return

    threading.Thread(target=put, daemon=True).start()


@contextmanager
def sqlite_lock(atlas: Running) -> Iterator[None]:
    assert atlas.store.path is not None
    with locked(atlas.store.path):
        yield


@contextmanager
def sqlite_full(atlas: Running) -> Iterator[None]:
    assert atlas.store.path is not None
    with filled(atlas.store.path.parent):
        put_work(atlas)
        yield


@contextmanager
def sqlite_read_only(atlas: Running) -> Iterator[None]:
    def refuse(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only = ON")

    def allow(connection: Any, _record: object, _proxy: object) -> None:
        connection.execute("PRAGMA query_only = OFF")

    event.listen(atlas.store.engine, "begin", refuse)
    try:
        yield
    finally:
        event.remove(atlas.store.engine, "begin", refuse)
        event.listen(atlas.store.engine, "checkout", allow)  # "begin" is too late: it cannot even begin


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@contextmanager
def as_owner(postgres: Postgres, database: str = "postgres") -> Iterator[Connection]:
    engine = create_engine(postgres.url(database), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def name_of(atlas: Running) -> str:
    return str(atlas.store.engine.url.database)


def postgres_lock(postgres: Postgres) -> Fault:
    @contextmanager
    def fault(atlas: Running) -> Iterator[None]:
        engine = create_engine(postgres.url(name_of(atlas)))
        with engine.connect() as connection, connection.begin():
            connection.execute(text("LOCK TABLE tasks, fires, apscheduler_jobs IN ACCESS EXCLUSIVE MODE"))
            yield
        engine.dispose()

    return fault


def postgres_read_only(postgres: Postgres) -> Fault:
    @contextmanager
    def fault(atlas: Running) -> Iterator[None]:
        name = name_of(atlas)

        def turn(setting: str) -> None:
            with as_owner(postgres) as connection:
                connection.execute(text(f"ALTER DATABASE {name} {setting}"))
                connection.execute(
                    text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
                )

        turn("SET default_transaction_read_only = on")
        try:
            yield
        finally:
            turn("RESET default_transaction_read_only")

    return fault


def postgres_full(folder: Path) -> Fault:
    @contextmanager
    def fault(atlas: Running) -> Iterator[None]:
        with filled(folder):
            put_work(atlas, 600)
            yield

    return fault


def postgres_stop(postgres: Postgres, how: signal.Signals) -> Fault:
    @contextmanager
    def fault(_atlas: Running) -> Iterator[None]:
        postgres.stop(how)
        try:
            yield
        finally:
            postgres.start()

    return fault


@contextmanager
def on_a_small_disk(postgres: Postgres) -> Iterator[tuple[str, Path]]:
    """A database whose tables are on a disk of a few megabytes, whose folder is open to the server.

    It is none of pytest's: each pytest that starts, as one of the tests does, closes their common parent to others.
    """
    with TemporaryDirectory(prefix="atlas-disk-") as folder, small_disk(Path(folder, "disk"), 24) as disk:
        place, name = disk / "tables", f"full_{uuid4().hex[:8]}"
        place.mkdir()
        if os.geteuid() == 0:
            shutil.chown(place, "postgres")
            Path(folder).chmod(0o755)
        with as_owner(postgres) as connection:
            connection.execute(text(f"CREATE TABLESPACE {name} LOCATION '{place}'"))
            connection.execute(text(f"CREATE DATABASE {name} TABLESPACE {name}"))
        try:
            yield postgres.url(name), disk
        finally:
            with as_owner(postgres) as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
                connection.execute(text(f"DROP TABLESPACE {name}"))


# --- the cases -------------------------------------------------------------------------------------------------------

CASES = (
    *("sqlite: lock", "sqlite: disk full", "sqlite: read-only"),
    *("postgresql: lock", "postgresql: disk full", "postgresql: read-only"),
    *("postgresql: stopped fast", "postgresql: stopped at once"),
)


@pytest.fixture(params=CASES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        database, case = str(request.param).split(": ")
        if database == "sqlite":
            if case == "disk full":
                disk = stack.enter_context(small_disk(tmp_path / "disk", 12))
                yield Place(disk / "atlas.db", sqlite_full, SHORT_S, "database or disk is full")
            elif case == "lock":
                yield Place(tmp_path / "atlas.db", sqlite_lock, LONG_S, "database is locked")
            else:
                yield Place(tmp_path / "atlas.db", sqlite_read_only, SHORT_S, "readonly database")
            return
        postgres: Postgres = request.getfixturevalue("postgres")
        if case == "disk full":
            target, disk = stack.enter_context(on_a_small_disk(postgres))
            yield Place(target, postgres_full(disk), SHORT_S, "No space left on device")
            return
        gone = "connection|terminat|shut"
        fault, for_s, words = {
            "lock": (postgres_lock(postgres), LONG_S, "lock timeout.*has locked a table"),
            "read-only": (postgres_read_only(postgres), SHORT_S, "read-only"),
            "stopped fast": (postgres_stop(postgres, signal.SIGINT), SHORT_S, gone),
            "stopped at once": (postgres_stop(postgres, signal.SIGQUIT), SHORT_S, gone),
        }[case]
        yield Place(postgres.new_database(), fault, for_s, words)


def test_an_outage_is_survived_and_every_fire_time_is_served_exactly_once(place: Place) -> None:
    with running(place.target) as atlas:
        atlas.queue.registry.add("note", len)
        atlas.beats(2)
        thread = atlas.cron.running.scheduler._thread
        with place.fault(atlas):
            wait_for_fault(atlas.store)
            health_says(place.words, atlas)
            assert not threading.Event().wait(place.for_s)  # the fault lasts
            assert atlas.thread_lives
            age_s = atlas.cron.last_tick_s()
            assert age_s is not None
            assert age_s < LOOKS_S  # it goes on looking
            atlas.settle()
        ended_s = time.monotonic()
        atlas.beats(1)
        first_s = time.monotonic() - ended_s
        atlas.beats(2)
        assert first_s < FIRST_FIRE_S + NOISE_S
        assert atlas.cron.running.scheduler._thread is thread
        assert store_check(atlas.store, atlas.store.clock).status == "ok"
        assert SchedulerEventKind.RESTARTED not in {trouble.kind for trouble in atlas.cron.troubles()}
        until_written(atlas)
        atlas.check_every_second_was_served_once()


def health_says(words: str, atlas: Running) -> None:
    """Wait until the check of the store tells of the fault."""

    def tells() -> bool:
        told = store_check(atlas.store, atlas.store.clock)
        return told.status == "failing" and bool(told.remedy and re.search(words, told.detail, re.DOTALL))

    eventually(tells, words)


def until_written(atlas: Running) -> None:
    """Everything that was due during the fault is decided and on disk."""
    done: list[Any] = []
    atlas.store.write(done.append, wait_s=LIMIT_S)
    assert done

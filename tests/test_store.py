"""The store: its files and schema, its one writer, its claim; on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import weakref
from collections import Counter
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, event, inspect, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from atlas.scheduler.client import AtlasClient
from atlas.scheduler.errors import (
    LeaseLostError,
    QueueStoppedError,
    StoreError,
    StoreHeldError,
    StoreUnavailableError,
    StoreVersionError,
    UnknownTaskError,
)
from atlas.scheduler.events import Event, SchedulerEvent, TaskEvent
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.store import engine as engine_module
from atlas.scheduler.store import intake, schema, writer
from atlas.scheduler.store.commit import SpoiltError
from atlas.scheduler.store.connection import WriterConnection
from atlas.scheduler.store.database_file import with_remedy
from atlas.scheduler.store.engine import database_url, open_engine
from atlas.scheduler.store.intake import MAX_BEHIND
from atlas.scheduler.store.leases import scheduler_lease
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.store.tables import attempts, metadata, tasks
from atlas.scheduler.store.task_rows import fetch, full_row, insert_tasks, moving_row, update_tasks
from atlas.scheduler.store.tickets import Ticket
from atlas.scheduler.task import Origin, Task, TaskPriority, TaskStatus
from tests.clockwork import locked
from tests.forked import Program
from tests.queue_bench import LIMIT_S, HandClock, eventually, nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from tests.postgres import Postgres

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PENDING, RUNNING, SUCCESS, FAILED, CANCELLED, TIMEOUT, RETRYING = TaskStatus


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    opened = open_store(database)
    yield opened
    opened.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "atlas.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are waited for, and failed commits retried, in hundredths of a second."""
    monkeypatch.setattr(engine_module, "BUSY_S", 0.02)
    monkeypatch.setattr(writer, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(writer, "RETRY_MAX_S", 0.02)


class Lock:
    """Another program holds the write lock of a SQLite database."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("BEGIN EXCLUSIVE")

    def release(self) -> None:
        self._connection.close()


@pytest.fixture
def lock(path: Path) -> Iterator[Callable[[], Lock]]:
    held: list[Lock] = []

    def take() -> Lock:
        held.append(Lock(path))
        return held[-1]

    yield take
    for one in held:
        one.release()


def a_task(task_id: str, **values: Any) -> Task:
    return Task(**{"id": task_id, "name": "t", "function": "f", "created_at": NOW, "owner": "me", **values})


class Door:
    """A commit that waits inside until it is opened, so that others gather behind it."""

    def __init__(self, store: Store) -> None:
        self._entered, self._open = threading.Event(), threading.Event()
        self.ticket = Ticket()
        store.writer.work(self._wait, self.ticket)
        assert self._entered.wait(LIMIT_S)

    def _wait(self, _connection: Connection) -> None:
        self._entered.set()
        assert self._open.wait(LIMIT_S)

    def open(self) -> None:
        self._open.set()
        self.ticket.wait(LIMIT_S)


def accept(store: Store, *task_list: Task, ticket: Ticket | None = None) -> Ticket:
    ticket = ticket or Ticket()
    store.writer.accept(task_list, ticket)
    return ticket


def moved(store: Store, task: Task, new: TaskStatus, **how: Any) -> None:
    was = task.status
    task.move(new)
    if new is RUNNING:
        task.attempt += 1
        task.started_at = NOW
    if new.is_final:
        task.finished_at = NOW
    store.writer.change(task, was, NOW, **how)


def row_of(store: Store, task_id: str) -> Task | None:
    return store.read(lambda connection: fetch(connection, task_id))


def ids(store: Store) -> list[str]:
    return store.read(lambda connection: list(connection.execute(select(tasks.c.id).order_by(tasks.c.id)).scalars()))


def heard(store: Store) -> list[Event]:
    found: list[Event] = []
    assert store.events.drain(LIMIT_S)
    store.events.subscribe(found.append)
    return found


# --- schema -----------------------------------------------------------------------------------------------------------


def catalog(engine: Engine) -> dict[str, Any]:
    """Everything a database says about its tables, to the letter."""
    if engine.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master"
    else:
        query = """
            SELECT 'column ' || table_name || '.' || column_name, concat_ws(' ', ordinal_position, data_type,
                   character_maximum_length, is_nullable, column_default)
            FROM information_schema.columns WHERE table_schema = 'public'
            UNION ALL SELECT 'index ' || indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
            UNION ALL SELECT 'constraint ' || conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace"""
    with engine.connect() as connection:
        rows = connection.execute(text(query))
        return {name: sql and " ".join(sql.split()) for name, sql in rows if "alembic_version" not in name}


@pytest.fixture(params=["sqlite", "postgres"])
def two_engines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    if request.param == "sqlite":
        targets = [str(tmp_path / "one.db"), str(tmp_path / "two.db")]
    else:
        server = request.getfixturevalue("postgres")
        targets = [server.new_database(), server.new_database()]
    first, second = (open_engine(database_url(target), "full") for target in targets)
    yield first, second
    first.dispose()
    second.dispose()


def test_the_migrations_lead_to_the_tables_of_a_new_database(two_engines: tuple[Engine, Engine]) -> None:
    made, migrated = two_engines
    schema.prepare(made)
    with migrated.connect().execution_options(atlas_write=True) as connection, connection.begin():
        schema.upgrade(connection)
    assert catalog(migrated) == catalog(made)
    assert {"tasks_final_by_end", "index tasks_final_by_end"} & set(catalog(made))


def test_neither_way_leaves_anything_to_migrate(two_engines: tuple[Engine, Engine]) -> None:
    made, migrated = two_engines
    schema.prepare(made)
    with migrated.connect().execution_options(atlas_write=True) as connection, connection.begin():
        schema.upgrade(connection)
    for engine in two_engines:
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
            assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [(schema.HEAD,)]
        schema.prepare(engine)


def test_there_is_one_line_of_migrations_and_its_head_is_the_programs() -> None:
    assert ScriptDirectory(str(schema.MIGRATIONS)).get_heads() == [schema.HEAD]


def test_migrations_run_from_a_folder_with_a_percent_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(schema.MIGRATIONS, tmp_path / "100%" / "migrations")
    monkeypatch.setattr(schema, "MIGRATIONS", tmp_path / "100%" / "migrations")
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        schema.upgrade(connection)
        assert inspect(connection).has_table("tasks")
    engine.dispose()


def test_a_database_of_a_newer_program_is_refused_and_left_alone(database: str) -> None:
    Store(database).close()
    engine = open_engine(database_url(database), "full")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    before = catalog(engine)
    with pytest.raises(StoreVersionError, match=r"schema 9999.*written by a newer Atlas"):
        open_store(database)
    assert catalog(engine) == before
    engine.dispose()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tasks SET status = 'PAUSED'",
        'UPDATE tasks SET policy = \'{"overlap": "merge"}\'',
        "UPDATE tasks SET cause = 'budget'",
        "INSERT INTO counters (job_id, status, tasks, timed, duration_s) VALUES ('job', 'PAUSED', 1, 0, 0)",
    ],
)
def test_a_value_that_a_newer_program_wrote_is_refused_in_words(database: str, change: str) -> None:
    with AtlasClient(database).sync as client:
        task_id = client.submit("add")
        with client.store.engine.connect().execution_options(atlas_write=True) as connection, connection.begin():
            connection.exec_driver_sql(change)
    refused = pytest.raises(StoreVersionError, match=r"cannot be read .*it was written by a newer Atlas")
    with refused, AtlasClient(database).sync as client:
        client.task(task_id)


def test_several_first_starts_at_once_make_the_tables_once(database: str) -> None:
    ready, errors = threading.Barrier(6), []

    def start() -> None:
        ready.wait(LIMIT_S)
        try:
            Store(database).close()
        except Exception as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert errors == []


# --- files ------------------------------------------------------------------------------------------------------------


def test_database_files_and_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = open_store(tmp_path / "data" / "atlas.db")
        store.claim()
        accept(store, a_task("a")).wait(LIMIT_S)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "data").iterdir()}
        store.unclaim(clean=True)
        store.close()
    finally:
        os.umask(before)
    assert modes.pop("atlas.db.bells", 0o700) == 0o700
    assert modes == dict.fromkeys(["atlas.db", "atlas.db-wal", "atlas.db-shm", "atlas.db.lock"], 0o600)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_commits_are_on_the_disk_by_default(path: Path) -> None:
    def settings(store: Store) -> list[Any]:
        names = ("journal_mode", "synchronous")
        return store.read(lambda connection: [connection.execute(text(f"PRAGMA {name}")).scalar() for name in names])

    store = open_store(path)
    assert settings(store) == ["wal", 2]
    store.close()
    store = open_store(path, durability="normal")
    assert settings(store) == ["wal", 1]
    store.close()


@pytest.mark.parametrize("spelling", ["data/../atlas.db", "link/atlas.db", "atlas.db"])
def test_one_database_is_one_store_however_it_is_spelled(tmp_path: Path, spelling: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    first = open_store(tmp_path / "atlas.db")
    second = open_store(tmp_path / spelling)
    third = open_store(f"sqlite:///{tmp_path}/atlas.db")
    assert first is second is third
    first.close()
    second.close()
    assert third.write(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1
    third.close()
    fourth = open_store(tmp_path / "atlas.db")
    assert fourth is not first
    fourth.close()


@pytest.mark.parametrize(
    ("target", "told"),
    [
        pytest.param("mysql://localhost/atlas", "only sqlite and postgresql", id="another database"),
        pytest.param("/proc/no/such/atlas.db", "make its folder writable", id="a folder that cannot be made"),
        pytest.param("/", "this is a folder; name a file", id="a folder"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_with_a_remedy(target: str, told: str) -> None:
    with pytest.raises(StoreError, match=told):
        open_store(target)


def test_a_file_that_is_no_database_is_told_and_left_alone(path: Path) -> None:
    path.write_text("not a database, but something to keep " * 100)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailableError, match="cannot be opened: file is not a database; put a backup"):
        open_store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (sqlite3.SQLITE_CORRUPT, "put a backup in its place"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "give this user the right to write"),
        (sqlite3.SQLITE_CANTOPEN, "give this user the right to write"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, "see whether its disk is well"),
        (sqlite3.SQLITE_BUSY, "words$"),
    ],
)
def test_what_sqlite_says_of_a_file_it_cannot_open_comes_with_a_remedy(path: Path, code: int, remedy: str) -> None:
    error = sqlite3.OperationalError("words")
    error.sqlite_errorcode = code
    assert re.search(remedy, with_remedy(error, path))


def test_a_database_that_somebody_keeps_locked_can_be_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(path).close()
    monkeypatch.setattr(schema, "MORE_TRIES", 0)
    with locked(path), closing(Store(path, follows=False)) as store:
        assert store.read(scheduler_lease) is None


def test_a_password_is_never_shown() -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        open_store("postgresql://me:hunter2@127.0.0.1:1/atlas")
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize("target", [None, "sqlite://", "sqlite:///:memory:", ":memory:"])
def test_a_store_in_memory_is_private_and_may_be_used_from_many_threads(target: str | None) -> None:
    store, other = Store(target), Store(None)
    assert store.is_private
    assert store.path is None

    def use(number: int) -> None:
        for step in range(20):
            task_id = f"{number} {step}"
            store.write(lambda connection, task_id=task_id: insert_tasks(connection, [full_row(a_task(task_id))]))  # type: ignore[misc]
            assert row_of(store, task_id) is not None

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert len(ids(store)) == 80
    assert ids(other) == []
    store.close()
    other.close()


# --- the writer: groups -----------------------------------------------------------------------------------------------


def test_what_gathers_behind_a_commit_becomes_one_commit(store: Store) -> None:
    door = Door(store)
    before = store.writer.commits
    tickets = [accept(store, a_task(f"{number:03}")) for number in range(100)]
    door.open()
    for ticket in tickets:
        ticket.wait(LIMIT_S)
    assert store.writer.commits == before + 2
    assert len(ids(store)) == 100


def test_a_writer_that_sleeps_holds_nothing_of_what_it_wrote(store: Store) -> None:
    class Large:
        """A text of some megabytes."""

    def write(_held: Large, _connection: Connection) -> None:
        """Write it."""

    gone, large, ticket = threading.Event(), Large(), Ticket()
    weakref.finalize(large, gone.set)
    store.writer.work(partial(write, large), ticket)
    del large
    ticket.wait(LIMIT_S)
    assert gone.wait(LIMIT_S)


def test_nobody_is_told_of_a_task_before_its_row_can_be_read(store: Store) -> None:
    seen: list[Task | None] = []
    store.writer.on_accepted = lambda found: seen.extend(row_of(store, task.id) for task in found)
    ticket = accept(store, a_task("a"), a_task("b"))
    ticket.wait(LIMIT_S)
    assert [task.id for task in seen if task] == ["a", "b"]


def test_no_ticket_is_settled_before_the_commit_nor_before_the_hooks(store: Store) -> None:
    door = Door(store)
    task = a_task("a")
    order: list[tuple[str, bool]] = []
    ticket: Ticket
    late: Ticket
    store.writer.on_accepted = lambda _found: order.append(("accepted", ticket.done))
    store.writer.on_written = lambda _moves: order.append(("written", late.done))
    ticket = accept(store, task)
    late = Ticket()
    moved(store, task, CANCELLED, ticket=late)
    assert not ticket.done
    door.open()
    ticket.wait(LIMIT_S)
    late.wait(LIMIT_S)
    assert order == [("written", False), ("accepted", False), ("written", False)]


def test_of_a_task_that_moved_twice_only_the_newest_state_is_written_but_both_moves_are_told(store: Store) -> None:
    task = a_task("a")
    accept(store, task).wait(LIMIT_S)
    events = heard(store)
    door = Door(store)
    before = store.writer.commits
    moved(store, task, RUNNING)
    moved(store, task, SUCCESS)
    door.open()
    store.write(nothing)
    assert store.events.drain(LIMIT_S)
    assert store.writer.commits <= before + 3
    row = row_of(store, "a")
    assert row is not None
    assert (row.status, row.attempt, row.started_at) == (SUCCESS, 1, NOW)
    assert [event.status for event in events if isinstance(event, TaskEvent)] == [RUNNING, SUCCESS]


def test_a_late_state_of_a_fenced_attempt_changes_nothing(store: Store) -> None:
    store.write(lambda connection: insert_tasks(connection, [full_row(a_task("a", attempt=5))]))
    late = a_task("a", attempt=3, status=RUNNING)
    moved(store, late, SUCCESS)
    store.write(nothing)
    row = row_of(store, "a")
    assert row is not None
    assert (row.status, row.attempt) == (PENDING, 5)


def test_rows_come_back_as_they_went(store: Store) -> None:
    task = a_task(
        "a", arguments='{"args":["新"],"kwargs":{}}', job_id="j", fire_time=NOW, origin=Origin.FIRE, volatile=True
    )
    accept(store, task).wait(LIMIT_S)
    row = row_of(store, "a")
    assert row is not None
    assert [getattr(row, name) for name in Task.__slots__] == [getattr(task, name) for name in Task.__slots__]


@pytest.mark.parametrize("number", [1, 2, 63, 64, 65, 200, 255, 256, 257, 512, 513])
def test_every_row_of_a_group_is_written_once_with_its_own_values(store: Store, number: int) -> None:
    """On SQLite rows go in groups of one statement each, of which none may be lost or get another one's values."""
    made = [a_task(f"t{n:03}", name=f"n{n}") for n in range(number)]
    accept(store, *made).wait(LIMIT_S)
    for n, task in enumerate(made):
        task.attempt, task.error, task.cancel_requested = n, None if n % 3 else f"e{n}", bool(n % 2)
    store.write(lambda connection: update_tasks(connection, [moving_row(task) for task in reversed(made)]))
    found = store.read(lambda connection: connection.execute(select(tasks).order_by(tasks.c.id)).all())
    assert [(row.id, row.name, row.attempt, row.error, row.cancel_requested) for row in found] == [
        (task.id, task.name, task.attempt, task.error, task.cancel_requested) for task in made
    ]


def test_works_of_one_commit_fail_alone(store: Store) -> None:
    """Neither an error of the work itself, nor a value the database refuses, takes the others along."""
    door = Door(store)

    def fail(_connection: Connection) -> None:
        raise KeyError("mine")

    def twice(connection: Connection) -> None:
        connection.execute(tasks.insert(), [dict(zip(tasks.c.keys(), full_row(a_task("twice")), strict=True))] * 2)

    def impossible(connection: Connection) -> None:
        insert_tasks(connection, [full_row(a_task("impossible", name=object()))])

    def half(connection: Connection) -> None:
        insert_tasks(connection, [full_row(a_task("half"))])
        raise ValueError("after the insert")

    def good(connection: Connection) -> str:
        insert_tasks(connection, [full_row(a_task("good"))])
        return "done"

    tickets = [Ticket() for _ in range(5)]
    for work, ticket in zip((fail, twice, impossible, half, good), tickets, strict=True):
        store.writer.work(work, ticket)
    accepted = accept(store, a_task("beside"))
    before = store.writer.commits
    door.open()
    assert tickets[-1].wait(LIMIT_S) == "done"
    accepted.wait(LIMIT_S)
    assert store.writer.commits == before + 2
    for ticket in tickets[:-1]:
        with pytest.raises(Exception, match=r"(?i)mine|after the insert|unique|bind|adapt") as caught:
            ticket.wait(LIMIT_S)
        assert not isinstance(caught.value.__context__, SpoiltError), "its traceback would show each error twice"
    assert ids(store) == ["beside", "good"]


def test_a_commit_in_which_nothing_raises_takes_no_savepoint(store: Store) -> None:
    """It would cost a copy of each page that is written."""

    def refused(_connection: Connection) -> None:
        raise UnknownTaskError("a")

    said: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda _conn, _cursor, text, *_rest: said.append(text))
    store.write(nothing)
    assert [text for text in said if "SAVEPOINT" in text] == []
    door, ticket = Door(store), Ticket()
    accepted = accept(store, a_task("a"))
    store.writer.work(refused, ticket)
    door.open()
    with pytest.raises(UnknownTaskError):
        ticket.wait(LIMIT_S)
    accepted.wait(LIMIT_S)
    assert [text for text in said if "SAVEPOINT" in text] == ["SAVEPOINT work", "ROLLBACK TO SAVEPOINT work"]
    assert ids(store) == ["a"]
    assert store.totals.metrics().total_tasks == 1, "a commit that is made anew counts once"


@pytest.mark.parametrize("value", ["a\x00b", "\ud800"], ids=ascii)
def test_a_text_that_no_row_can_hold_stops_nobody_else(database: str, value: str) -> None:
    store = Store(database)
    bad = Ticket(expires_s=store.clock.monotonic() + LIMIT_S)
    store.writer.work(lambda connection: insert_tasks(connection, [full_row(a_task("bad", name=value))]), bad)
    accept(store, a_task("good")).wait(LIMIT_S)
    try:
        bad.wait(LIMIT_S)
    except StoreUnavailableError:
        pytest.fail("it was retried until it expired")
    except Exception:  # noqa: BLE001 - the database's own complaint
        assert ids(store) == ["good"]
    store.close()


def test_what_hangs_on_a_work_runs_behind_its_commit_and_before_its_ticket(store: Store) -> None:
    order: list[Any] = []
    ticket = Ticket()

    def after(value: str) -> None:
        order.append((value, row_of(store, "a") is not None, ticket.done))

    def insert(connection: Connection) -> str:
        insert_tasks(connection, [full_row(a_task("a"))])
        return "value"

    store.writer.work(insert, ticket, after=after)
    assert ticket.wait(LIMIT_S) == "value"
    assert order == [("value", True, False)]


def test_a_hook_that_raises_ends_neither_the_writer_nor_the_wait(store: Store) -> None:
    def broken(_found: Any) -> None:
        raise ValueError("a hook")

    store.writer.on_accepted = store.writer.on_written = broken
    accept(store, a_task("a")).wait(LIMIT_S)
    ticket = Ticket()
    store.writer.work(nothing, ticket, after=broken)
    ticket.wait(LIMIT_S)
    assert store.write(lambda connection: connection.execute(text("SELECT 7")).scalar()) == 7


def test_whatever_breaks_behind_a_commit_those_who_wait_for_it_hear_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: object) -> None:
        raise ValueError("out of order")

    for holder, name in ((store.totals, "add"), (store.events, "publish_later"), (writer, "wake_all")):
        monkeypatch.setattr(holder, name, broken)
    accept(store, a_task("a")).wait(LIMIT_S)
    assert store.write(lambda connection: connection.execute(text("SELECT 7")).scalar()) == 7
    assert store.writer.fault is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_ends_all_the_same_does_not_end_in_silence(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_given: object, **_more: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(store.writer, "_take", broken)
    store.writer.look_soon()  # wakes it
    thread = store.writer._thread
    assert thread is not None
    thread.join(LIMIT_S)
    assert store.writer.fault == "the writer ended by MemoryError: no room; restart this process"
    assert store.writer.failing_s >= 0.0


def test_attempts_that_did_not_end_their_task_are_kept_beside_it(store: Store) -> None:
    task = a_task("a")
    accept(store, task).wait(LIMIT_S)
    moved(store, task, RUNNING)
    row = {"task_id": "a", "attempt": 1, "outcome": "error", "started_at": 1.0, "ended_at": 2.0, "wait_s": 3.0}
    moved(store, task, RETRYING, attempt={**row, "error": "boom"}, wait_s=3.0)
    store.write(nothing)
    found = store.read(lambda connection: connection.execute(select(attempts)).one())
    assert (found.outcome, found.wait_s, found.error) == ("error", 3.0, "boom")


# --- the writer: back-pressure ---------------------------------------------------------------------------------------


def test_a_hundred_unwritten_changes_hold_the_next_start_back_and_accepts_do_not_count(store: Store) -> None:
    known = [a_task(f"{number:03}") for number in range(MAX_BEHIND)]
    accept(store, *known).wait(LIMIT_S)
    door = Door(store)
    accept(store, *(a_task(f"x{number}") for number in range(MAX_BEHIND)))
    for task in known[1:]:
        moved(store, task, RUNNING)
        moved(store, task, SUCCESS)
    assert store.writer.may_start()
    moved(store, known[0], RUNNING)
    assert not store.writer.may_start()
    door.open()
    store.write(nothing)
    assert store.writer.may_start()


def test_changes_in_the_commit_under_way_count_as_unwritten(store: Store) -> None:
    known = [a_task(f"{number:03}") for number in range(MAX_BEHIND)]
    accept(store, *known).wait(LIMIT_S)
    first = Door(store)
    for task in known:
        moved(store, task, RUNNING)
    entered, leave = threading.Event(), threading.Event()

    def hold(_connection: Connection) -> None:
        entered.set()
        assert leave.wait(LIMIT_S)

    ticket = Ticket()
    store.writer.work(hold, ticket)
    first.open()
    assert entered.wait(LIMIT_S)
    assert not store.writer.may_start()
    leave.set()
    ticket.wait(LIMIT_S)
    assert store.writer.may_start()


def may_start(store: Store) -> list[TaskPriority]:
    return [one for one in TaskPriority if store.writer.may_start(one)]


@pytest.mark.parametrize("how", ["accepted", "in a work"])
def test_nothing_less_starts_while_an_urgent_task_is_on_its_way_to_the_disk(
    store: Store, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(intake, "MAX_HELD_S", 3600.0)
    assert may_start(store) == [*TaskPriority]
    before, entered, leave = Door(store), threading.Event(), threading.Event()

    def hold(_connection: Connection) -> None:
        entered.set()
        assert leave.wait(LIMIT_S)

    ticket = Ticket()
    if how == "accepted":
        accept(store, a_task("urgent", priority=TaskPriority.URGENT))
    store.writer.work(hold, ticket, is_urgent=how == "in a work")
    assert may_start(store) == [TaskPriority.URGENT]  # it waits for the commit before its own
    before.open()
    assert entered.wait(LIMIT_S)
    assert may_start(store) == [TaskPriority.URGENT]
    leave.set()
    ticket.wait(LIMIT_S)
    assert may_start(store) == [*TaskPriority]


def test_urgent_tasks_one_behind_the_other_hold_back_the_rest_for_a_moment_only(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_HELD_S", 3600.0)
    first = Door(store)
    accept(store, a_task("one", priority=TaskPriority.URGENT))
    begun_s = store.writer._urgent_since_s
    accept(store, a_task("two", priority=TaskPriority.URGENT))
    assert store.writer._urgent_since_s == begun_s
    assert may_start(store) == [TaskPriority.URGENT]
    monkeypatch.setattr(intake, "MAX_HELD_S", 0.0)  # that time has passed, and they are on their way still
    assert may_start(store) == [*TaskPriority]
    first.open()
    store.write(nothing)
    accept(store, a_task("three", priority=TaskPriority.URGENT)).wait(LIMIT_S)
    assert store.writer._urgent_since_s > begun_s


def test_a_reader_for_whom_no_connection_is_left_is_told_that_the_store_does_not_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.engine.pool, "_timeout", 0.05)
    with ExitStack() as taken:
        with suppress(NoConnectionError):
            for _ in range(100):
                taken.enter_context(store.engine.connect())
        with pytest.raises(StoreUnavailableError, match="cannot be read: QueuePool limit"):
            store.read(nothing)
    store.read(nothing)


def test_what_was_accepted_by_a_leader_is_not_written_late_under_the_next_one(tmp_path: Path) -> None:
    """A queue was stopped while the database was locked: its submit was told as accepted, and nobody ever served it."""
    path = tmp_path / "atlas.db"
    store, elsewhere = Store(path), sqlite3.connect(path, isolation_level=None)
    try:
        store.claim()
        elsewhere.execute("BEGIN IMMEDIATE")
        late = accept(store, a_task("late"))
        store.unclaim(clean=False)
        elsewhere.execute("UPDATE leases SET owner = 'another', token = token + 1")
        elsewhere.execute("COMMIT")
        with pytest.raises(LeaseLostError):
            late.wait(LIMIT_S)
        assert store.read(lambda connection: fetch(connection, "late")) is None
        assert store.write(lambda _connection: "its own") == "its own"
    finally:
        elsewhere.close()
        store.close()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_server_that_cannot_hold_every_text_is_refused(postgres: Postgres, encoding: str) -> None:
    name = f"of_{encoding.lower()}"
    engine = create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        made = f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        connection.execute(text(made))
    engine.dispose()
    with pytest.raises(StoreError, match=f"its encoding is {encoding}, .*'createdb -E UTF8"):
        Store(postgres.url(name))


def test_texts_are_utf8_whatever_the_environment_says(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    store = Store(postgres_url)
    try:
        accept(store, a_task("one", name="采集")).wait(LIMIT_S)
        assert store.read(lambda connection: fetch(connection, "one")).name == "采集"  # type: ignore[union-attr]
    finally:
        store.close()


def test_what_waits_behind_a_commit_that_hangs_is_withdrawn(store: Store) -> None:
    """A server that stands still answers neither with an error nor at all; its commit may yet be made."""
    door = Door(store)
    try:
        with pytest.raises(StoreUnavailableError, match="withdrawn"):
            store.write(nothing, wait_s=0.05)
        assert not door.ticket.done
    finally:
        door.open()
    assert store.write(lambda _connection: "goes on") == "goes on"


@pytest.mark.usefixtures("impatient")
def test_an_urgent_task_that_was_withdrawn_holds_up_nobody(
    path: Path, lock: Callable[[], Lock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_HELD_S", 3600.0)
    store = open_store(path)
    held = lock()
    with pytest.raises(StoreUnavailableError):
        accept(store, a_task("urgent", priority=TaskPriority.URGENT), ticket=store.ticket(wait_s=0.05)).wait(LIMIT_S)
    held.release()
    eventually(lambda: store.writer.may_start(TaskPriority.LOW))
    store.close()


@pytest.mark.parametrize("ended_by", ["somebody waits", "a hundred changes", "closing"])
def test_changes_that_nobody_waits_for_gather(database: str, monkeypatch: pytest.MonkeyPatch, ended_by: str) -> None:
    monkeypatch.setattr(intake, "GATHER_S", 3600.0)
    opened = Store(database, follows=False)  # what it hears of others ends a gathering, too
    known = [a_task(f"{number:03}") for number in range(MAX_BEHIND)]
    accept(opened, *known).wait(LIMIT_S)
    commits = opened.writer.commits
    moved(opened, known[0], RUNNING, awaited=False)
    eventually(lambda: opened.writer._gathering)
    moved(opened, known[0], SUCCESS, awaited=False)
    assert row_of(opened, "000").status is PENDING  # type: ignore[union-attr]
    if ended_by == "somebody waits":
        moved(opened, known[1], RUNNING, awaited=True)
    elif ended_by == "a hundred changes":
        for task in known[1:]:
            moved(opened, task, RUNNING, awaited=False)
    else:
        opened.close()
        opened = open_store(database)
    eventually(lambda: row_of(opened, "000").status is SUCCESS)  # type: ignore[union-attr]
    if ended_by != "closing":
        eventually(lambda: opened.writer.commits > commits)  # counted behind the commit, whose row can be read by then
        assert opened.writer.commits == commits + 1
    opened.close()


def test_one_change_that_is_unwritten_for_a_second_holds_the_next_start_back(path: Path) -> None:
    clock = HandClock()
    store = Store(path, clock=clock)
    task = a_task("a")
    accept(store, task).wait(LIMIT_S)
    door = Door(store)
    moved(store, task, RUNNING)
    assert store.writer.may_start()
    clock.ahead_s = 1.5
    assert not store.writer.may_start()
    door.open()
    store.write(nothing)
    assert store.writer.may_start()
    store.close()


# --- when the database does not answer -------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_a_change_the_database_does_not_take_in_time_is_withdrawn(path: Path, lock: Callable[[], Lock]) -> None:
    store = open_store(path)
    held = lock()
    with pytest.raises(StoreUnavailableError, match="locked") as caught:
        store.write(lambda connection: insert_tasks(connection, [full_row(a_task("withdrawn"))]), wait_s=0.05)
    assert caught.value.waited_s == 0.05
    held.release()
    accept(store, a_task("kept")).wait(LIMIT_S)
    assert ids(store) == ["kept"]
    store.close()


@pytest.mark.usefixtures("impatient")
def test_of_several_that_wait_only_those_whose_time_has_come_are_withdrawn(
    path: Path, lock: Callable[[], Lock]
) -> None:
    store = open_store(path)
    held = lock()
    now_s, undone = store.clock.monotonic(), []
    short, long = Ticket(expires_s=now_s + 0.05), Ticket(expires_s=now_s + LIMIT_S)
    short.undo = lambda: undone.append("short")
    long.undo = lambda: undone.append("long")
    accept(store, a_task("b1"), a_task("b2"), ticket=long)
    accept(store, a_task("a1"), a_task("a2"), ticket=short)
    accept(store, a_task("c1"))
    with pytest.raises(StoreUnavailableError):
        short.wait(LIMIT_S)
    assert not long.done
    held.release()
    long.wait(LIMIT_S)
    store.write(nothing)
    assert ids(store) == ["b1", "b2", "c1"]
    assert undone == ["short"]
    assert store.totals.metrics().total_tasks == 3
    store.close()


def test_a_row_that_is_in_a_commit_is_waited_for_beyond_its_time(store: Store) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(_connection: Connection) -> str:
        entered.set()
        assert leave.wait(LIMIT_S)
        return "done"

    ticket = Ticket(expires_s=store.clock.monotonic() - 1)
    store.writer.work(slow, ticket)
    assert entered.wait(LIMIT_S)
    assert not ticket.done
    leave.set()
    assert ticket.wait(LIMIT_S) == "done"


@pytest.mark.usefixtures("impatient")
def test_an_outage_is_told_once_with_its_end_and_nothing_is_lost_or_doubled(
    path: Path, lock: Callable[[], Lock]
) -> None:
    store = open_store(path)
    task = a_task("a")
    accept(store, task).wait(LIMIT_S)
    events = heard(store)
    fault = threading.Event()
    store.events.subscribe(lambda event: fault.set() if isinstance(event, SchedulerEvent) else None)
    held = lock()
    moved(store, task, RUNNING)
    tickets = [accept(store, a_task(f"b{number}")) for number in range(5)]
    assert fault.wait(LIMIT_S)
    assert store.writer.fault is not None
    assert "locked" in store.writer.fault
    assert store.writer.failing_s > 0
    moved(store, task, SUCCESS)
    held.release()
    for ticket in tickets:
        ticket.wait(LIMIT_S)
    store.write(nothing)
    assert store.events.drain(LIMIT_S)
    assert not store.writer.failing_s
    assert [event.kind.value for event in events if isinstance(event, SchedulerEvent)] == ["fault", "recovered"]
    assert Counter(event.status for event in events if isinstance(event, TaskEvent)) == Counter(
        {PENDING: 5, RUNNING: 1, SUCCESS: 1}
    )
    assert ids(store) == ["a", "b0", "b1", "b2", "b3", "b4"]
    found = store.totals.metrics()
    assert (found.total_tasks, found.pending_tasks, found.successful_tasks) == (6, 5, 1)
    store.close()


class LostReply:
    """The database commits, and the connection breaks before it can say so."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 1
        commit = store.engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            commit(connection)
            if self.times and threading.current_thread().name == "atlas-writer":
                self.times -= 1
                raise OperationalError("COMMIT", {}, ConnectionResetError("the reply was lost"))

        monkeypatch.setattr(store.engine.dialect, "do_commit", do_commit)


def test_a_commit_whose_reply_is_lost_is_repeated_with_the_same_ids(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    LostReply(store, monkeypatch)
    accept(store, a_task("a"), a_task("b")).wait(LIMIT_S)
    assert ids(store) == ["a", "b"]
    assert store.totals.metrics().total_tasks == 2


@pytest.mark.usefixtures("impatient")
def test_closing_gives_up_on_a_database_that_does_not_answer_and_tells_everybody(
    path: Path, lock: Callable[[], Lock]
) -> None:
    store = open_store(path)
    lock()
    accepted = accept(store, a_task("a"))
    waiting = Ticket()
    failures: list[BaseException] = []
    store.writer.work(nothing_but_write, waiting, failed=failures.append)
    store.close()
    for ticket in (accepted, waiting):
        with pytest.raises(StoreUnavailableError, match="closed while the database did not answer"):
            ticket.wait(LIMIT_S)
    assert len(failures) == 1


def nothing_but_write(connection: Connection) -> None:
    connection.execute(text("UPDATE leases SET figures = '{}'"))


def test_closing_writes_what_waits_and_then_takes_nothing_more(path: Path) -> None:
    store = open_store(path)
    door = Door(store)
    ticket = accept(store, a_task("a"))
    closing = threading.Thread(target=store.close)
    closing.start()
    door.open()
    closing.join(LIMIT_S)
    ticket.wait(LIMIT_S)
    with pytest.raises(QueueStoppedError, match="closed"):
        accept(store, a_task("b"))
    with pytest.raises(QueueStoppedError, match="closed"):
        store.write(nothing)
    again = open_store(path)
    assert ids(again) == ["a"]
    again.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_commits_into_a_file_that_is_gone_do_not_succeed(path: Path, tmp_path: Path, how: str) -> None:
    """SQLite itself would go on writing into the deleted file, and everything would be lost at the end."""
    store = open_store(path)
    accept(store, a_task("a")).wait(LIMIT_S)
    path.rename(tmp_path / "aside.db")
    if how == "replaced":
        path.touch()
    with pytest.raises(StoreUnavailableError, match=r"was replaced by another one|was deleted"):
        store.write(lambda connection: insert_tasks(connection, [full_row(a_task("b"))]), wait_s=0.05)
    (tmp_path / "aside.db").replace(path)
    accept(store, a_task("c")).wait(LIMIT_S)
    assert ids(store) == ["a", "c"]
    store.close()


def test_a_reading_error_is_a_store_error_too(path: Path) -> None:
    store = open_store(path)
    with pytest.raises(StoreUnavailableError, match="cannot be read: no such table"):
        store.read(lambda connection: connection.execute(text("SELECT * FROM nowhere")))
    store.close()


# --- other processes --------------------------------------------------------------------------------------------------


def test_another_processes_commit_is_noticed_and_counted(database: str) -> None:
    store, other = Store(database), Store(database)
    seen = threading.Semaphore(0)
    store.on_foreign(seen.release)
    assert seen.acquire(timeout=LIMIT_S), "the first look always counts"
    accept(other, a_task("a", owner=None)).wait(LIMIT_S)
    for _ in range(20):
        assert seen.acquire(timeout=LIMIT_S)
        if store.totals.metrics().total_tasks == 1:
            break
    else:
        pytest.fail("it was not counted")
    store.off_foreign(seen.release)
    other.close()
    store.close()


def test_what_comes_while_the_writer_looks_around_is_committed_once(path: Path) -> None:
    """It went into the empty group at hand, and stayed in it for the next commit as well."""
    store = open_store(path)
    accepted: list[str] = []
    store.writer.on_accepted = lambda found: accepted.extend(task.id for task in found)
    events = heard(store)
    tickets: list[Ticket] = []

    def interfere() -> None:
        task = a_task(str(len(tickets)))
        tickets.append(accept(store, task))
        task.status = CANCELLED
        store.writer.change(task, PENDING, NOW)

    store.on_foreign(interfere)
    for number in range(3):
        store.writer.look_again()
        eventually(lambda number=number: len(tickets) > number)  # type: ignore[misc]
        tickets[number].wait(LIMIT_S)
    store.off_foreign(interfere)
    store.write(nothing)
    assert accepted == ["0", "1", "2"][: len(tickets)]
    found = store.totals.metrics()
    assert (found.total_tasks, found.cancelled_tasks, found.pending_tasks) == (len(tickets), len(tickets), 0)
    assert store.events.drain(LIMIT_S)
    assert len(events) == 2 * len(tickets)
    store.close()


def test_own_commits_are_not_taken_for_somebody_elses(path: Path) -> None:
    store = open_store(path)
    seen = threading.Semaphore(0)
    store.on_foreign(seen.release)
    assert seen.acquire(timeout=LIMIT_S)
    store.writer._looked_s = float("-inf")
    accept(store, a_task("a")).wait(LIMIT_S)
    store.writer._looked_s = float("-inf")
    store.write(nothing)
    assert not seen.acquire(blocking=False)
    store.close()


@given(who=st.lists(st.sampled_from(["own", "other", "nobody"]), max_size=12))
@settings(max_examples=40)
def test_no_commit_of_another_is_overlooked_however_near_it_is(tmp_path_factory: Any, who: list[str]) -> None:
    path = tmp_path_factory.mktemp("near") / "atlas.db"
    open_store(path).close()
    engine, others = (open_engine(database_url(path), "normal") for _ in range(2))
    mine = WriterConnection(engine)
    mine.others_committed()
    unseen = False
    for one in who:
        if one == "own":
            with mine.get().begin():
                mine.get().execute(text("CREATE TABLE IF NOT EXISTS own (x)"))
                mine.get().execute(text("INSERT INTO own VALUES (1)"))
        elif one == "other":
            with others.begin() as connection:
                connection.execute(text("CREATE TABLE IF NOT EXISTS other (x)"))
                connection.execute(text("INSERT INTO other VALUES (1)"))
            unseen = True
        else:
            assert mine.others_committed() is unseen
            unseen = False
    assert mine.others_committed() is unseen
    mine.drop()
    engine.dispose()
    others.dispose()


HOLD = """
    import asyncio, sys
    from atlas.scheduler.queue import TaskQueue

    async def main():
        async with TaskQueue(store=sys.argv[1]):
            print("holding", flush=True)
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(main())
"""


@pytest.fixture
def holder(database: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that serves the database; it stops cleanly when its standard input is closed."""
    process = Program(
        [sys.executable, "-c", textwrap.dedent(HOLD), database],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    yield process
    if process.poll() is None:
        process.kill()
    process.wait(LIMIT_S)
    process.stdin.close()
    process.stdout.close()


def test_a_second_process_is_refused_and_told_who_holds_the_database(
    database: str, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(StoreHeldError, match=rf"held by process {holder.pid} on .* since 20"):
        TaskQueue(store=database).sync.start()
    store = open_store(database)
    lease = store.read(scheduler_lease)
    assert lease is not None
    assert lease.holder["pid"] == holder.pid
    assert lease.lives(datetime.now(UTC))
    store.close()


def test_a_killed_process_frees_the_database_at_once_and_leaves_no_mark_of_a_clean_stop(
    database: str, holder: subprocess.Popen[str]
) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait(LIMIT_S)
    assert claims(database) == [False, True]


def test_a_clean_stop_leaves_its_mark(database: str, holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None
    holder.stdin.close()
    assert holder.wait(LIMIT_S) == 0
    assert claims(database) == [True, True]


def claims(database: str) -> list[bool]:
    """Whether the one before stopped cleanly, as two claims one after the other see it."""
    store = open_store(database)
    found = []
    for _ in range(2):
        found.append(claim_soon(store))
        store.unclaim(clean=True)
    store.close()
    return found


def claim_soon(store: Store) -> bool:
    """Claim; PostgreSQL notices the death of a client a moment later."""
    end_s = store.clock.monotonic() + LIMIT_S
    pause = threading.Condition()
    while True:
        try:
            return store.claim()[1]
        except StoreHeldError:
            assert store.clock.monotonic() < end_s
            with pause:
                store.clock.wait(pause, 0.02)


def test_one_process_may_not_claim_twice(store: Store) -> None:
    _claim, clean = store.claim()
    assert clean, "nobody was here before"
    with pytest.raises(StoreHeldError, match="another queue of this process"):
        store.claim()
    store.unclaim(clean=False)
    assert not claim_soon(store), "the one before left no mark"
    store.unclaim(clean=True)
    store.unclaim(clean=True)


def test_a_lease_says_who_lives_and_what_it_does(store: Store) -> None:
    assert store.read(scheduler_lease) is None
    claim, _clean = store.claim()
    store.write(lambda connection: claim.renew(connection, NOW, {"queue_size": 3}))
    lease = store.read(scheduler_lease)
    assert lease is not None
    assert lease.owner == store.owner
    assert lease.figures == {"queue_size": 3}
    assert f"process {os.getpid()} on " in lease.words
    assert lease.lives(NOW)
    assert not lease.lives(lease.expires_at)
    store.unclaim(clean=True)
    lease = store.read(scheduler_lease)
    assert lease is not None
    assert not lease.lives(NOW)


def test_a_closed_store_leaves_no_thread_and_no_connection_behind(path: Path) -> None:
    before = set(threading.enumerate())
    store = open_store(path)
    heard(store)
    accept(store, a_task("a")).wait(LIMIT_S)
    store.close()
    assert set(threading.enumerate()) <= before
    del store
    gc.collect()
    open_files = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and fd.exists()]
    assert not [name for name in open_files if name.startswith(str(path))]


def test_what_a_start_runs_once_is_not_kept_compiled(store: Store) -> None:
    cache: Any = store.engine._compiled_cache
    begun = dict(cache)
    assert not [one for one in begun.values() if "counters" in str(one) or "alembic_version" in str(one)]
    store.read(store.totals.refresh)
    assert dict(cache) == begun
    store.read(lambda connection: connection.execute(select(text("2 + 2"))).all())
    assert len(cache) == len(begun) + 1, "and what is run often is"

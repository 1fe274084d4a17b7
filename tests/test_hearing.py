"""What other processes do is heard at once, on SQLite and on PostgreSQL, and an idle scheduler asks for nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import stat
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.exc import OperationalError

from atlas.scheduler.client import AtlasClient, SyncAtlasClient
from atlas.scheduler.clock import SystemClock
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.job_view import JobState
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.store.audit import Action, write_audit
from atlas.scheduler.store.pipe_notifier import PipeNotifier
from atlas.scheduler.store.postgres_notifier import PostgresNotifier
from atlas.scheduler.store.revisions import ask
from atlas.scheduler.store.store import Store
from atlas.scheduler.store.tables import commits
from atlas.scheduler.task import TaskStatus
from tests.queue_bench import LIMIT_S, Gate, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from tests.postgres import Postgres

until = partial(eventually, limit_s=2 * LIMIT_S)
NEVER_S = 3600.0
ON_POSTGRES = pytest.mark.parametrize("database", ["postgres"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def _only_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """While commits are told nobody looks on his own, so that what is heard was told."""
    for kind in (PostgresNotifier, PipeNotifier):
        monkeypatch.setattr(kind, "safety_s", NEVER_S)
    monkeypatch.setattr("atlas.scheduler.store.foreign_commits.TOLD_LOOK_S", NEVER_S)


class Heard:
    """Counts what a store hears."""

    def __init__(self, store: Store) -> None:
        self._calls = threading.Semaphore(0)
        store.on_foreign(self._calls.release)
        until(lambda: store.hears)

    def again(self) -> bool:
        return self._calls.acquire(timeout=LIMIT_S)

    def forget(self) -> None:
        while self._calls.acquire(timeout=0.3):
            pass

    def nothing(self) -> bool:
        return not self._calls.acquire(timeout=0.3)


def something(connection: Connection) -> None:
    """SQLite counts a commit that changed nothing as none."""
    write_audit(connection, Action.SUBMIT, "one", by="test", at=datetime.now(UTC))


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def served(database: str, gate: Gate) -> Iterator[tuple[TaskQueue, CronManager]]:
    """A scheduler whose one job is not due, and that hears."""
    registry = Registry()
    registry.add("echo", lambda word="": word)
    registry.add("gate", gate)
    registry.add("forever", forever)
    queue = TaskQueue(2, store=database, registry=registry)
    queue.sync.start()
    cron = CronManager(queue)
    cron.sync.start()
    cron.sync.add_job("yearly", "@yearly", "echo", args=["job"])
    store = queue.store
    assert store is not None
    until(lambda: store.hears)
    yield queue, cron
    gate.open()
    cron.sync.stop()
    queue.sync.stop()


@pytest.fixture
def client(database: str) -> Iterator[SyncAtlasClient]:
    with AtlasClient(database).sync as made:
        yield made


Served = tuple[TaskQueue, CronManager]


def test_an_idle_scheduler_asks_the_database_for_nothing_but_its_lease(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.scheduler.serving.RENEW_S", 1.0)
    queue = TaskQueue(2, store=database, registry=Registry())
    with queue.sync:
        cron = CronManager(queue).sync
        cron.start()
        cron.add_job("yearly", "@yearly", lambda: None)
        store = queue.store
        assert store is not None
        Heard(store).forget()
        asked: list[str] = []
        renewals = threading.Semaphore(0)

        def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            asked.append(statement)
            if statement.startswith("UPDATE leases"):
                renewals.release()

        event.listen(store.engine, "before_cursor_execute", note)
        for _ in range(4):
            assert renewals.acquire(timeout=LIMIT_S)
        event.remove(store.engine, "before_cursor_execute", note)
        own = ("SELECT leases.owner", "UPDATE leases", "SELECT 1", "BEGIN", "SAVEPOINT", "RELEASE SAVEPOINT")
        assert [statement for statement in asked if not statement.startswith(own)] == []
        cron.stop()


def test_every_verb_of_a_client_reaches_the_scheduler_untold_by_any_clock(
    served: Served, client: SyncAtlasClient
) -> None:
    _queue, cron = served
    assert client.wait(client.submit("echo", "hello"), LIMIT_S).value == "hello"
    assert client.wait(client.run_job("yearly"), LIMIT_S).value == "job"
    running = client.submit("forever")
    until(lambda: client.task(running).status is TaskStatus.RUNNING)
    assert client.cancel(running)
    assert client.wait(running, LIMIT_S).status is TaskStatus.CANCELLED
    client.pause_job("yearly", reason="night")
    until(lambda: cron.sync.get_job("yearly").state is JobState.PAUSED)
    assert client.resume_job("yearly")
    until(lambda: cron.sync.get_job("yearly").state is JobState.ACTIVE)


async def test_the_client_of_an_event_loop_hears_too(served: Served, database: str) -> None:
    assert served
    async with AtlasClient(database) as client:
        task = await client.wait(await client.submit("echo", "later"), LIMIT_S)
        assert task.value == "later"


def test_a_request_about_the_config_file_is_heard(database: str) -> None:
    store, other = Store(database), Store(database, follows=False)
    heard = Heard(store)
    heard.forget()
    other.write(lambda connection: ask(connection, at=other.clock.now(), by="x", action=Action.APPLY, digest="d"))
    assert heard.again()
    other.close()
    store.close()


def test_neither_its_own_commits_nor_signs_of_life_are_heard(database: str) -> None:
    store, other = Store(database), Store(database, follows=False)
    heard = Heard(store)
    heard.forget()
    store.write(something)
    other.write(something, tells=False)
    assert heard.nothing()
    other.write(something)
    assert heard.again()
    other.close()
    store.close()


def test_many_commits_in_a_row_are_heard_as_few(database: str) -> None:
    store, other = Store(database), Store(database, follows=False)
    heard, count = Heard(store), 0
    heard.forget()
    store.on_foreign(lambda: seen.append(1))
    seen: list[int] = []
    for _ in range(200):
        other.write(something)
        count += 1
    assert heard.again()
    heard.forget()
    assert 0 < len(seen) < count / 2
    other.close()
    store.close()


def listeners(url: str) -> list[int]:
    """Server processes whose connection listens."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            statement = text(
                "SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN atlas' AND datname = current_database()"
            )
            return list(connection.execute(statement).scalars())
    finally:
        engine.dispose()


@ON_POSTGRES
def test_a_connection_that_is_cut_is_made_again_and_what_came_meanwhile_is_seen(
    served: Served, client: SyncAtlasClient, database: str
) -> None:
    queue, _cron = served
    store = queue.store
    assert store is not None
    (first,) = listeners(database)
    with store.engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": first})
    assert client.wait(client.submit("echo", "meanwhile"), LIMIT_S).value == "meanwhile"
    until(lambda: store.hears and first not in listeners(database))
    assert client.wait(client.submit("echo", "again"), LIMIT_S).value == "again"


@ON_POSTGRES
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_after_a_restart_of_the_server_others_are_heard_again(
    served: Served, postgres: Postgres, database: str, how: signal.Signals
) -> None:
    queue, _cron = served
    store = queue.store
    assert store is not None
    postgres.stop(how)
    try:
        until(lambda: not store.hears)
    finally:
        postgres.start()
    with AtlasClient(database).sync as client:
        assert client.wait(client.submit("echo", "first"), LIMIT_S).value == "first"
        until(lambda: store.hears)
        assert client.wait(client.submit("echo", "second"), LIMIT_S).value == "second"


@ON_POSTGRES
def test_a_closed_store_listens_no_more(database: str) -> None:
    before = set(threading.enumerate())
    store = Store(database)
    until(lambda: store.hears)
    assert len(listeners(database)) == 1
    store.close()
    until(lambda: listeners(database) == [])
    assert "atlas-hearing" not in {thread.name for thread in threading.enumerate() if thread not in before}


@ON_POSTGRES
def test_a_client_that_only_acts_opens_no_connection_to_listen(served: Served, database: str) -> None:
    assert served
    with AtlasClient(database).sync as client:
        client.submit("echo", "x")
        client.metrics()
        assert len(listeners(database)) == 1, "the scheduler's"


def test_a_client_that_waits_asks_twice_for_a_task_that_takes_long(
    served: Served, client: SyncAtlasClient, gate: Gate
) -> None:
    """Once when it begins to wait and once when it was told of the end; in between nobody commits."""
    assert served
    client.wait(client.submit("echo"), LIMIT_S)  # it listens from now on
    task_id = client.submit("gate")
    gate.wait_entered()
    until(lambda: client.task(task_id).status is TaskStatus.RUNNING)
    looks = threading.Semaphore(0)

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if "FROM tasks" in statement:
            looks.release()

    event.listen(client.store.engine, "before_cursor_execute", note)
    waiter = threading.Thread(target=lambda: client.wait(task_id, LIMIT_S))
    waiter.start()
    assert looks.acquire(timeout=LIMIT_S)
    while looks.acquire(timeout=1.0):  # the commit of RUNNING may be told late
        pass
    gate.open()
    waiter.join(LIMIT_S)
    assert not waiter.is_alive()
    asked = 0
    while looks.acquire(blocking=False):
        asked += 1
    assert 1 <= asked <= 3


@ON_POSTGRES
@pytest.mark.parametrize("reached", [True, False], ids=["committed", "not committed"])
def test_a_commit_whose_reply_is_lost_counts_once(
    database: str, monkeypatch: pytest.MonkeyPatch, reached: bool
) -> None:
    registry = Registry()
    registry.add("echo", lambda word="": word)
    queue = TaskQueue(2, store=database, registry=registry)
    lost = threading.Event()
    with queue.sync:
        store = queue.store
        assert store is not None
        commit = store.engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            if not lost.is_set() and threading.current_thread().name == "atlas-writer":
                lost.set()
                if reached:
                    commit(connection)
                raise OperationalError("COMMIT", {}, ConnectionResetError("the reply was lost"))
            commit(connection)

        ids = [queue.sync.submit("echo", word) for word in "abc"]
        for task_id in ids:
            assert queue.sync.get_task_result(task_id, timeout=LIMIT_S)
        monkeypatch.setattr(store.engine.dialect, "do_commit", do_commit)
        assert queue.sync.get_task_result(queue.sync.submit("echo", "d"), timeout=LIMIT_S) == "d"
        lost.clear()
        assert queue.sync.get_task_result(queue.sync.submit("echo", "e"), timeout=LIMIT_S) == "e"
        task = queue.sync.submit("echo", "f")
        lost.clear()
        assert queue.sync.get_task_result(task, timeout=LIMIT_S) == "f"
        store.write(lambda _connection: None)
        assert store.totals.metrics().total_tasks == 6
    with AtlasClient(database).sync as client:
        figures = client.metrics()
        assert (figures.total_tasks, figures.successful_tasks, figures.pending_tasks) == (6, 6, 0)


def bells(database: str) -> list[Path]:
    """Those that hang beside a database file."""
    folder = Path(f"{database}.bells")
    return sorted(folder.iterdir()) if folder.exists() else []


@ON_SQLITE
def test_bells_are_private_and_the_last_process_takes_them_down(database: str) -> None:
    store, other = Store(database), Store(database)
    until(lambda: store.hears and other.hears)
    assert {stat.S_IMODE(one.stat().st_mode) for one in bells(database)} == {0o600}
    assert stat.S_IMODE(Path(f"{database}.bells").stat().st_mode) == 0o700
    store.close()
    assert len(bells(database)) == 1
    other.close()
    assert not Path(f"{database}.bells").exists()


@ON_SQLITE
def test_the_bell_of_a_killed_process_is_removed_by_the_next_who_commits(database: str) -> None:
    store = Store(database)
    until(lambda: store.hears)
    dead = Path(f"{database}.bells/4711-dead")
    os.mkfifo(dead)
    store.write(lambda _connection: None)
    until(lambda: not dead.exists())
    assert len(bells(database)) == 1
    store.close()


@ON_SQLITE
def test_what_is_no_bell_is_left_as_it_is(database: str, tmp_path: Path) -> None:
    store = Store(database)
    until(lambda: store.hears)
    folder, elsewhere = Path(f"{database}.bells"), tmp_path / "elsewhere"
    for file in (folder / "notes", elsewhere):
        file.write_text("mine", "utf-8")
    (folder / "link").symlink_to(elsewhere)
    store.write(something)
    assert [file.read_text("utf-8") for file in (folder / "notes", elsewhere)] == ["mine", "mine"]
    store.close()
    assert {one.name for one in bells(database)} == {"notes", "link"}


@ON_SQLITE
def test_a_bell_that_nobody_answers_delays_no_commit(database: str) -> None:
    """A frozen process does not empty its pipe."""
    store = Store(database, follows=False)
    frozen = Path(f"{database}.bells/4711-ice")
    frozen.parent.mkdir()
    os.mkfifo(frozen)
    pipe = os.open(frozen, os.O_RDWR | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, bytes(4096))
    store.write(lambda _connection: None)
    assert store.write(lambda _connection: "taken") == "taken"
    os.close(pipe)
    store.close()


@ON_SQLITE
def test_while_a_bell_is_gone_others_are_looked_for_and_it_is_hung_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.scheduler.store.pipe_notifier.CHECK_S", 0.05)
    store, other = Store(database), Store(database, follows=False)
    heard = Heard(store)
    (bell,) = bells(database)
    shutil.rmtree(bell.parent)
    assert not store.hears
    other.write(something)
    assert heard.again()
    until(lambda: store.hears)
    heard.forget()
    other.write(something)
    assert heard.again()
    other.close()
    store.close()


@ON_SQLITE
def test_where_no_bell_can_hang_others_are_looked_for(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems without named pipes are known."""

    def refuse(*_args: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "mkfifo", refuse)
    store, other = Store(database), Store(database, follows=False)
    calls = threading.Semaphore(0)
    store.on_foreign(calls.release)
    assert calls.acquire(timeout=LIMIT_S)
    other.write(something)
    assert calls.acquire(timeout=LIMIT_S)
    assert not store.hears
    assert bells(database) == []
    other.close()
    store.close()


@ON_SQLITE
def test_a_commit_whose_bell_was_never_rung_is_found_all_the_same(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is killed behind its commit rings no bell."""
    monkeypatch.setattr(PipeNotifier, "safety_s", 0.2)
    monkeypatch.setattr(PipeNotifier, "told", lambda _notifier: None)
    store, other = Store(database), Store(database, follows=False)
    heard = Heard(store)
    heard.forget()
    other.write(something)
    assert heard.again()
    other.close()
    store.close()


@pytest.fixture
def asked(database: str) -> Iterator[tuple[PostgresNotifier, Engine]]:
    """One process's notifier, and connections to ask on."""
    store = Store(database, follows=False)
    yield PostgresNotifier(store.engine, "me", store.clock, lambda: None), store.engine
    store.close()


@ON_POSTGRES
def test_of_a_lost_reply_the_database_tells_the_truth(asked: tuple[PostgresNotifier, Engine]) -> None:
    notifier, engine = asked
    with engine.connect() as mine, engine.connect() as asking:
        for decided in (mine.commit, mine.rollback):
            told = notifier.tell(mine)
            with pytest.raises(OSError, match="not decided"):
                told.was_committed(asking)
            asking.rollback()
            decided()
            assert told.was_committed(asking) is (decided == mine.commit)
            asking.rollback()


@ON_POSTGRES
def test_the_number_of_a_transaction_that_another_one_got_after_a_crash_proves_nothing(
    asked: tuple[PostgresNotifier, Engine],
) -> None:
    """A server that crashes forgets numbers of which its disk has nothing, and gives them out once more."""
    notifier, engine = asked
    with engine.connect() as mine, engine.connect() as other:
        told = notifier.tell(mine)
        mine.rollback()
        xid = int(other.execute(text("SELECT txid_current()")).scalar_one())
        other.commit()
        assert not told._replace(xid=xid).was_committed(mine)
        assert not told._replace(xid=xid + 1_000_000).was_committed(mine), "one that lies ahead"


@ON_POSTGRES
def test_a_commit_that_a_crash_of_the_server_took_away_is_not_taken_for_done(
    asked: tuple[PostgresNotifier, Engine], postgres: Postgres
) -> None:
    notifier, engine = asked
    with contextlib.suppress(OperationalError), engine.connect() as mine:
        told = notifier.tell(mine)
        postgres.stop(signal.SIGQUIT)
    postgres.start()
    engine.dispose()
    with engine.connect() as connection:
        for _ in range(3):  # others go on with the numbers that are free again
            connection.execute(text("SELECT txid_current()"))
            connection.commit()
        assert not told.was_committed(connection)


class DaysAgo(SystemClock):
    def __init__(self, days: int) -> None:
        self.days = days

    def now(self) -> datetime:
        return super().now() - timedelta(days=self.days)


@ON_POSTGRES
def test_what_processes_leave_behind_goes_after_a_day(asked: tuple[PostgresNotifier, Engine]) -> None:
    _notifier, engine = asked
    with engine.connect() as connection:
        for owner, days in (("old", 2), ("new", 0), ("next", 0)):
            PostgresNotifier(engine, owner, DaysAgo(days), lambda: None).tell(connection)
            connection.commit()
        assert set(connection.execute(select(commits.c.owner)).scalars()) >= {"new", "next"}
        assert "old" not in set(connection.execute(select(commits.c.owner)).scalars())

"""PostgreSQL tells: what other processes do is heard at once, and an idle scheduler asks for nothing."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import OperationalError

from atlas.scheduler.client import AtlasClient, SyncAtlasClient
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.job_view import JobState
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.store.audit import Action
from atlas.scheduler.store.revisions import ask
from atlas.scheduler.store.store import Store
from atlas.scheduler.task import TaskStatus
from tests.queue_bench import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.postgres import Postgres

LIMIT_S = 10.0
NEVER_S = 3600.0


@pytest.fixture(autouse=True)
def _only_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database tells of commits nobody looks on his own, so that what is heard was told."""
    monkeypatch.setattr("atlas.scheduler.store.writer.SAFETY_S", NEVER_S)
    monkeypatch.setattr("atlas.scheduler.store.news.TOLD_LOOK_S", NEVER_S)


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


def until(condition: Callable[[], bool]) -> None:
    """Look until it holds; another process's work gives no event to wait for."""
    pause = threading.Event()
    for _ in range(int(2 * LIMIT_S / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it never came")


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def served(postgres_url: str, gate: Gate) -> Iterator[tuple[TaskQueue, CronManager]]:
    """A scheduler whose one job is not due, and that hears."""
    registry = Registry()
    registry.add("echo", lambda word="": word)
    registry.add("gate", gate)
    registry.add("forever", forever)
    queue = TaskQueue(2, store=postgres_url, registry=registry)
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
def client(postgres_url: str) -> Iterator[SyncAtlasClient]:
    with AtlasClient(postgres_url).sync as made:
        yield made


Served = tuple[TaskQueue, CronManager]


def test_an_idle_scheduler_asks_the_database_for_nothing_but_its_lease(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.scheduler.serving.RENEW_S", 1.0)
    queue = TaskQueue(2, store=postgres_url, registry=Registry())
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
        own = ("SELECT leases.owner", "UPDATE leases", "SELECT 1", "SAVEPOINT", "RELEASE SAVEPOINT")
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


async def test_the_client_of_an_event_loop_hears_too(served: Served, postgres_url: str) -> None:
    assert served
    async with AtlasClient(postgres_url) as client:
        task = await client.wait(await client.submit("echo", "later"), LIMIT_S)
        assert task.value == "later"


def test_a_request_about_the_config_file_is_heard(postgres_url: str) -> None:
    store, other = Store(postgres_url), Store(postgres_url, follows=False)
    heard = Heard(store)
    heard.forget()
    other.write(lambda connection: ask(connection, at=other.clock.now(), by="x", action=Action.APPLY, digest="d"))
    assert heard.again()
    other.close()
    store.close()


def test_neither_its_own_commits_nor_signs_of_life_are_heard(postgres_url: str) -> None:
    store, other = Store(postgres_url), Store(postgres_url, follows=False)
    heard = Heard(store)
    heard.forget()
    store.write(lambda _connection: None)
    other.write(lambda _connection: None, tells=False)
    assert heard.nothing()
    other.write(lambda _connection: None)
    assert heard.again()
    other.close()
    store.close()


def test_many_commits_in_a_row_are_heard_as_few(postgres_url: str) -> None:
    store, other = Store(postgres_url), Store(postgres_url, follows=False)
    heard, count = Heard(store), 0
    heard.forget()
    store.on_foreign(lambda: seen.append(1))
    seen: list[int] = []
    for _ in range(200):
        other.write(lambda _connection: None)
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


def test_a_connection_that_is_cut_is_made_again_and_what_came_meanwhile_is_seen(
    served: Served, client: SyncAtlasClient, postgres_url: str
) -> None:
    queue, _cron = served
    store = queue.store
    assert store is not None
    (first,) = listeners(postgres_url)
    with store.engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": first})
    assert client.wait(client.submit("echo", "meanwhile"), LIMIT_S).value == "meanwhile"
    until(lambda: store.hears and first not in listeners(postgres_url))
    assert client.wait(client.submit("echo", "again"), LIMIT_S).value == "again"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_after_a_restart_of_the_server_others_are_heard_again(
    served: Served, postgres: Postgres, postgres_url: str, how: signal.Signals
) -> None:
    queue, _cron = served
    store = queue.store
    assert store is not None
    postgres.stop(how)
    try:
        until(lambda: not store.hears)
    finally:
        postgres.start()
    with AtlasClient(postgres_url).sync as client:
        assert client.wait(client.submit("echo", "first"), LIMIT_S).value == "first"
        until(lambda: store.hears)
        assert client.wait(client.submit("echo", "second"), LIMIT_S).value == "second"


def test_a_closed_store_listens_no_more(postgres_url: str) -> None:
    store = Store(postgres_url)
    until(lambda: store.hears)
    assert len(listeners(postgres_url)) == 1
    store.close()
    until(lambda: listeners(postgres_url) == [])
    assert "atlas-notices" not in {thread.name for thread in threading.enumerate()}


def test_a_client_that_only_acts_opens_no_connection_to_listen(served: Served, postgres_url: str) -> None:
    assert served
    with AtlasClient(postgres_url).sync as client:
        client.submit("echo", "x")
        client.metrics()
        assert len(listeners(postgres_url)) == 1, "the scheduler's"


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


@pytest.mark.parametrize("reached", [True, False], ids=["committed", "not committed"])
def test_a_commit_whose_reply_is_lost_counts_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, reached: bool
) -> None:
    registry = Registry()
    registry.add("echo", lambda word="": word)
    queue = TaskQueue(2, store=postgres_url, registry=registry)
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
    with AtlasClient(postgres_url).sync as client:
        figures = client.metrics()
        assert (figures.total_tasks, figures.successful_tasks, figures.pending_tasks) == (6, 6, 0)

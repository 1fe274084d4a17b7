"""After a crash: real processes that are killed, and what the next one makes of what they left."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from loguru import logger
from sqlalchemy import create_engine, select, text, update
from sqlalchemy.exc import OperationalError

from atlas.scheduler.errors import LeaseLostError, TaskCancelledError
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.store import recovery
from atlas.scheduler.store.intake import MAX_BEHIND
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.store.tables import tasks
from atlas.scheduler.store.task_queries import find_attempts
from atlas.scheduler.store.task_rows import fetch, full_row, insert_tasks, task_of
from atlas.scheduler.store.tickets import Ticket
from atlas.scheduler.task import Cause, OnCrash, Origin, Task, TaskPolicy, TaskStatus
from tests.forked import Program
from tests.queue_bench import LIMIT_S, Gate, eventually, nothing, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PENDING, RUNNING, SUCCESS, FAILED, CANCELLED, TIMEOUT, RETRYING = TaskStatus


@pytest.fixture
def notes(tmp_path: Path) -> Callable[[], list[str]]:
    """What the functions of the other processes wrote down."""
    path = tmp_path / "notes"
    path.touch()
    return lambda: path.read_text().splitlines()


class Scheduler:
    """Another process that serves ``database``; see `tests.crashing`."""

    def __init__(self, database: str, folder: Path, command: str) -> None:
        self.process = Program(
            [sys.executable, "-m", "tests.crashing", database, str(folder / "notes"), command],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> list[str]:
        """kill -9; returns the lines that were still under way."""
        self.process.send_signal(signal.SIGKILL)
        left, _errors = self.process.communicate(timeout=LIMIT_S)
        return left.splitlines()

    def exit_code(self) -> int:
        """Wait until it ends by itself."""
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def run(database: str, tmp_path: Path) -> Iterator[Callable[[str], Scheduler]]:
    started: list[Scheduler] = []

    def start(command: str) -> Scheduler:
        started.append(Scheduler(database, tmp_path, command))
        return started[-1]

    yield start
    for scheduler in started:
        if scheduler.process.poll() is None:
            scheduler.kill()


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    """The database as this process sees it."""
    opened = open_store(database)
    yield opened
    opened.close()


def rows(store: Store) -> dict[str, Task]:
    return store.read(lambda connection: {row.id: task_of(row) for row in connection.execute(select(tasks))})


@contextmanager
def nothing_is_written(store: Store) -> Iterator[None]:
    """Another process's commits wait meanwhile."""
    with store.engine.connect().execution_options(atlas_write=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE tasks IN EXCLUSIVE MODE"))
        yield


# --- kill -9 ----------------------------------------------------------------------------------------------------------


def test_after_kill_9_history_and_waiting_tasks_are_there_and_running_ones_run_again(
    store: Store, run: Callable[[str], Scheduler], notes: Callable[[], list[str]]
) -> None:
    first = run("prepare")
    assert first.line() == "ready"
    first.kill()
    before = rows(store)
    assert Counter(task.status for task in before.values()) == Counter(
        {SUCCESS: 2, RUNNING: 4, RETRYING: 1, PENDING: 21}
    )
    called = Counter(notes())

    registry = Registry()
    registry.add("note", lambda word: f"served {word}")
    registry.add("hold", lambda word: f"served {word}")
    registry.add("fail", lambda word: f"served {word}")
    queue = TaskQueue(max_workers=4, store=store, registry=registry)
    eventually(lambda: starts(queue), "PostgreSQL notices the death of a client a moment later")
    sync = queue.sync
    assert sync.get_task_result("again", timeout=LIMIT_S) == "served again"
    assert sync.get_task_result("later", timeout=LIMIT_S) == "served later"
    assert sync.get_task_result("one", timeout=LIMIT_S) == "one", "history"
    settled(queue)
    sync.stop()

    after = rows(store)
    assert {task.id for task in after.values() if task.status is SUCCESS} == before.keys() - {
        "once",
        "volatile",
        "volatile too",
    }
    again = after["again"]
    assert (again.attempt, again.crashes, again.failures) == (2, 1, 0)
    (crashed,) = store.read(lambda connection: find_attempts(connection, "again"))
    assert (crashed["attempt"], crashed["outcome"]) == (1, "crashed")
    for task_id in ("once", "volatile", "volatile too"):
        lost = after[task_id]
        assert (lost.status, lost.cause) == (FAILED, Cause.LOST)
        assert lost.finished_at is not None
    assert after["later"].failures == 1
    assert after["later"].crashes == 0
    assert Counter(notes()) == called, "nothing of it ran in the dead process's way"
    found = store.totals.metrics()
    assert (found.total_tasks, found.successful_tasks, found.failed_tasks) == (28, 25, 3)


def starts(queue: TaskQueue) -> bool:
    from atlas.scheduler.errors import StoreHeldError

    try:
        queue.sync.start()
    except StoreHeldError:
        return False
    return True


def test_what_submit_has_returned_is_on_disk_whenever_the_process_dies(
    store: Store, run: Callable[[str], Scheduler]
) -> None:
    process = run("accept")
    told = {process.line() for _ in range(300)}
    told |= {line for line in process.kill() if len(line) == 22}
    assert len(told) >= 300
    assert told <= rows(store).keys()


def test_a_crash_repeats_no_more_than_what_was_not_written_yet(
    store: Store, run: Callable[[str], Scheduler], notes: Callable[[], list[str]]
) -> None:
    process = run("work")
    assert process.line() == "ready"
    eventually(lambda: len(notes()) > 300)
    with nothing_is_written(store):
        written = sum(task.status is SUCCESS for task in rows(store).values())
        eventually(lambda: len(notes()) > written)
        process.kill()
    assert len(notes()) < 3000, "it was killed in the middle"
    eventually(lambda: run("finish").exit_code() == 0)
    done = Counter(notes())
    assert len(done) == 3000
    assert max(done.values()) == 2
    assert sum(count > 1 for count in done.values()) <= MAX_BEHIND + 4
    found = rows(store)
    assert {task.status for task in found.values()} == {SUCCESS}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_task_that_kills_its_process_ends_in_quarantine_and_its_neighbours_succeed(
    store: Store, run: Callable[[str], Scheduler], notes: Callable[[], list[str]]
) -> None:
    deaths = 0
    while (code := run("kill").exit_code()) != 0:
        assert code == 9
        deaths += 1
        assert deaths <= 4, "it goes on for ever"
    assert notes().count("kill") == deaths <= 4
    found = rows(store)
    killer = found.pop("kill")
    assert (killer.status, killer.cause, killer.crashes) == (FAILED, Cause.QUARANTINED, 3)
    assert len(found) == 30
    assert {task.status for task in found.values()} == {SUCCESS}
    assert store.read(lambda connection: len(find_attempts(connection, "kill"))) >= 2


# --- what a new owner decides -----------------------------------------------------------------------------------------


def left_behind(task_id: str, status: TaskStatus, **values: Any) -> Task:
    facts = {"name": "t", "function": "f", "created_at": NOW, "owner": "host:1:dead", "attempt": 1, **values}
    return Task(id=task_id, status=status, **facts)


def recovered(store: Store, *left: Task) -> tuple[dict[str, Task], list[str]]:
    """The rows after a recovery, and the ids that are to be served."""
    store.write(lambda connection: insert_tasks(connection, [full_row(task) for task in left]))
    later = NOW + timedelta(hours=1)
    to_serve, _moves, _counts = store.write(lambda connection: recovery.recover(connection, "me", later))
    found = rows(store)
    for task in to_serve:
        assert [getattr(found[task.id], name) for name in Task.__slots__] == [
            getattr(task, name) for name in Task.__slots__
        ], "memory is what is on disk"
    return found, [task.id for task in to_serve]


def test_each_kind_of_unfinished_task_is_taken_over_as_its_policy_says(store: Store) -> None:
    at_most_once = TaskPolicy(on_crash=OnCrash.FAIL)
    found, to_serve = recovered(
        store,
        left_behind("01 waits", PENDING, attempt=0),
        left_behind("02 ran", RUNNING, failures=2),
        left_behind("03 ran twice", RUNNING, crashes=1),
        left_behind("04 ran three times", RUNNING, crashes=2),
        left_behind("05 may run once", RUNNING, policy=at_most_once),
        left_behind("06 may run once and waits", PENDING, policy=at_most_once),
        left_behind("07 volatile", RUNNING, volatile=True),
        left_behind("08 volatile and waits", PENDING, volatile=True),
        left_behind("09 waits for a retry", RETRYING, due_at=NOW, failures=1),
        left_behind("10 should end", RUNNING, cancel_requested=True),
        left_behind("11 should not start", PENDING, cancel_requested=True),
        left_behind("12 put there by a client", PENDING, owner=None, attempt=0),
        left_behind("13 moved by hand", RUNNING, origin=Origin.MANUAL),
        left_behind("14 done", SUCCESS, result="1", finished_at=NOW),
    )
    assert {name[:2]: (task.status, task.cause, task.attempt, task.crashes) for name, task in found.items()} == {
        "01": (PENDING, None, 0, 0),
        "02": (PENDING, Cause.CRASHED, 2, 1),
        "03": (PENDING, Cause.CRASHED, 2, 2),
        "04": (FAILED, Cause.QUARANTINED, 1, 3),
        "05": (FAILED, Cause.LOST, 1, 1),
        "06": (PENDING, None, 1, 0),
        "07": (FAILED, Cause.LOST, 1, 1),
        "08": (FAILED, Cause.LOST, 1, 0),
        "09": (RETRYING, None, 1, 0),
        "10": (CANCELLED, Cause.CANCELLED, 1, 1),
        "11": (CANCELLED, Cause.CANCELLED, 1, 0),
        "12": (PENDING, None, 0, 0),
        "13": (RUNNING, None, 1, 0),
        "14": (SUCCESS, None, 1, 0),
    }
    assert [name[:2] for name in to_serve] == ["01", "02", "03", "06", "09", "12"]
    assert {found[name].owner for name in to_serve} == {"me"}
    assert found["13 moved by hand"].owner == "host:1:dead"
    assert found["02 ran"].failures == 2, "a crash uses up no retry"


def test_recovering_twice_counts_a_crash_once(store: Store) -> None:
    recovered(store, left_behind("a", RUNNING))
    found, to_serve = recovered(store)
    assert to_serve == ["a"]
    assert (found["a"].crashes, found["a"].attempt) == (1, 2)


def test_a_retry_that_a_clock_which_ran_ahead_has_put_off_waits_no_longer_than_its_longest_wait(store: Store) -> None:
    policy = TaskPolicy(retry=RetryPolicy(delay_s=0.01, max_delay_s=0.05))
    waits = left_behind("a", RETRYING, due_at=datetime.now(UTC) + timedelta(days=26_000), failures=1, policy=policy)
    store.write(lambda connection: insert_tasks(connection, [full_row(waits)]))
    registry = Registry()
    registry.add("f", lambda: "served")
    queue = TaskQueue(store=store, registry=registry)
    with queue.sync:
        assert queue.sync.get_task_result("a", timeout=LIMIT_S) == "served"


def test_the_counters_follow_a_recovery(store: Store) -> None:
    left = [left_behind("a", RUNNING, crashes=2), left_behind("b", RUNNING), left_behind("c", PENDING, volatile=True)]
    store.write(lambda connection: insert_tasks(connection, [full_row(task) for task in left]))
    gate = Gate()
    registry = Registry()
    registry.add("f", gate)
    queue = TaskQueue(store=store, registry=registry)
    queue.sync.start()
    gate.wait_entered()
    store.write(nothing)
    found = store.totals.metrics()
    assert {status: count for status, count in found.by_status.items() if count} == {FAILED: 2, RUNNING: 1}
    gate.open()
    settled(queue)
    queue.sync.stop()


def test_the_late_result_of_an_owner_that_was_given_up_is_refused(database: str) -> None:
    """Both live, but the first one's claim is gone: its end of the task comes after the second one's."""
    old, new = Store(database), Store(database)
    gate = Gate("too late")
    registries = Registry(), Registry()
    registries[0].add("f", gate)
    registries[1].add("f", lambda: "in time")
    first = TaskQueue(store=old, registry=registries[0])
    first.sync.start()
    task_id = first.sync.submit("f")
    gate.wait_entered()
    old.write(nothing)
    resting, goes_on, late = threading.Event(), threading.Event(), Ticket()

    def rest(_value: None) -> None:
        resting.set()
        goes_on.wait(LIMIT_S)

    old.writer.work(nothing, Ticket(), after=rest)  # what comes until it goes on is one commit
    assert resting.wait(LIMIT_S)
    assert old._claim is not None
    old._claim.release()
    second = TaskQueue(store=new, registry=registries[1])
    second.sync.start()
    assert second.sync.get_task_result(task_id, timeout=LIMIT_S) == "in time"
    told: list[str] = []
    sink = logger.add(told.append, level="ERROR", format="{message}")
    gate.open()
    eventually(lambda: old.writer._batch.changes.get(task_id, ("", ""))[1] == SUCCESS)
    old.writer.work(nothing, late)
    goes_on.set()
    with pytest.raises(LeaseLostError):
        late.wait(LIMIT_S)
    eventually(lambda: first.stands_by)
    logger.remove(sink)
    assert any(line.startswith("late writes are refused") for line in told)
    assert first.sync.get_task_result(task_id, timeout=LIMIT_S) == "in time", "it stands by and reads the row"
    assert first.stands_by
    for store in (old, new):
        task = store.read(lambda connection: fetch(connection, task_id))
        assert task is not None
        assert (task.status, task.result, task.attempt) == (SUCCESS, '"in time"', 2)
    second.sync.stop()
    first.sync.stop()
    old.close()
    new.close()


def test_a_cancel_that_comes_during_an_outage_is_heard_before_anything_starts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, called, away = Gate(), list[str](), threading.Event()
    registry = Registry()
    registry.add("gate", gate)
    registry.add("call", lambda: called.append("called"))
    queue = TaskQueue(1, store=store, registry=registry)
    queue.sync.start()
    queue.sync.submit("gate")
    gate.wait_entered()
    waiting = queue.sync.submit("call")
    real = store.writer._write

    def write(batch: Any) -> Any:
        if away.is_set():
            raise OperationalError("", {}, OSError("the database is away"))
        return real(batch)

    monkeypatch.setattr(store.writer, "_write", write)
    away.set()
    ticket = store.ticket()
    store.writer.work(nothing, ticket)
    eventually(lambda: store.writer.fault is not None)
    others = create_engine(store.engine.url)
    with others.begin() as connection:  # somebody else, who reached it just before
        connection.execute(update(tasks).where(tasks.c.id == waiting).values(cancel_requested=True))
    others.dispose()
    gate.open()
    eventually(lambda: queue.get_queue_status()["running_tasks"] == 0)
    away.clear()
    with pytest.raises(TaskCancelledError):
        queue.sync.get_task_result(waiting, timeout=LIMIT_S)
    assert called == []
    later = queue.sync.submit("call")
    queue.sync.get_task_result(later, timeout=LIMIT_S)
    assert called == ["called"]
    queue.sync.stop()

"""Several processes, one store: one leads, the others stand by, take over, and late writes are refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import OperationalError

from atlas.scheduler.context import current_task
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.errors import (
    FunctionRefusedError,
    JobOwnershipError,
    ResultNotReadyError,
    StoreUnavailableError,
    TaskCancelledError,
    UnknownTaskError,
)
from atlas.scheduler.job_store.job_store import JobStore
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.standby import Standby
from atlas.scheduler.store.leases import LEASE_S, scheduler_lease, standbys
from atlas.scheduler.store.store import Store
from atlas.scheduler.store.tables import leases
from atlas.scheduler.store.task_rows import fetch
from tests.forked import Program
from tests.queue_bench import LIMIT_S, Gate, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

LEADER = textwrap.dedent(
    """
    import sys
    from atlas.scheduler import CronManager, Registry, TaskQueue

    def echo(word):
        return f"leader {word}"

    registry = Registry()
    registry.add("echo", echo)
    queue = TaskQueue(2, store=sys.argv[1], registry=registry, standby=True)
    with queue.sync:
        cron = CronManager(queue).sync
        cron.start()
        cron.add_job("yearly", "@yearly", "echo", args=["job"])
        print("leads", flush=True)
        sys.stdin.read()
        print("stands by" if queue.stands_by else "leads", flush=True)
        cron.stop()
    """,
)


class Role:
    """Hears which process leads."""

    def __init__(self) -> None:
        self.leads, self.left = threading.Event(), threading.Event()

    def lead(self) -> None:
        self.leads.set()

    def step_down(self) -> None:
        self.left.set()


@pytest.fixture
def leader(database: str) -> Iterator[subprocess.Popen[str]]:
    process = Program(
        [sys.executable, "-c", LEADER, database],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "leads\n"
    yield process
    process.kill()
    process.wait(LIMIT_S)
    process.stdin.close()
    process.stdout.close()


@pytest.fixture
def second(database: str, leader: subprocess.Popen[str]) -> Iterator[tuple[TaskQueue, CronManager, Role]]:
    """A queue and a cron manager of this process, which stand by."""
    assert leader.poll() is None
    registry, role = Registry(), Role()
    registry.add("echo", lambda word: f"standby {word}")
    store = Store(database)
    queue = TaskQueue(2, store=store, registry=registry, standby=True)
    queue.sync.start()
    assert queue.stands_by
    cron = CronManager(queue)
    cron.sync.start()
    queue.on_role(role)
    yield queue, cron, role
    cron.sync.stop()
    queue.sync.stop()
    store.close()


Second = tuple[TaskQueue, CronManager, Role]


def result_once_it_is_served(queue: TaskQueue, task_id: str) -> object:
    until_s = time.monotonic() + LIMIT_S
    while True:
        try:
            return queue.sync.get_task_result(task_id, timeout=LIMIT_S)
        except ResultNotReadyError:
            assert time.monotonic() < until_s, "nobody serves it"
            threading.Event().wait(0.05)


@pytest.mark.timeout(120)
def test_who_stands_by_submits_cancels_and_asks_as_the_leader_does(second: Second) -> None:
    queue, cron, _role = second
    task_id = queue.sync.submit("echo", "a", task_id="mine")
    assert queue.sync.get_task_result(task_id, timeout=LIMIT_S) == "leader a"
    assert not queue.cancel_task(task_id), "it is final"
    with pytest.raises(UnknownTaskError):
        queue.cancel_task("nobody")
    with pytest.raises(FunctionRefusedError, match="lives in this process only"):
        queue.sync.submit(lambda: None)
    status = queue.get_queue_status()
    assert status["state"] == "standby"
    assert "process " in status["leader"]
    assert [job.name for job in cron.sync.get_all_jobs()] == ["yearly"]
    ran = cron.sync.run_job_now("yearly", by="test")
    assert queue.sync.get_task_result(ran, timeout=LIMIT_S) == "leader job"
    cron.sync.pause_job("yearly", by="test")
    assert cron.sync.get_job("yearly").pause is not None
    assert cron.sync.resume_job("yearly")
    with pytest.raises(JobOwnershipError, match="another process leads"):
        cron.sync.remove_job("yearly")
    store = queue.store
    assert store is not None


@pytest.mark.timeout(120)
def test_the_death_of_the_leader_is_noticed_at_once_and_its_jobs_go_on(
    second: Second, leader: subprocess.Popen[str]
) -> None:
    queue, cron, role = second
    cron.sync.add_job("mine", "@yearly", "echo", args=["mine"])
    assert [job.name for job in cron.sync.get_all_jobs()] == ["yearly"], "it counts once this process leads"
    leader.send_signal(signal.SIGKILL)
    leader.wait(LIMIT_S)
    task_id = queue.sync.submit("echo", "b")
    assert role.leads.wait(LEASE_S / 2), "well within the lease"
    assert queue.sync.get_task_result(task_id, timeout=LIMIT_S) == "standby b"
    ran = cron.sync.run_job_now("mine")
    assert queue.sync.get_task_result(ran, timeout=LIMIT_S) == "standby mine"
    store = queue.store
    assert store is not None
    lease = store.read(scheduler_lease)
    assert lease is not None
    assert (lease.owner, lease.token) == (store.owner, 2)
    assert store.read(standbys) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("what", ["submit", "retry", "cancel"])
def test_what_is_asked_of_a_standby_while_it_takes_the_lead_is_done(
    second: Second, leader: subprocess.Popen[str], what: str
) -> None:
    queue, _cron, role = second
    done = queue.sync.submit("echo", "before")
    assert queue.sync.get_task_result(done, timeout=LIMIT_S) == "leader before"
    standby, store = queue.role, queue.store
    assert isinstance(standby, Standby)
    assert store is not None
    leader.send_signal(signal.SIGKILL)
    leader.wait(LIMIT_S)
    assert role.leads.wait(LEASE_S / 2)
    store.write(lambda _connection: None)  # what was looked at behind the change is behind us
    if what == "submit":
        lives = queue._prepare("echo", [["late"]], {})
        standby.submit(lives, unique=False, loop=None).wait(LIMIT_S)
        assert result_once_it_is_served(queue, lives[0].task.id) == "standby late"
        return
    if what == "retry":
        found = store.read(lambda connection: fetch(connection, done))
        assert found is not None
        task, ticket = standby.retry(found, by="", loop=None)
        ticket.wait(LIMIT_S)
        assert result_once_it_is_served(queue, task.id) == "standby before"
        return
    runs = threading.Event()

    def goes_on() -> None:
        runs.set()
        while True:
            current_task().check()
            threading.Event().wait(0.01)

    queue.registry.add("goes on", goes_on)
    running = queue.sync.submit("goes on")
    assert runs.wait(LIMIT_S)
    assert standby.cancel(running)
    with pytest.raises(TaskCancelledError):
        queue.sync.get_task_result(running, timeout=LIMIT_S)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("what", ["the rows", "the file"])
def test_jobs_fire_although_something_could_not_be_read_when_the_lead_was_taken(
    second: Second, leader: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The queue leads by then, with its lease renewed: no other process would ever fire them."""
    queue, cron, _role = second
    tries: list[str] = []

    def once(*_args: Any) -> None:
        tries.append(what)
        if len(tries) == 1:
            raise StoreUnavailableError("server closed the connection", waited_s=0.0)
        load(*_args)

    def always() -> None:
        raise OSError("no such file")

    load = JobStore.load
    if what == "the rows":
        monkeypatch.setattr(JobStore, "load", once)
    else:
        cron.sync.before_start = always
    leader.send_signal(signal.SIGKILL)
    leader.wait(LIMIT_S)
    eventually(lambda: cron.sync.last_tick_s() is not None)
    assert not queue.stands_by
    assert [job.name for job in cron.sync.get_all_jobs()] == ["yearly"]


@pytest.mark.timeout(120)
def test_who_steps_down_while_something_fails_still_hears_of_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_args: object) -> None:
        raise StoreUnavailableError("the database did not take it", waited_s=5.0)

    store, elsewhere = Store(tmp_path / "atlas.db"), Store(tmp_path / "atlas.db")
    registry, gate, role = Registry(), Gate(), Role()
    registry.add("work", gate)
    queue = TaskQueue(2, store=store, registry=registry, standby=True, stop_grace_s=0.1)
    queue.sync.start()
    monkeypatch.setattr(role, "step_down", fails)
    queue.on_role(role)
    task_id = queue.sync.submit("work")
    gate.wait_entered()
    serving = queue.serving
    heard: list[Any] = []
    waiter = threading.Thread(target=lambda: heard.append(queue.sync.get_task_result(task_id)))
    waiter.start()
    eventually(lambda: bool(serving.live_tasks.by_id[task_id].tickets))
    close = serving._logs.close
    monkeypatch.setattr(serving._logs, "close", fails)
    other = update(leases).values(owner="another:1:0", token=leases.c.token + 1)
    with elsewhere.engine.connect().execution_options(atlas_write=True) as connection, connection.begin():
        connection.execute(other)
    assert role.leads.wait(LIMIT_S), "nobody holds the lock of that one: the lead comes back"
    assert queue.serving is not serving
    gate.open()
    waiter.join(LIMIT_S)
    assert heard == ["through"]
    queue.sync.stop()
    close()  # or this process's lines would go on being captured
    elsewhere.close()
    store.close()


@pytest.mark.timeout(180)
def test_a_frozen_leader_is_taken_over_from_and_steps_down_when_it_goes_on(
    second: Second, leader: subprocess.Popen[str]
) -> None:
    queue, _cron, role = second
    leader.send_signal(signal.SIGSTOP)
    assert role.leads.wait(LEASE_S + LIMIT_S)
    task_id = queue.sync.submit("echo", "c")
    assert queue.sync.get_task_result(task_id, timeout=LIMIT_S) == "standby c"
    leader.send_signal(signal.SIGCONT)
    store = queue.store
    assert store is not None
    eventually(lambda: bool(store.read(standbys)))
    assert [lease.holder["pid"] for lease in store.read(standbys)] == [leader.pid]
    assert leader.stdin is not None
    assert leader.stdout is not None
    leader.stdin.close()
    assert leader.stdout.readline() == "stands by\n"
    assert leader.wait(LIMIT_S) == 0
    assert not queue.stands_by
    assert not role.left.is_set()


def test_a_leader_writes_on_where_no_further_connection_is_to_be_had(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock that tells of its death has a connection of its own; only the row says who leads."""
    registry = Registry()
    registry.add("echo", lambda word: word)
    queue = TaskQueue(1, store=postgres_url, registry=registry)
    with queue.sync:
        claim = queue.serving._claim
        engine = claim._engine

        class Full:
            dialect = engine.dialect

            def connect(self) -> None:
                raise OperationalError("", {}, Exception("too many connections"))

        claim.release()
        monkeypatch.setattr(claim, "_engine", Full())
        queue.serving.renew()
        task_id = queue.sync.submit("echo", "a")
        assert queue.sync.get_task_result(task_id, timeout=LIMIT_S) == "a"
        assert queue.get_queue_status()["store_fault"] is None
        assert claim._connection is None
        monkeypatch.undo()
        queue.serving.renew()
        eventually(lambda: claim._connection is not None)


def test_postgres_takes_the_locks_of_a_frozen_commit_before_its_lease_is_over(postgres_url: str) -> None:
    store = Store(postgres_url)
    try:
        limit = store.read(
            lambda connection: connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one()
        )
        assert 0 < float(limit.removesuffix("s")) < LEASE_S
    finally:
        store.close()

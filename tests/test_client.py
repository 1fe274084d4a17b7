"""`AtlasClient`: the store from another process; a scheduler hears of it within a second."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert, update

from atlas.scheduler.client import AtlasClient, SyncAtlasClient
from atlas.scheduler.errors import (
    ArgumentsError,
    DuplicateTaskError,
    FunctionRefusedError,
    JobBusyError,
    JobUnboundError,
    QueueFullError,
    ResultNotReadyError,
    UnknownFunctionError,
    UnknownJobError,
    UnknownTaskError,
)
from atlas.scheduler.job_view import JobState, task_json
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.reconcile.reconciler import Reconciler
from atlas.scheduler.registry import Registry
from atlas.scheduler.standby import Standby
from atlas.scheduler.status import StatusManager
from atlas.scheduler.store.store import Store
from atlas.scheduler.store.tables import jobs, leases
from atlas.scheduler.task import TaskStatus
from atlas.scheduler.tasks.live import Live
from tests.clockwork import Clockwork
from tests.forked import Program
from tests.queue_bench import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from atlas.scheduler.task import Task

PROMISED = timedelta(seconds=2)
"""A second is promised; the other one is for a busy machine."""
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For what does not depend on the database."""


@pytest.fixture(autouse=True)
def _lively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for changes more often than twice a second, so that these tests are short."""
    monkeypatch.setattr("atlas.scheduler.store.foreign_commits.LOOK_S", 0.05)
    monkeypatch.setattr("atlas.scheduler.store.writer.POLL_S", 0.05)


@pytest.fixture
def served(database: Path | str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clockwork]:
    """A scheduler on the database; its clock stands still, at now."""
    with Clockwork(database, monkeypatch, now=datetime.now(UTC)) as clockwork:
        yield clockwork


@pytest.fixture
def client(database: Path | str) -> Iterator[SyncAtlasClient]:
    """A client of the database."""
    with AtlasClient(database).sync as made:
        yield made


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[SyncAtlasClient]:
    """A client of a SQLite database that nobody serves."""
    with AtlasClient(tmp_path / "atlas.db").sync as made:
        yield made


def tell(clockwork: Clockwork) -> None:
    """Write what other processes should know now."""
    clockwork.store.write(lambda _connection: None)
    clockwork.queue.serving.renew()
    clockwork.store.write(lambda _connection: None)


# --- with a scheduler, on both databases -----------------------------------------------------------------------------


def test_a_submitted_task_runs_and_its_result_comes_back(served: Clockwork, client: SyncAtlasClient) -> None:
    served.registry.add("add", lambda left, right=0: left + right)
    tell(served)
    task_id = client.submit("add", 2, kwargs={"right": 40}, priority="urgent", name="sum")
    task = client.wait(task_id, LIMIT_S)
    assert (task.status, task.value, task.name, task.priority.name) == ("SUCCESS", 42, "sum", "URGENT")
    assert task.origin == "submit"
    assert client.metrics().successful_tasks == 1
    assert served.queue.sync.get_task_result(task_id) == 42


@ON_SQLITE
def test_a_coroutine_runs_where_it_belongs_though_a_client_cannot_know(
    served: Clockwork, client: SyncAtlasClient
) -> None:
    async def later() -> str:
        return "awaited"

    served.registry.add("later", later)
    tell(served)
    task = client.wait(client.submit("later"), LIMIT_S)
    assert (task.status, task.value) == ("SUCCESS", "awaited")


@ON_SQLITE
def test_a_volatile_coroutine_of_a_job_runs_where_it_belongs(served: Clockwork, client: SyncAtlasClient) -> None:
    async def later() -> str:
        return "awaited"

    served.cron.add_job("job", "@yearly", later)
    task = client.wait(client.run_job("job"), LIMIT_S)
    assert (task.status, task.value) == ("SUCCESS", "awaited")


def test_a_job_runs_now_and_is_busy_then(served: Clockwork, client: SyncAtlasClient) -> None:
    served.cron.add_job("job", "@yearly", "gate", title="一年一次")
    served.cron.pause_job("job")
    task_id = client.run_job("job")
    served.gate.wait_entered()
    with pytest.raises(JobBusyError, match=task_id):
        client.run_job("job")
    with pytest.raises(JobBusyError, match=task_id):
        served.cron.run_job_now("job")
    assert client.job_status("job")["unfinished_tasks"] == [task_id]
    served.gate.open()
    task = client.wait(task_id, LIMIT_S)
    assert (task.status, task.reason, task.job_id, task.name) == ("SUCCESS", "run now", "job", "一年一次")


def test_a_job_without_function_is_refused_with_why_and_what_to_do(
    served: Clockwork, client: SyncAtlasClient, tmp_path: Path
) -> None:
    file = tmp_path / "cron_jobs.json"
    reconciler = Reconciler(served.cron, file, PolicyDefaults())
    for function, why in (("nothing", None), ("nothin", "did you mean 'nothing'?"), ("nothing", None)):
        file.write_text(json.dumps({"cron_jobs": {"job": {"cron_expression": "@yearly", "function": function}}}))
        reconciler.reload()
        served.store.write(lambda _connection: None)  # behind what the reload told
        if why is None:
            assert client.wait(client.run_job("job"), LIMIT_S).status is TaskStatus.SUCCESS
            continue
        for run in (client.run_job, served.cron.run_job_now):
            with pytest.raises(JobUnboundError) as refused:
                run("job")
            assert str(refused.value) == (
                'job job: it has no function and cannot run; correct its "function", or register that one with the '
                f"scheduler: no function 'nothin' is registered; {why}"
            )
        assert isinstance(client.run_jobs(["job"])["job"], JobUnboundError)


@ON_SQLITE
def test_a_function_that_is_bound_again_can_be_run_at_once(served: Clockwork, client: SyncAtlasClient) -> None:
    served.cron.add_job("job", "@yearly", lambda: None)
    served.queue.serving.renew()
    states = served.cron.running.states
    states.bind("job", None)  # as a start finds it
    tell(served)
    with pytest.raises(JobUnboundError, match="binds it"):
        client.run_job("job")
    served.cron.add_job("job", "@yearly", lambda: None)
    served.store.write(lambda _connection: None)
    assert client.wait(client.run_job("job"), LIMIT_S).status is TaskStatus.SUCCESS


def test_a_running_task_is_cancelled(served: Clockwork, client: SyncAtlasClient) -> None:
    served.registry.add("gate", served.gate)
    tell(served)
    task_id = client.submit("gate")
    served.gate.wait_entered()
    assert client.cancel(task_id)
    eventually(lambda: served.queue.get_queue_status()["running_tasks"] == 0)
    assert client.wait(task_id, LIMIT_S).status is TaskStatus.CANCELLED
    assert client.cancel(task_id) is False


def test_a_pause_and_its_end_reach_the_scheduler(served: Clockwork, client: SyncAtlasClient) -> None:
    served.cron.add_job("job", "@yearly", "nothing")
    client.pause_job("job", by="me", reason="why not")
    eventually(lambda: served.job().state is JobState.PAUSED)
    assert served.job().detail == "by me: why not"
    assert client.jobs()[0].state is JobState.PAUSED
    assert client.resume_job("job") is True
    eventually(lambda: served.job().state is JobState.ACTIVE)
    assert client.resume_job("job") is False


def test_a_task_of_a_client_counts_for_its_job_from_the_moment_it_is_decided_on(
    served: Clockwork, client: SyncAtlasClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between that and the end of its commit a fire took its place in line, and one of the two was queued."""
    served.cron.add_job("job", "@yearly", "nothing")
    acceptance = served.cron.running.serving.acceptance
    adopt, met = acceptance.adopt, list[str]()

    def fires_just_before(tasks: list[Task], **options: Any) -> None:
        try:
            acceptance.reserve(Live(replace(tasks[0], id="fire")))
            met.append("taken")
            acceptance.forget("fire")
        except JobBusyError as busy:
            met.append(busy.task_id)
        adopt(tasks, **options)

    monkeypatch.setattr(acceptance, "adopt", fires_just_before)
    task_id = client.run_job("job")
    assert client.wait(task_id, LIMIT_S).status is TaskStatus.SUCCESS
    assert met == [task_id]
    again = client.run_job("job")  # nothing is left of it that would hold up the next
    assert client.wait(again, LIMIT_S).status is TaskStatus.SUCCESS


def test_a_client_sees_jobs_and_figures_as_the_scheduler_does(served: Clockwork, client: SyncAtlasClient) -> None:
    served.cron.add_job("job", "@hourly", "nothing", tags=["a"], spread="10m", timeout=5)
    served.cron.add_job("volatile", "@hourly", lambda: None)
    served.cron.run_job_now("job")
    served.settle()
    tell(served)
    assert client.jobs() == served.cron.get_all_jobs()
    mine, theirs = client.job_status("job"), served.cron.get_job_status("job")
    assert mine == theirs
    assert client.metrics() == served.store.totals.metrics()


def test_the_scheduler_that_serves_is_known(served: Clockwork, client: SyncAtlasClient) -> None:
    tell(served)
    lease = client.scheduler()
    assert lease is not None
    assert lease.holder["pid"] == os.getpid()
    assert lease.figures["functions"] == ["gate", "nothing"]
    assert lease.figures["queue_size"] == 0
    served.cron.running.scheduler.state = 0
    served.cron.stop()
    served.queue.sync.stop()
    assert client.scheduler() is None


@ON_SQLITE
def test_what_the_scheduler_would_refuse_is_refused_before_it_is_on_disk(
    served: Clockwork, client: SyncAtlasClient
) -> None:
    served.queue.serving.renew()
    tell(served)
    with pytest.raises(FunctionRefusedError, match="function 'os:system': package 'os' is not on the allow-list"):
        client.submit("os:system", "true")
    assert client.tasks() == []


def test_a_database_that_no_scheduler_has_used_is_doubted(alone: SyncAtlasClient, warned: list[str]) -> None:
    alone.submit("collect")
    assert warned == ["no scheduler has run on this database yet: is it the right one?"]


def test_an_unknown_function_is_refused_with_the_nearest_name(served: Clockwork, client: SyncAtlasClient) -> None:
    tell(served)
    with pytest.raises(UnknownFunctionError, match="did you mean 'nothing'"):
        client.submit("nothin")
    assert client.tasks() == []


def test_of_several_jobs_one_that_is_refused_keeps_no_other_from_running(
    served: Clockwork, client: SyncAtlasClient
) -> None:
    for name in ("one", "two"):
        served.cron.add_job(name, "@hourly", "nothing")
    made = client.run_jobs(["one", "nowhere", "two", "one"], by="mei")
    assert list(made) == ["one", "nowhere", "two"]
    assert isinstance(made["nowhere"], UnknownJobError)
    for name in ("one", "two"):
        task = client.wait(str(made[name]), LIMIT_S)
        assert (task.job_id, task.status) == (name, TaskStatus.SUCCESS)


@ON_SQLITE
def test_looking_from_a_client_in_the_schedulers_process_leaves_its_figures_alone(
    served: Clockwork, client: SyncAtlasClient
) -> None:
    """One more store of the same database in one process: neither disturbs the other."""
    assert client.store is not served.store
    for _ in range(3):
        client.wait(client.submit("nothing"), LIMIT_S)
        client.metrics()
    served.store.write(lambda _connection: None)
    assert served.store.totals.metrics().total_tasks == client.metrics().total_tasks == 3


def test_a_job_that_was_made_busy_from_two_sides_at_once_runs_once(served: Clockwork, client: SyncAtlasClient) -> None:
    """The client's row is in the store; before the scheduler picks it up, the job fires."""
    served.cron.add_job("job", None, "gate", dates=[served.clock.instant + timedelta(seconds=5)])
    foreign, served.store.writer.on_foreign = served.store.writer.on_foreign, None
    task_id = client.run_job("job")
    served.pass_by(seconds=5)
    served.gate.wait_entered()
    served.store.writer.on_foreign = foreign
    served.store.writer.look_again()
    task = client.wait(task_id, LIMIT_S)
    assert (task.status, task.cause) == ("CANCELLED", "busy")
    assert served.gate.calls == 1


# --- without a scheduler ---------------------------------------------------------------------------------------------


def test_what_is_submitted_waits_for_a_scheduler(
    alone: SyncAtlasClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = alone.submit("nothing")
    assert alone.task(task_id).status is TaskStatus.PENDING
    assert alone.scheduler() is None
    with pytest.raises(ResultNotReadyError, match="not final after 0 s"):
        alone.wait(task_id, 0)
    with Clockwork(tmp_path / "atlas.db", monkeypatch):
        assert alone.wait(task_id, LIMIT_S).status is TaskStatus.SUCCESS


def test_what_is_cancelled_before_a_scheduler_comes_never_runs(
    alone: SyncAtlasClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = alone.submit("gate")
    assert alone.cancel(task_id)
    with Clockwork(tmp_path / "atlas.db", monkeypatch) as clockwork:
        assert alone.wait(task_id, LIMIT_S).status is TaskStatus.CANCELLED
        assert clockwork.gate.calls == 0


def test_a_chosen_id_is_new_or_refused(alone: SyncAtlasClient) -> None:
    assert alone.submit("work", task_id="mine") == "mine"
    with pytest.raises(DuplicateTaskError):
        alone.submit("work", task_id="mine")


def _on_a_queue(store: Store, put: Callable[[], object], *, standby: bool) -> object:
    registry = Registry()
    registry.add("work", lambda number: number)
    queue = TaskQueue(1, store=store, registry=registry)
    if standby:
        queue._role = Standby(store)
        put()
        try:
            return queue.sync.submit("work", 2, task_id="mine")
        finally:
            queue._role = None  # it was never started
    with queue.sync:
        store.off_foreign(queue.serving._look_for_requests)
        put()
        return queue.sync.submit("work", 2, task_id="mine")


def _by_hand(store: Store, put: Callable[[], object]) -> object:
    put()
    with StatusManager(None, store=store) as status:
        return status.create_task("mine", "two")


def _by_a_client(store: Store, put: Callable[[], object]) -> object:
    put()
    return SyncAtlasClient.over(store).submit("work", 2, task_id="mine")


SUBMITS: dict[str, Callable[[Store, Callable[[], object]], object]] = {
    "client_tasks": _by_a_client,
    "serving": partial(_on_a_queue, standby=False),
    "standby": partial(_on_a_queue, standby=True),
    "status": _by_hand,
}


@pytest.mark.parametrize("where", SUBMITS)
def test_of_two_processes_that_choose_one_id_at_once_one_is_refused(
    database: str, client: SyncAtlasClient, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """On PostgreSQL both look for it before either has committed."""

    def put() -> None:
        client.submit("work", 1, task_id="mine")
        looks = "client_tasks" if where == "standby" else where  # one that stands by writes as a client does
        monkeypatch.setattr(f"atlas.scheduler.{looks}.fetch", lambda _connection, _task_id: None)

    store = Store(database)
    try:
        with pytest.raises(DuplicateTaskError):
            SUBMITS[where](store, put)
    finally:
        monkeypatch.undo()
        store.close()
    assert client.task("mine").arguments == '{"args":[1],"kwargs":{}}'


REFUSED: dict[str, tuple[Callable[[SyncAtlasClient], Any], type[Exception], str]] = {
    "a function as such": (lambda client: client.submit(print), ArgumentsError, "by name"),  # type: ignore[arg-type]
    "an object": (lambda client: client.submit("work", object()), ArgumentsError, "not JSON"),
    "a tuple": (lambda client: client.submit("work", (1, 2)), ArgumentsError, "change on their way"),
    "a keyword that is no text": (
        lambda client: client.submit("work", kwargs={1: 2}),  # type: ignore[dict-item]
        ArgumentsError,
        "change on their way",
    ),
    "another executor": (lambda client: client.submit("work", executor="gpu"), ArgumentsError, "executor 'gpu'"),
    "another priority": (lambda client: client.submit("work", priority="soon"), ArgumentsError, "priority 'soon'"),
    "no time": (lambda client: client.submit("work", timeout=0), ArgumentsError, "timeout 0"),
    "an unknown option": (lambda client: client.submit("work", timout=1), TypeError, "timout"),  # type: ignore[call-arg]
    "an id of two lines": (lambda client: client.submit("work", task_id="a\nb"), ArgumentsError, "task_id"),
    "an unknown task": (lambda client: client.task("nobody"), UnknownTaskError, "nobody"),
    "cancelling an unknown task": (lambda client: client.cancel("nobody"), UnknownTaskError, "nobody"),
    "waiting for an unknown task": (lambda client: client.wait("nobody", 1), UnknownTaskError, "nobody"),
    "an unknown job's status": (lambda client: client.job_status("reprot"), UnknownJobError, "did you mean 'report'"),
    "running an unknown job": (lambda client: client.run_job("reprot"), UnknownJobError, "did you mean 'report'"),
    "pausing an unknown job": (lambda client: client.pause_job("reprot"), UnknownJobError, "did you mean 'report'"),
    "resuming an unknown job": (lambda client: client.resume_job("zzz"), UnknownJobError, "no such job"),
    "a pause into the past": (
        lambda client: client.pause_job("report", until=datetime(2020, 1, 1, tzinfo=UTC)),
        ArgumentsError,
        "in the future",
    ),
    "a naive pause": (
        lambda client: client.pause_job("report", until=datetime(2099, 1, 1)),  # noqa: DTZ001
        ArgumentsError,
        "with its zone",
    ),
    "another status": (lambda client: client.tasks(status="done"), ArgumentsError, "status 'done'"),
    "a naive instant": (
        lambda client: client.tasks(since=datetime(2026, 1, 1)),  # noqa: DTZ001
        ArgumentsError,
        "no offset",
    ),
}


@pytest.fixture
def with_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: SyncAtlasClient) -> SyncAtlasClient:
    with Clockwork(tmp_path / "atlas.db", monkeypatch) as clockwork:
        clockwork.cron.add_job("report", "@daily", "nothing")
        clockwork.registry.add("work", lambda: None)
        tell(clockwork)
    return alone


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_meaning_is_refused_and_leaves_nothing(
    with_a_job: SyncAtlasClient, call: Callable[[SyncAtlasClient], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(with_a_job)
    assert with_a_job.tasks() == []
    assert with_a_job.jobs()[0].pause is None


def test_a_hand_moved_task_is_not_the_schedulers_to_cancel(alone: SyncAtlasClient, tmp_path: Path) -> None:
    with StatusManager(tmp_path / "atlas.json") as status:
        status.create_task("mine", "mine")
        assert alone.cancel("mine") is False
        assert status.get_task("mine").cancel_requested is False


def test_a_row_that_cannot_be_read_is_shown_as_parked(alone: SyncAtlasClient) -> None:
    alone.store.write(
        lambda connection: connection.execute(insert(jobs).values(id="bad", next_run_time=None, job_state=b"?"))
    )
    assert [(job.id, job.state) for job in alone.jobs()] == [("bad", JobState.PARKED)]


async def test_calls_that_are_awaited_together_share_one_store(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    async with AtlasClient(tmp_path / "atlas.db") as client:
        await asyncio.gather(*(client.submit("work") for _ in range(4)))
    assert "atlas-writer" not in {thread.name for thread in set(threading.enumerate()) - before}


async def test_those_who_wait_for_tasks_hold_up_no_other_call(tmp_path: Path) -> None:
    async with asyncio.timeout(LIMIT_S), AtlasClient(tmp_path / "atlas.db") as client:
        ids = [await client.submit("work") for _ in range(40)]
        waits = [asyncio.create_task(client.wait(task_id)) for task_id in ids]
        late = asyncio.create_task(client.wait(ids[0], 0.05))
        assert await client.scheduler() is None
        with pytest.raises(ResultNotReadyError):
            await late
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
        assert all(wait.cancelled() for wait in waits)
        assert await client.cancel(ids[0])


def test_a_cancelled_wait_keeps_no_program_from_its_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with AtlasClient(tmp_path / "atlas.db") as client:
            task_id = await client.submit("work")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.wait(task_id)

    runner = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    runner.start()
    runner.join(LIMIT_S)
    assert not runner.is_alive()


def test_waiting_tells_each_change_once(
    alone: SyncAtlasClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Clockwork(tmp_path / "atlas.db", monkeypatch) as clockwork:
        task_id = alone.submit("gate")
        seen: list[tuple[str, int]] = []

        def changed(task: Any) -> None:
            seen.append((task.status.value, task.attempt))
            if task.status is TaskStatus.RUNNING:
                clockwork.gate.open()

        clockwork.gate.wait_entered()
        eventually(lambda: alone.task(task_id).status is TaskStatus.RUNNING)
        assert alone.wait(task_id, LIMIT_S, on_change=changed).status is TaskStatus.SUCCESS
        assert seen == [("RUNNING", 1), ("SUCCESS", 1)]


def test_attempts_are_shown(alone: SyncAtlasClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Clockwork(tmp_path / "atlas.db", monkeypatch) as clockwork:
        calls: list[int] = []

        def fails_once() -> str:
            calls.append(1)
            if len(calls) == 1:
                raise OSError("once")
            return "fine"

        clockwork.registry.add("fails_once", fails_once)
        clockwork.cron.add_job("job", "@yearly", "fails_once", retry_delay=0)
        task = alone.wait(alone.run_job("job"), LIMIT_S)
        assert (task.status, task.attempt, task.failures) == ("SUCCESS", 2, 1)
        (kept,) = alone.attempts(task.id)
        assert kept["attempt"] == 1
        assert "OSError: once" in kept["error"]


async def test_the_async_face_does_what_the_other_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> Clockwork:
        made = Clockwork(tmp_path / "atlas.db", monkeypatch, now=datetime.now(UTC))
        made.cron.add_job("job", "@yearly", "nothing")
        tell(made)
        return made

    clockwork = await asyncio.to_thread(start)
    async with AtlasClient(tmp_path / "atlas.db") as client:
        assert [job.id for job in await client.jobs()] == ["job"]
        task = await client.wait(await client.submit("nothing"), LIMIT_S)
        assert task.status is TaskStatus.SUCCESS
        assert (await client.task(task.id)).id == task.id
        assert await client.attempts(task.id) == []
        assert [one.id for one in await client.tasks(status="success")] == [task.id]
        assert (await client.metrics()).total_tasks == 1
        await client.pause_job("job")
        assert (await client.job_status("job"))["state"] == "PAUSED"
        assert await client.resume_job("job") is True
        ran = await client.wait(await client.run_job("job"), LIMIT_S)
        assert await client.cancel(ran.id) is False
        assert (await client.scheduler()) is not None
        with pytest.raises(RuntimeError, match="running event loop"):
            client.sync.jobs()
    await asyncio.to_thread(clockwork.close)


async def test_a_client_that_lives_as_long_as_its_program_is_closed_without_a_block(tmp_path: Path) -> None:
    client = AtlasClient(tmp_path / "atlas.db")
    assert await client.tasks() == []
    store = client.sync.store
    await client.close()
    await client.close()
    assert store.is_closed


# --- a scheduler in another process ----------------------------------------------------------------------------------

SCHEDULER = """
import asyncio, json, signal, sys
from atlas.scheduler import CronManager, Registry, TaskQueue

async def main():
    registry = Registry()

    @registry.register
    async def sleeps():
        await asyncio.sleep(600)

    @registry.register
    def echo(value):
        return value

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with TaskQueue(max_workers=3, store=sys.argv[1], registry=registry) as queue:
        async with CronManager(queue) as cron:
            await cron.add_job("tick", "* * * * * *", "echo", args=["tick"])
            print("ready", flush=True)
            await stop.wait()

asyncio.run(main())
"""


@pytest.fixture
def elsewhere(database: Path | str) -> Iterator[subprocess.Popen[str]]:
    """A scheduler in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = Program(
        [sys.executable, "-c", SCHEDULER, str(database)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0


def test_another_process_hears_within_a_second(elsewhere: subprocess.Popen[str], client: SyncAtlasClient) -> None:
    lease = client.scheduler()
    assert lease is not None
    assert lease.holder["pid"] == elsewhere.pid

    task = client.wait(client.submit("echo", {"新": 1}), LIMIT_S)
    assert task.value == {"新": 1}
    assert task.started_at is not None
    assert task.started_at - task.created_at < PROMISED

    sleeper = client.submit("sleeps")
    eventually(lambda: client.task(sleeper).status is TaskStatus.RUNNING)
    asked_at = datetime.now(UTC)
    assert client.cancel(sleeper)
    ended = client.wait(sleeper, LIMIT_S)
    assert (ended.status, ended.cause) == ("CANCELLED", "cancelled")
    assert ended.finished_at is not None
    assert ended.finished_at - asked_at < PROMISED

    eventually(lambda: len(client.tasks(job="tick")) > 0)
    client.pause_job("tick", reason="enough")
    asked_at = datetime.now(UTC)
    eventually(lambda: skips(client, "tick") > 0)
    latest = client.tasks(job="tick", limit=1)[0]
    assert latest.created_at - asked_at < PROMISED
    client.resume_job("tick")
    resumed_at = datetime.now(UTC)
    eventually(lambda: client.tasks(job="tick", limit=1)[0].created_at > resumed_at)
    assert client.tasks(job="tick", limit=1)[0].created_at - resumed_at < PROMISED + timedelta(seconds=1)


def skips(client: SyncAtlasClient, job: str) -> int:
    counted = client.store.read(
        lambda connection: connection.exec_driver_sql(
            f"SELECT count(*) FROM fires WHERE job_id = '{job}' AND skip_reason = 'paused'"
        ).scalar_one()
    )
    return int(counted)


@ON_SQLITE
def test_a_function_refused_by_the_scheduler_fails_its_task_with_the_reason(
    served: Clockwork, client: SyncAtlasClient
) -> None:
    """What is written ``module:name`` only the scheduler can judge."""
    task = client.wait(client.submit("os:getpid", max_retries=0), LIMIT_S)
    assert task.status is TaskStatus.FAILED
    assert task.error is not None
    assert FunctionRefusedError.__name__ in task.error
    assert "allow-list" in task.error


@ON_SQLITE
def test_a_tasks_json_is_json(served: Clockwork, client: SyncAtlasClient) -> None:
    task = client.wait(client.submit("nothing"), LIMIT_S)
    assert json.loads(json.dumps(task_json(task)))["status"] == "SUCCESS"


@pytest.mark.parametrize("ended", ["stopped", "died"])
def test_whether_the_queue_is_full_is_counted_where_nobody_serves_it(tmp_path: Path, ended: str) -> None:
    """What the last one told stands still: it would refuse what is cancelled room, or take any number."""
    file = tmp_path / "atlas.db"
    with TaskQueue(1, store=file, max_waiting=3).sync:
        pass
    with AtlasClient(file).sync as client:

        def tell(waiting: int) -> None:
            lease = {"figures": json.dumps({"max_waiting": 3, "queue_size": waiting})}
            past = {"stopped_at": None, "expires_at": 1.0} if ended == "died" else {}
            client.store.write(lambda connection: connection.execute(update(leases).values(**lease, **past)))

        tell(3)
        made = [client.submit("somewhere:else") for _ in range(3)]
        tell(0)
        with pytest.raises(QueueFullError):
            client.submit("somewhere:else")
        client.cancel(made[0])
        client.submit("somewhere:else")


def test_a_client_that_is_dropped_says_so_and_closes_its_database(tmp_path: Path) -> None:
    clients = [AtlasClient(tmp_path / "atlas.db")]
    store = clients[0].sync.store
    with pytest.warns(ResourceWarning, match="was dropped before it was closed"):
        clients.clear()
    eventually(lambda: store.is_closed)


@pytest.mark.parametrize("target", [None, ""])
def test_a_client_of_no_database_is_refused(target: Any) -> None:
    with pytest.raises(ArgumentsError, match="names no database"):
        AtlasClient(target)


def test_a_client_over_an_open_store_leaves_it_open_and_one_that_was_not_used_or_is_closed_has_none(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    store = Store(tmp_path / "atlas.db")
    assert SyncAtlasClient.over(store).tasks() == []
    AtlasClient(tmp_path / "atlas.db")
    with AtlasClient(tmp_path / "atlas.db").sync as client:
        assert client.tasks() == []
    del client
    assert not store.is_closed
    store.close()
    assert [str(warning.message) for warning in recwarn] == []

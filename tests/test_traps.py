"""The sixteen traps of APScheduler that were measured before Atlas was built; each test shows Atlas free of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select

from atlas.scheduler.client import AtlasClient
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.errors import StoreHeldError
from atlas.scheduler.events import SchedulerEvent, SchedulerEventKind, TaskEvent
from atlas.scheduler.job_store import changes
from atlas.scheduler.job_store import job_store as job_store_module
from atlas.scheduler.job_view import JobState
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.schedule import Schedule
from atlas.scheduler.store.store import Store
from atlas.scheduler.store.tables import fires, jobs
from atlas.scheduler.task import TaskStatus
from tests.clockwork import DAY, START, Clockwork, locked, nothing, utc
from tests.forked import Program
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres import Postgres


class Running:
    """A scheduler on the real clock, with APScheduler's own thread and a job of every second."""

    def __init__(self, database: Path | str) -> None:
        registry = Registry()
        self.calls = threading.Semaphore(0)
        registry.add("beat", self.calls.release)
        self.queue = TaskQueue(2, store=database, registry=registry)
        self.queue.sync.start()
        self.cron = CronManager(self.queue).sync
        self.cron.start()
        self.cron.add_job("beat", "* * * * * *", "beat", overlap="queue", catchup="all")

    @property
    def store(self) -> Store:
        return self.queue.serving.store

    @property
    def thread_lives(self) -> bool:
        thread = self.cron.running.scheduler._thread
        return thread is not None and thread.is_alive()

    def beats(self, count: int = 1) -> None:
        """Wait for so many further calls."""
        for _ in range(count):
            assert self.calls.acquire(timeout=LIMIT_S), "the clock stands still"

    def settle(self) -> None:
        while self.calls.acquire(blocking=False):
            pass

    def check_every_second_was_served_once(self) -> None:
        """Fire times follow each other without a hole, and none has two tasks."""
        statement = select(fires).where(fires.c.job_id == "beat").order_by(fires.c.fire_time)
        rows = self.store.read(lambda connection: list(connection.execute(statement)))
        covered = [at for row in rows for at in range(int(row.fire_time), int(row.last or row.fire_time) + 1)]
        assert covered == list(range(covered[0], covered[0] + len(covered)))
        served = self.store.read(
            lambda connection: connection.exec_driver_sql(
                "SELECT fire_time, count(*) FROM tasks WHERE job_id = 'beat' GROUP BY fire_time HAVING count(*) > 1"
            ).all()
        )
        assert served == []

    def close(self) -> None:
        self.cron.stop()
        self.queue.sync.stop(timeout=LIMIT_S)


@contextmanager
def running(database: Path | str) -> Iterator[Running]:
    """`Running`, closed in the end."""
    made = Running(database)
    try:
        yield made
    finally:
        made.close()


def wait_for_fault(store: Store) -> None:
    """Wait until the database has refused a commit."""
    seen = threading.Event()

    def hear(event: Any) -> None:
        if isinstance(event, SchedulerEvent) and event.kind is SchedulerEventKind.FAULT:
            seen.set()

    unsubscribe = store.events.subscribe(hear)
    if store.writer.fault is None:
        assert seen.wait(LIMIT_S), "the fault was not noticed"
    unsubscribe()


# --- 1 and 2: the database does not answer ---------------------------------------------------------------------------


def test_1_and_2_a_lock_neither_kills_the_clock_nor_fires_twice(tmp_path: Path) -> None:
    with running(tmp_path / "atlas.db") as atlas:
        atlas.beats(1)
        with locked(tmp_path / "atlas.db"):
            wait_for_fault(atlas.store)
            atlas.settle()
            assert atlas.thread_lives
        atlas.beats(2)
        assert atlas.thread_lives
        atlas.check_every_second_was_served_once()


def test_1_a_row_that_was_removed_meanwhile_does_not_kill_the_clock(tmp_path: Path) -> None:
    with running(tmp_path / "atlas.db") as atlas:
        atlas.beats(1)
        atlas.store.write(lambda connection: connection.execute(delete(jobs)))
        atlas.settle()
        atlas.beats(1)
        assert atlas.thread_lives


def test_1_a_trigger_that_raises_does_not_kill_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "atlas.db") as atlas:
        atlas.beats(1)
        real, asked = Schedule.next_after, threading.Event()

        def raising(self: Schedule, instant: datetime) -> datetime | None:
            asked.set()
            if self.cron == ("*/1 * * * * *",):
                raise OSError("the zone file is gone")
            return real(self, instant)

        atlas.cron.add_job("bad", "*/1 * * * * *", "beat")
        monkeypatch.setattr(Schedule, "next_after", raising)
        assert asked.wait(LIMIT_S)
        atlas.settle()
        atlas.beats(1)
        assert atlas.thread_lives


def test_1_and_2_a_server_that_is_killed_and_comes_back_is_used_again(postgres: Postgres) -> None:
    with running(postgres.new_database()) as atlas:
        atlas.beats(1)
        postgres.stop(signal.SIGQUIT)
        try:
            wait_for_fault(atlas.store)
        finally:
            postgres.start()
        atlas.settle()
        atlas.beats(2)
        assert atlas.thread_lives
        atlas.check_every_second_was_served_once()


# --- 3: late starts are dropped --------------------------------------------------------------------------------------


def test_3_jobs_due_at_once_all_run_however_few_slots_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Clockwork(tmp_path / "atlas.db", monkeypatch, max_workers=1) as clockwork:
        for number in range(300):
            clockwork.cron.add_job(f"job{number}", "* * * * *", "nothing")
        clockwork.each("12:01")
        counted = clockwork.store.totals.metrics()
        assert (counted.total_tasks, counted.successful_tasks) == (300, 300)


def test_3_one_offs_behind_a_slow_job_are_late_and_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Clockwork(tmp_path / "atlas.db", monkeypatch, max_workers=1) as clockwork:
        clockwork.cron.add_job("slow", "1 12 * * *", "gate")
        for number in range(50):
            clockwork.cron.add_job(f"once{number}", None, "nothing", dates=[utc(f"{DAY} 12:01")])
        clockwork.at("12:01")
        clockwork.gate.wait_entered()
        clockwork.at("12:30")
        clockwork.gate.open()
        clockwork.settle()
        assert clockwork.store.totals.metrics().successful_tasks == 51


# --- 4: rows that cannot be restored are deleted ---------------------------------------------------------------------


def test_4_a_row_that_cannot_be_read_survives_who_runs_and_who_only_looks(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.store.write(
        lambda connection: connection.exec_driver_sql("UPDATE apscheduler_jobs SET job_state = x'8004'")
    )
    with AtlasClient(Path(clockwork.database)).sync as client:
        assert [job.state for job in client.jobs()] == [JobState.PARKED]
    clockwork.restart()
    clockwork.at("12:01")
    assert clockwork.cron.running.scheduler.get_jobs() == []
    assert [job.state for job in clockwork.cron.get_all_jobs()] == [JobState.PARKED]
    assert clockwork.rows()["job"].job_state == b"\x80\x04"


# --- 5: adding a job again forgets what it owes ----------------------------------------------------------------------


def test_5_a_restart_that_adds_its_jobs_again_forgets_no_fire(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing")
    clockwork.restart(utc(f"{DAY} 13:05"))
    clockwork.cron.add_job("job", "@hourly", "nothing")
    clockwork.tick()
    assert clockwork.decisions() == ["13:00 task"]


def test_5_an_interval_longer_than_the_time_between_restarts_fires(clockwork: Clockwork) -> None:
    for _ in range(12):
        clockwork.cron.add_job("job", None, "nothing", interval="5m")
        clockwork.tick()
        clockwork.settle()
        clockwork.restart(clockwork.clock.instant + timedelta(minutes=2))
    assert clockwork.decisions() == ["12:05 task", "12:10 task", "12:15 task", "12:20 task"]


# --- 6: events -------------------------------------------------------------------------------------------------------


def test_6_every_task_tells_accepted_started_ended_in_this_order(clockwork: Clockwork) -> None:
    for number in range(200):
        clockwork.cron.add_job(f"job{number}", "* * * * *", "nothing")
    clockwork.each("12:01")
    told: dict[str, list[str]] = {}
    for one in clockwork.events:
        if isinstance(one, TaskEvent):
            told.setdefault(one.task_id, []).append(one.status.value)
    assert len(told) == 200
    assert set(map(tuple, told.values())) == {("PENDING", "RUNNING", "SUCCESS")}


@pytest.mark.parametrize(
    ("function", "ends"),
    [
        pytest.param(os.abort, ("FAILED", "quarantined"), id="a worker that is killed"),
        pytest.param(threading.Lock, ("SUCCESS", None), id="a result that no pickle holds"),
    ],
)
def test_6_a_process_that_cannot_answer_still_ends_its_task(
    clockwork: Clockwork, function: Any, ends: tuple[str, str | None]
) -> None:
    clockwork.registry.add("work", function)
    clockwork.cron.add_job("job", "@yearly", "work", executor="process", max_retries=0)
    clockwork.cron.run_job_now("job")
    clockwork.settle()
    last = [one for one in clockwork.events if isinstance(one, TaskEvent)][-1]
    assert (last.status, last.cause) == ends
    assert clockwork.tasks()[0].result_omitted is (ends[0] == "SUCCESS")


# --- 7: two schedulers on one store ----------------------------------------------------------------------------------


def test_7_a_second_scheduler_is_refused_and_told_who_is_first(clockwork: Clockwork) -> None:
    second = Store(clockwork.database)
    try:
        with pytest.raises(StoreHeldError, match=f"held by process {os.getpid()}"):
            TaskQueue(store=second).sync.start()
    finally:
        second.close()


def test_7_first_starts_at_once_all_find_one_schema(tmp_path: Path) -> None:
    gate, errors = threading.Barrier(6), []

    def start() -> None:
        gate.wait(LIMIT_S)
        try:
            Store(tmp_path / "atlas.db").close()
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    starts = [threading.Thread(target=start) for _ in range(6)]
    for one in starts:
        one.start()
    for one in starts:
        one.join(LIMIT_S)
    assert errors == []


# --- 8: accepted one-offs are lost -----------------------------------------------------------------------------------

ACCEPTS = """
import sys, threading
from datetime import UTC, datetime, timedelta
from atlas.scheduler import CronManager, Registry, TaskQueue

registry, accepted = Registry(), threading.Semaphore(0)
registry.add("block", threading.Event().wait)
registry.add("note", print)
queue = TaskQueue(1, store=sys.argv[1], registry=registry)
with queue.sync as running:
    def hear(event):
        if getattr(event, "status", "") == "PENDING":
            accepted.release()

    queue.store.events.subscribe(hear)
    running.submit("block", priority="urgent", timeout=None)
    cron = CronManager(queue).sync
    cron.start()
    for number in range(20):
        soon = datetime.now(UTC) + timedelta(seconds=2)
        cron.add_job(f"once{number}", None, "note", dates=[soon])
    for _ in range(21):
        assert accepted.acquire(timeout=40)
    print("accepted", queue.get_queue_status()["queue_size"], flush=True)
    threading.Event().wait()
"""


def test_8_one_offs_that_were_accepted_survive_kill_9(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with Program(
        [sys.executable, "-c", ACCEPTS, str(tmp_path / "atlas.db")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.kill()
    assert line == "accepted 20\n"
    with Clockwork(tmp_path / "atlas.db", monkeypatch, now=datetime.now(UTC)) as clockwork:
        seen: list[int] = []
        clockwork.registry.add("note", lambda: seen.append(1))
        clockwork.registry.add("block", nothing)
        clockwork.settle()
        by_status = Counter(task.status for n in range(20) for task in clockwork.tasks(f"once{n}"))
    assert by_status == {TaskStatus.SUCCESS: 20}
    assert len(seen) == 20


def test_8_10_and_15_the_bridge_counts_no_instances(clockwork: Clockwork) -> None:
    for number in range(20):
        clockwork.cron.add_job(f"once{number}", None, "nothing", dates=[utc(f"{DAY} 12:01")])
    clockwork.each("12:01")
    assert dict(clockwork.bridge._instances) == {}


# --- 9: a listener blocks the loop -----------------------------------------------------------------------------------


def test_9_a_subscriber_that_blocks_or_raises_delays_no_fire(clockwork: Clockwork) -> None:
    blocked, heard = threading.Event(), threading.Event()

    def raising(_event: Any) -> None:
        raise ValueError("no")

    def blocking(_event: Any) -> None:
        assert blocked.wait(LIMIT_S)
        heard.set()

    clockwork.store.events.subscribe(raising)
    clockwork.store.events.subscribe(blocking)
    clockwork.cron.add_job("job", "* * * * *", "nothing", overlap="queue")
    clockwork.at("12:01", "12:02", "12:03")
    assert clockwork.queue.serving.shutdown.wait_idle(LIMIT_S, waiting_too=True)
    assert clockwork.decisions() == ["12:01 task", "12:02 task", "12:03 task"]
    assert not heard.is_set()
    blocked.set()
    assert heard.wait(LIMIT_S)


# --- 10: arbitrary order ---------------------------------------------------------------------------------------------


def test_10_jobs_due_together_start_by_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    with Clockwork(tmp_path / "atlas.db", monkeypatch, max_workers=1) as clockwork:
        clockwork.registry.add("note", order.append)
        clockwork.cron.add_job("block", "0 12 * * *", "gate")
        clockwork.cron.run_job_now("block")
        clockwork.gate.wait_entered()
        for number, priority in enumerate(("low", "urgent", "normal", "high", "low", "urgent")):
            clockwork.cron.add_job(f"job{number}", "* * * * *", "note", args=[priority], priority=priority)
        clockwork.at("12:01")
        clockwork.gate.open()
        clockwork.settle()
    assert order == ["urgent", "urgent", "high", "normal", "low", "low"]


# --- 11: everybody waits for a pass ----------------------------------------------------------------------------------


def test_11_a_pass_that_waits_keeps_nobody_from_looking(
    clockwork: Clockwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_store_module, "PASS_WAIT_S", 0.05)
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    with locked(tmp_path / "atlas.db"):
        clockwork.at("12:01")
        assert clockwork.jobs.door.lock.locked()
        begun = time.monotonic()
        assert [job.id for job in clockwork.cron.get_all_jobs()] == ["job"]
        assert clockwork.cron.get_job_status("job")["state"] == "ACTIVE"
        assert [job.id for job in clockwork.cron.running.scheduler.get_jobs()] == ["job"]
        assert time.monotonic() - begun < 1


# --- 12 and 16: missed times are enumerated --------------------------------------------------------------------------


def test_12_and_16_a_year_of_downtime_is_one_look(clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    asked = Counter[str]()
    real = Schedule.next_after

    def counted(self: Schedule, instant: datetime) -> datetime | None:
        asked["schedule"] += 1
        return real(self, instant)

    monkeypatch.setattr(Schedule, "next_after", counted)
    later = START + timedelta(days=365)
    job = clockwork.jobs.lookup_job("job")
    assert job is not None
    assert job._get_run_times(later) == [utc(f"{DAY} 12:01")]
    asked.clear()
    begun = time.thread_time()
    clockwork.tick(later)
    assert time.thread_time() - begun < 5
    assert asked["schedule"] == 2  # is there another one that is due; and the one that is to come
    assert len(clockwork.fires()) == 2


# --- 13: the wall clock is set ---------------------------------------------------------------------------------------


def test_13_a_step_forward_is_caught_up_as_the_job_says_and_a_step_back_fires_nothing_twice(
    clockwork: Clockwork,
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.each("12:01", "13:01")
    assert clockwork.decisions() == ["12:01 task", "12:02-13:00 skip coalesced x59", "13:01 task"]
    waited = clockwork.at("12:01", "12:02", "12:30")
    assert waited is not None
    assert 0 < waited <= 30  # it looks again soon, whatever the clock says
    clockwork.each("13:01", "13:02")
    assert clockwork.decisions()[2:] == ["13:01 task", "13:02 task"]


# --- 14: an error of the executor loses the fire ---------------------------------------------------------------------


def test_14_an_error_while_a_fire_is_decided_is_stored_and_the_next_one_is_served(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    acceptance, real = clockwork.queue.serving.acceptance, clockwork.queue.serving.acceptance.reserve

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(acceptance, "reserve", refuse)
    clockwork.at("12:01")
    monkeypatch.setattr(acceptance, "reserve", real)
    clockwork.each("12:02")
    assert clockwork.decisions() == ["12:01 skip fault", "12:02 task"]
    assert clockwork.fires()[0].detail == "MemoryError: no room"


def test_14_a_fire_while_another_one_runs_reaches_the_bridge(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "gate", overlap="queue")
    clockwork.at("12:01", "12:02", "12:03")
    assert clockwork.decisions() == ["12:01 task", "12:02 task", "12:03 task"]
    clockwork.gate.open()
    clockwork.settle()
    faults = [one for one in clockwork.events if isinstance(one, SchedulerEvent)]
    assert faults == []


# --- 15: memory changes before the database does, and a shared engine is disposed ------------------------------------


def test_15_a_change_the_database_refuses_does_not_change_memory(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing")
    before = clockwork.job()

    def refuse(*_args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(changes, "write_records", refuse)
    with pytest.raises(OSError, match="disk full"):
        clockwork.cron.running.scheduler.modify_job("job", next_run_time=utc(f"{DAY} 12:30"))
    assert clockwork.job() == before
    found = clockwork.jobs.lookup_job("job")
    assert found is not None
    assert found.next_run_time == before.next_run_at


def test_15_stopping_the_clock_leaves_the_store_to_the_others(tmp_path: Path) -> None:
    with running(tmp_path / "atlas.db") as atlas:
        atlas.beats(1)
        pool = atlas.store.engine.pool
        atlas.cron.stop()
        assert atlas.store.engine.pool is pool
        assert len(atlas.store.read(lambda connection: connection.execute(select(jobs)).all())) == 1
        atlas.cron.start()
        atlas.settle()
        atlas.beats(1)

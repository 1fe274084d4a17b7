"""The test kit: virtual time, the inline queue, and the plugin that hands both to pytest."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import thread_time
from typing import TYPE_CHECKING, Any

import pytest
from loguru import logger

from atlas.scheduler.context import current_task
from atlas.scheduler.errors import (
    ArgumentsError,
    ResultNotReadyError,
    StoreMismatchError,
    StoreUnavailableError,
    TaskFailedError,
    TaskTimeoutError,
)
from atlas.scheduler.registry import Registry
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.schedule import Schedule
from atlas.scheduler.store.store import open_store
from atlas.scheduler.store.task_logs import read_logs
from atlas.scheduler.store.task_rows import fetch
from atlas.scheduler.task import TaskStatus
from atlas.scheduler.testing.clocks import VirtualClock
from atlas.scheduler.testing.inline import InlineQueue
from atlas.scheduler.testing.virtual_time import VirtualTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from atlas.scheduler.task import Task

ROOT = Path(__file__).parent.parent
MONDAY = datetime(2026, 3, 2, 0, 0, 30, tzinfo=UTC)
WEEK = 35
"""CPU of a week of the real config, in times of counting to a million; 12 to 17 when measured."""
STEADY = RetryPolicy(max_retries=3, delay_s=10, backoff=2, jitter=0)


class Failing:
    """Raises the first ``times`` times."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.attempts: list[int] = []

    def __call__(self) -> str:
        self.attempts.append(current_task().attempt)
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError("no route")
        return "done"


def row(queue: InlineQueue, task_id: str) -> Task:
    found = queue.serving.store.read(lambda connection: fetch(connection, task_id))
    assert found is not None
    return found


# --- the inline queue -------------------------------------------------------------------------------------------------


def test_a_function_has_run_when_submit_returns(inline_queue: InlineQueue) -> None:
    calls: list[str] = []
    task_id = inline_queue.sync.submit(calls.append, "a")
    assert calls == ["a"]
    assert row(inline_queue, task_id).status is TaskStatus.SUCCESS


async def test_the_awaited_queue_runs_coroutines_on_the_callers_loop(inline_queue: InlineQueue) -> None:
    loop = asyncio.get_running_loop()

    async def is_here(word: str) -> tuple[str, bool]:
        await asyncio.sleep(0)
        return word, asyncio.get_running_loop() is loop

    task_id = await inline_queue.submit(is_here, "新闻")
    assert await inline_queue.get_task_result(task_id) == ("新闻", True)
    inline_queue.registry.add("length", len)
    many = await inline_queue.submit_many("length", [["ab"], ["abc"]])
    assert [await inline_queue.get_task_result(one) for one in many] == [2, 3]
    again = await inline_queue.retry_task(many[1])
    assert await inline_queue.get_task_result(again) == 3


def test_coroutines_run_without_a_loop_too_and_keep_theirs(inline_queue: InlineQueue) -> None:
    async def loop_id() -> int:
        return id(asyncio.get_running_loop())

    first, second = (inline_queue.sync.submit(loop_id) for _ in range(2))
    result = inline_queue.sync.get_task_result
    assert result(first) == result(second)


def test_retries_wait_as_the_policy_says_and_nobody_waits_for_them(inline_queue: InlineQueue) -> None:
    work, before = Failing(2), inline_queue.clock.now()
    task_id = inline_queue.sync.submit(work, retry=STEADY)
    assert inline_queue.sync.get_task_result(task_id) == "done"
    assert work.attempts == [1, 2, 3]
    assert (inline_queue.clock.now() - before).total_seconds() == 10 + 20


def test_a_task_that_fails_to_the_end_raises_its_error(inline_queue: InlineQueue) -> None:
    task_id = inline_queue.sync.submit(Failing(9), max_retries=1)
    with pytest.raises(TaskFailedError, match="no route"):
        inline_queue.sync.get_task_result(task_id)
    assert row(inline_queue, task_id).attempt == 2


def test_retry_on_decides_here_as_well(inline_queue: InlineQueue) -> None:
    work = Failing(9)
    inline_queue.sync.submit(work, retry=RetryPolicy(max_retries=5, retry_on=("ValueError",)))
    assert work.attempts == [1]


@pytest.mark.parametrize("checks", [True, False], ids=["asks", "does not ask"])
def test_a_function_that_takes_too_long_is_stopped_at_its_timeout(inline_queue: InlineQueue, checks: bool) -> None:
    def slow() -> str:
        inline_queue.pass_s(61)
        if checks:
            current_task().check()
            raise AssertionError("was not stopped")
        return "late"

    task_id = inline_queue.sync.submit(slow, timeout=60, max_retries=0)
    with pytest.raises(TaskTimeoutError, match="limit of 60 s"):
        inline_queue.sync.get_task_result(task_id)


def test_a_function_that_never_asks_is_abandoned_after_the_grace(inline_queue: InlineQueue) -> None:
    task_id = inline_queue.sync.submit(lambda: inline_queue.pass_s(66), timeout=60, max_retries=0)
    with pytest.raises(TaskTimeoutError, match="abandoned"):
        inline_queue.sync.get_task_result(task_id)
    figures = inline_queue.get_queue_status()
    assert (figures["running_tasks"], figures["abandoned_threads"], figures["free_slots"]) == (0, 0, 10)


async def test_a_coroutine_is_cancelled_at_its_timeout(inline_queue: InlineQueue) -> None:
    async def slow() -> None:
        await asyncio.to_thread(inline_queue.pass_s, 61)
        await asyncio.sleep(3600)

    task_id = await inline_queue.submit(slow, timeout=60, max_retries=0)
    with pytest.raises(TaskTimeoutError):
        await inline_queue.get_task_result(task_id)


def test_a_coroutine_that_really_sleeps_is_named_and_ended_by_its_timeout(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.scheduler.testing.inline.WAITS_S", 0.01)
    told: list[str] = []
    sink = logger.add(lambda message: told.append(message.record["message"]), level="WARNING")

    async def sleeps() -> None:
        await asyncio.sleep(3600)

    async def passes() -> None:
        await asyncio.to_thread(virtual_time.advance, 3600)

    try:
        virtual_time.cron.sync.add_job("sleeper", "@hourly", sleeps, timeout=0.1, max_retries=0)
        virtual_time.cron.sync.add_job("mover", "@yearly", passes, timeout=7200, max_retries=0)
        virtual_time.cron.sync.run_job_now("sleeper")
        assert [task.status for task in virtual_time.tasks("sleeper")] == [TaskStatus.TIMEOUT]
        (words,) = [one for one in told if "real time" in one]
        assert "sleeps" in words
        assert "asyncio.to_thread(time.advance, 3600)" in words
    finally:
        logger.remove(sink)
    virtual_time.cron.sync.remove_job("sleeper")
    before = virtual_time.now
    virtual_time.cron.sync.run_job_now("mover")
    assert virtual_time.now - before >= timedelta(hours=1)
    assert [task.status for task in virtual_time.tasks("mover")] == [TaskStatus.SUCCESS]


def test_work_inside_work_runs_at_once(inline_queue: InlineQueue) -> None:
    def outer() -> int:
        return inline_queue.sync.get_task_result(inline_queue.sync.submit(len, "abc")) + 1  # type: ignore[no-any-return]

    assert inline_queue.sync.get_task_result(inline_queue.sync.submit(outer)) == 4


def test_waiting_for_oneself_is_an_error_and_not_for_ever(inline_queue: InlineQueue) -> None:
    def selfish() -> None:
        with pytest.raises(ResultNotReadyError, match="let time pass"):
            inline_queue.sync.get_task_result(current_task().task_id)

    assert inline_queue.sync.get_task_result(inline_queue.sync.submit(selfish)) is None


def test_ctrl_c_ends_the_tests_and_not_the_function(inline_queue: InlineQueue) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inline_queue.sync.submit(interrupted, max_retries=0)
    assert inline_queue.get_queue_status()["running_tasks"] == 0


def test_nonsense_is_refused_as_by_the_real_queue(inline_queue: InlineQueue) -> None:
    with pytest.raises(ArgumentsError):
        inline_queue.sync.submit(len, "a", timeout=-1)
    with pytest.raises(ValueError, match="does not go back"):
        inline_queue.pass_s(-1)
    with pytest.raises(ValueError, match="no zone"):
        VirtualClock(datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake that is refused


def test_a_store_that_is_open_on_another_clock_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path / "atlas.db")
    try:
        with pytest.raises(StoreMismatchError, match="another clock"), InlineQueue(store=tmp_path / "atlas.db"):
            pass
    finally:
        store.close()


# --- virtual time -----------------------------------------------------------------------------------------------------


def test_a_week_of_the_real_config_serves_every_fire_time_in_order_well_within_a_second() -> None:
    both_s = [(_a_week_served(), _counted_to_a_million()) for _ in range(3)]
    week_s, counted_s = map(min, zip(*both_s, strict=True))  # the best of three, on a machine that others may load
    assert week_s / counted_s < WEEK


def _counted_to_a_million() -> float:
    """Seconds of CPU: how fast this machine is at this moment."""
    begun_s, number = thread_time(), 0
    while number < 1_000_000:
        number += 1
    return thread_time() - begun_s


def _a_week_served() -> float:
    """Seconds of CPU of this thread, in which all of it happens."""
    registry, calls = Registry(), []
    begun_s = thread_time()
    with VirtualTime(MONDAY, registry=registry) as time:
        for name in ("collect", "cleanup", "health", "report"):
            registry.add(name, lambda name=name: calls.append((name, current_task().fire_time, time.now)))
        time.load(ROOT / "config" / "cron_jobs.json")
        time.advance(days=7)
        counts = {job.name: len(time.tasks(job.name)) for job in time.cron.sync.get_all_jobs()}
        assert {task.status for name in counts for task in time.tasks(name)} == {TaskStatus.SUCCESS}
    spent_s = thread_time() - begun_s
    assert counts == {"data_collection": 168, "health_check": 336, "system_cleanup": 7, "daily_report": 7}
    assert all(fire_time == now for _name, fire_time, now in calls)
    assert [now for _name, _fire_time, now in calls] == sorted(now for _name, _fire_time, now in calls)
    assert len(calls) == 168 + 336 + 7 + 7
    return spent_s


def test_retries_and_fire_times_are_served_in_their_order() -> None:
    seen: list[tuple[str, float]] = []

    with VirtualTime(MONDAY) as time:

        def note(word: str) -> None:
            seen.append((word, (time.now - MONDAY).total_seconds()))

        def flaky() -> None:
            note(f"attempt {current_task().attempt}")
            raise ConnectionError

        time.advance(1)
        time.cron.sync.add_job("tick", "*/15 * * * * *", lambda: note("tick"))
        time.queue.sync.submit(flaky, retry=STEADY)
        assert seen == [("attempt 1", 1)]
        time.advance(45)
    ticks = [at for word, at in seen if word == "tick"]
    assert ticks == [15, 30, 45]
    assert [entry for entry in seen if entry[0] != "tick"] == [("attempt 1", 1), ("attempt 2", 11), ("attempt 3", 31)]
    assert [at for _word, at in seen] == sorted(at for _word, at in seen)


def test_however_many_jobs_are_due_at_once_all_of_them_are_served(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.scheduler.job_store.job_store.PASS_JOBS", 3)
    names = [f"job {number}" for number in range(10)]
    for name in names:
        virtual_time.cron.sync.add_job(name, "0 * * * *", lambda: None)
    virtual_time.advance(hours=2)
    assert {(len(virtual_time.decisions(name)), len(virtual_time.tasks(name))) for name in names} == {(2, 2)}


def test_of_many_jobs_that_nobody_decides_on_an_error_names_a_few(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        virtual_time.cron.sync.add_job(f"job {number}", "0 * * * *", lambda: None)
    monkeypatch.setattr("atlas.scheduler.testing.virtual_time.step", lambda _cron: None)
    with pytest.raises(StoreUnavailableError, match=r"the fire times of job 0, .*, job 4 and 5 more could not be"):
        virtual_time.advance(hours=2)


def test_a_job_that_cannot_be_served_is_set_apart_as_in_production_and_the_others_go_on(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    virtual_time.advance_to(datetime(2030, 1, 1, 12, 30, tzinfo=UTC))
    jobs = virtual_time.cron.sync
    jobs.add_job("bad", "0 * * * *", lambda: None, catchup="all", catchup_window="1d")
    jobs.add_job("good", "1 * * * *", lambda: None)
    real = Schedule.next_after

    def raising(self: Schedule, instant: datetime) -> datetime | None:
        if self.cron == ("0 * * * *",):
            raise OSError("the zone file is gone")
        return real(self, instant)

    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "next_after", raising)
        virtual_time.advance(hours=2)
    assert virtual_time.decisions("good") == ["13:01 task", "14:01 task"]
    assert (jobs.get_job("bad").state, virtual_time.decisions("bad")) == ("PARKED", [])
    virtual_time.advance(minutes=10)  # tried again by itself
    assert virtual_time.decisions("bad") == ["13:00 task", "14:00 task"]


def test_a_job_that_takes_longer_than_its_interval_meets_its_overlap_rule(virtual_time: VirtualTime) -> None:
    virtual_time.advance_to(datetime(2030, 1, 1, 11, 59, tzinfo=UTC))
    virtual_time.cron.sync.add_job("long", "*/10 * * * *", lambda: virtual_time.advance(minutes=25), timeout=7200)
    virtual_time.advance(minutes=31)
    assert virtual_time.decisions("long") == [
        "12:00 task",
        "12:10 skip overlap",
        "12:20 skip overlap",
        "12:30 task",
        "12:40 skip overlap",
        "12:50 skip overlap",
    ]


def test_the_same_file_is_the_same_scheduler_after_a_restart(tmp_path: Path) -> None:
    registry = Registry()
    registry.add("nothing", lambda: None)
    path = tmp_path / "atlas.db"
    with VirtualTime(datetime(2026, 3, 2, 11, 59, tzinfo=UTC), store=path, registry=registry) as time:
        time.cron.sync.add_job("job", "* * * * *", "nothing", catchup="all")
        time.advance(minutes=1)
    with VirtualTime(datetime(2026, 3, 2, 12, 3, tzinfo=UTC), store=path, registry=registry) as time:
        time.advance()
        assert time.decisions("job") == [f"{minute} task" for minute in ("11:59", "12:00", "12:01", "12:02", "12:03")]


def test_a_paused_job_skips_and_run_now_runs_now(virtual_time: VirtualTime) -> None:
    cron, calls = virtual_time.cron.sync, []
    cron.add_job("job", "@hourly", lambda: calls.append(1))
    cron.pause_job("job", reason="holiday")
    virtual_time.advance(hours=3)
    assert not calls
    assert cron.run_job_now("job")
    assert calls == [1]


async def test_time_passes_on_a_loop_as_well(virtual_time: VirtualTime) -> None:
    calls: list[int] = []

    async def work() -> None:
        await asyncio.sleep(0)
        calls.append(1)

    await virtual_time.cron.add_job("job", "@daily", work)
    await virtual_time.advance_async(days=3)
    assert len(calls) == 3
    with pytest.raises(RuntimeError, match="running event loop: await 'advance_async'"):
        virtual_time.advance(days=1)


@pytest.mark.parametrize("log", [logger.info, logging.getLogger("own").warning], ids=["loguru", "logging"])
@pytest.mark.timeout(20)
def test_a_line_that_is_logged_while_the_database_is_away_is_kept_for_later(
    log: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with VirtualTime(MONDAY) as time:

        def work() -> None:
            time.store.answers = False
            log("nobody takes this")  # the kit writes it here and now, and what that fails with is logged as well
            time.store.answers = True

        task_id = time.queue.sync.submit(work)
        time.advance(1)
        lines = time.store.read(lambda connection: read_logs(connection, task_id))
        assert [line.message for line in lines] == ["nobody takes this"]
    assert "Logging error" not in capsys.readouterr().err


def test_time_does_not_go_back(virtual_time: VirtualTime) -> None:
    with pytest.raises(ValueError, match="cannot advance"):
        virtual_time.advance(-1)


# --- the plugin -------------------------------------------------------------------------------------------------------


def test_the_plugin_costs_no_import_that_pytest_has_not_made_already() -> None:
    code = (
        "import pytest, sys; before = set(sys.modules); import atlas.scheduler.testing.plugin;"
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    loaded = json.loads(ran.stdout)
    assert [name for name in loaded if name.partition(".")[0] == "atlas"] == [
        "atlas",
        "atlas.scheduler",
        "atlas.scheduler.testing",
        "atlas.scheduler.testing.plugin",
        "atlas.version",
    ]
    assert not {"sqlalchemy", "apscheduler", "pydantic", "loguru"} & set(loaded)


def test_pytest_finds_the_fixtures_by_itself_in_a_strict_session(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )
    (tmp_path / "test_app.py").write_text(
        "def test_both(virtual_time, inline_queue):\n"
        "    virtual_time.advance(days=1)\n"
        "    assert inline_queue.sync.get_task_result(inline_queue.sync.submit(len, 'abc')) == 3\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", __import__("atlas.scheduler.testing", fromlist=["*"]).__all__)
def test_every_public_name_of_the_kit_can_be_imported(name: str) -> None:
    import atlas.scheduler.testing as kit

    value: Any = getattr(kit, name)
    assert value.__module__.startswith(("atlas.scheduler.testing.", "atlas.scheduler.crash_points"))


def test_an_unknown_name_of_the_kit_is_an_attribute_error() -> None:
    import atlas.scheduler.testing as kit

    with pytest.raises(AttributeError, match="Nonsense"):
        _ = kit.Nonsense

"""`CronManager`: the documented calls, what survives restarts, and what is refused with which words."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from apscheduler.schedulers.base import STATE_STOPPED
from loguru import logger

from atlas.scheduler.client import AtlasClient, SyncAtlasClient
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.definition import JobSource
from atlas.scheduler.errors import (
    ArgumentsError,
    CronExpressionError,
    DuplicateTaskError,
    FunctionRefusedError,
    JobBusyError,
    JobOwnershipError,
    JobUnboundError,
    QueueStoppedError,
    ScheduleError,
    StoreHeldError,
    StoreMismatchError,
    StoreUnavailableError,
    UnknownFunctionError,
    UnknownJobError,
)
from atlas.scheduler.events import JobEvent, JobEventKind, SchedulerEvent, TaskEvent
from atlas.scheduler.job_state import JobStates, Pause
from atlas.scheduler.job_store.records import JobChange, make_record
from atlas.scheduler.job_view import JobState
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.status import StatusManager
from atlas.scheduler.store.leases import scheduler_lease
from atlas.scheduler.task import Overlap
from atlas.scheduler.tasks.submission import QueueDefaults
from tests.clockwork import DAY, START, Clockwork, nothing, utc
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


# --- adding and updating ---------------------------------------------------------------------------------------------


def test_an_id_is_taken_once_even_where_time_stands_still(clockwork: Clockwork) -> None:
    """As in tests: a row of the same instant was taken for this call's own, whose reply had been lost."""
    submit = clockwork.queue.sync.submit
    submit("nothing", task_id="mine")
    clockwork.settle()
    with pytest.raises(DuplicateTaskError):
        submit("nothing", task_id="mine")
    assert clockwork.store.totals.metrics().total_tasks == 1


def test_an_added_job_is_described_as_it_was_given(clockwork: Clockwork) -> None:
    job = clockwork.cron.add_job(
        "report", "0 9 * * 1-5", "nothing", "每日报告", title="日报", tags=["daily"], timezone="Asia/Shanghai"
    )
    assert (job.name, job.id, job.title, job.description) == ("report", "report", "日报", "每日报告")
    assert (job.state, job.enabled, job.detail, job.source) == (JobState.ACTIVE, True, "", "code")
    assert (job.schedule, job.timezone, job.tags) == ("0 9 * * 1-5", "Asia/Shanghai", ("daily",))
    assert job.next_fire_time == job.next_run_at == utc("2026-03-03 01:00")
    assert job.next_fire_time is not None
    assert job.next_fire_time.tzinfo is UTC
    assert clockwork.cron.get_all_jobs() == [job]


def test_a_job_without_function_is_the_one_registered_under_its_name(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("nothing", "* * * * *")
    clockwork.each("12:01")
    assert clockwork.decisions("nothing") == ["12:01 task"]


def test_a_registered_function_given_as_itself_is_durable(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", nothing)
    clockwork.restart()
    assert clockwork.job().state is JobState.ACTIVE


def test_adding_again_updates_and_keeps_pause_and_next_fire_time(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing", "old", spread="20m")
    clockwork.cron.pause_job("job", by="ops", reason="later")
    before = clockwork.job()
    clockwork.clock.instant += timedelta(minutes=10)
    job = clockwork.cron.add_job("job", "@hourly", "nothing", "new", spread="20m", priority="urgent")
    assert (job.description, job.state) == ("new", JobState.PAUSED)
    assert job.pause == before.pause
    assert job.next_run_at == before.next_run_at


def test_an_overdue_job_that_is_updated_is_still_due(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing")
    clockwork.clock.instant = utc(f"{DAY} 13:20")
    clockwork.cron.add_job("job", "@hourly", "nothing", "changed while it was due")
    clockwork.tick()
    assert clockwork.decisions() == ["13:00 task"]


def test_a_new_schedule_counts_from_now_and_what_the_old_one_owes_is_served_first(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing")
    clockwork.clock.instant = utc(f"{DAY} 13:20")
    job = clockwork.cron.add_job("job", "*/30 * * * *", "nothing")
    assert clockwork.decisions() == ["13:00 task"]
    assert job.next_fire_time == utc(f"{DAY} 13:30")


def test_updating_tells_what_happened_once(clockwork: Clockwork) -> None:
    for description in ("a", "a", "b"):
        clockwork.cron.add_job("job", "@hourly", "nothing", description)
    clockwork.settle()
    assert [one.kind for one in clockwork.events if isinstance(one, JobEvent)] == ["added", "changed"]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 192], ids=["empty", "blank", "two lines", "too long"])
def test_a_name_that_is_no_id_is_refused(clockwork: Clockwork, name: str) -> None:
    with pytest.raises(ArgumentsError, match="1 to 191 printable characters"):
        clockwork.cron.add_job(name, "* * * * *", "nothing")


def test_what_cannot_be_added_changes_nothing(clockwork: Clockwork) -> None:
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (CronExpressionError, "minute", {"cron_expression": "61 * * * *"}),
        (UnknownFunctionError, "did you mean 'nothing'", {"func": "nothin"}),
        (FunctionRefusedError, "allow-list", {"func": "os:system"}),
        (ArgumentsError, "does not accept them", {"args": [1, 2, 3]}),
        (ArgumentsError, "are not JSON", {"kwargs": {"x": object()}}),
        (FunctionRefusedError, "cannot run in a process", {"func": lambda: None, "executor": "process"}),
        (FunctionRefusedError, "plain", {"executor": "async"}),
        (TypeError, "did you mean 'timeout'", {"timout": 3}),
        (ArgumentsError, r"args 'abc' is not a list .*; write \['abc'\]", {"args": "abc"}),
        (ArgumentsError, "kwargs 'abc' is not a dict", {"kwargs": "abc"}),
        (ArgumentsError, "start_at 'tomorrow' is not a datetime", {"start_at": "tomorrow"}),
        (ArgumentsError, "end_at 5 is not a datetime", {"end_at": 5}),
        (ArgumentsError, "anchor 'noon' is not a datetime", {"anchor": "noon", "interval": 60}),
        (ArgumentsError, r"dates .* is not a list of datetimes", {"dates": ["2030-01-01"]}),
        (ArgumentsError, r"dates .* is not a list of datetimes", {"dates": datetime(2030, 1, 1, tzinfo=UTC)}),
        (FunctionRefusedError, "5 is not callable", {"func": 5}),
    ]
    for error, message, options in cases:
        with pytest.raises(error, match=message):
            clockwork.cron.add_job("job", **{"cron_expression": "* * * * *", "func": "nothing", **options})
    assert clockwork.cron.get_all_jobs() == []
    assert clockwork.rows() == {}


def test_any_argument_that_is_json_survives_a_restart(clockwork: Clockwork) -> None:
    seen: list[Any] = []
    argument = {"空": [None, 1.5, "a\udcff", "\0"]}
    clockwork.registry.add("note", seen.append)
    clockwork.cron.add_job("job", "* * * * *", "note", args=[argument])
    clockwork.restart()
    clockwork.registry.add("note", seen.append)
    clockwork.each("12:01")
    assert seen == [argument]


def test_of_two_threads_that_add_a_job_one_wins_with_text_and_function(clockwork: Clockwork) -> None:
    ran: list[str] = []

    def add(word: str) -> None:
        clockwork.cron.add_job("job", "@hourly", lambda: ran.append(word), word)

    for _ in range(20):
        adders = [threading.Thread(target=add, args=(word,)) for word in ("one", "other")]
        for adder in adders:
            adder.start()
        for adder in adders:
            adder.join(LIMIT_S)
        clockwork.cron.run_job_now("job")
        clockwork.settle()
        assert ran[-1] == clockwork.job().description


# --- removing --------------------------------------------------------------------------------------------------------


def test_a_removed_job_stops_and_keeps_its_history(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.each("12:01")
    clockwork.cron.remove_job("job")
    clockwork.at("12:02")
    assert clockwork.decisions() == ["12:01 task"]
    assert len(clockwork.tasks()) == 1
    with pytest.raises(UnknownJobError):
        clockwork.cron.get_job("job")


def test_a_removed_job_takes_its_pause_and_its_function_with_it(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", lambda: None)
    clockwork.cron.pause_job("job")
    clockwork.cron.remove_job("job")
    clockwork.restart()
    assert clockwork.cron.add_job("job", "* * * * *", "nothing").state is JobState.ACTIVE
    assert clockwork.cron.running.states._bindings == {}


def test_what_runs_of_a_removed_job_goes_on(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "gate")
    clockwork.at("12:01")
    clockwork.gate.wait_entered()
    clockwork.cron.remove_job("job")
    clockwork.gate.open()
    clockwork.settle()
    assert [task.status for task in clockwork.tasks()] == ["SUCCESS"]


@pytest.mark.parametrize(
    "call",
    [
        "get_job", "get_job_status", "remove_job", "run_job_now", "pause_job", "resume_job",
    ],
)  # fmt: skip
def test_an_unknown_job_is_named_with_the_nearest_known_one(clockwork: Clockwork, call: str) -> None:
    clockwork.cron.add_job("hourly_collection", "@hourly", "nothing")
    with pytest.raises(UnknownJobError, match="did you mean 'hourly_collection'") as caught:
        getattr(clockwork.cron, call)("hourly_colection")
    assert caught.value.nearest == "hourly_collection"
    assert isinstance(caught.value, LookupError)
    with pytest.raises(UnknownJobError, match=r"no such job$"):
        getattr(clockwork.cron, call)("zzz")


# --- pausing ---------------------------------------------------------------------------------------------------------


async def test_disable_survives_restart_and_registration_until_enable(
    clockwork: Clockwork,
) -> None:
    await clockwork.manager.add_job(name="job", cron_expression="* * * * *", func="nothing")
    await clockwork.manager.disable_job("job")
    await asyncio.to_thread(clockwork.restart)
    await clockwork.manager.add_job(name="job", cron_expression="* * * * *", func="nothing", description="new")
    job = await clockwork.manager.get_job("job")
    assert (job.state, job.enabled) == (JobState.PAUSED, False)
    assert "disabled" in job.detail
    await asyncio.to_thread(clockwork.at, "12:01")
    await clockwork.manager.enable_job("job")
    await clockwork.manager.enable_job("job")
    await asyncio.to_thread(clockwork.each, "12:02")
    assert clockwork.decisions() == ["12:01 skip paused", "12:02 task"]
    assert await clockwork.manager.resume_job("job") is False


def test_a_pause_tells_who_why_and_until_when(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    end = START + timedelta(hours=1)
    clockwork.cron.pause_job("job", by="Lin", reason="quota", until=end)
    job = clockwork.job()
    assert job.pause is not None
    assert (job.pause.by, job.pause.reason, job.pause.until, job.pause.paused_at) == ("Lin", "quota", end, START)
    assert job.detail == "by Lin until 2026-03-02T13:00+00:00: quota"
    clockwork.clock.instant = end
    assert clockwork.job().state is JobState.ACTIVE


def test_the_words_of_a_pause_fit_into_a_row(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.pause_job("job", by="\0", reason="\ud800")
    clockwork.at("12:01")
    clockwork.restart()
    assert clockwork.job().state is JobState.PAUSED
    assert clockwork.decisions() == ["12:01 skip paused"]


@pytest.mark.parametrize(
    "until",
    [START, START - timedelta(days=1), START.replace(year=2099, tzinfo=None)],
    ids=["now", "past", "naive"],
)
def test_a_pause_ends_in_the_future_or_never(clockwork: Clockwork, until: datetime) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    with pytest.raises(ArgumentsError, match="in the future, with its zone"):
        clockwork.cron.pause_job("job", until=until)
    assert clockwork.job().pause is None


def test_what_is_given_in_the_wrong_shape_is_told_so(clockwork: Clockwork) -> None:
    cron: Any = clockwork.cron
    cron.add_job("job", "* * * * *", "nothing")
    wrong: dict[str, Callable[[], object]] = {
        "job name None is not 1 to 191": lambda: cron.add_job(None, "* * * * *", "nothing"),
        "until datetime.timedelta.* is no instant": lambda: cron.pause_job("job", until=timedelta(hours=2)),
        "reason None is no text": lambda: cron.pause_job("job", reason=None),
        "by 1 is no text": lambda: cron.pause_job("job", by=1),
        "by 2 is no text": lambda: cron.run_job_now("job", by=2),
        "by 3 is no text": lambda: cron.add_job("other", "* * * * *", "nothing", by=3),
        "by 4 is no text": lambda: cron.remove_job("job", by=4),
        r"names 'job' is one name; write \['job'\]": lambda: cron.pause_jobs("job"),
        "names 'job' is one": lambda: cron.run_jobs_now("job"),
        "'job' is one name": lambda: cron.resume_jobs("job"),
    }
    for said, call in wrong.items():
        with pytest.raises(ArgumentsError, match=said):
            call()
    assert clockwork.job().pause is None
    assert [job.name for job in cron.get_all_jobs()] == ["job"]
    assert clockwork.decisions() == []


def test_a_zone_that_does_not_exist_is_told_when_the_manager_is_made() -> None:
    with pytest.raises(ScheduleError, match="no time zone 'Mars'"):
        CronManager(TaskQueue(), timezone="Mars")


def test_a_resume_the_database_does_not_take_leaves_the_job_paused(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.pause_job("job")

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise StoreUnavailableError("locked", waited_s=5)

    monkeypatch.setattr(clockwork.store, "write", refuse)
    with pytest.raises(StoreUnavailableError):
        clockwork.cron.resume_job("job")
    assert clockwork.job().state is JobState.PAUSED


def test_a_resume_is_not_undone_by_reading_the_pauses_meanwhile(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process commits at that moment, so the pauses are read anew just before the row goes."""
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.pause_job("job")
    states, real = clockwork.cron.running.states, clockwork.store.write

    def write(*args: Any, **kwargs: Any) -> Any:
        states.load()
        return real(*args, **kwargs)

    monkeypatch.setattr(clockwork.store, "write", write)
    assert clockwork.cron.resume_job("job")
    assert clockwork.job().state is JobState.ACTIVE


def test_several_jobs_are_paused_and_resumed_in_one_commit_each(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        clockwork.cron.add_job(name, "* * * * *", "nothing")
    commits, real = itertools.count(), clockwork.store.write

    def write(*args: Any, **options: Any) -> Any:
        next(commits)
        return real(*args, **options)

    monkeypatch.setattr(clockwork.store, "write", write)
    assert clockwork.cron.pause_jobs(["c", "a", "c"], reason="move", by="web") == ["c", "a"]
    assert clockwork.cron.pause_jobs(by="api") == ["b"]  # what is paused keeps who and why
    assert [clockwork.job(name).pause.by for name in names] == ["web", "api", "web"]  # type: ignore[union-attr]
    clockwork.at("12:02")
    assert clockwork.cron.resume_jobs(["a", "b"]) == ["a", "b"]
    assert clockwork.cron.resume_jobs(["a"]) == []
    assert clockwork.cron.resume_jobs() == ["c"]
    assert next(commits) == 5
    clockwork.each("12:03")
    assert [clockwork.decisions(name) for name in names] == [["12:01-12:02 skip paused x2", "12:03 task"]] * 3


def test_of_several_jobs_all_are_paused_or_none(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing")
    for call in (clockwork.cron.pause_jobs, clockwork.cron.resume_jobs):
        with pytest.raises(UnknownJobError, match="did you mean 'job'"):
            call(["job", "jo"])
    assert clockwork.job().pause is None


# --- running now -----------------------------------------------------------------------------------------------------


def test_run_now_works_while_paused_and_leaves_the_schedule_alone(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing", priority="low")
    clockwork.cron.pause_job("job")
    before = clockwork.job()
    task_id = clockwork.cron.run_job_now("job")
    clockwork.settle()
    (task,) = clockwork.tasks()
    assert (task.id, task.status, task.reason, task.fire_time) == (task_id, "SUCCESS", "run now", None)
    assert task.priority.name == "LOW"
    assert clockwork.job() == before
    assert clockwork.fires() == []


def test_run_now_of_a_busy_job_names_the_task_in_the_way(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "gate")
    first = clockwork.cron.run_job_now("job")
    with pytest.raises(JobBusyError, match=first) as caught:
        clockwork.cron.run_job_now("job")
    assert caught.value.task_id == first


def test_of_several_jobs_those_run_that_may(clockwork: Clockwork) -> None:
    for name in ("busy", "free", "other"):
        clockwork.cron.add_job(name, "@yearly", "gate" if name == "busy" else "nothing")
    clockwork.cron.run_job_now("busy")
    clockwork.gate.wait_entered()
    made = clockwork.cron.run_jobs_now(["free", "busy", "nowhere", "other"], by="web")
    assert {name: type(one).__name__ for name, one in made.items()} == {
        "free": "str", "busy": "JobBusyError", "nowhere": "UnknownJobError", "other": "str",
    }  # fmt: skip
    clockwork.gate.open()
    clockwork.settle()
    assert [clockwork.tasks(name)[0].status for name in ("busy", "free", "other")] == ["SUCCESS"] * 3


def test_run_now_with_replace_ends_the_running_task(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "gate", overlap="replace")
    first = clockwork.cron.run_job_now("job")
    clockwork.gate.wait_entered()
    second = clockwork.cron.run_job_now("job")
    clockwork.gate.open()
    clockwork.settle()
    assert {task.id: task.status for task in clockwork.tasks()} == {first: "CANCELLED", second: "SUCCESS"}


# --- volatile jobs ---------------------------------------------------------------------------------------------------


def test_a_volatile_job_is_unbound_after_a_restart_until_it_is_added_again(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", lambda: "one", spread="5m")
    before = clockwork.job()
    assert before.state is JobState.ACTIVE
    clockwork.restart(utc(f"{DAY} 12:20"))
    job = clockwork.job()
    assert job.state is JobState.UNBOUND
    assert "add_job('job', …) binds it" in job.detail
    assert job.next_run_at == before.next_run_at
    with pytest.raises(JobUnboundError):
        clockwork.cron.run_job_now("job")
    again = clockwork.cron.add_job("job", "@hourly", lambda: "two", spread="5m")
    assert (again.state, again.next_run_at) == (JobState.ACTIVE, before.next_run_at)
    clockwork.cron.run_job_now("job")
    clockwork.settle()
    assert clockwork.tasks()[-1].value == "two"


def test_what_other_processes_hear_of_a_job_follows_its_binding(clockwork: Clockwork) -> None:
    def add() -> None:
        clockwork.cron.add_job("job", "@hourly", lambda: None)

    def told() -> dict[str, str]:
        clockwork.store.write(lambda _connection: None)  # a renewal that waits still is not asked for twice
        clockwork.queue.serving.renew()
        clockwork.store.write(lambda _connection: None)
        lease = clockwork.store.read(scheduler_lease)
        assert lease is not None
        unbound: dict[str, str] = lease.figures["unbound_jobs"]
        return unbound

    add()
    assert told() == {}
    clockwork.restart()
    assert list(told()) == ["job"]
    add()
    assert told() == {}


def test_two_managers_one_after_the_other_do_not_share_what_was_unbound(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", lambda: None)
    assert clockwork.cron._figures()["unbound_jobs"] == {}
    clockwork.cron.running.scheduler.state = STATE_STOPPED
    clockwork.cron.stop()
    clockwork.cron.open()
    assert list(clockwork.cron._figures()["unbound_jobs"]) == ["job"]
    clockwork.cron.running.scheduler.state = STATE_STOPPED


def test_the_lease_is_renewed_after_the_manager_stopped(clockwork: Clockwork) -> None:
    clockwork.cron.running.scheduler.state = STATE_STOPPED
    clockwork.cron.stop()
    clockwork.store.write(lambda _connection: None)
    clockwork.queue.serving.renew()
    clockwork.store.write(lambda _connection: None)
    lease = clockwork.store.read(scheduler_lease)
    assert lease is not None
    assert "queue_size" in lease.figures
    assert "unbound_jobs" not in lease.figures


# --- looking ---------------------------------------------------------------------------------------------------------


def test_the_status_of_a_job_tells_figures_and_where_each_value_comes_from(clockwork: Clockwork) -> None:
    clockwork.registry.add("fails", lambda: 1 / 0)
    clockwork.cron.add_job("job", "*/5 * * * *", "nothing", timeout="1m", max_retries=0, owner="Lin", runbook="call")
    clockwork.each("12:05", "12:10")
    clockwork.cron.add_job("job", "*/5 * * * *", "fails", timeout="1m", max_retries=0, owner="Lin", runbook="call")
    clockwork.each("12:15")
    status = clockwork.cron.get_job_status("job")
    assert status["total_tasks"] == 3
    assert status["success_rate"] == pytest.approx(200 / 3)
    assert status["by_status"]["FAILED"] == 1
    assert status["next_fire_time"] == utc(f"{DAY} 12:20")
    assert status["state"] == "ACTIVE"
    assert (status["owner"], status["runbook"], status["function"]) == ("Lin", "call", "fails")
    assert "5" in status["words"]["en"]
    assert "分钟" in status["words"]["zh"]
    assert status["policy"]["timeout"] == {"value": 60.0, "from": "job"}
    assert status["policy"]["max_retries"] == {"value": 0, "from": "job"}
    assert status["policy"]["overlap"] == {"value": "skip", "from": "built in"}
    assert status["unfinished_tasks"] == []
    assert status["last_task"]["status"] == "FAILED"
    assert "division by zero" in status["last_task"]["error"]


def test_that_jobs_of_a_function_are_volatile_is_said_once(clockwork: Clockwork) -> None:
    lines: list[str] = []
    sink = logger.add(
        lines.append, level="INFO", format="{message}", filter=lambda record: "volatile" in record["message"]
    )
    try:
        for name, minute in ("a", 1), ("b", 2), ("a", 3):
            clockwork.cron.add_job(name, f"{minute} * * * *", lambda: None)
    finally:
        logger.remove(sink)
    assert lines == ["the job is volatile: its function is neither registered nor on the allow-list\n"]


def test_what_the_queue_says_for_all_is_told_from_what_is_built_in(tmp_path: Path) -> None:
    defaults = QueueDefaults(timeout_s=77.0, max_retries=1)
    with TaskQueue(defaults=defaults).sync as queue, CronManager(queue._queue).sync as cron:
        cron.add_job("job", "@hourly", nothing, max_retries=2)
        policy = cron.get_job_status("job")["policy"]
    assert policy["timeout"] == {"value": 77.0, "from": "queue"}
    assert policy["max_retries"] == {"value": 2, "from": "job"}
    assert policy["overlap"]["from"] == "built in"


def test_the_status_names_unfinished_tasks_and_a_job_that_never_ran_has_none(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "gate")
    assert clockwork.cron.get_job_status("job")["last_task"] is None
    task_id = clockwork.cron.run_job_now("job")
    assert clockwork.cron.get_job_status("job")["unfinished_tasks"] == [task_id]


def test_the_figures_of_a_job_survive_a_restart(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.each("12:01", "12:02", "12:03")
    before = clockwork.store.totals.metrics("job")
    assert before.total_tasks == 3
    clockwork.restart()
    assert clockwork.store.totals.metrics("job") == before
    assert clockwork.store.totals.metrics().total_tasks == 3


def add_a_job_of_each_overlap(clockwork: Clockwork, draw: random.Random) -> None:
    def work() -> None:
        if draw.random() < 0.5:
            raise ValueError("half of them fail")

    clockwork.registry.add("work", work)
    for name in Overlap:
        clockwork.cron.add_job(name, "* * * * *", "work", overlap=name, catchup="all", max_retries=1, retry_delay=0)


def random_step(clockwork: Clockwork, client: SyncAtlasClient, draw: random.Random) -> None:
    name = draw.choice(list(Overlap))
    match draw.randrange(8):
        case 0:
            clockwork.cron.run_job_now(name)
        case 1:
            client.run_job(name)
        case 2:
            client.submit("work", max_retries=0)
        case 3:
            clockwork.queue.cancel_task(draw.choice(client.tasks()).id)
        case 4 if draw.random() < 0.3:
            clockwork.restart()
            add_a_job_of_each_overlap(clockwork, draw)
        case _:
            clockwork.pass_by(seconds=draw.randrange(1, 240))


def test_totals_rows_and_counters_never_drift_apart(clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fires, run-nows, submits, cancels, a client beside them and restarts, in random order."""
    monkeypatch.setattr("atlas.scheduler.store.writer.POLL_S", 0.02)
    draw = random.Random(20261123)
    add_a_job_of_each_overlap(clockwork, draw)
    clockwork.at("12:01")
    with AtlasClient(clockwork.database).sync as client:
        for _ in range(70):
            with suppress(JobBusyError):
                random_step(clockwork, client, draw)
        clockwork.restart()  # takes over what a client left a moment ago
        clockwork.settle()
        for job in (None, *Overlap):
            check_figures(clockwork, client, job)


def check_figures(clockwork: Clockwork, client: SyncAtlasClient, job: str | None) -> None:
    """Memory, counters and rows tell the same."""
    metrics = clockwork.store.totals.metrics(job)
    assert metrics == client.metrics(job)
    rows = Counter(task.status for task in client.tasks(job=job, limit=100_000))
    assert {one: count for one, count in metrics.by_status.items() if count} == rows


def test_a_jobs_json_is_json(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing")
    clockwork.cron.pause_job("job", until=START + timedelta(days=1))
    raw = json.loads(json.dumps(clockwork.job().to_json()))
    assert raw["state"] == "PAUSED"
    assert raw["pause"]["until"] == (START + timedelta(days=1)).isoformat()
    assert raw["next_fire_time"] == utc(f"{DAY} 13:00").isoformat()


# --- the parts together ----------------------------------------------------------------------------------------------


async def test_the_documented_calls_work_on_a_running_clock(tmp_path: Path) -> None:
    """With the real clock and APScheduler's own thread: a job of every second fires, and stops when it is stopped."""
    fired = threading.Event()
    status = StatusManager(tmp_path / "status.json")
    queue = TaskQueue(max_workers=2)
    cron = CronManager(queue, status)
    events: list[Any] = []
    status.store.events.subscribe(events.append)
    await queue.start()
    await cron.start()
    await cron.start()
    job = await cron.add_job(name="tick", cron_expression="* * * * * *", func=fired.set, description="每秒")
    assert job.next_fire_time is not None
    assert await asyncio.to_thread(fired.wait, LIMIT_S)
    assert [one.name for one in await cron.get_all_jobs()] == ["tick"]
    last_tick_s = cron.sync.last_tick_s()
    assert last_tick_s is not None
    assert last_tick_s < 15.0
    await cron.stop()
    await cron.stop()
    await queue.stop()
    assert status.store.events.drain()
    kinds = [one.kind for one in events if isinstance(one, SchedulerEvent)]
    assert kinds == ["started", "stopped"]
    assert any(isinstance(one, TaskEvent) and one.job_id == "tick" and one.status == "SUCCESS" for one in events)
    status.close()


def test_a_manager_on_a_private_store_fires() -> None:
    fired = threading.Event()
    with TaskQueue(1).sync as queue:
        cron = CronManager(queue._queue).sync
        cron.start()
        cron.add_job("job", "* * * * * *", fired.set)
        assert fired.wait(LIMIT_S)
        assert cron.get_job_status("job")["total_tasks"] >= 1
        cron.stop()


def test_a_queue_without_store_gets_the_status_managers(tmp_path: Path) -> None:
    with StatusManager(tmp_path / "status.json") as status:
        queue = TaskQueue()
        CronManager(queue, status)
        assert queue.store is status.store


def test_a_queue_that_names_the_same_database_shares_its_store(tmp_path: Path) -> None:
    with StatusManager(tmp_path / "status.json") as status:
        queue = TaskQueue(store=tmp_path / "status.db")
        CronManager(queue, status)
        assert queue.store is status.store


def test_two_different_stores_are_an_error(tmp_path: Path) -> None:
    with StatusManager(tmp_path / "one.json") as one, StatusManager(tmp_path / "two.json") as two:
        with pytest.raises(StoreMismatchError, match="give both the same one"):
            CronManager(TaskQueue(store=one.store), two)
        with pytest.raises(StoreMismatchError, match=r"two\.db"):
            CronManager(TaskQueue(store=tmp_path / "one.db"), two)
        running = TaskQueue()
        with running.sync, pytest.raises(StoreMismatchError):
            CronManager(running, one)


def test_queue_and_status_manager_in_the_wrong_order_are_named(tmp_path: Path) -> None:
    manager: Any = StatusManager(tmp_path / "status.json")
    queue: Any = TaskQueue()
    for swapped in ((manager, queue), (manager,), (None,)):
        with pytest.raises(ArgumentsError, match=r"CronManager\(task_queue, status_manager\)"):
            CronManager(*swapped)
    manager.close()


def test_a_manager_that_is_not_started_says_what_to_do(tmp_path: Path) -> None:
    cron = CronManager(TaskQueue())
    with pytest.raises(QueueStoppedError, match=r"await cron_manager\.start"):
        cron.sync.get_all_jobs()
    with pytest.raises(QueueStoppedError, match="the queue is not started"):
        cron.sync.start()
    cron.sync.stop()
    assert cron.sync.last_tick_s() is None


async def test_the_sync_face_refuses_a_running_loop(clockwork: Clockwork) -> None:
    for call in (clockwork.cron.get_all_jobs, clockwork.cron.stop, clockwork.cron.open):
        with pytest.raises(RuntimeError, match="running event loop"):
            call()


def test_a_job_of_the_config_file_is_the_files_to_change(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    record = clockwork.jobs.record("job")
    assert record is not None
    of_file = replace(record.definition, source=JobSource.FILE, enabled=False)
    made = make_record(of_file, now=START)
    clockwork.jobs.apply([JobChange(made, JobEventKind.CHANGED)])
    for call in (
        lambda: clockwork.cron.add_job("job", "@daily", "nothing"),
        lambda: clockwork.cron.remove_job("job"),
        lambda: clockwork.cron.resume_job("job"),
    ):
        with pytest.raises(JobOwnershipError, match="config file"):
            call()
    job = clockwork.job()
    assert (job.state, job.next_fire_time) == (JobState.DISABLED, None)
    clockwork.cron.run_job_now("job")


def test_a_queue_stopped_before_the_manager_does_no_harm(tmp_path: Path) -> None:
    registry = Registry()
    registry.add("nothing", nothing)
    queue = TaskQueue(store=tmp_path / "atlas.db", registry=registry)
    queue.sync.start()
    cron = CronManager(queue).sync
    cron.start()
    cron.add_job("job", "* * * * * *", "nothing")
    queue.sync.stop()
    cron.stop()
    queue.sync.start()
    cron.start()
    assert cron.get_job("job").state is JobState.ACTIVE
    cron.stop()
    queue.sync.stop()


def test_pauses_of_another_process_are_taken_over(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    others = JobStates(clockwork.store, Registry())
    others.load()
    others.pause(["job"], Pause(START, None, "somebody", "else"))
    clockwork.cron.running.states.load()
    assert clockwork.job().state is JobState.PAUSED
    assert others.resume(["job"], by="me")
    assert not others.resume(["job"], by="me")
    clockwork.cron.running.states.load()
    assert clockwork.job().state is JobState.ACTIVE


def test_without_a_loop_queue_and_jobs_live_as_long_as_a_block(tmp_path: Path) -> None:
    queue = TaskQueue(1, store=tmp_path / "atlas.db")
    manager = CronManager(queue)
    with queue.sync, manager.sync as cron:
        cron.add_job("abs", "@yearly", abs, args=[-3])
        assert queue.sync.get_task_result(cron.run_job_now("abs"), timeout=LIMIT_S) == 3
    with pytest.raises(QueueStoppedError, match="the cron manager is not started"):
        manager.sync.get_all_jobs()


def test_a_second_manager_of_one_queue_is_refused_until_the_first_one_stops() -> None:
    queue = TaskQueue(1)
    first, second = CronManager(queue).sync, CronManager(queue).sync
    with queue.sync:
        with first, pytest.raises(StoreHeldError, match="held by another cron manager of this queue"):
            second.start()
        with second:
            second.add_job("abs", "@yearly", abs, args=[-3])

"""The forecast: starts, tasks at once against slots, waits, herds; and the durations it rests on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from atlas.scheduler.definition import JobDefinition, JobPolicies, JobSource
from atlas.scheduler.forecast import forecast as forecast_module
from atlas.scheduler.forecast.forecast import forecast
from atlas.scheduler.forecast.jobs import ForecastJob, forecast_jobs
from atlas.scheduler.forecast.simulation import LATE_S, NAMED
from atlas.scheduler.forecast.starts import start_times
from atlas.scheduler.schedule import Calendar, Interval, Schedule
from atlas.scheduler.store.task_queries import LATEST, medians_of
from atlas.scheduler.store.task_rows import full_row, insert_tasks
from atlas.scheduler.task import ExecutorKind, Origin, Overlap, Task, TaskPolicy, TaskPriority, TaskStatus
from atlas.scheduler.testing.virtual_time import VirtualTime
from atlas.scheduler.triggers import trigger_for

if TYPE_CHECKING:
    from atlas.scheduler.forecast.result import Forecast
    from atlas.scheduler.store.store import Store

NOW = datetime(2026, 11, 25, 16, 50, tzinfo=UTC)


def job(name: str, cron: str, duration_s: float | None = 1.0, **options: Any) -> ForecastJob:
    parts = {part: options.pop(part) for part in ("timezone", "calendar", "spread_s", "end_at") if part in options}
    schedule = Schedule(cron=(cron,), **parts)
    may_fire = options.pop("may_fire", True)
    policies = JobPolicies(**options)
    source = JobSource.CODE
    definition = JobDefinition(id=name, source=source, title=name, schedule=schedule, function="f", policies=policies)
    return ForecastJob(definition, duration_s, may_fire=may_fire)


def late(found: Forecast) -> dict[str, float]:
    return {one.id: one.late_s for one in found.jobs if one.late_s}


def times(found: Forecast, name: str) -> list[str]:
    return [start.at.strftime("%H:%M") for start in found.starts if start.job_id == name and not start.skipped]


def test_a_paused_job_starts_again_where_its_pause_ends() -> None:
    """As it does: a forecast is compared with what then happens."""
    with VirtualTime(NOW + timedelta(seconds=30)) as time:
        time.queue.registry.add("work", lambda: None)
        for name in ("open", "short", "forever"):
            time.cron.sync.add_job(name, "*/10 * * * *", "work", spread=3 if name == "short" else 0)
        time.cron.sync.pause_job("short", until=NOW + timedelta(minutes=30))  # 17:20
        time.cron.sync.pause_job("forever")
        known = time.cron.sync.get_all_jobs()
        jobs = time.store.read(lambda connection: forecast_jobs(connection, known))
        found = forecast(jobs, now=time.now, hours=1, slots=1)
        time.advance(hours=1)
        for name in ("open", "short", "forever"):
            assert times(found, name) == [f"{task.fire_time:%H:%M}" for task in time.tasks(name)]
        assert times(found, "short") == ["17:20", "17:30", "17:40", "17:50"]


def test_a_herd_has_those_whose_pauses_end() -> None:
    jobs = [job(name, "*/10 * * * *") for name in "abc"]
    jobs[2] = replace(jobs[2], paused_until=NOW + timedelta(minutes=15))
    (herd,) = forecast(jobs, now=NOW, hours=1, slots=1).herds
    assert (herd.job_ids, herd.times) == (("a", "b", "c"), 6)


def test_starts_are_those_of_the_triggers_up_to_the_end_and_no_further() -> None:
    found = forecast([job("ten", "*/10 * * * *"), job("nine", "0 9 * * *")], now=NOW, hours=1, slots=5)
    assert times(found, "ten") == ["17:00", "17:10", "17:20", "17:30", "17:40", "17:50"]
    assert times(found, "nine") == []
    assert (found.tasks, found.tasks_a_day) == (6, 144)
    ten, nine = found.jobs
    assert (ten.starts, ten.next_at) == (6, datetime(2026, 11, 25, 17, 0, tzinfo=UTC))
    assert (nine.starts, nine.next_at) == (0, None)


def test_a_job_that_does_not_fire_has_no_starts() -> None:
    found = forecast([job("off", "* * * * *", may_fire=False)], now=NOW, hours=1, slots=1)
    assert found.starts == ()
    assert found.jobs[0].starts == 0


def test_buckets_count_starts_and_the_most_that_run_at_one_moment() -> None:
    jobs = [job("long", "0 17 * * *", 5400.0), job("a", "30 17,18 * * *", 60.0), job("b", "30 18 * * *", 60.0)]
    found = forecast(jobs, now=NOW, hours=3, slots=5)
    shown = [(bucket.at.hour, bucket.starts, bucket.at_once) for bucket in found.buckets]
    # "long" reaches into 18:00 and ends as the two others begin at 18:30.
    assert shown == [(16, 0, 0), (17, 2, 2), (18, 2, 2), (19, 0, 0)]
    assert (found.peak, found.peak_at) == (2, datetime(2026, 11, 25, 17, 30, tzinfo=UTC))
    assert sum(bucket.starts for bucket in found.buckets) == found.tasks


def test_buckets_begin_with_an_hour_of_the_wall_clock() -> None:
    found = forecast([], now=NOW, hours=2, slots=1, zone=ZoneInfo("Asia/Kolkata"))
    assert [bucket.at.strftime("%H:%M") for bucket in found.buckets] == ["16:30", "17:30", "18:30"]


def test_too_few_slots_make_starts_late_and_say_how_many_would_do() -> None:
    jobs = [job(f"job{number}", "0 17 * * *", 40.0) for number in range(7)]
    found = forecast(jobs, now=NOW, hours=1, slots=5)
    assert late(found) == {"job5": 40.0, "job6": 40.0}
    (crowd,) = found.crowds
    assert (crowd.needed, crowd.at, crowd.until - crowd.at) == (
        7,
        datetime(2026, 11, 25, 17, 0, tzinfo=UTC),
        timedelta(seconds=40),
    )
    assert crowd.late_s == {"job5": 40.0, "job6": 40.0}
    assert [bucket.late for bucket in found.buckets] == [0, 2]


def test_the_more_urgent_is_served_first() -> None:
    jobs = [
        job("low", "0 17 * * *", 10.0, priority=TaskPriority.LOW),
        job("normal", "0 17 * * *", 10.0),
        job("urgent", "0 17 * * *", 10.0, priority=TaskPriority.URGENT),
    ]
    assert late(forecast(jobs, now=NOW, hours=1, slots=1)) == {"normal": 10.0, "low": 20.0}


def test_an_executor_has_its_own_limit() -> None:
    jobs = [
        job("a", "0 17 * * *", 10.0, executor=ExecutorKind.PROCESS),
        job("b", "0 17 * * *", 10.0, executor=ExecutorKind.PROCESS),
    ]
    jobs.append(job("c", "0 17 * * *", 10.0, executor=ExecutorKind.THREAD))
    assert late(forecast(jobs, now=NOW, hours=1, slots=3, limits={"process": 1})) == {"b": 10.0}


OVERLAPS = [
    pytest.param(Overlap.SKIP, 1, ["17:00", "17:02", "17:04"], {}, id="skip"),
    pytest.param(Overlap.ALLOW, 2, ["17:00", "17:01", "17:02", "17:03", "17:04", "17:05"], {}, id="allow"),
    pytest.param(Overlap.REPLACE, 1, ["17:00", "17:01", "17:02", "17:03", "17:04", "17:05"], {}, id="replace"),
]


@pytest.mark.parametrize(("overlap", "most", "starts", "waits"), OVERLAPS)
def test_a_job_that_takes_longer_than_its_period_does_as_its_overlap_says(
    overlap: Overlap, most: int, starts: list[str], waits: dict[str, float]
) -> None:
    slow = job("slow", "0-5 17 * * *", 110.0, overlap=overlap, max_instances=most)
    found = forecast([slow], now=NOW, hours=1, slots=4)
    assert times(found, "slow") == starts
    assert late(found) == waits
    assert found.jobs[0].skipped == 6 - len(starts)
    assert found.peak == most


def test_tasks_that_queue_behind_each_other_wait() -> None:
    slow = job("slow", "0-2 17 * * *", 110.0, overlap=Overlap.QUEUE)
    found = forecast([slow], now=NOW, hours=1, slots=4)
    assert [start.late_s for start in found.starts] == [0, 50, 100]
    assert found.crowds == ()  # no slot would help
    assert found.peak == 1


def test_fifty_jobs_on_the_hour_are_a_herd_with_a_spread_that_holds_them() -> None:
    jobs = [job(f"job{number:02}", "0 * * * *", 12.0) for number in range(50)]
    jobs += [job("midnight", "0 0 * * *"), job("alone", "17 * * * *")]
    found = forecast(jobs, now=NOW, hours=24, slots=5)
    (herd,) = found.herds
    assert (herd.times, len(herd.job_ids), herd.work_s) == (23, 50, 600.0)
    assert herd.spread_s == 300.0  # 50 × 12 s on five slots take two minutes; twice that leaves room for others
    spread = [job(f"job{number:02}", "0 * * * *", 12.0, spread_s=herd.spread_s) for number in range(50)]
    after = forecast(spread, now=NOW, hours=24, slots=5)
    assert after.herds == ()
    assert after.peak < found.peak / 4


def test_a_herd_that_comes_again_at_once_gets_no_longer_spread_than_it_has_time() -> None:
    minutely = [job(f"job{number}", "* * * * *", 60.0) for number in range(20)]
    (herd,) = forecast(minutely, now=NOW, hours=1, slots=5).herds
    assert herd.spread_s == 30
    every_second = [job(f"job{number}", "* * * * * *", 0.001) for number in range(20)]
    (herd,) = forecast(every_second, now=NOW, hours=0.1, slots=5).herds
    assert herd.spread_s is None


def test_a_job_that_never_ran_is_assumed_short_and_said_to_be_so() -> None:
    found = forecast([job("new", "0 17 * * *", None)], now=NOW, hours=1, slots=1)
    assert (found.jobs[0].measured, found.jobs[0].duration_s) == (False, 1.0)


def test_more_starts_than_can_be_looked_at_end_the_forecast_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_module, "MAX_STARTS", 600)
    found = forecast([job("fast", "* * * * * *", 0.0)], now=NOW, hours=24, slots=1)
    assert found.is_cut
    assert found.until == NOW + timedelta(seconds=601)
    assert (found.tasks, sum(bucket.starts for bucket in found.buckets)) == (600, 600)


def test_holidays_have_no_starts_and_cost_one_look() -> None:
    closed = Calendar("closed", exclude=((date(2026, 11, 1), date(2027, 11, 1)),))
    trigger = job("job", "* * * * * *", timezone="Asia/Shanghai", calendar=closed).trigger
    found = start_times(trigger, NOW, NOW + timedelta(days=400), 2)
    assert [at.astimezone(ZoneInfo("Asia/Shanghai")).isoformat() for at in found] == [
        "2027-11-02T00:00:00+08:00",
        "2027-11-02T00:00:01+08:00",
    ]


def test_a_calendar_that_leaves_out_all_that_is_to_come_costs_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two minutes a look it was, at two million days."""
    looks: list[datetime] = []
    is_excluded = Schedule.is_excluded

    def look(schedule: Schedule, at: datetime) -> bool:
        looks.append(at)
        return is_excluded(schedule, at)

    monkeypatch.setattr(Schedule, "is_excluded", look)
    for last in (date.max, date(9999, 12, 30)):
        closed = Calendar("closed", exclude=((date(2026, 1, 1), last),))
        trigger = job("job", "* * * * * *", timezone="Asia/Shanghai", calendar=closed).trigger
        assert start_times(trigger, NOW, NOW + timedelta(days=1), 2) == []
    assert len(looks) == 2


@pytest.mark.parametrize(
    ("day", "opens"),
    [
        pytest.param("2026-01-01", "2026-01-01", id="open"),
        pytest.param("2026-03-02", "2026-03-08", id="within one stretch"),
        pytest.param("2026-03-09", "2026-03-20", id="over three that touch or overlap"),
        pytest.param("2026-12-31", None, id="to the end of all calendars"),
    ],
)
def test_a_calendar_knows_the_first_open_day(day: str, opens: str | None) -> None:
    excluded = ("2026-03-01/2026-03-12", "2026-03-10/2026-03-15", "2026-03-16/2026-03-19", "2026-12-01/9999-12-31")
    stretches = (one.split("/") for one in excluded)
    closed = Calendar(
        "closed",
        exclude=tuple((date.fromisoformat(first), date.fromisoformat(last)) for first, last in stretches),
        include=((date(2026, 3, 8), date(2026, 3, 8)), (date(2026, 1, 1), date(2026, 1, 9))),
    )
    found = closed.first_open(date.fromisoformat(day))
    assert found == (None if opens is None else date.fromisoformat(opens))
    assert found is None or not closed.excludes(found)


def test_start_times_hold_the_spread_and_the_limit() -> None:
    trigger = trigger_for(Schedule(intervals=(Interval(600, NOW),)), 7.0)
    found = start_times(trigger, NOW, NOW + timedelta(minutes=30), 10)
    assert [at - NOW for at in found] == [timedelta(seconds=second) for second in (7, 607, 1207)]
    assert start_times(trigger, NOW, NOW + timedelta(minutes=30), 2) == found[:2]
    assert start_times(trigger, NOW, NOW, 10) == []


def test_the_forecast_is_json() -> None:
    jobs = [job(f"工作{number}", "0 17 * * *", 40.0) for number in range(7)]
    raw = json.loads(json.dumps(forecast(jobs, now=NOW, hours=1, slots=5).to_json()))
    assert raw["tasks"] == 7
    assert raw["peak_at"] == "2026-11-25T17:00:00+00:00"
    assert raw["crowds"][0]["late_s"] == {"工作5": 40.0, "工作6": 40.0}
    assert raw["herds"][0]["job_ids"][0] == "工作0"


Drawn = list[tuple[str, float, Overlap, TaskPriority]]


def drawn_jobs(drawn: Drawn) -> list[ForecastJob]:
    return [
        job(f"job{number}", cron, length, overlap=overlap, priority=priority, max_instances=2)
        for number, (cron, length, overlap, priority) in enumerate(drawn)
    ]


any_jobs = st.lists(
    st.tuples(
        st.sampled_from(["* * * * *", "*/5 * * * *", "0 * * * *", "7,37 * * * *"]),
        st.floats(0.0, 900.0),
        st.sampled_from(list(Overlap)),
        st.sampled_from(list(TaskPriority)),
    ),
    max_size=12,
)


@given(any_jobs, st.integers(1, 6))
def test_without_single_starts_all_else_is_as_with_them(drawn: Drawn, slots: int) -> None:
    jobs = drawn_jobs(drawn)
    whole, less = (forecast(jobs, now=NOW, hours=2, slots=slots, singly=singly) for singly in (True, False))
    assert less == replace(whole, starts=(), jobs=())
    assert less.tasks == sum(one.starts for one in whole.jobs) == sum(not one.skipped for one in whole.starts)
    late_s = [(bucket.at, bucket.late) for bucket in whole.buckets if bucket.late]
    assert late_s == sorted(
        Counter(
            start.at.replace(minute=0) for start in whole.starts if start.late_s >= LATE_S and not start.skipped
        ).items()
    )


def test_without_single_starts_a_crowd_names_those_that_wait_longest() -> None:
    jobs = [job(f"job{number:02d}", "0 17 * * *", 10.0) for number in range(50)]
    whole, less = (forecast(jobs, now=NOW, hours=1, slots=1, singly=singly).crowds for singly in (True, False))
    assert len(whole[0].late_s) == 49
    assert list(less[0].late_s.items()) == list(whole[0].late_s.items())[:NAMED]


@given(any_jobs, st.integers(1, 6))
def test_no_more_run_at_once_than_there_are_slots_and_none_is_lost(drawn: Drawn, slots: int) -> None:
    jobs = drawn_jobs(drawn)
    found = forecast(jobs, now=NOW, hours=2, slots=slots)
    assert [start.at for start in found.starts] == sorted(start.at for start in found.starts)
    expected = sum(len(start_times(one.trigger, NOW, found.until, 10_000)) for one in jobs)
    assert len(found.starts) == expected
    if any(one.policies.overlap is Overlap.REPLACE for one in jobs):
        return  # what is replaced ends before its time
    length = {one.id: one.duration_s or 0.0 for one in jobs}
    edges: list[tuple[float, int]] = []
    for start in found.starts:
        if not start.skipped and length[start.job_id]:
            began_s = start.at.timestamp() + start.late_s
            edges += [(began_s, 1), (began_s + length[start.job_id], -1)]
    running = most = 0
    for _, step in sorted(edges):
        running += step
        most = max(most, running)
    assert most <= slots


# --- durations -------------------------------------------------------------------------------------------------------


def ended(number: int, duration_s: float | None, status: TaskStatus = TaskStatus.SUCCESS, name: str = "job") -> Task:
    at = NOW + timedelta(minutes=number)
    task = Task(
        id=f"{name}{number}",
        name=name,
        function="f",
        job_id=name,
        origin=Origin.FIRE,
        policy=TaskPolicy(),
        created_at=at,
    )
    task.status, task.started_at, task.finished_at = status, at, None
    if duration_s is not None:
        task.finished_at = at + timedelta(seconds=duration_s)
    return task


def put(store: Store, *made: Task) -> None:
    store.write(lambda connection: insert_tasks(connection, [full_row(task) for task in made]))


def test_durations_are_those_of_the_newest_tasks_that_ended(store: Store) -> None:
    put(store, *(ended(number, 1000.0) for number in range(10)))
    put(store, *(ended(10 + number, 1.0 + number) for number in range(LATEST)))
    put(store, ended(500, None, TaskStatus.RUNNING), ended(501, 7000.0, TaskStatus.CANCELLED))
    found = store.read(lambda connection: medians_of(connection, ["job", "other"]))
    assert found == {"job": 50.5, "other": None}


def test_failures_and_timeouts_took_time_too(store: Store) -> None:
    put(store, ended(1, 2.0, TaskStatus.FAILED), ended(2, 60.0, TaskStatus.TIMEOUT))
    found = store.read(lambda connection: medians_of(connection, ["job"]))
    assert found == {"job": 31.0}


def test_jobs_that_never_ran_cost_no_question_each(store: Store) -> None:
    put(store, ended(1, 2.0), ended(2, 5.0, name="other"))
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        asked.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    found = store.read(lambda connection: medians_of(connection, ["job", "other", *(f"new{n}" for n in range(500))]))
    event.remove(store.engine, "before_cursor_execute", note)
    assert (found["job"], found["other"], found["new1"], len(found)) == (2.0, 5.0, None, 502)
    assert len(asked) <= 4

"""The bridge: what becomes of each fire time of a due job, one task or one stored skip."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from atlas.scheduler import bridge as bridge_module
from atlas.scheduler.bridge import Bridge, SkipReason
from atlas.scheduler.client import SyncAtlasClient
from atlas.scheduler.errors import ArgumentsError, JobBusyError, JobUnboundError
from atlas.scheduler.events import JobEvent, JobEventKind
from atlas.scheduler.job_state import Binding, Pause
from atlas.scheduler.job_store.records import JobChange, make_record
from atlas.scheduler.job_view import JobState
from atlas.scheduler.registry import Registry, function_from
from atlas.scheduler.schedule import Calendar, newest_fire_times, stable_offset
from atlas.scheduler.store.store import open_store
from atlas.scheduler.store.tables import fires, job_state
from atlas.scheduler.tasks.submission import make_task
from atlas.scheduler.testing.virtual_time import VirtualTime
from tests.clockwork import DAY, START, Clockwork, nothing, utc

if TYPE_CHECKING:
    from pathlib import Path


# --- on time ---------------------------------------------------------------------------------------------------------


def test_a_fire_time_becomes_a_task_that_knows_why(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing", title="每分钟", priority="high", timeout=5, max_retries=1)
    clockwork.each("12:01")
    (task,) = clockwork.tasks()
    assert (task.name, task.job_id, task.function, task.origin) == ("每分钟", "job", "nothing", "fire")
    assert (task.priority.name, task.policy.timeout_s, task.policy.retry.max_retries) == ("HIGH", 5.0, 1)
    assert task.fire_time == utc(f"{DAY} 12:01")
    assert task.reason == "at its fire time"
    (row,) = clockwork.fires()
    assert (row.task_id, row.skip_reason, row.last) == (task.id, None, None)


def test_the_arguments_of_a_job_reach_its_function(clockwork: Clockwork) -> None:
    seen: list[Any] = []
    clockwork.registry.add("note", lambda *args, **kwargs: seen.append((args, kwargs)))
    clockwork.cron.add_job("job", "* * * * *", "note", args=[1, ["a"]], kwargs={"deep": {"x": None}})
    clockwork.each("12:01")
    assert seen == [((1, ["a"]), {"deep": {"x": None}})]


def test_a_spread_job_starts_later_and_keeps_its_nominal_fire_time(clockwork: Clockwork) -> None:
    job = clockwork.cron.add_job("job", "* * * * *", "nothing", spread=50)
    assert job.next_run_at is not None
    assert job.next_fire_time is not None
    offset = job.next_run_at - job.next_fire_time
    assert timedelta(0) < offset <= timedelta(seconds=50)
    clockwork.tick(job.next_run_at - timedelta(seconds=1))
    assert clockwork.fires() == []
    clockwork.tick(job.next_run_at)
    (row,) = clockwork.fires()
    assert row.fire_time == job.next_fire_time.timestamp()
    assert clockwork.tasks()[0].reason == "at its fire time"


def test_a_job_that_is_added_between_a_fire_time_and_its_spread_start_is_served_by_it() -> None:
    offset_s = stable_offset("job", 3600)
    assert offset_s > 1
    with VirtualTime(utc(f"{DAY} 12:00:01")) as time:
        job = time.cron.sync.add_job("job", "0 * * * *", lambda: None, spread=3600)
        assert job.next_fire_time == utc(f"{DAY} 12:00")
        time.advance(seconds=offset_s)
        assert time.decisions("job") == ["12:00 task"]


def test_the_revision_in_force_is_kept_with_fire_and_task(clockwork: Clockwork) -> None:
    clockwork.bridge.revision = 7
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.each("12:01")
    assert clockwork.fires()[0].revision == clockwork.tasks()[0].revision == 7


# --- catch-up --------------------------------------------------------------------------------------------------------

# Every minute from 12:01 on; nobody looks until 12:05:20. What was due: 12:01 to 12:05.
CATCH_UPS = {
    "none": ({"catchup": "none"}, ["12:01-12:04 skip coalesced x4", "12:05 task"]),
    "latest": ({"catchup": "latest"}, ["12:01-12:04 skip coalesced x4", "12:05 task"]),
    "all": (
        {"catchup": "all", "overlap": "queue"},
        ["12:01 task", "12:02 task", "12:03 task", "12:04 task", "12:05 task"],
    ),
    "all, the newest two": (
        {"catchup": "all", "catchup_limit": 2},
        ["12:01-12:03 skip coalesced x3", "12:04 task", "12:05 task"],
    ),
    "all, not older than 2 min 20 s": (
        {"catchup": "all", "catchup_window": 140},
        ["12:01-12:02 skip coalesced x2", "12:03 task", "12:04 task", "12:05 task"],
    ),
    "latest, not older than 0 s, but 20 s is on time": (
        {"catchup": "latest", "catchup_window": 0},
        ["12:01-12:04 skip coalesced x4", "12:05 task"],
    ),
}


@pytest.mark.parametrize(("options", "decided"), CATCH_UPS.values(), ids=CATCH_UPS)
def test_missed_fire_times_are_caught_up_as_the_job_says(
    clockwork: Clockwork, options: dict[str, Any], decided: list[str]
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing", **options)
    clockwork.at("12:05:20")
    assert clockwork.decisions() == decided
    clockwork.settle()
    assert [task.status for task in clockwork.tasks()] == ["SUCCESS"] * sum("task" in one for one in decided)


# Hourly; nobody looks until 15:10, so the newest fire time is ten minutes late.
LATE = {
    "none": ({"catchup": "none"}, ["13:00-15:00 skip missed x3"]),
    "latest within its window": ({"catchup": "latest"}, ["13:00-14:00 skip coalesced x2", "15:00 task"]),
    "latest beyond its window": ({"catchup": "latest", "catchup_window": "5m"}, ["13:00-15:00 skip missed x3"]),
    "all beyond its window": ({"catchup": "all", "catchup_window": "5m"}, ["13:00-15:00 skip missed x3"]),
    "all within its window": (
        {"catchup": "all", "catchup_window": "80m"},
        ["13:00 skip coalesced", "14:00 task", "15:00 task"],
    ),
}


@pytest.mark.parametrize(("options", "decided"), LATE.values(), ids=LATE)
def test_fire_times_that_are_too_old_are_stored_as_missed(
    clockwork: Clockwork, options: dict[str, Any], decided: list[str]
) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing", overlap="queue", **options)
    clockwork.at("15:10")
    assert clockwork.decisions() == decided


def test_a_caught_up_task_says_how_late_it_is(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing")
    clockwork.each("13:10")
    assert clockwork.tasks()[0].reason == "caught up 600 s after its fire time"


def test_caught_up_fire_times_run_oldest_first(clockwork: Clockwork) -> None:
    seen: list[datetime | None] = []
    clockwork.cron.add_job("job", "* * * * *", "gate", catchup="all")
    clockwork.at("12:04")
    clockwork.gate.open()
    clockwork.settle()
    tasks = sorted(clockwork.tasks(), key=lambda task: task.id)
    seen += [task.fire_time for task in tasks]
    assert seen == sorted(utc(f"{DAY} 12:0{minute}") for minute in range(1, 5))
    assert clockwork.gate.calls == 4


def test_a_year_of_downtime_costs_a_look_at_a_thousand_fire_times(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    looked: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        found = newest_fire_times(*args, **kwargs)
        looked.append(len(found[0]))
        return found

    monkeypatch.setattr("atlas.scheduler.bridge.newest_fire_times", counted)
    clockwork.tick(START + timedelta(days=365))
    assert looked == [1000]
    first, last = clockwork.fires()
    assert (first.skip_reason, first.fire_time) == ("coalesced", utc(f"{DAY} 12:01").timestamp())
    assert first.last == last.fire_time - 60
    assert first._mapping["count"] is None  # more than were counted
    assert last.task_id is not None


def test_a_stretch_that_is_longer_than_what_is_caught_up_is_a_skip_to_its_end(clockwork: Clockwork) -> None:
    """All 1000 fire times that are looked at are caught up; those before them must not be forgotten."""
    clockwork.cron.add_job(
        "job", "* * * * * *", "nothing", catchup="all", catchup_limit=100_000, catchup_window="1d", overlap="queue"
    )
    clockwork.queue.serving.lifecycle.taking_starts = False
    clockwork.tick(START + timedelta(seconds=3000))
    skip, *rest = clockwork.fires()
    assert len(rest) == 1000
    assert skip.fire_time == START.timestamp()
    assert skip.last == rest[0].fire_time - 1
    assert skip.skip_reason == SkipReason.COALESCED


# --- pause, unbound, calendar ----------------------------------------------------------------------------------------


def test_fire_times_of_a_paused_job_are_one_skip_that_grows(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.pause_job("job", by="ops", reason="moving house")
    clockwork.at("12:01")
    assert clockwork.decisions() == ["12:01 skip paused"]
    clockwork.at("12:02", "12:05")
    assert clockwork.decisions() == ["12:01-12:05 skip paused x5"]
    assert clockwork.fires()[0].detail == "by ops: moving house"
    clockwork.cron.resume_job("job")
    clockwork.each("12:06")
    clockwork.cron.pause_job("job")
    clockwork.at("12:07", "12:08")
    assert clockwork.decisions() == ["12:01-12:05 skip paused x5", "12:06 task", "12:07-12:08 skip paused x2"]


def test_a_long_pause_is_told_once_and_not_at_every_fire_time(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.pause_job("job")
    clockwork.at("12:01", "12:02", "12:03")
    clockwork.settle()
    told = [one for one in clockwork.events if isinstance(one, JobEvent) and one.kind is JobEventKind.SKIPPED]
    assert [one.detail["reason"] for one in told] == ["paused"]


def test_a_pause_with_an_end_ends_by_itself(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.pause_job("job", until=utc(f"{DAY} 12:02:30"))
    clockwork.each("12:01", "12:02", "12:03")
    assert clockwork.decisions() == ["12:01-12:02 skip paused x2", "12:03 task"]


PAUSED_TO_3 = {
    "latest": ({"catchup": "latest"}, ["12:01-12:02 skip paused x2", "12:03-12:04 skip coalesced x2", "12:05 task"]),
    "all": ({"catchup": "all"}, ["12:01-12:02 skip paused x2", "12:03 task", "12:04 task", "12:05 task"]),
    "with a spread": (
        {"catchup": "all", "spread": 1},
        ["12:01-12:02 skip paused x2", "12:03 task", "12:04 task", "12:05 task"],
    ),
}


@pytest.mark.parametrize(("options", "decided"), PAUSED_TO_3.values(), ids=PAUSED_TO_3)
def test_a_pause_holds_for_what_was_due_in_its_time_though_nobody_looked_before_its_end(
    clockwork: Clockwork, options: dict[str, Any], decided: list[str]
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing", overlap="queue", **options)
    clockwork.cron.pause_job("job", by="ops", reason="moving house", until=utc(f"{DAY} 12:03:00"))
    clockwork.restart(utc(f"{DAY} 12:05:20"))
    clockwork.each("12:05:20")
    assert clockwork.decisions() == decided
    assert clockwork.fires()[0].detail == "by ops: moving house"


@pytest.mark.parametrize(("options", "decided"), PAUSED_TO_3.values(), ids=PAUSED_TO_3)
def test_a_pause_that_is_ended_while_no_scheduler_runs_holds_for_what_was_due_in_its_time(
    clockwork: Clockwork, options: dict[str, Any], decided: list[str]
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing", overlap="queue", **options)
    clockwork.cron.pause_job("job", by="ops", reason="moving house")
    clockwork.close()
    clockwork.clock.instant = utc(f"{DAY} 12:03:00")
    with closing(open_store(clockwork.database, clock=clockwork.clock)) as store:
        client = SyncAtlasClient.over(store)
        assert client.resume_job("job", by="cli:lin")
        assert not client.resume_job("job", by="cli:lin")
        assert [job.state for job in client.jobs()] == [JobState.ACTIVE]
    clockwork.clock.instant = utc(f"{DAY} 12:05:20")
    clockwork.open()
    clockwork.each("12:05:20")
    assert clockwork.decisions() == decided
    assert clockwork.fires()[0].detail == "by ops: moving house"


def test_a_pause_that_ended_leaves_nothing_to_catch_up_where_all_was_due_in_its_time(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "0 * * * *", "nothing", catchup="all", catchup_window="1d")
    clockwork.cron.pause_job("job", until=utc(f"{DAY} 14:30"))
    clockwork.at("13:00")
    clockwork.each("14:40", "15:00")
    assert clockwork.decisions() == ["13:00-14:00 skip paused x2", "15:00 task"]


def test_a_very_long_pause_that_ended_is_one_skip(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing", catchup="all", catchup_window="1d")
    clockwork.cron.pause_job("job", until=utc("2026-03-05 12:00"))
    clockwork.tick(utc("2026-03-05 12:01:10"))
    skip, *rest = clockwork.fires()
    assert (skip.skip_reason, skip._mapping["count"]) == ("paused", None)
    assert skip.fire_time == utc(f"{DAY} 12:01").timestamp()
    assert skip.last == utc("2026-03-05 11:59").timestamp()
    assert [row.fire_time for row in rest] == [utc(f"2026-03-05 12:0{minute}").timestamp() for minute in (0, 1)]


def test_a_skip_goes_on_after_its_row_was_cleaned_away(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.pause_job("job")
    clockwork.at("12:01")
    clockwork.store.write(lambda connection: connection.execute(delete(fires)))
    clockwork.at("12:02")
    assert clockwork.decisions() == ["12:01-12:02 skip paused x1"]


def test_a_job_without_function_skips_until_it_has_one(clockwork: Clockwork) -> None:
    clockwork.registry.add("leaving", nothing)
    clockwork.cron.add_job("job", "* * * * *", "leaving")
    del clockwork.registry._functions["leaving"]
    clockwork.at("12:01", "12:02")
    assert clockwork.decisions() == ["12:01-12:02 skip unbound x2"]
    assert "leaving" in clockwork.fires()[0].detail
    clockwork.registry.add("leaving", nothing)
    clockwork.each("12:03")
    assert clockwork.decisions() == ["12:01-12:02 skip unbound x2", "12:03 task"]


def test_a_paused_job_without_function_is_paused(clockwork: Clockwork) -> None:
    clockwork.registry.add("leaving", nothing)
    clockwork.cron.add_job("job", "* * * * *", "leaving")
    del clockwork.registry._functions["leaving"]
    clockwork.cron.pause_job("job")
    clockwork.at("12:01")
    clockwork.cron.resume_job("job")
    clockwork.at("12:02")
    assert clockwork.decisions() == ["12:01 skip paused", "12:02 skip unbound"]


def with_calendar(clockwork: Clockwork, calendar: Calendar, cron: str, **options: Any) -> None:
    clockwork.cron.add_job("job", cron, "nothing", **options)
    record = clockwork.jobs.record("job")
    assert record is not None
    definition = record.definition
    changed = replace(definition, schedule=replace(definition.schedule, calendar=calendar))
    made = make_record(changed, now=clockwork.clock.now())
    clockwork.jobs.apply([JobChange(made, JobEventKind.CHANGED)])


def test_a_holiday_is_a_skip_of_its_own(clockwork: Clockwork) -> None:
    holiday = utc("2026-03-03").date()
    with_calendar(clockwork, Calendar("days off", exclude=((holiday, holiday),)), "0 */12 * * *")
    for at in ("2026-03-03 00:00", "2026-03-03 12:00", "2026-03-04 00:00"):
        clockwork.tick(utc(at))
        clockwork.settle()
    rows = [(datetime.fromtimestamp(row.fire_time, UTC).isoformat()[:16], row.skip_reason) for row in clockwork.fires()]
    assert rows == [("2026-03-03T00:00", "calendar"), ("2026-03-03T12:00", "calendar"), ("2026-03-04T00:00", None)]


def test_a_missed_holiday_does_not_take_the_place_of_a_working_day(clockwork: Clockwork) -> None:
    """Nobody looked for two days; the newest fire time is a holiday's, the one before it is caught up."""
    holiday = utc("2026-03-04").date()
    calendar = Calendar("days off", exclude=((holiday, holiday),))
    with_calendar(clockwork, calendar, "@daily", catchup_window="3d")
    clockwork.tick(utc("2026-03-04 08:00"))
    assert [row.skip_reason for row in clockwork.fires()] == [None, "calendar"]
    assert clockwork.tasks()[0].fire_time == utc("2026-03-03")


# --- overlap ---------------------------------------------------------------------------------------------------------


def test_overlap_skip_makes_no_second_task(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "gate")
    clockwork.at("12:01", "12:02")
    assert clockwork.decisions() == ["12:01 task", "12:02 skip overlap"]
    first, busy = clockwork.fires()
    assert busy.detail == first.task_id
    clockwork.gate.open()
    clockwork.settle()
    clockwork.each("12:03")
    assert clockwork.decisions()[-1] == "12:03 task"


def test_overlap_skip_holds_for_every_fire_time_of_a_catch_up(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "gate", catchup="all")
    clockwork.at("12:01")
    clockwork.gate.wait_entered()
    clockwork.at("12:04")
    assert clockwork.decisions() == ["12:01 task", "12:02 skip overlap", "12:03 skip overlap", "12:04 skip overlap"]


def test_what_a_catch_up_leaves_out_is_coalesced_even_if_all_it_chose_meets_an_unfinished_task(tmp_path: Path) -> None:
    def raising() -> None:
        raise ConnectionError("no route")

    registry = Registry()
    registry.add("raising", raising)
    options: Any = {"catchup": "all", "catchup_limit": 1, "max_retries": 1, "retry_delay": 3600}
    with VirtualTime(START, store=tmp_path / "atlas.db", registry=registry) as time:
        time.cron.sync.add_job("job", "* * * * *", "raising", **options)
        time.advance_to(utc(f"{DAY} 12:01"))
    with VirtualTime(utc(f"{DAY} 12:04"), store=tmp_path / "atlas.db", registry=registry) as time:
        time.advance()
        assert [task.status for task in time.tasks("job")] == ["RETRYING"]
        assert time.decisions("job") == ["12:01 task", "12:02-12:03 skip coalesced x2", "12:04 skip overlap"]


def test_overlap_skip_does_not_drop_the_rest_of_its_own_catch_up(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "gate", catchup="all")
    clockwork.at("12:03")
    assert clockwork.decisions() == ["12:01 task", "12:02 task", "12:03 task"]
    clockwork.gate.wait_entered()
    assert clockwork.queue.get_queue_status()["running_tasks"] == 1
    assert clockwork.queue.get_queue_status()["held_tasks"] == 2


def test_overlap_queue_runs_one_after_the_other_and_holds_a_hundred(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * * *", "gate", overlap="queue")
    for _ in range(105):
        clockwork.pass_by(seconds=1)
    clockwork.gate.wait_entered()
    decisions = [row.skip_reason for row in clockwork.fires()][1:]  # the first tick served two seconds
    assert decisions.count(None) == 101
    assert decisions.count("overlap") == 4
    assert clockwork.gate.calls == 1
    clockwork.gate.open()
    clockwork.settle()
    assert clockwork.gate.calls == 101


def test_overlap_replace_ends_the_old_task_and_starts_the_new_one_then(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "gate", overlap="replace")
    clockwork.at("12:01")
    clockwork.gate.wait_entered()
    clockwork.at("12:02", "12:03")
    assert clockwork.decisions() == ["12:01 task", "12:02 task", "12:03 task"]
    clockwork.gate.open()
    clockwork.settle()
    assert [(task.status, task.cause) for task in clockwork.tasks()] == [
        ("CANCELLED", "replaced"),
        ("CANCELLED", "replaced"),
        ("SUCCESS", None),
    ]
    assert clockwork.gate.calls == 2


def test_a_replacing_task_ends_only_what_came_before_it(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "gate", overlap="replace")
    clockwork.at("12:01")
    clockwork.gate.wait_entered()
    clockwork.at("12:02")
    acceptance = clockwork.queue.serving.acceptance
    older = clockwork.tasks()[0]
    assert acceptance.replaced_by(older) == []


def test_overlap_allow_runs_up_to_max_instances(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "gate", overlap="allow", max_instances=2)
    clockwork.at("12:01", "12:02", "12:03")
    assert clockwork.decisions() == ["12:01 task", "12:02 task", "12:03 skip overlap"]
    clockwork.gate.wait_entered()
    clockwork.gate.wait_entered()


OVERLAPS = {
    "skip": ({}, JobBusyError),
    "allow": ({"overlap": "allow", "max_instances": 1}, JobBusyError),
    "allow two": ({"overlap": "allow", "max_instances": 2}, None),
    "queue": ({"overlap": "queue"}, None),
    "replace": ({"overlap": "replace"}, None),
}


@pytest.mark.parametrize(("options", "error"), OVERLAPS.values(), ids=OVERLAPS)
def test_run_now_keeps_to_the_same_rule_as_a_fire(
    clockwork: Clockwork, options: dict[str, Any], error: type[Exception] | None
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "gate", **options)
    clockwork.at("12:01")
    clockwork.gate.wait_entered()
    if error is None:
        clockwork.cron.run_job_now("job")
        return
    with pytest.raises(error):
        clockwork.cron.run_job_now("job")
    clockwork.gate.open()
    clockwork.settle()
    clockwork.gate.shut()
    now = clockwork.cron.run_job_now("job")
    clockwork.gate.wait_entered()
    clockwork.at("12:02")
    assert clockwork.decisions()[-1] == "12:02 skip overlap"
    assert clockwork.fires()[-1].detail == now


def test_a_queue_that_is_merely_full_drops_no_fire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Clockwork(tmp_path / "atlas.db", monkeypatch, max_workers=1) as clockwork:
        clockwork.queue.serving.acceptance._max_waiting = 1
        for number in range(5):
            clockwork.cron.add_job(f"job{number}", "* * * * *", "gate")
        clockwork.at("12:01")
        assert [clockwork.decisions(f"job{number}") for number in range(5)] == [["12:01 task"]] * 5


def test_a_stopped_queue_stores_a_skip(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.queue.serving.acceptance.taking = False
    clockwork.at("12:01")
    assert clockwork.decisions() == ["12:01 skip stopped"]


# --- faults ----------------------------------------------------------------------------------------------------------


def test_a_fault_while_deciding_is_a_skip_that_says_what_it_was(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.add_job("other", "* * * * *", "nothing")
    real = Bridge._fire_times

    def raising(decided: Any, record: Any, due: datetime) -> Any:
        if record.id == "job":
            raise OSError("the zone file is gone")
        return real(decided, record, due)

    monkeypatch.setattr(Bridge, "_fire_times", staticmethod(raising))
    clockwork.at("12:03")
    assert clockwork.decisions() == ["12:01-12:03 skip fault xNone"]
    assert clockwork.fires()[0].detail == "OSError: the zone file is gone"
    assert clockwork.decisions("other") == ["12:01-12:02 skip coalesced x2", "12:03 task"]
    monkeypatch.setattr(Bridge, "_fire_times", staticmethod(real))
    clockwork.at("12:04")
    assert clockwork.decisions()[-1] == "12:04 task"


def test_a_fault_of_one_fire_time_leaves_the_others_of_its_catch_up(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing", catchup="all")
    real, made = make_task, []

    def second_fails(*args: Any, **kwargs: Any) -> Any:
        made.append(kwargs["fire_time"])
        if len(made) == 2:
            raise ValueError("no")
        return real(*args, **kwargs)

    monkeypatch.setattr(bridge_module, "make_task", second_fails)
    clockwork.at("12:03")
    assert clockwork.decisions() == ["12:01 task", "12:02 skip fault", "12:03 task"]


def test_the_words_of_a_skip_fit_into_a_row(clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text the database refuses would keep the pass from ever being written."""
    clockwork.cron.add_job("job", "* * * * *", "nothing")

    def raising(*_args: object, **_kwargs: object) -> None:
        raise ValueError("\0\ud800" + "长" * 9000)

    monkeypatch.setattr(bridge_module, "make_task", raising)
    clockwork.at("12:01")
    assert clockwork.decisions() == ["12:01 skip fault"]
    detail = clockwork.fires()[0].detail
    assert "\0" not in detail
    assert len(detail.encode()) <= 8192


def test_a_job_that_is_due_outside_of_a_pass_is_left_for_the_next_one(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    job = clockwork.jobs.lookup_job("job")
    assert job is not None
    clockwork.clock.instant = utc(f"{DAY} 12:01")
    clockwork.bridge.submit_job(job, [utc(f"{DAY} 12:01")])
    assert clockwork.decisions() == []
    clockwork.tick()
    assert clockwork.decisions() == ["12:01 task"]
    with pytest.raises(AssertionError):
        clockwork.bridge._do_submit_job(job, [])


# --- every fire time once, whatever happens --------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(1, 240)),
        st.tuples(st.sampled_from(["pause", "resume", "unbind", "bind"]), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=25)
@given(
    steps=STEPS,
    options=st.fixed_dictionaries(
        {
            "catchup": st.sampled_from(["none", "latest", "all"]),
            "catchup_window": st.sampled_from([0, 60, 3600]),
            "catchup_limit": st.integers(1, 3),
            "overlap": st.sampled_from(["skip", "queue", "allow", "replace"]),
        }
    ),
)
def test_every_fire_time_is_one_task_or_in_one_skip(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], options: dict[str, Any]
) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        Clockwork(tmp_path_factory.mktemp("any") / "atlas.db", patch) as clockwork,
    ):
        clockwork.registry.add("work", nothing)
        clockwork.cron.add_job("job", "* * * * *", "work", **options)
        for step, seconds in steps:
            match step:
                case "pass":
                    clockwork.pass_by(seconds=seconds)
                case "pause":
                    clockwork.cron.pause_job("job")
                case "resume":
                    clockwork.cron.resume_job("job")
                case "unbind":
                    clockwork.registry._functions.pop("work", None)
                case _:
                    clockwork.registry.add("work", nothing)
        due = int((clockwork.clock.instant - START).total_seconds() + 30) // 60
        expected = [START.timestamp() + 30 + 60 * minute for minute in range(due)]
        covered: list[float] = []
        for row in clockwork.fires():
            last = row.fire_time if row.last is None else row.last
            stretch = [at for at in expected if row.fire_time <= at <= last]
            if row.task_id is None:
                assert row._mapping["count"] == len(stretch)
            covered += stretch
        assert covered == expected
        assert {task.id for task in clockwork.tasks()} == {row.task_id for row in clockwork.fires() if row.task_id}


# --- volatile jobs ---------------------------------------------------------------------------------------------------


def test_a_volatile_job_runs_its_own_function_with_its_own_arguments(clockwork: Clockwork) -> None:
    seen: list[Any] = []
    token = object()
    clockwork.cron.add_job("job", "* * * * *", seen.append, args=[token])
    clockwork.each("12:01")
    assert seen == [token]
    assert clockwork.tasks()[0].volatile


def test_binding_again_changes_what_runs_and_forgetting_makes_it_unbound(clockwork: Clockwork) -> None:
    seen: list[str] = []
    clockwork.cron.add_job("job", "* * * * *", lambda: seen.append("old"))
    states = clockwork.cron.running.states
    before = states.bind("job", Binding(function_from("new", lambda: seen.append("new")), (), {}))
    assert before is not None
    clockwork.each("12:01")
    assert states.bind("job", None) is not None
    clockwork.each("12:02")
    assert seen == ["new"]
    assert clockwork.decisions() == ["12:01 task", "12:02 skip unbound"]
    with pytest.raises(JobUnboundError, match="add_job"):
        clockwork.cron.run_job_now("job")


def test_a_pause_holds_until_its_end() -> None:
    pause = Pause(START, START + timedelta(minutes=1), "me", "")
    assert pause.holds(START)
    assert not pause.holds(START + timedelta(minutes=1))
    assert Pause(START, None, "me", "").holds(START + timedelta(days=10_000))


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-8))], ids=str)
def test_a_pause_until_the_end_of_all_calendars_is_refused(clockwork: Clockwork, zone: timezone) -> None:
    """Its end cannot be read back from a row, and no scheduler would start on it."""
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    with pytest.raises(ArgumentsError, match="leave it out for a pause without end"):
        clockwork.cron.pause_job("job", until=datetime.max.replace(tzinfo=zone))
    clockwork.cron.pause_job("job", until=START + timedelta(days=36_500))
    clockwork.restart()
    assert clockwork.job().state is JobState.PAUSED


def test_a_stored_pause_until_the_end_of_all_calendars_has_no_end(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.pause_job("job")
    clockwork.store.write(
        lambda connection: connection.execute(update(job_state).values(paused_until=253_402_300_800.0))
    )
    clockwork.restart()
    pause = clockwork.job().pause
    assert pause is not None
    assert pause.until is None

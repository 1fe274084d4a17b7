"""Schedules (cron, intervals, dates, bounds, calendars, spread) and the trigger APScheduler gets of them."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.job import Job
from apscheduler.schedulers.background import BackgroundScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.scheduler.cron.expression import parse_cron
from atlas.scheduler.errors import CronExpressionError, ScheduleError
from atlas.scheduler.schedule import Calendar, Interval, Schedule, newest_fire_times, stable_offset
from atlas.scheduler.triggers import AtlasTrigger, trigger_for
from tests.clockwork import utc

MICROSECOND = timedelta(microseconds=1)
HOURLY = Schedule(cron=("0 * * * *",))
HOLIDAYS = Calendar(
    "cn_holidays",
    exclude=((date(2026, 10, 1), date(2026, 10, 7)),),
    include=((date(2026, 10, 5), date(2026, 10, 5)),),
)
FULL = Schedule(
    cron=("0 9 * * mon-fri", "0 11 * * sat,sun"),
    intervals=(Interval(3600, datetime.fromisoformat("2026-01-01T00:05:00+08:00")),),
    dates=(datetime.fromisoformat("2026-12-24T18:00:00+08:00"),),
    timezone="Asia/Shanghai",
    start_at=datetime.fromisoformat("2026-01-01T00:00:00+08:00"),
    end_at=datetime.fromisoformat("2027-01-01T00:00:00+08:00"),
    spread_s=120,
    calendar=HOLIDAYS,
)


def after(schedule: Schedule, instant: datetime, count: int) -> list[datetime]:
    found: list[datetime] = []
    at = schedule.next_after(instant)
    while at is not None and len(found) < count:
        found.append(at)
        at = schedule.next_after(at)
    return found


# --- the schedule ----------------------------------------------------------------------------------------------------


def test_several_expressions_are_one_schedule() -> None:
    schedule = Schedule(cron=("0 9 * * mon-fri", "0 11 * * sat,sun"), timezone="Asia/Shanghai")
    found = after(schedule, utc("2026-11-26T12:00"), 3)
    assert [at.astimezone(ZoneInfo("Asia/Shanghai")).strftime("%a %H:%M") for at in found] == [
        "Fri 09:00",
        "Sat 11:00",
        "Sun 11:00",
    ]
    assert all(at.tzinfo is UTC for at in found)


def test_an_instant_named_by_two_parts_is_one_fire_time() -> None:
    schedule = Schedule(
        cron=("0 * * * *", "@daily"),
        intervals=(Interval(3600, utc("2020-01-01")),),
        dates=(utc("2026-11-24"), utc("2026-11-24")),
    )
    assert after(schedule, utc("2026-11-23T22:30"), 3) == [
        utc("2026-11-23T23:00"),
        utc("2026-11-24T00:00"),
        utc("2026-11-24T01:00"),
    ]


def test_parts_are_ordered_as_instants_even_inside_a_fold() -> None:
    """02:15 comes twice in Berlin that night; as wall times the interval's 02:00 (second pass) would come first."""
    schedule = Schedule(
        cron=("15 * * * *",), intervals=(Interval(86_400, utc("2026-10-25T01:00")),), timezone="Europe/Berlin"
    )
    assert after(schedule, utc("2026-10-25T00:00"), 3) == [
        utc("2026-10-25T00:15"),
        utc("2026-10-25T01:00"),
        utc("2026-10-25T01:15"),
    ]
    assert schedule.previous_before(utc("2026-10-25T01:10")) == utc("2026-10-25T01:00")


def test_an_interval_keeps_its_anchor_wherever_one_begins() -> None:
    schedule = Schedule(intervals=(Interval(600, datetime.fromisoformat("2026-01-01T00:05:00+08:00")),))
    for start in ("2026-11-23T08:31", "2026-11-23T08:34:59", "2019-05-05T08:31"):
        found = schedule.next_after(utc(start))
        assert found is not None
        assert (found.minute % 10, found.second) == (5, 0)
        assert timedelta() < found - utc(start) <= timedelta(minutes=10)


def test_an_interval_counts_real_seconds_through_a_clock_change() -> None:
    schedule = Schedule(intervals=(Interval(7200, utc("2026-10-24T22:00")),), timezone="Europe/Berlin")
    found = after(schedule, utc("2026-10-24T21:59"), 3)
    assert [at.hour for at in found] == [22, 0, 2]


@given(
    every=st.floats(1, 1_000_000).map(lambda seconds: round(seconds, 6)),
    anchor=st.datetimes(datetime(1970, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    instant=st.datetimes(datetime(1970, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_an_interval_is_a_grid_without_drift(every: float, anchor: datetime, instant: datetime) -> None:
    interval, step = Interval(every, anchor), timedelta(seconds=every)
    later, earlier = interval.next_after(instant), interval.previous_before(instant)
    assert later is not None
    assert earlier is not None
    assert earlier < instant < later
    assert (later - anchor) % step == timedelta()
    assert later - earlier == (2 * step if (instant - anchor) % step == timedelta() else step)


def test_dates_come_once_in_order_and_then_the_job_has_ended() -> None:
    schedule = Schedule(dates=(utc("2026-12-24"), datetime.fromisoformat("2026-12-01T08:00:00+08:00")))
    assert after(schedule, utc("2026-11-23"), 5) == [utc("2026-12-01"), utc("2026-12-24")]
    assert schedule.next_after(utc("2026-12-24")) is None
    assert schedule.previous_before(utc("2027-01-01")) == utc("2026-12-24")
    assert schedule.previous_before(utc("2026-12-01")) is None


def test_start_and_end_belong_to_the_schedule() -> None:
    schedule = Schedule(cron=("0 * * * *",), start_at=utc("2026-11-23T10:00"), end_at=utc("2026-11-23T12:00"))
    assert after(schedule, utc("2020-01-01"), 9) == [utc(f"2026-11-23T{hour}:00") for hour in (10, 11, 12)]
    assert schedule.next_after(utc("2026-11-23T12:00")) is None
    assert schedule.previous_before(utc("2099-01-01")) == utc("2026-11-23T12:00")
    assert schedule.previous_before(utc("2026-11-23T10:00")) is None
    assert schedule.previous_before(utc("2026-11-23T10:00") + MICROSECOND) == utc("2026-11-23T10:00")


@pytest.mark.parametrize(
    ("fire_time", "excluded"),
    [
        ("2026-09-30T15:59:59", False),
        ("2026-09-30T16:00", True),  # midnight in Shanghai
        ("2026-10-04T12:00", True),
        ("2026-10-05T01:00", False),  # included all the same
        ("2026-10-07T15:59", True),
        ("2026-10-07T16:00", False),
    ],
)
def test_the_calendar_goes_by_local_dates_both_ends_included(fire_time: str, excluded: bool) -> None:
    schedule = Schedule(cron=("0 * * * *",), timezone="Asia/Shanghai", calendar=HOLIDAYS)
    assert schedule.is_excluded(utc(fire_time)) is excluded


def test_an_excluded_fire_time_is_still_a_fire_time() -> None:
    schedule = Schedule(cron=("0 9 * * *",), timezone="Asia/Shanghai", calendar=HOLIDAYS)
    assert schedule.next_after(utc("2026-10-01T00:00")) == utc("2026-10-01T01:00")
    assert not HOURLY.is_excluded(utc("2026-10-01T01:00"))


@settings(deadline=None)
@given(
    instant=st.datetimes(datetime(2025, 12, 1), datetime(2027, 2, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_next_and_previous_see_the_same_fire_times(instant: datetime) -> None:
    later, earlier = FULL.next_after(instant), FULL.previous_before(instant)
    if later is not None:
        assert later > instant
        assert FULL.previous_before(later + MICROSECOND) == later
        assert FULL.previous_before(later) in {earlier, instant}
    if earlier is not None:
        assert earlier < instant
        assert FULL.next_after(earlier - MICROSECOND) == earlier
    assert later is not None or earlier is not None


# --- refused ---------------------------------------------------------------------------------------------------------

NAIVE = datetime(2026, 11, 23, 9)  # noqa: DTZ001
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("nothing", {}, "nothing says when"),
    ("a wrong cron text", {"cron": ("61 * * * *",)}, "61 is above 59"),
    ("the second of two", {"cron": ("* * * * *", "0 0 30 2 *")}, "never fires"),
    ("an unknown zone", {"cron": ("* * * * *",), "timezone": "Asia/Shangai"}, "did you mean 'Asia/Shanghai'"),
    (
        "end before start",
        {"cron": ("* * * * *",), "start_at": utc("2026-11-24"), "end_at": utc("2026-11-23")},
        r"end_at 2026-11-23T00:00:00\+00:00 is before start_at 2026-11-24",
    ),
    ("no seconds", {"intervals": (Interval(0, utc("2026-01-01")),)}, "interval 0 is not in 1 to"),
    ("going back", {"intervals": (Interval(-60, utc("2026-01-01")),)}, "interval -60"),
    ("not a number", {"intervals": (Interval(float("nan"), utc("2026-01-01")),)}, "interval nan"),
    ("true", {"intervals": (Interval(True, utc("2026-01-01")),)}, "interval True"),
    ("for ever", {"intervals": (Interval(float("inf"), utc("2026-01-01")),)}, "interval inf"),
    ("a negative spread", {"cron": ("* * * * *",), "spread_s": -1}, "spread -1"),
    ("a spread of weeks", {"cron": ("* * * * *",), "spread_s": 1e6}, "spread 1000000.0"),
    ("the year 1", {"dates": (utc("0001-01-01"),)}, "not in the years"),
    ("the year 9999", {"cron": ("* * * * *",), "end_at": utc("9999-12-31")}, "not in the years"),
    (
        "a calendar that runs backwards",
        {"cron": ("* * * * *",), "calendar": Calendar("odd", exclude=((date(2026, 10, 7), date(2026, 10, 1)),))},
        "calendar 'odd': 2026-10-01 is before 2026-10-07",
    ),
]


@pytest.mark.parametrize(("parts", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_schedule_that_cannot_be_used_is_refused_by_name(parts: dict[str, Any], message: str) -> None:
    schedule = Schedule(**parts)
    with pytest.raises((ScheduleError, CronExpressionError), match=message):
        schedule.validated()
    with pytest.raises((ScheduleError, CronExpressionError), match=message):
        AtlasTrigger(schedule)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Interval(60, NAIVE),
        lambda: Schedule(dates=(NAIVE,)),
        lambda: Schedule(start_at=NAIVE),
        lambda: Schedule(end_at=NAIVE),
        lambda: HOURLY.next_after(NAIVE),
        lambda: HOURLY.previous_before(NAIVE),
        lambda: HOURLY.is_excluded(NAIVE),
    ],
    ids=["anchor", "date", "start", "end", "next", "previous", "calendar"],
)
def test_naive_instants_are_refused(make: Any) -> None:
    with pytest.raises(ScheduleError, match="2026-11-23T09:00:00 has no offset"):
        make()


# --- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [HOURLY, FULL, Schedule(dates=(utc("2026-12-24"),)), Schedule(intervals=(Interval(0.5 + 1, utc("2026-01-01")),))],
    ids=["cron", "everything", "date", "interval"],
)
def test_a_schedule_comes_back_from_json_as_it_went(schedule: Schedule) -> None:
    back = Schedule.from_json(json.loads(json.dumps(schedule.to_json())))
    assert back == schedule
    assert hash(back) == hash(schedule)
    assert back.to_json() == schedule.to_json()


def test_json_holds_texts_and_numbers_and_only_what_is_set() -> None:
    assert HOURLY.to_json() == {"timezone": "UTC", "cron": ["0 * * * *"]}
    assert FULL.to_json() == {
        "timezone": "Asia/Shanghai",
        "cron": ["0 9 * * mon-fri", "0 11 * * sat,sun"],
        "intervals": [{"every_s": 3600.0, "anchor": "2025-12-31T16:05:00+00:00"}],
        "dates": ["2026-12-24T10:00:00+00:00"],
        "start_at": "2025-12-31T16:00:00+00:00",
        "end_at": "2026-12-31T16:00:00+00:00",
        "spread_s": 120.0,
        "calendar": {
            "name": "cn_holidays",
            "exclude": [["2026-10-01", "2026-10-07"]],
            "include": [["2026-10-05", "2026-10-05"]],
        },
    }


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"cron": ["61 * * * *"]}, "above 59"),
        ({"cron": ["* * * * *"], "timezone": "Mars"}, "no time zone 'Mars'"),
        ({"cron": ["* * * * *"], "timezone": 8}, "is a name"),
        ({"cron": 5}, "not a stored schedule: TypeError"),
        ({"cron": [5]}, "is text such as"),
        ({"intervals": [{"every_s": 60}]}, "not a stored schedule: KeyError: 'anchor'"),
        ({"intervals": [{"every_s": "60", "anchor": "2026-01-01T00:00:00+00:00"}]}, "interval '60'"),
        ({"dates": ["tomorrow"]}, "not a stored schedule: ValueError"),
        ({"dates": ["2026-01-01"]}, "has no offset"),
        ({"cron": ["* * * * *"], "spread_s": "much"}, "spread 'much'"),
        ({"cron": ["* * * * *"], "calendar": "cn"}, "not a stored schedule: TypeError"),
        ({"cron": ["* * * * *"], "kron": 1}, "it has kron"),
        ({}, "nothing says when"),
        (["cron"], "not a stored schedule"),
        (None, "not a stored schedule"),
    ],
)
def test_what_is_no_stored_schedule_is_refused(raw: Any, message: str) -> None:
    with pytest.raises((ScheduleError, CronExpressionError), match=message):
        Schedule.from_json(raw)


# --- words -----------------------------------------------------------------------------------------------------------

WORDS = [
    (HOURLY, "every hour", "每小时"),
    (
        Schedule(cron=("0 9 * * mon-fri", "0 11 * * sat,sun"), timezone="Asia/Shanghai", calendar=HOLIDAYS),
        "weekdays (Mon to Fri) at 09:00; weekends (Sat and Sun) at 11:00, except on cn_holidays",
        "周一至周五 09:00；周六、周日 11:00，cn_holidays 除外",
    ),
    (
        Schedule(intervals=(Interval(600, utc("2025-12-31T16:05")),), timezone="Asia/Shanghai"),
        "every 10 minutes, counted from 2026-01-01 00:05",
        "每 10 分钟（自 2026-01-01 00:05 起算）",
    ),
    (
        Schedule(intervals=(Interval(5400, utc("2026-01-01")),)),
        "every 1 hour 30 minutes, counted from 2026-01-01 00:00",
        "每 1 小时 30 分钟（自 2026-01-01 00:00 起算）",
    ),
    (
        Schedule(intervals=(Interval(86400, utc("2026-01-01")),)),
        "every day, counted from 2026-01-01 00:00",
        "每 1 天（自 2026-01-01 00:00 起算）",
    ),
    (
        Schedule(intervals=(Interval(2.5, utc("2026-01-01")),)),
        "every 2.5 seconds, counted from 2026-01-01 00:00",
        "每 2.5 秒（自 2026-01-01 00:00 起算）",
    ),
    (
        Schedule(intervals=(Interval(1.000001, utc("2026-01-01")),)),
        "every 1.000001 seconds, counted from 2026-01-01 00:00",
        "每 1.000001 秒（自 2026-01-01 00:00 起算）",
    ),
    (Schedule(dates=(utc("2026-12-24T18:00"),)), "once on 2026-12-24 18:00", "2026-12-24 18:00 一次"),
    (
        Schedule(dates=(utc("2026-12-24T18:00"), utc("2026-12-25T18:00:30"))),
        "on 2026-12-24 18:00 and 2026-12-25 18:00:30",
        "2026-12-24 18:00、2026-12-25 18:00:30",
    ),
    (
        Schedule(dates=tuple(utc(f"2026-12-0{day}") for day in range(1, 8))),
        "7 times from 2026-12-01 00:00 to 2026-12-07 00:00",
        "2026-12-01 00:00 至 2026-12-07 00:00 共 7 次",
    ),
    (
        Schedule(cron=("@daily",), start_at=utc("2026-01-01"), end_at=utc("2026-06-30T12:00"), spread_s=120),
        "daily at 00:00, not before 2026-01-01 00:00, not after 2026-06-30 12:00, starting up to 2 minutes later",
        "每天 00:00，自 2026-01-01 00:00 起，至 2026-06-30 12:00 止，最多延后 2 分钟启动",
    ),
]


@pytest.mark.parametrize(("schedule", "english", "chinese"), WORDS, ids=[row[1][:40] for row in WORDS])
def test_a_schedule_reads_so(schedule: Schedule, english: str, chinese: str) -> None:
    assert schedule.describe() == english
    assert schedule.describe("zh") == chinese
    with pytest.raises(ValueError, match="no language 'fr'"):
        schedule.describe("fr")  # type: ignore[arg-type]


# --- spread ----------------------------------------------------------------------------------------------------------


def test_an_offset_is_stable_whole_and_within_the_spread() -> None:
    offsets = {f"job{number}": stable_offset(f"job{number}", 120) for number in range(2000)}
    assert all(0 <= offset <= 120 and offset == int(offset) for offset in offsets.values())
    assert offsets == {job: stable_offset(job, 120) for job in reversed(offsets)}
    assert len(set(offsets.values())) == 121
    assert abs(sum(offsets.values()) / 2000 - 60) < 4


def test_the_offset_of_a_name_is_the_same_on_every_machine() -> None:
    assert (stable_offset("collect_rss", 120), stable_offset("日报", 3600)) == (72.0, 1323.0)


def test_a_spread_below_a_second_and_none_at_all() -> None:
    assert 0 <= stable_offset("collect_rss", 0.5) <= 0.5
    assert stable_offset("collect_rss", 0) == 0


# --- the trigger -----------------------------------------------------------------------------------------------------


def test_a_new_job_may_start_at_this_very_instant() -> None:
    trigger = AtlasTrigger(HOURLY)
    assert trigger.get_next_fire_time(None, utc("2026-11-23T09:00")) == utc("2026-11-23T09:00")
    assert trigger.get_next_fire_time(None, utc("2026-11-23T09:00") + MICROSECOND) == utc("2026-11-23T10:00")


def test_a_served_fire_time_is_never_given_again() -> None:
    trigger, nine = AtlasTrigger(HOURLY), utc("2026-11-23T09:00")
    assert trigger.get_next_fire_time(nine, nine) == utc("2026-11-23T10:00")
    assert trigger.get_next_fire_time(utc("2026-11-23T11:00"), nine) == utc("2026-11-23T12:00")


def test_a_year_of_missed_fire_times_is_one_step() -> None:
    """APScheduler walks from one fire time to the next up to now; its own trigger takes 525,600 steps here."""
    job = Job(BackgroundScheduler(timezone=UTC), id="minutely", func=print, args=(), kwargs={}, executor="default")
    job._modify(
        trigger=AtlasTrigger(Schedule(cron=("* * * * *",))),
        name="minutely",
        coalesce=True,
        misfire_grace_time=None,
        max_instances=1,
        next_run_time=utc("2025-11-23T09:00"),
    )
    now = utc("2026-11-23T09:00:30")
    assert job._get_run_times(now) == [utc("2025-11-23T09:00")]
    assert job.trigger.get_next_fire_time(utc("2025-11-23T09:00"), now) == utc("2026-11-23T09:01")


def test_apscheduler_takes_the_trigger_and_keeps_it_once() -> None:
    scheduler = BackgroundScheduler(timezone=UTC)
    scheduler.start(paused=True)
    try:
        trigger = trigger_for(HOURLY, 30.0)
        jobs = [scheduler.add_job(print, trigger, id=f"job{number}") for number in range(3)]
        assert all(job.trigger is trigger for job in jobs)
        assert {(job.next_run_time.minute, job.next_run_time.second) for job in jobs} == {(0, 30)}
    finally:
        scheduler.shutdown()


def test_starts_stand_the_offset_behind_their_fire_times() -> None:
    trigger = AtlasTrigger(HOURLY, offset_s=75)
    assert trigger.offset_s == 75
    start = trigger.get_next_fire_time(None, utc("2026-11-23T09:00:30"))
    assert start == utc("2026-11-23T09:01:15")  # due at nine, and not yet late
    assert trigger.fire_time_of(start) == utc("2026-11-23T09:00")
    assert trigger.run_time_of(utc("2026-11-23T09:00")) == start
    assert trigger.get_next_fire_time(start, start) == utc("2026-11-23T10:01:15")


@settings(deadline=None)
@given(
    offset=st.one_of(st.just(0.0), st.floats(0, 86_400)),
    now=st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    back=st.one_of(st.none(), st.timedeltas(timedelta(days=-3), timedelta(days=400))),
)
def test_an_answer_is_never_in_the_past_and_leads_back_to_a_fire_time(
    offset: float, now: datetime, back: timedelta | None
) -> None:
    schedule = Schedule(
        cron=("*/7 * * * *", "30 2 * * *"), intervals=(Interval(1000, utc("2026-01-01")),), timezone="Europe/Berlin"
    )
    trigger, previous = AtlasTrigger(schedule, offset), None if back is None else now - back
    start = trigger.get_next_fire_time(previous, now)
    assert start is not None
    assert start.tzinfo is UTC
    assert start >= now if previous is None else start > max(now, previous)
    fire_time = trigger.fire_time_of(start)
    assert schedule.next_after(fire_time - MICROSECOND) == fire_time
    assert trigger.run_time_of(fire_time) == start


def test_local_arguments_count_as_the_instants_they_are() -> None:
    berlin, trigger = (
        ZoneInfo("Europe/Berlin"),
        AtlasTrigger(Schedule(cron=("*/30 * * * *",), timezone="Europe/Berlin")),
    )
    first_pass, second_pass = (datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1))
    assert trigger.get_next_fire_time(first_pass, second_pass) == utc("2026-10-25T02:00")
    assert trigger.get_next_fire_time(second_pass, first_pass) == utc("2026-10-25T02:00")
    assert trigger.get_next_fire_time(first_pass, first_pass) == utc("2026-10-25T01:00")


def test_an_ended_schedule_has_no_next_start() -> None:
    once = AtlasTrigger(Schedule(dates=(utc("2026-12-24"),)), offset_s=30)
    start = once.get_next_fire_time(None, utc("2026-11-23"))
    assert start == utc("2026-12-24T00:00:30")
    assert once.get_next_fire_time(start, start) is None
    assert once.get_next_fire_time(None, utc("2026-12-25")) is None


def test_a_trigger_is_never_pickled() -> None:
    for take in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="a trigger is never pickled; store its schedule"):
            take(AtlasTrigger(HOURLY))


def test_jobs_of_one_schedule_share_one_trigger_and_one_expression() -> None:
    triggers = {id(trigger_for(Schedule(cron=("*/5 * * * *",), timezone="Asia/Shanghai"), 0.0)) for _ in range(100)}
    assert len(triggers) == 1
    assert parse_cron("*/5 * * * *", "Asia/Shanghai") is parse_cron("*/5 * * * *", "Asia/Shanghai")
    trigger = trigger_for(HOURLY, 7.0)
    assert not hasattr(trigger, "__dict__")
    assert sys.getsizeof(trigger) < 100


def test_equal_triggers_are_equal_and_read_as_their_schedule() -> None:
    assert AtlasTrigger(HOURLY, 5) == AtlasTrigger(Schedule(cron=("0 * * * *",)), 5.0)
    assert len({AtlasTrigger(HOURLY, 5), AtlasTrigger(HOURLY, 5)}) == 1
    assert AtlasTrigger(HOURLY, 5) != AtlasTrigger(HOURLY, 6)
    assert AtlasTrigger(HOURLY) != HOURLY
    assert str(AtlasTrigger(HOURLY)) == "every hour"
    assert repr(AtlasTrigger(HOURLY, 5)).startswith("AtlasTrigger(Schedule(cron=('0 * * * *',)")


# --- catch-up --------------------------------------------------------------------------------------------------------


def test_the_newest_fire_times_come_first_with_word_of_older_ones() -> None:
    found, more = newest_fire_times(HOURLY, after=utc("2026-11-22"), until=utc("2026-11-23T09:30"), limit=3)
    assert found == [utc("2026-11-23T09:00"), utc("2026-11-23T08:00"), utc("2026-11-23T07:00")]
    assert more


def test_after_is_left_out_and_until_counts() -> None:
    found, more = newest_fire_times(HOURLY, after=utc("2026-11-23T07:00"), until=utc("2026-11-23T09:00"), limit=2)
    assert found == [utc("2026-11-23T09:00"), utc("2026-11-23T08:00")]
    assert not more
    assert newest_fire_times(HOURLY, after=utc("2026-11-23T07:00"), until=utc("2026-11-23T07:59"), limit=5) == (
        [],
        False,
    )
    assert newest_fire_times(HOURLY, after=utc("2026-11-23T07:00"), until=utc("2026-11-23T09:00"), limit=0) == (
        [],
        True,
    )


def test_bounds_may_be_local_times_on_the_edge_of_a_clock_change() -> None:
    berlin, schedule = ZoneInfo("Europe/Berlin"), Schedule(cron=("*/30 * * * *",), timezone="Europe/Berlin")
    gap_end, fold_end = datetime(2026, 3, 29, 3, 0, tzinfo=berlin), datetime(2026, 10, 25, 3, 0, tzinfo=berlin)
    found, _ = newest_fire_times(schedule, after=gap_end - timedelta(days=1), until=gap_end, limit=2)
    assert found == [utc("2026-03-29T01:00"), utc("2026-03-29T00:30")]
    found, _ = newest_fire_times(schedule, after=fold_end - timedelta(days=1), until=fold_end, limit=4)
    assert found == [utc(f"2026-10-25T{at}") for at in ("02:00", "01:30", "01:00", "00:30")]


def test_a_year_of_seconds_costs_no_more_than_the_limit() -> None:
    asked: list[datetime] = []

    class Counting(Schedule):
        def previous_before(self, instant: datetime) -> datetime | None:
            asked.append(instant)
            return super().previous_before(instant)

    secondly = Counting(cron=("* * * * * *",))
    found, more = newest_fire_times(secondly, after=utc("2025-11-23"), until=utc("2026-11-23"), limit=100)
    assert (len(found), more, len(asked)) == (100, True, 101)

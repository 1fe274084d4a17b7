"""Cron against an independent second-by-second model, every clock change since 1970, and two other libraries."""

from __future__ import annotations

import copy
import pickle
import timeit
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import islice
from pathlib import Path
from random import Random
from time import thread_time
from zoneinfo import TZPATH, ZoneInfo, available_timezones

import pytest
from apscheduler.triggers.cron import CronTrigger
from croniter import croniter
from cronsim import CronSim
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from atlas.scheduler.cron.expression import CronExpression, parse_cron
from atlas.scheduler.errors import CronExpressionError, ScheduleError
from tests.clockwork import utc

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def in_utc(instant: datetime | None) -> datetime | None:
    """Across zones a time inside a fold or gap equals nothing (PEP 495), so times are compared in UTC."""
    return instant and instant.astimezone(UTC)


def fires(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The next ``count`` fire times as local ISO text."""
    found = islice(CronExpression(expression, zone).iter_after(utc(after)), count)
    return [at.isoformat() for at in found]


# --- the model -------------------------------------------------------------------------------------------------------
# It shares nothing with the code under test: a text is read value by value, time goes by second by second in UTC, and
# a gap or a fold is what the wall clock is seen to do, whatever offsets and folds Python has for it.

LOWEST, HIGHEST = (0, 0, 0, 1, 1, 0), (59, 59, 23, 31, 12, 7)


def takes(field: str, number: int, value: int) -> bool:
    """True if the text of field ``number`` takes ``value``."""
    if number == 5 and value == 0 and takes(field, 5, 7):
        return True
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        low = LOWEST[number] if span == "*" else int(first)
        high = HIGHEST[number] if span == "*" or (step and not last) else int(last or first)
        if low <= value <= high and (value - low) % int(step or 1) == 0:
            return True
    return False


@dataclass(frozen=True)
class Tick:
    """One second as the wall clock shows it."""

    at: int  # UTC, seconds since 1970
    wall: datetime  # naive
    again: bool  # the clock has shown this before
    left_out: tuple[datetime, ...]  # what the clock leaves out just before


@cache
def ticks(zone_name: str, begin: int, end: int) -> tuple[dict[int, list[Tick]], list[Tick]]:
    """The wall clock of a zone, second by second; in stacks by the second it shows; and the ends of its gaps."""
    zone, found = ZoneInfo(zone_name), {second: list[Tick]() for second in range(60)}
    last = highest = datetime.fromtimestamp(begin - 1, zone).replace(tzinfo=None, fold=0)
    for at in range(begin, end):
        wall = datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0)
        missing = []
        while last + SECOND < wall:
            last += SECOND
            missing.append(last)
        found[wall.second].append(Tick(at, wall, wall <= highest, tuple(missing)))
        last, highest = wall, max(wall, highest)
    return found, [tick for stack in found.values() for tick in stack if tick.left_out]


def model(expression: str, zone_name: str, begin: int, end: int) -> list[int]:
    """Every fire time in ``begin`` <= t < ``end``, straight from the rules."""
    fields = expression.split()
    fields = fields if len(fields) == 6 else ["0", *fields]
    sets = [
        {value for value in range(low, high + 1) if takes(field, number, value)}
        for number, (field, low, high) in enumerate(zip(fields, LOWEST, HIGHEST, strict=True))
    ]
    both_days = fields[3][0] == "*" or fields[5][0] == "*"
    wildcard = fields[1][0] == "*" or fields[2][0] == "*"

    def named(wall: datetime) -> bool:
        if wall.second not in sets[0] or wall.minute not in sets[1] or wall.hour not in sets[2]:
            return False
        by_date, by_weekday = wall.day in sets[3], wall.isoweekday() % 7 in sets[5]
        return wall.month in sets[4] and (by_date and by_weekday if both_days else by_date or by_weekday)

    clock, gap_ends = ticks(zone_name, begin, end)
    found = {
        tick.at for second in sets[0] for tick in clock[second] if named(tick.wall) and (wildcard or not tick.again)
    }
    if not wildcard:
        found |= {tick.at for tick in gap_ends if any(map(named, tick.left_out))}
    return sorted(found)


CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-10-25T01:00"),
    ("America/New_York", "2037-03-08T07:00"),
    ("America/New_York", "2026-11-01T06:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30"),  # half an hour
    ("Australia/Lord_Howe", "2026-04-04T15:00"),
    ("America/Sao_Paulo", "2017-10-15T03:00"),  # no midnight
    ("America/Sao_Paulo", "2018-02-18T02:00"),  # 23:00 to 24:00 twice
    ("America/Havana", "2026-03-08T05:00"),
    ("America/Havana", "2026-11-01T05:00"),  # midnight twice
    ("America/St_Johns", "1988-04-03T03:31"),  # two hours, at 00:01
    ("America/St_Johns", "1988-10-30T01:31"),
    ("Antarctica/Troll", "2026-03-29T01:00"),  # two hours
    ("Antarctica/Casey", "2010-03-04T15:00"),  # three hours back
    ("Antarctica/Vostok", "1994-01-31T17:00"),  # seven hours back
    ("Africa/Monrovia", "1972-01-07T00:44:30"),  # not on a whole minute
    ("Africa/Casablanca", "2026-02-15T02:00"),
    ("Africa/Casablanca", "2026-03-22T02:00"),
    ("Asia/Kathmandu", "1985-12-31T18:30"),  # a quarter of an hour, and New Year
    ("Asia/Pyongyang", "2015-08-14T15:00"),  # zone rules, not summer time
    ("Asia/Pyongyang", "2018-05-04T15:00"),
    ("America/Caracas", "2007-12-09T07:00"),
    ("Asia/Shanghai", "1986-05-03T18:00"),
    ("Pacific/Apia", "2011-12-30T10:00"),  # a whole day left out
    ("Asia/Tokyo", "2026-03-29T01:00"),  # nothing happens
    ("UTC", "2028-02-29T00:00"),
]
REACH_S = 4500


@pytest.mark.parametrize(("zone", "change"), CHANGES[:-2], ids=[f"{zone}-{change}" for zone, change in CHANGES[:-2]])
def test_the_table_of_changes_names_real_ones(zone: str, change: str) -> None:
    at = utc(change)
    before, after = (moment.astimezone(ZoneInfo(zone)).utcoffset() for moment in (at - SECOND, at))
    assert before != after


@cache
def fields_of(number: int, near: tuple[int, ...] = (), most: int = 2) -> list[str]:
    """Some hundred texts for one field, mostly about the values in ``near``, the simplest first.

    Made beforehand and always alike: drawing them piece by piece takes ten times as long as what is tested.
    """
    luck = Random(f"{number} {near} {most}")
    low, high = LOWEST[number], HIGHEST[number]

    def value() -> int:
        return luck.choice(near) if near and luck.random() < 0.8 else luck.randint(low, high)

    def item() -> str:
        first, last = sorted((value(), value()))
        span = luck.choice(["*", str(first), str(first), f"{first}-{last}"])
        return span + luck.choice(["", "", "", "", "/2", "/3", "/7", "/15", "/100"])

    return ["*", *sorted({",".join(item() for _ in range(luck.randint(1, most))) for _ in range(400)}, key=len)]


@cache
def expressions_near(zone: str, change: str) -> st.SearchStrategy[str]:
    """Texts that have much to do with what the clock shows, or leaves out, about a change."""
    at, name = utc(change), ZoneInfo(zone)
    walls = [(at + step * MINUTE * 20).astimezone(name).replace(tzinfo=None) for step in range(-4, 5)]
    walls += [(at - SECOND).astimezone(name).replace(tzinfo=None) + step * MINUTE * 20 for step in range(4)]
    units = ("minute", "hour", "day", "month")
    minutes, hours, days, months = (tuple(sorted({getattr(wall, unit) for wall in walls})) for unit in units)
    weekdays = tuple(sorted({wall.isoweekday() % 7 for wall in walls}))
    parts = st.tuples(
        st.sampled_from(["", "", "0 ", "30 ", "*/20 ", "7,59 ", "10-50/40 "]),
        st.sampled_from(fields_of(1, minutes)),
        st.sampled_from(fields_of(2, hours)),
        st.sampled_from(["*"] * 200 + fields_of(3, days)),
        st.sampled_from(["*", "*", f"{months[0]}", "*/2"]),
        st.sampled_from(["*"] * 200 + fields_of(5, weekdays)),
    )
    return parts.map(lambda part: part[0] + " ".join(part[1:]))


@pytest.mark.timeout(300)  # twenty seconds of CPU, and machines that test are busy
@settings(QUICK, max_examples=600)
@example(case=("Europe/Berlin", "2026-03-29T01:00", "* * * * * *"))
@example(case=("Europe/Berlin", "2026-10-25T01:00", "* * * * * *"))
@example(case=("Europe/Berlin", "2026-10-25T01:00", "* 30 2 * * *"))
@example(case=("Europe/Berlin", "2026-03-29T01:00", "*/9 10-50 2 * * *"))
@example(case=("Africa/Monrovia", "1972-01-07T00:44:30", "13 0 * * *"))
@given(
    case=st.sampled_from(CHANGES).flatmap(
        lambda change: st.tuples(st.just(change[0]), st.just(change[1]), expressions_near(*change))
    )
)
def test_fire_times_around_a_clock_change_are_those_of_the_model(case: tuple[str, str, str]) -> None:
    zone, change, text = case
    middle = int(utc(change).timestamp())
    begin, end = middle - REACH_S, middle + REACH_S
    expected = model(text, zone, begin, end)
    try:
        cron = CronExpression(text, zone)
    except CronExpressionError:
        assert not expected
        return

    first, last = datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC)
    ahead = list[int]()
    for at in cron.iter_after(first - SECOND / 2):
        if at >= last:
            break
        assert at.tzinfo is ZoneInfo(zone)
        ahead.append(int(at.timestamp()))
    assert ahead == expected

    back, at_before = list[int](), cron.previous_before(last)
    while at_before is not None and at_before.astimezone(UTC) >= first:
        back.append(int(at_before.timestamp()))
        at_before = cron.previous_before(at_before)
    assert back == expected[::-1]

    for moment in (*expected[:20], *range(begin, end, 601)):
        assert cron.matches(datetime.fromtimestamp(moment, UTC)) is (moment in expected)


# --- every change of every zone --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    zone: str
    at: datetime
    before: datetime  # naive wall time the old offset gives at the change
    after: datetime


def distinct_zones() -> list[str]:
    """One name of each zone: half of the names are second ones."""
    files: dict[bytes, str] = {}
    for name in sorted(available_timezones()):
        paths = (Path(root, name) for root in TZPATH)
        files.setdefault(next((path.read_bytes() for path in paths if path.is_file()), name.encode()), name)
    return list(files.values())


def all_changes() -> list[Change]:
    """Every distinct change of a wall clock from 1970 to 2037, in one of the zones that have it."""
    seen: dict[tuple[datetime, datetime], Change] = {}
    for name in distinct_zones():
        zone = ZoneInfo(name)

        def offset(at: int, zone: ZoneInfo = zone) -> timedelta:
            return datetime.fromtimestamp(at, zone).utcoffset() or timedelta()

        week, at, old = 7 * 86_400, 0, offset(0)
        while at < 2_145_916_800:
            at += week
            if offset(at) == old:
                continue
            low, high = at - week, at
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == old else (low, middle)
            naive, new = datetime.fromtimestamp(high, UTC).replace(tzinfo=None), offset(high)
            change = Change(name, naive.replace(tzinfo=UTC), naive + old, naive + new)
            seen.setdefault((change.before, change.after), change)
            at, old = high, new
    return list(seen.values())


@pytest.mark.timeout(300)  # as above
def test_at_every_change_since_1970_fixed_times_come_once_and_wildcards_follow_the_clock() -> None:
    changes = all_changes()
    assert len(changes) > 3000
    for change in changes:
        low, high = sorted((change.before, change.after))
        wall = low + (high - low) // 2
        fixed = parse_cron(f"{wall.minute} {wall.hour} {wall.day} {wall.month} *", change.zone)
        minutely = parse_cron("* * * * *", change.zone)
        first = wall - (change.before - change.at.replace(tzinfo=None))  # in UTC, by the old offset
        second = wall - (change.after - change.at.replace(tzinfo=None))
        whole = (wall.replace(second=0) - wall) // SECOND * SECOND
        first, second = ((at + whole).replace(tzinfo=UTC) for at in (first, second))
        if change.after > change.before:
            assert in_utc(fixed.next_after(change.at - 60 * MINUTE)) == change.at, change
            assert in_utc(fixed.previous_before(change.at + SECOND)) == change.at, change
            assert fixed.matches(change.at), change
            following = fixed.next_after(change.at)
            assert following is None or following - change.at > timedelta(days=27), change
            # The next whole minute, as its clock shows it from then on.
            late = minutely.next_after(change.at - SECOND)
            assert late == change.at + timedelta(seconds=-change.after.second % 60), change
        else:
            assert fixed.matches(first), change
            assert not fixed.matches(second), change
            assert in_utc(fixed.next_after(first - SECOND)) == first, change
            assert in_utc(fixed.previous_before(second + 60 * MINUTE)) == first, change
            assert minutely.matches(first), change
            assert minutely.matches(second), change


# --- beside two other libraries, where they are right ----------------------------------------------------------------


def is_read_alike(text: str) -> bool:
    """Not so are ``11-11``, croniter's whole field and cronsim's ``11``, and a star that croniter finds later on."""
    if any(",*" in part for part in text.split()[2:]):
        return False
    spans = [item.partition("/")[0].split("-") for part in text.split() for item in part.split(",")]
    return not any(len(span) == 2 and span[0] == span[1] for span in spans)


def plain_expressions() -> st.SearchStrategy[str]:
    fields = (st.sampled_from(["*"] * 100 + fields_of(number, most=3)) for number in range(1, 6))
    return st.tuples(*fields).map(" ".join).filter(is_read_alike)


INSTANTS = st.datetimes(datetime(1970, 1, 2), datetime(2037, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@settings(QUICK, max_examples=400)
@given(text=plain_expressions(), start=INSTANTS)
def test_in_utc_it_agrees_with_cronsim_both_ways(text: str, start: datetime) -> None:
    try:
        cron = CronExpression(text)
    except CronExpressionError:
        return
    assert list(islice(cron.iter_after(start), 3)) == list(islice(CronSim(text, start), 3))
    assert cron.previous_before(start) == next(CronSim(text, start, reverse=True))


@settings(QUICK, max_examples=400)
@given(text=plain_expressions(), start=INSTANTS)
def test_in_utc_it_agrees_with_croniter(text: str, start: datetime) -> None:
    if "7" in text.split()[4] or "/" in text.split()[4]:
        return  # it has its own mind on weekday ranges that end in 7
    try:
        cron = CronExpression(text)
    except CronExpressionError:
        return
    other = croniter(text, start, ret_type=datetime, implement_cron_bug=True)
    assert list(islice(cron.iter_after(start), 3)) == [next(other) for _ in range(3)]


@settings(QUICK, max_examples=400)
@given(
    text=plain_expressions(),
    start=st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Sydney", "Asia/Shanghai"]),
)
def test_in_zones_of_whole_hours_it_agrees_with_cronsim(text: str, start: datetime, zone: str) -> None:
    begin = start.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    if begin.utcoffset() != begin.replace(fold=1 - begin.fold).utcoffset():
        return  # cronsim may go back in time from inside a fold
    try:
        cron = CronExpression(text, zone)
    except CronExpressionError:
        return
    assert [at.isoformat() for at in islice(cron.iter_after(begin), 4)] == [
        at.isoformat() for at in islice(CronSim(text, begin), 4)
    ]


# --- examples --------------------------------------------------------------------------------------------------------

MEANINGS = [
    pytest.param("0 9 * * 1-5", "2026-11-27T09:00", "2026-11-30T09:00", id="weekdays skip the weekend"),
    pytest.param("0 0 * * 0", "2026-11-23", "2026-11-29", id="a Sunday is zero"),
    pytest.param("0 0 * * 7", "2026-11-23", "2026-11-29", id="and seven"),
    pytest.param("0 0 * * sun", "2026-11-23", "2026-11-29", id="and sun"),
    pytest.param("0 0 * * 5-7", "2026-11-28", "2026-11-29", id="a range may end in seven"),
    pytest.param("0 0 * * SUN-Tue", "2026-11-24", "2026-11-29", id="names in any case and in ranges"),
    pytest.param("0 0 * * */7", "2026-11-23", "2026-11-29", id="every seventh weekday is Sunday"),
    pytest.param("0 0 1 JAN *", "2026-11-23", "2027-01-01", id="month names"),
    pytest.param("0 0 1 jan-mar/2 *", "2027-01-01", "2027-03-01", id="steps through a range of names"),
    pytest.param("5/15 * * * *", "2026-11-23T00:05", "2026-11-23T00:20", id="5/15 runs to the end of the hour"),
    pytest.param("5/15 * * * *", "2026-11-23T00:50", "2026-11-23T01:05", id="and begins again at 5"),
    pytest.param("*/45 * * * *", "2026-11-23T00:45", "2026-11-23T01:00", id="a step begins again each hour"),
    pytest.param("*/100 * * * *", "2026-11-23T00:00", "2026-11-23T01:00", id="a step wider than its range"),
    pytest.param("00 09 * * *", "2026-11-23", "2026-11-23T09:00", id="leading zeros"),
    pytest.param("  0\t9 * * *  \n", "2026-11-23", "2026-11-23T09:00", id="blanks and tabs"),
    pytest.param("30 0 9 * * *", "2026-11-23", "2026-11-23T09:00:30", id="six fields begin with the second"),
    pytest.param("*/20 * * * * *", "2026-11-23T00:00:01", "2026-11-23T00:00:20", id="every twenty seconds"),
    pytest.param("0 0 29 2 *", "2026-11-23", "2028-02-29", id="the next leap year"),
    pytest.param("0 0 29 2 *", "2096-03-01", "2104-02-29", id="2100 is no leap year"),
    pytest.param("0 0 29 2 */7", "2060-03-01", "2088-02-29", id="a 29 February that is a Sunday"),
    pytest.param("0 0 29 2 */7", "2088-03-01", "2128-02-29", id="which can take forty years"),
    pytest.param("0 0 13 * 5", "2026-11-23", "2026-11-27", id="13th or Friday"),
    pytest.param("0 0 13 * 5", "2026-12-12", "2026-12-13", id="Friday or 13th"),
    pytest.param("0 0 13 * */5", "2026-11-23", "2026-12-13", id="13th and (Friday or Sunday)"),
    pytest.param("0 0 */2 * 1", "2026-11-23", "2026-12-07", id="an odd day and a Monday"),
    pytest.param("0 0 1-31 * 1", "2026-11-23", "2026-11-24", id="1-31 is no star"),
    pytest.param("0 0 *,5 * 1", "2026-11-23", "2026-11-30", id="*,5 begins with a star"),
    pytest.param("0 0 5,* * 1", "2026-11-23", "2026-11-24", id="5,* does not"),
    pytest.param("@hourly", "2026-11-23T00:30", "2026-11-23T01:00", id="@hourly"),
    pytest.param("@DAILY", "2026-11-23T00:30", "2026-11-24", id="@daily"),
    pytest.param("@Midnight", "2026-11-23T00:30", "2026-11-24", id="@midnight"),
    pytest.param("@weekly", "2026-11-23", "2026-11-29", id="@weekly"),
    pytest.param("@monthly", "2026-11-23", "2026-12-01", id="@monthly"),
    pytest.param("@yearly", "2026-11-23", "2027-01-01", id="@yearly"),
    pytest.param("@annually", "2026-11-23", "2027-01-01", id="@annually"),
]


@pytest.mark.parametrize(("text", "start", "expected"), MEANINGS)
def test_a_text_means_what_debian_says(text: str, start: str, expected: str) -> None:
    assert CronExpression(text).next_after(utc(start)) == utc(expected)


CLOCK_CHANGES = [
    pytest.param(
        "30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T03:00:00+02:00", id="right after the gap"
    ),
    pytest.param(
        "0 0 * * *", "Europe/Berlin", "2026-03-29T12:00", "2026-03-30T00:00:00+02:00", id="midnight a day later"
    ),
    pytest.param("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T02:30:00+02:00", id="first pass"),
    pytest.param("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-26T02:30:00+01:00", id="no second pass"),
    pytest.param("30 2 * * *", "Europe/Berlin", "2026-10-25T01:15", "2026-10-26T02:30:00+01:00", id="even from in it"),
    pytest.param("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-30T02:00:00+02:00", id="gap, wildcard"),
    pytest.param("30 * * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-25T02:30:00+01:00", id="fold, wildcard"),
    pytest.param("0 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T03:00:00+02:00", id="six fields too"),
    pytest.param(
        "* 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T03:00:00+02:00", id="star in seconds"
    ),
    pytest.param(
        "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T03:00", "2026-10-04T02:30:00+11:00", id="half an hour"
    ),
    pytest.param("0 0 * * *", "America/Sao_Paulo", "2017-10-14T12:00", "2017-10-15T01:00:00-02:00", id="no midnight"),
    pytest.param("30 23 * * *", "America/Sao_Paulo", "2018-02-18T01:30", "2018-02-18T23:30:00-03:00", id="late fold"),
    pytest.param("0 9 30 12 *", "Pacific/Apia", "2011-12-29T12:00", "2011-12-31T00:00:00+14:00", id="a day left out"),
]


@pytest.mark.parametrize(("text", "zone", "start", "expected"), CLOCK_CHANGES)
def test_a_clock_change_is_met_as_debian_meets_it(text: str, zone: str, start: str, expected: str) -> None:
    assert fires(text, zone, start, 1) == [expected]


def test_results_carry_the_fold_of_their_pass() -> None:
    found = list(islice(CronExpression("0,30 2 * * *", "Europe/Berlin").iter_after(utc("2026-10-24T12:00")), 2))
    assert [at.fold for at in found] == [0, 0]
    both = list(islice(CronExpression("*/30 2 * * *", "Europe/Berlin").iter_after(utc("2026-10-24T12:00")), 4))
    assert [(at.fold, at.minute) for at in both] == [(0, 0), (0, 30), (1, 0), (1, 30)]


def test_several_fixed_times_in_one_gap_are_one_fire_time() -> None:
    assert fires("0,20,40 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:00:00+02:00",
    ]


def test_an_instant_written_inside_a_gap_counts_as_what_it_is_in_utc() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    never_shown = datetime(2026, 3, 29, 2, 30, tzinfo=berlin)  # 01:30 UTC, when the clock shows 03:30
    found = CronExpression("* * * * *", "Europe/Berlin").next_after(never_shown)
    assert found is not None
    assert found.isoformat() == "2026-03-29T03:31:00+02:00"


def test_an_instant_written_on_the_edge_of_a_gap_is_matched_too() -> None:
    right_after = datetime(2026, 3, 29, 3, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    assert CronExpression("* 2-10 * * *", "Europe/Berlin").matches(right_after)
    assert CronExpression("30 2 * * *", "Europe/Berlin").matches(right_after)
    assert not CronExpression("1 3 * * *", "Europe/Berlin").matches(right_after)


# --- properties ------------------------------------------------------------------------------------------------------


@settings(QUICK, max_examples=400)
@given(
    text=plain_expressions(),
    start=st.datetimes(datetime(1970, 1, 2), datetime(2090, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Havana", "Africa/Casablanca"]),
)
def test_next_and_previous_are_each_others_inverse(text: str, start: datetime, zone: str) -> None:
    try:
        cron = CronExpression(text, zone)
    except CronExpressionError:
        return
    later, earlier = cron.next_after(start), cron.previous_before(start)
    assert later is not None
    assert earlier is not None
    assert earlier.astimezone(UTC) < start < later.astimezone(UTC)
    assert cron.matches(later)
    assert cron.matches(earlier)
    assert cron.next_after(earlier) == (start if cron.matches(start) else later)
    assert cron.previous_before(later) == (start if cron.matches(start) else earlier)


@settings(QUICK, max_examples=300)
@given(text=plain_expressions(), start=INSTANTS, zone=st.sampled_from(["Europe/Berlin", "America/Sao_Paulo"]))
def test_six_fields_from_zero_are_the_five(text: str, start: datetime, zone: str) -> None:
    try:
        five = CronExpression(text, zone)
    except CronExpressionError:
        return
    six = CronExpression(f"0 {text}", zone)
    assert [*islice(five.iter_after(start), 3)] == [*islice(six.iter_after(start), 3)]


def test_a_fraction_of_a_second_is_neither_lost_nor_matched() -> None:
    cron = CronExpression("0 9 * * *")
    nine = utc("2026-11-23T09:00")
    microsecond = timedelta(microseconds=1)
    assert cron.next_after(nine - microsecond) == nine
    assert cron.previous_before(nine + microsecond) == nine
    assert cron.matches(nine)
    assert not cron.matches(nine + microsecond)


# --- refused ---------------------------------------------------------------------------------------------------------

REFUSED = [
    ("61 0 * * *", "minute", "61", 0, ["61 is above 59", "0–59"]),
    ("0 24 * * *", "hour", "24", 2, ["24 is above 23", "0–23", "midnight is 0"]),
    ("0 0 0 * *", "day of month", "0", 4, ["0 is below 1", "1–31"]),
    ("0 0 32 * *", "day of month", "32", 4, ["32 is above 31"]),
    ("0 0 * 13 *", "month", "13", 6, ["13 is above 12", "1–12", "jan–dec"]),
    ("0 0 * 0 *", "month", "0", 6, ["below 1"]),
    ("0 0 * * 8", "weekday", "8", 8, ["8 is above 7", "0–7", "Sunday is 0 and 7"]),
    ("60 0 0 * * *", "second", "60", 0, ["above 59"]),
    ("0 61 0 * * *", "minute", "61", 2, ["above 59"]),
    ("0 9,61 * * *", "hour", "61", 4, ["61 is above 23"]),
    ("0 9-61 * * *", "hour", "9-61", 2, ["61 is above 23"]),
    ("99999999999999999999999999 * * * *", "minute", "9" * 26, 0, ["above 59"]),
    ("30-10 * * * *", "minute", "30-10", 0, ["backwards", "30-59,0-10"]),
    ("0 22-2 * * *", "hour", "22-2", 2, ["22-23,0-2"]),
    ("0 0 * nov-feb *", "month", "nov-feb", 6, ["nov-dec,jan-feb"]),
    ("0 0 * * fri-sun", "weekday", "fri-sun", 8, ["fri-sat,sun"]),
    ("0 0 * * 7-1", "weekday", "7-1", 8, ["backwards"]),
    ("0 0 * * 5-1/2", "weekday", "5-1/2", 8, ["two ranges"]),
    ("0 0 L * *", "day of month", "L", 4, ["last (L) is not supported"]),
    ("0 0 LW * *", "day of month", "LW", 4, ["last (L)"]),
    ("0 0 15W * *", "day of month", "15W", 4, ["nearest weekday (W)"]),
    ("0 0 * * friL", "weekday", "friL", 8, ["last (L)"]),
    ("0 0 * * MON#1", "weekday", "MON#1", 8, ["nth weekday"]),
    ("0 0 ? * *", "day of month", "?", 4, ["write *"]),
    ("H * * * *", "minute", "H", 0, ["spread"]),
    ("H(0-29) * * * *", "minute", "H(0-29)", 0, ["spread"]),
    ("0~30 * * * *", "minute", "0~30", 0, ["spread"]),
    ("0 0 * * mon-fri/2x", "weekday", "mon-fri/2x", 8, ["step", "mon-fri/5"]),
    ("*/0 * * * *", "minute", "*/0", 0, ["step of at least 1"]),
    ("*/ * * * *", "minute", "*/", 0, ["step"]),
    ("*/-5 * * * *", "minute", "*/-5", 0, ["step"]),
    ("*/5/2 * * * *", "minute", "*/5/2", 0, ["step"]),
    ("*5 * * * *", "minute", "*5", 0, ["after its star"]),
    ("*-5 * * * *", "minute", "*-5", 0, ["after its star"]),
    ("５ * * * *", "minute", "５", 0, ["write 5 with plain characters"]),
    ("٣ * * * *", "minute", "٣", 0, ["is not understood"]),
    ("1,,2 * * * *", "minute", "1,,2", 0, ["empty item"]),
    (",1 * * * *", "minute", ",1", 0, ["empty item"]),
    ("1, * * * *", "minute", "1,", 0, ["empty item"]),
    ("+5 * * * *", "minute", "+5", 0, ["no sign"]),
    ("-5 * * * *", "minute", "-5", 0, ["no value has a sign"]),
    ("1-2-3 * * * *", "minute", "1-2-3", 0, ["is no range"]),
    ("1- * * * *", "minute", "1-", 0, ["is no range"]),
    ("1.5 * * * *", "minute", "1.5", 0, ["whole numbers", "seconds are the first"]),
    ("0 1e1 * * *", "hour", "1e1", 2, ["not understood"]),
    ("0 0x9 * * *", "hour", "0x9", 2, ["not understood"]),
    ("0 0 * sept *", "month", "sept", 6, ["did you mean sep?"]),
    ("0 0 * * monday", "weekday", "monday", 8, ["did you mean mon?"]),
    ("0 0 * mon *", "month", "mon", 6, ["mon is a weekday"]),
    ("mon 0 * * *", "minute", "mon", 0, ["mon is a weekday"]),
    ("0 0 30 2 *", "day of month", "30", 4, ["never fires", "did you mean 29?"]),
    ("0 0 0 30 2 *", "day of month", "30", 6, ["never fires"]),
    ("0 0 31 2,4,6,9,11 *", "day of month", "31", 4, ["never fires", "30 days"]),
    ("0 0 30-31 feb */2", "day of month", "30-31", 4, ["never fires"]),
    ("@reboot", None, "@reboot", 0, ["@reboot", "not supported", "starts"]),
    ("@every 5m", None, "@every 5m", 0, ["interval"]),
    ("@hourli", None, "@hourli", 0, ["did you mean @hourly?"]),
    ("@hourly 5", None, "@hourly 5", 0, ["not supported"]),
    ("0 0 1 1 * 2026 7", None, "", 0, ["7 fields", "start_at"]),
    ("0 9 * *", None, "", 0, ["4 fields", "five"]),
    ("hello", None, "", 0, ["1 field;"]),
    ("", None, "", 0, ["empty"]),
    (" \t ", None, "", 0, ["empty"]),
    ("0\u30009 * * *", None, "\u3000", 1, ["separator"]),
    ("0 9 * *\n*", None, "\n", 7, ["separator"]),
    ("0 9 * * *\x00", None, "\x00", 9, ["separator"]),
    ("0," * 600 + "0 * * * *", None, "", 0, ["too many"]),
]


@pytest.mark.parametrize(
    ("text", "field_name", "token", "offset", "parts"), REFUSED, ids=[repr(row[0])[:40] for row in REFUSED]
)
def test_a_wrong_text_is_refused_with_field_token_range_and_hint(
    text: str, field_name: str | None, token: str, offset: int, parts: list[str]
) -> None:
    with pytest.raises(CronExpressionError) as caught:
        CronExpression(text)
    error = caught.value
    assert isinstance(error, ValueError)
    assert (error.field, error.token, error.offset) == (field_name, token, offset)
    for part in parts:
        assert part in error.reason
    if field_name is not None and len(text) < 200:
        assert text[offset:].startswith(token)
        assert field_name in error.reason
        assert "–" in error.reason
    assert len(str(error)) < 400


@pytest.mark.parametrize("value", [None, 5, b"* * * * *", ["* * * * *"]], ids=["None", "int", "bytes", "list"])
def test_what_is_not_text_is_refused_like_a_wrong_text(value: object) -> None:
    with pytest.raises(CronExpressionError, match="is text such as"):
        CronExpression(value)  # type: ignore[arg-type]


@settings(QUICK, max_examples=500)
@given(st.one_of(st.text(max_size=40), st.text(alphabet="0123456789*,-/ LW#?@monfrijan", max_size=40)))
def test_any_text_is_a_cron_expression_or_a_cron_expression_error(text: str) -> None:
    try:
        cron = CronExpression(text)
    except CronExpressionError:
        return
    assert cron.next_after(utc("2026-11-23")) is not None


def test_a_wildcard_that_clock_changes_always_leave_out_is_refused() -> None:
    last_sunday_of_march = "*/30 2 25-31 3 */7"
    with pytest.raises(CronExpressionError, match="never fires: clock changes in Europe/Berlin"):
        CronExpression(last_sunday_of_march, "Europe/Berlin")
    assert CronExpression(last_sunday_of_march, "Asia/Shanghai").next_after(utc("2026-11-23")) is not None
    assert CronExpression("30 2 25-31 3 */7", "Europe/Berlin").next_after(utc("2026-11-23")) == utc("2027-03-28T01:00")


ZONES = [
    pytest.param("Asia/Shangai", "Asia/Shanghai", id="a letter missing"),
    pytest.param("asia/shanghai", "Asia/Shanghai", id="lower case"),
    pytest.param("Shanghai", "Asia/Shanghai", id="the city alone"),
    pytest.param("America/New York", "America/New_York", id="a blank"),
    pytest.param("right/Europe/Berlin", "Europe/Berlin", id="with leap seconds"),
    pytest.param("../etc/passwd", "such as|look like", id="a path"),
    pytest.param("/etc/passwd", "look like", id="an absolute path"),
    pytest.param("Europe", "did you mean|look like", id="a folder"),
    pytest.param("UTC+8", "'Etc/GMT-8', with its sign turned round", id="hours east"),
    pytest.param("gmt-03:00", "'Etc/GMT\\+3'", id="hours west"),
    pytest.param("+14", "'Etc/GMT-14'", id="an offset alone"),
    pytest.param("UTC+5:30", "look like 'Asia", id="half an hour"),
    pytest.param("UTC-14", "look like 'Asia", id="further than the zones go"),
    pytest.param("", "look like", id="nothing"),
    pytest.param("x" * 5000, "look like", id="a long one"),
    pytest.param("a\0b", "look like", id="a null byte"),
    pytest.param(8, "is a name", id="a number"),
    pytest.param(None, "is a name", id="None"),
]


@pytest.mark.parametrize(("zone", "hint"), ZONES)
def test_an_unknown_zone_is_named_with_the_nearest_one(zone: str, hint: str) -> None:
    with pytest.raises(ScheduleError, match=hint):
        CronExpression("* * * * *", zone)


# --- the value -------------------------------------------------------------------------------------------------------


def test_text_and_zone_are_given_back_normalised() -> None:
    cron = CronExpression(" 0   9 * *  MON-Fri", ZoneInfo("Asia/Shanghai"))
    assert (cron.expression, cron.timezone) == ("0 9 * * mon-fri", "Asia/Shanghai")
    assert repr(cron) == "CronExpression('0 9 * * mon-fri', timezone='Asia/Shanghai')"
    assert CronExpression("@Hourly").expression == "@hourly"
    assert CronExpression("* * * * *", UTC).timezone == "UTC"  # type: ignore[arg-type]  # taken all the same


def test_equal_text_and_zone_are_equal_and_hash_alike() -> None:
    one, other = CronExpression("0 9 * * MON"), CronExpression("0  9 * * mon")
    assert one == other
    assert len({one, other}) == 1
    assert one != CronExpression("0 9 * * mon", "Asia/Tokyo")
    assert one != "0 9 * * mon"


def test_an_expression_does_not_change() -> None:
    cron = CronExpression("* * * * *")
    with pytest.raises(AttributeError, match="does not change"):
        cron.expression = "0 * * * *"
    with pytest.raises(AttributeError, match="does not change"):
        del cron.timezone
    with pytest.raises(AttributeError):
        cron.extra = 1


def test_parse_cron_shares_one_expression_and_copies_share_it_too() -> None:
    shared = parse_cron("*/5 * * * *", "Asia/Shanghai")
    assert parse_cron("*/5 * * * *", "Asia/Shanghai") is shared
    assert copy.deepcopy(shared) is shared
    assert pickle.loads(pickle.dumps(shared)) is shared


def test_naive_instants_are_refused() -> None:
    cron, naive = CronExpression("* * * * *"), datetime(2026, 11, 23)  # noqa: DTZ001
    for ask in (cron.next_after, cron.previous_before, cron.matches, lambda at: next(cron.iter_after(at))):
        with pytest.raises(ValueError, match="no time zone"):
            ask(naive)


def test_the_ends_of_the_calendar_are_none() -> None:
    yearly = CronExpression("@yearly", "Europe/Berlin")
    assert yearly.next_after(datetime(9998, 6, 1, tzinfo=UTC)) is None
    assert yearly.previous_before(datetime(1, 6, 1, tzinfo=UTC)) is None
    assert yearly.next_after(utc("2099-06-01")) is not None
    for zone in ("Asia/Shanghai", "America/New_York"):
        daily = CronExpression("@daily", zone)
        assert daily.next_after(datetime.max.replace(tzinfo=UTC)) is None
        assert daily.previous_before(datetime.min.replace(tzinfo=UTC)) is None


def test_a_search_is_never_long() -> None:
    """The worst known: forty years to the next such day; and a gap at each of the days it names."""
    rare = CronExpression("59 59 23 29 2 */7", "Europe/Berlin")
    in_gaps = CronExpression("*/30 2 25-31 3 */7", "Asia/Tokyo")
    object.__setattr__(in_gaps, "_zone", ZoneInfo("Europe/Berlin"))  # what parsing refuses
    in_gaps._calendar._zone = ZoneInfo("Europe/Berlin")
    object.__setattr__(in_gaps, "_steady", False)
    assert in_gaps.next_after(utc("2030-01-01")) is None
    for cron in (rare, in_gaps):
        ask = partial(cron.next_after, utc("2088-03-01"))
        assert min(timeit.repeat(ask, timer=thread_time, number=1, repeat=5)) < 0.02


SPEED = (
    *("* * * * *", "*/10 * * * *", "0 * * * *", "0 2 * * *", "0 9 * * 1-5", "15 */4 * * *", "0 0 1 * *"),
    *("0 0 1 1 *", "30 3 15 6 *", "0 0 29 2 *", "5,35 9-17 * * mon"),
)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "Europe/Berlin"])
def test_a_next_fire_time_costs_no_more_than_stock_crontrigger(zone: str) -> None:
    now = utc("2026-11-23T08:31:17")
    ours = [CronExpression(text, zone) for text in SPEED]
    stock = [CronTrigger.from_crontab(text, zone) for text in SPEED]

    def ask_ours() -> None:
        for cron in ours:
            cron.next_after(now)

    def ask_stock() -> None:
        for trigger in stock:
            trigger.get_next_fire_time(now, now)

    best, best_of_stock = (
        min(timeit.repeat(ask, timer=thread_time, number=20, repeat=5)) for ask in (ask_ours, ask_stock)
    )
    assert best < best_of_stock

"""`Schedule`: everything that says when a job fires, as one frozen, hashable value without APScheduler."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from atlas.scheduler.cron.expression import parse_cron
from atlas.scheduler.errors import ScheduleError
from atlas.scheduler.message import Message
from atlas.scheduler.schedule_words import describe_schedule
from atlas.scheduler.zones import zone_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHORTEST_INTERVAL_S: Final = 1.0
LONGEST_INTERVAL_S: Final = 366 * 86_400.0
LONGEST_SPREAD_S: Final = 86_400.0
_FIRST_YEAR, _LAST_YEAR = 1900, 9000
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Interval:
    """Fires at ``anchor + n * every_s`` for every whole n, before the anchor too: no restart ever shifts it.

    Raises:
        ScheduleError: The anchor is naive.
    """

    every_s: float
    """Distance of two fire times, seconds; real ones, whatever the wall clock does."""
    anchor: datetime
    """Any one of the fire times, kept as aware UTC."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "anchor", _utc(self.anchor, "anchor"))

    def next_after(self, instant: datetime) -> datetime | None:
        """First fire time strictly after ``instant``, UTC; None beyond the calendar's end."""
        every = timedelta(seconds=self.every_s)
        try:
            return self.anchor + ((instant - self.anchor) // every + 1) * every
        except OverflowError:
            return None

    def previous_before(self, instant: datetime) -> datetime | None:
        """Last fire time strictly before ``instant``, UTC; None before the calendar's begin."""
        every = timedelta(seconds=self.every_s)
        try:
            return self.anchor + (-((self.anchor - instant) // every) - 1) * every
        except OverflowError:
            return None


@dataclass(frozen=True, slots=True)
class Calendar:
    """Local dates on which a job does not do its work, though its fire times are served as skips."""

    name: str
    exclude: tuple[tuple[date, date], ...] = ()
    """First and last date of each excluded stretch, both of them excluded."""
    include: tuple[tuple[date, date], ...] = ()
    """The same of stretches that are not excluded after all."""

    def excludes(self, day: date) -> bool:
        """True if ``day`` stands in an excluded stretch and in no included one."""
        return _within(day, self.exclude) and not _within(day, self.include)

    def first_open(self, day: date) -> date | None:
        """The first date from ``day`` on that is not excluded; None where all are, to the end of all calendars."""
        while self.excludes(day):
            last = max(last for first, last in self.exclude if first <= day <= last)
            opens = min((first for first, _ in self.include if day < first <= last), default=None)
            if opens is None and last == date.max:
                return None
            day = opens or last + timedelta(days=1)
        return day


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a job fires: all of its parts together, between two instants.

    Making one only brings its times to UTC; `validated` looks at the rest.

    Attributes:
        cron: Cron expressions, read in ``timezone``.
        dates: Single instants, ascending.
        start_at: First instant that may be a fire time.
        end_at: Last instant that may be a fire time.
        spread_s: Largest offset of a job's start behind its fire time, seconds; see `stable_offset`.
        calendar: Dates on which fire times become skips.

    Raises:
        ScheduleError: An instant is naive.
    """

    cron: tuple[str, ...] = ()
    intervals: tuple[Interval, ...] = ()
    dates: tuple[datetime, ...] = ()
    timezone: str = "UTC"
    start_at: datetime | None = None
    end_at: datetime | None = None
    spread_s: float = 0.0
    calendar: Calendar | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "cron", _texts(self.cron))
        put(self, "intervals", tuple(self.intervals))
        put(self, "dates", tuple(sorted({_utc(at, "date") for at in self.dates})))
        for name in ("start_at", "end_at"):
            instant = getattr(self, name)
            if instant is not None:
                put(self, name, _utc(instant, name))

    def validated(self) -> Self:
        """The schedule itself, once every part of it has been looked at.

        Raises:
            CronExpressionError: A cron text is wrong or never fires.
            ScheduleError: Nothing says when; or a zone, interval, instant, calendar or spread cannot be used.
        """
        zone_named(self.timezone)
        for expression in self.cron:
            parse_cron(expression, self.timezone)
        if not (self.cron or self.intervals or self.dates):
            raise ScheduleError(Message("nothing says when: give a cron expression, an interval or a date"))
        for interval in self.intervals:
            _in_range("interval", interval.every_s, SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S)
        _in_range("spread", self.spread_s, 0.0, LONGEST_SPREAD_S)
        instants = [*self.dates, self.start_at, self.end_at, *(interval.anchor for interval in self.intervals)]
        for instant in instants:
            if instant is not None and not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
                years = {"first": _FIRST_YEAR, "last": _LAST_YEAR}
                raise ScheduleError(
                    Message("{at} is not in the years {first} to {last}", at=instant.isoformat(), **years)
                )
        if self.start_at is not None and self.end_at is not None and self.end_at < self.start_at:
            end, start = self.end_at.isoformat(), self.start_at.isoformat()
            raise ScheduleError(Message("end_at {end} is before start_at {start}", end=end, start=start))
        if self.calendar is not None:
            for first, last in (*self.calendar.exclude, *self.calendar.include):
                if last < first:
                    name = repr(self.calendar.name)
                    raise ScheduleError(
                        Message("calendar {name}: {last} is before {first}", name=name, last=last, first=first)
                    )
        return self

    def next_after(self, instant: datetime) -> datetime | None:
        """First fire time strictly after ``instant``, aware UTC; None once there are no more: the job has ENDED.

        Raises:
            ValueError: ``instant`` is naive.
        """
        after = _utc(instant, "instant")
        if self.start_at is not None and after < self.start_at:
            after = self.start_at - _MICROSECOND
        found = [parse_cron(expression, self.timezone).next_after(after) for expression in self.cron]
        found += [interval.next_after(after) for interval in self.intervals]
        found += self.dates[(place := bisect_right(self.dates, after)) : place + 1]
        first = min((at.astimezone(UTC) for at in found if at is not None), default=None)
        return None if first is None or (self.end_at is not None and first > self.end_at) else first

    def previous_before(self, instant: datetime) -> datetime | None:
        """Last fire time strictly before ``instant``, aware UTC; None if there was none.

        Raises:
            ValueError: ``instant`` is naive.
        """
        before = _utc(instant, "instant")
        if self.end_at is not None and before > self.end_at:
            before = self.end_at + _MICROSECOND
        found = [parse_cron(expression, self.timezone).previous_before(before) for expression in self.cron]
        found += [interval.previous_before(before) for interval in self.intervals]
        place = bisect_left(self.dates, before)
        found += self.dates[max(place - 1, 0) : place]
        last = max((at.astimezone(UTC) for at in found if at is not None), default=None)
        return None if last is None or (self.start_at is not None and last < self.start_at) else last

    def is_excluded(self, fire_time: datetime) -> bool:
        """True if the calendar turns this fire time into a skip: its local date is excluded.

        Raises:
            ValueError: ``fire_time`` is naive.
        """
        instant = _utc(fire_time, "fire time")
        if self.calendar is None:
            return False
        return self.calendar.excludes(instant.astimezone(zone_named(self.timezone)).date())

    def describe(self, language: Literal["en", "zh"] = "en") -> str:
        """The whole schedule in words, its instants in its own zone.

        Raises:
            ValueError: Another language.
        """
        return describe_schedule(self, language)

    def to_json(self) -> dict[str, Any]:
        """The schedule as JSON values; what is not set is left out."""
        calendar = self.calendar
        raw: dict[str, Any] = {
            "timezone": self.timezone,
            "cron": list(self.cron),
            "intervals": [{"every_s": float(part.every_s), "anchor": _text(part.anchor)} for part in self.intervals],
            "dates": [_text(at) for at in self.dates],
            "start_at": _text(self.start_at),
            "end_at": _text(self.end_at),
            "spread_s": float(self.spread_s),
        }
        if calendar is not None:
            raw["calendar"] = {
                "name": calendar.name,
                "exclude": [[first.isoformat(), last.isoformat()] for first, last in calendar.exclude],
                "include": [[first.isoformat(), last.isoformat()] for first, last in calendar.include],
            }
        return {name: value for name, value in raw.items() if value}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The validated schedule that `to_json` wrote.

        Raises:
            CronExpressionError: As `validated`.
            ScheduleError: As `validated`, or ``raw`` has another shape.
        """
        try:
            left = dict(raw)
            calendar, start_at, end_at = (left.pop(name, None) for name in ("calendar", "start_at", "end_at"))
            schedule = cls(
                cron=tuple(left.pop("cron", ())),
                intervals=tuple(
                    Interval(part["every_s"], datetime.fromisoformat(part["anchor"]))
                    for part in left.pop("intervals", ())
                ),
                dates=tuple(datetime.fromisoformat(text) for text in left.pop("dates", ())),
                timezone=left.pop("timezone", "UTC"),
                start_at=None if start_at is None else datetime.fromisoformat(start_at),
                end_at=None if end_at is None else datetime.fromisoformat(end_at),
                spread_s=left.pop("spread_s", 0.0),
                calendar=None
                if calendar is None
                else Calendar(calendar["name"], _ranges(calendar["exclude"]), _ranges(calendar["include"])),
            )
        except ScheduleError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            raise ScheduleError(Message("not a stored schedule: {why}", why=why)) from error
        if left:
            names = ", ".join(sorted(map(str, left)))
            raise ScheduleError(Message("not a stored schedule: it has {names}", names=names))
        return schedule.validated()


def stable_offset(job_id: str, spread_s: float) -> float:
    """Seconds by which this job starts behind its fire times, 0 to ``spread_s``; always the same for one job.

    Whole seconds, unless the spread is below one. Drawn from the SHA-256 of the id: jobs that are due together are
    spread evenly, and neither a restart nor a change to another job moves one.
    """
    if not spread_s:
        return 0.0
    drawn = int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:8])
    if spread_s < 1:
        return spread_s * (drawn / 2**64)
    return float(drawn % (int(spread_s) + 1))


def newest_fire_times(
    schedule: Schedule, *, after: datetime, until: datetime, limit: int
) -> tuple[list[datetime], bool]:
    """The newest ``limit`` fire times in ``after`` < t <= ``until``, newest first, and whether there are older ones.

    It looks at ``limit + 1`` fire times, however many there are.

    Raises:
        ValueError: An instant is naive.
    """
    oldest, found = _utc(after, "after"), list[datetime]()
    fire_time = schedule.previous_before(_utc(until, "until") + _MICROSECOND)
    while fire_time is not None and fire_time > oldest:
        if len(found) >= limit:
            return found, True
        found.append(fire_time)
        fire_time = schedule.previous_before(fire_time)
    return found, False


def _texts(cron: object) -> tuple[str, ...]:
    """A single text is one expression, not a row of letters."""
    return (cron,) if isinstance(cron, str) else tuple(cron)  # type: ignore[arg-type]  # what iterates will do


def _utc(instant: datetime, what: str) -> datetime:
    """``instant`` in UTC, where comparing two never trips over a fold."""
    if instant.utcoffset() is None:
        text = instant.isoformat()
        raise ScheduleError(
            Message("{what} {text} has no offset from UTC; write {text}+08:00 or {text}Z", what=what, text=text)
        )
    return instant.astimezone(UTC)


def _in_range(what: str, value: object, low: float, high: float) -> None:
    """Refuse a number of seconds out of bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        bounds = {"low": f"{low:g}", "high": f"{high:,.0f}"}
        raise ScheduleError(
            Message("{what} {value} is not in {low} to {high} seconds", what=what, value=repr(value), **bounds)
        )


def _within(day: date, ranges: Iterable[tuple[date, date]]) -> bool:
    return any(first <= day <= last for first, last in ranges)


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _ranges(raw: Iterable[tuple[str, str]]) -> tuple[tuple[date, date], ...]:
    return tuple((date.fromisoformat(first), date.fromisoformat(last)) for first, last in raw)

"""The shape of what a cron text says, from which sentences in any language are made: its days and times of day.

::

    Times   a few times of day                  0 9,17 * * *
    Beat    one steady step, perhaps in windows */10 9-17 * * *
    Marks   a few marks in each of some hours   5,35 9-17 * * *
    Sets    anything else: three sets           */7 1,5,9 * * *
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from atlas.scheduler.cron.fields import CronFields

Values = tuple[int, ...]
Clock = tuple[int, int, int]
"""Hour, minute, second."""

ALL_HOURS: Final = tuple(range(24))
ALL_MINUTES: Final = tuple(range(60))
_MAX_WINDOWS: Final = 3
_MAX_TIMES: Final = 8


@dataclass(frozen=True, slots=True)
class Times:
    """These times of day and no others."""

    times: tuple[Clock, ...]


@dataclass(frozen=True, slots=True)
class Beat:
    """Every ``step`` units."""

    step: int
    unit: Literal["second", "minute", "hour"]
    phase: Clock = (0, 0, 0)
    """The first time of a day; within all of the hours the hour is 0."""
    windows: tuple[tuple[Clock, Clock], ...] = ()
    """First and last time of each stretch; empty is the whole day."""


@dataclass(frozen=True, slots=True)
class Marks:
    """These minutes and seconds of each of these hours."""

    marks: tuple[tuple[int, int], ...]
    hours: Values


@dataclass(frozen=True, slots=True)
class Sets:
    """Every second of these that falls in one of these minutes of these hours."""

    seconds: Values
    minutes: Values
    hours: Values


Shape = Times | Beat | Marks | Sets


def shape_of(fields: CronFields) -> Shape:
    """The simplest shape that says all of the fields' times of day and nothing more."""
    seconds, minutes, hours = fields.seconds, fields.minutes, fields.hours
    total = len(seconds) * len(minutes) * len(hours)
    beat = _beat_of_all_hours(seconds, minutes) if hours == ALL_HOURS else _beat_of_some_hours(seconds, minutes, hours)
    if beat is not None:
        return beat
    if total <= _MAX_TIMES or (len(seconds) == len(minutes) == 1 and hours != ALL_HOURS):
        return Times(tuple((hour, minute, second) for hour in hours for minute in minutes for second in seconds))
    if len(seconds) * len(minutes) <= _MAX_TIMES and (len(seconds) == 1 or len(minutes) == 1):
        return Marks(tuple((minute, second) for minute in minutes for second in seconds), hours)
    return Sets(seconds, minutes, hours)


def _beat_of_all_hours(seconds: Values, minutes: Values) -> Beat | None:
    """The one step by which an unbroken day goes."""
    within = _beat_within_hour(seconds, minutes)
    if within is None and len(seconds) == len(minutes) == 1:
        return Beat(1, "hour", (0, minutes[0], seconds[0]))
    # Two marks an hour that do not begin with it are better named: "hourly at :05 and :35".
    return within if within is not None and (within.step != 30 or within.phase == (0, 0, 0)) else None


def _beat_of_some_hours(seconds: Values, minutes: Values, hours: Values) -> Beat | None:
    """The one step that is kept through a few stretches of the day, or through the day in whole hours."""
    stretches = runs(hours)
    first, last = (minutes[0], seconds[0]), (minutes[-1], seconds[-1])
    windows = tuple(((span[0], *first), (span[-1], *last)) for span in stretches)
    within = _beat_within_hour(seconds, minutes)
    if within is not None:
        few = len(seconds) * len(minutes) * len(hours) <= 4
        return None if few or len(stretches) > _MAX_WINDOWS else Beat(within.step, within.unit, windows=windows)
    if len(seconds) == len(minutes) == 1:
        step = even_step(hours)
        if step is not None and step * len(hours) == 24 and len(hours) > 2:
            return Beat(step, "hour", (hours[0], *first))
        # Three times are named one by one, more are a stretch; all stretches or none.
        return Beat(1, "hour", windows=windows) if all(len(span) > 3 for span in stretches) else None
    if len(hours) > 1:
        return None
    second_step, minute_step = even_step(seconds), even_step(minutes)
    if len(seconds) == 1 and minute_step is not None and len(minutes) > 4:
        return Beat(minute_step, "minute", windows=windows)
    if len(minutes) == 1 and second_step is not None and len(seconds) > 4:
        return Beat(second_step, "second", windows=windows)
    if minute_step == 1 and _closes(seconds):
        return Beat(60 // len(seconds), "second", windows=windows)
    return None


def _beat_within_hour(seconds: Values, minutes: Values) -> Beat | None:
    """The one step by which every hour goes, from its own first time over into the next hour."""
    if minutes == ALL_MINUTES and _closes(seconds):
        return Beat(60 // len(seconds), "second", (0, 0, seconds[0]))
    if len(seconds) == 1 and _closes(minutes):
        return Beat(60 // len(minutes), "minute", (0, minutes[0], seconds[0]))
    return None


def _closes(values: Values) -> bool:
    """True if the values go round a minute or hour in one step, with no odd step at its end."""
    step = even_step(values)
    return step is not None and step * len(values) == 60


def even_step(values: Values) -> int | None:
    """The one distance between all neighbours; None if there is none."""
    steps = {later - earlier for earlier, later in pairwise(values)}
    return steps.pop() if len(steps) == 1 else None


def runs(values: Values) -> list[Values]:
    """The values in stretches without a hole."""
    found: list[list[int]] = []
    for value in values:
        if found and value == found[-1][-1] + 1:
            found[-1].append(value)
        else:
            found.append([value])
    return [tuple(run) for run in found]


def grid(values: Values) -> int | None:
    """The step of a longer row with even holes, which is better told by its step than one by one; else None."""
    step = even_step(values)
    return step if step is not None and step > 1 and len(values) > 4 else None


def spans(values: Values, word: Callable[[int], str], to: str) -> list[str]:
    """The values in words, three or more in a row as one: ``from to to``."""
    found: list[str] = []
    for run in runs(values):
        found += [f"{word(run[0])}{to}{word(run[-1])}"] if len(run) > 2 else map(word, run)
    return found


def row_of_weekdays(weekdays: Values) -> tuple[int, int] | None:
    """First and last of three or more weekdays in a row, round the week; None for any others."""
    starts = [day for day in weekdays if (day - 1) % 7 not in weekdays]
    if len(starts) != 1 or len(weekdays) < 3:
        return None
    return starts[0], (starts[0] + len(weekdays) - 1) % 7


def monday_first(weekdays: Values) -> Values:
    """The weekdays in the order of a week that begins on Monday."""
    return tuple(sorted(weekdays, key=lambda day: (day - 1) % 7))


def clock_words(times: Sequence[Clock]) -> list[str]:
    """``09:00``, each with seconds if one of ``times`` has any."""
    if any(second for _, _, second in times):
        return [f"{hour:02}:{minute:02}:{second:02}" for hour, minute, second in times]
    return [f"{hour:02}:{minute:02}" for hour, minute, _ in times]


def window_words(beat: Beat) -> list[tuple[str, str]]:
    """First and last time of each of its windows, all with seconds if one has any."""
    clock = clock_words([at for window in beat.windows for at in window])
    return list(zip(clock[::2], clock[1::2], strict=True))


def two(value: int) -> str:
    """``05``."""
    return f"{value:02}"


@dataclass(frozen=True, slots=True)
class Days:
    """The days on which a text fires, as far as they decide anything: None is all."""

    days: Values | None
    weekdays: Values | None
    months: Values | None
    either: bool
    """One of days and weekdays is enough, if both are set; else both are needed."""


def days_of(fields: CronFields) -> Days:
    """The days of ``fields``."""
    days = None if len(fields.days) == 31 else fields.days
    weekdays = None if len(fields.weekdays) == 7 else fields.weekdays
    if fields.either_day and (days is None or weekdays is None):
        days = weekdays = None  # one of the two takes every day, and one is enough
    return Days(days, weekdays, None if len(fields.months) == 12 else fields.months, fields.either_day)

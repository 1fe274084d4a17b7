"""Cron fields in English words that say all of them and nothing more; the Chinese ones stand in `words_zh`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from atlas.scheduler.cron.shape import (
    ALL_HOURS,
    ALL_MINUTES,
    Beat,
    Days,
    Marks,
    Sets,
    Shape,
    Times,
    Values,
    clock_words,
    days_of,
    even_step,
    grid,
    monday_first,
    row_of_weekdays,
    runs,
    shape_of,
    spans,
    two,
    window_words,
)
from atlas.scheduler.cron.words_zh import chinese

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atlas.scheduler.cron.fields import CronFields

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_WEEKDAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MON_TO_FRI: Final = (1, 2, 3, 4, 5)
_SAT_SUN: Final = (0, 6)


def describe_fields(fields: CronFields, language: str) -> str:
    """``fields`` in words: ``every Monday at 09:00`` or ``每周一 09:00``.

    Raises:
        ValueError: ``language`` is neither ``en`` nor ``zh``.
    """
    if language not in {"en", "zh"}:
        raise ValueError(f"no language {language!r}; there are 'en' and 'zh'")
    return (english if language == "en" else chinese)(shape_of(fields), days_of(fields))


def english(shape: Shape, days: Days) -> str:
    """Days, then times: ``weekdays (Mon to Fri) at 09:00``; a beat comes first: ``every 5 minutes on Mondays``."""
    times = _times(shape)
    if isinstance(shape, Times):
        return f"{_leading(days)} {times}"
    on = _on_days(days)
    return f"{times} {on}" if on else times


# --- days ------------------------------------------------------------------------------------------------------------


def _leading(days: Days) -> str:
    """The days before ``at 09:00``: ``daily``, ``every Monday``, ``on day 1 of every month``."""
    if days.days is None:
        within = _in_months(days.months)
        if days.weekdays is None:
            return f"every day{within}" if within else "daily"
        if days.weekdays in (_MON_TO_FRI, _SAT_SUN) or row_of_weekdays(days.weekdays):
            return _weekday_row(days.weekdays) + within
        return f"every {_list([_WEEKDAYS[day] for day in monday_first(days.weekdays)])}{within}"
    if days.weekdays is not None:
        return _on_days(days) + ","
    yearly = days.months is not None and len(days.months) == 1
    return f"every year {_on_days(days)}" if yearly else _on_days(days)


def _on_days(days: Days) -> str:
    """The days after ``every 5 minutes``: ``on Fridays in May``, ``on day 1 of every month``; empty for every day."""
    within = _in_months(days.months)
    on_weekdays = "" if days.weekdays is None else _on_weekdays(days.weekdays)
    if days.days is None:
        return f"{on_weekdays}{within}".strip()
    dates = _on_dates(days.days, days.months)
    if days.weekdays is None:
        return dates
    if days.either:
        return f"{dates} as well as {on_weekdays}{within}"
    falls = "it falls" if len(days.days) == 1 or grid(days.days) else "they fall"
    return f"{dates} when {falls} on {_one_of_weekdays(days.weekdays)}"


def _weekday_row(weekdays: Values) -> str:
    """``weekdays (Mon to Fri)``, ``Tuesday to Thursday``."""
    if weekdays == _MON_TO_FRI:
        return "weekdays (Mon to Fri)"
    if weekdays == _SAT_SUN:
        return "weekends (Sat and Sun)"
    row = row_of_weekdays(weekdays)
    assert row is not None
    return f"{_WEEKDAYS[row[0]]} to {_WEEKDAYS[row[1]]}"


def _on_weekdays(weekdays: Values) -> str:
    """``on weekdays (Mon to Fri)``, ``from Tuesday to Thursday``, ``on Mondays and Fridays``."""
    if weekdays in (_MON_TO_FRI, _SAT_SUN):
        return f"on {_weekday_row(weekdays)}"
    if row_of_weekdays(weekdays):
        return f"from {_weekday_row(weekdays)}"
    return f"on {_list([f'{_WEEKDAYS[day]}s' for day in monday_first(weekdays)])}"


def _one_of_weekdays(weekdays: Values) -> str:
    """``a weekday (Mon to Fri)``, ``Friday or Sunday``."""
    if weekdays == _MON_TO_FRI:
        return "a weekday (Mon to Fri)"
    if weekdays == _SAT_SUN:
        return "a weekend (Sat or Sun)"
    return _list([_WEEKDAYS[day] for day in monday_first(weekdays)], "or")


def _in_months(months: Values | None) -> str:
    """`` in January and July``, `` from June to August``, with a blank before; empty for every month."""
    if months is None:
        return ""
    if len(months) > 2 and len(runs(months)) == 1:
        return f" from {_MONTHS[months[0] - 1]} to {_MONTHS[months[-1] - 1]}"
    return f" in {_list([_MONTHS[month - 1] for month in months])}"


def _on_dates(days: Values, months: Values | None) -> str:
    """``on January 1``, ``on days 1 and 15 of every month``, ``on every 2nd day from 1 to 31 of January``."""
    if months is not None and len(months) == len(days) == 1:
        return f"on {_MONTHS[months[0] - 1]} {days[0]}"
    within = _in_months(months)
    of_months = f"of {within[4:]}" if within.startswith(" in ") else f"of every month{within}"
    step = grid(days)
    if step is not None:
        return f"on every {_ordinal(step)} day from {days[0]} to {days[-1]} {of_months}"
    return f"on day{'s' * (len(days) > 1)} {_list(spans(days, str, ' to '))} {of_months}"


# --- times -----------------------------------------------------------------------------------------------------------


def _times(shape: Shape) -> str:
    """The times of day: ``at 09:00``, ``every 10 minutes from 09:00 to 17:50``, ``hourly at :05 and :35``."""
    match shape:
        case Times(times):
            return f"at {_list(clock_words(times))}"
        case Beat():
            return _beat(shape)
        case Marks(marks, hours):
            at = _list([_mark(*mark, exact=any(second for _, second in marks)) for mark in marks])
            return f"hourly at {at}" if hours == ALL_HOURS else f"at {at} in {_part('hour', hours)}"
        case Sets(seconds, minutes, hours):
            of_hour = "of every hour" if hours == ALL_HOURS else f"in {_part('hour', hours)}"
            if seconds == (0,):
                every = _row("minute", minutes, ":")
                return every if "from" not in every and hours == ALL_HOURS else f"{every} {of_hour}"
            of_minute = "of every minute"
            if minutes != ALL_MINUTES:
                of_minute = f"in {_part('minute', minutes)} {of_hour}"
            elif hours != ALL_HOURS:
                of_minute = f"of every minute {of_hour}"
            return f"{_row('second', seconds, 'second ')} {of_minute}"


def _beat(beat: Beat) -> str:
    """``every 10 minutes``, and from when to when."""
    hour, minute, second = beat.phase
    every = _every(beat.step, beat.unit)
    if beat.windows:
        return f"{every} {_list([f'from {first} to {last}' for first, last in window_words(beat)])}"
    if beat.phase == (0, 0, 0):
        return every
    if beat.unit == "minute" and beat.step == 1:
        return f"{every} at second {second}"
    if beat.unit != "hour":
        return f"{every} from {_mark(minute, second)}"
    if hour:
        return f"{every} from {clock_words([beat.phase])[0]}"
    return f"{'hourly' if beat.step == 1 else every} at {_mark(minute, second)}"


def _every(step: int, unit: str) -> str:
    return f"every {unit}" if step == 1 else f"every {step} {unit}s"


def _row(unit: str, values: Values, mark: str) -> str:
    """``every second``, ``every 7 minutes from :00 to :56``, ``at minutes 05 and 10 to 20``; ``mark`` stands before."""
    step = even_step(values)
    if step is not None and step * len(values) == 60 and values[0] == 0:
        return _every(step, unit)
    if step is not None and len(values) > 4:
        return f"{_every(step, unit)} from {mark}{values[0]:02} to {mark}{values[-1]:02}"
    return f"at {unit}{'s' * (len(values) > 1)} {_list(spans(values, two, ' to '))}"


def _part(unit: str, values: Values) -> str:
    """``hour 09``, ``the hours 09 to 17``, ``every 2nd hour from 00 to 22``."""
    step = grid(values)
    if step is not None:
        return f"every {_ordinal(step)} {unit} from {values[0]:02} to {values[-1]:02}"
    return f"{unit} {values[0]:02}" if len(values) == 1 else f"the {unit}s {_list(spans(values, two, ' to '))}"


def _mark(minute: int, second: int, *, exact: bool = False) -> str:
    """``:05``: a minute of any hour, with its second if that is not 0."""
    return f":{minute:02}:{second:02}" if second or exact else f":{minute:02}"


def _ordinal(number: int) -> str:
    """``2nd``, ``11th``, ``23rd``."""
    ending = "th" if number in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _list(words: Sequence[str], last: str = "and") -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"

"""Cron fields in Chinese words that say all of them and nothing more."""

from __future__ import annotations

from typing import Final

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
    even_step,
    grid,
    monday_first,
    row_of_weekdays,
    spans,
    two,
    window_words,
)

_WEEKDAYS: Final = ("周日", "周一", "周二", "周三", "周四", "周五", "周六")
_UNITS: Final = {"second": "秒", "minute": "分钟", "hour": "小时"}


def chinese(shape: Shape, days: Days) -> str:
    """Days, then times: ``周一至周五 09:00``, ``每天 02:00``, ``每 10 分钟``."""
    on, times = _days(days), _times(shape)
    if not on:
        return f"每天 {times}" if isinstance(shape, Times) else times
    # A blank stands between a Chinese character and a figure, not after a bracket.
    return f"{on} {times}" if times[0].isdigit() and not on.endswith("）") else f"{on}{times}"


# --- days ------------------------------------------------------------------------------------------------------------


def _days(days: Days) -> str:
    """``每月 1 日``, ``每年 5 月的每周五``; empty for every day."""
    on_weekdays = "" if days.weekdays is None else _weekdays(days.weekdays)
    year = "" if days.months is None else f"每年 {'、'.join(spans(days.months, lambda month: f'{month} 月', '至 '))}"
    if days.days is None:
        if not year:
            return on_weekdays
        return f"{year}的{on_weekdays}" if on_weekdays else f"{year}每天"
    dates = _dates(days.days)
    if days.months is None:
        dates = f"每月 {dates}"
    else:
        dates = f"{year} {dates}" if len(days.months) == 1 else f"{year}的 {dates}"
    if not on_weekdays:
        return dates
    if days.either:
        return f"{dates}以及{'' if days.months is None else '当月的'}{on_weekdays}"
    return f"{dates}（仅限{on_weekdays.removeprefix('每')}）"


def _dates(days: Values) -> str:
    """``1 日、15 日``, ``1 日至 31 日每 2 天``."""
    step = grid(days)
    if step is not None:
        return f"{days[0]} 日至 {days[-1]} 日每 {step} 天"
    return "、".join(spans(days, lambda day: f"{day} 日", "至 "))


def _weekdays(weekdays: Values) -> str:
    """``周一至周五``, ``每周一``, ``周一、周五``."""
    row = row_of_weekdays(weekdays)
    if row is not None:
        return f"{_WEEKDAYS[row[0]]}至{_WEEKDAYS[row[1]]}"
    names = "、".join(_WEEKDAYS[day] for day in monday_first(weekdays))
    return f"每{names}" if len(weekdays) == 1 else names


# --- times -----------------------------------------------------------------------------------------------------------


def _times(shape: Shape) -> str:
    """The times of day: ``09:00``, ``09:00 至 17:50 每 10 分钟``, ``每小时 05、35 分``."""
    match shape:
        case Times(times):
            return "、".join(clock_words(times))
        case Beat():
            return _beat(shape)
        case Marks(marks, hours):
            every = "每小时" if hours == ALL_HOURS else f"{_part(hours, '时', '小时')}的"
            if any(second for _, second in marks):
                return f"{every} {'、'.join(_mark(*mark, exact=True) for mark in marks)}"
            return f"{every} {'、'.join(two(minute) for minute, _ in marks)} 分"
        case Sets(seconds, minutes, hours):
            every_hour = hours == ALL_HOURS
            hour = "每小时" if every_hour else f"{_part(hours, '时', '小时')}的"
            if seconds == (0,):
                row = _row(minutes, "分", "分钟")
                if row.startswith("每"):
                    return row if every_hour else f"{hour.removesuffix('的')}{row}"
                return f"{hour} {row}"
            at = _row(seconds, "秒", "秒")
            at = at if at.startswith("每") else f"第 {at}"
            if minutes == ALL_MINUTES:
                return f"每分钟的{at}" if every_hour else f"{hour.removesuffix('的')}每分钟的{at}"
            return f"{hour} {_part(minutes, '分', '分钟')}的{at}"


def _beat(beat: Beat) -> str:
    """``每 10 分钟``, and from when to when."""
    hour, minute, second = beat.phase
    every = _every(beat.step, _UNITS[beat.unit])
    if beat.windows:
        windows = "、".join(f"{first} 至 {last}" for first, last in window_words(beat))
        return f"{windows} {every}"
    if beat.phase == (0, 0, 0):
        return every
    if beat.unit == "minute" and beat.step == 1:
        return f"{every}的第 {second} 秒"
    if beat.unit != "hour":
        return f"{every}（从 {_mark(minute, second)}起）"
    if hour:
        return f"{every}（从 {clock_words([beat.phase])[0]} 起）"
    return f"{every}{'' if beat.step == 1 else '的'} {_mark(minute, second)}"


def _every(step: int, unit: str) -> str:
    return f"每{unit}" if step == 1 else f"每 {step} {unit}"


def _row(values: Values, unit: str, step_unit: str) -> str:
    """``每秒``, ``00 至 56 分每 7 分钟``, ``05、10 至 20 分``."""
    step = even_step(values)
    if step is not None and step * len(values) == 60 and values[0] == 0:
        return _every(step, step_unit)
    if step is not None and len(values) > 4:
        return f"{values[0]:02} 至 {values[-1]:02} {unit}{_every(step, step_unit)}"
    return f"{'、'.join(spans(values, two, ' 至 '))} {unit}"


def _part(values: Values, unit: str, step_unit: str) -> str:
    """``09 至 17 时``, ``00 至 22 时（每 2 小时）``."""
    step = grid(values)
    if step is not None:
        return f"{values[0]:02} 至 {values[-1]:02} {unit}（{_every(step, step_unit)}）"
    return f"{'、'.join(spans(values, two, ' 至 '))} {unit}"


def _mark(minute: int, second: int, *, exact: bool = False) -> str:
    """``05 分``: a minute of any hour, with its second if that is not 0."""
    return f"{minute:02} 分 {second:02} 秒" if second or exact else f"{minute:02} 分"

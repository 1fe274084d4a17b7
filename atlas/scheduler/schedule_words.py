"""A schedule in words: its cron texts, intervals and dates, and what bounds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from atlas.scheduler.cron.expression import parse_cron
from atlas.scheduler.zones import zone_named

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Literal

    from atlas.scheduler.schedule import Interval, Schedule

_UNITS: Final = ((86_400, "day", "天"), (3600, "hour", "小时"), (60, "minute", "分钟"), (1, "second", "秒"))
_MANY_DATES: Final = 5


def describe_schedule(schedule: Schedule, language: Literal["en", "zh"]) -> str:
    """``weekdays (Mon to Fri) at 09:00, except on cn_holidays`` or ``周一至周五 09:00，cn_holidays 除外``.

    Raises:
        ValueError: Another language.
    """
    if language not in {"en", "zh"}:
        raise ValueError(f"no language {language!r}; there are 'en' and 'zh'")
    english = language == "en"
    parts = [parse_cron(text, schedule.timezone).describe(language) for text in schedule.cron]
    parts += [_interval(part, schedule.timezone, english=english) for part in schedule.intervals]
    if schedule.dates:
        parts.append(_dates([_local(at, schedule.timezone) for at in schedule.dates], english=english))
    bounds = _bounds(schedule, english=english)
    return (", " if english else "，").join([("; " if english else "；").join(parts), *bounds])


def _interval(interval: Interval, timezone: str, *, english: bool) -> str:
    anchor = _local(interval.anchor, timezone)
    duration = _duration(interval.every_s, english=english)
    if english:
        # "every hour", but "every 1 hour 30 minutes"
        one = duration.removeprefix("1 ")
        return f"every {duration if ' ' in one else one}, counted from {anchor}"
    return f"每 {duration}（自 {anchor} 起算）"


def _duration(seconds: float, *, english: bool) -> str:
    """``1 hour 30 minutes`` or ``1 小时 30 分钟``."""
    words, left = list[str](), seconds
    for size, name, name_zh in _UNITS:
        count, left = divmod(left, size) if size > 1 else (left, 0.0)
        if count:
            number = f"{count:.6f}".rstrip("0").rstrip(".")
            words.append(f"{number} {name}{'' if number == '1' else 's'}" if english else f"{number} {name_zh}")
    return " ".join(words)


def _dates(dates: list[str], *, english: bool) -> str:
    if len(dates) > _MANY_DATES:
        first, last = dates[0], dates[-1]
        return f"{len(dates)} times from {first} to {last}" if english else f"{first} 至 {last} 共 {len(dates)} 次"
    if len(dates) == 1:
        return f"once on {dates[0]}" if english else f"{dates[0]} 一次"
    return f"on {', '.join(dates[:-1])} and {dates[-1]}" if english else "、".join(dates)


def _bounds(schedule: Schedule, *, english: bool) -> list[str]:
    """Begin, end, calendar and spread."""
    bounds: list[str] = []
    if schedule.start_at is not None:
        start = _local(schedule.start_at, schedule.timezone)
        bounds.append(f"not before {start}" if english else f"自 {start} 起")
    if schedule.end_at is not None:
        end = _local(schedule.end_at, schedule.timezone)
        bounds.append(f"not after {end}" if english else f"至 {end} 止")
    if schedule.calendar is not None:
        name = schedule.calendar.name
        bounds.append(f"except on {name}" if english else f"{name} 除外")
    if schedule.spread_s:
        spread = _duration(schedule.spread_s, english=english)
        bounds.append(f"starting up to {spread} later" if english else f"最多延后 {spread}启动")
    return bounds


def _local(instant: datetime, timezone: str) -> str:
    """``2026-10-01 09:00`` in the zone, with seconds if there are any."""
    local = instant.astimezone(zone_named(timezone))
    return f"{local:%Y-%m-%d %H:%M:%S}" if local.second else f"{local:%Y-%m-%d %H:%M}"

"""Time zones by name, and the exact edges of their clock changes."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from tzlocal import get_localzone, get_localzone_name

from atlas.scheduler.errors import ScheduleError
from atlas.scheduler.message import Message
from atlas.scheduler.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL_TIME: Final = Path("/etc/localtime")

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


class Shift(NamedTuple):
    """One change of a zone's clock.

    Attributes:
        at: Instant of the change, aware UTC.
        before: What the clock would have shown at that instant, wall time in the zone.
        after: What it shows instead, wall time in the zone; later than ``before`` over a gap, earlier over a fold.
    """

    at: datetime
    before: datetime
    after: datetime


_OFFSET: Final = re.compile(r"(?:UTC|GMT)? ?([+-])(\d{1,2})(?::?([0-5]\d))?", re.IGNORECASE)
_MOST_EAST, _MOST_WEST = 14, 12
"""Hours of the zones Etc/GMT-14 to Etc/GMT+12."""


def zone_named(timezone: str | tzinfo) -> ZoneInfo:
    """The zone of the tz database with this name; a `ZoneInfo` and plain UTC are taken by their names.

    Raises:
        ScheduleError: There is no such zone; the message proposes the nearest name.
    """
    if timezone is UTC:
        timezone = "UTC"
    name = timezone.key if isinstance(timezone, ZoneInfo) else timezone
    if not isinstance(name, str):
        msg = Message(
            "a time zone is a name of the tz database such as 'Asia/Shanghai', not {given}", given=repr(timezone)
        )
        raise ScheduleError(msg)
    # Files under right/ count leap seconds: their clock is some 27 s off from everybody else's.
    if not name.startswith(("right/", "posix/")):
        with suppress(KeyError, OSError, ValueError):  # no such file, a directory, a path that leaves the database
            return ZoneInfo(name)
    hint = Message("names look like 'Asia/Shanghai' or 'UTC'")
    if offset := _OFFSET.fullmatch(name.strip()):  # the nearest name would be UTC, hours away
        sign, most = ("-", _MOST_EAST) if offset[1] == "+" else ("+", _MOST_WEST)
        if int(offset[2]) <= most and offset[3] in {None, "00"}:
            hint = Message(
                "a fixed offset is written {name}, with its sign turned round; a place such as 'Asia/Shanghai' follows"
                " the clock there",
                name=repr(f"Etc/GMT{sign}{int(offset[2])}"),
            )
    elif meant := _meant(name):
        hint = Message("did you mean {name}?", name=repr(meant))
    raise ScheduleError(Message("no time zone {name}; {hint}", name=repr(name[:60]), hint=hint))


def local_zone_name() -> str:
    """The name of this machine's zone, by the variable ``TZ`` or the system's files; ``UTC`` where neither says one.

    Raises:
        ScheduleError: It has no name: ``/etc/localtime`` is a copied file, or ``TZ`` holds rules such as ``CST-8``.
    """
    with suppress(KeyError, OSError, ValueError):
        # Where it cannot read TZ, the first passes over it and names a zone that is not in force; the second refuses.
        if os.environ.get("TZ") or get_localzone_name() is not None:
            return zone_named(get_localzone().key).key
    if not os.environ.get("TZ") and not LOCAL_TIME.exists():
        return "UTC"  # tzset(3)
    msg = Message(
        "the time zone of this machine has no name (TZ={tz}, {file}); set scheduler.timezone, or the variable TZ, to"
        " one such as 'Asia/Shanghai'",
        tz=repr(os.environ.get("TZ", "")),
        file=str(LOCAL_TIME),
    )
    raise ScheduleError(msg)


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    """Every way in which a zone may be meant, lower case, to its name."""
    zones = sorted(available_timezones())
    cities = {zone.rsplit("/", 1)[-1].lower(): zone for zone in reversed(zones) if "/" in zone}
    return cities | {zone.lower(): zone for zone in zones}


def _meant(name: str) -> str | None:
    """The name most like ``name``: equal but for case or spaces, the city alone, or nearly the same letters."""
    wanted = name[:60].strip().lower().replace(" ", "_").removeprefix("right/").removeprefix("posix/")
    close = nearest(wanted, _names(), cutoff=0.7)
    return None if close is None else _names()[close]


def local_time(instant: datetime, zone: ZoneInfo) -> datetime:
    """``instant`` as the clock in ``zone`` shows it, with the right fold.

    It goes through UTC: a wall time inside a gap is otherwise handed back as it is.

    Raises:
        ValueError: ``instant`` is naive.
    """
    if instant.tzinfo is None or instant.utcoffset() is None:
        raise ValueError(f"{instant!r} has no time zone; give an aware datetime")
    return instant.astimezone(UTC).astimezone(zone)


def shift_around(wall: datetime) -> Shift | None:
    """The change that makes ``wall`` (its tzinfo is a zone) stand in a gap or a fold; None when it happens once.

    Changes of one zone lie at least days apart, which is what makes the search for the one second exact.
    """
    first, second = wall.replace(fold=0).utcoffset(), wall.replace(fold=1).utcoffset()
    zone = wall.tzinfo
    if first is None or second is None or first == second:
        return None
    naive = wall.replace(tzinfo=None, fold=0, microsecond=0)
    # The old offset holds at `low`, the new one at `high`: PEP 495 gives the old one to fold 0, in a gap as in a fold.
    low = (naive - max(first, second)).replace(tzinfo=UTC) - _SECOND
    high = (naive - min(first, second)).replace(tzinfo=UTC) + _SECOND
    return _shift_between(low, high, zone)


def shifts(zone: tzinfo, after: datetime, until: datetime) -> Iterator[Shift]:
    """The zone's changes in ``after`` < t <= ``until``, in order, but for two that lie less than a day apart."""
    low, end = (instant.astimezone(UTC).replace(microsecond=0) for instant in (after, until))
    while low < end:
        high = min(low + _DAY, end)
        if high.astimezone(zone).utcoffset() != low.astimezone(zone).utcoffset():
            yield _shift_between(low, high, zone)
        low = high


def _shift_between(low: datetime, high: datetime, zone: tzinfo | None) -> Shift:
    """The one change between two instants, whole seconds in UTC, at which the zone has different offsets."""
    first, second = (instant.astimezone(zone).utcoffset() or timedelta() for instant in (low, high))
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if middle.astimezone(zone).utcoffset() == first:
            low = middle
        else:
            high = middle
    naive = high.replace(tzinfo=None)
    return Shift(high, (naive + first).replace(tzinfo=zone), (naive + second).replace(tzinfo=zone))

"""`CronExpression`: when a cron text fires, in any zone, exactly and without side effects.

Day rule and daylight saving are Debian's (crontab(5), cron(8))::

    field begins with *       rule
    day of month or weekday   both day fields must take a day; else one of them is enough
    minute or hour            follows the wall clock: silent in a gap, twice in a fold
    neither minute nor hour   each time of day once: right after the gap, in the first pass of the fold

Debian leaves the second rule at clock changes of more than three hours (a zone that crosses the date line); here it
holds for these too, so that no fixed time is ever lost or served twice.
"""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from atlas.scheduler.cron.calendar import CronCalendar
from atlas.scheduler.cron.fields import CronFields, parse_fields
from atlas.scheduler.cron.words import describe_fields
from atlas.scheduler.errors import CronExpressionError
from atlas.scheduler.message import Message
from atlas.scheduler.zones import Shift, local_time, shift_around, zone_named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

_REACH_YEARS: Final = 50
"""How far a search goes. The rarest date, 29 February on a given weekday, comes again within 40 years."""
_MICROSECOND: Final = timedelta(microseconds=1)


class CronExpression:
    """A cron text in a time zone: immutable, hashable, equal when text and zone are.

    Five fields (minute, hour, day of month, month, weekday), or six with seconds first; ``@hourly`` and its kin.

    >>> start = datetime(2026, 11, 23, 8, 35, tzinfo=UTC)
    >>> CronExpression("0 9 * * mon-fri", "Asia/Shanghai").next_after(start).isoformat()
    '2026-11-24T09:00:00+08:00'

    Args:
        expression: The text, names and aliases in any case.
        timezone: Name of a zone of the tz database, or a `ZoneInfo`.

    Raises:
        CronExpressionError: The text is wrong or never fires.
        ScheduleError: There is no such zone.
    """

    __slots__ = ("_calendar", "_hash", "_steady", "_zone", "expression", "fields", "timezone")

    expression: str
    """The text, lower case, with single blanks."""
    timezone: str
    fields: CronFields
    """What the text means."""
    _zone: ZoneInfo
    _steady: bool  # the zone never changes its offset
    _calendar: CronCalendar
    _hash: int

    def __init__(self, expression: str, timezone: str | ZoneInfo = "UTC") -> None:
        fields = parse_fields(expression)
        zone = zone_named(timezone)
        put = object.__setattr__
        put(self, "expression", fields.text)
        put(self, "timezone", zone.key)
        put(self, "fields", fields)
        put(self, "_zone", zone)
        put(self, "_steady", zone.utcoffset(None) is not None)
        put(self, "_calendar", CronCalendar(fields, zone))
        put(self, "_hash", hash((fields.text, zone.key)))
        # A job that follows the wall clock may name nothing but wall times its zone always leaves out, such as
        # */30 2 on the last Sunday of March in Berlin. From 2026 on: what ended long ago is not a schedule either.
        if fields.wildcard and len(fields.hours) < 24 and self.next_after(datetime(2026, 1, 1, tzinfo=UTC)) is None:
            msg = Message(
                "never fires: clock changes in {zone} leave out every hour and minute it names;"
                " without a star in minute and hour it would fire right after the gap",
                zone=zone.key,
            )
            raise CronExpressionError(expression, msg, field="hour", token=fields.text)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a cron expression does not change; make another one ({name})")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CronExpression):
            return NotImplemented
        return self.expression == other.expression and self.timezone == other.timezone

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"CronExpression({self.expression!r}, timezone={self.timezone!r})"

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        """Copies and pickles hold the two texts and nothing else."""
        return parse_cron, (self.expression, self.timezone)

    def next_after(self, instant: datetime) -> datetime | None:
        """First fire time strictly after ``instant``, in the expression's zone; None past the year 9998.

        Also None if clock changes swallow every wall time it names for the next 50 years.

        Raises:
            ValueError: ``instant`` is naive.
        """
        try:
            now = local_time(instant, self._zone)
        except OverflowError:  # no clock of the zone shows it
            if instant.year < MAXYEAR:
                raise
            return None
        last_year = min(now.year + _REACH_YEARS, 9998)
        if not self._steady and (now.fold or self.fields.wildcard):
            fold = shift_around(now)
            if fold is not None:
                return self._next_in_fold(now, fold, last_year)
        found = self._calendar.from_wall(now, last_year, strictly=True)
        return found if self._steady else self._next_shown(found, last_year)

    def previous_before(self, instant: datetime) -> datetime | None:
        """Last fire time strictly before ``instant``, in the expression's zone; None before the year 2.

        Also None if clock changes swallow every wall time it names for the 50 years before.

        Raises:
            ValueError: ``instant`` is naive.
        """
        try:
            now = local_time(instant, self._zone)
        except OverflowError:
            if instant.year > MINYEAR:
                raise
            return None
        first_year = max(now.year - _REACH_YEARS, 2)
        if not self._steady and (now.fold or self.fields.wildcard):
            fold = shift_around(now)
            if fold is not None:
                return self._previous_in_fold(now, fold, first_year)
        found = self._calendar.before_wall(now, first_year)
        return found if self._steady else self._previous_shown(found, now, first_year)

    def matches(self, instant: datetime) -> bool:
        """True if ``instant`` is a fire time, to the microsecond.

        Raises:
            ValueError: ``instant`` is naive.
        """
        # In UTC: subtracting on the wall clock of a zone can end inside a gap, which is later, not earlier.
        at = local_time(instant, self._zone).astimezone(UTC)
        found = self.next_after(at - _MICROSECOND)
        return found is not None and found.astimezone(UTC) == at

    def iter_after(self, instant: datetime) -> Iterator[datetime]:
        """Every fire time strictly after ``instant``, ascending.

        Raises:
            ValueError: ``instant`` is naive.
        """
        found = self.next_after(instant)
        while found is not None:
            yield found
            found = self.next_after(found)

    def describe(self, language: Literal["en", "zh"] = "en") -> str:
        """The expression in words, without its zone: ``weekdays (Mon to Fri) at 09:00`` or ``周一至周五 09:00``.

        Raises:
            ValueError: Another language.
        """
        return describe_fields(self.fields, language)

    # --- clock changes -----------------------------------------------------------------------------------------------
    # A wall time is an aware datetime here. Within one zone Python compares and subtracts what the clock shows, which
    # is what these four want; a fold is given as its Shift: it lasts from `fold.after` up to `fold.before`.

    def _next_shown(self, found: datetime | None, last_year: int) -> datetime | None:
        """The instant of wall time ``found``, or if the clock leaves it out, of what takes its place."""
        while found is not None:
            first, second = found.utcoffset(), found.replace(fold=1).utcoffset()
            if first == second or first > second:  # type: ignore[operator]  # zones always have an offset
                return found
            gap = shift_around(found)
            assert gap is not None
            if not self.fields.wildcard:
                return gap.at.astimezone(self._zone)
            found = self._calendar.from_wall(gap.after, last_year)
        return None

    def _next_in_fold(self, now: datetime, fold: Shift, last_year: int) -> datetime | None:
        """`next_after` for an instant in either pass of a fold."""
        if not self.fields.wildcard:  # in the second pass: the first has served all of it
            return self._next_shown(self._calendar.from_wall(fold.before, last_year), last_year)
        found = self._calendar.from_wall(now, last_year, strictly=True)
        if found is not None and found < fold.before:
            return found.replace(fold=now.fold)
        if now.fold == 0:
            again = self._calendar.from_wall(fold.after, last_year)
            if again is not None and again < fold.before:
                return again.replace(fold=1)
        return self._next_shown(found, last_year)

    def _previous_shown(self, found: datetime | None, now: datetime, first_year: int) -> datetime | None:
        """The last instant of wall time ``found``, or if the clock leaves it out, of what takes its place."""
        while found is not None:
            shift = shift_around(found)
            if shift is None:
                return found
            if shift.before > shift.after:
                return found.replace(fold=1) if self.fields.wildcard else found
            if not self.fields.wildcard and shift.at < now:
                return shift.at.astimezone(self._zone)
            found = self._calendar.before_wall(shift.before, first_year)
        return None

    def _previous_in_fold(self, now: datetime, fold: Shift, first_year: int) -> datetime | None:
        """`previous_before` for an instant in either pass of a fold."""
        if now.fold == 0 or self.fields.wildcard:
            found = self._calendar.before_wall(now, first_year)
            if found is not None and found >= fold.after:
                return found.replace(fold=now.fold)
        if now.fold == 1:
            found = self._calendar.before_wall(fold.before, first_year)
            if found is not None and found >= fold.after:
                return found
        return self._previous_shown(self._calendar.before_wall(fold.after, first_year), now, first_year)


@lru_cache(maxsize=32_768)
def parse_cron(expression: str, timezone: str | ZoneInfo = "UTC") -> CronExpression:
    """The one shared `CronExpression` of this text and zone; raises what that raises."""
    return CronExpression(expression, timezone)

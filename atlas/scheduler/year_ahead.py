"""What a schedule amounts to: how often it fires in a year, and what its zone's next clock change does to it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Final, Literal

from atlas.scheduler.cron.expression import parse_cron
from atlas.scheduler.zones import shifts, zone_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from atlas.scheduler.schedule import Schedule

YEAR: Final = timedelta(days=365)
COUNTED: Final = 10_000
"""Fire times of a year that are counted one by one; beyond it their number is worked out."""
_REACH: Final = timedelta(days=400)
_SECOND: Final = timedelta(seconds=1)
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class ClockChange:
    """The next change of a zone's clock, as a schedule meets it.

    Attributes:
        at: The instant, aware UTC.
        before: What its clock would have shown, naive wall time.
        after: What it shows instead.
        times: Wall times the schedule names among those left out, or shown twice; at most a few of them.
        follows: True if one of its cron texts begins minute or hour with a star and so follows the wall clock.
        fixed: True if one of them names fixed times.
    """

    at: datetime
    zone: str
    before: datetime
    after: datetime
    times: tuple[datetime, ...]
    follows: bool
    fixed: bool

    @property
    def is_gap(self) -> bool:
        """True if the clock goes forward, False if it goes back."""
        return self.after > self.before

    def describe(self, language: Literal["en", "zh"] = "en") -> str:
        """One sentence on what happens then."""
        return self._chinese() if language == "zh" else self._english()

    def _english(self) -> str:
        turn = "forward" if self.is_gap else "back"
        begin = f"{self.before:%a %d %b %Y %H:%M} the clock of {self.zone} goes {turn} to {self.after:%H:%M}: "
        if not self.times:
            return begin + "nothing is due in between, nothing changes"
        named = self._named(", ", " …")
        if self.is_gap:
            fixed = f"{named} does not come that day, it fires right after, at {self.after:%H:%M}"
            star = f"{named} does not come that day and is left out"
        else:
            fixed = f"{named} comes twice, it fires the first time only"
            star = f"{named} comes twice and fires both times"
        return begin + "; ".join(part for part, holds in ((fixed, self.fixed), (star, self.follows)) if holds)

    def _chinese(self) -> str:
        turn = "拨快" if self.is_gap else "拨回"
        begin = f"{self.before:%Y-%m-%d %H:%M} {self.zone} 的时钟{turn}到 {self.after:%H:%M}："
        if not self.times:
            return begin + "其间没有任务到期，不受影响"
        named = self._named("、", " 等")
        if self.is_gap:
            fixed = f"当天没有 {named}，改在其后的 {self.after:%H:%M} 立即执行"
            star = f"当天没有 {named}，不执行"
        else:
            fixed = f"{named} 出现两次，只在第一次执行"
            star = f"{named} 出现两次，两次都执行"
        return begin + "；".join(part for part, holds in ((fixed, self.fixed), (star, self.follows)) if holds)

    def _named(self, comma: str, more: str) -> str:
        shown = [f"{at:%H:%M:%S}" if at.second else f"{at:%H:%M}" for at in self.times[:_SHOWN]]
        return comma.join(shown) + (more if len(self.times) > _SHOWN else "")


def explained(schedule: Schedule, now: datetime, count: int) -> dict[str, Any]:
    """A schedule in words of both languages, how often, its clock change and next ``count`` times, as JSON."""
    change, zone = next_clock_change(schedule, now), zone_named(schedule.timezone)
    return {
        "timezone": schedule.timezone,
        "words": {"en": schedule.describe("en"), "zh": schedule.describe("zh")},
        "times_a_year": times_a_year(schedule, now)[0],
        "clock_change": change
        and {"at": change.at.isoformat(), "words": {"en": change.describe("en"), "zh": change.describe("zh")}},
        "next": [at.astimezone(zone).isoformat() for at in islice(fire_times(schedule, now), count)],
    }


def fire_times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Its fire times behind ``after``, as long as there are any."""
    found = schedule.next_after(after)
    while found is not None:
        yield found
        found = schedule.next_after(found)


def next_clock_change(schedule: Schedule, after: datetime) -> ClockChange | None:
    """The next change of the schedule's zone behind ``after``; None if none comes within 400 days."""
    zone = zone_named(schedule.timezone)
    shift = next(shifts(zone, after, after + _REACH), None)
    if shift is None:
        return None
    old, new = shift.before.replace(tzinfo=None), shift.after.replace(tzinfo=None)
    low, high = min(old, new), max(old, new)
    times: set[datetime] = set()
    follows = fixed = False
    for text in schedule.cron:
        # On a clock that never changes, the wall times of a text are its fire times.
        steady = parse_cron(text, "UTC")
        found = [
            wall.replace(tzinfo=None)
            for wall in islice(steady.iter_after(low.replace(tzinfo=UTC) - _SECOND), _SHOWN + 1)
            if wall.replace(tzinfo=None) < high
        ]
        times.update(found)
        if found:
            follows, fixed = follows or steady.fields.wildcard, fixed or not steady.fields.wildcard
    return ClockChange(shift.at, zone.key, old, new, tuple(sorted(times)), follows, fixed)


def times_a_year(schedule: Schedule, now: datetime) -> tuple[int, bool]:
    """Fire times in the 365 days from ``now``, and whether that is their exact number.

    Up to `COUNTED` they are counted; beyond it each cron text counts with its days times its times of day, each
    interval with its length.
    """
    end = now + YEAR
    counted = _count_until(end, islice(fire_times(schedule, now), COUNTED + 1))
    return (counted, True) if counted <= COUNTED else (round(_worked_out(schedule, now, end)), False)


def _count_until(end: datetime, instants: Iterable[datetime]) -> int:
    return sum(1 for _ in takewhile(lambda at: at <= end, instants))


def _worked_out(schedule: Schedule, now: datetime, end: datetime) -> float:
    begin = max(now, schedule.start_at) if schedule.start_at else now
    end = min(end, schedule.end_at) if schedule.end_at else end
    total = sum((end - begin).total_seconds() / interval.every_s for interval in schedule.intervals)
    total += sum(begin < at <= end for at in schedule.dates)
    for text in schedule.cron:
        fields = parse_cron(text, schedule.timezone).fields
        days = "* * *" if text.startswith("@") else " ".join(fields.text.split()[-3:])
        on = _count_until(end, parse_cron(f"0 12 {days}", "UTC").iter_after(begin))
        total += on * len(fields.hours) * len(fields.minutes) * len(fields.seconds)
    return total

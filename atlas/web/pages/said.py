"""Times, durations and figures as a page says them, in the scheduler's zone and the reader's language."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from atlas.scheduler.message import with_instants

if TYPE_CHECKING:
    from datetime import tzinfo

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
NOTHING: Final = "–"


class Said:
    """Says instants and durations."""

    def __init__(self, zone: tzinfo, zone_name: str, language: str, now: datetime) -> None:
        self.zone, self.zone_name, self.now = zone, zone_name, now
        self.zh = language == "zh"

    def local(self, at: datetime) -> datetime:
        """``at`` in the zone of the page."""
        return at.astimezone(self.zone)

    def clock(self, at: datetime | None, *, seconds: bool = True) -> str:
        """``16:40:00``."""
        return NOTHING if at is None else f"{self.local(at):{'%H:%M:%S' if seconds else '%H:%M'}}"

    def day(self, at: datetime) -> str:
        """``Tue 24 Nov``, with the year if it is another one."""
        local, year = self.local(at), self.local(self.now).year
        if self.zh:
            other = f"{local.year}年" if local.year != year else ""
            return f"{other}{local.month}月{local.day}日 周{'一二三四五六日'[local.weekday()]}"
        other = f" {local.year}" if local.year != year else ""
        return f"{_DAYS[local.weekday()]} {local.day} {_MONTHS[local.month - 1]}{other}"

    def date(self, at: datetime) -> str:
        """``24 Nov``."""
        local = self.local(at)
        return f"{local.month}月{local.day}日" if self.zh else f"{local.day} {_MONTHS[local.month - 1]}"

    def moment(self, at: datetime | None, *, seconds: bool = True) -> str:
        """The clock time, with its day unless that is today."""
        if at is None:
            return NOTHING
        same = self.local(at).date() == self.local(self.now).date()
        return self.clock(at, seconds=seconds) if same else f"{self.day(at)} {self.clock(at, seconds=False)}"

    def full(self, at: datetime | None) -> str:
        """Everything, with the offset from UTC: for tooltips and facts."""
        if at is None:
            return NOTHING
        local = self.local(at)
        offset = f"{local:%z}"
        return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d} {offset[:3]}:{offset[3:]}"

    def exact(self, at: datetime | None) -> str:
        """To the millisecond, with the date unless that is today."""
        if at is None:
            return NOTHING
        text = self.full(at)
        return text[11:23] if self.local(at).date() == self.local(self.now).date() else text[:23]

    def within_text(self, text: str) -> str:
        """``text`` with the instants in it as `moment` says them."""
        return with_instants(text, self.moment)

    def iso(self, at: datetime | None) -> str:
        """For the ``datetime`` attribute."""
        return "" if at is None else at.astimezone(UTC).isoformat(timespec="seconds")

    def within(self, at: datetime | None) -> str:
        """``in 4m 33s`` or ``due now``."""
        if at is None:
            return NOTHING
        left = (at - self.now).total_seconds()
        if left < 0.5:
            return "即将" if self.zh else "due now"
        return f"{self.rough(left)} 后" if self.zh else f"in {self.rough(left)}"

    def ago(self, at: datetime | None) -> str:
        """``5m 27s ago``."""
        if at is None:
            return NOTHING
        past = max(0.0, (self.now - at).total_seconds())
        return f"{self.rough(past)} 前" if self.zh else f"{self.rough(past)} ago"

    def age(self, at: datetime | None) -> str:
        """``5m``: one unit, for narrow columns."""
        if at is None:
            return NOTHING
        return self.rough(max(0.0, (self.now - at).total_seconds())).split(" ")[0]

    @staticmethod
    def rough(seconds: float) -> str:
        """A distance in whole units, two at most; minutes alone from ten on."""
        whole = round(seconds)
        if whole < 60:
            return f"{whole}s"
        minutes, rest = divmod(whole, 60)
        if minutes < 60:
            return f"{minutes}m {rest:02d}s" if minutes < 10 else f"{minutes}m"
        hours, minutes = divmod(minutes, 60)
        if hours < 24:
            return f"{hours}h {minutes:02d}m"
        days, hours = divmod(hours, 24)
        return f"{days}d {hours}h" if days < 30 else f"{days}d"

    @staticmethod
    def duration(seconds: float | None) -> str:
        """How long something took: ``410 ms``, ``11.8 s``, ``3m 12s``, ``1h 05m``."""
        if seconds is None:
            return NOTHING
        if seconds < 0.9995:
            return f"{seconds * 1000:.0f} ms"
        if seconds < 59.95:
            return f"{seconds:.1f} s"
        minutes, rest = divmod(round(seconds), 60)
        if minutes < 60:
            return f"{minutes}m {rest:02d}s"
        hours, minutes = divmod(minutes, 60)
        return f"{hours}h {minutes:02d}m" if hours < 48 else f"{hours // 24}d {hours % 24}h"

    @staticmethod
    def percent(value: float | None) -> str:
        """A rate with one digit, cut and not rounded: 99.96 is not 100."""
        if value is None:
            return NOTHING
        cut = int(value * 10) / 10
        return f"{cut:.0f}" if cut == int(cut) else f"{cut:.1f}"

    @staticmethod
    def count(value: float) -> str:
        """A number with its thousands apart."""
        return f"{value:,.0f}"

    @staticmethod
    def size(count: float) -> str:
        """Bytes as people read them."""
        for unit in ("B", "kB", "MB", "GB"):
            if count < 1000:
                return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
            count /= 1000
        return f"{count:.1f} TB"

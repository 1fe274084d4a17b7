"""Clocks that a test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from atlas.scheduler.clock import SystemClock


class SetClock(SystemClock):
    """A clock whose wall time stands still until somebody sets it; waiting and durations are the machine's.

    Attributes:
        instant: What `now` says, aware UTC.
    """

    __slots__ = ("instant",)

    def __init__(self, instant: datetime) -> None:
        self.instant = instant

    def now(self) -> datetime:
        """The instant it was set to."""
        return self.instant


class VirtualClock(SetClock):
    """A clock on which nothing takes time: wall time and durations move together, by `pass_s` alone.

    `set_by_s` and `sleep_s` do to it what people and machines do to clocks. It stands at ``start`` at first, by default
    now.

    Raises:
        ValueError: ``start`` has no zone.
    """

    __slots__ = ("_monotonic_s", "_slept_s")

    def __init__(self, start: datetime | None = None) -> None:
        if start is not None and start.tzinfo is None:
            raise ValueError(f"start {start} has no zone: datetime(…, tzinfo=UTC)")
        super().__init__(datetime.now(UTC) if start is None else start.astimezone(UTC))
        self._monotonic_s = self._slept_s = 0.0

    def monotonic(self) -> float:
        """Seconds that have passed on this clock."""
        return self._monotonic_s

    def boot(self) -> float:
        """`monotonic` and what was slept."""
        return self._monotonic_s + self._slept_s

    def pass_s(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.instant += timedelta(seconds=seconds)
        self._monotonic_s += seconds

    def set_by_s(self, seconds: float) -> None:
        """Set the wall clock forward by ``seconds``, or back by a negative number; no time passes."""
        self.instant += timedelta(seconds=seconds)

    def sleep_s(self, seconds: float) -> None:
        """Let the machine sleep: time passes, and durations do not see it (CLOCK_MONOTONIC of Linux)."""
        self.instant += timedelta(seconds=seconds)
        self._slept_s += seconds

    def pass_until(self, monotonic_s: float) -> None:
        """Let time pass until `monotonic` says exactly this; does nothing when it is over already."""
        if monotonic_s > self._monotonic_s:
            self.instant += timedelta(seconds=monotonic_s - self._monotonic_s)
            self._monotonic_s = monotonic_s

"""The only source of time: everything that asks for the time, or waits for it, is given a `Clock`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading


class Clock(Protocol):
    """Two clocks and one wait: UTC for people, monotonic for durations."""

    def now(self) -> datetime:
        """The instant, aware UTC. It steps when somebody sets the machine's clock."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean something."""

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> bool:
        """Wait on a held ``condition`` for at most ``timeout_s`` seconds (None: for ever); False when time ran out."""


def boot_s() -> float:
    """Seconds since the machine started, what it slept included; only differences mean something."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def until_next_s(clock: Clock, every_s: float) -> float:
    """Seconds until the next whole multiple of ``every_s``, above zero.

    What several threads look at regularly is looked at together then: a processor at rest wakes once, with one cold
    cache.
    """
    return every_s - clock.monotonic() % every_s


class SystemClock:
    """The machine's clock."""

    __slots__ = ()

    def now(self) -> datetime:
        """The instant, aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """`time.monotonic`."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> bool:
        """`threading.Condition.wait`."""
        return condition.wait(timeout_s)

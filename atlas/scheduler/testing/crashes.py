"""Lets a process die at a named place: `crash_at`.

::

    def test_a_death_before_commit_loses_no_digest(crash_at, tmp_path):
        with VirtualTime(MORNING, store=tmp_path / "crash.db") as time:
            time.cron.sync.add_job("digest", "0 9 * * *", "send_digest")
            crash_at(CrashPoint.COMMIT_BEFORE_COMMIT, how="raise")
            with pytest.raises(Killed):
                time.advance(hours=2)
            time.kill()
        with VirtualTime(MORNING, store=tmp_path / "crash.db") as time:  # the next start
            time.advance(hours=2)
            assert time.decisions("digest") == ["09:00 task"]
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from atlas.scheduler import crash_points
from atlas.scheduler.crash_points import CrashPoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Killed(BaseException):
    """The process counts as dead: what its code still tries to do never happened."""


def crash_at(point: CrashPoint | str, *, nth: int = 1, how: Literal["kill", "raise"] = "kill") -> None:
    """Let this process die at ``point``; `disarm` takes it back. Only one point is armed at a time.

    Args:
        point: Where; see `CrashPoint` for what must hold after each.
        nth: At how manieth passing by, from 1.
        how: ``kill`` is SIGKILL, for a child process of the test. ``raise`` raises `Killed` out of `VirtualTime` or
            `InlineQueue`, which write nothing more; call their ``kill()`` then and open another one on the same file.

    Raises:
        ValueError: There is no such point, or ``nth`` is less than 1.
    """
    wanted = CrashPoint(point)
    if nth < 1:
        raise ValueError(f"nth is {nth}; the first passing by is 1")
    left = nth

    def look(passed: CrashPoint) -> None:
        nonlocal left
        if passed is wanted:
            left -= 1
            if left == 0:
                _die(how)

    crash_points.armed = look


def disarm() -> None:
    """Let nobody die any more."""
    crash_points.armed = None


@contextmanager
def disarmed_after() -> Iterator[Callable[..., None]]:
    """`crash_at`, disarmed at the end."""
    try:
        yield crash_at
    finally:
        disarm()


def _die(how: Literal["kill", "raise"]) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    disarm()
    raise Killed

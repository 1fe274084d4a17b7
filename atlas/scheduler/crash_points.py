"""Named places at which a test lets a process die: every edge of every transaction.

Off, a place costs one look at `armed` per commit, start or apply, never one per task.
`atlas.scheduler.testing.crash_at` arms one.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class CrashPoint(enum.StrEnum):
    """Where, and what a death there must not do."""

    COMMIT_BEFORE_BEGIN = "commit: before BEGIN"
    """Nothing of the batch is on disk: who waits for it was told nothing, what ran runs again."""
    COMMIT_BEFORE_COMMIT = "commit: before COMMIT"
    """Every statement has run and nothing of it stays: neither a fire time nor a task nor a counter."""
    COMMIT_AFTER_COMMIT = "commit: after COMMIT"
    """All of it stays and nobody here knows: tasks are served by the next owner, fire times are not served again."""
    COMMIT_AFTER_HAND_OVER = "commit: after the hand-over"
    """The queue has the tasks and nobody was told: as before, and what was begun since counts as begun."""


armed: Callable[[CrashPoint], None] | None = None
"""Called with each point that is reached; None while no test wants to die."""

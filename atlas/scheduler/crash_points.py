"""Named places at which a test lets a process die: the edges of every transaction, and of what is done between them.

Off, a place costs a look at a variable, and places stand where a commit, a start or an apply passes, never a task.
`atlas.scheduler.testing.crash_at` arms one.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class CrashPoint(enum.StrEnum):
    """Where, and what must be true after a death there."""

    COMMIT_BEFORE_BEGIN = "commit: before BEGIN"
    """Nothing of the batch is on disk: who waits for it was told nothing, and what ran runs again."""
    COMMIT_BEFORE_FINAL_ROWS = "commit: before the final rows"
    """New tasks are inserted, ends are not: the whole transaction goes."""
    COMMIT_AFTER_FINAL_ROWS = "commit: after the final rows"
    """Ends are written, counters are not: the whole transaction goes, so rows and counters never differ."""
    COMMIT_BEFORE_COMMIT = "commit: before COMMIT"
    """Every statement has run and nothing of it stays: neither a fire time nor a task nor a counter."""
    COMMIT_AFTER_COMMIT = "commit: after COMMIT"
    """All of it stays and nobody here knows: tasks are served by the next owner, fire times are not served again."""
    COMMIT_AFTER_HAND_OVER = "commit: after the hand-over"
    """The queue has the tasks and nobody was told: what was begun since counts as begun."""
    CLAIM_BEFORE_ENTRY = "claim: RUNNING is on disk, the function is not entered"
    """``on_crash: "fail"`` ends FAILED though it never ran (at most once); anything else counts a crash and runs."""
    PASS_FIRES_WRITTEN = "pass: fire times are written, tasks are not"  # noqa: S105 - no password
    """A fire time never stands without its task."""
    PASS_WRITTEN = "pass: written, before COMMIT"  # noqa: S105 - no password
    """Fire times, tasks and next starts go together: the next start decides again."""
    PASS_COMMITTED = "pass: after COMMIT, before its tasks are released"  # noqa: S105 - no password
    """Its tasks are served by the next owner, and none of its fire times is decided again."""
    LEAD_CLAIMED = "lead: the lease is written, before COMMIT"
    """The one before still leads, on paper; whoever comes next takes over from it."""
    LEAD_TAKEN = "lead: taken, nothing is recovered"
    """The next owner recovers what the last but one left."""
    RECOVERY_WRITTEN = "recovery: written, before COMMIT"
    """No crash is counted twice."""
    RECOVERY_COMMITTED = "recovery: after COMMIT, nothing is served yet"
    """What waits again waits still; what has not begun anew counts no further crash."""
    STOP_DRAINED = "stop: drained, before the mark of a clean stop"
    """The next start takes it for a crash, finds nothing running, and loses nothing."""
    SCHEMA_MADE = "schema: tables are made, the version is not noted"
    """The next start finds no tables, or all of them with their version."""
    APPLY_FILE_WRITTEN = "apply: the new text stands beside the file"
    """The old file is in force."""
    APPLY_BEFORE_REQUEST = "apply: before the request"
    """As before: nobody has asked for the new text."""
    APPLY_REQUESTED = "apply: requested, the file is the old one"
    """The request is for a text that no file holds: the old one stays in force."""
    APPLY_FILE_REPLACED = "apply: the file is replaced"
    """The next start puts the new text in force, since somebody asked for it."""
    APPLY_BEFORE_ROWS = "apply: before the rows of jobs"
    """The rows are those of the old revision; the next start applies the new text."""
    APPLY_ROWS_WRITTEN = "apply: rows are written, the revision is not"
    """The whole transaction goes."""
    APPLY_REVISION_WRITTEN = "apply: the revision is written, those who asked are not answered"
    """The whole transaction goes."""
    APPLY_ANSWERED = "apply: everything but COMMIT"
    """The whole transaction goes."""
    APPLY_COMMITTED = "apply: after COMMIT, memory is the old one"
    """The new revision is in force."""


armed: Callable[[CrashPoint], None] | None = None
"""Called with each point that is reached; None while no test wants to die."""


def reached(point: CrashPoint) -> None:
    """Die here, if a test wants that."""
    if armed is not None:
        armed(point)

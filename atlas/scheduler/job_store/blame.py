"""Who is to blame for a pass that cannot be written: it is written without these jobs.

::

    the whole pass ──► refused, though an empty one is taken
      ├─ one half  ──► written
      └─ the other ──► refused ── its halves, and so on, down to the jobs that are refused each for itself
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from atlas.scheduler.job_store.passes import Written
from atlas.scheduler.store.refusals import is_jobs_own

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.job_store.passes import Pass


class Shared(NamedTuple):
    """What became of a pass."""

    written: Written
    refused: dict[str, Exception]
    """Jobs of which nothing was written → why."""


def write_without_refused(
    connection: Connection, decided: Pass, suspects: Collection[str], write: Callable[[Connection, Pass], Written]
) -> Shared:
    """Write a pass, without the jobs that the database refuses or that raise.

    ``suspects`` were refused before: each is written for itself, so that the others need no second try.

    Raises:
        Exception: What ``write`` raised, where no job is to blame: the database is unwell, or refuses an empty pass.
    """
    sharing = _Sharing(connection, write)
    trusted = [job_id for job_id in decided.job_ids if job_id not in suspects]
    groups = [trusted, *([job_id] for job_id in decided.job_ids if job_id in suspects)]
    whole = len(groups) == 1
    for group in filter(None, groups):
        sharing.share(decided if whole else decided.only(group), group)
    return Shared(sharing.written, sharing.refused)


class _Sharing:
    """One pass that is written in parts, each in a savepoint of its own."""

    def __init__(self, connection: Connection, write: Callable[[Connection, Pass], Written]) -> None:
        self._connection, self._write = connection, write
        self._takes_nothing = False
        self.written = Written([], [])
        self.refused: dict[str, Exception] = {}

    def share(self, part: Pass, job_ids: Sequence[str]) -> None:
        """Write ``part``, or of it what can be written."""
        try:
            with self._connection.begin_nested():
                written = self._write(self._connection, part)
        except Exception as error:
            if not is_jobs_own(error) or not self._is_job_to_blame(part):
                raise
            if len(job_ids) == 1:
                self.refused[job_ids[0]] = error
                return
            middle = len(job_ids) // 2
            for half in (job_ids[:middle], job_ids[middle:]):
                self.share(part.only(half), half)
        else:
            self.written.tasks.extend(written.tasks)
            self.written.events.extend(written.events)

    def _is_job_to_blame(self, part: Pass) -> bool:
        """True if a pass of no jobs can be written; found out once."""
        if not self._takes_nothing:
            with suppress(Exception), self._connection.begin_nested():
                self._write(self._connection, part.only(()))
                self._takes_nothing = True
        return self._takes_nothing

"""Who is to blame for a pass that cannot be written: it is written without these jobs.

::

    the whole pass ──► refused, though an empty one is taken
      ├─ one half  ──► written
      └─ the other ──► refused ── its halves, and so on, down to the jobs that are refused each for itself
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from atlas.scheduler.job_store.passes import Written
from atlas.scheduler.store.refusals import is_jobs_own

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.job_store.passes import Pass


class Shared(NamedTuple):
    """What became of a pass.

    Attributes:
        written: What was written.
        refused: Jobs of which nothing was written → why.
    """

    written: Written
    refused: dict[str, Exception]


def write_without_refused(
    connection: Connection,
    decided: Pass,
    suspects: Collection[str],
    write: Callable[[Connection, Pass], Written],
) -> Shared:
    """Write a pass, without the jobs that the database refuses or that raise.

    Args:
        connection: In a transaction.
        decided: The pass.
        suspects: Jobs that were refused before: each is written for itself, so that the others need no second try.
        write: Writes a pass, or a part of one.

    Raises:
        Exception: What ``write`` raised, where no job is to blame: the database is unwell, or refuses an empty pass.
    """
    trusted = [job_id for job_id in decided.job_ids if job_id not in suspects]
    groups = [trusted, *([job_id] for job_id in decided.job_ids if job_id in suspects)]
    whole = len(groups) == 1
    shared = Shared(Written([], []), {})
    for group in filter(None, groups):
        _share(connection, decided if whole else decided.only(group), group, shared, write)
    return shared


def _share(
    connection: Connection,
    part: Pass,
    job_ids: Sequence[str],
    shared: Shared,
    write: Callable[[Connection, Pass], Written],
) -> None:
    """Write ``part``, or of it what can be written."""
    try:
        with connection.begin_nested():
            written = write(connection, part)
    except Exception as error:
        if not is_jobs_own(error) or not _takes_nothing(connection, part, write):
            raise
        if len(job_ids) == 1:
            shared.refused[job_ids[0]] = error
            return
        middle = len(job_ids) // 2
        for half in (job_ids[:middle], job_ids[middle:]):
            _share(connection, part.only(half), half, shared, write)
    else:
        shared.written.tasks.extend(written.tasks)
        shared.written.events.extend(written.events)


def _takes_nothing(connection: Connection, part: Pass, write: Callable[[Connection, Pass], Written]) -> bool:
    """True if a pass of no jobs can be written: then it is a job that cannot."""
    try:
        with connection.begin_nested():
            write(connection, part.only(()))
    except Exception:  # noqa: BLE001 - the first error is the one that is told
        return False
    return True

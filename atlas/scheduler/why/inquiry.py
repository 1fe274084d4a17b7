"""One question about one job: what is asked, what is looked up for it, and what is told."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from atlas.scheduler.job_store.records import Parked
from atlas.scheduler.job_store.rows import read_job
from atlas.scheduler.message import Message
from atlas.scheduler.store.tables import leases, revisions, tasks
from atlas.scheduler.store.task_rows import instant
from atlas.scheduler.task import TaskStatus
from atlas.scheduler.zones import zone_named

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from sqlalchemy import Connection

NEAR: Final = timedelta(minutes=1)
"""A time that somebody names means the minute it stands in."""
_SPAN_S: Final = 90.0
"""A scheduler that starts so soon after fire times were served is the one that served them."""


class Inquiry:
    """What is asked and what is told.

    Attributes:
        at: The instant in question, None for the latest decision.
        record: The job as it is, None if it is gone or its row cannot be read.
        told_errors: Errors that were told already.
    """

    def __init__(
        self, connection: Connection, job_id: str, at: datetime | None, now: datetime, zone: ZoneInfo | None
    ) -> None:
        self.connection, self.job_id, self.at, self.now = connection, job_id, at, now
        found = read_job(connection, job_id)
        # The history of a job whose row cannot be read can be told all the same.
        self.record = None if isinstance(found, Parked) else found
        self.zone = zone or zone_named("UTC" if self.record is None else self.record.definition.schedule.timezone)
        self.verdict = "never"
        self.sentences: list[str] = []
        self.facts: dict[str, Any] = {}
        self.told_errors: set[str] = set()

    def tell(self, sentence: str) -> None:
        """One sentence more, with what it was made of."""
        self.sentences.append(sentence)

    def under(self, number: int | None) -> str:
        """``, under revision 3 of 09:00``; empty without a revision."""
        if number is None:
            return ""
        accepted = select(revisions.c.accepted_at).where(revisions.c.number == number)  # its text may be megabytes
        at = self.connection.execute(accepted).scalar()
        if at is None:
            return Message(", under revision {n}", n=number)
        return Message(", under revision {n} of {at}", n=number, at=self.time(at))

    def time(self, at: datetime | float | None) -> str:
        """``02:00`` of today, else with its date; seconds where there are some, the zone in hours that come twice."""
        moment = instant(at) if isinstance(at, int | float) else at
        if moment is None:
            return "?"
        local, today = moment.astimezone(self.zone), self.now.astimezone(self.zone)
        clock = local.strftime("%H:%M:%S" if local.second else "%H:%M")
        if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
            clock += local.strftime(" %Z")
        return clock if local.date() == today.date() else f"{local:%Y-%m-%d} {clock}"

    def running(self) -> str:
        """`` while hog runs since 18:32``: who holds the slots now that a task waits for; empty where nobody does."""
        found = (
            select(func.coalesce(tasks.c.job_id, tasks.c.name).label("name"), tasks.c.started_at)
            .where(tasks.c.status == TaskStatus.RUNNING)
            .order_by(tasks.c.started_at)
        )
        rows = self.connection.execute(found).all()
        self.facts["running"] = len(rows)
        if not rows:
            return ""
        oldest = {"name": rows[0].name, "at": self.time(rows[0].started_at)}
        if len(rows) == 1:
            return Message(" while {name} runs since {at}", **oldest)
        return Message(" while {n} tasks run, {name} for the longest, since {at}", n=len(rows), **oldest)

    def started(self, begin_s: float, end_s: float) -> str | None:
        """When the scheduler was started that served what was due from ``begin_s`` to ``end_s``, seconds since 1970.

        None where one ran all the time, and yet did not serve it.
        """
        row = self.connection.execute(
            select(leases).where(leases.c.started_at <= end_s + _SPAN_S, leases.c.started_at >= begin_s).limit(1)
        ).first()
        return None if row is None else self.time(row.started_at)


def minute_of(at: datetime) -> tuple[float, float]:
    """Begin and end of what a named instant means, seconds since 1970: its minute, or its second if it names one."""
    begin = at.replace(second=0, microsecond=0) if not (at.second or at.microsecond) else at.replace(microsecond=0)
    return begin.timestamp(), (begin + (NEAR if not at.second else timedelta(seconds=1))).timestamp()

"""Jobs that can be read and not be served: they are set apart, so that the others go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from loguru import logger
from sqlalchemy.exc import DBAPIError

from atlas.scheduler.events import JobEvent, JobEventKind
from atlas.scheduler.message import Message
from atlas.scheduler.store.refusals import cause_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from atlas.scheduler.job_store.passes import Pass
    from atlas.scheduler.job_store.table import JobTable
    from atlas.scheduler.store.store import Store

RETRY_FIRST_S: Final = 30.0
RETRY_MAX_S: Final = 600.0
_FIRST: Final = 10
"""So many retries come quickly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Why a job is set apart, since when, and when it is tried again.

    Attributes:
        error: What went wrong with it, one line.
        since: When that was noticed, aware UTC.
        tried_at: When it was tried last, aware UTC.
        retries: How often it was tried again.
        waits: What is due of it waits for the next try; False if it is stored as skips, and the job goes on.
    """

    id: str
    error: str
    since: datetime
    tried_at: datetime
    retries: int = 0
    waits: bool = True

    @property
    def retry_in_s(self) -> float:
        """Seconds from its last try to the next one, which nobody has to ask for."""
        return RETRY_FIRST_S if self.retries < _FIRST else RETRY_MAX_S

    @property
    def words(self) -> str:
        """Why it does not fire, and what to do."""
        pattern = (
            "set apart since {at}, what is due waits: {error} (edit the job or resume it, and it is tried at once)"
            if self.waits
            else "deciding on it fails since {at}, what is due is skipped: {error} (edit the job or its function)"
        )
        return Message(pattern, at=self.since.isoformat(timespec="seconds"), error=self.error)

    def tells_what(self, old: Apart | None) -> bool:
        """True if it says what ``old`` said already."""
        return old is not None and (old.error, old.waits) == (self.error, self.waits)

    def after(self, old: Apart | None) -> Apart:
        """This one, behind an earlier one of the same job."""
        if old is None:
            return self
        retries = old.retries + 1 if old.waits and self.waits else 0
        return Apart(
            id=self.id, error=self.error, since=old.since, tried_at=self.tried_at, retries=retries, waits=self.waits
        )


News = list[tuple[Apart, Exception | None]]
"""Jobs of which something new is wrong, each with an error that nobody logged yet."""


class ApartJobs:
    """Marks jobs that cannot be served in the table, and tells who listens.

    Attributes:
        on_change: Called when jobs were set apart, or are served again.
    """

    def __init__(self, store: Store, table: JobTable) -> None:
        self._store, self._table = store, table
        self.on_change: Callable[[], None] = lambda: None

    def all(self) -> dict[str, Apart]:
        """Every job that can be read and not be served, by its id."""
        return self._table.apart()

    def waiting(self) -> set[str]:
        """Those of which what is due waits until the next try."""
        return {job_id for job_id, one in self.all().items() if one.waits}

    def mark(self, errors: Mapping[str, Exception], now: datetime) -> News:
        """Let what is due of these jobs wait; returns what nobody knows yet."""
        news: News = []
        for job_id, error in errors.items():
            new = Apart(id=job_id, error=cause_of(error), since=now, tried_at=now)
            if not new.tells_what(self._table.set_apart(new)):
                news.append((new, error))
        return news

    def note(self, served: Pass) -> tuple[News, list[str]]:
        """Note which jobs of a pass could not be decided on, and which are well; returns what is new of both."""
        news: News = []
        for job_id, error in served.faults.items():
            new = Apart(id=job_id, error=error, since=served.now, tried_at=served.now, waits=False)
            goes_on = job_id in served.next_run or job_id in served.ended
            if goes_on and not new.tells_what(self._table.set_apart(new)):
                news.append((new, None))  # the bridge has logged the error
        apart = self.all()
        well = apart.keys() & (set(served.job_ids) - served.faults.keys()) if apart else ()
        return news, self._table.serve_again(sorted(well))

    def tell(self, news: News) -> None:
        """Tell what is wrong with jobs."""
        if news:
            self.on_change()
        for new, error in news:
            if error is not None:  # a statement comes with its values, which are nobody else's business
                trace = None if isinstance(error, DBAPIError) else error
                logger.bind(job_id=new.id, error=new.error).opt(exception=trace).error(
                    "a job cannot be served: it is set apart and the others go on; edit it or resume it"
                )
            detail = {"error": new.error, "waits": new.waits}
            self._store.events.publish(
                JobEvent(job_id=new.id, kind=JobEventKind.PARKED, at=new.tried_at, detail=detail)
            )

    def tell_return(self, job_ids: Sequence[str]) -> None:
        """Tell that jobs which were set apart are served again."""
        if job_ids:
            self.on_change()
        now = self._store.clock.now()
        for job_id in job_ids:
            logger.bind(job_id=job_id).info("a job that was set apart is served again")
            self._store.events.publish(JobEvent(job_id=job_id, kind=JobEventKind.RESUMED, at=now))

    def try_again(self, job_id: str) -> bool:
        """Let a job be tried at once if it is set apart; True if something of it waits for that."""
        one = self.all().get(job_id)
        if one is not None and one.waits:
            self._table.try_at([job_id], self._store.clock.now().timestamp())
            return True
        self.tell_return(self._table.serve_again([job_id]))
        return False

    def try_all(self) -> None:
        """Let all of them be tried at once."""
        self._table.try_at(self.all(), self._store.clock.now().timestamp())

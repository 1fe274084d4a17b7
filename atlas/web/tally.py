"""What has been counted of tasks since the site was made: retries, crashes, and how late first attempts started.

Counted from the rows of tasks that ended, each once, at the moment somebody asks; a process that is watched starts at
zero, as counters of Prometheus do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, case, func, select

from atlas.scheduler.store.tables import tasks
from atlas.scheduler.task import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from atlas.scheduler.store.store import Store

BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper ends of the classes that start lags are counted in, seconds."""
SETTLES_S: Final = 30.0
"""A final row is written within seconds of its end; what ended so long ago is counted for good."""
_FAILURES: Final = (Cause.ERROR.value, Cause.TIMEOUT.value)
"""What the failure that ended a task is counted under: no retry followed it."""
_end: Final = tasks.c.finished_at
_lag: Final = tasks.c.started_at - func.coalesce(tasks.c.fire_time, tasks.c.created_at)
_counts: Final = and_(tasks.c.attempt == 1, tasks.c.started_at.is_not(None), tasks.c.origin != "manual")
_place: Final = case(
    (_counts, case(*((_lag <= limit_s, place) for place, limit_s in enumerate(BUCKETS_S)), else_=len(BUCKETS_S))),
    else_=-1,
)


@dataclass(slots=True)
class Counted:
    """Figures that only grow.

    Attributes:
        retries: Failed attempts that another one followed.
        crashes: Attempts that ended with their process.
        lags: Class of `BUCKETS_S` → tasks whose first attempt was their only one and started so late.
        lag_s: Their start lags together, seconds.
    """

    retries: int = 0
    crashes: int = 0
    lags: Counter[int] = field(default_factory=Counter)
    lag_s: float = 0.0

    def __add__(self, other: Counted) -> Counted:
        """Both together."""
        return Counted(
            self.retries + other.retries, self.crashes + other.crashes, self.lags + other.lags, self.lag_s + other.lag_s
        )

    def buckets(self) -> Iterator[tuple[str, int]]:
        """(upper end, tasks up to it), as a histogram of Prometheus has them."""
        count = 0
        for place, limit_s in enumerate(BUCKETS_S):
            count += self.lags[place]
            yield f"{limit_s:g}", count
        yield "+Inf", count + self.lags[len(BUCKETS_S)]


class Tally:
    """Counts tasks as they end, from ``since_s`` on (since 1970)."""

    def __init__(self, since_s: float) -> None:
        self._closed, self._closed_to_s = Counted(), since_s

    def look(self, store: Store) -> Counted:
        """Everything so far; it reads the store, on the thread of renders."""
        until_s = max(self._closed_to_s, store.clock.now().timestamp() - SETTLES_S)
        since_s = self._closed_to_s
        self._closed += store.read(lambda connection: _read(connection, since_s, until_s))
        self._closed_to_s = until_s
        return self._closed + store.read(lambda connection: _read(connection, until_s, None))


def _read(connection: Connection, since_s: float, until_s: float | None) -> Counted:
    last = case((tasks.c.cause.in_(_FAILURES), 1), else_=0)
    statement = (
        select(_place, func.count(), func.sum(_lag), func.sum(tasks.c.failures - last), func.sum(tasks.c.crashes))
        .where(_end >= since_s)
        .group_by(_place)
    )
    if until_s is not None:
        statement = statement.where(_end < until_s)
    found = Counted()
    for place, count, lag_s, retries, crashes in connection.execute(statement):
        found.retries += retries
        found.crashes += crashes
        if place >= 0:
            found.lags[place] += count
            found.lag_s += max(0.0, lag_s)
    return found

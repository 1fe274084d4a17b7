"""What a forecast tells: starts, stretches, crowds and herds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from atlas.scheduler.as_json import as_json

if TYPE_CHECKING:
    from datetime import datetime


class Start(NamedTuple):
    """One start.

    Attributes:
        at: When it is due, aware UTC.
        late_s: Seconds it waits for a slot.
        skipped: True if its last task is still unfinished and ``overlap`` makes none of it.
    """

    at: datetime
    job_id: str
    late_s: float
    skipped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A stretch of the forecast.

    Attributes:
        at: Its begin, aware UTC.
        starts: Tasks that are due in it.
        at_once: Most tasks that want to run at one moment of it.
        late: Tasks of it that wait for a slot for a second or longer.
    """

    at: datetime
    starts: int
    at_once: int
    late: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """A stretch in which more tasks want to run than there are slots.

    Attributes:
        at: Its begin, aware UTC.
        needed: Slots that would be enough.
        late_s: Job → its longest wait for a slot, seconds, the longest first.
    """

    at: datetime
    until: datetime
    needed: int
    late_s: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd:
    """Jobs that start in the same instant, more of them than there are slots. A job stands in one herd at most.

    Attributes:
        at: The first time, aware UTC.
        times: How often in the forecast.
        job_ids: Who, by id.
        work_s: How long one slot would take for all of them, seconds.
        spread_s: The proposed ``spread`` of each of them, seconds; None where they come again too soon for any.
    """

    at: datetime
    times: int
    job_ids: tuple[str, ...]
    work_s: float
    spread_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutlook:
    """What a job does in the forecast.

    Attributes:
        skipped: Fire times at which its last task is still unfinished, so that they make none.
        next_at: Its first start, None if it has none.
        duration_s: What a task of it is taken to last.
        measured: False if it has not run yet and `ASSUMED_S` is taken.
        late_s: Its longest wait for a slot.
    """

    id: str
    title: str
    starts: int
    skipped: int
    next_at: datetime | None
    duration_s: float
    measured: bool
    late_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What `forecast` found.

    Attributes:
        is_cut: True if `MAX_STARTS` ended it earlier than was asked for.
        starts: Every start, in the order of time; none unless they were asked for.
        jobs: Every job, in the order given; likewise.
        buckets: The stretches, without a hole.
        peak: Most tasks that want to run at once.
        peak_at: When that is first so, None without any.
        crowds: Where slots are short, in the order of time.
        herds: Who starts together, the most frequent first.
    """

    begin: datetime
    until: datetime
    is_cut: bool
    slots: int
    starts: tuple[Start, ...]
    jobs: tuple[JobOutlook, ...]
    buckets: tuple[Bucket, ...]
    peak: int
    peak_at: datetime | None
    crowds: tuple[Crowd, ...]
    herds: tuple[Herd, ...]

    @property
    def tasks(self) -> int:
        """Tasks that are made."""
        return sum(bucket.starts for bucket in self.buckets)

    @property
    def tasks_a_day(self) -> float:
        """`tasks`, as a daily rate."""
        return self.tasks * 86_400 / max(1.0, (self.until - self.begin).total_seconds())

    def to_json(self) -> dict[str, Any]:
        """Everything but the single starts, as JSON values."""
        names = ("begin", "until", "is_cut", "slots", "peak", "peak_at", "buckets", "crowds", "herds", "jobs")
        told = {name: as_json(getattr(self, name)) for name in names}
        return told | {"tasks": self.tasks, "tasks_a_day": round(self.tasks_a_day, 1)}

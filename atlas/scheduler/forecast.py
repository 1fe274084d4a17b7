"""What starts when in the next hours, how many tasks run at once, who waits for a slot, which jobs are a herd.

Pure. Starts come from the jobs' own triggers, spread and calendar included; how long each takes is its median so far.
"""

from __future__ import annotations

import heapq
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from atlas.scheduler.expected_line import LATE_S, Expected, ExpectedLine
from atlas.scheduler.task import Overlap, TaskPriority
from atlas.scheduler.zones import zone_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.triggers import AtlasTrigger

MAX_STARTS: Final = 100_000
"""Starts that are looked at; a forecast with more of them ends earlier, and says so."""
ASSUMED_S: Final = 1.0
"""What a task of a job that has not run yet is taken to last."""
MAX_HERDS: Final = 20
_SPREADS: Final = (10, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14_400)
_HEADROOM: Final = 2.0
"""A spread herd keeps a slot of two busy, so that other work finds one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastJob:
    """A job as the forecast takes it.

    Attributes:
        id: The job.
        title: Display name.
        trigger: When it starts.
        duration_s: How long a task of it takes: the median so far; None if it has not run yet.
        executor: Where it runs; "" if nobody said.
        fires: False for a job that makes no tasks: PAUSED, DISABLED, UNBOUND, ENDED.
        priority: Order of service.
        overlap: What happens when it starts while its last task is unfinished.
        max_instances: With ``overlap: allow``, unfinished tasks at once.
    """

    id: str
    title: str
    trigger: AtlasTrigger
    duration_s: float | None = None
    executor: str = ""
    fires: bool = True
    priority: TaskPriority = TaskPriority.NORMAL
    overlap: Overlap = Overlap.SKIP
    max_instances: int = 1

    @classmethod
    def of(
        cls, definition: JobDefinition, trigger: AtlasTrigger, *, duration_s: float | None = None, fires: bool = True
    ) -> ForecastJob:
        """The job of ``definition``."""
        return cls(
            id=definition.id,
            title=definition.title,
            trigger=trigger,
            duration_s=duration_s,
            executor="" if definition.executor is None else definition.executor.value,
            fires=fires and definition.enabled,
            priority=definition.priority,
            overlap=definition.overlap,
            max_instances=definition.max_instances,
        )


class Start(NamedTuple):
    """One start.

    Attributes:
        at: When it is due, aware UTC.
        job_id: Of which job.
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
        until: Its end.
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
        id: The job.
        title: Display name.
        starts: Tasks it makes.
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
        begin: From when.
        until: To when.
        is_cut: True if `MAX_STARTS` ended it earlier than was asked for.
        slots: Tasks that can run at once.
        starts: Every start, in the order of time.
        jobs: Every job, in the order given.
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
        return sum(job.starts for job in self.jobs)

    @property
    def tasks_a_day(self) -> float:
        """`tasks`, as a daily rate."""
        return self.tasks * 86_400 / max(1.0, (self.until - self.begin).total_seconds())

    def to_json(self) -> dict[str, Any]:
        """Everything but the single starts, as JSON values."""
        raw = {
            "begin": self.begin,
            "until": self.until,
            "is_cut": self.is_cut,
            "slots": self.slots,
            "tasks": self.tasks,
            "tasks_a_day": round(self.tasks_a_day, 1),
            "peak": self.peak,
            "peak_at": self.peak_at,
            "buckets": [asdict(bucket) for bucket in self.buckets],
            "crowds": [asdict(crowd) for crowd in self.crowds],
            "herds": [asdict(herd) for herd in self.herds],
            "jobs": [asdict(job) for job in self.jobs],
        }
        plain: dict[str, Any] = _plain(raw)
        return plain


def start_times(trigger: AtlasTrigger, after: datetime, until: datetime, limit: int) -> list[datetime]:
    """The first ``limit`` starts of a job in ``after`` < t <= ``until``, aware UTC.

    Spread is in them; dates on which its calendar turns fire times into skips are not.

    Raises:
        ValueError: An instant is naive.
    """
    found: list[datetime] = []
    for at in _starts(trigger, after):
        if len(found) >= limit or at > until:
            break
        found.append(at)
    return found


def forecast(
    jobs: Iterable[ForecastJob],
    *,
    now: datetime,
    hours: float = 24.0,
    slots: int,
    limits: Mapping[str, int] | None = None,
    bucket_s: float = 3600.0,
    zone: tzinfo = UTC,
) -> Forecast:
    """What starts from ``now`` on, and how it gets on with the slots.

    What runs already at ``now`` is not known here: the first minutes may be a little fuller.

    Args:
        jobs: All of them.
        now: Begin, aware.
        hours: How far to look.
        slots: Tasks that run at once.
        limits: Executor → fewer than that.
        bucket_s: Length of the stretches, seconds.
        zone: Where stretches begin with a whole hour or day of the wall clock.
    """
    jobs, begin = list(jobs), now.astimezone(UTC)
    until = begin + timedelta(hours=hours)
    expected = [
        Expected(
            job.id,
            ASSUMED_S if job.duration_s is None else max(0.0, job.duration_s),
            job.priority,
            job.overlap,
            job.max_instances,
            job.executor,
        )
        for job in jobs
    ]
    groups: dict[AtlasTrigger, list[Expected]] = {}
    for job, one in zip(jobs, expected, strict=True):
        if job.fires:
            groups.setdefault(job.trigger, []).append(one)
    load = _Load(begin, bucket_s, zone)
    line = ExpectedLine(max(1, slots), limits or {}, load.demand)
    herds = _Herds(max(1, slots))
    is_cut = False
    for at, triggers in _merged(groups, begin, until):
        together = [one for trigger in triggers for one in groups[trigger]]
        if line.runs and len(line.runs) + len(together) > MAX_STARTS:
            is_cut, until = True, at
            break
        herds.note(at, triggers, together)
        line.start(at.timestamp(), together)
    line.pass_until(until.timestamp())
    load.fill(until.timestamp())
    line.finish()
    starts = tuple(
        Start(datetime.fromtimestamp(run.due_s, UTC), run.job.id, run.late_s, run.skipped) for run in line.runs
    )
    return Forecast(
        begin=begin,
        until=until,
        is_cut=is_cut,
        slots=slots,
        starts=starts,
        jobs=_outlooks(jobs, expected, starts),
        buckets=load.buckets(starts, until),
        peak=load.peak,
        peak_at=None if load.peak_s is None else datetime.fromtimestamp(load.peak_s, UTC),
        crowds=tuple(
            Crowd(
                at=datetime.fromtimestamp(shortage.at_s, UTC),
                until=datetime.fromtimestamp(shortage.until_s, UTC),
                needed=shortage.needed,
                late_s=dict(sorted(shortage.late_s.items(), key=lambda late: -late[1])),
            )
            for shortage in line.shortages
            if shortage.late_s
        ),
        herds=herds.found(),
    )


def _starts(trigger: AtlasTrigger, after: datetime) -> Iterator[datetime]:
    """Starts after ``after``; a day that the calendar excludes is one look, however often the job fires on it."""
    schedule = trigger.schedule
    zone = zone_named(schedule.timezone)
    fire_time = schedule.next_after(trigger.fire_time_of(after))
    while fire_time is not None:
        if schedule.is_excluded(fire_time):
            midnight = fire_time.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
            tomorrow = (midnight + timedelta(days=1)).astimezone(UTC) - timedelta(microseconds=1)
            fire_time = schedule.next_after(max(tomorrow, fire_time))
            continue
        yield trigger.run_time_of(fire_time)
        fire_time = schedule.next_after(fire_time)


def _merged(
    groups: Iterable[AtlasTrigger], after: datetime, until: datetime
) -> Iterator[tuple[datetime, list[AtlasTrigger]]]:
    """Each instant at which something starts, and the triggers that say so; lazily, in the order of time."""
    number = count()
    heap: list[tuple[datetime, int, AtlasTrigger, Iterator[datetime]]] = []

    def push(trigger: AtlasTrigger, ahead: Iterator[datetime]) -> None:
        at = next(ahead, None)
        if at is not None and at <= until:
            heapq.heappush(heap, (at, next(number), trigger, ahead))

    for trigger in groups:
        push(trigger, _starts(trigger, after))
    while heap:
        at, triggers = heap[0][0], []
        while heap and heap[0][0] == at:
            _, _, trigger, ahead = heapq.heappop(heap)
            triggers.append(trigger)
            push(trigger, ahead)
        yield at, triggers


class _Load:
    """How many tasks want to run at once, stretch by stretch; demand holds until it changes."""

    def __init__(self, begin: datetime, bucket_s: float, zone: tzinfo) -> None:
        offset = begin.astimezone(zone).utcoffset() or timedelta()
        wall_s = begin.timestamp() + offset.total_seconds()
        self._first_s = wall_s // bucket_s * bucket_s - offset.total_seconds()
        self._bucket_s = bucket_s
        self._at_once: list[int] = [0]
        self._now = 0
        self.peak = 0
        self.peak_s: float | None = None

    def _place(self, at_s: float) -> int:
        return max(0, int((at_s - self._first_s) // self._bucket_s))

    def fill(self, at_s: float) -> None:
        """The demand goes on until ``at_s``."""
        missing = self._place(at_s) + 1 - len(self._at_once)
        self._at_once += [self._now] * missing

    def demand(self, at_s: float, wanted: int) -> None:
        """So many tasks run or wait from ``at_s`` on."""
        self.fill(at_s)
        place = self._place(at_s)
        self._at_once[place] = max(self._at_once[place], wanted)
        self._now = wanted
        if wanted > self.peak:
            self.peak, self.peak_s = wanted, at_s

    def buckets(self, starts: Iterable[Start], until: datetime) -> tuple[Bucket, ...]:
        """The stretches up to ``until``."""
        size = max(1, -int(-(until.timestamp() - self._first_s) // self._bucket_s))
        due, late = [0] * (size + 1), [0] * (size + 1)
        for start in starts:
            if not start.skipped:
                place = min(self._place(start.at.timestamp()), size)
                due[place] += 1
                late[place] += start.late_s >= LATE_S
        due[size - 1] += due[size]  # what starts in the very last instant
        late[size - 1] += late[size]
        return tuple(
            Bucket(
                at=datetime.fromtimestamp(self._first_s + place * self._bucket_s, UTC),
                starts=due[place],
                at_once=self._at_once[place] if place < len(self._at_once) else 0,
                late=late[place],
            )
            for place in range(size)
        )


@dataclass(slots=True)
class _Seen:
    first: datetime
    jobs: list[Expected]
    times: int = 0


class _Herds:
    """Who starts together, by the triggers that fall together."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._seen: dict[frozenset[AtlasTrigger], _Seen] = {}

    def note(self, at: datetime, triggers: list[AtlasTrigger], jobs: list[Expected]) -> None:
        """These start at ``at``."""
        if len(jobs) <= self._slots:
            return
        seen = self._seen.setdefault(frozenset(triggers), _Seen(at, jobs))
        seen.times += 1

    def found(self) -> tuple[Herd, ...]:
        """The herds; a job that stands in a more frequent one is not told again."""
        told: set[str] = set()
        herds = []
        for triggers, seen in sorted(self._seen.items(), key=lambda item: (-item[1].times, -len(item[1].jobs))):
            jobs = [job for job in seen.jobs if job.id not in told]
            if len(jobs) <= self._slots:
                continue
            told.update(job.id for job in jobs)
            work_s = sum(job.duration_s for job in jobs)
            herds.append(
                Herd(
                    at=seen.first,
                    times=seen.times,
                    job_ids=tuple(sorted(job.id for job in jobs)),
                    work_s=work_s,
                    spread_s=_spread(work_s / self._slots * _HEADROOM, _shortest_gap_s(triggers, seen.first)),
                )
            )
            if len(herds) >= MAX_HERDS:
                break
        return tuple(herds)


def _shortest_gap_s(triggers: Iterable[AtlasTrigger], at: datetime) -> float:
    """How soon one of them starts again."""
    following = (next(_starts(trigger, at), None) for trigger in triggers)
    return min(((then - at).total_seconds() for then in following if then is not None), default=float("inf"))


def _spread(wanted_s: float, gap_s: float) -> float | None:
    """The first round length that holds the work and ends before the jobs start again."""
    usable = [spread_s for spread_s in _SPREADS if spread_s <= gap_s / 2]
    return float(next((spread_s for spread_s in usable if spread_s >= wanted_s), usable[-1])) if usable else None


def _outlooks(jobs: list[ForecastJob], expected: list[Expected], starts: Iterable[Start]) -> tuple[JobOutlook, ...]:
    made: dict[str, list[Start]] = {}
    for start in starts:
        made.setdefault(start.job_id, []).append(start)
    found = []
    for job, one in zip(jobs, expected, strict=True):
        mine = made.get(job.id, [])
        skipped = sum(start.skipped for start in mine)
        found.append(
            JobOutlook(
                id=job.id,
                title=job.title,
                starts=len(mine) - skipped,
                skipped=skipped,
                next_at=mine[0].at if mine else None,
                duration_s=one.duration_s,
                measured=job.duration_s is not None,
                late_s=max((start.late_s for start in mine), default=0.0),
            )
        )
    return tuple(found)


def _plain(value: Any) -> Any:
    """JSON values: instants as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value

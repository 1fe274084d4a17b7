"""A job in memory: its definition, its trigger, and when it starts next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atlas.scheduler.triggers import trigger_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from atlas.scheduler.definition import JobDefinition, JobSource
    from atlas.scheduler.events import JobEventKind
    from atlas.scheduler.triggers import AtlasTrigger


@dataclass(slots=True, eq=False)
class JobRecord:
    """What memory keeps of a job; the row is the durable copy.

    Schedules, policies and triggers that are equal are one object for all jobs.

    Attributes:
        definition: Everything that is fixed about it.
        digest: Hash of the row's text; empty until the row is written.
        trigger: Says when it starts.
        next_run: When it starts next, None when DISABLED or ENDED.
    """

    definition: JobDefinition
    digest: str
    trigger: AtlasTrigger
    next_run: datetime | None

    @property
    def id(self) -> str:
        """The job."""
        return self.definition.id

    @property
    def source(self) -> JobSource:
        """The config file or code."""
        return self.definition.source

    @property
    def enabled(self) -> bool:
        """False if it has no fire times by its definition."""
        return self.definition.enabled

    @property
    def text(self) -> str:
        """The definition as JSON."""
        return self.definition.to_json()


@dataclass(frozen=True, slots=True)
class Parked:
    """A row that cannot be read: shown, never deleted.

    Attributes:
        id: The job.
        error: Why.
    """

    id: str
    error: str


@dataclass(frozen=True, slots=True)
class JobChange:
    """One job to write.

    Attributes:
        record: The job as it shall be.
        kind: ADDED or CHANGED.
        keeps_next_run: With an unchanged schedule the next starting time is the one that holds when it is written,
            whatever the record says: a pass may have moved it since the record was made.
    """

    record: JobRecord
    kind: JobEventKind
    keeps_next_run: bool = True


def make_record(definition: JobDefinition, *, now: datetime) -> JobRecord:
    """`make_records` of one."""
    return make_records([definition], now=now)[0]


def make_records(definitions: Iterable[JobDefinition], *, now: datetime) -> list[JobRecord]:
    """Records whose schedules count from ``now``; see also `JobChange.keeps_next_run`.

    Raises:
        CronExpressionError: A schedule cannot be used.
        ScheduleError: A schedule cannot be used.
    """
    starts: dict[AtlasTrigger, datetime | None] = {}
    records = []
    for definition in definitions:
        trigger = trigger_of(definition)
        if definition.enabled and trigger not in starts:
            starts[trigger] = trigger.get_next_fire_time(None, now)
        next_run = starts[trigger] if definition.enabled else None
        records.append(JobRecord(definition, "", trigger, next_run))
    return records


def same_times(old: JobRecord, *, enabled: bool, trigger: AtlasTrigger) -> bool:
    """True if a job goes on with the starting times it has, so that a change of it moves none."""
    return old.enabled and enabled and old.trigger == trigger

"""A job in memory: its definition, its trigger, and when it starts next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atlas.scheduler.definition_text import UnreadDefinition, text_of
from atlas.scheduler.triggers import trigger_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from atlas.scheduler.definition import JobDefinition, JobSource
    from atlas.scheduler.definition_text import KnownDefinition
    from atlas.scheduler.events import JobEventKind
    from atlas.scheduler.triggers import AtlasTrigger


@dataclass(slots=True, eq=False)
class JobRecord:
    """What memory keeps of a job; the row is the durable copy.

    Schedules, policies and triggers that are equal are one object for all jobs.

    Attributes:
        known: Its definition, or as much as was read of it: most of ten thousand are not asked for at a start.
        digest: The row's seal, or a hash of one that has none; empty until the row is written.
        trigger: Says when it starts.
        next_run: When it starts next, None when DISABLED or ENDED. Where the schedule could not say that, the instant
            from which its starts count: see `start`.
    """

    known: KnownDefinition
    digest: str
    trigger: AtlasTrigger
    next_run: datetime | None

    @property
    def definition(self) -> JobDefinition:
        """Everything that is fixed about it."""
        known = self.known
        if isinstance(known, UnreadDefinition):
            known = self.known = known.read()
        return known

    @property
    def id(self) -> str:
        """The job."""
        return self.known.id

    @property
    def source(self) -> JobSource:
        """The config file or code."""
        return self.known.source

    @property
    def enabled(self) -> bool:
        """False if it has no fire times by its definition."""
        return self.known.enabled

    @property
    def text(self) -> str:
        """The definition as JSON."""
        return text_of(self.definition)

    def start(self) -> datetime | None:
        """When it starts next, which is `next_run` unless that is only where its starts begin to count.

        Raises:
            Exception: What the schedule raises that still cannot say its first start.
        """
        at = self.next_run
        if at is None or self.trigger.is_start(at):
            return at
        return self.trigger.get_next_fire_time(None, at)


@dataclass(frozen=True, slots=True)
class Parked:
    """A row that cannot be read: shown, never deleted."""

    id: str
    error: str


@dataclass(frozen=True, slots=True)
class JobChange:
    """One job to write."""

    record: JobRecord
    kind: JobEventKind
    """ADDED or CHANGED."""
    keeps_next_run: bool = True
    """With an unchanged schedule the next starting time is the one that holds when it is written, whatever the record
    says: a pass may have moved it since the record was made."""


def make_record(definition: JobDefinition, *, now: datetime, old: JobRecord | None = None) -> JobRecord:
    """`make_records` of one."""
    return make_records([definition], now=now, old_of=lambda _job_id: old)[0]


def make_records(
    definitions: Iterable[JobDefinition],
    *,
    now: datetime,
    old_of: Callable[[str], JobRecord | None] = lambda _job_id: None,
) -> list[JobRecord]:
    """Records whose schedules count from ``now``; see also `JobChange.keeps_next_run`.

    A job that goes on with its times (``old_of``) is not asked for them: one whose next time cannot be computed can be
    edited all the same. One whose first time cannot be computed is due at once, so that the next pass sets it apart,
    and counts from ``now`` once it can.

    Raises:
        CronExpressionError: A schedule cannot be used.
        ScheduleError: A schedule cannot be used.
    """
    starts: dict[AtlasTrigger, datetime | None] = {}
    records = []
    for definition in definitions:
        trigger, old = trigger_of(definition), old_of(definition.id)
        if old is not None and same_times(old, enabled=definition.enabled, trigger=trigger):
            next_run = old.next_run
        elif definition.enabled:
            if trigger not in starts:
                starts[trigger] = _first_start(trigger, now)
            next_run = starts[trigger]
        else:
            next_run = None
        records.append(JobRecord(definition, "", trigger, next_run))
    return records


def _first_start(trigger: AtlasTrigger, now: datetime) -> datetime | None:
    try:
        return trigger.get_next_fire_time(None, now)
    except Exception:  # noqa: BLE001 - the jobs beside it must come into force; the next pass tells what it is
        return trigger.count_from(now)


def same_times(old: JobRecord, *, enabled: bool, trigger: AtlasTrigger) -> bool:
    """True if a job goes on with the starting times it has, so that a change of it moves none."""
    return old.enabled and enabled and old.trigger == trigger

"""What the verbs answer: closed objects, so that the description of the API promises every field and no other."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from atlas.scheduler.job_view import JobState
from atlas.scheduler.task import Cause, Origin, TaskStatus

Priority = Literal["URGENT", "HIGH", "NORMAL", "LOW"]


class Closed(BaseModel):
    """An object with these fields and no other."""

    model_config = ConfigDict(extra="forbid")


class TwoLanguages(Closed):
    """Words in English and Chinese."""

    en: str
    zh: str


class PauseTold(Closed):
    """A pause."""

    paused_at: str
    until: str | None = Field(description="When it ends by itself.")
    by: str
    reason: str


class JobTold(Closed):
    """A job as it stands."""

    id: str
    name: str
    title: str
    description: str
    state: JobState
    detail: str = Field(description="Why it is in this state.")
    source: Literal["file", "code"] | None
    schedule: str
    timezone: str
    next_fire_time: str | None = Field(description="When it is due.")
    next_run_at: str | None = Field(description="When it starts: later by its spread.")
    pause: PauseTold | None
    tags: list[str]


class MetricsTold(Closed):
    """Figures of tasks."""

    total_tasks: int
    by_status: dict[TaskStatus, int]
    success_rate: float = Field(description="0 to 100.")
    average_duration_s: float | None
    min_duration_s: float | None
    max_duration_s: float | None


class TaskTold(Closed):
    """A task."""

    id: str
    name: str
    function: str
    job_id: str | None
    fire_time: str | None
    origin: Origin
    reason: str = Field(description="Why it was made.")
    priority: Priority
    status: TaskStatus
    attempt: int
    failures: int
    crashes: int
    created_at: str
    due_at: str | None = Field(description="When the next attempt is, while RETRYING.")
    started_at: str | None
    finished_at: str | None
    duration_s: float | None
    result: Any
    result_omitted: bool
    error: str | None
    cause: Cause | None
    revision: int | None
    volatile: bool
    cancel_requested: bool


class AttemptTold(Closed):
    """An attempt that did not end its task."""

    attempt: int
    outcome: str
    started_at: str | None
    ended_at: str
    wait_s: float | None
    error: str | None


class WholeTaskTold(TaskTold):
    """A task with its attempts."""

    attempts: list[AttemptTold]


class ValueTold(Closed):
    """A policy's value and where it comes from."""

    value: Any
    source: str = Field(alias="from", description="`job`, `defaults`, `config.yaml` or `built in`.")


class WholeJobTold(JobTold, MetricsTold):
    """A job with its figures, its policy and its last task; the last five are missing where its row cannot be read."""

    unfinished_tasks: list[str]
    last_task: TaskTold | None
    words: TwoLanguages | None = None
    function: str | None = None
    owner: str | None = None
    runbook: str | None = None
    policy: dict[str, ValueTold] | None = None


class LineTold(Closed):
    """A line of a task's log."""

    id: int
    attempt: int
    at: str
    level: str
    message: str


class AuditTold(Closed):
    """Who changed what."""

    id: int
    at: str
    actor: str
    action: str
    subject: str
    before: Any
    after: Any


class RevisionTold(Closed):
    """An accepted version of the config file."""

    number: int
    accepted_at: str
    source: str
    author: str
    digest: str
    summary: str


class WholeRevisionTold(RevisionTold):
    """An accepted version with its text."""

    text: str


class ProblemTold(Closed):
    """What is wrong, or probably not meant, in a config file, and where."""

    file: str | None
    line: int
    column: int
    severity: Literal["error", "warning"]
    path: str
    value: Any
    message: str


class CheckTold(Closed):
    """What one look at the scheduler found."""

    name: str
    status: Literal["ok", "degraded", "failing"]
    detail: str
    remedy: str


class RunningTold(Closed):
    """A task that runs now."""

    task_id: str
    name: str
    job_id: str | None
    attempt: int
    done: float
    total: float | None
    stopping: str | None = Field(description="Why it is asked to stop.")


class QueueTold(Closed):
    """Slots, and what waits; a standby tells what it knows of the leader."""

    state: Literal["running", "standby", "stopped"]
    max_workers: int
    queue_size: int
    max_waiting: int | None = None
    running_tasks: int
    by_priority: dict[Priority, int] | None = None
    oldest_wait_s: dict[Priority, float] | None = None
    retrying_tasks: int | None = None
    held_tasks: int | None = None
    abandoned_threads: int | None = None
    free_slots: int | None = None
    running: list[RunningTold] | None = None
    store_fault: str | None = None
    leader: str | None = None


class ClockChangeTold(Closed):
    """A change of a zone's clock and what it does to a schedule."""

    at: str
    words: TwoLanguages


class ExplainedTold(Closed):
    """A schedule in words and times."""

    what: str
    timezone: str
    words: TwoLanguages
    times_a_year: int
    clock_change: ClockChangeTold | None
    next: list[str]


class BucketTold(Closed):
    """A stretch of a forecast."""

    at: str
    starts: int
    at_once: int
    late: int


class CrowdTold(Closed):
    """A time in which more tasks are due than there are slots."""

    at: str
    until: str
    needed: int
    jobs: int
    late_s: dict[str, float] = Field(description="The jobs that wait longest: at most 20 of `jobs`.")


class HerdTold(Closed):
    """Jobs that start at the same moments."""

    at: str
    times: int
    jobs: int
    job_ids: list[str] = Field(description="By id, at most 20 of `jobs`.")
    work_s: float
    spread_s: float | None


class OutlookTold(Closed):
    """A job in a forecast."""

    id: str
    title: str
    starts: int
    skipped: int
    next_at: str | None
    duration_s: float
    measured: bool
    late_s: float


class ForecastTold(Closed):
    """What starts in the next hours."""

    begin: str
    until: str
    is_cut: bool
    slots: int
    tasks: int
    tasks_a_day: float
    peak: int
    peak_at: str | None
    buckets: list[BucketTold]
    crowds: list[CrowdTold] = Field(description="Those with the longest waits: at most 100 of `crowds_in_all`.")
    crowds_in_all: int
    herds: list[HerdTold]
    jobs: list[OutlookTold]
    next: str | None = Field(description="What brings the page of jobs that follows; null behind the last.")


class DifferenceTold(Closed):
    """One field that is different."""

    field: str
    before: Any
    after: Any
    words: TwoLanguages


class TaskStandsTold(Closed):
    """An unfinished task."""

    task: str
    status: TaskStatus


class ChangeTold(Closed):
    """What an edit does to one job."""

    id: str
    title: str
    kind: Literal["added", "changed", "removed"]
    differences: list[DifferenceTold]
    schedule: TwoLanguages
    next_before: str | None
    next_after: str | None
    tasks_a_day_before: int
    tasks_a_day_after: int
    unfinished: list[TaskStandsTold]
    pause: PauseTold | None


class TwoCounts(Closed):
    """A figure as it is, and as it would be."""

    before: int
    after: int


class TwoPeaks(TwoCounts):
    """Tasks at once, as they are and as they would be, of so many slots."""

    slots: int


class CollisionTold(Closed):
    """Jobs that would start together."""

    at: str
    times: int
    jobs: list[str]
    proposed_spread: float | None


class PreviewTold(Closed):
    """What an edit would do."""

    revision: int | None
    is_new_text: bool
    added: int
    changed: int
    removed: int
    unchanged: int
    jobs: list[ChangeTold]
    tasks_a_day: TwoCounts
    peak: TwoPeaks
    collisions: list[CollisionTold]
    paused: dict[str, PauseTold]
    warnings: list[str]

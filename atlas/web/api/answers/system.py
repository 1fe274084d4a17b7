"""What the verbs of the whole answer."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from atlas.web.api.answers.jobs import ExplainedAnswer
from atlas.web.api.answers.shapes import Closed, Listed
from atlas.web.api.answers.tasks import MetricsAnswer
from atlas.web.api.verb import Priority


class RunningAnswer(Closed):
    """A task that runs now."""

    task_id: str
    name: str
    job_id: str | None
    attempt: int
    done: float
    total: float | None
    stopping: str | None = Field(description="Why it is asked to stop.")


class FullAnswer(Closed):
    """An executor whose own limit keeps tasks waiting."""

    limit: int
    waiting: int
    oldest_wait_s: float
    held_by: list[str] = Field(description="Some of the jobs, or tasks without one, that run on it.")


class QueueAnswer(Closed):
    """Slots, and what waits; a standby tells what it knows of the leader."""

    state: Literal["running", "standby", "stopped"]
    max_workers: int
    queue_size: int
    max_waiting: int | None = None
    running_tasks: int
    by_priority: dict[Priority, int] | None = None
    oldest_wait_s: dict[Priority, float] | None = None
    full_executors: dict[Literal["thread", "process", "async"], FullAnswer] | None = None
    retrying_tasks: int | None = None
    held_tasks: int | None = None
    abandoned_threads: int | None = None
    free_slots: int | None = None
    running: list[RunningAnswer] | None = None
    store_fault: str | None = None
    leader: str | None = None


class CheckAnswer(Closed):
    """What one look at the scheduler found."""

    name: str
    status: Literal["ok", "degraded", "failing"]
    detail: str
    remedy: str


class Health(Closed):
    """The worst of its checks, and each of them."""

    status: Literal["ok", "degraded", "failing"]
    checks: list[CheckAnswer]


class BucketAnswer(Closed):
    """A stretch of a forecast."""

    at: str
    starts: int
    at_once: int
    late: int


class CrowdAnswer(Closed):
    """A time in which more tasks are due than there are slots."""

    at: str
    until: str
    needed: int
    jobs: int
    late_s: dict[str, float] = Field(description="The jobs that wait longest: at most 20 of `jobs`.")


class HerdAnswer(Closed):
    """Jobs that start at the same moments."""

    at: str
    times: int
    jobs: int
    job_ids: list[str] = Field(description="By id, at most 20 of `jobs`.")
    work_s: float
    spread_s: float | None


class OutlookAnswer(Closed):
    """A job in a forecast."""

    id: str
    title: str
    starts: int
    skipped: int
    next_at: str | None
    duration_s: float
    measured: bool
    late_s: float


class ForecastAnswer(Closed):
    """What starts in the next hours."""

    begin: str
    until: str
    is_cut: bool
    slots: int
    tasks: int
    tasks_a_day: float
    peak: int
    peak_at: str | None
    buckets: list[BucketAnswer]
    crowds: list[CrowdAnswer] = Field(description="Those with the longest waits: at most 100 of `crowds_in_all`.")
    crowds_in_all: int
    herds: list[HerdAnswer]
    jobs: list[OutlookAnswer]
    next: str | None = Field(description="What brings the page of jobs that follows; null behind the last.")


class AuditAnswer(Closed):
    """Who changed what."""

    id: int
    at: str
    actor: str
    action: str
    subject: str
    before: Any
    after: Any


ANSWERS: Final[dict[str, type[BaseModel]]] = {
    "queue": QueueAnswer,
    "metrics": MetricsAnswer,
    "health": Health,
    "forecast": ForecastAnswer,
    "audit": Listed[AuditAnswer],
    "explain": ExplainedAnswer,
}
"""By the names of the verbs."""

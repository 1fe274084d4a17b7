"""What the verbs of tasks answer."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field

from atlas.scheduler.task import Cause, Origin, TaskStatus
from atlas.web.api.answers.shapes import Closed, Listed
from atlas.web.api.verb import Priority


class MetricsAnswer(Closed):
    """Figures of tasks."""

    total_tasks: int
    by_status: dict[TaskStatus, int]
    success_rate: float | None = Field(description="0 to 100; null while nothing was tried.")
    average_duration_s: float | None
    min_duration_s: float | None
    max_duration_s: float | None


class TaskAnswer(Closed):
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


class AttemptAnswer(Closed):
    """An attempt that did not end its task."""

    attempt: int
    outcome: str
    started_at: str | None
    ended_at: str
    wait_s: float | None
    error: str | None


class WholeTaskAnswer(TaskAnswer):
    """A task with its attempts."""

    attempts: list[AttemptAnswer]


class LineAnswer(Closed):
    """A line of a task's log."""

    id: int
    attempt: int
    at: str
    level: str
    message: str


class TaskMade(Closed):
    """A task was accepted."""

    task: str = Field(description="Its id.")


class Cancelled(Closed):
    """False if it had ended already."""

    cancelled: bool


ANSWERS: Final[dict[str, type[BaseModel]]] = {
    "list_tasks": Listed[TaskAnswer],
    "submit_task": TaskMade,
    "task_logs": Listed[LineAnswer],
    "cancel_task": Cancelled,
    "retry_task": TaskMade,
    "get_task": WholeTaskAnswer,
}
"""By the names of the verbs."""

"""What the verbs of jobs answer."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from atlas.scheduler.job_view import JobState
from atlas.web.api.answers.shapes import Closed, Listed, TwoLanguages
from atlas.web.api.answers.tasks import MetricsAnswer, TaskAnswer, TaskMade


class PauseAnswer(Closed):
    """A pause."""

    paused_at: str
    until: str | None = Field(description="When it ends by itself.")
    by: str
    reason: str


class JobAnswer(Closed):
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
    pause: PauseAnswer | None
    tags: list[str]


class ValueAnswer(Closed):
    """A policy's value and where it comes from."""

    value: Any
    source: str = Field(alias="from", description="`job`, `defaults`, `config.yaml`, `queue` or `built in`.")


class WholeJobAnswer(JobAnswer, MetricsAnswer):
    """A job with its figures, its policy and its last task; the last five are missing where its row cannot be read."""

    unfinished_tasks: list[str]
    last_task: TaskAnswer | None
    words: TwoLanguages | None = None
    function: str | None = None
    owner: str | None = None
    runbook: str | None = None
    policy: dict[str, ValueAnswer] | None = None


class Why(BaseModel):
    """Why: the verdict, the words, and the facts they rest on, which depend on the verdict."""

    model_config = ConfigDict(extra="allow")

    job: str
    at: str | None
    verdict: str
    words: str


class Paused(Closed):
    """A job is paused."""

    paused: bool


class Resumed(Closed):
    """False if it was not paused."""

    resumed: bool


class SeveralPaused(Closed):
    """Jobs are paused."""

    paused: int = Field(description="So many.")


class SeveralResumed(Closed):
    """Pauses have ended."""

    resumed: int = Field(description="Of so many jobs.")


class ClockChangeAnswer(Closed):
    """A change of a zone's clock and what it does to a schedule."""

    at: str
    words: TwoLanguages


class ExplainedAnswer(Closed):
    """A schedule in words and times."""

    what: str
    timezone: str
    words: TwoLanguages
    times_a_year: int
    clock_change: ClockChangeAnswer | None
    next: list[str]


ANSWERS: Final[dict[str, type[BaseModel]]] = {
    "list_jobs": Listed[JobAnswer],
    "why_job": Why,
    "explain_job": ExplainedAnswer,
    "pause_jobs": SeveralPaused,
    "resume_jobs": SeveralResumed,
    "run_job": TaskMade,
    "pause_job": Paused,
    "resume_job": Resumed,
    "get_job": WholeJobAnswer,
}
"""By the names of the verbs."""

"""What the verbs of the config file answer."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from atlas.scheduler.task import TaskStatus
from atlas.web.api.answers.jobs import PauseAnswer
from atlas.web.api.answers.shapes import Closed, Listed, TwoLanguages


class RevisionAnswer(Closed):
    """An accepted version of the config file."""

    number: int
    accepted_at: str
    source: str
    author: str
    digest: str
    summary: str


class WholeRevisionAnswer(RevisionAnswer):
    """An accepted version with its text."""

    text: str


class ProblemAnswer(Closed):
    """What is wrong, or probably not meant, in a config file, and where."""

    file: str | None
    line: int
    column: int
    severity: Literal["error", "warning"]
    path: str
    value: Any
    message: str


class Checked(Closed):
    """What is wrong with a text."""

    ok: bool = Field(description="True if it could be applied.")
    jobs: list[str]
    problems: list[ProblemAnswer]


class Applied(Closed):
    """What came into force."""

    revision: int | None
    summary: str
    added: int
    changed: int
    removed: int
    unchanged: int


class JobCompared(Closed):
    """One job that is different."""

    id: str
    kind: Literal["+", "-", "~"]
    words: str


class Compared(Closed):
    """What is different between two revisions."""

    a: int
    b: int
    jobs: list[JobCompared]
    lines: list[str]


class DifferenceAnswer(Closed):
    """One field that is different."""

    field: str
    before: Any
    after: Any
    words: TwoLanguages


class TaskStandsAnswer(Closed):
    """An unfinished task."""

    task: str
    status: TaskStatus


class ChangeAnswer(Closed):
    """What an edit does to one job."""

    id: str
    title: str
    kind: Literal["added", "changed", "removed"]
    differences: list[DifferenceAnswer]
    schedule: TwoLanguages
    next_before: str | None
    next_after: str | None
    tasks_a_day_before: int
    tasks_a_day_after: int
    unfinished: list[TaskStandsAnswer]
    pause: PauseAnswer | None
    will_not_run: str | None


class TwoCounts(Closed):
    """A figure as it is, and as it would be."""

    before: int
    after: int


class TwoPeaks(TwoCounts):
    """Tasks at once, as they are and as they would be, of so many slots."""

    slots: int


class CollisionAnswer(Closed):
    """Jobs that would start together."""

    at: str
    times: int
    jobs: list[str]
    proposed_spread: float | None


class PreviewAnswer(Closed):
    """What an edit would do."""

    revision: int | None
    is_new_text: bool
    added: int
    changed: int
    removed: int
    unchanged: int
    jobs: list[ChangeAnswer]
    tasks_a_day: TwoCounts
    peak: TwoPeaks
    collisions: list[CollisionAnswer]
    paused: dict[str, PauseAnswer]
    warnings: list[str]


class JobsSchema(BaseModel):
    """A JSON Schema, as editors read it."""

    model_config = ConfigDict(extra="allow")


ANSWERS: Final[dict[str, type[BaseModel]]] = {
    "schema": JobsSchema,
    "check": Checked,
    "plan": PreviewAnswer,
    "apply": Applied,
    "rollback": Applied,
    "revisions": Listed[RevisionAnswer],
    "revision": WholeRevisionAnswer,
    "diff": Compared,
}
"""By the names of the verbs."""

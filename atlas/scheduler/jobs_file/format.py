"""What `config/cron_jobs.json` may hold, as pydantic models: names, types, bounds, and the JSON Schema made of them.

::

    JobsDocument                    version, timezone, reload, calendars … (JobsFrame: its jobs are not looked at)
    ├── defaults    Policies        retry, limits, missed, keep
    ├── calendars   CalendarEntry   by name
    └── cron_jobs   JobEntry        by id; a Policies with text, when and what
                    └── triggers    IntervalTrigger, DateTrigger

One value is checked here, what depends on two in `building`. None means not set; ``null`` in the file is refused,
because it could mean "no limit" as well. Keys that begin with ``x_`` are notes and dropped. The models live only while
a file is read.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from atlas.scheduler.definition import CatchUp
from atlas.scheduler.jobs_file.values import (
    NOTE,
    CronTexts,
    Duration,
    ErrorName,
    Id,
    Line,
    Moment,
    Named,
    Paragraphs,
    PositiveDuration,
    Priority,
    Span,
    Version,
    Zone,
    without_notes,
)
from atlas.scheduler.schedule import LONGEST_INTERVAL_S, LONGEST_SPREAD_S, SHORTEST_INTERVAL_S
from atlas.scheduler.task import ExecutorKind, OnCrash, Overlap

if TYPE_CHECKING:
    from pydantic_core import core_schema

NOT_IN_THIS_RELEASE: Final = frozenset(
    {
        "depends_on",
        "depends_window",
        "expires_after",
        "max_lateness",
        "max_silence",
        "notify",
        "pool",
        "pools",
        "rate_limit",
    }
)
TRIGGERS_NOT_IN_THIS_RELEASE: Final = frozenset({"file", "event"})


class _Entry(BaseModel):
    """An object of the file: unknown keys are errors, notes are dropped, nothing is converted silently."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        json_schema_extra={"patternProperties": {f"^{NOTE}": True}},
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_notes(cls, raw: Any) -> Any:
        return without_notes(raw)


class Policies(_Entry):
    """How tasks are retried, limited, caught up and kept; in `defaults` for every job of the file."""

    max_retries: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Retries after the first attempt. Default: max_retries of config.yaml, else 3."""
    retry_delay: Duration | None = None
    """Wait before the first retry. Default 2 s."""
    retry_backoff: Annotated[float, Field(ge=1, le=1_000_000)] | None = None
    """Factor from one wait to the next. Default 2."""
    retry_max_delay: Duration | None = None
    """Longest wait before a retry. Default 300 s."""
    retry_jitter: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of a wait that chance may take off, 0 to 1. Default 0.25."""
    retry_on: list[ErrorName] | None = None
    """Names of the exceptions that are retried, base classes included. Default: every one."""
    on_crash: Annotated[OnCrash, Named] | None = None
    """After a crash of the scheduler: retry (at least once, the default) or fail (at most once)."""
    timeout: PositiveDuration | None = None
    """Longest one attempt may take. Default: task_timeout of config.yaml, else 600 s."""
    priority: Priority | None = None
    """Order of service. Default NORMAL."""
    overlap: Annotated[Overlap, Named] | None = None
    """When it fires while its last task is unfinished: skip (default), queue, replace, or allow up to max_instances."""
    max_instances: Annotated[int, Field(ge=1, le=1_000)] | None = None
    """Unfinished tasks at once with overlap allow. Default 1."""
    catchup: Annotated[CatchUp, Named] | None = None
    """Fire times that nobody could serve: none, latest (default) or all."""
    catchup_window: Duration | None = None
    """How old a missed fire time may be to be caught up. Default 3600 s."""
    catchup_limit: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """How many missed fire times catchup all serves at most; the newest 1,000 are looked at. Default 100."""
    keep_days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    """Days for which finished tasks are kept. Default: that of config.yaml, else 30."""
    keep_tasks: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    """Finished tasks kept at most."""
    log_max_bytes: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    """Most that is kept of what one task logs, bytes; 0 keeps nothing. Default: that of config.yaml, else 1,000,000."""


class IntervalTrigger(_Entry):
    """Fires at anchor, anchor + every, anchor + 2 × every …; a restart does not shift it."""

    type: Literal["interval"]
    """This kind of trigger."""
    every: Annotated[PositiveDuration, Field(ge=SHORTEST_INTERVAL_S, le=LONGEST_INTERVAL_S)]
    """Time from one fire to the next."""
    anchor: Moment | None = None
    """One of the fire times. Default: midnight of 1 January 2000 in the job's zone."""


class DateTrigger(_Entry):
    """Fires once."""

    type: Literal["date"]
    """This kind of trigger."""
    at: Moment
    """When; without an offset in the job's zone."""


class JobEntry(Policies):
    """A job: what runs, when, and its own policies."""

    name: Line | None = None
    """Display name. Default: the job's id."""
    description: Paragraphs | None = None
    """What the job is for."""
    tags: list[Line] | None = None
    """Words to find the job by."""
    owner: Line | None = None
    """Who looks after the job."""
    runbook: Line | None = None
    """What to do when it fails: a link or a sentence."""
    enabled: bool | None = None
    """false: the job has no fire times. Default true."""
    cron_expression: CronTexts | None = None
    """Five fields, six with seconds first, an alias such as @hourly, or a list of these."""
    triggers: list[Annotated[IntervalTrigger | DateTrigger, Field(discriminator="type")]] | None = None
    """Intervals and dates, beside or instead of cron_expression."""
    timezone: Zone | None = None
    """Zone in which times are meant. Default: that of the file."""
    start_at: Moment | None = None
    """No fire time lies before."""
    end_at: Moment | None = None
    """No fire time lies after."""
    spread: Annotated[Duration, Field(le=LONGEST_SPREAD_S)] | None = None
    """Largest offset of the job's start; the offset is stable and follows from the id. Default 0."""
    calendar: Line | None = None
    """A name from `calendars`."""
    function: Line | None = None
    """Registered name, or package.module:name of an allow-listed package. Default: the job's id."""
    args: list[Any] | None = None
    """Positional arguments of the function."""
    kwargs: dict[str, Any] | None = None
    """Keyword arguments of the function."""
    executor: Annotated[ExecutorKind, Named] | None = None
    """Where it runs. Default: async for `async def`, else thread."""


class CalendarEntry(_Entry):
    """Local dates on which jobs that name the calendar skip their fire times, and exceptions; both ends count."""

    exclude: list[Span] | None = None
    """Dates that are skipped: one, or first and last."""
    include: list[Span] | None = None
    """Dates that are not skipped although `exclude` covers them."""


class JobsDocument(_Entry):
    """The jobs of Atlas Scheduler. Keys that begin with x_ are notes."""

    schema_: str | None = Field(default=None, alias="$schema")
    """Where editors find this schema."""
    version: Version | None = None
    """Version of the format."""
    timezone: Zone | None = None
    """Zone of every job without its own. Default: that of config.yaml, else UTC."""
    reload: Literal["auto", "manual"] | None = None
    """auto (default): an edit applies within 2 s; manual: only `atlas apply` does."""
    defaults: Policies | None = None
    """Policies of every job that does not set its own."""
    calendars: Annotated[dict[Id, CalendarEntry], BeforeValidator(without_notes)] | None = None
    """Days to leave out, by name."""
    cron_jobs: Annotated[dict[Id, JobEntry], BeforeValidator(without_notes)]
    """The jobs, by id."""


class JobsFrame(JobsDocument):
    """The document with the entries of its jobs as they were read: ten thousand models at once take 12 MB."""

    cron_jobs: Annotated[dict[Id, Any], BeforeValidator(without_notes)]
    """The jobs, by id."""


class _EditorSchema(GenerateJsonSchema):
    """The JSON Schema of the models as editors like it: without ``null``, without titles that repeat the key."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Leave ``null`` out: it is refused."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Leave ``default: null`` out: the description names the default."""
        return self.generate_inner(schema["schema"])

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Allow notes beside jobs and calendars; the members of ``kwargs`` are all arguments."""
        made = super().dict_schema(schema)
        return made | {"patternProperties": {f"^{NOTE}": True}} if "propertyNames" in made else made

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """Never."""
        return False

    def get_title_from_name(self, name: str) -> str:
        """The name itself."""
        return name


def jobs_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the file, made from the models."""
    schema = JobsDocument.model_json_schema(schema_generator=_EditorSchema)
    return {"$schema": _EditorSchema.schema_dialect, **schema, "title": "Atlas Scheduler: cron_jobs.json"}


def schema_text() -> str:
    """`jobs_schema` as the text of ``config/cron_jobs.schema.json``."""
    return json.dumps(jobs_schema(), indent=2, ensure_ascii=False) + "\n"

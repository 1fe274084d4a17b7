"""Jobs: looking, why, explain, run, pause, resume."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final, Self

from pydantic import Field, model_validator

from atlas.scheduler.errors import UnknownJobError
from atlas.scheduler.job_view import status_json
from atlas.scheduler.why.answer import why as reason_of
from atlas.scheduler.zones import zone_named
from atlas.web.api.verb import Call, Instant, Paged, Taken, Verb, listed

if TYPE_CHECKING:
    from atlas.scheduler.job_store.records import JobRecord, Parked


class JobPage(Paged):
    """A page of the jobs, by id."""

    after: str = Field("", description="Behind the job with this id.")


class Moment(Taken):
    """When."""

    at: Instant | None = Field(None, description="The minute in question; without it the latest decision.")


class Times(Taken):
    """How many times."""

    count: int = Field(5, ge=0, le=100, description="So many of the next times.")


class RunArguments(Taken):
    """Other arguments than the job's."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None


class Pausing(Taken):
    """For how long, and why."""

    reason: str = Field("", max_length=500)
    until: Instant | None = Field(None, description="When the pause ends by itself; null for never.")


class Several(Taken):
    """Which jobs."""

    jobs: list[str] | None = Field(None, min_length=1, max_length=10_000, description="The ids of the jobs.")
    all: bool = Field(False, description="In the place of ids: every job.")

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        """Nobody pauses everything by an empty body."""
        if self.all is (self.jobs is not None):
            raise ValueError("either jobs, a list of ids, or all: true")
        return self


class PausingSeveral(Several, Pausing):
    """Which jobs, for how long, and why."""


def list_jobs(call: Call) -> dict[str, Any]:
    """Every job as it stands, by id."""
    asked, shown = call.taken(JobPage), call.atlas.cron.sync.shown
    known: list[JobRecord | Parked] = [*shown.jobs.records(), *shown.jobs.parked()]
    behind = (one for one in known if one.id > asked.after)
    found = heapq.nsmallest(asked.limit + 1, behind, key=lambda one: one.id)
    jobs = [job.to_json() for job in shown.each_job(found[: asked.limit])]
    return listed(jobs, jobs[-1]["id"] if len(found) > asked.limit else None)


def get_job(call: Call) -> dict[str, Any]:
    """One job: its schedule, policies, state and figures."""
    return status_json(call.atlas.cron.sync.get_job_status(call.path["job"]))


def why_job(call: Call) -> dict[str, Any]:
    """Why a job ran, did not run, ran late or again."""
    asked, job_id = call.taken(Moment), call.path["job"]
    now, zone = call.store.clock.now(), zone_named(call.atlas.timezone)
    found = call.store.read(lambda connection: reason_of(connection, job_id, at=asked.at, now=now, zone=zone))
    return found.to_json()


def explain_job(call: Call) -> dict[str, Any]:
    """A job's schedule in words, and its next times."""
    from atlas.scheduler.year_ahead import explained  # few processes are ever asked

    job_id = call.path["job"]
    record = call.atlas.cron.sync.shown.jobs.record(job_id)
    if record is None:
        raise UnknownJobError(job_id)
    count = call.taken(Times).count
    return {"what": job_id, **explained(record.definition.schedule, call.store.clock.now(), count)}


def run_job(call: Call) -> dict[str, Any]:
    """Run a job now, beside its schedule."""
    asked = call.taken(RunArguments)
    made = call.atlas.cron.sync.run_job_now(call.path["job"], args=asked.args, kwargs=asked.kwargs, by=call.by)
    return {"task": made}


def pause_job(call: Call) -> dict[str, Any]:
    """Let a job make no tasks for a while."""
    asked = call.taken(Pausing)
    call.atlas.cron.sync.pause_job(call.path["job"], reason=asked.reason, until=asked.until, by=call.by)
    return {"paused": True}


def resume_job(call: Call) -> dict[str, Any]:
    """End a job's pause."""
    return {"resumed": call.atlas.cron.sync.resume_job(call.path["job"], by=call.by)}


def pause_jobs(call: Call) -> dict[str, Any]:
    """Let several jobs make no tasks for a while: all of them, or none. `all` is those that fire and are not paused."""
    asked = call.taken(PausingSeveral)
    paused = call.atlas.cron.sync.pause_jobs(asked.jobs, reason=asked.reason, until=asked.until, by=call.by)
    return {"paused": len(paused)}


def resume_jobs(call: Call) -> dict[str, Any]:
    """End the pauses of several jobs: all of them, or none. `all` is every paused job that the config file enables."""
    return {"resumed": len(call.atlas.cron.sync.resume_jobs(call.taken(Several).jobs, by=call.by))}


VERBS: Final = (
    Verb("GET", "/jobs", list_jobs, JobPage),
    Verb("GET", "/jobs/{job}/why", why_job, Moment),
    Verb("GET", "/jobs/{job}/explain", explain_job, Times),
    Verb("POST", "/jobs/pause", pause_jobs, PausingSeveral),
    Verb("POST", "/jobs/resume", resume_jobs, Several),
    Verb("POST", "/jobs/{job}/run", run_job, RunArguments),
    Verb("POST", "/jobs/{job}/pause", pause_job, Pausing),
    Verb("POST", "/jobs/{job}/resume", resume_job),
    Verb("GET", "/jobs/{job}", get_job),
)
"""The last one takes whatever is left of a path, so it comes last."""

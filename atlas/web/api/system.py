"""The whole: queue, metrics, health, forecast, audit, and any schedule explained."""

from __future__ import annotations

import heapq
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from atlas.scheduler.schedule import Schedule
from atlas.scheduler.store.audit import read_audit
from atlas.web.api.verb import Call, Instant, Paged, Taken, Verb, listed
from atlas.web.health import look

if TYPE_CHECKING:
    from atlas.scheduler.forecast.result import Crowd, Forecast

MOST_CROWDS: Final = 100
"""Shortages of slots that one answer tells of."""
MOST_NAMED: Final = 20
"""Jobs that are named of one shortage or herd."""


class AuditPage(Paged):
    """Which lines of the audit."""

    subject: str | None = Field(None, description="Of this job, task or file.")
    actor: str | None = Field(None, description="By this one.")
    action: str | None = Field(None, description="Of this kind.")
    since: Instant | None = Field(None, description="Not older.")
    until: Instant | None = Field(None, description="Older than this.")
    before: int | None = Field(None, ge=1, le=2**62, description="`next` of the page before.")


class ForecastPage(Paged):
    """How far, and a page of the jobs, by id."""

    hours: float = Field(24.0, gt=0, le=8760, description="So many hours ahead.")
    after: str = Field("", description="Behind the job with this id: `next` of the page before.")


class Expression(Taken):
    """A schedule."""

    expression: str = Field(max_length=500, description="A cron expression: `0 9 * * mon-fri`.")
    timezone: str | None = Field(None, max_length=100, description="By default the scheduler's.")
    count: int = Field(5, ge=0, le=100, description="So many of the next times.")


def queue(call: Call) -> dict[str, Any]:
    """Slots, and what waits."""
    return call.atlas.get_queue_status()


def metrics(call: Call) -> dict[str, Any]:
    """Figures of all tasks."""
    return call.atlas.status.get_metrics().to_json()


def health(call: Call) -> dict[str, Any]:
    """Is everything as it should be, and if not, what to do."""
    return look(call.site)


def forecast(call: Call) -> dict[str, Any]:
    """What starts in the next hours, whether the slots are enough for it, and a page of the jobs, by id."""
    asked = call.taken(ForecastPage)
    found = call.site.outlooks.of(call.atlas, asked.hours)
    behind = [job for job in found.jobs if job.id > asked.after]
    shown = behind[: asked.limit]
    crowds = _worst(found)
    part = replace(
        found,
        jobs=tuple(shown),
        crowds=tuple(replace(one, late_s=dict(islice(one.late_s.items(), MOST_NAMED))) for one in crowds),
        herds=tuple(replace(one, job_ids=one.job_ids[:MOST_NAMED]) for one in found.herds),
    ).to_json()
    for told, crowd in zip(part["crowds"], crowds, strict=True):
        told["jobs"] = len(crowd.late_s)
    for told, herd in zip(part["herds"], found.herds, strict=True):
        told["jobs"] = len(herd.job_ids)
    following = shown[-1].id if len(behind) > asked.limit else None
    return {
        **part,
        "tasks": found.tasks,
        "tasks_a_day": round(found.tasks_a_day, 1),
        "crowds_in_all": len(found.crowds),
        "next": following,
    }


def _worst(found: Forecast) -> list[Crowd]:
    """The `MOST_CROWDS` with the longest waits, in the order of time."""
    worst = heapq.nlargest(MOST_CROWDS, found.crowds, key=lambda one: max(one.late_s.values()))
    return sorted(worst, key=lambda one: one.at)


def audit(call: Call) -> dict[str, Any]:
    """Who changed what, newest first."""
    asked = call.taken(AuditPage)
    found = call.store.read(
        lambda connection: read_audit(
            connection,
            subject=asked.subject,
            actor=asked.actor,
            action=asked.action,
            since=asked.since,
            until=asked.until,
            before_id=asked.before,
            limit=asked.limit + 1,
        )
    )
    shown = found[: asked.limit]
    return listed([one.to_json() for one in shown], shown[-1].id if len(found) > asked.limit else None)


def explain(call: Call) -> dict[str, Any]:
    """A cron expression in words, and its next times."""
    from atlas.scheduler.year_ahead import explained  # few processes are ever asked

    asked = call.taken(Expression)
    schedule = Schedule(cron=(asked.expression,), timezone=asked.timezone or call.atlas.timezone).validated()
    return {"what": asked.expression, **explained(schedule, call.store.clock.now(), asked.count)}


VERBS: Final = (
    Verb("GET", "/queue", queue),
    Verb("GET", "/metrics", metrics),
    Verb("GET", "/health", health, waits=True),
    Verb("GET", "/forecast", forecast, ForecastPage, is_long=True),
    Verb("GET", "/audit", audit, AuditPage),
    Verb("GET", "/explain", explain, Expression),
)

"""The whole: queue, metrics, health, forecast, audit, and any schedule explained."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from atlas.scheduler.forecast.jobs import forecast_jobs
from atlas.scheduler.forecast.making import forecast as forecast_of
from atlas.scheduler.schedule import Schedule
from atlas.scheduler.store.audit import read_audit
from atlas.scheduler.year_ahead import explained
from atlas.scheduler.zones import zone_named
from atlas.web.api.told import AuditTold, CheckTold, Closed, ExplainedTold, ForecastTold, MetricsTold, QueueTold
from atlas.web.api.verb import Call, Instant, Listed, Paged, Taken, Verb, listed
from atlas.web.health import look

LONGEST_BY_HOURS: Final = 48
"""Hours beyond which a stretch of the forecast is a day."""


class AuditPage(Paged):
    """Which lines of the audit."""

    subject: str | None = Field(None, description="Of this job, task or file.")
    actor: str | None = Field(None, description="By this one.")
    action: str | None = Field(None, description="Of this kind.")
    since: Instant | None = Field(None, description="Not older.")
    until: Instant | None = Field(None, description="Older than this.")
    before: int | None = Field(None, ge=1, le=2**62, description="`next` of the page before.")


class Hours(Taken):
    """How far."""

    hours: float = Field(24.0, gt=0, le=8760, description="So many hours ahead.")


class Expression(Taken):
    """A schedule."""

    expression: str = Field(max_length=500, description="A cron expression: `0 9 * * mon-fri`.")
    timezone: str | None = Field(None, max_length=100, description="By default the scheduler's.")
    count: int = Field(5, ge=0, le=100, description="So many of the next times.")


class Health(Closed):
    """The worst of its checks, and each of them."""

    status: Literal["ok", "degraded", "failing"]
    checks: list[CheckTold]


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
    """What starts in the next hours, and whether the slots are enough for it."""
    hours, scheduler, known = call.taken(Hours).hours, call.site.settings.scheduler, call.atlas.get_jobs()
    found = forecast_of(
        call.store.read(lambda connection: forecast_jobs(connection, known)),
        now=call.store.clock.now(),
        hours=hours,
        slots=scheduler.max_workers,
        limits=scheduler.limits,
        bucket_s=3600.0 if hours <= LONGEST_BY_HOURS else 86_400.0,
        zone=zone_named(call.atlas.timezone),
    )
    return found.to_json()


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
    asked = call.taken(Expression)
    schedule = Schedule(cron=(asked.expression,), timezone=asked.timezone or call.atlas.timezone).validated()
    return {"what": asked.expression, **explained(schedule, call.store.clock.now(), asked.count)}


VERBS: Final = (
    Verb("GET", "/queue", queue, QueueTold),
    Verb("GET", "/metrics", metrics, MetricsTold),
    Verb("GET", "/health", health, Health),
    Verb("GET", "/forecast", forecast, ForecastTold, Hours),
    Verb("GET", "/audit", audit, Listed[AuditTold], AuditPage),
    Verb("GET", "/explain", explain, ExplainedTold, Expression),
)

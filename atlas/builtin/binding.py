"""Gives a scheduler its four built-in functions, bound to its own store, settings and clock.

Each is loaded when it runs: an app that has jobs of its own alone never needs them.
"""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING, Any, Final

from atlas.collectors.barren import Barren
from atlas.scheduler.zones import local_zone_name, zone_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from atlas.builtin.cleanup import Keep
    from atlas.builtin.health.check import HealthSource
    from atlas.scheduler.clock import Clock
    from atlas.scheduler.registry import Registry
    from atlas.scheduler.store.store import Store
    from atlas.settings import Settings

ALIASES: Final = {
    "collect": "data_collection",
    "cleanup": "system_cleanup",
    "health": "health_check",
    "report": "daily_report",
}
"""Function → the job id that means it: a job that names no function uses the one named like itself."""


def bind_builtins(
    registry: Registry, *, store: Store, settings: Settings, health_source: HealthSource, clock: Clock
) -> None:
    """Register `collect`, `cleanup`, `health` and `report`, each under its job id (`ALIASES`) as well."""
    collected = settings.collect.collected
    zone = zone_named(settings.scheduler.timezone or local_zone_name())
    reports = settings.paths.reports

    draw = random.Random().random  # noqa: S311 - for waits; the app may seed the module's own, or draw from it
    barren = Barren()

    async def collect(only: list[str] | None = None) -> dict[str, Any]:
        """Collect all sources, or ``only`` those of these names or types."""
        from atlas.builtin.collect import Collection

        collection = Collection(store=store, settings=settings.collect, clock=clock, draw=draw, barren=barren)
        return await collection.run(only)

    def cleanup(*, dry_run: bool = False) -> dict[str, Any]:
        """Remove what has stayed long enough; ``dry_run`` only counts."""
        from atlas.builtin.cleanup import cleanup as run_cleanup

        return run_cleanup(
            store=store,
            keep=_keep(settings),
            clock=clock,
            collected=collected,
            zone=zone,
            reports=reports,
            dry_run=dry_run,
        )

    def health() -> dict[str, Any]:
        """Look whether everything is as it should be."""
        from atlas.builtin.health.look import health as run_health

        return run_health(store=store, source=health_source, clock=clock, folder=settings.root, collected=collected)

    def report(day: str | None = None, language: str = "en") -> dict[str, Any]:
        """Write the report of ``day`` (default: yesterday) in ``language`` (``en``, ``zh``)."""
        from atlas.builtin.report.write import report as run_report

        return run_report(
            store=store,
            clock=clock,
            zone=zone,
            folder=reports,
            host=socket.gethostname(),
            day=day,
            language=language,
            jobs=list(health_source.each_job()),
            slots=settings.scheduler.max_workers,
            collected=collected,
        )

    functions: tuple[Callable[..., Any], ...] = (collect, cleanup, health, report)
    for function in functions:
        registry.add(ALIASES[function.__name__], function)
        registry.add(function.__name__, function)  # last: it is the name that rows get


def _keep(settings: Settings) -> Keep:
    from atlas.builtin.cleanup import Keep

    wanted = settings.persistence
    return Keep(
        task_days=wanted.keep_days,
        tasks=wanted.keep_tasks,
        log_days=wanted.keep_log_days,
        logs=wanted.keep_log_lines,
        audit_days=wanted.keep_audit_days,
        audit_lines=wanted.keep_audit_lines,
        revision_days=wanted.keep_revision_days,
        revisions=wanted.keep_revisions,
        article_days=wanted.keep_article_days,
        articles=wanted.keep_articles,
        report_days=wanted.keep_report_days,
        reports=wanted.keep_reports,
    )

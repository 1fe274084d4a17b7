"""Writes the report of a day."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final

from atlas.builtin.health.jobs import FAILING_AFTER
from atlas.builtin.report.document import Compared, compose
from atlas.builtin.report.figures import read_day, read_failing_sources, read_skips, read_totals, read_week
from atlas.builtin.report.pages import to_html, to_markdown
from atlas.builtin.report.words import WORDS
from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.forecast.forecast import forecast
from atlas.scheduler.forecast.jobs import forecast_jobs
from atlas.scheduler.job_view import JobState
from atlas.scheduler.snapshot import write_private

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from sqlalchemy import Connection

    from atlas.scheduler.clock import Clock
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.store.store import Store

FIRST_DAY: Final = date(1970, 1, 1)
LAST_DAY: Final = date(9998, 12, 31)
"""Beyond them a day has no week before it, or no end."""


def report(
    *,
    store: Store,
    clock: Clock,
    zone: tzinfo,
    folder: Path,
    host: str,
    day: str | None = None,
    language: str = "en",
    jobs: Sequence[Job] = (),
    slots: int = 1,
    collected: Collection[str],
) -> dict[str, Any]:
    """Write a day's report as Markdown and HTML.

    Returns ``day``, ``tasks``, ``success_rate`` (0–100), ``summary`` (what happened, in words) and ``files``.

    The files go into ``folder``, are private to the user and replace an older report of that day at once, never half.
    ``day`` is ``"2026-11-23"``, ``"today"`` or ``"yesterday"`` (None too) in ``zone``, ``language`` ``"en"`` or
    ``"zh"``; ``jobs`` and ``slots`` say what comes next.

    Raises:
        ArgumentsError: The day or the language is none.
        StoreUnavailableError: The database does not answer.
    """
    words = WORDS.get(language)
    if words is None:
        raise ArgumentsError(f"language {language!r} is not one of {', '.join(WORDS)}")
    now = clock.now()
    which = day_named(day, now.astimezone(zone).date())
    start, end = midnight(which, zone), midnight(which + timedelta(days=1), zone)
    figures = store.read(lambda connection: read_day(connection, start, end, zone))
    document = compose(
        which,
        figures,
        store.read(
            lambda connection: _compared(connection, which, zone, now=now, jobs=jobs, slots=slots, collected=collected)
        ),
        words=words,
        host=host,
        zone=zone,
        made_at=now,
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = which.isoformat() if language == "en" else f"{which.isoformat()}.{language}"
    files = {folder / f"{name}.md": to_markdown(document), folder / f"{name}.html": to_html(document)}
    for path, text in files.items():
        write_private(path, [text])
    return {
        "day": which.isoformat(),
        "tasks": figures.total,
        "success_rate": round(figures.success_rate or 0.0, 2),
        "summary": document.lead.replace("**", ""),
        "files": [str(path) for path in files],
    }


def _compared(
    connection: Connection,
    day: date,
    zone: tzinfo,
    *,
    now: datetime,
    jobs: Sequence[Job],
    slots: int,
    collected: Collection[str],
) -> Compared:
    start, end = midnight(day, zone), midnight(day + timedelta(days=1), zone)
    return Compared(
        before=read_totals(connection, midnight(day - timedelta(days=1), zone), start),
        week=read_week(connection, midnight(day - timedelta(days=7), zone), start),
        skips=read_skips(connection, start, end),
        failing=read_failing_sources(connection, FAILING_AFTER, collected),
        forecast=forecast(forecast_jobs(connection, jobs), now=now, hours=24, slots=slots, zone=zone) if jobs else None,
        paused=[job.name for job in jobs if job.state is JobState.PAUSED],
    )


def day_named(text: str | None, today: date) -> date:
    """The day meant by ``text``.

    Raises:
        ArgumentsError: It means none.
    """
    if text is None or text == "yesterday":
        return today - timedelta(days=1)
    if text == "today":
        return today
    with suppress(ValueError, TypeError):
        if FIRST_DAY <= (day := date.fromisoformat(text)) <= LAST_DAY:
            return day
    raise ArgumentsError(
        f"day {text!r} is neither a date, such as 2026-11-23, in 1970 to 9998 nor 'today' nor 'yesterday'"
    )


def midnight(day: date, zone: tzinfo) -> datetime:
    """The instant ``day`` begins in ``zone``, aware UTC; where the clock skips midnight, the first instant after."""
    return datetime.combine(day, time.min, zone).astimezone(UTC)

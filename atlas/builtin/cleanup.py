"""The job `cleanup`: removes tasks, fire times, log lines, articles and reports that have stayed long enough."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, delete, exists, func, or_, select

from atlas.builtin.progress import check
from atlas.scheduler.store.batches import BATCH, in_batches
from atlas.scheduler.store.retention import datetime_before, delete_old_fires, enforce_task_limits
from atlas.scheduler.store.tables import articles, sources, task_logs

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Connection

    from atlas.scheduler.clock import Clock
    from atlas.scheduler.store.store import Store

_REPORT: Final = re.compile(r"(\d{4}-\d{2}-\d{2})(\.[a-z]{2})?\.(md|html)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What stays how long; None sets no limit.

    Attributes:
        task_days: Days final tasks and decided fire times stay; a job's own ``keep_days`` wins.
        tasks: Final tasks that stay; a job's own ``keep_tasks`` wins.
        article_days: Days articles stay after they were collected.
        articles: Articles that stay.
        report_days: Days reports stay after the day they tell of.
        reports: Days whose reports stay, the newest.
        log_days: Days the lines of tasks stay; they go with their task in any case.
        logs: Lines of tasks that stay, the newest.
    """

    task_days: float | None = 30
    tasks: int | None = 100_000
    article_days: float | None = None
    articles: int | None = None
    report_days: float | None = None
    reports: int | None = None
    log_days: float | None = None
    logs: int | None = None


def cleanup(
    *,
    store: Store,
    keep: Keep,
    clock: Clock,
    collected: Collection[str],
    reports: Path | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Remove what is beyond its limit, a thousand rows a commit; returns how many of each kind.

    Args:
        store: Where the rows are.
        keep: The limits.
        clock: Time.
        collected: Names of the sources that are still collected. What stands in one of them is not removed: it would be
            collected again as new.
        reports: Folder with the reports; None leaves them alone.
        dry_run: Only count.

    Raises:
        StoreUnavailableError: The database does not answer; what was removed before stays removed.
    """
    now = clock.now()
    removed = {
        "tasks": enforce_task_limits(
            store, now=now, keep_days=keep.task_days, keep_tasks=keep.tasks, dry_run=dry_run, between=check
        ),
        "fires": 0
        if keep.task_days is None
        else delete_old_fires(store, now=now, keep_days=keep.task_days, dry_run=dry_run, between=check),
        "log_lines": _remove_log_lines(store, now, keep, dry_run=dry_run),
        "articles": _remove_articles(store, now, keep, collected, dry_run=dry_run),
        "reports": 0 if reports is None else _remove_reports(reports, now, keep, dry_run=dry_run),
    }
    return {**removed, "dry_run": dry_run}


def _remove_log_lines(store: Store, now: datetime, keep: Keep, *, dry_run: bool) -> int:
    before_s = None if keep.log_days is None else datetime_before(now, keep.log_days).timestamp()
    last = store.read(lambda connection: _last_log_line_to_go(connection, before_s, keep.logs))
    if last is None:
        return 0
    line = task_logs.c.id

    def step(connection: Connection, after: int | None) -> tuple[int, int | None]:
        page = select(line).where(line <= last).order_by(line).limit(BATCH)
        ids = connection.execute(page if after is None else page.where(line > after)).scalars().all()
        if ids and not dry_run:
            connection.execute(delete(task_logs).where(line <= ids[-1]))
        return len(ids), ids[-1] if len(ids) == BATCH else None

    return in_batches(store, step, dry_run=dry_run, between=check)


def _last_log_line_to_go(connection: Connection, before_s: float | None, keep: int | None) -> int | None:
    """The id up to which lines go: ids follow time, so both limits are one place in their order."""
    line, places = task_logs.c.id, []
    if before_s is not None:
        young = select(line).where(task_logs.c.logged_at >= before_s).order_by(line).limit(1)
        first = connection.execute(young).scalar()
        places.append(connection.execute(select(func.max(line))).scalar() if first is None else first - 1)
    if keep is not None:
        places.append(connection.execute(select(line).order_by(line.desc()).offset(keep).limit(1)).scalar())
    return max((place for place in places if place is not None), default=None)


def _remove_articles(store: Store, now: datetime, keep: Keep, collected: Collection[str], *, dry_run: bool) -> int:
    at, reasons, latest = articles.c.fetched_at, [], []
    if keep.article_days is not None:
        before_s = datetime_before(now, keep.article_days).timestamp()
        reasons.append(at < before_s)
        latest.append(before_s)
    if keep.articles is not None:
        newest = select(at, articles.c.id).order_by(at.desc(), articles.c.id.desc()).offset(keep.articles).limit(1)
        if (first := store.read(lambda connection: connection.execute(newest).first())) is not None:
            reasons.append(or_(at < first.fetched_at, and_(at == first.fetched_at, articles.c.id <= first.id)))
            latest.append(first.fetched_at)
    if not reasons:
        return 0
    still_listed = exists().where(
        sources.c.name == articles.c.source,
        sources.c.name.in_(list(collected)),
        articles.c.seen_at >= sources.c.read_at,
    )
    page = (
        select(at, articles.c.id)
        .where(at <= max(latest), or_(*reasons), ~still_listed)
        .order_by(at, articles.c.id)
        .limit(BATCH)
    )

    def step(connection: Connection, after: tuple[float, int] | None) -> tuple[int, tuple[float, int] | None]:
        further = page if after is None else page.where(at >= after[0], or_(at > after[0], articles.c.id > after[1]))
        rows = connection.execute(further).all()
        if rows and not dry_run:
            connection.execute(delete(articles).where(articles.c.id.in_([row.id for row in rows])))
        return len(rows), (rows[-1].fetched_at, rows[-1].id) if len(rows) == BATCH else None

    return in_batches(store, step, dry_run=dry_run, between=check)


def _remove_reports(folder: Path, now: datetime, keep: Keep, *, dry_run: bool) -> int:
    found: dict[date, list[Path]] = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        match = _REPORT.fullmatch(file.name)
        if match is None:
            continue  # not ours
        with suppress(ValueError):
            found.setdefault(date.fromisoformat(match[1]), []).append(file)
    first = date.min if keep.report_days is None else datetime_before(now, keep.report_days).date()
    kept = sorted(found, reverse=True)[: keep.reports]
    old = [file for day, files in found.items() if day < first or day not in kept for file in files]
    if not dry_run:
        for file in old:
            file.unlink(missing_ok=True)
    return len(old)

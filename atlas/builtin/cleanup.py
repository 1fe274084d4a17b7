"""The job `cleanup`: removes what has stayed long enough, from tasks and their lines to articles and reports."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, delete, exists, func, not_, or_, select

from atlas.scheduler.context import running_task
from atlas.scheduler.store.batches import BATCH, in_batches
from atlas.scheduler.store.retention import datetime_before, delete_old_fires, enforce_task_limits
from atlas.scheduler.store.tables import articles, audit, config_requests, revisions, sources, task_logs

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, tzinfo
    from pathlib import Path

    from sqlalchemy import Column, ColumnElement, Connection

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
        audit_days: Days lines of the audit stay, and answered requests about the config file.
        audit_lines: Lines of the audit that stay, the newest.
        revision_days: Days revisions of the config file stay; the one in force stays in any case.
        revisions: Revisions that stay, the newest.
    """

    task_days: float | None = 30
    tasks: int | None = 100_000
    article_days: float | None = None
    articles: int | None = None
    report_days: float | None = None
    reports: int | None = None
    log_days: float | None = None
    logs: int | None = None
    audit_days: float | None = None
    audit_lines: int | None = None
    revision_days: float | None = None
    revisions: int | None = None


def cleanup(
    *,
    store: Store,
    keep: Keep,
    clock: Clock,
    collected: Collection[str],
    zone: tzinfo = UTC,
    reports: Path | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Remove what is beyond its limit, a thousand rows a commit; returns how many of each kind.

    What stands in one of the ``collected`` sources is not removed: it would be collected again as new.

    Raises:
        StoreUnavailableError: The database does not answer; what was removed before stays removed.
    """
    now = clock.now()
    removed = {
        "tasks": enforce_task_limits(
            store, now=now, keep_days=keep.task_days, keep_tasks=keep.tasks, dry_run=dry_run, between=_check
        ),
        "fires": 0
        if keep.task_days is None
        else delete_old_fires(store, now=now, keep_days=keep.task_days, dry_run=dry_run, between=_check),
        **{name: rows.remove(store, now, dry_run=dry_run) for name, rows in _numbered(keep).items()},
        "articles": _remove_articles(store, now, keep, collected, dry_run=dry_run),
        "reports": 0 if reports is None else _remove_reports(reports, now.astimezone(zone), keep, dry_run=dry_run),
    }
    return {**removed, "dry_run": dry_run}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbered:
    """Rows whose numbers follow their times, so that every limit is a place in their order.

    Attributes:
        number: Their primary key.
        at: When they were made.
        days: Days they stay.
        count: How many of the newest stay.
        spared: What stays whatever the limits say; None spares nothing.
    """

    number: Column[int]
    at: Column[float]
    days: float | None
    count: int | None = None
    spared: ColumnElement[bool] | None = None

    def last_to_go(self, connection: Connection, now: datetime) -> int | None:
        """The number up to which they go, None if all stay."""
        places = []
        if self.days is not None:
            young = select(self.number).where(self.at >= datetime_before(now, self.days).timestamp())
            first = connection.execute(young.order_by(self.number).limit(1)).scalar()
            places.append(connection.execute(select(func.max(self.number))).scalar() if first is None else first - 1)
        if self.count is not None:
            newest = select(self.number).order_by(self.number.desc())
            places.append(connection.execute(newest.offset(self.count).limit(1)).scalar())
        return max((place for place in places if place is not None), default=None)

    def remove(self, store: Store, now: datetime, *, dry_run: bool) -> int:
        """Remove what is beyond a limit; returns how many rows."""
        last = store.read(lambda connection: self.last_to_go(connection, now))
        if last is None:
            return 0
        page = select(self.number).where(self.number <= last).order_by(self.number).limit(BATCH)
        page = page if self.spared is None else page.where(not_(self.spared))

        def step(connection: Connection, after: int | None) -> tuple[int, int | None]:
            numbers = connection.execute(page if after is None else page.where(self.number > after)).scalars().all()
            if numbers and not dry_run:
                connection.execute(delete(self.number.table).where(self.number.in_(numbers)))
            return len(numbers), numbers[-1] if len(numbers) == BATCH else None

        return in_batches(store, step, dry_run=dry_run, between=_check)


def _numbered(keep: Keep) -> dict[str, _Numbered]:
    newest = select(func.max(revisions.c.number)).scalar_subquery()
    return {
        "log_lines": _Numbered(number=task_logs.c.id, at=task_logs.c.logged_at, days=keep.log_days, count=keep.logs),
        "audit_lines": _Numbered(number=audit.c.id, at=audit.c.at, days=keep.audit_days, count=keep.audit_lines),
        "revisions": _Numbered(
            number=revisions.c.number,
            at=revisions.c.accepted_at,
            days=keep.revision_days,
            count=keep.revisions,
            spared=revisions.c.number == newest,  # it is in force
        ),
        "requests": _Numbered(
            number=config_requests.c.id,
            at=config_requests.c.asked_at,
            days=keep.audit_days,
            spared=config_requests.c.answered_at.is_(None),
        ),
    }


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

    return in_batches(store, step, dry_run=dry_run, between=_check)


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


def _check() -> None:
    """Stop between two batches if the task it runs in was asked to."""
    if (task := running_task()) is not None:
        task.check()

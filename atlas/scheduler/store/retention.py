"""Removes what has stayed long enough: final tasks with their attempts and logs, and decided fire times.

Everything goes in batches, each a commit of its own, so that nobody waits for more than a thousand rows. Unfinished
tasks are never touched, and lifetime totals (``counters``) stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, delete, func, not_, or_, select, true

from atlas.scheduler.definition_text import policies_in
from atlas.scheduler.store.batches import BATCH, in_batches, nothing
from atlas.scheduler.store.tables import attempts, fires, jobs, task_logs, tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

    from atlas.scheduler.definition import JobPolicies
    from atlas.scheduler.store.store import Store

DAY_S: Final = 86_400.0
SAME_S: Final = 60.0
"""Two limits that lie closer together are one: the general one was made a moment ago."""


def job_limits(connection: Connection) -> dict[str, JobPolicies]:
    """What every job says about its history, by its id; rows that cannot be read say nothing."""
    limits = {}
    for job_id, text in connection.execute(select(jobs.c.id, jobs.c.job_state)):
        try:
            limits[job_id] = policies_in(bytes(text))
        except ValueError:
            continue  # parked; its job store says so
    return limits


def delete_final_tasks(
    store: Store,
    *,
    before: datetime | None,
    keep: int | None,
    job_id: str | None = None,
    batch: int = BATCH,
    dry_run: bool = False,
    between: Callable[[], None] = nothing,
) -> int:
    """Remove final tasks ended ``before`` or beyond the newest ``keep``, with attempts and logs; returns how many.

    None sets no limit. A job's own limits are stronger than general ones: what ``keep_days`` or ``keep_tasks`` of its
    definition keeps is removed only when ``job_id`` names it. ``between`` is called after each ``batch``, which is a
    commit, and may raise to stop; ``dry_run`` only counts.

    Raises:
        StoreUnavailableError: The database does not answer; batches removed before stay removed.
    """
    rule = _rule(store, before, job_id)
    condition = _condition(store, rule, keep)
    return 0 if condition is None else _remove(store, rule, condition, batch, dry_run=dry_run, between=between)


def enforce_task_limits(
    store: Store,
    *,
    now: datetime,
    keep_days: float | None,
    keep_tasks: int | None,
    dry_run: bool = False,
    between: Callable[[], None] = nothing,
) -> int:
    """Remove every final task that is beyond the limits of its job, or else the general ones; returns how many.

    None sets no limit. ``dry_run`` only counts; ``between`` is called after each batch and may raise to stop.

    Raises:
        StoreUnavailableError: The database does not answer; batches removed before stay removed.
    """
    rule = _rule(store, None if keep_days is None else datetime_before(now, keep_days), None)
    general = _condition(store, rule, keep_tasks)
    total = 0 if general is None else _remove(store, rule, general, BATCH, dry_run=dry_run, between=between)
    for job_id, own in store.read(job_limits).items():
        if own.keep_tasks is None and own.keep_days in {None, keep_days}:
            continue
        days = keep_days if own.keep_days is None else own.keep_days
        rule = _rule(store, None if days is None else datetime_before(now, days), job_id)
        condition = _condition(store, rule, own.keep_tasks)
        if condition is not None and general is not None and dry_run:
            condition = and_(condition, not_(general))  # those are counted already
        if condition is not None:
            total += _remove(store, rule, condition, BATCH, dry_run=dry_run, between=between)
    return total


def delete_old_fires(
    store: Store,
    *,
    now: datetime,
    keep_days: float,
    batch: int = BATCH,
    dry_run: bool = False,
    between: Callable[[], None] = nothing,
) -> int:
    """Remove decided fire times older than ``keep_days``; returns how many rows.

    What a job could still catch up stays, whatever ``keep_days`` says: its row is why it is not served a second time.
    """
    limits = store.read(job_limits)
    windows = {name: own.catchup_window_s + DAY_S for name, own in limits.items()}
    total = 0
    job_id = store.read(lambda connection: _next_job(connection, None))
    while job_id is not None:
        oldest_s = now.timestamp() - max(keep_days * DAY_S, windows.get(job_id, DAY_S))
        old = and_(fires.c.job_id == job_id, fires.c.fire_time < oldest_s, func.coalesce(fires.c.last, 0.0) < oldest_s)

        def step(
            connection: Connection, after: float | None, old: ColumnElement[bool] = old
        ) -> tuple[int, float | None]:
            page = select(fires.c.job_id, fires.c.fire_time).where(old).order_by(fires.c.fire_time).limit(batch)
            rows = connection.execute(page if after is None else page.where(fires.c.fire_time > after)).all()
            if rows and not dry_run:
                connection.execute(delete(fires).where(old, fires.c.fire_time <= rows[-1].fire_time))
            return len(rows), rows[-1].fire_time if len(rows) == batch else None

        total += in_batches(store, step, dry_run=dry_run, between=between)
        last = job_id
        job_id = store.read(lambda connection, last=last: _next_job(connection, last))  # type: ignore[misc]
    return total


def datetime_before(now: datetime, days: float) -> datetime:
    """The instant ``days`` before ``now``, the earliest there is if that is before all calendars."""
    try:
        return now - timedelta(days=days)
    except OverflowError:
        return now.min.replace(tzinfo=now.tzinfo)


def _rule(store: Store, before: datetime | None, job_id: str | None) -> _TaskRule:
    rule = _TaskRule(job_id, None if before is None else before.timestamp())
    if job_id is not None:
        return rule
    return store.read(lambda connection: rule.sparing(job_limits(connection), store.clock.now().timestamp()))


def _condition(store: Store, rule: _TaskRule, keep: int | None) -> ColumnElement[bool] | None:
    return rule.condition(None if keep is None else store.read(lambda connection: rule.key_behind(connection, keep)))


def _remove(
    store: Store,
    rule: _TaskRule,
    condition: ColumnElement[bool],
    batch: int,
    *,
    dry_run: bool,
    between: Callable[[], None],
) -> int:
    def step(connection: Connection, after: tuple[float, str] | None) -> tuple[int, tuple[float, str] | None]:
        rows = rule.page(connection, condition, after, batch)
        ids = [row.id for row in rows]
        removed = len(ids) if dry_run else _delete_tasks(connection, ids)
        return removed, (rows[-1].at, rows[-1].id) if len(rows) == batch else None

    return in_batches(store, step, dry_run=dry_run, between=between)


@dataclass(frozen=True, slots=True)
class _TaskRule:
    """Which final tasks are meant, and the order they are looked at in, which follows an index."""

    job_id: str | None
    before_s: float | None
    spared_by_age: Collection[str] = ()
    spared_by_count: Collection[str] = ()

    def sparing(self, limits: Mapping[str, JobPolicies], now_s: float) -> _TaskRule:
        """The general rule, without the jobs that keep more by their own."""
        longer = [
            name
            for name, own in limits.items()
            if self.before_s is not None
            and own.keep_days is not None
            and now_s - own.keep_days * DAY_S < self.before_s - SAME_S
        ]
        return replace(
            self,
            spared_by_age=longer,
            spared_by_count=[name for name, own in limits.items() if own.keep_tasks is not None],
        )

    @property
    def at(self) -> ColumnElement[Any]:
        return tasks.c.finished_at if self.job_id is None else tasks.c.created_at

    @property
    def mine(self) -> ColumnElement[bool]:
        final = tasks.c.finished_at.is_not(None)
        return final if self.job_id is None else and_(final, tasks.c.job_id == self.job_id)

    def key_behind(self, connection: Connection, keep: int) -> tuple[float, str] | None:
        """(time, id) of the newest task that is one too many; None when there are no more than ``keep``."""
        newest = (
            select(self.at.label("at"), tasks.c.id)
            .where(self.mine, _not_of(self.spared_by_count))
            .order_by(self.at.desc(), tasks.c.id.desc())
        )
        row = connection.execute(newest.offset(keep).limit(1)).first()
        return None if row is None else (row.at, row.id)

    def condition(self, count_key: tuple[float, str] | None) -> ColumnElement[bool] | None:
        """What makes a task go, None if nothing does."""
        reasons, latest = [], []
        if self.before_s is not None:
            reasons.append(and_(tasks.c.finished_at < self.before_s, _not_of(self.spared_by_age)))
            latest.append(self.before_s)
        if count_key is not None:
            at, task_id = count_key
            too_many = or_(self.at < at, and_(self.at == at, tasks.c.id <= task_id))
            reasons.append(and_(too_many, _not_of(self.spared_by_count)))
            latest.append(at)
        # The plain bound is what the index is searched by; a task is never made after its end.
        return and_(self.mine, self.at <= max(latest), or_(*reasons)) if reasons else None

    def page(
        self, connection: Connection, condition: ColumnElement[bool], after: tuple[float, str] | None, limit: int
    ) -> list[Any]:
        """The next tasks that go, oldest first."""
        statement = select(tasks.c.id, self.at.label("at")).where(condition).order_by(self.at, tasks.c.id).limit(limit)
        if after is not None:
            at, task_id = after
            statement = statement.where(self.at >= at, or_(self.at > at, tasks.c.id > task_id))
        return list(connection.execute(statement))


def _not_of(jobs_spared: Collection[str]) -> ColumnElement[bool]:
    return or_(tasks.c.job_id.is_(None), tasks.c.job_id.not_in(jobs_spared)) if jobs_spared else true()


def _delete_tasks(connection: Connection, ids: list[str]) -> int:
    # Asked again: on PostgreSQL another process may have replaced a hand-moved task meanwhile.
    statement = delete(tasks).where(tasks.c.id.in_(ids), tasks.c.finished_at.is_not(None)).returning(tasks.c.id)
    gone = list(connection.execute(statement).scalars())
    for table in (attempts, task_logs):
        connection.execute(delete(table).where(table.c.task_id.in_(gone)))
    return len(gone)


def _next_job(connection: Connection, after: str | None) -> str | None:
    """The next job that has fire times, by the primary key alone."""
    first = select(func.min(fires.c.job_id))
    return connection.execute(first if after is None else first.where(fires.c.job_id > after)).scalar()

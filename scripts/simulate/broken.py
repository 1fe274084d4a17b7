"""Schedulers that are broken on purpose: a simulation that does not catch them proves nothing."""

# ruff: noqa: SLF001 - each replaces one piece of the product, from outside

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from atlas.scheduler.passes import Pass
    from atlas.scheduler.task import Task


def _lose_catch_up() -> Any:
    """Of several fire times that are caught up together the oldest is forgotten."""
    from atlas.scheduler.bridge import Bridge

    whole = Bridge._fire

    def fire(self: Bridge, decided: Any, record: Any, definition: Any, fire_time: Any, *, behind_another: bool) -> bool:
        if not behind_another and record.trigger.schedule.next_after(fire_time) < decided.now:
            return True
        return whole(self, decided, record, definition, fire_time, behind_another=behind_another)

    return mock.patch.object(Bridge, "_fire", fire)


def _serve_twice() -> Any:
    """Who finds a fire time served makes a second task of it, and a start forgets where it was."""
    from atlas.scheduler import passes
    from atlas.scheduler.job_store import JobStore
    from atlas.scheduler.store.task_rows import full_row, insert_tasks

    whole, load = passes._write_free_fires, JobStore.load

    def write(connection: Connection, decided: Pass) -> list[Task]:
        kept = whole(connection, decided)
        second = [task for task in decided.tasks if task not in kept]
        insert_tasks(connection, [full_row(task) for task in second])
        return decided.tasks

    def load_behind(self: JobStore) -> None:
        load(self)
        for record in self._records.values():
            if record.next_run is not None:
                record.next_run = record.trigger.schedule.previous_before(record.next_run) or record.next_run
        self._rebuild_heap()

    stack = mock.patch.multiple(JobStore, load=load_behind)
    return _both(mock.patch.object(passes, "_write_free_fires", write), stack)


def _endless_attempts() -> Any:
    """The limit of retries is not looked at."""
    from atlas.scheduler.retry import RetryPolicy

    return mock.patch.object(RetryPolicy, "allows", lambda _self, failures: failures < 40)


def _no_recovery() -> Any:
    """A start takes over nothing of what a dead scheduler left."""
    from atlas.scheduler.metrics import Moves
    from atlas.scheduler.store import recovery

    return mock.patch.object(recovery, "recover", lambda *_: ([], [], Moves()))


def _clock_stays_ahead() -> Any:
    """Nobody brings starts back when the wall clock is set back."""
    from atlas.scheduler.job_store import JobStore

    return mock.patch.object(JobStore, "clock_came_back", lambda _self: 0)


def _fold_twice() -> Any:
    """Fixed times come twice when the clock shows an hour twice, and not at all when it leaves one out."""
    from atlas.scheduler.cron.fields import CronFields

    return mock.patch.object(CronFields, "wildcard", property(lambda _self: True))


def _wrong_counters() -> Any:
    """Tasks that ran out of time are not counted."""
    from atlas.scheduler.metrics import Moves
    from atlas.scheduler.task import TaskStatus

    whole = Moves.moved

    def moved(self: Moves, job_id: Any, was: Any, status: Any, duration_s: Any) -> None:
        if status is not TaskStatus.TIMEOUT:
            whole(self, job_id, was, status, duration_s)

    return mock.patch.object(Moves, "moved", moved)


def _told_before_commit() -> Any:
    """The last statement of each commit is told and never written."""
    from atlas.scheduler.store import writer

    return mock.patch.object(writer, "update_tasks", lambda connection, rows: _ALL_BUT_LAST(connection, rows))


def _ALL_BUT_LAST(connection: Connection, rows: list[dict[str, Any]]) -> None:  # noqa: N802
    from atlas.scheduler.store.task_rows import update_tasks

    update_tasks(connection, rows[:-1])


@contextmanager
def _both(*patches: Any) -> Iterator[None]:
    with patches[0], patches[1]:
        yield


VARIANTS: Final = {
    "lose-catch-up": _lose_catch_up,
    "serve-twice": _serve_twice,
    "endless-attempts": _endless_attempts,
    "no-recovery": _no_recovery,
    "clock-stays-ahead": _clock_stays_ahead,
    "fold-twice": _fold_twice,
    "wrong-counters": _wrong_counters,
    "told-before-commit": _told_before_commit,
}


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """Break this process as ``name`` says for a while; None leaves it whole."""
    if name is None:
        yield
        return
    with VARIANTS[name]():
        yield

"""Schedulers that are broken on purpose: a simulation that does not catch them proves nothing."""

# ruff: noqa: SLF001 - each replaces one piece of the product, from outside

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from atlas.scheduler.job_store.passes import Pass


def _lose_catch_up() -> Any:
    """Of several fire times that are caught up together the oldest is forgotten."""
    from atlas.scheduler.bridge import Bridge

    whole = Bridge._fire

    def fire(self: Bridge, decided: Any, record: Any, definition: Any, fire_time: Any, *, behind_another: bool) -> bool:
        following = record.trigger.schedule.next_after(fire_time)
        if following is not None and following < decided.now:
            return True
        return whole(self, decided, record, definition, fire_time, behind_another=behind_another)

    return mock.patch.object(Bridge, "_fire", fire)


def _serve_twice() -> Any:
    """Who finds a fire time served makes a second task of it."""
    from atlas.scheduler.job_store import passes
    from atlas.scheduler.store.task_rows import insert_new_tasks, new_row

    whole = passes._without_served

    def write(connection: Connection, decided: Pass) -> passes.Written:
        written = whole(connection, decided)
        insert_new_tasks(connection, [new_row(task) for task in decided.tasks if task not in written.tasks])
        return written._replace(tasks=decided.tasks)

    return mock.patch.object(passes, "_without_served", write)


def _endless_attempts() -> Any:
    """The limit of retries is not looked at."""
    from atlas.scheduler.retry import RetryPolicy

    return mock.patch.object(RetryPolicy, "allows", lambda _self, failures: failures < 40)


def _no_recovery() -> Any:
    """A start takes over nothing of what a dead scheduler left."""
    from atlas.scheduler.metrics import Moves
    from atlas.scheduler.store import recovery

    return mock.patch.object(recovery, "recover", side_effect=lambda *_: ([], [], Moves()))


@contextmanager
def _fold_twice() -> Iterator[None]:
    """Fixed times come twice when the clock shows an hour twice, and not at all when it leaves one out."""
    from atlas.scheduler.cron.expression import parse_cron
    from atlas.scheduler.cron.fields import parse_fields

    def all_wild(text: str) -> Any:
        return replace(parse_fields(text), wildcard=True)

    with mock.patch("atlas.scheduler.cron.expression.parse_fields", all_wild):
        parse_cron.cache_clear()
        yield
    parse_cron.cache_clear()


def _wrong_counters() -> Any:
    """Tasks that ran out of time are not counted."""
    from atlas.scheduler.metrics import Moves
    from atlas.scheduler.task import TaskStatus

    whole = Moves.moved_all

    def moved_all(self: Moves, moves: Any) -> None:
        whole(self, [move for move in moves if move.status is not TaskStatus.TIMEOUT])

    return mock.patch.object(Moves, "moved_all", moved_all)


def _told_and_not_written() -> Any:
    """The last change of each commit is told and never written."""
    from atlas.scheduler.store.task_rows import update_tasks

    def all_but_last(connection: Connection, rows: Any) -> None:
        update_tasks(connection, rows[:-1])

    return mock.patch("atlas.scheduler.store.writer.update_tasks", all_but_last)


def _poison_spreads() -> Any:
    """A job that is refused takes the whole pass with it."""
    from atlas.scheduler.job_store import door
    from atlas.scheduler.job_store.blame import Shared
    from atlas.scheduler.job_store.passes import Written
    from atlas.scheduler.store.refusals import is_jobs_own

    def write_together(connection: Connection, decided: Pass, _suspects: Any, write: Any) -> Shared:
        try:
            with connection.begin_nested():
                return Shared(write(connection, decided), {})
        except Exception as error:
            if not is_jobs_own(error):
                raise
            return Shared(Written([], []), dict.fromkeys(decided.job_ids, error))

    return mock.patch.object(door, "write_without_refused", write_together)


def _forget_what_waits() -> Any:
    """A job that is set apart goes on behind what is due of it."""
    from atlas.scheduler.job_store.table import JobTable

    whole = JobTable.set_apart

    def set_apart(self: JobTable, new: Any) -> Any:
        old, record = whole(self, new), self.record(new.id)
        with suppress(OSError):  # its times are what is poisoned
            following = None if record is None else record.trigger.get_next_fire_time(record.next_run, new.tried_at)
            if following is not None:
                self._look_s.pop(new.id, None)
                self.move({new.id: following})
        return old

    return mock.patch.object(JobTable, "set_apart", set_apart)


VARIANTS: Final = {
    "lose-catch-up": _lose_catch_up,
    "serve-twice": _serve_twice,
    "endless-attempts": _endless_attempts,
    "no-recovery": _no_recovery,
    "fold-twice": _fold_twice,
    "wrong-counters": _wrong_counters,
    "told-and-not-written": _told_and_not_written,
    "poison-spreads": _poison_spreads,
    "forget-what-waits": _forget_what_waits,
}


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """Break this process as ``name`` says for a while; None leaves it whole."""
    if name is None:
        yield
        return
    with VARIANTS[name]():
        yield

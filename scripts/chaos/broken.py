"""Three schedulers that are broken on purpose: a driver that does not catch them proves nothing.

Each is made from outside, by replacing one piece of the product in the process that runs it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, create_engine, insert, inspect, text, update

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from atlas.scheduler.job_store.passes import Pass
    from atlas.scheduler.task import Task


def no_unique_key() -> None:
    """Fire times have no unique key, and the clock's position follows one commit after them."""
    from atlas.scheduler.job_store import passes
    from atlas.scheduler.store.tables import fires, jobs
    from atlas.scheduler.store.task_rows import insert_new_tasks, new_row

    behind: list[dict[str, Any]] = []

    def write_pass(connection: Connection, decided: Pass) -> passes.Written:
        if decided.served:
            connection.execute(insert(fires), [row._asdict() for row in decided.served])
        if decided.skipped:
            connection.execute(insert(fires), decided.skipped)
        insert_new_tasks(connection, [new_row(task) for task in decided.tasks])
        if behind:
            move = update(jobs).where(jobs.c.id == bindparam("job")).values(next_run_time=bindparam("at"))
            connection.execute(move, behind)
        behind[:] = [{"job": job_id, "at": at.timestamp()} for job_id, at in decided.next_run.items()]
        return passes.Written(decided.tasks, [one.event for one in decided.skips])

    passes.write_pass = write_pass


def drop_unique_key(database: str) -> None:
    """Take the key from the table, if there is one."""
    engine = create_engine(database)
    tables = inspect(engine)
    if tables.has_table("fires") and tables.get_pk_constraint("fires")["constrained_columns"]:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE fires_without_key AS SELECT * FROM fires"))
            connection.execute(text("DROP TABLE fires"))
            connection.execute(text("ALTER TABLE fires_without_key RENAME TO fires"))
    engine.dispose()


def ack_before_commit() -> None:
    """`submit` returns before its row is on disk."""
    from atlas.scheduler.client import SyncAtlasClient

    committed: Callable[..., str] = SyncAtlasClient._put  # noqa: SLF001 - the piece that is replaced

    def put_later(self: SyncAtlasClient, task: Task, **options: Any) -> str:
        def later() -> None:
            time.sleep(0.2)
            committed(self, task, **options)

        threading.Thread(target=later, daemon=True).start()
        return task.id

    SyncAtlasClient._put = put_later  # type: ignore[method-assign] # noqa: SLF001


def no_recovery() -> None:
    """A start takes over nothing of what a dead scheduler left."""
    from atlas.scheduler.metrics import Moves
    from atlas.scheduler.store import recovery

    recovery.recover = lambda *_: ([], [], Moves())


VARIANTS: Final = {
    "no-unique-key": no_unique_key,
    "ack-before-commit": ack_before_commit,
    "no-recovery": no_recovery,
}


def apply(name: str | None) -> None:
    """Break this process as ``name`` says; None leaves it whole."""
    if name is not None:
        VARIANTS[name]()

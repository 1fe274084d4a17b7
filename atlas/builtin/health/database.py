"""Whether the database reads and takes a commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, insert, select

from atlas.builtin.health.check import Check
from atlas.scheduler.errors import StoreUnavailableError
from atlas.scheduler.message import Message, joined
from atlas.scheduler.store.tables import sources, tasks

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from atlas.scheduler.clock import Clock
    from atlas.scheduler.store.store import Store
SLOW_STORE_S: Final = 1.0
STORE_REMEDIES: Final = (
    ("full", Message("free space on its disk; work goes on by itself")),
    ("No space", Message("free space on its disk; work goes on by itself")),
    ("read-only", Message("make the database writable again; work goes on by itself")),
    ("readonly", Message("make the database writable again; work goes on by itself")),
    ("locked", Message("find the process that has it open, and end that one")),
    ("lock timeout", Message("find the session that has locked a table (pg_stat_activity), and end that one")),
    ("deleted", Message("stop this process, or move the old file back")),
    ("connect", Message("start the database server, or see why it is not reached; work goes on by itself")),
)
"""What to do, by what the database says."""
STORE_REMEDY: Final = Message(
    "see the log, and whether the database's disk and server are well; work goes on by itself"
)
LOSS_S: Final = 7 * 86_400.0
"""How long a database that was lost and made anew is told."""
LOSS_REMEDY: Final = Message("find out who touches the file; to go back to a backup, stop the scheduler first")


def store_check(store: Store, clock: Clock) -> Check:
    """Whether the database reads and takes a commit, and if not, what it says and who is in the way."""
    fault = store.writer.fault
    if fault is not None:
        store.writer.work(_write_and_undo, store.ticket(), tells=False)  # nobody else may try; the next look knows
        return _store_fault(store, fault)
    try:
        return _tried(store, clock)
    except StoreUnavailableError as error:
        return _store_fault(store, str(error))


def _store_fault(store: Store, fault: str) -> Check:
    holder = store.lock_holder()
    since_s = store.writer.failing_s
    parts: list[str] = [
        Message("takes no commit since {s} s: {fault}", s=f"{since_s:.0f}", fault=fault)
        if since_s
        else Message("takes no commit: {fault}", fault=fault)
    ]
    if holder is not None:
        parts.append(holder.words)
    remedy: str = next((remedy for words, remedy in STORE_REMEDIES if words in fault), STORE_REMEDY)
    if holder is not None:
        remedy = holder.remedy
    return Check(status="failing", detail=joined("; ", parts), remedy=remedy)


def _tried(store: Store, clock: Clock) -> Check:
    start_s = clock.monotonic()
    store.read(lambda connection: connection.execute(select(tasks.c.id).limit(1)).first())
    read_s = clock.monotonic()
    store.write(_write_and_undo)
    write_s = clock.monotonic()
    lost = [loss for loss in store.losses if (clock.now() - loss.at).total_seconds() <= LOSS_S]
    if lost:
        return Check(
            status="degraded",
            detail=Message("{at} {what}", at=lost[-1].at.isoformat(timespec="seconds"), what=lost[-1].words),
            remedy=LOSS_REMEDY,
        )
    took = [f"{(end_s - begin_s) * 1000:.1f}" for begin_s, end_s in ((start_s, read_s), (read_s, write_s))]
    detail = Message("read {read} ms, write {write} ms", read=took[0], write=took[1])
    if write_s - start_s > SLOW_STORE_S:
        remedy = Message("look for another process that locks the database, and at the load of its disk")
        return Check(status="degraded", detail=Message("slow: {detail}", detail=detail), remedy=remedy)
    return Check(detail=detail)


def _write_and_undo(connection: Connection) -> None:
    # Rows that really reach the disk, and none that stays.
    name = " health"
    connection.execute(delete(sources).where(sources.c.name == name))
    connection.execute(insert(sources).values(name=name, address="", failures=0))
    connection.execute(delete(sources).where(sources.c.name == name))

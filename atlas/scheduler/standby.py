"""What a queue does while another process serves its store: accept, cancel and wait through the rows."""

from __future__ import annotations

import threading
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from loguru import logger
from sqlalchemy import select

from atlas.scheduler.client_tasks import put, put_all
from atlas.scheduler.errors import AtlasError, FunctionRefusedError
from atlas.scheduler.metrics import Totals
from atlas.scheduler.store import recovery
from atlas.scheduler.store.audit import Action
from atlas.scheduler.store.leases import living_lease
from atlas.scheduler.store.store import ACCEPT_S
from atlas.scheduler.store.tables import tasks
from atlas.scheduler.store.task_rows import fetch_known, task_of
from atlas.scheduler.store.tickets import wake_all
from atlas.scheduler.task import Origin, Task, TaskPriority
from atlas.scheduler.tasks.submission import again, refuse_lost

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.store.store import Store
    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.tasks.live import Live


class Standby:
    """The role of a queue that waits for its turn."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Ticket]] = {}
        self._closed = False

    def start(self, waiting: Mapping[str, Sequence[Ticket]] | None = None) -> None:
        """Hear of what the leader commits; ``waiting`` are tickets that it held as the leader."""
        self.store.on_foreign(self._look)
        watch_on(self.find, waiting or {})

    def close(self) -> dict[str, list[Ticket]]:
        """Hear no more; returns who waits still."""
        self.store.off_foreign(self._look)
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, {}
        self._written()
        return waiting

    def _written(self, _value: object = None) -> None:
        """What was written here for the leader is looked for, should that be this process now: it hears of others."""
        if self._closed:
            self.store.writer.look_again()

    def submit(
        self,
        lives: Sequence[Live],
        *,
        unique: bool,
        loop: asyncio.AbstractEventLoop | None,
        also: Callable[[Connection], None] | None = None,
    ) -> Ticket:
        """Write tasks for the leader, and ``also`` with them.

        Raises:
            FunctionRefusedError: A function or its arguments live in this process only.
        """
        for live in lives:
            if live.task.volatile:
                raise FunctionRefusedError(
                    f"{live.task.function} lives in this process only, and another one serves this store: "
                    "register the function and give it JSON arguments"
                )
        made, ticket = [live.task for live in lives], self.store.ticket(loop, wait_s=ACCEPT_S)
        self.store.writer.work(
            lambda connection: put_all(connection, made, unique=unique, also=also), ticket, after=self._written
        )
        return ticket

    def retry(self, task: Task, *, by: str, loop: asyncio.AbstractEventLoop | None) -> tuple[Task, Ticket]:
        """See `Serving.retry`; where the leader finds no room for it after all, it ends CANCELLED (``busy``)."""
        new = again(task, now=self.store.clock.now())
        if new.volatile and new.job_id is None:
            refuse_lost(new)

        ticket = self.store.ticket(loop, wait_s=ACCEPT_S)
        self.store.writer.work(
            lambda connection: put(connection, new, action=Action.RETRY, by=by, subject=task.id),
            ticket,
            after=self._written,
        )
        return new, ticket

    def cancel(self, task_id: str, *, by: str = "") -> bool:
        """See `TaskQueue.cancel_task`."""
        task = self.store.read(lambda connection: fetch_known(connection, task_id))
        if task.status.is_final or task.origin is Origin.MANUAL:
            return False
        now = self.store.clock.now()
        return self.store.write(
            lambda connection: recovery.request_cancel(connection, task_id, by=by, at=now), after=self._written
        )

    def find(self, task_id: str, ticket: Ticket) -> Task | None:
        """The task if it is final; None if it is not, and ``ticket`` will be settled once its end is on disk. Blocks.

        Raises:
            UnknownTaskError: No such task.
        """
        with self._lock:  # first: it may end between the look and the note
            self._waiting.setdefault(task_id, []).append(ticket)
        is_unfinished = False
        try:
            task = self.store.read(lambda connection: fetch_known(connection, task_id))
            is_unfinished = not task.status.is_final
        finally:
            if not is_unfinished:
                self.unwatch(task_id, ticket)
        return None if is_unfinished else task

    def unwatch(self, task_id: str, ticket: Ticket) -> None:
        """Forget a ticket of `find`."""
        with self._lock:
            tickets = self._waiting.get(task_id, [])
            if ticket in tickets:
                tickets.remove(ticket)
            if not tickets:
                self._waiting.pop(task_id, None)

    def _look(self) -> None:
        with self._lock:
            asked = list(self._waiting)
        ended: list[Task] = []
        for start in range(0, len(asked), 400):
            some = asked[start : start + 400]
            ended += self.store.read(partial(_final, task_ids=some))
        settled: list[Ticket] = []
        with self._lock:
            for task in ended:
                for ticket in self._waiting.pop(task.id, ()):
                    ticket.settle(task)
                    settled.append(ticket)
        wake_all(settled)

    def live_result(self, _task_id: str) -> tuple[bool, Any]:
        """(False, None): the leader has it."""
        return False, None

    def figures(self) -> dict[str, Any]:
        """The leader's live figures, and who it is."""
        totals, told = Totals(), dict(_NOTHING)
        try:
            self.store.read(totals.load)
            lease = self.store.read(lambda connection: living_lease(connection, self.store.clock.now()))
        except AtlasError as error:
            logger.debug("the leader's figures cannot be read: {}", error)
            return {"leader": None, "queue_size": 0, "running_tasks": 0, **told, "store_fault": str(error)}
        metrics = totals.metrics()
        if lease is not None:
            told |= {name: lease.figures[name] for name in _NOTHING if name in lease.figures}
        return {
            **told,
            "store_fault": self.store.writer.fault,
            "leader": None if lease is None else lease.words,
            "queue_size": metrics.pending_tasks,
            "running_tasks": metrics.running_tasks,
        }


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "by_priority": {priority.name: 0 for priority in TaskPriority},
        "oldest_wait_s": {},
        "full_executors": {},
        "retrying_tasks": 0,
        "held_tasks": 0,
        "abandoned_threads": 0,
        "free_slots": 0,
        "max_waiting": None,
        "running": (),
    }
)
"""What the leader tells, as it is where nobody leads."""


def watch_on(find: Callable[[str, Ticket], Task | None], waiting: Mapping[str, Sequence[Ticket]]) -> None:
    """Let the role that ``find`` is of settle tickets of the one before; those of ended tasks are settled here.

    Who waits for a task that cannot be read is told so; the others are looked after all the same.
    """
    for task_id, tickets in waiting.items():
        for ticket in tickets:
            try:
                task = find(task_id, ticket)
                if task is None:
                    continue
                ticket.settle(task)
            except AtlasError as error:
                ticket.settle(None, error)
            wake_all([ticket])


def _final(connection: Connection, task_ids: Sequence[str]) -> list[Task]:
    rows = connection.execute(select(tasks).where(tasks.c.id.in_(task_ids), tasks.c.finished_at.is_not(None)))
    return [task for task in map(task_of, rows) if task.status.is_final]

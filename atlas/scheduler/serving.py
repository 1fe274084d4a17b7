"""The running parts of one queue: line, lifecycle, executors, timekeeper and the claim on the store."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from loguru import logger

from atlas.scheduler.errors import (
    AtlasError,
    DuplicateTaskError,
    ResultOmittedError,
    TaskCancelledError,
    TaskFailedError,
    TaskTimeoutError,
    UnknownTaskError,
)
from atlas.scheduler.executors.loop import LoopExecutor
from atlas.scheduler.executors.process_slots import ProcessSlots
from atlas.scheduler.executors.thread import ThreadExecutor
from atlas.scheduler.lifecycle import Lifecycle, Live
from atlas.scheduler.line import Line
from atlas.scheduler.store import recovery
from atlas.scheduler.store.leases import RENEW_S
from atlas.scheduler.store.store import ACCEPT_S, CALL_S, Store
from atlas.scheduler.store.task_rows import fetch, full_row, insert_tasks
from atlas.scheduler.store.writer import Ticket
from atlas.scheduler.task import Origin, Task, TaskStatus
from atlas.scheduler.timekeeper import Timekeeper

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.registry import Registry
    from atlas.scheduler.task import ExecutorKind


class Serving:
    """Everything that lives between a queue's start and its stop.

    Args:
        store: Where tasks live.
        owns_store: True if stopping closes it.
        registry: Functions by name.
        loop: Where coroutines run; None makes a private loop when one is needed.
        max_workers: Tasks that run at once.
        limits: Tighter bounds per executor.
        max_waiting: Most tasks that may wait.
        stop_grace_s: Seconds between asking an attempt to stop and abandoning it.
    """

    def __init__(
        self,
        store: Store,
        *,
        owns_store: bool,
        registry: Registry,
        loop: asyncio.AbstractEventLoop | None,
        max_workers: int,
        limits: Mapping[ExecutorKind, int],
        max_waiting: int,
        stop_grace_s: float,
    ) -> None:
        """Put the parts together; `start` sets them going."""
        self.store, self._owns_store = store, owns_store
        self._stop_grace_s = stop_grace_s
        self.line = Line(max_workers, limits=limits, may_start=store.writer.may_start, clock=store.clock)
        self._timekeeper = Timekeeper(store.clock, self._tick, self.renew, RENEW_S)
        self.lifecycle = Lifecycle(
            store,
            self.line,
            registry,
            max_waiting=max_waiting,
            stop_grace_s=stop_grace_s,
            draw=random.random,
            on_timer=self._timekeeper.at,
        )
        self._executors = (
            ThreadExecutor(self.line, self.lifecycle),
            LoopExecutor(self.line, self.lifecycle, loop),
            ProcessSlots(self.line, self.lifecycle),
        )
        self.extra_figures: Callable[[], dict[str, Any]] = dict

    # --- start and stop -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Claim the store, recover what its last owner left and serve.

        Raises:
            StoreHeldError: Another process, or another queue, serves this store.
        """
        store, writer = self.store, self.store.writer
        try:
            self._claim, clean = store.claim()
        except BaseException:
            if self._owns_store:
                store.close()
            raise
        writer.on_accepted = self.lifecycle.accepted
        writer.on_written = self.lifecycle.written
        to_serve, moves = store.write(
            lambda connection: recovery.recover(connection, store.owner, store.clock.now()),
            wait_s=ACCEPT_S,
        )
        store.read(store.totals.load)
        for task, was in moves:
            logger.bind(task_id=task.id, job_id=task.job_id, was=was, status=task.status, crashes=task.crashes).warning(
                "recovered a task of a dead owner",
            )
        self.lifecycle.taking = True
        self.lifecycle.adopt(to_serve, claim_first=not clean)
        store.on_foreign(self._look_for_requests)
        self._timekeeper.start()
        self.renew()

    def stop(self, *, drain: bool, timeout_s: float) -> None:
        """Take nothing more, drain, stop what is left, release the claim."""
        lifecycle, store = self.lifecycle, self.store
        lifecycle.taking = False
        store.off_foreign(self._look_for_requests)
        patience_s = timeout_s if drain else 0.0
        if store.is_private and drain:
            lifecycle.wait_idle(patience_s, waiting_too=True)
        lifecycle.taking_starts = False
        self.line.close()
        if not lifecycle.wait_idle(patience_s):
            count = lifecycle.stop_all("shutdown")
            logger.info("asked running tasks to stop", tasks=count)
            lifecycle.wait_idle(self._stop_grace_s)
        left = lifecycle.abandon_all()
        if left:
            logger.warning("gave up tasks that do not stop; they run again at the next start", tasks=left)
        lifecycle.lose_volatile()
        self._timekeeper.close()
        for executor in self._executors:
            executor.close(1.0)
        try:
            store.write(lambda _connection: None, wait_s=CALL_S)
            store.unclaim(clean=not left)
        except AtlasError as error:
            logger.error("the last changes could not be written", error=str(error))
            store.unclaim(clean=False)
        finally:
            lifecycle.close()
            if self._owns_store:
                store.close()

    def _tick(self) -> float | None:
        return self.lifecycle.tick()

    def renew(self) -> None:
        """Tell other processes that this one lives, and its live figures."""
        figures, claim, clock = self.figures() | self.extra_figures(), self._claim, self.store.clock
        self.store.writer.work(lambda connection: claim.renew(connection, clock.now(), figures), Ticket())

    # --- work from this process -------------------------------------------------------------------------------------

    def submit(self, lives: Sequence[Live], *, unique: bool, loop: asyncio.AbstractEventLoop | None) -> Ticket:
        """Reserve tasks and hand their rows to the writer; the ticket is settled by the commit.

        Args:
            lives: The tasks.
            unique: The (one) id was chosen by the caller and must be new.
            loop: Who waits.
        """
        reserved: list[Live] = []
        try:
            for live in lives:
                if self.lifecycle.holds(live.task.id):
                    raise DuplicateTaskError(live.task.id)
                self.lifecycle.reserve(live)
                reserved.append(live)
        except AtlasError:
            self.withdraw(reserved)
            raise
        ticket = self.store.ticket(loop, wait_s=ACCEPT_S)
        tasks = [live.task for live in lives]
        if not unique:
            self.store.accept(tasks, ticket)
            return ticket
        (task,) = tasks

        def insert(connection: Connection) -> list[Task]:
            if fetch(connection, task.id) is not None:
                raise DuplicateTaskError(task.id)
            insert_tasks(connection, [full_row(task)])
            return [task]

        self.store.writer.work(insert, ticket, after=self.store.writer.hand_over)
        return ticket

    def withdraw(self, lives: Sequence[Live]) -> None:
        """Undo reservations whose commit did not happen."""
        for live in lives:
            self.lifecycle.forget(live.task.id)

    def withdraw_tasks(self, tasks: Sequence[Task]) -> None:
        """Undo the reservations of tasks that a pass did not write."""
        for task in tasks:
            self.lifecycle.forget(task.id)

    async def accepted(self, ticket: Ticket, lives: Sequence[Live]) -> None:
        """Await the commit of `submit`; the reservation is undone when it did not happen."""
        try:
            await ticket.future()
        except AtlasError:
            self.withdraw(lives)
            raise

    def accepted_here(self, ticket: Ticket, lives: Sequence[Live]) -> None:
        """Block until the commit of `submit`; the reservation is undone when it did not happen."""
        try:
            ticket.wait()
        except AtlasError:
            self.withdraw(lives)
            raise

    def cancel(self, task_id: str) -> bool:
        """See `TaskQueue.cancel_task`."""
        ticket = self.store.ticket(wait_s=CALL_S)
        was = self.lifecycle.cancel(task_id, ticket=ticket)
        if was is None:
            task = self.store.read(lambda connection: fetch(connection, task_id))
            if task is None:
                raise UnknownTaskError(task_id)
            if task.status.is_final or task.origin is Origin.MANUAL:
                return False
            # Another process put it here a moment ago and it is not picked up yet.
            return bool(self.store.write(lambda connection: recovery.request_cancel(connection, task_id)))
        if was is TaskStatus.RUNNING:
            self.store.write(lambda connection: recovery.request_cancel(connection, task_id))
            self.lifecycle.stop_running(task_id, "cancelled")
            return True
        ticket.wait()
        return True

    def result_of(self, task: Task | None, task_id: str) -> Any:
        """The result of a final task, or the error that tells why there is none."""
        if task is None:
            raise UnknownTaskError(task_id)
        match task.status:
            case TaskStatus.SUCCESS:
                found, value = self.lifecycle.live_result(task.id)
                if found:
                    return value
                if task.result_omitted:
                    raise ResultOmittedError(task.id, "SUCCESS, but its result was not kept: not JSON, or over 64 kB")
                return task.value
            case TaskStatus.CANCELLED:
                raise TaskCancelledError(task.id, f"was cancelled ({task.cause})")
            case TaskStatus.TIMEOUT:
                raise TaskTimeoutError(task.id, task.error or "ran longer than its limit")
            case TaskStatus.FAILED:
                raise TaskFailedError(task.id, task.error or "", cause=str(task.cause))
            case _:
                raise UnknownTaskError(task_id)  # unfinished, but served by nobody here

    def figures(self) -> dict[str, Any]:
        """See `TaskQueue.get_queue_status`."""
        return {"free_slots": self.line.free, "store_fault": self.store.writer.fault, **self.lifecycle.figures()}

    # --- work from other processes ------------------------------------------------------------------------------------

    def _look_for_requests(self) -> None:
        """Another process committed: take new tasks, hear cancels. Runs on the writer's thread, between commits."""
        new, cancels = self.store.read(recovery.requests)
        if new:
            self.store.writer.work(self._pick_up, Ticket(), after=self._picked_up)
        for task_id in cancels:
            if self.lifecycle.cancel(task_id) is TaskStatus.RUNNING:
                self.lifecycle.stop_running(task_id, "cancelled")

    def _pick_up(self, connection: Connection) -> list[tuple[Task, TaskStatus]]:
        return recovery.pick_up(connection, self.store.owner, self.store.clock.now(), self.lifecycle.refusal)

    def _picked_up(self, taken: Sequence[tuple[Task, TaskStatus]]) -> None:
        self.lifecycle.adopt([task for task, _was in taken if not task.status.is_final], claim_first=False)
        self.store.writer.announce(taken)

"""The running parts of one queue: line, live tasks with what moves them, executors, timekeeper, claim on the store."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.errors import AtlasError, DuplicateTaskError, UnknownTaskError
from atlas.scheduler.executors.loop import LoopExecutor
from atlas.scheduler.executors.process.executor import ProcessExecutor
from atlas.scheduler.executors.thread import ThreadExecutor
from atlas.scheduler.store import recovery
from atlas.scheduler.store.audit import Action, write_audit
from atlas.scheduler.store.leases import LEASE_S, RENEW_S, Lease
from atlas.scheduler.store.refusals import naming_the_job
from atlas.scheduler.store.store import ACCEPT_S, CALL_S, Store
from atlas.scheduler.store.task_rows import fetch, fetch_known
from atlas.scheduler.store.tickets import Ticket
from atlas.scheduler.task import Origin, Overlap, Task, TaskPriority, TaskStatus
from atlas.scheduler.tasks.acceptance import Acceptance
from atlas.scheduler.tasks.cancellation import Cancellation
from atlas.scheduler.tasks.lifecycle import Lifecycle
from atlas.scheduler.tasks.line import Line
from atlas.scheduler.tasks.live_tasks import LiveTasks
from atlas.scheduler.tasks.live_view import LiveView
from atlas.scheduler.tasks.logs import TaskLogs
from atlas.scheduler.tasks.shutdown import Shutdown
from atlas.scheduler.tasks.submission import again, insert_as_new, refuse_lost
from atlas.scheduler.tasks.timekeeper import Timekeeper

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.metrics import Moves
    from atlas.scheduler.outcome import StopReason
    from atlas.scheduler.registry import Registry
    from atlas.scheduler.task import ExecutorKind
    from atlas.scheduler.tasks.capture import LogRules
    from atlas.scheduler.tasks.live import Live

CHANCE: Final = random.Random()  # noqa: S311 - spreads retries
"""Not the module's own: an app may seed that one, and what it draws from it is its own business."""


class Serving:
    """Everything that lives between a queue's start and its stop; without a ``loop`` it makes one if need be."""

    def __init__(
        self,
        store: Store,
        *,
        registry: Registry,
        loop: asyncio.AbstractEventLoop | None,
        max_workers: int,
        limits: Mapping[ExecutorKind, int],
        max_waiting: int,
        stop_grace_s: float,
        log_rules: LogRules,
    ) -> None:
        self.store = store
        self._stop_grace_s = stop_grace_s
        self.line = Line(max_workers, limits=limits, may_start=self._may_start, clock=store.clock)
        self._logs = TaskLogs(store, log_rules)
        self._timekeeper = Timekeeper(store.clock, self._tick, self.renew, RENEW_S)
        tasks = self.live_tasks = LiveTasks(store, self.line, self._timekeeper.at)
        self.acceptance = Acceptance(tasks, registry, max_waiting=max_waiting)
        self.lifecycle = Lifecycle(tasks, registry, self._logs, stop_grace_s=stop_grace_s, draw=CHANCE.random)
        self.cancellation = Cancellation(tasks, self.lifecycle.stopping, self._logs)
        self.shutdown = Shutdown(tasks, self.acceptance, self.lifecycle)
        self.view = LiveView(tasks, self.lifecycle.stopping, max_waiting=max_waiting)
        self._executors = (
            ThreadExecutor(self.line, self.lifecycle),
            LoopExecutor(self.line, self.lifecycle, loop),
            ProcessExecutor(self.line, self.lifecycle),
        )
        self._renewal: Ticket | None = None
        self._renew_again = False
        self._forget_keeper: Callable[[], None] = lambda: None
        self._fresh_until_s = float("-inf")
        self.extra_figures: Callable[[], dict[str, Any]] = dict
        self.has_cron = False  # a cron manager fires into it

    # --- start and stop -------------------------------------------------------------------------------------------

    def start(self, *, silent: Lease | None = None) -> None:
        """Claim the store, recover what its last owner left and serve; ``silent`` is a leader that counts as dead.

        Raises:
            StoreHeldError: Another process, or another queue, serves this store.
        """
        store = self.store
        self._claim, clean = store.claim(silent=silent)
        reached(CrashPoint.LEAD_TAKEN)
        self._renewed()
        try:
            self._recover(clean=clean)
            self._logs.start()
            store.on_foreign(self._look_for_requests)
            self._forget_keeper = store.on_rebuild(self.view.keep)
            self._timekeeper.start()
        except BaseException:
            self._let_go()
            self._logs.abandon()
            store.unclaim(clean=False)
            raise
        self.renew()

    def _recover(self, *, clean: bool) -> None:
        store, writer = self.store, self.store.writer
        writer.on_accepted, writer.on_written = self._accepted, self.lifecycle.written
        writer.look_again()  # the counters must know what is taken over
        to_serve, moves, _counts = store.write(
            lambda connection: recovery.recover(connection, store.owner, store.clock.now()),
            after=lambda found: store.totals.add(found[2]),
            wait_s=ACCEPT_S,
        )
        reached(CrashPoint.RECOVERY_COMMITTED)
        for task, was in moves:
            told = logger.bind(task_id=task.id, job_id=task.job_id, was=was, status=task.status, crashes=task.crashes)
            if was is TaskStatus.RUNNING:
                told.warning("recovered a task of a dead owner")
            else:
                told.info("ended a task that was cancelled, or could not survive, while nobody served it")
        self.acceptance.taking = True
        self.acceptance.adopt(to_serve, claim_first=not clean, died_at=self._claim.died_at)

    def _let_go(self) -> None:
        self._forget_keeper()
        self.acceptance.taking = False
        self.store.off_foreign(self._look_for_requests)
        self.store.writer.on_accepted = self.store.writer.on_written = None

    def stop(self, *, drain: bool, timeout_s: float) -> None:
        """Take nothing more, drain, stop what is left, release the claim."""
        shutdown, store = self.shutdown, self.store
        self.acceptance.taking = False
        store.off_foreign(self._look_for_requests)
        until_s = store.clock.monotonic() + (timeout_s if drain else 0.0)
        if store.is_private and drain:
            shutdown.wait_idle(timeout_s, waiting_too=True)
        self.lifecycle.taking_starts = False
        self.line.close()
        if not shutdown.wait_idle(max(0.0, until_s - store.clock.monotonic())):
            count = shutdown.stop_all()
            logger.info("asked running tasks to stop", tasks=count)
            shutdown.wait_idle(self._stop_grace_s)
        shutdown.abandon_all()
        left = self.lifecycle.stopping.left_running
        if left:
            logger.warning("gave up tasks that do not stop; they run again at the next start", tasks=left)
        shutdown.lose_volatile()
        self._timekeeper.close()
        for executor in self._executors:
            executor.close(1.0)
        clean = not left
        try:
            self._logs.close()
            store.write(lambda _connection: None, wait_s=CALL_S)
        except AtlasError as error:
            clean = False
            logger.error("the last changes could not be written", error=str(error))
        shutdown.close()
        self._let_go()
        reached(CrashPoint.STOP_DRAINED)
        try:
            store.unclaim(clean=clean)
        except AtlasError as error:
            logger.error("the clean stop could not be noted", error=str(error))

    def step_down(self) -> dict[str, list[Ticket]]:
        """Another process leads: stop everything and write nothing; returns who waits for which task."""
        self._let_go()
        waiting = self.shutdown.dispossess()
        self.line.close()
        self._timekeeper.close()
        for executor in self._executors:
            executor.close(1.0)
        self.store.unclaim(clean=False)
        try:
            self._logs.close()  # after: behind the fence its last lines would be refused
        except AtlasError as error:
            logger.error("the last lines of tasks could not be written", error=str(error))
        return waiting

    def _may_start(self, priority: int) -> bool:
        """False while too much is unwritten, or so long after the last renewal that another may lead."""
        return self.store.clock.monotonic() < self._fresh_until_s and self.store.writer.may_start(priority)

    def _renewed(self, _value: None = None) -> None:
        self._fresh_until_s = self.store.clock.monotonic() + LEASE_S - RENEW_S
        self.line.resume()
        self._renewal = None
        if self._renew_again and self.acceptance.taking:  # a stop has the last word
            self.renew()

    def _tick(self) -> float | None:
        return self.lifecycle.tick()  # which is made behind its timekeeper

    def renew(self) -> None:
        """Tell other processes that this one lives, and its live figures."""
        if self.store.writer.fault is not None:
            self.store.writer.withdraw_expired()
        if self._renewal is not None and not self._renewal.done:
            self._renew_again = True  # the last one waits still, with the figures of its time
            return
        self._renew_again = False
        figures, claim, clock = self.figures() | self.extra_figures(), self._claim, self.store.clock
        self._renewal = Ticket()
        self.store.writer.work(
            lambda connection: claim.renew(connection, clock.now(), figures),
            self._renewal,
            after=self._renewed,
            tells=False,
        )

    # --- work from this process -------------------------------------------------------------------------------------

    def submit(
        self,
        lives: Sequence[Live],
        *,
        unique: bool,
        loop: asyncio.AbstractEventLoop | None,
        also: Callable[[Connection], None] | None = None,
    ) -> Ticket:
        """Reserve tasks and hand their rows to the writer; the ticket is settled by the commit.

        With ``unique`` the (one) id was chosen by the caller and must be new; ``also`` is written in the same commit.
        """
        ticket = self.store.ticket(loop, wait_s=ACCEPT_S)
        tasks = [live.task for live in lives]
        self.acceptance.reserve_all(lives)
        try:
            ticket.undo = partial(self.withdraw_tasks, tasks)
            if unique or also is not None:
                self._accept_with(tasks, ticket, unique=unique, also=also)
            else:
                self.store.writer.accept(tasks, ticket)
        except AtlasError:
            self.withdraw_tasks(tasks)
            raise
        return ticket

    def _accept_with(
        self, tasks: Sequence[Task], ticket: Ticket, *, unique: bool, also: Callable[[Connection], None] | None
    ) -> None:
        was_inserted = False  # in a transaction of which it is not known what became of it

        def insert(connection: Connection) -> list[Task]:
            nonlocal was_inserted
            first = tasks[0]
            found = fetch(connection, first.id)
            if found is None:
                with naming_the_job(first.job_id):
                    insert_as_new(connection, tasks)
                if also is not None:
                    also(connection)
                was_inserted = True
            elif unique and not (was_inserted and (found.owner, found.created_at) == (first.owner, first.created_at)):
                raise DuplicateTaskError(first.id)
            return list(tasks)  # found: the reply to COMMIT was lost

        is_urgent = tasks[0].priority is TaskPriority.URGENT
        self.store.writer.work(insert, ticket, after=self.store.writer.hand_over, is_urgent=is_urgent)

    def withdraw_tasks(self, tasks: Sequence[Task]) -> None:
        """Undo the reservations of tasks whose commit did not happen."""
        for task in tasks:
            self.acceptance.forget(task.id)

    def cancel(self, task_id: str, *, by: str) -> bool:
        """See `TaskQueue.cancel_task`."""
        ticket = self.store.ticket(wait_s=CALL_S)
        now = self.store.clock.now()

        def told(connection: Connection) -> None:
            write_audit(connection, Action.CANCEL, task_id, by=by, at=now)

        was = self.cancellation.cancel(task_id, ticket=ticket, also=told)
        if was is None:
            task = self.store.read(lambda connection: fetch_known(connection, task_id))
            if task.status.is_final or task.origin is Origin.MANUAL:
                return False
            # Another process put it here a moment ago. It is picked up with the request, or was so meanwhile.
            asked = self.store.write(lambda connection: recovery.request_cancel(connection, task_id, by=by, at=now))
            self._end(task_id, "cancelled")
            return bool(asked)
        if was is TaskStatus.RUNNING:
            try:
                self.store.write(lambda connection: recovery.request_cancel(connection, task_id, by=by, at=now))
            except AtlasError:
                self.cancellation.take_back(task_id)
                raise
            self.cancellation.stop_running(task_id, "cancelled")
            return True
        ticket.wait()
        return True

    def retry(self, task: Task, *, by: str, loop: asyncio.AbstractEventLoop | None) -> tuple[Task, Ticket]:
        """See `TaskQueue.retry_task`; the ticket is settled by the commit."""
        new = again(task, now=self.store.clock.now())
        live = self.acceptance.live_of(new)
        if new.volatile and live.function is None:
            refuse_lost(new)

        def told(connection: Connection) -> None:
            write_audit(connection, Action.RETRY, task.id, by=by, at=new.created_at, after={"task": new.id})

        return new, self.submit([live], unique=False, loop=loop, also=told)

    def _accepted(self, tasks: Sequence[Task]) -> None:
        """Their rows are on disk: they line up, and end what they take the place of."""
        self.acceptance.accepted(tasks)
        self._replace(tasks)

    def _replace(self, tasks: Sequence[Task]) -> None:
        """End the tasks in whose place newer ones of their job have come (``overlap: replace``)."""
        for task in tasks:
            if task.policy.overlap is Overlap.REPLACE:
                for task_id in self.acceptance.replaced_by(task):
                    self._end(task_id, "replaced")

    def _end(self, task_id: str, reason: StopReason) -> None:
        """End a task about which nothing is to be committed first; nothing if it is not live."""
        if self.cancellation.cancel(task_id, reason) is TaskStatus.RUNNING:
            self.cancellation.stop_running(task_id, reason)

    def watch(self, task_id: str, ticket: Ticket) -> bool:
        """See `LiveView.watch`."""
        return self.view.watch(task_id, ticket)

    def find(self, task_id: str, ticket: Ticket) -> Task | None:
        """The task as it is on disk; None if it is live here, and ``ticket`` will be settled by its end. Blocks.

        What another process has put into the store, and nobody has noticed yet, is picked up first.

        Raises:
            UnknownTaskError: No such task.
        """
        if self.watch(task_id, ticket):
            return None
        task = self.store.read(lambda connection: fetch(connection, task_id))
        is_new = task is not None and not task.status.is_final and task.origin is not Origin.MANUAL
        if is_new and self.acceptance.taking:
            self._begin_pick_up(self.store.ticket()).wait()
            if self.watch(task_id, ticket):
                return None
            task = self.store.read(lambda connection: fetch(connection, task_id))
        if task is None:
            raise UnknownTaskError(task_id)
        return task

    def unwatch(self, task_id: str, ticket: Ticket) -> None:
        """See `LiveView.unwatch`."""
        self.view.unwatch(task_id, ticket)

    def live_result(self, task_id: str) -> tuple[bool, Any]:
        """See `LiveView.live_result`."""
        return self.view.live_result(task_id)

    def figures(self) -> dict[str, Any]:
        """See `TaskQueue.get_queue_status`."""
        return {"free_slots": self.line.free, "store_fault": self.store.writer.fault, **self.view.figures()}

    # --- work from other processes ------------------------------------------------------------------------------------

    def _look_for_requests(self) -> None:
        """Another process committed: take new tasks, hear cancels. Runs on the writer's thread, between commits."""
        new, cancels = self.store.read(recovery.requests)
        if new:
            self._begin_pick_up(Ticket())
        for task_id in cancels:
            self._end(task_id, "cancelled")

    def _begin_pick_up(self, ticket: Ticket) -> Ticket:
        ticket.undo = partial(self.acceptance.expect_none, ticket)
        self.store.writer.work(partial(self._pick_up, ticket), ticket, after=partial(self._picked_up, ticket))
        return ticket

    def _pick_up(self, ticket: Ticket, connection: Connection) -> tuple[list[Task], list[Task], Moves]:
        self.acceptance.expect_none(ticket)
        accept = partial(self.acceptance.refusal, ticket=ticket)
        return recovery.pick_up(connection, self.store.owner, self.store.clock.now(), accept)

    def _picked_up(self, ticket: Ticket, found: tuple[list[Task], list[Task], Moves]) -> None:
        to_serve, refused, counts = found
        self.store.totals.add(counts)
        self.store.writer.announce(to_serve, refused)
        self.acceptance.adopt(to_serve, claim_first=False, ticket=ticket)
        self._replace(to_serve)

"""Takes every live task from its reservation to its final row: who waits, who runs, who is held, who is stopped.

::

    reserve ─► (commit) ─► accepted ─► held? ─► line ─► begin ─► attempt ─► finish ─► (commit) ─► written
                                         ▲                                    │
                                         └── retry wait · crash · release ◄───┘
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from dataclasses import replace
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from atlas.scheduler.arguments import decode_arguments
from atlas.scheduler.context import TaskContext
from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.errors import (
    AtlasError,
    DuplicateTaskError,
    FunctionError,
    JobBusyError,
    QueueFullError,
    QueueStoppedError,
    UnknownTaskError,
)
from atlas.scheduler.locks import BargingLock
from atlas.scheduler.log_lines import REDACT, hide
from atlas.scheduler.outcome import Crashed, Outcome, Returned, Stopped, StopReason, Verdict, raised, settle
from atlas.scheduler.store.recovery import apply_verdict
from atlas.scheduler.store.task_rows import attempt_row, full_row, insert_tasks
from atlas.scheduler.store.tickets import Ticket, wake_all
from atlas.scheduler.task import FINAL, WAITING, Cause, ExecutorKind, OnCrash, Task, TaskStatus
from atlas.scheduler.tasks.admission import Admission
from atlas.scheduler.tasks.live import Attempt, Live, Waiting
from atlas.scheduler.tasks.stopping import Stopping

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.registry import Registry
    from atlas.scheduler.store.commit import Move
    from atlas.scheduler.store.store import Store
    from atlas.scheduler.tasks.line import Line
    from atlas.scheduler.tasks.logs import TaskLogs

MAX_LIVE_RESULTS: Final = 1000
NAMED: Final = 3
"""Holders of a full executor that are named."""
ALONE_LEAST_S: Final = 1.0
ALONE_MOST_S: Final = 60.0
"""A suspect runs without other suspects for as long as it had run when its process died, within these limits.

So one that kills its process at the same point again is told from the others for certain, and long innocent ones do not
hold up everybody for their whole length."""


def alone_s(task: Task, died_at: datetime | None) -> float:
    """Seconds a suspect runs without other suspects; ``died_at`` is when its process did, at the latest."""
    if died_at is None or task.started_at is None:
        return ALONE_MOST_S
    return min(ALONE_MOST_S, max(ALONE_LEAST_S, (died_at - task.started_at).total_seconds()))


class Lifecycle:
    """The live tasks of one queue. Every method may be called from any thread.

    Args:
        store: Where every move is written.
        line: Where tasks wait for a slot.
        registry: Functions by name.
        max_waiting: Most tasks that may wait.
        stop_grace_s: Seconds between asking an attempt to stop and abandoning it.
        draw: Chance numbers in 0 to 1, for the jitter of retries.
        on_timer: Called with a monotonic time at which `tick` has something to do.
        logs: Keeps what tasks log; None keeps nothing.

    Attributes:
        taking: True while tasks may be reserved.
        taking_starts: False once a stop has begun: what waits stays on disk.
        stopping: Stops running attempts, and counts those that were given up.
    """

    def __init__(
        self,
        store: Store,
        line: Line,
        registry: Registry,
        *,
        max_waiting: int,
        stop_grace_s: float,
        draw: Callable[[], float],
        on_timer: Callable[[float], None],
        logs: TaskLogs | None = None,
    ) -> None:
        """Start without tasks."""
        self._store, self._line, self._registry = store, line, registry
        self._clock = store.clock
        self._max_waiting = max_waiting
        self._draw, self._on_timer = draw, on_timer
        self.stopping = Stopping(self._clock, line, stop_grace_s, settle=self._settle, on_timer=on_timer)
        self.logs = logs
        self._lock = BargingLock()
        self._idle = self._lock.condition()
        self._live: dict[str, Live] = {}
        self._running: dict[str, Live] = {}
        self._admission = Admission()
        self._retries: list[tuple[float, int, Live]] = []  # a heap; the number keeps equal times apart
        self._numbers = itertools.count()
        self._waiting = Waiting()
        self._results: OrderedDict[str, Any] = OrderedDict()
        self.taking = False
        self.taking_starts = True
        self.live_of = Live

    # --- in: reserve, accepted ------------------------------------------------------------------------------------

    def reserve(self, live: Live, *, bounded: bool = True, behind_another: bool = False) -> None:
        """Make room for a task that is about to be committed; decides overlap, for fires and run-now alike.

        Args:
            live: The task.
            bounded: False for fires: a queue that is merely full drops none.
            behind_another: The task follows another one of the same catch-up, so the overlap rule does not ask.

        Raises:
            QueueStoppedError: The queue takes nothing.
            DuplicateTaskError: An unfinished task has this id.
            QueueFullError: As many tasks wait as may (only when ``bounded``).
            JobBusyError: The job's overlap rule allows no further task now.
        """
        with self._lock:
            self._reserve(live, bounded=bounded, behind_another=behind_another)

    def reserve_all(self, lives: Sequence[Live]) -> None:
        """`reserve` for tasks of one commit: all of them, or none."""
        done = 0
        with self._lock:
            try:
                for live in lives:
                    self._reserve(live, bounded=True, behind_another=False)
                    done += 1
            except AtlasError:
                for live in lives[:done]:
                    self.forget(live.task.id)
                raise

    def _reserve(self, live: Live, *, bounded: bool, behind_another: bool) -> None:
        task = live.task
        if not self.taking:
            msg = "the queue takes nothing: it is not started, stopping or stopped"
            raise QueueStoppedError(msg)
        if task.id in self._live:
            raise DuplicateTaskError(task.id)
        if bounded and self._waiting.total >= self._max_waiting:
            raise QueueFullError(self._max_waiting)
        if task.job_id is not None:
            if not behind_another:
                self._admission.decide(task)
            self._admission.open(live)
        task.owner = self._store.owner
        self._live[task.id] = live
        self._waiting.add(task)

    def refusal(self, task: Task, ahead: Sequence[str] = ()) -> Verdict | None:
        """Why a task that another process put into the store is not served; None if it is.

        Args:
            task: The task.
            ahead: Ids of tasks of the same job that are taken over together with it.
        """
        with self._lock:
            try:
                self._admission.decide(task, ahead)
            except JobBusyError as error:
                return Verdict(status=TaskStatus.CANCELLED, cause=Cause.BUSY, error=str(error))
            return None

    def replaced_by(self, task: Task) -> list[str]:
        """Ids of the unfinished tasks of the same job that ``task`` takes the place of (``overlap: replace``)."""
        with self._lock:
            return self._admission.replaced_by(task)

    def unfinished_of(self, job_id: str) -> list[str]:
        """Ids of the job's unfinished tasks, oldest first."""
        with self._lock:
            return self._admission.unfinished_of(job_id)

    def forget(self, task_id: str) -> None:
        """Undo a `reserve` whose commit did not happen."""
        with self._lock:
            live = self._live.pop(task_id, None)
            if live is None:
                return
            self._waiting.remove(live.task.status, live.task.priority)
            self._line_up(self._admission.leave(live))
            self._idle.notify_all()
            for ticket in live.tickets:
                ticket.settle(None, UnknownTaskError(task_id))
        wake_all(live.tickets)

    def accepted(self, tasks: Iterable[Task]) -> None:
        """Their rows are on disk: line them up, in order."""
        with self._lock:
            mine = [live for task in tasks if (live := self._live.get(task.id)) is not None and live.task is task]
            for live in mine:
                live.on_disk = True
            self._line.put([live.task for live in mine if self._admission.may_line_up(live)])

    def adopt(self, tasks: Iterable[Task], *, claim_first: bool, died_at: datetime | None = None) -> None:
        """Take over tasks read from rows (recovery, other processes' submits) that are this process's already.

        Args:
            tasks: The tasks.
            claim_first: They come from an owner that did not stop cleanly.
            died_at: Latest instant at which that owner may have lived.
        """
        with self._lock:
            ready: list[Task] = []
            for task in tasks:
                live = self.live_of(task)
                self._fit_executor(live)
                live.claim_first, live.on_disk = claim_first, True
                live.is_suspect, live.alone_s = task.crashes > 0, alone_s(task, died_at)
                self._live[task.id] = live
                self._waiting.add(task)
                self._admission.open(live)
                if task.status is TaskStatus.RETRYING and task.due_at is not None:
                    wait_s = (task.due_at - self._clock.now()).total_seconds()
                    if self._admission.may_line_up(live):
                        self._wait_for_retry(live, max(0.0, wait_s))
                elif self._admission.may_line_up(live):
                    ready.append(task)
            self._line.put(ready)  # together, so that the first is not served before a more urgent one is there

    live_of: Callable[[Task], Live]
    """Makes the live task of a row; the cron manager knows the functions of volatile jobs."""

    def _fit_executor(self, live: Live) -> None:
        """Run it where its function fits: a client does not know that, and a new version may have changed it."""
        task = live.task
        if task.policy.executor is not ExecutorKind.PROCESS:
            try:
                kind = (live.function or self._registry.find(task.function)).executor
            except FunctionError:
                return  # the attempt will tell
            if kind is not task.policy.executor:
                task.policy = replace(task.policy, executor=kind)

    # --- an attempt: begin, finish ----------------------------------------------------------------------------------

    def begin(self, task: Task, loop: asyncio.AbstractEventLoop | None = None) -> Attempt | None:
        """Begin an attempt of a task that was taken from the line; None if it ended while it waited."""
        with self._lock:
            live = self._live.get(task.id)
            if live is None or task.status not in WAITING or not self.taking_starts:
                return None
            if not self._admission.may_begin(live):
                return None  # it lines up again when its turn has come
            failure = self._resolve(live)
            now, was = self._clock.now(), task.status
            self._move(live, TaskStatus.RUNNING)
            if task.cause is not Cause.CRASHED:  # a crash raised the number already
                task.attempt += 1
            task.cause = task.error = task.due_at = None
            task.started_at = now
            kept = 0 if self.logs is None else self.logs.limit_of(task.policy)
            live.context = context = TaskContext(
                task_id=task.id,
                job_id=task.job_id,
                attempt=task.attempt,
                fire_time=task.fire_time,
                logs=self.logs if kept else None,
                log_max_bytes=kept,
            )
            live.stop, live.stopper, live.deadline_s, live.alone_until_s = None, None, None, inf
            self._running[task.id] = live
            ticket = None
            if live.claim_first or task.crashes or task.policy.on_crash is OnCrash.FAIL:
                ticket = Ticket(loop)
            self._store.writer.change(task, was, now, ticket=ticket, awaited=ticket is not None)
            if ticket is None:
                self._start_the_clock(live, context, now)
            return Attempt(live, task.attempt, context, ticket, failure)

    def claimed(self, attempt: Attempt) -> Outcome | None:
        """Its claim is on disk: the attempt's time begins; an outcome if the function must not be entered any more."""
        reached(CrashPoint.CLAIM_BEFORE_ENTRY)
        with self._lock:
            live = attempt.live
            if not self._is_current(attempt):
                return Stopped("shutdown")  # given up meanwhile; `finish` refuses whatever it gets
            if live.stop is not None:
                return Stopped(live.stop)
            self._start_the_clock(live, attempt.context, self._clock.now())
            return None

    def _start_the_clock(self, live: Live, context: TaskContext, now: datetime) -> None:
        if self._admission.suspect is live:
            live.alone_until_s = self._clock.monotonic() + live.alone_s
            self._on_timer(live.alone_until_s)
        limit_s = live.task.policy.timeout_s
        if limit_s is not None:
            context.deadline = now + timedelta(seconds=limit_s)
            live.deadline_s = self._clock.monotonic() + limit_s
            self._on_timer(live.deadline_s)

    def _is_current(self, attempt: Attempt) -> bool:
        live = attempt.live
        return self._running.get(live.task.id) is live and live.task.attempt == attempt.number

    def _resolve(self, live: Live) -> Outcome | None:
        if live.task.volatile and live.function is not None:
            return None
        try:
            live.function = self._registry.find(live.task.function)
            # Anew for every attempt: the last one may have changed its own.
            live.args, live.kwargs = decode_arguments(live.task.arguments)
        except Exception as error:  # noqa: BLE001 - a missing function fails this task, by its retry policy
            return raised(error)
        return None

    def finish(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Settle an attempt; False if it was abandoned before, then its outcome is refused and its slot gone."""
        with self._lock:
            if not self._is_current(attempt):
                self.stopping.end_abandoned()
                return False
            self._settle(attempt.live, outcome)
            return True

    def _settle(self, live: Live, outcome: Outcome) -> None:
        task = live.task
        del self._running[task.id]
        stop = self._why_it_had_to_end(live)
        if stop in {"cancelled", "timeout", "replaced"} and not isinstance(outcome, Stopped | Crashed):
            outcome = Stopped(stop)  # before it ended; how it ended does not matter
        was = task.status
        verdict = settle(task, outcome, draw=self._draw())
        if verdict.error is not None:  # what an address or a header brought into it is as secret here as in a log
            redact = REDACT if self.logs is None else self.logs.rules.redact
            verdict = verdict._replace(error=hide(verdict.error, redact))
        now = self._clock.now()
        row = None
        if verdict.status not in FINAL:
            kind = "crashed" if verdict.crashed else "released" if verdict.cause is None else str(verdict.cause)
            row = attempt_row(task, outcome=kind, ended_at=now, wait_s=verdict.wait_s, error=verdict.error)
        apply_verdict(task, verdict, now)
        self._waiting.add(task)
        if verdict.wait_s is not None:
            task.due_at = now + timedelta(seconds=verdict.wait_s)
        if isinstance(outcome, Returned) and (task.volatile or outcome.text is None) and outcome.value is not None:
            self._results[task.id] = outcome.value
            if len(self._results) > MAX_LIVE_RESULTS:
                self._results.popitem(last=False)
        if live.context is not None and live.context.logs is not None and self.logs is not None:
            self.logs.end(live.context, is_final=task.status in FINAL)
        live.context = None
        self._store.writer.change(task, was, now, attempt=row, wait_s=verdict.wait_s, awaited=bool(live.tickets))
        self._after_attempt(live, verdict.wait_s)

    def _why_it_had_to_end(self, live: Live) -> StopReason | None:
        """Why it was asked to stop; its time counts as over also when nobody came to ask (a frozen process, a stop)."""
        over_s = live.deadline_s
        if live.stop in {None, "shutdown"} and over_s is not None and over_s < self._clock.monotonic():
            return "timeout"
        return live.stop

    def _after_attempt(self, live: Live, wait_s: float | None) -> None:
        task = live.task
        if self._admission.suspect is live:
            self._line_up(self._admission.no_suspect(live))
        if task.status in FINAL:
            self._line_up(self._admission.leave(live))
        elif wait_s is not None:
            self._wait_for_retry(live, wait_s)
        elif self.taking_starts and self._admission.may_line_up(live):
            self._line.put([task])
        if not self._running:
            self._idle.notify_all()

    def _line_up(self, lives: Sequence[Live]) -> None:
        if lives:
            self._line.put([live.task for live in lives])

    def _wait_for_retry(self, live: Live, wait_s: float) -> None:
        due_s = self._clock.monotonic() + wait_s
        heapq.heappush(self._retries, (due_s, next(self._numbers), live))
        self._on_timer(due_s)

    def written(self, moves: Sequence[Move]) -> None:
        """A commit holds these moves: final tasks leave memory and their waiters wake."""
        tickets: list[Ticket] = []
        with self._lock:
            for task, event in moves:
                status = event.status
                if status in FINAL and (live := self._live.get(task.id)) is not None and live.task is task:
                    del self._live[task.id]
                    if live.tickets:
                        for ticket in live.tickets:
                            ticket.settle(task)
                        tickets += live.tickets
            if not self._live:
                self._idle.notify_all()
        wake_all(tickets)
        self._line.resume()

    def keep(self, connection: Connection) -> str:
        """Write every unfinished task that has a row into a database that was lost; says how many."""
        with self._lock:
            rows = [full_row(live.task) for live in self._live.values() if live.on_disk]
        insert_tasks(connection, rows)
        return f"{len(rows)} unfinished task{'s' * (len(rows) != 1)}"

    # --- time -----------------------------------------------------------------------------------------------------

    def tick(self) -> float | None:
        """Do what is due: retries, timeouts, abandoning; returns the monotonic time of what comes next."""
        with self._lock:
            now_s = self._clock.monotonic()
            ready: list[Task] = []
            while self._retries and self._retries[0][0] <= now_s:
                live = heapq.heappop(self._retries)[2]
                if live.task.status is TaskStatus.RETRYING and self.taking_starts and self._admission.may_line_up(live):
                    ready.append(live.task)
            suspect = self._admission.suspect
            if suspect is not None and suspect.alone_until_s <= now_s:
                ready += [live.task for live in self._admission.no_suspect(suspect)]
                suspect = None
            self._line.put(ready)
            next_s = [self._retries[0][0]] if self._retries else []
            if suspect is not None:
                next_s.append(suspect.alone_until_s)
            for live in list(self._running.values()):
                try:
                    next_s += self.stopping.keep_time(live, now_s)
                except Exception:  # noqa: BLE001 - the timeouts of all others must be kept
                    logger.bind(task_id=live.task.id).exception("keeping the time of an attempt raised")
            return min(next_s, default=None)

    def set_stopper(self, attempt: Attempt, stopper: Callable[[StopReason], None]) -> None:
        """Tell how the executor stops this attempt; called at once if it was asked to stop meanwhile."""
        with self._lock:
            if not self._is_current(attempt):
                stopper("shutdown")
                return
            attempt.live.stopper = stopper
            if attempt.live.stop is not None:
                stopper(attempt.live.stop)

    # --- cancel and stop --------------------------------------------------------------------------------------------

    def cancel(
        self,
        task_id: str,
        cause: StopReason = "cancelled",
        ticket: Ticket | None = None,
        also: Callable[[Connection], None] | None = None,
    ) -> TaskStatus | None:
        """Cancel a live task; returns the status it had, None if it is not live or already final.

        A waiting one is CANCELLED at once (``ticket`` is settled by the commit, of which ``also`` is a part); a running
        one only gets its flag, and `stop_running` must follow once the request is committed.
        """
        with self._lock:
            live = self._live.get(task_id)
            if live is None or not live.on_disk or live.task.status.is_final:
                return None
            task, was = live.task, live.task.status
            task.cancel_requested = True
            if was is TaskStatus.RUNNING:
                return was
            now = self._clock.now()
            self._move(live, TaskStatus.CANCELLED)
            task.cause, task.finished_at, task.due_at = Cause(cause), now, None
            self._store.writer.change(task, was, now, ticket=ticket, also=also)
            self._line_up(self._admission.leave(live))
            return was

    def take_back(self, task_id: str) -> None:
        """The request to cancel a running task could not be committed: it goes on as if nobody had asked."""
        with self._lock:
            live = self._live.get(task_id)
            if live is not None and live.stop is None:
                live.task.cancel_requested = False

    def stop_running(self, task_id: str, reason: StopReason) -> bool:
        """Ask a running attempt to stop; False if none runs."""
        with self._lock:
            live = self._running.get(task_id)
            if live is None:
                return False
            self.stopping.ask(live, reason)
            return True

    def stop_all(self, reason: StopReason) -> int:
        """Ask every running attempt to stop; returns how many there are."""
        with self._lock:
            for live in list(self._running.values()):
                self.stopping.ask(live, reason)
            return len(self._running)

    def abandon_all(self) -> None:
        """Give up every attempt that still runs."""
        with self._lock:
            for live in list(self._running.values()):
                self.stopping.ask(live, "shutdown")
                self.stopping.abandon(live)

    def dispossess(self) -> dict[str, list[Ticket]]:
        """Another process took everything over: ask what runs to stop, forget all; returns who waits for which task.

        From here on every outcome is refused, as that of an abandoned attempt.
        """
        with self._lock:
            self.taking = self.taking_starts = False
            for live in list(self._running.values()):
                self.stopping.ask(live, "shutdown")
            self.stopping.abandoned += len(self._running)
            waiting = {task_id: live.tickets for task_id, live in self._live.items() if live.tickets}
            for live in self._live.values():
                live.tickets = []
            self._running.clear()
        self.close()
        return waiting

    def lose_volatile(self) -> int:
        """Fail what waits and cannot survive this process; returns how many."""
        lost = 0
        with self._lock:
            for live in list(self._live.values()):
                task, was = live.task, live.task.status
                if task.volatile and live.on_disk and was in WAITING:
                    self._move(live, TaskStatus.FAILED)
                    task.cause, task.finished_at = Cause.LOST, self._clock.now()
                    task.error = "the queue stopped before it could run; its function lived in that process only"
                    self._store.writer.change(task, was, task.finished_at)
                    lost += 1
        return lost

    def wait_idle(self, timeout_s: float, *, waiting_too: bool = False) -> bool:
        """Wait until nothing runs (and, if asked, nothing waits); False when ``timeout_s`` passed first."""
        with self._lock:
            return self._idle.wait_for(
                lambda: not self._running and not (waiting_too and self._live),
                timeout_s,
            )

    def close(self) -> None:
        """Tell everybody who still waits that the queue stopped."""
        with self._lock:
            tickets = [ticket for live in self._live.values() for ticket in live.tickets]
            self._live.clear()
            self._admission.clear()
            self._waiting = Waiting()
            self._retries.clear()
        for ticket in tickets:
            ticket.settle(
                None, QueueStoppedError("the queue stopped before the task ended; it waits for the next start")
            )
        wake_all(tickets)

    def progress(self, task_id: str, number: int, done: float, total: float | None) -> None:
        """A worker process tells how far its attempt is."""
        with self._lock:
            live = self._running.get(task_id)
            if live is not None and live.context is not None and live.task.attempt == number:
                live.context.done, live.context.total = done, total

    # --- looking ----------------------------------------------------------------------------------------------------

    def watch(self, task_id: str, ticket: Ticket) -> bool:
        """Settle ``ticket`` with the task once its end is on disk; False if the task is not live."""
        with self._lock:
            live = self._live.get(task_id)
            if live is None:
                return False
            live.tickets.append(ticket)
            return True

    def unwatch(self, task_id: str, ticket: Ticket) -> None:
        """Forget a ticket of `watch` that nobody waits for any more."""
        with self._lock:
            live = self._live.get(task_id)
            if live is not None and ticket in live.tickets:
                live.tickets.remove(ticket)

    def live_result(self, task_id: str) -> tuple[bool, Any]:
        """(True, value) while this process keeps the function's own result object."""
        with self._lock:
            return (True, self._results[task_id]) if task_id in self._results else (False, None)

    def waiting(self) -> int:
        """Tasks that are PENDING or RETRYING."""
        return self._waiting.total

    def figures(self) -> dict[str, Any]:
        """Live figures for `TaskQueue.get_queue_status`."""
        with self._lock:
            now = self._clock.now()
            return {
                "queue_size": self._waiting.total,
                "max_waiting": self._max_waiting,
                "running_tasks": len(self._running),
                "retrying_tasks": self._waiting.retrying(),
                "held_tasks": self._admission.held,
                "by_priority": self._waiting.by_priority(),
                "oldest_wait_s": {
                    priority.name: round(max(0.0, (now - (task.due_at or task.created_at)).total_seconds()), 3)
                    for priority, task in self._line.oldest().items()
                },
                "full_executors": {
                    kind.value: {
                        "limit": limit,
                        "waiting": waiting,
                        "oldest_wait_s": round(max(0.0, (now - (first.due_at or first.created_at)).total_seconds()), 3),
                        "held_by": self._names_on(kind),
                    }
                    for kind, (limit, waiting, first) in self._line.full().items()
                },
                "abandoned_threads": self.stopping.abandoned,
                "running": [
                    {
                        "task_id": live.task.id,
                        "name": live.task.name,
                        "job_id": live.task.job_id,
                        "attempt": live.task.attempt,
                        "done": live.context.done if live.context else 0.0,
                        "total": live.context.total if live.context else None,
                        "stopping": live.stop,
                    }
                    for live in self._running.values()
                ],
            }

    def _names_on(self, kind: ExecutorKind) -> list[str]:
        """What runs on an executor: a few jobs, or tasks without one."""
        mine = (live.task for live in self._running.values() if live.task.policy.executor is kind)
        return [task.job_id or task.name for task in itertools.islice(mine, NAMED)]

    def _move(self, live: Live, new: TaskStatus) -> None:
        self._waiting.remove(live.task.status, live.task.priority)
        live.task.move(new)

"""Functions that asked for a process: one thread pulls them from the line and hands them to the worker pool."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from atlas.scheduler.outcome import Outcome, raised
from atlas.scheduler.task import ExecutorKind

if TYPE_CHECKING:
    from atlas.scheduler.executors.process.pool import WorkerPool
    from atlas.scheduler.tasks.lifecycle import Lifecycle
    from atlas.scheduler.tasks.line import Line
    from atlas.scheduler.tasks.live import Attempt


class ProcessExecutor:
    """Serves the process lane; the worker pool and its thread are made when the first such task waits."""

    def __init__(self, line: Line, lifecycle: Lifecycle) -> None:
        self._line, self._lifecycle = line, lifecycle
        self._pool: WorkerPool | None = None
        self._thread: threading.Thread | None = None
        line.attach(ExecutorKind.PROCESS, self._wake)

    def _wake(self, _count: int) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._dispatch, name="atlas-process-slots", daemon=True)
            thread.start()
            self._thread = thread

    def _dispatch(self) -> None:
        from atlas.scheduler.executors.process.pool import WorkerPool

        self._pool = WorkerPool(
            self._line.max_running, on_progress=self._lifecycle.progress, on_line=self._lifecycle.logs.add_kept
        )
        while (task := self._line.take(ExecutorKind.PROCESS)) is not None:
            attempt = self._lifecycle.begin(task)
            if attempt is None:
                self._line.give_back(ExecutorKind.PROCESS)
            else:
                self._start(self._pool, attempt)

    def _start(self, pool: WorkerPool, attempt: Attempt) -> None:
        from atlas.scheduler.executors.process.child import WorkerCall

        live = attempt.live
        refusal = None if attempt.claim is None else self._lifecycle.wait_for_claim(attempt, attempt.claim)
        refusal = refusal or attempt.failure
        if refusal is not None or live.function is None or live.function.reference is None:
            self._done(attempt, refusal or raised(LookupError(f"{live.task.function} cannot be imported")))
            return
        logs = self._lifecycle.logs
        call = WorkerCall(
            task_id=live.task.id,
            attempt=attempt.context.attempt,
            reference=live.function.reference,
            arguments=live.task.arguments,
            is_async=live.function.is_async,
            job_id=live.task.job_id,
            deadline=attempt.context.deadline,
            fire_time=live.task.fire_time,
            log_bytes=logs.allowance(attempt.context),
            log_rules=logs.rules,
        )
        try:
            handle = pool.start(call, partial(self._done, attempt))
        except Exception as error:  # noqa: BLE001 - a pool that does not start fails the attempt, not the dispatcher
            self._done(attempt, raised(error))
            return
        self._lifecycle.set_stopper(attempt, handle.stop)

    def _done(self, attempt: Attempt, outcome: Outcome) -> None:
        if self._lifecycle.finish(attempt, outcome):
            self._line.give_back(ExecutorKind.PROCESS)

    def close(self, timeout_s: float) -> None:
        """End the dispatcher and the pool; the line is closed already."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._pool is not None:
            self._pool.close()

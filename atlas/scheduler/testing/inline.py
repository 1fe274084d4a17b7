"""A queue that runs functions in the thread that calls it: `InlineQueue`.

::

    submit ─► the real store, line and lifecycle ─► attempt, here and now ─► verdict ─► RETRYING? the clock jumps ─┐
                                                          ▲                                                        │
                                                          └────────────────────────────────────────────────────────┘
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Self

from loguru import logger

from atlas.scheduler.awaited import refuse_on_loop
from atlas.scheduler.errors import ResultNotReadyError, StoreMismatchError
from atlas.scheduler.executors.attempt import await_attempt, run_attempt
from atlas.scheduler.outcome import Outcome, Raised
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.serving import Serving
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.task import ExecutorKind
from atlas.scheduler.tasks.timekeeper import Timekeeper
from atlas.scheduler.testing.by_hand import HandStore, HandWriter
from atlas.scheduler.testing.clocks import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path
    from typing import Unpack

    from sqlalchemy import Connection

    from atlas.scheduler.registry import Registry
    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.task import Task
    from atlas.scheduler.tasks.live import Attempt, Live
    from atlas.scheduler.tasks.submission import QueueDefaults, SubmitOptions


WAITS_S: Final = 3.0
"""Real seconds after which it is told that a coroutine really waits."""


class _HandTimekeeper(Timekeeper):
    """One without a thread: whoever moves the clock does what is due."""

    def start(self) -> None:
        """Start nothing."""


class InlineServing(Serving):
    """The running parts of a queue, without its threads: attempts run where `run` is called.

    Attributes:
        jumps: True to let the clock jump to the next retry when nothing else is left to do.
    """

    def __init__(self, store: Store, clock: VirtualClock, *, jumps: bool, **options: Any) -> None:
        super().__init__(store, loop=None, **options)
        self.clock, self.jumps = clock, jumps
        self._timekeeper = _HandTimekeeper(clock, self._tick, self.renew, renew_s=0.0)
        self._runners: list[asyncio.Runner] = []
        self._depth = 0
        self._claiming: list[Attempt] = []
        for kind in ExecutorKind:
            self.line.attach(kind, _rouse_nobody)

    def _may_start(self, priority: int) -> bool:
        return self.store.writer.may_start(priority)  # days pass in a moment here, so the age of the lease says nothing

    def stop(self, *, drain: bool, timeout_s: float) -> None:  # noqa: ARG002 - nothing ends by waiting for it here
        """Stop at once; what waits stays in the store."""
        try:
            super().stop(drain=False, timeout_s=0.0)
        finally:  # a death in the middle of it too
            self._close_runners()

    def kill(self) -> None:
        """Be dead, as after kill -9: nothing is written or told any more, and what the kernel frees is free."""
        store = self.store
        assert isinstance(store, HandStore)
        store.hand_writer.dead = True
        self.acceptance.taking = self.lifecycle.taking_starts = False
        self.line.close()
        self._logs.abandon()
        self._let_go()
        self._close_runners()
        store.die()

    def _close_runners(self) -> None:
        while self._runners:
            self._runners.pop().close()

    # --- work ---------------------------------------------------------------------------------------------------------

    def submit(
        self,
        lives: Sequence[Live],
        *,
        unique: bool,
        loop: asyncio.AbstractEventLoop | None,
        also: Callable[[Connection], None] | None = None,
    ) -> Ticket:
        """`Serving.submit`; for a thread, the tasks have run when this returns."""
        ticket = super().submit(lives, unique=unique, loop=loop, also=also)
        if loop is None:
            ticket.wait()
            self.run()
        return ticket

    def watch(self, task_id: str, ticket: Ticket) -> bool:
        """`Serving.watch`, which must not wait for what only the caller can bring about.

        Raises:
            ResultNotReadyError: The task waits for time to pass, or for the end of the function that asks.
        """
        if not super().watch(task_id, ticket):
            return False
        self.unwatch(task_id, ticket)
        raise ResultNotReadyError(task_id, "not final, and nothing happens while this waits; let time pass first")

    def run(self) -> None:
        """Run everything that can run now, one after another, in this thread.

        Raises:
            RuntimeError: There is a running event loop here.
        """
        refuse_on_loop()
        for attempt in self._attempts():
            if attempt.live.task.policy.executor is ExecutorKind.ASYNC:
                runner = self._runners.pop() if self._runners else asyncio.Runner()
                try:  # one loop for all, as in the real queue, but for coroutines that are inside others
                    outcome = runner.run(self._await(attempt))
                finally:
                    self._runners.append(runner)
            else:
                outcome = run_attempt(attempt)
            self._finish(attempt, outcome)

    async def run_async(self) -> None:
        """`run` on a running event loop: coroutines are awaited on it, plain functions run in a thread beside it."""
        for attempt in self._attempts():
            if attempt.live.task.policy.executor is ExecutorKind.ASYNC:
                outcome = await self._await(attempt)
            else:
                outcome = await asyncio.to_thread(run_attempt, attempt)
            self._finish(attempt, outcome)

    async def _await(self, attempt: Attempt) -> Outcome:
        loop = asyncio.get_running_loop()
        running = Context().run(loop.create_task, await_attempt(attempt))  # nothing of the test's, and cancelled alone
        self.lifecycle.set_stopper(attempt, lambda _reason: _cancel(loop, running))
        watch = loop.call_later(WAITS_S, self._tell_of_waiting, attempt.live.task)
        limit_s = attempt.live.task.policy.timeout_s
        end = None
        if limit_s is not None:  # nobody else can: this thread is the one that moves the clock
            end = loop.call_later(
                max(limit_s, WAITS_S), self.cancellation.stop_running, attempt.live.task.id, "timeout"
            )
        try:
            return await running
        finally:
            watch.cancel()
            if end is not None:
                end.cancel()

    @staticmethod
    def _tell_of_waiting(task: Task) -> None:
        end = (
            ""
            if task.policy.timeout_s is None
            else f"; its timeout ends it after {max(task.policy.timeout_s, WAITS_S):g} s"
        )
        logger.bind(task_id=task.id, job_id=task.job_id).warning(
            "{} waits since {:g} s of real time, and the test with it: virtual time stands still while a function runs,"
            " asyncio.sleep included{}. To let virtual time pass, await asyncio.to_thread(time.advance, 3600) in its"
            " place (InlineQueue: queue.pass_s), or give the function its sleep as an argument",
            task.function,
            WAITS_S,
            end,
        )

    def _attempts(self) -> Iterator[Attempt]:
        """Attempts that have begun; each must be finished before the next one is asked for."""
        self._depth += 1
        try:
            while True:
                attempt = self._next()
                if attempt is not None:
                    yield attempt
                elif not self._jump():
                    return
        finally:
            self._depth -= 1

    def _next(self) -> Attempt | None:
        writer = self.store.writer
        assert isinstance(writer, HandWriter)
        for looks in range(2):
            if looks:
                writer.flush()  # what was held up by a commit is in line behind it
            for attempt in self._claiming:
                if self._may_enter(attempt):
                    self._claiming.remove(attempt)
                    return attempt
            for kind in ExecutorKind:
                while (task := self.line.take(kind, wait=False)) is not None:
                    begun = self.lifecycle.begin(task)
                    if begun is None:
                        self.line.give_back(kind)
                        continue
                    if begun.claim is not None:
                        writer.flush()
                    if self._may_enter(begun):
                        return begun
                    self._claiming.append(begun)
        return None

    def _may_enter(self, attempt: Attempt) -> bool:
        """False while a claim that must stand on disk first does not."""
        if attempt.claim is None:
            return True
        if not attempt.claim.done:
            return False
        attempt.failure = self.lifecycle.claimed(attempt) or attempt.failure
        return True

    def _jump(self) -> bool:
        """Let the clock jump to the next retry; False if there is none, or a function is inside, whose time it is."""
        if not self.jumps or self._depth > 1:
            return False
        next_s = self.lifecycle.tick()
        if next_s is None:
            return False
        self.clock.pass_until(next_s)
        self.lifecycle.tick()
        return True

    def _finish(self, attempt: Attempt, outcome: Outcome) -> None:
        if self.lifecycle.finish(attempt, outcome):
            self.line.give_back(attempt.live.task.policy.executor)
        if isinstance(outcome, Raised) and "KeyboardInterrupt" in outcome.names:
            raise KeyboardInterrupt  # somebody wants the tests to end, not this function


class InlineQueue(TaskQueue):
    """A `TaskQueue` for unit tests: `submit` has run the function, all its attempts, when it returns.

    Retry and timeout policies decide as they do in production, results, statuses and errors are those of the real
    queue; only the waits are left out: for a retry, the clock jumps. With ``.sync`` functions run in the thread of the
    caller (``executor="process"`` too) and coroutines on a private loop; awaited, coroutines run on the caller's loop
    and functions in a thread beside it. One that is to take time says so by `pass_s`, and is stopped at its timeout.

    Args:
        store: A database's path or URL; None keeps all in memory.
        registry: Functions by name; by default those of `register`.
        defaults: Policies of tasks that do not bring their own.
        start: Where the clock stands at first, aware; by default now.
        max_workers: Tasks that may be inside one another.
        jumps: False to leave retries waiting until `pass_s` reaches them.

    >>> with InlineQueue() as queue:
    ...     task_id = queue.sync.submit(sum, [1, 2, 3])
    ...     queue.sync.get_task_result(task_id)
    6
    """

    def __init__(
        self,
        *,
        store: Path | str | None = None,
        registry: Registry | None = None,
        defaults: QueueDefaults | None = None,
        start: datetime | None = None,
        max_workers: int = 10,
        jumps: bool = True,
    ) -> None:
        super().__init__(max_workers, store=store, registry=registry, defaults=defaults)
        self.clock = VirtualClock(start)
        self._path, self._opened, self._jumps = store, None, jumps

    _opened: Store | None

    def __enter__(self) -> Self:
        self.sync.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.sync.stop()

    @property
    def serving(self) -> InlineServing:
        """The running parts.

        Raises:
            QueueStoppedError: The queue is not started.
        """
        serving = super().serving
        assert isinstance(serving, InlineServing)
        return serving

    def pass_s(self, seconds: float) -> None:
        """Let time pass, on the queue's clock alone; tests call it, and functions that are to take time.

        What becomes due on the way happens in order: a timeout asks its function to stop, a retry gets ready and runs.

        Raises:
            ValueError: ``seconds`` is negative.
            RuntimeError: There is a running event loop here: ``await asyncio.to_thread(queue.pass_s, …)``.
        """
        refuse_on_loop()
        if seconds < 0:
            raise ValueError(f"{seconds} s: time does not go back")
        serving = self.serving
        end_s = self.clock.monotonic() + seconds
        while (next_s := serving.lifecycle.tick()) is not None and next_s <= end_s:
            self.clock.pass_until(next_s)
            serving.lifecycle.tick()
            serving.run()
        self.clock.pass_until(end_s)

    async def submit(self, func: Callable[..., Any] | str, *args: Any, **options: Unpack[SubmitOptions]) -> str:
        """`TaskQueue.submit`; when this returns the id, the function has run."""
        task_id = await super().submit(func, *args, **options)
        await self.serving.run_async()
        return task_id

    async def submit_many(
        self, func: Callable[..., Any] | str, arguments: Iterable[Sequence[Any]], **options: Unpack[SubmitOptions]
    ) -> list[str]:
        """`TaskQueue.submit_many`; when this returns the ids, all have run."""
        task_ids = await super().submit_many(func, arguments, **options)
        await self.serving.run_async()
        return task_ids

    async def retry_task(self, task_id: str, *, by: str = "") -> str:
        """`TaskQueue.retry_task`; when this returns the id, the new task has run."""
        new_id = await super().retry_task(task_id, by=by)
        await self.serving.run_async()
        return new_id

    def _start(self, loop: asyncio.AbstractEventLoop | None) -> bool:  # noqa: ARG002 - it runs where it is called
        if self._opened is None:
            store = open_store(self._path, durability="normal", clock=self.clock, kind=HandStore)
            if store.clock is not self.clock:
                store.close()
                raise StoreMismatchError(f"{store.url} is open in this process on another clock; close it there first")
            self._target = self._opened = store
        return super()._start(None)

    def _stop(self, *, drain: bool, timeout_s: float) -> None:
        super()._stop(drain=drain, timeout_s=timeout_s)
        opened, self._opened, self._target = self._opened, None, self._path
        if opened is not None:
            opened.close()

    def kill(self) -> None:
        """End as by kill -9: what is committed stays, everything else is gone; whatever still runs writes no more.

        Functions that wait for time to pass, in this thread, get a `BaseException`. Start another queue on the same
        file to see what recovery makes of it.
        """
        leadership, self._leadership = self._leadership, None
        if leadership is not None:
            leadership.close()
        if self._role is not None:
            self.serving.kill()
        elif isinstance(self._opened, HandStore):
            self._opened.die()
        self._role = self._opened = None
        self._target = self._path

    def _new_serving(self, store: Store) -> Serving:
        return InlineServing(
            store,
            self.clock,
            jumps=self._jumps,
            registry=self.registry,
            max_workers=self.max_workers,
            limits=self.executor_limits,
            max_waiting=self._max_waiting,
            stop_grace_s=self._stop_grace_s,
            log_rules=self._log_rules,
        )


def _cancel(loop: asyncio.AbstractEventLoop, running: asyncio.Task[Outcome]) -> None:
    loop.call_soon_threadsafe(running.cancel)


def _rouse_nobody(_count: int) -> None:
    """Nobody waits at the line: whoever calls looks for himself."""

"""Coroutine functions: a pump on the event loop that pulls from the line."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextvars import Context
from typing import TYPE_CHECKING, Final

from loguru import logger

from atlas.scheduler.errors import AtlasError
from atlas.scheduler.executors.attempt import CANCELLED_BY_OTHERS, await_attempt
from atlas.scheduler.outcome import Outcome, Stopped, StopReason
from atlas.scheduler.task import ExecutorKind

if TYPE_CHECKING:
    from atlas.scheduler.tasks.lifecycle import Lifecycle
    from atlas.scheduler.tasks.line import Line
    from atlas.scheduler.tasks.live import Attempt


LEAVE_S: Final = 0.5
"""How long coroutines of a private loop that were asked to end are waited for when it closes."""


class LoopExecutor:
    """Runs coroutines on the loop that started the queue, or on a private loop made when one is first needed."""

    def __init__(self, line: Line, lifecycle: Lifecycle, loop: asyncio.AbstractEventLoop | None) -> None:
        self._line, self._lifecycle = line, lifecycle
        self._loop = loop
        self._private: threading.Thread | None = None
        self._woken = False
        self._closed = False
        self._tasks: set[asyncio.Task[Outcome]] = set()
        line.attach(ExecutorKind.ASYNC, self._wake)

    def _wake(self, _count: int) -> None:
        # Under the line's lock, so one wake at a time.
        if self._woken or self._closed:
            return
        if self._loop is None:
            loop = asyncio.new_event_loop()
            private = threading.Thread(target=self._run_private, args=(loop,), name="atlas-loop", daemon=True)
            try:
                private.start()
            except RuntimeError:
                loop.close()
                raise
            self._loop, self._private = loop, private
        self._woken = True  # before the call: the pump may run, and take it back, before the call returns
        try:
            self._loop.call_soon_threadsafe(self._pump)
        except RuntimeError:
            logger.error("the loop that started the queue is closed; its coroutine tasks wait for the next start")
            self._closed = True

    @staticmethod
    def _run_private(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=LEAVE_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def _pump(self) -> None:
        self._woken = False
        task = self._line.take(ExecutorKind.ASYNC, wait=False)
        while task is not None:
            attempt = self._lifecycle.begin(task, self._loop)
            if attempt is None:
                self._line.give_back(ExecutorKind.ASYNC)
            else:
                self._launch(attempt)
            task = self._line.take(ExecutorKind.ASYNC, wait=False)

    def _launch(self, attempt: Attempt) -> None:
        loop = asyncio.get_running_loop()
        # Whoever woke the pump (the caller of `start`, or of a cancel that made room) has nothing to do with this task.
        running = Context().run(loop.create_task, self._attempt(attempt), name=f"atlas {attempt.live.task.id}")
        self._tasks.add(running)

        def done(finished: asyncio.Task[Outcome]) -> None:
            # A callback, not the end of the coroutine: one that is cancelled before its first step never runs at all.
            self._tasks.discard(finished)
            outcome: Outcome
            if not finished.cancelled():
                outcome = finished.result()
            elif attempt.context.stop_reason is not None:
                outcome = Stopped(attempt.live.stop or "shutdown")
            else:
                outcome = CANCELLED_BY_OTHERS
            if self._lifecycle.finish(attempt, outcome):
                self._line.give_back(ExecutorKind.ASYNC)

        def stop(_reason: StopReason) -> None:
            with contextlib.suppress(RuntimeError):  # its loop is closed: it does not run any more
                loop.call_soon_threadsafe(running.cancel)

        running.add_done_callback(done)
        self._lifecycle.set_stopper(attempt, stop)

    async def _attempt(self, attempt: Attempt) -> Outcome:
        if attempt.claim is not None:
            try:
                await attempt.claim.future()
            except AtlasError:  # the claim was not taken: the store was closed first
                return Stopped("shutdown")
            refusal = self._lifecycle.claimed(attempt)
            if refusal is not None:
                return refusal
        return await await_attempt(attempt)

    def close(self, timeout_s: float) -> None:
        """Pull nothing more; a private loop ends."""
        self._closed = True
        if self._private is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._private.join(timeout_s)

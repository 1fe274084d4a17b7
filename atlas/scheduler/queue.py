"""`TaskQueue`: submit work, wait for its result, cancel it, look at the queue."""

# ruff: noqa: SLF001 - the two faces of a queue share one state

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

from atlas.scheduler.capture import LogRules
from atlas.scheduler.errors import (
    ArgumentsError,
    QueueStoppedError,
    ResultNotReadyError,
    StoreMismatchError,
    UnknownTaskError,
)
from atlas.scheduler.registry import REGISTRY, Registry
from atlas.scheduler.serving import Serving
from atlas.scheduler.store.engine import database_url
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.store.task_rows import fetch
from atlas.scheduler.store.tickets import Ticket
from atlas.scheduler.submission import QueueDefaults, Submission, SubmitOptions, submitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Unpack

    from atlas.scheduler.live import Live
    from atlas.scheduler.task import ExecutorKind


class TaskQueue:
    """Runs functions with priorities, retries, timeouts and cancels, and keeps every accepted one on disk.

    Args:
        max_workers: Tasks that run at once, over all executors.
        store: Where tasks live: a `Store`, a database's path or URL. None: the store of the `CronManager` it is given
            to, else a private database in memory; what is in memory does not survive the process (promises 1, 2
            and 5 need a store).
        registry: Functions by name; by default those of `register`.
        defaults: Policies of tasks that do not bring their own.
        max_waiting: Most tasks that may wait; `submit` raises `QueueFullError` beyond it.
        stop_grace_s: Seconds between asking an attempt to stop and abandoning it.
        executor_limits: Tighter bounds than ``max_workers`` per executor.
        log_rules: What is kept of what tasks log.
    """

    def __init__(
        self,
        max_workers: int = 10,
        *,
        store: Store | Path | str | None = None,
        registry: Registry | None = None,
        defaults: QueueDefaults | None = None,
        max_waiting: int = 100_000,
        stop_grace_s: float = 5.0,
        executor_limits: Mapping[ExecutorKind, int] | None = None,
        log_rules: LogRules | None = None,
    ) -> None:
        """Describe the queue; `start` starts it."""
        if max_workers < 1:
            msg = f"max_workers {max_workers} is less than 1"
            raise ArgumentsError(msg)
        self.max_workers = max_workers
        self.registry = registry or Registry(parent=REGISTRY)
        self.defaults = defaults or QueueDefaults()
        self._target = store
        self._max_waiting, self._stop_grace_s = max_waiting, stop_grace_s
        self.executor_limits = dict(executor_limits or {})
        self._log_rules = log_rules or LogRules()
        self._serving: Serving | None = None
        self._starting = threading.Lock()
        self._submission = Submission(self.registry, self.defaults)

    @property
    def sync(self) -> SyncTaskQueue:
        """The same queue for code without an event loop."""
        return SyncTaskQueue(self)

    @property
    def store(self) -> Store | None:
        """The store, None before `start` of a queue that keeps its own."""
        if self._serving is not None:
            return self._serving.store
        return self._target if isinstance(self._target, Store) else None

    def bind(self, store: Store) -> None:
        """Use ``store`` if the queue has none yet.

        Raises:
            StoreMismatchError: It has another one, or runs on a private one already.
        """
        mine, target = self.store, self._target
        if mine is store:
            return
        named = None if target is None or isinstance(target, Store) else database_url(target)
        if mine is not None or named not in {None, store.engine.url}:
            uses = mine.url if mine else target
            msg = f"the queue uses {uses}, the status manager {store.url}; give both the same one"
            raise StoreMismatchError(msg)
        self._target = store

    # --- start and stop -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, recover what is in it and serve; coroutines run on this loop. Starting twice does nothing.

        Raises:
            StoreHeldError: Another process, or another queue, serves this store.
        """
        if self._serving is None:
            await asyncio.to_thread(self._start, asyncio.get_running_loop())

    async def stop(self, *, drain: bool = True, timeout: float = 30.0) -> None:
        """Take nothing more, let running tasks end for ``timeout`` seconds, then stop them and release the rest.

        What waits stays on disk for the next start; on a private store, where nothing outlives the queue, waiting
        tasks are served within the same limit. Stopping twice does nothing.

        Args:
            drain: False asks running tasks to stop at once.
            timeout: Seconds for the drain.
        """
        serving, self._serving = self._serving, None
        if serving is not None:
            await asyncio.to_thread(serving.stop, drain=drain, timeout_s=timeout)

    async def __aenter__(self) -> Self:
        """`start`."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """`stop`; an error in the block stops running tasks at once."""
        await self.stop(drain=kind is None)

    def _start(self, loop: asyncio.AbstractEventLoop | None) -> None:
        with self._starting:
            if self._serving is not None:
                return
            serving = Serving(
                self._target if isinstance(self._target, Store) else open_store(self._target),
                owns_store=not isinstance(self._target, Store),
                registry=self.registry,
                loop=loop,
                max_workers=self.max_workers,
                limits=self.executor_limits,
                max_waiting=self._max_waiting,
                stop_grace_s=self._stop_grace_s,
                log_rules=self._log_rules,
            )
            serving.start()
            self._serving = serving

    @property
    def serving(self) -> Serving:
        """The running parts.

        Raises:
            QueueStoppedError: The queue is not started.
        """
        if self._serving is None:
            msg = "the queue is not started: 'await queue.start()' or 'async with TaskQueue(…) as queue'"
            raise QueueStoppedError(msg)
        return self._serving

    # --- submit ---------------------------------------------------------------------------------------------------

    async def submit(self, func: Callable[..., Any] | str, *args: Any, **options: Unpack[SubmitOptions]) -> str:
        """Accept one task; when this returns its id, it is on disk.

        Args:
            func: A function, or the name of a registered one.
            *args: Its positional arguments; its keyword arguments go into ``kwargs={…}``.
            **options: See `SubmitOptions`.

        Raises:
            TypeError: An option is unknown.
            ArgumentsError: An option has no meaning.
            UnknownFunctionError: No function is registered under this name.
            FunctionRefusedError: It cannot run there (a closure in a process).
            DuplicateTaskError: A task with this ``task_id`` exists.
            QueueFullError: As many tasks wait as may.
            StoreUnavailableError: The store did not take it within 30 s; it was withdrawn.
        """
        lives = self._prepare(func, [args], options)
        loop, also = asyncio.get_running_loop(), submitted(lives, options)
        ticket = self.serving.submit(lives, unique="task_id" in options, loop=loop, also=also)
        await ticket.future()
        return lives[0].task.id

    async def submit_many(
        self,
        func: Callable[..., Any] | str,
        arguments: Iterable[Sequence[Any]],
        **options: Unpack[SubmitOptions],
    ) -> list[str]:
        """Accept one task per entry of ``arguments`` (its positional arguments) in one commit: all or none."""
        lives = self._prepare(func, arguments, options, many=True)
        if lives:
            loop, also = asyncio.get_running_loop(), submitted(lives, options)
            await self.serving.submit(lives, unique=False, loop=loop, also=also).future()
        return [live.task.id for live in lives]

    def _prepare(
        self,
        func: Callable[..., Any] | str,
        arguments: Iterable[Sequence[Any]],
        options: SubmitOptions,
        *,
        many: bool = False,
    ) -> list[Live]:
        if many and "task_id" in options:
            msg = "submit_many() takes no task_id: it makes many tasks"
            raise TypeError(msg)
        store = self.serving.store
        now = store.clock.now()
        prepare, note = self._submission.prepare, not store.is_private
        return [prepare(func, args, options, now=now, note_volatile=note) for args in arguments]

    # --- results and cancel ---------------------------------------------------------------------------------------

    async def get_task_result(self, task_id: str, *, timeout: float | None = None) -> Any:
        """Wait for the task's end and return what its function returned.

        A durable task gives the JSON value; a volatile one the object itself, while this process keeps it.

        Args:
            task_id: The task.
            timeout: Seconds to wait at most; None waits for the end.

        Raises:
            UnknownTaskError: No such task.
            TaskFailedError: It ended FAILED.
            TaskTimeoutError: It ended TIMEOUT.
            TaskCancelledError: It ended CANCELLED.
            ResultOmittedError: It succeeded, but its result was not kept.
            ResultNotReadyError: ``timeout`` passed first.
        """
        serving = self.serving
        ticket = Ticket(asyncio.get_running_loop())
        if not serving.lifecycle.watch(task_id, ticket):
            return serving.result_of(
                await serving.store.read_async(lambda connection: fetch(connection, task_id)), task_id
            )
        try:
            async with asyncio.timeout(timeout):
                task = await ticket.future()
        except TimeoutError as error:
            raise ResultNotReadyError(task_id, f"not final after {timeout:g} s") from error
        finally:
            serving.lifecycle.unwatch(task_id, ticket)
        return serving.result_of(task, task_id)

    def cancel_task(self, task_id: str, *, by: str = "") -> bool:
        """Cancel a waiting task, or ask a running one to end; False if it is final already.

        Waits until the request is on disk (at most 5 s), never for the function's end.

        Args:
            task_id: The task.
            by: Who asks, for the audit: ``"web"``, ``"cli:root"``; by default the program itself.

        Raises:
            UnknownTaskError: No such task.
            StoreUnavailableError: The store did not take the request.
        """
        return self.serving.cancel(task_id, by=by)

    async def retry_task(self, task_id: str, *, by: str = "") -> str:
        """Make a new task with the function, arguments, policy and job of a final one; returns its id.

        Args:
            task_id: The final task; it stays as it is.
            by: Who asks, for the audit.

        Raises:
            UnknownTaskError: No such task.
            TaskUnfinishedError: It is not final.
            FunctionRefusedError: It was recorded by hand, or its function lived in another process.
            JobBusyError: The overlap rule of its job allows no further task now.
            QueueFullError: As many tasks wait as may.
            StoreUnavailableError: The store did not take it within 30 s; it was withdrawn.
        """
        serving = self.serving
        found = await serving.store.read_async(lambda connection: fetch(connection, task_id))
        if found is None:
            raise UnknownTaskError(task_id)
        task, ticket = serving.retry(found, by=by, loop=asyncio.get_running_loop())
        await ticket.future()
        await asyncio.to_thread(serving.stop_replaced, serving.lifecycle.replaced_by(task))
        return task.id

    def get_queue_status(self) -> dict[str, Any]:
        """Live figures: ``queue_size`` (waiting), ``running_tasks``, per priority, oldest waits, abandoned threads."""
        if self._serving is None:
            return {"state": "stopped", "queue_size": 0, "running_tasks": 0, "max_workers": self.max_workers}
        return {"state": "running", "max_workers": self.max_workers, **self._serving.figures()}


class SyncTaskQueue:
    """`TaskQueue` for code without an event loop; coroutine functions run on a private loop.

    Every method does what its namesake does, and raises `RuntimeError` when called on a running loop.
    """

    def __init__(self, queue: TaskQueue) -> None:
        """Wrap ``queue``."""
        self._queue = queue

    def start(self) -> Self:
        """`TaskQueue.start`."""
        refuse_on_loop()
        self._queue._start(None)
        return self

    def stop(self, *, drain: bool = True, timeout: float = 30.0) -> None:
        """`TaskQueue.stop`."""
        refuse_on_loop()
        serving, self._queue._serving = self._queue._serving, None
        if serving is not None:
            serving.stop(drain=drain, timeout_s=timeout)

    def __enter__(self) -> Self:
        """`start`."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """`stop`; an error in the block stops running tasks at once."""
        self.stop(drain=kind is None)

    def submit(self, func: Callable[..., Any] | str, *args: Any, **options: Unpack[SubmitOptions]) -> str:
        """`TaskQueue.submit`."""
        refuse_on_loop()
        serving, lives = self._queue.serving, self._queue._prepare(func, [args], options)
        serving.submit(lives, unique="task_id" in options, loop=None, also=submitted(lives, options)).wait()
        return lives[0].task.id

    def submit_many(
        self,
        func: Callable[..., Any] | str,
        arguments: Iterable[Sequence[Any]],
        **options: Unpack[SubmitOptions],
    ) -> list[str]:
        """`TaskQueue.submit_many`."""
        refuse_on_loop()
        serving, lives = self._queue.serving, self._queue._prepare(func, arguments, options, many=True)
        if lives:
            serving.submit(lives, unique=False, loop=None, also=submitted(lives, options)).wait()
        return [live.task.id for live in lives]

    def get_task_result(self, task_id: str, *, timeout: float | None = None) -> Any:
        """`TaskQueue.get_task_result`."""
        refuse_on_loop()
        serving = self._queue.serving
        ticket = Ticket()
        if not serving.lifecycle.watch(task_id, ticket):
            return serving.result_of(serving.store.read(lambda connection: fetch(connection, task_id)), task_id)
        try:
            task = ticket.wait(timeout)
        except TimeoutError as error:
            raise ResultNotReadyError(task_id, f"not final after {timeout:g} s") from error
        finally:
            serving.lifecycle.unwatch(task_id, ticket)
        return serving.result_of(task, task_id)

    def cancel_task(self, task_id: str, *, by: str = "") -> bool:
        """`TaskQueue.cancel_task`."""
        return self._queue.cancel_task(task_id, by=by)

    def retry_task(self, task_id: str, *, by: str = "") -> str:
        """`TaskQueue.retry_task`."""
        refuse_on_loop()
        serving = self._queue.serving
        found = serving.store.read(lambda connection: fetch(connection, task_id))
        if found is None:
            raise UnknownTaskError(task_id)
        task, ticket = serving.retry(found, by=by, loop=None)
        ticket.wait()
        serving.stop_replaced(serving.lifecycle.replaced_by(task))
        return task.id

    def get_queue_status(self) -> dict[str, Any]:
        """`TaskQueue.get_queue_status`."""
        return self._queue.get_queue_status()


def refuse_on_loop() -> None:
    """Raise when called on a running event loop, which a blocking call would stop.

    Raises:
        RuntimeError: There is one; the message says what to do.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    msg = "this call blocks and there is a running event loop: await the method of the same name without '.sync'"
    raise RuntimeError(msg)

"""`TaskQueue`: submit work, wait for its result, cancel it, look at the queue."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from loguru import logger

from atlas.scheduler.awaited import done_or_undone, end_dropped
from atlas.scheduler.errors import (
    ArgumentsError,
    AtlasError,
    QueueStoppedError,
    ResultNotReadyError,
    StoreHeldError,
    StoreMismatchError,
)
from atlas.scheduler.event_log import EventLog
from atlas.scheduler.leadership import Leadership
from atlas.scheduler.registry import REGISTRY, Registry
from atlas.scheduler.serving import Serving
from atlas.scheduler.standby import Standby, watch_on
from atlas.scheduler.store.engine import database_url
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.store.task_rows import fetch_known
from atlas.scheduler.store.tickets import Ticket, wake_all
from atlas.scheduler.sync_queue import SyncTaskQueue, result_of
from atlas.scheduler.task import ExecutorKind, member_of
from atlas.scheduler.tasks.capture import LogRules
from atlas.scheduler.tasks.submission import (
    QueueDefaults,
    Submission,
    SubmitOptions,
    each_of_many,
    submit_audit,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Unpack

    from atlas.scheduler.store.leases import Lease
    from atlas.scheduler.task import Task
    from atlas.scheduler.tasks.live import Live


DRAIN_S: Final = 30.0
"""How long running tasks may take to end when a queue stops, unless the call says otherwise."""


class RoleListener(Protocol):
    """Who must know which process leads."""

    def lead(self) -> None:
        """This process leads from now on."""

    def step_down(self) -> None:
        """Another process leads from now on; nothing may be written for the old lead."""


def _seconds(name: str, given: object) -> float:
    """``given``, at least 0 and no longer than a thread can wait.

    Raises:
        ArgumentsError: It is no number.
    """
    if not isinstance(given, int | float) or not (given >= 0 or given < 0):  # NaN is neither
        raise ArgumentsError(f"{name} {given!r} is not a number of seconds")
    return min(max(0.0, given), threading.TIMEOUT_MAX)


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
        standby: Where another process serves the store, `start` stands by and takes over when that one ends; without
            it, `start` raises.
        log_rules: What is kept of what tasks log.
        log_level: What happens is logged from this level on, by loguru: WARNING tells of failures, retries and skips,
            INFO of each task's end too. None logs nothing.

    Raises:
        ArgumentsError: A limit or level has no meaning.
    """

    _role: Serving | Standby | None = None  # here too, for one that was refused

    def __init__(
        self,
        max_workers: int = 10,
        *,
        store: Store | Path | str | None = None,
        registry: Registry | None = None,
        defaults: QueueDefaults | None = None,
        max_waiting: int = 100_000,
        stop_grace_s: float = 5.0,
        executor_limits: Mapping[ExecutorKind, int] | Mapping[str, int] | None = None,
        log_rules: LogRules | None = None,
        log_level: str | None = "WARNING",
        standby: bool = False,
    ) -> None:
        limits = {member_of(ExecutorKind, "executor", kind): limit for kind, limit in (executor_limits or {}).items()}
        counts = {f"executor_limits[{kind.value!r}]": limit for kind, limit in limits.items()}
        for name, count in {"max_workers": max_workers, "max_waiting": max_waiting, **counts}.items():
            if type(count) is not int or count < 1:
                raise ArgumentsError(f"{name} {count!r} is not a whole number of at least 1")
        self.max_workers = max_workers
        self.registry = registry or Registry(parent=REGISTRY)
        self.defaults = defaults or QueueDefaults()
        self._target = store
        self._max_waiting, self._stop_grace_s = max_waiting, _seconds("stop_grace_s", stop_grace_s)
        self.executor_limits = limits
        self._log_rules = log_rules or LogRules()
        self._event_log = None if log_level is None else EventLog(log_level)
        self._unsubscribe: Callable[[], None] | None = None
        self.standby = standby
        self._store: Store | None = None  # opened here
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leadership: Leadership | None = None
        self._role_listeners: list[RoleListener] = []
        self._untold: list[RoleListener] = []  # those of them who do not know yet that this process leads
        self._starting = threading.Lock()
        self._submission = Submission(self.registry, self.defaults)

    @property
    def sync(self) -> SyncTaskQueue:
        """The same queue for code without an event loop."""
        return SyncTaskQueue(self)

    @property
    def store(self) -> Store | None:
        """The store, None before `start` of a queue that keeps its own."""
        if self._role is not None:
            return self._role.store
        return self._target if isinstance(self._target, Store) else None

    def bind(self, store: Store) -> None:
        """Use ``store`` if the queue has none yet, or one that is closed: it may be started again.

        Raises:
            StoreMismatchError: It has another one, or runs on a private one already.
        """
        mine, target = self.store, self._target
        if mine is store:
            return
        if mine is not None and mine.is_closed:
            mine = None
        named = None if target is None or isinstance(target, Store) else database_url(target)
        if mine is not None or named not in {None, store.engine.url}:
            uses = mine.url if mine else target
            raise StoreMismatchError(f"the queue uses {uses}, the status manager {store.url}; give both the same one")
        self._target = store

    def __del__(self) -> None:
        """A queue that is dropped while it is started ends by itself: nobody could stop it any more.

        The clock of its cron manager stops, and its running tasks are drained as by `stop`, on a thread of its own.
        """
        role = self._role
        if role is None or role.store.was_left_behind:
            return
        what = (
            f"a TaskQueue on {role.store.url} was dropped before it was stopped: 'await queue.stop()', or 'async with'"
        )
        end_dropped(self, what, self._end)

    def _end(self) -> None:
        self._tell_step_down()
        self._stop(drain=True, timeout_s=DRAIN_S)

    # --- start and stop -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, recover what is in it and serve; coroutines run on this loop. Starting twice does nothing.

        Where it is cancelled the queue is stopped again.

        Raises:
            StoreHeldError: Another process, or another queue, serves this store.
        """
        self._leave_behind()
        if self._role is None:
            start = partial(self._start, asyncio.get_running_loop())
            await done_or_undone(start, partial(self._stop, drain=False, timeout_s=0.0))

    async def stop(self, *, drain: bool = True, timeout: float = DRAIN_S) -> None:
        """Take nothing more, let running tasks end for ``timeout`` seconds, then stop them and release the rest.

        What waits stays on disk for the next start; on a private store, where nothing outlives the queue, waiting tasks
        are served within the same limit. Stopping twice does nothing. ``drain=False`` asks running tasks to stop at
        once.

        Raises:
            ArgumentsError: ``timeout`` is no number; nothing was stopped.
        """
        if self._role is not None:
            await asyncio.to_thread(self._stop, drain=drain, timeout_s=timeout)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """`stop`; an error in the block stops running tasks at once."""
        await self.stop(drain=kind is None)

    def _start(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """`start`; False if it was started already."""
        self._leave_behind()
        with self._starting:
            if self._role is not None:
                return False
            self._loop = loop
            if not isinstance(self._target, Store):
                self._store = open_store(self._target)
            store = self._target if isinstance(self._target, Store) else self._store
            assert store is not None
            if self._event_log is not None:
                self._unsubscribe = store.events.subscribe(self._event_log)
            serving = self._new_serving(store)
            role: Serving | Standby = serving
            try:
                serving.start()
            except StoreHeldError:
                if not self.standby or store.holds_claim:
                    self._leave(store)
                    raise
                role = Standby(store)
                role.start()
            except BaseException:
                self._leave(store)
                raise
            self._role = role
            if not store.is_private:
                self._leadership = Leadership(store, lead=self._lead, tell=self._tell_lead, step_down=self._step_down)
                self._leadership.start(leads=role is serving)
            return True

    def _new_serving(self, store: Store) -> Serving:
        return Serving(
            store,
            registry=self.registry,
            loop=self._loop,
            max_workers=self.max_workers,
            limits=self.executor_limits,
            max_waiting=self._max_waiting,
            stop_grace_s=self._stop_grace_s,
            log_rules=self._log_rules,
        )

    def _leave_behind(self) -> None:
        """In a fork of the process that started it: forget what runs there."""
        if self._role is not None and self._role.store.was_left_behind:
            self._role = self._leadership = self._store = self._unsubscribe = None
            self._starting = threading.Lock()

    def _stop(self, *, drain: bool, timeout_s: float) -> None:
        self._leave_behind()
        timeout_s = _seconds("timeout", timeout_s)
        leadership, self._leadership = self._leadership, None
        if leadership is not None:
            leadership.close()
        role, self._role = self._role, None
        if isinstance(role, Serving):
            role.stop(drain=drain, timeout_s=timeout_s)
        elif role is not None:
            for tickets in role.close().values():
                for ticket in tickets:
                    ticket.settle(None, QueueStoppedError("the queue stopped before the task ended"))
                wake_all(tickets)
        if role is not None:
            self._leave(role.store)

    def _leave(self, store: Store) -> None:
        """Close the store if it was opened here, and log no more of it once what has happened is told."""
        mine, self._store = self._store, None
        unsubscribe, self._unsubscribe = self._unsubscribe, None
        if mine is not None:
            mine.close()
        elif unsubscribe is not None:
            store.events.drain()
        if unsubscribe is not None:
            unsubscribe()

    # --- leader and standby -------------------------------------------------------------------------------------------

    @property
    def stands_by(self) -> bool:
        """True while another process serves the store and this one waits for its turn."""
        return isinstance(self._role, Standby)

    def on_role(self, listener: RoleListener) -> None:
        """Tell ``listener`` whenever this queue takes the lead or steps down, on a thread of its own."""
        self._role_listeners.append(listener)

    def off_role(self, listener: RoleListener) -> None:
        """Tell ``listener`` no more."""
        for listeners in (self._role_listeners, self._untold):
            if listener in listeners:
                listeners.remove(listener)

    def _lead(self, silent: Lease | None) -> None:
        standby = self._role
        assert isinstance(standby, Standby)
        serving = self._new_serving(standby.store)
        serving.start(silent=silent)
        self._role = serving
        watch_on(serving.find, standby.close())
        was = "" if silent is None else f"; {silent.words} was silent"
        logger.warning("this process takes the lead{}", was, store=standby.store.url)
        self._untold = list(self._role_listeners)

    def _tell_lead(self) -> None:
        while self._untold:
            listener = self._untold[0]
            listener.lead()
            if listener in self._untold:
                self._untold.remove(listener)

    def _step_down(self) -> None:
        serving = self._role
        assert isinstance(serving, Serving)
        logger.error("another process took over while this one was silent; this one stands by from now on")
        self._untold.clear()
        self._tell_step_down()
        standby = Standby(serving.store)
        self._role = standby
        standby.start(serving.step_down())

    def _tell_step_down(self) -> None:
        for listener in list(self._role_listeners):
            try:
                listener.step_down()
            except Exception:  # noqa: BLE001 - what writes for the old lead must end, whatever else does not
                logger.exception("a part of the scheduler did not step down as it should")

    def looked_s(self) -> float | None:
        """Seconds since a process that stands by looked whether the leader lives; None for one that leads."""
        return None if self._leadership is None else self._leadership.looked_s()

    @property
    def role(self) -> Serving | Standby:
        """What takes commands: the running parts, or what stands in for them while another process serves.

        Raises:
            QueueStoppedError: The queue is not started, or was started before a fork.
        """
        if self._role is None:
            msg = "the queue is not started: 'await queue.start()' or 'async with TaskQueue(…) as queue'"
            raise QueueStoppedError(msg)
        self._role.store.refuse_fork()
        return self._role

    @property
    def serving(self) -> Serving:
        """The running parts.

        Raises:
            QueueStoppedError: The queue is not started, or stands by.
        """
        role = self.role
        if isinstance(role, Standby):
            raise QueueStoppedError("the queue stands by: another process serves this store")
        return role

    # --- submit ---------------------------------------------------------------------------------------------------

    async def submit(self, func: Callable[..., Any] | str, *args: Any, **options: Unpack[SubmitOptions]) -> str:
        """Accept one task; when this returns its id, it is on disk.

        Cancelling the call does not take the task back: it may be accepted all the same.

        The caller's context variables do not reach the function. Each attempt begins with an empty context, here as in
        a process, now as after a restart: what it needs of them is given as an argument. Its keyword arguments go into
        ``kwargs={…}``.

        Raises:
            TypeError: An option is unknown.
            ArgumentsError: An option has no meaning, or the function does not take these arguments.
            UnknownFunctionError: No function is registered under this name.
            FunctionRefusedError: It cannot run there (a closure in a process).
            DuplicateTaskError: A task with this ``task_id`` exists.
            QueueFullError: As many tasks wait as may.
            StoreUnavailableError: The store did not take it within 30 s; it was withdrawn.
        """
        lives = self._prepare(func, [args], options)
        loop, also = asyncio.get_running_loop(), submit_audit(lives, options)
        ticket = self.role.submit(lives, unique="task_id" in options, loop=loop, also=also)
        await ticket.future()
        return lives[0].task.id

    async def submit_many(
        self, func: Callable[..., Any] | str, arguments: Iterable[Sequence[Any]], **options: Unpack[SubmitOptions]
    ) -> list[str]:
        """Accept one task per entry of ``arguments`` (its positional arguments) in one commit: all or none."""
        lives = self._prepare(func, arguments, options, many=True)
        if lives:
            loop, also = asyncio.get_running_loop(), submit_audit(lives, options)
            await self.role.submit(lives, unique=False, loop=loop, also=also).future()
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
            raise TypeError("submit_many() takes no task_id: it makes many tasks")
        store = self.role.store
        return self._submission.prepare(
            func,
            each_of_many(arguments) if many else arguments,
            options,
            now=store.clock.now(),
            note_volatile=not store.is_private,
        )

    # --- results and cancel ---------------------------------------------------------------------------------------

    async def get_task_result(self, task_id: str, *, timeout: float | None = None) -> Any:
        """Wait for the task's end, ``timeout`` seconds at most, and return what its function returned.

        A durable task gives the JSON value; a volatile one the object itself, while this process keeps it.

        Raises:
            UnknownTaskError: No such task.
            TaskFailedError: It ended FAILED.
            TaskTimeoutError: It ended TIMEOUT.
            TaskCancelledError: It ended CANCELLED.
            ResultOmittedError: It succeeded, but its result was not kept.
            ResultNotReadyError: ``timeout`` passed first.
        """
        role = self.role
        ticket = Ticket(asyncio.get_running_loop())
        task: Task | None = None
        try:
            if not (isinstance(role, Serving) and role.watch(task_id, ticket)):
                task = await asyncio.to_thread(role.find, task_id, ticket)
            if task is None:
                async with asyncio.timeout(timeout):
                    task = await ticket.future()
        except AtlasError:  # a database that does not answer has run out of time as well
            raise
        except TimeoutError as error:
            raise ResultNotReadyError(task_id, f"not final after {timeout:g} s") from error
        finally:
            if self._role is not None:  # the lead may have changed hands meanwhile
                self._role.unwatch(task_id, ticket)
        return result_of(role, task)

    def cancel_task(self, task_id: str, *, by: str = "") -> bool:
        """Cancel a waiting task, or ask a running one to end; False if it is final already.

        Waits until the request is on disk (at most 5 s), never for the function's end. The audit names who asks
        (``by``: ``"web"``, ``"cli:root"``), by default the program itself.

        Raises:
            UnknownTaskError: No such task.
            StoreUnavailableError: The store did not take the request.
        """
        return self.role.cancel(task_id, by=by)

    async def retry_task(self, task_id: str, *, by: str = "") -> str:
        """Make a new task with the function, arguments, policy and job of a final one, which stays; returns its id.

        Raises:
            UnknownTaskError: No such task.
            TaskUnfinishedError: It is not final.
            FunctionRefusedError: It was recorded by hand, or is volatile: its function or arguments went with it.
            JobBusyError: The overlap rule of its job allows no further task now.
            QueueFullError: As many tasks wait as may.
            StoreUnavailableError: The store did not take it within 30 s; it was withdrawn.
        """
        role = self.role
        found = await role.store.read_async(lambda connection: fetch_known(connection, task_id))
        task, ticket = role.retry(found, by=by, loop=asyncio.get_running_loop())
        await ticket.future()
        return task.id

    def get_queue_status(self) -> dict[str, Any]:
        """Live figures: ``queue_size`` (waiting), ``running_tasks``, per priority, oldest waits, and more.

        ``abandoned_threads`` counts coroutines that are abandoned, too.
        """
        if self._role is None or self._role.store.was_left_behind:
            return {"state": "stopped", "queue_size": 0, "running_tasks": 0, "max_workers": self.max_workers}
        state = "standby" if self.stands_by else "running"
        return {"state": state, "max_workers": self.max_workers, **self._role.figures()}

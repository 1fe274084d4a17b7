"""Makes tasks that can be reserved: of a function with its arguments and options, of a job, of a task that is final.

Whether one is durable or volatile is decided here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypedDict

from loguru import logger

from atlas.scheduler.arguments import encode_arguments
from atlas.scheduler.durations import seconds
from atlas.scheduler.errors import ArgumentsError, DuplicateTaskError, FunctionRefusedError, TaskUnfinishedError
from atlas.scheduler.message import Message
from atlas.scheduler.registry import NEEDS_PEBBLE, Function, Registry, surely_refused
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.store.audit import Action, write_audit
from atlas.scheduler.store.task_rows import INSERT_NEW, new_row
from atlas.scheduler.task import (
    NO_ARGUMENTS,
    ExecutorKind,
    OnCrash,
    Origin,
    Task,
    TaskIds,
    TaskPolicy,
    TaskPriority,
    checked_id,
    member_of,
)
from atlas.scheduler.tasks.live import Live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.definition import JobDefinition

IDS: Final = TaskIds()
os.register_at_fork(after_in_child=IDS.leave_behind)


class SubmitOptions(TypedDict, total=False):
    """What `TaskQueue.submit` takes by keyword; an unknown one is a `TypeError`.

    Attributes:
        kwargs: The function's keyword arguments.
        task_id: An id of your own, 1 to 191 printable characters; it must be new.
        name: What people call the task; by default the function's name.
        priority: Order of service: URGENT, HIGH, NORMAL (default), LOW.
        timeout: Longest one attempt may run, seconds or ``"5m"``; None is no limit; by default the queue's (600).
        max_retries: Retries after the first attempt; by default the queue's (3).
        retry: The whole retry policy, where the waits matter too.
        executor: ``"process"`` to run in a killable process; by default ``async def`` on the loop, ``def`` in a thread.
        on_crash: ``"fail"`` if it may not run twice; by default ``"retry"``.
        by: Who asks, where a person does: the audit keeps it. What a program submits by itself is not in the audit.
    """

    kwargs: Mapping[str, Any] | None
    task_id: str | None
    name: str | None
    priority: TaskPriority | str | int
    timeout: float | str | None
    max_retries: int | None
    retry: RetryPolicy | None
    executor: ExecutorKind | str | None
    on_crash: OnCrash | str
    by: str


_OPTIONS: Final = SubmitOptions.__annotations__.keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDefaults:
    """Policies of tasks that do not bring their own; see `SubmitOptions`.

    Attributes:
        source: Where what is not built in was said, for `CronManager.get_job_status`.
    """

    timeout_s: float | None = 600.0
    max_retries: int = 3
    source: Literal["queue", "config.yaml"] = "queue"

    def value_from(self) -> dict[str, str]:
        """Policy that is not the built-in one → where it was said."""
        built_in = QueueDefaults()
        differs = {
            "timeout": self.timeout_s != built_in.timeout_s,
            "max_retries": self.max_retries != built_in.max_retries,
        }
        return {name: self.source for name, said in differs.items() if said}


class _Order(NamedTuple):
    """What a call asks for, whatever its arguments."""

    function: Function
    problem: str | None
    """Why its tasks are volatile."""
    name: str
    priority: TaskPriority
    policy: TaskPolicy
    takes: set[int]
    """Numbers of positional arguments that fit: to ask the function takes as long as the rest of a submit."""


class Submission:
    """Makes tasks for one queue."""

    def __init__(self, registry: Registry, defaults: QueueDefaults) -> None:
        self._registry, self._defaults = registry, defaults
        self._noted: set[str] = set()
        self._known: dict[str, _Order] = {}
        self._known_at = -1

    def prepare(
        self,
        func: Callable[..., Any] | str,
        arguments: Iterable[Sequence[Any]],
        options: SubmitOptions,
        *,
        now: datetime,
        note_volatile: bool = True,
    ) -> list[Live]:
        """The tasks meant by a call of `TaskQueue.submit`: one for each entry of ``arguments``.

        Raises:
            TypeError: An option is unknown.
            ArgumentsError: An option has no meaning; the function does not take these arguments; or they are not JSON,
                where it is given by name.
            UnknownFunctionError: No function is registered under this name.
            FunctionRefusedError: It cannot run where it should.
        """
        order = self._order_for(func, options)
        function, policy = order.function, order.policy
        kwargs = kwargs_of(options.get("kwargs"))
        task_id = options.get("task_id")
        if task_id is not None:
            checked_id("task_id", task_id)
        lives = []
        for args in arguments:
            if kwargs or len(args) not in order.takes:
                refusal = surely_refused(function, args, kwargs)
                if refusal is not None:
                    raise ArgumentsError(Message("the arguments do not fit: {why}", why=refusal))
                if not kwargs:
                    order.takes.add(len(args))
            encoded, problem = NO_ARGUMENTS, order.problem
            if args or kwargs:
                try:
                    encoded = encode_arguments(args, kwargs)
                except ArgumentsError as error:
                    if isinstance(func, str):
                        raise
                    executor_for(options.get("executor"), function, volatile_arguments=True)
                    problem = problem or str(error)
            if problem is not None and note_volatile:
                self._note(function, problem)
            task = Task(
                id=task_id or IDS.new(now),
                name=order.name,
                function=function.name,
                arguments=encoded,
                priority=order.priority,
                policy=policy,
                volatile=problem is not None,
                created_at=now,
            )
            lives.append(Live(task) if problem is None else Live(task, function, args, dict(kwargs)))
        return lives

    def _order_for(self, func: Callable[..., Any] | str, options: SubmitOptions) -> _Order:
        """What is the same for all tasks of a call; found once for a name that is given without options."""
        if options or not isinstance(func, str):
            return self._order(func, options)
        version = self._registry.version
        if version != self._known_at:
            self._known, self._known_at = {}, version
        known = self._known  # what is found while somebody registers goes with the rest
        order = known.get(func)
        if order is None:
            order = known[func] = self._order(func, options)
        return order

    def _order(self, func: Callable[..., Any] | str, options: SubmitOptions) -> _Order:
        if not options.keys() <= _OPTIONS:
            names = ", ".join(sorted(options.keys() - _OPTIONS))
            raise TypeError(f"submit() got unknown options: {names} (the function's own keywords go into kwargs={{…}})")
        function, problem = self._registry.meant_by(func)
        return _Order(
            function,
            problem,
            name=_name(options.get("name")) or function.name.rpartition(":")[2],
            priority=TaskPriority.parse(options.get("priority", TaskPriority.NORMAL)),
            policy=_policy(
                self._retry(options.get("retry"), options.get("max_retries")),
                _limit(options.get("timeout", self._defaults.timeout_s)),
                member_of(OnCrash, "on_crash", options.get("on_crash", OnCrash.RETRY)),
                executor_for(options.get("executor"), function),
            ),
            takes=set(),
        )

    def _note(self, function: Function, problem: str) -> None:
        """Say once of a function that its tasks do not survive."""
        if function.name not in self._noted:
            self._noted.add(function.name)
            logger.info(
                "tasks of this function are volatile: a crash ends them as FAILED (lost)",
                function=function.name,
                because=problem,
            )

    def _retry(self, retry: RetryPolicy | None, max_retries: int | None) -> RetryPolicy:
        if not isinstance(retry, RetryPolicy | None):
            msg = f"retry {retry!r:.80} is no RetryPolicy; how often alone is max_retries"  # type: ignore[unreachable]
            raise ArgumentsError(msg)
        if retry is None:
            return _retries(self._defaults.max_retries if max_retries is None else max_retries)
        return retry if max_retries is None else replace(retry, max_retries=max_retries)


def _retries(max_retries: int) -> RetryPolicy:
    return _SHARED_RETRIES(max_retries) if type(max_retries) is int else RetryPolicy(max_retries=max_retries)


_SHARED_RETRIES: Final = lru_cache(maxsize=64)(lambda max_retries: RetryPolicy(max_retries=max_retries))


def _limit(timeout: float | str | None) -> float | None:
    return seconds("timeout", timeout) if isinstance(timeout, str) else timeout  # the policy judges the rest


def _policy(retry: RetryPolicy, timeout_s: float | None, on_crash: OnCrash, executor: ExecutorKind) -> TaskPolicy:
    """Tasks of equal policies share one, and its JSON text."""
    make = _shared_policy if type(timeout_s) in _TIMEOUTS else _new_policy  # whatever else it is may not be hashable
    return make(retry, timeout_s, on_crash, executor)


def _new_policy(retry: RetryPolicy, timeout_s: float | None, on_crash: OnCrash, executor: ExecutorKind) -> TaskPolicy:
    return TaskPolicy(retry=retry, timeout_s=timeout_s, on_crash=on_crash, executor=executor)


_TIMEOUTS: Final = frozenset({int, float, type(None)})
_shared_policy: Final = lru_cache(maxsize=256, typed=True)(_new_policy)


def submit_audit(lives: Sequence[Live], options: SubmitOptions) -> Callable[[Connection], None] | None:
    """Writes to the audit who submitted these tasks; None where nobody is named."""
    by = options.get("by", "")
    if not by:
        return None

    def write(connection: Connection) -> None:
        for live in lives:
            task = live.task
            write_audit(
                connection, Action.SUBMIT, task.id, by=by, at=task.created_at, after={"function": task.function}
            )

    return write


def make_task(
    definition: JobDefinition,
    executor: ExecutorKind,
    *,
    now: datetime,
    reason: str,
    fire_time: datetime | None = None,
    revision: int | None = None,
) -> Task:
    """A task of a job, to run on ``executor``."""
    return Task(
        id=IDS.new(now),
        name=definition.title,
        function=definition.function,
        arguments=definition.arguments,
        job_id=definition.id,
        fire_time=fire_time,
        origin=Origin.FIRE,
        reason=reason,
        priority=definition.policies.priority,
        policy=definition.policies.of_task(executor),
        revision=revision,
        volatile=definition.volatile,
        created_at=now,
    )


def insert_as_new(connection: Connection, tasks: Sequence[Task]) -> None:
    """Insert the rows of tasks of which the first was looked for in vain.

    Raises:
        DuplicateTaskError: One is there all the same: on PostgreSQL another process may have put it there since.
    """
    if INSERT_NEW.run(connection, [new_row(task) for task in tasks]) < len(tasks):
        raise DuplicateTaskError(tasks[0].id)


def again(task: Task, *, now: datetime) -> Task:
    """A new task with the function, arguments, policy and job of ``task``.

    Raises:
        TaskUnfinishedError: It is not final.
        FunctionRefusedError: It was recorded by hand: nothing here runs it.
    """
    if not task.status.is_final:
        raise TaskUnfinishedError(task.id, Message("is {status}: only a final task can be retried", status=task.status))
    if task.origin is Origin.MANUAL:
        msg = Message("task {task} was recorded by hand: no function is known that would run again", task=task.id)
        raise FunctionRefusedError(msg)
    return Task(
        id=IDS.new(now),
        name=task.name,
        function=task.function,
        arguments=task.arguments,
        job_id=task.job_id,
        origin=task.origin,
        reason=f"retry of {task.id}",
        priority=task.priority,
        policy=task.policy,
        revision=task.revision,
        volatile=task.volatile,
        created_at=now,
    )


def refuse_lost(task: Task) -> None:
    """Raise for a task whose function lived in another call or process.

    Raises:
        FunctionRefusedError: Always.
    """
    msg = Message(
        "{function} or its arguments lived in the process that submitted it; submit it there again",
        function=task.function,
    )
    raise FunctionRefusedError(msg)


def each_of_many(arguments: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """The entries of `TaskQueue.submit_many`, each of which must be a row of positional arguments.

    Raises:
        ArgumentsError: One is a single value. A text would become one argument a letter, a dict its keys.
    """
    for place, args in enumerate(arguments):
        if type(args) not in _ROWS and (isinstance(args, str | bytes) or not isinstance(args, Sequence)):
            shown = f"{args!r:.80}"
            msg = f"submit_many(): entry {place}, {shown}, is not a list of positional arguments; write [{shown}]"
            raise ArgumentsError(msg)
        yield args


_ROWS: Final = frozenset({list, tuple})


def kwargs_of(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The keyword arguments that an option holds.

    Raises:
        ArgumentsError: It is no dict.
    """
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping):
        msg = f"kwargs {kwargs!r:.80} is not a dict of the function's keyword arguments"  # type: ignore[unreachable]
        raise ArgumentsError(msg)
    return dict(kwargs)


def _name(name: object) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str) or not name.isprintable():
        raise ArgumentsError(f"name {name!r} is not a line of printable characters")
    return name


@cache
def _has_pebble() -> bool:
    return find_spec("pebble") is not None


def executor_for(
    asked: ExecutorKind | str | None, function: Function, *, volatile_arguments: bool = False
) -> ExecutorKind:
    """Where ``function`` runs: where it was asked for, or by its kind.

    Raises:
        ArgumentsError: There is no such executor.
        FunctionRefusedError: The function cannot run there.
    """
    if asked is None:
        return function.executor
    kind = member_of(ExecutorKind, "executor", asked)
    if kind is ExecutorKind.PROCESS:
        if not _has_pebble():
            raise FunctionRefusedError(NEEDS_PEBBLE)
        if function.reference is None:
            msg = Message(
                "{function} cannot run in a process: closures, lambdas and __main__ cannot be imported there",
                function=function.name,
            )
            raise FunctionRefusedError(msg)
        if volatile_arguments:
            msg = Message(
                "{function} cannot run in a process with these arguments: only JSON values reach it",
                function=function.name,
            )
            raise FunctionRefusedError(msg)
    elif not (function.is_async if kind is ExecutorKind.ASYNC else function.may_be_called_in_a_thread):
        is_async = Message("{function} is an async def function", function=function.name)
        is_plain = Message("{function} is a plain function", function=function.name)
        what = is_async if function.is_async else is_plain
        msg = Message("{what}: it cannot run on executor {executor}", what=what, executor=repr(kind.value))
        raise FunctionRefusedError(msg)
    return kind

"""What a running function may ask about its own task: `current_task()`."""

from __future__ import annotations

from contextvars import ContextVar, copy_context
from math import isfinite
from typing import TYPE_CHECKING, Protocol

from loguru import logger

from atlas.scheduler.errors import TaskStopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


class LineKeeper(Protocol):
    """Who keeps the lines of the tasks that name it (`TaskContext.logs`)."""

    def add(self, context: TaskContext, at_s: float, level: str, message: str) -> None:
        """Keep one line of an attempt; called on the thread that logs, and must not log."""


class TaskContext:
    """The running attempt, as its function sees it.

    Attributes:
        attempt: Number of this attempt, from 1.
        deadline: When this attempt runs out of time, aware UTC; None without a limit.
        fire_time: The fire time it serves, or None.
        logs: Who keeps the lines it logs; None where nobody does, and after its end.
        log_max_bytes: Most that is kept of them over all attempts of the task, bytes.
        unprinted: The beginning of a line that it has printed only in part.
    """

    __slots__ = (
        "_on_progress",
        "_stop_reason",
        "attempt",
        "deadline",
        "done",
        "fire_time",
        "job_id",
        "log_max_bytes",
        "logs",
        "task_id",
        "total",
        "unprinted",
    )

    def __init__(
        self,
        *,
        task_id: str,
        attempt: int,
        job_id: str | None = None,
        deadline: datetime | None = None,
        fire_time: datetime | None = None,
        on_progress: Callable[[float, float | None], None] | None = None,
        logs: LineKeeper | None = None,
        log_max_bytes: int = 0,
    ) -> None:
        self.task_id, self.job_id, self.attempt = task_id, job_id, attempt
        self.deadline, self.fire_time = deadline, fire_time
        self.done: float = 0.0
        self.total: float | None = None
        self._on_progress = on_progress
        self.logs, self.log_max_bytes, self.unprinted = logs, log_max_bytes, ""
        self._stop_reason: str | None = None

    @property
    def stop_reason(self) -> str | None:
        """Why this attempt should end, as in `TaskStopped.reason`; None while it may go on."""
        return self._stop_reason

    def check(self) -> None:
        """Return if the task may go on.

        Call it often in a function that runs in a thread: nothing else can stop one.

        Raises:
            TaskStopped: The task was cancelled or ran out of time.
        """
        if self._stop_reason is not None:
            raise TaskStopped(self._stop_reason)

    def progress(self, done: float, total: float | None = None) -> None:
        """Show how far the task is: ``done`` of ``total`` (in any unit), then do what `check` does.

        What is not finite cannot be shown: such a ``total`` is none, and such a ``done`` leaves what was shown before.
        """
        shown = _finite(done)
        if shown is not None:
            self.done, self.total = shown, None if total is None else _finite(total)
            if self._on_progress is not None:
                self._on_progress(self.done, self.total)
        self.check()

    def log(self, text: str, level: str = "INFO") -> None:
        """Log ``text`` with loguru, as a line of this task on any thread: one that the function starts knows no task.

        Within the function itself loguru, `logging` and, where the settings say so, print do the same.

        Raises:
            ValueError: loguru knows no such level.
        """
        inside = copy_context()
        inside.run(enter_task, self)
        inside.run(logger.opt(depth=1).log, level, "{}", text)

    def ask_to_stop(self, reason: str) -> None:
        """Let the next `check` raise; the first reason stays."""
        if self._stop_reason is None:
            self._stop_reason = reason


def _finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:  # a whole number of more than three hundred digits
        return None
    return number if isfinite(number) else None


_current: ContextVar[TaskContext | None] = ContextVar("atlas_current_task", default=None)


def current_task() -> TaskContext:
    """The attempt this code runs in.

    Raises:
        LookupError: The code does not run as a task.
    """
    context = _current.get()
    if context is None:
        raise LookupError("current_task() works only inside a function that Atlas runs as a task")
    return context


def running_task() -> TaskContext | None:
    """The attempt this code runs in, None outside of one."""
    return _current.get()


def enter_task(context: TaskContext) -> None:
    """Make ``context`` the current task of this thread, coroutine or process."""
    _current.set(context)

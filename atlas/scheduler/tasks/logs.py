"""Keeps what the tasks of one queue log: within each task's limit, by the writer, and without making anybody wait."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from loguru import logger

from atlas.scheduler.store.task_logs import LogBuffer
from atlas.scheduler.tasks.capture import FORWARDED, NOTE, PRINT, AttemptLines, Capture, LogRules

if TYPE_CHECKING:
    from atlas.scheduler.context import TaskContext
    from atlas.scheduler.store.store import Store
    from atlas.scheduler.task import TaskPolicy


class TaskLogs:
    """The lines of one queue's tasks, from the moment one is logged to its row. May be used from any thread."""

    def __init__(self, store: Store, rules: LogRules) -> None:
        self.rules = rules
        self._buffer = LogBuffer(store)
        self._lock = threading.Lock()
        self._attempts: dict[tuple[str, int], AttemptLines] = {}
        self._used: dict[str, int] = {}
        self._capture: Capture | None = None

    def start(self) -> None:
        """Capture what this process's tasks log."""
        self._capture = Capture(self, self.rules)

    def limit_of(self, policy: TaskPolicy) -> int:
        """Most bytes that are kept of a task with this policy; 0 keeps nothing."""
        return self.rules.max_bytes if policy.log_max_bytes is None else policy.log_max_bytes

    def close(self) -> None:
        """Capture nothing more, and wait until what was logged is on disk.

        Raises:
            StoreUnavailableError: The database does not answer.
        """
        if self._capture is not None:
            self.abandon()
            self._buffer.flush()

    def abandon(self) -> None:
        """Capture nothing more; what is not on disk is lost."""
        if self._capture is not None:
            self._capture.close()
            self._capture = None

    def allowance(self, context: TaskContext) -> int:
        """Bytes an attempt may use that begins: half of what its task has left."""
        with self._lock:
            return max(0, context.log_max_bytes - self._used.get(context.task_id, 0)) // 2

    def add(self, context: TaskContext, at_s: float, level: str, message: str) -> None:
        """Keep one line of an attempt that runs in this process."""
        task_id, attempt = key = context.task_id, context.attempt
        allowance = self.allowance(context)
        with self._lock:
            if context.logs is not self:
                return  # the attempt ended meanwhile
            lines = self._attempts.get(key)
            if lines is None:
                lines = self._attempts[key] = AttemptLines(
                    allowance, lambda *line: self._buffer.add(task_id, attempt, *line)
                )
            lines.add(at_s, level, message)

    def add_kept(self, task_id: str, attempt: int, at_s: float, level: str, message: str) -> None:
        """Store a line that a worker process has counted and decided to keep."""
        with self._lock:
            self._used[task_id] = self._used.get(task_id, 0) + len(message.encode("utf-8", "replace"))
        self._buffer.add(task_id, attempt, at_s, level, message)
        if level not in {PRINT, NOTE}:  # what it printed stands on our stdout, which it shares
            _log_again(task_id, attempt, level, message)

    def end(self, context: TaskContext, *, is_final: bool) -> None:
        """An attempt is over: its last lines are kept, and what its code logs from now on is not.

        Whoever reads the row of its end afterwards finds all of its lines.
        """
        with self._lock:
            context.logs = None
            lines = self._attempts.pop((context.task_id, context.attempt), None)
            if lines is not None:
                lines.end(context.unprinted, self.rules)
                self._used[context.task_id] = self._used.get(context.task_id, 0) + lines.used
            logged = context.task_id in self._used
            if logged and is_final:
                del self._used[context.task_id]
        if logged:
            self._buffer.push()

    def forget(self, task_id: str) -> None:
        """The task ended while it waited for another attempt: nothing will count what its earlier ones used."""
        with self._lock:
            self._used.pop(task_id, None)


def _log_again(task_id: str, attempt: int, level: str, message: str) -> None:
    """Show a line of a worker process where this process's lines are shown."""
    origin = {"name": "worker", FORWARDED: True}
    again = logger.patch(lambda record: cast("dict[str, Any]", record).update(origin))
    try:
        again.bind(task_id=task_id, attempt=attempt).log(level, "{}", message)
    except ValueError:  # a level that only the worker knows
        again.bind(task_id=task_id, attempt=attempt, level=level).info("{}", message)

"""Waiting for a task of another process, with a bar on stderr where that is a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from atlas.cli.exits import NoSchedulerError
from atlas.cli.tables import terminal
from atlas.scheduler.durations import format_duration
from atlas.scheduler.errors import ResultNotReadyError
from atlas.scheduler.log_lines import one_line
from atlas.scheduler.store.leases import scheduler_lease
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Self

    from atlas.scheduler.client import SyncAtlasClient
    from atlas.scheduler.task import Task

SLICE_S: Final = 2.0
"""How often it is asked whether a scheduler still runs."""
FRAME_S: Final = 0.25


class ProgressBar:
    """A line on stderr that moves: what the task says of itself, else the time it usually takes.

    Args:
        typical_s: Seconds it usually takes, None if it never ran.
    """

    def __init__(self, label: str, typical_s: float | None) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._typical_s = typical_s
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            console=terminal(sys.stderr),
            transient=True,
        )
        self._bar = self._progress.add_task(one_line(label), total=None, words="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def show(self, status: TaskStatus, running_s: float, done: float = 0.0, total: float | None = None) -> None:
        """Move it."""
        spent = format_duration(round(running_s, 1) if running_s < 10 else round(running_s))
        if status is not TaskStatus.RUNNING:
            self._progress.update(self._bar, total=None, words=status.value.lower())
        elif total:
            self._progress.update(self._bar, total=total, completed=done, words=f"{done:g} of {total:g}, {spent}")
        elif self._typical_s:
            self._progress.update(
                self._bar,
                total=self._typical_s,
                completed=min(running_s, 0.98 * self._typical_s),
                words=f"{spent} of ~{format_duration(self._typical_s)}",
            )
        else:
            self._progress.update(self._bar, total=None, words=spent)


def progress_bar(label: str, typical_s: float | None) -> AbstractContextManager[ProgressBar | None]:
    """A `ProgressBar` if stderr is a terminal, else nothing."""
    return ProgressBar(label, typical_s) if sys.stderr.isatty() else nullcontext()


def wait_for(
    client: SyncAtlasClient, task_id: str, *, label: str, limit_s: float | None, typical_s: float | None
) -> Task:
    """The task once it is final.

    At most ``limit_s`` seconds, None for no limit; ``typical_s`` is what it usually takes, for the bar.

    Raises:
        NoSchedulerError: No scheduler runs (any more); the task stays accepted.
        ResultNotReadyError: ``limit_s`` passed first; the task goes on.
    """
    end_s = None if limit_s is None else time.monotonic() + limit_s
    with progress_bar(label, typical_s) as bar:
        while True:
            lease = client.store.read(scheduler_lease)
            if lease is None or not lease.lasts(client.store.clock.now()):  # one that was killed may be back in time
                raise NoSchedulerError(
                    f"no scheduler runs, so nothing serves task {task_id}; it waits for one ('atlas serve')"
                )
            if bar is not None:
                _show(bar, client.task(task_id), lease.figures.get("running", ()))
            left_s = SLICE_S if end_s is None else min(SLICE_S, end_s - time.monotonic())
            try:
                return client.wait(task_id, timeout=max(0.0, min(left_s, FRAME_S) if bar is not None else left_s))
            except ResultNotReadyError:
                if end_s is not None and time.monotonic() >= end_s:
                    status = client.task(task_id).status.lower()
                    message = (
                        f"still {status} after {format_duration(limit_s or 0.0)}; it goes on ('atlas task {task_id}')"
                    )
                    raise ResultNotReadyError(task_id, message) from None


def _show(bar: ProgressBar, task: Task, running: object) -> None:
    told: dict[str, Any] = {}
    if isinstance(running, list):
        told = next((one for one in running if one["task_id"] == task.id), told)
    running_s = 0.0 if task.started_at is None else max(0.0, time.time() - task.started_at.timestamp())
    bar.show(task.status, running_s, told.get("done") or 0.0, told.get("total"))

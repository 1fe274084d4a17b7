"""What the built-in jobs tell the task they run in, if they run in one."""

from __future__ import annotations

from atlas.scheduler.context import current_task


def show_progress(done: float, total: float | None = None) -> None:
    """`TaskContext.progress`; outside of a task nothing."""
    try:
        task = current_task()
    except LookupError:
        return
    task.progress(done, total)


def check() -> None:
    """`TaskContext.check`; outside of a task nothing."""
    try:
        task = current_task()
    except LookupError:
        return
    task.check()

"""The engine: queue, cron, status; no HTTP, no command line, no news. This page names what is public.

The errors an app handles are here; all of them stand in `atlas.scheduler.errors`, what tests use in
`atlas.scheduler.testing`.

Names are imported when they are first asked for: a worker process, which imports this package to reach its own module,
would otherwise carry SQLAlchemy and APScheduler along (48 MB instead of 24).
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from atlas.scheduler.client import AtlasClient
    from atlas.scheduler.context import current_task
    from atlas.scheduler.cron.expression import CronExpression
    from atlas.scheduler.cron_manager import CronManager
    from atlas.scheduler.errors import (
        AtlasError,
        JobBusyError,
        NoRetryError,
        QueueFullError,
        ResultNotReadyError,
        TaskCancelledError,
        TaskFailedError,
        TaskStopped,
        TaskTimeoutError,
    )
    from atlas.scheduler.job_view import Job, JobState
    from atlas.scheduler.metrics import Metrics
    from atlas.scheduler.queue import TaskQueue
    from atlas.scheduler.registry import Registry, register
    from atlas.scheduler.retry import RetryPolicy
    from atlas.scheduler.status import StatusManager
    from atlas.scheduler.store.store import Store, open_store
    from atlas.scheduler.task import Task, TaskPriority, TaskStatus
    from atlas.scheduler.tasks.capture import LogRules
    from atlas.scheduler.tasks.submission import QueueDefaults

__all__ = [
    "AtlasClient",
    "AtlasError",
    "CronExpression",
    "CronManager",
    "Job",
    "JobBusyError",
    "JobState",
    "LogRules",
    "Metrics",
    "NoRetryError",
    "QueueDefaults",
    "QueueFullError",
    "Registry",
    "ResultNotReadyError",
    "RetryPolicy",
    "StatusManager",
    "Store",
    "Task",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskPriority",
    "TaskQueue",
    "TaskStatus",
    "TaskStopped",
    "TaskTimeoutError",
    "current_task",
    "open_store",
    "register",
]

_HOMES: Final = MappingProxyType(
    {
        "AtlasClient": "client",
        "AtlasError": "errors",
        "CronExpression": "cron.expression",
        "CronManager": "cron_manager",
        "Job": "job_view",
        "JobBusyError": "errors",
        "JobState": "job_view",
        "LogRules": "tasks.capture",
        "Metrics": "metrics",
        "NoRetryError": "errors",
        "QueueDefaults": "tasks.submission",
        "QueueFullError": "errors",
        "Registry": "registry",
        "ResultNotReadyError": "errors",
        "RetryPolicy": "retry",
        "StatusManager": "status",
        "Store": "store.store",
        "Task": "task",
        "TaskCancelledError": "errors",
        "TaskFailedError": "errors",
        "TaskPriority": "task",
        "TaskQueue": "queue",
        "TaskStatus": "task",
        "TaskStopped": "errors",
        "TaskTimeoutError": "errors",
        "current_task": "context",
        "open_store": "store.store",
        "register": "registry",
    }
)


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it, once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})

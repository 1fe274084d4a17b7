"""The engine: queue, cron, status; no HTTP, no command line, no news. This page names what is public."""

from atlas.scheduler.client import AtlasClient
from atlas.scheduler.context import current_task
from atlas.scheduler.cron import CronExpression
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.errors import AtlasError, TaskStopped
from atlas.scheduler.job_view import Job, JobState
from atlas.scheduler.metrics import Metrics
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry, register
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.status import StatusManager
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.task import Task, TaskPriority, TaskStatus

__all__ = [
    "AtlasClient",
    "AtlasError",
    "CronExpression",
    "CronManager",
    "Job",
    "JobState",
    "Metrics",
    "Registry",
    "RetryPolicy",
    "StatusManager",
    "Store",
    "Task",
    "TaskPriority",
    "TaskQueue",
    "TaskStatus",
    "TaskStopped",
    "current_task",
    "open_store",
    "register",
]

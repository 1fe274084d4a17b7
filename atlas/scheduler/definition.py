"""A job's full definition: what its row holds, whatever made it (the config file or code).

`definition_text` says how a row holds it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.task import NO_ARGUMENTS, ExecutorKind, OnCrash, Overlap, TaskPolicy, TaskPriority

if TYPE_CHECKING:
    from collections.abc import Mapping

    from atlas.scheduler.schedule import Schedule

BUILT_IN: Final = "built in"
"""Where a policy comes from that nobody set."""


RETRY_FIELDS: Final = {
    "max_retries": "max_retries",
    "retry_delay": "delay_s",
    "retry_backoff": "backoff",
    "retry_max_delay": "max_delay_s",
    "retry_jitter": "jitter",
    "retry_on": "retry_on",
}
"""Policy by the name that the jobs file and `add_job` have for it → field of `RetryPolicy`."""
POLICY_FIELDS: Final = {
    "priority": "priority",
    "timeout": "timeout_s",
    **{name: f"retry.{field}" for name, field in RETRY_FIELDS.items()},
    **{name: name for name in ("on_crash", "overlap", "max_instances", "catchup")},
    "catchup_window": "catchup_window_s",
    **{name: name for name in ("catchup_limit", "executor", "keep_days", "keep_tasks", "log_max_bytes")},
}
"""The same for all of them → field of `JobPolicies`."""
_GETTERS: Final = {name: attrgetter(field) for name, field in POLICY_FIELDS.items()}


class JobSource(enum.StrEnum):
    """What a job belongs to; a reload touches only file jobs."""

    FILE = "file"
    CODE = "code"


class CatchUp(enum.StrEnum):
    """What becomes of fire times nobody could serve."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPolicies:
    """How a job's tasks are run, tried again, caught up and kept; one object for all jobs with equal ones.

    Attributes:
        executor: Asked for by name; None lets the function decide (``def`` thread, ``async def`` loop).
        priority: Order of service of its tasks.
        timeout_s: Longest one attempt may run, seconds; None is no limit.
        on_crash: What becomes of a task whose owner dies.
        overlap: What happens when it fires while its last task is unfinished.
        max_instances: For ``overlap: allow``, unfinished tasks at once.
        catchup: What becomes of fire times nobody could serve.
        catchup_window_s: How old a missed fire time may be to be caught up, seconds.
        catchup_limit: How many missed fire times ``all`` catches up, of the newest 1,000.
        keep_days: How long its final tasks stay, days; None leaves it to the settings.
        keep_tasks: How many of its final tasks stay at most; None leaves it to the settings.
        log_max_bytes: Most bytes kept of what one of its tasks logs, 0 keeps none; None leaves it to the settings.
        value_from: Policy field → ``job``, ``defaults``, ``config.yaml`` or ``queue``; what it does not name is
            `BUILT_IN`.
    """

    executor: ExecutorKind | None = None
    priority: TaskPriority = TaskPriority.NORMAL
    retry: RetryPolicy = RetryPolicy()
    timeout_s: float | None = 600.0
    on_crash: OnCrash = OnCrash.RETRY
    overlap: Overlap = Overlap.SKIP
    max_instances: int = 1
    catchup: CatchUp = CatchUp.LATEST
    catchup_window_s: float = 3600.0
    catchup_limit: int = 100
    keep_days: float | None = None
    keep_tasks: int | None = None
    log_max_bytes: int | None = None
    value_from: Mapping[str, str] = field(default_factory=dict, hash=False)

    def of_task(self, executor: ExecutorKind) -> TaskPolicy:
        """The policy that tasks carry when they run on ``executor``; one object for all jobs with equal ones."""
        return _policy(
            retry=self.retry,
            timeout_s=self.timeout_s,
            on_crash=self.on_crash,
            executor=executor,
            overlap=self.overlap,
            max_instances=self.max_instances,
            log_max_bytes=self.log_max_bytes,
        )

    def source_of(self, name: str) -> str:
        """Where a policy comes from, by the name that the jobs file has for it."""
        return self.value_from.get(name, BUILT_IN)

    def values(self) -> dict[str, Any]:
        """Every policy by the name that the jobs file has for it, as JSON values."""
        return {name: _plain(get(self)) for name, get in _GETTERS.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, TaskPriority):
        return value.name
    return value.value if isinstance(value, enum.Enum) else list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDefinition:
    """Everything that is fixed about a job; its pause and its next fire time live elsewhere.

    Attributes:
        id: The file's key, or the name given to `CronManager.add_job`.
        function: Name in the registry; for volatile jobs a description.
        arguments: JSON object text ``{"args": [...], "kwargs": {...}}``.
        enabled: False in the file means DISABLED: no fire times.
        volatile: True if its function lives in this process only.
    """

    id: str
    source: JobSource
    title: str
    schedule: Schedule
    function: str
    arguments: str = NO_ARGUMENTS
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str = ""
    runbook: str = ""
    policies: JobPolicies = JobPolicies()
    enabled: bool = True
    volatile: bool = False


_policy: Final = lru_cache(maxsize=1024)(TaskPolicy)

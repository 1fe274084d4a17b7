"""A job's full definition: what its row holds, whatever made it (the config file or code)."""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.schedule import Schedule
from atlas.scheduler.task import ExecutorKind, OnCrash, Overlap, TaskPolicy, TaskPriority

if TYPE_CHECKING:
    from collections.abc import Mapping


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
class JobDefinition:
    """Everything that is fixed about a job; its pause and its next fire time live elsewhere.

    Attributes:
        id: The file's key, or the name given to `CronManager.add_job`.
        source: The config file or code.
        title: Display name.
        schedule: When it fires.
        function: Name in the registry; for volatile jobs a description.
        arguments: JSON object text ``{"args": [...], "kwargs": {...}}``.
        executor: Asked for by name; None lets the function decide (``def`` thread, ``async def`` loop).
        priority: Order of service of its tasks.
        retry: When a failed attempt is tried again.
        timeout_s: Longest one attempt may run, seconds; None is no limit.
        on_crash: What becomes of a task whose owner dies.
        overlap: What happens when it fires while its last task is unfinished.
        max_instances: For ``overlap: allow``, unfinished tasks at once.
        catchup: What becomes of fire times nobody could serve.
        catchup_window_s: How old a missed fire time may be to be caught up, seconds.
        catchup_limit: How many missed fire times ``all`` catches up.
        keep_days: How long its final tasks stay, days; None leaves it to the settings.
        keep_tasks: How many of its final tasks stay at most; None leaves it to the settings.
        log_max_bytes: Most that is kept of what one of its tasks logs, bytes; None leaves it to the settings.
        enabled: False in the file means DISABLED: no fire times.
        volatile: True if its function lives in this process only.
        value_from: Policy field → ``job``, ``defaults``, ``config.yaml`` or ``built in``.
    """

    id: str
    source: JobSource
    title: str
    schedule: Schedule
    function: str
    arguments: str = '{"args":[],"kwargs":{}}'
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str = ""
    runbook: str = ""
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
    enabled: bool = True
    volatile: bool = False
    value_from: Mapping[str, str] = field(default_factory=dict, hash=False)

    def policy(self, executor: ExecutorKind) -> TaskPolicy:
        """The policy its tasks carry when they run on ``executor``."""
        return TaskPolicy(
            retry=self.retry,
            timeout_s=self.timeout_s,
            on_crash=self.on_crash,
            executor=executor,
            overlap=self.overlap,
            max_instances=self.max_instances,
            log_max_bytes=self.log_max_bytes,
        )

    def to_json(self) -> str:
        """The definition as canonical JSON text: equal definitions give equal text."""
        raw = {name: getattr(self, name) for name in _PLAIN}
        raw["schedule"] = self.schedule.to_json()
        raw["arguments"] = json.loads(self.arguments)
        raw["tags"] = list(self.tags)
        raw["priority"] = self.priority.name
        raw["value_from"] = dict(self.value_from)
        raw["retry"] = {name: getattr(self.retry, name) for name in RetryPolicy.__slots__}
        return _dump(raw, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> JobDefinition:
        """The definition that `to_json` wrote.

        Raises:
            ValueError: The text is not such a definition (`KeyError` and `TypeError` are turned into it).
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            retry = raw.pop("retry")
            raw["retry"] = RetryPolicy(**{**retry, "retry_on": tuple(retry["retry_on"])})
            raw["schedule"] = Schedule.from_json(raw["schedule"])
            raw["arguments"] = _dump(raw["arguments"])
            raw["tags"] = tuple(raw["tags"])
            raw["priority"] = TaskPriority.parse(raw["priority"])
            raw["executor"] = None if raw["executor"] is None else ExecutorKind(raw["executor"])
            for name, kind in (
                ("source", JobSource),
                ("on_crash", OnCrash),
                ("overlap", Overlap),
                ("catchup", CatchUp),
            ):
                raw[name] = kind(raw[name])
            return cls(**raw)
        except (KeyError, TypeError, AttributeError) as error:
            msg = f"not a job definition: {type(error).__name__}: {error}"
            raise ValueError(msg) from error

    def digest(self) -> str:
        """Hash of `to_json`: two definitions with the same one are the same."""
        return digest_of(self.to_json())


def _dump(value: Any, *, sort_keys: bool = False) -> str:
    """JSON text that a row can hold: lone surrogates, as file names may have them, fit only when they are escaped."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=sort_keys, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=sort_keys, separators=(",", ":"))
    return text


_PLAIN = tuple(
    name
    for name in JobDefinition.__slots__
    if name not in {"schedule", "arguments", "tags", "priority", "retry", "value_from"}
)


def digest_of(text: str) -> str:
    """Hash of a definition's JSON text."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

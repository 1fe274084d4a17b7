"""A job's full definition: what its row holds, whatever made it (the config file or code).

Its text is one JSON object on three lines. The first holds what is the job's own, the others what many jobs share, so
that ten thousand equal schedules and policies are read once and are one object in memory::

    {"id": …, "title": …, "function": …, "arguments": …,
    "schedule": …,
    "priority": …, "retry": …, "timeout_s": …, "value_from": …}
"""

from __future__ import annotations

import enum
import hashlib
import json
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.schedule import Schedule
from atlas.scheduler.task import NO_ARGUMENTS, ExecutorKind, OnCrash, Overlap, TaskPolicy, TaskPriority

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
    arguments: str = NO_ARGUMENTS
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
        """The policy its tasks carry when they run on ``executor``; one object for all jobs with equal ones."""
        return _policy(
            retry=self.retry,
            timeout_s=self.timeout_s,
            on_crash=self.on_crash,
            executor=executor,
            overlap=self.overlap,
            max_instances=self.max_instances,
            log_max_bytes=self.log_max_bytes,
        )

    def policies(self) -> dict[str, Any]:
        """Every policy by the name that the jobs file has for it, as JSON values."""
        retry = self.retry
        return {
            "priority": self.priority.name,
            "timeout": self.timeout_s,
            "max_retries": retry.max_retries,
            "retry_delay": retry.delay_s,
            "retry_backoff": retry.backoff,
            "retry_max_delay": retry.max_delay_s,
            "retry_jitter": retry.jitter,
            "retry_on": list(retry.retry_on),
            "on_crash": self.on_crash.value,
            "overlap": self.overlap.value,
            "max_instances": self.max_instances,
            "catchup": self.catchup.value,
            "catchup_window": self.catchup_window_s,
            "catchup_limit": self.catchup_limit,
            "executor": None if self.executor is None else self.executor.value,
            "keep_days": self.keep_days,
            "keep_tasks": self.keep_tasks,
            "log_max_bytes": self.log_max_bytes,
        }

    def to_json(self) -> str:
        """The definition as canonical JSON text: equal definitions give equal text."""
        own = _encode(dict(zip(_OWN, _own(self), strict=True)))
        arguments = self.arguments
        if arguments != NO_ARGUMENTS:
            arguments = _encode(json.loads(arguments))
        shared = _policies_json(_shared(self), tuple(self.value_from.items()))
        return f'{own[:-1]},"arguments":{arguments},\n"schedule":{_schedule_json(self.schedule)},\n{shared}'

    @classmethod
    def from_json(cls, text: str | bytes) -> JobDefinition:
        """The definition that `to_json` wrote, or any JSON object that says the same.

        Raises:
            ValueError: The text is not such a definition (`KeyError` and `TypeError` are turned into it).
        """
        try:
            own, schedule, policies = _lines(text.decode() if isinstance(text, bytes) else text)
            if policies:
                raw = _first_line(own)
                raw |= _policies_from(policies)
                raw["schedule"] = _schedule_from(schedule)
            else:
                raw = json.loads(text)
                schedule = _encode(raw.pop("schedule"))
                raw |= _read_policies({name: raw[name] for name in (*_SHARED, "value_from")})
                raw["schedule"] = _schedule_from(f'"schedule":{schedule},')
            raw["source"] = _SOURCES[raw["source"]]
            raw["function"] = sys.intern(raw["function"])
            arguments = raw["arguments"]
            raw["arguments"] = NO_ARGUMENTS if arguments == _NO_ARGUMENTS else _encode(arguments)
            raw["tags"] = tuple(raw["tags"])
            return cls(**raw)
        except (KeyError, TypeError, AttributeError) as error:
            msg = f"not a job definition: {type(error).__name__}: {error}"
            raise ValueError(msg) from error

    def digest(self) -> str:
        """Hash of `to_json`: two definitions with the same one are the same."""
        return digest_of(self.to_json())


_SHARED: Final = (
    "executor", "priority", "retry", "timeout_s", "on_crash", "overlap", "max_instances", "catchup",
    "catchup_window_s", "catchup_limit", "keep_days", "keep_tasks", "log_max_bytes",
)  # fmt: skip
"""What stands on the third line, before ``value_from``."""
_OWN: Final = tuple(
    name for name in sorted(JobDefinition.__slots__) if name not in {*_SHARED, "schedule", "arguments", "value_from"}
)
_SOURCES: Final = {one.value: one for one in JobSource}
_NO_ARGUMENTS: Final = json.loads(NO_ARGUMENTS)
_own: Final = attrgetter(*_OWN)
_shared: Final = attrgetter(*_SHARED)
_policy: Final = lru_cache(maxsize=1024)(TaskPolicy)
_decode: Final = json.JSONDecoder().raw_decode
_plain: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_escaped: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _encode(value: Any) -> str:
    """JSON text that a row can hold: lone surrogates, as file names may have them, fit only when they are escaped."""
    text = _plain(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return _escaped(value)
    return text


def _first_line(line: str) -> dict[str, Any]:
    """What a first line ``{…,`` holds; every job has its own, so what `json.loads` looks at before is left out."""
    text = line[:-1] + "}"
    raw, end = _decode(text)
    if end != len(text):
        msg = f"there is more behind its end, at {end}"
        raise ValueError(msg)
    found: dict[str, Any] = raw
    return found


def _lines(text: str) -> tuple[str, str, str]:
    """The three lines of a text that `to_json` wrote; for any other the text and nothing."""
    lines = text.split("\n")
    match lines:
        case own, schedule, policies if (
            own.startswith("{") and own.endswith("},") and schedule.startswith('"schedule":{')
        ):
            return own, schedule, policies
        case _:
            return text, "", ""


@lru_cache(maxsize=32_768)
def _schedule_json(schedule: Schedule) -> str:
    return _encode(schedule.to_json())


@lru_cache(maxsize=1024)
def _policies_json(shared: tuple[Any, ...], value_from: tuple[tuple[str, str], ...]) -> str:
    raw = dict(zip(_SHARED, shared, strict=True))
    raw["priority"] = raw["priority"].name
    raw["retry"] = {name: getattr(raw["retry"], name) for name in RetryPolicy.__slots__}
    return _encode(raw | {"value_from": dict(value_from)})[1:]


@lru_cache(maxsize=32_768)
def _schedule_from(line: str) -> Schedule:
    """The schedule of a line ``"schedule": …,``."""
    return Schedule.from_json(json.loads("{" + line.removesuffix(",") + "}")["schedule"])


@lru_cache(maxsize=1024)
def _policies_from(line: str) -> dict[str, Any]:
    """The fields of a third line; shared, and never changed."""
    return _read_policies(json.loads("{" + line))


def _read_policies(raw: dict[str, Any]) -> dict[str, Any]:
    retry = raw["retry"]
    return raw | {
        "retry": RetryPolicy(**{**retry, "retry_on": tuple(retry["retry_on"])}),
        "priority": TaskPriority.parse(raw["priority"]),
        "executor": None if raw["executor"] is None else ExecutorKind(raw["executor"]),
        "on_crash": OnCrash(raw["on_crash"]),
        "overlap": Overlap(raw["overlap"]),
        "catchup": CatchUp(raw["catchup"]),
    }


def digest_of(text: str | bytes) -> str:
    """Hash of a definition's JSON text."""
    return hashlib.blake2b(text.encode() if isinstance(text, str) else text, digest_size=12).hexdigest()

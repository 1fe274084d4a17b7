"""A task: one piece of work, its statuses and the moves between them.

::

    PENDING ──► RUNNING ──► SUCCESS
       ▲          │ │ └───► FAILED · TIMEOUT · CANCELLED
       │          │ └─────► RETRYING ──► RUNNING …
       └──────────┘  crash of the owner, or released by a stop
"""

from __future__ import annotations

import enum
import itertools
import json
import os
import threading
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - the types of fields are read where a web handler returns a `Task`
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from atlas.scheduler.errors import ArgumentsError, TransitionError
from atlas.scheduler.message import Message
from atlas.scheduler.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

E = TypeVar("E", bound=enum.StrEnum)


class TaskStatus(enum.StrEnum):
    """Where a task stands."""

    PENDING = "PENDING"
    """Accepted and on disk; waits for a slot."""
    RUNNING = "RUNNING"
    """An attempt is running."""
    SUCCESS = "SUCCESS"
    """Final: the function returned."""
    FAILED = "FAILED"
    """Final: the last allowed attempt raised, or the task was lost or quarantined."""
    CANCELLED = "CANCELLED"
    """Final: somebody asked for it."""
    TIMEOUT = "TIMEOUT"
    """Final: the last allowed attempt ran longer than its limit."""
    RETRYING = "RETRYING"
    """An attempt failed; the next one waits for its time. Holds no slot."""

    @property
    def is_final(self) -> bool:
        """True if no move leads on from here."""
        return self in FINAL


FINAL: Final = frozenset({TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMEOUT})
WAITING: Final = frozenset({TaskStatus.PENDING, TaskStatus.RETRYING})

MOVES: Final[Mapping[TaskStatus, frozenset[TaskStatus]]] = MappingProxyType(
    {
        TaskStatus.PENDING: frozenset({TaskStatus.RUNNING, TaskStatus.CANCELLED, TaskStatus.FAILED}),
        TaskStatus.RUNNING: frozenset({*FINAL, TaskStatus.RETRYING, TaskStatus.PENDING}),
        TaskStatus.RETRYING: frozenset({TaskStatus.RUNNING, TaskStatus.CANCELLED, TaskStatus.FAILED}),
        **{final: frozenset() for final in FINAL},
    }
)
"""The moves a task may make. PENDING and RETRYING end as FAILED when the function they need is gone for good."""


def advance(task_id: str, old: TaskStatus, new: TaskStatus) -> TaskStatus:
    """Return ``new`` if a task may go there from ``old``.

    Raises:
        TransitionError: The move is not in `MOVES`.
    """
    if new not in MOVES[old]:
        raise TransitionError(task_id, old, new)
    return new


class TaskPriority(enum.IntEnum):
    """Order of service: a lower number is served first, strictly."""

    URGENT = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3

    @classmethod
    def parse(cls, value: TaskPriority | str | int) -> TaskPriority:
        """The priority meant by a name in any case, or by a number 0 to 3.

        Raises:
            ArgumentsError: It is neither.
        """
        try:
            return cls[value.strip().upper()] if isinstance(value, str) else cls(value)
        except (KeyError, ValueError):
            msg = Message("priority {value} is not one of URGENT, HIGH, NORMAL, LOW", value=repr(value))
            raise ArgumentsError(msg) from None


class Origin(enum.StrEnum):
    """Who made a task."""

    FIRE = "fire"
    """A job: at a fire time, or by run-now."""
    SUBMIT = "submit"
    """`TaskQueue.submit` or a client."""
    MANUAL = "manual"
    """`StatusManager.create_task`: moved by hand, touched by neither queue nor recovery."""


class ExecutorKind(enum.StrEnum):
    """What runs a function."""

    THREAD = "thread"
    PROCESS = "process"
    ASYNC = "async"


class OnCrash(enum.StrEnum):
    """What becomes of a task whose owner died while it was running."""

    RETRY = "retry"
    """It runs again: at least once."""
    FAIL = "fail"
    """It ends FAILED with the cause ``lost``: at most once."""


class Overlap(enum.StrEnum):
    """What a job does when it fires while its last task is unfinished."""

    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"
    ALLOW = "allow"


class Cause(enum.StrEnum):
    """Why a task ended FAILED, TIMEOUT or CANCELLED, beyond the status itself."""

    ERROR = "error"
    """The function raised."""
    TIMEOUT = "timeout"
    """The attempt ran longer than its limit."""
    CANCELLED = "cancelled"
    """Somebody asked for it."""
    REPLACED = "replaced"
    """A newer fire of its job took its place."""
    CRASHED = "crashed"
    """The owner, or its worker process, died in the middle of the attempt."""
    QUARANTINED = "quarantined"
    """It was running at three counted crashes."""
    LOST = "lost"
    """Its owner died and it may not, or cannot, run again."""
    BUSY = "busy"
    """A task of the same job was in the way when the scheduler picked it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPolicy:
    """What the queue needs to know beyond the function, of a task without a job too; see `JobPolicies`."""

    retry: RetryPolicy = RetryPolicy()
    timeout_s: float | None = 600.0
    on_crash: OnCrash = OnCrash.RETRY
    executor: ExecutorKind = ExecutorKind.THREAD
    overlap: Overlap = Overlap.SKIP
    max_instances: int = 1
    log_max_bytes: int | None = None
    _json: str | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        timeout_s: object = self.timeout_s  # a caller without type checks may give anything
        if timeout_s is not None and not (isinstance(timeout_s, int | float) and 0 < timeout_s < float("inf")):
            raise ArgumentsError(Message("timeout {value} is not a positive number of seconds", value=repr(timeout_s)))
        if self.max_instances < 1:
            raise ArgumentsError(Message("max_instances {n} is less than 1", n=self.max_instances))

    @property
    def abreast(self) -> int:
        """How many tasks of one job may be in line or running at once; further ones are held."""
        return self.max_instances if self.overlap is Overlap.ALLOW else 1

    def values(self) -> dict[str, Any]:
        """Everything it says, as JSON values."""
        retry = self.retry
        return {
            "max_retries": retry.max_retries,
            "delay_s": retry.delay_s,
            "backoff": retry.backoff,
            "max_delay_s": retry.max_delay_s,
            "jitter": retry.jitter,
            "retry_on": list(retry.retry_on),
            "timeout_s": self.timeout_s,
            "on_crash": self.on_crash.value,
            "executor": self.executor.value,
            "overlap": self.overlap.value,
            "max_instances": self.max_instances,
            "log_max_bytes": self.log_max_bytes,
        }

    def to_json(self) -> str:
        """What a row says of it: a JSON object of what is not `_UNSAID`, the same text for equal policies."""
        text = self._json
        if text is None:
            text = _policy_json(self)
            object.__setattr__(self, "_json", text)  # the cache asks for a hash of all that is in it
        return text

    @classmethod
    def from_json(cls, text: str) -> TaskPolicy:
        """The policy that `to_json` wrote as ``text``; equal texts share one object."""
        return _policy_from_json(text)


_UNSAID: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "max_retries": 3,
        "delay_s": 2.0,
        "backoff": 2.0,
        "max_delay_s": 300.0,
        "jitter": 0.25,
        "retry_on": [],
        "timeout_s": 600.0,
        "on_crash": "retry",
        "executor": "thread",
        "overlap": "skip",
        "max_instances": 1,
        "log_max_bytes": 1_000_000,
    }
)
"""What a row's policy means where it says nothing: for most tasks all of it, which would be half of the row.

It is not today's built-in policy but what the rows that are there mean, and so is never changed."""


@lru_cache(maxsize=1024)
def _policy_json(policy: TaskPolicy) -> str:
    said = {name: value for name, value in policy.values().items() if value != _UNSAID[name]}
    return json.dumps(said, separators=(",", ":"))


@lru_cache(maxsize=1024)
def _policy_from_json(text: str) -> TaskPolicy:
    raw: dict[str, Any] = {**_UNSAID, **json.loads(text)}
    return TaskPolicy(
        timeout_s=raw.pop("timeout_s"),
        on_crash=OnCrash(raw.pop("on_crash")),
        executor=ExecutorKind(raw.pop("executor")),
        overlap=Overlap(raw.pop("overlap")),
        max_instances=raw.pop("max_instances"),
        log_max_bytes=raw.pop("log_max_bytes"),
        retry=RetryPolicy(retry_on=tuple(raw.pop("retry_on")), **raw),
    )


def member_of(kind: type[E], name: str, value: object) -> E:
    """The member of ``kind`` that is written ``value``, in any case; ``name`` is what the error calls it.

    Raises:
        ArgumentsError: There is none.
    """
    if isinstance(value, kind):
        return value
    try:
        return kind(str(value).lower())
    except ValueError:
        raise ArgumentsError(f"{name} {value!r} is not one of {', '.join(kind)}") from None


MAX_ID: Final = 191
"""Characters of an id, which are as many as its column takes."""


def checked_id(name: str, given: object) -> str:
    """``given``, the id of a task or job; ``name`` is what the error calls it.

    Raises:
        ArgumentsError: It is none.
    """
    if isinstance(given, str) and given.isprintable() and given.strip() and len(given) <= MAX_ID:
        return given
    raise ArgumentsError(f"{name} {given!r:.80} is not 1 to {MAX_ID} printable characters")


NO_ARGUMENTS: Final = '{"args":[],"kwargs":{}}'


@dataclass(slots=True, kw_only=True, eq=False)
class Task:
    """One piece of work and where it stands.

    Attributes:
        id: Time-ordered text, or the one given to `submit`.
        name: What people call it: the job's title or the function's name.
        function: Registered or importable name; for volatile and hand-moved tasks a description.
        arguments: JSON object ``{"args": [...], "kwargs": {...}}``.
        job_id: The job that fired it, or the job name it was made for.
        fire_time: The fire time it serves, None for other origins and run-now.
        revision: Revision of the config file in force when it was made.
        volatile: True if its function or arguments live in this process only.
        attempt: Number of the latest attempt, 0 before the first; also the fencing number.
        failures: Attempts that failed or timed out.
        crashes: Times an owner died while it was running.
        due_at: Earliest start of the next attempt, while RETRYING.
        started_at: Start of the latest attempt.
        finished_at: When it became final.
        result: JSON text, None if there is none or it was omitted.
        result_omitted: True if the function's result was not kept.
        error: Text of the latest error, at most 8 kB.
        cause: Why it is not SUCCESS.
        owner: The process that holds it.
        cancel_requested: Somebody asked for its end.
    """

    id: str
    name: str
    function: str
    arguments: str = NO_ARGUMENTS
    job_id: str | None = None
    fire_time: datetime | None = None
    origin: Origin = Origin.SUBMIT
    reason: str = "submitted"
    priority: TaskPriority = TaskPriority.NORMAL
    policy: TaskPolicy = field(default_factory=TaskPolicy)
    revision: int | None = None
    volatile: bool = False
    status: TaskStatus = TaskStatus.PENDING
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    created_at: datetime
    due_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: str | None = None
    result_omitted: bool = False
    error: str | None = None
    cause: Cause | None = None
    owner: str | None = None
    cancel_requested: bool = False

    def move(self, new: TaskStatus) -> Self:
        """Go to ``new``.

        Raises:
            TransitionError: The move is not in `MOVES`.
        """
        self.status = advance(self.id, self.status, new)
        return self

    @property
    def duration_s(self) -> float | None:
        """Seconds the latest attempt ran, None before its end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())  # the clock may have been set back

    @property
    def value(self) -> Any:
        """The result as a JSON value; None when there is none."""
        return None if self.result is None else json.loads(self.result)


class TaskIds:
    """Makes task ids that sort by time: 12 hex digits of milliseconds, 10 of a number that grows within one."""

    def __init__(self) -> None:
        """Start at a random number, so that two processes in one millisecond do not meet."""
        self._lock = threading.Lock()
        self._last_ms, self._time = 0, ""
        self._numbers = itertools.count()

    def new(self, now: datetime) -> str:
        """An id that is greater than every one made before, even after the clock went back."""
        ms = int(now.timestamp() * 1000)
        with self._lock:
            if ms > self._last_ms:
                self._go_to(ms)
            return f"{self._time}{next(self._numbers):010x}"

    def leave_behind(self) -> None:
        """In a fork: go on apart from the process it was forked from, and from its other forks."""
        self._lock = threading.Lock()  # a thread that is not here may have had it
        self._go_to(self._last_ms + 1)

    def _go_to(self, ms: int) -> None:
        self._last_ms, self._time = ms, f"{ms:012x}"
        self._numbers = itertools.count(int.from_bytes(os.urandom(4), "big"))

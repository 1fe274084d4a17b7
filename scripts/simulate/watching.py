"""What is seen while a run goes on: calls of functions, moves of tasks, skips; and what of it breaks a rule."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from atlas.scheduler.events import JobEvent, JobEventKind, TaskEvent

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from atlas.scheduler.events import Event

LEGAL: Final = {
    "": {"PENDING"},
    "PENDING": {"RUNNING", "CANCELLED", "FAILED"},
    "RUNNING": {"SUCCESS", "FAILED", "TIMEOUT", "CANCELLED", "RETRYING", "PENDING"},
    "RETRYING": {"RUNNING", "CANCELLED", "FAILED"},
}
"""Where a task may go from where; nowhere from anything else."""
RECOVERED: Final = {
    "PENDING": {"PENDING", "CANCELLED"},
    "RUNNING": {"PENDING", "FAILED", "CANCELLED"},
    "RETRYING": {"RETRYING", "CANCELLED"},
}
"""What a start may make of an unfinished task of the one before."""
FINAL: Final = frozenset({"SUCCESS", "FAILED", "CANCELLED", "TIMEOUT"})
KEPT: Final = 80


class Trace:
    """Everything that happened, as lines: the newest are kept, all are hashed."""

    def __init__(self) -> None:
        """Start empty."""
        self._hash = hashlib.sha256()
        self.end: deque[str] = deque(maxlen=KEPT)
        self.lines = 0

    def add(self, now: datetime, *words: object) -> None:
        """Write down what happened at ``now``."""
        line = f"{now:%Y-%m-%d %H:%M:%S.%f} {' '.join(map(str, words))}"
        self._hash.update(f"{line}\n".encode())
        self.end.append(line)
        self.lines += 1

    def digest(self) -> str:
        """Hash of all lines."""
        return self._hash.hexdigest()[:16]


@dataclass(slots=True)
class Calls:
    """The calls of one task's function.

    Attributes:
        attempts: Numbers of the attempts, in order.
        returned: Numbers of those that returned.
        kills: Scheduler deaths while it was unfinished.
    """

    attempts: list[int] = field(default_factory=list)
    returned: set[int] = field(default_factory=set)
    kills: int = 0


class Watch:
    """Sees events and calls, and remembers what is against the rules.

    Args:
        trace: Gets a line for each.
        now: The wall clock.
        why: Judges a skip, or a job that is set apart, told just now: what is wrong with it, or None.
    """

    def __init__(self, trace: Trace, now: Callable[[], datetime], why: Callable[[JobEvent], str | None]) -> None:
        """See nothing yet."""
        self._trace, self._now, self._why = trace, now, why
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self.status: dict[str, str] = {}
        self.final_at: dict[str, datetime] = {}
        self.calls: dict[str, Calls] = defaultdict(Calls)
        self.names: dict[str, str] = {}
        """Task id → a name that is the same in every run."""

    def problem(self, words: str) -> None:
        """A promise is broken."""
        self.problems.append(f"{self._now():%Y-%m-%d %H:%M:%S} {words}")
        self._trace.add(self._now(), "BROKEN", words)

    def name(self, task_id: str) -> str:
        """The task's own name in traces; ids hold chance."""
        return self.names.setdefault(task_id, f"task-{len(self.names) + 1}")

    def hear(self, event: Event) -> None:
        """A subscriber."""
        if isinstance(event, TaskEvent):
            self._moved(event)
        elif isinstance(event, JobEvent) and event.kind is JobEventKind.SKIPPED:
            reason = str(event.detail["reason"])
            self.counts[f"skips: {reason}"] += event.detail["fire_times"] or 1
            self._trace.add(event.at, "skip", event.job_id, reason, event.detail["fire_times"])
            wrong = self._why(event)
            if wrong is not None:
                self.problem(f"{event.job_id}: skip {reason!r} without reason: {wrong}")
        elif isinstance(event, JobEvent) and event.kind is JobEventKind.PARKED:
            self.counts["jobs set apart"] += 1
            self._trace.add(event.at, "set apart", event.job_id)
            wrong = self._why(event)
            if wrong is not None:
                self.problem(f"{event.job_id} is set apart without reason: {wrong}")
        elif isinstance(event, JobEvent) and event.kind is JobEventKind.RESUMED and not event.detail:
            self.counts["jobs served again"] += 1
            self._trace.add(event.at, "served again", event.job_id)

    def _moved(self, event: TaskEvent) -> None:
        task_id, new, old = event.task_id, event.status.value, self.status.get(event.task_id, "")
        if new not in LEGAL.get(old, set()):
            self.problem(f"{self.name(task_id)} of {event.job_id} went from {old or 'nothing'} to {new}")
        self.status[task_id] = new
        self.counts[f"moves: {new}"] += 1
        if new in FINAL:
            self.final_at[task_id] = event.at
        self._trace.add(event.at, self.name(task_id), event.job_id, new, event.attempt, event.cause or "")

    def called(self, task_id: str, attempt: int) -> None:
        """A function is entered."""
        calls = self.calls[task_id]
        if calls.attempts and attempt <= calls.attempts[-1]:
            # What a dead scheduler had not written may be repeated under its number, once for each death.
            repeats = sum(1 for one in calls.attempts if one >= attempt)
            if repeats > calls.kills:
                self.problem(f"{self.name(task_id)} began attempt {attempt} after {calls.attempts}")
        if self.status.get(task_id) in FINAL:
            self.problem(f"{self.name(task_id)} began attempt {attempt} although it was {self.status[task_id]}")
        calls.attempts.append(attempt)
        self.counts["calls"] += 1
        self._trace.add(self._now(), "call", self.name(task_id), attempt)

    def killed(self) -> None:
        """The scheduler died."""
        for task_id, status in self.status.items():
            if status not in FINAL:
                self.calls[task_id].kills += 1

    def found(self, rows: dict[str, str]) -> None:
        """The scheduler is down: what is on disk (task id → status). What was told stands there, or something later."""
        for task_id, told in self.status.items():
            there = rows.get(task_id)
            if there is None:
                self.problem(f"{self.name(task_id)} was told to be {told} and is not on disk")
            elif told in FINAL and there != told:
                self.problem(f"{self.name(task_id)} was told to be {told} and is {there} on disk")
        for task_id, there in rows.items():
            if task_id not in self.status:  # it died before it told
                self.name(task_id)
                self.calls[task_id].kills += 1
            self.status[task_id] = there

    def recovered(self, rows: dict[str, str]) -> None:
        """A scheduler has started: what it made of the rows it found."""
        for task_id, new in rows.items():
            old = self.status.get(task_id, "")
            if new != old and new not in RECOVERED.get(old, set()):
                self.problem(f"{self.name(task_id)} was {old} on disk and is {new} after a start")
            self.status[task_id] = new
            if old != new:
                self.counts[f"recovered: {new}"] += 1

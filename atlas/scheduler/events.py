"""What happened to a task, a job or the scheduler, and the one thread that tells subscribers."""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from loguru import logger

from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from atlas.scheduler.task import Cause


class TaskEvent(NamedTuple):
    """A task moved to ``status``; the move is on disk.

    Attributes:
        name: What people call it.
        attempt: Number of the latest attempt, 0 before the first.
        at: When it moved, aware UTC.
        was: Where it came from; PENDING for a new task too.
        duration_s: Seconds the attempt ran, for moves out of RUNNING.
        wait_s: Seconds until the next attempt, for RETRYING.
        error: Text of the error, if there is one.
        cause: Why it is not SUCCESS.
    """

    task_id: str
    name: str
    job_id: str | None
    status: TaskStatus
    attempt: int
    at: datetime
    was: TaskStatus = TaskStatus.PENDING
    duration_s: float | None = None
    wait_s: float | None = None
    error: str | None = None
    cause: Cause | None = None


class JobEventKind(enum.StrEnum):
    """What happened to a job."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    ENDED = "ended"
    PAUSED = "paused"
    RESUMED = "resumed"
    SKIPPED = "skipped"
    PARKED = "parked"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something happened to a job."""

    job_id: str
    kind: JobEventKind
    at: datetime
    """When, aware UTC."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Facts worth a log line, such as a skip's reason."""


class SchedulerEventKind(enum.StrEnum):
    """What happened to the scheduler as a whole."""

    STARTED = "started"
    STOPPED = "stopped"
    PAUSED = "paused"
    RESUMED = "resumed"
    FAULT = "fault"
    """Something is wrong and work waits; ``detail`` says what."""
    RECOVERED = "recovered"
    STORE_REBUILT = "store_rebuilt"
    """The database was deleted, replaced or damaged and made anew; ``detail["store"]`` says what is lost."""
    RESTARTED = "restarted"
    """The loop that looks for due jobs was dead or stalled; ``detail["clock"]`` says which."""
    CLOCK_STEPPED = "clock_stepped"
    """The wall clock was set; ``detail["clock"]`` says by how much."""
    SUSPENDED = "suspended"
    """The machine slept or this process stood still; ``detail["clock"]`` says how long."""
    CONFIG_APPLIED = "config applied"
    """A version of the config file is in force; ``detail`` has its revision and summary."""
    CONFIG_REFUSED = "config refused"
    """The config file cannot be used; what ran goes on. ``detail`` has the error."""
    CONFIG_CHANGED = "config changed"
    """With ``reload: manual`` the file differs from what is in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerEvent:
    """Something happened to the scheduler."""

    kind: SchedulerEventKind
    at: datetime
    """When, aware UTC."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Facts worth a log line."""


Event = TaskEvent | JobEvent | SchedulerEvent

MAX_UNTOLD: Final = 100_000
"""Events kept for slow subscribers; beyond it the oldest are dropped and counted, whole commits of them."""


class GroupSubscriber(Protocol):
    """A subscriber that is told of what one commit holds in one call; of thousands of changed jobs in several."""

    def tell(self, events: Sequence[Event]) -> None:
        """These happened, in this order."""


Subscriber = GroupSubscriber | Callable[[Event], None]


class _Subscription:
    """One subscriber, and whether it is one still."""

    def __init__(self, subscriber: Subscriber) -> None:
        self.tell = self._tell_each if callable(subscriber) else subscriber.tell
        self._subscriber = subscriber
        self.ended = False

    def _tell_each(self, events: Sequence[Event]) -> None:
        assert callable(self._subscriber)
        for event in events:
            if self.ended:
                return
            try:
                self._subscriber(event)
            except Exception:  # noqa: BLE001 - a subscriber's error is its own; the next events are told all the same
                logger.exception("a subscriber raised; it stays subscribed")


class EventStream:
    """Tells subscribers what happened, in order, on a thread of its own.

    A slow subscriber delays the other subscribers but no task; a raising one is logged and kept. Publishing only
    enqueues: producers hand over cheap callables, and the events themselves are made on this thread.

    Attributes:
        dropped: Events that nobody was told of, since subscribers were `MAX_UNTOLD` behind.
    """

    def __init__(self) -> None:
        """Start without subscribers; the thread starts with the first event."""
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._queue: deque[tuple[Callable[[], Sequence[Event]], int]] = deque()
        self._untold = 0
        self._ready = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closed = False
        self._busy = False
        self.dropped = 0

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call ``subscriber`` with every event from now on; returns a function that ends it.

        One that is no function is told of the events of a commit together (`GroupSubscriber`).
        """
        mine = _Subscription(subscriber)
        with self._ready:
            self._subscriptions = (*self._subscriptions, mine)

        def unsubscribe() -> None:
            mine.ended = True
            with self._ready:
                self._subscriptions = tuple(one for one in self._subscriptions if one is not mine)

        return unsubscribe

    def publish(self, *events: Event) -> None:
        """Hand over events that are made already."""
        self.publish_later(lambda: events, len(events))

    def publish_later(self, make: Callable[[], Sequence[Event]], count: int) -> None:
        """Hand over a callable that makes ``count`` events on the stream's own thread."""
        with self._ready:
            if self._closed:
                return
            if self._thread is None:
                self._start()
            before = self.dropped
            while self._queue and self._untold + count > MAX_UNTOLD:
                self._drop_oldest()
            self._queue.append((make, count))
            self._untold += count
            self._ready.notify()
        if self.dropped and not before:
            logger.error("a subscriber stands still or is too slow; the oldest events are dropped", kept=MAX_UNTOLD)

    def _start(self) -> None:
        thread = threading.Thread(target=self._loop, name="atlas-events", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread is left on this machine: whoever publishes next tries again, and none suffers
            logger.exception("nobody can be told of events just now; they are kept")
        else:
            self._thread = thread

    def _drop_oldest(self) -> None:
        _make, count = self._queue.popleft()
        self._untold -= count
        self.dropped += count

    def drain(self, timeout_s: float = 5.0) -> bool:
        """Wait until all that was published is told; False when ``timeout_s`` passed first, and for a subscriber."""
        if threading.current_thread() is self._thread:
            return False
        with self._ready:
            return self._ready.wait_for(lambda: not self._queue and not self._busy, timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Tell what is left and end the thread."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _loop(self) -> None:
        while self._round():
            pass  # nothing of its events is kept while the stream sleeps

    def _round(self) -> bool:
        """Wait for events and tell them; False at the end."""
        with self._ready:
            self._busy = False
            if not self._queue:
                self._ready.notify_all()
            while not self._queue:
                if self._closed:
                    return False
                self._ready.wait()
            make, count = self._queue.popleft()
            self._untold -= count
            self._busy = True
        self._tell(make)
        return True

    def _tell(self, make: Callable[[], Sequence[Event]]) -> None:
        if not self._subscriptions:
            return
        try:
            events = make()
        except Exception:  # noqa: BLE001 - the stream must go on
            logger.exception("events could not be made")
            return
        for subscription in self._subscriptions:
            if not subscription.ended and events:
                try:
                    subscription.tell(events)
                except Exception:  # noqa: BLE001 - a subscriber's error is its own; the others must still hear
                    logger.exception("a subscriber raised; it stays subscribed")

"""The one thread that tells subscribers what happened."""

from __future__ import annotations

import threading
import weakref
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest

from atlas.scheduler import events as events_module
from atlas.scheduler.events import Event, EventStream, JobEvent, JobEventKind, TaskEvent
from atlas.scheduler.task import TaskStatus
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def stream() -> Iterator[EventStream]:
    made = EventStream()
    yield made
    made.close()


def event(number: int) -> TaskEvent:
    return TaskEvent(task_id=str(number), name="t", job_id=None, status=TaskStatus.RUNNING, attempt=number, at=NOW)


def told(stream: EventStream) -> list[Event]:
    found: list[Event] = []
    stream.subscribe(found.append)
    return found


def test_subscribers_hear_everything_in_order(stream: EventStream) -> None:
    first, second = told(stream), told(stream)
    for number in range(100):
        stream.publish(event(number))
    assert stream.drain(LIMIT_S)
    assert first == second == [event(number) for number in range(100)]


def test_several_events_at_once_stay_together(stream: EventStream) -> None:
    found = told(stream)
    stream.publish(event(1), JobEvent(job_id="a", kind=JobEventKind.ADDED, at=NOW), event(2))
    assert stream.drain(LIMIT_S)
    assert len(found) == 3
    assert isinstance(found[1], JobEvent)


def test_events_are_made_on_the_streams_own_thread(stream: EventStream) -> None:
    makers = []

    def make() -> Sequence[Event]:
        makers.append(threading.current_thread().name)
        return [event(1)]

    found = told(stream)
    stream.publish_later(make, 1)
    assert stream.drain(LIMIT_S)
    assert makers == ["atlas-events"]
    assert found == [event(1)]


def test_publishing_waits_for_nobody(stream: EventStream) -> None:
    gate, entered = threading.Event(), threading.Event()

    def slow(_event: Event) -> None:
        entered.set()
        assert gate.wait(LIMIT_S)

    stream.subscribe(slow)
    stream.publish(event(1))
    assert entered.wait(LIMIT_S)
    stream.publish(event(2))
    assert not stream.drain(0.01)
    gate.set()
    assert stream.drain(LIMIT_S)


def test_a_subscriber_that_raises_stays_and_the_others_still_hear(stream: EventStream) -> None:
    calls = []

    def broken(one: Event) -> None:
        calls.append(one)
        raise ValueError("not today")

    stream.subscribe(broken)
    found = told(stream)
    stream.publish(event(1), event(2))
    assert stream.drain(LIMIT_S)
    assert len(calls) == len(found) == 2


def test_events_that_cannot_be_made_do_not_end_the_stream(stream: EventStream) -> None:
    found = told(stream)

    def broken() -> Sequence[Event]:
        raise KeyError("status")

    stream.publish_later(broken, 1)
    stream.publish(event(1))
    assert stream.drain(LIMIT_S)
    assert found == [event(1)]


def test_nobody_is_told_after_unsubscribing_and_it_may_be_done_twice(stream: EventStream) -> None:
    found: list[Event] = []
    unsubscribe = stream.subscribe(found.append)
    stream.publish(event(1))
    assert stream.drain(LIMIT_S)
    unsubscribe()
    unsubscribe()
    stream.publish(event(2))
    assert stream.drain(LIMIT_S)
    assert found == [event(1)]


def test_unsubscribing_counts_at_once_even_for_events_that_wait(stream: EventStream) -> None:
    gate, entered = threading.Event(), threading.Event()
    late: list[Event] = []

    def first(_event: Event) -> None:
        entered.set()
        assert gate.wait(LIMIT_S)

    stream.subscribe(first)
    unsubscribe = stream.subscribe(late.append)
    stream.publish(event(1), event(2))
    assert entered.wait(LIMIT_S)
    unsubscribe()
    gate.set()
    assert stream.drain(LIMIT_S)
    assert late == []


def test_the_same_subscriber_twice_is_told_twice_and_leaves_once(stream: EventStream) -> None:
    found: list[Event] = []
    leave = stream.subscribe(found.append)
    stream.subscribe(found.append)
    stream.publish(event(1))
    assert stream.drain(LIMIT_S)
    leave()
    stream.publish(event(2))
    assert stream.drain(LIMIT_S)
    assert found == [event(1), event(1), event(2)]


def test_a_subscriber_may_publish_and_subscribe(stream: EventStream) -> None:
    found: list[Event] = []

    def echo(one: Event) -> None:
        if isinstance(one, TaskEvent) and one.attempt == 1:
            stream.subscribe(found.append)
            stream.publish(event(2))

    stream.subscribe(echo)
    stream.publish(event(1))
    assert stream.drain(LIMIT_S)
    assert event(2) in found


def test_closing_tells_what_is_left_and_then_nothing() -> None:
    stream = EventStream()
    found = told(stream)
    stream.publish(*(event(number) for number in range(10)))
    stream.close()
    stream.publish(event(10))
    assert len(found) == 10
    stream.close()


def test_a_subscriber_may_close_the_stream() -> None:
    stream = EventStream()
    closed = threading.Event()

    def end(_event: Event) -> None:
        stream.close()
        closed.set()

    stream.subscribe(end)
    stream.publish(event(1))
    assert closed.wait(LIMIT_S)


def test_without_events_there_is_no_thread() -> None:
    before = set(threading.enumerate())
    stream = EventStream()
    told(stream)
    assert set(threading.enumerate()) <= before  # one of an earlier test may have ended meanwhile
    assert stream.drain(0)
    stream.close()


def test_a_moment_without_room_for_a_thread_costs_no_event_and_no_producer(
    stream: EventStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer tells of its commits: an error there ended it, and nothing was written any more."""
    heard, refused, start = told(stream), [event(0)], threading.Thread.start

    def start_later(thread: threading.Thread) -> None:
        if refused:
            refused.clear()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_later)
    stream.publish(event(1))
    assert heard == []
    stream.publish(event(2))
    assert stream.drain(LIMIT_S)
    assert heard == [event(1), event(2)]


def test_what_a_stuck_subscriber_does_not_hear_is_bounded_and_counted(
    stream: EventStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "MAX_UNTOLD", 3)
    gate, entered = threading.Event(), threading.Event()
    found: list[int] = []

    def slow(one: Event) -> None:
        assert isinstance(one, TaskEvent)
        entered.set()
        assert gate.wait(LIMIT_S)
        found.append(one.attempt)

    stream.subscribe(slow)
    stream.publish(event(0))
    assert entered.wait(LIMIT_S)
    for number in range(1, 6):
        stream.publish(event(number))
    assert stream.dropped == 2
    stream.publish(event(6), event(7))  # a commit of two takes the room of two
    assert stream.dropped == 4
    stream.publish(*map(event, range(8, 12)))  # a large one is told, and nothing before it
    assert stream.dropped == 7
    gate.set()
    assert stream.drain(LIMIT_S)
    assert found == [0, 8, 9, 10, 11]


def test_a_stream_that_sleeps_holds_no_events(stream: EventStream) -> None:
    class Large(list[Event]):
        """A list that can be watched."""

    gone = threading.Event()
    made = Large([event(1)])
    weakref.finalize(made, gone.set)
    told(stream)
    stream.publish_later(partial(Large.copy, made), 1)
    del made
    assert stream.drain(LIMIT_S)
    assert gone.wait(LIMIT_S)

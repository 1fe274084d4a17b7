"""From reservation to final row: timeouts, cancels, stops, claims, suspects and tasks that wait behind each other."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from atlas.scheduler import serving as serving_module
from atlas.scheduler.context import current_task
from atlas.scheduler.errors import (
    JobBusyError,
    QueueStoppedError,
    StoreUnavailableError,
    TaskCancelledError,
    TaskFailedError,
    TaskStopped,
    TaskTimeoutError,
)
from atlas.scheduler.events import TaskEvent
from atlas.scheduler.outcome import Returned, Stopped
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.store import recovery, writer
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.store.task_queries import find_attempts
from atlas.scheduler.store.task_rows import fetch_known, full_row, insert_tasks
from atlas.scheduler.store.tickets import Ticket
from atlas.scheduler.task import Cause, ExecutorKind, Origin, Overlap, Task, TaskPolicy, TaskPriority, TaskStatus
from atlas.scheduler.tasks.admission import ALONE_LEAST_S, ALONE_MOST_S, MAX_HELD, alone_s
from atlas.scheduler.tasks.live import Live
from atlas.scheduler.tasks.submission import IDS
from tests import process_workloads
from tests.queue_bench import LIMIT_S, Gate, HandClock, Outage, eventually, nothing, passes, settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from atlas.scheduler.outcome import StopReason

GRACE_S = 30.0
"""Passes by hand: what stops when it is asked to is never given up because this machine is slow."""
PENDING, RUNNING, SUCCESS, FAILED, CANCELLED, TIMEOUT, RETRYING = TaskStatus
SOON = RetryPolicy(max_retries=3, delay_s=0.01, jitter=0.0)


@pytest.fixture
async def queue() -> AsyncIterator[TaskQueue]:
    """A queue on whose clock time passes by hand; it must be left without a trace of what it did."""
    with contextlib.closing(open_store(None, clock=HandClock())) as store:
        async with TaskQueue(max_workers=2, store=store, registry=Registry(), stop_grace_s=GRACE_S) as made:
            yield made
            await asyncio.to_thread(settled, made)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new, empty database; SQLite unless a test asks for PostgreSQL as well."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return str(tmp_path / "atlas.db")
    return str(request.getfixturevalue("postgres_url"))


on_both = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def store(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(writer, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(writer, "RETRY_MAX_S", 0.02)
    opened = open_store(database, clock=HandClock())
    yield opened
    opened.close()


@pytest.fixture
def plain(store: Store) -> Iterator[TaskQueue]:
    """A queue for code without a loop, on disk."""
    made = TaskQueue(max_workers=2, store=store, registry=Registry(), stop_grace_s=GRACE_S)
    with made.sync:
        yield made
        settled(made)


@pytest.fixture
def outage(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
    made = Outage(store, monkeypatch)
    yield made
    made.lasts = False


def row_of(store: Store | None, task_id: str) -> Task:
    assert store is not None
    return store.read(lambda connection: fetch_known(connection, task_id))


def polite() -> NoReturn:
    """A cooperative function: it asks, and lets ordinary errors pass."""
    while True:
        with contextlib.suppress(Exception):
            current_task().check()
        threading.Event().wait(0.001)


async def nothing_later() -> None:
    pass


class Stubborn:
    """A coroutine function that does not let itself be cancelled until it is opened."""

    def __init__(self) -> None:
        self.entered, self.open = asyncio.Event(), asyncio.Event()
        self.cancels = 0

    async def __call__(self) -> str:
        self.entered.set()
        while not self.open.is_set():
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.cancels += 1
        return "through"


# --- timeouts ---------------------------------------------------------------------------------------------------------


async def test_a_coroutine_is_cancelled_at_its_timeout_and_may_clean_up(queue: TaskQueue) -> None:
    begun, cleaned = asyncio.Event(), []

    async def sleep() -> None:
        try:
            begun.set()
            await asyncio.sleep(3600)
        finally:
            cleaned.append(current_task().stop_reason)

    task_id = await queue.submit(sleep, timeout=50, max_retries=0)
    await begun.wait()
    await asyncio.to_thread(passes, queue, 50)
    with pytest.raises(TaskTimeoutError, match=r"ran longer than its limit of 50 s"):
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert cleaned == ["timeout"]


async def test_a_function_that_asks_ends_at_its_timeout_even_if_it_swallows_exceptions(queue: TaskQueue) -> None:
    task_id = await queue.submit(polite, timeout=0.05, max_retries=0)
    with pytest.raises(TaskTimeoutError):
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert queue.get_queue_status()["abandoned_threads"] == 0


async def test_a_busy_loop_in_a_process_is_killed_at_its_timeout(queue: TaskQueue) -> None:
    ids = [
        await queue.submit(function, executor="process", timeout=0.3, max_retries=0)
        for function in (process_workloads.spin, process_workloads.ignore_sigterm)
    ]
    for task_id in ids:
        with pytest.raises(TaskTimeoutError):
            await queue.get_task_result(task_id, timeout=LIMIT_S)


async def test_a_function_that_never_asks_is_abandoned_counted_and_its_slot_replaced(queue: TaskQueue) -> None:
    gate = Gate("too late")
    ids = [await queue.submit(gate, timeout=50, max_retries=0) for _ in range(2)]
    await gate.entered_async(2)
    await asyncio.to_thread(passes, queue, 50)
    await asyncio.to_thread(passes, queue, GRACE_S)
    for task_id in ids:
        with pytest.raises(TaskTimeoutError, match="abandoned and may still be running"):
            await queue.get_task_result(task_id, timeout=LIMIT_S)
    status = queue.get_queue_status()
    assert (status["abandoned_threads"], status["running_tasks"], status["free_slots"]) == (2, 0, 2)
    assert await queue.get_task_result(await queue.submit(lambda: "served"), timeout=LIMIT_S) == "served"
    gate.open()
    await asyncio.to_thread(eventually, lambda: queue.get_queue_status()["abandoned_threads"] == 0)
    for task_id in ids:
        with pytest.raises(TaskTimeoutError):
            await queue.get_task_result(task_id)


async def test_a_coroutine_that_swallows_its_cancel_is_abandoned_too(queue: TaskQueue) -> None:
    stubborn = Stubborn()
    task_id = await queue.submit(stubborn, timeout=50, max_retries=0)
    await stubborn.entered.wait()
    await asyncio.to_thread(passes, queue, 50)
    await asyncio.to_thread(eventually, lambda: stubborn.cancels == 1)
    await asyncio.to_thread(passes, queue, GRACE_S)
    with pytest.raises(TaskTimeoutError, match="abandoned"):
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert stubborn.cancels == 1
    assert queue.get_queue_status()["free_slots"] == 2
    stubborn.open.set()


async def test_beyond_max_workers_abandoned_ones_no_slot_is_replaced_until_they_end(queue: TaskQueue) -> None:
    """Threads and coroutines mixed: each slot goes back to the lane it came from."""
    gate, stubborn = Gate(), Stubborn()
    for function in (gate, gate, stubborn, gate):
        task_id = await queue.submit(function, timeout=50, max_retries=0)
        await (stubborn.entered.wait() if function is stubborn else gate.entered_async())
        await asyncio.to_thread(passes, queue, 50)
        if function is stubborn:
            await asyncio.to_thread(eventually, lambda: stubborn.cancels == 1)
        await asyncio.to_thread(passes, queue, GRACE_S)
        with pytest.raises(TaskTimeoutError):
            await queue.get_task_result(task_id, timeout=LIMIT_S)
    status = queue.get_queue_status()
    assert (status["abandoned_threads"], status["free_slots"]) == (4, 0)
    waiting = await queue.submit(lambda: "served")
    assert queue.get_queue_status()["queue_size"] == 1
    gate.open()
    stubborn.open.set()
    assert await queue.get_task_result(waiting, timeout=LIMIT_S) == "served"


def test_a_slot_that_comes_back_late_serves_what_has_waited_for_it(store: Store) -> None:
    """One slot, and two threads that were given up: when the first of them ends, nobody is idle to take what waits."""
    registry, late, later = Registry(), Gate(), Gate()
    registry.add("late", late)
    registry.add("later", later)
    registry.add("work", lambda: "served")
    queue = TaskQueue(1, store=store, registry=registry, stop_grace_s=GRACE_S)
    with queue.sync as plain:
        plain.submit("late", timeout=50, max_retries=0)
        late.wait_entered()
        passes(queue, 50)
        passes(queue, GRACE_S)
        plain.submit("later", timeout=50, max_retries=0)
        later.wait_entered()
        waiting = plain.submit("work")
        passes(queue, 50)
        passes(queue, GRACE_S)
        assert queue.get_queue_status()["abandoned_threads"] == 2
        late.open()
        assert plain.get_task_result(waiting, timeout=LIMIT_S) == "served"
        later.open()
        settled(queue)


@pytest.mark.parametrize(
    ("name", "function", "executor"),
    [
        ("atlas-slot", process_workloads.nothing, None),
        ("atlas-loop", nothing_later, None),
        ("atlas-process-slots", process_workloads.nothing, "process"),
        ("atlas-process-keeper", process_workloads.nothing, "process"),
        ("atlas-process-listener", process_workloads.nothing, "process"),
    ],
)
def test_a_moment_without_room_for_a_thread_costs_no_executor(
    plain: TaskQueue, monkeypatch: pytest.MonkeyPatch, name: str, function: Any, executor: str | None
) -> None:
    refused: list[str] = []
    start = threading.Thread.start

    def start_later(thread: threading.Thread) -> None:
        if thread.name.startswith(name) and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_later)
    task_id = plain.sync.submit(function, executor=executor, retry=SOON)
    eventually(lambda: bool(refused))
    plain.serving.renew()  # as every five seconds
    assert plain.sync.get_task_result(task_id, timeout=LIMIT_S) is None


def test_a_coroutine_that_blocks_its_loop_stops_no_other_tasks_timeout(plain: TaskQueue) -> None:
    sync, gate, begun = plain.sync, Gate(), threading.Event()

    async def block() -> None:
        gate()

    async def sleep() -> None:
        begun.set()
        await asyncio.sleep(3600)

    blocking = sync.submit(block, timeout=50, max_retries=0)
    gate.wait_entered()
    behind = sync.submit(sleep, timeout=50, max_retries=0)
    beside = sync.submit(polite, timeout=50, max_retries=0)
    eventually(lambda: plain.serving.live_tasks.by_id[beside].task.status is RUNNING)
    for task_id, until_s in (beside, 50), (blocking, GRACE_S):
        passes(plain, until_s)
        with pytest.raises(TaskTimeoutError):
            sync.get_task_result(task_id, timeout=LIMIT_S)
    assert plain.get_queue_status()["abandoned_threads"] == 1
    gate.open()
    assert begun.wait(LIMIT_S)
    passes(plain, 50)
    with pytest.raises(TaskTimeoutError):
        sync.get_task_result(behind, timeout=LIMIT_S)


def test_an_attempt_whose_stop_raises_stops_no_other_tasks_timeout(
    plain: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, lifecycle, broken = plain.sync, plain.serving.lifecycle, [True]
    real = lifecycle.stopping.ask

    def raising(live: Live, reason: StopReason) -> None:
        if live.task.name == "bad" and broken[0]:
            raise KeyError("a bug")
        real(live, reason)

    monkeypatch.setattr(lifecycle.stopping, "ask", raising)
    bad = sync.submit(polite, name="bad", timeout=0.05, max_retries=0)
    good = sync.submit(polite, name="good", timeout=0.1, max_retries=0)
    with pytest.raises(TaskTimeoutError):
        sync.get_task_result(good, timeout=LIMIT_S)
    broken[0] = False
    lifecycle.tick()
    with pytest.raises(TaskTimeoutError):
        sync.get_task_result(bad, timeout=LIMIT_S)


async def test_a_timeout_is_retried_and_each_attempt_has_the_whole_time(queue: TaskQueue) -> None:
    deadlines, begun = [], asyncio.Semaphore(0)

    async def slow_at_first() -> int:
        task = current_task()
        deadlines.append(task.deadline)
        begun.release()
        if task.attempt < 3:
            await asyncio.sleep(3600)
        return task.attempt

    task_id = await queue.submit(slow_at_first, timeout=50, retry=SOON)
    for _ in range(2):
        await begun.acquire()
        await asyncio.to_thread(passes, queue, 50)
    assert await queue.get_task_result(task_id, timeout=LIMIT_S) == 3
    assert all(later > earlier for earlier, later in pairwise(deadlines) if earlier and later)
    assert queue.store is not None
    history = queue.store.read(lambda connection: find_attempts(connection, task_id))
    assert [one["outcome"] for one in history] == ["timeout", "timeout"]


async def test_a_functions_own_timeout_error_is_an_error(queue: TaskQueue) -> None:
    async def own() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(3600)

    def raising() -> NoReturn:
        raise TimeoutError("mine")

    for function in (own, raising):
        with pytest.raises(TaskFailedError, match="TimeoutError"):
            await queue.get_task_result(await queue.submit(function, timeout=60, max_retries=0), timeout=LIMIT_S)


async def test_an_attempt_that_was_given_up_does_not_answer_for_the_next_one(queue: TaskQueue) -> None:
    gate = Gate("the first")

    def work() -> str:
        return str(gate()) if current_task().attempt == 1 else "the second"

    task_id = await queue.submit(work, timeout=50, retry=SOON)
    await gate.entered_async()
    await asyncio.to_thread(passes, queue, 50)
    await asyncio.to_thread(passes, queue, GRACE_S)
    assert await queue.get_task_result(task_id, timeout=LIMIT_S) == "the second"
    gate.open()
    await asyncio.to_thread(eventually, lambda: queue.get_queue_status()["abandoned_threads"] == 0)
    assert await queue.get_task_result(task_id) == "the second"
    assert row_of(queue.store, task_id).attempt == 2


# --- cancel -----------------------------------------------------------------------------------------------------------


async def test_a_cancelled_task_that_waits_never_starts(queue: TaskQueue) -> None:
    gate, calls = Gate(), []
    blockers = await queue.submit_many(gate, [()] * 2)
    await gate.entered_async(2)
    plain = await queue.submit(lambda: calls.append(1))
    later = await queue.submit(Stubborn())
    for task_id in (plain, later):
        assert queue.cancel_task(task_id) is True
        assert row_of(queue.store, task_id).status is CANCELLED, "it is on disk when cancel_task returns"
        assert queue.cancel_task(task_id) is False
        with pytest.raises(TaskCancelledError, match=r"was cancelled"):
            await queue.get_task_result(task_id)
    assert queue.get_queue_status()["queue_size"] == 0
    gate.open()
    for task_id in blockers:
        await queue.get_task_result(task_id)
    assert calls == []


@pytest.mark.parametrize(
    ("function", "executor"),
    [
        pytest.param(asyncio.sleep, None, id="coroutine"),
        pytest.param(lambda _seconds: polite(), None, id="function that asks"),
        pytest.param(process_workloads.nap, "process", id="process"),
    ],
)
async def test_a_running_task_is_cancelled(queue: TaskQueue, function: Any, executor: str | None) -> None:
    task_id = await queue.submit(function, 3600, executor=executor)
    await asyncio.to_thread(eventually, lambda: queue.get_queue_status()["running_tasks"] == 1)
    assert await asyncio.to_thread(queue.cancel_task, task_id) is True
    with pytest.raises(TaskCancelledError):
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert queue.cancel_task(task_id) is False
    task = row_of(queue.store, task_id)
    assert (task.status, task.cause, task.cancel_requested, task.failures) == (CANCELLED, Cause.CANCELLED, True, 0)


async def test_cancelling_waits_for_the_request_and_never_for_the_functions_end(queue: TaskQueue) -> None:
    gate = Gate()
    task_id = await queue.submit(gate)
    await gate.entered_async()
    assert queue.cancel_task(task_id) is True
    task = row_of(queue.store, task_id)
    assert (task.status, task.cancel_requested) == (RUNNING, True)
    (running,) = queue.get_queue_status()["running"]
    assert running["stopping"] == "cancelled"
    await asyncio.to_thread(passes, queue, GRACE_S)
    with pytest.raises(TaskCancelledError):
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert queue.get_queue_status()["abandoned_threads"] == 1
    gate.open()


async def test_a_cancelled_attempt_that_still_returns_or_fails_is_cancelled(queue: TaskQueue) -> None:
    def returns() -> str:
        with contextlib.suppress(TaskStopped):
            polite()
        return "nevertheless"

    async def raises() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise ValueError("on the way out") from None

    for function in (returns, raises):
        task_id = await queue.submit(function)
        await asyncio.to_thread(eventually, lambda: queue.get_queue_status()["running_tasks"] == 1)
        assert await asyncio.to_thread(queue.cancel_task, task_id)
        with pytest.raises(TaskCancelledError):
            await queue.get_task_result(task_id, timeout=LIMIT_S)


def test_an_attempt_that_fails_between_the_request_and_the_stop_is_not_tried_again(plain: TaskQueue) -> None:
    gate = Gate()

    def work() -> NoReturn:
        gate()
        raise ValueError("just then")

    task_id = plain.sync.submit(work, retry=SOON)
    gate.wait_entered()
    assert plain.serving.cancellation.cancel(task_id) is RUNNING
    gate.open()
    with pytest.raises(TaskFailedError, match="just then"):
        plain.sync.get_task_result(task_id, timeout=LIMIT_S)


def test_what_took_longer_than_its_timeout_ran_out_of_time_also_when_nobody_came_to_ask(plain: TaskQueue) -> None:
    clock: Any = plain.serving.store.clock

    def work() -> str:
        with plain.serving.live_tasks.lock:  # as in a process that is frozen
            clock.ahead_s += 51
        return "too late"

    for _ in range(5):  # whoever gets the lock first
        task_id = plain.sync.submit(work, timeout=50, max_retries=0)
        with pytest.raises(TaskTimeoutError):
            plain.sync.get_task_result(task_id, timeout=LIMIT_S)
        passes(plain, 0)


@pytest.mark.parametrize("limit_s", [float(sys.maxsize), 1e300], ids=["sys.maxsize", "beyond all numbers"])
def test_a_limit_or_a_wait_beyond_all_calendars_costs_no_slot(plain: TaskQueue, limit_s: float) -> None:
    def fail() -> NoReturn:
        raise ValueError("again, one day")

    waits = RetryPolicy(delay_s=limit_s, max_delay_s=limit_s)
    for _ in range(plain.max_workers):
        served = plain.sync.submit(lambda: current_task().deadline, timeout=limit_s)
        assert plain.sync.get_task_result(served, timeout=LIMIT_S) > datetime.now(UTC) + timedelta(days=36_000)
        waiting = plain.sync.submit(fail, retry=waits)
        eventually(lambda: row_of(plain.store, waiting).status is RETRYING)  # noqa: B023 - it is waited for here
        assert plain.cancel_task(waiting)
    assert plain.sync.get_task_result(plain.sync.submit(lambda: "served"), timeout=LIMIT_S) == "served"


async def test_a_task_that_waits_for_its_retry_can_be_cancelled(queue: TaskQueue) -> None:
    def fail() -> NoReturn:
        raise ValueError("again in an hour")

    task_id = await queue.submit(fail, retry=RetryPolicy(delay_s=3600.0, max_delay_s=3600.0))
    await asyncio.to_thread(eventually, lambda: queue.get_queue_status()["retrying_tasks"] == 1)
    assert queue.cancel_task(task_id) is True
    with pytest.raises(TaskCancelledError):
        await queue.get_task_result(task_id)


async def test_a_function_may_cancel_its_own_task(queue: TaskQueue) -> None:
    def suicidal() -> str:
        assert queue.cancel_task(current_task().task_id)
        current_task().check()
        return "not reached"

    with pytest.raises(TaskCancelledError):
        await queue.get_task_result(await queue.submit(suicidal), timeout=LIMIT_S)


async def test_a_coroutine_that_is_cancelled_by_others_again_and_again_ends_in_quarantine(queue: TaskQueue) -> None:
    """It was released like at a stop, and started again at once, for ever."""
    calls = []

    async def suicidal() -> None:
        calls.append(1)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    queue.registry.add("suicidal", suicidal)
    task_id = await queue.submit("suicidal")
    with pytest.raises(TaskFailedError, match=r"quarantined.*cancelled, not by Atlas"):
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert len(calls) == 3


def test_a_cancel_the_store_does_not_take_is_an_error_and_the_task_goes_on(
    plain: TaskQueue, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.scheduler.serving.CALL_S", 0.05)
    monkeypatch.setattr("atlas.scheduler.store.store.CALL_S", 0.05)
    gate = Gate("went on")
    plain.registry.add("gate", gate)
    task_id = plain.sync.submit("gate", retry=SOON)
    gate.wait_entered()
    plain.serving.store.write(nothing)
    outage.lasts = True
    store = plain.serving.store
    monkeypatch.setattr(store, "write", lambda work, wait_s=0.05: Store.write(store, work, wait_s=wait_s))
    with pytest.raises(StoreUnavailableError):
        plain.cancel_task(task_id)
    outage.lasts = False
    monkeypatch.undo()
    gate.open()
    assert plain.sync.get_task_result(task_id, timeout=LIMIT_S) == "went on"
    task = row_of(store, task_id)
    assert (task.status, task.cancel_requested) == (SUCCESS, False)


# --- stop -------------------------------------------------------------------------------------------------------------


def run_for_a_while(queue: TaskQueue, during: Callable[[], None], **how: Any) -> float:
    """Stop ``queue`` in a thread, do something meanwhile; returns how long the stop took."""
    took: list[float] = []

    def stop() -> None:
        start_s = time.monotonic()
        queue.sync.stop(**how)
        took.append(time.monotonic() - start_s)

    serving = queue.serving
    thread = threading.Thread(target=stop)
    thread.start()
    eventually(lambda: not serving.acceptance.taking)
    during()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "stop() hangs"
    return took[0]


@pytest.fixture
def restarted(store: Store) -> Callable[..., TaskQueue]:
    def start(registry: Registry, max_workers: int = 2) -> TaskQueue:
        queue = TaskQueue(max_workers=max_workers, store=store, registry=registry, stop_grace_s=0.1)
        queue.sync.start()
        return queue

    return start


def test_a_drain_lets_running_tasks_end_and_leaves_the_waiting_ones_for_the_next_start(
    store: Store, restarted: Callable[..., TaskQueue]
) -> None:
    registry, gate = Registry(), Gate()
    registry.add("gate", gate)
    registry.add("quick", lambda: "quick")
    queue = restarted(registry, 1)
    running = queue.sync.submit("gate")
    gate.wait_entered()
    waiting, volatile = queue.sync.submit("quick"), queue.sync.submit(lambda: 1)

    def during() -> None:
        with pytest.raises(QueueStoppedError):
            queue.sync.submit("quick")
        gate.open()

    run_for_a_while(queue, during, timeout=LIMIT_S)
    assert row_of(store, running).status is SUCCESS
    task = row_of(store, waiting)
    assert (task.status, task.attempt, task.crashes, task.failures) == (PENDING, 0, 0, 0)
    lost = row_of(store, volatile)
    assert (lost.status, lost.cause) == (FAILED, Cause.LOST)
    again = restarted(registry)
    assert again.sync.get_task_result(waiting, timeout=LIMIT_S) == "quick"
    assert not again.serving.live_tasks.by_id
    again.sync.stop()


def test_what_still_runs_when_the_drain_is_over_is_released_and_uses_nothing_up(
    store: Store, restarted: Callable[..., TaskQueue]
) -> None:
    registry, attempts = Registry(), []

    def first_time_long(name: str) -> str:
        attempts.append((name, current_task().attempt))
        if len(attempts) <= 2:
            polite()
        return name

    async def first_time_long_too(name: str) -> str:
        attempts.append((name, current_task().attempt))
        if len(attempts) <= 2:
            await asyncio.sleep(3600)
        return name

    registry.add("plain", first_time_long)
    registry.add("later", first_time_long_too)
    queue = restarted(registry)
    ids = [queue.sync.submit("plain", "plain", max_retries=0), queue.sync.submit("later", "later", max_retries=0)]
    eventually(lambda: len(attempts) == 2)
    queue.sync.stop(drain=False)
    for task_id in ids:
        task = row_of(store, task_id)
        assert (task.status, task.crashes, task.failures, task.cause) == (PENDING, 0, 0, None)
    again = restarted(registry)
    assert again.serving.live_tasks.by_id == {} or all(
        not live.claim_first for live in again.serving.live_tasks.by_id.values()
    ), "the stop was clean"
    assert [again.sync.get_task_result(task_id, timeout=LIMIT_S) for task_id in ids] == ["plain", "later"]
    assert sorted(attempts) == [("later", 1), ("later", 2), ("plain", 1), ("plain", 2)]
    settled(again)
    again.sync.stop()


@pytest.mark.parametrize("kind", ["volatile", "may not run twice"])
def test_what_cannot_or_may_not_run_again_ends_as_lost_and_its_waiters_hear_it(
    store: Store, restarted: Callable[..., TaskQueue], kind: str
) -> None:
    registry, gate = Registry(), Gate()
    registry.add("gate", gate)
    queue = restarted(registry)
    task_id = queue.sync.submit("gate", on_crash="fail") if kind != "volatile" else queue.sync.submit(lambda: gate())  # noqa: PLW0108
    gate.wait_entered()
    heard: list[BaseException] = []

    def wait() -> None:
        try:
            queue.sync.get_task_result(task_id)
        except TaskFailedError as error:
            heard.append(error)

    serving = queue.serving
    waiter = threading.Thread(target=wait)
    waiter.start()
    eventually(lambda: bool(serving.live_tasks.by_id[task_id].tickets))
    queue.sync.stop(drain=False)
    waiter.join(LIMIT_S)
    assert [type(error) for error in heard] == [TaskFailedError]
    assert row_of(store, task_id).cause is Cause.LOST
    gate.open()


def test_a_stop_does_not_wait_for_a_stuck_thread_and_leaves_no_mark_of_a_clean_stop(
    store: Store, restarted: Callable[..., TaskQueue]
) -> None:
    registry, stuck = Registry(), Gate("late")
    registry.add("stuck", stuck)
    queue = restarted(registry)
    task_id = queue.sync.submit("stuck")
    stuck.wait_entered()
    took_s = run_for_a_while(queue, lambda: None, drain=False)
    assert took_s < 3.0
    assert row_of(store, task_id).status is PENDING
    registry.add("stuck", lambda: row_of(store, task_id).status.value)
    again = restarted(registry)
    assert again.sync.get_task_result(task_id, timeout=LIMIT_S) == "RUNNING", "claimed before it was entered"
    stuck.open()
    settled(again)
    assert row_of(store, task_id).result == '"RUNNING"', "the late result of the stuck one was refused"
    again.sync.stop()


def test_a_private_queue_serves_what_waits_within_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, gate = TaskQueue(max_workers=1, stop_grace_s=0.01), Gate()
    queue.sync.start()
    done: list[int] = []
    queue.sync.submit(gate)
    for number in range(3):
        queue.sync.submit(done.append, number)
    run_for_a_while(queue, gate.open, timeout=LIMIT_S)
    assert done == [0, 1, 2]
    queue, gate = TaskQueue(max_workers=1, stop_grace_s=0.01), Gate()
    queue.sync.start()
    queue.sync.submit(gate)
    queue.sync.submit(done.append, 4)
    gate.wait_entered()
    clock, waits = HandClock(), list[float]()

    def takes_all_its_time(timeout_s: float, **_how: bool) -> bool:
        waits.append(timeout_s)
        clock.ahead_s += timeout_s
        return False

    monkeypatch.setattr(queue.serving.store, "clock", clock)
    monkeypatch.setattr(queue.serving.shutdown, "wait_idle", takes_all_its_time)
    queue.sync.stop(timeout=60.0)
    assert waits == [60.0, 0.0, 0.01]
    gate.open()


def test_who_waits_for_a_task_that_waits_is_told_that_the_queue_stopped(
    restarted: Callable[..., TaskQueue],
) -> None:
    registry, gate = Registry(), Gate()
    registry.add("gate", gate)
    queue = restarted(registry, 1)
    queue.sync.submit("gate")
    waiting = queue.sync.submit("gate")
    gate.wait_entered()
    serving, heard = queue.serving, []

    def wait() -> None:
        with pytest.raises(QueueStoppedError, match="waits for the next start"):
            queue.sync.get_task_result(waiting)
        heard.append(True)

    waiter = threading.Thread(target=wait)
    waiter.start()
    eventually(lambda: bool(serving.live_tasks.by_id[waiting].tickets))
    run_for_a_while(queue, gate.open, timeout=LIMIT_S)
    waiter.join(LIMIT_S)
    assert heard == [True]


async def test_stopping_on_the_loop_that_runs_the_coroutines_drains_them() -> None:
    done = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.append(1)

    async with TaskQueue(max_workers=5) as queue:
        await queue.submit_many(work, [()] * 20)
        await queue.stop(timeout=LIMIT_S)
    assert len(done) == 20


async def test_an_error_in_the_block_stops_running_tasks_at_once() -> None:
    async def forever() -> None:
        started.set()
        await asyncio.sleep(3600)

    async def block() -> None:
        async with TaskQueue() as queue, asyncio.timeout(LIMIT_S):
            await queue.submit(forever)
            await started.wait()
            raise KeyError("mine")

    started = asyncio.Event()
    with pytest.raises(KeyError, match="mine"):
        await block()


async def test_a_task_may_stop_its_own_queue() -> None:
    async def stop() -> None:
        await mine.stop(drain=False)

    mine = TaskQueue(stop_grace_s=GRACE_S)
    await mine.start()
    writing = mine.serving.store.writer._thread
    assert writing is not None
    await mine.submit(stop)
    await asyncio.to_thread(writing.join, LIMIT_S)
    assert not writing.is_alive()


def test_a_queue_whose_loop_is_gone_can_still_be_stopped(store: Store) -> None:
    """Asking its coroutines to stop once raised out of the middle of the stop."""
    queue = TaskQueue(store=store, registry=Registry(), stop_grace_s=0.01)

    async def forever() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.get_running_loop().create_future()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(queue.start())
    task_id = loop.run_until_complete(queue.submit(forever))
    loop.run_until_complete(asyncio.wait_for(asyncio.to_thread(eventually, lambda: is_running(queue)), LIMIT_S))
    left = asyncio.all_tasks(loop)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.stop()
    loop.run_forever()
    loop.close()
    queue.sync.stop(drain=False)
    assert row_of(store, task_id).cause is Cause.LOST
    store.claim()
    store.unclaim(clean=True)
    for one in left:
        one._log_destroy_pending = False  # type: ignore[attr-defined]
        one.get_coro().close()


def is_running(queue: TaskQueue) -> bool:
    return bool(queue.get_queue_status()["running_tasks"] == 1)


def test_a_stopped_queue_leaves_no_thread_behind(store: Store) -> None:
    before = set(threading.enumerate())
    for _ in range(2):
        with TaskQueue(store=store, registry=Registry()).sync as sync:
            sync.get_task_result(sync.submit(asyncio.sleep, 0), timeout=LIMIT_S)
            sync.get_task_result(sync.submit(process_workloads.nothing, executor="process"), timeout=LIMIT_S)
            sync.get_task_result(sync.submit(process_workloads.nothing), timeout=LIMIT_S)
    store.events.drain(LIMIT_S)
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert left <= {"atlas-events"}, "the store's own"


def test_a_queue_that_ran_no_coroutine_made_no_loop(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: made.append(1))
    with TaskQueue(store=store, registry=Registry()).sync as sync:
        sync.get_task_result(sync.submit(process_workloads.nothing), timeout=LIMIT_S)
    assert made == []


# --- claim first ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_what_may_run_once_is_running_on_disk_before_it_is_entered(plain: TaskQueue, kind: str) -> None:
    store = plain.serving.store

    def look() -> str:
        return row_of(store, current_task().task_id).status.value

    async def look_later() -> str:
        return look()

    function = look if kind == "thread" else look_later
    for _ in range(10):
        task_id = plain.sync.submit(function, on_crash="fail")
        assert plain.sync.get_task_result(task_id, timeout=LIMIT_S) == "RUNNING"


@pytest.mark.parametrize("executor", ["thread", "async", "process"])
def test_waiting_for_the_claim_costs_an_attempt_none_of_its_time(
    plain: TaskQueue, outage: Outage, executor: str
) -> None:
    """A store that was away for longer than the timeout once failed tasks that had never been entered."""
    plain.registry.add("work", process_workloads.nothing if executor != "async" else nothing_later)
    gate = Gate()
    blockers = [plain.sync.submit(gate) for _ in range(2)]
    gate.wait_entered(2)
    kind = executor if executor == "process" else None
    task_id = plain.sync.submit("work", on_crash="fail", timeout=5.0, max_retries=0, executor=kind)
    outage.begins_unnoticed()
    gate.open()
    eventually(lambda: task_id in {one["task_id"] for one in plain.get_queue_status()["running"]})
    outage.is_noticed.set()
    clock: Any = plain.serving.store.clock
    clock.ahead_s += 10.0
    plain.serving.lifecycle.tick()
    outage.lasts = False
    assert plain.sync.get_task_result(task_id, timeout=LIMIT_S) is None
    assert row_of(plain.serving.store, task_id).attempt == 1
    for blocker in blockers:
        plain.sync.get_task_result(blocker)


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_an_attempt_that_is_given_up_before_its_claim_was_taken_is_never_entered(
    store: Store, outage: Outage, restarted: Callable[..., TaskQueue], kind: str
) -> None:
    calls: list[int] = []
    registry, gate = Registry(), Gate()
    registry.add("gate", gate)
    registry.add("once", (lambda: calls.append(1)) if kind == "thread" else call_later(calls))
    queue = restarted(registry, 1)
    queue.sync.submit("gate")
    gate.wait_entered()
    task_id = queue.sync.submit("once", on_crash="fail")
    serving = queue.serving
    outage.begins_unnoticed()
    gate.open()
    eventually(lambda: task_id in serving.live_tasks.running)
    outage.is_noticed.set()

    def until_given_up() -> None:
        eventually(lambda: not serving.live_tasks.running)
        outage.lasts = False

    run_for_a_while(queue, until_given_up, drain=False)
    eventually(lambda: not serving.lifecycle.stopping.abandoned)
    store.write(nothing)
    assert calls == []
    assert row_of(store, task_id).status is FAILED


def call_later(calls: list[int]) -> Callable[[], Any]:
    async def call() -> None:
        calls.append(1)

    return call


def test_a_claim_that_comes_after_its_attempt_was_given_up_is_refused(plain: TaskQueue) -> None:
    lifecycle, live_tasks, line, gate = plain.serving.lifecycle, plain.serving.live_tasks, plain.serving.line, Gate()
    plain.registry.add("gate", gate)
    blockers = plain.sync.submit_many("gate", [()] * 2)
    gate.wait_entered(2)
    task_id = plain.sync.submit("gate", on_crash="fail")
    task = live_tasks.by_id[task_id].task
    with line._lock:  # as if a slot had taken it
        line.free -= 1
        line._lanes[ExecutorKind.THREAD].running += 1
    attempt = lifecycle.begin(task)
    assert attempt is not None
    assert attempt.claim is not None
    attempt.claim.wait(LIMIT_S)
    with live_tasks.lock:
        lifecycle.stopping.ask(live_tasks.by_id[task.id], "cancelled")
        assert lifecycle.claimed(attempt) == Stopped("cancelled")
        lifecycle.stopping.abandon(live_tasks.by_id[task.id])
    assert isinstance(lifecycle.claimed(attempt), Stopped)
    assert lifecycle.finish(attempt, Returned(1, "1")) is False
    plain.serving.store.write(nothing)
    assert row_of(plain.serving.store, task.id).status is CANCELLED
    gate.open()
    for blocker in blockers:
        plain.sync.get_task_result(blocker, timeout=LIMIT_S)


# --- suspects ---------------------------------------------------------------------------------------------------------


def a_task(**values: Any) -> Task:
    now = datetime.now(UTC)
    return Task(**{"id": IDS.new(now), "name": "t", "function": "work", "created_at": now, **values})


def insert(store: Store, *rows: Task) -> None:
    store.write(lambda connection: insert_tasks(connection, [full_row(task) for task in rows]))


def test_tasks_that_have_crashed_run_one_at_a_time_and_the_others_beside_them(
    store: Store, restarted: Callable[..., TaskQueue]
) -> None:
    registry, lock = Registry(), threading.Lock()
    suspects_now, most, served = 0, 0, []
    others = Gate()

    def work(name: str) -> None:
        nonlocal suspects_now, most
        suspect = name.startswith("suspect")
        with lock:
            suspects_now += suspect
            most = max(most, suspects_now)
        if suspect:
            threading.Event().wait(0.005)
        else:
            others()
        with lock:
            suspects_now -= suspect
            served.append(name)
        if name == "suspect fails" and current_task().attempt == 1:
            raise ValueError("again")

    registry.add("work", work)
    names = ["suspect 1", "suspect fails", "other 1", "suspect 2", "other 2", "suspect cancelled", "suspect 3"]
    policy = TaskPolicy(retry=SOON)
    rows = {
        name: a_task(
            arguments=f'{{"args":["{name}"],"kwargs":{{}}}}',
            crashes=int(name.startswith("suspect")),
            cancel_requested=name.endswith("cancelled"),
            policy=policy,
        )
        for name in names
    }
    insert(store, *rows.values())
    queue = restarted(registry, 4)
    others.wait_entered(2)
    eventually(lambda: len(served) >= 4)
    others.open()
    for name in names:
        if not name.endswith("cancelled"):
            queue.sync.get_task_result(rows[name].id, timeout=LIMIT_S)
    assert most == 1
    assert row_of(store, rows["suspect cancelled"].id).status is CANCELLED
    settled(queue)
    queue.sync.stop()


def test_a_suspect_that_is_cancelled_while_it_waits_lets_the_next_one_go(
    store: Store, restarted: Callable[..., TaskQueue]
) -> None:
    registry, gate = Registry(), Gate()
    registry.add("work", gate)
    rows = [a_task(crashes=1) for _ in range(3)]
    insert(store, *rows)
    queue = restarted(registry, 2)
    gate.wait_entered()
    eventually(lambda: queue.get_queue_status()["held_tasks"] == 2)
    assert queue.cancel_task(rows[1].id)
    gate.open()
    assert queue.sync.get_task_result(rows[2].id, timeout=LIMIT_S) == "through"
    settled(queue)
    queue.sync.stop()


def test_a_suspect_that_is_cancelled_when_its_turn_has_come_lets_the_next_one_go(
    store: Store, restarted: Callable[..., TaskQueue]
) -> None:
    """It waits in the line for a slot: nobody runs as a suspect then whose end would be the next one's turn."""
    registry, first, others = Registry(), Gate("first"), Gate()
    registry.add("first", first)
    registry.add("work", lambda: "through")
    registry.add("block", others)
    rows = [a_task(function=name, crashes=1) for name in ("first", "work", "work", "work")]
    insert(store, *rows)
    queue = restarted(registry, 2)
    first.wait_entered()
    eventually(lambda: queue.get_queue_status()["held_tasks"] == 3)
    blockers = queue.sync.submit_many("block", [()] * 2)
    others.wait_entered()
    first.open()
    others.wait_entered()
    assert queue.get_queue_status()["held_tasks"] == 2, "the second waits in the line"
    assert queue.cancel_task(rows[1].id)
    others.open()
    for row in rows[2:]:
        assert queue.sync.get_task_result(row.id, timeout=LIMIT_S) == "through"
    for blocker in blockers:
        queue.sync.get_task_result(blocker, timeout=LIMIT_S)
    settled(queue)
    queue.sync.stop()


def test_a_long_suspect_holds_up_the_next_one_only_for_its_time_alone(
    store: Store, restarted: Callable[..., TaskQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.scheduler.tasks.admission.ALONE_MOST_S", 0.05)
    registry, gate = Registry(), Gate()
    registry.add("work", gate)
    rows = [a_task(crashes=1) for _ in range(3)]
    insert(store, *rows)
    queue = restarted(registry, 3)
    gate.wait_entered(3)
    gate.open()
    for row in rows:
        queue.sync.get_task_result(row.id, timeout=LIMIT_S)
    settled(queue)
    queue.sync.stop()


def test_a_suspect_that_waits_for_a_slot_holds_up_no_more_urgent_one(
    store: Store, restarted: Callable[..., TaskQueue]
) -> None:
    registry, gate, served = Registry(), Gate(), []
    registry.add("block", gate)
    registry.add("work", lambda: served.append(current_task().task_id))
    blocker = a_task(function="block", priority=TaskPriority.URGENT)
    low = a_task(crashes=1, priority=TaskPriority.LOW)
    insert(store, blocker, low)
    queue = restarted(registry, 1)
    gate.wait_entered()
    plain = [queue.sync.submit("work", priority=TaskPriority.NORMAL) for _ in range(2)]
    gate.open()
    for task_id in (low.id, *plain):
        queue.sync.get_task_result(task_id, timeout=LIMIT_S)
    assert served == [*plain, low.id]
    settled(queue)
    queue.sync.stop()


def test_a_killed_worker_has_no_neighbours_so_its_task_is_no_suspect(plain: TaskQueue, tmp_path: Path) -> None:
    plain.registry.add("meet", process_workloads.die_then_meet)
    names = ("one", "two")
    tasks = [
        plain.sync.submit("meet", str(tmp_path), mine, other, executor="process")
        for mine, other in (names, names[::-1])
    ]
    assert [plain.sync.get_task_result(task_id, timeout=90) for task_id in tasks] == ["met", "met"]


@pytest.mark.parametrize(
    ("ran_s", "expected_s"),
    [
        pytest.param(0.2, ALONE_LEAST_S, id="a moment"),
        pytest.param(7.0, 7.0, id="a while"),
        pytest.param(7200.0, ALONE_MOST_S, id="hours"),
    ],
)
def test_a_suspect_runs_alone_for_as_long_as_it_had_run_when_its_process_died(ran_s: float, expected_s: float) -> None:
    died_at = datetime.now(UTC)
    assert alone_s(a_task(started_at=died_at - timedelta(seconds=ran_s)), died_at) == pytest.approx(expected_s)


# --- tasks of one job -------------------------------------------------------------------------------------------------


class Job:
    """Fires tasks of one job into a queue, as the clock side does."""

    def __init__(self, queue: TaskQueue, overlap: Overlap, max_instances: int = 1) -> None:
        self.queue = queue
        self.gates: dict[str, Gate] = {}
        self.policy = TaskPolicy(overlap=overlap, max_instances=max_instances, retry=SOON)
        self.started: list[str] = []
        queue.registry.add("job", self._work)

    def _work(self, name: str) -> str:
        self.started.append(name)
        gate: Gate = self.gates[name]
        return str(gate())

    def fire(self, name: str, **how: Any) -> str:
        self.gates.setdefault(name, Gate(name))
        task = a_task(
            name=name,
            function="job",
            arguments=f'{{"args":["{name}"],"kwargs":{{}}}}',
            job_id="job",
            origin=Origin.FIRE,
            policy=how.pop("policy", self.policy),
        )
        serving, ticket = self.queue.serving, Ticket()
        serving.acceptance.reserve(Live(task), bounded=False, **how)
        serving.store.writer.accept([task], ticket)
        ticket.wait(LIMIT_S)
        return task.id

    def wait_started(self, *names: str) -> None:
        eventually(lambda: self.started == list(names), f"{self.started} is {names}")

    def finish(self, name: str) -> None:
        self.gates[name].open()


def test_skip_refuses_a_second_task_and_names_the_first(plain: TaskQueue) -> None:
    job = Job(plain, Overlap.SKIP)
    first = job.fire("a")
    with pytest.raises(JobBusyError, match=first):
        job.fire("b")
    job.finish("a")
    plain.sync.get_task_result(first)
    eventually(lambda: not plain.serving.view.unfinished_of("job"))
    second = job.fire("b")
    job.finish("b")
    assert plain.sync.get_task_result(second) == "b"


def test_queue_serves_one_after_the_other_and_a_retry_keeps_its_place(plain: TaskQueue) -> None:
    job = Job(plain, Overlap.QUEUE)
    ids = [job.fire(name) for name in "abc"]
    job.wait_started("a")
    assert plain.get_queue_status()["held_tasks"] == 2
    plain.registry.add("fails", lambda _name: 1 / 0)
    job.finish("a")
    job.wait_started("a", "b")
    plain.registry.add("job", lambda _name: 1 / 0)
    job.finish("b")
    assert plain.sync.get_task_result(ids[1], timeout=LIMIT_S) == "b"
    with pytest.raises(TaskFailedError):
        plain.sync.get_task_result(ids[2], timeout=LIMIT_S)


def test_queue_holds_a_hundred_and_then_is_busy(plain: TaskQueue) -> None:
    job = Job(plain, Overlap.QUEUE)
    ids = [job.fire("x") for _ in range(MAX_HELD + 1)]
    with pytest.raises(JobBusyError):
        job.fire("x")
    job.finish("x")
    for task_id in ids:
        plain.sync.get_task_result(task_id, timeout=LIMIT_S)


def test_allow_runs_up_to_max_instances(plain: TaskQueue) -> None:
    job = Job(plain, Overlap.ALLOW, max_instances=2)
    ids = [job.fire("a"), job.fire("b")]
    eventually(lambda: sorted(job.started) == ["a", "b"])
    with pytest.raises(JobBusyError):
        job.fire("c")
    for name in "ab":
        job.finish(name)
    for task_id in ids:
        plain.sync.get_task_result(task_id)


def test_replace_starts_when_the_old_one_ended_or_was_abandoned(plain: TaskQueue) -> None:
    job = Job(plain, Overlap.REPLACE)
    old = job.fire("old")
    job.wait_started("old")
    middle = job.fire("middle")
    new = job.fire("new")
    with pytest.raises(TaskCancelledError, match="replaced"):
        plain.sync.get_task_result(middle, timeout=LIMIT_S)
    passes(plain, GRACE_S)
    with pytest.raises(TaskCancelledError, match="replaced"):
        plain.sync.get_task_result(old, timeout=LIMIT_S)
    job.wait_started("old", "new")
    assert plain.get_queue_status()["abandoned_threads"] == 1
    for name in ("old", "new"):
        job.finish(name)
    assert plain.sync.get_task_result(new, timeout=LIMIT_S) == "new"


def test_a_held_task_that_is_cancelled_leaves_its_place_and_the_figures(plain: TaskQueue) -> None:
    job = Job(plain, Overlap.QUEUE)
    ids = [job.fire(name) for name in "abc"]
    job.wait_started("a")
    assert plain.cancel_task(ids[1])
    assert plain.get_queue_status()["held_tasks"] == 1
    assert plain.get_queue_status()["queue_size"] == 1
    for name in "ac":
        job.finish(name)
    assert plain.sync.get_task_result(ids[2], timeout=LIMIT_S) == "c"
    assert job.started == ["a", "c"]


def test_tasks_of_one_catch_up_follow_each_other_whatever_the_rule(plain: TaskQueue) -> None:
    job = Job(plain, Overlap.SKIP)
    first = job.fire("a")
    second = job.fire("b", behind_another=True)
    job.wait_started("a")
    job.finish("a")
    job.wait_started("a", "b")
    job.finish("b")
    for task_id in (first, second):
        plain.sync.get_task_result(task_id, timeout=LIMIT_S)


def test_held_tasks_keep_their_order_when_the_rule_of_their_job_changes(plain: TaskQueue) -> None:
    """Two may run, three wait one at a time: none of them overtakes another, whoever ends first."""
    job = Job(plain, Overlap.ALLOW, max_instances=2)
    ids = [job.fire("a"), job.fire("b")]
    eventually(lambda: sorted(job.started) == ["a", "b"])
    one_by_one = TaskPolicy(overlap=Overlap.QUEUE)
    ids += [job.fire(name, policy=one_by_one) for name in "cde"]
    ids.append(job.fire("f", policy=TaskPolicy(overlap=Overlap.ALLOW, max_instances=9)))
    job.started.clear()
    job.finish("a")
    plain.sync.get_task_result(ids[0], timeout=LIMIT_S)
    assert plain.get_queue_status()["held_tasks"] == 4
    for name in "bcdef":
        job.finish(name)
    for task_id in ids:
        plain.sync.get_task_result(task_id, timeout=LIMIT_S)
    assert job.started == ["c", "d", "e", "f"]


# --- work from other processes ----------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(database: str, store: Store) -> Iterator[Store]:
    """The same database, as another process has it."""
    other = Store(database)
    yield other
    other.close()


@on_both
def test_a_task_that_another_process_put_there_is_served(plain: TaskQueue, elsewhere: Store) -> None:
    plain.registry.add("work", lambda: "served")
    told: list[TaskEvent] = []
    store = plain.serving.store
    store.events.subscribe(lambda event: told.append(event) if isinstance(event, TaskEvent) else None)
    task = a_task()
    insert(elsewhere, task)
    eventually(lambda: row_of(elsewhere, task.id).status is SUCCESS)
    assert row_of(elsewhere, task.id).owner == store.owner
    assert plain.sync.get_task_result(task.id) == "served"
    assert store.events.drain(LIMIT_S)
    assert [event.status for event in told] == [PENDING, RUNNING, SUCCESS]


@on_both
def test_a_running_and_a_waiting_task_hear_the_cancel_of_another_process(plain: TaskQueue, elsewhere: Store) -> None:
    running = plain.sync.submit(asyncio.sleep, 3600)
    waiting = plain.sync.submit(failing, retry=RetryPolicy(delay_s=3600.0, max_delay_s=3600.0))
    eventually(lambda: plain.get_queue_status()["retrying_tasks"] == plain.get_queue_status()["running_tasks"] == 1)
    for task_id in (running, waiting):
        eventually(lambda task_id=task_id: row_of(elsewhere, task_id).attempt == 1)  # type: ignore[misc]
        elsewhere.write(partial(recovery.request_cancel, task_id=task_id, by="", at=datetime.now(UTC)))
        with pytest.raises(TaskCancelledError):
            plain.sync.get_task_result(task_id, timeout=LIMIT_S)


def failing() -> NoReturn:
    raise ValueError("again")


def test_a_task_that_is_picked_up_while_it_is_cancelled_is_cancelled(
    plain: TaskQueue, elsewhere: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is looked at before it is picked up, and the request is written behind that."""
    serving, gate = plain.serving, Gate()
    plain.registry.add("work", gate)
    serving.store.off_foreign(serving._look_for_requests)
    task = a_task()
    insert(elsewhere, task)

    def pick_up_and_fetch(connection: Any, task_id: str) -> Task:
        found = fetch_known(connection, task_id)
        serving.store.on_foreign(serving._look_for_requests)
        eventually(lambda: task_id in serving.live_tasks.by_id)
        return found

    monkeypatch.setattr(serving_module, "fetch_known", pick_up_and_fetch)
    assert plain.cancel_task(task.id)
    gate.open()
    with pytest.raises(TaskCancelledError):
        plain.sync.get_task_result(task.id, timeout=LIMIT_S)


@on_both
def test_two_tasks_of_a_job_that_come_together_from_elsewhere_obey_its_rule(plain: TaskQueue, elsewhere: Store) -> None:
    gate, told = Gate(), []
    plain.registry.add("work", gate)
    store = plain.serving.store
    store.events.subscribe(lambda event: told.append(event) if isinstance(event, TaskEvent) else None)
    first, second = a_task(job_id="job"), a_task(job_id="job")
    unasked = a_task(job_id="job", cancel_requested=True)
    insert(elsewhere, first, second, unasked)
    gate.wait_entered()
    gate.open()
    assert plain.sync.get_task_result(first.id, timeout=LIMIT_S) == "through"
    busy = row_of(elsewhere, second.id)
    assert (busy.status, busy.cause) == (CANCELLED, Cause.BUSY)
    assert first.id in str(busy.error)
    settled(plain)
    assert store.totals.metrics("job").cancelled_tasks == 2
    assert store.events.drain(LIMIT_S)
    ends = {event.task_id: event.status for event in told}
    assert ends == {first.id: SUCCESS, second.id: CANCELLED, unasked.id: CANCELLED}


def test_a_replacing_task_from_elsewhere_replaces(plain: TaskQueue, elsewhere: Store) -> None:
    policy = TaskPolicy(overlap=Overlap.REPLACE)
    plain.registry.add("work", polite)
    old = a_task(job_id="job", policy=policy)
    insert(elsewhere, old)
    eventually(lambda: row_of(elsewhere, old.id).status is RUNNING)
    plain.registry.add("work", lambda: "new")
    new = a_task(job_id="job", policy=policy)
    insert(elsewhere, new)
    eventually(lambda: row_of(elsewhere, new.id).status is SUCCESS)
    assert row_of(elsewhere, old.id).cause is Cause.REPLACED


def test_a_task_runs_where_its_function_fits_whatever_a_client_thought(plain: TaskQueue, elsewhere: Store) -> None:
    plain.registry.add("work", nothing_later)
    task = a_task()
    assert task.policy.executor is ExecutorKind.THREAD
    insert(elsewhere, task)
    eventually(lambda: row_of(elsewhere, task.id).status is SUCCESS)


def test_a_task_whose_function_is_missing_fails_by_its_own_retries(plain: TaskQueue, elsewhere: Store) -> None:
    task = a_task(function="no_such_function", policy=TaskPolicy(retry=SOON))
    insert(elsewhere, task)
    eventually(lambda: row_of(elsewhere, task.id).status is FAILED)
    found = row_of(elsewhere, task.id)
    assert found.failures == 4
    assert "no function 'no_such_function'" in str(found.error)


def test_a_lease_is_not_renewed_in_vain(plain: TaskQueue, outage: Outage) -> None:
    """While the store does not answer, renewals once piled up, one every five seconds."""
    store = plain.serving.store
    store.write(nothing)
    outage.lasts = True
    for _ in range(10):
        plain.serving.renew()
    assert len(store.writer._batch.works) <= 1
    outage.lasts = False

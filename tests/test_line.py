"""The priority line: who is served next, on which executor, and whether there is room."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.scheduler.clock import SystemClock
from atlas.scheduler.task import ExecutorKind, Task, TaskPolicy, TaskPriority
from atlas.scheduler.tasks.line import LOOK_AGAIN_S, STALL_S, Line
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
THREAD, PROCESS, ASYNC = ExecutorKind.THREAD, ExecutorKind.PROCESS, ExecutorKind.ASYNC
URGENT, HIGH, NORMAL, LOW = TaskPriority


class HandClock(SystemClock):
    """Monotonic time that tests move."""

    def __init__(self) -> None:
        self.time_s = 100.0

    def monotonic(self) -> float:
        return self.time_s


class WatchedClock(HandClock):
    """Tells when somebody is about to wait; the line's lock is still held then."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Semaphore(0)
        self.limits: list[float | None] = []

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> bool:
        self.limits.append(timeout_s)
        self.waits.release()
        return super().wait(condition, timeout_s)

    def somebody_waits(self) -> None:
        assert self.waits.acquire(timeout=LIMIT_S)


def a_task(name: str, priority: TaskPriority = NORMAL, kind: ExecutorKind = THREAD) -> Task:
    return Task(id=name, name=name, function="f", priority=priority, policy=TaskPolicy(executor=kind), created_at=NOW)


class Setup:
    """A line with everything around it in a test's hands."""

    def __init__(
        self, slots: int = 10, *, limits: dict[ExecutorKind, int] | None = None, clock: SystemClock | None = None
    ) -> None:
        self.open = True
        self.clock = clock or HandClock()
        self.line = Line(slots, limits=limits, may_start=lambda _priority: self.open, clock=self.clock)
        self.woken: Counter[ExecutorKind] = Counter()
        for kind in ExecutorKind:
            self.line.attach(kind, lambda count, kind=kind: self.woken.update({kind: count}))  # type: ignore[misc]

    def put(self, *tasks: Task) -> None:
        self.line.put(tasks)

    def take(self, kind: ExecutorKind = THREAD, **how: Any) -> str | None:
        task = self.line.take(kind, wait=False, **how)
        return None if task is None else task.id

    def take_all(self, kind: ExecutorKind = THREAD) -> list[str]:
        return list(iter(lambda: self.take(kind), None))


# --- order -----------------------------------------------------------------------------------------------------------


def test_urgent_is_served_before_high_before_normal_before_low_whatever_came_first() -> None:
    setup = Setup()
    setup.put(a_task("low", LOW), a_task("normal", NORMAL), a_task("urgent", URGENT), a_task("high", HIGH))
    assert setup.take_all() == ["urgent", "high", "normal", "low"]


def test_within_one_priority_first_come_is_first_served() -> None:
    setup = Setup()
    setup.put(a_task("a"), a_task("b"))
    setup.put(a_task("c"))
    assert setup.take_all() == ["a", "b", "c"]


def test_behind_a_thousand_low_ones_an_urgent_one_is_next() -> None:
    setup = Setup()
    setup.put(*(a_task(str(number), LOW) for number in range(1000)), a_task("urgent", URGENT))
    assert setup.take() == "urgent"


def test_first_come_is_first_served_across_lanes() -> None:
    setup = Setup(1)
    setup.put(a_task("a", kind=ASYNC), a_task("b", kind=THREAD), a_task("c", kind=PROCESS))
    assert setup.take(THREAD) is None
    assert setup.take(PROCESS) is None
    for kind, name in ((ASYNC, "a"), (THREAD, "b"), (PROCESS, "c")):
        assert setup.take(kind) == name
        setup.line.give_back(kind)


def test_a_higher_priority_on_another_lane_goes_first() -> None:
    setup = Setup(1)
    setup.put(a_task("low", LOW, THREAD), a_task("urgent", URGENT, ASYNC))
    assert setup.take(THREAD) is None
    assert setup.take(ASYNC) == "urgent"


@given(st.lists(st.tuples(st.sampled_from(TaskPriority), st.sampled_from(ExecutorKind)), max_size=30))
def test_one_slot_serves_everything_in_the_order_of_priority_and_arrival(
    arrivals: list[tuple[TaskPriority, ExecutorKind]],
) -> None:
    setup = Setup(1)
    setup.put(*(a_task(str(number), *arrival) for number, arrival in enumerate(arrivals)))
    served = []
    for _ in arrivals:
        taken = [(kind, task) for kind in ExecutorKind if (task := setup.take(kind)) is not None]
        ((kind, task),) = taken
        served.append(int(task))
        setup.line.give_back(kind)
    assert served == sorted(range(len(arrivals)), key=lambda number: (arrivals[number][0], number))


# --- slots -----------------------------------------------------------------------------------------------------------


def test_no_more_run_than_there_are_slots_over_all_lanes() -> None:
    setup = Setup(2)
    setup.put(a_task("a", kind=THREAD), a_task("b", kind=ASYNC), a_task("c", kind=THREAD))
    assert setup.take(THREAD) == "a"
    assert setup.take(ASYNC) == "b"
    assert setup.line.free == 0
    assert setup.take(THREAD) is None
    setup.line.give_back(ASYNC)
    assert setup.take(THREAD) == "c"


def test_a_lane_may_have_a_tighter_limit_and_holds_up_no_other() -> None:
    setup = Setup(5, limits={PROCESS: 1})
    setup.put(a_task("a", URGENT, PROCESS), a_task("b", URGENT, PROCESS), a_task("c", LOW, THREAD))
    assert setup.take_all(PROCESS) == ["a"]
    assert setup.take(THREAD) == "c"
    setup.line.give_back(PROCESS)
    assert setup.take(PROCESS) == "b"


def test_giving_back_and_taking_is_one_step() -> None:
    setup = Setup(1)
    setup.put(a_task("a"), a_task("b"))
    assert setup.take() == "a"
    assert setup.take(give_back=True) == "b"
    assert setup.take(give_back=True) is None
    assert setup.line.free == 1


def test_giving_back_serves_the_best_of_all_lanes_not_the_own_one() -> None:
    setup = Setup(1)
    setup.put(a_task("a"), a_task("b"), a_task("urgent", URGENT, ASYNC))
    setup.take(ASYNC)
    setup.put(a_task("urgent too", URGENT, ASYNC))
    assert setup.take(ASYNC, give_back=True) == "urgent too"
    setup.line.give_back(ASYNC)
    assert setup.take(THREAD) == "a"
    setup.put(a_task("urgent again", URGENT, ASYNC))
    setup.woken.clear()
    assert setup.take(THREAD, give_back=True) is None
    assert setup.woken[ASYNC] >= 1
    assert setup.take(ASYNC) == "urgent again"


@given(st.data())
def test_slots_are_neither_lost_nor_made(data: st.DataObject) -> None:
    limits = {kind: data.draw(st.integers(1, 3)) for kind in ExecutorKind}
    setup = Setup(3, limits=limits)
    running: Counter[ExecutorKind] = Counter()
    for number in range(data.draw(st.integers(0, 40))):
        kind = data.draw(st.sampled_from(ExecutorKind))
        match data.draw(st.sampled_from(["put", "take", "give back", "time passes", "back-pressure"])):
            case "put":
                setup.put(a_task(str(number), data.draw(st.sampled_from(TaskPriority)), kind))
            case "take":
                running[kind] += setup.take(kind) is not None
            case "give back" if running[kind]:
                setup.line.give_back(kind)
                running[kind] -= 1
            case "time passes":
                setup.clock.time_s += 1  # type: ignore[attr-defined]
            case _:
                setup.open = not setup.open
        assert setup.line.free == 3 - running.total() >= 0
        assert all(running[one] <= limits[one] for one in ExecutorKind)


# --- back-pressure ---------------------------------------------------------------------------------------------------


def test_nothing_starts_under_back_pressure_and_everybody_is_woken_when_it_ends() -> None:
    setup = Setup()
    setup.open = False
    setup.put(a_task("a", kind=ASYNC), a_task("b", kind=ASYNC))
    assert setup.take(ASYNC) is None
    setup.woken.clear()
    setup.open = True
    setup.line.resume()
    assert setup.woken[ASYNC] == 2
    assert setup.take_all(ASYNC) == ["a", "b"]


def test_back_pressure_that_ends_while_a_pump_looks_still_wakes_it() -> None:
    """The pump has been told no, the writer finishes, and only then the pump notes that it was held up."""
    setup = Setup()
    resume = threading.Thread(target=setup.line.resume)

    def not_yet(_priority: int) -> bool:
        resume.start()
        resume.join(0.2)  # it may have to wait for the line's lock, which the pump holds
        return False

    setup.line._may_start = not_yet
    setup.put(a_task("a", kind=ASYNC))
    setup.woken.clear()
    assert setup.take(ASYNC) is None
    resume.join(LIMIT_S)
    assert setup.woken[ASYNC] == 1


def test_a_waiting_thread_looks_again_by_itself_since_the_limit_may_be_an_age() -> None:
    clock = WatchedClock()
    setup = Setup(clock=clock)
    setup.open = False
    setup.put(a_task("a"))
    with in_thread(lambda: setup.line.take(THREAD)) as result:
        clock.somebody_waits()
        assert clock.limits == [LOOK_AGAIN_S]
        setup.open = True
    assert result()


# --- a lane that does not answer -------------------------------------------------------------------------------------


def test_a_stalled_lane_holds_the_others_up_for_a_moment_only() -> None:
    setup = Setup()
    setup.put(a_task("blocked", URGENT, ASYNC), *(a_task(str(number)) for number in range(3)))
    setup.woken.clear()
    assert setup.take(THREAD) is None
    assert setup.woken[ASYNC] == 1
    setup.clock.time_s += 2 * STALL_S  # type: ignore[attr-defined]
    assert setup.take_all(THREAD) == ["0", "1", "2"]


def test_a_lane_that_answers_again_is_waited_for_again() -> None:
    setup = Setup()
    setup.put(a_task("one", URGENT, ASYNC), a_task("two", URGENT, ASYNC), a_task("a"), a_task("b"))
    assert setup.take(THREAD) is None
    setup.clock.time_s += 2 * STALL_S  # type: ignore[attr-defined]
    assert setup.take(THREAD) == "a"
    assert setup.take(ASYNC) == "one"
    assert setup.take(THREAD) is None
    assert setup.take(ASYNC) == "two"
    assert setup.take(THREAD) == "b"


def test_a_thread_that_stands_back_is_woken_once_the_other_lane_was_served() -> None:
    clock = WatchedClock()
    setup = Setup(clock=clock)
    setup.put(a_task("first", kind=ASYNC), a_task("second", kind=THREAD))
    with in_thread(lambda: setup.line.take(THREAD)) as result:
        clock.somebody_waits()
        assert clock.limits == [STALL_S]
        assert setup.take(ASYNC) == "first"
    assert result() == "second"


# --- waking ----------------------------------------------------------------------------------------------------------


class in_thread:  # noqa: N801 - reads like a statement
    """Run a call in a thread; the value is there when the block has ended."""

    def __init__(self, call: Callable[[], Task | None]) -> None:
        self._call = call
        self._found: list[Task | None] = []
        self._thread = threading.Thread(target=lambda: self._found.append(self._call()), daemon=True)

    def __enter__(self) -> Callable[[], str | None]:
        self._thread.start()
        return self.result

    def __exit__(self, *_error: object) -> None:
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), "it still waits"

    def result(self) -> str | None:
        (task,) = self._found
        return None if task is None else task.id


@pytest.fixture
def unhurried() -> Iterator[None]:
    """A thread that is woken does not run before the one that woke it waits for something."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(LIMIT_S)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("unhurried")
def test_two_tasks_put_one_after_the_other_wake_two_servers() -> None:
    """One thread is idle: the second task must not wait until that one has finished the first."""
    clock = WatchedClock()
    setup = Setup(clock=clock)
    with in_thread(lambda: setup.line.take(THREAD)) as result:
        clock.somebody_waits()
        setup.put(a_task("a"))
        setup.put(a_task("b"))
    assert result() == "a"
    assert setup.woken[THREAD] == 1


@pytest.mark.usefixtures("unhurried")
def test_a_lane_whose_idle_thread_came_when_it_was_asked_is_waited_for_again() -> None:
    """It is busy since, for longer than others stand back: that is no stall, and what comes first goes first."""
    clock = WatchedClock()
    setup = Setup(clock=clock)
    with in_thread(lambda: setup.line.take(THREAD)) as result:
        clock.somebody_waits()
        setup.put(a_task("a", URGENT), a_task("x", LOW, ASYNC))
        assert setup.take(ASYNC) is None
    assert result() == "a"
    clock.time_s += 2 * STALL_S
    setup.put(a_task("b", URGENT))
    assert setup.take(ASYNC) is None
    assert setup.take(THREAD) == "b"
    assert setup.take(ASYNC) == "x"


@pytest.mark.usefixtures("unhurried")
def test_whoever_waits_is_woken_and_only_the_rest_is_asked_for() -> None:
    clock = WatchedClock()
    setup = Setup(clock=clock)
    with in_thread(lambda: setup.line.take(THREAD)):
        clock.somebody_waits()
        setup.put(a_task("a"), a_task("b"), a_task("c"))
        assert setup.woken[THREAD] == 2


def test_closing_wakes_everybody_and_hands_out_nothing_more() -> None:
    clock = WatchedClock()
    setup = Setup(1, clock=clock)
    setup.put(a_task("running"))
    assert setup.take() == "running"
    setup.put(a_task("low", LOW), a_task("b", kind=ASYNC), a_task("urgent", URGENT), a_task("c"))
    with in_thread(lambda: setup.line.take(THREAD)) as result:
        clock.somebody_waits()
        setup.line.close()
    assert result() is None
    setup.line.give_back(THREAD)
    setup.put(a_task("late"))
    assert setup.take() is None


def test_the_oldest_of_each_priority_is_the_one_that_is_served_next() -> None:
    setup = Setup()
    setup.put(a_task("a", kind=ASYNC), a_task("b"), a_task("low", LOW, PROCESS))
    assert {priority: task.id for priority, task in setup.line.oldest().items()} == {NORMAL: "a", LOW: "low"}


@pytest.mark.parametrize("slots", [1, 3])
def test_many_threads_on_many_lanes_serve_each_task_once_and_leave_all_slots_free(slots: int) -> None:
    setup = Setup(slots, clock=SystemClock())
    served: list[str] = []
    done = threading.Semaphore(0)

    def serve(kind: ExecutorKind) -> None:
        task = setup.line.take(kind)
        while task is not None:
            served.append(task.id)
            done.release()
            task = setup.line.take(kind, give_back=True)

    threads = [threading.Thread(target=serve, args=(kind,)) for kind in ExecutorKind for _ in range(2)]
    for thread in threads:
        thread.start()
    names = [f"{kind} {number}" for number in range(200) for kind in ExecutorKind]
    for name in names:
        setup.put(a_task(name, TaskPriority(hash(name) % 4), ExecutorKind(name.split()[0])))
    for name in names:
        assert done.acquire(timeout=LIMIT_S), f"{len(served)} of {len(names)} were served, then nobody woke; {name}"
    setup.line.close()
    for thread in threads:
        thread.join(LIMIT_S)
    assert sorted(served) == sorted(names)
    assert setup.line.free == slots

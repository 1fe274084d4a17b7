"""The queue against a simple model: any order of submits, cancels, ends and passing time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from unittest.mock import patch

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from atlas.scheduler.context import current_task
from atlas.scheduler.events import Event, TaskEvent
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.store.store import Store
from atlas.scheduler.store.task_rows import fetch
from atlas.scheduler.task import MOVES, TaskPriority, TaskStatus
from atlas.scheduler.tasks import line
from tests.queue_bench import LIMIT_S, HandClock, eventually, nothing, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONG_S = 1000.0
"""Wait before a retry, and the longest an attempt may run: only ``time passes`` brings either."""

PENDING, RUNNING, SUCCESS, FAILED, CANCELLED, TIMEOUT, RETRYING = TaskStatus


@dataclass(eq=False)
class Part:
    """A task's function as the test moves it: it runs until it is told how to end."""

    told: threading.Event = field(default_factory=threading.Event)
    tell_loop: Callable[[], object] = lambda: None
    fails: bool = False

    def listen(self) -> asyncio.Event:
        """For a coroutine: set when it is told to end."""
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        self.tell_loop = lambda: loop.call_soon_threadsafe(heard.set)
        return heard

    def end(self, *, fails: bool) -> None:
        self.fails = fails
        self.told.set()
        self.tell_loop()

    def result(self) -> str:
        self.told.clear()
        if self.fails:
            raise ValueError("as told")
        return "done"


@dataclass(eq=False)
class Model:
    """What a task should be."""

    name: str
    priority: TaskPriority
    max_retries: int
    place: int | None = None
    """Its number in line; a retry has none until its time has come."""
    status: TaskStatus = PENDING
    failures: int = 0


class QueueMachine(RuleBasedStateMachine):
    """Two slots at the most, functions and coroutines, retries and timeouts."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        # A lane must not be passed over only because this machine is slow.
        self._patience = patch.object(line, "STALL_S", LIMIT_S)
        self._patience.start()
        self.clock = HandClock()
        self.parts: dict[str, Part] = {}
        self.started: list[str] = []
        self.places = 0
        self.models: dict[str, Model] = {}
        self.should_start: list[str] = []
        self.moves: dict[str, list[TaskStatus]] = {}

    @initialize(slots=st.integers(1, 2))
    def start(self, slots: int) -> None:
        registry = Registry()
        registry.add("plain", self.plain)
        registry.add("later", self.later)
        self.store = Store(None, clock=self.clock)
        self.store.events.subscribe(self.note)
        self.slots = slots
        self.queue = TaskQueue(slots, store=self.store, registry=registry, stop_grace_s=LONG_S * 10)
        self.queue.sync.start()

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            for model in self.models.values():
                if not model.status.is_final:
                    self.queue.cancel_task(model.name)
            settled(self.queue)
            self.queue.sync.stop()
            self.store.close()
        self._patience.stop()

    # --- what runs ----------------------------------------------------------------------------------------------------

    def plain(self, name: str) -> str:
        self.started.append(name)
        while not self.parts[name].told.wait(0.001):
            current_task().check()
        return self.parts[name].result()

    async def later(self, name: str) -> str:
        heard = self.parts[name].listen()
        self.started.append(name)
        await heard.wait()
        return self.parts[name].result()

    def note(self, event: Event) -> None:
        if isinstance(event, TaskEvent):
            self.moves.setdefault(event.task_id, []).append(event.status)

    # --- the model ----------------------------------------------------------------------------------------------------

    def of(self, *statuses: TaskStatus) -> list[Model]:
        return [one for one in self.models.values() if one.status in statuses]

    def fill(self) -> None:
        """Free slots serve who waits: by priority, then by arrival."""
        while len(self.of(RUNNING)) < self.slots:
            waiting = [(one.priority, one.place, one) for one in self.of(PENDING, RETRYING) if one.place is not None]
            if not waiting:
                return
            first = min(waiting, key=lambda entry: entry[:2])[2]
            first.status, first.place = RUNNING, None
            self.should_start.append(first.name)

    def line_up(self, model: Model) -> None:
        model.place = self.places
        self.places += 1

    def ends(self, model: Model, final: TaskStatus) -> None:
        model.failures += final is not SUCCESS
        again = final is not SUCCESS and model.failures <= model.max_retries
        model.status = RETRYING if again else final

    # --- what happens -------------------------------------------------------------------------------------------------

    @rule(
        target=tasks,
        priorities=st.lists(st.sampled_from(TaskPriority), min_size=1, max_size=3),
        function=st.sampled_from(["plain", "later"]),
        max_retries=st.integers(0, 1),
    )
    def submit(self, priorities: Iterable[TaskPriority], function: str, max_retries: int) -> object:
        names = []
        for priority in priorities:
            name = f"task {len(self.models)}"
            names.append(name)
            self.parts[name] = Part()
            self.models[name] = Model(name, priority, max_retries)
            self.line_up(self.models[name])
            self.fill()
            self.queue.sync.submit(
                function,
                name,
                task_id=name,
                priority=priority,
                timeout=LONG_S,
                retry=RetryPolicy(max_retries=max_retries, delay_s=LONG_S, max_delay_s=LONG_S, jitter=0.0),
            )
            self.agrees()
        return multiple(*names)

    def one_that_runs(self, which: int) -> Model:
        running = self.of(RUNNING)
        return running[which % len(running)]

    @precondition(lambda self: bool(self.of(RUNNING)))
    @rule(which=st.integers(0, 1), fails=st.booleans())
    def end_one(self, which: int, *, fails: bool) -> None:
        model = self.one_that_runs(which)
        self.ends(model, FAILED if fails else SUCCESS)
        self.fill()
        self.parts[model.name].end(fails=fails)

    @rule(name=tasks)
    def cancel(self, name: str) -> None:
        model = self.models[name]
        was_final = model.status.is_final
        if not was_final:
            model.status, model.place = CANCELLED, None
            self.fill()
        assert self.queue.cancel_task(name) is not was_final

    @rule(name=consumes(tasks))
    def forget(self, name: str) -> None:
        """Let later steps look at other tasks."""

    @rule()
    def time_passes(self) -> None:
        live_tasks = self.queue.serving.live_tasks
        with live_tasks.lock:
            due = [live.task.id for _due, _number, live in sorted(live_tasks.retries, key=lambda one: one[:2])]
        for name in due:
            if self.models[name].status is RETRYING:
                self.line_up(self.models[name])
        # First the retries line up, and may take what is free; who runs longer than allowed ends after that.
        running = self.of(RUNNING)
        self.fill()
        for model in running:
            self.ends(model, TIMEOUT)
        self.fill()
        self.store.write(nothing)
        self.clock.ahead_s += LONG_S + 1
        self.queue.serving.renew()  # the timekeeper would, within 5 s: until then nothing starts on so old a lease
        self.queue.serving.lifecycle.tick()

    # --- what must hold -----------------------------------------------------------------------------------------------

    def agrees(self) -> None:
        live_tasks = self.queue.serving.live_tasks

        def difference() -> dict[str, tuple[str, str]]:
            with live_tasks.lock:
                real = {task_id: live.task.status for task_id, live in live_tasks.by_id.items()}
            should = {name: model.status for name, model in self.models.items() if not model.status.is_final}
            names = should.keys() | {name for name, status in real.items() if not status.is_final}
            return {
                name: (str(real.get(name, "final")), str(self.models[name].status))
                for name in sorted(names)
                if real.get(name) is not should.get(name)
            }

        with contextlib.suppress(AssertionError):
            eventually(lambda: not difference() and len(self.started) == len(self.should_start))
        assert difference() == {}, "(real, model) by task"
        assert len(self.started) == len(self.should_start)

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        if not hasattr(self, "queue"):
            return
        self.agrees()
        if self.slots == 1:
            assert self.started == self.should_start, "the order of service"
        assert sorted(self.started) == sorted(self.should_start)
        figures = self.queue.get_queue_status()
        waiting = self.of(PENDING, RETRYING)
        assert figures["queue_size"] == len(waiting)
        assert figures["retrying_tasks"] == len(self.of(RETRYING))
        assert figures["running_tasks"] == len(self.of(RUNNING)) <= self.slots
        assert figures["by_priority"] == {
            priority.name: sum(one.priority is priority for one in waiting) for priority in TaskPriority
        }

    @rule()
    def what_is_on_disk_and_what_was_told_agree(self) -> None:
        self.store.write(nothing)
        assert self.store.events.drain(LIMIT_S)
        found = self.store.totals.metrics()
        for status in TaskStatus:
            assert found.by_status[status] == len(self.of(status)), status
        for name, model in self.models.items():
            row = self.store.read(lambda connection, name=name: fetch(connection, name))  # type: ignore[misc]
            assert row is not None
            assert (row.status, row.failures) == (model.status, model.failures)
            told = self.moves[name]
            assert told[0] is PENDING
            assert told[-1] is model.status
            assert all(new in MOVES[old] for old, new in itertools.pairwise(told)), told


TestQueueMachine = QueueMachine.TestCase
# Without shrinking: each step towards a smaller example would wait for the queue to do what it should.
TestQueueMachine.settings = settings(
    max_examples=60, stateful_step_count=40, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)

"""`TaskQueue`: work goes in, results and errors come out, in the right order and within its bounds."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from loguru import logger
from sqlalchemy.exc import OperationalError

from atlas.scheduler import serving as serving_module
from atlas.scheduler.awaited import done_or_undone
from atlas.scheduler.client import AtlasClient
from atlas.scheduler.context import current_task
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.errors import (
    ArgumentsError,
    DuplicateTaskError,
    FunctionRefusedError,
    QueueFullError,
    QueueStoppedError,
    ResultNotReadyError,
    ResultOmittedError,
    StoreMismatchError,
    StoreUnavailableError,
    TaskFailedError,
    UnknownFunctionError,
    UnknownTaskError,
)
from atlas.scheduler.events import Event, TaskEvent
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.serving import Serving
from atlas.scheduler.status import StatusManager
from atlas.scheduler.store import engine as engine_module
from atlas.scheduler.store import writer
from atlas.scheduler.store.intake import MAX_BEHIND
from atlas.scheduler.store.leases import standbys
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.store.task_rows import fetch
from atlas.scheduler.store.tickets import Ticket
from atlas.scheduler.task import Cause, ExecutorKind, Task, TaskPriority, TaskStatus
from atlas.scheduler.tasks.lifecycle import MAX_LIVE_RESULTS
from atlas.scheduler.tasks.submission import QueueDefaults
from tests import process_workloads
from tests.queue_bench import LIMIT_S, Gate, Outage, eventually, nothing, settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

SOON = RetryPolicy(max_retries=3, delay_s=0.01, jitter=0.0)


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    for call in (add, add_later, fail, echo):
        made.add(call.__name__, call)
    return made


@pytest.fixture
async def queue(registry: Registry) -> AsyncIterator[TaskQueue]:
    """A queue with a private store; it must be left without a trace of what it did."""
    async with TaskQueue(max_workers=3, registry=registry, stop_grace_s=0.2) as made:
        yield made
        await asyncio.to_thread(settled, made)


@pytest.fixture
def plain(registry: Registry, tmp_path: Path) -> Iterator[TaskQueue]:
    """The same for code without a loop, with a store on disk."""
    made = TaskQueue(max_workers=3, store=tmp_path / "atlas.db", registry=registry, stop_grace_s=0.2)
    with made.sync:
        yield made
        settled(made)


def add(left: int, right: int = 0) -> int:
    return left + right


async def add_later(left: int, right: int = 0) -> int:
    await asyncio.sleep(0)
    return left + right


def fail(text: str = "boom") -> None:
    raise ValueError(text)


def echo(value: Any) -> Any:
    return value


def row_of(store: Store, task_id: str) -> Task:
    task = store.read(lambda connection: fetch(connection, task_id))
    assert task is not None
    return task


def store_of(queue: TaskQueue) -> Store:
    assert queue.store is not None
    return queue.store


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    ["add", add, add_later, lambda left, right: left + right],
    ids=["name", "function", "coroutine", "lambda"],
)
async def test_what_the_function_returns_is_the_result(queue: TaskQueue, function: Any) -> None:
    task_id = await queue.submit(function, 1, kwargs={"right": 2})
    assert await queue.get_task_result(task_id) == 3
    assert await queue.get_task_result(task_id) == 3, "asking again gives the same"


async def test_the_documented_example_works(queue: TaskQueue) -> None:
    def collect_data(source_config: dict[str, Any]) -> dict[str, Any]:
        return {"items": 50, **source_config}

    task_id = await queue.submit(collect_data, {"name": "新闻"}, priority=TaskPriority.HIGH, timeout=300, max_retries=3)
    assert await queue.get_task_result(task_id) == {"items": 50, "name": "新闻"}
    status = queue.get_queue_status()
    assert status["queue_size"] >= 0
    assert status["running_tasks"] >= 0
    assert queue.cancel_task(task_id) is False


async def test_a_function_that_fails_for_good_is_a_typed_error_with_its_text(queue: TaskQueue) -> None:
    task_id = await queue.submit("fail", "no such feed", max_retries=0)
    with pytest.raises(TaskFailedError, match=rf"task {task_id}: failed \(error\): ValueError: no such feed") as caught:
        await queue.get_task_result(task_id)
    assert "Traceback" in caught.value.error
    assert caught.value.cause == "error"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("odd")], ids=repr)
async def test_nothing_a_function_raises_ends_a_slot(queue: TaskQueue, error: BaseException) -> None:
    def plain() -> None:
        raise error

    async def later() -> None:
        raise error

    for function in (plain, later):
        for _ in range(queue.max_workers + 1):
            task_id = await queue.submit(function, max_retries=0)
            with pytest.raises(TaskFailedError, match=type(error).__name__):
                await queue.get_task_result(task_id, timeout=LIMIT_S)


async def test_an_unknown_id_is_an_unknown_task(queue: TaskQueue) -> None:
    with pytest.raises(UnknownTaskError, match="no such task"):
        await queue.get_task_result("nobody")
    with pytest.raises(UnknownTaskError, match="no such task"):
        queue.cancel_task("nobody")


async def test_waiting_for_a_result_has_a_limit_and_leaves_nothing_behind(queue: TaskQueue) -> None:
    gate = Gate()
    task_id = await queue.submit(gate)
    for _ in range(3):
        with pytest.raises(ResultNotReadyError, match=r"not final after 0\.01 s") as caught:
            await queue.get_task_result(task_id, timeout=0.01)
        assert isinstance(caught.value, TimeoutError)
    waiter = asyncio.create_task(queue.get_task_result(task_id))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert queue.serving.live_tasks.by_id[task_id].tickets == []
    gate.open()
    assert await queue.get_task_result(task_id, timeout=LIMIT_S) == "through"


async def test_many_may_wait_for_one_result(queue: TaskQueue) -> None:
    gate = Gate()
    task_id = await queue.submit(gate)
    waiters = [asyncio.create_task(queue.get_task_result(task_id)) for _ in range(20)]
    await gate.entered_async()
    gate.open()
    assert await asyncio.gather(*waiters) == ["through"] * 20


async def test_a_durable_result_is_the_json_value_and_a_volatile_one_the_object_itself(queue: TaskQueue) -> None:
    durable = await queue.submit("echo", [1, {"a": None}])
    assert await queue.get_task_result(durable) == [1, {"a": None}]
    thing = object()
    volatile = await queue.submit(lambda: thing)
    assert await queue.get_task_result(volatile) is thing
    assert row_of(store_of(queue), volatile).result_omitted


async def test_a_tuple_of_a_durable_task_comes_back_as_json_has_it(queue: TaskQueue) -> None:
    queue.registry.add("pair", lambda: (1, 2))
    assert await queue.get_task_result(await queue.submit("pair")) == [1, 2]


async def test_a_result_over_64_kb_is_kept_by_this_process_only(plain: TaskQueue) -> None:
    task_id = await asyncio.to_thread(plain.sync.submit, "echo", "x" * 30_000)
    assert len(await plain.get_task_result(task_id)) == 30_000
    plain.registry.add("long", lambda: "x" * 70_000)
    task_id = await plain.submit("long")
    assert len(await plain.get_task_result(task_id)) == 70_000
    task = row_of(store_of(plain), task_id)
    assert (task.status, task.result, task.result_omitted) == (TaskStatus.SUCCESS, None, True)


async def test_the_newest_thousand_live_results_are_kept(queue: TaskQueue) -> None:
    ids = await queue.submit_many(lambda number: {number}, [(number,) for number in range(MAX_LIVE_RESULTS + 1)])
    for task_id in ids:
        with contextlib.suppress(ResultOmittedError):
            await queue.get_task_result(task_id, timeout=LIMIT_S)
    kept = queue.serving.live_tasks.results
    assert len(kept) == MAX_LIVE_RESULTS
    (gone,) = set(ids) - set(kept)
    with pytest.raises(ResultOmittedError, match="its result was not kept"):
        await queue.get_task_result(gone)


async def test_results_outlive_the_queue_on_disk(tmp_path: Path, registry: Registry) -> None:
    async with TaskQueue(store=tmp_path / "atlas.db", registry=registry) as queue:
        task_id = await queue.submit("add", 20, 22)
        object_id = await queue.submit("echo", 1.5)
        await queue.get_task_result(object_id)
        assert await queue.get_task_result(task_id) == 42
    async with TaskQueue(store=tmp_path / "atlas.db", registry=registry) as queue:
        assert await queue.get_task_result(task_id) == 42
        assert queue.cancel_task(task_id) is False


@pytest.mark.parametrize("text", ["caf\udce9.txt", "a\x00b", "新闻"], ids=ascii)
async def test_any_text_may_go_in_come_out_and_be_raised(plain: TaskQueue, text: str) -> None:
    """A lone surrogate once made every commit fail for ever: no row can hold it."""
    assert await plain.get_task_result(await plain.submit("echo", text), timeout=LIMIT_S) == text
    with pytest.raises(TaskFailedError):
        await plain.get_task_result(await plain.submit("fail", text, max_retries=0), timeout=LIMIT_S)
    assert plain.serving.store.writer.fault is None


async def test_a_result_that_changes_while_it_is_read_is_a_success_without_a_text(queue: TaskQueue) -> None:
    result = await queue.get_task_result(await queue.submit(process_workloads_restless), timeout=LIMIT_S)
    assert dict.__len__(result) == 1


class Restless(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("dictionary changed size during iteration")


def process_workloads_restless() -> Restless:
    return Restless(a=1)


# --- arguments and options --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"priorty": "high"}, TypeError, r"unknown options: priorty .*kwargs="),
        ({"priority": "soon"}, ArgumentsError, "not one of URGENT"),
        ({"timeout": 0}, ArgumentsError, "timeout 0 is not a positive number"),
        ({"timeout": "5 parsecs"}, ArgumentsError, "timeout: cannot read this duration at '5 parsecs'"),
        ({"timeout": "0s"}, ArgumentsError, r"timeout 0\.0 is not a positive number"),
        ({"by": 5}, ArgumentsError, "by 5 is no text"),
        ({"max_retries": -1}, ArgumentsError, "max_retries -1"),
        ({"max_retries": "3"}, ArgumentsError, "max_retries '3'"),
        ({"max_retries": 1.5}, ArgumentsError, r"max_retries 1\.5"),
        ({"executor": "gpu"}, ArgumentsError, "not one of thread, process, async"),
        ({"executor": "async"}, FunctionRefusedError, "add is a plain function"),
        ({"on_crash": "panic"}, ArgumentsError, "not one of retry, fail"),
        ({"task_id": ""}, ArgumentsError, "1 to 191 printable"),
        ({"task_id": "x" * 192}, ArgumentsError, "1 to 191 printable"),
        ({"task_id": "a\nb"}, ArgumentsError, "1 to 191 printable"),
        ({"task_id": 5}, ArgumentsError, "task_id 5 is not 1 to 191 printable"),
        ({"retry": 3}, ArgumentsError, "retry 3 is no RetryPolicy; .*max_retries"),
        ({"kwargs": [1]}, ArgumentsError, r"kwargs \[1\] is not a dict"),
        ({"name": "a\x1b[31m"}, ArgumentsError, "printable"),
        ({"name": 5}, ArgumentsError, "printable"),
        ({"kwargs": {"right": {1, 2}}}, ArgumentsError, "not JSON"),
    ],
    ids=str,
)
async def test_a_wrong_option_is_one_clear_error_and_nothing_is_accepted(
    queue: TaskQueue, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        await queue.submit("add", 1, **options)
    assert store_of(queue).totals.metrics().total_tasks == 0


@pytest.mark.parametrize("given", [None, 5, object()], ids=["None", "a result", "an object"])
async def test_what_a_function_returned_is_not_taken_for_it(queue: TaskQueue, given: Any) -> None:
    with pytest.raises(FunctionRefusedError, match=r"is not callable: give the function and then its arguments"):
        await queue.submit(given)


async def test_an_unknown_function_proposes_the_nearest(queue: TaskQueue) -> None:
    with pytest.raises(UnknownFunctionError, match="did you mean 'add'"):
        await queue.submit("ad")


@pytest.mark.parametrize("func", ["add", add], ids=["by name", "itself"])
async def test_arguments_that_do_not_fit_are_refused_at_once_and_not_after_four_attempts(
    queue: TaskQueue, func: Any
) -> None:
    for args, kwargs in (((1, 2, 3), {}), ((), {"wrong": 1})):
        with pytest.raises(ArgumentsError, match=r"the arguments do not fit: add\(.* does not accept them: "):
            await queue.submit(func, *args, kwargs=kwargs)
    with pytest.raises(ArgumentsError, match="too many positional arguments"):
        await queue.submit_many(func, [[1], [1, 2, 3]])
    assert store_of(queue).totals.metrics().total_tasks == 0


async def test_arguments_of_a_named_function_must_be_json(queue: TaskQueue) -> None:
    with pytest.raises(ArgumentsError, match="change on their way through JSON"):
        await queue.submit("echo", (1, 2))


async def test_a_durable_task_gets_its_arguments_as_they_were_when_it_was_accepted(queue: TaskQueue) -> None:
    seen = []

    def greedy(items: list[int]) -> None:
        seen.append(list(items))
        items.append(99)
        raise ValueError("again")

    queue.registry.add("greedy", greedy)
    gate, mine = Gate(), [1]
    blockers = await queue.submit_many(gate, [()] * queue.max_workers)
    task_id = await queue.submit(greedy, mine, retry=SOON)
    mine.append(2)
    gate.open()
    with pytest.raises(TaskFailedError):
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert seen == [[1]] * 4
    for blocker in blockers:
        await queue.get_task_result(blocker)


async def test_policies_come_from_the_call_then_from_the_queue(registry: Registry) -> None:
    async with TaskQueue(registry=registry, defaults=QueueDefaults(timeout_s=7.0, max_retries=1)) as queue:
        rows = [
            row_of(store_of(queue), await queue.submit("add", 1, **options)).policy
            for options in (
                {},
                {"timeout": None, "max_retries": 0},
                {"timeout": "1h30m"},
                {"retry": SOON},
                {"retry": SOON, "max_retries": 9},
            )
        ]
    assert [(policy.timeout_s, policy.retry.max_retries, policy.retry.delay_s) for policy in rows] == [
        (7.0, 1, 2.0),
        (None, 0, 2.0),
        (5400.0, 1, 2.0),
        (7.0, 3, 0.01),
        (7.0, 9, 0.01),
    ]


@pytest.mark.parametrize("when", ["before it has started", "just when it has"])
async def test_a_start_that_is_cancelled_leaves_no_queue_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Its thread goes on: it once held the store, with a queue that nobody had, until the program's end."""
    begun, goes_on, start = threading.Event(), threading.Event(), TaskQueue._start

    def slow(self: TaskQueue, loop: asyncio.AbstractEventLoop | None) -> bool:
        if when == "just when it has":
            start(self, loop)
        begun.set()
        assert goes_on.wait(LIMIT_S)
        return start(self, loop) or when == "just when it has"

    monkeypatch.setattr(TaskQueue, "_start", slow)
    queue = TaskQueue(1, store=tmp_path / "atlas.db")
    starting = asyncio.create_task(queue.start())
    assert await asyncio.to_thread(begun.wait, LIMIT_S)
    starting.cancel()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    monkeypatch.undo()
    assert queue.get_queue_status()["state"] == "stopped"
    async with TaskQueue(1, store=tmp_path / "atlas.db") as other:
        assert other.get_queue_status()["state"] == "running"


async def test_a_cancel_that_meets_the_end_undoes_it_all_the_same() -> None:
    done: list[str] = []
    loop, turned = asyncio.get_running_loop(), asyncio.Event()

    def do() -> bool:
        done.append("done")
        loop.call_soon_threadsafe(turned.set)
        return True

    waiting = asyncio.create_task(done_or_undone(do, lambda: done.append("undone")))
    await turned.wait()
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert done == (["done", "undone"] if waiting.cancelled() else ["done"])


async def test_a_function_whose_name_no_row_can_hold_stops_nobody(queue: TaskQueue) -> None:
    def odd() -> str:
        return "ran"

    odd.__qualname__ = "f\ud800\x00"
    async with asyncio.timeout(LIMIT_S / 2):
        task_id = await queue.submit(odd)
        assert await queue.get_task_result(task_id) == "ran"
    assert row_of(store_of(queue), task_id).function == f"{__name__}:f\\ud800\\x00"


async def test_without_a_word_a_task_has_three_retries_and_ten_minutes(queue: TaskQueue) -> None:
    policy = row_of(store_of(queue), await queue.submit("add", 1)).policy
    assert (policy.retry.max_retries, policy.timeout_s) == (3, 600.0)


async def test_an_id_of_ones_own_is_kept_and_taken_once(queue: TaskQueue) -> None:
    assert await queue.submit("add", 1, task_id="采集 1") == "采集 1"
    with pytest.raises(DuplicateTaskError):
        await queue.submit("add", 2, task_id="采集 1")
    assert await queue.get_task_result("采集 1") == 1
    with pytest.raises(DuplicateTaskError, match="exists already"):
        await queue.submit("add", 2, task_id="采集 1")
    assert store_of(queue).totals.metrics().total_tasks == 1


def test_threads_that_submit_the_same_id_at_once_make_one_task(plain: TaskQueue) -> None:
    for number in range(20):
        barrier = threading.Barrier(4)

        def submit(task_id: str = str(number), barrier: threading.Barrier = barrier) -> bool:
            barrier.wait(LIMIT_S)
            try:
                return plain.sync.submit("add", 1, task_id=task_id) == task_id
            except DuplicateTaskError:
                return False

        with ThreadPoolExecutor(4) as pool:
            made = [future.result() for future in [pool.submit(submit) for _ in range(4)]]
        assert made.count(True) == 1
        assert plain.sync.get_task_result(str(number), timeout=LIMIT_S) == 1


def test_a_submit_behind_a_commit_that_hangs_is_withdrawn(plain: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_module, "ACCEPT_S", 0.05)
    monkeypatch.setattr(writer, "LONG_COMMIT_S", 0.0)
    entered, hangs = threading.Event(), threading.Event()

    def hang(_connection: Connection) -> None:
        entered.set()
        assert hangs.wait(LIMIT_S)

    def renewed() -> bool:
        plain.serving.renew()
        return submit.done()

    store_of(plain).writer.work(hang, Ticket())
    assert entered.wait(LIMIT_S)
    with ThreadPoolExecutor(1) as pool:
        submit = pool.submit(plain.sync.submit, "add", 1, task_id="a")
        try:
            eventually(renewed)
        finally:
            hangs.set()
        with pytest.raises(StoreUnavailableError, match="withdrawn"):
            submit.result()
    assert plain.sync.submit("add", 1, task_id="a") == "a", "nothing is left of it"


def test_a_second_submit_between_the_look_and_the_reservation_does_not_lose_the_first(
    plain: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found the id free; the loser's withdrawal once took the winner's task out of memory."""
    acceptance = plain.serving.acceptance
    reserve, rivals = acceptance.reserve_all, [True]

    def reserve_late(lives: Any) -> None:
        if rivals:
            rivals.pop()
            plain.sync.submit("add", 1, 1, task_id="a")
        reserve(lives)

    monkeypatch.setattr(acceptance, "reserve_all", reserve_late)
    with pytest.raises(DuplicateTaskError):
        plain.sync.submit("add", 5, task_id="a")
    assert plain.sync.get_task_result("a", timeout=LIMIT_S) == 2


# --- durable and volatile ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "args", "volatile"),
    [
        pytest.param("add", (1,), False, id="registered name"),
        pytest.param(add, (1,), False, id="registered function"),
        pytest.param(lambda: 1, (), True, id="closure"),
        pytest.param(echo, ({1, 2},), True, id="an argument that is no JSON"),
        pytest.param(partial(add, 1), (), True, id="partial"),
    ],
)
async def test_registered_functions_with_json_arguments_are_durable_and_the_rest_volatile(
    queue: TaskQueue, function: Any, args: tuple[Any, ...], *, volatile: bool
) -> None:
    task_id = await queue.submit(function, *args)
    assert row_of(store_of(queue), task_id).volatile is volatile
    await queue.get_task_result(task_id)


def test_volatile_work_is_noted_once_per_function_and_only_where_it_matters(tmp_path: Path) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), filter=lambda record: "volatile" in record["message"])
    try:
        with TaskQueue(store=tmp_path / "atlas.db").sync as sync:
            for _ in range(3):
                sync.submit(Gate.open, Gate())
            assert len(lines) == 1
        with TaskQueue().sync as sync:
            sync.submit(Gate.open, Gate())
            assert len(lines) == 1
    finally:
        logger.remove(sink)


async def test_a_function_that_is_shadowed_by_another_one_of_its_name_is_the_one_that_runs(registry: Registry) -> None:
    child = Registry(parent=registry)
    child.add("add", lambda *_: "another")
    async with TaskQueue(registry=child) as queue:
        assert await queue.get_task_result(await queue.submit(add, 1, 2)) == 3
        assert await queue.get_task_result(await queue.submit("add", 1, 2)) == "another"


# --- order ------------------------------------------------------------------------------------------------------------


async def test_behind_a_thousand_low_tasks_an_urgent_one_starts_next(registry: Registry) -> None:
    order: list[str] = []
    registry.add("note", order.append)
    async with TaskQueue(max_workers=1, registry=registry) as queue:
        gate = Gate()
        await queue.submit(gate)
        await gate.entered_async()
        low = await queue.submit_many("note", [(f"low {number}",) for number in range(1000)], priority="low")
        normal = await queue.submit("note", "normal")
        urgent = await queue.submit("note", "urgent", priority=TaskPriority.URGENT)
        assert queue.get_queue_status()["by_priority"] == {"URGENT": 1, "HIGH": 0, "NORMAL": 1, "LOW": 1000}
        gate.open()
        for task_id in (urgent, normal, low[-1]):
            await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert order == ["urgent", "normal", *(f"low {number}" for number in range(1000))]


async def test_coroutines_and_functions_stand_in_one_line(registry: Registry) -> None:
    order: list[int] = []

    async def note_later(number: int) -> None:
        order.append(number)

    registry.add("note", order.append)
    registry.add("note_later", note_later)
    async with TaskQueue(max_workers=1, registry=registry) as queue:
        gate = Gate()
        await queue.submit(gate)
        await gate.entered_async()
        ids = [await queue.submit("note" if number % 2 else "note_later", number) for number in range(20)]
        gate.open()
        for task_id in ids:
            await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert order == list(range(20))


async def test_no_more_run_at_once_than_max_workers_over_all_executors(queue: TaskQueue) -> None:
    running, most = 0, 0
    lock, never, all_run = threading.Lock(), threading.Event(), threading.Event()

    def enter() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if most == queue.max_workers:
            all_run.set()

    def leave() -> None:
        nonlocal running
        with lock:
            running -= 1

    def plain() -> None:
        enter()
        never.wait(0.01)
        assert all_run.wait(LIMIT_S)
        leave()

    async def later() -> None:
        enter()
        await asyncio.sleep(0.005)
        assert await asyncio.to_thread(all_run.wait, LIMIT_S)
        leave()

    ids = [await queue.submit(function) for _ in range(15) for function in (plain, later)]
    for task_id in ids:
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert most == queue.max_workers


async def test_all_slots_are_used_when_tasks_come_one_after_the_other(queue: TaskQueue) -> None:
    gate = Gate()
    for _ in range(5):
        ids = [await queue.submit(gate) for _ in range(queue.max_workers)]
        await gate.entered_async(queue.max_workers)
        assert queue.get_queue_status()["running_tasks"] == queue.max_workers
        gate.open()
        for task_id in ids:
            await queue.get_task_result(task_id)
        gate._open.clear()


async def test_two_retries_that_are_due_at_the_same_moment_start_together(queue: TaskQueue) -> None:
    """One idle thread was woken twice, and the second task waited until it had finished the first."""
    both = threading.Barrier(2)

    def work(name: str) -> str:
        if current_task().attempt == 1:
            raise ValueError(name)
        both.wait(LIMIT_S)
        return name

    ids = [await queue.submit(work, name, retry=SOON) for name in "ab"]
    assert [await queue.get_task_result(task_id, timeout=LIMIT_S) for task_id in ids] == ["a", "b"]


async def test_an_executor_whose_own_limit_keeps_tasks_waiting_is_told_with_what_holds_it(registry: Registry) -> None:
    gate = Gate()
    registry.add("hog", gate)

    async def quick() -> None:
        pass

    async with TaskQueue(max_workers=2, registry=registry, executor_limits={ExecutorKind.THREAD: 1}) as queue:
        await queue.submit("hog", name="hog")
        await gate.entered_async()
        await queue.get_task_result(await queue.submit(quick))
        assert queue.get_queue_status()["full_executors"] == {}  # nobody waits for it
        waits = await queue.submit("hog")
        full = queue.get_queue_status()["full_executors"]["thread"]
        assert (full["limit"], full["waiting"], full["held_by"]) == (1, 1, ["hog"])
        assert full["oldest_wait_s"] >= 0
        gate.open()
        await queue.get_task_result(waits)
        assert queue.get_queue_status()["full_executors"] == {}


async def test_an_executor_may_be_limited_below_the_workers(registry: Registry) -> None:
    async with TaskQueue(max_workers=3, registry=registry, executor_limits={ExecutorKind.THREAD: 1}) as queue:
        gate = Gate()
        ids = await queue.submit_many(gate, [(), ()])
        await gate.entered_async()
        assert await queue.get_task_result(await queue.submit("add_later", 1), timeout=LIMIT_S) == 1
        assert gate.calls == 1
        gate.open()
        for task_id in ids:
            await queue.get_task_result(task_id)


# --- retries ----------------------------------------------------------------------------------------------------------


async def test_a_task_that_fails_twice_and_then_works_is_a_success_with_its_history(tmp_path: Path) -> None:
    calls = []

    def flaky() -> str:
        calls.append(current_task().attempt)
        if len(calls) < 3:
            raise ConnectionError("not yet")
        return "at last"

    with StatusManager(tmp_path / "status.json") as status:
        queue = TaskQueue()
        queue.bind(status.store)
        async with queue:
            task_id = await queue.submit(flaky, retry=SOON)
            assert await queue.get_task_result(task_id, timeout=LIMIT_S) == "at last"
        task = status.get_task(task_id)
        history = status.get_attempts(task_id)
    assert calls == [1, 2, 3]
    assert (task.status, task.attempt, task.failures, task.error) == (TaskStatus.SUCCESS, 3, 2, None)
    assert [(one["attempt"], one["outcome"], one["wait_s"]) for one in history] == [
        (1, "error", 0.01),
        (2, "error", 0.02),
    ]
    assert "ConnectionError: not yet" in history[0]["error"]


async def test_max_retries_counts_attempts_after_the_first(queue: TaskQueue) -> None:
    calls = []

    def always() -> None:
        calls.append(current_task().attempt)
        raise ValueError("no")

    task_id = await queue.submit(always, retry=SOON, max_retries=2)
    with pytest.raises(TaskFailedError):
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert calls == [1, 2, 3]
    assert row_of(store_of(queue), task_id).failures == 3


async def test_a_waiting_retry_holds_no_slot(registry: Registry) -> None:
    retry = RetryPolicy(delay_s=3600.0, max_delay_s=3600.0, jitter=0.0)
    async with TaskQueue(max_workers=1, registry=registry) as queue:
        failed = await queue.submit(fail, retry=retry)
        await asyncio.to_thread(eventually, lambda: queue.get_queue_status()["retrying_tasks"] == 1)
        assert await queue.get_task_result(await queue.submit("add", 1, 2), timeout=LIMIT_S) == 3
        status = queue.get_queue_status()
        assert (status["retrying_tasks"], status["running_tasks"], status["free_slots"]) == (1, 0, 1)
        task = row_of(store_of(queue), failed)
        assert task.due_at is not None
        assert task.finished_at is None
        assert queue.cancel_task(failed)


async def test_retry_on_names_what_is_worth_another_try(queue: TaskQueue) -> None:
    retry = RetryPolicy(delay_s=0.01, retry_on=("ConnectionError",))
    task_id = await queue.submit("fail", retry=retry)
    with pytest.raises(TaskFailedError):
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert row_of(store_of(queue), task_id).attempt == 1


@pytest.mark.parametrize("executor", [None, "process"], ids=["here", "in a process"])
@pytest.mark.parametrize("function", [process_workloads.hopeless, process_workloads.hopeless_later])
async def test_a_function_may_say_that_no_other_attempt_would_help(
    queue: TaskQueue, function: Callable[[], object], executor: str | None
) -> None:
    task_id = await queue.submit(function, executor=executor, retry=SOON)
    with pytest.raises(TaskFailedError, match=r"failed \(error\): .*GoneError: the feed is gone") as caught:
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert caught.value.cause == "error"
    assert row_of(store_of(queue), task_id).attempt == 1


async def test_a_function_that_returns_a_coroutine_is_told_to_be_async(queue: TaskQueue) -> None:
    task_id = await queue.submit(lambda: add_later(1), max_retries=0)
    with pytest.raises(TaskFailedError, match="write it as 'async def'"):
        await queue.get_task_result(task_id, timeout=LIMIT_S)


async def test_in_a_process_it_is_told_so_as_well_and_a_coroutine_function_runs(queue: TaskQueue) -> None:
    task_id = await queue.submit(process_workloads.adds_later, 1, 2, executor="process", max_retries=0)
    with pytest.raises(TaskFailedError, match="write it as 'async def'"):
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    task_id = await queue.submit(process_workloads.add_later, 1, 2, executor="process")
    assert await queue.get_task_result(task_id, timeout=LIMIT_S) == 1 + 2 + 1


# --- context variables ------------------------------------------------------------------------------------------------

WHOSE: ContextVar[str] = ContextVar("whose", default="nobody's")


async def whose_later() -> str:
    return WHOSE.get()


@pytest.mark.parametrize("function", [WHOSE.get, whose_later], ids=["thread", "coroutine"])
async def test_context_variables_of_who_submits_starts_or_cancels_reach_no_function(
    tmp_path: Path, registry: Registry, function: Callable[[], Any]
) -> None:
    registry.register("whose")(function)
    WHOSE.set("whoever cancels")
    async with TaskQueue(1, store=tmp_path / "atlas.db", registry=registry) as queue:
        never = asyncio.Event()
        held = await queue.submit(never.wait)
        behind = await queue.submit("whose")
        assert queue.cancel_task(held)
        assert await queue.get_task_result(behind, timeout=LIMIT_S) == "nobody's"
        assert await queue.get_task_result(await queue.submit("whose"), timeout=LIMIT_S) == "nobody's"
    async with AtlasClient(tmp_path / "atlas.db") as client:
        left = await client.submit("whose")
    async with TaskQueue(1, store=tmp_path / "atlas.db", registry=registry) as queue:
        assert await queue.get_task_result(left, timeout=LIMIT_S) == "nobody's"


# --- many, and bounds -------------------------------------------------------------------------------------------------


async def test_submit_many_is_one_commit_and_keeps_the_order(queue: TaskQueue) -> None:
    gate, store = Gate(), store_of(queue)
    await queue.submit_many(gate, [()] * queue.max_workers)
    await gate.entered_async(queue.max_workers)
    await store.write_async(nothing)
    before = store.writer.commits
    ids = await queue.submit_many("add", [(number, 1) for number in range(500)])
    assert store.writer.commits == before + 1
    assert ids == sorted(ids)
    gate.open()
    assert [await queue.get_task_result(task_id, timeout=LIMIT_S) for task_id in ids] == list(range(1, 501))


async def test_submit_many_of_nothing_is_nothing_and_takes_no_id(queue: TaskQueue) -> None:
    assert await queue.submit_many("add", []) == []
    with pytest.raises(TypeError, match="takes no task_id"):
        await queue.submit_many("add", [(1,)], task_id="a")


@pytest.mark.parametrize("entry", ["ab", b"ab", 5, {"left": 1}, {1, 2}], ids=repr)
async def test_each_of_many_is_a_row_of_arguments_and_no_single_value(queue: TaskQueue, entry: Any) -> None:
    with pytest.raises(ArgumentsError) as refused:  # a text would be one argument a letter, a dict its keys
        await queue.submit_many("echo", [[1], entry])
    assert str(refused.value) == (
        f"submit_many(): entry 1, {entry!r}, is not a list of positional arguments; write [{entry!r}]"
    )
    assert store_of(queue).totals.metrics().total_tasks == 0


async def test_submit_many_is_all_or_none(queue: TaskQueue) -> None:
    with pytest.raises(ArgumentsError):
        await queue.submit_many("echo", [(1,), ((),), (3,)])
    assert store_of(queue).totals.metrics().total_tasks == 0


async def test_a_full_queue_says_so_and_takes_again_when_there_is_room(registry: Registry) -> None:
    async with TaskQueue(max_workers=1, registry=registry, max_waiting=3) as queue:
        gate = Gate()
        running = await queue.submit(gate)
        await gate.entered_async()
        ids = await queue.submit_many("add", [(1,), (2,)])
        with pytest.raises(QueueFullError, match=r"3 tasks wait already.*nothing was accepted") as caught:
            await queue.submit_many("add", [(3,), (4,)])
        assert caught.value.limit == 3
        assert queue.get_queue_status()["queue_size"] == 2
        ids.append(await queue.submit("add", 3))
        with pytest.raises(QueueFullError):
            await queue.submit("add", 4)
        assert queue.cancel_task(ids.pop())
        ids.append(await queue.submit("add", 3))
        gate.open()
        for task_id in (running, *ids):
            await queue.get_task_result(task_id, timeout=LIMIT_S)
        await asyncio.to_thread(settled, queue)


@pytest.mark.parametrize("workers", [0, -1, 1.5, "4", None, True], ids=repr)
def test_a_queue_needs_a_whole_number_of_workers(workers: Any) -> None:
    with pytest.raises(ArgumentsError, match=f"max_workers {workers!r} is not a whole number of at least 1"):
        TaskQueue(max_workers=workers)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"executor_limits": {"thread": 0}}, r"executor_limits\['thread'\] 0 is not a whole number of at least 1"),
        ({"executor_limits": {"process": "2"}}, r"executor_limits\['process'\] '2' is not a whole number"),
        ({"executor_limits": {"thred": 1}}, "executor 'thred' is not one of thread, process, async"),
        ({"max_waiting": 0}, "max_waiting 0 is not a whole number of at least 1"),
        ({"max_waiting": None}, "max_waiting None is not a whole number"),
        ({"stop_grace_s": math.nan}, "stop_grace_s nan is not a number of seconds"),
        ({"stop_grace_s": None}, "stop_grace_s None is not a number of seconds"),
    ],
    ids=repr,
)
def test_limits_without_meaning_are_refused_when_the_queue_is_made(limits: Any, told: str) -> None:
    with pytest.raises(ArgumentsError, match=told):
        TaskQueue(1, **limits)


async def test_a_drain_without_limit_ends_with_the_last_task_and_one_without_meaning_stops_nothing(
    registry: Registry,
) -> None:
    queue = TaskQueue(1, registry=registry, stop_grace_s=math.inf)
    await queue.start()
    for nonsense in ("5", None, math.nan):
        with pytest.raises(ArgumentsError, match=r"timeout .* is not a number of seconds"):
            await queue.stop(timeout=nonsense)  # type: ignore[arg-type]
    assert await queue.get_task_result(await queue.submit("add", 1), timeout=LIMIT_S) is not None
    await queue.stop(timeout=math.inf)
    assert queue.get_queue_status()["state"] == "stopped"


# --- start, stop, stores ----------------------------------------------------------------------------------------------


async def test_a_queue_that_is_not_started_takes_nothing_and_says_how_to() -> None:
    queue = TaskQueue()
    with pytest.raises(QueueStoppedError, match=r"await queue\.start"):
        await queue.submit(add, 1)
    with pytest.raises(QueueStoppedError):
        await queue.get_task_result("a")
    with pytest.raises(QueueStoppedError):
        queue.cancel_task("a")
    assert queue.get_queue_status()["state"] == "stopped"
    await queue.stop()


async def test_starting_and_stopping_twice_does_nothing() -> None:
    before = set(threading.enumerate())
    queue = TaskQueue()
    await asyncio.gather(queue.start(), queue.start())
    await queue.start()
    assert await queue.get_task_result(await queue.submit(add, 1)) == 1
    await asyncio.gather(queue.stop(), queue.stop())
    await queue.stop()
    await queue.start()
    assert await queue.get_task_result(await queue.submit(add, 2)) == 2
    await queue.stop()
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert not [name for name in left if name.startswith("atlas-")]


async def test_a_start_that_fails_leaves_the_store_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path / "atlas.db")
    queue = TaskQueue(store=store)

    def broken(*_args: Any, **_how: Any) -> None:
        raise StoreUnavailableError("not now", waited_s=0.0)

    with monkeypatch.context() as patch:
        patch.setattr(Serving, "_recover", broken)
        with pytest.raises(StoreUnavailableError):
            await queue.start()
    await queue.start()
    assert await queue.get_task_result(await queue.submit(add, 1)) == 1
    await queue.stop()
    store.close()


async def test_a_queue_without_a_store_is_bound_once() -> None:
    first, second = Store(None), Store(None)
    queue = TaskQueue()
    queue.bind(first)
    queue.bind(first)
    with pytest.raises(StoreMismatchError, match="give both the same one"):
        queue.bind(second)
    async with queue:
        assert queue.store is first
    first.close()
    second.close()


async def test_a_store_that_was_given_stays_open_and_serves_the_next_queue(tmp_path: Path, registry: Registry) -> None:
    """What waited when the first queue stopped once waited for ever: its rows carried the name of this process."""
    store = open_store(tmp_path / "atlas.db")
    gate = Gate()
    async with TaskQueue(max_workers=1, store=store, registry=registry) as queue:
        running = await queue.submit(gate)
        await gate.entered_async()
        waiting = await queue.submit_many("add", [(1, 1), (2, 2)])
        stopping = asyncio.create_task(queue.stop())
        await asyncio.to_thread(eventually, lambda: queue._role is None)
        gate.open()
        await stopping
    assert row_of(store, running).status is TaskStatus.SUCCESS
    assert {row_of(store, task_id).status for task_id in waiting} == {TaskStatus.PENDING}
    async with TaskQueue(max_workers=1, store=store, registry=registry) as queue:
        assert [await queue.get_task_result(task_id, timeout=LIMIT_S) for task_id in waiting] == [2, 4]
        await asyncio.to_thread(settled, queue)
    assert store.writer.on_accepted is None, "nothing of the old queue hangs on the store"
    store.close()


async def test_totals_are_not_loaded_beside_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit of another thread between its rows and its counters would be counted twice."""
    store = open_store(tmp_path / "atlas.db")
    load = store.totals.load
    threads: set[str] = set()

    def note(connection: Any) -> None:
        threads.add(threading.current_thread().name)
        load(connection)

    monkeypatch.setattr(store.totals, "load", note)
    async with TaskQueue(store=store) as queue:
        await queue.get_task_result(await queue.submit(add, 1))
    assert threads <= {"atlas-writer"}
    store.close()


# --- from everywhere --------------------------------------------------------------------------------------------------


def test_code_without_a_loop_uses_the_sync_face(plain: TaskQueue) -> None:
    sync = plain.sync
    assert sync.get_task_result(sync.submit("add", 1, kwargs={"right": 2})) == 3
    assert sync.get_task_result(sync.submit(add_later, 2, 2), timeout=LIMIT_S) == 4
    assert [sync.get_task_result(task_id) for task_id in sync.submit_many("add", [(1,), (2,)])] == [1, 2]
    with pytest.raises(TaskFailedError):
        sync.get_task_result(sync.submit("fail", max_retries=0))
    with pytest.raises(UnknownTaskError):
        sync.get_task_result("nobody")
    gate = Gate()
    task_id = sync.submit(gate)
    with pytest.raises(ResultNotReadyError):
        sync.get_task_result(task_id, timeout=0.01)
    assert plain.serving.live_tasks.by_id[task_id].tickets == []
    assert sync.get_queue_status()["state"] == "running"
    gate.open()
    assert sync.get_task_result(task_id) == "through"
    assert sync.cancel_task(task_id) is False


async def test_the_sync_face_refuses_to_block_a_running_loop(queue: TaskQueue) -> None:
    sync = queue.sync
    calls: list[Callable[[], Any]] = [
        sync.start,
        sync.stop,
        partial(sync.submit, add, 1),
        partial(sync.submit_many, add, [(1,)]),
        partial(sync.get_task_result, "a"),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"await the method of the same name without '\.sync'"):
            call()


async def test_other_threads_and_other_loops_may_use_a_queue_that_a_loop_started(queue: TaskQueue) -> None:
    def from_a_thread() -> int:
        return int(queue.sync.get_task_result(queue.sync.submit(add, 1, 1)))

    def from_another_loop() -> int:
        async def use() -> int:
            return int(await queue.get_task_result(await queue.submit(add_later, 2, 2), timeout=LIMIT_S))

        return asyncio.run(use())

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.to_thread(call)) for call in (from_a_thread, from_another_loop) * 5]
    assert [task.result() for task in tasks] == [2, 4] * 5


async def test_a_task_may_submit_and_await_tasks(queue: TaskQueue) -> None:
    async def parent() -> int:
        ids = await queue.submit_many("add", [(number, 1) for number in range(10)])
        return sum([await queue.get_task_result(task_id) for task_id in ids])

    def grandparent() -> int:
        return int(queue.sync.get_task_result(queue.sync.submit(parent)))

    assert await queue.get_task_result(await queue.submit(grandparent), timeout=LIMIT_S) == 55


async def test_a_submit_whose_caller_gave_up_is_still_a_task(queue: TaskQueue) -> None:
    submitting = asyncio.create_task(queue.submit("add", 1, task_id="mine"))
    await asyncio.sleep(0)
    submitting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await submitting
    store_of(queue).write(nothing)
    assert await queue.get_task_result("mine", timeout=LIMIT_S) == 1


# --- when the store does not answer -----------------------------------------------------------------------------------


@pytest.fixture
def broken_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(writer, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(writer, "RETRY_MAX_S", 0.02)
    monkeypatch.setattr(engine_module, "BUSY_S", 0.02)
    store = open_store(tmp_path / "atlas.db")
    yield store
    store.close()


@pytest.mark.parametrize("waits", [True, False], ids=["the caller waits", "the caller gave up"])
async def test_a_submit_that_is_withdrawn_leaves_nothing_in_memory(
    broken_store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    monkeypatch.setattr("atlas.scheduler.serving.ACCEPT_S", 0.1)
    outage = Outage(broken_store, monkeypatch)
    async with TaskQueue(store=broken_store, registry=registry) as queue:
        outage.lasts = True
        submits = [
            asyncio.create_task(queue.submit("add", 1)),
            asyncio.create_task(queue.submit("add", 1, task_id="mine")),
            asyncio.create_task(queue.submit_many("add", [(1,), (2,)])),
        ]
        await asyncio.sleep(0)
        assert queue.get_queue_status()["queue_size"] == 4
        watcher = asyncio.create_task(queue.get_task_result("mine"))
        if not waits:
            for submit in submits:
                submit.cancel()
        results = await asyncio.gather(*submits, return_exceptions=True)
        expected = StoreUnavailableError if waits else asyncio.CancelledError
        assert [type(result) for result in results] == [expected] * 3
        await asyncio.to_thread(eventually, lambda: queue.get_queue_status()["queue_size"] == 0)
        with pytest.raises(UnknownTaskError):
            await asyncio.wait_for(watcher, LIMIT_S)
        outage.lasts = False
        await asyncio.to_thread(settled, queue)
        assert await queue.get_task_result(await queue.submit("add", 1, task_id="mine"), timeout=LIMIT_S) == 1


async def test_a_commit_whose_reply_is_lost_makes_no_duplicate_of_an_own_id(
    broken_store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = broken_store.engine.dialect.do_commit
    lost: list[bool] = []

    def do_commit(connection: Any) -> None:
        commit(connection)
        if lost:
            lost.pop()
            raise OperationalError("COMMIT", {}, ConnectionResetError("the reply was lost"))

    monkeypatch.setattr(broken_store.engine.dialect, "do_commit", do_commit)
    async with TaskQueue(store=broken_store, registry=registry) as queue:
        await broken_store.write_async(nothing)
        lost.append(True)
        assert await queue.submit("add", 1, task_id="mine") == "mine"
        assert not lost
        assert await queue.get_task_result("mine", timeout=LIMIT_S) == 1
        await asyncio.to_thread(settled, queue)


async def test_a_lost_reply_to_the_recovery_loses_no_task(
    broken_store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = TaskQueue(store=broken_store, registry=registry, max_workers=1)
    gate = Gate()
    async with queue:
        await queue.submit(gate)
        await gate.entered_async()
        waiting = await queue.submit("add", 1)
        stop = asyncio.create_task(queue.stop())
        await asyncio.to_thread(eventually, lambda: queue._role is None)
        gate.open()
        await stop
    from atlas.scheduler.store import recovery

    commit, recover = broken_store.engine.dialect.do_commit, recovery.recover
    lost: list[bool] = []

    def recover_and_lose(*args: Any) -> Any:
        if not lost:
            lost.extend([True, False])
        return recover(*args)

    def do_commit(connection: Any) -> None:
        commit(connection)
        if lost and lost[0]:
            lost[0] = False
            raise OperationalError("COMMIT", {}, ConnectionResetError("the reply was lost"))

    monkeypatch.setattr(recovery, "recover", recover_and_lose)
    monkeypatch.setattr(broken_store.engine.dialect, "do_commit", do_commit)
    async with queue:
        assert await queue.get_task_result(waiting, timeout=LIMIT_S) == 1


async def test_nothing_starts_while_what_has_ended_cannot_be_written(
    broken_store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    outage = Outage(broken_store, monkeypatch)
    async with TaskQueue(store=broken_store, registry=registry, max_workers=2) as queue:
        blockers = await queue.submit_many(gate, [(), ()])
        await gate.entered_async(2)
        calls = []
        registry.add("count", lambda: calls.append(1))
        registry.add("count_later", count_later(calls))
        ids = await queue.submit_many("count", [()] * 300)
        ids += await queue.submit_many("count_later", [()] * 300)
        outage.lasts = True
        gate.open()
        await asyncio.to_thread(eventually, lambda: not broken_store.writer.may_start())
        await asyncio.to_thread(eventually, lambda: queue.get_queue_status()["running_tasks"] == 0)
        assert len(calls) <= MAX_BEHIND + 2
        await asyncio.to_thread(eventually, lambda: queue.get_queue_status()["store_fault"] == "disk I/O error")
        outage.lasts = False
        for task_id in (*blockers, *ids):
            await queue.get_task_result(task_id, timeout=LIMIT_S)
        assert len(calls) == 600
        await asyncio.to_thread(settled, queue)


def count_later(calls: list[int]) -> Callable[[], Any]:
    async def count() -> None:
        calls.append(1)

    return count


# --- the running function ---------------------------------------------------------------------------------------------


async def test_a_function_knows_its_task(queue: TaskQueue) -> None:
    def about() -> list[Any]:
        task = current_task()
        task.check()
        return [task.task_id, task.attempt, task.deadline is not None, task.job_id, task.fire_time]

    async def about_later() -> list[Any]:
        return await asyncio.to_thread(about)

    for function in (about, about_later):
        task_id = await queue.submit(function, timeout=60)
        assert await queue.get_task_result(task_id) == [task_id, 1, True, None, None]
    without = await queue.submit(lambda: current_task().deadline, timeout=None)
    assert await queue.get_task_result(without) is None


async def test_nobody_is_a_task_outside_of_one() -> None:
    with pytest.raises(LookupError, match="only inside a function that Atlas runs"):
        current_task()


async def test_tasks_at_the_same_time_each_see_their_own(queue: TaskQueue) -> None:
    async def mine() -> str:
        before = current_task().task_id
        await asyncio.sleep(0.001)
        assert current_task().task_id == before
        return before

    ids = await queue.submit_many(mine, [()] * 20)
    assert [await queue.get_task_result(task_id) for task_id in ids] == ids


async def test_progress_is_shown_while_it_runs(queue: TaskQueue) -> None:
    gate = Gate()

    def work() -> None:
        current_task().progress(3, 10)
        gate()

    task_id = await queue.submit(work, name="采集")
    await gate.entered_async()
    (running,) = queue.get_queue_status()["running"]
    assert (running["task_id"], running["name"], running["done"], running["total"]) == (task_id, "采集", 3.0, 10.0)
    json.dumps(queue.get_queue_status())
    gate.open()
    await queue.get_task_result(task_id)


async def test_progress_that_is_not_finite_is_not_shown(queue: TaskQueue) -> None:
    """JSON has no such number: while it was shown the queue could not be asked for by the API."""
    gate = Gate()

    def work() -> None:
        for done, total in ((3, math.inf), (math.nan, 4), (-math.inf, None), (10**400, 5), (3, math.nan)):
            current_task().progress(done, total)
        gate()

    task_id = await queue.submit(work)
    await gate.entered_async()
    (running,) = queue.get_queue_status()["running"]
    assert (running["done"], running["total"]) == (3.0, None)
    json.dumps(queue.get_queue_status(), allow_nan=False)
    gate.open()
    await queue.get_task_result(task_id)


async def test_progress_that_is_no_number_is_the_functions_own_error(queue: TaskQueue) -> None:
    """It would go into the lease, and a lease that cannot be written looks like a dead scheduler."""
    task_id = await queue.submit(lambda: current_task().progress("half"), max_retries=0)  # type: ignore[arg-type]
    with pytest.raises(TaskFailedError, match="could not convert string to float"):
        await queue.get_task_result(task_id)


# --- what is seen from outside ----------------------------------------------------------------------------------------


async def test_the_status_counts_what_waits_and_what_runs(queue: TaskQueue) -> None:
    gate = Gate()
    ids = await queue.submit_many(gate, [()] * 5)
    await gate.entered_async(3)
    status = queue.get_queue_status()
    assert (status["queue_size"], status["running_tasks"], status["free_slots"]) == (2, 3, 0)
    assert status["oldest_wait_s"]["NORMAL"] >= 0
    assert status["max_workers"] == 3
    gate.open()
    for task_id in ids:
        await queue.get_task_result(task_id)


async def test_every_move_is_told_in_order_once_it_is_on_disk(queue: TaskQueue) -> None:
    store, told = store_of(queue), []

    def note(event: Event) -> None:
        if isinstance(event, TaskEvent):
            told.append((event.status.value, event.attempt, event.duration_s is not None, event.wait_s))

    store.events.subscribe(note)
    calls = []

    def flaky() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("first")

    await queue.get_task_result(await queue.submit(flaky, retry=SOON), timeout=LIMIT_S)
    store.write(nothing)
    assert await asyncio.to_thread(store.events.drain, LIMIT_S)
    assert told == [
        ("PENDING", 0, False, None),
        ("RUNNING", 1, False, None),
        ("RETRYING", 1, True, 0.01),
        ("RUNNING", 2, False, None),
        ("SUCCESS", 2, True, None),
    ]


async def test_what_is_cancelled_while_it_waits_for_a_retry_did_not_run_all_that_time(
    tmp_path: Path, registry: Registry
) -> None:
    retry = RetryPolicy(delay_s=3600.0, max_delay_s=3600.0)
    async with TaskQueue(store=tmp_path / "atlas.db", registry=registry) as queue:
        told: list[TaskEvent] = []
        store_of(queue).events.subscribe(lambda event: told.append(event) if isinstance(event, TaskEvent) else None)
        task_id = await queue.submit("fail", retry=retry)
        await asyncio.to_thread(eventually, lambda: queue.get_queue_status()["retrying_tasks"] == 1)
        assert queue.cancel_task(task_id)
        assert await asyncio.to_thread(store_of(queue).events.drain, LIMIT_S)
        assert (told[-1].status, told[-1].duration_s) == (TaskStatus.CANCELLED, None)
        assert store_of(queue).totals.metrics().average_duration_s is None


async def test_the_result_of_what_another_process_wrote_a_moment_ago_is_waited_for(
    tmp_path: Path, registry: Registry
) -> None:
    async with TaskQueue(store=tmp_path / "atlas.db", registry=registry) as queue:
        store_of(queue).off_foreign(queue.serving._look_for_requests)  # it has not been noticed yet
        async with AtlasClient(tmp_path / "atlas.db") as client:
            first, second = await client.submit("add", 1, 2), await client.submit("add_later", 2, 2)
            assert await queue.get_task_result(first, timeout=LIMIT_S) == 3
            assert await queue.get_task_result(second, timeout=LIMIT_S) == 4
            third = await client.submit("add", 3, 2)
            assert await asyncio.to_thread(queue.sync.get_task_result, third, timeout=LIMIT_S) == 5


async def test_an_unfinished_task_that_somebody_else_moves_is_not_ready(tmp_path: Path) -> None:
    with StatusManager(tmp_path / "status.json") as status:
        status.create_task("by_hand", "moved by hand")
        queue = TaskQueue(store=status.store)
        async with queue:
            with pytest.raises(ResultNotReadyError, match="is PENDING, and this queue does not serve it"):
                await queue.get_task_result("by_hand")
            assert queue.cancel_task("by_hand") is False
            status.start_task("by_hand")
            status.complete_task("by_hand", {"items": 50})
            assert await queue.get_task_result("by_hand") == {"items": 50}


# --- dropped ----------------------------------------------------------------------------------------------------------


def drop(queues: list[TaskQueue]) -> None:
    queues.clear()
    gc.collect()


@pytest.mark.parametrize("on_disk", [False, True], ids=["in memory", "on disk"])
def test_a_queue_that_is_dropped_says_so_drains_and_gives_its_store_up(
    tmp_path: Path, registry: Registry, on_disk: bool
) -> None:
    path, gate, ended = tmp_path / "atlas.db", Gate(), threading.Event()
    queues = [TaskQueue(store=path if on_disk else None, registry=registry)]
    queues[0].sync.start()
    store = store_of(queues[0])
    store.events.subscribe(
        lambda event: ended.set() if isinstance(event, TaskEvent) and event.status.is_final else None
    )
    task_id = queues[0].sync.submit(gate)
    gate.wait_entered()
    with pytest.warns(ResourceWarning, match="was dropped before it was stopped"):
        drop(queues)
    assert not ended.is_set(), "what runs may end"
    gate.open()
    eventually(lambda: store.is_closed)
    assert ended.wait(LIMIT_S)  # a store that closes is closed to newcomers first, and then tells what it has to tell
    if on_disk:
        with TaskQueue(store=path, registry=registry).sync as again:
            assert again.get_task_result(task_id) == "through"


def test_a_queue_that_is_dropped_with_its_cron_manager_stops_the_clock_as_well(tmp_path: Path) -> None:
    queues = [TaskQueue(store=tmp_path / "atlas.db", log_level=None)]
    queues[0].sync.start()
    store = store_of(queues[0])
    CronManager(queues[0]).sync.start()
    gc.collect()
    scheduler = queues[0].serving.extra_figures()
    assert scheduler["last_tick_s"] is not None, "it lives as long as its queue"
    with pytest.warns(ResourceWarning, match="was dropped before it was stopped"):
        drop(queues)
    eventually(lambda: store.is_closed)
    assert [thread.name for thread in threading.enumerate() if thread.name == "APScheduler"] == []
    with TaskQueue(store=tmp_path / "atlas.db").sync:
        pass


def test_a_queue_that_is_dropped_ends_although_a_part_does_not_step_down(tmp_path: Path) -> None:
    class Stuck:
        def lead(self) -> None: ...

        def step_down(self) -> None:
            raise RuntimeError("stuck")

    queues = [TaskQueue(store=tmp_path / "atlas.db")]
    queues[0].on_role(Stuck())
    queues[0].sync.start()
    store = store_of(queues[0])
    with pytest.warns(ResourceWarning, match="was dropped before it was stopped"):
        drop(queues)
    eventually(lambda: store.is_closed)


def test_a_queue_that_is_dropped_while_it_stands_by_stands_by_no_more(tmp_path: Path, registry: Registry) -> None:
    with contextlib.closing(Store(tmp_path / "atlas.db")) as other, TaskQueue(store=other, registry=registry).sync:
        queues = [TaskQueue(store=tmp_path / "atlas.db", registry=registry, standby=True)]
        queues[0].sync.start()
        store = store_of(queues[0])
        assert queues[0].stands_by
        store.write(nothing)  # the writer is done with the claim that was refused, and lets go of who made it
        with pytest.warns(ResourceWarning, match="was dropped before it was stopped"):
            drop(queues)
        eventually(lambda: store.is_closed)
        assert other.read(standbys) == []


def test_a_queue_that_was_refused_or_stopped_is_dropped_in_silence(recwarn: pytest.WarningsRecorder) -> None:
    with contextlib.suppress(ArgumentsError):
        TaskQueue(0)
    TaskQueue()
    with TaskQueue().sync:
        pass
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


# --- processes --------------------------------------------------------------------------------------------------------


async def test_a_function_may_run_in_a_process(queue: TaskQueue) -> None:
    task_id = await queue.submit(process_workloads.add, 1, 2, executor="process")
    assert await queue.get_task_result(task_id, timeout=LIMIT_S) == 3
    assert row_of(store_of(queue), task_id).policy.executor is ExecutorKind.PROCESS
    about = await queue.submit(process_workloads.about_me, executor="process", timeout=60)
    told = await queue.get_task_result(about, timeout=LIMIT_S)
    assert told[:3] == [about, 1, None]
    assert told[3] is not None, "its deadline"


@pytest.mark.parametrize(
    ("function", "args"),
    [(lambda: 1, ()), (process_workloads.add, (object(),))],
    ids=["closure", "object"],
)
async def test_what_cannot_reach_a_process_is_refused_at_once(queue: TaskQueue, function: Any, args: Any) -> None:
    with pytest.raises(FunctionRefusedError, match="cannot run in a process"):
        await queue.submit(function, *args, executor="process")


async def test_without_pebble_a_process_is_refused_at_once(queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas.scheduler.tasks.submission._has_pebble", lambda: False)
    with pytest.raises(FunctionRefusedError, match=r"needs Pebble, .* pip install 'atlas-scheduler\[process\]'"):
        await queue.submit("add", 1, executor="process")
    assert store_of(queue).totals.metrics().total_tasks == 0


async def test_a_worker_that_dies_is_a_crash_and_not_a_failure(plain: TaskQueue) -> None:
    plain.registry.add("die", process_workloads.die)
    task_id = await plain.submit("die", "9", executor="process", max_retries=0)
    with pytest.raises(TaskFailedError, match=r"failed \(quarantined\).*exit code 9"):
        await plain.get_task_result(task_id, timeout=LIMIT_S)
    task = row_of(store_of(plain), task_id)
    assert (task.crashes, task.failures, task.cause) == (3, 0, Cause.QUARANTINED)
    lost = await plain.submit("die", "9", executor="process", on_crash="fail")
    with pytest.raises(TaskFailedError, match=r"failed \(lost\)"):
        await plain.get_task_result(lost, timeout=LIMIT_S)
    assert row_of(store_of(plain), lost).crashes == 1

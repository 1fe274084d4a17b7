"""Submit: returned means committed. A hundred coroutines, a hundred threads, one at a time, and many in one call."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

from scripts.bench.measure import Figures, Goal, Measure, Side, check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AT_ONCE = 100
ONE_BY_ONE = 1000


def atlas(folder: Path, size: int) -> Figures:
    """Atlas as it comes; its slots are held, so that submitting alone is measured."""
    from atlas.scheduler.queue import TaskQueue
    from atlas.scheduler.registry import Registry
    from scripts.bench.workloads import Gates, log_to, rows

    log_to(folder)
    registry = Registry()
    registry.add("nothing", int)
    figures: Figures = {}

    async def coroutines(queue: TaskQueue) -> None:
        async def one() -> None:
            for number in range(size // AT_ONCE):
                await queue.submit("nothing", number)

        await asyncio.gather(*(one() for _ in range(AT_ONCE)))

    async def measured() -> None:
        async with TaskQueue(4, store=folder / "loop.db", registry=registry) as queue:
            gates = Gates(4)
            await asyncio.to_thread(gates.close, queue)
            begun_s = time.perf_counter()
            await coroutines(queue)
            figures["coroutines_per_s"] = size / (time.perf_counter() - begun_s)
            begun_s = time.perf_counter()
            for number in range(ONE_BY_ONE):
                await queue.submit("nothing", number)
            figures["one_per_s"] = ONE_BY_ONE / (time.perf_counter() - begun_s)
            gates.open()

    asyncio.run(measured())
    with TaskQueue(4, store=folder / "threads.db", registry=registry).sync as sync:
        gates = Gates(4)
        gates.close(sync._queue)  # noqa: SLF001 - the gates fill the queue behind the face
        figures["threads_per_s"] = _threads(size, lambda number: sync.submit("nothing", number))
        begun_s = time.perf_counter()
        sync.submit_many("nothing", [(number,) for number in range(size)])
        figures["many_per_s"] = size / (time.perf_counter() - begun_s)
        gates.open()
    kept = "SELECT count(*) FROM tasks WHERE function = 'nothing'"
    check(rows(folder / "loop.db", kept) == [(size + ONE_BY_ONE,)], "every task submitted on the loop is there")
    check(rows(folder / "threads.db", kept) == [(2 * size,)], "every task submitted from threads is there")
    return figures


def _threads(size: int, submit: Callable[[int], object]) -> float:
    def some(_thread: int) -> None:
        ready.wait()
        for number in range(size // AT_ONCE):
            submit(number)

    ready = threading.Barrier(AT_ONCE + 1)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = [pool.submit(some, number) for number in range(AT_ONCE)]
        ready.wait()
        begun_s = time.perf_counter()
        for one in done:
            one.result()
        return size / (time.perf_counter() - begun_s)


class _Group:
    """The floor: one table in one SQLite file, WAL and FULL; whoever waits is in the next commit."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._waiting: list[tuple[int, Callable[[], object]]] = []
        self._changed, self._ends = threading.Condition(), False
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def put(self, number: int, committed: Callable[[], object]) -> None:
        """Have ``number`` written; ``committed`` is called behind its commit."""
        with self._changed:
            self._waiting.append((number, committed))
            self._changed.notify()

    def close(self) -> None:
        """Write the rest and end."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join()

    def _write(self) -> None:
        with closing(sqlite3.connect(self._file, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY, arguments TEXT NOT NULL)")
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._ends)
                    taken, self._waiting = self._waiting, []
                if not taken:
                    return
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    "INSERT INTO tasks (arguments) VALUES (?)", [(f"[{number}]",) for number, _ in taken]
                )
                connection.execute("COMMIT")
                for _, committed in taken:
                    committed()


def floor(folder: Path, size: int) -> Figures:
    """Group commit and nothing else."""
    figures: Figures = {}

    async def coroutines(group: _Group) -> None:
        loop = asyncio.get_running_loop()

        async def one() -> None:
            for number in range(size // AT_ONCE):
                event = asyncio.Event()
                group.put(number, lambda event=event: loop.call_soon_threadsafe(event.set))  # type: ignore[misc]
                await event.wait()

        begun_s = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
        figures["coroutines_per_s"] = size / (time.perf_counter() - begun_s)

    def wait(number: int) -> None:
        event = threading.Event()
        group.put(number, event.set)
        event.wait()

    group = _Group(folder / "floor.db")
    asyncio.run(coroutines(group))
    figures["threads_per_s"] = _threads(size, wait)
    begun_s = time.perf_counter()
    for number in range(ONE_BY_ONE):
        wait(number)
    figures["one_per_s"] = ONE_BY_ONE / (time.perf_counter() - begun_s)
    group.close()
    return figures


def huey(folder: Path, _size: int) -> Figures:
    """One at a time: huey knows no other way."""
    from huey import SqliteHuey

    queue = SqliteHuey(filename=str(folder / "huey.db"), fsync=True, strict_fifo=False)

    @queue.task()  # type: ignore[untyped-decorator]
    def nothing(number: int) -> int:
        return number

    begun_s = time.perf_counter()
    for number in range(ONE_BY_ONE):
        nothing(number)
    per_s = ONE_BY_ONE / (time.perf_counter() - begun_s)
    check(queue.pending_count() == ONE_BY_ONE, "every task is there")
    return {"one_per_s": per_s}


def celery(_folder: Path, _size: int) -> Figures:
    """One at a time, to Redis."""
    from scripts.bench import celery_app

    with celery_app.keys() as keys:
        celery_app.nothing.delay(0)
        begun_s = time.perf_counter()
        for number in range(ONE_BY_ONE):
            celery_app.nothing.delay(number)
        per_s = ONE_BY_ONE / (time.perf_counter() - begun_s)
        check(keys.waiting() == ONE_BY_ONE + 1, "every task is there")
    return {"one_per_s": per_s}


MEASURE = Measure(
    name="submit",
    title="submit: returned means committed",
    sizes=(10_000,),
    sides=(
        Side(
            name="Atlas",
            run=atlas,
            durability="accepted work is on the disk; at most 100 ends may be repeated after a crash",
        ),
        Side(name="group commit", run=floor, durability="one row of one table is on the disk (synchronous=FULL)"),
        Side(
            name="huey",
            run=huey,
            home="peer",
            durability="each step is on the disk (synchronous=FULL); a task that was taken is lost by a crash",
        ),
        Side(
            name="Celery",
            run=celery,
            home="peer",
            asked=True,
            durability="in Redis's memory; written to disk as Redis is set up",
        ),
    ),
    goals=(
        Goal(
            what="submit, 100 coroutines",
            figure="coroutines_per_s",
            to="group commit",
            must=1 / 2,
            reach=3 / 4,
            least=True,
            unit="/s",
        ),
        Goal(
            what="submit, 100 threads",
            figure="threads_per_s",
            to="group commit",
            must=1 / 4,
            reach=1 / 2,
            least=True,
            unit="/s",
        ),
        Goal(what="submit, one at a time", figure="one_per_s", to="Celery", must=1, reach=1.5, least=True, unit="/s"),
        Goal(
            what="`submit_many`",
            figure="many_per_s",
            to="Celery",
            to_figure="one_per_s",
            must=20,
            reach=30,
            least=True,
            unit="/s",
        ),
    ),
)

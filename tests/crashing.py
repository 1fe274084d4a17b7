"""A small scheduler that tests start, kill and start again: ``python -m tests.crashing DATABASE NOTES COMMAND …``.

What its functions did stands in the file NOTES, a word a line, written through at once.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path

from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.store.store import Store

NOTES = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("notes")


def note(word: str) -> str:
    """Write ``word`` down, in one piece, whatever happens next."""
    handle = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{word}\n".encode())
    os.close(handle)
    return word


def hold(word: str) -> None:
    note(word)
    threading.Event().wait()


def kill(word: str) -> None:
    note(word)
    os._exit(9)


def slow(word: str) -> str:
    threading.Event().wait(0.02)
    return note(word)


def fail(word: str) -> None:
    note(word)
    raise ValueError(word)


def registry() -> Registry:
    made = Registry()
    for call in (note, hold, kill, slow, fail):
        made.add(call.__name__, call)
    return made


def say(*words: str) -> None:
    print(*words, flush=True)


async def prepare(queue: TaskQueue) -> None:
    """History, two that run, and many that wait; then say so and stay."""
    for word in ("one", "two"):
        await queue.get_task_result(await queue.submit("note", word, task_id=word))
    await queue.submit("fail", "later", task_id="later", retry=RetryPolicy(delay_s=0.5, jitter=0.0, max_retries=1))
    ids = [
        await queue.submit("hold", "again", task_id="again", max_retries=0),
        await queue.submit("hold", "again too", task_id="again too"),
        await queue.submit("hold", "once", task_id="once", on_crash="fail"),
        await queue.submit(lambda: hold("volatile"), task_id="volatile"),
    ]
    await asyncio.to_thread(wait_running, queue, len(ids))
    await queue.submit_many("note", [(f"waiting {number}",) for number in range(20)])
    await queue.submit(lambda: note("never"), task_id="volatile too")
    store = queue.store
    assert store is not None
    await store.write_async(lambda _connection: None)
    say("ready")
    await asyncio.Event().wait()


def wait_running(queue: TaskQueue, count: int) -> None:
    pause = threading.Condition()
    while True:
        status = queue.get_queue_status()
        if status["running_tasks"] == count and status["retrying_tasks"] == 1:
            return
        with pause:
            pause.wait(0.005)


async def accept(queue: TaskQueue) -> None:
    """Submit for ever, and tell each id once `submit` has returned it."""

    async def submit() -> None:
        while True:
            say(await queue.submit("note", "work"))

    await asyncio.gather(*(submit() for _ in range(10)))


async def work(queue: TaskQueue) -> None:
    """Put much into the store and serve it; tell when it begins."""
    if not queue.get_queue_status()["queue_size"]:
        await queue.submit_many("note", [(f"work {number}",) for number in range(3000)])
    say("ready")
    await finish(queue)


async def kill_among_innocents(queue: TaskQueue) -> None:
    """A task that kills this process at once, among others that only need a moment."""
    store = queue.store
    assert store is not None
    if store.totals.metrics().total_tasks == 0:
        await queue.submit_many("slow", [(f"slow {number}",) for number in range(30)])
        await queue.submit("kill", "kill", task_id="kill", priority="high")
    await finish(queue)


async def finish(queue: TaskQueue) -> None:
    """Serve what there is, and end."""
    await asyncio.to_thread(queue.serving.shutdown.wait_idle, 60.0, waiting_too=True)


COMMANDS = {
    "prepare": prepare,
    "accept": accept,
    "work": work,
    "kill": kill_among_innocents,
    "finish": finish,
}


async def main() -> None:
    store = Store(sys.argv[1])
    async with TaskQueue(max_workers=4, store=store, registry=registry()) as queue:
        await COMMANDS[sys.argv[3]](queue)
    store.close()


if __name__ == "__main__":
    asyncio.run(main())

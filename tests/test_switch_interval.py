"""While pages are made or functions compute, threads take short turns at the interpreter; then what was holds again."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from atlas.scheduler import switch_interval
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.switch_interval import giving_way
from tests.queue_bench import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def usual_s() -> Iterator[float]:
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(0.004)
    yield 0.004
    assert sys.getswitchinterval() == pytest.approx(0.004)
    sys.setswitchinterval(before_s)


def test_pages_let_other_threads_take_their_turn_sooner_and_set_back_what_was(usual_s: float) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with giving_way():
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=other)
    with giving_way():
        thread.start()
        assert inside.wait(10)
        assert sys.getswitchinterval() < usual_s
    assert sys.getswitchinterval() < usual_s
    go_on.set()
    thread.join()


def test_the_shortest_turn_that_is_wanted_holds(usual_s: float) -> None:
    for wanted_s in (0.002, 0.001, 1.0):
        switch_interval.shorten(wanted_s)
    assert sys.getswitchinterval() == pytest.approx(0.001)
    switch_interval.restore(0.001)
    assert sys.getswitchinterval() == pytest.approx(0.002)
    switch_interval.restore(0.002)
    assert sys.getswitchinterval() == pytest.approx(usual_s)
    switch_interval.restore(1.0)


async def test_functions_that_compute_let_others_take_their_turn_and_short_ones_do_not_care(usual_s: float) -> None:
    def compute(cpu_s: float) -> float:
        turn_s, end_s = sys.getswitchinterval(), time.thread_time() + cpu_s
        while time.thread_time() < end_s:
            pass
        return turn_s

    async with TaskQueue(max_workers=1) as queue:
        together = await queue.submit_many(compute, [(0.003,), (0.003,), (0.003,), (0.0,), (0.0,)])
        found = [await queue.get_task_result(task_id) for task_id in together]
        short_s = switch_interval.FUNCTION_S
        assert found == [pytest.approx(one) for one in (usual_s, usual_s, short_s, short_s, usual_s)]
        for task_id in await queue.submit_many(compute, [(0.003,)] * 2):
            await queue.get_task_result(task_id)
        await asyncio.to_thread(eventually, lambda: sys.getswitchinterval() == pytest.approx(usual_s))

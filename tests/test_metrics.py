"""Counters: totals overall and per job, in memory and on disk."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, delete, event, select

from atlas.scheduler.metrics import NO_JOB, Metrics, Moves, Totals
from atlas.scheduler.store.tables import counters, metadata, tasks
from atlas.scheduler.store.task_rows import full_row, insert_tasks, moving_row, update_tasks
from atlas.scheduler.task import MOVES, Task, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PENDING, RUNNING, SUCCESS, FAILED, CANCELLED, TIMEOUT, RETRYING = TaskStatus


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def finished(*ends: tuple[str | None, TaskStatus, float | None]) -> Moves:
    """Tasks that were made, ran and ended."""
    moves = Moves()
    for job, status, duration_s in ends:
        moves.made(job)
        moves.moved(job, PENDING, RUNNING, None)
        moves.moved(job, RUNNING, status, duration_s)
    return moves


def figures(moves: Moves, job: str | None = None) -> Metrics:
    totals = Totals()
    totals.add(moves)
    return totals.metrics(job)


def test_without_tasks_every_figure_is_zero_or_not_there() -> None:
    found = figures(Moves())
    assert found.total_tasks == 0
    assert found.success_rate == 0.0
    assert set(found.by_status) == set(TaskStatus)
    assert (found.average_duration_s, found.min_duration_s, found.max_duration_s) == (None, None, None)


def test_the_success_rate_is_a_percentage_of_what_was_tried_and_leaves_cancels_out() -> None:
    found = figures(finished((None, SUCCESS, 1.0), (None, SUCCESS, 2.0), (None, FAILED, 3.0), (None, TIMEOUT, 6.0)))
    assert found.success_rate == 50.0
    assert found.total_tasks == 4
    cancelled = figures(finished((None, SUCCESS, 1.0), (None, CANCELLED, None), (None, CANCELLED, None)))
    assert cancelled.success_rate == 100.0
    assert cancelled.cancelled_tasks == 2
    assert figures(finished((None, CANCELLED, None))).success_rate == 0.0


def test_durations_count_those_that_ran() -> None:
    found = figures(finished((None, SUCCESS, 1.0), (None, FAILED, 4.0), (None, CANCELLED, None)))
    assert (found.average_duration_s, found.min_duration_s, found.max_duration_s) == (2.5, 1.0, 4.0)


def test_a_duration_of_zero_is_a_duration() -> None:
    found = figures(finished((None, SUCCESS, 0.0), (None, SUCCESS, 1.0)))
    assert (found.average_duration_s, found.min_duration_s) == (0.5, 0.0)


def test_a_job_has_figures_of_its_own_and_all_together_count_in_the_total() -> None:
    moves = finished(("a", SUCCESS, 1.0), ("a", FAILED, 1.0), ("b", SUCCESS, 1.0), (None, FAILED, 1.0))
    moves.made("a")
    assert figures(moves, "a").total_tasks == 3
    assert figures(moves, "a").pending_tasks == 1
    assert figures(moves, "a").success_rate == 50.0
    assert figures(moves, "b").success_rate == 100.0
    assert figures(moves, NO_JOB).failed_tasks == 1
    assert figures(moves, "nobody").total_tasks == 0
    assert figures(moves).total_tasks == 5


def test_asking_for_a_job_that_does_not_exist_leaves_nothing_behind() -> None:
    totals = Totals()
    for number in range(100):
        totals.metrics(f"nobody {number}")
    assert not totals._unfinished
    assert not totals._final


def test_the_named_figures_are_those_of_their_status() -> None:
    moves = finished((None, SUCCESS, 1.0), (None, FAILED, 1.0), (None, TIMEOUT, 1.0), (None, CANCELLED, 1.0))
    moves.made(None)
    moves.made(None)
    moves.moved(None, PENDING, RUNNING, None)
    moves.moved(None, RUNNING, RETRYING, None)
    moves.made(None)
    moves.moved(None, PENDING, RUNNING, None)
    found = figures(moves)
    named = (found.successful_tasks, found.failed_tasks, found.timeout_tasks, found.cancelled_tasks)
    assert named == (1, 1, 1, 1)
    assert (found.pending_tasks, found.running_tasks, found.by_status[RETRYING]) == (2, 1, 1)
    assert found.to_json()["by_status"]["SUCCESS"] == 1


def test_the_cost_does_not_depend_on_the_number_of_jobs() -> None:
    few, many = Totals(), Totals()
    few.add(finished(("job 1", SUCCESS, 1.0)))
    many.add(finished(*((f"job {number}", SUCCESS, 1.0) for number in range(20_000))))

    def cost_s(totals: Totals, job: str | None) -> float:
        def once() -> float:
            start = time.thread_time()
            for _ in range(20):
                totals.metrics(job)
            return time.thread_time() - start

        return min(once() for _ in range(10))

    for job in (None, "job 1"):
        assert cost_s(many, job) < 20 * cost_s(few, job)


# --- on disk ---------------------------------------------------------------------------------------------------------


def test_lifetime_totals_add_up_on_disk_and_are_loaded_again(connection: Connection) -> None:
    first = finished(("a", SUCCESS, 2.0), ("a", SUCCESS, 4.0), (None, FAILED, None))
    second = finished(("a", SUCCESS, 1.0), (None, FAILED, 9.0))
    first.write(connection)
    second.write(connection)
    in_memory, loaded = Totals(), Totals()
    in_memory.add(first)
    in_memory.add(second)
    loaded.load(connection)
    for job in (None, "a", NO_JOB):
        assert loaded.metrics(job) == in_memory.metrics(job)
    assert loaded.metrics("a").min_duration_s == 1.0
    assert loaded.metrics(NO_JOB).max_duration_s == 9.0


def test_totals_stay_when_cleanup_removes_the_rows_they_count(connection: Connection) -> None:
    finished(("a", SUCCESS, 2.0)).write(connection)
    connection.execute(delete(tasks))
    totals = Totals()
    totals.load(connection)
    assert totals.metrics("a").successful_tasks == 1


def test_a_commit_without_final_tasks_writes_no_counters(connection: Connection) -> None:
    moves = Moves()
    moves.made("a")
    moves.moved("a", PENDING, RUNNING, None)
    moves.write(connection)
    assert connection.execute(select(counters)).all() == []


WALK = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(TaskStatus), st.sampled_from([None, 0.5, 2.0])), max_size=40
)


@given(WALK)
def test_memory_and_disk_count_the_same_after_any_walk_of_tasks(
    steps: list[tuple[int, TaskStatus, float | None]],
) -> None:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    made: dict[int, Task] = {}
    ended: dict[str, Counter[TaskStatus]] = defaultdict(Counter)
    totals = Totals()
    with engine.connect() as connection:
        for number, status, duration_s in steps:
            moves = Moves()
            task = made.get(number)
            if task is None or task.status.is_final:
                if task is not None:
                    connection.execute(delete(tasks).where(tasks.c.id == task.id))
                task = made[number] = a_task(number)
                insert_tasks(connection, [full_row(task)])
                moves.made(task.job_id)
            elif status in MOVES[task.status]:
                was = task.status
                task.move(status)
                update_tasks(connection, [moving_row(task)])
                moves.moved(task.job_id, was, status, duration_s)
                if status.is_final:
                    ended[task.job_id or NO_JOB][status] += 1
            moves.write(connection)
            totals.add(moves)
        loaded = Totals()
        loaded.load(connection)
    engine.dispose()
    for job in (None, "even", NO_JOB):
        assert totals.metrics(job) == loaded.metrics(job)
    for job, statuses in ended.items():
        assert {status: totals.metrics(job).by_status[status] for status in statuses} == statuses
    assert all(count >= 0 for count in totals.metrics().by_status.values())
    waiting = [task for task in made.values() if not task.status.is_final]
    assert totals.metrics().total_tasks == len(waiting) + sum(count.total() for count in ended.values())


def a_task(number: int) -> Task:
    facts: dict[str, Any] = {"id": str(number), "name": "t", "function": "f", "created_at": NOW}
    return Task(**facts, job_id="even" if number % 2 == 0 else None)


def test_what_others_wrote_is_taken_over_and_totals_are_not_read_one_by_one_where_none_moved(
    connection: Connection,
) -> None:
    mine, statements = Totals(), list[str]()
    first = finished(("a", SUCCESS, 2.0), ("b", FAILED, None), (None, TIMEOUT, 9.0))
    first.write(connection)
    mine.load(connection)
    event.listen(connection, "before_cursor_execute", lambda *args: statements.append(args[2]))
    task = Task(id="t", name="t", function="f", job_id="a", created_at=NOW)
    insert_tasks(connection, [full_row(task)])
    statements.clear()
    mine.refresh(connection)
    assert not any("counters.min_s" in one for one in statements)
    assert mine.metrics("a").pending_tasks == 1
    assert mine.metrics("a").total_tasks == 2
    for more in (("a", SUCCESS, 0.5), ("b", CANCELLED, None)):
        finished(more).write(connection)
        mine.refresh(connection)
        fresh = Totals()
        fresh.load(connection)
        for job in (None, "a", "b", NO_JOB):
            assert mine.metrics(job) == fresh.metrics(job)
    assert any("counters.min_s" in one for one in statements)

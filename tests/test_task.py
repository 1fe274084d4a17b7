"""A task: its statuses, the moves between them, its priority, its id."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.scheduler.errors import ArgumentsError, TransitionError
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.task import (
    FINAL,
    WAITING,
    ExecutorKind,
    OnCrash,
    Overlap,
    Task,
    TaskIds,
    TaskPolicy,
    TaskPriority,
    TaskStatus,
    advance,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)

LEGAL = {
    "PENDING": {"RUNNING", "CANCELLED", "FAILED"},
    "RUNNING": {"SUCCESS", "FAILED", "TIMEOUT", "CANCELLED", "RETRYING", "PENDING"},
    "RETRYING": {"RUNNING", "CANCELLED", "FAILED"},
    "SUCCESS": set(),
    "FAILED": set(),
    "TIMEOUT": set(),
    "CANCELLED": set(),
}
"""Written out here once more: a change of the program's table must be meant."""


def a_task(**values: Any) -> Task:
    return Task(**{"id": "t", "name": "t", "function": "f", "created_at": NOW, **values})


@pytest.mark.parametrize("new", list(TaskStatus))
@pytest.mark.parametrize("old", list(TaskStatus))
def test_of_49_moves_only_the_legal_ones_are_made(old: TaskStatus, new: TaskStatus) -> None:
    task = a_task(status=old)
    if new.value in LEGAL[old.value]:
        assert advance("t", old, new) is new
        assert task.move(new).status is new
    else:
        with pytest.raises(TransitionError, match=f"task t: cannot go from {old} to {new}") as caught:
            advance("t", old, new)
        assert (caught.value.old, caught.value.new) == (old, new)
        with pytest.raises(TransitionError):
            task.move(new)
        assert task.status is old


def test_there_are_the_seven_documented_statuses() -> None:
    assert {status.value for status in TaskStatus} == set(LEGAL)


@pytest.mark.parametrize("status", list(TaskStatus))
def test_a_status_is_final_when_no_move_leads_on(status: TaskStatus) -> None:
    assert status.is_final is (not LEGAL[status.value])
    assert (status in FINAL) is status.is_final


def test_what_waits_is_pending_or_retrying() -> None:
    assert {status.value for status in WAITING} == {"PENDING", "RETRYING"}


@pytest.mark.parametrize(
    ("given_", "meant"),
    [
        ("URGENT", TaskPriority.URGENT),
        ("high", TaskPriority.HIGH),
        (" Normal ", TaskPriority.NORMAL),
        ("lOW", TaskPriority.LOW),
        (0, TaskPriority.URGENT),
        (3, TaskPriority.LOW),
        (TaskPriority.HIGH, TaskPriority.HIGH),
    ],
)
def test_a_priority_is_a_name_in_any_case_or_a_number(given_: Any, meant: TaskPriority) -> None:
    assert TaskPriority.parse(given_) is meant


@pytest.mark.parametrize("given_", ["", "urgently", "0", 4, -1, 1.5, None, [0]], ids=repr)
def test_anything_else_is_no_priority(given_: Any) -> None:
    with pytest.raises(ArgumentsError, match="is not one of URGENT, HIGH, NORMAL, LOW"):
        TaskPriority.parse(given_)


def test_urgent_is_served_before_high_before_normal_before_low() -> None:
    assert [priority.name for priority in sorted(TaskPriority)] == ["URGENT", "HIGH", "NORMAL", "LOW"]


# --- policies --------------------------------------------------------------------------------------------------------

POLICIES = st.builds(
    TaskPolicy,
    retry=st.builds(
        RetryPolicy,
        max_retries=st.integers(0, 9),
        delay_s=st.floats(0, 1e6),
        jitter=st.floats(0, 1),
        retry_on=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    ),
    timeout_s=st.none() | st.floats(0, 1e9, exclude_min=True),
    on_crash=st.sampled_from(OnCrash),
    executor=st.sampled_from(ExecutorKind),
    overlap=st.sampled_from(Overlap),
    max_instances=st.integers(1, 100),
)


@given(POLICIES)
def test_a_policy_survives_its_row(policy: TaskPolicy) -> None:
    assert TaskPolicy.from_json(policy.to_json()) == policy


def test_what_a_row_leaves_unsaid_means_the_same_for_ever() -> None:
    retry = RetryPolicy(max_retries=3, delay_s=2.0, backoff=2.0, max_delay_s=300.0, jitter=0.25, retry_on=())
    usual = TaskPolicy(
        retry=retry,
        timeout_s=600.0,
        on_crash=OnCrash.RETRY,
        executor=ExecutorKind.THREAD,
        overlap=Overlap.SKIP,
        max_instances=1,
        log_max_bytes=1_000_000,
    )
    assert usual.to_json() == "{}"
    assert TaskPolicy.from_json("{}") == usual
    assert replace(usual, timeout_s=None, overlap=Overlap.ALLOW).to_json() == '{"timeout_s":null,"overlap":"allow"}'


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
def test_a_timeout_is_a_positive_number_or_none(timeout_s: float) -> None:
    assert TaskPolicy(timeout_s=None).timeout_s is None
    with pytest.raises(ArgumentsError, match="timeout"):
        TaskPolicy(timeout_s=timeout_s)


def test_only_overlap_allow_lets_tasks_of_a_job_run_abreast() -> None:
    for overlap in Overlap:
        expected = 3 if overlap is Overlap.ALLOW else 1
        assert TaskPolicy(overlap=overlap, max_instances=3).abreast == expected
    with pytest.raises(ArgumentsError, match="max_instances"):
        TaskPolicy(max_instances=0)


# --- ids and figures --------------------------------------------------------------------------------------------------


@given(st.lists(st.timedeltas(-timedelta(days=1), timedelta(days=1)), min_size=2, max_size=50))
def test_ids_sort_in_the_order_they_were_made_even_when_the_clock_goes_back(steps: list[timedelta]) -> None:
    ids = TaskIds()
    made = [ids.new(NOW + step) for step in steps]
    assert all(earlier < later for earlier, later in pairwise(made))
    assert {len(one) for one in made} == {22}


def test_an_id_tells_the_time_it_was_made() -> None:
    assert int(TaskIds().new(NOW)[:12], 16) == NOW.timestamp() * 1000


def test_threads_never_get_the_same_id() -> None:
    ids, found = TaskIds(), []

    def make() -> None:
        mine = [ids.new(NOW) for _ in range(500)]
        assert mine == sorted(mine)
        found.extend(mine)

    run_together(make, 4)
    assert len(set(found)) == 2000


def run_together(call: Callable[[], None], times: int) -> None:
    threads = [threading.Thread(target=call) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)


def test_two_makers_in_one_millisecond_do_not_meet() -> None:
    assert TaskIds().new(NOW) != TaskIds().new(NOW)


def test_a_duration_needs_a_start_and_an_end() -> None:
    later = NOW + timedelta(seconds=1.5)
    assert a_task(started_at=NOW, finished_at=later).duration_s == 1.5
    assert a_task(started_at=NOW).duration_s is None
    assert a_task(finished_at=later).duration_s is None


@pytest.mark.parametrize(("result", "value"), [(None, None), ("null", None), ('{"a":[1]}', {"a": [1]}), ('"新"', "新")])
def test_a_value_is_the_json_of_the_result(result: str | None, value: Any) -> None:
    assert a_task(result=result).value == value

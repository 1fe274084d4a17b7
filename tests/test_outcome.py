"""How an attempt ended, and what becomes of its task."""

from __future__ import annotations

import itertools
import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.scheduler.outcome import (
    MAX_ERROR_BYTES,
    MAX_RESULT_BYTES,
    Crashed,
    Outcome,
    Raised,
    Returned,
    Stopped,
    StopReason,
    Verdict,
    raised,
    returned,
    settle,
    shorten,
)
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.task import MOVES, Cause, OnCrash, Task, TaskPolicy, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
RETRY = RetryPolicy(max_retries=2, delay_s=10.0, backoff=2.0, jitter=0.5)
RAISED = Raised("boom", ("ValueError", "builtins.ValueError", "Exception", "builtins.Exception"))
CRASHED = Crashed("the worker died")


def running(*, policy: TaskPolicy | None = None, **values: Any) -> Task:
    made = TaskPolicy(retry=RETRY, timeout_s=60.0) if policy is None else policy
    return Task(
        **{
            "id": "t",
            "name": "t",
            "function": "f",
            "created_at": NOW,
            "status": TaskStatus.RUNNING,
            "attempt": 1,
            "policy": made,
            **values,
        },
    )


def with_policy(**values: Any) -> TaskPolicy:
    return TaskPolicy(retry=RETRY, timeout_s=60.0, **values)


# --- settle: every kind of outcome -----------------------------------------------------------------------------------


def test_a_returned_value_is_success() -> None:
    assert settle(running(), Returned([1], "[1]"), draw=0.0) == Verdict(status=TaskStatus.SUCCESS, result="[1]")


def test_a_value_without_a_text_is_success_and_says_that_it_was_omitted() -> None:
    verdict = settle(running(), Returned(object(), None), draw=0.0)
    assert verdict == Verdict(status=TaskStatus.SUCCESS, result_omitted=True)


def test_an_error_is_retried_while_the_policy_allows_with_growing_waits() -> None:
    waits = [settle(running(failures=failures), RAISED, draw=0.0).wait_s for failures in range(3)]
    assert waits == [10.0, 20.0, None]


def test_luck_shortens_the_wait() -> None:
    assert settle(running(), RAISED, draw=1.0).wait_s == 5.0


def test_the_last_allowed_failure_is_final() -> None:
    verdict = settle(running(failures=2), RAISED, draw=0.0)
    assert verdict == Verdict(status=TaskStatus.FAILED, cause=Cause.ERROR, error="boom", failed=True)


def test_an_error_outside_of_retry_on_is_final_at_once() -> None:
    policy = TaskPolicy(retry=replace(RETRY, retry_on=("TimeoutError",)))
    assert settle(running(policy=policy), RAISED, draw=0.0).status is TaskStatus.FAILED


@pytest.mark.parametrize(
    ("retry_on", "again"),
    [((), True), (("TimeoutError",), True), (("OSError",), True), (("Exception",), True), (("ValueError",), False)],
    ids=str,
)
def test_a_timeout_is_retried_like_a_timeout_error(retry_on: tuple[str, ...], *, again: bool) -> None:
    policy = TaskPolicy(retry=replace(RETRY, retry_on=retry_on), timeout_s=60.0)
    verdict = settle(running(policy=policy), Stopped("timeout"), draw=0.0)
    assert verdict.status is (TaskStatus.RETRYING if again else TaskStatus.TIMEOUT)
    assert verdict.cause is Cause.TIMEOUT
    assert verdict.failed


def test_the_last_allowed_timeout_ends_as_timeout_and_names_the_limit() -> None:
    verdict = settle(running(failures=2), Stopped("timeout"), draw=0.0)
    assert (verdict.status, verdict.cause) == (TaskStatus.TIMEOUT, Cause.TIMEOUT)
    assert verdict.error == "the attempt ran longer than its limit of 60 s"


def test_an_abandoned_timeout_says_that_the_code_may_still_run() -> None:
    error = settle(running(), Stopped("timeout", abandoned=True), draw=0.0).error
    assert error is not None
    assert "abandoned" in error


@pytest.mark.parametrize("reason", ["cancelled", "replaced"])
def test_a_cancel_ends_the_task_whatever_retries_are_left(reason: StopReason) -> None:
    verdict = settle(running(), Stopped(reason), draw=0.0)
    assert verdict == Verdict(status=TaskStatus.CANCELLED, cause=Cause(reason))


def test_a_shutdown_releases_the_task_and_uses_nothing_up() -> None:
    assert settle(running(), Stopped("shutdown"), draw=0.0) == Verdict(status=TaskStatus.PENDING)


@pytest.mark.parametrize("lost", [{"volatile": True}, {"policy": with_policy(on_crash=OnCrash.FAIL)}], ids=str)
@pytest.mark.parametrize("outcome", [Stopped("shutdown"), CRASHED], ids=repr)
def test_what_may_not_or_cannot_run_again_is_lost(lost: dict[str, Any], outcome: Outcome) -> None:
    verdict = settle(running(**lost), outcome, draw=0.0)
    assert (verdict.status, verdict.cause) == (TaskStatus.FAILED, Cause.LOST)
    assert verdict.error


def test_a_crash_waits_again_twice_and_is_quarantined_the_third_time() -> None:
    verdicts = [settle(running(crashes=crashes), CRASHED, draw=0.0) for crashes in range(3)]
    assert [(verdict.status, verdict.cause) for verdict in verdicts] == [
        (TaskStatus.PENDING, Cause.CRASHED),
        (TaskStatus.PENDING, Cause.CRASHED),
        (TaskStatus.FAILED, Cause.QUARANTINED),
    ]
    assert all(verdict.crashed and not verdict.failed for verdict in verdicts)


def test_a_crash_uses_up_no_retry() -> None:
    assert settle(running(failures=2), CRASHED, draw=0.0).status is TaskStatus.PENDING


@pytest.mark.parametrize("outcome", [RAISED, Stopped("timeout"), CRASHED], ids=repr)
def test_nothing_is_tried_again_once_somebody_asked_for_the_end(outcome: Outcome) -> None:
    assert settle(running(cancel_requested=True), outcome, draw=0.0).status.is_final


def all_cases() -> Iterator[tuple[Task, Outcome]]:
    outcomes: list[Outcome] = [Returned(1, "1"), Returned(object(), None), RAISED, CRASHED]
    outcomes += [Stopped(reason, abandoned=lost) for reason in get_args(StopReason) for lost in (False, True)]
    for outcome, volatile, on_crash, failures, crashes, cancel in itertools.product(
        outcomes, (False, True), OnCrash, range(5), range(4), (False, True)
    ):
        yield (
            running(
                policy=with_policy(on_crash=on_crash),
                volatile=volatile,
                failures=failures,
                crashes=crashes,
                cancel_requested=cancel,
            ),
            outcome,
        )


def test_every_outcome_of_every_task_is_a_legal_move_with_its_facts() -> None:
    for task, outcome in all_cases():
        verdict = settle(task, outcome, draw=0.5)
        assert verdict.status in MOVES[TaskStatus.RUNNING]
        assert (verdict.wait_s is not None) == (verdict.status is TaskStatus.RETRYING)
        released = verdict.status is TaskStatus.PENDING and isinstance(outcome, Stopped)
        assert (verdict.cause is None) == (released or verdict.status is TaskStatus.SUCCESS)
        assert not (verdict.failed and verdict.crashed)
        assert (verdict.result is not None or verdict.result_omitted) == (verdict.status is TaskStatus.SUCCESS)


def test_settle_touches_nothing() -> None:
    for task, outcome in all_cases():
        before = [getattr(task, name) for name in Task.__slots__]
        settle(task, outcome, draw=0.5)
        assert [getattr(task, name) for name in Task.__slots__] == before


@given(st.integers(0, 10), st.data())
def test_every_task_is_final_within_its_failures_and_three_crashes(max_retries: int, data: st.DataObject) -> None:
    task = running(policy=TaskPolicy(retry=RetryPolicy(max_retries=max_retries)))
    for _ in range(max_retries + 1 + 3):
        endings: list[Outcome] = [RAISED, Stopped("timeout"), CRASHED]
        outcome = data.draw(st.sampled_from(endings))
        verdict = settle(task, outcome, draw=0.5)
        task.failures += verdict.failed
        task.crashes += verdict.crashed
        if verdict.status.is_final:
            return
    pytest.fail("it would go on for ever")


# --- results as text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ({"items": 50, "新": [1.5, True]}, '{"items":50,"新":[1.5,true]}'),
        ((1, 2), "[1,2]"),
        ("", '""'),
    ],
    ids=repr,
)
def test_a_json_value_is_kept_as_text(value: Any, text: str) -> None:
    assert returned(value) == Returned(value, text)


def recursive() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


def too_deep() -> list[Any]:
    outer: list[Any] = []
    for _ in range(100_000):
        outer = [outer]
    return outer


class Restless(dict[str, int]):
    """A dictionary that another thread changes while it is looked at."""

    def items(self) -> Any:
        raise RuntimeError("dictionary changed size during iteration")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(object(), id="object"),
        pytest.param({1, 2}, id="set"),
        pytest.param(float("nan"), id="not a number"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param(recursive(), id="recursive"),
        pytest.param(too_deep(), id="too deep"),
        pytest.param("x" * MAX_RESULT_BYTES, id="too long"),
        pytest.param(Restless(a=1), id="changed while it is read"),
    ],
)
def test_what_is_no_json_or_too_long_has_no_text(value: Any) -> None:
    assert returned(value).text is None


def test_the_limit_counts_bytes() -> None:
    assert returned("x" * (MAX_RESULT_BYTES - 2)).text is not None
    assert returned("新" * (MAX_RESULT_BYTES // 3)).text is None


@pytest.mark.parametrize("text", ["\ud800", "caf\udce9.txt", "a\x00b"], ids=ascii)
def test_every_text_a_function_returns_fits_into_a_row(text: str) -> None:
    """`os.fsdecode` gives lone surrogates for file names in old encodings; SQLite and PostgreSQL refuse them."""
    kept = returned({"name": text}).text
    assert kept is not None
    assert fits_into_a_row(kept)
    assert json.loads(kept) == {"name": text}


def fits_into_a_row(text: str) -> bool:
    with sqlite3.connect(":memory:") as connection:
        (back,) = connection.execute("SELECT ?", (text,)).fetchone()
    connection.close()
    return bool(back == text) and "\x00" not in text


# --- errors as text --------------------------------------------------------------------------------------------------


def fail(message: str) -> None:
    raise ValueError(message)


def test_an_error_is_its_traceback_and_the_names_of_its_class() -> None:
    with pytest.raises(ValueError, match="boom") as caught:
        fail("boom")
    outcome = raised(caught.value)
    assert outcome.error.startswith("Traceback")
    assert outcome.error.endswith("ValueError: boom")
    assert "in fail" in outcome.error
    assert "builtins.ValueError" in outcome.names


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_whose_text_cannot_be_made_is_still_an_error() -> None:
    assert "MuteError" in raised(MuteError()).error


@pytest.mark.parametrize("text", ["\ud800", "caf\udce9", "a\x00b"], ids=ascii)
def test_every_error_text_fits_into_a_row(text: str) -> None:
    assert fits_into_a_row(raised(ValueError(text)).error)


@given(st.text(), st.integers(100, 300))
def test_a_shortened_text_keeps_within_its_bytes_and_both_ends(text: str, limit: int) -> None:
    long = (text * 40).replace("\x00", "?")
    short = shorten(long, limit)
    assert len(short.encode()) <= limit
    if len(long.encode()) <= limit:
        assert short == long
    else:
        assert "bytes cut" in short


def test_a_long_error_is_cut_in_the_middle_with_a_mark() -> None:
    error = raised(ValueError("a" * 10_000 + "the end")).error
    assert len(error.encode()) <= MAX_ERROR_BYTES
    assert "bytes cut" in error
    assert error.endswith("the end")

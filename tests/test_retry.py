"""When a failed attempt is tried again, and after how long."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.scheduler.errors import ArgumentsError, NoRetryError
from atlas.scheduler.retry import RetryPolicy, error_names

DRAWS = st.floats(0, 1)
POLICIES = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 1_000_000),
    delay_s=st.floats(0, 1e9),
    backoff=st.floats(1, 1e3),
    max_delay_s=st.floats(0, 1e9),
    jitter=st.floats(0, 1),
)


def test_the_built_in_policy_is_three_retries_after_2_4_and_8_seconds() -> None:
    policy = RetryPolicy()
    assert policy.max_retries == 3
    assert [policy.wait_s(retry, draw=0.0) for retry in (1, 2, 3)] == [2.0, 4.0, 8.0]


@pytest.mark.parametrize(
    ("max_retries", "allowed"),
    [
        pytest.param(0, 0, id="no retries allow no failure"),
        pytest.param(1, 1, id="one"),
        pytest.param(3, 3, id="three retries follow three failures, the fourth is the last"),
    ],
)
def test_max_retries_counts_the_attempts_after_the_first(max_retries: int, allowed: int) -> None:
    policy = RetryPolicy(max_retries=max_retries)
    assert list(itertools.takewhile(policy.allows, itertools.count(1))) == list(range(1, allowed + 1))


class GoneError(LookupError, NoRetryError):
    pass


@pytest.mark.parametrize("error", [NoRetryError(), GoneError()], ids=repr)
@pytest.mark.parametrize("retry_on", [(), ("LookupError", "NoRetryError", "Exception")], ids=str)
def test_what_is_not_to_be_retried_wins_over_the_policy(error: Exception, retry_on: tuple[str, ...]) -> None:
    assert not RetryPolicy(retry_on=retry_on).covers(error_names(error))


def test_a_namesake_of_another_module_is_retried() -> None:
    namesake = type("NoRetryError", (Exception,), {})
    assert RetryPolicy().covers(error_names(namesake()))


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        pytest.param({"delay_s": 1.0, "backoff": 3.0, "max_delay_s": 10.0}, [1.0, 3.0, 9.0, 10.0, 10.0], id="cap"),
        pytest.param({"delay_s": 5.0, "backoff": 1.0, "max_delay_s": 60.0}, [5.0] * 5, id="constant"),
        pytest.param({"delay_s": 0.0, "backoff": 2.0, "max_delay_s": 60.0}, [0.0] * 5, id="at once"),
        pytest.param({"delay_s": 9.0, "backoff": 2.0, "max_delay_s": 4.0}, [4.0] * 5, id="cap below the first wait"),
        pytest.param({"delay_s": 9.0, "backoff": 2.0, "max_delay_s": 0.0}, [0.0] * 5, id="a cap of zero"),
    ],
)
def test_waits_grow_up_to_the_cap(policy: dict[str, Any], waits: list[float]) -> None:
    made = RetryPolicy(**policy, jitter=0.0)
    assert [made.wait_s(retry, draw=0.7) for retry in range(1, 6)] == waits


def test_jitter_only_shortens_and_by_its_share_at_most() -> None:
    policy = RetryPolicy(delay_s=10.0, jitter=0.25)
    assert policy.wait_s(1, draw=0.0) == 10.0
    assert policy.wait_s(1, draw=1.0) == 7.5
    assert policy.wait_s(1, draw=0.5) == 8.75


def test_the_millionth_retry_is_computed_without_overflow() -> None:
    assert RetryPolicy(max_retries=1_000_000, jitter=0.0).wait_s(1_000_000, draw=0.0) == 300.0


@given(POLICIES, st.integers(1, 10_000), DRAWS)
def test_a_wait_is_never_negative_nor_above_the_cap(policy: RetryPolicy, retry: int, draw: float) -> None:
    assert 0.0 <= policy.wait_s(retry, draw=draw) <= policy.max_delay_s


@given(POLICIES, st.integers(1, 1000))
def test_without_luck_no_wait_is_shorter_than_the_one_before(policy: RetryPolicy, retry: int) -> None:
    longer, shorter = policy.wait_s(retry + 1, draw=0.0), policy.wait_s(retry, draw=0.0)
    assert longer >= shorter * (1 - 1e-12)


@given(POLICIES, st.integers(1, 1000), DRAWS)
def test_luck_takes_off_no_more_than_the_jitter(policy: RetryPolicy, retry: int, draw: float) -> None:
    full = policy.wait_s(retry, draw=0.0)
    assert full * (1 - policy.jitter) * (1 - 1e-12) <= policy.wait_s(retry, draw=draw) <= full


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        pytest.param("max_retries", -1, "max_retries -1", id="negative retries"),
        pytest.param("max_retries", 1_000_001, "max_retries 1000001", id="too many retries"),
        pytest.param("max_retries", "3", "max_retries '3'", id="retries as text"),
        pytest.param("max_retries", 1.5, "max_retries 1.5", id="half a retry"),
        pytest.param("delay_s", "2s", "retry_delay '2s'", id="delay as text"),
        pytest.param("jitter", None, "retry_jitter None", id="no jitter"),
        pytest.param("delay_s", -0.1, "retry_delay", id="negative delay"),
        pytest.param("delay_s", float("nan"), "retry_delay", id="no number"),
        pytest.param("max_delay_s", float("inf"), "retry_max_delay", id="endless cap"),
        pytest.param("max_delay_s", -1.0, "retry_max_delay", id="negative cap"),
        pytest.param("backoff", 0.5, "retry_backoff", id="shrinking"),
        pytest.param("backoff", float("nan"), "retry_backoff", id="no factor"),
        pytest.param("jitter", 1.1, "retry_jitter", id="more than all"),
        pytest.param("jitter", -0.1, "retry_jitter", id="less than nothing"),
        pytest.param("jitter", float("nan"), "retry_jitter", id="no share"),
        pytest.param(
            "retry_on", "ValueError", "retry_on 'ValueError' is not a list", id="one text, which is its letters"
        ),
        pytest.param("retry_on", (ValueError,), "retry_on .*ValueError.* is not a list", id="classes for names"),
    ],
)
def test_values_without_a_meaning_are_refused_by_name(field: str, value: Any, told: str) -> None:
    with pytest.raises(ArgumentsError, match=told):
        RetryPolicy(**{field: value})


def test_a_policy_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RetryPolicy().max_retries = 5  # type: ignore[misc]


class OddError(ConnectionResetError):
    pass


def test_names_of_errors_may_be_a_list() -> None:
    names: Any = ["ValueError"]
    policy = RetryPolicy(retry_on=names)
    assert policy == RetryPolicy(retry_on=("ValueError",))
    assert hash(policy) == hash(RetryPolicy(retry_on=("ValueError",)))


@pytest.mark.parametrize(
    ("retry_on", "retried"),
    [
        pytest.param((), True, id="nothing named means everything"),
        pytest.param(("OddError",), True, id="its class"),
        pytest.param((f"{OddError.__module__}.OddError",), True, id="its class with the module"),
        pytest.param(("ConnectionError",), True, id="a base"),
        pytest.param(("builtins.OSError",), True, id="a base with the module"),
        pytest.param(("Exception",), True, id="the base of all"),
        pytest.param(("ValueError", "OddError"), True, id="one of several"),
        pytest.param(("TimeoutError",), False, id="a cousin"),
        pytest.param(("odderror",), False, id="names are exact"),
    ],
)
def test_retry_on_means_a_class_or_any_base_by_name(retry_on: tuple[str, ...], *, retried: bool) -> None:
    assert RetryPolicy(retry_on=retry_on).covers(error_names(OddError())) is retried


def test_the_names_of_an_error_leave_out_object() -> None:
    assert error_names(KeyError("x")) == (
        "KeyError",
        "builtins.KeyError",
        "LookupError",
        "builtins.LookupError",
        "Exception",
        "builtins.Exception",
        "BaseException",
        "builtins.BaseException",
    )

"""A job's definition and its JSON text, and what `CronManager.add_job` makes of its options."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.scheduler.definition import CatchUp, JobDefinition, JobSource, digest_of
from atlas.scheduler.errors import ArgumentsError, AtlasError, CronExpressionError, ScheduleError
from atlas.scheduler.job_options import EPOCH, JobOptions, define
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.schedule import Calendar, Interval, Schedule
from atlas.scheduler.task import ExecutorKind, OnCrash, Overlap, TaskPriority
from atlas.scheduler.tasks.submission import QueueDefaults

PLAIN = JobDefinition(
    id="report", source=JobSource.FILE, title="report", schedule=Schedule(cron=("0 9 * * *",)), function="report"
)
FULL = JobDefinition(
    id="日报 🌏",
    source=JobSource.CODE,
    title="每日报告",
    schedule=Schedule(
        cron=("0 9 * * mon-fri", "@weekly"),
        intervals=(Interval(3600, datetime(2026, 1, 1, 0, 5, tzinfo=UTC)),),
        dates=(datetime(2026, 12, 24, 18, tzinfo=UTC),),
        timezone="Asia/Shanghai",
        start_at=datetime(2026, 1, 1, tzinfo=UTC),
        end_at=datetime(2027, 1, 1, tzinfo=UTC),
        spread_s=90,
        calendar=Calendar("holidays", exclude=((date(2026, 10, 1), date(2026, 10, 7)),)),
    ),
    function="news.report:write",
    arguments='{"args":["é",1.5,null],"kwargs":{"deep":{"a":[true]}}}',
    description="第一行\n第二行",
    tags=("a", "b"),
    owner="Lin",
    runbook="https://wiki/report",
    executor=ExecutorKind.PROCESS,
    priority=TaskPriority.URGENT,
    retry=RetryPolicy(
        max_retries=0, delay_s=0.5, backoff=1.0, max_delay_s=9.0, jitter=0.0, retry_on=("OSError", "httpx.ReadError")
    ),
    timeout_s=None,
    on_crash=OnCrash.FAIL,
    overlap=Overlap.ALLOW,
    max_instances=7,
    catchup=CatchUp.ALL,
    catchup_window_s=0.0,
    catchup_limit=1,
    keep_days=0.5,
    keep_tasks=0,
    log_max_bytes=0,
    enabled=False,
    volatile=True,
    value_from={"timeout": "job", "overlap": "defaults"},
)


# --- the text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("definition", [PLAIN, FULL], ids=["plain", "full"])
def test_a_definition_comes_back_from_its_text(definition: JobDefinition) -> None:
    back = JobDefinition.from_json(definition.to_json())
    assert back == definition
    assert back.to_json() == definition.to_json()
    assert {one.name: type(getattr(back, one.name)) for one in fields(back)} == {
        one.name: type(getattr(definition, one.name)) for one in fields(definition)
    }


def test_the_full_example_sets_every_field_to_something_else() -> None:
    same = [one.name for one in fields(FULL) if getattr(FULL, one.name) == getattr(PLAIN, one.name)]
    assert same == []


def test_the_text_is_plain_json_with_names_and_never_code() -> None:
    raw = json.loads(FULL.to_json())
    assert raw["priority"] == "URGENT"
    assert (raw["executor"], raw["overlap"], raw["catchup"]) == ("process", "allow", "all")
    assert raw["function"] == "news.report:write"
    assert "日报" in FULL.to_json()


def test_the_order_in_which_a_mapping_was_filled_does_not_change_the_text() -> None:
    one = replace(FULL, value_from={"a": "job", "b": "job"}, arguments='{"args":[],"kwargs":{"x":1,"y":2}}')
    other = replace(FULL, value_from={"b": "job", "a": "job"}, arguments='{"kwargs": {"y": 2, "x": 1}, "args": []}')
    assert one.to_json() == other.to_json()
    assert one.digest() == other.digest() == digest_of(one.to_json())


@pytest.mark.parametrize("name", [one.name for one in fields(JobDefinition)])
def test_a_change_to_any_field_changes_the_digest(name: str) -> None:
    assert replace(PLAIN, **{name: getattr(FULL, name)}).digest() != PLAIN.digest()


@given(
    kwargs=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), max_size=4),
    args=st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.lists(st.text()), max_size=4),
)
def test_whatever_arguments_a_row_holds_come_back_equal(kwargs: dict[str, Any], args: list[Any]) -> None:
    text = json.dumps({"args": args, "kwargs": kwargs}, ensure_ascii=False, separators=(",", ":"))
    back = JobDefinition.from_json(replace(PLAIN, arguments=text).to_json())
    assert json.loads(back.arguments) == {"args": args, "kwargs": kwargs}


def without(name: str) -> str:
    raw = json.loads(PLAIN.to_json())
    del raw[name]
    return json.dumps(raw)


def changed(**values: Any) -> str:
    return json.dumps({**json.loads(PLAIN.to_json()), **values})


NO_DEFINITIONS: dict[str, str | bytes] = {
    "empty": b"",
    "a pickle": b"\x80\x04\x95pickled",
    "not UTF-8": b"\xff\xfe",
    "null": "null",
    "a list": "[]",
    "a text": '"text"',
    "an empty object": "{}",
    "cut off": "{",
    "no id": without("id"),
    "no retry": without("retry"),
    "no schedule": without("schedule"),
    "an unheard-of field": changed(unheard_of=1),
    "another priority": changed(priority="SOON"),
    "another executor": changed(executor="carrier pigeon"),
    "no overlap": changed(overlap=None),
    "an empty schedule": changed(schedule={}),
    "minute 61": changed(schedule={"cron": ["61 * * * *"]}),
    "a zone on Mars": changed(schedule={"cron": ["* * * * *"], "timezone": "Mars/Olympus"}),
    "half a retry policy": changed(retry={"max_retries": 1}),
    "tags that are a number": changed(tags=5),
}


@pytest.mark.parametrize("text", NO_DEFINITIONS.values(), ids=NO_DEFINITIONS)
def test_a_text_that_is_no_definition_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the subclasses differ: JSON, cron, arguments
        JobDefinition.from_json(text)


def test_its_tasks_carry_its_policy() -> None:
    policy = FULL.policy(ExecutorKind.PROCESS)
    assert (policy.retry, policy.timeout_s, policy.on_crash) == (FULL.retry, None, OnCrash.FAIL)
    assert (policy.executor, policy.overlap, policy.max_instances) == (ExecutorKind.PROCESS, Overlap.ALLOW, 7)


# --- options of add_job ----------------------------------------------------------------------------------------------


def defined(cron: str | None = "* * * * *", **options: Any) -> JobDefinition:
    return define(
        "job",
        cron,
        "work",
        "",
        cast("JobOptions", options),
        defaults=QueueDefaults(timeout_s=70.0, max_retries=5),
        timezone="Asia/Shanghai",
        arguments="{}",
    )


def test_what_is_not_given_comes_from_the_queue_and_what_is_given_from_the_job() -> None:
    job = defined(timeout="5m", retry_delay="1s", priority="high")
    assert (job.timeout_s, job.retry.max_retries, job.retry.delay_s) == (300.0, 5, 1.0)
    assert job.priority is TaskPriority.HIGH
    assert job.value_from["timeout"] == job.value_from["retry_delay"] == job.value_from["priority"] == "job"
    assert job.value_from["max_retries"] == "built in"


def test_a_timeout_of_none_is_no_limit_and_any_other_none_is_not_given() -> None:
    job = defined(timeout=None, overlap=None, executor=None, keep_days=None, max_retries=None)
    assert job.timeout_s is None
    assert (job.overlap, job.executor, job.keep_days, job.retry.max_retries) == (Overlap.SKIP, None, None, 5)
    assert job.value_from["overlap"] == "built in"


def test_an_interval_counts_from_the_epoch_so_that_a_restart_does_not_shift_it() -> None:
    job = defined(None, interval="90s")
    assert job.schedule.intervals == (Interval(90.0, EPOCH),)


def test_a_job_may_fire_by_cron_interval_and_date_together() -> None:
    at = datetime(2027, 1, 1, tzinfo=UTC)
    job = defined("@hourly", interval=5, dates=[at], timezone="UTC")
    assert (job.schedule.cron, len(job.schedule.intervals), job.schedule.dates) == (("@hourly",), 1, (at,))


def test_an_unknown_option_is_a_type_error_that_proposes_the_nearest() -> None:
    with pytest.raises(TypeError, match="'max_retrys'; did you mean 'max_retries'"):
        defined(max_retrys=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_instances": 0}, "max_instances 0 is not a whole number in 1 to 1,000"),
        ({"max_instances": "3"}, "max_instances '3'"),
        ({"max_retries": -1}, "max_retries -1"),
        ({"max_retries": True}, "max_retries True"),
        ({"catchup_limit": 0}, "catchup_limit 0"),
        ({"keep_tasks": -1}, "keep_tasks -1"),
        ({"keep_days": 0}, "keep_days 0"),
        ({"keep_days": float("nan")}, "keep_days nan"),
        ({"timeout": 0}, r"timeout 0\.0 is not a positive number"),
        ({"timeout": -1}, "timeout: a duration lies between"),
        ({"timeout": "soon"}, "timeout: cannot read this duration"),
        ({"retry_backoff": 0.5}, "retry_backoff 0.5"),
        ({"retry_jitter": 7}, "retry_jitter 7"),
        ({"retry_on": "OSError"}, "retry_on 'OSError' is not a list"),
        ({"tags": "abc"}, "tags 'abc' is not a list"),
        ({"tags": ["a\0"]}, "tags .* has a zero byte"),
        ({"title": "a\ud800"}, "title .* half of a surrogate pair"),
        ({"title": 3}, "title 3 is not text"),
        ({"priority": "soon"}, "priority 'soon' is not one of URGENT, HIGH, NORMAL, LOW"),
        ({"overlap": "maybe"}, "overlap 'maybe' is not one of skip, queue, replace, allow"),
        ({"catchup": "some"}, "catchup 'some' is not one of none, latest, all"),
        ({"on_crash": "cry"}, "on_crash 'cry' is not one of retry, fail"),
        ({"executor": "gpu"}, "executor 'gpu' is not one of thread, process, async"),
        ({"timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"interval": 0.1}, "interval 0.1"),
        ({"spread": "3d"}, "spread"),
        ({"start_at": datetime(2026, 1, 1)}, "start_at .* has no offset from UTC"),  # noqa: DTZ001
        ({"dates": [datetime(2026, 1, 1)]}, "date .* has no offset from UTC"),  # noqa: DTZ001
        ({"interval": 60, "anchor": datetime(2026, 1, 1)}, "anchor .* has no offset from UTC"),  # noqa: DTZ001
    ],
    ids=ascii,
)
def test_an_option_without_meaning_is_refused_when_the_job_is_added(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtlasError, match=message) as caught:
        defined(**options)
    assert isinstance(caught.value, ValueError)


def test_a_job_that_never_fires_is_refused() -> None:
    with pytest.raises(ScheduleError, match="nothing says when"):
        defined(None)
    with pytest.raises(CronExpressionError):
        defined("0 0 30 2 *")


def test_every_option_has_a_policy_source_or_is_no_policy() -> None:
    no_policy = {
        "title", "args", "kwargs", "timezone", "interval", "anchor", "dates", "start_at", "end_at", "spread", "tags",
        "owner", "runbook",
    }  # fmt: skip
    assert set(defined().value_from) == set(JobOptions.__annotations__) - no_policy


def test_arguments_with_half_a_surrogate_pair_come_back_in_a_text_that_a_row_can_hold() -> None:
    """File names that are no UTF-8 have such characters."""
    given = replace(PLAIN, arguments='{"args":["a\\udcff"],"kwargs":{}}')
    back = JobDefinition.from_json(given.to_json().encode())
    assert back.arguments.encode()
    assert json.loads(back.arguments)["args"] == ["a\udcff"]
    assert back.digest() == given.digest()


def test_an_arguments_error_is_what_a_bad_duration_is() -> None:
    with pytest.raises(ArgumentsError, match="catchup_window"):
        defined(catchup_window="a while")

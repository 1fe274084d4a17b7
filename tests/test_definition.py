"""A job's definition and its JSON text, and what `CronManager.add_job` makes of its options."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.scheduler.definition import CatchUp, JobDefinition, JobPolicies, JobSource
from atlas.scheduler.definition_text import UnreadDefinition, definition_of, policies_in, row_of, seal_of, text_of
from atlas.scheduler.errors import ArgumentsError, AtlasError, CronExpressionError, ScheduleError
from atlas.scheduler.job_options import EPOCH, JobOptions, define
from atlas.scheduler.job_store.rows import restore
from atlas.scheduler.job_view import schedule_text
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.schedule import Calendar, Interval, Schedule
from atlas.scheduler.task import ExecutorKind, OnCrash, Overlap, TaskPriority
from atlas.scheduler.tasks.submission import QueueDefaults
from atlas.scheduler.triggers import trigger_of

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
    policies=JobPolicies(
        executor=ExecutorKind.PROCESS,
        priority=TaskPriority.URGENT,
        retry=RetryPolicy(
            max_retries=0,
            delay_s=0.5,
            backoff=1.0,
            max_delay_s=9.0,
            jitter=0.0,
            retry_on=("OSError", "httpx.ReadError"),
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
        value_from={"timeout": "job", "overlap": "defaults"},
    ),
    enabled=False,
    volatile=True,
)


# --- the text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("definition", [PLAIN, FULL], ids=["plain", "full"])
def test_a_definition_comes_back_from_its_text(definition: JobDefinition) -> None:
    back = definition_of(text_of(definition))
    assert back == definition
    assert text_of(back) == text_of(definition)
    assert {one.name: type(getattr(back, one.name)) for one in fields(back)} == {
        one.name: type(getattr(definition, one.name)) for one in fields(definition)
    }


def test_the_full_example_sets_every_field_to_something_else() -> None:
    same = [one.name for one in fields(FULL) if getattr(FULL, one.name) == getattr(PLAIN, one.name)]
    assert same == []


def test_the_text_is_plain_json_with_names_and_never_code() -> None:
    raw = json.loads(text_of(FULL))
    assert raw["priority"] == "URGENT"
    assert (raw["executor"], raw["overlap"], raw["catchup"]) == ("process", "allow", "all")
    assert raw["function"] == "news.report:write"
    assert "日报" in text_of(FULL)


def test_the_order_in_which_a_mapping_was_filled_does_not_change_the_text() -> None:
    first = replace(FULL.policies, value_from={"a": "job", "b": "job"})
    second = replace(FULL.policies, value_from={"b": "job", "a": "job"})
    one = replace(FULL, policies=first, arguments='{"args":[],"kwargs":{"x":1,"y":2}}')
    other = replace(FULL, policies=second, arguments='{"kwargs": {"y": 2, "x": 1}, "args": []}')
    assert text_of(one) == text_of(other)
    assert seal_of(text_of(one)) == seal_of(text_of(other))


@pytest.mark.parametrize("name", [one.name for one in fields(JobDefinition)])
def test_a_change_to_any_field_changes_the_digest(name: str) -> None:
    assert seal_of(text_of(replace(PLAIN, **{name: getattr(FULL, name)}))) != seal_of(text_of(PLAIN))


@pytest.mark.parametrize("name", [one.name for one in fields(JobPolicies)])
def test_a_change_to_any_policy_changes_the_digest(name: str) -> None:
    policies = replace(PLAIN.policies, **{name: getattr(FULL.policies, name)})
    assert seal_of(text_of(replace(PLAIN, policies=policies))) != seal_of(text_of(PLAIN))


@given(
    kwargs=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), max_size=4),
    args=st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.lists(st.text()), max_size=4),
)
def test_whatever_arguments_a_row_holds_come_back_equal(kwargs: dict[str, Any], args: list[Any]) -> None:
    text = json.dumps({"args": args, "kwargs": kwargs}, ensure_ascii=False, separators=(",", ":"))
    back = definition_of(text_of(replace(PLAIN, arguments=text)))
    assert json.loads(back.arguments) == {"args": args, "kwargs": kwargs}


def without(name: str) -> str:
    raw = json.loads(text_of(PLAIN))
    del raw[name]
    return json.dumps(raw)


def changed(**values: Any) -> str:
    return json.dumps({**json.loads(text_of(PLAIN)), **values})


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
        definition_of(text)


# --- its row ---------------------------------------------------------------------------------------------------------


def row(definition: JobDefinition) -> bytes:
    text = text_of(definition)
    return row_of(text, seal_of(text))


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
DEFINITIONS = st.builds(
    JobDefinition,
    id=NAMES,
    source=st.sampled_from(JobSource),
    title=NAMES,
    schedule=st.sampled_from([PLAIN.schedule, FULL.schedule]),
    function=NAMES,
    arguments=st.sampled_from([PLAIN.arguments, FULL.arguments]),
    description=NAMES,
    tags=st.lists(NAMES, max_size=2).map(tuple),
    policies=st.sampled_from([PLAIN.policies, FULL.policies]),
    enabled=st.booleans(),
    volatile=st.booleans(),
)


@given(definition=DEFINITIONS)
def test_what_a_row_says_before_it_is_read_is_what_it_says_afterwards(definition: JobDefinition) -> None:
    record = restore(definition.id, row(definition), None)
    assert {name: getattr(record.known, name) for name in ("id", "source", "function", "enabled", "volatile")} == {
        name: getattr(definition, name) for name in ("id", "source", "function", "enabled", "volatile")
    }
    assert (record.known.schedule, record.known.policies) == (definition.schedule, definition.policies)
    assert policies_in(row(definition)) == definition.policies
    assert record.trigger == trigger_of(definition)
    assert record.definition == definition
    assert record.digest == seal_of(text_of(definition))
    assert row_of(record.text, record.digest) == row(definition)


def test_a_row_of_this_program_is_read_when_it_is_asked_for_and_once() -> None:
    record = restore(FULL.id, row(FULL), None)
    assert isinstance(record.known, UnreadDefinition)
    first = record.definition
    assert record.definition is first
    assert first == FULL


@given(definition=DEFINITIONS, data=st.data())
def test_a_row_that_somebody_altered_is_read_at_once(definition: JobDefinition, data: st.DataObject) -> None:
    raw = row(definition)
    at = data.draw(st.integers(0, len(raw) - 1))
    altered = data.draw(
        st.sampled_from(
            [
                raw[:at] + bytes([data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[at]))]) + raw[at + 1 :],
                raw[:at] + raw[at + 1 :],
                raw[:at],
                raw + b" ",
            ]
        )
    )
    try:
        expected = definition_of(altered)
        assert expected.id == definition.id
    except (ValueError, AssertionError):
        with pytest.raises(ValueError):  # noqa: PT011 - the subclasses differ
            restore(definition.id, altered, None)
    else:
        known = restore(definition.id, altered, None).known
        assert known == expected


def test_a_row_that_was_copied_to_another_job_is_no_definition_of_that_one() -> None:
    with pytest.raises(ValueError, match="the row's definition is of job '日报 🌏'"):
        restore("other", row(FULL), None)


def test_a_row_of_a_program_with_other_fields_is_read_at_once() -> None:
    raw = row(FULL)
    other = b'{"seal":"0000' + raw[len(b'{"seal":"0000') :]
    assert other != raw
    assert restore(FULL.id, other, None).known == FULL


@pytest.mark.parametrize("name", NO_DEFINITIONS)
def test_a_row_that_is_no_definition_is_told_at_once(name: str) -> None:
    text = NO_DEFINITIONS[name]
    with pytest.raises(ValueError):  # noqa: PT011 - the subclasses differ: JSON, cron, arguments
        restore("report", text.encode() if isinstance(text, str) else text, None)


def test_its_tasks_carry_its_policy() -> None:
    policy = FULL.policies.of_task(ExecutorKind.PROCESS)
    assert (policy.retry, policy.timeout_s, policy.on_crash) == (FULL.policies.retry, None, OnCrash.FAIL)
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
    assert (job.policies.timeout_s, job.policies.retry.max_retries, job.policies.retry.delay_s) == (300.0, 5, 1.0)
    assert job.policies.priority is TaskPriority.HIGH
    assert (
        job.policies.source_of("timeout")
        == job.policies.source_of("retry_delay")
        == job.policies.source_of("priority")
        == "job"
    )
    assert job.policies.source_of("max_retries") == "queue"
    assert job.policies.source_of("overlap") == "built in"


def test_a_timeout_of_none_is_no_limit_and_any_other_none_is_not_given() -> None:
    options: JobOptions = {"timeout": None, "overlap": None, "executor": None, "keep_days": None, "max_retries": None}
    job = defined(**options)
    assert job.policies.timeout_s is None
    assert (job.policies.overlap, job.policies.executor, job.policies.keep_days, job.policies.retry.max_retries) == (
        Overlap.SKIP,
        None,
        None,
        5,
    )
    assert job.policies.source_of("overlap") == "built in"


def test_an_interval_counts_from_the_epoch_so_that_a_restart_does_not_shift_it() -> None:
    job = defined(None, interval="90s")
    assert job.schedule.intervals == (Interval(90.0, EPOCH),)


@pytest.mark.parametrize(
    ("interval", "text"),
    [("14 days", "every 1209600 s"), (1_000_001, "every 1000001 s"), (90.5, "every 90.5 s"), ("1s", "every 1 s")],
)
def test_a_table_shows_an_interval_as_it_is(interval: float | str, text: str) -> None:
    assert schedule_text(defined(None, interval=interval)) == text


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
    policies: dict[str, Any] = {
        "executor": "thread", "priority": "LOW", "max_retries": 1, "retry_delay": 1, "retry_backoff": 1,
        "retry_max_delay": 1, "retry_jitter": 0, "retry_on": ["E"], "on_crash": "fail", "timeout": 1,
        "overlap": "queue", "max_instances": 2, "catchup": "all", "catchup_window": 1, "catchup_limit": 1,
        "keep_days": 1, "keep_tasks": 1, "log_max_bytes": 1,
    }  # fmt: skip
    assert set(policies) == set(JobOptions.__annotations__) - no_policy
    assert defined().policies.value_from == dict.fromkeys(("timeout", "max_retries"), "queue")
    assert defined(**policies).policies.value_from == dict.fromkeys(policies, "job")


def test_arguments_with_half_a_surrogate_pair_come_back_in_a_text_that_a_row_can_hold() -> None:
    """File names that are no UTF-8 have such characters."""
    given = replace(PLAIN, arguments='{"args":["a\\udcff"],"kwargs":{}}')
    back = definition_of(text_of(given).encode())
    assert back.arguments.encode()
    assert json.loads(back.arguments)["args"] == ["a\udcff"]
    assert seal_of(text_of(back)) == seal_of(text_of(given))


def test_an_arguments_error_is_what_a_bad_duration_is() -> None:
    with pytest.raises(ArgumentsError, match="catchup_window"):
        defined(catchup_window="a while")

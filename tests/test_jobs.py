"""cron_jobs.json: what is accepted becomes definitions, what is not is named, located and all reported at once."""

from __future__ import annotations

import codecs
import json
import os
import re
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.scheduler.arguments import encode_arguments
from atlas.scheduler.definition import CatchUp, JobDefinition, JobPolicies, JobSource
from atlas.scheduler.definition_text import definition_of, text_of
from atlas.scheduler.errors import ConfigError, Problem, ScheduleError
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.jobs_file.format import jobs_schema, schema_text
from atlas.scheduler.jobs_file.parsing import JobsFile, load_jobs, parse_jobs
from atlas.scheduler.jobs_file.text import read_jobs_text
from atlas.scheduler.registry import Registry
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.schedule import Calendar, Interval, Schedule
from atlas.scheduler.task import ExecutorKind, OnCrash, Overlap, TaskPriority

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = Path(__file__).parents[1] / "config"

DOCUMENTED = """{
  "cron_jobs": {
    "data_collection": {
      "name": "数据采集",
      "cron_expression": "@hourly",
      "enabled": true,
      "description": "定时数据采集任务",
      "max_retries": 3,
      "timeout": 300
    },
    "system_cleanup": {
      "name": "系统清理",
      "cron_expression": "0 2 * * *",
      "enabled": true,
      "description": "系统清理任务",
      "max_retries": 1,
      "timeout": 600
    }
  }
}
"""

FULL = """{
  "$schema": "./cron_jobs.schema.json",
  "version": 1,
  "timezone": "Asia/Shanghai",
  "reload": "manual",
  "defaults": {"max_retries": 2, "retry_delay": "30s", "retry_max_delay": "15m", "catchup": "latest", "keep_days": 30},
  "calendars": {"cn_holidays": {"exclude": ["2026-10-01/2026-10-07"], "include": ["2026-10-10"]}},
  "cron_jobs": {
    "data_collection": {
      "name": "数据采集", "description": "定时数据采集任务", "enabled": true,
      "cron_expression": "@hourly", "max_retries": 3, "timeout": 300,
      "function": "collect", "kwargs": {"only": ["rss"]}, "spread": 120,
      "priority": "High", "tags": ["news"], "owner": "data", "runbook": "https://wiki.example.com/collect"
    },
    "daily_report": {
      "name": "日报", "cron_expression": ["0 9 * * mon-fri", "0 11 * * sat,sun"], "calendar": "cn_holidays",
      "timezone": "Europe/Berlin", "catchup": "all", "catchup_limit": 3, "overlap": "queue", "enabled": false
    },
    "embed_articles": {
      "function": "atlas_app.llm:embed_new", "args": [1, {"x_deep": null}],
      "triggers": [{"type": "interval", "every": "10m", "anchor": "2026-01-01T00:05:00+08:00"},
                   {"type": "date", "at": "2026-05-01T08:00"}],
      "executor": "process", "timeout": "3m", "on_crash": "fail", "x_note": "annotations are kept, not read",
      "start_at": "2026-01-01T00:00", "end_at": "2027-01-01T00:00Z", "retry_on": ["TimeoutError"], "retry_jitter": 0
    }
  }
}
"""


def parsed(text: str, *, registry: Registry | None = None, defaults: PolicyDefaults | None = None) -> JobsFile:
    return parse_jobs(text, file="jobs.json", defaults=defaults or PolicyDefaults(), registry=registry)


def refused(text: str, *, registry: Registry | None = None) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parsed(text, registry=registry)
    return list(caught.value.problems)


def one_job(fields: str) -> str:
    """A file whose only job stands, with ``fields``, on its first line: the job begins in column 16."""
    return '{"cron_jobs": {"a": {"cron_expression": "@hourly", ' + fields + "}}}"


def in_a_file(job: dict[str, Any]) -> str:
    return json.dumps({"cron_jobs": {"a": {"cron_expression": "@hourly"} | job}})


# --- what is accepted ------------------------------------------------------------------------------------------------


def test_the_documented_file_is_valid_as_it_is() -> None:
    file = parsed(DOCUMENTED)
    assert (list(file.definitions), file.reload, file.timezone, file.warnings, file.text) == (
        ["data_collection", "system_cleanup"],
        "auto",
        "UTC",
        (),
        DOCUMENTED,
    )
    cleanup = file.definitions["system_cleanup"]
    assert cleanup == JobDefinition(
        id="system_cleanup",
        source=JobSource.FILE,
        title="系统清理",
        schedule=Schedule(cron=("0 2 * * *",)),
        function="system_cleanup",
        description="系统清理任务",
        policies=JobPolicies(retry=RetryPolicy(max_retries=1), value_from=cleanup.policies.value_from),
    )


def test_every_field_of_the_format_reaches_the_definition() -> None:
    file = parsed(FULL)
    collection, report, embed = file.definitions.values()
    assert (file.reload, file.timezone, file.warnings) == ("manual", "Asia/Shanghai", ())
    assert (collection.title, collection.tags, collection.owner) == ("数据采集", ("news",), "data")
    assert (collection.runbook, collection.policies.priority) == ("https://wiki.example.com/collect", TaskPriority.HIGH)
    assert (collection.function, collection.arguments) == ("collect", encode_arguments([], {"only": ["rss"]}))
    assert collection.schedule == Schedule(cron=("@hourly",), timezone="Asia/Shanghai", spread_s=120.0)
    assert collection.policies.retry == RetryPolicy(max_retries=3, delay_s=30.0, max_delay_s=900.0)
    assert (report.policies.catchup, report.policies.catchup_limit, report.policies.overlap, report.enabled) == (
        CatchUp.ALL,
        3,
        Overlap.QUEUE,
        False,
    )
    holidays = Calendar(
        "cn_holidays",
        exclude=((date(2026, 10, 1), date(2026, 10, 7)),),
        include=((date(2026, 10, 10), date(2026, 10, 10)),),
    )
    assert report.schedule == Schedule(
        cron=("0 9 * * mon-fri", "0 11 * * sat,sun"), timezone="Europe/Berlin", calendar=holidays
    )
    assert embed.schedule == Schedule(
        intervals=(Interval(600.0, datetime(2025, 12, 31, 16, 5, tzinfo=UTC)),),
        dates=(datetime(2026, 5, 1, tzinfo=UTC),),
        timezone="Asia/Shanghai",
        start_at=datetime(2025, 12, 31, 16, tzinfo=UTC),
        end_at=datetime(2027, 1, 1, tzinfo=UTC),
    )
    assert (embed.policies.executor, embed.policies.on_crash, embed.policies.timeout_s) == (
        ExecutorKind.PROCESS,
        OnCrash.FAIL,
        180.0,
    )
    assert (embed.policies.retry.retry_on, embed.policies.retry.jitter, embed.policies.keep_days) == (
        ("TimeoutError",),
        0.0,
        30.0,
    )
    assert embed.arguments == encode_arguments([1, {"x_deep": None}], {})


def test_a_definition_survives_its_row() -> None:
    for definition in parsed(FULL).definitions.values():
        assert definition_of(text_of(definition)) == definition


def test_the_shipped_file_is_valid_and_warns_of_nothing() -> None:
    file = load_jobs(CONFIG / "cron_jobs.json", defaults=PolicyDefaults())
    assert file.warnings == ()
    assert file.definitions


def test_notes_are_free_anywhere_but_arguments_are_no_notes() -> None:
    note: dict[str, Any] = {"x_a": [None, {"b": 1}], "x_": None}
    job = {"kwargs": {"x_kept": 1}, "triggers": [{"type": "interval", "every": 60} | note]}
    calendars = {"x_c": 1, "c": note}
    file = parsed(json.dumps({"defaults": note, "calendars": calendars, "cron_jobs": {"a": note | job} | note} | note))
    assert (list(file.definitions), file.warnings) == (["a"], ())
    assert file.definitions["a"].arguments == encode_arguments([], {"x_kept": 1})


def test_an_interval_without_an_anchor_falls_on_local_midnight() -> None:
    file = parsed(
        '{"timezone": "Asia/Shanghai", "cron_jobs": {"a": {"triggers": [{"type": "interval", "every": "1d"}]}}}'
    )
    found = file.definitions["a"].schedule.next_after(datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert found == datetime(2026, 3, 1, 16, tzinfo=UTC)


def test_the_digest_is_of_the_content() -> None:
    assert parsed(DOCUMENTED).digest == parsed("\ufeff" + DOCUMENTED).digest != parsed(DOCUMENTED + " ").digest


@given(st.sampled_from(list(TaskPriority)), st.data())
def test_a_priority_is_read_in_any_case(priority: TaskPriority, data: st.DataObject) -> None:
    name = "".join(data.draw(st.sampled_from([one, one.lower()])) for one in priority.name)
    assert parsed(one_job(f'"priority": "{name}"')).definitions["a"].policies.priority is priority


# --- where a policy comes from ---------------------------------------------------------------------------------------


def test_a_policy_is_taken_from_the_job_then_defaults_then_settings_then_built_in() -> None:
    text = """{"timezone": "Asia/Tokyo", "defaults": {"timeout": "1m", "overlap": "queue"}, "cron_jobs": {
        "plain": {"cron_expression": "@daily"},
        "own": {"cron_expression": "@daily", "timeout": 5, "max_retries": 0, "timezone": "UTC"}}}"""
    outside = PolicyDefaults(
        timeout_s=None, max_retries=7, keep_days=3, set_in_settings=frozenset({"timeout", "max_retries"})
    )
    plain, own = parsed(text, defaults=outside).definitions.values()
    assert (
        plain.policies.timeout_s,
        plain.policies.retry.max_retries,
        plain.policies.keep_days,
        plain.policies.overlap,
    ) == (60.0, 7, 3, Overlap.QUEUE)
    assert (own.policies.timeout_s, own.policies.retry.max_retries, own.policies.overlap) == (5.0, 0, Overlap.QUEUE)
    names = ("timeout", "max_retries", "keep_days", "overlap", "retry_delay", "timezone")
    assert [plain.policies.source_of(name) for name in names] == [
        "defaults",
        "config.yaml",
        "built in",
        "defaults",
        "built in",
        "defaults",
    ]
    assert [own.policies.source_of(name) for name in names] == [
        "job",
        "job",
        "built in",
        "defaults",
        "built in",
        "job",
    ]


def test_no_time_limit_in_the_settings_stays_no_limit() -> None:
    assert (
        parsed(DOCUMENTED.replace('"timeout": 600', '"x_": 0'), defaults=PolicyDefaults(timeout_s=None))
        .definitions["system_cleanup"]
        .policies.timeout_s
        is None
    )


def test_what_equals_the_default_keeps_its_own_source() -> None:
    definition = parsed(one_job('"max_retries": 3')).definitions["a"]
    assert (definition.policies.source_of("max_retries"), definition.policies.source_of("timeout")) == (
        "job",
        "built in",
    )


def test_a_zone_of_the_settings_that_does_not_exist_is_refused_before_any_file() -> None:
    with pytest.raises(ScheduleError, match="Mars"):
        PolicyDefaults(timezone="Mars/Base")


# --- what is refused -------------------------------------------------------------------------------------------------

HEAD = 52  # columns before the fields of `one_job`

REFUSED: list[tuple[str, str, str]] = [
    # fields, "column path value", part of the message
    ('"timeot": 5', '1 timeot "timeot"', 'did you mean "timeout"?'),
    ('"cron": "x"', '1 cron "cron"', 'did you mean "cron_expression"?'),
    ('"zzzz": 5', '1 zzzz "zzzz"', "known here: max_retries, "),
    ('"reload": "auto"', '1 reload "reload"', "belongs at the top of the file"),
    *(
        (f'"{name}": 1', f'1 {name} "{name}"', "not in this release")
        for name in ("depends_on", "depends_window", "pool", "rate_limit", "notify", "max_lateness", "max_silence")
    ),
    ('"expires_after": "5m"', '1 expires_after "expires_after"', "not in this release"),
    ('"timeout": 0', "12 timeout 0", "above 0 seconds"),
    ('"timeout": null', "12 timeout null", "leave the key out"),
    ('"timeout": -5', "12 timeout -5", "between 0 and"),
    (
        '"timeout": "5 parsecs"',
        '12 timeout "5 parsecs"',
        'write seconds (300) or units from week to ms, longest first: "5m"',
    ),
    ('"timeout": true', "12 timeout true", "a number or text"),
    ('"max_retries": -1', "16 max_retries -1", "at least 0"),
    ('"max_retries": 3.0', "16 max_retries 3.0", "a whole number: 3"),
    ('"max_retries": "3"', '16 max_retries "3"', "this is text; it must be a whole number: 3"),
    ('"max_retries": "３"', '16 max_retries "３"', "a whole number"),
    ('"max_retries": true', "16 max_retries true", "this is true; it must be a whole number"),
    ('"max_retries": 1e6', "16 max_retries 1e6", "a whole number: 1000000"),
    ('"retry_backoff": 0.5', "18 retry_backoff 0.5", "at least 1"),
    ('"retry_jitter": 1.5', "17 retry_jitter 1.5", "at most 1"),
    ('"retry_on": ["no name"]', '14 retry_on[0] "no name"', '"TimeoutError"'),
    ('"retry_on": "TimeoutError"', '13 retry_on "TimeoutError"', 'a list: ["TimeoutError"]'),
    ('"priority": "HIHG"', '13 priority "HIHG"', 'did you mean "HIGH"?'),
    ('"priority": 1', "13 priority 1", "none of URGENT, HIGH, NORMAL, LOW"),
    ('"overlap": "Skip"', '12 overlap "Skip"', 'did you mean "skip"?'),
    ('"executor": []', "13 executor []", "none of thread, process, async"),
    ('"enabled": "true"', '12 enabled "true"', "without quotes"),
    ('"enabled": 1', "12 enabled 1", "true or false"),
    ('"keep_days": 0', "14 keep_days 0", "above 0"),
    ('"spread": "2d"', '11 spread "2d"', "at most 86,400 seconds"),
    ('"name": ""', '9 name ""', "empty text"),
    ('"name": 5', "9 name 5", 'text in double quotes: "5"'),
    (r'"name": "a\u001b[31m"', r'9 name "a\u001b[31m"', "control character"),
    (r'"name": "a\u202eb"', r'9 name "a\u202eb"', "control character"),
    ('"tags": "news"', '9 tags "news"', 'a list: ["news"]'),
    ('"tags": [null]', "10 tags[0] null", "null is no value"),
    ('"args": {}', "9 args {}", "this is an object; it must be a list"),
    ('"kwargs": [1]', "11 kwargs [1]", "this is a list; it must be an object"),
    ('"timezone": "Asia/Shangai"', '13 timezone "Asia/Shangai"', "did you mean 'Asia/Shanghai'?"),
    ('"timezone": "../etc"', '13 timezone "../etc"', "no time zone"),
    ('"calendar": "cn"', '13 calendar "cn"', "the file has none"),
    ('"start_at": "2026-01-01"', '13 start_at "2026-01-01"', 'write "2026-10-01T09:00"'),
    ('"start_at": "2026-02-30T00:00"', '13 start_at "2026-02-30T00:00"', "no such date"),
    ('"start_at": "9026-01-01T00:00"', '13 start_at "9026-01-01T00:00"', "1970 to 2199"),
    ('"start_at": "2026-01-02T00:00", "end_at": "2026-01-01T00:00"', '43 end_at "2026-01-01T00:00"', "before start_at"),
    ('"triggers": {}', "13 triggers {}", "a list"),
    ('"triggers": [5]', "14 triggers[0] 5", "an object"),
    ('"triggers": [{}]', "14 triggers[0] {}", '"type": "interval"'),
    ('"triggers": [{"type": "file"}]', '23 triggers[0].type "file"', "not in this release"),
    ('"triggers": [{"type": "event"}]', '23 triggers[0].type "event"', "not in this release"),
    ('"triggers": [{"type": "cron"}]', '23 triggers[0].type "cron"', "cron_expression"),
    ('"triggers": [{"type": "intervall"}]', '23 triggers[0].type "intervall"', 'did you mean "interval"?'),
    ('"triggers": [{"type": []}]', "23 triggers[0].type []", 'write "interval" or "date"'),
    ('"triggers": [{"type": "interval"}]', "14 triggers[0].every None", '"every": "10m"'),
    ('"triggers": [{"type": "interval", "every": 0.5}]', "44 triggers[0].every 0.5", "at least 1 seconds"),
    ('"triggers": [{"type": "interval", "every": 9, "at": 1}]', '47 triggers[0].at "at"', "unknown key"),
    ('"triggers": [{"type": "date", "run_date": 1}]', '31 triggers[0].run_date "run_date"', 'did you mean "at"?'),
    (
        '"end_at": "2026-01-01T00:00", "triggers": [{"type": "date", "at": "2026-01-02T00:00"}]',
        '67 triggers[0].at "2026-01-02T00:00"',
        "never fires",
    ),
]


@pytest.mark.parametrize(("fields", "where", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_wrong_field_is_named_located_and_told_how_it_would_be_right(fields: str, where: str, message: str) -> None:
    column, path, value = where.split(" ", 2)
    [problem] = [one for one in refused(one_job(fields)) if one.path == f"cron_jobs.a.{path}"]
    assert (problem.line, problem.column - HEAD + 1) == (1, int(column))
    assert problem.value == (None if value == "None" else value)
    assert message in problem.message
    assert problem.severity == "error"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", "jobs.json:1:1: 5: this is a number; it must be an object in { }"),
        ("NaN", "jobs.json:1:1: NaN: NaN is not JSON; write a finite number, or leave the key out"),
        ("{}", 'jobs.json:1:1: cron_jobs: missing; the smallest file is {"cron_jobs": {}}'),
        ('{"jobs": {}}', 'jobs.json:1:1: cron_jobs: missing; the smallest file is {"cron_jobs": {}}'),
        ('{"cron_jobs": []}', "jobs.json:1:15: cron_jobs: []: this is a list; it must be an object in { }"),
        ('{"cron_jobs": {"a": 5}}', "jobs.json:1:21: cron_jobs.a: 5: this is a number; it must be an object in { }"),
        ('{"cron_jobs": {"": {}}}', 'jobs.json:1:16: cron_jobs[""]: "": an empty id; give it a name'),
        ('{"version": 2, "cron_jobs": {}}', "jobs.json:1:13: version: 2: it must be 1"),
        ('{"version": true, "cron_jobs": {}}', "jobs.json:1:13: version: true: it must be 1"),
        ('{"version": null, "cron_jobs": {}}', "jobs.json:1:13: version: null: null is no value here"),
        (
            '{"reload": "atuo", "cron_jobs": {}}',
            'jobs.json:1:12: reload: "atuo": none of auto, manual; did you mean "auto"?',
        ),
        ('{"pools": {}, "cron_jobs": {}}', 'jobs.json:1:2: pools: "pools": not in this release; remove it'),
        (
            '{"overlap": "skip", "cron_jobs": {}}',
            'jobs.json:1:2: overlap: "overlap": unknown key here; it belongs in a job or in "defaults"',
        ),
        (
            '{"defaults": {"enabled": false}, "cron_jobs": {}}',
            'jobs.json:1:15: defaults.enabled: "enabled": unknown key here; it belongs in a job',
        ),
        (
            '{"calendars": {"c": {"exclude": ["2026-10-07/2026-10-01"]}}, "cron_jobs": {}}',
            'calendars.c.exclude[0]: "2026-10-07/2026-10-01": ends before it begins; write 2026-10-01/2026-10-07',
        ),
        (
            '{"calendars": {"cn": {}}, "cron_jobs": {"a": {"cron_expression": "@daily", "calendar": "cny"}}}',
            'jobs.json:1:88: cron_jobs.a.calendar: "cny": no such calendar; did you mean "cn"?',
        ),
        (
            '{"cron_jobs": {"a": {"enabled": false}}}',
            'jobs.json:1:16: cron_jobs.a: "a": never fires; add "cron_expression" or "triggers"',
        ),
        (
            '{"cron_jobs": {"daily_report": {\n  "cron_expression": "61 0 * * *"}}}',
            'jobs.json:2:23: cron_jobs.daily_report.cron_expression: "61 0 * * *": minute 61 is above 59;',
        ),
    ],
    ids=lambda value: value if value.startswith("{") or len(value) < 4 else "",
)
def test_a_wrong_file_says_so_in_one_line(text: str, expected: str) -> None:
    assert any(expected in str(problem) for problem in refused(text))


@pytest.mark.parametrize(
    ("job_id", "message"),
    [("k" * 192, "192 characters; at most 191"), ("a\\u0007", "control character"), (" a", "spaces around it")],
    ids=["long", "control", "space"],
)
def test_a_bad_job_id_is_refused_at_its_key(job_id: str, message: str) -> None:
    [problem] = refused('{"cron_jobs": {"' + job_id + '": {"cron_expression": "@hourly"}}}')
    assert (problem.line, problem.column) == (1, 16)
    assert message in problem.message


def test_the_longest_job_id_is_accepted() -> None:
    assert list(parsed('{"cron_jobs": {"' + "键" * 191 + '": {"cron_expression": "@hourly"}}}').definitions) == [
        "键" * 191
    ]


@pytest.mark.parametrize(
    ("source", "column"),
    [
        ('"0 25 * * *"', 3),
        (r'"\u0030 25 * * *"', 8),
        (r'["@hourly", "0\t25 * * *"]', 16),
        ('["0 0 * * *", 5]', 14),
        ('"0 0 30 2 *"', 5),
        ('"@hourl"', 1),
    ],
    ids=["text", "behind an escape", "in a list", "no text", "a date that never comes", "an alias"],
)
def test_a_cron_error_stands_at_the_column_of_its_token(source: str, column: int) -> None:
    [problem] = refused('{"cron_jobs": {"a": {"cron_expression": ' + source + "}}}")
    assert (problem.line, problem.column) == (1, 41 + column)


def test_all_errors_of_a_file_are_reported_in_one_pass_and_in_file_order() -> None:
    text = """{
  "timezone": "Mars/Base", "defaults": {"max_retries": -1},
  "calendars": {"c": {"exclude": ["x"]}},
  "cron_jobs": {
    "a": {"cron_expression": "61 * * * *", "timeout": 1, "timeout": 2, "calendar": "c"},
    "b": {"cron_expression": ["@hourly", "nope"], "max_retires": 1, "retry_jitter": 1e999},
    'c': {"cron_expression": "@daily", "start_at": "2026-01-02T00:00", "end_at": "2026-01-01T00:00", "enabled": 1,},
    "d": {"cron_expression": "@daily", "calendar": "nope", "function": "os:system"}
  }
}"""
    problems = refused(text, registry=Registry())
    assert [(problem.line, problem.path) for problem in problems] == [
        (2, "timezone"),
        (2, "defaults.max_retries"),
        (3, "calendars.c.exclude[0]"),
        (5, "cron_jobs.a.cron_expression"),
        (5, "cron_jobs.a.timeout"),
        (6, "cron_jobs.b.cron_expression[1]"),
        (6, "cron_jobs.b.max_retires"),
        (6, "cron_jobs.b.retry_jitter"),
        (7, ""),
        (7, "cron_jobs.c.end_at"),
        (7, "cron_jobs.c.enabled"),
        (7, ""),
        (8, "cron_jobs.d.calendar"),
        (8, "cron_jobs.d.function"),
    ]
    assert problems == sorted(problems, key=lambda problem: (problem.line, problem.column))


def test_one_wrong_field_brings_no_second_error_of_its_job() -> None:
    assert len(refused('{"cron_jobs": {"a": {"cron_expression": 5}}}')) == 1
    assert len(refused('{"cron_jobs": {"a": {"triggers": [{"type": "date"}]}}}')) == 1
    assert len(refused('{"cron_jobs": {"a": {"cron_expression": NaN}}}')) == 1
    assert (
        len(refused('{"calendars": {"c": 5}, "cron_jobs": {"a": {"cron_expression": "@daily", "calendar": "c"}}}')) == 1
    )


# --- functions -------------------------------------------------------------------------------------------------------


def collect(sources: list[str], *, limit: int = 3) -> None:
    """A plain function at the top of a module."""


async def fetch() -> None:
    """A coroutine function."""


@pytest.fixture
def registry() -> Registry:
    made = Registry(allow=["json"])
    made.add("collect", collect)
    made.add("fetch", fetch)
    made.add("closure", lambda: None)
    return made


@pytest.mark.parametrize(
    ("job", "path", "value", "message"),
    [
        ({"function": "os:system"}, "function", '"os:system"', "not on the allow-list"),
        ({"function": "collect"}, "function", '"collect"', "missing a required argument: 'sources'"),
        ({"function": "collect", "args": [1, 2]}, "args", "[1, 2]", "too many positional arguments"),
        ({"function": "collect", "kwargs": {"limit": 1}}, "kwargs", '{"limit": 1}', "missing a required argument"),
        (
            {"function": "collect", "args": [[]], "kwargs": {"limt": 1}},
            "kwargs.limt",
            '"limt"',
            'did you mean "limit"?',
        ),
        ({"function": "collect", "args": [[]], "executor": "async"}, "executor", '"async"', "is a plain function"),
        ({"function": "fetch", "executor": "thread"}, "executor", '"thread"', 'write "async"'),
        ({"function": "closure", "executor": "process"}, "executor", '"process"', "cannot be imported"),
        ({"function": "json:dumps"}, "function", '"json:dumps"', "missing a required argument: 'obj'"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_function_that_cannot_be_called_so_is_an_error(
    registry: Registry, job: dict[str, Any], path: str, value: str, message: str
) -> None:
    [problem] = refused(in_a_file(job), registry=registry)
    assert (problem.path, problem.value) == (f"cron_jobs.a.{path}", value)
    assert message in problem.message


@pytest.mark.parametrize(
    "job",
    [
        {"function": "collect", "args": [[]], "executor": "thread"},
        {"function": "collect", "kwargs": {"sources": [], "limit": 1}, "executor": "process"},
        {"function": "fetch", "executor": "async"},
        {"function": "json:dumps", "args": [1]},
    ],
    ids=json.dumps,
)
def test_a_function_that_fits_is_accepted(registry: Registry, job: dict[str, Any]) -> None:
    assert parsed(in_a_file(job), registry=registry).warnings == ()


def test_a_missing_function_is_a_warning_and_the_others_run(registry: Registry) -> None:
    text = """{"cron_jobs": {
        "a": {"cron_expression": "@hourly", "function": "colect"},
        "fetch": {"cron_expression": "@hourly"},
        "json_job": {"cron_expression": "@hourly", "function": "json:nope"},
        "zzz": {"cron_expression": "@hourly"}}}"""
    file = parsed(text, registry=registry)
    assert [definition.function for definition in file.definitions.values()] == ["colect", "fetch", "json:nope", "zzz"]
    assert [(one.line, one.path, one.severity) for one in file.warnings] == [
        (2, "cron_jobs.a.function", "warning"),
        (4, "cron_jobs.json_job.function", "warning"),
        (5, "cron_jobs.zzz", "warning"),
    ]
    assert "did you mean 'collect'?" in file.warnings[0].message
    assert "UNBOUND" in file.warnings[0].message
    assert 'add "function"' in file.warnings[2].message


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
def test_a_module_that_breaks_while_it_is_imported_is_a_warning(kind: type[BaseException]) -> None:
    class Broken(Registry):
        def _registered(self, name: str) -> Any:
            raise kind("a plug-in does not load")

    [warning] = parsed(one_job('"function": "b"'), registry=Broken()).warnings
    assert "a plug-in does not load" in warning.message


def test_wrong_arguments_bring_no_error_about_missing_ones(registry: Registry) -> None:
    [problem] = refused(in_a_file({"function": "collect", "args": "x"}), registry=registry)
    assert problem.path == "cron_jobs.a.args"


# --- warnings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"cron_jobs": {}}', "jobs.json:1:2: cron_jobs: no jobs: every job that came from this file stops"),
        (
            '{"cron_jobs": {"a": {"cron_expression": "@hourly"}, "x_b": {"cron_expression": "@hourly"}}}',
            'jobs.json:1:53: cron_jobs.x_b: "x_b": keys that begin with x_ are notes, so this is no job; rename it',
        ),
        (
            one_job('"max_instances": 3'),
            'jobs.json:1:69: cron_jobs.a.max_instances: 3: counts only with "overlap": "allow"',
        ),
        (
            one_job('"retry_delay": "10m"'),
            'cron_jobs.a.retry_delay: "10m": retry_delay 600 s is cut to retry_max_delay 300 s',
        ),
        (
            '{"defaults": {"retry_max_delay": 1}, "cron_jobs": {"a": {"cron_expression": "@hourly"}}}',
            "jobs.json:1:34: defaults.retry_max_delay: 1: retry_delay 2 s is cut",
        ),
        (
            one_job('"timezone": "Europe/Berlin", "triggers": [{"type": "date", "at": "2026-03-29T02:30"}]'),
            "the clock in Europe/Berlin leaves this time out; 2026-03-29T03:30:00+02:00 is taken",
        ),
    ],
    ids=["no jobs", "a job as a note", "max_instances", "cut delay", "cut delay in defaults", "a gap of the clock"],
)
def test_what_is_probably_not_meant_is_a_warning(text: str, expected: str) -> None:
    [warning] = parsed(text).warnings
    assert expected in str(warning)
    assert warning.severity == "warning"


@pytest.mark.parametrize(
    "fields", ['"max_instances": 3, "overlap": "allow"', '"retry_delay": 400, "retry_max_delay": 500']
)
def test_what_fits_together_is_no_warning(fields: str) -> None:
    assert parsed(one_job(fields)).warnings == ()


# --- the file itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "where", "message"),
    [
        (DOCUMENTED.encode("utf-16"), ":1:1", "this is UTF-16"),
        (DOCUMENTED.encode("utf-32"), ":1:1", "this is UTF-32"),
        (DOCUMENTED.encode("utf-16-le"), ":1:1", "UTF-16"),
        (DOCUMENTED.encode("gb18030"), ":4:16", "it looks like GBK"),
        (b'{"a":\n "\xff\xff"}', ":2:3", "byte 0xff is not UTF-8"),
        (DOCUMENTED.encode()[:40], ":3:22", "cut off"),
        (b"", ":1:1", "empty"),
    ],
    ids=["UTF-16", "UTF-32", "UTF-16 without a mark", "GBK", "bytes", "truncated", "empty"],
)
def test_a_file_in_another_form_is_told_by_name(tmp_path: Path, raw: bytes, where: str, message: str) -> None:
    path = tmp_path / "cron_jobs.json"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        load_jobs(path, defaults=PolicyDefaults())
    [problem] = caught.value.problems
    assert str(problem).startswith(f"{path}{where}: ")
    assert message in problem.message


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "cron_jobs.json"
    path.write_bytes(codecs.BOM_UTF8 + DOCUMENTED.encode())
    assert read_jobs_text(path) == DOCUMENTED


def test_a_missing_file_is_not_zero_jobs(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # nobody writes into it: opening it as a file waits for ever
    for path, message in (
        (tmp_path / "no.json", "no such file; 'atlas rollback N' writes an accepted version back"),
        (tmp_path, "a folder"),
        (pipe, "this is a pipe"),
        (Path("/dev/zero"), "a device"),
        ("a\0b", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            read_jobs_text(path)
        assert caught.value.problems[0].file == path


def test_a_file_that_somebody_names_and_that_is_not_there_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    there = tmp_path / "config" / "cron_jobs.json"
    there.write_text(DOCUMENTED, encoding="utf-8")
    near = f"no such file; did you mean {str(there)!r}?"
    for path, message in (
        (tmp_path / "config" / "cron_job.json", near),
        (tmp_path / "cron_jobs.json", near),
        (tmp_path / "nowhere" / "x", "no such file"),
    ):
        with pytest.raises(ConfigError) as caught:
            read_jobs_text(path, or_pipe=True)
        assert caught.value.problems[0].message == message


def test_a_file_above_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cron_jobs.json"
    path.write_text(DOCUMENTED, encoding="utf-8")
    monkeypatch.setattr("atlas.scheduler.jobs_file.text.MAX_BYTES", len(DOCUMENTED.encode()))
    assert read_jobs_text(path) == DOCUMENTED
    monkeypatch.setattr("atlas.scheduler.jobs_file.text.MAX_BYTES", len(DOCUMENTED.encode()) - 1)
    with pytest.raises(ConfigError, match="larger than"):
        read_jobs_text(path)


def test_a_text_that_cannot_be_encoded_is_refused() -> None:
    assert "surrogate" in refused('{"a": "\ud800"}')[0].message


# --- the schema ------------------------------------------------------------------------------------------------------


def test_the_shipped_schema_is_the_one_of_the_models() -> None:
    assert (CONFIG / "cron_jobs.schema.json").read_text(encoding="utf-8") == schema_text()


def test_every_field_has_a_description_and_every_reference_resolves() -> None:
    schema = jobs_schema()
    for properties in (
        schema["properties"],
        *(one["properties"] for one in schema["$defs"].values() if "properties" in one),
    ):
        assert all(one["description"] for one in properties.values())
    for name in re.findall(r'"#/\$defs/(\w+)"', schema_text()):
        assert name in schema["$defs"]
    assert "null" not in re.findall(r'"type": "(\w+)"', schema_text())


TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def fits(value: Any, schema: Any, root: dict[str, Any]) -> bool:
    """True if ``value`` fits ``schema``: the keywords that ours uses, and no other."""
    if schema is True:
        return True
    checks: dict[str, Callable[[Any], bool]] = {
        "$ref": lambda ref: fits(value, root["$defs"][ref.rsplit("/", 1)[1]], root),
        "type": lambda name: isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool)),
        "enum": lambda options: value in options,
        "const": lambda only: value == only,
        "anyOf": lambda options: any(fits(value, one, root) for one in options),
        "oneOf": lambda options: sum(fits(value, one, root) for one in options) == 1,
        "items": lambda inner: not isinstance(value, list) or all(fits(one, inner, root) for one in value),
        "minItems": lambda least: not isinstance(value, list) or len(value) >= least,
        "pattern": lambda pattern: not isinstance(value, str) or re.search(pattern, value) is not None,
        "minLength": lambda least: len(value) >= least,
        "maxLength": lambda most: len(value) <= most,
        "minimum": lambda least: value >= least,
        "maximum": lambda most: value <= most,
        "exclusiveMinimum": lambda least: value > least,
        "required": lambda names: all(name in value for name in names),
        "propertyNames": lambda inner: all(fits(name, inner, root) for name in value),
        "properties": lambda inner: all(fits(value[name], inner[name], root) for name in value if name in inner),
        "patternProperties": lambda inner: True,
        "additionalProperties": lambda inner: all(
            inner and fits(value[name], inner, root)
            for name in value
            if name not in schema.get("properties", {}) and not name.startswith("x_")
        ),
    }
    silent = {"$schema", "$defs", "title", "description", "examples", "discriminator"}
    first = [key for key in schema if key in {"type", "$ref"}]
    return all(checks[key](schema[key]) for key in [*first, *(schema.keys() - silent - set(first))])


@pytest.mark.parametrize("text", [DOCUMENTED, FULL, '{"cron_jobs": {}}'], ids=["documented", "full", "smallest"])
def test_a_valid_file_fits_the_schema(text: str) -> None:
    assert fits(json.loads(text), jobs_schema(), jobs_schema())


@pytest.mark.parametrize(
    "fields",
    [
        '"timeot": 5',
        '"timeout": null',
        '"timeout": 0',
        '"timeout": "soon"',
        '"max_retries": "3"',
        '"priority": "HIHG"',
        '"overlap": "Skip"',
        '"triggers": [{"type": "file"}]',
        '"triggers": [{"type": "interval"}]',
        '"start_at": "2026-01-01"',
        '"depends_on": []',
    ],
)
def test_an_editor_marks_what_loading_refuses(fields: str) -> None:
    assert not fits(json.loads(one_job(fields)), jobs_schema(), jobs_schema())


# --- any file at all -------------------------------------------------------------------------------------------------

PIECES = [
    *'{}[],:"\\ \n0-',
    "null",
    "true",
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 30,
    "５",
    "：",
    "\u0000",
    "\ud83d",
    "\\ud800",
    '"x_a": 1,',
    '"timeout": "1h",',
    '"function": "os:system",',
    '"cron_expression"',
    '"@hourly"',
    '"0 0 30 2 *"',
    '"Europe/Berlin"',
    "[" * 70,
    "{",
]


def mutated(text: str, data: st.DataObject) -> str:
    """``text`` with one to four pieces of it replaced, doubled, swapped or taken away."""
    for _ in range(data.draw(st.integers(1, 4))):
        tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[\w.+-]+|\s+|.', text, re.DOTALL)
        at = data.draw(st.integers(0, max(len(tokens) - 1, 0)))
        other = data.draw(st.integers(0, max(len(tokens) - 1, 0)))
        match data.draw(st.sampled_from(["piece", "token", "swap", "cut", "drop", "character"])):
            case "piece":
                tokens[at : at + 1] = [data.draw(st.sampled_from(PIECES))]
            case "token":
                tokens[at : at + 1] = tokens[other : other + data.draw(st.integers(1, 12))]
            case "swap" if tokens:
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case "cut":
                del tokens[at:]
            case "drop":
                del tokens[at : at + data.draw(st.integers(1, 6))]
            case _:
                tokens[at : at + 1] = [data.draw(st.characters())]
        text = "".join(tokens)
    return text


def values_replaced(text: str, data: st.DataObject) -> str:
    """``text`` with one value somewhere in it replaced by another of any kind."""
    root = json.loads(text)
    holder: Any = root
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = data.draw(st.sampled_from(keys))
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 4)) == 0:
            break
        holder = inner
    anything: st.SearchStrategy[Any] = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([]) | st.just({})
    )
    holder[key] = data.draw(
        anything | st.lists(st.text(), max_size=2) | st.dictionaries(st.text(), st.integers(), max_size=2)
    )
    return json.dumps(root, ensure_ascii=data.draw(st.booleans()), indent=data.draw(st.sampled_from([None, 1])))


def accepted_or_located(text: str) -> None:
    """The only two outcomes there are; a file that is accepted has definitions that survive their rows."""
    registry = Registry()
    registry.add("collect", lambda only=None: None)
    problems: tuple[Problem, ...] = ()
    file = None
    try:
        file = parsed(text, registry=registry)
    except ConfigError as error:
        problems = error.problems
    for problem in problems:
        assert problem.message
        assert problem.severity == "error"
        assert problem.line >= 1
        assert problem.column >= 1
        assert str(problem).encode()
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", str(problem))
    if file is None:
        assert problems
        return
    assert all(one.severity == "warning" and one.line for one in file.warnings)
    for definition in file.definitions.values():
        assert definition_of(text_of(definition)) == definition
    assert fits(json.loads(text.removeprefix("\ufeff")), jobs_schema(), jobs_schema())


@settings(max_examples=300)
@given(st.sampled_from([DOCUMENTED, FULL]), st.data())
def test_a_file_with_broken_tokens_is_accepted_or_refused_with_places(text: str, data: st.DataObject) -> None:
    accepted_or_located(mutated(text, data))


@settings(max_examples=300)
@given(st.sampled_from([DOCUMENTED, FULL]), st.data())
def test_a_file_with_any_value_anywhere_is_accepted_or_refused_with_places(text: str, data: st.DataObject) -> None:
    accepted_or_located(values_replaced(text, data))


@settings(max_examples=200)
@given(st.data())
def test_a_file_with_broken_bytes_is_accepted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(FULL.encode())
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_bytes(raw[: data.draw(st.integers(1, len(raw)))])
    problems: tuple[Problem, ...] = ()
    try:
        assert load_jobs(path, defaults=PolicyDefaults()).text
    except ConfigError as error:
        problems = error.problems
    assert all(problem.line or "UTF" in problem.message for problem in problems)


# --- ten thousand jobs -----------------------------------------------------------------------------------------------


def test_ten_thousand_jobs_load_fast_and_share_what_is_equal() -> None:
    entry = {"function": "collect", "kwargs": {"only": "rss"}, "timeout": "5m", "max_retries": 2, "priority": "LOW"}
    text = json.dumps(
        {"cron_jobs": {f"job_{n}": entry | {"cron_expression": f"{n % 60} * * * *"} for n in range(10_000)}}
    )
    registry = Registry()
    registry.add("collect", lambda only: None)
    begun = time.process_time()
    file = parsed(text, registry=registry)
    assert time.process_time() - begun < 3.0  # 0.7 s when measured; room for a busy machine
    assert len(file.definitions) == 10_000
    for part in ("policies", "schedule"):
        assert len({id(getattr(definition, part)) for definition in file.definitions.values()}) <= 60

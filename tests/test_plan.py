"""What an edit would do, said before it is done: words and figures, and the commands that show and apply it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from atlas.cli import planning
from atlas.scheduler.errors import ConfigError
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.jobs_file.parsing import parse_jobs
from atlas.scheduler.reconcile.advice import advise
from atlas.scheduler.reconcile.changes import differences
from atlas.scheduler.reconcile.reconciler import Reconciler
from tests.clockwork import DAY, START, Clockwork, utc
from tests.installations import Installation, Served
from tests.queue_bench import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from atlas.scheduler.reconcile.preview import Preview
    from tests.installations import Typed

HOURLY = {"cron_expression": "@hourly", "function": "nothing"}


def document(**jobs: Mapping[str, Any]) -> str:
    return json.dumps({"cron_jobs": jobs}, ensure_ascii=False)


class Planned:
    def __init__(self, clockwork: Clockwork, file: Path) -> None:
        self.clockwork, self.file = clockwork, file
        self.reconciler = Reconciler(clockwork.cron, file, PolicyDefaults())

    def preview(self, /, **jobs: dict[str, Any]) -> Preview:
        return self.reconciler.preview(document(**jobs))

    def apply(self, /, **jobs: dict[str, Any]) -> None:
        self.file.write_text(document(**jobs), "utf-8")
        self.reconciler.reload()


@pytest.fixture
def planned(clockwork: Clockwork, tmp_path: Path) -> Planned:
    return Planned(clockwork, tmp_path / "cron_jobs.json")


def test_a_job_that_loses_its_function_is_told_apart_from_advice(planned: Planned, warned: list[str]) -> None:
    planned.apply(same=HOURLY, other=HOURLY, off=HOURLY)
    lost = {**HOURLY, "function": "nothin"}
    edited: dict[str, Any] = {"same": HOURLY, "other": lost, "off": {**lost, "enabled": False}, "new": lost}
    preview = planned.preview(**edited)
    words = "will not run: there is no function 'nothin'; it was 'nothing', which ran"
    assert {job.id: job.will_not_run for job in preview.jobs} == {"other": words, "off": None, "new": None}
    told = next(str(one) for one in preview.warnings if one.path == "cron_jobs.other.function")
    assert told.endswith("the job will not run (UNBOUND): no function 'nothin' is registered; did you mean 'nothing'?")
    planned.apply(**edited)
    assert f"other: {words}" in warned
    again = planned.preview(**edited | {"other": {**lost, "function": "nothink"}})
    assert [job.will_not_run for job in again.jobs] == [None]  # it did not run before


def test_the_command_line_says_which_job_will_not_run(tmp_path: Path, typed: Typed) -> None:
    made = Installation(tmp_path / "atlas", {"mine": {"cron_expression": "@hourly", "function": "collect"}})
    manual = {"reload": "manual", "cron_jobs": made.jobs}  # or it is in force before it is applied
    made.jobs_file.write_text(json.dumps(manual))
    with Served(made):
        made.jobs_file.write_text(json.dumps(manual).replace("collect", "colect"))
        planned = typed("plan", at=made).out
        assert "✗ will not run: there is no function 'colect'; it was 'collect', which ran" in planned
        assert planned.splitlines()[-1].startswith("mine will not run. 1 changed")
        assert "✗ will not run" in typed("apply", at=made).out


# --- words and figures -----------------------------------------------------------------------------------------------


def test_a_plan_tells_what_is_added_changed_and_removed(planned: Planned) -> None:
    planned.apply(same=HOURLY, other={**HOURLY, "timeout": 180}, gone=HOURLY)
    preview = planned.preview(
        same=HOURLY,
        other={**HOURLY, "cron_expression": "*/15 * * * *", "timeout": 240, "name": "别的"},
        new={**HOURLY, "cron_expression": "15 8 * * mon-fri"},
    )
    assert [(job.id, job.kind) for job in preview.jobs] == [("gone", "removed"), ("new", "added"), ("other", "changed")]
    gone, new, other = preview.jobs
    assert [one.en for one in other.differences] == [
        "every hour → every 15 minutes",
        "name other → 别的",
        "timeout 3m → 4m",
    ]
    assert other.differences[2].zh == "超时 3m → 4m"
    assert (other.next_before, other.next_after) == (utc(f"{DAY} 13:00"), utc(f"{DAY} 12:15"))
    assert (other.a_day_before, other.a_day_after) == (24, 96)
    assert (gone.next_before, gone.next_after, gone.a_day_after) == (utc(f"{DAY} 13:00"), None, 0)
    assert (new.next_before, new.next_after) == (None, utc("2026-03-03 08:15"))
    assert (preview.before.tasks, preview.after.tasks) == (72, 121)
    assert (preview.unchanged, preview.revision, preview.is_new_text) == (1, 1, True)
    assert planned.clockwork.rows().keys() == {"same", "other", "gone"}  # nothing was applied


def test_a_plan_names_unfinished_tasks_and_pauses(planned: Planned) -> None:
    clockwork = planned.clockwork
    planned.apply(job={**HOURLY, "function": "gate"}, other=HOURLY)
    task_id = clockwork.cron.run_job_now("job")
    clockwork.gate.wait_entered()
    clockwork.store.write(lambda _connection: None)
    clockwork.cron.pause_job("job", by="web", reason="搬家", until=START + timedelta(days=1))
    clockwork.cron.pause_job("other", by="ops")
    preview = planned.preview(job={**HOURLY, "function": "gate", "timeout": 5}, other=HOURLY)
    (job,) = preview.jobs
    assert job.unfinished == ((task_id, "RUNNING"),)
    assert job.pause is not None
    assert list(preview.paused) == ["job", "other"]
    assert preview.before.tasks == 0  # a paused job makes none
    assert json.loads(json.dumps(preview.to_json()))["paused"]["job"]["reason"] == "搬家"


def test_a_plan_names_new_collisions_only(planned: Planned) -> None:
    at_two, at_five = {**HOURLY, "cron_expression": "0 2 * * *"}, {**HOURLY, "cron_expression": "0 5 * * *"}
    old = {f"old{number}": at_two for number in range(11)}
    assert len(old) > planned.clockwork.max_workers
    planned.apply(**old, away=at_five)
    assert planned.preview(**old, away={**at_five, "timeout": 9}).collisions == ()
    preview = planned.preview(**old, away=at_two)
    (herd,) = preview.collisions
    assert "away" in herd.job_ids
    assert (preview.before.peak, preview.after.peak) == (11, 12)


def test_a_plan_of_a_bad_text_raises_everything_that_is_wrong(planned: Planned) -> None:
    with pytest.raises(ConfigError) as caught:
        planned.preview(a={**HOURLY, "timeout": -1}, b={"cron_expression": "61 * * * *"})
    assert len(caught.value.problems) == 2
    planned.clockwork.cron.add_job("mine", "@hourly", "nothing")
    with pytest.raises(ConfigError, match="made by code"):
        planned.preview(mine=HOURLY)


def test_each_field_that_differs_is_told_in_both_languages() -> None:
    plain = {"cron_expression": "0 2 * * *"}
    changes: dict[str, Any] = {
        "name": "名字", "description": "text", "tags": ["a"], "owner": "me", "runbook": "http://x", "enabled": False,
        "cron_expression": "0 3 * * *", "timezone": "Asia/Shanghai", "start_at": "2026-01-01T00:00", "spread": 60,
        "end_at": "2030-01-01T00:00", "calendar": "days", "function": "other", "args": [1], "kwargs": {"a": 1},
        "executor": "thread", "max_retries": 9, "retry_delay": 9, "retry_backoff": 9, "retry_max_delay": 999,
        "retry_jitter": 0.9, "retry_on": ["KeyError"], "timeout": 9, "on_crash": "fail", "overlap": "queue",
        "max_instances": 9, "catchup": "all", "catchup_window": 9, "catchup_limit": 9, "keep_days": 9, "keep_tasks": 9,
        "log_max_bytes": 9, "priority": "LOW", "triggers": [{"type": "interval", "every": "1h"}],
    }  # fmt: skip

    def parsed(job: dict[str, Any]) -> Any:
        text = json.dumps({"calendars": {"days": {"exclude": ["2026-05-01"]}}, "cron_jobs": {"job": job}})
        return parse_jobs(text, file="f", defaults=PolicyDefaults(), registry=None).definitions["job"]

    for field, value in changes.items():
        (told,) = differences(parsed(plain), parsed({**plain, field: value}))
        assert told.en, field
        assert told.zh, field
    assert differences(parsed(plain), parsed(plain)) == ()
    (told,) = differences(parsed(plain), parsed({**plain, "max_retries": 3}))  # the same value, said by the job itself
    assert told.field == "value_from"
    assert told.after == {"max_retries": "job"}


CRONS = st.sampled_from(["@hourly", "* * * * *", "*/15 * * * *", "0 2 * * *", "30 4 1 * *", "0 9 * * mon-fri"])
JOBS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d", "任务"]),
    st.fixed_dictionaries(
        {"cron_expression": CRONS, "function": st.just("nothing")},
        optional={
            "enabled": st.booleans(),
            "timeout": st.integers(1, 3),
            "spread": st.sampled_from([0, 600]),
            "timezone": st.sampled_from(["UTC", "Asia/Shanghai", "Australia/Lord_Howe"]),
            "name": st.sampled_from(["x", "名"]),
            "end_at": st.sampled_from(["2026-03-02T12:30", "2020-01-01T00:00"]),
        },
    ),
    max_size=5,
)


@pytest.fixture(scope="module")
def always(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planned]:
    """One scheduler for all examples: each begins where the last one ended."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("always")
        with Clockwork(folder / "atlas.db", patch) as clockwork:
            yield Planned(clockwork, folder / "cron_jobs.json")


@hypothesis_settings(max_examples=60)
@given(first=JOBS, second=JOBS, minutes=st.integers(0, 90))
def test_what_a_plan_says_is_the_difference_of_the_rows_before_and_after(
    always: Planned, first: dict[str, Any], second: dict[str, Any], minutes: int
) -> None:
    clockwork = always.clockwork
    always.apply(**first)
    clockwork.clock.instant += timedelta(minutes=minutes)
    clockwork.tick()  # what is due is served, so that nothing else moves than what the edit moves
    before = clockwork.rows()
    preview = always.preview(**second)
    assert clockwork.rows() == before
    always.apply(**second)
    after = clockwork.rows()

    def at(row: Any) -> datetime | None:
        return None if row is None or row.next_run_time is None else datetime.fromtimestamp(row.next_run_time, UTC)

    changed = {job_id for job_id in before.keys() | after.keys() if _state(before, job_id) != _state(after, job_id)}
    assert {job.id for job in preview.jobs} == changed
    for job in preview.jobs:
        kind = "added" if job.id not in before else "removed" if job.id not in after else "changed"
        assert job.kind == kind
        assert (job.next_before, job.next_after) == (at(before.get(job.id)), at(after.get(job.id)))
        assert bool(job.differences) == (kind == "changed")
    assert {job_id: before[job_id] for job_id in before.keys() - changed} == {
        job_id: after[job_id] for job_id in before.keys() - changed
    }


def _state(rows: dict[str, Any], job_id: str) -> bytes | None:
    row = rows.get(job_id)
    return None if row is None else bytes(row.job_state)


# --- warnings --------------------------------------------------------------------------------------------------------


def advice(text: str, *, slots: int = 2, now: datetime = START) -> list[str]:
    wanted = parse_jobs(text, file="jobs.json", defaults=PolicyDefaults(), registry=None)
    return [str(one) for one in advise(wanted, file="jobs.json", now=now, slots=slots)]


def test_a_herd_is_told_at_its_first_job() -> None:
    jobs = {name: {"cron_expression": "0 2 * * *"} for name in ("a", "b", "c")}
    (told,) = advice(json.dumps({"cron_jobs": jobs}, indent=1))
    assert told.startswith("jobs.json:3:3: cron_jobs.a: starts together with 2 more jobs at 02:00:00 (b, c), and 2 run")
    assert '"spread": "' in told
    assert advice(json.dumps({"cron_jobs": jobs}), slots=3) == []


def test_two_jobs_of_one_function_in_one_minute_are_told_once() -> None:
    jobs: dict[str, dict[str, Any]] = {
        "a": {"cron_expression": "0 * * * *", "function": "f"},
        "b": {"cron_expression": "30 * * * *", "function": "f"},
        "c": {"cron_expression": "0 5 * * *", "function": "f"},
        "d": {"cron_expression": "0 5 * * *", "function": "g"},
        "e": {"cron_expression": "0 5 * * *", "function": "g", "enabled": False},
    }
    (told,) = advice(document(**jobs), slots=9)
    assert "cron_jobs.c: runs f in the same minute as a (at 05:00)" in told


def test_many_jobs_of_one_function_are_told_together() -> None:
    jobs = {f"job{number:03}": {"cron_expression": f"{number % 40} 5 * * *", "function": "f"} for number in range(120)}
    told = advice(document(**jobs), slots=999)
    assert len(told) == 20
    assert "runs f in the same minute as job000 (at 05:00), and so do job080; if that is" in told[0]
    assert told[-1].endswith("20 more minutes have such jobs")


@pytest.mark.parametrize(
    ("cron", "zone", "words"),
    [
        ("30 2 * * *", "Europe/Berlin", "02:30 is a time that the clock in Europe/Berlin leaves out on 2026-03-29"),
        ("15 2 * * *", "Australia/Lord_Howe", "02:15 is a time that the clock in Australia/Lord_Howe leaves out"),
        ("0 2 * * sun", "Europe/Berlin", "fires at 03:00"),
        ("*/30 * * * *", "Europe/Berlin", None),
        ("30 * * * *", "Europe/Berlin", None),
        ("@hourly", "Europe/Berlin", None),
        ("0 3 * * *", "Europe/Berlin", None),
        ("30 2 * * mon", "Europe/Berlin", None),
        ("30 2 * * *", "Asia/Shanghai", None),
    ],
    ids=["berlin", "lord-howe", "gap-start", "wild-minute", "wild-hour", "alias", "after", "monday", "no-change"],
)
def test_a_fixed_time_that_a_clock_leaves_out_is_told(cron: str, zone: str, words: str | None) -> None:
    told = advice(document(job={"cron_expression": cron, "timezone": zone}))
    assert (words is None) == (told == [])
    if words is not None:
        assert words in told[0]


# --- the commands ----------------------------------------------------------------------------------------------------


GREET = {"cron_expression": "0 9 * * *", "function": "work_of_tests:greet"}


def test_the_file_is_planned_applied_listed_compared_and_taken_back(tmp_path: Path, typed: Typed) -> None:
    made = Installation(tmp_path / "atlas", {"greet": GREET})
    assert "no revision yet" in typed("revisions", at=made).out
    beyond = typed("diff", "9" * 30, "1", at=made)
    assert (beyond.code, f"no revision {'9' * 30}" in beyond.err) == (3, True)
    planned = made.atlas("plan")
    assert planned.code == 0
    assert planned.out.startswith("config/cron_jobs.json against nothing yet\n+ greet  daily at 09:00")
    other = tmp_path / "other.json"
    other.write_text(document(greet={**GREET, "timeout": 5}, 第二={**GREET, "cron_expression": "0 3 * * *"}), "utf-8")
    original = made.jobs_file.read_text("utf-8")
    with Served(made):
        assert "Nothing changes" in typed("plan", at=made).out
        planned = typed("plan", str(other), at=made)
        assert "~ greet  timeout 10m → 5s" in planned.out
        assert "+ 第二" in planned.out
        assert "1 changed, 1 added, 0 removed" in planned.out
        assert typed("plan", str(other), "--json", at=made).json["tasks_a_day"] == {"before": 1, "after": 2}
        applied = typed("apply", str(other), at=made)
        assert applied.code == 0, applied.err
        assert "Revision 2 is in force." in applied.out
        assert json.loads(made.jobs_file.read_text("utf-8")) == json.loads(other.read_text("utf-8"))
        assert made.jobs_file.with_name("cron_jobs.json.bak").read_text("utf-8") == original
        assert "nothing to do" in typed("apply", str(other), at=made).out
        bad = tmp_path / "bad.json"
        bad.write_text('{"cron_jobs": {"a": {"cron_expression": "61 * * * *"}}}')
        refused = typed("apply", str(bad), at=made)
        assert refused.code == 2
        assert "bad.json:1:" in refused.err
        back = typed("rollback", "1", at=made)
        assert back.code == 0, back.err
        assert "Revision 3 is in force." in back.out
        assert made.jobs_file.read_text("utf-8") == original
        missing = typed("rollback", "99", at=made)
        assert (missing.code, "the newest is 3" in missing.err) == (3, True)
        listed = typed("revisions", at=made)
        assert [line.split()[0] for line in listed.out.splitlines()[1:4]] == ["3", "2", "1"]
        assert listed.out.splitlines()[-1].startswith("3 revisions; 3 is in force")
        assert [one["source"] for one in typed("revisions", "--json", at=made).json] == ["cli", "cli", "file"]
        compared = typed("diff", "1", "2", at=made)
        assert "~ greet  timeout 10m → 5s" in compared.out
        assert "+++ revision 2" in compared.out
        assert "are the same" in typed("diff", "3", "file", at=made).out
        assert typed("diff", "x", at=made).code == 2
        assert typed("diff", "7", "8", at=made).code == 3
        made.jobs_file.write_text("{", "utf-8")
        eventually(lambda: "The jobs file is refused; revision 3 runs on." in typed("jobs", at=made).out)
    audited = typed("audit", "--json", at=made).json
    assert [(one["action"], one["after"]["revision"]) for one in audited] == [
        ("rollback", 3),
        ("apply", 2),
        ("apply", 1),
    ]


def test_without_a_scheduler_an_apply_waits_for_one(tmp_path: Path) -> None:
    made = Installation(tmp_path / "atlas", {"greet": GREET})
    text = json.dumps({"reload": "manual", "cron_jobs": {"greet": GREET}})
    made.jobs_file.write_text(text, "utf-8")
    applied = made.atlas("apply")
    assert applied.code == 0
    assert "No scheduler runs: it counts when one starts" in applied.out
    with Served(made):
        assert [one["author"].partition(":")[0] for one in made.atlas("revisions", "--json").json] == ["cli"]


def test_what_is_saved_while_an_apply_looks_at_the_file_is_not_written_over(
    tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Installation(tmp_path / "atlas", {"greet": GREET})
    looked, saved = planning.preview_of, document(greet={**GREET, "timeout": 7})

    def slow(*args: Any) -> Any:
        made.jobs_file.write_text(saved, "utf-8")
        return looked(*args)

    monkeypatch.setattr(planning, "preview_of", slow)
    refused = typed("apply", at=made)
    assert (refused.code, "changed while it was looked at; apply it again" in refused.err) == (2, True)
    assert made.jobs_file.read_text("utf-8") == saved
    assert "it counts when one starts" in typed("apply", at=made).out


def test_check_warns_of_what_is_hardly_meant(tmp_path: Path, typed: Typed) -> None:
    made = Installation(tmp_path / "atlas", {"one": GREET, "two": GREET})
    checked = typed("check", at=made)
    assert checked.code == 0
    assert "warning cron_jobs.two: " in checked.out
    assert "in the same minute as one" in checked.out

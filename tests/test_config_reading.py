"""What is read of a jobs file: nothing where nothing changed, the edit where little did, and never anything else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from atlas.scheduler.definition import JobDefinition
from atlas.scheduler.definition_text import UnreadDefinition
from atlas.scheduler.errors import ConfigError
from atlas.scheduler.job_store.records import JobRecord, make_records
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.jobs_file.parsing import JobsFile, parse_jobs
from atlas.scheduler.reconcile import checked as checked_module
from atlas.scheduler.reconcile import reading as reading_module
from atlas.scheduler.reconcile.checked import Checked
from atlas.scheduler.reconcile.edit import EditReader
from atlas.scheduler.reconcile.reading import JobsReader
from atlas.scheduler.reconcile.reconciler import Reconciler
from atlas.scheduler.registry import Registry
from atlas.scheduler.store.revisions import RevisionText
from atlas.scheduler.store.tables import jobs
from tests.clockwork import Clockwork, nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEFAULTS = PolicyDefaults()


def registry() -> Registry:
    """Two functions: one takes nothing, one takes a number."""
    made = Registry()
    made.add("work", nothing)
    made.add("count", lambda number=0: number)
    return made


def accepted(text: str, functions: Registry) -> tuple[RevisionText, JobsFile]:
    read = parse_jobs(text, file="jobs.json", defaults=DEFAULTS, registry=functions)
    revision = RevisionText(
        number=1,
        accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
        source="file",
        author="file",
        digest=read.digest,
        summary="",
        text=read.text,
    )
    return revision, read


def running(read: JobsFile) -> dict[str, JobRecord]:
    records = make_records(read.definitions.values(), now=datetime(2026, 1, 1, tzinfo=UTC))
    return {record.id: record for record in records}


# --- an edit reads as the whole does ---------------------------------------------------------------------------------

ENTRIES = st.fixed_dictionaries(
    {"cron_expression": st.sampled_from(["@hourly", "0 9 * * *", "61 * * * *"]), "function": st.just("work")},
    optional={
        "name": st.sampled_from(["Plain", '日报 \\ "quoted"', "}}, {"]),
        "timeout": st.sampled_from([60, "5m"]),
        "args": st.just([]),
        "x_note": st.just({"cron_jobs": {}}),
        "calendar": st.sampled_from(["rest", "none"]),
        "max_instances": st.just(2),
    },
)
KEYS = st.sampled_from(["a", "b", "c", "日", "x_note", 'q"{'])
FILES = st.fixed_dictionaries(
    {"cron_jobs": st.dictionaries(KEYS, ENTRIES, max_size=5)},
    optional={
        "timezone": st.sampled_from(["UTC", "Asia/Shanghai"]),
        "defaults": st.just({"max_retries": 1}),
        "calendars": st.just({"rest": {"exclude": ["2026-10-01"]}}),
        "reload": st.sampled_from(["auto", "manual"]),
    },
)
TEXTS = st.builds(json.dumps, FILES, indent=st.sampled_from([None, 1]), ensure_ascii=st.booleans())


@st.composite
def cuts(draw: st.DrawFn) -> Callable[[str], str]:
    """An edit as a hand makes it: a stretch of the text becomes another one."""
    at, length = draw(st.floats(0, 1)), draw(st.integers(0, 30))
    put = draw(
        st.sampled_from(["", ",", "}", "{", '"', "}}", '"a": {}', ', "a": {"cron_expression": "@daily"}', " ", "\\"])
    )

    def cut(text: str) -> str:
        start = int(at * len(text))
        return text[:start] + put + text[start + length :]

    return cut


def same(one: JobsFile, other: JobsFile) -> bool:
    return (
        list(one.definitions.items()) == list(other.definitions.items())
        and (one.text, one.digest, one.reload, one.timezone) == (other.text, other.digest, other.reload, other.timezone)
        and one.warnings == other.warnings == ()
    )


@settings(deadline=None, max_examples=300)
@given(before=TEXTS, after=TEXTS, cut=cuts(), again=cuts())
@example(
    before='{"cron_jobs":{"a":{"cron_expression":"@daily"},"b":{"cron_expression":"@daily"}}}',
    after='{"cron_jobs":{"a":{"cron_expression":"@daily"}},"cron_jobs":{"b":{"cron_expression":"@daily"}}}',
    cut=lambda text: text,
    again=lambda text: text,
)
def test_an_edit_is_read_as_the_whole_would_be_or_left_to_it(
    before: str, after: str, cut: Callable[[str], str], again: Callable[[str], str]
) -> None:
    functions = registry()
    try:
        revision, read = accepted(before, functions)
    except ConfigError:
        return
    if read.warnings:
        return
    edits = EditReader(revision, DEFAULTS, functions)
    for text in (after, cut(before), again(cut(before))):
        assert edits.knows(revision)
        part = edits.read(revision, text, running(read))
        if part is None:
            continue
        revision, read = accepted(text, functions)  # raises if the whole is not accepted
        assert same(part, read)


def test_whatever_entry_is_changed_added_or_taken_out_only_the_edit_is_read() -> None:
    functions = registry()
    entries: dict[str, dict[str, Any]] = {
        f"job{n}": {"cron_expression": "@daily", "function": "work"} for n in range(9)
    }
    revision, read = accepted(json.dumps({"cron_jobs": entries}, indent=1), functions)
    changed = {"cron_expression": "@hourly", "function": "count", "args": [1]}
    edited = [
        *({**entries, name: changed} for name in ("job0", "job4", "job8", "new")),
        {"new": changed, **entries},
        *({key: value for key, value in entries.items() if key != name} for name in ("job0", "job5", "job8")),
    ]
    for jobs_then in edited:
        text = json.dumps({"cron_jobs": jobs_then}, indent=1)
        part = EditReader(revision, DEFAULTS, functions).read(revision, text, running(read))
        assert part is not None
        assert same(part, accepted(text, functions)[1])
        shared = [key for key in part.definitions if part.definitions[key] is read.definitions.get(key)]
        assert len(shared) >= len(jobs_then) - 3  # it, and a neighbour on either side


# --- nothing changed, nothing is read --------------------------------------------------------------------------------


class Configured:
    """A scheduler whose file is read by whoever `reads` counts."""

    def __init__(self, clockwork: Clockwork, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clockwork, self.file, self.reads = clockwork, file, 0
        self.defaults = DEFAULTS
        self.functions: dict[str, Callable[..., Any]] = {"two": nothing}
        real = JobsReader.read

        def read(*args: Any) -> JobsFile:
            self.reads += 1
            return real(*args)

        monkeypatch.setattr(JobsReader, "read", read)

    def start(self, *, again: bool = True) -> Reconciler:
        if again:
            self.clockwork.restart()
        self.reads = 0
        for name, function in self.functions.items():
            self.clockwork.registry.add(name, function)
        reconciler = Reconciler(self.clockwork.cron, self.file, self.defaults)
        reconciler.start()
        return reconciler


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Configured]:
    file = tmp_path / "cron_jobs.json"
    entries = {"one": {"cron_expression": "@hourly", "function": "nothing"}, "two": {"cron_expression": "@daily"}}
    file.write_text(json.dumps({"cron_jobs": entries}), "utf-8")
    with Clockwork(tmp_path / "atlas.db", monkeypatch) as clockwork:
        one = Configured(clockwork, file, monkeypatch)
        one.start(again=False)
        assert one.reads == 1
        yield one


def test_a_restart_on_what_is_known_reads_nothing_and_says_the_same(configured: Configured) -> None:
    again = configured.start()
    assert configured.reads == 0
    assert again.standing.facts()["revision"] == 1
    assert again.standing.error is None
    assert {job.id for job in configured.clockwork.cron.get_all_jobs()} == {"one", "two"}


def test_jobs_of_code_do_not_count(configured: Configured) -> None:
    configured.clockwork.cron.add_job("mine", "* * * * *", "nothing")
    configured.start()
    assert configured.reads == 0


def lose_a_row(one: Configured) -> None:
    one.clockwork.store.write(lambda connection: connection.execute(delete(jobs).where(jobs.c.id == "one")))


def change_a_row(one: Configured) -> None:
    record = one.clockwork.jobs.record("one")
    assert record is not None
    text = record.text.replace('"timeout_s":600.0', '"timeout_s":601.0')
    assert text != record.text
    one.clockwork.store.write(
        lambda connection: connection.execute(update(jobs).where(jobs.c.id == "one").values(job_state=text.encode()))
    )


def spoil_a_row(one: Configured) -> None:
    one.clockwork.store.write(
        lambda connection: connection.execute(update(jobs).where(jobs.c.id == "one").values(job_state=b"{"))
    )


def alter_defaults(one: Configured) -> None:
    one.defaults = PolicyDefaults(timeout_s=5.0)


def lose_a_function(one: Configured) -> None:
    one.functions.clear()


def change_a_function(one: Configured) -> None:
    one.functions["two"] = lambda needed: needed


def edit_the_file(one: Configured) -> None:
    one.file.write_text(one.file.read_text("utf-8") + "\n", "utf-8")


CHANGES = [
    lose_a_row, change_a_row, spoil_a_row, alter_defaults, lose_a_function, change_a_function, edit_the_file,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_whatever_else_changed_is_noticed(configured: Configured, change: Callable[[Configured], None]) -> None:
    change(configured)
    reconciler = configured.start()
    assert configured.reads == 1
    record = configured.clockwork.jobs.record("one")
    assert record is not None
    assert record.definition.policies.timeout_s == (5.0 if change is alter_defaults else 600.0)
    if change is change_a_function:
        assert "two" in str(reconciler.standing.error)
    else:
        configured.start()
        assert configured.reads == 0  # noted again


def test_another_version_of_the_program_reads_it_again(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked_module, "PROGRAM", "atlas 99")
    configured.start()
    assert configured.reads == 1
    configured.start()
    assert configured.reads == 0


def test_warnings_are_told_at_every_start_though_nothing_is_read(configured: Configured) -> None:
    text = configured.file.read_text("utf-8").replace('"@daily"', '"@daily", "max_instances": 2')
    configured.file.write_text(text, "utf-8")
    first = configured.start()
    assert configured.reads == 1
    assert len(first.standing.warnings) == 1
    assert first.standing.warnings[0].line == 1
    assert configured.start().standing.warnings == first.standing.warnings
    assert configured.reads == 0


def test_what_the_file_says_about_reloading_is_known_without_reading_it(configured: Configured) -> None:
    raw = json.loads(configured.file.read_text("utf-8"))
    configured.file.write_text(json.dumps({"reload": "manual", **raw}), "utf-8")
    configured.start()
    assert configured.start().standing.mode == "manual"
    assert configured.reads == 0


def test_an_edit_behind_a_restart_reads_nothing_of_jobs_that_stay(configured: Configured) -> None:
    def entries(last: str) -> str:
        jobs_then = {name: {"cron_expression": "@daily", "function": "nothing"} for name in ("a", "b", "c", "d")}
        return json.dumps({"cron_jobs": {**jobs_then, "d": {"cron_expression": last, "function": "nothing"}}})

    configured.file.write_text(entries("@daily"), "utf-8")
    configured.start()
    reconciler = configured.start()
    configured.file.write_text(entries("@weekly"), "utf-8")
    assert reconciler.reload().summary == "~d"
    known = {record.id: type(record.known) for record in configured.clockwork.jobs.records()}
    assert known["d"] is JobDefinition
    assert known["a"] is known["b"] is UnreadDefinition  # the neighbour of an edit is read with it


def test_a_function_that_is_replaced_while_it_runs_lets_the_whole_file_be_read(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that nobody edited may be wrong now."""
    reconciler = configured.start()
    whole: list[str] = []

    def noted(text: str, **kwargs: Any) -> JobsFile:
        whole.append(text)
        return parse_jobs(text, **kwargs)

    monkeypatch.setattr(reading_module, "parse_jobs", noted)
    text = configured.file.read_text("utf-8")
    configured.file.write_text(text.replace("@hourly", "@weekly"), "utf-8")
    reconciler.reload()
    assert whole == []
    configured.clockwork.registry.add("two", lambda needed: needed)
    configured.file.write_text(text.replace("@hourly", "@monthly"), "utf-8")
    with pytest.raises(ConfigError, match="two"):
        reconciler.reload()
    assert len(whole) == 1


def test_a_check_that_nobody_can_read_is_none() -> None:
    assert Checked.from_json(None) is Checked.from_json("{") is Checked.from_json('{"program": 1}') is None

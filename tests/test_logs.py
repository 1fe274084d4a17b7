"""Log lines: one per record whatever it holds, nothing secret, private files, and no trace left behind."""

from __future__ import annotations

import contextvars
import json
import logging
import re
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from atlas.logs import configure_logging
from atlas.scheduler.context import TaskContext, enter_task
from atlas.scheduler.errors import ConfigError
from atlas.scheduler.event_log import AT_ONCE, MANY, MOST_JOBS, EventLog, facts_of
from atlas.scheduler.events import JobEvent, JobEventKind, SchedulerEvent, SchedulerEventKind, TaskEvent
from atlas.scheduler.log_lines import HIDDEN, REDACT, hide
from atlas.scheduler.task import TaskStatus
from atlas.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \| [A-Z ]{8} \| \S+ \| .*")


AT = datetime(2026, 3, 1, 9, tzinfo=UTC)


def logging_to(folder: Path, **changes: object) -> Settings:
    values = {"file": folder / "a.log", "json_file": folder / "a.jsonl", "level": "DEBUG", **changes}
    return Settings.model_validate({"logging": values})


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Path]:
    """A folder that gets ``a.log`` and ``a.jsonl`` while the test runs."""
    undo = configure_logging(logging_to(tmp_path), console=False)
    yield tmp_path
    undo()


def lines(folder: Path, name: str = "a.log") -> list[str]:
    return (folder / name).read_text(encoding="utf-8").splitlines()


def entries(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines(folder, "a.jsonl")]


def test_bound_fields_stand_behind_the_message(files: Path) -> None:
    logger.bind(job="daily_report", attempt=1, title="two words", empty="").info("task started")
    (line,) = lines(files)
    assert LINE.fullmatch(line)
    assert line.endswith('| task started | job=daily_report attempt=1 title="two words" empty=""')
    (entry,) = entries(files)
    assert entry["message"] == "task started"
    assert entry["fields"] == {"job": "daily_report", "attempt": 1, "title": "two words", "empty": ""}


@given(text=st.text(st.characters(codec=None)), value=st.text(st.characters(codec=None)))
def test_whatever_is_logged_is_one_line(tmp_path_factory: pytest.TempPathFactory, text: str, value: str) -> None:
    folder = tmp_path_factory.mktemp("logs")
    undo = configure_logging(logging_to(folder), console=False)
    logger.bind(value=value).info("{}", text)
    undo()
    (line,) = (folder / "a.log").read_text(encoding="utf-8").split("\n")[:-1]
    assert LINE.fullmatch(line)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)
    assert len(entries(folder)) == 1


def test_a_line_of_a_running_task_says_whose_it_is(files: Path) -> None:
    class Keeper:
        def add(self, *_line: object) -> None:
            pass

    def speak() -> None:
        enter_task(TaskContext(task_id="t1", attempt=2, logs=Keeper()))
        logger.bind(source="BBC").info("collected")
        logging.getLogger("lib").warning("slow")

    contextvars.copy_context().run(speak)
    logger.info("nobody's")
    assert [line.rpartition(" | ")[2] for line in lines(files)] == [
        "source=BBC task_id=t1 attempt=2",
        "task_id=t1 attempt=2",
        "nobody's",
    ]
    assert entries(files)[1]["fields"] == {"task_id": "t1", "attempt": 2}


def test_braces_and_tags_are_left_alone(files: Path) -> None:
    logger.bind(shape="{x}").info("100 % of {braces} and <red>tags</red>")
    assert lines(files)[0].endswith("| 100 % of {braces} and <red>tags</red> | shape={x}")


def test_a_traceback_is_indented_and_shows_no_values_of_variables(files: Path) -> None:
    hunter = "2" * 3
    try:
        raise ValueError("first\n2026-03-01 09:00:00.123 | INFO     | atlas | forged\x1b[2J")
    except ValueError:
        logger.exception("task failed")
    first, *rest = lines(files)
    assert first.endswith("| task failed")
    assert all(line.startswith("    ") for line in rest)
    assert not any(LINE.fullmatch(line) for line in rest)
    assert "\x1b" not in "".join(rest)
    assert hunter not in "".join(rest)
    (entry,) = entries(files)
    assert isinstance(entry["traceback"], list)
    assert entry["traceback"][-2:] == [
        "ValueError: first",
        r"2026-03-01 09:00:00.123 | INFO     | atlas | forged\x1b[2J",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:hunter2@h/d", f"postgresql://{HIDDEN}@h/d"),
        ("Authorization: Bearer hunter2.x-y", f"Authorization: Bearer {HIDDEN}"),
        ("GET /x?Token=hunter2&page=3", f"GET /x?Token={HIDDEN}&page=3"),
        ("password=hunter2", f"password={HIDDEN}"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_secrets_are_hidden_in_message_field_and_traceback(text: str, shown: str, files: Path) -> None:
    try:
        raise ValueError(text)
    except ValueError as error:
        logger.bind(detail=text).opt(exception=error).error(text)
    first, *rest = lines(files)
    assert f"| {shown} | detail=" in first
    assert any(line.endswith(f"ValueError: {shown}") for line in rest)
    (entry,) = entries(files)
    assert (entry["message"], entry["fields"]) == (shown, {"detail": shown})
    assert "hunter2" not in (files / "a.log").read_text(encoding="utf-8") + json.dumps(entry)


def test_the_list_of_what_to_hide_is_replaced_by_the_settings(tmp_path: Path) -> None:
    undo = configure_logging(logging_to(tmp_path, redact=[r"\d{16}"]), console=False)
    logger.info("card 1234567812345678 token=shown")
    undo()
    assert lines(tmp_path)[0].endswith(f"| card {HIDDEN} token=shown")


def test_what_the_standard_library_logs_comes_the_same_way(files: Path) -> None:
    logging.getLogger("some.library").warning("disk at %d %%", 93)
    logging.getLogger("some.library").log(35, "between two levels")
    try:
        raise KeyError("lost")
    except KeyError:
        logging.getLogger("some.library").exception("it broke")
    shown = lines(files)
    assert shown[0].endswith("| WARNING  | some.library | disk at 93 %")
    assert "| Level 35 | some.library | between two levels" in shown[1]
    assert shown[-1].endswith("KeyError: 'lost'")


def test_of_apscheduler_only_warnings_are_kept(files: Path) -> None:
    logging.getLogger("apscheduler.scheduler").info("Added job")
    logging.getLogger("apscheduler.scheduler").warning("Run time was missed")
    assert [line.rsplit(" | ", 1)[1] for line in lines(files)] == ["Run time was missed"]


def test_a_line_below_the_level_is_dropped(tmp_path: Path) -> None:
    undo = configure_logging(logging_to(tmp_path, level="WARNING"), console=False)
    logger.info("no")
    logging.getLogger("some.library").info("no")
    logger.warning("yes")
    undo()
    assert len(lines(tmp_path)) == 1


def test_setting_up_twice_writes_each_line_once(tmp_path: Path) -> None:
    configure_logging(logging_to(tmp_path), console=False)
    undo = configure_logging(logging_to(tmp_path), console=False)
    logger.info("once")
    logging.getLogger("some.library").info("once")
    undo()
    assert len(lines(tmp_path)) == 2


def test_a_line_that_cannot_be_formatted_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # what pytest's own handler does with such a line
    undo = configure_logging(logging_to(tmp_path), console=False)
    logging.getLogger("some.library").warning("%d", "five")
    logging.getLogger("some.library").warning("the next one")
    undo()
    (line,) = lines(tmp_path)
    assert "the next one" in line


def test_undoing_leaves_no_trace(tmp_path: Path) -> None:
    root, quiet = logging.getLogger(), logging.getLogger("apscheduler")
    before = (root.level, list(root.handlers), quiet.level)
    undo = configure_logging(logging_to(tmp_path), console=False)
    undo()
    undo()
    logger.info("to nobody")
    assert (root.level, list(root.handlers), quiet.level) == before
    assert lines(tmp_path) == []


def test_log_files_are_private(files: Path) -> None:
    logger.info("hello")
    assert {stat.S_IMODE(file.stat().st_mode) for file in files.iterdir()} == {0o600}


def test_a_full_file_is_put_aside_and_the_new_one_is_private_too(tmp_path: Path) -> None:
    undo = configure_logging(logging_to(tmp_path, json_file=None, rotation=10_000), console=False)
    for _ in range(200):
        logger.info("x" * 100)
    undo()
    files = list(tmp_path.iterdir())
    assert len(files) > 1
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) == 200


def test_a_log_file_that_cannot_be_opened_names_its_key(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"logging\.json_file"):
        configure_logging(logging_to(tmp_path), console=False)
    logger.info("to nobody")
    assert lines(tmp_path) == []


def test_a_disk_without_room_shows_no_secret_fails_nobody_and_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.log").symlink_to("/dev/full")
    undo = configure_logging(logging_to(tmp_path, json_file=None))
    for _ in range(50):
        logger.bind(url="postgresql://me:hunter2@h/d").error("password=hunter2")
    shown = capsys.readouterr().err
    assert "hunter2" not in shown
    told = [line for line in shown.splitlines() if not LINE.fullmatch(line)]
    assert told == [
        f"atlas: {tmp_path / 'a.log'} cannot be written: No space left on device; lines are left out there until it can"
    ]
    (tmp_path / "a.log").unlink()  # somebody makes room
    logger.info("there is room again")
    undo()
    assert lines(tmp_path)[-1].endswith("| there is room again")
    assert capsys.readouterr().err.splitlines()[-1].endswith("a.log is written again; up to 50 lines are missing in it")


class Unsayable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("value", [Unsayable(), [Unsayable()]], ids=["itself", "within"])
def test_a_field_that_cannot_be_said_costs_no_line_and_shows_no_secret(
    files: Path, capsys: pytest.CaptureFixture[str], value: object
) -> None:
    logger.bind(what=value).warning("password=hunter2")
    assert "hunter2" not in capsys.readouterr().err
    (line,) = lines(files)
    assert f"password={HIDDEN} | what=" in line


def test_the_console_gets_plain_text_when_it_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    undo = configure_logging(logging_to(tmp_path, file=None, json_file=None))
    logger.bind(n=1).info("hello")
    undo()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert LINE.fullmatch(shown.err.rstrip("\n"))


def test_the_console_is_coloured_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    undo = configure_logging(logging_to(tmp_path, file=None, json_file=None))
    logger.info("hello")
    undo()
    assert "\x1b[32m" in capsys.readouterr().err


# --- many tasks of one commit -----------------------------------------------------------------------------------------


def begun(number: int) -> TaskEvent:
    return TaskEvent(f"t{number}", "two words", "news", TaskStatus.RUNNING, 1, AT)


def ended(number: int, **more: Any) -> TaskEvent:
    done = begun(number)._replace(status=TaskStatus.SUCCESS, was=TaskStatus.RUNNING, duration_s=0.25)
    return done._replace(**more)


@pytest.mark.parametrize("number", [1, MANY - 1, MANY, 5 * MANY])
def test_each_task_has_its_line_however_many_end_in_one_commit(files: Path, number: int) -> None:
    EventLog("INFO").tell([one for n in range(number) for one in (begun(n), ended(n))])
    written = [LINE.fullmatch(line) is not None and line.partition(" | atlas")[2] for line in lines(files)]
    assert written == [
        f'.scheduler.event_log | task succeeded | task_id=t{n} name="two words" attempt=1 job_id=news duration_s=0.25'
        for n in range(number)
    ]
    assert [(entry["level"], entry["message"], entry["fields"]) for entry in entries(files)] == [
        ("INFO", "task succeeded", facts_of(ended(n))) for n in range(number)
    ]


@pytest.mark.parametrize("number", [1, AT_ONCE + MANY])
def test_each_job_has_its_line_however_many_a_revision_adds(files: Path, number: int) -> None:
    EventLog("INFO").tell([JobEvent(job_id=f"j{n}", kind=JobEventKind.ADDED, at=AT) for n in range(number)])
    written = [LINE.fullmatch(line) is not None and line.partition(" | atlas")[2] for line in lines(files)]
    assert written == [f".scheduler.event_log | job added | job_id=j{n}" for n in range(number)]
    assert [(entry["level"], entry["message"], entry["fields"]) for entry in entries(files)] == [
        ("INFO", "job added", {"job_id": f"j{n}"}) for n in range(number)
    ]


def test_of_thousands_of_jobs_that_a_revision_adds_the_log_counts_the_rest(files: Path) -> None:
    log, more = EventLog("INFO"), AT + timedelta(seconds=1)
    added = [JobEvent(job_id=f"j{n}", kind=JobEventKind.ADDED, at=AT) for n in range(20_000)]
    for start in range(0, len(added), 512):  # as the stream tells of them
        log.tell(added[start : start + 512])
    log.tell([JobEvent(job_id="next", kind=JobEventKind.ADDED, at=more), ended(1)])
    told = [line.partition(" | atlas.scheduler.event_log | ")[2] for line in lines(files)]
    assert told[:2] + told[MOST_JOBS - 1 : MOST_JOBS + 2] == [
        "job added | job_id=j0",
        "job added | job_id=j1",
        f"job added | job_id=j{MOST_JOBS - 1}",
        f"{20_000 - MOST_JOBS:,} more: job added",
        "job added | job_id=next",
    ]
    assert len(told) == len(entries(files)) == MOST_JOBS + 3


def test_what_a_refused_file_has_wrong_reads_as_one_line(files: Path) -> None:
    words = "revision 3 runs on\njobs.json:1:2: a comma too many; remove it\njobs.json:4:1: no such key"
    EventLog("INFO").tell([SchedulerEvent(kind=SchedulerEventKind.CONFIG_REFUSED, at=AT, detail={"words": words})])
    (line,) = lines(files)
    assert line.endswith(
        " | config refused: revision 3 runs on; jobs.json:1:2: a comma too many; remove it; jobs.json:4:1: no such key"
    )


SECRETS = st.lists(
    st.sampled_from(["token", "PASSWORD", "secret", "api_key", "apikey", "=", "==", " ", "&", "x", "密"])
)


@given(SECRETS.map("".join))
def test_what_stands_behind_the_name_of_a_secret_is_hidden_as_the_plain_rule_says(text: str) -> None:
    rule = re.compile(r"(?i)((?:token|password|secret|api_?key)=)[^\s&]+")
    assert hide(text, REDACT) == rule.sub(rf"\1{HIDDEN}", text)


def test_lines_of_many_tasks_forge_nothing_show_no_secret_and_keep_their_place(files: Path) -> None:
    bad = [
        ended(n, name="x\n2026-03-01 09:00:00.123 | INFO     | atlas | forged password=hunter2") for n in range(MANY)
    ]
    failed = ended(99)._replace(status=TaskStatus.FAILED)
    EventLog("INFO").tell([*bad, failed, *bad])
    found = lines(files)
    assert [("task failed" in line, LINE.fullmatch(line) is not None) for line in found] == [
        (n == MANY, True) for n in range(2 * MANY + 1)
    ]
    assert len(entries(files)) == len(found)
    assert "hunter2" not in (files / "a.log").read_text("utf-8") + (files / "a.jsonl").read_text("utf-8")

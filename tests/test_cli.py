"""The command line as a user meets it: what it prints where, and what the shell learns."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from atlas import __version__
from atlas.cli.commands import COMMANDS
from atlas.cli.main import parse
from atlas.cli.results import summary
from atlas.cli.stdout import never_fail_to_print
from atlas.cli.tables import Cell, Column, print_json, print_table
from atlas.cli.times import LocalTimes
from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.jobs_file.format import schema_text
from atlas.scheduler.log_lines import one_line
from tests.installations import Finished, Installation, Served
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.installations import Typed

JOBS: dict[str, Any] = {
    "greet_job": {"name": "问候任务", "cron_expression": "0 9 * * mon-fri", "function": "work_of_tests:greet"},
    "fail_job": {
        "name": "总是失败",
        "cron_expression": "@yearly",
        "function": "work_of_tests:fail",
        "max_retries": 1,
        "retry_delay": 0,
    },
    "wait_job": {"cron_expression": "@yearly", "function": "work_of_tests:until", "args": ["go"], "timeout": 60},
    "off_job": {"cron_expression": "@daily", "function": "work_of_tests:add", "args": [1], "enabled": False},
    "lost_job": {"cron_expression": "@daily", "function": "work_of_tests:gone"},
}
ESCAPE = "\x1b"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation nobody has started yet."""
    return Installation(tmp_path / "atlas", JOBS)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose scheduler runs, for all tests of this file."""
    made = Installation(tmp_path_factory.mktemp("served") / "atlas", JOBS)
    with Served(made):
        yield made


# --- parsing ---------------------------------------------------------------------------------------------------------


def test_help_is_complete_and_imports_nothing_heavy(installation: Installation) -> None:
    program = (
        "import sys; from atlas.cli.main import main; code = main(['--help']);"
        "heavy = {'sqlalchemy', 'pydantic', 'rich', 'loguru', 'apscheduler', 'yaml'} & set(sys.modules);"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=installation.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(re.search(rf"^    {command.name} ", done.stdout, re.MULTILINE) for command in COMMANDS)
    assert "5 timed out waiting" in done.stdout


def test_the_version_is_the_package_s(typed: Typed) -> None:
    assert typed("--version") == Finished(0, f"atlas {__version__}\n", "")


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_explains_itself(command: str, typed: Typed) -> None:
    done = typed(command, "--help")
    assert done.code == 0
    assert "--config FILE" in done.out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param(["jbos"], "did you mean 'jobs'?", id="a misspelt command"),
        pytest.param(["frobnicate"], "choose from serve, jobs", id="an unknown command"),
        pytest.param([], "required: COMMAND", id="no command"),
        pytest.param(["tasks", "--stats=x"], "no option '--stats'; did you mean '--status'?", id="a misspelt option"),
        pytest.param(["tasks", "--stat", "x"], "did you mean '--status'?", id="half an option"),
        pytest.param(["tasks", "--status", "faild"], "did you mean 'FAILED'?", id="a misspelt status"),
        pytest.param(["tasks", "--limit", "0"], "not in 1 to 1,000,000", id="a limit of nothing"),
        pytest.param(["tasks", "--limit", "many"], "no whole number", id="a limit in words"),
        pytest.param(["submit", "f", "--timeout", "soon"], "cannot read this duration", id="a timeout in words"),
        pytest.param(["submit", "f", "--max-retries", "-1"], "no whole number from 0", id="negative retries"),
        pytest.param(["forecast", "--hours", "0"], "not in 1 to 8,784", id="a forecast of nothing"),
        pytest.param(["run", "a", "b"], "one argument too many: 'b'", id="one argument too many"),
        pytest.param(["submit"], "required: FUNCTION", id="nothing to submit"),
        pytest.param(["pause", "j", "--for", "1h", "--until", "18:00"], "not allowed with", id="two ends of a pause"),
        pytest.param(["pause"], "JOB --all is required", id="nobody to pause"),
        pytest.param(["resume", "j", "--all"], "not allowed with", id="one and all"),
        pytest.param(["run", "\udcff"], "not UTF-8", id="bytes that are no text"),
    ],
)
def test_wrong_usage_exits_2_with_one_line(argv: list[str], message: str, typed: Typed) -> None:
    done = typed(*argv)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param(["submit", "f", "--kwargs", "{bad"], "line 1 column 2: '{bad'", id="kwargs that are not JSON"),
        pytest.param(["submit", "f", "--kwargs", "[1]"], "must be an object", id="kwargs that are no object"),
        pytest.param(["submit", "f", "--kwargs", '{"a": NaN}'], "NaN is no JSON value", id="NaN"),
        pytest.param(["run", "j", "--timeout", "5"], "needs --wait", id="a limit without a wait"),
        pytest.param(["tasks", "--since", "recently"], "'recently' is no instant", id="an instant in words"),
        pytest.param(["why", "greet_job", "--at", "9999-12-31T23:59Z"], "is no instant", id="beyond all calendars"),
        pytest.param(["explain", "61 * * * *"], "minute 61 is above 59", id="a wrong expression"),
        pytest.param(["explain", "0", "9", "LICENSE", "atlas", "1-5"], "write it in quotes", id="a shell's names"),
        pytest.param(
            ["explain", "@daily", "--timezone", "Asia/Shangai"], "did you mean 'Asia/Shanghai'?", id="a wrong zone"
        ),
    ],
)
def test_a_value_that_cannot_be_used_exits_2(
    argv: list[str], message: str, installation: Installation, typed: Typed
) -> None:
    done = typed(*argv, at=installation)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_a_missing_or_wrong_settings_file_exits_2_and_is_named(installation: Installation, typed: Typed) -> None:
    assert typed("jobs", "--config", "/nowhere.yaml").err.startswith("/nowhere.yaml: cannot be read")
    installation.config.write_text("scheduler:\n  max_worker: 3\n")
    done = typed("jobs", at=installation)
    assert done.code == 2
    assert f"{installation.config}:2:3: scheduler.max_worker" in done.err


@pytest.mark.parametrize(
    ("argv", "config", "is_verbose"),
    [
        pytest.param(["--config", "a", "--verbose", "jobs"], "a", True, id="before the command"),
        pytest.param(["jobs", "--config", "b", "--verbose"], "b", True, id="behind it"),
        pytest.param(["--config", "a", "jobs", "--config", "b"], "b", False, id="both, the later one counts"),
        pytest.param(["jobs"], None, False, id="neither"),
    ],
)
def test_settings_are_named_before_the_command_or_behind_it(
    argv: list[str], config: str | None, is_verbose: bool
) -> None:
    args = parse(argv)
    assert (args.config, args.verbose) == (config, is_verbose)


def test_the_wrong_folder_is_not_taken_for_a_new_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    monkeypatch.chdir(tmp_path)
    done = typed("jobs")
    assert done.code == 2
    assert "config/config.yaml: no such file in" in done.err
    assert list(tmp_path.iterdir()) == []


def test_an_unforeseen_error_is_one_line_and_verbose_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    monkeypatch.setattr("atlas.cli.installation.load_settings", lambda _path: 1 / 0)
    done = typed("tasks")
    assert done.code == 1
    assert done.err == "atlas: unexpected ZeroDivisionError: division by zero (--verbose shows the traceback)\n"
    assert "Traceback (most recent call last)" in typed("tasks", "--verbose").err


# --- the jobs file ---------------------------------------------------------------------------------------------------


def test_check_finds_nothing_wrong_and_touches_nothing(installation: Installation, typed: Typed) -> None:
    installation.jobs_file.write_text(
        '{"cron_jobs": {"health_check": {"cron_expression": "@hourly", "function": "health"}}}'
    )
    done = typed("check", at=installation)
    assert done.code == 0
    assert "1 job, no problems. Nothing was applied." in done.out
    assert not (installation.folder / "data").exists()


def test_check_shows_every_problem_at_its_place(installation: Installation, typed: Typed) -> None:
    installation.jobs_file.write_text(
        '{"cron_jobs": {\n'
        ' "数据": {"cron_expression": "75 2 * * *", "function": "health"},\n'
        ' "b": {"cron_expression": "@hourly", "functon": "health"}\n'
        "}}"
    )
    done = typed("check", at=installation)
    assert done.code == 2
    assert "cron_jobs.json:2:29 error cron_jobs.数据.cron_expression" in done.out
    assert re.search(r"cron_jobs.json:3:\d+ error cron_jobs.b.functon: .*function", done.out)
    assert "2 errors in" in done.lines[-1]
    quoted = next(number for number, line in enumerate(done.lines) if "75 2" in line and "│" in line)
    line, caret = done.lines[quoted : quoted + 2]
    assert cell_len(caret[: caret.index("^")]) == cell_len(line[: line.index("75")])


def test_check_reads_a_pipe_once_and_shows_the_lines_of_it(installation: Installation) -> None:
    with installation.start("check", "/dev/stdin", stdin=subprocess.PIPE) as process:
        out, err = process.communicate(b'{"cron_jobs": {"a": {"cron_expression": "75 2 * * *"}}}', timeout=LIMIT_S)
    assert (process.returncode, err) == (2, b"")
    assert '│ {"cron_jobs": {"a": {"cron_expression": "75 2' in out.decode()


def test_check_of_a_pipe_that_nobody_writes_into_ends(installation: Installation) -> None:
    installation.jobs_file.unlink()
    os.mkfifo(installation.jobs_file)
    done = installation.atlas("check")
    assert done.code == 2
    assert "this is a pipe" in done.out


@pytest.mark.parametrize(
    ("argv", "closed", "code"),
    [
        pytest.param(["jobs"], ">&-", 0, id="stdout"),
        pytest.param(["pause", "no_job"], "2>&-", 3, id="stderr"),
        pytest.param(["jobs"], ">&- 2>&- <&-", 0, id="all"),
    ],
)
def test_streams_that_are_closed_are_no_error(
    installation: Installation, argv: list[str], closed: str, code: int
) -> None:
    command = [sys.executable, "-m", "atlas", *argv]
    shell = ["sh", "-c", f'"$@" {closed}', "sh", *command]
    done = subprocess.run(
        shell, cwd=installation.folder, env=installation.environment, capture_output=True, timeout=LIMIT_S, check=False
    )
    assert (done.returncode, done.stdout) == (code, b"")
    assert b"unexpected" not in done.stderr


def test_check_as_json_names_place_and_remedy(installation: Installation, typed: Typed, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"cron_jobs": {"a": {"cron_expression": "nonsense"}}}')
    done = typed("check", str(file), "--json", at=installation)
    assert done.code == 2
    assert (done.json["ok"], done.json["jobs"]) == (False, [])
    assert {"line": 1, "severity": "error", "path": "cron_jobs.a.cron_expression"}.items() <= done.json["problems"][
        0
    ].items()
    assert typed("check", "/nowhere.json", at=installation).code == 2


def test_schema_prints_what_ships(typed: Typed) -> None:
    assert typed("schema") == typed("schema", "--json") == Finished(0, schema_text(), "")


def test_explain_says_when_in_both_languages(installation: Installation, typed: Typed) -> None:
    done = typed("explain", "0 2 * * 1-5", at=installation)
    assert done.code == 0
    assert re.fullmatch(r"weekdays \(Mon to Fri\) at 02:00, Asia/Shanghai, 26[0-2] times a year", done.lines[0])
    assert done.lines[1] == "周一至周五 02:00"
    assert len(re.findall(r"(?:Mon|Tue|Wed|Thu|Fri) \d\d \w{3}(?: \d{4})? 02:00", done.lines[2])) == 3


def test_explain_takes_an_expression_without_quotes_and_another_zone(installation: Installation, typed: Typed) -> None:
    done = typed(
        "explain", "30", "4", "1", "1", "0-6", "--timezone", "Europe/Berlin", "--count", "2", "--json", at=installation
    )
    assert done.json["timezone"] == "Europe/Berlin"
    assert len(done.json["next"]) == 2
    assert all(re.search(r"T04:30:00\+0[12]:00$", text) for text in done.json["next"])
    assert ", 1,440 times a day" in typed("explain", "* * * * *", at=installation).out
    assert typed("explain", "0 0 1 1 *", at=installation).lines[0].endswith(", once a year")
    sunday_in_2032 = typed("explain", "0 0 29 2 */7", at=installation)
    assert sunday_in_2032.lines[0].endswith(", not within the next 365 days")


def test_explain_says_of_a_rare_date_that_it_is_far_off(installation: Installation, typed: Typed) -> None:
    """29 February on given weekdays: of these two at least one is years ahead, whenever this runs."""
    never = [typed("explain", f"0 0 29 2 */{weekday}", at=installation).lines[0] for weekday in (5, 6)]
    assert any(line.endswith("not within the next 365 days") for line in never)
    assert not any("0 times" in line for line in never)


def test_explain_knows_the_jobs_of_the_file_before_any_start(installation: Installation, typed: Typed) -> None:
    assert (
        typed("explain", "greet_job", at=installation)
        .lines[0]
        .startswith("weekdays (Mon to Fri) at 09:00, Asia/Shanghai")
    )
    done = typed("explain", "greet_jobs", at=installation)
    assert done.code == 3
    assert "did you mean 'greet_job'?" in done.err
    assert not (installation.folder / "data").exists()


def test_forecast_says_what_starts_and_who_waits(tmp_path: Path, typed: Typed) -> None:
    jobs = {
        f"job_{number:02}": {"cron_expression": "0 * * * *", "function": "work_of_tests:add"} for number in range(30)
    }
    made = Installation(
        tmp_path / "atlas", {**jobs, "清理": {"cron_expression": "30 * * * *", "function": "work_of_tests:add"}}
    )
    done = typed("forecast", "--hours", "12", at=made)
    assert done.code == 0
    assert re.search(r"^tasks +(\d+|·)( +3[01]){11,12}", done.out, re.MULTILINE)
    assert re.search(r"^(清理|job_\d\d) .* 12 +not run yet$", done.out, re.MULTILINE)  # twenty jobs, by next start
    assert "needs 30 of 10 slots; job_20, job_21 and 18 more start up to 2s late (12 times so)" in done.out
    assert "30 jobs start together (12 times, first" in done.out
    assert '"spread": "10s" on each would part them' in done.out
    raw = typed("forecast", "--json", at=made).json
    assert (raw["slots"], raw["tasks"], raw["peak"]) == (10, 744, 30)
    assert not (made.folder / "data").exists()


def test_forecast_before_any_start_is_that_of_the_file_whoever_has_made_the_database(
    tmp_path: Path, typed: Typed
) -> None:
    made = Installation(tmp_path / "atlas", {"one": {"cron_expression": "@hourly", "function": "work_of_tests:greet"}})
    assert typed("jobs", at=made).code == 0
    assert typed("forecast", "--json", at=made).json["tasks"] == 24


def test_forecast_takes_durations_from_the_history_and_leaves_out_what_makes_no_tasks(
    served: Installation, typed: Typed
) -> None:
    assert typed("run", "greet_job", "--wait", at=served).code == 0
    found = {job["id"]: job for job in typed("forecast", "--hours", "100", "--json", at=served).json["jobs"]}
    assert found["greet_job"]["measured"]
    assert (found["off_job"]["next_at"], found["lost_job"]["next_at"]) == (None, None)


# --- no scheduler runs -----------------------------------------------------------------------------------------------


def test_an_empty_installation_says_what_to_do(installation: Installation, typed: Typed) -> None:
    done = typed("jobs", at=installation)
    assert done.code == 0
    assert "atlas serve" in done.out
    assert typed("jobs", "--json", at=installation).json == []
    assert typed("tasks", at=installation).out == "no tasks yet\n"
    unknown = typed("run", "greet_job", at=installation)
    assert unknown.code == 3
    assert str(installation.jobs_file) in unknown.err


def test_the_table_of_jobs_says_that_nothing_starts_without_a_scheduler(
    installation: Installation, typed: Typed
) -> None:
    none_runs = "✗ No scheduler runs: nothing starts until one does ('atlas serve')."
    with Served(installation):
        running = typed("jobs", at=installation).out
    stopped = typed("jobs", at=installation).out
    for table, told in ((running, False), (stopped, True)):
        assert "greet_job" in table
        assert (none_runs in table) is told


def test_without_a_scheduler_a_task_is_accepted_and_waits(installation: Installation, typed: Typed) -> None:
    done = typed("submit", "work_of_tests:add", "1", at=installation)
    assert done.code == 0
    assert "waits for one" in done.err
    task_id = done.out.strip()
    waited = typed("submit", "work_of_tests:add", "2", "--wait", at=installation)
    assert waited.code == 4
    assert "no scheduler runs" in waited.err
    listed = typed("tasks", "--json", at=installation).json
    assert [task["id"] for task in listed] == [waited.out.strip(), task_id]
    assert {task["status"] for task in listed} == {"PENDING"}
    cancelled = typed("cancel", task_id, at=installation)
    assert cancelled.code == 0
    assert "cancelled when one starts" in cancelled.err


# --- a scheduler runs ------------------------------------------------------------------------------------------------


def test_run_wait_tells_the_outcome_and_the_result(served: Installation, typed: Typed) -> None:
    done = typed("run", "greet_job", "--wait", at=served)
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"✓ greet_job succeeded in \S+, 1 attempt, task [0-9a-f]{22}", done.lines[0])
    assert done.lines[1:] == ["greeting  你好 世界", "zero      0"]


def test_run_wait_of_a_failing_job_exits_1_with_the_reason_on_stderr(served: Installation, typed: Typed) -> None:
    done = typed("run", "fail_job", "--wait", at=served)
    assert done.code == 1
    assert re.match(r"✗ fail_job failed in \S+, 2 attempts, task ", done.out)
    assert done.err == "atlas: ValueError: boom\n"
    task_id = done.out.split()[-1]
    shown = typed("task", task_id, at=served)
    assert "✗ failed" in shown.out
    assert "raise ValueError(text)" in shown.out
    assert re.search(r"^  1  \S+ \S+ +error +\S+ +ValueError: boom", shown.out, re.MULTILINE)
    assert re.search(r"^  2  \S+ \S+ +failed +ValueError: boom", shown.out, re.MULTILINE)
    told = typed("task", task_id, "--json", at=served).json
    assert (told["status"], told["attempt"], len(told["attempts"]), told["policy"]["max_retries"]) == (
        "FAILED",
        2,
        1,
        1,
    )
    assert typed("cancel", task_id, at=served).code == 1


def test_a_wait_has_a_limit_and_a_busy_job_is_refused(served: Installation, typed: Typed) -> None:
    done = typed("run", "wait_job", "--wait", "--timeout", "0.4", at=served)
    assert done.code == 5
    assert "still running" in done.err or "still pending" in done.err
    task_id = re.findall(r"[0-9a-f]{22}", done.err)[0]
    busy = typed("run", "wait_job", at=served)
    assert busy.code == 1
    assert task_id in busy.err
    while typed("task", task_id, "--json", at=served).json["status"] == "PENDING":
        assert not (served.folder / "go").exists()
    assert typed("cancel", task_id, at=served).out == f"{task_id}: asked to end\n"
    while (ended := typed("tasks", "wait_job", "--limit", "1", "--json", at=served).json[0])["status"] == "RUNNING":
        assert ended["id"] == task_id
    assert ended["status"] == "CANCELLED"


def test_arguments_are_json_where_they_are_json(served: Installation, typed: Typed) -> None:
    number = typed("submit", "work_of_tests:add", "1", "--priority", "high", "41", "--wait", "--json", at=served)
    assert (number.code, number.json["result"], number.json["priority"]) == (0, 42, "HIGH")
    text = typed("submit", "work_of_tests:add", "新闻", '"!"', "--wait", at=served)
    assert text.lines[1:] == ['"新闻!"']
    named = typed("submit", "work_of_tests:add", "-5", "--kwargs", '{"b": 1.5}', "--wait", "--json", at=served)
    assert named.json["result"] == -3.5


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        pytest.param("1 2", ["1", "2"], id="plain"),
        pytest.param("--priority low 1 2", ["1", "2"], id="after an option"),
        pytest.param("1 --priority low -2", ["1", "-2"], id="around an option"),
        pytest.param("--priority low -- --wait --", ["--wait", "--"], id="what looks like an option"),
        pytest.param("1 --priority low -- -x", ["1", "-x"], id="all of it"),
    ],
)
def test_arguments_may_stand_around_options(words: str, arguments: list[str]) -> None:
    assert parse(["submit", "f", *words.split()]).arguments == arguments


def test_an_attempt_may_be_limited(served: Installation, typed: Typed) -> None:
    done = typed("submit", "work_of_tests:sleep", "30", "--timeout", "0.1", "--max-retries", "0", "--wait", at=served)
    assert done.code == 1
    assert "◷ work_of_tests:sleep timed out" in done.out


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        pytest.param(["run", "gret_job"], "did you mean 'greet_job'?", id="job to run"),
        pytest.param(["jobs", "nothing_like_it"], "no such job", id="job to show"),
        pytest.param(["pause", "gret_job"], "did you mean 'greet_job'?", id="job to pause"),
        pytest.param(["resume", "gret_job"], "did you mean 'greet_job'?", id="job to resume"),
        pytest.param(["tasks", "gret_job"], "did you mean 'greet_job'?", id="job whose tasks to list"),
        pytest.param(["submit", "colect"], "did you mean 'collect'?", id="function"),
        pytest.param(["task", "0" * 22], "no such task", id="task to show"),
        pytest.param(["cancel", "0" * 22], "no such task", id="task to cancel"),
    ],
)
def test_what_does_not_exist_exits_3_with_the_nearest_name(
    argv: list[str], hint: str, served: Installation, typed: Typed
) -> None:
    done = typed(*argv, at=served)
    assert (done.code, done.out) == (3, "")
    assert hint in done.err
    assert done.err.startswith("atlas: ")


def test_a_pause_is_shown_with_who_why_and_until(served: Installation, typed: Typed) -> None:
    paused = typed("pause", "greet_job", "--reason", "节日", "--for", "2h", at=served)
    assert paused.code == 0
    assert paused.out.startswith("greet_job: paused until ")
    listed = typed("jobs", at=served)
    assert re.search(r"^greet_job .* ‖ paused", listed.out, re.MULTILINE)
    assert re.search(r"^greet_job is paused: by \S+ until .+: 节日$", listed.out, re.MULTILINE)
    assert typed("resume", "greet_job", at=served).out == "greet_job: resumed\n"
    assert typed("resume", "greet_job", at=served).out == "greet_job: was not paused\n"
    refused = typed("resume", "off_job", at=served)
    assert refused.code == 1
    assert "cron_jobs.json says enabled: false; change it there" in refused.err


def test_all_jobs_are_paused_but_for_those_that_are(served: Installation, typed: Typed) -> None:
    typed("pause", "greet_job", "--reason", "节日", at=served)
    paused = typed("pause", "--all", "--reason", "move", at=served)
    assert (paused.code, "greet_job" in paused.out, "off_job" in paused.out) == (0, False, False)
    assert typed("pause", "--all", at=served).out == "every job that fires is paused already\n"
    assert "节日" in typed("jobs", at=served).out
    assert "greet_job" in typed("resume", "--all", at=served).out
    assert typed("resume", "--all", at=served).out == "no job is paused\n"


def test_jobs_are_aligned_by_cells_and_plain_in_a_pipe(served: Installation, typed: Typed) -> None:
    done = typed("jobs", at=served)
    assert ESCAPE not in done.out
    head, *rows = done.lines[:6]
    assert [row.split()[0] for row in rows] == sorted(JOBS)
    starts = {
        cell_len(line[: line.index(text)])
        for line, text in [(head, "SCHEDULE"), (rows[0], "@yearly"), (rows[1], "0 9")]
    }
    assert len(starts) == 1
    assert "lost_job is unbound: no function 'work_of_tests:gone'" in done.out
    assert done.out.count("Asia/Shanghai (UTC+08:00)") == 1
    told = {job["id"]: job for job in typed("jobs", "--json", at=served).json}
    assert told["greet_job"]["title"] == "问候任务"
    assert told["off_job"]["state"] == "DISABLED"


def test_one_job_is_shown_in_full(served: Installation, typed: Typed) -> None:
    done = typed("jobs", "greet_job", at=served)
    assert "weekdays (Mon to Fri) at 09:00" in done.out
    assert "周一至周五 09:00" in done.out
    assert re.search(r"^max_retries +0 +config.yaml$", done.out, re.MULTILINE)
    assert typed("jobs", "greet_job", "--json", at=served).json["policy"]["timeout"]["from"] == "built in"


def test_tasks_are_filtered_and_limited(served: Installation, typed: Typed) -> None:
    assert typed("run", "greet_job", "--wait", at=served).code == 0
    done = typed("tasks", "greet_job", "--status", "success", "--since", "1h", "--limit", "1", at=served)
    assert done.lines[0].split() == ["TASK", "SCHEDULED", "RESULT", "DURATION", "TRIES", "OUTCOME"]
    assert done.lines[1].endswith("greeting 你好 世界")
    assert re.match(r"1 task: 1 success|the newest 1 \(--limit shows more\): 1 success", done.lines[2])
    assert typed("submit", "work_of_tests:add", "1", at=served).code == 0
    assert typed("tasks", "--limit", "1", at=served).lines[2].startswith("the newest 1 (--limit shows more): ")
    assert typed("tasks", "greet_job", "--status", "timeout", at=served).out == "no such tasks\n"
    assert typed("tasks", "--since", "0s", "--json", at=served).json == []


def test_hostile_text_of_a_task_moves_no_cursor(served: Installation, typed: Typed) -> None:
    done = typed("submit", "work_of_tests:fail", '"\\u001b[2J\\u202eevil"', "--wait", at=served)
    shown = done.err + typed("tasks", "--limit", "1", at=served).out
    assert r"\x1b[2J\u202eevil" in shown
    assert ESCAPE not in shown


# --- processes, pipes and terminals ----------------------------------------------------------------------------------


def test_a_reader_that_leaves_is_no_error(served: Installation) -> None:
    process = served.start("schema")
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(LIMIT_S) == 0


def test_ctrl_c_ends_the_wait_and_not_the_task(served: Installation, typed: Typed) -> None:
    (served.folder / "later").unlink(missing_ok=True)
    with served.start("submit", "work_of_tests:until", str(served.folder / "later"), "--wait", "--verbose") as process:
        assert process.stderr is not None
        while not any(
            task["job_id"] is None for task in typed("tasks", "--status", "running", "--json", at=served).json
        ):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        told = process.stderr.read().decode()
        assert process.wait(LIMIT_S) == 130
    assert "no longer waiting" in told
    assert "Traceback" not in told
    task_id = re.findall(r"[0-9a-f]{22}", told)[-1]
    assert typed("task", task_id, "--json", at=served).json["status"] == "RUNNING"
    (served.folder / "later").touch()


def test_a_terminal_gets_colours_and_whole_ids_however_narrow(served: Installation, typed: Typed) -> None:
    assert typed("run", "greet_job", "--wait", at=served).code == 0
    newest = typed("tasks", "--limit", "1", "--json", at=served).json[0]["id"]
    screen = on_terminal(served, "tasks", "--limit", "1", columns=40)
    assert f"{ESCAPE}[32m✓ success" in screen
    assert newest in screen


def test_a_very_long_id_is_cut_on_a_terminal_and_whole_where_programs_read(tmp_path: Path) -> None:
    long = "j" * 98
    entry = {"cron_expression": "@yearly", "function": "work_of_tests:greet"}
    installation = Installation(tmp_path / "atlas", {long: entry, "short": {**entry, "name": "问候"}})
    with Served(installation):
        screen = on_terminal(installation, "jobs", columns=110)
        assert all(cell_len(re.sub(r"\x1b\[[\d;]*m", "", line.strip())) <= 110 for line in screen.splitlines())
        assert f"{'j' * 31}…" in screen
        assert "问候" in screen
        assert long in installation.atlas("jobs").out
        assert [job["id"] for job in installation.atlas("jobs", "--json").json] == [long, "short"]


def test_jobs_whose_tasks_are_all_removed_keep_their_figures(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "atlas", JOBS)
    with Served(installation):
        assert installation.atlas("run", "greet_job", "--wait").code == 0
    with closing(sqlite3.connect(installation.folder / "data" / "atlas.db")) as connection, connection:
        connection.execute("DELETE FROM tasks")
    done = installation.atlas("jobs", "--json")
    assert done.code == 0, done.err
    (found,) = [job for job in done.json if job["id"] == "greet_job"]
    assert (found["total_tasks"], found["last_task"]) == (1, None)


def test_a_rate_of_nothing_is_null(served: Installation, typed: Typed) -> None:
    (found,) = [job for job in typed("jobs", "--json", at=served).json if job["id"] == "off_job"]
    assert (found["total_tasks"], found["success_rate"]) == (0, None)
    assert typed("jobs", "off_job", "--json", at=served).json["success_rate"] is None


def test_the_audit_of_what_never_was_there_is_no_empty_one(served: Installation, typed: Typed) -> None:
    done = typed("audit", "greet_jbo", at=served)
    assert done.code == 3
    assert "did you mean 'greet_job'?" in done.err
    for known in ("lost_job", str(served.jobs_file)):
        assert typed("audit", known, "--by", "nobody", at=served).code == 0


def test_a_bar_moves_on_a_terminal_and_leaves_the_outcome(served: Installation) -> None:
    screen = on_terminal(served, "submit", "work_of_tests:sleep", "0.6", "--wait")
    assert "━" in screen
    assert screen.rstrip().splitlines()[-1].count("✓") == 1


def test_a_schedule_in_another_zone_than_the_times_beside_it_names_its_zone(tmp_path: Path, typed: Typed) -> None:
    nightly = {"function": "health", "cron_expression": "30 2 * * *"}
    installation = Installation(
        tmp_path / "atlas", {"here": nightly, "there": {**nightly, "timezone": "Europe/Berlin"}}
    )
    with Served(installation) as scheduler:
        for told in ("\n".join(scheduler.told), typed("jobs", at=installation).out):
            assert re.search(r"^there +30 2 \* \* \* \(Europe/Berlin\) ", told, re.MULTILINE)
            assert re.search(r"^here +30 2 \* \* \* +[^ (]", told, re.MULTILINE)


def test_serve_says_what_runs_and_drains_on_ctrl_c(tmp_path: Path, typed: Typed) -> None:
    installation = Installation(tmp_path / "atlas", JOBS)
    with Served(installation, "--config", str(installation.config), script="run_scheduler.py") as scheduler:
        told = "\n".join(scheduler.told)
        assert re.search(r"^greet_job +问候任务 +0 9 \* \* mon-fri +● active +\S.* \d", told, re.MULTILINE)
        for words in (
            str(installation.folder / "data" / "atlas.db"),
            str(installation.jobs_file),
            str(scheduler.process.pid),
        ):
            assert words in told
        with Served(installation) as second:
            words = f"standing by: process {scheduler.process.pid} on "
            assert any(line.startswith(words) for line in second.told)
            assert second.stop(signal.SIGTERM) == 0
        assert typed("submit", "work_of_tests:sleep", "0.5", "--json", at=installation).json["scheduler"] is True
        while not typed("tasks", "--json", at=installation).json[0]["started_at"]:
            assert scheduler.process.poll() is None
        assert scheduler.stop(signal.SIGINT) == 0
        assert scheduler.told[-1].startswith("stopped; ")
    assert typed("tasks", "--json", at=installation).json[0]["status"] == "SUCCESS"


def on_terminal(installation: Installation, *argv: str, columns: int = 100) -> str:
    """Everything a command shows on a terminal of its own."""
    ours, theirs = pty.openpty()
    variables = {**installation.environment, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    process = installation.start(*argv, stdout=theirs, stderr=theirs, env=variables)
    os.close(theirs)
    seen = bytearray()
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    assert process.wait(LIMIT_S) == 0
    return seen.decode()


# --- the parts -------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 23, 8, 35, 12, tzinfo=UTC)
HERE = LocalTimes(ZoneInfo("Asia/Shanghai"), NOW)


@pytest.mark.parametrize(
    ("text", "ahead", "expected"),
    [
        pytest.param("2h", True, NOW + timedelta(hours=2), id="a duration ahead"),
        pytest.param("90", False, NOW - timedelta(seconds=90), id="seconds back"),
        pytest.param("18:30", True, datetime(2026, 11, 23, 10, 30, tzinfo=UTC), id="later today"),
        pytest.param("09:00", True, datetime(2026, 11, 24, 1, tzinfo=UTC), id="a time that has passed is tomorrow's"),
        pytest.param("09:00", False, datetime(2026, 11, 23, 1, tzinfo=UTC), id="a time that has passed is today's"),
        pytest.param("today", False, datetime(2026, 11, 22, 16, tzinfo=UTC), id="midnight here"),
        pytest.param("tomorrow", True, datetime(2026, 11, 23, 16, tzinfo=UTC), id="the next midnight"),
        pytest.param("2026-11-20", False, datetime(2026, 11, 19, 16, tzinfo=UTC), id="a date"),
        pytest.param("2026-11-24T09:00", True, datetime(2026, 11, 24, 1, tzinfo=UTC), id="date and time"),
        pytest.param("2026-11-24 09:00+01:00", True, datetime(2026, 11, 24, 8, tzinfo=UTC), id="with an offset"),
        pytest.param("2026-11-24t09:00z", True, datetime(2026, 11, 24, 9, tzinfo=UTC), id="in UTC"),
    ],
)
def test_an_instant_is_read_as_people_write_it(text: str, ahead: bool, expected: datetime) -> None:
    assert HERE.read(text, ahead=ahead) == expected


@pytest.mark.parametrize(
    "text",
    ["", "garbage", "25:00", "2026-02-30", "1h1h", "-5", "99999-01-01", "9999-12-31T23:59", "0001-01-01", "数据"],
)
def test_any_other_text_is_refused_by_name(text: str) -> None:
    with pytest.raises(ArgumentsError, match="is no instant"):
        HERE.read(text, ahead=False)


@pytest.mark.parametrize(
    ("instant", "shown"),
    [
        pytest.param(NOW, "16:35:12", id="today"),
        pytest.param(NOW - timedelta(days=1), "11-22 16:35", id="this year"),
        pytest.param(NOW - timedelta(days=400), "2025-10-19 16:35", id="another year"),
    ],
)
def test_an_instant_is_shown_as_short_as_it_is_clear(instant: datetime, shown: str) -> None:
    assert HERE.at(instant) == shown


@pytest.mark.parametrize(
    ("value", "line"),
    [
        pytest.param(None, "", id="nothing"),
        pytest.param("two\nlines", "two", id="text"),
        pytest.param([1, 2], "[1, 2]", id="a list"),
        pytest.param(
            {"new": 3, "failed": 0, "by_source": {"a": {}}}, "new 3", id="what is zero or an object is left out"
        ),
        pytest.param({"new": 0, "failed": 0}, "new 0, failed 0", id="unless all is zero"),
        pytest.param({"files": ["a", "b"], "day": "2026-11-23"}, "files 2, day 2026-11-23", id="lists by length"),
    ],
)
def test_a_result_fits_a_line(value: object, line: str) -> None:
    assert summary(value) == line


@given(st.lists(st.tuples(st.text(max_size=8), st.text("新闻ab ", max_size=12), st.integers()), max_size=6))
def test_plain_columns_begin_at_the_same_cell(rows: list[tuple[str, str, int]]) -> None:
    columns = (Column("A"), Column("B"), Column("NUMBER", right=True))
    with redirect_stdout(io.StringIO()) as out:
        print_table(columns, [(a, Cell(b, "red"), str(number)) for a, b, number in rows])
    lines = out.getvalue().split("\n")[:-1]
    assert len(lines) == len(rows) + 1
    assert len({cell_len(line) for line in lines}) == 1
    assert all(line == one_line(line) for line in lines)


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "问候"), ("ascii", r"\u95ee\u5019")])
def test_json_fits_the_encoding_of_stdout(encoding: str, shown: str) -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding) as out, redirect_stdout(out):
        print_json({"title": "问候"})
        out.flush()
        text = raw.getvalue().decode(encoding)
    assert shown in text
    assert json.loads(text) == {"title": "问候"}


def test_a_stdout_without_chinese_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, "latin-1") as out:
        monkeypatch.setattr(sys, "stdout", out)
        never_fail_to_print()
        print("数据 ü")
        out.flush()
        assert raw.getvalue() == "?? ü\n".encode("latin-1")

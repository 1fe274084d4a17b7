"""The commands of every day, as a user types them: ``logs``, ``report``, ``doctor``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.installations import LIMIT_S, Installation, Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.installations import Typed

JOBS = {"greet_job": {"name": "问候", "cron_expression": "0 9 * * mon-fri", "function": "work_of_tests:greet"}}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("served") / "atlas", JOBS)
    with Served(made):
        yield made


def spoken(typed: Typed, at: Installation, *arguments: str) -> str:
    """The id of an ended task that spoke."""
    done = typed("submit", "work_of_tests:speak", *arguments, "--wait", "--wait-timeout", "30", "--json", at=at)
    assert done.code == 0, done.err
    return str(done.json["task_id"] if "task_id" in done.json else done.json["id"])


def test_logs_shows_what_a_task_logged_and_lets_nothing_move_the_cursor(served: Installation, typed: Typed) -> None:
    task_id = spoken(typed, served, "2")
    done = typed("logs", task_id, at=served)
    assert done.code == 0
    heading, *lines = done.lines
    assert heading.startswith("— ")
    assert [line[13:] for line in lines] == [
        r"INFO     说 0\x1b[2J",
        r"INFO     说 1\x1b[2J",
        "WARNING  完",
    ]
    as_json = typed("logs", task_id, "--json", at=served).json
    assert [line["level"] for line in as_json] == ["INFO", "INFO", "WARNING"]
    assert as_json[0]["at"].endswith("+00:00")
    followed = typed("logs", task_id, "-f", "--json", at=served)
    assert [json.loads(line)["id"] for line in followed.lines] == [line["id"] for line in as_json]


def test_logs_follows_a_task_until_it_ends(served: Installation, typed: Typed, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task_id = typed("submit", "work_of_tests:speak", "1", str(gate), at=served).out.split()
    found = next(word for word in task_id if len(word) > 15)
    follower = served.start("logs", found, "-f")
    assert follower.stdout is not None
    seen = b""
    while "说".encode() not in seen:
        seen += follower.stdout.readline()
    gate.touch()
    rest, _err = follower.communicate(timeout=LIMIT_S)
    assert "完" in rest.decode()
    assert follower.returncode == 0


def test_logs_says_when_there_is_nothing_and_when_there_is_no_task(served: Installation, typed: Typed) -> None:
    done = typed("run", "greet_job", "--wait", "--json", at=served)
    quiet = typed("logs", str(done.json.get("task_id") or done.json["id"]), at=served)
    assert (quiet.code, quiet.out) == (0, "")
    assert "logged nothing" in quiet.err
    assert typed("logs", "no-such-task", at=served).code == 3


def test_a_report_is_written_where_the_settings_say_or_printed(served: Installation, typed: Typed) -> None:
    typed("run", "greet_job", "--wait", at=served)
    done = typed("report", "--day", "today", at=served)
    assert done.code == 0
    page, markdown = done.lines[-2:]
    assert (page.endswith(".html"), markdown.endswith(".md")) == (True, True)
    printed = typed("report", "--day", "today", "--lang", "zh", "--format", "md", at=served)
    assert printed.out.startswith("# 日报")
    assert "未来 24 小时" in printed.out
    assert "greet_job" in printed.out
    html = typed("report", "--day", "today", "--format", "html", at=served).out
    assert html.startswith("<!doctype html>")
    assert not any(word in html for word in ("http://", "https://", "<script", "@import", "url("))  # needs nothing else
    refused = typed("report", "--day", "soon", at=served)
    assert refused.code in {1, 2}
    assert "'soon' is neither a date" in refused.err


def test_doctor_finds_a_running_scheduler_well(served: Installation, typed: Typed) -> None:
    done = typed("doctor", "--json", at=served)
    checks = {check["name"]: check for check in done.json["checks"]}
    assert checks["scheduler"]["status"] == "ok"
    assert "process" in checks["scheduler"]["detail"]
    assert {"store", "config", "queue", "threads", "jobs", "sources", "disk", "memory"} < set(checks)
    assert done.code == (done.json["status"] != "ok")


def test_doctor_names_what_is_wrong_and_what_to_do(tmp_path: Path, typed: Typed) -> None:
    made = Installation(tmp_path / "atlas", JOBS)
    made.jobs_file.write_text(
        '{"cron_jobs": {"a": {"cron_expression": "61 * * * *", "function": "work_of_tests:add"}}}'
    )
    done = typed("doctor", at=made)
    assert done.code == 1
    assert "✗ scheduler" in done.out
    assert "→ 'atlas serve'" in done.out
    assert "minute 61" in done.out
    assert done.lines[-1] == "failing"

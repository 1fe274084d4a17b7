"""The commands of every day, as a user types them: ``logs``, ``report``, ``doctor``."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import update

from atlas.scheduler.client import SyncAtlasClient
from atlas.scheduler.store.leases import scheduler_lease
from atlas.scheduler.store.tables import leases
from tests.installations import Installation, Served
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Update

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


def test_doctor_and_serve_tell_instants_in_the_reader_s_zone(served: Installation, typed: Typed) -> None:
    assert typed("pause", "greet_job", "--for", "90d", at=served).code == 0
    told = typed("doctor", at=served)
    with SyncAtlasClient(served.folder / "data" / "atlas.db") as client:
        leader, pause = client.scheduler(), client.job("greet_job").pause
    typed("resume", "greet_job", at=served)
    assert leader is not None
    assert pause is not None
    assert pause.until is not None
    zone = ZoneInfo("Asia/Shanghai")
    assert f" since {leader.started_at.astimezone(zone):%H:%M:%S}" in told.out
    assert re.search(f" until (20[0-9]{{2}}-)?{pause.until.astimezone(zone):%m-%d %H:%M}", told.out)
    assert "times in Asia/Shanghai (UTC+08:00)" in told.lines
    with Served(served, ready="standing by") as standby:
        line = next(line for line in standby.told if "standing by" in line)
    assert f" since {leader.started_at.astimezone(zone):%H:%M:%S} schedules" in line


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


def test_doctor_says_what_the_jobs_file_waits_for_where_no_scheduler_runs(tmp_path: Path, typed: Typed) -> None:
    made = Installation(tmp_path / "atlas", JOBS)
    assert "no scheduler has taken the jobs file yet" in typed("doctor", at=made).out
    with Served(made):
        assert "✓ config     the jobs file is in force" in typed("doctor", at=made).out
    assert "✓ config     the jobs file is in force" in typed("doctor", at=made).out
    made.jobs_file.write_text('{"cron_jobs": {}}', "utf-8")
    assert "! config     the file differs from revision 1" in typed("doctor", at=made).out
    made.jobs_file.unlink()
    assert "no such file" in typed("doctor", at=made).out


def test_a_scheduler_that_lives_and_cannot_write_is_told_from_none(tmp_path: Path, typed: Typed) -> None:
    made = Installation(tmp_path / "atlas", JOBS)
    with Served(made) as one, SyncAtlasClient(made.folder / "data" / "atlas.db") as client:

        def freeze(connection: Connection) -> None:  # not in a commit of its own: this one has the lock
            one.process.send_signal(signal.SIGSTOP)
            connection.execute(update(leases).values(expires_at=leases.c.expires_at - 60))

        client.store.write(freeze)
        doctor, jobs = typed("doctor", at=made), typed("jobs", at=made)
        one.process.send_signal(signal.SIGCONT)
    assert re.search(rf"✗ scheduler  process {one.process.pid} on .* is silent since .*: nothing fires", doctor.out)
    assert f"kill -9 {one.process.pid}" in doctor.out
    assert f"✗ The scheduler, process {one.process.pid} on " in jobs.out
    assert "No scheduler runs" not in jobs.out


def test_serve_tells_each_problem_of_a_refused_jobs_file_in_a_line(tmp_path: Path) -> None:
    made = Installation(tmp_path / "atlas", JOBS)
    with Served(made):
        pass
    made.jobs_file.write_text('{"cron_jobs": {"a": {"cron_expression": "61 * * * *", "timeout": "soon"}}}', "utf-8")
    with Served(made) as served:
        told = served.told
    start = told.index("The jobs file is refused; the last good revision runs on.")
    assert [line.split(": ")[1] for line in told[start + 1 : start + 3]] == [
        "cron_jobs.a.cron_expression",
        "cron_jobs.a.timeout",
    ]


def test_a_killed_scheduler_is_told_at_once_however_long_its_lease_lasts(tmp_path: Path, typed: Typed) -> None:
    made = Installation(tmp_path / "atlas", JOBS)
    with Served(made) as one:
        assert "✓ scheduler" in typed("doctor", at=made).out
        one.stop(signal.SIGKILL)
        doctor = typed("doctor", at=made)
        assert "✗ scheduler" in doctor.out
        assert f"process {one.process.pid} on " in doctor.out
        assert "ended without a clean stop" in doctor.out
        assert "No scheduler runs" in typed("jobs", at=made).out
        assert "no scheduler runs" in typed("run", "greet_job", at=made).err
        assert "ended without a clean stop after" in " ".join(typed("why", "greet_job", at=made).out.split())
        with SyncAtlasClient(made.folder / "data" / "atlas.db") as client:
            lease = client.store.read(scheduler_lease)
            assert lease is not None
            assert lease.lasts(client.store.clock.now())  # or the lease alone would have told
            assert client.scheduler() is None
            for host, lives in (("elsewhere", True), (lease.holder["host"], False)):
                moved = update(leases).values(holder=json.dumps({**lease.holder, "host": host}))
                client.store.write(partial(_execute, statement=moved))
                assert (client.scheduler() is not None) is lives


def _execute(connection: Connection, statement: Update) -> None:
    connection.execute(statement)


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("command", [("pause", "greet_job"), ("run", "greet_job")], ids=["pause", "run"])
def test_a_command_that_waits_for_a_locked_database_names_the_process(
    served: Installation, command: tuple[str, ...]
) -> None:
    database = served.folder / "data" / "atlas.db"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(database)], **pipes) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holds\n"
        with served.start(*command) as waits:
            assert waits.stderr is not None
            told = next((line.decode() for line in waits.stderr if b"waiting" in line), "")
            holder.communicate()  # it ends, and its lock with it
            assert told.startswith("atlas: waiting for the database, at most 30 s: ")
            assert f"process {holder.pid} (" in told
            waits.communicate(timeout=LIMIT_S)
            assert waits.returncode == 0
    with SyncAtlasClient(database) as client:
        client.resume_jobs(["greet_job"])

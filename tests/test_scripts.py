"""The documented scripts: thin faces of the command line, from any folder."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from atlas.cli.once import run_builtin
from atlas.scheduler.client import AtlasClient
from atlas.scheduler.task import TaskStatus
from atlas.settings import load_settings
from tests.feed_server import RSS, FeedServer, document
from tests.installations import ROOT, Installation, Served
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from pathlib import Path

    from atlas.scheduler.registry import Registry
    from atlas.scheduler.task import Task

JOBS: dict[str, Any] = {
    "data_collection": {"name": "数据采集", "cron_expression": "@yearly", "function": "collect", "timeout": 20},
    "health_check": {"cron_expression": "@yearly"},
}
CRON_JOB = "cron_job.py"


def kept_tasks(installation: Installation) -> list[Task]:
    """What is on record, newest first."""
    with AtlasClient(installation.folder / "data" / "atlas.db").sync as client:
        return client.tasks()


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation nobody has started yet."""
    return Installation(tmp_path / "atlas", JOBS)


def test_collect_names_every_source_and_stores_nothing_twice(tmp_path: Path) -> None:
    with FeedServer({"/rss": document(RSS), "/gone": lambda handler: handler.send(b"", status=404)}) as news:
        sources = [{"name": "新闻", "url": f"{news.base}/rss"}, {"name": "Gone", "url": f"{news.base}/gone"}]
        installation = Installation(
            tmp_path / "atlas", JOBS, {"collect": {"sources": sources, "allow_hosts": ["127.0.0.1"]}}
        )
        first = installation.atlas(
            "--task", "collect", "--verbose", "--config", str(installation.config), script=CRON_JOB
        )
        assert first.code == 0
        assert re.search(r"✓ collect succeeded in \S+, 1 attempt, task [0-9a-f]{22}", first.out)
        assert re.search(r"^new +2$", first.out, re.MULTILINE)
        assert re.search(r"^Gone +failed .*404", first.out, re.MULTILINE)
        assert re.search(r"^新闻 +ok", first.out, re.MULTILINE)
        assert "task succeeded" in first.err
        again = installation.atlas("--task", "collect", "--json", "--config", str(installation.config), script=CRON_JOB)
        assert (again.code, again.err, again.json["new"], again.json["failed"]) == (0, "", 0, 1)
    assert [(task.job_id, task.reason) for task in kept_tasks(installation)] == [("data_collection", "run now")] * 2


def test_a_job_that_fails_exits_1_and_says_why(tmp_path: Path) -> None:
    sources = [{"name": "Nobody", "url": "http://127.0.0.1:9/rss"}]
    jobs = {"data_collection": {**JOBS["data_collection"], "max_retries": 0}}
    installation = Installation(tmp_path / "atlas", jobs, {"collect": {"sources": sources}})
    done = installation.atlas("--task", "collect", "--config", str(installation.config), script=CRON_JOB)
    assert done.code == 1
    assert done.out.startswith("✗ collect failed")
    assert done.err.startswith("atlas: ")
    assert "Nobody" in done.err
    assert "Traceback" not in done.err


async def test_a_dry_run_counts_and_does_not_pass_for_the_job_s_own_task(installation: Installation) -> None:
    task = await run_builtin(load_settings(installation.config, {}), "cleanup", {"dry_run": True})
    assert task.value["dry_run"] is True
    assert [task.job_id for task in await asyncio.to_thread(kept_tasks, installation)] == [None]


async def test_a_refused_jobs_file_stops_no_job(installation: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    installation.jobs_file.write_text('{"cron_jobs": {"a": ')
    task = await run_builtin(load_settings(installation.config, {}), "report", {})
    assert (task.status, task.job_id) == (TaskStatus.SUCCESS, None)
    told = capsys.readouterr().err
    assert "the jobs file is refused" in told
    assert f"{installation.jobs_file}:1:" in told


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> Held:
    """A `health` that takes as long as the test wants, in place of the built-in functions."""
    held = Held()

    def bind(registry: Registry, **_parts: Any) -> None:
        registry.add("health_check", held.run)

    monkeypatch.setattr("atlas.service.bind_builtins", bind)
    return held


class Held:
    """A function that says that it runs, and ends when it is let go."""

    def __init__(self) -> None:
        self.entered, self.let_go = asyncio.Event(), asyncio.Event()

    async def run(self) -> str:
        """Wait."""
        self.entered.set()
        await self.let_go.wait()
        return "let go"


async def test_when_it_is_cancelled_so_is_its_task(installation: Installation, health: Held) -> None:
    running = asyncio.create_task(run_builtin(load_settings(installation.config, {}), "health", {}))
    async with asyncio.timeout(LIMIT_S):
        await health.entered.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    kept = await asyncio.to_thread(kept_tasks, installation)
    assert [task.status for task in kept] == [TaskStatus.CANCELLED]


async def test_a_task_of_the_job_that_waits_in_the_store_is_the_one_that_is_done(
    installation: Installation, health: Held
) -> None:
    settings, told = load_settings(installation.config, {}), list[str]()

    def on_progress(task: Task, _done: float, _total: float | None) -> None:
        told.append(task.status)
        health.let_go.set()

    health.let_go.set()
    await run_builtin(settings, "health", {})
    health.let_go.clear()
    with AtlasClient(installation.folder / "data" / "atlas.db").sync as client:
        waiting = await asyncio.to_thread(client.run_job, "health_check")
    done = await run_builtin(settings, "health", {}, on_progress=on_progress)
    assert (done.id, done.value) == (waiting, "let go")
    assert set(told) == {TaskStatus.RUNNING}


def test_a_scheduler_that_holds_the_store_does_the_job(installation: Installation) -> None:
    config = ("--config", str(installation.config))
    with Served(installation, "--scheduler", *config, script=CRON_JOB) as scheduler:
        done = installation.atlas("--task", "health", *config, script=CRON_JOB)
        assert done.code == 0
        assert f"process {scheduler.process.pid}" in done.err
        assert re.search(r"^status +ok$", done.out, re.MULTILINE)
        assert scheduler.stop(signal.SIGTERM) == 0
        assert scheduler.told[-1] == "stopped; nothing waits"
    assert kept_tasks(installation)[0].job_id == "health_check"


def test_the_scripts_use_their_own_repository_s_settings_from_any_folder(tmp_path: Path) -> None:
    variables = {
        "ATLAS_PERSISTENCE__DATABASE": str(tmp_path / "atlas.db"),
        "ATLAS_PERSISTENCE__STATUS_FILE": "null",
        "ATLAS_LOGGING__FILE": "null",
        "ATLAS_PATHS__REPORTS": str(tmp_path / "reports"),
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / CRON_JOB), "--task", "health", "--verbose"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0
    assert f"file={ROOT}/config/cron_jobs.json" in done.stderr
    assert (tmp_path / "atlas.db").exists()


@pytest.mark.parametrize(
    ("script", "argv", "message"),
    [
        pytest.param(CRON_JOB, [], "--scheduler --task is required", id="nothing to do"),
        pytest.param(CRON_JOB, ["--task", "colect"], "did you mean 'collect'?", id="a misspelt task"),
        pytest.param(CRON_JOB, ["--task", "health", "--dry-run"], "goes with --task cleanup", id="dry run of another"),
        pytest.param(CRON_JOB, ["--task", "health", "--verbos"], "did you mean '--verbose'?", id="a misspelt option"),
        pytest.param("run_scheduler.py", ["--conf=x"], "did you mean '--config'?", id="half an option"),
    ],
)
def test_wrong_usage_exits_2_with_one_line(
    script: str, argv: list[str], message: str, installation: Installation
) -> None:
    done = installation.atlas(*argv, script=script)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1

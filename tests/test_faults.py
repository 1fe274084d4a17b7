"""Faults on the real thing that belong to no single part; the README's table says what happens at each."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from sqlalchemy import select

from atlas.builtin.health.database import store_check
from atlas.scheduler.client import AtlasClient
from atlas.scheduler.errors import ResultOmittedError, TaskFailedError, TaskTimeoutError
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.store.leases import scheduler_lease, standbys
from atlas.scheduler.store.store import Store
from atlas.scheduler.store.tables import fires
from atlas.scheduler.task import TaskStatus
from tests import process_workloads
from tests.installations import Installation, Served, free_port
from tests.queue_bench import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atlas.scheduler.task import Task

YEARLY = {"yearly": {"cron_expression": "@yearly", "function": "work_of_tests:greet"}}


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_second_signal_ends_at_once_and_what_ran_runs_again(tmp_path: Path, number: signal.Signals) -> None:
    installation = Installation(tmp_path / "atlas", YEARLY, {"scheduler": {"drain_timeout": 600, "max_retries": 0}})
    end = installation.folder / "end"
    with AtlasClient(installation.folder / "data" / "atlas.db").sync as client:
        with Served(installation) as first:
            task_id = client.submit("work_of_tests:until", str(end))
            eventually(lambda: client.task(task_id).status is TaskStatus.RUNNING)
            first.process.send_signal(number)
            first.wait_for("draining: 1 running")
            assert first.process.poll() is None

            def ends_at_once() -> bool:  # a second one that comes with the first is the same one
                first.process.send_signal(number)
                return first.process.poll() is not None

            eventually(ends_at_once)
            assert first.process.returncode == 128 + number
            first.wait_for("second signal: ending at once")
        assert client.task(task_id).status is TaskStatus.RUNNING
        with Served(installation) as again:
            eventually(lambda: client.task(task_id).attempt == 2)
            end.touch()
            task = client.wait(task_id, LIMIT_S)
            assert (task.status, task.crashes, task.failures) == (TaskStatus.SUCCESS, 1, 0)
            assert again.stop(number) == 0


@pytest.mark.timeout(120)
def test_a_signal_that_comes_twice_at_once_is_one_and_drains(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "atlas", YEARLY, {"scheduler": {"drain_timeout": 600, "max_retries": 0}})
    end = installation.folder / "end"
    with AtlasClient(installation.folder / "data" / "atlas.db").sync as client:
        with Served(installation) as served:
            task_id = client.submit("work_of_tests:until", str(end))
            eventually(lambda: client.task(task_id).status is TaskStatus.RUNNING)
            served.process.send_signal(signal.SIGTERM)  # `timeout` tells the process, then its group
            served.process.send_signal(signal.SIGINT)  # another one: two of a kind may arrive as one
            served.wait_for("draining: 1 running")
            end.touch()
            assert served.process.wait(LIMIT_S) == 0
        assert client.task(task_id).status is TaskStatus.SUCCESS


# --- functions in a process of their own ------------------------------------------------------------------------------


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskQueue]:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    registry = Registry(allow=["process_workloads"])
    made = TaskQueue(2, store=tmp_path / "atlas.db", registry=registry)
    with made.sync:
        yield made


def row(queue: TaskQueue, task_id: str) -> Task:
    assert queue.store is not None
    with AtlasClient(queue.store.path or "").sync as client:
        return client.task(task_id)


def works_on(queue: TaskQueue) -> None:
    """The scheduler is well: the next task succeeds."""
    task_id = queue.sync.submit("process_workloads:add", 1, 2, executor="process")
    assert queue.sync.get_task_result(task_id, timeout=LIMIT_S) == 3


def test_a_worker_that_was_stopped_is_killed_at_its_timeout(queue: TaskQueue) -> None:
    task_id = queue.sync.submit("process_workloads:stop_myself", executor="process", timeout=1.0, max_retries=0)
    with pytest.raises(TaskTimeoutError):
        queue.sync.get_task_result(task_id, timeout=LIMIT_S)
    works_on(queue)


def test_a_worker_without_memory_fails_its_own_task_only(queue: TaskQueue) -> None:
    task_id = queue.sync.submit("process_workloads:use_all_memory", executor="process", max_retries=0)
    with pytest.raises(TaskFailedError, match="MemoryError"):
        queue.sync.get_task_result(task_id, timeout=LIMIT_S)
    assert row(queue, task_id).crashes == 0
    works_on(queue)


def test_a_worker_that_the_kernel_kills_for_memory_is_a_crash(queue: TaskQueue) -> None:
    """The kernel's out-of-memory killer sends SIGKILL."""
    task_id = queue.sync.submit("process_workloads:die", "SIGKILL", executor="process", on_crash="fail")
    with pytest.raises(TaskFailedError, match="lost"):
        queue.sync.get_task_result(task_id, timeout=LIMIT_S)
    assert row(queue, task_id).crashes == 1
    works_on(queue)


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_result_of_200_mb_is_left_out_and_the_task_succeeds(queue: TaskQueue, executor: str) -> None:
    queue.registry.add("text", process_workloads.text_of_length)
    options: dict[str, Any] = {} if executor == "thread" else {"executor": executor}
    function = "text" if executor == "thread" else "process_workloads:text_of_length"
    task_id = queue.sync.submit(function, 200_000_000, **options)
    if executor == "process":
        with pytest.raises(ResultOmittedError):
            queue.sync.get_task_result(task_id, timeout=2 * LIMIT_S)
    else:  # whoever submitted it has it still
        assert len(queue.sync.get_task_result(task_id, timeout=2 * LIMIT_S)) == 200_000_000
    task = row(queue, task_id)
    assert (task.status, task.result, task.result_omitted) == (TaskStatus.SUCCESS, None, True)
    works_on(queue)


# --- a lock of a process that stands still ---------------------------------------------------------------------------

HOLDER = textwrap.dedent(
    """
    import os, signal, sqlite3, sys
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("holds", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    """
)


@contextmanager
def stopped_in_a_commit(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that was stopped with the database's write lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "holds\n"
        eventually(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        yield process
    finally:
        process.kill()
        process.wait(LIMIT_S)
        process.stdout.close()


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="Linux tells who holds a lock")
def test_health_names_the_stopped_process_that_has_the_database_and_its_death_frees_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "atlas.db")
    try:
        with stopped_in_a_commit(tmp_path / "atlas.db") as holder:
            told = store_check(store, store.clock)
            assert told.status == "failing"
            assert re.search(rf"locked.*process {holder.pid} \(.*which is stopped, holds its lock", told.detail), told
            assert f"kill -9 {holder.pid}" in told.remedy
        eventually(lambda: store_check(store, store.clock).status == "ok")
        assert store.lock_holder() is None
    finally:
        store.close()


# --- the embedded scheduler in several web workers -------------------------------------------------------------------

APP = """
import os
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from atlas import AtlasScheduler
from atlas.web import create_app

atlas = AtlasScheduler.from_settings(Path("config/config.yaml"))

@asynccontextmanager
async def lifespan(app):
    async with atlas:
        yield

async def who(request):
    return JSONResponse({"pid": os.getpid(), "stands_by": atlas.stands_by})

async def run(request):
    return JSONResponse({"task": await atlas.cron.run_job_now("beat")})

app = Starlette(
    routes=[Route("/who", who), Route("/run", run, methods=["POST"]), Mount("/atlas", create_app(atlas))],
    lifespan=lifespan,
)
"""


@pytest.mark.timeout(180)
def test_in_three_web_workers_every_job_runs_once_also_when_the_leading_one_is_killed(tmp_path: Path) -> None:
    jobs = {
        "beat": {
            "cron_expression": "* * * * * *",
            "function": "work_of_tests:greet",
            "overlap": "queue",
            "catchup": "all",
        }
    }
    installation = Installation(tmp_path / "atlas", jobs)
    (installation.folder / "web_app.py").write_text(APP)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "web_app:app", "--workers", "3", "--port", str(port)]
    log = (installation.folder / "uvicorn.log").open("wb")
    process = subprocess.Popen(
        command, cwd=installation.folder, env=installation.environment, stdout=log, stderr=log, start_new_session=True
    )
    store: Store | None = None
    try:
        database = installation.folder / "data" / "atlas.db"
        eventually(database.exists)
        opened = store = Store(database)
        eventually(lambda: len(opened.read(standbys)) == 2 and opened.read(scheduler_lease) is not None)
        eventually(lambda: served(opened) >= 3)
        leader = opened.read(scheduler_lease)
        assert leader is not None
        with urlopen(f"http://127.0.0.1:{port}/who", timeout=LIMIT_S) as answer:
            assert "stands_by" in json.load(answer)
        os.kill(leader.holder["pid"], signal.SIGKILL)
        eventually(lambda: (now := opened.read(scheduler_lease)) is not None and now.token == leader.token + 1)
        eventually(lambda: len(opened.read(standbys)) == 2)  # uvicorn has replaced the dead worker
        before = served(opened)
        eventually(lambda: served(opened) >= before + 3)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(LIMIT_S)
        log.close()
        if store is not None:
            rows = store.read(lambda connection: connection.execute(select(fires.c.fire_time, fires.c.last)).all())
            twice = store.read(
                lambda connection: connection.exec_driver_sql(
                    "SELECT fire_time FROM tasks WHERE fire_time IS NOT NULL GROUP BY fire_time HAVING count(*) > 1"
                ).all()
            )
            store.close()
    covered = sorted(at for one in rows for at in range(int(one.fire_time), int(one.last or one.fire_time) + 1))
    assert covered == list(range(covered[0], covered[0] + len(covered)))
    assert twice == []


def served(store: Store) -> int:
    """Fire times that were served so far."""
    return len(store.read(lambda connection: connection.execute(select(fires.c.fire_time)).all()))

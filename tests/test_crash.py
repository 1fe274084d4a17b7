"""kill -9, seen from outside: what waited, ran and was paused is there again, and a killer ends quarantined."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from atlas.scheduler.client import AtlasClient
from atlas.scheduler.task import Cause, Task, TaskStatus
from tests.forked import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent

SERVER = textwrap.dedent(
    """
    import os, sys, threading, time
    from pathlib import Path
    from atlas.scheduler import CronManager, TaskQueue, register

    folder = Path(sys.argv[1])

    def note(text):
        with open(folder / "ledger", "a", encoding="utf-8") as ledger:
            ledger.write(text + "\\n")

    @register("hang")
    def hang(name):
        note(f"start {name}")
        threading.Event().wait()

    @register("quick")
    def quick(name):
        note(f"start {name}")
        return name

    @register("killer")
    def killer():
        note("start killer")
        os._exit(3)

    queue = TaskQueue(max_workers=int(sys.argv[2]), store=folder / "atlas.db")
    with queue.sync:
        cron = CronManager(queue).sync
        cron.start()
        cron.add_job("never", "0 0 29 2 *", "quick", args=["never"])
        print("ready", flush=True)
        sys.stdin.read()
        cron.stop()
    """,
)


class Server:
    """A scheduler in a process of its own, which a test may kill."""

    def __init__(self, folder: Path, workers: int) -> None:
        script = folder / "server.py"
        script.write_text(SERVER)
        self.process: subprocess.Popen[bytes] = Program(
            [sys.executable, str(script), str(folder), str(workers)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def ready(self) -> bool:
        assert self.process.stdout is not None
        return self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def end(self) -> None:
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(30)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    running: list[Server] = []
    yield running
    for server in running:
        if server.process.poll() is None:
            server.kill()
        server.end()


def until(client: AtlasClient, task_id: str, wanted: TaskStatus, limit_s: float = 20.0) -> Task:
    seen: list[Task] = []

    def look(task: Task) -> None:
        seen.append(task)
        if task.status is wanted:
            raise StopIteration

    with suppress(StopIteration):
        client.sync.wait(task_id, limit_s, on_change=look)
    assert seen[-1].status is wanted
    return seen[-1]


def ledger(folder: Path) -> list[str]:
    return (folder / "ledger").read_text("utf-8").splitlines()


@pytest.mark.timeout(120)
def test_after_kill_9_history_pauses_and_waiting_tasks_are_there(tmp_path: Path, servers: list[Server]) -> None:
    client = AtlasClient(tmp_path / "atlas.db")
    servers.append(Server(tmp_path, 1))
    assert servers[-1].ready()
    done = client.sync.submit("quick", "before")
    assert client.sync.wait(done, 20).status is TaskStatus.SUCCESS
    client.sync.pause_job("never", reason="节日", by="night shift")
    blocker = client.sync.submit("hang", "blocker", on_crash="fail")
    until(client, blocker, TaskStatus.RUNNING)
    waiting = [client.sync.submit("quick", f"waiting {number}") for number in range(5)]
    servers[-1].kill()

    servers.append(Server(tmp_path, 2))
    assert servers[-1].ready()
    assert client.sync.task(done).value == "before"
    lost = client.sync.wait(blocker, 20)
    assert (lost.status, lost.cause) == (TaskStatus.FAILED, Cause.LOST)
    for number, task_id in enumerate(waiting):
        assert client.sync.wait(task_id, 20).value == f"waiting {number}"
    pause = next(job.pause for job in client.sync.jobs() if job.name == "never")
    assert pause is not None
    assert (pause.by, pause.reason) == ("night shift", "节日")
    metrics = client.sync.metrics()
    assert (metrics.successful_tasks, metrics.failed_tasks, metrics.total_tasks) == (6, 1, 7)
    servers[-1].end()
    client.sync.close()


@pytest.mark.timeout(120)
def test_what_ran_at_the_kill_runs_again_with_a_higher_attempt(tmp_path: Path, servers: list[Server]) -> None:
    client = AtlasClient(tmp_path / "atlas.db")
    servers.append(Server(tmp_path, 2))
    assert servers[-1].ready()
    task_id = client.sync.submit("hang", "again")
    assert until(client, task_id, TaskStatus.RUNNING).attempt == 1
    servers[-1].kill()
    servers.append(Server(tmp_path, 2))
    assert servers[-1].ready()
    again = until(client, task_id, TaskStatus.RUNNING)
    assert (again.attempt, again.crashes, again.failures) == (2, 1, 0)
    assert [attempt["outcome"] for attempt in client.sync.attempts(task_id)] == ["crashed"]
    assert client.sync.cancel(task_id)
    assert client.sync.wait(task_id, 20).status is TaskStatus.CANCELLED
    assert ledger(tmp_path) == ["start again", "start again"]
    client.sync.close()


@pytest.mark.timeout(180)
def test_a_function_that_kills_its_process_ends_quarantined_and_the_innocent_succeed(
    tmp_path: Path, servers: list[Server]
) -> None:
    client = AtlasClient(tmp_path / "atlas.db")
    innocent = [client.sync.submit("quick", f"innocent {number}") for number in range(30)]
    killer = client.sync.submit("killer")
    innocent += [client.sync.submit("quick", f"innocent {number}") for number in range(30, 60)]
    for _restart in range(8):
        servers.append(Server(tmp_path, 4))
        if servers[-1].ready():
            try:
                servers[-1].process.wait(0 if client.sync.task(killer).status.is_final else 20)
            except subprocess.TimeoutExpired:
                break
        servers[-1].end()
    quarantined = client.sync.wait(killer, 20)
    assert (quarantined.status, quarantined.cause) == (TaskStatus.FAILED, Cause.QUARANTINED)
    assert {client.sync.wait(task_id, 20).status for task_id in innocent} == {TaskStatus.SUCCESS}
    assert 3 <= ledger(tmp_path).count("start killer") <= 4  # three counted crashes, one may go uncounted
    client.sync.close()

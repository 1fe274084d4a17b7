"""A process that is forked from one with a queue is told so, whatever it asks for; nothing in it waits for ever."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from atlas.scheduler.client import SyncAtlasClient
from atlas.scheduler.errors import QueueStoppedError, StoreError
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.status import StatusManager
from atlas.scheduler.tasks.submission import IDS
from atlas.service import AtlasScheduler
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path

    from atlas.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def in_a_fork(asked: Callable[[], object]) -> str:
    """What ``asked`` returned in a process forked from this one, or the error it raised."""
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_answer, args=(asked, there))
    child.start()
    try:
        return str(here.recv()) if here.poll(LIMIT_S) else "no answer"
    finally:
        child.kill()
        child.join(LIMIT_S)
        child.close()
        here.close()
        there.close()


def _answer(asked: Callable[[], object], there: Connection) -> None:
    try:
        there.send(str(asked()))
    except (QueueStoppedError, StoreError) as error:
        there.send(f"refused: {error}")


def test_a_fork_of_a_process_with_a_queue_is_refused_at_once_and_may_make_its_own(tmp_path: Path) -> None:
    def use_and_stop() -> object:
        queue.sync.stop()
        return queue.get_queue_status()["state"]

    def start_anew() -> object:
        with TaskQueue(1, store=tmp_path / "other.db").sync as other:
            return other.get_task_result(other.submit(abs, -3), timeout=LIMIT_S)

    with TaskQueue(1, store=tmp_path / "atlas.db").sync as sync:
        queue = sync._queue
        task_id = sync.submit(abs, -1)
        for asked in (
            lambda: sync.submit(abs, -2),
            lambda: sync.get_task_result(task_id),
            lambda: queue.cancel_task(task_id),
        ):
            answer = in_a_fork(asked)
            assert answer.startswith("refused: ")
            assert "of which this one is a fork" in answer
        assert in_a_fork(use_and_stop) == "stopped"
        assert in_a_fork(start_anew) == "3"
        assert sync.get_task_result(sync.submit(abs, -4), timeout=LIMIT_S) == 4


def test_a_private_queue_may_be_started_again_in_a_fork() -> None:
    queue = TaskQueue(1)

    def start_again() -> object:
        with queue.sync as anew:
            return anew.get_task_result(anew.submit(abs, -3), timeout=LIMIT_S)

    with queue.sync:
        assert in_a_fork(start_again) == "3"


def test_no_two_forks_of_a_process_make_the_same_task_id_when_the_clock_was_set_back() -> None:
    before, now = IDS.new(datetime.now(UTC)), datetime.now(UTC) - timedelta(hours=1)
    made = [in_a_fork(lambda: IDS.new(now)) for _ in range(2)]
    assert before < made[0] != made[1] > before
    assert IDS.new(now) not in made


def test_a_record_that_was_opened_before_a_fork_takes_nothing_in_it(tmp_path: Path) -> None:
    with StatusManager(tmp_path / "status.json") as status:
        assert in_a_fork(lambda: status.create_task("t1", "news")).startswith("refused: ")
        assert in_a_fork(status.close) == "None"
        assert status.create_task("t1", "news").id == "t1"


def test_a_file_that_was_open_at_a_fork_is_not_opened_anew_in_it(tmp_path: Path) -> None:
    path = tmp_path / "atlas.db"

    def submit(target: Path) -> str:
        with SyncAtlasClient(target) as client:
            return client.submit("builtins:abs", -1)

    with TaskQueue(1, store=path).sync as sync:
        queue = sync._queue
        for answer in (
            in_a_fork(lambda: submit(path)),
            queue.role.store.write(lambda _connection: in_a_fork(lambda: submit(path))),  # while its lock is held
            in_a_fork(TaskQueue(1, store=path).sync.start),
        ):
            assert answer.startswith("refused: ")
            assert "SQLite's locks do not hold here" in answer
        assert sync.get_task_result(sync.submit(abs, -4), timeout=LIMIT_S) == 4
    assert in_a_fork(lambda: sync.start().stop()) == "None"  # nothing has it open now


def test_a_scheduler_in_a_thread_is_nothing_that_its_fork_could_stop(settings: Settings) -> None:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {}}')
    service = AtlasScheduler(settings).in_thread()
    with service as atlas:
        assert in_a_fork(service.stop) == "None"
        assert atlas.queue.sync.get_task_result(atlas.queue.sync.submit(abs, -4), timeout=LIMIT_S) == 4


def test_workers_that_are_forked_behind_the_import_of_the_app_start_it_each_and_one_leads(settings: Settings) -> None:
    """What the README says of gunicorn: with ``--preload``, and by its hook ``post_worker_init``."""
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {}}')
    atlas = AtlasScheduler(settings)
    atlas.registry.add("double", lambda number: number * 2)
    forks = multiprocessing.get_context("fork")
    end = forks.Event()

    def serve(there: Connection) -> None:
        service = atlas.in_thread()
        queue = service.start().queue.sync
        there.send((atlas.stands_by, queue.get_task_result(queue.submit("double", 4), timeout=LIMIT_S)))
        end.wait(LIMIT_S)
        service.stop()

    workers = []
    try:
        for is_second in (False, True):
            here, there = multiprocessing.Pipe(duplex=False)
            workers.append(forks.Process(target=serve, args=(there,)))
            workers[-1].start()
            with here, there:
                assert here.poll(LIMIT_S)
                assert here.recv() == (is_second, 8)
        end.set()
        for worker in workers:
            worker.join(LIMIT_S)
        assert [worker.exitcode for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.join(LIMIT_S)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_a_fork_that_a_function_lets_come_back_runs_nothing_that_waits(tmp_path: Path, asynchronous: bool) -> None:
    ran, accepted = tmp_path / "ran", threading.Event()

    def forks() -> int | None:
        accepted.wait(LIMIT_S)
        fork = os.fork()
        return None if fork == 0 else os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])

    async def forks_on_the_loop() -> int | None:
        return forks()

    def note() -> None:
        with ran.open("a") as file:
            file.write(f"{os.getpid()}\n")

    with TaskQueue(1, store=tmp_path / "atlas.db").sync as sync:
        first = sync.submit(forks_on_the_loop if asynchronous else forks, max_retries=0)
        notes = [sync.submit(note) for _ in range(3)]
        accepted.set()
        assert sync.get_task_result(first, timeout=LIMIT_S) == 0
        for task_id in notes:
            sync.get_task_result(task_id, timeout=LIMIT_S)
    assert ran.read_text().split() == [str(os.getpid())] * 3


FORKS_AND_LEADS = """
import os, sys
from atlas.scheduler import TaskQueue

with TaskQueue(1, store=sys.argv[1]).sync:
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    print("leads", flush=True)
    sys.stdin.read()
"""


def test_the_death_of_a_leader_is_known_at_once_although_a_fork_of_it_lives(tmp_path: Path) -> None:
    path = tmp_path / "atlas.db"
    program = [sys.executable, "-c", FORKS_AND_LEADS, str(path)]
    with (
        subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as leader,
        SyncAtlasClient(path) as client,
    ):
        assert leader.stdout is not None
        assert leader.stdout.readline() == b"leads\n"
        assert client.scheduler() is not None
        leader.kill()
        leader.wait(LIMIT_S)
        assert client.scheduler() is None

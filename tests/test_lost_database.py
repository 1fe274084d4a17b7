"""A SQLite file that is deleted, replaced, overwritten or damaged under a running scheduler: noticed and made anew."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from atlas.builtin.health.look import health
from atlas.scheduler.client import AtlasClient
from atlas.scheduler.events import SchedulerEvent, SchedulerEventKind
from atlas.scheduler.job_view import JobState
from atlas.scheduler.lease_facts import troubles_of
from atlas.scheduler.store.database_file import DatabaseFile
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.store.tables import leases
from atlas.scheduler.task import TaskStatus
from atlas.service import AtlasScheduler
from atlas.web.words.speech import Speech
from tests.queue_bench import LIMIT_S, Gate
from tests.test_traps import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from atlas.settings import Settings

Harm = Callable[["Path"], None]


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for part in ("", "-wal", "-shm"):
        path.with_name(path.name + part).unlink(missing_ok=True)


def replace(path: Path) -> None:
    other = path.with_name("other.db")
    other.write_bytes(b"")
    other.replace(path)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(64 * 1024))


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def overwrite_with_another(path: Path) -> None:
    other = path.with_name("other.db")
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE tasks (id TEXT)")
    connection.commit()
    connection.close()
    path.write_bytes(other.read_bytes())


HARMS = [
    pytest.param(delete, "was deleted", id="deleted"),
    pytest.param(delete_all, "was deleted", id="deleted with its log"),
    pytest.param(replace, "was replaced", id="replaced"),
    pytest.param(overwrite, "was overwritten", id="overwritten with noise"),
    pytest.param(truncate, "was overwritten", id="cut to nothing"),
    pytest.param(overwrite_with_another, "was overwritten", id="overwritten with another database"),
]


def rebuilt(store: Store) -> threading.Event:
    """Set once the store was made anew."""
    seen = threading.Event()

    def hear(event: Any) -> None:
        if isinstance(event, SchedulerEvent) and event.kind is SchedulerEventKind.STORE_REBUILT:
            seen.set()

    store.events.subscribe(hear)
    return seen


@pytest.mark.parametrize(("harm", "why"), HARMS)
def test_a_lost_file_is_noticed_and_made_anew_and_what_was_promised_is_kept(
    tmp_path: Path, harm: Harm, why: str
) -> None:
    path, gate = tmp_path / "atlas.db", Gate()
    with running(path) as atlas:
        registry = atlas.queue.registry
        registry.add("gate", gate)
        registry.add("note", lambda: "noted")
        atlas.cron.add_job("held", "@yearly", "note")
        for job in ("held", "beat"):
            atlas.cron.pause_job(job, reason="by a test", by="me")
        door = atlas.cron.running.jobs.door
        door.enter()  # behind a pass that still took the beat for one that is not paused
        door.leave()
        assert atlas.queue.serving.shutdown.wait_idle(LIMIT_S, waiting_too=True)
        under_way = atlas.queue.sync.submit("gate")
        gate.wait_entered()
        other = atlas.queue.sync.submit("gate")
        gate.wait_entered()
        waiting = atlas.queue.sync.submit("note")  # both slots are taken
        seen = rebuilt(atlas.store)
        harm(path)
        assert seen.wait(LIMIT_S), "nobody noticed"
        gate.open()
        for task_id in (under_way, other, waiting):
            assert atlas.queue.sync.get_task_result(task_id, timeout=LIMIT_S) is not None
        atlas.cron.resume_job("beat")
        atlas.settle()
        atlas.beats(2)
        (loss,) = atlas.store.losses
        assert why in loss.why
        assert "3 unfinished tasks, 2 jobs, 2 pauses" in loss.kept
        assert (loss.aside is not None) is (harm not in {delete, delete_all})
        assert loss.aside is None or loss.aside.exists()
        atlas.store.write(lambda _connection: None)
        with AtlasClient(path).sync as client:  # a connection of its own sees what is on disk
            states = {job.name: job.state for job in client.jobs()}
            ended = {task_id: client.task(task_id).status for task_id in (under_way, other, waiting)}
            assert client.scheduler() is not None
        assert states == {"beat": JobState.ACTIVE, "held": JobState.PAUSED}
        assert set(ended.values()) == {TaskStatus.SUCCESS}
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_page_is_noticed_as_soon_as_sqlite_says_so(tmp_path: Path) -> None:
    path = tmp_path / "atlas.db"
    with running(path) as atlas:
        atlas.beats(1)
        atlas.cron.add_job("rare", "@yearly", "beat")
        seen = rebuilt(atlas.store)
        real = atlas.store.writer._write
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        refused = threading.Event()

        def write(batch: Any) -> Any:
            if not refused.is_set():
                refused.set()
                raise error
            return real(batch)

        atlas.store.writer._write = write  # type: ignore[method-assign]
        assert seen.wait(LIMIT_S)
        atlas.settle()
        atlas.beats(2)
        assert "is damaged (database disk image is malformed)" in atlas.store.losses[0].why


async def test_the_service_keeps_its_config_and_reports_the_loss(settings: Settings) -> None:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text(
        '{"cron_jobs": {"job": {"cron_expression": "@yearly", "function": "health"}}}'
    )
    async with AtlasScheduler.from_settings(settings) as atlas:
        seen = rebuilt(atlas.store)
        assert atlas.store.path is not None
        atlas.store.path.unlink()
        assert await _set(seen)
        assert atlas.store.events.drain()
        assert atlas.reconciler.latest_revision() is not None
        found = health(store=atlas.store, source=atlas, clock=atlas.store.clock, folder=settings.root, collected=())
        (check,) = [check for check in found["checks"] if check["name"] == "store"]
        assert check["status"] == "degraded"
        assert (
            "was deleted: made anew with 0 unfinished tasks, 1 job, 0 pauses, the history before is lost"
            in check["detail"]
        )
        atlas.queue.serving.renew()
        async with AtlasClient(atlas.store.path) as client:
            (trouble,) = troubles_of(await client.scheduler())
        assert trouble.kind is SchedulerEventKind.STORE_REBUILT
        assert Speech("zh").told(trouble.words) == (
            f"数据库文件 {atlas.store.path} 被删除：已重建，保住 0 个未结束的任务, 1 个作业, 0 个暂停，此前的历史已丢失"
        ).replace(", ", "，")


async def _set(event: threading.Event) -> bool:
    import asyncio

    return await asyncio.to_thread(event.wait, LIMIT_S)


def test_a_process_that_does_not_schedule_goes_on_with_what_the_scheduler_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "atlas.db"
    with running(path) as atlas, AtlasClient(path).sync as client:
        assert [job.name for job in client.jobs()] == ["beat"]
        client.pause_job("beat", reason="before")
        client.resume_job("beat")
        seen = rebuilt(atlas.store)
        path.unlink()
        assert seen.wait(LIMIT_S)
        client.pause_job("beat", reason="after")
        assert client.jobs()[0].state is JobState.PAUSED


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(tmp_path / "atlas.db")
    yield made
    made.close()


def test_a_file_that_is_written_as_usual_is_not_lost(store: Store) -> None:
    for _ in range(5):
        store.write(lambda connection: connection.execute(select(leases)).all())
        connection = store.engine.raw_connection()
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        assert store.writer.file.lost() is None


def test_each_database_has_a_mark_of_its_own(tmp_path: Path) -> None:
    marks = set()
    for name in ("a", "b"):
        made = open_store(tmp_path / f"{name}.db")
        marks.add(made.read(lambda connection: connection.exec_driver_sql("PRAGMA user_version").scalar()))
        made.close()
    assert len(marks - {0}) == 2


def test_what_is_set_aside_never_hits_an_older_one(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "old.db"
    asides = set()
    for number in range(3):
        path.write_text(str(number))
        asides.add(DatabaseFile(path).set_aside(store.clock.now()))
    assert len(asides) == 3
    assert DatabaseFile(path).set_aside(store.clock.now()) is None

"""The whole scheduler, built from settings: in a loop, in a thread, with a good and with a bad jobs file."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import re
import shutil
import subprocess
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from atlas import service
from atlas.pauses import collect_rarely, shorten_pauses
from atlas.program import _collect_at_once
from atlas.scheduler import zones
from atlas.scheduler.client import SyncAtlasClient
from atlas.scheduler.errors import (
    ConfigError,
    JobOwnershipError,
    QueueStoppedError,
    ScheduleError,
    StoreHeldError,
    UnknownJobError,
)
from atlas.scheduler.job_view import JobState
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.task import TaskStatus
from atlas.service import AtlasScheduler
from atlas.settings import load_settings, prepare_folders
from tests.installations import ROOT, Installation
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from atlas.settings import Settings

HEALTH = {"name": "健康检查", "function": "health", "cron_expression": "*/30 * * * *"}


def write_jobs(settings: Settings, **jobs: dict[str, Any]) -> Path:
    path = settings.persistence.cron_config
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cron_jobs": jobs}, ensure_ascii=False), "utf-8")
    return path


async def test_a_job_of_the_file_runs_a_built_in_function(settings: Settings) -> None:
    write_jobs(settings, health_check=HEALTH)
    async with AtlasScheduler.from_settings(settings) as atlas:
        task_id = await atlas.cron.run_job_now("health_check")
        result = await atlas.queue.get_task_result(task_id, timeout=20)
        assert {check["name"] for check in result["checks"]} >= {"store", "scheduler", "queue", "jobs"}
        task = atlas.status.get_task(task_id)
        assert (task.name, task.job_id, task.revision) == ("健康检查", "health_check", 1)


async def test_to_enable_a_job_that_the_file_switches_off_names_the_file_paused_or_not(settings: Settings) -> None:
    file = write_jobs(settings, off={**HEALTH, "enabled": False}, on=HEALTH)
    async with AtlasScheduler(settings) as atlas:
        await atlas.cron.disable_job("off")
        for _ in ("paused", "not paused"):
            with pytest.raises(JobOwnershipError, match=f"{file} says enabled: false; change it there"):
                await atlas.cron.enable_job("off")
            assert (await atlas.cron.get_job("off")).pause is None
        await atlas.cron.disable_job("on")
        await atlas.cron.enable_job("on")
        assert (await atlas.cron.get_job("on")).state is JobState.ACTIVE


async def test_the_same_file_twice_is_one_revision_and_the_next_start_stays(settings: Settings) -> None:
    write_jobs(settings, health_check=HEALTH)
    async with AtlasScheduler.from_settings(settings) as atlas:
        assert atlas.is_first_start
        before = await atlas.cron.get_job("health_check")
    async with AtlasScheduler.from_settings(settings) as atlas:
        assert not atlas.is_first_start
        assert await atlas.cron.get_job("health_check") == before
        latest = atlas.reconciler.latest_revision()
        assert latest is not None
        assert latest.number == 1


async def test_a_bad_file_at_the_start_runs_the_last_good_revision(settings: Settings) -> None:
    path = write_jobs(settings, health_check=HEALTH)
    async with AtlasScheduler.from_settings(settings):
        pass
    path.write_text('{"cron_jobs": {"health_check": {"cron_expression": "61 * * * *"}}}', "utf-8")
    async with AtlasScheduler.from_settings(settings) as atlas:
        assert (await atlas.cron.get_job("health_check")).state is JobState.ACTIVE
        assert "minute" in str(atlas.config_error())
        write_jobs(settings, health_check=HEALTH)
        summary = await asyncio.to_thread(atlas.reload)
        assert "no change" in summary
        assert atlas.config_error() is None


async def test_a_bad_file_at_the_very_first_start_is_refused_with_its_place(settings: Settings) -> None:
    path = write_jobs(settings)
    path.write_text('{"cron_jobs": {"a": {"cron_expression": "61 * * * *"}}}', "utf-8")
    with pytest.raises(ConfigError, match=r"cron_jobs\.json:1:\d+: cron_jobs\.a\.cron_expression"):
        await AtlasScheduler.from_settings(settings).start()
    write_jobs(settings, health_check=HEALTH)
    async with AtlasScheduler.from_settings(settings) as atlas:  # nothing of the failed start is left behind
        assert (await atlas.cron.get_job("health_check")).state is JobState.ACTIVE


async def test_a_reload_adds_changes_and_removes_and_keeps_the_rest(settings: Settings) -> None:
    write_jobs(settings, kept=HEALTH, gone=HEALTH, moved=HEALTH)
    async with AtlasScheduler.from_settings(settings) as atlas:
        kept = await atlas.cron.get_job("kept")
        await atlas.cron.disable_job("moved")
        write_jobs(settings, kept=HEALTH, moved={**HEALTH, "cron_expression": "0 3 * * *"}, new=HEALTH)
        assert await asyncio.to_thread(atlas.reload) == "+new ~moved -gone"
        assert await atlas.cron.get_job("kept") == kept
        moved = await atlas.cron.get_job("moved")
        assert (moved.schedule, moved.state) == ("0 3 * * *", JobState.PAUSED)
        with pytest.raises(UnknownJobError):
            await atlas.cron.get_job("gone")


async def test_a_missing_function_leaves_its_job_unbound_and_the_others_running(settings: Settings) -> None:
    write_jobs(settings, health_check=HEALTH, later={"function": "not_there_yet", "cron_expression": "@daily"})
    async with AtlasScheduler.from_settings(settings) as atlas:
        states = {job.name: job.state for job in await atlas.cron.get_all_jobs()}
        assert states == {"health_check": JobState.ACTIVE, "later": JobState.UNBOUND}
        atlas.registry.add("not_there_yet", lambda: None)
        assert (await atlas.cron.get_job("later")).state is JobState.ACTIVE


async def test_a_second_scheduler_is_refused_and_the_holder_named(settings: Settings) -> None:
    write_jobs(settings, health_check=HEALTH)
    async with AtlasScheduler.from_settings(settings):
        with pytest.raises(StoreHeldError, match="another queue of this process"):
            await AtlasScheduler.from_settings(settings).start()


def test_in_a_thread_it_serves_code_without_a_loop(settings: Settings) -> None:
    write_jobs(settings, health_check=HEALTH)
    with AtlasScheduler.from_settings(settings).in_thread() as atlas:
        main, seen = threading.get_ident(), []

        async def where() -> int:
            seen.append(threading.get_ident())
            return 42

        assert atlas.queue.sync.get_task_result(atlas.queue.sync.submit(where), timeout=20) == 42
        assert seen != [main]
        task_id = atlas.cron.sync.run_job_now("health_check")
        assert atlas.queue.sync.get_task_result(task_id, timeout=20)["status"] in {"ok", "degraded", "failing"}


def test_in_a_thread_it_starts_and_stops_as_often_as_one_likes(settings: Settings) -> None:
    write_jobs(settings, health_check=HEALTH)
    service = AtlasScheduler.from_settings(settings).in_thread()
    service.stop()
    for _ in range(2):
        atlas = service.start()
        assert service.start() is atlas
        assert atlas.queue.sync.get_task_result(atlas.queue.sync.submit(abs, -1), timeout=math.inf) == 1
        service.stop()
        service.stop()


def test_a_settings_file_may_be_named_by_text(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("scheduler: {max_workers: 3}")
    assert AtlasScheduler.from_settings(str(file)).settings.scheduler.max_workers == 3
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        AtlasScheduler.from_settings(str(tmp_path / "none.yaml"))


async def test_it_starts_again_after_its_stop_with_what_was_there(settings: Settings) -> None:
    write_jobs(settings, health_check=HEALTH)
    atlas, made = AtlasScheduler.from_settings(settings), []
    for _ in range(3):
        async with atlas:
            made.append(await atlas.cron.run_job_now("health_check"))
            assert (await atlas.queue.get_task_result(made[-1], timeout=20))["status"] in {"ok", "degraded", "failing"}
            assert [task.id for task in atlas.status.get_tasks()] == made[::-1]
        with pytest.raises(QueueStoppedError, match="not started"):
            _ = atlas.store


@pytest.fixture
def collector() -> Iterator[None]:
    """Python's garbage collector, afterwards as it was."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
async def test_what_starts_and_configs_bring_is_set_aside_and_their_garbage_is_not(settings: Settings) -> None:
    class Cycle:
        """Garbage that only the collector finds."""

        def __init__(self) -> None:
            self.me = self

    write_jobs(settings, health_check=HEALTH)
    collect_rarely()
    assert gc.get_threshold()[0] > 700  # Python's own
    async with AtlasScheduler.from_settings(settings) as atlas:
        shorten_pauses(atlas)
        aside, left = gc.get_freeze_count(), weakref.ref(Cycle())
        assert aside > 0
        write_jobs(settings, health_check=HEALTH, **{f"new{n}": HEALTH for n in range(100)})
        await asyncio.to_thread(atlas.reload)
        assert await asyncio.to_thread(atlas.store.events.drain, 20)
        assert gc.get_freeze_count() > aside
        assert left() is None


async def test_a_start_that_is_cancelled_while_it_opens_leaves_nothing_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jobs(settings, health_check=HEALTH)
    begun, goes_on, stores = threading.Event(), threading.Event(), []

    def slowly(*args: Any, **options: Any) -> Store:
        begun.set()
        goes_on.wait(LIMIT_S)
        stores.append(open_store(*args, **options))
        return stores[-1]

    monkeypatch.setattr(service, "open_store", slowly)
    atlas = AtlasScheduler(settings)
    start = asyncio.ensure_future(atlas.start())
    await asyncio.to_thread(begun.wait, LIMIT_S)
    start.cancel()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await start
    with pytest.raises(QueueStoppedError, match="not started"):
        _ = atlas.store
    assert stores[0].is_closed
    async with atlas:
        assert [job.name for job in await atlas.cron.get_all_jobs()] == ["health_check"]


async def test_a_start_that_fails_behind_the_opening_of_the_store_can_be_tried_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jobs(settings, health_check=HEALTH)
    atlas = AtlasScheduler(settings)
    with monkeypatch.context() as broken:
        broken.setattr(service, "bind_builtins", refuse)
        with pytest.raises(ScheduleError):
            await atlas.start()
    async with atlas:
        assert [job.name for job in await atlas.cron.get_all_jobs()] == ["health_check"]


def refuse(*_args: object, **_options: object) -> None:
    raise ScheduleError("the machine has no zone")


async def test_the_first_start_asks_no_job_one_by_one_whether_it_collects(settings: Settings) -> None:
    yearly = {"cron_expression": "@yearly"}
    others = {f"other{number}": {**yearly, "function": "health"} for number in range(100)}
    write_jobs(
        settings,
        news={**yearly, "function": "collect"},
        off={**yearly, "function": "collect", "enabled": False},
        **others,
    )
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        asked.append(statement)

    async with AtlasScheduler(settings) as atlas:
        event.listen(atlas.store.engine, "before_cursor_execute", note)
        await _collect_at_once(atlas)
        event.remove(atlas.store.engine, "before_cursor_execute", note)
        assert [task.job_id for task in atlas.status.get_tasks()] == ["news"]
    assert len(asked) < 50


# --- the zone of the machine ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tz", ["CST-8", "EST5EDT,M3.2.0,M11.1.0", "Mars/Olympus"])
def test_a_machine_whose_zone_has_no_name_says_what_to_set(tmp_path: Path, tz: str) -> None:
    made = Installation(tmp_path / "here", {"health_check": HEALTH}, {"scheduler": {}})
    for command in ("serve", "jobs"):
        done = made.atlas(command, env={**made.environment, "TZ": tz})
        assert done.code == 2, command
        assert f"the time zone of this machine has no name (TZ='{tz}', " in done.err
        assert "set scheduler.timezone" in done.err
    named = {**made.environment, "TZ": tz, "ATLAS_SCHEDULER__TIMEZONE": "Asia/Shanghai"}
    assert made.atlas("jobs", env=named).code == 0


def test_a_machine_without_a_zone_is_on_utc_and_a_copied_one_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(zones, "get_localzone_name", lambda: None)  # what tzlocal says in both cases
    monkeypatch.setattr(zones, "LOCAL_TIME", tmp_path / "localtime")
    assert zones.local_zone_name() == "UTC"
    (tmp_path / "localtime").write_bytes(b"TZif2")
    with pytest.raises(ScheduleError, match=r"has no name .*localtime\); set scheduler\.timezone"):
        zones.local_zone_name()


STARTED_AND_LEFT = """
import threading
from atlas import AtlasScheduler
from atlas.scheduler import register

begun = threading.Event()

@register("last")
def last():
    begun.set()
    threading.main_thread().join()
    return "done"

atlas = AtlasScheduler.from_settings().in_thread().start()
print(atlas.queue.sync.submit(last))
begun.wait()
"""


def test_a_program_that_ends_without_a_word_stops_its_scheduler_as_leaving_the_block_does(settings: Settings) -> None:
    write_jobs(settings, health_check=HEALTH)
    root = settings.persistence.cron_config.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", STARTED_AND_LEFT], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    with SyncAtlasClient(settings.persistence.database) as client:
        task = client.task(done.stdout.strip())
        assert (task.status, task.value, task.crashes) == (TaskStatus.SUCCESS, "done", 0)
    assert "Traceback" not in done.stderr
    assert settings.persistence.status_file is not None
    assert '"SUCCESS"' in settings.persistence.status_file.read_text()


# --- as a service of systemd ------------------------------------------------------------------------------------------


def test_the_unit_makes_every_folder_that_is_missing_and_lets_all_be_written(tmp_path: Path) -> None:
    """systemd starts nothing below a ReadWritePaths that is not there."""
    unit = (ROOT / "config" / "atlas-scheduler.service").read_text().replace("/srv/atlas", str(tmp_path))
    made = re.findall(r"^ExecStartPre=\+/usr/bin/install -d .*? (/.*)$", unit, re.MULTILINE)[0].split()
    writable = re.findall(r"^ReadWritePaths=(.*)$", unit, re.MULTILINE)[0].split()
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config" / "config.yaml", tmp_path / "config")
    settings = load_settings(tmp_path / "config" / "config.yaml")
    assert {str(folder) for folder in prepare_folders(settings)} == set(made)
    assert set(writable) == {*made, str(settings.persistence.cron_config.parent)}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    text = (ROOT / "config" / "atlas-scheduler.service").read_text()
    unit = tmp_path / "atlas-scheduler.service"
    unit.write_text(text.replace("/srv/atlas/.venv/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

"""/metrics: the Prometheus client's own parser reads it, and its figures are those of ``get_metrics``."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from atlas.scheduler.errors import TaskFailedError
from atlas.scheduler.store.store import open_store
from atlas.scheduler.store.task_rows import full_row, insert_tasks
from atlas.scheduler.task import Task, TaskIds, TaskStatus
from atlas.scheduler.testing.clocks import SetClock
from atlas.service import AtlasScheduler
from atlas.web.app import create_app
from atlas.web.tally import Tally
from tests import seeded

if TYPE_CHECKING:
    from pathlib import Path

STRANGE = 'a "b" \\ {c}'


async def test_the_figures_of_a_mixed_day_are_those_of_get_metrics(tmp_path: Path) -> None:
    entry = {"cron_expression": "0 9 * * *", "max_retries": 0}
    jobs = {STRANGE: {**entry, "function": "seeded"}, "broken": {**entry, "function": "fails"}}
    scheduler = AtlasScheduler.from_settings(seeded.bare(tmp_path, jobs))
    transport = httpx.ASGITransport(create_app(scheduler))
    async with scheduler as atlas:
        for _ in range(3):
            await atlas.queue.get_task_result(await atlas.cron.run_job_now(STRANGE), timeout=30)
        with pytest.raises(TaskFailedError):
            await atlas.queue.get_task_result(await atlas.cron.run_job_now("broken"), timeout=30)
        await atlas.queue.get_task_result(await atlas.queue.submit("seeded"), timeout=30)
        atlas.status.create_task("by hand", "tried twice", max_retries=1)
        for _ in range(2):
            atlas.status.start_task("by hand")
            atlas.status.fail_task("by hand", "no")
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answer = await client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        ended = Counter[str]()
        by_job = Counter[tuple[str, str]]()
        for sample in families["atlas_tasks"].samples:
            assert sample.name == "atlas_tasks_total"
            ended[sample.labels["status"]] += int(sample.value)
            by_job[sample.labels["job"], sample.labels["status"]] += int(sample.value)
        assert [one.value for one in families["atlas_events_dropped"].samples] == [0]
        metrics = atlas.status.get_metrics()
        assert +ended == +Counter({s.value: n for s, n in metrics.by_status.items() if s.is_final})
        assert by_job[STRANGE, "SUCCESS"] == 3
        assert by_job["broken", "FAILED"] == 1
        assert by_job["other", "SUCCESS"] == 1
        took = {(one.name, one.labels["job"]): one.value for one in families["atlas_task_duration_seconds"].samples}
        assert took["atlas_task_duration_seconds_count", STRANGE] == 3
        assert took["atlas_task_duration_seconds_count", "other"] == 2
        total_s = sum(value for (name, _job), value in took.items() if name.endswith("_sum"))
        assert total_s == pytest.approx((metrics.average_duration_s or 0.0) * 6)
        lags = families["atlas_task_start_lag_seconds"].samples
        buckets = [one.value for one in lags if one.name.endswith("_bucket")]
        assert buckets == sorted(buckets)
        assert [one.labels["le"] for one in lags if one.name.endswith("_bucket")][-1] == "+Inf"
        values = {one.name.rsplit("_", 1)[1]: one.value for one in lags if not one.labels}
        assert values["count"] == buckets[-1] == 5  # what is moved by hand never waits in line
        assert 0 < values["sum"] < 60
        assert families["atlas_task_retries"].samples[0].value == 1
        assert families["atlas_task_retries"].samples[0].name == "atlas_task_retries_total"
        assert families["atlas_task_crashes"].samples[0].value == 0
        assert {family.type for family in families.values()} == {"counter", "gauge", "summary", "histogram"}
        assert families["atlas_slots"].samples[0].value == 5
        assert families["atlas_config_revision"].samples[0].value == 1
        assert families["atlas_config_error"].samples[0].value == 0
        for name in ("atlas_queue_depth", "atlas_queue_oldest_wait_seconds"):
            assert {one.labels["priority"] for one in families[name].samples} == {"URGENT", "HIGH", "NORMAL", "LOW"}
        assert 0 <= families["atlas_last_tick_age_seconds"].samples[0].value < 60
        assert families["atlas_threads_abandoned"].samples[0].value == 0


async def test_no_series_is_there_twice_whatever_a_job_is_called(tmp_path: Path) -> None:
    jobs = {name: {"cron_expression": "0 9 * * *", "function": "seeded"} for name in ("other", "else")}
    scheduler = AtlasScheduler.from_settings(seeded.bare(tmp_path, jobs))
    async with scheduler as atlas:
        for name in jobs:
            await atlas.queue.get_task_result(await atlas.cron.run_job_now(name), timeout=30)
        transport = httpx.ASGITransport(create_app(scheduler))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            families = list(text_string_to_metric_families((await client.get("/metrics")).text))
    series = Counter((one.name, *sorted(one.labels.items())) for family in families for one in family.samples)
    assert series.total() == len(series)
    assert series["atlas_tasks_total", ("job", "other"), ("status", "SUCCESS")] == 1


def test_a_tally_counts_each_task_once_and_only_grows(tmp_path: Path) -> None:
    begin = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
    clock = SetClock(begin)
    store = open_store(tmp_path / "atlas.db", clock=clock)
    tally, ids, late_s = Tally(begin.timestamp()), TaskIds(), iter((0.004, 0.2, 4000.0, 0.2))

    def ended(failures: int = 0, crashes: int = 0) -> None:
        at, lag_s = clock.now(), 0.0
        if not failures:
            lag_s = next(late_s)
        task = Task(
            id=ids.new(at),
            name="x",
            function="seeded",
            created_at=at - timedelta(seconds=lag_s),
            started_at=at,
            finished_at=at,
            attempt=1 + failures,
            failures=failures,
            crashes=crashes,
            status=TaskStatus.SUCCESS,
        )
        store.write(lambda connection: insert_tasks(connection, [full_row(task)]))

    try:
        assert tally.look(store).lags.total() == 0
        ended()
        ended(failures=2, crashes=1)
        for _ in range(2):
            found = tally.look(store)
            assert (found.retries, found.crashes, found.lags.total()) == (2, 1, 1)
        clock.instant += timedelta(seconds=45)
        ended()
        assert tally.look(store).lags.total() == 2
        clock.instant += timedelta(seconds=300)
        assert tally.look(store).lags.total() == 2
        ended()
        ended()
        found = tally.look(store)
        buckets = dict(found.buckets())
        assert (buckets["0.005"], buckets["0.1"], buckets["0.25"], buckets["1800"], buckets["+Inf"]) == (1, 1, 3, 3, 4)
        assert found.lag_s == pytest.approx(4000.404)
    finally:
        store.close()

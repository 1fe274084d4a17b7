"""/metrics: the Prometheus client's own parser reads it, and its figures are those of ``get_metrics``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from atlas.scheduler.errors import TaskFailedError
from atlas.service import AtlasScheduler
from atlas.web.app import create_app
from tests import seeded

if TYPE_CHECKING:
    from pathlib import Path

STRANGE = 'a "b" \\ {c}'


async def test_the_figures_of_a_mixed_day_are_those_of_get_metrics(tmp_path: Path) -> None:
    entry = {"cron_expression": "0 9 * * *", "max_retries": 0}
    jobs = {STRANGE: {**entry, "function": "seeded"}, "broken": {**entry, "function": "fails"}}
    async with AtlasScheduler.from_settings(seeded.bare(tmp_path, jobs)) as atlas:
        for _ in range(3):
            await atlas.queue.get_task_result(await atlas.cron.run_job_now(STRANGE), timeout=30)
        with pytest.raises(TaskFailedError):
            await atlas.queue.get_task_result(await atlas.cron.run_job_now("broken"), timeout=30)
        await atlas.queue.get_task_result(await atlas.queue.submit("seeded"), timeout=30)
        atlas.status.create_task("by hand", "tried twice", max_retries=1)
        for _ in range(2):
            atlas.status.start_task("by hand")
            atlas.status.fail_task("by hand", "no")
        transport = httpx.ASGITransport(create_app(atlas))
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
        lags = families["atlas_recent_start_lag_seconds"].samples
        assert [one.labels["quantile"] for one in lags] == ["0.5", "0.99"]
        assert 0 <= lags[0].value <= lags[1].value
        counted = [families[f"atlas_recent_{name}"].samples[0].value for name in ("tasks", "retries", "crashes")]
        assert counted == [6, 1, 0]
        assert families["atlas_slots"].samples[0].value == 5
        assert families["atlas_config_revision"].samples[0].value == 1
        assert families["atlas_config_error"].samples[0].value == 0
        assert {sample.labels["priority"] for sample in families["atlas_queue_depth"].samples} == {
            *("URGENT", "HIGH", "NORMAL", "LOW")
        }

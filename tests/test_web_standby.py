"""The pages of a process that stands by: they say so and who leads, show the leader's jobs, and act through it."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from atlas.scheduler.job_view import JobState
from atlas.service import AtlasScheduler
from atlas.web.app import create_app
from tests import seeded
from tests.forked import Program

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import Iterator

LEADER = """
import sys
from pathlib import Path
from atlas.service import AtlasScheduler
from tests import seeded
jobs = {"nightly": {"name": "夜间", "cron_expression": "0 9 * * *", "function": "seeded"}}
with AtlasScheduler.from_settings(seeded.bare(Path(sys.argv[1]), jobs)).in_thread():
    print("leads", flush=True)
    sys.stdin.read()
"""
PAGES = (
    "/",
    "/jobs",
    "/jobs/nightly",
    "/tasks",
    "/queue",
    "/config",
    "/system",
    "/find?q=night",
    "/ask/run?job=nightly",
)


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = Program(
        [sys.executable, "-c", LEADER, str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline().strip() == "leads"
        yield process
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


@pytest.mark.timeout(120)
def test_a_standby_says_who_leads_shows_its_jobs_acts_through_it_and_takes_over(
    leader: subprocess.Popen[str], tmp_path: Path
) -> None:
    class Role:
        leads = threading.Event()

        def lead(self) -> None:
            self.leads.set()

        def step_down(self) -> None:
            pass

    settings = seeded.bare(
        tmp_path, {"nightly": {"name": "夜间", "cron_expression": "0 9 * * *", "function": "seeded"}}
    )
    role = Role()
    with AtlasScheduler.from_settings(settings).in_thread() as atlas:
        assert atlas.stands_by
        atlas.queue.on_role(role)
        assert list(atlas.each_job()) == atlas.get_jobs()
        client = TestClient(create_app(atlas), base_url="http://127.0.0.1")
        for path in PAGES:
            page = client.get(path)
            assert page.status_code == 200, path
            assert "This process stands by. The jobs are scheduled by process " in page.text, path
            assert f"process {leader.pid}" in page.text, path
        assert "夜间" in client.get("/jobs").text
        assert "夜间" in client.get("/").text
        assert "待命" in client.get("/?lang=zh").text
        assert 'job="nightly"' in client.get("/metrics").text or "atlas_jobs 1" in client.get("/metrics").text
        assert client.get("/healthz").json()["role"] == "standby"
        assert client.get("/readyz").status_code == 200
        program = TestClient(client.app, base_url="http://127.0.0.1", headers={"authorization": "Bearer none"})
        task = program.post("/api/v1/jobs/nightly/run").json()["task"]
        assert atlas.queue.sync.get_task_result(task, timeout=30)["items"] == 40
        assert program.post("/api/v1/jobs/nightly/pause", json={"reason": "quiet"}).json() == {"paused": True}
        assert leader.stdin is not None
        leader.stdin.close()
        assert role.leads.wait(60)
        (job,) = atlas.each_job()
        assert [job] == atlas.get_jobs()
        assert job.state is JobState.PAUSED
        page = client.get("/jobs/nightly")
        assert page.status_code == 200
        assert "This process stands by." not in page.text
        assert "quiet" in page.text

"""The JSON API: its verbs, its errors, and nothing without the token."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from atlas.service import AtlasScheduler
from atlas.web import create_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from atlas.settings import Settings


def test_the_verbs_work_with_the_token_and_refuse_without(settings: Settings) -> None:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    with AtlasScheduler(settings).in_thread() as atlas:
        client = TestClient(create_app(atlas), base_url="http://127.0.0.1")
        assert client.get("/api/v1/jobs").status_code == 401
        assert client.post("/api/v1/jobs/health/run").status_code == 401
        assert settings.web.token_file is not None
        client.headers["authorization"] = f"Bearer {settings.web.token_file.read_text().strip()}"
        assert [job["id"] for job in client.get("/api/v1/jobs").json()["items"]] == ["health"]
        task = client.post("/api/v1/jobs/health/run", json={}).json()["task"]
        atlas.queue.sync.get_task_result(task, timeout=20)
        assert client.get(f"/api/v1/tasks/{task}").json()["status"] == "SUCCESS"
        assert client.post(f"/api/v1/tasks/{task}/retry").status_code == 200
        assert client.get("/api/v1/audit").json()["items"][0]["actor"] == "api"
        unknown = client.get("/api/v1/jobs/nosuch")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_job")
        refused = client.post("/api/v1/tasks", json={"function": "os:system", "args": ["true"]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "unknown_function")
        assert client.post("/api/v1/tasks", content=b"[" * 9000).status_code == 400
        assert client.get("/api/v1/tasks?limit=0").status_code == 400

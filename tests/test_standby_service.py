"""``atlas serve`` twice on one store: what the second one shows, does, and says of the first while it stands by."""

from __future__ import annotations

import json
import re
import signal
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from atlas.scheduler.errors import QueueFullError, StoreUnavailableError
from atlas.service import AtlasScheduler
from atlas.settings import load_settings
from atlas.web import create_app
from tests.installations import Installation, Served
from tests.queue_bench import LIMIT_S, eventually

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from atlas.scheduler.jobs_file.parsing import JobsFile
    from atlas.scheduler.reconcile.plan import Plan

JOBS = {"health": {"cron_expression": "@yearly"}, "echo": {"cron_expression": "@yearly", "function": "report"}}
PAGES = (
    *("/", "/jobs", "/jobs?q=heal", "/jobs/health", "/tasks", "/queue", "/config", "/config?edit=1", "/system"),
    *("/find?q=health", "/help", "/ask/run?job=health", "/ask/pause?job=health", "/ask/submit", "/metrics"),
    *("/healthz", "/readyz", "/api/v1/jobs", "/api/v1/jobs/health", "/api/v1/jobs/health/why"),
    *("/api/v1/jobs/health/explain", "/api/v1/queue", "/api/v1/metrics", "/api/v1/health", "/api/v1/forecast"),
    *("/api/v1/tasks", "/api/v1/audit", "/api/v1/revisions"),
)


class Pair(NamedTuple):
    """A leader in a process of its own, and this process, which stands by."""

    leader: Served
    standby: AtlasScheduler
    client: TestClient


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def pair(tmp_path: Path, database: str | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    sections: dict[str, Any] = {"scheduler": {"max_workers": 2, "max_waiting": 3, "max_retries": 0, "drain_timeout": 1}}
    if database is not None:
        sections["persistence"] = {"database": database}
    installation = Installation(tmp_path / "here", JOBS, sections)
    monkeypatch.syspath_prepend(str(installation.folder / "functions"))
    with Served(installation) as leader:
        settings = load_settings(installation.config)
        with AtlasScheduler(settings).in_thread() as standby:
            assert standby.stands_by
            app = create_app(standby)
            client = TestClient(app, base_url="http://127.0.0.1", headers={"origin": "http://127.0.0.1"})
            assert settings.web.token_file is not None
            client.headers["authorization"] = f"Bearer {settings.web.token_file.read_text().strip()}"
            yield Pair(leader, standby, client)


def checks(client: TestClient) -> dict[str, dict[str, str]]:
    return {one["name"]: one for one in client.get("/api/v1/health").json()["checks"]}


def shown(pair: Pair, language: str) -> str:
    """The page System, without the attributes that hold instants for machines."""
    page = pair.client.get("/system", params={"lang": language}).text
    assert str(pair.leader.process.pid) in page
    return re.sub("<[^>]*>", "", page)


@pytest.mark.timeout(120)
def test_every_page_of_a_standby_shows_what_the_leader_does(pair: Pair) -> None:
    ran = pair.standby.cron.sync.run_job_now("health")
    pair.standby.queue.sync.get_task_result(ran, timeout=LIMIT_S)
    for path in (*PAGES, f"/tasks/{ran}", f"/api/v1/tasks/{ran}"):
        answer = pair.client.get(path)
        assert answer.status_code == 200, (path, answer.text[:500])
    assert pair.client.get("/healthz").json()["role"] == "standby"
    assert pair.client.get("/readyz").json()["words"].startswith("stands by; another process leads")
    for language in ("zh", "en"):
        assert not re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d", shown(pair, language))
    words = f"stands by; the leader is process {pair.leader.process.pid} on "
    assert words in checks(pair.client)["scheduler"]["detail"]
    assert re.search(r"last tick \d+\.\d s ago", checks(pair.client)["scheduler"]["detail"])
    assert words in pair.client.get("/system").text
    assert pair.client.get("/jobs/nosuch").status_code == 404
    assert "atlas_leads 0.0" in pair.client.get("/metrics").text


@pytest.mark.timeout(120)
def test_every_verb_of_a_standby_works_through_the_store(pair: Pair) -> None:
    def post(path: str, **body: Any) -> dict[str, Any]:
        answer = pair.client.post(f"/api/v1{path}", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(task_id: str) -> str:
        eventually(lambda: pair.client.get(f"/api/v1/tasks/{task_id}").json()["finished_at"] is not None)
        return str(pair.client.get(f"/api/v1/tasks/{task_id}").json()["status"])

    first = post("/jobs/echo/run", kwargs={"day": "no such day"})["task"]
    assert ended(first) == "FAILED", "the arguments arrived"
    assert ended(post("/tasks", function="health")["task"]) == "SUCCESS"
    again = post(f"/tasks/{first}/retry")["task"]
    assert again != first
    assert ended(again) == "FAILED"
    assert post(f"/tasks/{again}/cancel") == {"cancelled": False}
    assert post("/jobs/health/pause", reason="night") == {"paused": True}
    assert pair.client.get("/api/v1/jobs/health").json()["state"] == "PAUSED"
    assert "night" in pair.client.get("/jobs/health").text
    assert post("/jobs/health/resume") == {"resumed": True}
    held = pair.standby.queue.sync.submit_many("work_of_tests:until", [[str(pair.leader.installation.folder / "end")]])
    eventually(lambda: pair.client.get(f"/api/v1/tasks/{held[0]}").json()["status"] == "RUNNING")
    assert post(f"/tasks/{held[0]}/cancel") == {"cancelled": True}
    assert ended(held[0]) == "CANCELLED"


@pytest.mark.timeout(120)
def test_a_standby_has_the_config_applied_by_the_leader(pair: Pair) -> None:
    file = pair.leader.installation.jobs_file
    before, wanted = file.read_text(), json.dumps({"cron_jobs": {**JOBS, "third": {"cron_expression": "@monthly"}}})
    third = json.dumps({"cron_jobs": {**JOBS, "third": {"cron_expression": "@monthly", "function": "health"}}})
    assert wanted != third
    answer = pair.client.post("/api/v1/apply", json={"text": third})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["revision"], answer.json()["added"]) == (2, 1)
    assert file.read_text() == third
    assert "third" in {job.name for job in pair.standby.get_jobs()}
    answer = pair.client.post("/api/v1/rollback", json={"number": 1})
    assert (answer.status_code, answer.json()["revision"]) == (200, 3), answer.text
    assert file.read_text() == before
    assert pair.client.post("/api/v1/apply", json={"text": "{"}).status_code == 422
    file.write_text(third)
    assert pair.standby.reload(author="test")
    assert pair.standby.reconciler.latest_revision().number == 4  # type: ignore[union-attr]


@pytest.mark.timeout(120)
def test_what_is_saved_while_a_standby_reloads_is_not_written_over(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    file, reconciler = pair.leader.installation.jobs_file, pair.standby.reconciler
    saved = json.dumps({"cron_jobs": {**JOBS, "saved": {"cron_expression": "@monthly", "function": "health"}}})
    looked = reconciler.plan

    def slow(wanted: JobsFile) -> Plan:
        file.write_text(saved)
        return looked(wanted)

    monkeypatch.setattr(reconciler, "plan", slow)
    monkeypatch.setattr("atlas.scheduler.reconcile.requests.ANSWER_S", 0.5)
    with suppress(StoreUnavailableError):  # the text that was asked for is gone
        pair.standby.reload(author="test")
    assert file.read_text() == saved


@pytest.mark.timeout(120)
def test_a_full_queue_is_told_to_who_stands_by(pair: Pair) -> None:
    end = pair.leader.installation.folder / "end"
    for _ in range(2 + 3):
        pair.standby.queue.sync.submit("work_of_tests:until", str(end))
    eventually(lambda: not pair.client.get("/readyz").json()["ready"])
    assert re.match(r"the queue is full: \d tasks wait", pair.client.get("/readyz").json()["words"])
    eventually(lambda: (lease := pair.standby.leader()) is not None and lease.figures["queue_size"] >= 3)
    with pytest.raises(QueueFullError, match="max_waiting"):
        pair.standby.queue.sync.submit("work_of_tests:until", str(end))
    answer = pair.client.post("/api/v1/tasks", json={"function": "health"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_full")
    end.touch()
    eventually(lambda: bool(pair.client.get("/readyz").json()["ready"]))


@pytest.mark.timeout(120)
def test_a_leader_that_is_silent_is_told_in_words_and_a_taken_over_one_stands_by(pair: Pair) -> None:
    pair.leader.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: checks(pair.client)["scheduler"]["status"] == "degraded")
        told = checks(pair.client)["scheduler"]
        assert re.search(rf"process {pair.leader.process.pid} on .* has been silent for \d+ s", told["detail"])
        assert "takes over" in told["remedy"]
        eventually(lambda: not pair.standby.stands_by)
    finally:
        pair.leader.process.send_signal(signal.SIGCONT)
    pair.leader.wait_for("standing by")
    eventually(lambda: "late writes are refused" in pair.leader.log)
    eventually(lambda: checks(pair.client)["scheduler"]["detail"].startswith("last looked for due jobs"))
    assert pair.client.get("/healthz").json()["role"] == "leader"
    assert "atlas_leads 1.0" in pair.client.get("/metrics").text


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_leader_that_ends_is_taken_over_from_at_once(pair: Pair, number: signal.Signals) -> None:
    pair.leader.process.send_signal(number)
    pair.leader.process.wait(LIMIT_S)
    eventually(lambda: not pair.standby.stands_by)
    eventually(lambda: pair.standby.last_tick_s() is not None)
    assert {job.name for job in pair.standby.get_jobs()} == set(JOBS)
    assert pair.client.get("/").status_code == 200

"""Why a job or a task did what it did, on their pages: the words of ``atlas why``, in both languages."""

from __future__ import annotations

import html
import json
import re
import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert

from atlas.scheduler.errors import TaskFailedError
from atlas.scheduler.store.tables import fires
from atlas.scheduler.store.task_rows import attempt_row, full_row, insert_attempts, insert_tasks
from atlas.scheduler.task import Task, TaskStatus
from atlas.service import AtlasScheduler
from atlas.web.app import create_app
from tests import seeded
from tests.queue_bench import eventually
from tests.test_chinese import english_in
from tests.test_web_api import signed_in

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from atlas.settings import Settings

DUE = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
SKIPS: dict[str, dict[str, Any]] = {
    "paused": {"detail": "by mei: 搬家"},
    "overlap": {"detail": "no-such-task"},
    "missed": {"detail": "catch-up is none", "last": (DUE + timedelta(hours=2)).timestamp(), "count": 3},
    "coalesced": {"detail": "catch-up is latest"},
    "unbound": {"detail": "not_here"},
    "calendar": {},
    "stopped": {"last": (DUE + timedelta(days=2)).timestamp(), "count": None},
    "fault": {"detail": "ValueError"},
}
DAILY = {"cron_expression": "0 9 * * *", "function": "breaks", "max_retries": 0}
JOBS = json.dumps({"cron_jobs": {"daily": DAILY, "tried": {**DAILY, "max_retries": 1, "retry_delay": 0.01}}})


@pytest.fixture
def atlas(settings: Settings) -> Iterator[AtlasScheduler]:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text(JOBS)
    made = AtlasScheduler(settings)
    made.registry.add("breaks", breaks)
    with made.in_thread():
        yield made


def breaks() -> None:
    raise ValueError("no such feed")


def said(client: TestClient, path: str, part: str, language: str) -> str:
    """The text of the answer on a page."""
    page = client.get(path, params={"lang": language} | ({"at": DUE.isoformat()} if part == "b-why" else {}))
    assert page.status_code == 200, page.text
    found = re.search(rf'id="{part}".*?<p>(.*?)</p>', page.text, re.DOTALL)
    assert found is not None
    return html.unescape(re.sub("<[^>]*>", "", found[1]))


@pytest.mark.parametrize("reason", SKIPS)
def test_a_skip_is_explained_on_the_job_s_page_as_by_the_command_line(atlas: AtlasScheduler, reason: str) -> None:
    row = {"job_id": "daily", "fire_time": DUE.timestamp(), "skip_reason": reason, "decided_at": DUE.timestamp() + 9e3}
    atlas.store.write(lambda connection: connection.execute(insert(fires), {**row, "revision": 1, **SKIPS[reason]}))
    client = signed_in(atlas)
    told = client.get("/api/v1/jobs/daily/why", params={"at": DUE.isoformat()}).json()
    assert told["verdict"] == "skipped"
    assert said(client, "/jobs/daily", "b-why", "en") == told["words"]
    chinese = said(client, "/jobs/daily", "b-why", "zh")
    assert chinese.endswith("。")
    assert english_in(chinese) == []
    assert "at=2026-11-02T09%3A00%3A00%2B00%3A00#why" in client.get("/jobs/daily?only=skips").text


def test_what_was_not_due_and_what_is_no_time_is_said_too(atlas: AtlasScheduler) -> None:
    client = signed_in(atlas)
    assert said(client, "/jobs/daily", "b-why", "en").startswith("There was no such job at 2026-11-02 ")
    assert english_in(said(client, "/jobs/daily", "b-why", "zh")) == []
    assert "The latest decision: It has not fired yet. It starts next at " in re.sub(
        "<[^>]*>", "", client.get("/jobs/daily?lang=en").text
    )
    for wrong in ("soon", "9999-99-99T00:00", "0001-01-01T00:00", "9999-12-31T23:59", "9" * 300):
        page = client.get("/jobs/daily", params={"at": wrong, "lang": "en"})
        assert page.status_code == 200
        assert "is no date and time such as" in page.text


def test_the_start_delay_of_a_task_that_was_tried_again_is_that_of_its_first_attempt(atlas: AtlasScheduler) -> None:
    task = Task(id="late", name="tried", function="breaks", job_id="tried", fire_time=DUE, created_at=DUE, attempt=1)
    task.started_at = DUE + timedelta(seconds=1.5)
    first = attempt_row(task, outcome="error", ended_at=DUE + timedelta(seconds=2), wait_s=40.0, error="no such feed")
    task.status, task.attempt, task.failures = TaskStatus.SUCCESS, 2, 1
    task.started_at, task.finished_at = DUE + timedelta(seconds=42), DUE + timedelta(seconds=45)

    def write(connection: Connection) -> None:
        insert_tasks(connection, [full_row(task)])
        insert_attempts(connection, [first])

    atlas.store.write(write)
    page = signed_in(atlas).get("/jobs/tried?lang=en").text
    row = re.search(r'<tr><td><a href="[^"]*/tasks/late".*?</tr>', page)
    assert row is not None
    assert re.findall(r'<td class="right num[^>]*>(.*?)</td>', row[0]) == ["1.5 s", "3.0 s"]


def test_a_task_says_why_it_ran_and_ended_so(atlas: AtlasScheduler) -> None:
    client, queue = signed_in(atlas), atlas.queue.sync
    by_hand = client.post("/api/v1/jobs/daily/run").json()["task"]
    submitted = client.post("/api/v1/tasks", json={"function": "breaks", "max_retries": 0}).json()["task"]
    for task in (by_hand, submitted):
        with pytest.raises(TaskFailedError):
            queue.get_task_result(task, timeout=20)
    again = client.post(f"/api/v1/tasks/{submitted}/retry").json()["task"]
    with pytest.raises(TaskFailedError):
        queue.get_task_result(again, timeout=20)
    begins = {by_hand: "It was started by hand at", submitted: "It was submitted at", again: "It was accepted at"}
    for task, begin in begins.items():
        words = said(client, f"/tasks/{task}", "k-why", "en")
        assert words.startswith(begin)
        assert "It failed at" in words
        assert words.endswith("(ValueError: no such feed).")
        chinese = said(client, f"/tasks/{task}", "k-why", "zh")
        assert english_in(chinese.replace("ValueError: no such feed", "")) == []
        assert "失败" in chinese
    assert said(client, f"/tasks/{by_hand}", "k-why", "en").split(".")[0].endswith(" by api")
    assert f"as a retry of {submitted}" in said(client, f"/tasks/{again}", "k-why", "en")
    assert said(client, "/jobs/daily", "b-why", "en") != ""
    assert "Open task</a></p>" in client.get("/jobs/daily").text
    tried = client.post("/api/v1/jobs/tried/run").json()["task"]
    with pytest.raises(TaskFailedError):
        queue.get_task_result(tried, timeout=20)
    words = said(client, f"/tasks/{tried}", "k-why", "en")
    assert (words.count("no such feed"), words.count("(the same error)")) == (1, 1)


@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("en", r"executor thread is full \(1\): 1 wait, the oldest \d+ s, for hold"),
        ("zh", r"执行器 thread 已满（1）：1 个在等待，最久 \d+ 秒，占用者为 hold"),
    ],
)
def test_the_queue_says_that_an_executor_is_full_and_what_runs_on_it(tmp_path: Path, language: str, told: str) -> None:
    """Slots are free, and nothing starts: the page one looks at must say why."""
    seeded.HOLD.clear()
    settings = seeded.bare(tmp_path, {})
    scheduler = settings.scheduler.model_copy(update={"executor_limits": {"thread": 1}})
    with AtlasScheduler(settings.model_copy(update={"scheduler": scheduler})).in_thread() as atlas:
        for _ in range(2):
            atlas.queue.sync.submit("hold")
        client = TestClient(create_app(atlas), base_url="http://127.0.0.1", headers={"accept-language": language})
        eventually(lambda: bool(atlas.get_queue_status()["full_executors"]))
        assert re.search(told, client.get("/queue").text)
        seeded.HOLD.set()

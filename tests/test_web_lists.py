"""Lists of the API: a search that is bounded, and pages that stand while others come."""

from __future__ import annotations

import html
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from atlas.scheduler.errors import QueueStoppedError
from atlas.scheduler.store.tables import fires, tasks
from atlas.scheduler.store.task_queries import TaskFilter, page_of_tasks
from atlas.scheduler.store.task_rows import full_row, insert_tasks
from atlas.scheduler.task import Origin, Task, TaskStatus
from atlas.service import AtlasScheduler
from tests.test_web_api import signed_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.testclient import TestClient

    from atlas.scheduler.store.store import Store
    from atlas.settings import Settings


def test_a_text_is_looked_for_in_a_bounded_number_of_tasks_and_every_page_goes_on_behind(store: Store) -> None:
    names = ["rare" if number % 70 == 3 else "usual" for number in range(200)]
    made = [f"t{number:03d}" for number in range(200)]
    old = [
        full_row(
            Task(
                id=one,
                name=name,
                function="f",
                created_at=datetime.fromtimestamp(1e9 + number // 3, UTC),  # three at the same moment
            )
        )
        for number, (one, name) in enumerate(zip(made, names, strict=True))
    ]
    store.write(lambda connection: insert_tasks(connection, old))
    for searched in (7, 50, 1000):
        before: str | None = None
        seen: list[str] = []
        pages = 0
        while True:
            wanted = TaskFilter(text="RARE", before=before, limit=2)
            found, before = store.read(partial(page_of_tasks, wanted=wanted, searched=searched))
            seen += [task.id for task in found]
            pages += 1
            if before is None:
                break
        assert seen == [one for one, name in zip(made, names, strict=True) if name == "rare"][::-1]
        assert pages <= 200 // searched + 3


def test_a_retry_whose_time_has_come_is_said_to_wait_for_a_slot(settings: Settings) -> None:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {}}')
    with AtlasScheduler(settings).in_thread() as atlas:
        client, now = signed_in(atlas), datetime.now(UTC)
        task = Task(id="late", name="late", function="f", created_at=now, origin=Origin.MANUAL, attempt=1)
        task.status, task.due_at = TaskStatus.RETRYING, now - timedelta(hours=1)
        late = full_row(task)
        task.id, task.name, task.due_at = "early", "early", now + timedelta(hours=5)
        rows = [late, full_row(task)]
        atlas.store.write(lambda connection: insert_tasks(connection, rows))
        for path in ("/tasks?q=late", "/tasks/late"):
            page = client.get(path).text.lower()
            assert ("waits for a slot" in page, "next try" in page, "due now" in page) == (True, False, False)
        assert re.search("next try in [45]h", client.get("/tasks?q=early").text)
        assert "正在等待槽位" in client.get("/tasks?q=late&lang=zh").text


def test_a_task_that_a_newer_atlas_wrote_keeps_no_page_from_showing_the_rest(settings: Settings) -> None:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    with AtlasScheduler(settings).in_thread() as atlas:
        client = signed_in(atlas)
        task = Task(id="newer", name="newer", function="health", job_id="health", created_at=datetime.now(UTC))
        atlas.store.write(lambda connection: insert_tasks(connection, [full_row(task)]))
        for status in ("PENDING", "HELD"):
            changed = update(tasks).values(status=status, priority=7, policy='{"on_crash": "freeze"}')
            atlas.store.write(lambda connection, changed=changed: connection.execute(changed))  # type: ignore[misc]
            shown = {
                path: client.get(path) for path in ("/", "/jobs", "/jobs/health", "/tasks", "/queue", "/tasks.csv")
            }
            assert {path: page.status_code for path, page in shown.items()} == dict.fromkeys(shown, 200)
            assert "newer" in shown["/tasks"].text
            assert "written by a newer Atlas" in shown["/jobs/health"].text


def test_the_figure_of_what_failed_or_timed_out_leads_to_both(settings: Settings) -> None:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {}}')
    with AtlasScheduler(settings).in_thread() as atlas:
        client, now = signed_in(atlas), datetime.now(UTC)
        rows = [
            full_row(Task(id=f"is-{one}", name="n", function="f", status=one, created_at=now, finished_at=now))
            for one in (TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.TIMEOUT)
        ]
        atlas.store.write(lambda connection: insert_tasks(connection, rows))
        link = re.search(r'Failed or timed out</div><div class="v"><a href="([^"]+)"', client.get("/").text)
        assert link is not None
        page = client.get(html.unescape(link[1])).text
        assert [f"is-{one}" in page for one in ("FAILED", "TIMEOUT", "SUCCESS")] == [True, True, False]
        current = re.findall(r'aria-current="true"><span class="st st-(\w+)"', page)
        assert current == ["FAILED", "TIMEOUT"]


def test_no_page_of_a_list_shows_twice_or_leaves_out_what_stood_there_when_others_come(settings: Settings) -> None:
    jobs = {f"job{number:02d}": {"cron_expression": "@yearly", "function": "health"} for number in range(0, 40, 2)}
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text(json.dumps({"cron_jobs": jobs}))
    with AtlasScheduler(settings).in_thread() as atlas:
        client = signed_in(atlas)

        def submit() -> None:
            atlas.queue.sync.submit("health")

        def pause() -> None:
            atlas.cron.sync.pause_job("job00", by="mei")

        def add() -> None:
            atlas.cron.sync.add_job(f"job{len(atlas.get_jobs()) * 2 - 39:02d}", "@yearly", "health")

        def apply() -> None:
            jobs["job00"]["description"] = str(len(str(jobs)) + len(jobs))
            jobs[f"one{len(jobs)}"] = dict(jobs["job00"])
            atlas.reconciler.replace(json.dumps({"cron_jobs": jobs}), by="mei")

        lists = {"/jobs": ("after", add), "/tasks": ("before", submit), "/audit": ("before", pause)}
        for path, (name, disturb) in {**lists, "/revisions": ("before", apply)}.items():
            for _ in range(7):
                disturb()
            stood = keys_of(client, path, name)
            seen = keys_of(client, path, name, limit=3, between=disturb)
            assert len(seen) == len(set(seen)), path
            assert set(stood) <= set(seen), path


def test_no_task_of_a_job_that_was_caught_up_is_left_out_of_its_history(settings: Settings) -> None:
    """Fifty tasks are accepted at one moment, for fire times of two days before; so are the skips between them."""
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    now = datetime.now(UTC)
    due = [now - timedelta(hours=number) for number in range(50)]
    made = [
        full_row(Task(id=f"t{number:02d}", job_id="health", name="x", function="f", created_at=now, fire_time=at))
        for number, at in enumerate(due)
    ]
    skip = {"job_id": "health", "skip_reason": "coalesced", "decided_at": now.timestamp()}
    skips = [{**skip, "fire_time": (at - timedelta(minutes=30)).timestamp()} for at in due]
    with AtlasScheduler(settings).in_thread() as atlas:
        atlas.store.write(lambda connection: insert_tasks(connection, made))
        atlas.store.write(lambda connection: connection.execute(fires.insert(), skips))
        client, address, seen, skipped = signed_in(atlas), "/jobs/health", list[str](), list[str]()
        while address:
            page = client.get(address).text
            rows = page[page.index('id="b-rows"') :].partition("</section>")[0]
            seen += re.findall(r'<td><a href="/tasks/(\w+)"', rows)
            skipped += re.findall(r'class="mark-row".*?datetime="([^"]+)"', rows)
            older = re.search(r'href="([^"]+)">Older', rows)
            address = html.unescape(older[1]) if older else ""
        assert sorted(seen) == [f"t{number:02d}" for number in range(50)]
        assert len(skipped) == len(set(skipped)) == 50


def test_a_job_that_makes_no_task_is_in_no_plan(settings: Settings) -> None:
    today = datetime.now(UTC).date()
    jobs = {
        "works": {"cron_expression": "@hourly", "function": "health"},
        "unbound": {"cron_expression": "* * * * *", "function": "not_here"},
        "closed": {"cron_expression": "*/5 * * * *", "function": "health", "calendar": "away"},
    }
    away = {"exclude": [f"{today - timedelta(days=1)}/{today + timedelta(days=3)}"]}
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text(json.dumps({"calendars": {"away": away}, "cron_jobs": jobs}))
    with AtlasScheduler(settings).in_thread() as atlas:
        client = signed_in(atlas)
        assert re.search("(24|25) planned for the next 24 h", client.get("/jobs").text)
        overview = client.get("/").text
        assert set(re.findall("; ([0-9,]+) starts? planned in the next 24 hours", overview)) <= {"0", "24", "25"}
        next_up = overview.partition(">Next up<")[2].partition("</section>")[0]
        assert "works" in next_up
        assert re.findall("unbound|closed", next_up) == []
        assert f"{today + timedelta(days=4):%d}" in client.get("/jobs/closed").text.partition(">Next fires<")[2][:1500]


def test_the_list_of_jobs_says_which_cannot_run_and_in_which_zone_another_is_meant(settings: Settings) -> None:
    jobs = {
        "here": {"cron_expression": "30 2 * * *", "function": "health"},
        "there": {"cron_expression": "30 2 * * *", "function": "health", "timezone": "Australia/Lord_Howe"},
        "unbound": {"cron_expression": "* * * * *", "function": "not_here"},
    }
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text(json.dumps({"cron_jobs": jobs}))
    with AtlasScheduler(settings).in_thread() as atlas:
        page = signed_in(atlas).get("/jobs").text
        rows = {one: page.partition(f'name="job:{one}"')[2].partition("</tr>")[0] for one in jobs}
        assert "30 2 * * * Australia/Lord_Howe</small>" in rows["there"]
        assert "30 2 * * *</small>" in rows["here"]
        assert '<small class="why" title="no function &#39;not_here&#39; is registered">' in rows["unbound"]
        assert re.findall("<time[^>]*>|in [0-9]+s", rows["unbound"]) == []


def test_a_job_that_starts_on_a_leap_day_has_a_page(settings: Settings) -> None:
    """On the day before, that is every daily job."""
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    leap = {"cron_expression": "0 0 29 2 *", "function": "health"}
    settings.persistence.cron_config.write_text(json.dumps({"cron_jobs": {"leap": leap}}))
    with AtlasScheduler(settings).in_thread() as atlas:
        assert "02-29" in signed_in(atlas).get("/jobs/leap").text.partition(">Next fires<")[2]


def test_a_forecast_of_many_jobs_comes_in_pages_of_bounded_size(settings: Settings) -> None:
    jobs = {f"job{number:04d}": {"cron_expression": "0 0 1 1 *", "function": "health"} for number in range(1500)}
    busy = {"cron_expression": "*/20 * * * *", "function": "health"}
    jobs |= {f"job{number:04d}": busy for number in range(0, 1500, 30)}
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text(json.dumps({"cron_jobs": jobs}))
    with AtlasScheduler(settings).in_thread() as atlas:
        client = signed_in(atlas)
        seen: list[str] = []
        query: dict[str, Any] = {"hours": 40}
        while True:
            answer = client.get("/api/v1/forecast", params=query)
            assert len(answer.content) < 150_000
            page = answer.json()
            seen += [one["id"] for one in page["jobs"]]
            if page["next"] is None:
                break
            query["after"] = page["next"]
        assert seen == sorted(jobs)
        assert page["tasks"] >= 50 * 3 * 39  # of all jobs, on every page
        (herd,) = page["herds"]
        assert (herd["jobs"], len(herd["job_ids"])) == (50, 20)
        assert page["crowds_in_all"] >= 117
        assert len(page["crowds"]) == 100
        assert [crowd["at"] for crowd in page["crowds"]] == sorted(crowd["at"] for crowd in page["crowds"])
        assert {crowd["jobs"] for crowd in page["crowds"]} == {50 - settings.scheduler.max_workers}
        assert {len(crowd["late_s"]) for crowd in page["crowds"]} == {20}
        assert client.get("/api/v1/forecast?limit=1001").status_code == 400


@pytest.mark.parametrize("path", ["/api/v1/forecast", "/api/v1/plan", "/api/v1/health"])
def test_what_takes_long_for_many_jobs_is_waited_for_by_no_page(
    settings: Settings, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()

    def reckons(*_: object, **__: object) -> None:
        begun.set()
        assert go.wait(60)
        raise QueueStoppedError

    monkeypatch.setattr("atlas.web.outlook.forecast", reckons)
    monkeypatch.setattr("atlas.web.api.system.look", reckons)
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    with AtlasScheduler(settings).in_thread() as atlas, signed_in(atlas) as client, ThreadPoolExecutor(1) as other:
        monkeypatch.setattr(atlas.reconciler, "preview", reckons)
        body = {} if not path.endswith("plan") else {"json": {"text": "{}"}}
        long = other.submit(client.request, "POST" if body else "GET", path, **body)
        assert begun.wait(60)
        for shown in ("/", "/jobs", "/jobs/health", "/api/v1/jobs"):
            assert client.get(shown).status_code == 200, shown
        assert not long.done()
        go.set()
        assert long.result(60).status_code == 503


def keys_of(
    client: TestClient, path: str, name: str, *, limit: int = 1000, between: Callable[[], None] | None = None
) -> list[Any]:
    """What tells the items of a list apart, page by page; ``between`` two of them something is done."""
    seen: list[Any] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        page = client.get(f"/api/v1{path}", params=query).json()
        seen += [one.get("id", one.get("number")) for one in page["items"]]
        if page["next"] is None:
            return seen
        query[name] = page["next"]
        if between is not None:
            between()


def test_jobs_that_cannot_run_come_first_have_a_chip_and_are_told_on_the_first_page(settings: Settings) -> None:
    soon = {f"a{number:02d}": {"cron_expression": "* * * * *", "function": "health"} for number in range(60)}
    off = {"cron_expression": "@yearly", "function": "not_here"}
    jobs = {**soon, "unbound": off, "disabled": {**off, "enabled": False}, "paused": off}
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text(json.dumps({"cron_jobs": jobs}))
    with AtlasScheduler(settings).in_thread() as atlas:
        atlas.cron.sync.pause_job("paused")
        client = signed_in(atlas)

        def listed(address: str) -> list[str]:
            return re.findall(r'name="job:([^"]+)"', client.get(address).text)

        assert listed("/jobs")[0] == "unbound"
        assert listed("/jobs?state=unable") == ["unbound"]
        assert 'href="/jobs?state=unable"' in client.get("/jobs").text
        first = client.get("/").text
        assert "60 jobs active, 1 cannot run, 1 paused, 1 off." in re.sub("<[^>]+>", "", first)
        assert "Does not fire: no function &#39;not_here&#39; is registered" in first
        assert ", next at" not in client.get("/jobs/unbound").text
        settings.persistence.cron_config.write_text(json.dumps({"cron_jobs": {**jobs, "b": off, "c": off}}))
        atlas.reconciler.reload()
        assert "Cannot run: b, c, unbound" in client.get("/").text


def test_the_key_that_pauses_a_job_resumes_one_that_is_paused(settings: Settings) -> None:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    with AtlasScheduler(settings).in_thread() as atlas:
        client = signed_in(atlas)
        assert 'data-pause="/ask/pause?job=health"' in client.get("/jobs").text
        atlas.cron.sync.pause_job("health")
        assert 'data-pause="/ask/resume?job=health"' in client.get("/jobs").text


def test_every_revision_of_the_config_is_reached_from_its_page(settings: Settings) -> None:
    file = settings.persistence.cron_config
    file.parent.mkdir(parents=True, exist_ok=True)

    def write(number: int) -> None:
        file.write_text(json.dumps({"cron_jobs": {"health": {"cron_expression": "@yearly", "timeout": number}}}))

    write(1)
    with AtlasScheduler(settings).in_thread() as atlas:
        for number in range(2, 48):
            write(number)
            atlas.reconciler.reload()
        client, address, seen, links = signed_in(atlas), "/config", list[str](), list[tuple[str, str]]()
        while address:
            card = client.get(address).text.partition('id="c-revisions"')[2].partition("</section>")[0]
            links = re.findall(r'href="([^"]+)"[^>]*>r(\d+)<', card)
            seen += [number for _href, number in links]
            older = re.search(r'href="([^"]+)">Older', card)
            address = html.unescape(older[1]) if older else ""
        assert seen == [str(number) for number in range(47, 0, -1)]
        href = html.unescape(links[-1][0])
        assert href == "/config?before=8&revision=1"
        oldest = client.get(href).text
        assert "Roll back to r1" in oldest  # where its list shows it still
        assert 'aria-current="true">r1<' in oldest
        assert client.get("/config?revision=99999").status_code == 200


def test_a_file_that_is_refused_is_edited_or_put_back_where_its_problems_are_told(settings: Settings) -> None:
    file = settings.persistence.cron_config
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(good := '{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    with AtlasScheduler(settings).in_thread() as atlas:
        client = signed_in(atlas)
        file.write_text(good.replace("@yearly", "@daly"))
        page = client.get("/config").text
        assert "cannot be used" in page
        assert 'href="/config?edit=1"' in page
        assert ">Discard<" not in page  # it would lead to the same page again
        form = re.search(r'action="/act/rollback">.*?name="number" value="(\d+)"', page)
        assert form is not None
        answer = client.post("/act/rollback", data={"number": form[1], "back": "/config"}, follow_redirects=False)
        assert answer.headers["location"] == "/config"
        assert file.read_text() == good
        assert "cannot be used" not in client.get("/config").text


def test_the_list_of_tasks_shows_how_results_begin(settings: Settings) -> None:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {}}')
    with AtlasScheduler(settings).in_thread() as atlas:
        for number, result in enumerate(('{"新": 3}', json.dumps("x" * 500), None)):
            row = full_row(
                Task(
                    id=f"t{number}",
                    name="n",
                    function="f",
                    status=TaskStatus.SUCCESS,
                    created_at=datetime.now(UTC),
                    result=result,
                )
            )
            atlas.store.write(partial(insert_tasks, rows=[row]))
        page = html.unescape(signed_in(atlas).get("/tasks").text)
        assert '<span title="{"新": 3}">{"新": 3}</span>' in page
        assert "x" * 78 + "…</span>" in page

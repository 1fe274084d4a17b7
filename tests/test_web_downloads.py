"""What is taken away from the pages: a task for an issue, its log, the tasks of a selection."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from loguru import logger

from atlas.scheduler.context import current_task
from atlas.scheduler.errors import TaskFailedError
from atlas.scheduler.retry import RetryPolicy
from atlas.service import AtlasScheduler
from atlas.web import create_app
from atlas.web.pages.issue import block, code
from tests import seeded

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atlas.settings import Settings

FORMULA = "=HYPERLINK(1)"
AT_ONCE = RetryPolicy(max_retries=1, delay_s=0, jitter=0)


def fails(*_args: object, **_kwargs: object) -> None:
    logger.warning("try {} of https://mei:hush@example.org?token=hush", current_task().attempt)
    msg = "no way in with password=hush\n```\n# a heading"
    raise PermissionError(msg)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str]]:
    """A site with a task that failed twice, and three that did not."""
    settings = seeded.bare(tmp_path_factory.mktemp("away"), {})
    atlas = AtlasScheduler.from_settings(settings)
    atlas.registry.add("fails", fails)
    with atlas.in_thread():
        queue = atlas.queue.sync
        secret = {"limit": 40, "source": {"api_key": "hush", "name": "BBC|`x`"}}
        bad = queue.submit("fails", [{"password": "hush"}], kwargs=secret, name="夜间 | task", retry=AT_ONCE, by="mei")
        with pytest.raises(TaskFailedError):
            queue.get_task_result(bad, timeout=20)
        for name in (FORMULA, "plain", '取, "quoted"'):
            queue.get_task_result(queue.submit("health", name=name), timeout=20)
        yield TestClient(create_app(atlas), base_url="http://127.0.0.1"), bad


def test_an_issue_says_what_when_how_often_why_and_with_which_versions(site: tuple[TestClient, str]) -> None:
    client, task = site
    answer = client.get(f"/issue/{task}", headers={"accept-language": "en"})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    text = answer.text
    assert text.startswith(
        "### `夜间 | task` `PermissionError: no way in with password=[hidden]`\n\n| | |\n|---|---|\n"
    )
    for row in (f"| Task | `{task}` |", "| Status | `Failed` |", "| Attempts | `2 / 2` |", "| Function | `fails` |"):
        assert row in text
    assert re.search(r"\| Finished \| `20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \+08:00` \|", text)
    assert re.search(
        r"\| Version \| `Atlas Scheduler \S+, Python 3\S+, APScheduler 3\S+, SQLAlchemy 2\S+, sqlite, \w+` \|", text
    )
    for line in (
        "accepted: submitted",
        "attempt 1 began",
        "attempt 1 failed, the next one after",
        "attempt 2 failed: Perm",
    ):
        assert line in text
    assert "limit = 40" in text
    assert "try 2 of https://[hidden]@example.org?token=[hidden]" in text
    assert "in fails" in text  # the traceback


def test_an_issue_holds_no_secret_and_nothing_of_it_leaves_its_block(site: tuple[TestClient, str]) -> None:
    client, task = site
    text = client.get(f"/issue/{task}").text
    assert "hush" not in text
    assert '"api_key": "•••"' in text
    assert "api_key&#34;: &#34;•••" in client.get(f"/tasks/{task}").text
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", text)
    assert "# a heading" not in outside
    assert "Traceback" not in outside


def test_an_issue_is_in_the_language_of_its_reader(site: tuple[TestClient, str]) -> None:
    client, task = site
    text = client.get(f"/issue/{task}", headers={"accept-language": "zh-CN"}).text
    for words in ("| 状态 | `失败` |", "**参数**", "**事件**", "**错误**", "**日志，最后 40 行**", "第 1 次尝试失败"):
        assert words in text


def test_of_what_is_not_there_nothing_is_taken(site: tuple[TestClient, str]) -> None:
    client, _task = site
    assert [client.get(path).status_code for path in ("/issue/nope", "/logs/nope")] == [404, 404]


@pytest.mark.parametrize(
    ("text", "said"),
    [("a", "`a`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("a\n b", "`a b`")],
    ids=["plain", "tick", "edge", "lines"],
)
def test_code_in_a_line_ends_where_it_should(text: str, said: str) -> None:
    assert code(text) == said


def test_a_block_of_code_ends_where_it_should() -> None:
    assert block(["a", "````", "b"]) == "`````text\na\n````\nb\n`````"


def test_a_log_is_taken_whole_with_its_attempts(site: tuple[TestClient, str]) -> None:
    client, task = site
    answer = client.get(f"/logs/{task}")
    assert re.fullmatch(r'attachment; filename="atlas-log-\d{8}T\d{6}Z\.txt"', answer.headers["content-disposition"])
    assert [line.split()[1:3] for line in answer.text.splitlines() if "try" in line] == [
        ["1", "WARNING"],
        ["2", "WARNING"],
    ]


def test_the_tasks_of_a_selection_are_taken_as_a_table(site: tuple[TestClient, str]) -> None:
    client, task = site

    def table(query: str) -> list[dict[str, str]]:
        answer = client.get(f"/tasks.csv{query}")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"].endswith('.csv"')
        return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))

    assert [row["name"] for row in table("")] == ['取, "quoted"', "plain", f"'{FORMULA}", "夜间 | task"]
    (row,) = table("?status=FAILED&since=1h")
    assert (row["id"], row["attempt"], row["priority"]) == (task, "2", "NORMAL")
    assert row["error"] == "PermissionError: no way in with password=[hidden]"
    assert row["created_at"].endswith("+00:00")
    assert table("?q=nothing-like-it") == []


def test_the_tasks_of_a_selection_are_taken_as_json(site: tuple[TestClient, str]) -> None:
    client, task = site
    rows: list[dict[str, Any]] = client.get("/tasks.json").json()
    assert [row["name"] for row in rows] == ['取, "quoted"', "plain", FORMULA, "夜间 | task"]
    assert isinstance(rows[0]["duration_s"], float)
    (row,) = json.loads(client.get("/tasks.json?status=FAILED").text)
    assert row["id"] == task
    assert client.get("/tasks.json?job=nope").json() == []


def test_the_page_leads_to_the_files_of_what_it_shows(site: tuple[TestClient, str]) -> None:
    client, task = site
    page = client.get("/tasks?status=FAILED&q=way").text
    assert 'href="/tasks.csv?status=FAILED&amp;q=way" download' in page
    assert f'href="/logs/{task}" download' in client.get(f"/tasks/{task}").text


def test_a_version_of_the_config_is_taken_to_the_letter(site: tuple[TestClient, str]) -> None:
    client, _task = site
    answer = client.get("/config/file")
    assert answer.text == client.get("/api/v1/revisions/1").json()["text"]
    assert answer.headers["content-disposition"] == 'attachment; filename="atlas-config-r1.json"'
    assert client.get("/config/file?revision=1").content == answer.content
    assert [client.get(f"/config/file?revision={number}").status_code for number in ("7", "x", "²")] == [404] * 3
    assert 'href="/config/file?revision=1" download' in client.get("/config").text


def test_a_text_has_the_icon_too(site: tuple[TestClient, str]) -> None:
    client, _task = site
    assert client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


def test_nothing_is_taken_without_a_sign_in(settings: Settings) -> None:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {}}')
    with AtlasScheduler(settings).in_thread() as atlas:
        client = TestClient(create_app(atlas), base_url="http://127.0.0.1")
        for path in ("/tasks.csv", "/tasks.json", "/logs/x", "/issue/x"):
            answer = client.get(path, follow_redirects=False)
            assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/sign-in")

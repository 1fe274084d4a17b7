"""What is sent to the pages: forms that lose nothing of anybody, addresses that mean nothing, people behind a proxy."""

from __future__ import annotations

import re
import warnings
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from atlas.service import AtlasScheduler
from atlas.web import create_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atlas.settings import Settings

BASE = "http://127.0.0.1"


@pytest.fixture
def site(settings: Settings) -> Iterator[tuple[AtlasScheduler, TestClient]]:
    """A scheduler with one job in its file, and a browser that is signed in."""
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    token = settings.web.token_file
    assert token is not None
    with AtlasScheduler(settings).in_thread() as atlas:
        client = TestClient(create_app(atlas), base_url=BASE, headers={"origin": BASE})
        client.post("/sign-in", data={"token": token.read_text().strip()})
        yield atlas, client


def fields(page: str, action: str) -> dict[str, str]:
    """What a browser sends of the form with this address."""
    form = page[page.index(f'action="{action}"') :].partition("</form>")[0]
    found = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
    # A text area loses the line break it begins with.
    found |= {
        name: text.removeprefix("\n") for name, text in re.findall(r'<textarea[^>]* name="(\w+)"[^>]*>([^<]*)<', form)
    }
    return {name: unescape(value) for name, value in found.items()}


def test_a_draft_does_not_undo_what_somebody_else_applied_meanwhile(site: tuple[AtlasScheduler, TestClient]) -> None:
    atlas, client = site
    file = atlas.reconciler.path
    text = file.read_text()
    mine, theirs = text.replace("@yearly", "@monthly"), text.replace("@yearly", "@weekly")
    draft = fields(client.post("/config", data={"text": mine}).text, "/act/apply")
    assert draft["text"] == mine
    atlas.reconciler.replace(theirs, by="mei")
    shown = client.post("/act/apply", data=draft)
    assert file.read_text() == theirs
    assert "was made from r1, and r2 is in force by now" in shown.text
    again = fields(shown.text, "/act/apply")  # the draft is still there, with what it changes now
    assert again["text"] == mine
    assert "The config is applied" in client.post("/act/apply", data=again).text
    assert file.read_text() == mine


def test_a_draft_that_is_refused_is_not_lost(site: tuple[AtlasScheduler, TestClient]) -> None:
    atlas, client = site
    bad = atlas.reconciler.path.read_text().replace("@yearly", "61 9 * * *")
    shown = client.post("/act/apply", data={"back": "/config", "text": bad, "over": "1"}).text
    assert 'role="status"' in shown
    assert "61 9 * * *" in shown[shown.index('id="text"') :]


def test_nothing_written_in_a_form_is_lost_when_it_is_refused(site: tuple[AtlasScheduler, TestClient]) -> None:
    _atlas, client = site
    sent = {"job": "health", "back": "/jobs/health", "kwargs": '{"a": 1,}', "args": "[7"}
    run = client.post("/act/run", data=sent)
    assert "this is not JSON" in run.text
    assert fields(run.text, "/act/run") == sent
    assert run.request.url.query == b"job=health&back=%2Fjobs%2Fhealth"  # a reader may reload, or change the language
    sent = {"job": "health", "reason": "搬家 <&>", "until": "2001-01-01T00:00"}
    pause = client.post("/act/pause", data=sent).text
    assert ('value="搬家 &lt;&amp;&gt;"' in pause, 'value="2001-01-01T00:00"' in pause) == (True, True)
    sent = {"function": "report", "kwargs": '{"b": 2}', "args": "[8]", "timeout": "9 moons", "max_retries": "5"}
    submit = client.post("/act/submit", data={**sent, "priority": "LOW"}).text
    assert fields(submit, "/act/submit") == {"back": "/queue", "kwargs": '{"b": 2}', "args": "[8]"}
    for shown in ("<option selected>report<", 'value="9 moons"', 'value="5"', '<option value="LOW" selected>'):
        assert shown in submit


@pytest.mark.parametrize("prefix", ["/调度", "/two words"])
def test_cookies_are_for_the_address_that_a_browser_asks_for(
    site: tuple[AtlasScheduler, TestClient], prefix: str
) -> None:
    atlas, _client = site
    file = atlas.settings.web.token_file
    assert file is not None
    mounted = Starlette(routes=[Mount(prefix, create_app(atlas))])
    client = TestClient(mounted, base_url=BASE, headers={"origin": BASE}, follow_redirects=False)
    answers = [
        client.post(f"{prefix}/sign-in", data={"token": file.read_text().strip()}),
        client.post(f"{prefix}/act/pause", data={"job": "health"}),
        client.get(f"{prefix}/jobs?lang=en&theme=dark"),
        client.post(f"{prefix}/sign-out"),
    ]
    paths = [re.findall(r"Path=([^;,]+)", answer.headers["set-cookie"]) for answer in answers]
    assert [set(some) for some in paths] == [{quote(prefix)}] * 4
    assert f'data-root="{quote(prefix)}"' in answers[2].text


@pytest.mark.parametrize("number", ["²", "9" * 20, "-1", "1e3", "0x1"])
def test_a_number_in_an_address_that_is_none_is_left_out(site: tuple[AtlasScheduler, TestClient], number: str) -> None:
    atlas, client = site
    task = atlas.cron.sync.run_job_now("health")
    for path in (
        f"/tasks/{task}?after=",
        "/system?before=",
        "/config?revision=",
        "/jobs?page=",
        "/config/file?revision=",
    ):
        assert client.get(path + number).status_code in {200, 404}, path


def test_a_tab_with_many_values_in_its_address_is_live(site: tuple[AtlasScheduler, TestClient]) -> None:
    _atlas, client = site
    live = client.app.state.site.live  # type: ignore[attr-defined]
    live.close()  # it would never end: a stopped server says 503 once it has found the page
    many = "%26".join(f"a{number}=1" for number in range(200))
    assert client.get(f"/live?of=/jobs%3F{many}").status_code == 503


def test_who_comes_through_a_proxy_that_asks_for_a_password_gets_pages(site: tuple[AtlasScheduler, TestClient]) -> None:
    _atlas, client = site
    client.headers["authorization"] = "Basic bWVpOnNlY3JldA=="
    missing = client.get("/jobs/nope")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "text/html; charset=utf-8")
    client.post("/act/pause", data={"job": "health"})
    assert client.get("/api/v1/audit").json()["items"][0]["actor"] == "web"

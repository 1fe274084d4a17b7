"""Who comes in and what they may: sessions, links, guesses, hosts, origins, headers; one render at a time."""

from __future__ import annotations

import asyncio
import re
import threading
import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.routing import Route

from atlas.scheduler.clock import SystemClock
from atlas.scheduler.errors import ConfigError
from atlas.scheduler.testing.clocks import SetClock
from atlas.service import AtlasScheduler
from atlas.settings import load_settings
from atlas.web import create_app
from atlas.web.access import Access, Brake
from atlas.web.rendering import MAX_WAITING, BusyError, Renders
from atlas.web.server import WebServer
from tests.installations import Installation, Served

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.applications import Starlette

    from atlas.settings import Settings

BASE = "http://127.0.0.1"
HEALTH = {"health": {"cron_expression": "@yearly"}}


@pytest.fixture
def site(settings: Settings) -> Iterator[Starlette]:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    with AtlasScheduler(settings).in_thread() as atlas:
        yield create_app(atlas)


@pytest.fixture
def token(site: Starlette) -> str:
    file = site.state.site.settings.web.token_file
    return str(file.read_text().strip())


def browser(site: Starlette, token: str = "") -> TestClient:
    """One that keeps cookies and says where it comes from; signed in with a token."""
    client = TestClient(site, base_url=BASE, headers={"origin": BASE}, follow_redirects=False)
    if token:
        assert client.post("/sign-in", data={"token": token}).status_code == 303
    return client


def changes(site: Starlette) -> Iterator[str]:
    """The path of every route that takes a POST."""
    for route in site.routes:
        if isinstance(route, Route) and "POST" in (route.methods or ()):
            yield re.sub(r"{\w+(:\w+)?}", "health", route.path)


def test_a_session_is_no_token_and_no_script_or_other_site_gets_it(site: Starlette, token: str) -> None:
    client = browser(site)
    answer = client.post("/sign-in", data={"token": token})
    cookie = answer.headers["set-cookie"]
    assert token not in cookie
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert client.get("/jobs").status_code == 200
    name, value = cookie.split(";")[0].split("=", 1)
    for forged in (value[:-1] + ("1" if value.endswith("0") else "0"), "9" + value, "", "9999999999.aa.bb", token):
        other = TestClient(site, base_url=BASE, cookies={name: forged}, follow_redirects=False)
        assert other.get("/jobs").headers["location"].startswith("/sign-in")
    client.post("/sign-out")
    assert client.get("/jobs").headers["location"].startswith("/sign-in")


def test_a_sign_in_link_works_once_and_for_fifteen_minutes(site: Starlette) -> None:
    code = site.state.site.access.new_code()
    assert browser(site).get(f"/sign-in?code={code}").status_code == 303
    assert browser(site).get(f"/sign-in?code={code}").status_code == 403

    begin = datetime(2026, 3, 2, 12, tzinfo=UTC)
    clock = SetClock(begin)
    access = Access("a" * 40, clock)
    good, late, session = access.new_code(), access.new_code(), access.new_session()
    clock.instant = begin + timedelta(minutes=14)
    assert access.spend_code(good)
    clock.instant = begin + timedelta(minutes=16)
    assert not access.spend_code(late)
    assert access.is_session(session)
    assert not Access("b" * 40, clock).is_session(session)
    clock.instant = begin + timedelta(days=31)
    assert not access.is_session(session)


def test_a_stranger_who_comes_by_a_link_is_led_to_the_sign_in_and_nowhere_else(site: Starlette) -> None:
    client = browser(site)
    client.headers["sec-fetch-site"] = "cross-site"
    assert 'content="0;url=/jobs/a%22b?x=%22%3E"' in client.get('/jobs/a%22b?x=">').text
    assert client.get(f"{BASE}//evil.example/").headers["location"].startswith("/sign-in")
    assert client.get("/api/v1/jobs").status_code == 401


def test_a_program_that_takes_figures_without_the_token_is_told_in_a_line_and_a_person_on_a_page(
    site: Starlette,
) -> None:
    client = TestClient(site, base_url=BASE)
    program = client.get("/metrics", headers={"accept": "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"})
    assert (program.status_code, program.json()["error"]["code"]) == (401, "sign_in")
    person = client.get("/metrics", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert person.status_code == 401
    assert person.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("how", ["form", "link", "program"])
def test_guessing_is_slowed_down(site: Starlette, token: str, how: str) -> None:
    client = browser(site)

    def guess() -> int:
        if how == "form":
            return int(client.post("/sign-in", data={"token": "wrong"}).status_code)
        if how == "link":
            return int(client.get("/sign-in?code=9999999999.aa.bb").status_code)
        return int(client.get("/api/v1/jobs", headers={"authorization": "Bearer wrong"}).status_code)

    assert [guess() for _ in range(12)] == [401 if how == "program" else 403] * 10 + [429] * 2
    assert client.post("/sign-in", data={"token": token}).status_code == 429
    site.state.site.guesses = Brake(10, 60.0, SystemClock())
    assert client.post("/sign-in", data={"token": token}).status_code == 303


@pytest.mark.parametrize("trusted", [("127.0.0.0/8",), ()], ids=["trusted", "unknown"])
def test_behind_a_proxy_that_is_trusted_a_guesser_slows_down_nobody_else(
    settings: Settings, trusted: tuple[str, ...]
) -> None:
    web = settings.web.model_copy(update={"port": 0, "trusted_proxies": trusted})
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {}}')
    with AtlasScheduler(settings.model_copy(update={"web": web})).in_thread() as atlas:
        server = WebServer(atlas).start()

        def guess(asks: str) -> int:
            headers = {"origin": server.address.rstrip("/"), "x-forwarded-for": asks}
            return httpx.post(
                server.address + "sign-in", data={"token": "x"}, headers=headers, trust_env=False
            ).status_code

        try:
            # Whoever asks may write what they like before what the proxy adds.
            assert [guess(f"198.51.100.{number}, 203.0.113.7") for number in range(11)] == [403] * 10 + [429]
            assert guess("203.0.113.8") == (403 if trusted else 429)
        finally:
            server.stop()


def test_no_change_is_taken_from_another_site(site: Starlette, token: str) -> None:
    client, seen = browser(site, token), []
    site.state.site.changes = Brake(1_000_000, 60.0, SystemClock())
    for path in changes(site):
        for headers in (
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": f"{BASE}:1"},
            {"origin": BASE, "sec-fetch-site": "cross-site"},
        ):
            answer = client.post(path, headers=headers)
            assert answer.status_code == 403, (path, headers)
        del client.headers["origin"]  # no browser leaves it out
        assert client.post(path).status_code == 403, path
        client.headers["origin"] = BASE
        seen.append(path)
    assert {"/act/apply", "/act/run", "/config", "/sign-out", "/api/v1/rollback", "/api/v1/tasks"} <= set(seen)


def test_a_form_of_more_jobs_than_it_may_have_is_refused_in_clear_words(site: Starlette, token: str) -> None:
    client = browser(site, token)
    kind = {"content-type": "application/x-www-form-urlencoded"}
    for path in ("/ask/several", "/act/several"):
        many = client.post(path, content="do=pause" + "".join(f"&job:{n}=1" for n in range(10_000)), headers=kind)
        assert (many.status_code, "a form here has at most 1,000 fields" in many.text) == (422, True)
        huge = client.post(path, content="do=pause" + "".join(f"&job:{n:0190}=1" for n in range(10_000)), headers=kind)
        assert (huge.status_code, "a request here is at most" in huge.text) == (413, True)


def test_a_browser_keeps_static_files_under_the_address_of_their_content_and_no_page(
    site: Starlette, token: str
) -> None:
    client = browser(site, token)
    page = client.get("/")
    assert page.headers["cache-control"] == "no-store"
    addresses = re.findall(r'"(/static/[^"]+)"', page.text)
    assert len(addresses) >= 3
    for address in addresses:
        assert client.get(address).headers["cache-control"] == "max-age=31536000, immutable"
    newer = re.sub("v=.*", "v=0123456789", addresses[0])  # of another version, which is served beside this one
    for address in (newer, "/static/inter.woff2"):
        answer = client.get(address)
        assert answer.headers["cache-control"] == "no-cache"
        again = client.get(address, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")
    assert client.get("/static/nothing.js?v=1").headers["cache-control"] == "no-store"


def test_every_answer_lets_a_browser_load_nothing_from_elsewhere(site: Starlette, token: str) -> None:
    client, stranger = browser(site, token), browser(site)
    answers = [
        *(
            client.get(path)
            for path in ("/", "/jobs/nope", "/api/v1/jobs", "/metrics", "/static/atlas.css", "/healthz")
        ),
        *(stranger.get(path) for path in ("/", "/sign-in", "/api/v1/jobs")),
        client.get("/", headers={"host": "evil.example"}),
        client.post("/act/run", content=b"x" * 300_000),
        client.post("/act/run", data={"job": "nope"}),
    ]
    assert {answer.status_code for answer in answers} == {200, 303, 401, 404, 413, 421}
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        html = answer.text if "html" in answer.headers.get("content-type", "") else ""
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style", html), answer.url


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_a_site_for_others_without_a_token_does_not_start(tmp_path: Path, host: str) -> None:
    made = Installation(tmp_path / "here", HEALTH, {"web": {"host": host, "port": 0, "token_file": None}})
    done = made.atlas("serve")
    assert done.code == 2
    assert "a token is needed" in done.err
    with pytest.raises(ConfigError, match="a token is needed"):
        load_settings(made.config)


def test_the_token_is_shown_as_a_link_at_the_first_start_alone(tmp_path: Path) -> None:
    made = Installation(tmp_path / "here", HEALTH, {"web": {"port": 0}})
    with Served(made) as first:
        told = "\n".join(first.told)
    token = (made.folder / "data" / "web_token").read_text().strip()
    assert "/sign-in?code=" in told
    assert token not in told + first.log
    with Served(made) as second:
        assert "/sign-in?code=" not in "\n".join(second.told)


async def test_one_render_at_a_time_and_no_endless_line_for_it() -> None:
    renders, go, begun = Renders(), threading.Event(), threading.Event()
    running, most = 0, 0

    def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        begun.set()
        assert go.wait(60)
        running -= 1

    waiting = [asyncio.ensure_future(renders.run(work)) for _ in range(MAX_WAITING)]
    await asyncio.to_thread(begun.wait, 60)
    with pytest.raises(BusyError):
        await renders.run(work)
    go.set()
    await asyncio.gather(*waiting)
    assert most == 1
    renders.close()

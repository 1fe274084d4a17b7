"""The pages inside an app developer's FastAPI app: any prefix, any proxy, several workers, and the end of them all."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI

from atlas.service import AtlasScheduler
from atlas.settings import Settings
from atlas.web import create_app
from atlas.web.access import read_or_make_token
from atlas.web.prefix import Prefixed
from tests.installations import free_port
from tests.queue_bench import LIMIT_S, eventually

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).parent.parent
PAGES = ("", "jobs", "jobs/health", "tasks", "queue", "config", "config?edit=1", "system", "find?q=h", "help")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """An installation with one job."""
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    return settings


def mounted(settings: Settings) -> FastAPI:
    """What the README shows."""
    atlas = AtlasScheduler(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with atlas:
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount("/scheduler", create_app(atlas))
    return app


def token_of(settings: Settings) -> str:
    assert settings.web.token_file is not None
    return settings.web.token_file.read_text().strip()


# --- a prefix and a proxy ---------------------------------------------------------------------------------------------

MOUNTS = [
    pytest.param("", "/scheduler", "/scheduler", id="a mount"),
    pytest.param("/ops/tools", "/scheduler", "/ops/tools/scheduler", id="a mount behind a proxy that strips"),
    pytest.param("/ops/tools", "/ops/tools/scheduler", "/ops/tools/scheduler", id="a mount behind one that keeps"),
]


@pytest.mark.parametrize(("root_path", "asked", "shown"), MOUNTS)
def test_a_mounted_site_is_whole_under_the_prefix_the_browser_sees(
    settings: Settings, root_path: str, asked: str, shown: str
) -> None:
    """The browser asks below ``shown``, the proxy asks us below ``asked``; every link and cookie is below ``shown``."""
    with TestClient(mounted(settings), base_url="http://127.0.0.1", root_path=root_path) as client:
        whole(client, settings, asked, shown)


@pytest.mark.parametrize("asked", ["", "/ops/atlas"], ids=["strips", "keeps"])
def test_a_served_site_is_whole_behind_a_proxy_that_the_settings_name(settings: Settings, asked: str) -> None:
    with AtlasScheduler(settings).in_thread() as atlas:
        app = Prefixed(create_app(atlas), "/ops/atlas")  # what `atlas serve` does with web.root_path
        whole(TestClient(app, base_url="http://127.0.0.1"), settings, asked, "/ops/atlas")


def whole(client: TestClient, settings: Settings, asked: str, shown: str) -> None:
    """Sign in, see every page, run a job, hear of it: as a browser does whose proxy asks below ``asked``."""
    client.follow_redirects = False
    inside = {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}
    assert client.get(f"{asked}/healthz").json()["alive"] is True
    away = client.get(f"{asked}/tasks?status=FAILED")
    assert away.headers["location"] == f"{shown}/sign-in?next=%2Ftasks%3Fstatus%3DFAILED"
    form = {"token": token_of(settings), "next": "/tasks?status=FAILED"}
    entered = client.post(f"{asked}/sign-in", data=form, headers=inside)
    assert entered.headers["location"] == f"{shown}/tasks?status=FAILED"
    name, _, rest = entered.headers["set-cookie"].partition("=")
    assert f"Path={shown};" in rest
    client.cookies.clear()  # the client's jar would send it below what it asked, not below what the browser sees
    client.headers["cookie"] = f"{name}={rest.partition(';')[0]}"
    for page in PAGES:
        answer = client.get(f"{asked}/{page}")
        assert answer.status_code == 200, page
        links = re.findall(r'(?:href|src|action|data-root)="(/[^"]*)"', answer.text)
        assert links, page
        assert {link for link in links if not f"{link}/".startswith(f"{shown}/")} == set(), page
        assert [link for link in links if "//" in link] == []
    style = re.findall(rf'href="{shown}(/static/[^"]*css[^"]*)"', client.get(f"{asked}/").text)
    assert client.get(f"{asked}{style[0]}").status_code == 200
    ran = client.post(f"{asked}/act/run", data={"job": "health", "back": "/queue"}, headers=inside)
    assert ran.headers["location"] == f"{shown}/queue"
    assert client.get(f"{asked}/api/v1/tasks?job=health").json()["items"][0]["job_id"] == "health"
    assert client.get(f"{asked}/api/v1/openapi.json").json()["servers"] == [{"url": f"{shown}/api/v1"}]
    assert client.get(f"{asked}/live?of=/nowhere").status_code == 404
    assert client.get(f"{asked}/jobs/nope").status_code == 404
    assert client.post(f"{asked}/sign-out", headers=inside).headers["location"] == f"{shown}/sign-in"


@pytest.mark.parametrize(
    ("host", "origin", "told", "status"),
    [
        ("atlas.example.org", "https://atlas.example.org", "same-origin", 303),
        ("atlas.example.org:8443", "https://atlas.example.org:8443", "same-origin", 303),
        ("127.0.0.1:8787", "https://atlas.example.org", "same-origin", 303),  # a proxy that passes on its own name
        ("127.0.0.1:8787", "https://atlas.example.org", "", 303),
        ("127.0.0.1:8787", "https://atlas.example.org:8443", "same-origin", 303),
        ("127.0.0.1:8787", "http://atlas.example.org:3000", "", 403),  # another server on the same machine
        ("127.0.0.1:8787", "https://atlas.example.org", "same-site", 403),
        ("127.0.0.1:8787", "https://evil.example.org", "same-origin", 403),
        ("127.0.0.1:8787", "https://atlas.example.org:x", "", 403),
        ("127.0.0.1:8787", "null", "", 403),
        ("evil.example.org", "https://evil.example.org", "same-origin", 421),
        ("testserver", "http://testserver", "same-origin", 421),
    ],
)
def test_a_change_through_a_proxy_comes_from_a_name_of_this_site(
    settings: Settings, host: str, origin: str, told: str, status: int
) -> None:
    web = settings.web.model_copy(update={"allowed_hosts": ("atlas.example.org",), "token_file": None})
    with AtlasScheduler(settings.model_copy(update={"web": web})).in_thread() as atlas:
        client = TestClient(create_app(atlas), base_url="http://127.0.0.1", follow_redirects=False)
        headers = {"host": host, "origin": origin} | ({"sec-fetch-site": told} if told else {})
        assert client.post("/act/pause", data={"job": "health"}, headers=headers).status_code == status


@pytest.mark.parametrize("language", ["en", "zh"])
def test_before_the_start_and_after_the_stop_every_page_says_so(settings: Settings, language: str) -> None:
    app = mounted(settings)
    headers = {"authorization": f"Bearer {token_of(settings)}"}
    client = TestClient(app, base_url="http://127.0.0.1", headers=headers)

    def stopped() -> None:
        for page in (*PAGES[:-1], "api/v1/jobs", "api/v1/health", "metrics"):
            answer = client.get(f"/scheduler/{page}", headers={"accept-language": language})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopped"), page
        assert client.get("/scheduler/healthz").status_code == 503
        assert client.get("/scheduler/readyz").json()["ready"] is False
        del client.headers["authorization"]
        client.cookies.set("atlas_lang", language)
        session = app.routes[-1].app.state.site.access  # type: ignore[attr-defined]
        client.cookies.set(session.cookie, session.new_session())
        page = client.get("/scheduler/jobs")
        assert page.status_code == 503
        assert {"en": "the scheduler is not started", "zh": "调度器尚未启动"}[language] in page.text
        client.cookies.clear()
        client.headers.update(headers)

    stopped()
    for _twice in range(2):
        with client:
            assert client.get("/scheduler/").status_code == 200
        stopped()


# --- processes --------------------------------------------------------------------------------------------------------

APP = """
import os
from contextlib import asynccontextmanager
from fastapi import FastAPI
from atlas import AtlasScheduler
from atlas.scheduler import register
from atlas.web import create_app

@register("tick")
def tick():
    with open("ran.txt", "a") as file:
        file.write(f"{os.getpid()}\\n")

atlas = AtlasScheduler.from_settings()

@asynccontextmanager
async def lifespan(app):
    async with atlas:
        with open("started.txt", "a") as file:
            file.write(f"{os.getpid()}\\n")
        yield

app = FastAPI(lifespan=lifespan)
app.mount("/scheduler", create_app(atlas))
"""


@contextmanager
def uvicorn(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """The app under ``uvicorn``, as its developer types it, and a client with the token."""
    (folder / "config").mkdir()
    jobs = {"tick": {"triggers": [{"type": "interval", "every": "1s"}]}}
    (folder / "config" / "cron_jobs.json").write_text(json.dumps({"cron_jobs": jobs}))
    (folder / "app.py").write_text(APP)
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATLAS_")}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), *arguments],
            cwd=folder,
            env={**kept, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/scheduler", timeout=10, trust_env=False) as client:
            yield process, client
    except BaseException:
        sys.stderr.write((folder / "log.txt").read_text()[-3000:])
        raise
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(LIMIT_S)


def lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


@pytest.mark.timeout(180)
def test_in_several_workers_every_job_runs_once_and_every_worker_answers(tmp_path: Path) -> None:
    with uvicorn(tmp_path, "--workers", "3") as (process, client):
        eventually(lambda: len(set(lines(tmp_path / "started.txt"))) == 3)
        client.headers["authorization"] = f"Bearer {(tmp_path / 'data' / 'web_token').read_text().strip()}"
        eventually(lambda: len(lines(tmp_path / "ran.txt")) >= 4)
        for _any_worker in range(6):
            client.headers["connection"] = "close"  # the next one is a worker's by chance
            assert client.get("/jobs/tick").status_code == 200
        made = client.post("/api/v1/jobs/tick/run")  # a worker that stands by, or the one that leads
        assert made.status_code in {200, 409}, made.text  # 409: the second's own task is still under way
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) in {0, -signal.SIGTERM}
    ran = lines(tmp_path / "ran.txt")
    with AtlasScheduler(Settings().anchored(tmp_path)).in_thread() as atlas:
        tasks = atlas.status.get_tasks(job="tick", limit=1000)
        done = [task for task in tasks if task.status == "SUCCESS" and str(task.owner or "") != atlas.store.owner]
    fires = [task.fire_time for task in tasks if task.fire_time is not None]
    assert len(fires) == len(set(fires))
    assert len(ran) <= len(done) + 1  # one may have ended behind the last commit that was asked for
    assert len(ran) >= 4


@pytest.mark.timeout(120)
def test_a_mounted_site_lets_its_app_stop_with_eight_live_tabs(tmp_path: Path) -> None:
    with uvicorn(tmp_path) as (process, client):
        eventually(lambda: bool(lines(tmp_path / "started.txt")))
        headers = {"authorization": f"Bearer {(tmp_path / 'data' / 'web_token').read_text().strip()}"}
        address, ends, opened = f"{client.base_url}live?of=/", [], threading.Barrier(9)

        def listen() -> None:
            with httpx.stream("GET", address, headers=headers, timeout=LIMIT_S, trust_env=False) as stream:
                words = stream.iter_text()
                next(words)
                opened.wait(LIMIT_S)
                try:
                    list(words)
                    ends.append("in its own time")
                except httpx.HTTPError as error:
                    ends.append(repr(error))

        tabs = [threading.Thread(target=listen) for _ in range(8)]
        for one in tabs:
            one.start()
        opened.wait(LIMIT_S)
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_S)  # a stream lives an hour
        for one in tabs:
            one.join(LIMIT_S)
        assert ends == ["in its own time"] * 8
        log = (tmp_path / "log.txt").read_text()
        assert "Traceback" not in log
        assert "Application shutdown complete" in log


def test_a_token_is_made_once_by_whoever_comes_first(tmp_path: Path) -> None:
    file, begin, made = tmp_path / "data" / "token", threading.Barrier(8), []

    def come() -> None:
        begin.wait(LIMIT_S)
        made.append(read_or_make_token(file))

    several = [threading.Thread(target=come) for _ in range(8)]
    for one in several:
        one.start()
    for one in several:
        one.join(LIMIT_S)
    assert len({token for token, _is_new in made}) == 1
    assert sorted(is_new for _token, is_new in made) == [False] * 7 + [True]
    assert [one.name for one in file.parent.iterdir()] == ["token"]
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("missing", ["starlette", "jinja2", "markupsafe"])
def test_without_the_extra_the_error_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import atlas; from atlas.scheduler import TaskQueue\n"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}from atlas.web import create_app"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    last = ran.stderr.strip().splitlines()[-1]
    assert last == (
        f"ModuleNotFoundError: the pages need {missing}, which is not installed: pip install 'atlas-scheduler[web]'"
    )

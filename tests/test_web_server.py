"""The web server's start: the first page is made before anybody asks for it, and is nobody's condition."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import pytest
from jinja2.runtime import Context

from atlas.service import AtlasScheduler
from atlas.web.live import Live
from atlas.web.pages.desk import desk_of
from atlas.web.pages.overview import OVERVIEW
from atlas.web.rendering import Renders
from atlas.web.server import WebServer
from tests import seeded

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.responses import Response

    from atlas.web.rendering import Shown
    from atlas.web.site import Visit


@pytest.mark.parametrize("breaks", [False, True], ids=["good", "broken"])
def test_the_first_page_is_made_in_both_languages_before_the_port_answers(
    tmp_path: Path, breaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def view(visit: Visit) -> Shown | Response:
        made.append(visit.language)
        if breaks:
            raise ValueError("a fault of the page")
        return OVERVIEW.view(visit)

    monkeypatch.setattr("atlas.web.server.OVERVIEW", replace(OVERVIEW, view=view))
    settings = seeded.bare(tmp_path, {})
    with AtlasScheduler(settings).in_thread() as atlas:
        server = WebServer(atlas).start()
        try:
            assert made == (["en"] if breaks else ["en", "zh"])
            assert server.app.state.site.desk.begun.is_set()
            assert httpx.get(f"{server.address}jobs", trust_env=False).status_code == 200
        finally:
            server.stop()


def test_the_first_page_is_made_with_its_plan_of_however_many_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[int | None] = []

    def view(visit: Visit) -> Shown | Response:
        desk = desk_of(visit.site)
        found = desk.forecast(desk.store.clock.now(), waits_s=0.0)
        planned.append(None if found is None else found.tasks)
        return OVERVIEW.view(visit)

    monkeypatch.setattr("atlas.web.server.OVERVIEW", replace(OVERVIEW, view=view))
    monkeypatch.setattr("atlas.web.pages.desk.AT_ONCE", 1)  # it is reckoned aside
    jobs = {f"job{number}": {"cron_expression": "@daily", "function": "health"} for number in range(3)}
    with AtlasScheduler(seeded.bare(tmp_path, jobs)).in_thread() as atlas:
        server = WebServer(atlas).start()
        server.stop()
    assert planned == [3, 3]


def test_a_server_starts_beside_a_scheduler_that_does_not_run_yet(tmp_path: Path) -> None:
    server = WebServer(AtlasScheduler(seeded.bare(tmp_path, {}))).start()
    try:
        assert httpx.get(server.address, trust_env=False).status_code == 503
    finally:
        server.stop()


def test_what_few_ever_ask_for_is_not_loaded_for_the_pages() -> None:
    code = "import sys, atlas.web.server; print(sorted({'difflib', 'atlas.web.api.answers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_nothing_of_a_page_waits_for_the_garbage_collector(tmp_path: Path) -> None:
    jobs = {f"job{number}": {"cron_expression": "@yearly", "function": "health"} for number in range(3)}
    with AtlasScheduler(seeded.bare(tmp_path, jobs)).in_thread() as atlas:
        server = WebServer(atlas).start()
        gc.collect()
        gc.disable()
        try:
            for path in ("", "jobs", "jobs/job1", "tasks", "queue", "config", "system", "help", "jobs/none"):
                assert "</html>" in httpx.get(server.address + path, trust_env=False).text
                assert not [one for one in gc.get_objects() if isinstance(one, Context)], path
        finally:
            gc.enable()
            server.stop()


async def test_tabs_that_wait_for_their_turn_end_with_the_server_and_are_not_rendered_one_after_another() -> None:
    live, renders, rendered = Live(), Renders(), []
    begun, goes_on = threading.Event(), threading.Event()

    def fragments(visit: SimpleNamespace) -> dict[str, str]:
        rendered.append(visit.path)
        begun.set()
        assert goes_on.wait(40)
        return {"figures": visit.path}

    page, site = SimpleNamespace(name="any", fragments=fragments), SimpleNamespace(renders=renders)
    visits = [SimpleNamespace(path=f"/{tab}", root="", language="en", theme="") for tab in range(8)]
    tabs = [asyncio.create_task(live._fragments(site, page, visit)) for visit in visits]  # type: ignore[arg-type]
    assert await asyncio.to_thread(begun.wait, 40)
    live.close()
    goes_on.set()
    assert await asyncio.gather(*tabs) == [{"figures": "/0"}, *[{}] * 7]
    assert rendered == ["/0"]
    renders.close()

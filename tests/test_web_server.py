"""The web server's start: the first page is made before anybody asks for it, and is nobody's condition."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from atlas.service import AtlasScheduler
from atlas.web.pages.overview import OVERVIEW
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


def test_a_server_starts_beside_a_scheduler_that_does_not_run_yet(tmp_path: Path) -> None:
    server = WebServer(AtlasScheduler(seeded.bare(tmp_path, {}))).start()
    try:
        assert httpx.get(server.address, trust_env=False).status_code == 503
    finally:
        server.stop()

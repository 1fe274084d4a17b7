"""Forms of the pages: nothing that somebody else wrote meanwhile is lost, and nothing that was written here."""

from __future__ import annotations

import re
import warnings
from html import unescape
from typing import TYPE_CHECKING

import pytest

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
    found |= {name: text.removeprefix("\n") for name, text in re.findall(r'<textarea name="(\w+)"[^>]*>([^<]*)<', form)}
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

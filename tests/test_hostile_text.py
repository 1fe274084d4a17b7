"""Hostile text in every field that people or programs fill in: shown to the letter, never obeyed, never in the way."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from loguru import logger
from playwright.sync_api import expect

from atlas.scheduler.errors import TaskFailedError
from atlas.scheduler.registry import register
from tests import seeded
from tests.browser import tab
from tests.test_pages import SIDEWAYS, aside, serving, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.timeout(240)
STRANGE = 'a/b ?#%&"<x>'
_CODE = re.compile(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\b")
TEXTS = {
    "script": '"><script>alert(1)</script><img src=x onerror=alert(2)>',
    "quotes": "'\"`</textarea></title>&amp;&#60;b&#62; {{ 7*7 }} ${7*7} {% raw %}",
    "escape": "red \x1b[31mtext\x1b]0;title\x07 bell \x08\x7f",
    "bidi": "abc \u202egnp.exe\u202c \u2066right\u2069 \u200f end",
    "long": "w" * 10_000,
    "many": "界" * 400 + " ¹½ \U0001f9e8" * 30,
}


@register("hostile")
def hostile(text: str = "", **more: Any) -> dict[str, str]:
    """Log and return the text, or raise it."""
    logger.warning("{}", text[:2000])
    if more.get("fails"):
        raise RuntimeError(text[:5000])
    return {"said": text, text[:100]: "key"}


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_whatever_stands_in_any_field_is_shown_and_never_obeyed(
    window: Browser, tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    short = text[:100]
    plain = shown(text)  # the config file takes no control characters
    job = {
        "name": plain[:100],
        "description": plain[:2000],
        "tags": [plain[:50].strip()],
        "x_note": text,
        "cron_expression": "0 9 * * *",
        "function": "hostile",
        "kwargs": {"text": text, short: text},
        "max_retries": 0,
        "owner": plain[:100],
        "runbook": plain[:100],
    }
    bad_job = {**job, "kwargs": {"text": text, "fails": True}}
    settings = seeded.bare(tmp_path_factory.mktemp("hostile"), {"good": job, "bad": bad_job, STRANGE: job})
    with serving(settings) as site, program(site.base) as client:
        base, queue = site.base, site.atlas.queue.sync
        made = client.post("/api/v1/jobs/good/run", json={"kwargs": {"text": text, short: text}})
        assert made.status_code == 200, made.text
        good = made.json()["task"]
        result = aside(queue.get_task_result, good, timeout=30)
        assert result["said"] == text
        bad = client.post("/api/v1/jobs/bad/run").json()["task"]
        with pytest.raises(TaskFailedError):
            aside(queue.get_task_result, bad, timeout=30)
        named = client.post("/api/v1/tasks", json={"function": "hostile", "args": [text], "name": short})
        assert named.status_code in {200, 422}, named.text
        until = "2099-01-01T00:00:00+00:00"
        paused = client.post("/api/v1/jobs/good/pause", json={"reason": text[:500], "until": until})
        assert paused.status_code == 200, paused.text
        assert client.get(f"/api/v1/tasks/{good}").json()["result"]["said"] == text
        assert json.loads(client.get("/api/v1/jobs/good").text)["description"] == job["description"]
        draft = json.dumps({"cron_jobs": {"good": {**job, "description": plain[:1000] + "!"}}}, ensure_ascii=False)
        assert client.post("/api/v1/plan", json={"text": draft}).status_code == 200
        asked = quote(text[:150])
        options: dict[str, Any] = {"viewport": {"width": 390, "height": 800}}
        with tab(window, **options) as (page, complaints):
            page.on("dialog", lambda dialog: complaints.append(dialog.message))
            for address in (
                *(
                    "/",
                    "/jobs",
                    "/jobs/good",
                    "/jobs/bad",
                    "/tasks",
                    f"/tasks/{good}",
                    f"/tasks/{bad}",
                    f"/tasks/{bad}?show=events",
                    "/queue",
                    "/system",
                ),
                *("/config", "/config?edit=1", "/ask/run?job=good", "/ask/resume?job=good", f"/ask/retry?task={bad}"),
                *(f"/find?q={asked}", f"/jobs?q={asked}", f"/tasks?q={asked}", f"/tasks?job={asked}&status={asked}"),
            ):
                visit(page, base + address)
                assert page.evaluate(SIDEWAYS) <= 0, address
            selected(page, base, text)
            visit(page, base + "/jobs/good")
            expect(page.locator("h1")).to_contain_text(plain[:100].strip())
            assert shown(text[:500]) in shown(page.locator("main").inner_text())  # why it is paused
            visit(page, f"{base}/tasks/{good}")
            assert shown(text[:1500]) in shown(page.locator(".log").inner_text())
            assert shown(json.dumps(text[:1500], ensure_ascii=False)[1:-1]) in shown(page.locator(".json").inner_text())
            visit(page, f"{base}/tasks/{bad}")
            assert shown(text[:1500]) in shown(page.locator("#k-end").inner_text())
            visit(page, base + "/config?edit=1")
            page.locator("textarea#text").fill(draft)
            page.get_by_role("button", name="Check and show what would change").click()
            expect(page.locator(".chg")).to_have_count(3)
            page.wait_for_load_state("load")
            assert page.evaluate(SIDEWAYS) <= 0
            page.get_by_role("button", name="Apply as r2").click()
            expect(page.locator("p.note")).to_contain_text("The config is applied")
            page.wait_for_load_state("load")  # the note stands there before the styles do
            assert page.evaluate(SIDEWAYS) <= 0
            assert complaints == []


def selected(page: Page, base: str, text: str) -> None:
    """Select every job and pause them for this reason."""
    visit(page, base + "/jobs")
    for box in page.locator("td.pick input").all():
        box.check()
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("h1")).to_have_text("Pause 3 jobs")
    page.wait_for_load_state("load")
    assert page.evaluate(SIDEWAYS) <= 0
    page.locator("#reason").fill(text[:500])
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("p.note")).to_contain_text("3 jobs are paused.")
    visit(page, base + "/ask/several?do=resume&all=1")
    assert page.evaluate(SIDEWAYS) <= 0


def program(base: str) -> httpx.Client:
    """A program that asks the API; these sites want no token."""
    return httpx.Client(base_url=base, headers={"authorization": "Bearer none"}, timeout=30)


def shown(text: str) -> str:
    """The text as a reader sees it: spaces are one; what does not print is not seen, or stands there as its code."""
    visible = _CODE.sub("", text)
    return " ".join("".join(one for one in visible if one.isprintable() or one.isspace()).split())


@pytest.mark.parametrize("body", ['{"reason": "a\\u0000b"}', '{"reason": "\\ud800"}'], ids=["nul", "half-a-character"])
def test_what_no_database_keeps_is_refused_at_the_door(tmp_path_factory: pytest.TempPathFactory, body: str) -> None:
    settings = seeded.bare(
        tmp_path_factory.mktemp("door"), {"good": {"cron_expression": "0 9 * * *", "function": "hostile"}}
    )
    with serving(settings) as site, program(site.base) as client:
        for path in ("/api/v1/jobs/good/pause", "/api/v1/jobs/good/run", "/api/v1/tasks", "/api/v1/apply"):
            answer = client.post(path, content=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request"), path
        for form in ({"job": "good", "reason": "a\0b"}, {"job": "go\0od", "reason": "x"}):
            answer = client.post("/act/pause", data=form, headers={"origin": site.base})
            assert answer.status_code == 400, answer.text
        assert "\0" not in client.get("/jobs/good").text

"""The pages in a real Chromium: in both languages and themes, by mouse and keyboard, live, and without a script."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from atlas.service import AtlasScheduler
from atlas.web.server import WebServer
from atlas.web.words.speech import Speech
from tests import seeded
from tests.browser import tab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

    from atlas.settings import Settings

T = TypeVar("T")

pytestmark = pytest.mark.timeout(240)
PAGES = (
    *(
        "/",
        "/?sort=name&range=7d",
        "/jobs",
        "/jobs?q=llm",
        "/jobs?q=nothing-like-it",
        "/jobs/llm_summarize",
        "/jobs/sync_sources",
    ),
    *(
        "/jobs/warm_cache?only=skips&range=30d",
        "/tasks",
        "/tasks?status=FAILED&since=24h",
        "/tasks?q=RateLimit",
        "/queue",
    ),
    *("/config", "/config?edit=1", "/system", "/find?q=e", "/help", "/ask/run?job=llm_summarize"),
    *("/ask/pause?job=llm_summarize", "/ask/resume?job=sync_sources", "/ask/submit"),
    *("/ask/several?do=pause&all=1", "/ask/several?do=resume&job:sync_sources=1&job:llm_embed=1"),
)
HIDDEN = """() => [...document.querySelectorAll("#nav a, #theme")].filter(one => {
  const box = one.getBoundingClientRect(), at = (x, y) => one.contains(document.elementFromPoint(x, y));
  const inside = box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight;
  return !(inside && at(box.left + 2, box.top + 9) && at(box.right - 2, box.bottom - 9));
}).map(one => one.textContent)"""
CUT = """[...document.querySelectorAll('.bar > *')]
  .filter(x => x.clientWidth && x.scrollWidth > x.clientWidth + 1).map(x => x.className)"""
OVER_EACH_OTHER = """(() => {
  const boxes = [...document.querySelectorAll('.lane.axis text')].map(x => [x.getBoundingClientRect(), x.textContent]);
  const shown = boxes.filter(x => x[0].width).sort((x, y) => x[0].left - y[0].left);
  return shown.slice(1).flatMap((x, n) => x[0].left < shown[n][0].right ? [`${shown[n][1]} ${x[1]}`] : []);
})()"""
NOT_SEEN = """[...document.querySelectorAll('main table')].filter(one => one.offsetWidth)
  .filter(one => one.getBoundingClientRect().right > one.closest('.card').getBoundingClientRect().right + 1)
  .map(one => one.innerText.slice(0, 40))"""
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@dataclass
class Served:
    """A seeded installation that runs, with its pages."""

    atlas: AtlasScheduler
    base: str
    server: WebServer

    def task(self, status: str) -> str:
        """The id of the newest task with this status."""
        return self.atlas.status.get_tasks(status=status, limit=1)[0].id


def aside(call: Callable[..., T], *args: Any, **options: Any) -> T:
    """Call it on another thread: Playwright keeps a loop on this one, where blocking calls refuse to run."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call, *args, **options).result(60)


@contextmanager
def serving(settings: Settings) -> Iterator[Served]:
    """A scheduler by these settings, with its pages."""
    threaded = AtlasScheduler.from_settings(settings).in_thread()
    atlas = aside(threaded.start)
    server = WebServer(atlas).start()
    try:
        yield Served(atlas, server.address.rstrip("/"), server)
    finally:
        server.stop()
        aside(threaded.stop)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    seeded.HOLD.clear()
    settings = seeded.seed(tmp_path_factory.mktemp("installation"), days=2.0)
    with serving(settings) as running:
        for name in ("translate_batch", "import_opml", "rebuild_topics"):
            aside(running.atlas.queue.sync.submit, name, 600)
        try:
            yield running
        finally:
            seeded.HOLD.set()


def visit(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("h1")).to_be_visible()


def arrived(page: Page, words: str) -> None:
    """The page with this heading is there, its script too."""
    expect(page.locator("h1")).to_contain_text(words)
    page.wait_for_load_state("load")


def serious(page: Page) -> list[str]:
    """What axe finds that is moderate, serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{page.url}: {one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in found
        if one["impact"] in {"moderate", "serious", "critical"}
    ]


# --- every page -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 390, 719])
@pytest.mark.parametrize(("locale", "theme"), [("en-US", "light"), ("zh-CN", "dark")])
def test_on_a_phone_every_place_of_the_navigation_is_seen_whole(
    window: Browser, served: Served, width: int, locale: str, theme: Literal["light", "dark"]
) -> None:
    options: dict[str, Any] = {"viewport": {"width": width, "height": 844}, "locale": locale, "color_scheme": theme}
    with tab(window, **options) as (page, complaints):
        visit(page, f"{served.base}/system")
        expect(page.locator("#nav a")).to_have_count(6)
        assert page.evaluate(HIDDEN) == []  # at one moment: the pills of the navigation are live
        assert page.evaluate(SIDEWAYS) == 0
        assert complaints == []


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_at_any_width_the_bar_is_whole_and_the_hours_above_the_lanes_stand_apart(
    served: Served, window: Browser, locale: str
) -> None:
    found: list[str] = []
    with tab(window, locale=locale) as (page, complaints):
        for width in (340, 390, 721, 800, 1011, 1101, 1241, 1300, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            for path in ("/", "/queue"):
                visit(page, served.base + path)
                if beyond := page.evaluate(SIDEWAYS):
                    found.append(f"{path} at {width}: {beyond} px beyond its edge")
                found += [f"{path} at {width}: {one}" for one in page.evaluate(CUT) + page.evaluate(OVER_EACH_OTHER)]
        assert found + complaints == []


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_no_column_is_out_of_sight_from_a_phone_up_and_on_paper(served: Served, window: Browser, locale: str) -> None:
    found: list[str] = []
    with tab(window, locale=locale) as (page, complaints):
        for path in ("/", "/jobs", "/jobs/llm_summarize", "/tasks", "/tasks?status=FAILED", "/queue", "/system"):
            visit(page, served.base + path)
            for media in ("screen", "print"):
                page.emulate_media(media=media)
                for width in (390, 500, 700, 721, 760, 860, 941, 1010, 1440):
                    page.set_viewport_size({"width": width, "height": 900})
                    found += [f"{media} {width} {path}: {one}" for one in page.evaluate(NOT_SEEN)]
        assert found + complaints == []


def test_on_a_phone_the_list_of_tasks_shows_errors_under_the_names(served: Served, window: Browser) -> None:
    with tab(window, viewport={"width": 390, "height": 900}) as (page, _complaints):
        visit(page, served.base + "/tasks?status=FAILED")
        error = page.locator("tbody small").first
        expect(error).to_be_visible()
        expect(error).to_contain_text("Error")
        page.set_viewport_size({"width": 1000, "height": 900})
        expect(error).to_be_hidden()


@pytest.mark.parametrize("half", [0, 1])  # all of them take a busy machine longer than a test may take
@pytest.mark.parametrize(
    ("locale", "theme"), [("en-US", "light"), ("zh-CN", "dark")], ids=["english-light", "chinese-dark"]
)
def test_every_page_stands_without_complaint_and_for_everybody_on_a_phone_and_on_a_desktop(
    served: Served, window: Browser, locale: str, theme: str, half: int
) -> None:
    findings: list[str] = []
    task = served.task("FAILED")
    addresses = [
        *PAGES,
        f"/tasks/{task}",
        f"/tasks/{task}?show=traceback",
        f"/tasks/{task}?show=events",
        f"/tasks/{served.task('RUNNING')}",
        f"/ask/retry?task={task}",
        f"/ask/cancel?task={task}",
    ]
    options: dict[str, Any] = {"viewport": {"width": 390, "height": 900}, "locale": locale, "color_scheme": theme}
    with tab(window, **options) as (page, complaints):
        for address in addresses[half::2]:
            visit(page, served.base + address)
            assert page.locator("html").get_attribute("lang") == locale.replace("en-US", "en")
            for width in (390, 1440):
                page.set_viewport_size({"width": width, "height": 900})
                if page.evaluate(SIDEWAYS) > 0:
                    findings.append(f"{address} scrolls sideways at {width}")
                findings += serious(page)
            page.set_viewport_size({"width": 390, "height": 900})
            if locale == "zh-CN":
                said = page.locator("nav").inner_text() + page.locator("h1").inner_text()
                assert re.search("[一-鿿]", said), said
        assert findings + complaints == []


def test_what_needs_attention_says_why_on_a_phone_too(served: Served, window: Browser) -> None:
    with tab(window, viewport={"width": 390, "height": 844}) as (page, complaints):
        visit(page, served.base + "/")
        whys = page.locator(".alert .why")
        expect(whys.first).to_be_visible()
        assert page.evaluate(SIDEWAYS) <= 0
        cut = "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.textContent)"
        assert whys.evaluate_all(cut) == []
        assert complaints == []


def test_a_long_title_leaves_its_mark_whole_and_no_word_of_the_audit_is_broken(served: Served, window: Browser) -> None:
    with tab(window, viewport={"width": 1280, "height": 900}, locale="zh-CN") as (page, complaints):
        visit(page, served.base + "/")
        # at one moment: the lanes are live
        stretched = """(() => {
          const one = document.querySelector('a.lane .n');
          one.lastElementChild.textContent = 'e'.repeat(200);
          return one.querySelector('svg').getBoundingClientRect().width - one.firstElementChild.clientWidth;
        })()"""
        assert page.evaluate(stretched) < 1
        visit(page, served.base + "/system")
        lines = """all => all.map(one => {
          const range = document.createRange();
          range.selectNodeContents(one);
          return range.getClientRects().length;
        })"""
        assert set(page.locator("tr[id^=a] td:nth-child(3)").evaluate_all(lines)) == {1}
        assert complaints == []


def test_the_theme_and_the_language_of_a_link_are_remembered(served: Served, window: Browser) -> None:
    with tab(window, java_script_enabled=False, color_scheme="light") as (page, complaints):
        visit(page, served.base + "/jobs?lang=zh")
        page.locator("#theme").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        visit(page, served.base + "/queue")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        expect(page.locator("h1")).to_have_text("队列")
        assert complaints == []


def test_without_a_script_every_page_is_reached_by_links(served: Served, window: Browser) -> None:
    with tab(window, java_script_enabled=False) as (page, complaints):
        visit(page, served.base + "/")
        for name in ("Jobs", "Tasks", "Queue", "Config", "System"):
            page.locator(".nav a", has_text=name).click()
            expect(page.locator("h1")).to_contain_text(name)
        page.locator(".find input").fill("summar")
        page.keyboard.press("Enter")
        page.locator("tbody a", has_text="llm_summarize").click()
        expect(page.locator("h1")).to_contain_text("llm_summarize")
        page.locator("tbody tr", has_text="Failed").first.locator("a").first.click()  # one may have fired since
        expect(page.locator("h2", has_text="Attempts")).to_be_visible()
        expect(page.locator(".log")).to_be_visible()
        page.locator(".tabs a", has_text="Traceback").click()
        expect(page.locator(".tabs [aria-current]")).to_contain_text("Traceback")
        expect(page.locator("#k-log .tb .exc").first).to_contain_text("RateLimitError")
        expect(page.locator("#k-log summary", has_text="attempt 3")).to_be_visible()
        expect(page.locator(".log")).to_have_count(0)
        page.locator(".tabs a", has_text="Events").click()
        expect(page.locator(".events li", has_text="attempt 4 failed")).to_contain_text("RateLimitError")
        page.get_by_role("link", name="Copy for an issue").click()
        expect(page.locator("body")).to_contain_text("### `llm_summarize`")
        assert complaints == []


def test_the_jobs_sum_up_a_day_behind_and_ahead_unless_some_are_left_out(served: Served, window: Browser) -> None:
    with tab(window, java_script_enabled=False) as (page, complaints):
        visit(page, served.base + "/jobs")
        expect(page.locator("footer")).to_contain_text(
            re.compile(r"\d tasks in 24 h, [\d,]+ planned for the next 24 h")
        )
        visit(page, served.base + "/jobs?q=llm")
        expect(page.locator("footer")).not_to_contain_text("planned")
        assert complaints == []


def test_a_page_that_is_not_there_says_so_and_leads_back(served: Served, window: Browser) -> None:
    with tab(window, java_script_enabled=False) as (page, _complaints):
        for address in ("/jobs/nope", "/tasks/nope", "/ask/run?job=nope", "/nowhere"):
            answer = page.goto(served.base + address)
            assert answer is not None
            assert answer.status == 404, address
            page.locator("main a").click()
            expect(page.locator("h1")).to_have_text("Overview")


# --- keyboard and live ------------------------------------------------------------------------------------------------


def test_the_keyboard_moves_opens_finds_and_goes(served: Served, window: Browser) -> None:
    with tab(window, viewport={"width": 1440, "height": 900}, color_scheme="light") as (page, complaints):
        visit(page, served.base + "/jobs?sort=name")
        for key in "jjk":
            page.keyboard.press(key)
        chosen = page.locator("tr:has(a:focus)")
        expect(chosen).to_have_count(1)
        title = chosen.locator("a").first.inner_text()
        page.keyboard.press("Enter")
        arrived(page, title)
        page.keyboard.press("r")
        arrived(page, f"Run {title} now")
        page.go_back()
        arrived(page, title)
        page.keyboard.press("p")
        arrived(page, f"Pause {title}")
        page.keyboard.press("Escape")  # out of the field
        page.keyboard.press("g")
        page.keyboard.press("q")
        arrived(page, "Queue")
        page.keyboard.press("t")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.keyboard.press("/")
        page.keyboard.type("collect_rss")
        page.keyboard.press("Enter")
        arrived(page, "collect_rss")
        page.keyboard.press("?")
        arrived(page, "Keyboard")
        assert complaints == []


def test_what_the_keyboard_chose_has_the_focus_and_keeps_it_through_a_live_update(
    served: Served, window: Browser
) -> None:
    with tab(window, viewport={"width": 1440, "height": 900}) as (page, complaints):
        visit(page, served.base + "/?sort=name")
        expect(page.locator("#live")).to_contain_text("Live")
        page.keyboard.press("j")
        page.keyboard.press("j")
        second = page.locator("a.lane").nth(1)
        expect(second).to_be_focused()
        assert serious(page) == []
        page.keyboard.press("Shift+Tab")  # on from there
        expect(page.locator("a.lane").first).to_be_focused()
        page.keyboard.press("j")
        aside(served.atlas.cron.sync.pause_job, "score_articles", reason="", by="mei")
        expect(page.locator("#o-sub")).to_contain_text("2 paused")
        expect(second).to_be_focused()
        aside(served.atlas.cron.sync.resume_job, "score_articles", by="mei")
        expect(page.locator("#o-sub")).not_to_contain_text("2 paused")
        job = second.get_attribute("data-pause")
        page.keyboard.press("p")
        arrived(page, "Pause")
        assert page.url == served.base + str(job)
        assert complaints == []


def test_a_question_is_left_by_escape_and_what_came_of_it_is_read_aloud(served: Served, window: Browser) -> None:
    with tab(window) as (page, complaints):
        visit(page, served.base + "/jobs/newsletter")
        page.keyboard.press("p")
        arrived(page, "Pause")
        page.keyboard.press("Tab")
        while page.locator("#until:focus").count():  # its parts, and the button of its calendar
            assert page.locator("#until").evaluate("one => getComputedStyle(one).outlineStyle") == "solid"
            page.keyboard.press("Tab")
        page.locator("#reason").focus()
        page.keyboard.press("Escape")  # out of the field
        expect(page.locator("h1")).to_contain_text("Pause")
        page.keyboard.press("Escape")
        arrived(page, "newsletter")
        page.keyboard.press("p")
        arrived(page, "Pause")
        page.get_by_role("button", name="Pause").press("Enter")
        told = page.get_by_role("status").filter(has_text="newsletter is paused.")
        expect(told).to_be_focused()  # a status that a page begins with is read by nobody
        expect(page.locator("#live[role=status]")).to_contain_text("Live")
        aside(served.atlas.cron.sync.resume_job, "newsletter", by="mei")
        assert complaints == []


def test_a_failed_task_is_copied_by_mouse_or_key_to_be_pasted_in_an_issue(served: Served, window: Browser) -> None:
    address = f"{served.base}/tasks/{served.task('FAILED')}"
    with tab(window, permissions=["clipboard-read", "clipboard-write"]) as (page, complaints):
        for language, say in (("en", Speech("en")), ("zh", Speech("zh"))):
            visit(page, f"{address}?lang={language}")
            link = page.get_by_role("link", name=say("Copy for an issue"))
            if language == "en":
                link.click()
            else:
                page.keyboard.press("c")
            expect(page.locator("a[data-copy]")).to_have_text(say("Copied"))
            copied = page.evaluate("navigator.clipboard.readText()")
            assert copied.startswith("### `")
            assert f"**{say('Events')}**" in copied
            page.evaluate("navigator.clipboard.writeText('')")
        assert complaints == []


def test_an_open_tab_shows_what_happens_elsewhere(served: Served, window: Browser) -> None:
    with tab(window) as (page, complaints):
        visit(page, served.base + "/jobs?q=newsletter")
        expect(page.locator("#live")).to_contain_text("Live")
        aside(served.atlas.cron.sync.pause_job, "newsletter", reason="holiday", by="mei")
        expect(page.locator("tbody")).to_contain_text("mei")
        aside(served.atlas.cron.sync.resume_job, "newsletter")
        expect(page.locator("tbody")).not_to_contain_text("mei")
        assert complaints == []


# --- drafts of the config ---------------------------------------------------------------------------------------------


def test_a_draft_is_checked_and_shown_before_anything_changes(served: Served, window: Browser) -> None:
    with tab(window, java_script_enabled=False) as (page, complaints):
        visit(page, served.base + "/config?edit=1")
        text = page.locator("textarea#text").input_value()
        jobs = json.loads(text)
        jobs["cron_jobs"]["system_cleanup"]["cron_expression"] = "40 2 * * *"
        jobs["cron_jobs"]["system_cleanup"]["timeout"] = 2400
        del jobs["cron_jobs"]["old_import"]
        jobs["cron_jobs"]["watch_inbox"] = {"cron_expression": "15 8 * * 1-5", "function": "seeded"}
        page.locator("textarea#text").fill(json.dumps(jobs, ensure_ascii=False, indent=2))
        page.get_by_role("button", name="Check and show what would change").click()
        changes = page.locator(".chg")
        expect(changes).to_have_count(3)
        expect(changes.nth(0)).to_contain_text("daily at 02:00 → daily at 02:40")
        expect(changes.nth(0)).to_contain_text("timeout 30m → 40m")
        expect(changes.nth(1)).to_contain_text("watch_inbox")
        expect(changes.nth(2)).to_contain_text("old_import")
        expect(page.locator(".diff mark").first).to_be_visible()
        expect(page.get_by_role("button", name="Apply as r2")).to_be_visible()
        assert aside(served.atlas.cron.sync.get_job, "system_cleanup").schedule == "0 2 * * *"
        assert complaints == []


def test_a_bad_draft_says_where_and_what(served: Served, window: Browser) -> None:
    with tab(window, java_script_enabled=False) as (page, complaints):
        visit(page, served.base + "/config?edit=1")
        text = page.locator("textarea#text").input_value().replace('"0 9 * * *"', '"61 9 * * *"')
        page.locator("textarea#text").fill(text)
        page.get_by_role("button", name="Check and show what would change").click()
        expect(page.locator(".errbox")).to_contain_text("minute 61")
        expect(page.locator(".errbox")).to_contain_text("daily_report")
        expect(page.get_by_role("button", name="Apply")).to_have_count(0)
        assert page.locator("textarea#text").input_value() == text
        assert complaints == []


# --- other installations ----------------------------------------------------------------------------------------------


def test_an_empty_installation_says_what_to_do_and_read_only_offers_nothing(
    window: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = seeded.bare(tmp_path_factory.mktemp("empty"), {}, read_only=True)
    with serving(settings) as empty, tab(window) as (page, complaints):
        for address, words in (
            ("/", "No jobs yet"),
            ("/jobs", "No jobs yet"),
            ("/tasks", "No tasks yet"),
            ("/queue", "Nothing waits."),
            ("/config", "Revisions"),
            ("/system", "Health"),
            ("/ask/submit", "read only"),
        ):
            visit(page, empty.base + address)
            expect(page.locator("main")).to_contain_text(words)
            assert page.locator("main form[method=post]").count() == 0
        assert complaints == []


# --- actions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("locale", "theme", "javascript"),
    [("en-GB", "light", True), ("en-GB", "dark", False), ("zh-CN", "dark", True), ("zh-CN", "light", False)],
    ids=["english-light", "english-dark-no-script", "chinese-dark", "chinese-light-no-script"],
)
def test_every_action_is_done_asked_first_and_told_to_the_audit(
    window: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    locale: str,
    theme: Literal["light", "dark"],
    javascript: bool,
) -> None:
    say = Speech(locale[:2])
    seeded.HOLD.clear()
    entry = {"cron_expression": "0 9 * * *", "function": "seeded", "max_retries": 0}
    jobs = {"nightly": entry, "broken": {**entry, "function": "fails"}}
    settings = seeded.bare(tmp_path_factory.mktemp("actions"), jobs)
    with (
        serving(settings) as running,
        tab(window, java_script_enabled=javascript, locale=locale, color_scheme=theme) as (page, complaints),
    ):
        base, note = running.base, page.locator("p.note")
        # run now, with other arguments; a refusal leads back to the form and says why
        visit(page, base + "/ask/run?job=nightly")
        if page.locator("textarea#kwargs").is_hidden():
            page.locator("summary").click()
        page.locator("textarea#kwargs").fill("[1]")
        page.get_by_role("button", name=say("Run now"), exact=True).click()
        expect(note).to_contain_text(
            say("{name}: this is no {kind}; write {example}", name="kwargs", kind="dict", example='{"name": "value"}')
        )
        expect(page.locator("h1")).to_contain_text(say("Run {title} now", title="nightly"))
        if page.locator("textarea#kwargs").is_hidden():
            page.locator("summary").click()
        page.locator("textarea#kwargs").fill('{"batch": 7}')
        page.get_by_role("button", name=say("Run now"), exact=True).click()
        expect(note).to_contain_text(say("A task of {job} was accepted.", job="nightly"))
        note.locator("a").click()
        expect(page.locator("main")).to_contain_text('"items": 7')
        # again
        page.locator("a.btn", has_text=say("Run again")).click()
        page.get_by_role("button", name=say("Run again"), exact=True).click()
        expect(note).to_contain_text(say("A new task was accepted."))
        # pause with reason and until, resume
        visit(page, base + "/jobs/nightly")
        page.locator("a.btn", has_text=say("Pause")).click()
        page.locator("#reason").fill("holiday & <b>rest</b>")
        page.locator("#until").fill("2099-12-24T18:00")
        page.get_by_role("button", name=say("Pause"), exact=True).click()
        expect(note).to_contain_text(say("{job} is paused.", job="nightly"))
        expect(page.locator("main")).to_contain_text("holiday & <b>rest</b>")
        page.locator("a.btn", has_text=say("Resume")).click()
        page.get_by_role("button", name=say("Resume"), exact=True).click()
        expect(note).to_contain_text(say("{job} fires again.", job="nightly"))
        several_at_once(page, base, say)
        # submit, cancel
        visit(page, base + "/queue")
        page.locator("a.btn", has_text=say("Submit a task")).click()
        page.locator("#function").select_option("hold")
        page.locator("#priority").select_option("URGENT")
        page.locator("#args").fill("[600]")
        page.locator("#timeout").fill("20m")
        page.get_by_role("button", name=say("Submit"), exact=True).click()
        expect(note).to_contain_text(say("A task of {job} was accepted.", job="hold"))
        note.locator("a").click()
        page.locator("a.btn", has_text=say("Cancel")).click()
        page.get_by_role("button", name=say("Cancel the task"), exact=True).click()
        expect(note).to_contain_text(say("The task is cancelled, or asked to stop."))
        told(page, base, say, "run", "retry", "pause", "resume", "submit", "cancel")
        assert complaints == []


def several_at_once(page: Page, base: str, say: Speech) -> None:
    """Select jobs and pause or run them; then resume and pause all."""
    note = page.locator("p.note")
    visit(page, base + "/jobs")
    page.get_by_role("button", name=say("Pause"), exact=True).click()
    expect(page.locator("main")).to_contain_text(
        say("No job is selected. Tick some on the page of jobs, then press a button below the table.")
    )
    page.locator("a.btn", has_text=say("Back")).click()
    for name in ("nightly", "broken"):
        page.get_by_label(say("Select {title}", title=name)).check()
    page.get_by_role("button", name=say("Pause"), exact=True).click()
    expect(page.locator("h1")).to_have_text(say("Pause 1 job|Pause {n} jobs", n=2))
    page.locator("#until").fill("2001-01-01T00:00")
    page.get_by_role("button", name=say("Pause"), exact=True).click()
    expect(note).to_have_class("note error")
    expect(page.locator("h1")).to_have_text(say("Pause 1 job|Pause {n} jobs", n=2))  # nothing has to be ticked again
    page.locator("#reason").fill("move")
    page.get_by_role("button", name=say("Pause"), exact=True).click()
    expect(note).to_contain_text(say("1 job is paused.|{n} jobs are paused.", n=2))
    page.get_by_label(say("Select {title}", title="nightly")).check()
    page.get_by_role("button", name=say("Run now"), exact=True).click()
    page.get_by_role("button", name=say("Run now"), exact=True).click()
    expect(note).to_contain_text(say("1 task was accepted.|{n} tasks were accepted.", n=1))
    # all of them
    visit(page, base + "/")
    page.locator("a.btn", has_text=say("Resume all")).click()
    expect(page.locator("main")).to_contain_text("move")
    page.get_by_role("button", name=say("Resume all"), exact=True).click()
    expect(note).to_contain_text(say("1 job fires again.|{n} jobs fire again.", n=2))
    page.locator("a.btn", has_text=say("Pause all")).click()
    page.get_by_role("button", name=say("Pause all"), exact=True).click()
    expect(note).to_contain_text(say("1 job is paused.|{n} jobs are paused.", n=2))


def told(page: Page, base: str, say: Speech, *deeds: str) -> None:
    """The audit on the system page names each of them, done over the web."""
    visit(page, base + "/system")
    lines = page.locator("#s-audit tbody tr", has_text="web")
    for did in deeds:
        expect(lines.filter(has_text=say(did)).first).to_be_visible()


@pytest.mark.parametrize(("locale", "theme"), [("en-GB", "light"), ("zh-CN", "dark")], ids=["english", "chinese"])
def test_a_draft_is_applied_and_rolled_back(
    window: Browser, tmp_path_factory: pytest.TempPathFactory, locale: str, theme: Literal["light", "dark"]
) -> None:
    say = Speech(locale[:2])
    jobs = {"nightly": {"cron_expression": "0 9 * * *", "function": "seeded"}}
    settings = seeded.bare(tmp_path_factory.mktemp("drafts"), jobs)
    file = settings.persistence.cron_config
    with (
        serving(settings) as running,
        tab(window, java_script_enabled=False, locale=locale, color_scheme=theme) as (page, complaints),
    ):
        base, note = running.base, page.locator("p.note")
        visit(page, base + "/config?edit=1")
        text = page.locator("textarea#text").input_value()
        page.locator("textarea#text").fill(text.replace("0 9 * * *", "30 9 * * *", 1))
        page.get_by_role("button", name=say("Check and show what would change")).click()
        page.get_by_role("button", name=say("Apply as r{n}", n=2)).click()
        expect(note).to_contain_text(say("The config is applied: {what}", what=""))
        assert file.read_text(encoding="utf-8") == text.replace("0 9 * * *", "30 9 * * *", 1)
        page.locator(".list a", has_text="r1").click()
        page.get_by_role("button", name=say("Roll back to r{n}", n=1)).click()
        expect(note).to_contain_text(say("Rolled back to r{n}: {what}", n=1, what=""))
        assert file.read_text(encoding="utf-8") == text
        told(page, base, say, "apply", "rollback")
        assert complaints == []

"""Several tabs in a real Chromium: what one does the others show, the server away or back; by keyboard alone."""

from __future__ import annotations

import json
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from playwright.sync_api import expect
from sqlalchemy import insert

from atlas.scheduler.context import current_task
from atlas.scheduler.registry import register
from atlas.scheduler.store.tables import task_logs
from tests import seeded
from tests.browser import tab
from tests.installations import Installation, free_port
from tests.installations import Served as Serving
from tests.test_pages import aside, serving, visit

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.timeout(240)
ENTRY = {"cron_expression": "0 9 * * *", "function": "hold", "args": [600], "max_retries": 0}
STOPS_S = 2.0
"""What a server with open tabs may take to end."""
NOISE_S = 4.0
"""What a loaded machine may add."""


@register("fails_once")
def fails_once() -> str:
    if current_task().attempt == 1:
        raise RuntimeError("the first time")
    return seeded.hold()


def live(page: Page, address: str) -> None:
    visit(page, address)
    expect(page.locator("#live")).to_contain_text("Live")


def reach(page: Page, wanted: Locator) -> None:
    """Go to something by Tab alone, and see that it shows its focus."""
    expect(wanted).to_be_visible()
    for _ in range(80):
        page.keyboard.press("Tab")
        # In one step: a live update may put another element in its place in between.
        outline = wanted.evaluate("one => one === document.activeElement ? getComputedStyle(one).outlineStyle : null")
        if outline is not None:
            assert outline == "solid"
            return
    raise AssertionError(f"{wanted} is not reached by Tab")


def press(page: Page, name: str) -> None:
    """Go to a button or link by Tab alone and press Enter."""
    wanted = page.locator("main").get_by_role("button", name=name, exact=True)
    reach(page, wanted.or_(page.locator("main").get_by_role("link", name=name, exact=True)).first)
    page.keyboard.press("Enter")


def fill_in(page: Page, field: str, text: str) -> None:
    """Go to a field by Tab alone and type in the place of what stands there; a list takes its first letters."""
    wanted = page.locator(field)
    reach(page, wanted)
    if wanted.evaluate("one => one.matches('input:not([type=datetime-local]), textarea')"):
        page.keyboard.press("Control+A")
    page.keyboard.type(text)


def test_every_form_is_filled_in_by_keyboard_alone(window: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    seeded.HOLD.clear()
    entry = {"cron_expression": "0 9 * * *", "function": "seeded", "max_retries": 0}
    settings = seeded.bare(tmp_path_factory.mktemp("keys"), {"nightly": entry})
    with serving(settings) as running, tab(window) as (page, complaints):
        base, note = running.base, page.locator("p.note")
        # run now, with other arguments
        visit(page, f"{base}/jobs/nightly")
        press(page, "Run now")
        expect(page.locator("h1")).to_contain_text("Run nightly now")
        if page.locator("#kwargs").is_hidden():
            reach(page, page.locator("summary", has_text="Arguments"))
            page.keyboard.press("Enter")
        fill_in(page, "#kwargs", '{"batch": 7}')
        press(page, "Run now")
        expect(note).to_contain_text("A task of nightly was accepted.")
        # pause with a reason until a moment
        visit(page, f"{base}/ask/pause?job=nightly")
        expect(page.locator("#reason")).to_be_focused()
        page.keyboard.type("年度维护 & rest")
        fill_in(page, "#until", "11112099")
        page.keyboard.press("ArrowRight")
        page.keyboard.type("0606a")
        press(page, "Pause")
        expect(note).to_contain_text("nightly is paused.")
        pause = running.atlas.cron.sync.shown.states.pause_of("nightly")
        assert pause is not None
        assert pause.reason == "年度维护 & rest"
        assert pause.until is not None
        assert f"{pause.until.astimezone(ZoneInfo(seeded.ZONE)):%Y-%m-%d %H:%M}" == "2099-11-11 06:06"
        # submit
        visit(page, f"{base}/ask/submit")
        fill_in(page, "#function", "hold")
        fill_in(page, "#priority", "Urg")
        fill_in(page, "#args", "[600]")
        fill_in(page, "#timeout", "20m")
        fill_in(page, "#max_retries", "2")
        press(page, "Submit")
        expect(note).to_contain_text("A task of hold was accepted.")
        task = next(one for one in running.atlas.status.get_tasks() if one.function == "hold")
        assert (task.priority.name, task.policy.timeout_s, task.policy.retry.max_retries) == ("URGENT", 1200.0, 2)
        # find
        visit(page, f"{base}/find")
        page.keyboard.press("/")
        page.keyboard.type("nightly")
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_contain_text("nightly")
        assert complaints == []
        seeded.HOLD.set()


def test_a_config_is_edited_applied_and_rolled_back_by_keyboard_alone(
    window: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = seeded.bare(tmp_path_factory.mktemp("drafts"), {"nightly": ENTRY})
    file = settings.persistence.cron_config
    with serving(settings) as running, tab(window) as (page, complaints):
        base, note = running.base, page.locator("p.note")
        before = file.read_text(encoding="utf-8")
        wanted = json.dumps({"cron_jobs": {"nightly": {**ENTRY, "cron_expression": "30 9 * * *"}}})
        visit(page, f"{base}/config?edit=1")
        fill_in(page, "textarea#text", wanted)
        press(page, "Check and show what would change")
        press(page, "Apply as r2")
        expect(note).to_contain_text("The config is applied")
        assert file.read_text(encoding="utf-8") == wanted
        press(page, "r1")
        press(page, "Roll back to r1")
        expect(note).to_contain_text("Rolled back to r1")
        assert file.read_text(encoding="utf-8") == before
        assert complaints == []


def test_what_one_tab_does_by_keyboard_alone_the_others_show_at_once(
    window: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    seeded.HOLD.clear()
    settings = seeded.bare(tmp_path_factory.mktemp("tabs"), {"nightly": ENTRY})
    with (
        serving(settings) as running,
        tab(window) as (acting, complaints),
        tab(window) as (job, others),
        tab(window) as (tasks, of_tasks),
    ):
        base = running.base
        live(job, f"{base}/jobs/nightly")
        live(tasks, f"{base}/tasks")
        rows = tasks.locator("tbody tr")

        def go(address: str) -> None:
            acting.wait_for_url(lambda url: "/ask/" not in url)  # other tabs may show it before this one is led back
            visit(acting, address)

        # run now
        go(f"{base}/jobs/nightly")
        press(acting, "Run now")
        press(acting, "Run now")
        expect(rows).to_have_count(1)
        expect(rows.first).to_contain_text("Running")
        # pause and resume
        go(f"{base}/jobs/nightly")
        press(acting, "Pause")
        acting.locator("#reason").wait_for()
        press(acting, "Pause")
        expect(job.locator("main")).to_contain_text("Paused")
        press(acting, "Resume")
        expect(acting.locator("h1")).to_contain_text("Resume")
        press(acting, "Resume")
        expect(job.locator("main h1")).not_to_contain_text("Paused")
        # cancel
        go(f"{base}/tasks/{running.task('RUNNING')}")
        press(acting, "Cancel")
        press(acting, "Cancel the task")
        expect(rows.first).to_contain_text("Cancelled")
        # again
        go(f"{base}/tasks/{running.task('CANCELLED')}")
        press(acting, "Run again")
        expect(acting.locator("h1")).to_contain_text("again")
        press(acting, "Run again")
        expect(rows).to_have_count(2)
        # submit
        go(f"{base}/ask/submit")
        acting.locator("#function").select_option("hold")
        press(acting, "Submit")
        expect(rows).to_have_count(3)
        # apply and roll back
        go(f"{base}/config?edit=1")
        text = acting.locator("textarea#text").input_value()
        acting.locator("textarea#text").fill(text.replace("0 9 * * *", "30 9 * * *"))
        press(acting, "Check and show what would change")
        press(acting, "Apply as r2")
        expect(job.locator("main")).to_contain_text("09:30")
        aside(running.atlas.reconciler.rollback, 1, by="mei")
        expect(job.locator("main")).not_to_contain_text("09:30")
        assert complaints + others + of_tasks == []
        seeded.HOLD.set()


def test_all_jobs_are_paused_and_resumed_by_keyboard_alone_and_other_tabs_show_it_at_once(
    window: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = seeded.bare(tmp_path_factory.mktemp("all"), {"nightly": ENTRY, "weekly": ENTRY})
    with (
        serving(settings) as running,
        tab(window) as (acting, complaints),
        tab(window) as (job, of_job),
        tab(window) as (overview, of_overview),
    ):
        live(job, f"{running.base}/jobs/nightly")
        live(overview, f"{running.base}/")
        visit(acting, f"{running.base}/")
        press(acting, "Pause all")
        acting.locator("#reason").wait_for()
        press(acting, "Pause all")
        expect(job.locator("main")).to_contain_text("Paused")
        expect(overview.locator("#o-acts")).to_contain_text("Resume all")
        press(acting, "Resume all")
        expect(acting.locator("h1")).to_contain_text("Resume")
        press(acting, "Resume all")
        expect(job.locator("main h1")).not_to_contain_text("Paused")
        expect(overview.locator("#o-acts")).to_contain_text("Pause all")
        assert complaints + of_job + of_overview == []


def test_focus_and_what_is_selected_stay_through_a_live_update(
    window: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = seeded.bare(tmp_path_factory.mktemp("focus"), {"nightly": ENTRY, "weekly": ENTRY})
    with serving(settings) as running, tab(window) as (page, complaints):
        live(page, f"{running.base}/jobs")
        page.get_by_label("Select all jobs of this page").check()
        expect(page.locator("#picked")).to_have_text("2 selected")
        page.keyboard.press("j")
        page.keyboard.press("x")
        expect(page.locator("#picked")).to_have_text("1 selected")
        link = page.locator("tbody a", has_text="weekly")
        link.focus()
        aside(running.atlas.cron.sync.pause_job, "weekly", reason="holiday", by="mei")
        expect(page.locator("tbody")).to_contain_text("mei")
        expect(page.locator("tbody a", has_text="weekly")).to_be_focused()
        expect(page.locator("#picked")).to_have_text("1 selected")
        expect(page.get_by_label("Select weekly")).to_be_checked()
        # a link that is pressed stays there until it is let go of
        with tab(window) as (other, _complaints):
            live(other, f"{running.base}/jobs")
            page.locator("tbody a", has_text="nightly").hover()
            page.mouse.down()
            aside(running.atlas.cron.sync.pause_job, "nightly", reason="holiday", by="lin")
            expect(other.locator("tbody")).to_contain_text("lin")
            page.mouse.up()
            page.wait_for_url("**/jobs/nightly")
        live(page, f"{running.base}/jobs")
        page.locator("h1").hover()
        page.mouse.down()
        aside(running.atlas.cron.sync.resume_job, "nightly")
        page.mouse.up()
        expect(page.locator("tbody")).not_to_contain_text("lin")
        assert complaints == []


def test_a_marked_text_stays_until_it_is_let_go_of_and_then_shows_what_came_meanwhile(
    window: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    seeded.HOLD.clear()
    settings = seeded.bare(tmp_path_factory.mktemp("marked"), {"nightly": ENTRY})
    with serving(settings) as running, tab(window) as (page, complaints), tab(window) as (other, _complaints):
        task = aside(running.atlas.cron.sync.run_job_now, "nightly")
        address = f"{running.base}/tasks/{task}"
        for one in (page, other):
            live(one, address)
            expect(one.locator("#k-head")).to_contain_text("Running")
        page.evaluate("getSelection().selectAllChildren(document.querySelector('#k-head h1'))")
        aside(running.atlas.queue.cancel_task, task)
        expect(other.locator("#k-head")).to_contain_text("Cancelled")
        expect(page.locator("#k-facts")).to_have_text(other.locator("#k-facts").inner_text(), use_inner_text=True)
        assert "Running" in page.evaluate("String(getSelection())")
        page.evaluate("getSelection().removeAllRanges()")
        expect(page.locator("#k-head")).to_contain_text("Cancelled")
        # where a menu opens, nobody tells that the right button was let go of
        live(page, f"{running.base}/jobs")
        chrome = page.context.new_cdp_session(page)
        right = {"type": "mousePressed", "x": 300, "y": 300, "button": "right", "buttons": 2, "clickCount": 1}
        chrome.send("Input.dispatchMouseEvent", right)
        aside(running.atlas.cron.sync.pause_job, "nightly", by="mei")
        expect(page.locator("tbody")).to_contain_text("mei")
        assert complaints == []


def test_what_a_reader_folded_stays_folded_through_a_live_update(
    window: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    seeded.HOLD.clear()
    entry = {"cron_expression": "@yearly", "function": "fails_once", "max_retries": 3, "retry_delay": 0.01}
    settings = seeded.bare(tmp_path_factory.mktemp("folded"), {"yearly": entry})
    with serving(settings) as running, tab(window) as (page, complaints):
        atlas = running.atlas
        task = aside(atlas.cron.sync.run_job_now, "yearly")
        live(page, f"{running.base}/tasks/{task}?show=traceback")
        fold, lines = page.locator("details", has_text="attempt 1"), page.locator("#k-log .tabs a").first

        def one_more_line() -> None:
            row = {"task_id": task, "attempt": 1, "logged_at": 0.0, "level": "INFO", "message": "one more"}
            count = int(lines.locator(".pill").inner_text() or 0) if lines.locator(".pill").count() else 0
            aside(atlas.store.write, lambda connection: connection.execute(insert(task_logs), [row]))
            running.server.app.state.site.live.bump()
            expect(lines).to_contain_text(str(count + 1))

        expect(fold).to_have_attribute("open", "")  # nobody has to open the only one
        fold.locator("summary").first.click()
        expect(fold).not_to_have_attribute("open", "")
        one_more_line()
        assert fold.get_attribute("open") is None
        fold.locator("summary").first.click()
        one_more_line()
        assert fold.get_attribute("open") == ""
        aside(atlas.queue.cancel_task, task)
        assert complaints == []


def test_a_table_that_is_moved_sideways_stays_there(window: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = seeded.bare(tmp_path_factory.mktemp("sideways"), {"nightly": {**ENTRY, "name": "a long name " * 9}})
    with serving(settings) as running, tab(window, viewport={"width": 240, "height": 800}) as (page, complaints):
        live(page, f"{running.base}/jobs")
        page.evaluate("document.fonts.ready")
        page.wait_for_function(
            "(one => one.scrollWidth - one.clientWidth >= 60)(document.querySelector('#j-rows .scroll'))"
        )
        # In one step: a live update may put another element in its place in between.
        moved = page.evaluate(
            "(one => { one.scrollLeft = 60; return one.scrollLeft; })(document.querySelector('#j-rows .scroll'))"
        )
        assert moved == 60
        aside(running.atlas.cron.sync.pause_job, "nightly", by="mei")
        expect(page.locator("tbody")).to_contain_text("mei")
        assert page.locator("#j-rows .scroll").evaluate("one => one.scrollLeft") == 60
        assert complaints == []


def test_a_form_is_sent_once_however_often_it_is_clicked(
    window: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = seeded.bare(tmp_path_factory.mktemp("once"), {"nightly": {**ENTRY, "function": "seeded", "args": []}})
    sent: list[str] = []
    with serving(settings) as running, tab(window) as (page, complaints):
        page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
        visit(page, f"{running.base}/ask/submit?function=seeded")
        page.wait_for_load_state("load")
        page.evaluate("for (const one of [1, 2]) setTimeout(() => document.querySelector('.btn.primary').click(), one)")
        expect(page.locator("p.note")).to_contain_text("accepted")
        assert len(sent) == 1
        page.go_back()
        page.locator(".btn.primary").click()
        expect(page.locator("p.note")).to_contain_text("accepted")
        assert len(sent) == 2
        assert len(aside(running.atlas.status.get_tasks)) == 2
        assert complaints == []


def test_the_config_page_shows_at_once_what_is_applied_or_refused_elsewhere_and_leaves_a_draft_alone(
    window: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = seeded.bare(tmp_path_factory.mktemp("config"), {"nightly": ENTRY})
    file = settings.persistence.cron_config
    with (
        serving(settings) as running,
        tab(window) as (page, complaints),
        tab(window) as (editing, of_editing),
        tab(window) as (going_back, of_going_back),
    ):
        live(page, f"{running.base}/config")
        live(editing, f"{running.base}/config?edit=1")
        text = editing.locator("textarea#text").input_value()
        editing.locator("textarea#text").fill(text + "  ")
        new = text.replace("0 9 * * *", "30 9 * * *")
        aside(running.atlas.reconciler.replace, new, by="mei")
        expect(page.locator("#c-revisions")).to_contain_text("mei")
        expect(page.locator("#c-head")).to_contain_text("r2")
        expect(page.locator("#c-file")).to_contain_text("30 9 * * *")
        expect(editing.locator("#c-head")).to_contain_text("r2")
        live(going_back, f"{running.base}/config?revision=1")
        expect(going_back.locator("#c-head")).to_contain_text("Roll back to r1")
        file.write_text(new.replace("30 9", "61 9"))
        expect(page.locator("#c-head")).to_contain_text("cannot be used")
        expect(page.locator("#c-state")).to_contain_text("minute 61")
        file.write_text(new)
        expect(page.locator("#c-head")).not_to_contain_text("cannot be used")
        assert editing.locator("textarea#text").input_value() == text + "  "
        press(editing, "Check and show what would change")
        expect(editing.locator("h1")).to_contain_text("not applied")
        draft = editing.locator("h1").inner_text()
        aside(running.atlas.reconciler.rollback, 1, by="lin")
        expect(editing.locator("#c-revisions")).to_contain_text("lin")
        expect(editing.locator("h1")).to_have_text(draft)
        assert complaints + of_editing + of_going_back == []


def installation(folder: Path) -> tuple[Installation, str]:
    port = free_port()
    web = {"port": port, "token_file": None}
    made = Installation(folder / "here", {"health": {"cron_expression": "@yearly"}}, {"web": web})
    return made, f"http://127.0.0.1:{port}"


def test_serve_ends_promptly_with_eight_live_tabs_and_each_stream_in_order(tmp_path: Path) -> None:
    made, base = installation(tmp_path)
    opened, ends = threading.Barrier(9), []

    def listen() -> None:
        with httpx.stream("GET", f"{base}/live?of=/", timeout=60, trust_env=False) as stream:
            words = stream.iter_text()
            next(words)
            opened.wait(60)
            try:
                list(words)
                ends.append("in order")
            except httpx.HTTPError as error:
                ends.append(repr(error))

    with Serving(made) as served:
        tabs = [threading.Thread(target=listen) for _ in range(8)]
        for one in tabs:
            one.start()
        opened.wait(60)
        start_s = time.monotonic()
        assert served.stop(signal.SIGTERM) == 0
        took_s = time.monotonic() - start_s
        for one in tabs:
            one.join(60)
        assert ends == ["in order"] * 8
        assert took_s < STOPS_S + NOISE_S
        assert "Traceback" not in served.log


def test_an_open_tab_says_that_the_server_is_away_and_goes_on_when_it_is_back(window: Browser, tmp_path: Path) -> None:
    made, base = installation(tmp_path)
    options: dict[str, Any] = {"locale": "en-GB"}
    with tab(window, **options) as (page, _complaints):
        with Serving(made):
            live(page, f"{base}/jobs")
        expect(page.locator("#live")).to_contain_text("Offline")
        with Serving(made):
            expect(page.locator("#live")).to_contain_text("Live")
            assert made.atlas("pause", "health", "--reason", "holiday").code == 0
            expect(page.locator("tbody")).to_contain_text("paused")


def test_a_tab_whose_session_ends_changes_nothing_and_lives_again_after_a_sign_in(
    window: Browser, tmp_path: Path
) -> None:
    made, base = installation(tmp_path)
    made.sections["web"]["token_file"] = "data/web_token"
    made = Installation(tmp_path / "signed", made.jobs, made.sections)
    with Serving(made) as served, tab(window, locale="en-GB") as (page, _complaints):
        token = (made.folder / "data" / "web_token").read_text().strip()
        page.goto(f"{base}/jobs/health")
        page.locator("input[name=token]").fill(token)
        page.keyboard.press("Enter")
        expect(page.locator("#live")).to_contain_text("Live")
        page.goto(f"{base}/ask/run?job=health")
        page.context.clear_cookies()
        page.get_by_role("button", name="Run now").click()
        expect(page.locator("body")).to_contain_text("sign in")
        assert made.atlas("tasks", "--json").json == []
        page.goto(f"{base}/jobs")
        page.locator("input[name=token]").fill(token)
        page.keyboard.press("Enter")
        expect(page.locator("#live")).to_contain_text("Live")
        assert served.stop() == 0


class Elsewhere(BaseHTTPRequestHandler):
    """Another site: a page with a link."""

    link = ""

    def do_GET(self) -> None:
        """The page."""
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(f'<link rel="icon" href="data:,"><a href="{self.link}">there</a>'.encode())

    def log_message(self, *_args: object) -> None:
        """Nothing is logged."""


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no-script"])
def test_a_link_of_another_site_signs_in_and_finds_who_is_signed_in(
    window: Browser, tmp_path: Path, javascript: bool
) -> None:
    bare = seeded.bare(tmp_path, {"nightly": ENTRY})
    settings = bare.model_copy(update={"web": bare.web.model_copy(update={"token_file": tmp_path / "token"})})
    with (
        serving(settings) as running,
        ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as elsewhere,
        tab(window, java_script_enabled=javascript) as (page, complaints),
    ):
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()

        def follow(link: str) -> None:
            Elsewhere.link = link
            page.goto(f"http://localhost:{elsewhere.server_port}/")  # another name: another site
            page.get_by_text("there").click()

        follow(f"{running.base}/jobs/nightly?range=7d")
        expect(page.locator("input[name=token]")).to_be_visible()
        follow(running.server.sign_in_link())
        expect(page.locator("h1")).to_have_text("Overview")
        follow(f"{running.base}/jobs/nightly?range=7d")
        expect(page.locator("h1")).to_contain_text("nightly")
        assert page.url == f"{running.base}/jobs/nightly?range=7d"
        page.goto(f"{running.base}/system")
        page.get_by_role("button", name="Sign out").click()
        page.goto(f"{running.base}/jobs")
        expect(page.locator("input[name=token]")).to_be_visible()
        assert complaints == []
        elsewhere.shutdown()

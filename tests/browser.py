"""A real Chromium for the pages: everything it complains of is kept, and a page that lets it complain fails."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from playwright.sync_api import Browser, Page, expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")
expect.set_options(timeout=20_000)  # a busy machine takes its time
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
)


def chromium() -> str | None:
    """Where it is, None if this machine has none."""
    return next((found for found in map(shutil.which, CHROMIUM) if found), None)


@contextmanager
def browser(path: str) -> Iterator[Browser]:
    """A running Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield running
        finally:
            running.close()


@contextmanager
def tab(running: Browser, **options: Any) -> Iterator[tuple[Page, list[str]]]:
    """A tab of its own, and what the browser complained of in it: console, CSP, uncaught errors, lost requests."""
    context = running.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{page.url}: {message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    page.on(
        "response",
        lambda answer: complaints.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None,
    )
    try:
        yield page, complaints
    finally:
        context.close()

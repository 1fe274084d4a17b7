"""Takes the README's pictures of the pages: ``python -m tests.pictures``."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from atlas.service import AtlasScheduler
from atlas.web.server import WebServer
from tests import seeded
from tests.browser import browser, chromium, tab

FOLDER: Final = Path(__file__).resolve().parent / "pictures"
SHOTS: Final = (
    ("overview", "/", "light", "en-GB", (1360, 900)),
    ("jobs-dark", "/jobs", "dark", "en-GB", (1360, 820)),
    ("task", "/tasks?status=FAILED&q=llm", "light", "en-GB", (1360, 900)),
    ("overview-zh-phone", "/", "dark", "zh-CN", (390, 844)),
)


def take(base: str) -> None:
    """Every picture, from the pages at ``base``."""
    path = chromium()
    assert path is not None, "there is no Chromium"
    FOLDER.mkdir(exist_ok=True)
    with browser(path) as running:
        for name, address, theme, locale, (width, height) in SHOTS:
            options = {"viewport": {"width": width, "height": height}, "color_scheme": theme, "locale": locale}
            with tab(running, **options) as (page, _complaints):
                page.goto(base + address)
                if address.startswith("/tasks?"):
                    page.locator("tbody a").first.click()
                page.wait_for_timeout(1500)  # the stream is open and says so
                file = FOLDER / f"{name}.png"
                page.screenshot(path=file, clip={"x": 0, "y": 0, "width": width, "height": height})


async def main() -> None:
    """Serve a seeded installation, take the pictures, stop."""
    with tempfile.TemporaryDirectory() as folder:
        async with AtlasScheduler.from_settings(seeded.seed(Path(folder))) as atlas:
            await seeded.busy(atlas)
            server = WebServer(atlas).start()
            try:
                await asyncio.to_thread(take, server.address.rstrip("/"))
            finally:
                seeded.HOLD.set()
                await asyncio.to_thread(server.stop)


if __name__ == "__main__":
    asyncio.run(main())

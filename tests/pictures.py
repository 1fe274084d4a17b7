"""Takes the README's pictures of the pages: ``python -m tests.pictures``."""

from __future__ import annotations

import asyncio
import base64
import re
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import expect

from atlas.service import AtlasScheduler
from atlas.web.server import WebServer
from tests import seeded
from tests.browser import browser, chromium, tab

FOLDER: Final = Path(__file__).resolve().parent / "pictures"
WIDE: Final = (1360, 900)
PHONE: Final = (390, 844)
FAILED: Final = "/tasks?status=FAILED&q=llm"
SHOTS: Final = (
    ("overview", "/", "light", "en-GB", (1360, 1098)),
    ("jobs-dark", "/jobs", "dark", "en-GB", WIDE),
    ("task", FAILED, "light", "en-GB", WIDE),
    ("overview-phone", "/", "dark", "en-GB", PHONE),
    ("overview-zh", "/", "light", "zh-CN", (1360, 1098)),
    ("jobs-zh-dark", "/jobs", "dark", "zh-CN", WIDE),
    ("task-zh", FAILED, "light", "zh-CN", WIDE),
    ("overview-zh-phone", "/", "dark", "zh-CN", PHONE),
)
"""Name, address, theme, language and size; in each README the pictures of its language."""
SMALLER: Final = """async png => {
  const picture = new Image();
  picture.src = "data:image/png;base64," + png;
  await picture.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return canvas.toDataURL("image/webp", 0.88).split(",")[1];
}"""
"""The same picture as WebP, which is less than half of the bytes."""


def take(base: str) -> None:
    """Every picture, from the pages at ``base``."""
    path = chromium()
    assert path is not None, "there is no Chromium"
    FOLDER.mkdir(exist_ok=True)
    with browser(path) as running:
        empty = running.new_page()
        for name, address, theme, locale, (width, height) in SHOTS:
            options = {"viewport": {"width": width, "height": height}, "color_scheme": theme, "locale": locale}
            with tab(running, **options) as (page, _complaints):
                page.goto(base + address)
                if address.startswith("/tasks?"):
                    page.locator("tbody a").first.click()
                expect(page.locator("#live span")).to_have_text(re.compile(r"\S"))  # the stream is open and says so
                page.evaluate("document.fonts.ready")
                png = page.screenshot(clip={"x": 0, "y": 0, "width": width, "height": height})
            webp = empty.evaluate(SMALLER, base64.b64encode(png).decode())
            (FOLDER / f"{name}.webp").write_bytes(base64.b64decode(webp))


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

"""Web pages: `WebCollector` reads one article, or an index page and the new articles it links to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from loguru import logger

from atlas.collectors.articles import Article, Reading
from atlas.collectors.barren import Barren
from atlas.collectors.errors import SourceError
from atlas.collectors.links import digest, link_key, web_address
from atlas.collectors.memory import NOTHING
from atlas.collectors.page import read_page
from atlas.collectors.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from datetime import datetime

    from atlas.collectors.fetch import Fetched, Fetcher
    from atlas.collectors.memory import Validators
    from atlas.collectors.page import Page
    from atlas.collectors.rss import Source
    from atlas.scheduler.clock import Clock

ACCEPT: Final = "text/html, application/xhtml+xml;q=0.9, */*;q=0.1"
LEAST_TEXT: Final = 60
"""Characters that a page which an index links to must hold to be an article."""
PARSE_S: Final = 60.0
"""Longest wait for the extractor, seconds. It runs in a thread, which cannot be stopped but need not be waited for."""


async def _none_known(_source: str, _keys: Sequence[str]) -> Collection[str]:
    return ()


class WebCollector:
    """Reads a page as an article, or as an index whose linked articles are read.

    Args:
        fetcher: What fetches; open while this collector is in use.
        known_pages: (source, link keys) → those of the keys that are stored already; those pages are not fetched again.
        max_pages: Most pages that one reading of an index fetches; the rest follows with the next one.
        pages_s: Longest time for the pages of one index, seconds; the rest follows with the next reading.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        clock: Clock,
        *,
        known_pages: Callable[[str, Sequence[str]], Awaitable[Collection[str]]] = _none_known,
        max_pages: int = 20,
        pages_s: float = 120.0,
        barren: Barren | None = None,
    ) -> None:
        self._fetcher, self._clock, self._known_pages = fetcher, clock, known_pages
        self._max_pages, self._pages_s = max_pages, pages_s
        self._barren = Barren() if barren is None else barren

    async def read(self, source: Source, known: Validators = NOTHING) -> Reading | None:
        """The article or the new articles of ``source``, None when it says that nothing changed since ``known``.

        Raises:
            SourceError: It cannot be fetched, has neither text nor links, or none of its new pages can be read.
        """
        fetched = await self._fetcher.fetch(source.url, accept=ACCEPT, known=known)
        if fetched is None:
            return None
        at = self._clock.now()
        page = await self._page(fetched, at)
        if page.is_article:
            article = _article(page, source.name, source.url, fetched.address, at)
            return Reading(articles=[article], at=at, validators=fetched.validators)
        by_key = {key: link for link in page.links if (key := link_key(link)) is not None}
        stored = set(await self._known_pages(source.name, list(by_key)))
        new = {key: link for key, link in by_key.items() if key not in stored and key not in self._barren}
        found, all_read = await self._read_pages(source, new, at)
        return Reading(
            articles=found,
            at=at,
            # "Nothing changed" must not hide the pages that are still to be read.
            validators=fetched.validators if all_read else NOTHING,
            seen=tuple(stored),
        )

    async def _read_pages(self, source: Source, new: dict[str, str], at: datetime) -> tuple[list[Article], bool]:
        """The articles of the new pages of an index, and whether all of them were read."""
        until_s = self._clock.monotonic() + self._pages_s
        found: list[Article] = []
        failures: list[SourceError] = []
        asked = 0
        for key, link in list(new.items())[: self._max_pages]:
            if self._clock.monotonic() > until_s:
                break
            asked += 1
            try:
                fetched = await self._fetcher.fetch(link, accept=ACCEPT)
                page = await self._page(fetched, at) if fetched is not None else None
            except SourceError as error:
                failures.append(error)
                if not error.transient:
                    self._barren.add(key)
                logger.info("a page of a source could not be read", source=source.name, page=link, reason=str(error))
                continue
            if fetched is None or page is None or not page.is_article or len(page.text) < LEAST_TEXT:
                self._barren.add(key)
                continue
            found.append(_article(page, source.name, link, fetched.address, at))
        if failures and not found and len(failures) == asked:
            raise SourceError(
                f"none of its {asked} new pages could be read; the first: {failures[0]}",
                transient=all(error.transient for error in failures),
            )
        left = any(error.transient for error in failures) or asked < len(new)
        return found, not left

    async def _page(self, fetched: Fetched, now: datetime) -> Page:
        try:
            async with asyncio.timeout(PARSE_S):
                return await in_thread(read_page, fetched, now=now)
        except TimeoutError as error:
            raise SourceError(f"it could not be parsed within {PARSE_S:g} s") from error
        except SourceError:
            raise
        except Exception as error:  # a page nobody thought of must not take the others of its index with it
            logger.opt(exception=error).error("a page made its collector fail", page=fetched.address)
            raise SourceError(f"unexpected {type(error).__name__}: {error}") from error


def _article(page: Page, source: str, link: str, address: str, at: datetime) -> Article:
    """The page as an article: known by the link that led to it, and stored once per page, whatever led there."""
    key = link_key(link)
    return Article(
        source=source,
        identity=digest(source, key or link),
        link=web_address(address) or web_address(link),
        link_key=link_key(address) or key,
        title=page.title or page.text.partition("\n")[0][:120],
        author=page.author,
        published_at=page.published_at,
        fetched_at=at,
        language=page.language,
        content=page.text,
    )

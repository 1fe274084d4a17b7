"""RSS, Atom and RDF feeds: `RSSCollector` fetches one, `read_feed` turns it into articles."""

from __future__ import annotations

import asyncio
import io
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from feedparser.api import parse

from atlas.collectors.articles import Article, Reading
from atlas.collectors.dates import published_at
from atlas.collectors.encoding import decode
from atlas.collectors.errors import SourceError
from atlas.collectors.links import digest, link_key, web_address
from atlas.collectors.markup import clean, plain, text_of
from atlas.collectors.memory import NOTHING
from atlas.collectors.repair import mended, root_at
from atlas.collectors.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from atlas.collectors.fetch import Fetched, Fetcher
    from atlas.collectors.memory import Validators
    from atlas.scheduler.clock import Clock

ACCEPT: Final = (
    "application/rss+xml, application/atom+xml, application/rdf+xml, application/xml;q=0.9, text/xml;q=0.9, */*;q=0.1"
)
PARSE_S: Final = 60.0
"""Longest wait for the parser, seconds. It runs in a thread, which cannot be stopped but need not be waited for."""

_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
_PASSWORD: Final = re.compile(r"type\s*=\s*[\"']?password", re.IGNORECASE)
_PAGE_TITLE: Final = re.compile(r"<title[^<>]*>([^<]{1,200})", re.IGNORECASE)


class Source(Protocol):
    """A source as the settings name it."""

    @property
    def name(self) -> str:
        """Its name, unique."""

    @property
    def url(self) -> str:
        """Its address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What a feed holds."""

    articles: list[Article]
    """In its order; none if it is valid and empty."""
    whole: bool = True
    """False if it was cut off in the middle."""


class RSSCollector:
    """Reads RSS 0.9–2.0, Atom and RDF feeds; its ``fetcher`` is open meanwhile."""

    def __init__(self, fetcher: Fetcher, clock: Clock) -> None:
        self._fetcher, self._clock = fetcher, clock

    async def read(self, source: Source, known: Validators = NOTHING) -> Reading | None:
        """Everything that ``source`` lists, or None when it says that nothing changed since ``known``.

        Raises:
            SourceError: It cannot be fetched, or is no feed.
        """
        fetched = await self._fetcher.fetch(source.url, accept=ACCEPT, known=known)
        if fetched is None:
            return None
        at = self._clock.now()
        try:
            # The parser takes seconds for a long feed: it must not hold the loop.
            async with asyncio.timeout(PARSE_S):
                found = await in_thread(read_feed, fetched, source=source.name, fetched_at=at)
        except TimeoutError as error:
            raise SourceError(f"it could not be parsed within {PARSE_S:g} s") from error
        # "Nothing changed" must not hide what was cut off.
        return Reading(articles=found.articles, at=at, validators=fetched.validators if found.whole else NOTHING)


def read_feed(fetched: Fetched, *, source: str, fetched_at: datetime) -> Feed:
    """What a fetched feed holds.

    Raises:
        SourceError: It is empty, a web page, or no feed of a known kind.
    """
    if not fetched.body.strip():
        raise SourceError("the answer is empty")
    text = decode(fetched.body, fetched.content_type)
    start = root_at(text)
    root = re.split(r"[\s/>]", text[start + 1 : start + 100], maxsplit=1)[0] if start >= 0 else ""
    if root.lower() in {"html", "head", "body"}:
        raise _page_instead(text)
    parsed = parse(  # type: ignore[no-untyped-call]
        io.BytesIO(mended(text[max(start, 0) :])),  # a str, or plain bytes, would be tried as a file's name first
        response_headers={"content-type": "application/xml; charset=utf-8", "content-location": fetched.address},
        resolve_relative_uris=False,  # nothing of the markup is kept
        sanitize_html=False,
    )
    if not parsed.version:
        raise SourceError(f"it is no feed: it begins with {clean(text[:60])!r}")
    entries, trouble = parsed.entries, parsed.get("bozo_exception")
    whole = trouble is None or f"</{root}" in text[-1000:]
    if not whole:
        entries = entries[:-1]  # half an article would be kept as the whole one
    if trouble is not None and not entries:
        raise SourceError(f"its XML is broken ({trouble})")
    return Feed(articles=_articles(entries, parsed.feed, source=source, fetched_at=fetched_at), whole=whole)


def _page_instead(page: str) -> SourceError:
    kind = "a sign-in page" if _PASSWORD.search(page) else "a web page"
    title = _PAGE_TITLE.search(page)
    if title is None:
        return SourceError(f"{kind} came in place of a feed")
    return SourceError(f"{kind} came in place of a feed: {clean(title[1])!r}")


def _articles(
    entries: Sequence[dict[str, Any]], feed: Mapping[str, Any], *, source: str, fetched_at: datetime
) -> list[Article]:
    links = [_link(entry) for entry in entries]
    keys = [link_key(link) for link in links]
    names = [_name(entry, link) for entry, link in zip(entries, links, strict=True)]
    # What several entries share names none of them: a page that lists them all, a constant guid.
    pages = Counter(key for _name, key in set(zip(names, keys, strict=True)) if key is not None)
    used = {name for name, count in Counter(names).items() if count > 1}
    site = link_key(web_address(feed.get("link") or "") or "")
    found: list[Article] = []
    for entry, link, key, name in zip(entries, links, keys, names, strict=True):
        title, content = _title(entry), _content(entry)
        if not (name or title or content):
            continue
        own_name = name if name and (name not in used or key is None) else key or f"{title}\n{content}"
        found.append(
            Article(
                source=source,
                identity=digest(source, own_name),
                link=link,
                link_key=None if key is None or key == site or pages[key] > 1 else key,
                title=title or content.partition("\n")[0][:120],
                author=_author(entry),
                published_at=_published_at(entry, fetched_at),
                fetched_at=fetched_at,
                language=_language(entry, feed),
                content=content,
            )
        )
    return found


def _link(entry: dict[str, Any]) -> str | None:
    """The address of the entry's own page."""
    others = [one.get("href") for one in entry.get("links", ()) if one.get("rel") == "alternate"]
    return next(
        (link for one in (entry.get("link"), *others, entry.get("id")) if one and (link := web_address(one))), None
    )


def _name(entry: dict[str, Any], link: str | None) -> str:
    """What the feed itself calls the entry, "" if it does not."""
    return clean(entry.get("id") or "") or link or ""


def _title(entry: dict[str, Any]) -> str:
    return clean(_text(entry.get("title_detail") or {"value": entry.get("title") or ""}))[:1000]


def _content(entry: dict[str, Any]) -> str:
    parts = [*entry.get("content", ()), entry.get("summary_detail") or {"value": entry.get("summary") or ""}]
    return next((text for part in parts if (text := _text(part))), "")


def _text(part: Mapping[str, Any]) -> str:
    kind, value = part.get("type") or "text/html", part.get("value") or ""
    if kind == "text/plain":
        return plain(value)
    return text_of(value) if kind in {"text/html", "application/xhtml+xml"} else ""


def _author(entry: dict[str, Any]) -> str | None:
    names = [one.get("name") for one in entry.get("authors", ()) if one.get("name")]
    return clean(text_of(", ".join(dict.fromkeys(names)) or entry.get("author") or ""))[:300] or None


def _published_at(entry: dict[str, Any], now: datetime) -> datetime | None:
    # "updated" is asked last: without it feedparser answers with "published", and warns.
    texts = [entry.get("published"), entry.get("created"), dict.get(entry, "updated")]
    return next((at for text in texts if text and (at := published_at(text, now=now))), None)


def _language(entry: dict[str, Any], feed: Mapping[str, Any]) -> str | None:
    language = (entry.get("title_detail") or {}).get("language") or feed.get("language") or ""
    language = language.strip().replace("_", "-")
    return language if len(language) <= 16 and _LANGUAGE.fullmatch(language) else None

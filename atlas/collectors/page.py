"""Reads a web page: its main text as an article, and the pages it links to. Pure: bytes in, no network.

The bytes are turned into text by `encoding.decode`, which believes them before any declaration, and given on as UTF-8.
trafilatura finds the main text; what a page says of itself (title, time, language) is taken from standard places only.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

from atlas.collectors.dates import published_at
from atlas.collectors.encoding import decode
from atlas.collectors.errors import SourceError
from atlas.collectors.links import link_key, web_address
from atlas.collectors.markup import clean, plain, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from atlas.collectors.fetch import Fetched

MAX_MARKUP: Final = 3_000_000
"""Characters of a page that are read; a longer one is a list of everything, or made to be slow."""
MAX_DEPTH: Final = 400
"""Elements inside each other; more make parsers slow, and no page has them."""
MAX_TAGS: Final = 50_000
"""Tags of a page; twenty times as many hold the extractor for minutes."""
MAX_ATTRIBUTES: Final = 2000
"""Attributes of one element; the parser compares each with all before it, and cannot be stopped."""
MAX_LINKS: Final = 500
ENOUGH_TEXT: Final = 300
"""Characters that make a text an article where nothing else says what the page is; a Chinese one counts as two."""
INDEX_LINKS: Final = 3
"""Links to articles that make a page without a text of its own an index."""

_TYPES: Final = ("", "text/html", "application/xhtml+xml", "text/plain", "application/xml", "text/xml")
_FEED: Final = re.compile(r"\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*<(?:rss|feed|rdf:RDF)\b", re.IGNORECASE | re.DOTALL)
_DECLARATION: Final = re.compile(r"^\s*<\?xml[^>]*\?>")
_CHARSET: Final = re.compile(r"<meta\b[^<>]{0,300}\bcharset\s*=[^<>]{0,300}>", re.IGNORECASE)
_PASSWORD: Final = re.compile(r"type\s*=\s*[\"']?password", re.IGNORECASE)
_START: Final = re.compile(r"<[a-zA-Z](?:=\s*+(?:\"[^\"]*+\"|'[^']*+')|[^>])*+")
"""A start tag as lxml sees it: only a quoted value holds what does not end it."""
_QUOTED: Final = re.compile(r"=\s*+(?:\"[^\"]*+\"|'[^']*+')")
_META: Final = re.compile(r"<meta\b([^<>]{0,2000})>", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(
    r"([\w:-]{1,40})\s*=\s*(?:\"([^\"<>]{0,1000})\"|'([^'<>]{0,1000})'|([^\s\"'<>]{1,1000}))"
)
_LANGUAGE: Final = re.compile(r"<html\b[^<>]{0,500}?\blang\s*=\s*[\"']?([A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8}){0,3})\b")
_TIME: Final = re.compile(r"<time\b[^<>]{0,300}?\bdatetime\s*=\s*[\"']([^\"'<>]{1,60})[\"']", re.IGNORECASE)
_LD_TIME: Final = re.compile(r"\"datePublished\"\s*:\s*\"([^\"]{1,60})\"")
_LD_ARTICLE: Final = re.compile(r"\"@type\"\s*:\s*\[?\s*\"(?:NewsArticle|Article|BlogPosting|ReportageNewsArticle)\"")
_PUBLISHED: Final = (
    "article:published_time",
    "datepublished",
    "og:published_time",
    "parsely-pub-date",
    "publishdate",
    "pubdate",
    "dc.date",
    "dc.date.issued",
    "date",
)
_NO_ARTICLE: Final = re.compile(
    r"/(?:tags?|categor(?:y|ies)|topics?|authors?|about|contact|login|signin|sign-in|register|account|privacy|terms|help"
    r"|search|subscribe|newsletters?|cookies?|feeds?|rss|jobs|advertis\w*|impressum)(?:/|$|\.)"
    r"|\.(?:jpe?g|png|gif|svg|webp|pdf|zip|gz|mp[34]|css|js|xml|rss|atom|json|ico|exe|dmg|docx?|xlsx?)$",
    re.IGNORECASE,
)
_SLUG: Final = re.compile(r"\d{3,}|[^/]+-[^/]+-[^/]+|\.s?html?$|/20\d\d/", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page holds.

    Attributes:
        title: One line, "" if it has none.
        text: Its main text, a line per paragraph; "" if it has none.
        author: One line; None if not given.
        published_at: When it says it was published; None unless that is beyond doubt.
        language: Tag such as ``zh-CN``; None if not given.
        links: Addresses of pages of the same site that look like articles, in their order, each page once.
        is_article: True if the page itself is one, False if it lists others.
    """

    title: str
    text: str
    author: str | None
    published_at: datetime | None
    language: str | None
    links: tuple[str, ...]
    is_article: bool


def read_page(fetched: Fetched, *, now: datetime) -> Page:
    """What a fetched page holds; takes up to seconds for a long one.

    No article is from later than ``now``.

    Raises:
        SourceError: It is empty, no web page, a feed, a sign-in page, or has neither a text nor links to articles.
    """
    kind = fetched.content_type.partition(";")[0].strip().lower()
    if kind not in _TYPES:
        raise SourceError(f"it is no web page but {kind}")
    if not fetched.body.strip():
        raise SourceError("the answer is empty")
    markup = decode(fetched.body, fetched.content_type)[:MAX_MARKUP]
    if "<" not in markup:
        raise SourceError(f"it is no web page: it begins with {clean(markup[:60])!r}")
    if _FEED.match(markup[:5000]):
        raise SourceError("it is a feed: its source should have the type rss")
    _refuse_slow(markup)
    found, tree = _extract(markup, fetched.address)
    text = plain(found.text or "") if found is not None else ""
    first, _, rest = text.partition("\n")
    if found is not None and first == clean(found.title or ""):
        text = rest  # the heading is the title, not the first paragraph
    links, named = _links(tree, fetched.address)
    metas = dict(_metas(markup))
    is_article = _is_article(markup, metas, text, named=named, links=len(links), address=fetched.address)
    if not (text if is_article else links):
        if _PASSWORD.search(markup):
            raise SourceError("a sign-in page came in place of the page")
        raise SourceError("it has no main text, and no links to articles")
    title = clean((found.title if found is not None else "") or metas.get("og:title") or "")
    language = _LANGUAGE.search(markup[:20_000])
    return Page(
        title=title[:1000],
        text=text,
        author=(clean(text_of(found.author or ""))[:300] or None) if found is not None else None,
        published_at=_published_at(markup, metas, now),
        language=language[1].replace("_", "-")[:16] if language else None,
        links=links,
        is_article=is_article,
    )


def _extract(markup: str, address: str) -> tuple[Any, Any]:
    """Trafilatura's document (None if it finds no text) and the tree of the whole page (None if it has none)."""
    from trafilatura import bare_extraction
    from trafilatura.utils import load_html

    # The bytes are UTF-8 now, whatever the page says: what it says goes.
    body = _CHARSET.sub("", _DECLARATION.sub("", markup)).encode("utf-8", "replace")
    try:
        tree = load_html(body)
        if tree is None:
            return None, None
        found = bare_extraction(
            load_html(body),  # a tree of its own: it is taken apart
            url=address,
            favor_precision=True,
            include_comments=False,
            with_metadata=True,
            date_extraction_params={"extensive_search": False, "original_date": True, "max_date": "2000-01-01"},
        )
    except (ValueError, RecursionError, AttributeError, TypeError, IndexError) as error:
        raise SourceError(f"its markup cannot be read ({type(error).__name__}: {error})") from error
    return found, tree


def _refuse_slow(markup: str) -> None:
    if len(re.findall(r"<[a-zA-Z/]", markup)) > MAX_TAGS:
        raise SourceError(f"it has more than {MAX_TAGS:,} tags")
    if any(len(re.split(r"[\s/]+", _QUOTED.sub(" ", tag[0]))) > MAX_ATTRIBUTES for tag in _START.finditer(markup)):
        raise SourceError(f"an element has more than {MAX_ATTRIBUTES:,} attributes")
    depth = most = 0
    for tag in re.finditer(r"<(/?)(?:div|span|table|ul|ol|section|blockquote|font|b|i|em|strong|a)\b", markup):
        depth = max(0, depth - 1) if tag[1] else depth + 1
        most = max(most, depth)
    if most > MAX_DEPTH:
        raise SourceError(f"more than {MAX_DEPTH} of its elements stand inside each other")


def _is_article(markup: str, metas: dict[str, str], text: str, *, named: int, links: int, address: str) -> bool:
    """Whether the page is an article; ``named`` is the length of the names of its links to others."""
    if not text:
        return False
    if metas.get("og:type", "").lower() == "article":
        return True
    if not urlsplit(address).path.strip("/") and links >= INDEX_LINKS:
        return False
    if _LD_ARTICLE.search(markup) and links < 10 * INDEX_LINKS:
        return True
    weight = _weight(text)
    return links < INDEX_LINKS or (weight >= ENOUGH_TEXT and weight > named)


def _weight(text: str) -> int:
    return len(text) + sum("\u3040" <= character <= "\u9fff" or "\uac00" <= character <= "\ud7af" for character in text)


def _links(tree: Any, address: str) -> tuple[tuple[str, ...], int]:
    """The addresses that look like articles of the same site, and how long their names are together."""
    if tree is None:
        return (), 0
    base, own = address, link_key(address)
    with suppress(ValueError):  # a base that is no address counts for nothing
        base = urljoin(address, next((one.get("href") for one in tree.iter("base") if one.get("href")), ""))
    host = _site(address)
    found: dict[str, tuple[str, int]] = {}
    for anchor in tree.iter("a"):
        href = anchor.get("href")
        if not href or len(href) > 2000:
            continue
        try:
            link = web_address(urljoin(base, href.strip()))
        except ValueError:
            continue
        key = link_key(link)
        if link is None or key is None or key == own or _site(link) != host:
            continue
        name = clean("".join(anchor.itertext()))
        path = urlsplit(link).path
        if _NO_ARTICLE.search(path) or not (_weight(name) >= 16 or (_weight(name) >= 8 and _SLUG.search(path))):
            continue
        old = found.get(key)
        found[key] = (link if old is None else old[0], max(_weight(name), 0 if old is None else old[1]))
        if len(found) >= MAX_LINKS:
            break
    return tuple(link for link, _ in found.values()), sum(weight for _, weight in found.values())


def _site(address: str) -> str:
    """The host, without the ``www.`` that some links of a site have and others have not."""
    parts = urlsplit(address)
    host = (parts.hostname or "").removeprefix("www.")
    return host if parts.port is None else f"{host}:{parts.port}"


def _metas(markup: str) -> Iterator[tuple[str, str]]:
    from html import unescape

    for meta in list(_META.finditer(markup[:500_000]))[:500][::-1]:  # backwards, so that the first of a name stays
        values = {name.lower(): a or b or c for name, a, b, c in _ATTRIBUTE.findall(meta[1])}
        name = values.get("property") or values.get("name") or values.get("itemprop")
        if name and "content" in values:
            yield name.lower(), clean(unescape(values["content"]))


def _published_at(markup: str, metas: dict[str, str], now: datetime) -> datetime | None:
    texts = [metas[name] for name in _PUBLISHED if name in metas]
    texts += [found[1] for pattern in (_LD_TIME, _TIME) if (found := pattern.search(markup))]
    return next((at for text in texts if (at := published_at(text, now=now))), None)

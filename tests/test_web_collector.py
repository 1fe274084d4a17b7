"""Web pages against a real server on loopback: the article and nothing else, the new ones of an index, or why not."""

from __future__ import annotations

import gzip
import re
import time
import tracemalloc
import zlib
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.builtin.collect import CollectError, Collection
from atlas.collectors.barren import MAX_BARREN, Barren
from atlas.collectors.errors import SourceError
from atlas.collectors.fetch import Fetched, Fetcher, FetchLimits
from atlas.collectors.memory import NOTHING
from atlas.collectors.page import read_page
from atlas.collectors.web import WebCollector
from atlas.scheduler.clock import SystemClock
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.store.tables import articles
from atlas.settings import Settings
from tests.feed_server import (
    LOOPBACK,
    RSS,
    RSS_TYPE,
    SENTENCES,
    SENTENCES_ZH,
    SIGN_IN,
    FeedServer,
    Handler,
    Item,
    Source,
    document,
    index,
    page,
    redirect,
    rss,
)

if TYPE_CHECKING:
    from atlas.collectors.articles import Article
    from atlas.collectors.page import Page
    from atlas.scheduler.store.store import Store

NOW = datetime(2026, 11, 24, tzinfo=UTC)
MONDAY = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
HTML = "text/html"
TEXT = SENTENCES * 6 + "|" + SENTENCES * 4
TEXT_ZH = SENTENCES_ZH * 6 + "|" + SENTENCES_ZH * 4
TEXT_BIG5 = "今天上午，中央銀行宣布維持利率不變，市場對此早有預期，股市小幅上漲。" * 10
LINKS = tuple((f"/2026/11/story-number-{number}.html", f"Story number {number} of this day") for number in range(1, 6))


async def collected(server: FeedServer, path: str, **limits: object) -> list[Article]:
    allowed = {"allow_hosts": LOOPBACK, "timeout_s": 5.0, **limits}
    async with Fetcher(FetchLimits(**allowed), SystemClock()) as fetcher:  # type: ignore[arg-type]
        reading = await WebCollector(fetcher, SystemClock()).read(Source(server.base + path))
    return [] if reading is None else list(reading.articles)


def read(markup: str | bytes, kind: str = HTML, address: str = "https://news.example/2026/a-story") -> Page:
    body = markup.encode() if isinstance(markup, str) else markup
    return read_page(Fetched(address=address, body=body, content_type=kind, validators=NOTHING), now=NOW)


# --- one page --------------------------------------------------------------------------------------------------------


async def test_a_page_becomes_its_article_without_what_stands_around_it(server: FeedServer) -> None:
    head = (
        '<meta property="og:type" content="article">'
        '<meta property="article:published_time" content="2026-11-23T16:30:00+08:00">'
        '<meta name="author" content="Ada Lovelace">'
    )
    server.routes["/story"] = document(page("The river rose", TEXT, head=head), kind=HTML)
    (article,) = await collected(server, "/story")
    assert article.title == "The river rose"
    assert article.content.count("two metres") == 10
    assert "rights reserved" not in article.content
    assert "About us" not in article.content
    assert article.published_at == MONDAY
    assert (article.author, article.language) == ("Ada Lovelace", "en")
    assert article.link == server.base + "/story"


@pytest.mark.parametrize(
    ("encoding", "head", "kind"),
    [
        pytest.param("gbk", '<meta charset="gb2312">', HTML, id="gbk as it says"),
        pytest.param("gbk", "", "text/html; charset=gbk", id="gbk by the header alone"),
        pytest.param("gbk", '<meta charset="utf-8">', "text/html; charset=utf-8", id="gbk that claims to be utf-8"),
        pytest.param("gbk", "", HTML, id="gbk that says nothing"),
        pytest.param("utf-8", '<meta charset="gb2312">', HTML, id="utf-8 that claims to be gbk"),
        pytest.param("big5", '<meta http-equiv="Content-Type" content="text/html; charset=big5">', HTML, id="big5"),
        pytest.param("utf-16", "", HTML, id="utf-16"),
    ],
)
async def test_chinese_pages_are_right_in_every_encoding(
    server: FeedServer, encoding: str, head: str, kind: str
) -> None:
    big5 = encoding == "big5"
    text, title = (TEXT_BIG5, "央行宣布維持利率不變") if big5 else (TEXT_ZH, "央行宣布维持利率不变")
    markup = page(title, text, head=head, lang="zh-CN")
    server.routes["/zh"] = lambda handler: handler.send(markup.encode(encoding), kind)
    (article,) = await collected(server, "/zh")
    assert article.title == title
    assert article.content.replace("\n", "") == text.replace("|", "")
    assert article.language == "zh-CN"


def test_related_links_do_not_make_an_article_an_index() -> None:
    related = "".join(f'<a href="{href}">{name}</a>' for href, name in LINKS)
    assert read(page("A story", TEXT, related=related)).is_article


def test_an_index_is_no_article_although_it_has_text() -> None:
    teasers = "".join(
        f'<div><h2><a href="{href}">{name}, a rather long headline for a list</a></h2><p>Short teaser.</p></div>'
        for href, name in LINKS
    )
    found = read(f"<html><body><main>{teasers}</main></body></html>", address="https://news.example/")
    assert not found.is_article
    assert found.links == tuple(f"https://news.example{href}" for href, _name in LINKS)


def test_only_pages_of_the_same_site_that_look_like_articles_are_followed() -> None:
    found = read(
        index(
            ("/2026/11/a-real-story-here", "A real story, told at length"),
            ("https://www.news.example/2026/11/another-real-story", "Another real story, told at length"),
            ("https://elsewhere.example/2026/11/not-of-this-site", "A story of another site altogether"),
            ("mailto:desk@news.example", "Write to the desk about a story"),
            ("javascript:void(0)", "Do something or other with this"),
            ("/picture-of-the-day-2026.jpg", "The picture of the day, in full"),
            ("/2026/11/a-real-story-here#comments", "125 comments on this real story"),
            ("/category/politics-and-more", "Politics and more of the same"),
            ("http://[broken", "A story with a broken address"),
            ("/third-real-story-there", "A third real story, told at length"),
        ),
        address="https://news.example/",
    )
    assert [link.partition("news.example")[2] for link in found.links] == [
        "/2026/11/a-real-story-here",
        "/2026/11/another-real-story",
        "/third-real-story-there",
    ]


@pytest.mark.parametrize(
    ("head", "at"),
    [
        pytest.param('<meta name="pubdate" content="2026-11-23T08:30:00Z">', MONDAY, id="meta"),
        pytest.param(
            '<script type="application/ld+json">{"datePublished": "2026-11-23T08:30:00+00:00"}</script>',
            MONDAY,
            id="json-ld",
        ),
        pytest.param('<time datetime="2026-11-23T08:30:00Z">', MONDAY, id="time"),
        pytest.param('<meta name="pubdate" content="2026年3月1日">', None, id="a date that would have to be guessed"),
        pytest.param('<meta name="pubdate" content="2031-01-01T00:00:00Z">', None, id="the future"),
        pytest.param("", None, id="none, although the address holds one"),
    ],
)
def test_the_time_of_a_page_comes_from_standard_places_or_is_not_known(head: str, at: datetime | None) -> None:
    assert read(page("A story", TEXT, head=head), address="https://news.example/2026/11/22/story").published_at == at


# --- what is no page -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "why"),
    [
        pytest.param(b"", HTML, "the answer is empty", id="empty"),
        pytest.param(b"%PDF-1.7", "application/pdf", "it is no web page but application/pdf", id="pdf"),
        pytest.param(b"plain words", "text/plain", "begins with 'plain words'", id="text"),
        pytest.param(RSS.encode(), HTML, "should have the type rss", id="feed"),
        pytest.param(SIGN_IN.encode(), HTML, "a sign-in page", id="sign-in"),
        pytest.param(b"<html><body></body></html>", HTML, "no main text", id="nothing"),
        pytest.param(b"<div>" * 5000 + b"x", HTML, "inside each other", id="depth"),
        pytest.param(b"\x00\xff<\x01>" * 50, HTML, "its|it", id="noise"),
    ],
)
def test_what_is_no_page_says_so(body: bytes, kind: str, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        read(body, kind)


@pytest.mark.parametrize("path", ["/bomb", "/huge", "/loop", "/inward", "/file", "/dies", "/slow", "/nowhere"])
async def test_a_hostile_server_gives_a_named_failure_in_bounded_time(server: FeedServer, path: str) -> None:
    start_s = time.monotonic()
    with pytest.raises(SourceError) as failed:
        await collected(server, path, timeout_s=1.0)
    assert len(str(failed.value)) > 10
    assert time.monotonic() - start_s < 20


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param("<a <a ", id="open tags"),
        pytest.param("<div><a href=/2026/x-y-z>", id="depth"),
        pytest.param("<table><tr><td>", id="tables"),
        pytest.param("<p>x", id="paragraphs"),
        pytest.param('<meta property="og:type" content="', id="open attributes"),
        pytest.param("&#x1f600;", id="references"),
        pytest.param("<!--", id="comments"),
    ],
)
def test_hostile_markup_takes_bounded_time(piece: str) -> None:
    start_s = time.thread_time()
    with suppress(SourceError):
        read("<html><body>" + piece * (200_000 // len(piece)))
    assert time.thread_time() - start_s < 40  # as a rule under two


@pytest.mark.parametrize(
    ("markup", "why"),
    [
        pytest.param("<div " + "a{}=1 " * 20_000 + ">", "attributes", id="attributes"),
        pytest.param("<div x='>' \" < " + "a{} " * 20_000 + ">", "attributes", id="attributes behind quotes"),
        pytest.param("<div " + "a{}/" * 20_000 + ">", "attributes", id="attributes between slashes"),
        pytest.param("<div " + 'a{}="1"' * 20_000 + ">", "attributes", id="attributes side by side"),
        pytest.param("<p>same</p>" * 200_000, "tags", id="tags"),
    ],
)
def test_what_would_hold_the_extractor_for_minutes_is_refused_at_once(markup: str, why: str) -> None:
    numbers = iter(range(20_000))
    start_s = time.thread_time()
    with pytest.raises(SourceError, match=f"more than .* {why}"):
        read("<html><body>" + re.sub(r"\{\}", lambda _: str(next(numbers)), markup) + f"<p>{TEXT}")
    assert time.thread_time() - start_s < 3  # as a rule under a tenth


def test_long_pages_that_are_no_trick_are_read() -> None:
    data = "<script>" + "var x = {a: 1, b: 'two three'};\n" * 5000 + "</script>"
    picture = "<img alt='" + "word " * 5000 + "' src='data:image/png;base64," + "A/" * 50_000 + "'>"
    found = read(page("A long day", TEXT + data + picture + "|".join([TEXT] * 50)))
    assert found.is_article
    assert len(found.text) > 20_000


def test_a_base_that_is_no_address_counts_for_nothing() -> None:
    assert len(read(index(*LINKS, head="<base href='http://[x'>"), address="https://news.example/").links) == len(LINKS)


@given(noise=st.binary(max_size=300))
def test_any_bytes_are_a_page_or_a_named_failure(noise: bytes) -> None:
    with suppress(SourceError):  # nothing else comes out
        read(b"<html><body><p>" + noise)


# --- an index --------------------------------------------------------------------------------------------------------


def news_site(server: FeedServer, links: tuple[tuple[str, str], ...] = LINKS) -> None:
    server.routes["/"] = document(index(*links), kind=HTML)
    for href, name in links:
        server.routes[href] = document(page(name, TEXT.replace("town", name)), kind=HTML)


def collection(
    server: FeedServer, store: Store, *, path: str = "/", barren: Barren | None = None, **changes: object
) -> Collection:
    source = {"name": "site", "url": server.base + path, "type": "web"}
    values = {"sources": [source], "allow_hosts": ["127.0.0.1"], "timeout": 10, **changes}
    return Collection(
        store=store,
        settings=Settings.model_validate({"collect": values}).collect,
        clock=SystemClock(),
        draw=lambda: 0.5,
        retry=RetryPolicy(max_retries=1, delay_s=0.0),
        barren=barren or Barren(),
    )


def titles(store: Store) -> list[str]:
    rows = store.read(lambda connection: connection.execute(articles.select()).all())
    return sorted(row.title for row in rows)


async def test_an_index_gives_its_articles_and_later_only_the_new_ones(server: FeedServer, store: Store) -> None:
    news_site(server)
    first = await collection(server, store).run()
    assert first["by_source"]["site"] == {"status": "ok", "fetched": 5, "new": 5}
    assert titles(store) == [name for _href, name in LINKS]
    before = store.read(lambda connection: connection.execute(articles.select()).all())
    news_site(server, (("/2026/11/story-number-9.html", "Story number 9 of this day"), *LINKS))
    server.requests.clear()
    second = await collection(server, store).run()
    assert second["by_source"]["site"] == {"status": "ok", "fetched": 6, "new": 1}
    assert server.paths() == ["/", "/2026/11/story-number-9.html"]
    after = {row.id: row for row in store.read(lambda connection: connection.execute(articles.select()).all())}
    assert all(after[row.id].seen_at > row.seen_at for row in before)  # they stand in it still: retention spares them


async def test_what_is_too_much_for_one_reading_comes_with_the_next(server: FeedServer, store: Store) -> None:
    news_site(server)

    def conditional(handler: Handler) -> None:
        if handler.headers.get("If-None-Match") == '"i1"':
            handler.start("", 304)
        else:
            handler.send(index(*LINKS).encode(), HTML, ETag='"i1"')

    server.routes["/"] = conditional
    results = [(await collection(server, store, max_pages=2).run())["by_source"]["site"] for _ in range(4)]
    assert [one.get("new", 0) for one in results] == [2, 2, 1, 0]
    assert results[-1]["status"] == "unchanged"


async def test_one_bad_page_takes_no_other_with_it_and_is_not_asked_for_ever(server: FeedServer, store: Store) -> None:
    news_site(server)
    bomb = gzip.compress(b" " * 5_000_000)
    server.routes[LINKS[0][0]] = redirect("http://10.0.0.1/metadata")
    server.routes[LINKS[1][0]] = document("<html><body>nothing here</body></html>", kind=HTML)
    server.routes[LINKS[2][0]] = lambda handler: handler.send(bomb, HTML, Content_Encoding="gzip")
    barren = Barren()
    result = await collection(server, store, barren=barren).run()
    assert result["by_source"]["site"] == {"status": "ok", "fetched": 2, "new": 2}
    server.requests.clear()
    await collection(server, store, barren=barren).run()
    assert server.paths() == ["/"]


async def test_a_page_that_breaks_its_reader_takes_no_other_with_it(
    server: FeedServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    news_site(server)

    def broken(fetched: Fetched, *, now: datetime) -> Page:
        if fetched.address.endswith(LINKS[0][0]):
            raise KeyError("nobody thought of it")
        return read_page(fetched, now=now)

    monkeypatch.setattr("atlas.collectors.web.read_page", broken)
    assert (await collection(server, store).run())["by_source"]["site"] == {"status": "ok", "fetched": 4, "new": 4}


async def test_an_index_none_of_whose_pages_can_be_read_is_a_failure(server: FeedServer, store: Store) -> None:
    server.routes["/"] = document(index(*LINKS), kind=HTML)
    with pytest.raises(CollectError, match=r"none of its 5 new pages could be read; the first: the server answers 404"):
        await collection(server, store).run()


async def test_a_page_that_fails_for_now_is_read_by_the_next_collection(server: FeedServer, store: Store) -> None:
    news_site(server)
    server.routes[LINKS[0][0]] = server.routes["/busy"]
    barren = Barren()
    assert (await collection(server, store, barren=barren).run())["new"] == 4
    news_site(server)
    assert (await collection(server, store, barren=barren).run())["new"] == 1


async def test_a_page_found_on_two_ways_is_stored_once(server: FeedServer, store: Store) -> None:
    news_site(server)
    await collection(server, store).run()
    server.routes["/one?utm_source=mail"] = redirect("{base}" + LINKS[0][0])
    again = await collection(server, store, path="/one?utm_source=mail").run()
    assert again["by_source"]["site"] == {"status": "ok", "fetched": 1, "new": 0}


async def test_an_article_page_that_did_not_change_is_not_read_again(server: FeedServer) -> None:
    def conditional(handler: Handler) -> None:
        if handler.headers.get("If-None-Match") == '"p1"':
            handler.start("", 304)
        else:
            handler.send(page("A story", TEXT).encode(), HTML, ETag='"p1"')

    server.routes["/story"] = conditional
    async with Fetcher(FetchLimits(allow_hosts=LOOPBACK), SystemClock()) as fetcher:
        collector = WebCollector(fetcher, SystemClock())
        source = Source(server.base + "/story")
        reading = await collector.read(source)
        assert reading is not None
        assert await collector.read(source, reading.validators) is None


def test_barren_pages_are_forgotten_in_the_end() -> None:
    barren = Barren()
    for number in range(MAX_BARREN + 1):
        barren.add(str(number))
    assert "0" not in barren
    assert str(MAX_BARREN) in barren


# --- everything hostile at once --------------------------------------------------------------------------------------

WEB_TOO = ("bomb", "huge", "dies", "loop", "inward", "busy")


def bomb() -> bytes:
    """200 kB that unpack to 200 MB."""
    packer, piece = zlib.compressobj(1, wbits=31), bytes(1_000_000)
    return b"".join([*(packer.compress(piece) for _ in range(200)), packer.flush()])


@pytest.mark.timeout(300)  # memory is traced, which takes twenty seconds of CPU
async def test_a_hostile_world_costs_no_good_source_its_articles_and_is_named_in_bounded_memory(
    server: FeedServer, store: Store
) -> None:
    news_site(server)
    body = bomb()
    server.routes["/bomb"] = lambda handler: handler.send(body, RSS_TYPE, Content_Encoding="gzip")
    items = [Item(f"Item {number}", f"https://many.example/{number}", f"m-{number}") for number in range(5000)]
    server.routes["/many"] = document(rss(*items))
    good = {"rss": 2, "gbk": 1, "big5": 1, "lies": 0, "many": 5000}  # "lies" is the article of "gbk" again
    bad = {
        "bomb": "100 times",
        "huge": "longer than",
        "dies": "connection failed",
        "loop": "redirects",
        "inward": "link-local",
        "file": "only http and https",
        "entities": "entities",
        "empty": "empty",
        "sign-in": "sign-in page",
        "busy": "503",
    }
    sources = [
        *({"name": name, "url": f"{server.base}/{name}"} for name in (*good, *bad)),
        *({"name": f"web {name}", "url": f"{server.base}/{name}", "type": "web"} for name in WEB_TOO),
        {"name": "site", "url": server.base + "/", "type": "web"},
    ]
    tracemalloc.start()
    try:
        start_s = time.process_time()
        result = await collection(server, store, sources=sources, timeout=240, per_host=8).run()
        took_s, (_now, peak) = time.process_time() - start_s, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    told = result["by_source"]
    assert {name: told[name].get("new") for name in good if name not in {"gbk", "lies"}} == {
        name: new for name, new in good.items() if name not in {"gbk", "lies"}
    }
    assert told["gbk"]["new"] + told["lies"]["new"] == 1
    assert told["site"]["new"] == 5
    for name, why in bad.items():
        assert re.search(why, told[name]["reason"]), name
        if name in WEB_TOO:
            assert re.search(why, told[f"web {name}"]["reason"]), name
    assert took_s < 55
    assert peak < 250_000_000

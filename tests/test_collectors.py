"""The collectors against a real server on loopback: right articles, or a failure that says why."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from atlas.collectors import rss as rss_module
from atlas.collectors.articles import store_articles
from atlas.collectors.dates import published_at
from atlas.collectors.encoding import decode
from atlas.collectors.errors import SourceError
from atlas.collectors.fetch import Fetched, Fetcher, FetchLimits
from atlas.collectors.guard import refusal
from atlas.collectors.links import link_key, normalised, web_address
from atlas.collectors.markup import MAX_TEXT, text_of
from atlas.collectors.memory import NOTHING, Validators, recall, remember_failure, remember_reading, remember_unchanged
from atlas.collectors.repair import mended, root_at
from atlas.collectors.rss import Feed, RSSCollector, read_feed
from atlas.scheduler.clock import SystemClock
from atlas.scheduler.store.tables import articles, sources
from atlas.scheduler.testing.clocks import SetClock
from tests.feed_server import CHINESE, LOOPBACK, RSS, FeedServer, Handler, Item, Source, document, redirect, rss

if TYPE_CHECKING:
    from atlas.collectors.articles import Article
    from atlas.scheduler.store.store import Store

NOW = datetime(2026, 11, 24, tzinfo=UTC)


async def collected(server: FeedServer, path: str, **limits: object) -> list[Article]:
    """The articles behind ``path``."""
    allowed = {"allow_hosts": LOOPBACK, "timeout_s": 5.0, **limits}
    async with Fetcher(FetchLimits(**allowed), SystemClock()) as fetcher:  # type: ignore[arg-type]
        reading = await RSSCollector(fetcher, SystemClock()).read(Source(server.base + path))
    return [] if reading is None else list(reading.articles)


async def reason(server: FeedServer, path: str, **limits: object) -> str:
    """Why ``path`` could not be collected."""
    with pytest.raises(SourceError) as failed:
        await collected(server, path, **limits)
    return str(failed.value)


def feed(text: str | bytes, kind: str = "application/xml") -> list[Article]:
    """The articles of a document, without a server."""
    body = text.encode() if isinstance(text, str) else text
    fetched = Fetched(address="https://news.example/feed", body=body, content_type=kind, validators=NOTHING)
    return read_feed(fetched, source="example", fetched_at=NOW).articles


# --- feeds of every kind ---------------------------------------------------------------------------------------------


async def test_rss_becomes_articles_with_plain_text_and_exact_times(server: FeedServer) -> None:
    rates, rain = await collected(server, "/rss")
    assert (rates.title, rates.content) == ("Rates stay", "The bank waits.\nAgain.")
    assert rates.link == "https://news.example/rates?utm_source=rss"
    assert rates.published_at == datetime(2026, 11, 23, 0, 30, tzinfo=UTC)
    assert rates.source == "example"
    assert (rain.title, rain.content) == ("Rain & wind", "Umbrellas < coats")


async def test_atom_keeps_author_language_and_the_address_behind_a_relative_link(server: FeedServer) -> None:
    (fish,) = await collected(server, "/atom")
    assert (fish.title, fish.author, fish.language) == ("Fish & chips", "Ada", "de-DE")
    assert fish.link == f"{server.base}/fish"
    assert fish.content == "One\nTwo < three"
    assert fish.published_at == datetime(2026, 11, 23, 9, tzinfo=UTC)


async def test_rdf_is_read_with_its_dublin_core(server: FeedServer) -> None:
    (first,) = await collected(server, "/rdf")
    assert (first.title, first.author, first.language) == ("Premier", "Jean", "fr")
    assert first.published_at == datetime(2026, 11, 23, 7, tzinfo=UTC)


async def test_a_bare_ampersand_and_an_html_entity_do_not_mangle_a_feed(server: FeedServer) -> None:
    tom, second = await collected(server, "/broken")
    assert tom.title == "Tom & Jerry live"
    assert tom.link == "https://broken.example/a?x=1&y=2"
    assert second.link == "https://broken.example/b"


@pytest.mark.parametrize("path", ["/utf8", "/gbk", "/lies"])
async def test_chinese_is_right_whatever_the_feed_says_of_its_encoding(server: FeedServer, path: str) -> None:
    (article,) = await collected(server, path)
    assert (article.title, article.content) == (CHINESE.title, "今天上午，央行宣布维持利率不变。")


async def test_big5_is_right(server: FeedServer) -> None:
    (article,) = await collected(server, "/big5")
    assert (article.title, article.content) == ("央行維持利率不變", "今天上午，央行宣布維持利率不變。")


async def test_a_valid_empty_feed_is_a_success(server: FeedServer) -> None:
    assert await collected(server, "/empty-feed") == []


async def test_a_packed_feed_is_unpacked(server: FeedServer) -> None:
    assert len(await collected(server, "/gzip")) == 2


async def test_a_moved_feed_is_followed(server: FeedServer) -> None:
    assert len(await collected(server, "/moved")) == 2


async def test_five_thousand_items_are_read_in_seconds(server: FeedServer) -> None:
    many = rss(*(Item(f"Item {n}", f"https://news.example/{n}", text="word " * 20) for n in range(5000)))
    server.routes["/many"] = document(many)
    started = time.process_time()
    assert len(await collected(server, "/many", timeout_s=20.0)) == 5000
    assert time.process_time() - started < 30


# --- failures that say why -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nowhere", "404: there is nothing at this address"),
        ("/busy", "503"),
        ("/empty", "the answer is empty"),
        ("/page", "a web page came in place of a feed: 'Home'"),
        ("/sign-in", "a sign-in page came in place of a feed: 'Please log in'"),
        ("/entities", "declares entities"),
        ("/bomb", "more than 100 times its size"),
        ("/huge", "longer than 10,000,000 bytes"),
        ("/loop", "more than 5 redirects"),
        ("/inward", "169.254.169.254 has the link-local address"),
        ("/file", "only http and https"),
        ("/dies", "the connection failed"),
    ],
)
async def test_a_source_that_cannot_be_collected_says_why(server: FeedServer, path: str, why: str) -> None:
    assert why in await reason(server, path)


async def test_the_deadline_covers_a_body_that_drips(server: FeedServer) -> None:
    started = time.monotonic()
    assert "no complete answer within 0.4 s" in await reason(server, "/slow", timeout_s=0.4)
    assert time.monotonic() - started < 2


async def test_the_deadline_covers_a_chain_of_slow_redirects(server: FeedServer) -> None:
    def late(handler: Handler) -> None:
        server.stopping.wait(0.2)
        handler.send(b"", status=302, Location=f"/late{len(server.requests)}")

    server.routes |= {f"/late{number}": late for number in range(10)}
    assert "no complete answer within 0.5 s" in await reason(server, "/late0", timeout_s=0.5)


async def test_nobody_listening_is_a_passing_failure() -> None:
    with FeedServer() as gone:
        base = gone.base
    async with Fetcher(FetchLimits(allow_hosts=LOOPBACK), SystemClock()) as fetcher:
        with pytest.raises(SourceError, match="the connection failed") as failed:
            await fetcher.fetch(base)
    assert failed.value.transient


@pytest.mark.parametrize(
    ("path", "transient"), [("/busy", True), ("/dies", True), ("/nowhere", False), ("/bomb", False), ("/inward", False)]
)
async def test_only_failures_that_may_pass_are_worth_a_retry(server: FeedServer, path: str, transient: bool) -> None:
    with pytest.raises(SourceError) as failed:
        await collected(server, path)
    assert failed.value.transient is transient


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("Tue, 24 Nov 2026 00:01:00 GMT", 60.0), ("soon", None), ("-1", None)]
)
async def test_retry_after_is_read_as_seconds(server: FeedServer, header: str, seconds: float | None) -> None:
    server.routes["/wait"] = lambda handler: handler.send(b"", status=429, Retry_After=header)
    async with Fetcher(FetchLimits(allow_hosts=LOOPBACK), SetClock(NOW)) as fetcher:
        with pytest.raises(SourceError) as failed:
            await fetcher.fetch(server.base + "/wait")
    assert failed.value.retry_after_s == seconds


async def test_a_packing_nobody_asked_for_is_refused(server: FeedServer) -> None:
    server.routes["/br"] = lambda handler: handler.send(b"\x0b\x02\x80", Content_Encoding="br")
    assert "packed as 'br'" in await reason(server, "/br")


@pytest.mark.parametrize(
    ("body", "why"),
    [(b"not gzip at all", "is not gzip as it says"), (b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb", "ends in the middle")],
)
async def test_a_body_that_is_not_packed_as_it_says_is_a_failure(server: FeedServer, body: bytes, why: str) -> None:
    server.routes["/lie"] = lambda handler: handler.send(body, Content_Encoding="gzip")
    assert why in await reason(server, "/lie")


async def test_a_servers_words_cannot_forge_a_second_line(server: FeedServer) -> None:
    server.routes["/forge"] = document("<html><title>x\n\x1b[31m2026 ERROR forged</title></html>", kind="text/html")
    text = await reason(server, "/forge")
    assert "\n" not in text
    assert "\x1b" not in text


# --- the guard -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1",
        "ff02::1",
        "2001:db8::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_an_address_outside_the_public_internet_is_refused(address: str) -> None:
    assert refusal(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_not_refused(address: str) -> None:
    assert refusal(address) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1"])
async def test_no_spelling_of_loopback_is_reached(server: FeedServer, host: str) -> None:
    async with Fetcher(FetchLimits(), SystemClock()) as fetcher:
        with pytest.raises(SourceError, match="has the loopback address"):
            await fetcher.fetch(f"http://{host}:{server.port}/rss")
    assert server.requests == []


async def test_a_redirect_to_a_host_that_is_not_allowed_is_not_followed(server: FeedServer) -> None:
    server.routes["/hop"] = redirect(f"http://localhost:{server.port}/rss")
    assert "localhost has the loopback address" in await reason(server, "/hop")
    assert server.paths() == ["/hop"]


async def test_the_connection_goes_to_the_address_that_was_checked(server: FeedServer) -> None:
    asked: list[str] = []

    async def names(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    limits = FetchLimits(allow_hosts=frozenset({"feeds.internal"}))
    async with Fetcher(limits, SystemClock(), resolve=names) as fetcher:
        fetched = await fetcher.fetch(f"http://feeds.internal:{server.port}/moved-by-name")
        assert fetched is not None
    assert asked == ["feeds.internal", "feeds.internal"]  # once per hop, never once more to connect


@pytest.fixture(autouse=True)
def _named(server: FeedServer) -> None:
    server.routes["/moved-by-name"] = redirect("/rss")


async def test_the_server_is_told_the_name_not_the_address(server: FeedServer) -> None:
    async def names(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    limits = FetchLimits(allow_hosts=frozenset({"feeds.internal"}), user_agent="atlas-test")
    async with Fetcher(limits, SystemClock(), resolve=names) as fetcher:
        fetched = await fetcher.fetch(f"http://reader:secret@Feeds.Internal:{server.port}/rss")
    assert fetched is not None
    assert fetched.address == f"http://feeds.internal:{server.port}/rss"
    _path, headers = server.requests[0]
    assert headers["Host"] == f"feeds.internal:{server.port}"
    assert headers["User-Agent"] == "atlas-test"
    assert headers["Authorization"].startswith("Basic ")


async def test_the_next_address_is_tried_when_one_does_not_answer(server: FeedServer) -> None:
    async def names(_host: str, _port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]  # nobody listens on the first

    async with Fetcher(FetchLimits(allow_hosts=frozenset({"two"})), SystemClock(), resolve=names) as fetcher:
        assert await fetcher.fetch(f"http://two:{server.port}/rss") is not None


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    async def names(_host: str, _port: int) -> list[str]:
        return ["8.8.8.8", "10.0.0.1"]

    async with Fetcher(FetchLimits(), SystemClock(), resolve=names) as fetcher:
        with pytest.raises(SourceError, match=r"has the private address 10\.0\.0\.1"):
            await fetcher.fetch("http://mixed.example/")


async def test_proxies_of_the_environment_are_not_used(server: FeedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert len(await collected(server, "/rss")) == 2


async def test_a_name_server_that_does_not_answer_holds_no_thread_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers = threading.Semaphore(0), threading.Event()

    def silent(*_args: object, **_more: object) -> list[Any]:
        asked.release()
        answers.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with Fetcher(FetchLimits(), SystemClock()) as fetcher, asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetcher.fetch(f"http://{host}.example/")) for host in "abc"]
        try:
            async with asyncio.timeout(10):
                assert await asyncio.to_thread(asked.acquire, timeout=15)
            for task in tasks:
                task.cancel()
        finally:
            answers.set()


# --- asking again ----------------------------------------------------------------------------------------------------


async def test_an_unchanged_feed_is_not_sent_twice(server: FeedServer) -> None:
    async with Fetcher(FetchLimits(allow_hosts=LOOPBACK), SystemClock()) as fetcher:
        collector = RSSCollector(fetcher, SystemClock())
        first = await collector.read(Source(server.base + "/conditional"))
        assert first is not None
        assert first.validators == Validators(etag='"v1"', last_modified="Mon, 23 Nov 2026 00:00:00 GMT")
        assert await collector.read(Source(server.base + "/conditional"), first.validators) is None


async def test_a_feed_that_was_cut_off_is_sent_again_as_a_whole(server: FeedServer) -> None:
    def once_cut(handler: Handler) -> None:
        text = RSS if len(server.requests) > 1 else RSS[: RSS.index("</item>") + 30]
        if handler.headers.get("If-None-Match") == '"v1"':
            handler.start("", 304)
        else:
            handler.send(text.encode(), ETag='"v1"')

    server.routes["/cut"] = once_cut
    async with Fetcher(FetchLimits(allow_hosts=LOOPBACK), SystemClock()) as fetcher:
        collector = RSSCollector(fetcher, SystemClock())
        first = await collector.read(Source(server.base + "/cut"))
        assert first is not None
        again = await collector.read(Source(server.base + "/cut"), first.validators)
        assert again is not None
        assert (len(first.articles), len(again.articles)) == (1, 2)
        assert again.validators == Validators(etag='"v1"')


async def test_not_modified_without_a_question_is_a_failure(server: FeedServer) -> None:
    server.routes["/304"] = lambda handler: handler.start("", 304)
    assert "304" in await reason(server, "/304")


async def test_a_validator_that_no_header_can_carry_is_forgotten(server: FeedServer) -> None:
    server.routes["/odd"] = document(RSS, ETag="é" * 3, Last_Modified="x" * 2000)
    async with Fetcher(FetchLimits(allow_hosts=LOOPBACK), SystemClock()) as fetcher:
        fetched = await fetcher.fetch(server.base + "/odd")
    assert fetched is not None
    assert fetched.validators == NOTHING


# --- one article, once -----------------------------------------------------------------------------------------------


def test_an_article_seen_twice_is_stored_once(store: Store) -> None:
    found = feed(RSS)
    assert store.write(lambda connection: store_articles(connection, found)) == 2
    assert store.write(lambda connection: store_articles(connection, found)) == 0


def test_two_sources_with_the_same_page_store_it_once(store: Store) -> None:
    ours = feed(rss(Item("A", "https://news.example/a?utm_source=ours", "1")))
    fetched = Fetched(
        address="https://other.example/",
        body=rss(Item("A again", "http://news.example/a/#top", "other-guid")).encode(),
        content_type="",
        validators=NOTHING,
    )
    theirs = read_feed(fetched, source="other", fetched_at=NOW).articles
    assert store.write(lambda connection: store_articles(connection, ours)) == 1
    assert store.write(lambda connection: store_articles(connection, theirs)) == 0
    assert store.read(lambda connection: connection.execute(select(articles.c.title)).scalars().all()) == ["A"]


def test_the_same_article_twice_in_one_feed_is_stored_once(store: Store) -> None:
    found = feed(rss(Item("A", "https://news.example/a", "1"), Item("A", "https://news.example/a", "1")))
    assert store.write(lambda connection: store_articles(connection, found)) == 1


def test_entries_that_all_link_to_one_page_are_all_kept(store: Store) -> None:
    found = feed(rss(*(Item(f"Change {n}", "https://news.example/changes", f"c{n}") for n in range(3))))
    assert store.write(lambda connection: store_articles(connection, found)) == 3


def test_entries_that_link_to_the_front_page_are_told_apart_by_their_names(store: Store) -> None:
    for n in range(3):
        found = feed(rss(Item(f"Status {n}", "https://news.example/", f"s{n}")))
        assert store.write(partial(store_articles, found=found)) == 1


def test_entries_with_one_constant_guid_are_told_apart_by_their_pages(store: Store) -> None:
    found = feed(rss(*(Item(f"T{n}", f"https://news.example/{n}", "same") for n in range(3))))
    assert store.write(lambda connection: store_articles(connection, found)) == 3


def test_articles_without_any_address_are_stored(store: Store) -> None:
    found = feed(rss(Item("Only a title"), Item("Another", text="with text")))
    assert [article.link for article in found] == [None, None]
    assert store.write(lambda connection: store_articles(connection, found)) == 2
    assert store.write(lambda connection: store_articles(connection, found)) == 0


def test_an_article_that_still_stands_in_its_source_is_marked_as_seen(store: Store) -> None:
    store.write(lambda connection: store_articles(connection, feed(RSS)))
    later = datetime(2026, 11, 25, tzinfo=UTC)
    fetched = Fetched(address="https://news.example/feed", body=RSS.encode(), content_type="", validators=NOTHING)
    again = read_feed(fetched, source="example", fetched_at=later).articles
    store.write(lambda connection: store_articles(connection, again))
    rows = store.read(lambda connection: connection.execute(select(articles.c.fetched_at, articles.c.seen_at)).all())
    assert {tuple(row) for row in rows} == {(NOW.timestamp(), later.timestamp())}


def test_what_is_remembered_of_a_source_follows_its_answers(store: Store) -> None:
    known = Validators(etag='"1"', last_modified="yesterday")

    def row() -> tuple[object, ...]:
        return tuple(store.read(lambda connection: connection.execute(select(sources)).one()))

    store.write(lambda connection: remember_reading(connection, "s", "http://a/", known, NOW))
    assert store.read(recall) == {("s", "http://a/"): known}
    at = NOW.timestamp()
    store.write(lambda connection: remember_failure(connection, "s", "http://a/", "503", NOW))
    store.write(lambda connection: remember_failure(connection, "s", "http://a/", "503", NOW))
    assert row() == ("s", "http://a/", '"1"', "yesterday", at, at, 2, "503")
    store.write(lambda connection: remember_failure(connection, "s", "http://a/", "https://me:pa55@a/ broke", NOW))
    assert row()[-1] == "https://[hidden]@a/ broke"
    store.write(lambda connection: remember_unchanged(connection, "s", "http://a/", NOW))
    assert row() == ("s", "http://a/", '"1"', "yesterday", at, at, 0, None)


def test_a_source_that_moved_is_asked_anew(store: Store) -> None:
    store.write(lambda connection: remember_reading(connection, "s", "http://a/", Validators(etag='"1"'), NOW))
    assert ("s", "http://b/") not in store.read(recall)
    store.write(lambda connection: remember_failure(connection, "s", "http://b/", "503", NOW))
    assert store.read(recall) == {("s", "http://b/"): NOTHING}


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.example/x", "http://a.example:80/x"),
        ("https://A.Example/x", "https://a.example/x/"),
        ("https://a.example/x?b=2&a=1", "https://a.example/x?a=1&b=2"),
        ("https://a.example/x?utm_source=rss&fbclid=1", "https://a.example/x#comments"),
        ("https://a.example/%7Ejoe/%e4%bd%a0", "https://a.example/~joe/你"),
        ("https://例え.jp/x", "https://xn--r8jz45g.jp/x"),
    ],
)
def test_spellings_of_one_page_have_one_key(one: str, other: str) -> None:
    assert link_key(one) == link_key(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.example/x?id=1", "https://a.example/x?id=2"),
        ("https://a.example/x", "https://b.example/x"),
        ("https://a.example:8080/x", "https://a.example/x"),
        ("https://a.example/#!/x", "https://a.example/#!/y"),
        ("https://a.example/X", "https://a.example/x"),
    ],
)
def test_different_pages_have_different_keys(one: str, other: str) -> None:
    assert link_key(one) != link_key(other)


@pytest.mark.parametrize("site", ["https://a.example", "https://a.example/", "https://a.example/?utm_medium=rss"])
def test_a_whole_site_is_no_page(site: str) -> None:
    assert link_key(site) is None


@pytest.mark.parametrize(
    "text", ["javascript:alert(1)", "ftp://a/b", "/x", "", "http://[::1", "http:///x", "http://a:99999/", "mailto:a@b"]
)
def test_what_is_no_web_address_is_no_link(text: str) -> None:
    assert web_address(text) is None


def test_a_link_loses_its_password() -> None:
    assert web_address("https://me:secret@a.example:8443/x") == "https://a.example:8443/x"


@given(st.text(max_size=30), st.text(max_size=30))
def test_normalising_twice_changes_nothing(path: str, query: str) -> None:
    page = normalised(f"https://a.example/{quote(path, errors='replace')}?q={quote(query, errors='replace')}")
    assert page is not None
    assert normalised("https:" + page) == page


# --- dates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("Mon, 23 Nov 2026 08:30:00 +0800", datetime(2026, 11, 23, 0, 30, tzinfo=UTC)),
        ("23 Nov 2026 08:30 GMT", datetime(2026, 11, 23, 8, 30, tzinfo=UTC)),
        ("Mon, 23 Nov 2026 08:30:00 -0000", datetime(2026, 11, 23, 8, 30, tzinfo=UTC)),
        ("Monday, 23 November 2026 08:30:00 EST", datetime(2026, 11, 23, 13, 30, tzinfo=UTC)),
        ("Mon, 23 Nov 26 08:30:00 +08:00", datetime(2026, 11, 23, 0, 30, tzinfo=UTC)),
        ("2026-11-23T08:30:00Z", datetime(2026, 11, 23, 8, 30, tzinfo=UTC)),
        ("2026-11-23t08:30:00.123456789+08:00", datetime(2026, 11, 23, 0, 30, 0, 123456, tzinfo=UTC)),
        ("2026-11-23 08:30:00 +0800", datetime(2026, 11, 23, 0, 30, tzinfo=UTC)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
    ],
)
def test_a_date_in_a_standard_shape_is_read_exactly(text: str, at: datetime) -> None:
    assert published_at(text, now=NOW) == at


@pytest.mark.parametrize(
    "text",
    [
        "2026年3月1日", "03/04/2026", "2026-11-23 08:30:00", "2026-11-23T08:30:00", "Mon, 23 Nov 2026 08:30:00",
        "yesterday",
        "Mon, 23 Nov 2026 08:30:00 BST", "Mon, 31 Feb 2026 08:30:00 GMT", "1970-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "2099-01-01T00:00:00Z", "2026-13-01", "2026", "20261123", "", "１９９９-01-01", "9" * 100_000,
    ],
)  # fmt: skip
def test_a_date_that_would_have_to_be_guessed_is_none(text: str) -> None:
    assert published_at(text, now=NOW) is None


def test_an_article_with_a_date_nobody_can_trust_has_none() -> None:
    (article,) = feed(rss(Item("A", "https://news.example/a", "1", "2026年3月1日")))
    assert article.published_at is None


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>a</p>\n<p>b\n c</p>", "a\nb c"),
        ("a<br/>b<hr>c", "a\nb\nc"),
        ("a <b>bold</b>, <a href='x'>link</a>", "a bold, link"),
        ("x<script>alert('<p>')</script>y<STYLE>p{}</STYLE>z", "xyz"),
        ("<!-- hidden <p> -->seen", "seen"),
        ("seen<!-- never closed", "seen"),
        ('<img alt="a > b">after', "after"),
        ("1 < 2 & 3 > 2", "1 < 2 & 3 > 2"),
        ("&lt;b&gt; &amp;amp; &#20320;&nbsp;", "<b> &amp; 你"),
        ("a\x00\x07\x1b[31m\u2028b", "a[31m\nb"),
        ("&#99999999999999999999999;&#xD800;", "\ufffd\ufffd"),
        ("<ul><li>one<li>two</ul>", "one\ntwo"),
        ("<svg><title>t</title></svg>x", "x"),
        ("", ""),
    ],
)
def test_markup_becomes_text(markup: str, text: str) -> None:
    assert text_of(markup) == text


@given(st.text(alphabet=st.sampled_from("<>/!-?abp \"'=&#;x1\n"), max_size=200))
def test_no_markup_breaks_the_stripper(markup: str) -> None:
    text = text_of(markup)
    assert text == "\n".join(line.strip() for line in text.split("\n") if line.strip())


def test_a_very_long_article_is_cut_and_says_so() -> None:
    text = text_of("word " * 100_000)
    assert len(text) == MAX_TEXT
    assert text.endswith("…")


@pytest.mark.parametrize(
    "piece",
    [
        "<a ",
        "<!--",
        "</",
        "<a b='",
        '<a b="',
        "<?",
        "&#",
        "<![CDATA[",
        "<script>",
        "<",
        "&amp;",
        "<p>",
        "\n",
        "<a =",
        "a",
    ],
)
def test_hostile_text_takes_no_more_than_time_in_line_with_its_length(piece: str) -> None:
    long = piece * (300_000 // len(piece))
    started = time.process_time()
    text_of(long)
    root_at(long)
    with suppress(SourceError):
        mended(long)
    decode(long.encode())
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("\n" * 300_000 + RSS, id="line breaks first"),
        pytest.param(rss(Item("x")).replace("</item>", "<category>1</category>" * 20_000 + "</item>"), id="categories"),
        pytest.param(rss(Item("x")).replace("</item>", f"<author>{'a' * 300_000}</author></item>"), id="one long word"),
        pytest.param(
            rss(Item("x")).replace("</item>", "<pubDate>" + "Mon, " * 50_000 + "</pubDate></item>"), id="date"
        ),
    ],
)
def test_a_feed_made_to_be_slow_is_read_in_time(document: str) -> None:
    started = time.process_time()
    assert feed(document)
    assert time.process_time() - started < 5


def test_a_tag_with_thousands_of_attributes_is_refused() -> None:
    with pytest.raises(SourceError, match="attributes"):
        feed(rss(Item("x")).replace("</item>", "<x " + " ".join(f"a{n}='1'" for n in range(5000)) + "/></item>"))


# --- documents that are not quite right ------------------------------------------------------------------------------


def test_the_last_entry_of_a_document_that_breaks_off_is_left_out() -> None:
    whole = rss(
        Item("A", "https://news.example/a", "1", text="all of it"),
        Item("B", "https://news.example/b", "2", text="half of it"),
    )
    assert [article.title for article in feed(whole[: whole.index("of it", whole.index("half"))])] == ["A"]


def test_an_entity_in_an_article_about_entities_is_no_attack() -> None:
    (article,) = feed(rss(Item("XXE", "https://news.example/x", "1", text='<!DOCTYPE a [<!ENTITY b "c">]>')))
    assert article.title == "XXE"


@pytest.mark.parametrize(
    "head",
    [
        "<!DOCTYPE rss [<!ENTITY x 'y'>]>",
        "<!-- <rss> --><!DOCTYPE rss [ <!entity % x 'y'>]>",
        "<?x <rss>?><!DOCTYPE r [<!ENTITY x '<a'>]>",
    ],
)
def test_declared_entities_are_found_wherever_they_hide_in_the_prolog(head: str) -> None:
    with pytest.raises(SourceError, match="declares entities"):
        feed(rss(Item("x"), head=head))


def test_entities_in_utf16_are_found_as_well() -> None:
    with pytest.raises(SourceError, match="declares entities"):
        feed(rss(Item("x"), head="<!DOCTYPE rss [<!ENTITY x 'y'>]>").encode("utf-16"))


def test_a_plain_doctype_is_no_obstacle() -> None:
    assert feed(rss(Item("x"), head='<!DOCTYPE rss SYSTEM "http://my.netscape.com/publish/formats/rss-0.91.dtd">'))


@pytest.mark.parametrize("text", ["{}", "plain words", "<svg></svg>", "<", "\0\0\0"])
def test_what_is_no_feed_is_named_as_none(text: str) -> None:
    with pytest.raises(SourceError, match="it is no feed"):
        feed(text)


def test_a_file_name_as_body_opens_no_file() -> None:
    with pytest.raises(SourceError, match="it is no feed"):
        feed("/etc/passwd")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "gb18030", "hz"])
def test_text_in_an_encoding_it_shows_or_names_is_read(encoding: str) -> None:
    text = rss(CHINESE, head=f'<?xml version="1.0" encoding="{encoding}"?>')
    assert feed(text.encode(encoding))[0].title == CHINESE.title


def test_a_few_broken_bytes_do_not_turn_utf8_into_something_else() -> None:
    body = (rss(*(CHINESE,) * 10)).encode().replace(b"</channel>", b"<x>\xe5\xa4</x></channel>")
    assert feed(body)[0].title == CHINESE.title


def test_western_text_that_claims_to_be_utf8_is_not_read_as_chinese() -> None:
    assert "été à la plage" in decode("<p>été à la plage, déjà vu</p>".encode("cp1252"), "text/html; charset=utf-8")


@pytest.mark.parametrize("name", ["punycode", "unicode_escape", "rot13", "hex", "no-such", "utf-16", "idna"])
def test_an_encoding_no_document_has_is_not_believed(name: str) -> None:
    assert decode(f"<?xml version='1.0' encoding='{name}'?><a>é</a>".encode("latin-1")).endswith("<a>é</a>")


@given(
    st.binary(max_size=300),
    st.sampled_from(["", "text/xml; charset=gbk", "a; charset=big5", "charset=hz", "charset=ascii"]),
)
def test_any_bytes_are_some_text(body: bytes, kind: str) -> None:
    decode(body, kind).encode("utf-8")


@settings(max_examples=30)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_feed_or_a_named_failure(noise: bytes) -> None:
    for body in (noise, RSS.encode()[:300] + noise + RSS.encode()[300:]):
        with suppress(SourceError):
            feed(body)


async def test_parsing_does_not_hold_the_loop(server: FeedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def reading(fetched: Fetched, **more: Any) -> Feed:
        threads.append(threading.get_ident())
        return read_feed(fetched, **more)

    monkeypatch.setattr(rss_module, "read_feed", reading)
    assert await collected(server, "/rss")
    assert threads != [threading.get_ident()]


async def test_a_parser_that_does_not_return_is_not_waited_for(
    server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(rss_module, "PARSE_S", 0.1)
    monkeypatch.setattr(rss_module, "read_feed", lambda *_args, **_more: released.wait(10))
    try:
        assert "could not be parsed within 0.1 s" in await reason(server, "/rss")
    finally:
        released.set()

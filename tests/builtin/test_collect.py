"""`collect`: every source by itself, against a real server."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from atlas.builtin import collect as collect_module
from atlas.builtin.collect import CollectError, MissingExtraError
from atlas.scheduler.context import TaskContext
from atlas.scheduler.errors import ArgumentsError, StoreUnavailableError, TaskStopped
from atlas.scheduler.store.tables import (
    articles,
    sources,
)
from atlas.settings import Source
from tests.builtin.rows import (
    NOW,
    collection,
    count,
    inside,
)
from tests.feed_server import CHINESE, RSS, SENTENCES, FeedServer, Handler, document, page

if TYPE_CHECKING:
    from atlas.scheduler.store.store import Store


async def test_every_source_is_collected_and_a_second_time_stores_nothing_twice(
    store: Store, server: FeedServer
) -> None:
    collecting = collection(store, server, "/rss", "/atom", "/rdf", "/broken", "/gbk", "/big5", "/empty-feed")
    first = await collecting.run()
    assert (first["sources"], first["fetched"], first["new"], first["failed"]) == (7, 8, 8, 0)
    assert first["by_source"]["rss"] == {"status": "ok", "fetched": 2, "new": 2}
    second = await collecting.run()
    assert (second["fetched"], second["new"]) == (8, 0)
    assert count(store, articles) == 8


async def test_the_stored_text_is_right(store: Store, server: FeedServer) -> None:
    await collection(store, server, "/lies").run()
    row = store.read(lambda connection: connection.execute(select(articles)).one())
    assert (row.title, row.content, row.source) == (CHINESE.title, "今天上午，央行宣布维持利率不变。", "lies")
    assert row.published_at == datetime(2026, 11, 23, 0, 30, tzinfo=UTC).timestamp()
    assert row.fetched_at == row.seen_at == NOW.timestamp()


async def test_one_broken_source_fails_alone_and_is_named(store: Store, server: FeedServer) -> None:
    result = await collection(store, server, "/nowhere", "/rss", "/page", "/slow", timeout=0.5).run()
    assert (result["new"], result["failed"]) == (2, 3)
    assert result["by_source"]["nowhere"] == {
        "status": "failed",
        "reason": "the server answers 404: there is nothing at this address",
    }
    assert "no complete answer within 0.5 s" in result["by_source"]["slow"]["reason"]
    remembered = store.read(lambda connection: connection.execute(select(sources.c.name, sources.c.failures)).all())
    assert dict(remembered) == {"nowhere": 1, "page": 1, "slow": 1, "rss": 0}


async def test_an_unchanged_source_is_asked_with_what_it_gave(store: Store, server: FeedServer) -> None:
    collecting = collection(store, server, "/conditional")
    await collecting.run()
    result = await collecting.run()
    assert (result["unchanged"], result["by_source"]) == (
        1,
        {"conditional": {"status": "unchanged", "fetched": 0, "new": 0}},
    )
    assert server.requests[-1][1]["If-None-Match"] == '"v1"'


async def test_a_source_that_fails_for_now_is_asked_again(store: Store, server: FeedServer) -> None:
    answers = iter([503, 503])

    def recovering(handler: Handler) -> None:
        if status := next(answers, None):
            handler.send(b"", status=status)
        else:
            handler.send(RSS.encode())

    server.routes["/recovering"] = recovering
    result = await collection(store, server, "/recovering").run()
    assert result["new"] == 2
    assert len(server.requests) == 3


async def test_a_source_that_asks_for_a_long_wait_is_left_for_the_next_time(store: Store, server: FeedServer) -> None:
    server.routes["/later"] = lambda handler: handler.send(b"", status=503, Retry_After="3600")
    await collection(store, server, "/later", "/rss").run()
    assert server.paths().count("/later") == 1


async def test_a_source_that_is_gone_is_not_asked_again(store: Store, server: FeedServer) -> None:
    await collection(store, server, "/gone", "/rss").run()
    assert server.paths().count("/gone") == 1


async def test_when_every_source_fails_the_task_fails_and_names_each(store: Store, server: FeedServer) -> None:
    with pytest.raises(CollectError, match="all 2 sources failed") as failed:
        await collection(store, server, "/gone", "/page").run()
    for words in (r"(?m)^gone: .*404", r"(?m)^page: a web page came"):
        assert re.search(words, str(failed.value)), "in the order in which they failed"
    assert set(failed.value.reasons) == {"gone", "page"}


async def test_an_error_nobody_thought_of_stays_with_its_source(
    store: Store, server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atlas.collectors import rss as rss_module

    real = rss_module.read_feed

    def breaking(fetched: Any, **more: Any) -> Any:
        if fetched.address.endswith("/atom"):
            raise RecursionError("too deep")
        return real(fetched, **more)

    monkeypatch.setattr(rss_module, "read_feed", breaking)
    result = await collection(store, server, "/atom", "/rss").run()
    assert result["by_source"]["atom"]["reason"] == "unexpected RecursionError: too deep"
    assert result["new"] == 2


async def test_without_sources_the_result_says_where_to_name_some(store: Store, server: FeedServer) -> None:
    result = await collection(store, server).run()
    assert (result["sources"], result["new"]) == (0, 0)
    assert "collect.sources" in result["note"]


async def test_only_names_sources_and_types(store: Store, server: FeedServer) -> None:
    server.routes["/page"] = document(page("A story", SENTENCES * 10), kind="text/html")
    web = Source(name="pages", url=server.base + "/page", type="web")
    off = Source(name="off", url=server.base + "/atom", enabled=False)
    collecting = collection(store, server, "/rss", "/rdf", more=(web, off))
    assert set((await collecting.run())["by_source"]) == {"rss", "rdf", "pages"}
    assert set((await collecting.run(["rdf"]))["by_source"]) == {"rdf"}
    named_off = await collecting.run(["off", "web"])
    assert named_off["skipped"] == 1
    assert named_off["by_source"]["off"] == {"status": "skipped", "reason": "enabled: false in the settings"}
    assert named_off["by_source"]["pages"] == {"status": "ok", "fetched": 1, "new": 0}
    assert "/atom" not in server.paths()


async def test_a_source_nobody_has_is_an_error_with_a_proposal(store: Store, server: FeedServer) -> None:
    with pytest.raises(ArgumentsError, match=r"'atmo' is no source .* did you mean 'atom'"):
        await collection(store, server, "/atom").run(["atmo"])


async def test_no_more_sources_are_read_at_once_than_allowed_in_all_and_per_host(
    store: Store, server: FeedServer
) -> None:
    import threading

    changed, now, most, allowed = threading.Condition(), 0, 0, 2

    def busy(handler: Handler) -> None:
        nonlocal now, most
        with changed:
            now, most = now + 1, max(most, now + 1)
            changed.notify_all()
            assert changed.wait_for(lambda: most >= allowed, 20)
        server.stopping.wait(0.05)
        with changed:
            now -= 1
        handler.send(RSS.encode())

    server.routes |= {f"/busy{number}": busy for number in range(8)}
    paths = [f"/busy{number}" for number in range(8)]
    await collection(store, server, *paths, concurrency=8, per_host=2).run()
    assert most == 2
    most, allowed = 0, 3
    await collection(store, server, *paths, concurrency=3, per_host=8).run()
    assert most == 3


async def test_a_task_sees_how_far_the_collection_is(store: Store, server: FeedServer) -> None:
    steps: list[tuple[float, float | None]] = []
    task = inside(TaskContext(task_id="t", attempt=1, on_progress=lambda done, total: steps.append((done, total))))
    await asyncio.create_task(collection(store, server, "/rss", "/atom", "/gone").run(), context=task)
    assert steps == [(1, 3), (2, 3), (3, 3)]


async def test_a_task_that_is_asked_to_stop_stops_collecting(store: Store, server: FeedServer) -> None:
    context = TaskContext(task_id="t", attempt=1, on_progress=lambda *_: context.ask_to_stop("cancelled"))
    with pytest.raises(TaskStopped):
        await asyncio.create_task(
            collection(store, server, "/rss", "/slow", timeout=30.0).run(), context=inside(context)
        )


async def test_a_store_that_does_not_answer_fails_the_task(
    store: Store, server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_args: Any, **_more: Any) -> None:
        raise StoreUnavailableError("locked", waited_s=5.0)

    monkeypatch.setattr(store, "write_async", silent)
    with pytest.raises(StoreUnavailableError):
        await collection(store, server, "/rss").run()


async def test_the_result_of_a_thousand_sources_is_still_short_enough_to_be_kept() -> None:
    reports = [collect_module._Report(name=f"source {n}" * 5, status="ok", fetched=9, new=n % 2) for n in range(999)]
    reports.append(collect_module._Report(name="bad", status="failed", reason="x" * 300))
    result = collect_module._result(reports)
    assert len(json.dumps(result)) < 64_000
    assert (result["sources"], result["failed"], len(result["by_source"]) + result["left_out"]) == (1000, 1, 1000)
    assert "bad" in result["by_source"]


async def test_without_the_extra_the_error_says_what_to_install(
    store: Store, server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "atlas.collectors.fetch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'atlas-scheduler\[collect\]'"):
        await collection(store, server, "/rss").run()


def test_the_libraries_of_the_extra_are_not_loaded_before_they_are_needed() -> None:
    code = "import sys, atlas.builtin.binding; print({'httpx', 'feedparser'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert shown.stdout.strip() == "set()"


async def test_late_in_a_collection_nothing_is_asked_again(
    store: Store, server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect_module, "RETRY_FOR_S", 0.0)
    await collection(store, server, "/busy", "/rss").run()
    assert server.paths().count("/busy") == 1

"""The streams of open tabs: how many there are, and whose."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.requests import ClientDisconnect

from atlas.service import AtlasScheduler
from atlas.web.live import MAX_STREAMS
from atlas.web.server import WebServer
from tests.queue_bench import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Message

    from atlas.settings import Settings


@pytest.fixture
def served(settings: Settings) -> Any:
    """A server that asks for its token."""
    settings = settings.model_copy(update={"web": settings.web.model_copy(update={"port": 0})})
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    with AtlasScheduler(settings).in_thread() as atlas:
        server = WebServer(atlas).start()
        try:
            yield server
        finally:
            server.stop()


def client(served: WebServer) -> httpx.AsyncClient:
    base = served.address.rstrip("/")
    limits = httpx.Limits(max_connections=200)
    return httpx.AsyncClient(
        base_url=base, headers={"origin": base}, trust_env=False, timeout=LIMIT_S, limits=limits, follow_redirects=True
    )


async def sign_in(browser: httpx.AsyncClient, served: WebServer) -> None:
    answer = await browser.get(served.sign_in_link())
    assert answer.status_code == 200


async def test_no_more_tabs_are_live_than_may_be_however_many_open_at_once(served: WebServer) -> None:
    async with client(served) as browser:
        await sign_in(browser, served)
        for _ in range(2):  # those that end give their places back
            async with AsyncExitStack() as tabs:
                opened = [tabs.enter_async_context(browser.stream("GET", "/live?of=/jobs")) for _ in range(70)]
                answers = await asyncio.gather(*opened)
                assert Counter(answer.status_code for answer in answers) == {200: MAX_STREAMS, 503: 70 - MAX_STREAMS}
            await asyncio.to_thread(eventually, lambda: served.app.state.site.live.count == 0)


async def test_a_tab_that_goes_before_its_first_byte_holds_no_place(served: WebServer) -> None:
    code = served.sign_in_link().partition("?")[2]
    async with client(served) as browser:
        answer = await browser.get(f"/sign-in?{code}")
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        assert answer.status_code == 200

    async def send(_message: Message) -> None:
        raise OSError("the tab is gone")

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    headers = [(b"host", b"127.0.0.1"), (b"cookie", cookies.encode())]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
    }
    scope |= {"path": "/live", "raw_path": b"/live", "query_string": b"of=/jobs", "headers": headers, "root_path": ""}
    scope |= {"scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 5)}
    with pytest.raises(ClientDisconnect):
        await served.app(scope, receive, send)
    assert served.app.state.site.live.count == 0


async def first(lines: AsyncIterator[str]) -> str:
    """The first line of a stream that tells something."""
    async for line in lines:
        if line.startswith("data:"):
            return line
    raise AssertionError("the stream ended")


async def test_signing_out_ends_the_streams_of_that_session_and_no_others(served: WebServer) -> None:
    async with client(served) as mine, client(served) as theirs, AsyncExitStack() as tabs:
        for browser in (mine, theirs):
            await sign_in(browser, served)
        copy = dict(mine.cookies)
        opened = [await tabs.enter_async_context(mine.stream("GET", f"/live?of={page}")) for page in ("/", "/jobs")]
        other = await tabs.enter_async_context(theirs.stream("GET", "/live?of=/jobs"))
        streams = [answer.aiter_lines() for answer in (*opened, other)]
        for stream in streams:
            await first(stream)
        assert (await mine.post("/sign-out")).url.path == "/sign-in"
        async with asyncio.timeout(LIMIT_S):
            for stream in streams[:2]:
                async for _line in stream:
                    pass
        await asyncio.to_thread(eventually, lambda: served.app.state.site.live.count == 1)
        async with httpx.AsyncClient(base_url=served.address, cookies=copy, trust_env=False) as thief:
            assert (await thief.get("/live?of=/jobs")).status_code == 401
        assert (await theirs.get("/jobs")).url.path == "/jobs"

"""Live pages: server-sent events that carry finished fragments of the page a tab shows.

::

    GET /live?of=/jobs/x%3Fpage=2     ─►  event: fragment   data: {"id": "figures", "html": "…"}
                                          event: fragment   …       (only what changed, at most once a second)

A tab asks for the page it shows; its view is rendered again after something happened, and fragments whose text
changed are sent. A stream ends cleanly when the server stops, and by itself after an hour: the browser reconnects.
A browser opens only six connections to one host: a hidden tab should close its stream.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from loguru import logger
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.routing import Match, Route

from atlas.scheduler.errors import AtlasError
from atlas.web.rendering import BusyError
from atlas.web.site import is_local, visit_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from atlas.scheduler.store.store import Store
    from atlas.web.rendering import Page
    from atlas.web.site import Site, Visit

MAX_STREAMS: Final = 64
SPACING_S: Final = 1.0
"""Least time between two updates of a tab."""
REFRESH_S: Final = 10.0
"""A tab is rendered so often though nothing happened: its "in 5 s" and "3 min ago" move."""
LOOK_S: Final = 1.0
"""How often a quiet stream looks whether the server is stopping."""
LIFE_S: Final = 3600.0
REST: Final = 4.0
"""Live rendering rests so many times as long as it worked, so that any number of tabs takes a fifth of a core."""


@dataclass(slots=True, eq=False)
class _Stream:
    loop: asyncio.AbstractEventLoop
    session: str
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    told: bool = False
    ended: bool = False

    def rouse(self) -> None:
        """Wake it, from any thread."""
        with suppress(RuntimeError):  # its loop has ended
            self.loop.call_soon_threadsafe(self.wake.set)


class _Answer(StreamingResponse):
    """Gives its place back however it ends: a stream whose tab went away before its first byte was never begun."""

    def __init__(self, content: AsyncIterator[str], leave: Callable[[], None]) -> None:
        headers = {"x-accel-buffering": "no"}  # nginx would keep the stream until its buffer is full
        super().__init__(content, headers=headers, media_type="text/event-stream")
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


class Live:
    """The open streams of one site."""

    def __init__(self) -> None:
        self._streams: set[_Stream] = set()
        self._pages: Sequence[Page] = ()
        self._store: Store | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._closed = False
        self._turn = asyncio.Lock()
        self._kept: dict[tuple[str, ...], tuple[float, dict[str, str]]] = {}
        self._happened_s = 0.0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._streams)

    def bump(self, _event: object = None) -> None:
        """Something happened; called on any thread, cheaply: all it does is wake streams that sleep."""
        self._happened_s = time.monotonic()
        for stream in tuple(self._streams):
            if not stream.told:
                stream.told = True
                stream.rouse()

    def end(self, session: str) -> None:
        """End the streams of a session that was signed out; called on any thread."""
        for stream in tuple(self._streams):
            if stream.session == session:
                stream.ended = True
                stream.rouse()

    def close(self) -> None:
        """End all streams; new ones are refused. Called on any thread."""
        self._closed = True
        for stream in tuple(self._streams):
            stream.told = False
        self.bump()

    def route(self, site: Site, pages: Sequence[Page]) -> Route:
        """``/live``."""
        self._pages = pages

        async def answer(request: Request) -> StreamingResponse:
            page, visit = self._meant(site, request)
            if self._closed:
                raise HTTPException(503, "the server is stopping")
            if self.count >= MAX_STREAMS:
                raise HTTPException(503, f"{MAX_STREAMS} tabs are live already")
            # It takes its place here: many that are opened at once all come by before the first of them sends anything.
            mine = _Stream(asyncio.get_running_loop(), request.cookies.get(site.access.cookie, ""))
            self._streams.add(mine)
            return _Answer(self._stream(site, page, visit, mine), lambda: self._leave(mine))

        return Route("/live", answer, name="live")

    def _meant(self, site: Site, request: Request) -> tuple[Page, Visit]:
        asked = request.query_params.get("of", "/")
        if not is_local(asked):
            raise HTTPException(400, "'of' is the path of a page of this site")
        parts = urlsplit(asked)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        root = str(request.scope.get("root_path", ""))
        scope = {
            **request.scope,
            "path": root + unquote(parts.path),
            "method": "GET",
            "query_string": parts.query.encode(),
        }
        for page in self._pages:
            match, child = page.route(site).matches(scope)
            if match is Match.FULL and page.live:
                scope |= child
                return page, visit_of(site, type(request)(scope), path_params=child["path_params"], query=query)
        raise HTTPException(404, "no live page has this path")

    async def _stream(self, site: Site, page: Page, visit: Visit, mine: _Stream) -> AsyncIterator[str]:
        self._listen(site)
        sent: dict[str, int] = {}
        end_s = time.monotonic() + LIFE_S
        yield "retry: 3000\n\n"
        while not self._ending() and time.monotonic() < end_s:
            mine.wake.clear()
            mine.told = False
            fragments = await self._fragments(site, page, visit)
            if mine.ended:  # also while it was rendered
                return
            lines = []
            for element, html in fragments.items():
                if sent.get(element) != hash(html):
                    sent[element] = hash(html)
                    lines.append(f"event: fragment\ndata: {json.dumps({'id': element, 'html': html})}\n\n")
            yield "".join(lines) or ": nothing new\n\n"
            await self._wait(mine)

    async def _wait(self, mine: _Stream) -> None:
        """At least `SPACING_S`, then until something happened or `REFRESH_S` passed."""
        start = time.monotonic()
        while not (self._ending() or mine.ended):
            waited = time.monotonic() - start
            if waited >= REFRESH_S or (waited >= SPACING_S and mine.wake.is_set()):
                return
            if waited < SPACING_S:
                await asyncio.sleep(SPACING_S - waited)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await mine.wake.wait()

    async def _fragments(self, site: Site, page: Page, visit: Visit) -> dict[str, str]:
        """The fragments now; tabs that show the same share one render, and renders keep their distance."""
        key = (visit.path, visit.root, visit.language, visit.theme)
        async with self._turn:
            if self._ending():
                return {}  # many wait for their turn: each would render and rest while the server waits for them all
            now = time.monotonic()
            # What was rendered before something happened is old: a tab that was opened after it must not go back.
            oldest_s = max(now - SPACING_S, self._happened_s)
            self._kept = {one: kept for one, kept in self._kept.items() if kept[0] > oldest_s}
            if key in self._kept:
                return self._kept[key][1]
            start = time.monotonic()
            try:
                fragments = await site.renders.run(lambda: page.fragments(visit))
            except (AtlasError, BusyError, RuntimeError):
                return {}  # the job is gone, the store does not answer, the scheduler stops: the page itself says so
            except Exception:  # noqa: BLE001 - a stream that ends would be opened again at once, for ever
                logger.exception("a live page could not be rendered", page=page.name)
                return {}
            self._kept[key] = (start, fragments)
            if not self._ending():
                await asyncio.sleep(min(SPACING_S, REST * (time.monotonic() - start)))
            return fragments

    def _ending(self) -> bool:
        return self._closed or _server_stops()

    def _listen(self, site: Site) -> None:
        """Hear of the store's events; of the newest store, where the scheduler was started again."""
        try:
            store = site.store
        except AtlasError:
            return  # stopped: the page says so, and the refresh finds the new one
        if store is not self._store:
            self._drop()
            # Of other processes' commits the desk hears, once: each new listener makes the writer look at all of them.
            self._store, self._unsubscribe = store, store.events.subscribe(self.bump)

    def _leave(self, mine: _Stream) -> None:
        self._streams.discard(mine)
        if not self._streams:
            self._drop()
            self._kept = {}  # nothing says any more that it is old

    def _drop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
        self._store = self._unsubscribe = None


def _server_stops() -> bool:
    """True if uvicorn runs this process and was told to stop: it waits for open streams before it tells the app."""
    server: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True

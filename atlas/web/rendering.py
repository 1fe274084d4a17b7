"""Pages: a view makes a context on the render thread, a template makes HTML of it; one at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from atlas.scheduler.switch_interval import giving_way
from atlas.web.forms import read_form
from atlas.web.site import (
    LANGUAGE_COOKIE,
    LANGUAGES,
    NOTE_COOKIE,
    SESSION_COOKIES_S,
    THEME_COOKIE,
    THEMES,
    cookie_path,
    visit_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from atlas.web.site import Site, Visit

T = TypeVar("T")

MAX_WAITING: Final = 64
"""Requests that may wait for the render thread; more are answered 503."""
MAX_CHORES: Final = 16
"""Requests that may wait for the thread of long work."""


class BusyError(Exception):
    """More requests wait than may."""


class Renders:
    """One thread for everything that reads the database or makes HTML; and one for what takes longer than a page.

    So no number of requests delays the scheduler by more than one render, and no page waits for a forecast. At most
    ``most`` requests wait for it.
    """

    def __init__(self, name: str = "atlas-web", most: int = MAX_WAITING) -> None:
        """Start without a thread; the first call makes it."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._most = most
        self._waiting = 0
        self._lock = threading.Lock()
        self.busy_s = 0.0
        """Seconds of the thread's life it has worked."""

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, once it is its turn.

        Raises:
            BusyError: Too many wait.
        """
        with self._lock:
            if self._waiting >= self._most:
                raise BusyError
            self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._timed, work)
        finally:
            with self._lock:
                self._waiting -= 1

    def call(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, once it is its turn; for threads of the site that do something ahead or aside.

        Raises:
            RuntimeError: The site has ended.
        """
        return self._pool.submit(self._timed, work).result()

    def _timed(self, work: Callable[[], T]) -> T:
        start = time.thread_time()
        try:
            with giving_way():
                return work()
        finally:
            self.busy_s += time.thread_time() - start

    def close(self) -> None:
        """End the thread; what waits is given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)


FRAME: Final = {"nav": "nav.html", "clock": "clock.html"}
"""What is live on every page that has live parts."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a view answers: a template with its context."""

    template: str
    """The file below ``templates/``."""
    context: dict[str, Any] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the site.

    Attributes:
        name: What `Visit.url` calls it.
        path: Its path, such as ``/jobs/{job:path}``.
        view: Makes the context. It runs on the render thread, may read the database, and may raise `AtlasError`
            (an unknown job or task becomes a 404 page) or return a `Response` of its own.
        live: Element id → template of its *content*, rendered with the view's context whenever something happened;
            what changed since it was last sent goes to the open tab as a finished fragment, and so does the `FRAME`.
        methods: ``GET``, and ``POST`` where a form is sent to the page itself (the fields are in `Visit.form`).
    """

    name: str
    path: str
    view: Callable[[Visit], Shown | Response]
    live: dict[str, str] = field(default_factory=dict)
    methods: tuple[str, ...] = ("GET",)

    def route(self, site: Site) -> Route:
        """The page as a route."""

        async def answer(request: Request) -> Response:
            form = await read_form(request) if request.method == "POST" else {}
            visit = visit_of(site, request, form=form)
            response = await site.renders.run(lambda: self.html(visit))
            return remember(request, response)

        return Route(self.path, answer, methods=list(self.methods), name=self.name)

    def html(self, visit: Visit) -> Response:
        """The whole page for ``visit``; runs on the render thread."""
        shown = self.view(visit)
        if isinstance(shown, Response):
            return shown
        context = {"page": self, **shown.context}
        html = visit.site.templates.render(shown.template, visit, context)
        return HTMLResponse(html, status_code=shown.status)

    def fragments(self, visit: Visit) -> dict[str, str]:
        """Element id → its content now; runs on the render thread."""
        shown = self.view(visit)
        if isinstance(shown, Response) or shown.status != 200:
            return {}
        context, render = {"page": self, **shown.context}, visit.site.templates.render
        return {element: render(template, visit, context) for element, template in (self.live | FRAME).items()}


def remember(request: Request, response: Response) -> Response:
    """Keep ``?lang=`` and ``?theme=`` in cookies, and forget the note that was shown."""
    lang, theme = request.query_params.get("lang"), request.query_params.get("theme")
    path = cookie_path(request)
    if lang in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, lang, max_age=SESSION_COOKIES_S, path=path, samesite="lax")
    if theme in THEMES:
        response.set_cookie(THEME_COOKIE, theme, max_age=SESSION_COOKIES_S, path=path, samesite="lax")
    elif theme == "auto":
        response.delete_cookie(THEME_COOKIE, path=path)
    if NOTE_COOKIE in request.cookies and not isinstance(response, RedirectResponse):
        response.delete_cookie(NOTE_COOKIE, path=path)
    return response

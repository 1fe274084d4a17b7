"""The web server of ``atlas serve``: uvicorn on a thread and loop of its own.

A coroutine that blocks the scheduler's loop blocks no page, and a page no coroutine.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import uvicorn
from loguru import logger
from starlette.requests import Request

from atlas.scheduler.errors import AtlasError
from atlas.web.app import create_app
from atlas.web.pages.desk import desk_of
from atlas.web.pages.overview import OVERVIEW
from atlas.web.prefix import Prefixed
from atlas.web.site import LANGUAGES, visit_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette

    from atlas.service import AtlasScheduler
    from atlas.web.site import Site

BEGINS_S: Final = 2.0
"""How long the port stays quiet at most while the first page is prepared."""
STOP_S: Final = 3.0
"""How long open requests have when the server stops."""


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signals (the scheduler has them) and without its tick ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._ending.wait()

    def end(self) -> None:
        """Let `serve` return; called on any thread, also when the server has ended."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ending.set)


@contextmanager
def _ahead(what: str) -> Iterator[None]:
    """Something is made before anybody asks for it; a fault in it stops nothing."""
    try:
        yield
    except (AtlasError, RuntimeError) as error:  # it waits for its database, or stops: the first visit looks again
        logger.debug("the {} was not made ahead: {}", what, error)
    except Exception:  # noqa: BLE001 - the scheduler runs without its pages, and a visit will tell
        logger.exception("the {} could not be made", what)


class WebServer:
    """Serves the pages of ``atlas`` until it is stopped.

    Raises:
        ConfigError: The token's file cannot be used.
    """

    def __init__(self, atlas: AtlasScheduler) -> None:
        self._settings = atlas.settings.web
        self.app: Starlette = create_app(atlas)
        self._socket: socket.socket | None = None
        self._server: _Uvicorn | None = None
        self._thread = threading.Thread(target=self._run, name="atlas-web-server", daemon=True)
        self._ready = threading.Event()

    @property
    def address(self) -> str:
        """Where the first page is."""
        port = self._settings.port if self._socket is None else self._socket.getsockname()[1]
        host = self._settings.host
        if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
            host = "127.0.0.1"
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def sign_in_link(self) -> str:
        """A link that signs a browser in, once, within 15 minutes."""
        access = self.app.state.site.access
        return self.address if access.is_open else f"{self.address}sign-in?code={access.new_code()}"

    def start(self) -> Self:
        """Open the port and serve.

        Raises:
            OSError: The port is taken, or the address is not this machine's.
        """
        family = socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET
        self._socket = socket.create_server((self._settings.host, self._settings.port), family=family, backlog=128)
        site: Site = self.app.state.site
        with _ahead("plan"):  # it takes much memory for a moment: what stays comes behind it, and into its place
            self._foresee(site)
        site.templates.prepare()  # or the first visitor of each page would wait for it
        with _ahead("first page"):
            self._look_first(site)
        self._thread.start()
        self._ready.wait(10.0)
        return self

    @staticmethod
    def _foresee(site: Site) -> None:
        """Find what the first page shows first, and the next 24 hours."""
        desk, until_s = desk_of(site), time.monotonic() + BEGINS_S
        desk.begun.wait(BEGINS_S)
        left_s = max(0.0, until_s - time.monotonic())
        site.renders.call(lambda: desk.forecast(desk.store.clock.now(), waits_s=left_s))

    def _look_first(self, site: Site) -> None:
        """Make the first page once for nobody: what that compiles and reads, no visitor waits for."""
        for language in LANGUAGES:
            scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "app": self.app}
            request = Request({**scope, "query_string": f"lang={language}".encode()})
            site.renders.call(partial(OVERVIEW.html, visit_of(site, request)))

    def stop(self) -> None:
        """End the streams, let open requests end for a moment, close. Stopping twice does nothing."""
        self.app.state.site.live.close()
        if self._server is not None:
            self._server.end()
        if self._thread.is_alive():
            self._thread.join(STOP_S + 2.0)
        self.app.state.site.renders.close()
        self.app.state.site.chores.close()
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:  # noqa: BLE001 - the scheduler goes on without its pages
            logger.exception("the web server ended; the scheduler goes on without it")
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        assert self._socket is not None
        config = uvicorn.Config(
            Prefixed(self.app, self._settings.root_path),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            forwarded_allow_ips=list(self._settings.trusted_proxies),
            limit_concurrency=256,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=int(STOP_S),
        )
        self._server = _Uvicorn(config)
        self._ready.set()
        await self._server.serve(sockets=[self._socket])

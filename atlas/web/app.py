"""`create_app`: the whole site around one scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from atlas.scheduler.clock import SystemClock
from atlas.scheduler.errors import AtlasError
from atlas.web import actions, api, downloads, health, metrics, pages, sign_in
from atlas.web.access import Access, read_or_make_token
from atlas.web.errors import on_error
from atlas.web.guards import Guard
from atlas.web.live import Live
from atlas.web.rendering import MAX_CHORES, BusyError, Renders
from atlas.web.site import Site
from atlas.web.templating import STATIC, Templates, static_version

if TYPE_CHECKING:
    import os

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import Scope

    from atlas.service import AtlasScheduler


def create_app(scheduler: AtlasScheduler, *, read_only: bool | None = None) -> Starlette:
    """The pages and the API of ``scheduler`` as an ASGI app, to serve or to mount under any prefix.

    ::

        app.mount("/scheduler", create_app(atlas))  # in a FastAPI or Starlette app

    It may be made before the scheduler starts: until then, and after its stop, it answers 503. Settings come from the
    section ``web`` of the scheduler's settings; ``enabled``, ``host``, ``port``, ``root_path`` and
    ``trusted_proxies`` are those of `atlas serve` alone: behind a reverse proxy the outer app knows its own
    ``root_path``, which the proxy may strip or keep, and its server knows which proxies it trusts.
    A name other than an address or localhost, such as a test client's, must stand in ``allowed_hosts``.

    Args:
        scheduler: The scheduler, in this process.
        read_only: True refuses every change; None takes it from the settings.

    Raises:
        ConfigError: The token's file cannot be used.
    """
    settings = scheduler.settings.web
    token = None
    if settings.token_file is not None:
        token, is_new = read_or_make_token(settings.token_file)
        if is_new:
            logger.info("the pages' token was made", file=str(settings.token_file))
    site = Site(
        atlas=scheduler,
        access=Access(token, SystemClock()),
        read_only=settings.read_only if read_only is None else read_only,
        allowed_hosts=frozenset(settings.allowed_hosts),
        templates=Templates(),
        renders=Renders(),
        chores=Renders("atlas-chores", MAX_CHORES),
        live=Live(),
    )
    shown = pages.routes()
    routes: list[BaseRoute] = [
        *downloads.routes(site),
        *(page.route(site) for page in shown),
        site.live.route(site, shown),
        *sign_in.routes(site),
        *actions.routes(site),
        *health.routes(site),
        *metrics.routes(site),
        *api.routes(site),
        Mount("/static", _Static(directory=STATIC), name="static"),
        Route("/favicon.ico", _favicon),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, site=site)],
        exception_handlers={HTTPException: on_error, AtlasError: on_error, BusyError: on_error},
    )
    app.state.site = site
    app.state.routes = {route.name: route for route in routes if isinstance(route, Route)}
    return app


class _Static(StaticFiles):
    """Static files that browsers keep: for ever under the address of this content, else until it is another one."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        # Beside this process another version may serve the same address: what is here is not what its pages mean.
        is_meant = scope["query_string"] == f"v={static_version(Path(full_path).name)}".encode()
        response.headers["cache-control"] = "max-age=31536000, immutable" if is_meant else "no-cache"
        return response


async def _favicon(_request: Request) -> Response:
    """The icon where browsers look for it by themselves: a text has no link to it."""
    return FileResponse(STATIC / "icon.svg")

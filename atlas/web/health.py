"""``/healthz`` (the clock ticks) and ``/readyz`` (work is taken): for whoever watches the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse
from starlette.routing import Route

from atlas.builtin.health import health

if TYPE_CHECKING:
    from starlette.requests import Request

    from atlas.web.site import Site

STALLED_S: Final = 60.0
"""The clock looks at least every 30 s; twice that without a tick is a stall."""


def look(site: Site) -> dict[str, Any]:
    """Every check of `health`, now; it writes to the store and looks at disks, so ask seldom."""
    store = site.store
    folder = site.settings.persistence.cron_config.parent if store.path is None else store.path.parent
    return health(store=store, source=site.atlas, clock=store.clock, folder=folder)


def routes(site: Site) -> list[Route]:
    """Both routes; they need no sign-in and tell no names."""

    async def healthz(request: Request) -> JSONResponse:
        del request
        tick_s = site.atlas.last_tick_s()
        alive = tick_s is not None and tick_s <= STALLED_S
        return JSONResponse({"alive": alive, "last_tick_s": tick_s}, 200 if alive else 503)

    async def readyz(request: Request) -> JSONResponse:
        del request
        ready = site.atlas.get_queue_status()["state"] == "running"
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    return [Route("/healthz", healthz, name="healthz"), Route("/readyz", readyz, name="readyz")]

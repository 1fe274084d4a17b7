"""``/healthz`` (the clock ticks, here or in the leader) and ``/readyz`` (work is taken), for whoever watches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse
from starlette.routing import Route

from atlas.builtin.health.clock import standby_check
from atlas.builtin.health.look import health
from atlas.scheduler.store.leases import scheduler_lease

if TYPE_CHECKING:
    from starlette.requests import Request

    from atlas.service import AtlasScheduler
    from atlas.web.site import Site

STALLED_S: Final = 60.0
"""The clock looks at least every 30 s; twice that without a tick is a stall."""


def look(site: Site) -> dict[str, Any]:
    """Every check of `health`, now; it writes to the store and looks at disks, so ask seldom."""
    store = site.store
    more = {}
    if site.atlas.stands_by:
        more["scheduler"] = lambda: standby_check(store.read(scheduler_lease), site.atlas, store.clock)
    return health(
        store=store,
        source=site.atlas,
        clock=store.clock,
        folder=site.settings.root,
        collected=site.settings.collect.collected,
        more=more,
    )


def alive(atlas: AtlasScheduler) -> tuple[bool, dict[str, Any]]:
    """Whether this process does what it is for: the clock ticks, it watches the one that leads, or it will start."""
    if atlas.waits_for is not None:
        return True, {"role": "starting"}
    if atlas.queue.stands_by:
        looked_s = atlas.queue.looked_s()
        return looked_s is not None and looked_s <= STALLED_S, {"role": "standby", "looked_s": looked_s}
    tick_s = atlas.last_tick_s()
    return tick_s is not None and tick_s <= STALLED_S, {"role": "leader", "last_tick_s": tick_s}


def ready(atlas: AtlasScheduler) -> tuple[bool, str]:
    """Whether work is taken and done, and in words what is in the way."""
    if atlas.waits_for is not None:
        return False, f"the scheduler starts: {atlas.waits_for}"
    figures = atlas.get_queue_status()
    state = str(figures["state"])
    if state == "stopped":
        return False, "the scheduler is not started, or stopped"
    if figures["store_fault"] is not None:
        return False, f"the database takes no commit: {figures['store_fault']}"
    limit = figures.get("max_waiting")
    if limit is not None and figures["queue_size"] >= limit:
        return False, f"the queue is full: {figures['queue_size']:,} tasks wait"
    if state == "standby":
        if figures["leader"] is None:
            return False, "stands by, and no other process leads"
        return True, "stands by; another process leads and does the work"
    return True, "runs"


def routes(site: Site) -> list[Route]:
    """Both routes; they need no sign-in and tell no names."""

    async def healthz(request: Request) -> JSONResponse:
        del request
        lives, facts = alive(site.atlas)
        return JSONResponse({"alive": lives, **facts}, 200 if lives else 503)

    async def readyz(request: Request) -> JSONResponse:
        del request
        is_ready, words = await asyncio.to_thread(ready, site.atlas)
        return JSONResponse({"ready": is_ready, "words": words}, 200 if is_ready else 503)

    return [Route("/healthz", healthz, name="healthz"), Route("/readyz", readyz, name="readyz")]

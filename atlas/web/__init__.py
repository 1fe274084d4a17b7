"""The pages, the JSON API, /metrics and /healthz of a scheduler, as one ASGI app (extra ``web``).

::

    request ─► Guard ─────────────► Page (GET)   ─► one render at a time ─► HTML
               host, size, rate,    actions (POST) ─► a verb of the scheduler ─► 303 back
               sign-in, origin      api/v1       ─► the same verbs ─► JSON
                                    /live        ─► fragments of the page, as they change
"""

from __future__ import annotations

from atlas.web.app import create_app

__all__ = ["create_app"]

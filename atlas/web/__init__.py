"""The pages, the JSON API, /metrics and /healthz of a scheduler, as one ASGI app (extra ``web``).

::

    request ─► Guard ─────────────► Page (GET)   ─► one render at a time ─► HTML
               host, size, rate,    actions (POST) ─► a verb of the scheduler ─► 303 back
               sign-in, origin      api/v1       ─► the same verbs ─► JSON
                                    /live        ─► fragments of the page, as they change
"""

from __future__ import annotations

try:
    from atlas.web.app import create_app
except ModuleNotFoundError as _error:
    _missing = (_error.name or "atlas").partition(".")[0]
    if _missing == "atlas":
        raise
    _text = f"the pages need {_missing}, which is not installed: pip install 'atlas-scheduler[web]'"
    raise ModuleNotFoundError(_text, name=_missing) from _error

__all__ = ["create_app"]

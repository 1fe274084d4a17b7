"""The first page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas.web.rendering import Page, Shown

if TYPE_CHECKING:
    from atlas.web.site import Visit


def view(visit: Visit) -> Shown:
    """The figures of the queue."""
    return Shown("overview.html", {"figures": visit.atlas.get_queue_status()})


OVERVIEW = Page("overview", "/", view, live={"figures": "overview/figures.html"})

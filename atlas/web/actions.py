"""What the pages' forms do: each POST is one verb of the scheduler, and leads back with a note of what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import Route

    from atlas.web.site import Site


def routes(site: Site) -> list[Route]:
    """One route per action."""
    del site
    return []

"""The JSON API below ``/api/v1``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import Route

    from atlas.web.site import Site


def routes(site: Site) -> list[Route]:
    """One route per endpoint."""
    del site
    return []

"""The JSON API below ``/api/v1``: the verbs of the command line; a list comes in pages of ``limit``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from atlas.web.api import config, jobs, openapi, system, tasks

if TYPE_CHECKING:
    from starlette.routing import Route

    from atlas.web.site import Site

VERBS: Final = (*jobs.VERBS, *tasks.VERBS, *config.VERBS, *system.VERBS)


def routes(site: Site) -> list[Route]:
    """One route per verb, and the description of them all."""
    return [openapi.route(VERBS), *(verb.route(site) for verb in VERBS)]

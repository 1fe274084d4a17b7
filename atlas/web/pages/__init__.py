"""The pages: each is a `Page` of name, path, view and live fragments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas.web.pages.overview import OVERVIEW

if TYPE_CHECKING:
    from atlas.web.rendering import Page


def routes() -> list[Page]:
    """Every page, in the order their paths are tried."""
    return [OVERVIEW]

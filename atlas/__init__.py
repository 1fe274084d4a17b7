"""Atlas: collects news and prepares it for LLM work; its scheduling and queueing layer lives in `atlas.scheduler`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atlas.version import __version__

if TYPE_CHECKING:
    from atlas.service import AtlasScheduler

__all__ = ["AtlasScheduler", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `AtlasScheduler` when it is first asked for, so that ``import atlas`` alone stays cheap."""
    if name == "AtlasScheduler":
        from atlas.service import AtlasScheduler

        return AtlasScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The test kit: Atlas in the tests of your own program, without waiting. This page names what is public.

`VirtualTime` is a whole scheduler whose days pass in milliseconds, `InlineQueue` a queue that runs a function before
`submit` returns. Both are the real thing (store, job store, bridge, lifecycle, policies) on a clock that a test moves.
pytest has them as the fixtures ``virtual_time`` and ``inline_queue``, of the plugin that comes with the package.

Names are imported when they are first asked for: pytest loads the plugin, and with it this page, in every session.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from atlas.scheduler.testing.clocks import SetClock, VirtualClock
    from atlas.scheduler.testing.inline import InlineQueue
    from atlas.scheduler.testing.virtual_time import VirtualTime

__all__ = ["InlineQueue", "SetClock", "VirtualClock", "VirtualTime"]

_HOMES: Final = MappingProxyType(
    {"InlineQueue": "inline", "SetClock": "clocks", "VirtualClock": "clocks", "VirtualTime": "virtual_time"}
)


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it, once."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value

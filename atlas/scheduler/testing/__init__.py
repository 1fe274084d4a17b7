"""The test kit: Atlas in the tests of your own program, without waiting. This page names what is public.

`VirtualTime` is a whole scheduler whose days pass in milliseconds, `InlineQueue` a queue that runs a function before
`submit` returns. Both are the real thing (store, job store, bridge, lifecycle, policies) on a clock that a test moves.
pytest has them as the fixtures ``virtual_time`` and ``inline_queue``, of the plugin that comes with the package.
`crash_at`, the third fixture, lets a process die at one of the `CrashPoint` s, to see what the next one makes of it.

Names are imported when they are first asked for: pytest loads the plugin, and with it this page, in every session.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from atlas.scheduler.crash_points import CrashPoint
    from atlas.scheduler.testing.clocks import SetClock, VirtualClock
    from atlas.scheduler.testing.crashes import Killed, crash_at
    from atlas.scheduler.testing.inline import InlineQueue
    from atlas.scheduler.testing.virtual_time import VirtualTime

__all__ = ["CrashPoint", "InlineQueue", "Killed", "SetClock", "VirtualClock", "VirtualTime", "crash_at"]

_HOMES: Final = MappingProxyType(
    {
        "CrashPoint": "crashes",
        "InlineQueue": "inline",
        "Killed": "crashes",
        "SetClock": "clocks",
        "VirtualClock": "clocks",
        "VirtualTime": "virtual_time",
        "crash_at": "crashes",
    }
)


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it, once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value

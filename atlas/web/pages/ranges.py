"""How far back a page looks: 24 hours, 7 days or 30, kept in its address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from atlas.web.pages.view import View

DAY_S: Final = 86_400
RANGES: Final = {"": ("24 h", DAY_S), "7d": ("7 d", 7 * DAY_S), "30d": ("30 d", 30 * DAY_S)}
"""What stands in the address → its words, and its seconds."""
LONGEST_S: Final = 30 * DAY_S


def asked(view: View) -> str:
    """The range that is asked for, "" for the shortest."""
    key = view.asked("range", 5)
    return key if key in RANGES else ""


def choices(view: View, **first: str) -> list[tuple[str, str, bool]]:
    """(words, address, is current) of each range; ``first`` may have other words for the first one."""
    key = asked(view)
    return [
        (
            first.get("first") or view.say(words) if not one else view.say(words),
            view.visit.here(range=one or None),
            one == key,
        )
        for one, (words, _seconds) in RANGES.items()
    ]

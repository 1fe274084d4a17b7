"""One line of a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold, and whether it does.

    Attributes:
        name: What must hold.
        figure: What was found.
        holds: Whether it does; None where this run cannot tell.
    """

    name: str
    figure: str
    holds: bool | None


def named(names: Iterable[str]) -> str:
    """How many, and the first of them."""
    listed = sorted(names)
    return f"{len(listed)}" + (f": {', '.join(listed[:3])}{' …' * (len(listed) > 3)}" if listed else "")

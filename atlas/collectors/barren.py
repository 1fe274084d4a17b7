"""Remembers pages that hold no article."""

from __future__ import annotations

from typing import Final

MAX_BARREN: Final = 10_000


class Barren:
    """Pages of this process's past collections that gave no article: they are not asked again."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}  # ordered, so that the oldest goes first

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, key: str) -> None:
        """Remember a page; beyond ten thousand the oldest is forgotten."""
        self._keys[key] = None
        if len(self._keys) > MAX_BARREN:
            del self._keys[next(iter(self._keys))]

"""Which known name somebody probably meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_COMPARED: Final = 200
"""Characters of a word that are compared."""


def nearest(word: object, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The name in ``known`` most like ``word``, in any case; None when none is like it, or ``word`` is no text.

    ``cutoff`` is how like it must be, 0 to 1.

    >>> nearest("Data_Colection", ["data_collection", "daily_report"])
    'data_collection'
    """
    if not isinstance(word, str):
        return None
    import difflib  # most processes never meet a wrong name

    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word[:_COMPARED].lower(), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` to put behind a message, or nothing when no known name is like ``word``."""
    name = nearest(word, known)
    return "" if name is None else f"; did you mean {name!r}?"

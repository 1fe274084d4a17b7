"""Every text of the pages, in English and Chinese."""

from __future__ import annotations

from typing import Any, Final

from atlas.web.words.texts import TEXTS

LANGUAGES: Final = ("en", "zh")


def words(language: str, key: str, **values: Any) -> str:
    """The text ``key`` in ``language`` with ``values`` put in.

    Raises:
        KeyError: There is no such text.
    """
    text = TEXTS[key][LANGUAGES.index(language)]
    return text.format(**values) if values else text

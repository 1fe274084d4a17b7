"""Texts of the pages: English stands in the templates and views, `zh` holds each of them in Chinese."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from atlas.scheduler.message import Both, Message
from atlas.web.words.zh import ZH
from atlas.web.words.zh.kept import KEPT, KEPT_TOO
from atlas.web.words.zh.sources import SOURCES

_PLACE: Final = re.compile(r"\\{(\w+)\\}")


class Speech:
    """Texts of one language; one that has no translation stays English (a test finds those)."""

    def __init__(self, language: str) -> None:
        """Speak ``language``: ``en`` or ``zh``."""
        self.language = language

    def __call__(self, text: str, /, **values: object) -> str:
        """``text`` with its values.

        ``one thing|{n} things`` takes the first part when ``n`` is 1; Chinese has one form.
        """
        if self.language == "zh":
            said = ZH.get(text, text)
        else:
            one, bar, many = text.partition("|")
            said = text if not bar else one if values.get("n") in {1, "1"} else many
        return said.format(**values) if values else said

    def told(self, text: str) -> str:
        """A text of the engine; one that keeps what it was made of (`Message`, `Both`) in the language of the page.

        Rows and leases hold plain text: of those, what the engine wrote is known by its words.
        """
        if isinstance(text, Both) and self.language == "zh":
            return text.zh
        if self.language == "en":
            return text
        known = text if isinstance(text, Message) else recognised(text)
        if not isinstance(known, Message):
            return known
        values = {name: self.told(one) if isinstance(one, str) else one for name, one in known.values.items()}
        pattern = ZH.get(known.pattern)
        if pattern is None:  # parts that were joined
            pattern = known.pattern.replace("}; {", "}；{").replace("}, {", "}，{")
        return pattern.format(**values)


@lru_cache(maxsize=1024)
def recognised(text: str) -> str:
    """``text`` as a `Message` if the engine wrote it and a row kept it, else as it stands."""
    for pattern, shape in _KEPT:
        found = shape.fullmatch(text)
        if found is not None:
            return Message(pattern, **found.groupdict())
    return text


def _shape(pattern: str) -> re.Pattern[str]:
    return re.compile(_PLACE.sub(r"(?P<\1>.{1,200}?)", re.escape(pattern)))


_KEPT: Final = tuple((pattern, _shape(pattern)) for pattern in (*KEPT, *KEPT_TOO, *SOURCES))

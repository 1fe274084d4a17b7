"""Texts of the pages: English stands in the templates and views, `zh` holds each of them in Chinese."""

from __future__ import annotations

from atlas.scheduler.told import Both, Told
from atlas.web.words.zh import ZH


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
        """A text of the engine; one that keeps what it was made of (`Told`, `Both`) in the language of the page."""
        if isinstance(text, Both) and self.language == "zh":
            return text.zh
        if not isinstance(text, Told) or self.language == "en":
            return text
        values = {name: self.told(one) if isinstance(one, str) else one for name, one in text.values.items()}
        return ZH.get(text.pattern, text.pattern).format(**values)

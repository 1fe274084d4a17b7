"""The pages' texts in Chinese: the English text as it stands in templates, views and the engine → Chinese."""

from __future__ import annotations

from typing import Final

from atlas.web.words.zh.acting import ACTING
from atlas.web.words.zh.config_file import CONFIG_FILE
from atlas.web.words.zh.engine import ENGINE
from atlas.web.words.zh.kept import KEPT
from atlas.web.words.zh.shared import SHARED
from atlas.web.words.zh.sources import SOURCES
from atlas.web.words.zh.watching import WATCHING
from atlas.web.words.zh.why import WHY

PARTS: Final = (SHARED, WATCHING, ACTING, ENGINE, CONFIG_FILE, WHY, KEPT, SOURCES)
"""No text stands in two of them."""
ZH: Final[dict[str, str]] = {english: chinese for part in PARTS for english, chinese in part.items()}

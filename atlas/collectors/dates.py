"""Publication dates: only shapes that a standard defines are read, since a guess would be stored for good."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

_RFC822: Final = re.compile(
    r"(?:[a-z]{3,9},?\s+)?\d{1,2}\s+(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\s+(?:\d{2}|\d{4})\s+"
    r"\d{1,2}:\d{2}(?::\d{2})?\s*(?:[+-]\d{2}:?\d{2}|ut|utc|gmt|z|[ecmp][sd]t)",
    re.IGNORECASE | re.ASCII,
)
"""RFC 822 and 2822, with the liberties feeds take: any weekday, ``+08:00``. Other zone names mean several zones."""
_ISO: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?\s?(?:[Zz]|[+-]\d{2}:?\d{2}))?", re.ASCII
)
"""RFC 3339 and W3C-DTF. A time without its zone is none of them; a day alone is, and means its start in UTC."""

EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
"""Before the web: such dates are the zero of some program's calendar."""
AHEAD: Final = timedelta(days=1)
"""How far a publisher's clock may be ahead of ours."""


def published_at(text: str, *, now: datetime) -> datetime | None:
    """The instant ``text`` names beyond doubt, aware UTC; None for everything else.

    Dates further ahead of ``now`` than `AHEAD` are not believed.
    """
    text = text.strip()
    if len(text) > 60:
        return None
    try:
        if _ISO.fullmatch(text):
            at = datetime.fromisoformat(text.upper().replace(" +", "+").replace(" -", "-").replace(" Z", "Z"))
        elif _RFC822.fullmatch(text):
            at = parsedate_to_datetime(re.sub(r"([+-]\d{2}):(\d{2})$", r"\1\2", text))
        else:
            return None
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if EARLIEST <= at <= now + AHEAD else None

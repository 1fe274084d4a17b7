"""Glyphs: every status has its own shape, so that colour is never alone."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from markupsafe import Markup, escape

_FILLED: Final = {
    "SUCCESS": "M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Zm3.3 4.6L7 9.9 4.9 7.8l-1 1L7 12l5.4-5.4-1.1-1Z",
    "FAILED": "M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1L5.1 1Zm.4 3.6-.9.9L7.1 8l-2.5 2.5.9.9L8 8.9l2.5 2.5.9-.9"
    "L8.9 8l2.5-2.5-.9-.9L8 7.1 5.5 4.6Z",
    "warn": "M8 1.8 15 14H1L8 1.8ZM7.2 6v4h1.6V6H7.2Zm0 5v1.6h1.6V11H7.2Z",
    "pause": "M4 3h3v10H4zM9 3h3v10H9z",
    "run": "M4.5 2.8v10.4L13 8z",
    "stop": "M4.5 3.5h7a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1h-7a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1Z",
    "theme": "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Zm0 1.5v9a4.5 4.5 0 0 1 0-9Z",
    "add": "M7.2 3h1.6v4.2H13v1.6H8.8V13H7.2V8.8H3V7.2h4.2z",
    "remove": "M3 7.2h10v1.6H3z",
}
_RING: Final = '<circle cx="8" cy="8" r="6" fill="none" stroke="currentColor" stroke-width="1.9"/>'
_DRAWN: Final = {
    "TIMEOUT": _RING
    + '<path d="M8 4.6V8l2.5 1.8" fill="none" stroke="currentColor" stroke-width="1.9" stroke-linecap="round"/>',
    "CANCELLED": _RING + '<path d="M4 12 12 4" stroke="currentColor" stroke-width="1.9"/>',
    "RETRYING": '<path d="M13.2 8A5.2 5.2 0 1 1 11.6 4.2" fill="none" stroke="currentColor" stroke-width="1.9" '
    'stroke-linecap="round"/><path d="M9.3 5.3h4.3V1z" fill="currentColor"/>',
    "RUNNING": '<circle cx="8" cy="8" r="5.8" fill="none" stroke="currentColor" stroke-opacity=".28" '
    'stroke-width="2.4"/><path class="spin" d="M8 2.2A5.8 5.8 0 0 1 13.8 8" fill="none" stroke="currentColor" '
    'stroke-width="2.4" stroke-linecap="round"/>',
    "PENDING": '<circle cx="8" cy="8" r="5.8" fill="none" stroke="currentColor" stroke-width="2" '
    'stroke-dasharray="2.6 2"/>',
    "find": '<circle cx="7" cy="7" r="4.3" fill="none" stroke="currentColor" stroke-width="1.5"/>'
    '<path d="m10.4 10.4 3.2 3.2" stroke="currentColor" stroke-width="1.5" stroke-linecap="round"/>',
    "edit": '<path d="m3 13 .6-2.9L10.7 3l2.3 2.3-7.1 7.1z" fill="none" stroke="currentColor" stroke-width="1.4" '
    'stroke-linejoin="round"/>',
    "copy": '<path d="M5.5 5.5H13V13H5.5zM3 10.5V3h7.5" fill="none" stroke="currentColor" stroke-width="1.4"/>',
    "take": '<path d="M8 2.5v7M4.8 6.6 8 9.8l3.2-3.2M3 13h10" fill="none" stroke="currentColor" stroke-width="1.5" '
    'stroke-linecap="round" stroke-linejoin="round"/>',
    "back": '<path d="M6 4 2.6 7.4 6 10.8M3 7.4h6.2a3.6 3.6 0 0 1 0 7.2H7" fill="none" stroke="currentColor" '
    'stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round"/>',
    "skip": '<path d="M3.5 4v8l5-4zM11 4v8" fill="none" stroke="currentColor" stroke-width="1.6" '
    'stroke-linejoin="round"/>',
}
LOGO: Final = Markup(
    '<svg width="20" height="20" viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="8.2" fill="none" '
    'stroke="currentColor" stroke-width="2"/><path d="M10 1.8v16.4M2.6 6.9h14.8M2.6 13.1h14.8" stroke="currentColor" '
    'stroke-width="1.3" opacity=".45"/><path d="M10 5.2V10l3.6 2.3" fill="none" stroke="currentColor" '
    'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/></svg>'
)


@lru_cache(maxsize=256)
def icon(name: str, size: int = 14) -> Markup:
    """The glyph ``name``, hidden from screen readers: words stand beside it."""
    if name.isupper() and name not in _FILLED | _DRAWN:
        name = "warn"  # a status that a newer Atlas wrote
    body = _DRAWN.get(name) or f'<path fill="currentColor" fill-rule="evenodd" d="{_FILLED[name]}"/>'
    return Markup(  # noqa: S704 - names and sizes are ours
        f'<svg width="{size}" height="{size}" viewBox="0 0 16 16" aria-hidden="true">{body}</svg>'
    )


@lru_cache(maxsize=64)
def priority_bars(priority: str, words: str) -> Markup:
    """Four growing bars, as many filled as the priority is high, and its name."""
    filled = {"URGENT": 4, "HIGH": 3, "NORMAL": 2, "LOW": 1}.get(priority, 0)
    bars = "".join(
        f'<rect x="{at * 4}" y="{9 - at * 3}" width="3" height="{3 + at * 3}" rx="0.5"'
        + (' class="on"/>' if at < filled else "/>")
        for at in range(4)
    )
    return Markup(  # noqa: S704 - the words are escaped
        f'<span class="prio {priority}"><svg width="15" height="12" aria-hidden="true">{bars}</svg>'
        f"{escape(words)}</span>"
    )

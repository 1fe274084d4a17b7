"""Addresses of articles: which texts are one, and which of them mean the same page."""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

MAX_LINK: Final = 2000

_TRACKING: Final = re.compile(
    r"utm_\w+|at_(medium|campaign)|(fb|g|msc|tw|y|dc|w?br)clid|mc_[ce]id|igshid|_hs(enc|mi)|cmpid|ocid|spm|xtor",
    re.IGNORECASE,
)
"""Query parameters that say where a reader came from, not what he reads."""
_PORTS: Final = {"http": 80, "https": 443}


def web_address(text: str) -> str | None:
    """``text`` as an http(s) address without user name and password; None if it is no such address."""
    text = "".join(character for character in text if character.isprintable()).strip().replace(" ", "%20")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not host or len(text) > MAX_LINK:
        return None
    if "@" in parts.netloc:
        where = f"[{host}]" if ":" in host else host
        parts = parts._replace(netloc=where if port is None else f"{where}:{port}")
    return urlunsplit(parts)


def normalised(address: str) -> str | None:
    """The page ``address`` means, written in one way; None if it is no page but a whole site.

    Scheme, default port, upper case in the host, tracking parameters, the order of parameters, a closing slash,
    needless percent signs and the fragment make no difference; ``#!`` and ``#/`` fragments do, they are pages.

    >>> normalised("HTTP://Example.com:80/a%7Eb/?utm_source=rss&b=2&a=1#top")
    '//example.com/a~b?a=1&b=2'
    """
    try:
        parts = urlsplit(address)
        host, port = (parts.hostname or "").rstrip("."), parts.port
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        return None
    if port not in {None, _PORTS.get(parts.scheme)}:
        host = f"{host}:{port}"
    path = quote(unquote(parts.path, errors="surrogateescape"), safe="/:@!$&'()*+,;=~", errors="surrogateescape")
    pairs = [
        pair
        for pair in parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape")
        if not _TRACKING.fullmatch(pair[0])
    ]
    query = urlencode(sorted(pairs), errors="surrogateescape")
    fragment = parts.fragment if parts.fragment.startswith(("!", "/")) else ""
    if not path.strip("/") and not query and not fragment:
        return None
    return urlunsplit(("", host, path.rstrip("/"), query, fragment))


def link_key(address: str | None) -> str | None:
    """Hash of the page ``address`` means, equal for all its spellings; None if it means none."""
    page = None if address is None else normalised(address)
    return None if page is None else digest(page)


def digest(*parts: str) -> str:
    """Hash of texts, 64 hex digits; where one ends and the next begins counts."""
    whole = "\0".join(parts)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()

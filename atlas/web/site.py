"""The site: what all requests share; and the visit: one request as a page sees it."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, urlencode, urlsplit

from atlas.scheduler.clock import SystemClock
from atlas.web.access import Access, Brake
from atlas.web.outlook import Outlooks
from atlas.web.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from atlas.scheduler.store.store import Store
    from atlas.service import AtlasScheduler
    from atlas.settings import Settings
    from atlas.web.live import Live
    from atlas.web.pages.desk import Desk
    from atlas.web.rendering import Renders
    from atlas.web.templating import Templates

Language = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh")
THEMES: Final = ("light", "dark")
LANGUAGE_COOKIE: Final = "atlas_lang"
THEME_COOKIE: Final = "atlas_theme"
NOTE_COOKIE: Final = "atlas_note"
MAX_NOTE: Final = 600
SESSION_COOKIES_S: Final = 365 * 86_400
"""How long a language or theme is remembered, seconds."""


@dataclass(slots=True)
class Site:
    """What all requests share.

    Attributes:
        read_only: True if nothing may be changed here.
        allowed_hosts: Host names, besides loopback and plain addresses, under which this site is reached.
        renders: Runs whatever is heavier than a handful of lines, one at a time.
        chores: Runs what takes longer than a page may, such as a forecast of many jobs, one at a time.
        live: The streams of open tabs.
        desk: What the pages keep of the started scheduler; see `desk_of`.
        outlooks: The forecasts that programs asked for; for `chores` alone.
        tally: What `/metrics` counts from the beginning of the site on.
    """

    atlas: AtlasScheduler
    access: Access
    read_only: bool
    allowed_hosts: frozenset[str]
    templates: Templates
    renders: Renders
    chores: Renders
    live: Live
    desk: Desk | None = None
    outlooks: Outlooks = field(default_factory=Outlooks)
    tally: Tally = field(default_factory=lambda: Tally(SystemClock().now().timestamp()))
    guesses: Brake = field(default_factory=lambda: Brake(10, 60.0, SystemClock()))
    changes: Brake = field(default_factory=lambda: Brake(300, 60.0, SystemClock()))

    @property
    def settings(self) -> Settings:
        """What the scheduler was built from."""
        return self.atlas.settings

    @property
    def store(self) -> Store:
        """The scheduler's database; raises while it is stopped."""
        return self.atlas.store


@dataclass(frozen=True, slots=True)
class Note:
    """What an action says on the page it leads back to.

    Attributes:
        kind: ``ok`` or ``error``.
        text: What happened, in one sentence; plain text, to be escaped.
        link: A path of this site the note is about, or "".
    """

    kind: str
    text: str
    link: str = ""


@dataclass(slots=True)
class Visit:
    """One request, as views and templates see it; views run on the render thread and may block.

    Attributes:
        path_params: The parts of the path, such as ``job``.
        query: The query, last value per name.
        form: The fields of a POST, last value per name.
        language: ``en`` or ``zh``: by query (``?lang=``), cookie, then Accept-Language.
        theme: ``light`` or ``dark`` by cookie, "" where the browser decides.
        note: What the action before this page says, or None.
    """

    site: Site
    request: Request
    path_params: Mapping[str, Any]
    query: Mapping[str, str]
    form: Mapping[str, str]
    by: str
    language: Language
    theme: str
    note: Note | None = None

    @property
    def atlas(self) -> AtlasScheduler:
        """The scheduler."""
        return self.site.atlas

    @property
    def store(self) -> Store:
        """The scheduler's database."""
        return self.site.store

    @property
    def root(self) -> str:
        """The prefix the site is mounted under, "" at the top."""
        return str(self.request.scope.get("root_path", "")).rstrip("/")

    @property
    def may_change(self) -> bool:
        """True if actions are offered: the site is not read-only."""
        return not self.site.read_only

    @property
    def path(self) -> str:
        """Path and query of this page below the prefix, for ``back`` fields."""
        return local_path(self.request)

    def url(self, name: str, /, **params: Any) -> str:
        """The address of the route ``name`` under whatever prefix the site is mounted.

        Parameters that are not part of the path go into the query; None and "" are left out.
        """
        return address(self.request, name, params)

    def here(self, **params: Any) -> str:
        """This page with other query values; None takes one away."""
        merged = {**self.query, **{name: str(value) for name, value in params.items() if value is not None}}
        for name, value in params.items():
            if value is None:
                merged.pop(name, None)
        path = quote(self.root + self.request.scope["path"].removeprefix(self.root), safe="/")
        return path + ("?" + urlencode(merged) if merged else "")


def local_path(request: Request) -> str:
    """Path and query of ``request`` below the prefix."""
    root = str(request.scope.get("root_path", ""))
    path = quote(str(request.scope["path"]).removeprefix(root), safe="/") or "/"
    return path + (f"?{request.url.query}" if request.url.query else "")


def address(request: Request, name: str, params: Mapping[str, Any]) -> str:
    """The address of the route ``name``, see `Visit.url`."""
    root = str(request.scope.get("root_path", "")).rstrip("/")
    path = root + str(request.app.state.routes[name].path_format)
    outside = {}
    for key, value in params.items():
        place = f"{{{key}}}"
        if place in path:
            path = path.replace(place, str(value))
        elif value is not None and value != "":
            outside[key] = value
    return quote(path, safe="/") + ("?" + urlencode(outside) if outside else "")


def is_local(path: str) -> bool:
    """True for a path of this site: no other host, no scheme, nothing a browser would read as one."""
    return path.startswith("/") and not path.startswith("//") and path.isprintable() and "\\" not in path


def back_of(request: Request, form: Mapping[str, str]) -> str:
    """Where an action leads back to: the form's ``back``, else the page it came from, else the first page."""
    root = str(request.scope.get("root_path", "")).rstrip("/")
    asked = form.get("back", "")
    if not is_local(asked):
        came = urlsplit(request.headers.get("referer", ""))
        asked = (came.path + (f"?{came.query}" if came.query else "")).removeprefix(root)
    return root + (asked if is_local(asked) else "/")


def cookie_path(request: Request) -> str:
    """The path of the site's cookies, as a browser compares it with the address."""
    return quote(str(request.scope.get("root_path", "")).rstrip("/")) or "/"


def leave_note(request: Request, response: Response, note: Note) -> None:
    """Let the page that ``response`` leads to show ``note``."""
    packed = json.dumps([note.kind, note.text[:MAX_NOTE], note.link[:MAX_NOTE]], ensure_ascii=True)
    value = urlsafe_b64encode(packed.encode()).decode()
    path = cookie_path(request)
    response.set_cookie(NOTE_COOKIE, value, max_age=60, path=path, httponly=True, samesite="strict")


def read_note(request: Request) -> Note | None:
    """The note the action before this page left, if there is one."""
    try:
        kind, text, link = json.loads(urlsafe_b64decode(request.cookies.get(NOTE_COOKIE, "")))
    except ValueError:
        return None
    if not all(isinstance(part, str) for part in (kind, text, link)) or kind not in {"ok", "error"}:
        return None
    return Note(kind, text, link if is_local(link) else "")


def language_of(request: Request) -> Language:
    """The language of the answer: by query, cookie, then what the browser prefers; English otherwise."""
    for asked in (request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if asked in LANGUAGES:
            return asked
    for part in request.headers.get("accept-language", "")[:200].split(","):
        short = part.strip().lower()[:2]
        if short in LANGUAGES:
            return short
    return "en"


def visit_of(
    site: Site,
    request: Request,
    *,
    form: Mapping[str, str] | None = None,
    path_params: Mapping[str, Any] | None = None,
    query: Mapping[str, str] | None = None,
) -> Visit:
    """``request`` as a view sees it."""
    theme = request.query_params.get("theme") or request.cookies.get(THEME_COOKIE, "")
    return Visit(
        site=site,
        request=request,
        path_params=request.path_params if path_params is None else path_params,
        query=dict(request.query_params) if query is None else query,
        form=form or {},
        by=request.scope.get("atlas.by", "web"),
        language=language_of(request),
        theme=theme if theme in THEMES else "",
        note=read_note(request),
    )

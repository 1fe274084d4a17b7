"""The template environment: autoescaping everywhere, no inline script or style, addresses by name."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import jinja2

from atlas import __version__
from atlas.web.words.speech import Speech

if TYPE_CHECKING:
    from atlas.web.site import Visit

FOLDER: Final = Path(__file__).resolve().parent
STATIC: Final = FOLDER / "static"


_SELDOM: Final = ("ask", "error", "find", "help", "job_parked", "once_more", "several/", "sign_in")
"""How the names of templates begin that most processes never show: forms for actions, what was not found."""


class Templates:
    """Templates with the few names each of them may use.

    ``visit`` is the `Visit`; ``url(name, …)`` and ``static(file)`` are addresses under whatever prefix the site is
    mounted; ``say("…", …)`` is a text in the visitor's language; ``version`` is the program's.
    """

    def __init__(self) -> None:
        """Take the environment; a template is compiled at its first use, or by `prepare`."""
        self.environment = _environment()

    def prepare(self) -> None:
        """Compile what visitors come for, so that no page has to; a form takes 0.02 s at its first use."""
        for name in self.environment.list_templates(filter_func=lambda name: not name.startswith(_SELDOM)):
            self.environment.get_template(name)

    def render(self, template: str, visit: Visit, context: dict[str, Any]) -> str:
        """``template`` with ``context`` for ``visit``."""
        made: list[_Context] = []
        try:
            return self.environment.get_template(template).render(
                {
                    "visit": visit,
                    "url": visit.url,
                    "static": lambda name: static_address(visit.root, name),
                    "say": Speech(visit.language),
                    "version": __version__,
                    **context,
                    _MADE: made,
                }
            )
        finally:
            for one in made:
                one.empty()


_MADE: Final = "_made"
"""Under this name every context of a page finds the list of them."""


class _Context(jinja2.runtime.Context):
    """The names of one template while a page is made.

    Its macros hold it and it holds them: unless it is emptied, the page's rows and texts, up to megabytes, stay until
    the garbage collector comes round.
    """

    def __init__(self, environment: jinja2.Environment, parent: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(environment, parent, *args, **kwargs)
        parent[_MADE].append(self)

    def empty(self) -> None:
        """Let go of everything; the page is made."""
        self.vars.clear()
        self.parent.clear()


@cache
def _environment() -> jinja2.Environment:
    """All sites of a process share one: compiling takes most of a second, and no template keeps anything."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,  # every template is HTML
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    environment.context_class = _Context
    return environment


def static_address(root: str, name: str) -> str:
    """The address of a static file; it changes with the content, so that browsers may keep it for ever."""
    return f"{quote(root)}/static/{quote(name)}?v={static_version(name)}"


@cache
def static_version(name: str) -> str:
    """What changes with the content of a static file."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]

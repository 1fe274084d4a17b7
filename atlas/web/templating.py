"""The template environment: autoescaping everywhere, no inline script or style, addresses by name."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import jinja2

from atlas import __version__
from atlas.web.words import words

if TYPE_CHECKING:
    from atlas.web.site import Visit

FOLDER: Final = Path(__file__).resolve().parent
STATIC: Final = FOLDER / "static"


class Templates:
    """Templates with the few names each of them may use.

    ``visit`` is the `Visit`; ``url(name, …)`` and ``static(file)`` are addresses under whatever prefix the site is
    mounted; ``_("key", …)`` is a text in the visitor's language; ``version`` is the program's.
    """

    def __init__(self) -> None:
        """Take the environment; a template is compiled at its first use, or by `prepare`."""
        self.environment = _environment()

    def prepare(self) -> None:
        """Compile every template, so that no page has to."""
        for name in self.environment.list_templates():
            self.environment.get_template(name)

    def render(self, template: str, visit: Visit, context: dict[str, Any]) -> str:
        """``template`` with ``context`` for ``visit``."""
        return self.environment.get_template(template).render(
            {
                "visit": visit,
                "url": visit.url,
                "static": lambda name: static_address(visit.root, name),
                "_": lambda key, **values: words(visit.language, key, **values),
                "version": __version__,
                **context,
            }
        )


@cache
def _environment() -> jinja2.Environment:
    """All sites of a process share one: compiling takes most of a second, and no template keeps anything."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,  # every template is HTML
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )


def static_address(root: str, name: str) -> str:
    """The address of a static file; it changes with the content, so that browsers may keep it for ever."""
    return f"{quote(root)}/static/{quote(name)}?v={_digest(name)}"


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]

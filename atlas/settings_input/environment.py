"""Settings from environment variables: ``ATLAS_<SECTION>__<KEY>``, each read, and blamed, on its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from atlas.scheduler.errors import Problem
from atlas.scheduler.nearest import nearest
from atlas.settings_input.problems import LIKE, model_of, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from atlas.settings_input.problems import Place

PREFIX: Final = "ATLAS_"
FILE_VARIABLE: Final = "ATLAS_CONFIG"
"""Names the settings file; the one variable under our prefix that is no setting."""
_SERVICE_LINK: Final = re.compile(
    r"ATLAS(?:_[A-Z0-9]+)*?_(?:SERVICE_HOST=|SERVICE_PORT(?:_[A-Z0-9_]+)?=|PORT=(?:tcp|udp|sctp)://"
    r"|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?=)"
)
"""What Kubernetes and Docker's links tell every container of a service named ``atlas…``; nobody wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One variable that sets one value."""

    name: str
    text: str
    place: Place
    """Section and key it sets, and an inner key where the value is a mapping."""
    value: Any = None
    """``text`` as data: JSON read, ``null`` as None."""

    def problem(self, message: str, *, inner: Place = ()) -> Problem:
        """A problem with its value, or with what stands at ``inner`` in it."""
        path = ".".join(map(str, (self.name, *inner)))
        return Problem(file="environment", path=path, value=shorten(self.text), message=message)


def read_variables(environ: Mapping[str, str], settings: type[BaseModel]) -> tuple[list[Variable], list[Problem]]:
    """The variables in ``environ`` that set something, the wider ones first, and what is wrong with the others."""
    places = {f"{PREFIX}{'__'.join(place)}".upper(): place for place in _places(settings)}
    variables: list[Variable] = []
    problems: list[Problem] = []
    for name in sorted(environ):
        if not name.upper().startswith(PREFIX) or name.upper() == FILE_VARIABLE:
            continue
        if _SERVICE_LINK.match(f"{name}={environ[name]}"):
            continue
        if name.upper() not in places:
            near = nearest(name, places, cutoff=LIKE)
            hint = f"did you mean {near}?" if near else f"they are named {PREFIX}<SECTION>__<KEY>, as in config.yaml"
            problems.append(Problem(file="environment", path=name, message=f"unknown variable; {hint}"))
            continue
        place = places[name.upper()]
        try:
            value: Any = _read(name, environ[name], settings)
        except ValueError:
            unread = Variable(name=name, text=environ[name], place=place)
            problems.append(unread.problem('is not JSON, which a list is written in here: ["one", "two"]'))
            continue
        for step in place:
            value = value[step]
        variables.append(Variable(name=name, text=environ[name], place=place, value=value))
    return sorted(variables, key=lambda variable: len(variable.place)), problems


def _places(settings: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """Every section and key a variable may set, and the fixed inner keys of mappings."""
    for section, holder in settings.model_fields.items():
        model = model_of(holder)
        for key, field in model.model_fields.items() if model else ():
            yield section, key
            if get_origin(field.annotation) is Mapping:
                names, _ = get_args(field.annotation)
                yield from ((section, key, name) for name in get_args(names))


def _read(name: str, text: str, settings: type[BaseModel]) -> dict[str, Any]:
    from atlas.settings_input.variable_source import value_of

    return value_of(name, text, settings, PREFIX)

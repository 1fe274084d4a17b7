"""A verb of the API: where it is called, what it takes and what it answers; routes and description are made of it."""

from __future__ import annotations

import asyncio
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from starlette.requests import Request

    from atlas.scheduler.store.store import Store
    from atlas.service import AtlasScheduler
    from atlas.web.site import Site

PREFIX: Final = "/api/v1"
MAX_LIMIT: Final = 1000
MAX_NUMBER: Final = 2**31 - 1

Priority = Literal["URGENT", "HIGH", "NORMAL", "LOW"]

Given = TypeVar("Given", bound="Taken")


def _reckonable(at: datetime) -> datetime:
    if not 1970 < at.year < 9000:
        raise ValueError("a year from 1971 to 8999 is wanted")
    return at


Instant = Annotated[AwareDatetime, AfterValidator(_reckonable)]
"""A date and time with its offset: ``2026-12-24T18:00:00+08:00``."""


class Taken(BaseModel):
    """What a verb takes in its query or body; a name it does not know is refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)


class Nothing(Taken):
    """It takes nothing."""


class Paged(Taken):
    """A page of a list."""

    limit: int = Field(100, ge=1, le=MAX_LIMIT, description="At most so many.")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a verb."""

    site: Site
    path: dict[str, str]
    """The parts of the path, such as ``job``."""
    given: Taken
    """The query of a GET, the body of a POST, checked."""
    by: str

    @property
    def atlas(self) -> AtlasScheduler:
        """The scheduler."""
        return self.site.atlas

    @property
    def store(self) -> Store:
        """Its database."""
        return self.site.store

    def taken(self, kind: type[Given]) -> Given:
        """`given`, as what the verb says it takes."""
        if not isinstance(self.given, kind):
            raise TypeError(kind)
        return self.given


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb.

    Attributes:
        method: ``GET`` or ``POST``.
        path: Below `PREFIX`: ``/jobs/{job}/run``.
        do: Does it and returns JSON values. Its name names the operation, its docstring describes it. A GET is done
            on the render thread; a POST waits for its commit on a thread where no page waits behind it.
        takes: The query of a GET, the body of a POST.
        waits: True for a GET that waits for a commit, or for a disk, as a POST does.
        is_long: True if it may take longer than a page, with many jobs: it is done on the thread for that.
    """

    method: str
    path: str
    do: Callable[[Call], dict[str, Any]]
    takes: type[Taken] = Nothing
    waits: bool = False
    is_long: bool = False

    @property
    def name(self) -> str:
        """What the description calls it."""
        return self.do.__name__

    def route(self, site: Site) -> Route:
        """The verb as a route."""

        async def answer(request: Request) -> Response:
            raw: Any = dict(request.query_params) if self.method == "GET" else _body(await request.body())
            path = {name: str(value) for name, value in request.path_params.items()}
            if any("\0" in value for value in path.values()):
                raise HTTPException(404, "no name holds a NUL")
            try:
                given = self.takes.model_validate(_storable(raw))
            except ValidationError as error:
                raise HTTPException(400, _words(error)) from error
            call = Call(site, path, given, str(request.scope.get("atlas.by", "api")))
            text = await self._done(site, lambda: _json(self.do(call)))
            return Response(text, media_type="application/json")

        # A job's id may hold slashes.
        path = self.path.replace("{job}", "{job:path}").replace("{task}", "{task:path}")
        return Route(PREFIX + path, answer, methods=[self.method], name=f"api_{self.name}")

    async def _done(self, site: Site, work: Callable[[], bytes]) -> bytes:
        if self.is_long:
            return await site.chores.run(work)
        if self.waits or self.method != "GET":
            return await asyncio.to_thread(work)
        return await site.renders.run(work)


def listed(items: list[dict[str, Any]], following: str | int | None) -> dict[str, Any]:
    """A page of a list."""
    return {"items": items, "next": following}


def _body(raw: bytes) -> Any:
    if not raw:
        return {}
    try:
        return json.loads(raw, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is not JSON") from error


def _no_number(text: str) -> float:
    raise ValueError(text)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL as JSON writes it; the same letters behind a backslash of their own are text."""


def _storable(given: Any) -> Any:
    """Refuses text that no database keeps: a NUL, half a character."""
    try:
        text = json.dumps(given, ensure_ascii=False)
        text.encode()
    except (UnicodeEncodeError, RecursionError, ValueError) as error:
        raise HTTPException(400, "a text here holds half a character, or values are nested too deep") from error
    if _NUL.search(text):
        raise HTTPException(400, "a text here holds a NUL")
    return given


def _words(error: ValidationError) -> str:
    """Where, what: at most five of them."""
    parts = [
        ": ".join(part for part in (".".join(str(one)[:80] for one in problem["loc"]), problem["msg"]) if part)
        for problem in error.errors(include_url=False, include_input=False)[:5]
    ]
    return "; ".join(parts)


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, default=_plain, ensure_ascii=False, allow_nan=False).encode()


def _plain(value: object) -> object:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)

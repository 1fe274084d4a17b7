"""``/api/v1/openapi.json``: the description of the API, made of the verbs themselves."""

from __future__ import annotations

import asyncio
import re
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import models_json_schema
from starlette.responses import JSONResponse
from starlette.routing import Route

from atlas import __version__
from atlas.web.api.refusals import ERROR, refusals, responses
from atlas.web.api.verb import PREFIX, Nothing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

    from atlas.web.api.verb import Verb

_SCHEMAS: Final = "#/components/schemas/"
_RESPONSES: Final = "#/components/responses/"


def route(verbs: Sequence[Verb]) -> Route:
    """Serves `described`; it is made when somebody asks, which few installations ever see."""
    made = cache(partial(described, verbs))

    async def answer(request: Request) -> JSONResponse:
        root = str(request.scope.get("root_path", "")).rstrip("/")
        return JSONResponse({**await asyncio.to_thread(made), "servers": [{"url": root + PREFIX}]})

    return Route(f"{PREFIX}/openapi.json", answer, name="openapi")


def described(verbs: Sequence[Verb]) -> dict[str, Any]:
    """The OpenAPI 3.1 description of ``verbs``."""
    from atlas.web.api.answers import ANSWERS  # fifty models, most of a megabyte, that few installations ever need

    models = dict.fromkeys(model for verb in verbs for model in (verb.takes, ANSWERS[verb.name]))
    keys, made = models_json_schema([(model, "validation") for model in models], ref_template=_SCHEMAS + "{model}")
    schemas, refs = made["$defs"], {model: key for (model, _mode), key in keys.items()}
    paths: dict[str, Any] = {}
    for verb in verbs:
        paths.setdefault(verb.path, {})[verb.method.lower()] = _operation(
            verb, schemas, refs[verb.takes], refs[ANSWERS[verb.name]]
        )
    queries = {verb.takes.__name__ for verb in verbs if verb.method == "GET"} | {Nothing.__name__}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Atlas Scheduler", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {name: one for name, one in schemas.items() if name not in queries} | {"Error": ERROR},
            "responses": responses(_SCHEMAS + "Error"),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(verb: Verb, schemas: Mapping[str, Any], taken: Any, told: Any) -> dict[str, Any]:
    takes, summary = schemas[verb.takes.__name__], (verb.do.__doc__ or "").strip()
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", verb.path)
    ]
    operation: dict[str, Any] = {
        "operationId": verb.name,
        "summary": summary,
        "responses": {
            "200": {"description": "Done.", "content": _content(told)},
            **{str(status): {"$ref": f"{_RESPONSES}{status}"} for status in refusals(verb)},
        },
    }
    if verb.method == "GET":
        parameters += [
            {
                "name": name,
                "in": "query",
                "required": name in takes.get("required", ()),
                "description": field.get("description", ""),
                "schema": _without_null(field),
            }
            for name, field in takes.get("properties", {}).items()
        ]
    elif verb.takes is not Nothing:
        needed = bool(takes.get("required"))
        operation["requestBody"] = {"required": needed, "content": _content(taken)}
    return {**operation, "parameters": parameters} if parameters else operation


def _content(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """A query has no null: what is not given is left out."""
    bare = {name: value for name, value in field.items() if name not in {"anyOf", "title", "description", "default"}}
    choices = [one for one in field.get("anyOf", ()) if one.get("type") != "null"]
    if field.get("default") is not None:
        bare["default"] = field["default"]
    return bare | (choices[0] if choices else {})

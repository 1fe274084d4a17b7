"""How the API refuses, as its description says it: every status, and the stable codes that come with it.

::

    {"error": {"code": "unknown_job", "message": "…", "detail": null}}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from atlas.web.api.verb import Nothing
from atlas.web.errors import CODES as GENERAL
from atlas.web.errors import STATUSES

if TYPE_CHECKING:
    from atlas.web.api.verb import Verb

_WORDS: Final = {
    400: "What was given cannot be read.",
    401: "The token is missing or wrong.",
    403: "Nothing may be changed here, or not from there.",
    404: "There is no such thing.",
    409: "It cannot be done as things stand.",
    413: "The body is too large.",
    422: "It was understood and is refused.",
    429: "Too many changes, or wrong tokens, in a minute; see Retry-After.",
    500: "A fault of this program; its log says which.",
    503: "It cannot be done now; see Retry-After.",
}
_GUARDS: Final = {
    401: {"sign_in", "wrong_token"},
    403: {"foreign_origin", "read_only"},
    429: {"too_many"},
    500: {"internal"},
}
"""What the guard says before a verb is asked."""


def _codes(status: int) -> list[str]:
    found = {code for _kind, one, code in STATUSES if one == status} | _GUARDS.get(status, set())
    return sorted(found | ({GENERAL[status]} if status in GENERAL else set()))


CODES: Final = {status: _codes(status) for status in _WORDS}
"""Status → the codes it comes with."""
ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "detail"],
            "additionalProperties": False,
            "properties": {
                "code": {"type": "string", "enum": sorted({code for codes in CODES.values() for code in codes})},
                "message": {"type": "string", "description": "In English, for people."},
                "detail": {"description": "The located problems of a refused config, else null."},
            },
        }
    },
}
"""The schema of every refusal but 421."""
_WRONG_HOST: Final = {
    "description": "The name in Host is not one of this site: `web.allowed_hosts` in the settings.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}
_NAMING: Final = frozenset({"/diff", "/rollback", "/jobs/pause", "/jobs/resume"})
"""Verbs that name a revision, or jobs, in what they take."""


def refusals(verb: Verb) -> list[int]:
    """With which statuses ``verb`` may be refused."""
    statuses = {401, 413, 421, 429, 500, 503}
    if verb.method == "POST":
        statuses |= {400, 403, 409, 422}
    if verb.takes is not Nothing:
        statuses |= {400, 422}
    if "{" in verb.path or verb.path in _NAMING:
        statuses |= {404, 422}
    return sorted(statuses)


def responses(error: str) -> dict[str, Any]:
    """Status → its response, for operations to point to; ``error`` is where `ERROR` stands in the description."""
    made: dict[str, Any] = {"421": _WRONG_HOST}
    for status, words in _WORDS.items():
        codes = CODES[status]
        body = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
        made[str(status)] = {
            "description": f"{words} Codes: {', '.join(f'`{code}`' for code in codes)}.",
            "content": {"application/json": {"schema": {"allOf": [{"$ref": error}, body]}}},
        }
        if status in {429, 503}:
            made[str(status)]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return made

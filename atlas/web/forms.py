"""Bodies of requests: read whole, bounded by the guard, decoded without a multipart parser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException

from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.message import Message

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_FIELDS: Final = 1_000
"""A form of several jobs has one for each."""


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, last value per name.

    Raises:
        HTTPException: 415 for anything but a plain form, 400 where it is not UTF-8 or holds a NUL.
        ArgumentsError: It has too many fields.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if not body:
        return {}
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "a form is sent as application/x-www-form-urlencoded")
    if body.count(b"&") >= MAX_FIELDS:
        raise ArgumentsError(Message("a form here has at most {n} fields", n=f"{MAX_FIELDS:,}"))
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise HTTPException(400, f"the form cannot be read: {error}") from error
    if any("\0" in name or "\0" in value for name, value in pairs):
        raise HTTPException(400, "a text here holds a NUL")  # no database keeps one
    return {name: value.replace("\r\n", "\n") for name, value in pairs}

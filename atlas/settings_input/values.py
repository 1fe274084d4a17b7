"""The kinds of value a setting can have: each reads what a file or variable says and refuses what cannot work."""

from __future__ import annotations

import ipaddress
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, PlainValidator

from atlas.scheduler.durations import parse_duration
from atlas.scheduler.zones import zone_named

MOST: Final = 10**15
"""Largest number that is counted with: a petabyte, and far below what a database holds."""
_PACKAGE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_PREFIX: Final = re.compile(r"(/(?!\.{1,2}(/|$))[\w.~-]+)+", re.ASCII)
_POSTGRES: Final = re.compile(r"postgres(ql)?(\+psycopg)?://", re.IGNORECASE)


def _number(value: object) -> object:
    """``value``, unless YAML read a word such as `yes` as true, which would count as 1."""
    if isinstance(value, bool):
        raise ValueError("a whole number is wanted, not true or false")  # noqa: TRY004 - pydantic takes ValueError
    return value


def _limit(value: object) -> float:
    """Seconds above 0."""
    seconds = parse_duration(value)
    if seconds == 0:
        raise ValueError("0 is no usable limit; where none is wanted, and the setting allows it, write null")
    return seconds


def _path(value: object) -> Path:
    """A path, with ``~`` expanded; anchored later."""
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
        raise ValueError("a path is wanted")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("~ stands for a home folder that is not known here; write the whole path") from None


def _database(value: object) -> Path | str:
    """A path for SQLite, or a PostgreSQL address in the form SQLAlchemy takes."""
    if isinstance(value, str) and "://" in value:
        if value.lower().startswith("sqlite:///"):
            return _path(value[len("sqlite:///") :])
        if not _POSTGRES.match(value):
            raise ValueError("wanted is a path (SQLite) or postgresql://user@host/name")
        return _POSTGRES.sub("postgresql+psycopg://", value, count=1)
    return _path(value)


def _zone(name: str) -> str:
    """The name of a zone this machine knows, or "" for the machine's own."""
    return zone_named(name).key if name else ""


def _package(name: str) -> str:
    """A dotted package name outside the standard library."""
    if not _PACKAGE.fullmatch(name):
        raise ValueError("wanted is a package name such as atlas_app.jobs")
    if name.partition(".")[0] in sys.stdlib_module_names:
        raise ValueError("the standard library holds functions that run anything; allow a package of your own")
    return name


def _url(text: str) -> str:
    """An http(s) address."""
    if not text.isprintable() or " " in text or (parts := urlsplit(text)).scheme not in {"http", "https"}:
        raise ValueError("wanted is an address that begins with http:// or https://")
    if not parts.hostname:
        raise ValueError("the address names no host")
    _ = parts.port  # raises what is wrong with it
    return text


def _host(name: str) -> str:
    """A bare host name or address, in lower case."""
    if not name or re.search(r"[\s/@]", name):
        raise ValueError("wanted is a bare host such as feeds.internal or 10.0.0.7, no scheme, no path")
    return name.lower()


def _bind(host: str) -> str:
    """An address to listen on."""
    host = "127.0.0.1" if host == "localhost" else host
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError("wanted is an address of this machine: 127.0.0.1, ::1, or 0.0.0.0 for all") from None


def _proxy(text: str) -> str:
    """An address or a network."""
    try:
        return str(ipaddress.ip_network(text) if "/" in text else ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("wanted is an address or a network, such as 10.0.0.7 or 10.0.0.0/24") from None


def is_loopback(host: str) -> bool:
    """True for an address that only this machine can connect to."""
    return ipaddress.ip_address(host).is_loopback


def _header(text: str) -> str:
    """Text that may stand in an HTTP header."""
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("wanted is printable ASCII text")
    return text


def _prefix(text: str) -> str:
    """A path as it stands in an address, without a slash at its end; "" is none."""
    if text and not _PREFIX.fullmatch(text):
        raise ValueError("wanted is a prefix such as /scheduler: it begins with a slash and does not end with one")
    return text


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Count = Annotated[int, BeforeValidator(_number), Field(le=MOST)]
Size = Annotated[ByteSize, BeforeValidator(_number), Field(le=MOST)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
TimeLimit = Annotated[float, BeforeValidator(_limit)]
ProjectPath = Annotated[Path, BeforeValidator(_path)]
Database = Annotated[Path | str, PlainValidator(_database)]
ZoneName = Annotated[str, AfterValidator(_zone)]
PackageName = Annotated[str, AfterValidator(_package)]
HttpUrl = Annotated[str, Field(max_length=2000), AfterValidator(_url)]
BindAddress = Annotated[str, AfterValidator(_bind)]
ProxyAddress = Annotated[str, AfterValidator(_proxy)]
HostName = Annotated[str, AfterValidator(_host)]
UrlPrefix = Annotated[str, AfterValidator(_prefix)]
HeaderText = Annotated[str, Field(max_length=200), AfterValidator(_header)]
UpperCase: Any = BeforeValidator(_upper)

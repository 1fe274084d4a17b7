"""Who is measured: each with what is safe when its call has returned, and what it needs to be there."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

Peers = Literal["none", "some", "all"]
REDIS: Final = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/13")
POSTGRES: Final = os.environ.get("BENCH_POSTGRES", "postgresql+psycopg://127.0.0.1:5432/postgres")


def no_server(url: str, what: str, variable: str) -> Callable[[], str | None]:
    """Says why the server of ``url`` cannot be used; None if it can be reached."""

    def look() -> str | None:
        place = urlsplit(url)
        host, port = place.hostname or "127.0.0.1", place.port or 0
        try:
            socket.create_connection((host, port), timeout=2.0).close()
        except OSError as error:
            return f"no {what} answers at {host}:{port} ({error}); {variable} names another"
        return None

    return look


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Atlas, a peer, or a floor.

    Attributes:
        name: How the table calls it.
        durability: What is safe when a call has returned, in words; empty where nothing is kept by nature.
        among: The smallest choice of ``PEERS=`` that it belongs to; ``none`` is always measured.
        home: Which interpreter runs it: Atlas's, or the one that the peers are installed in.
        missing: Says why it cannot be measured here, None if it can.
    """

    name: str
    durability: str = ""
    among: Peers = "none"
    home: Literal["atlas", "peers"] = "atlas"
    missing: Callable[[], str | None] = lambda: None


ATLAS: Final = Contender(
    name="Atlas",
    durability="accepted work is on the disk (SQLite, WAL, synchronous=FULL); a crash repeats 100 ended tasks at most",
)
ATLAS_NORMAL: Final = Contender(
    name="Atlas, durability normal",
    durability="accepted work survives the end of the process; a power cut may take the newest",
)
ATLAS_WITH_PAGES: Final = Contender(name="Atlas with pages")

STOCK_SQLITE: Final = Contender(
    name="APScheduler SQLite",
    durability="next fire times are on the disk (synchronous=FULL), what started or failed is not; no results",
    among="some",
)
STOCK_SQLITE_DEFAULTS: Final = Contender(
    name="APScheduler SQLite, defaults",
    durability="as APScheduler SQLite; what starts a second late is dropped",
    among="some",
)
STOCK_MEMORY: Final = Contender(name="APScheduler memory", durability="none", among="some")
STOCK_POSTGRES: Final = Contender(
    name="APScheduler PostgreSQL",
    durability="next fire times are in PostgreSQL, what started or failed is not; no results",
    among="all",
    missing=no_server(POSTGRES, "PostgreSQL", "BENCH_POSTGRES"),
)
STOCK_TRIGGER: Final = Contender(name="APScheduler CronTrigger", among="some")
HUEY: Final = Contender(
    name="huey",
    durability="each step is on the disk (SQLite, synchronous=FULL); a task that was taken is lost by a crash",
    among="some",
    home="peers",
)
CELERY: Final = Contender(
    name="Celery",
    durability="in Redis's memory, on its disk as Redis is set up; a task that was taken is lost by a crash",
    among="all",
    home="peers",
    missing=no_server(REDIS, "Redis", "BENCH_REDIS"),
)

GROUP_COMMIT: Final = Contender(
    name="group commit", durability="the floor: one row of one SQLite table is on the disk (synchronous=FULL)"
)
THREAD_POOL: Final = Contender(name="thread pool", durability="the floor: a priority queue in memory, none")

CHOICES: Final[tuple[Peers, ...]] = ("none", "some", "all")


def left_out(who: Contender, peers: Peers) -> str | None:
    """Why ``who`` is not measured; None if it is."""
    if CHOICES.index(who.among) > CHOICES.index(peers):
        return f"measured with PEERS={who.among}"
    return who.missing()

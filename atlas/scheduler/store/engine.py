"""Opens the database: SQLite in WAL with private files, memory for a queue of its own, PostgreSQL by URL."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from atlas.scheduler.errors import StoreError
from atlas.scheduler.store.database_file import with_remedy
from atlas.scheduler.store.statements import run_driver

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection
    from sqlalchemy.exc import DBAPIError

Durability = Literal["full", "normal"]
"""``full``: a commit is on the disk. ``normal``: it is with the operating system; a power cut may take the newest ones,
a crash of the process takes none."""

MEMORY_URL: Final = "sqlite://"
LOCK_S: Final = 5.0
"""How long a statement waits for somebody else's lock of a PostgreSQL table; then the writer tries again."""
FROZEN_S: Final = 15.0
"""How long PostgreSQL lets a transaction stand idle before it takes its locks away; less than a lease."""
_LASTING: Final = re.compile(r"authentication failed|does not exist|no pg_hba\.conf entry|no password|denied")
"""What a PostgreSQL says that answers, and will not let us in."""
_LASTING_CLASSES: Final = frozenset({"28", "3D"})
"""SQLSTATE: not authorised; no such database."""
_CROWDED: Final = re.compile(r"too many|slots")
"""What it says to one that it knows and has no room for."""
POOLED: Final = (
    "a pooler such as pgbouncer stands in between and shares sessions; locks and LISTEN need sessions of their own: "
    "name the server itself, or a pool with pool_mode = session (and ignore_startup_parameters = options)"
)
_POOLERS: Final = re.compile(r"unsupported startup parameter|statement pooling")
"""What a pooler says that does not let us in."""
BUSY_S: Final = 1.0
"""How long one statement waits for another process's lock. Longer outages are the writer's to wait for."""

CACHE_KB: Final = 250
"""What one SQLite connection keeps in memory; a reader forgets it at every commit of the writer, and behind it is the
operating system's cache, which all connections share. Four times as much saves no CPU of herds, starts or pages."""


def database_url(target: Path | str | None) -> URL:
    """The URL meant by a file's path or a URL text; None means a private database in memory, as ``":memory:"`` does.

    Raises:
        StoreError: The text names a database Atlas cannot use.
    """
    if target is None or target == ":memory:":
        return make_url(MEMORY_URL)
    if isinstance(target, str) and "://" in target:
        url = make_url(target)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
    else:
        url = make_url(MEMORY_URL).set(database=str(Path(target).expanduser().resolve()))
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise StoreError(f"database {url.render_as_string()}: only sqlite and postgresql are supported")
    if url.get_backend_name() == "sqlite" and url.database not in {None, "", ":memory:"}:
        url = url.set(database=str(Path(str(url.database)).resolve()))
    return url


def file_of(url: URL) -> Path | None:
    """The database file of a SQLite URL, None for memory and servers."""
    if url.get_backend_name() != "sqlite" or url.database in {None, "", ":memory:"}:
        return None
    return Path(str(url.database))


def _postgres_options(url: URL) -> dict[str, Any]:
    options: dict[str, Any] = {
        "connect_timeout": 5,
        "client_encoding": "utf8",  # whatever PGCLIENTENCODING or the database says
        # A server that vanished without a word is noticed within a minute, also by a connection that only listens.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        # A process that is frozen in a transaction would keep its rows from its successor.
        "options": f"-c idle_in_transaction_session_timeout={FROZEN_S:g}s -c lock_timeout={LOCK_S:g}s",
    }
    return {name: value for name, value in options.items() if name not in url.query}


def open_engine(url: URL, durability: Durability) -> Engine:
    """An engine whose connections are set up for Atlas; the file is made with mode 0600.

    Raises:
        StoreError: The folder cannot be made or the driver is missing.
    """
    if url.get_backend_name() == "postgresql":
        try:
            engine = create_engine(url, pool_pre_ping=True, pool_size=5, connect_args=_postgres_options(url))
        except ModuleNotFoundError as error:
            msg = f"PostgreSQL needs the extra: pip install 'atlas-scheduler[postgres]' ({error})"
            raise StoreError(msg) from error
        event.listen(engine, "connect", _refuse_encoding)
        return engine
    path = file_of(url)
    given: dict[str, Any] = {"timeout": BUSY_S, "check_same_thread": False}
    options: dict[str, Any] = {"connect_args": given, "poolclass": StaticPool}
    if path is not None:
        make_private(path)
        # Never made here: in the place of one that was deleted, SQLite would take the lost one's log for its own.
        address = f"file:{quote(str(path))}?mode=rw"
        options = {"creator": lambda: sqlite3.connect(address, uri=True, **given)}
    engine = create_engine(url, **options)

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # Atlas says BEGIN itself, see below
        if path is not None:
            _write_ahead(connection)
            connection.execute(f"PRAGMA synchronous={durability.upper()}")
            connection.execute("PRAGMA journal_size_limit=16777216")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KB}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A deferred transaction that turns into a write after somebody's commit fails at once, whatever its timeout.
        immediate = connection.get_execution_options().get("atlas_write", False)
        run_driver(connection, "BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _refuse_encoding(connection: Any, _record: object) -> None:
    """Raise for a database that cannot hold every text: the first one it cannot would keep each commit from it."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in {None, "UTF8"}:
        raise StoreError(
            f"database {connection.info.dbname}: its encoding is {encoding}, texts of all languages need UTF8; "
            "make another one with 'createdb -E UTF8 -T template0 NAME'"
        )


def refuse_pooler(engine: Engine) -> None:
    """Raise where connections to PostgreSQL are handed to others between transactions.

    Locks and LISTEN belong to a session of the server: two processes would lead, and none would hear. A pooler gives a
    client a process id that is not the server's; one that gives two clients one process of the server is such a one.
    One that gives each client its own for as long as it is connected is as good as none.

    Raises:
        StoreError: Two connections at once were served by one process.
    """
    with engine.connect() as one:
        server = _server_process(one)
        told: Any = one.connection.dbapi_connection
        if told.info.backend_pid == server:
            return
        with engine.connect() as other:
            shared = _server_process(other) == server
    if shared:
        raise StoreError(f"{engine.url.render_as_string()}: {POOLED}")


def _server_process(connection: Connection) -> int:
    """The process of the server that serves a transaction."""
    with connection.begin():
        return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def why_not_opened(error: DBAPIError, path: Path | None) -> str:
    """What the database says that cannot be opened, and what to do where it is known."""
    if path is not None:
        return with_remedy(error, path)
    said = str(error.orig)
    return f"{said.strip()}; {POOLED}" if _POOLERS.search(said) else said


def _write_ahead(connection: Any) -> None:
    """Switch to WAL. Of first starts that do so together SQLite refuses all but one at once, whatever their timeout."""
    until_s = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= until_s:
                raise
            time.sleep(0.005)
        else:
            return


def may_pass(error: DBAPIError) -> bool:
    """True if the database may answer later: a server that starts or is out of reach, a file that another one locks.

    libpq gives no SQLSTATE for a connection that failed. What it does tell in every language is that a password was
    asked for: then a server that runs does not let us in. What else lasts is known by its English words alone.
    """
    told = error.orig
    if "psycopg" not in type(told).__module__:
        return "locked" in str(told)
    if not isinstance(error, OperationalError):
        return False
    state: str | None = getattr(told, "sqlstate", None)
    if state is not None:
        return state[:2] not in _LASTING_CLASSES
    connection = getattr(told, "pgconn", None)
    if connection is not None and connection.used_password:
        return bool(_CROWDED.search(str(told)))
    return not _LASTING.search(str(told))


def make_private(path: Path) -> None:
    """Make the file with mode 0600, if it is not there; one that is there is not touched.

    Closing a handle of a file that this process has open in SQLite would free all of SQLite's locks on it.

    Raises:
        StoreError: The folder does not allow it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_dir():
            raise StoreError(f"database {path}: this is a folder; name a file as persistence.database in config.yaml")
        # SQLite gives its -wal and -shm files the mode of the database itself.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        msg = f"database {path}: {error.strerror}; make its folder writable or set persistence.database in config.yaml"
        raise StoreError(msg) from error

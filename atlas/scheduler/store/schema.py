"""Brings a database to this program's tables: made at once when new, by Alembic when behind, refused when newer."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect, text
from sqlalchemy.exc import OperationalError

from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.errors import StoreVersionError
from atlas.scheduler.store.tables import make_tables

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

HEAD: Final = "0001"
"""The newest migration. Alembic costs 0.11 s and 11 MB to import, so it is asked only when a database is behind."""

MIGRATIONS: Final = Path(__file__).parent / "migrations"
MORE_TRIES: Final = 4
_LOCK_KEY: Final = 0x61746C6173  # "atlas"


def prepare(engine: Engine) -> None:
    """Make or migrate the tables, under an exclusive lock: several first starts at once are safe.

    Raises:
        StoreVersionError: The database was made by a newer Atlas.
        DBAPIError: The database does not answer, or stays locked.
    """
    if is_prepared(engine):  # whoever only looks must not need the lock, which a writer that hangs may hold
        return
    if _first_to_get_in(engine) and engine.dialect.name == "sqlite":
        connection = engine.raw_connection()  # the mark must stand in the file, not only in its log
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()


def _first_to_get_in(engine: Engine) -> bool:
    """`_brought_up_to_date`, behind other first starts: on a busy disk each may hold SQLite's lock for long."""
    for _ in range(MORE_TRIES):
        try:
            return _brought_up_to_date(engine)
        except OperationalError as error:  # each try has waited for `BUSY_S`
            if engine.dialect.name != "sqlite" or "locked" not in str(error.orig):
                raise
    return _brought_up_to_date(engine)


def _brought_up_to_date(engine: Engine) -> bool:
    """True if the tables were made."""
    # What is run once need not be kept as it was compiled.
    with engine.connect().execution_options(atlas_write=True, compiled_cache=None) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL lock_timeout = 0"))  # another first start may take its time
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        version = _version(connection)
        if version == HEAD:
            return False
        if version is None:
            make_tables(connection)
            reached(CrashPoint.SCHEMA_MADE)
            if connection.dialect.name == "sqlite":  # a mark that tells this database from any other one
                connection.exec_driver_sql(f"PRAGMA user_version = {secrets.randbelow(2**31 - 1) + 1}")
            connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
            connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": HEAD})
            return True
        if version > HEAD:
            raise StoreVersionError(
                f"{engine.url.render_as_string()} has schema {version}, this program knows up to {HEAD}: "
                "it was written by a newer Atlas; install that one, or point this one at another database"
            )
        upgrade(connection)
        return False


def is_prepared(engine: Engine) -> bool:
    """True if the database has this program's tables."""
    with engine.connect() as connection:
        return _version(connection) == HEAD


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to ``revision`` on ``connection``, within its transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

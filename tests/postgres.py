"""A PostgreSQL server of the tests' own: a cluster in a temporary folder, reached by a Unix socket, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    from collections.abc import Iterator

START_LIMIT_S = 20.0
OPTIONS = ("fsync=off", "listen_addresses=", "max_connections=40", "shared_buffers=16MB", "log_min_messages=log")


class Missing(Exception):  # noqa: N818 - it is no fault
    """What this machine lacks."""


def _program(name: str) -> str:
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    found = shutil.which(name) or next(iter(map(str, places)), None)
    if found is None:
        raise Missing(f"{name} of PostgreSQL")
    return found


def _user() -> str | None:
    """Whom the server runs as: it refuses to be root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise Missing("a user 'postgres', or tests that are not run as root") from None


class Postgres:
    """A running server; `new_database` makes one for a test."""

    def __init__(self, folder: Path, user: str | None) -> None:
        self._folder, self._user = folder, user
        self._data = folder / "data"
        self._process: subprocess.Popen[str] | None = None

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://atlas@/{database}?host={self._folder}"

    def new_database(self) -> str:
        """The address of a new, empty database."""
        name = f"test_{uuid4().hex[:12]}"
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)

    def lock(self, role: str, password: str) -> None:
        """Make a role that comes in with its password only."""
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"local all {role} scram-sha-256\n{rules.read_text()}")
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'"))
            connection.execute(text("SELECT pg_reload_conf()"))
        engine.dispose()

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        command = [_program("postgres"), "-D", str(self._data), "-k", str(self._folder)]
        for option in OPTIONS:
            command += ["-c", option]
        self._process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, user=self._user, cwd=self._folder, start_new_session=True
        )
        ready = threading.Event()
        threading.Thread(target=self._read_log, args=(self._process, ready), daemon=True).start()
        if not ready.wait(START_LIMIT_S):
            raise Missing("a PostgreSQL that starts")

    @staticmethod
    def _read_log(process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr as log:
            for line in log:
                if "ready to accept connections" in line:
                    ready.set()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT is a fast shutdown, SIGQUIT an immediate one."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_LIMIT_S)
            self._process = None


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A server.

    Raises:
        Missing: This machine has none.
    """
    initdb, user = _program("initdb"), _user()
    folder = Path(tempfile.mkdtemp(prefix="atlas-pg-"))  # short: the path of a socket has 107 bytes at most
    try:
        if user is not None:
            shutil.chown(folder, user)
        command = [initdb, "-D", str(folder / "data"), "-U", "atlas", "-A", "trust", "-E", "UTF8"]
        command += ["--no-locale", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, user=user, cwd=folder)
        server = Postgres(folder, user)
        try:
            server.start()
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

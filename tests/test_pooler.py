"""A pooler between Atlas and PostgreSQL: one that shares sessions between transactions is refused, any other is not."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from atlas.scheduler.errors import StoreError
from atlas.scheduler.store.engine import why_not_opened
from atlas.scheduler.store.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = ".s.PGSQL.5432"


def message(connection: socket.socket, kind: int = 1) -> bytes:
    """One message of the protocol: a byte of its kind (a startup has none), its length, the rest."""
    head = connection.recv(kind + 4, socket.MSG_WAITALL)
    return head + connection.recv(struct.unpack("!i", head[kind:])[0] - 4, socket.MSG_WAITALL) if head else b""


class Pooler:
    """Gives each client the one session it has for as long as a transaction lasts, or, unless ``shares``, its own."""

    def __init__(self, server: Path, *, shares: bool) -> None:
        self._server, self._shares = server, shares
        self._free = threading.Lock()
        self._session: socket.socket | None = None
        self.sessions = ExitStack()
        self._greeting: list[bytes] = []

    def serve(self, listener: socket.socket) -> None:
        """Take clients until the listener is closed."""
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _connected(self, startup: bytes) -> socket.socket:
        if self._session is None or not self._shares:
            self._session = self.sessions.enter_context(socket.socket(socket.AF_UNIX))
            self._session.connect(str(self._server / NAME))
            self._session.sendall(startup)
            self._greeting = [message(self._session)]
            while self._greeting[-1][:1] != b"Z":
                self._greeting.append(message(self._session))
        return self._session

    def _serve(self, client: socket.socket) -> None:
        with client:
            with self._free:
                session = self._connected(message(client, kind=0))
                for one in self._greeting:
                    client.sendall(b"K" + struct.pack("!iii", 12, 77, 77) if one[:1] == b"K" else one)
            while (asked := client.recv(1 << 20)) and asked[:1] != b"X":
                with self._free:
                    while True:
                        session.sendall(asked)
                        while (answer := message(session))[:1] != b"Z":
                            client.sendall(answer)
                        client.sendall(answer)
                        if answer[5:] == b"I" or not (asked := client.recv(1 << 20)):
                            break


@contextmanager
def pooled(url: str, folder: Path, *, shares: bool) -> Iterator[str]:
    """The address of the same database behind a pooler."""
    pooler = Pooler(Path(str(make_url(url).query["host"])), shares=shares)
    with pooler.sessions, closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(folder / NAME))
        listener.listen()
        threading.Thread(target=pooler.serve, args=(listener,), daemon=True).start()
        yield make_url(url).update_query_dict({"host": str(folder)}).render_as_string(hide_password=False)
        listener.shutdown(socket.SHUT_RDWR)


def test_a_pooler_that_shares_sessions_is_refused(postgres_url: str, tmp_path: Path) -> None:
    with (
        pooled(postgres_url, tmp_path, shares=True) as url,
        pytest.raises(StoreError, match="pool_mode = session"),
    ):
        open_store(url)


def test_a_pooler_that_gives_each_client_its_own_session_serves(postgres_url: str, tmp_path: Path) -> None:
    with pooled(postgres_url, tmp_path, shares=False) as url, closing(open_store(url)) as store:
        store.write(lambda _connection: None)


@pytest.mark.parametrize(
    "said", ["unsupported startup parameter: options", "transaction blocks not allowed in statement pooling mode"]
)
def test_what_a_pooler_refuses_is_told_with_what_to_do(said: str) -> None:
    error = OperationalError("SELECT 1", None, Exception(said))
    assert why_not_opened(error, None).startswith(f"{said}; a pooler such as pgbouncer")

"""Who asks for pages: one measured request at a time, a client that hammers, tabs that are live."""

from __future__ import annotations

import http.client
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LIMIT_S: Final = 60.0


class Visitor:
    """A client with one connection."""

    def __init__(self, address: str) -> None:
        """Connect at the first request."""
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=_LIMIT_S)

    def get(self, path: str) -> bytes:
        """The body of a page.

        Raises:
            OSError: The answer is not 200.
        """
        self._connection.request("GET", path, headers={"accept": "text/html"})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise OSError(f"{path}: {answer.status}")
        return body

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass
class Count:
    """What clients got so far."""

    pages: int = 0
    bytes: int = 0
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, size: int) -> None:
        """One more page."""
        with self.lock:
            self.pages, self.bytes = self.pages + 1, self.bytes + size


@contextmanager
def hammering(address: str, paths: Sequence[str], clients: int) -> Iterator[Count]:
    """While the block runs, ``clients`` ask for one page after the other without a pause."""
    count, ending = Count(), threading.Event()

    def hammer(first: int) -> None:
        try:
            with Visitor(address) as visitor:
                number = first
                while not ending.is_set():
                    count.add(len(visitor.get(paths[number % len(paths)])))
                    number += 1
        except OSError as error:
            count.errors.append(str(error))

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield count
    finally:
        ending.set()
        for thread in threads:
            thread.join()


@contextmanager
def watching(address: str, paths: Sequence[str]) -> Iterator[Count]:
    """While the block runs, one live tab for each of ``paths`` takes what it is sent; ``pages`` counts fragments."""
    count, connections = Count(), [http.client.HTTPConnection(urlsplit(address).netloc) for _ in paths]

    def watch(connection: http.client.HTTPConnection, path: str) -> None:
        try:
            connection.request("GET", f"/live?of={path}")
            answer = connection.getresponse()
            while line := answer.readline():
                if line.startswith(b"data:"):
                    count.add(len(line))
        except (OSError, ValueError, AttributeError):
            pass  # it was closed

    threads = [threading.Thread(target=watch, args=pair, daemon=True) for pair in zip(connections, paths, strict=True)]
    for thread in threads:
        thread.start()
    try:
        yield count
    finally:
        for connection in connections:
            if connection.sock is not None:
                connection.sock.close()
            connection.close()

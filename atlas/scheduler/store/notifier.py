"""Processes tell each other of their commits when they happen: `PipeNotifier` on SQLite, `PostgresNotifier`.

One thread listens, and tries again where it cannot; meanwhile the writer looks for others' commits.
"""

from __future__ import annotations

import os
import selectors
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from loguru import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 30.0


class Sent(Protocol):
    """A commit that was told of within its transaction, so that it is known whether it was made."""

    def was_committed(self, connection: Connection) -> bool:
        """What became of it where the reply to COMMIT was lost.

        Raises:
            OSError: It is not decided yet.
        """


class Notifier(ABC):
    """Tells other processes of this one's commits, and hears of theirs.

    ``heard`` is called behind each of theirs, and when listening begins or ends.
    """

    safety_s: ClassVar[float] = 30.0
    """How often to look although nothing was heard, seconds."""

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._listens = self._closed = False
        self._thread: threading.Thread | None = None
        self._ended, self._end = -1, -1
        self._wait_s = RETRY_FIRST_S

    @property
    def listens(self) -> bool:
        """True while no commit of another process can go unheard."""
        return self._listens

    def start(self) -> None:
        """Listen on a thread of its own. Starting twice does nothing."""
        if self._thread is None:
            self._ended, self._end = os.pipe()
            self._thread = threading.Thread(target=self._loop, name="atlas-hearing", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End it."""
        if self._thread is None or self._closed:
            return
        self._closed = True
        os.write(self._end, b".")
        self._thread.join()
        os.close(self._ended)
        os.close(self._end)

    @abstractmethod
    def tell(self, connection: Connection) -> Sent | None:
        """Let others hear of the transaction on ``connection`` once it is committed; its last statement."""

    @abstractmethod
    def told(self) -> None:
        """What was told of is committed."""

    @abstractmethod
    def _listen(self) -> None:
        """Get ready, call `_begun`, and listen until closed; or raise, then it is called again after a while."""

    def _begun(self) -> None:
        """From now on nothing goes unheard; what came before is looked at once."""
        self._listens, self._wait_s = True, RETRY_FIRST_S
        self._heard()

    def _loop(self) -> None:
        while not self._closed:
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again
                logger.debug("other processes' commits cannot be heard of, and are asked for: {}", error)
            if self._listens:
                self._listens = False
                self._heard()  # from now on somebody has to ask
            self._until(None, self._wait_s)
            self._wait_s = min(RETRY_MAX_S, self._wait_s * 2)

    def _until(self, file: int | None, wait_s: float | None) -> None:
        """Wait until there is something to read from ``file``, or it is time, or this is closed."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._ended, selectors.EVENT_READ)
            if file is not None:
                selector.register(file, selectors.EVENT_READ)
            selector.select(wait_s)

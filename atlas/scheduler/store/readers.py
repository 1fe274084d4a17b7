"""Who reads right now: a store that closes waits for them, or their connections would outlive its engine."""

from __future__ import annotations

import threading
from typing import Final

from loguru import logger

from atlas.scheduler.errors import QueueStoppedError

CLOSE_S: Final = 5.0


class Readers:
    """Readings of one store, each entered with ``with``."""

    def __init__(self) -> None:
        self._left = threading.Condition()
        self._reading = 0
        self._closed = False

    def __enter__(self) -> None:
        """Begin to read.

        Raises:
            QueueStoppedError: The store is closed.
        """
        with self._left:
            if self._closed:
                raise QueueStoppedError("the store is closed")
            self._reading += 1

    def __exit__(self, *_: object) -> None:
        with self._left:
            self._reading -= 1
            self._left.notify_all()

    def close(self) -> None:
        """Let nobody begin any more, and wait at most 5 s for those who read."""
        with self._left:
            self._closed = True
            if not self._left.wait_for(lambda: not self._reading, CLOSE_S):
                logger.warning("{} readings of a closed store have not ended", self._reading)

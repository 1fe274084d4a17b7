"""Something that takes long to find out: done on a thread of its own, while pages show what was found the last time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from loguru import logger

from atlas.scheduler.errors import AtlasError
from atlas.scheduler.switch_interval import giving_way

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

WAITS_S: Final = 0.3
"""How long the page that asks first waits for the answer: in a small installation it is there by then."""


class Aside(Generic[T]):
    """Keeps an answer, and finds and tells that there is a new one when the old one has its age."""

    def __init__(self, name: str, told: Callable[[], None]) -> None:
        self._name, self._told = name, told
        self._lock = threading.Lock()
        self._kept: tuple[float, object, T] | None = None
        self._finding: threading.Thread | None = None

    def get(
        self, find: Callable[[], T], *, keeps_s: float, version: object = None, waits_s: float = WAITS_S
    ) -> T | None:
        """What ``find`` says, at most ``keeps_s`` old and of this ``version``; an older answer while it looks.

        None before the first one is there, for which whoever asks first waits ``waits_s``. ``find`` may take its time,
        and raise `AtlasError`.
        """
        with self._lock:
            kept, finding = self._kept, self._finding
            if kept is not None and kept[1] == version and time.monotonic() - kept[0] < keeps_s:
                return kept[2]
            first = kept is None and finding is None
            if finding is None or not finding.is_alive():
                finding = self._finding = threading.Thread(
                    target=self._run, args=(find, version), name=self._name, daemon=True
                )
                finding.start()
        if first:
            finding.join(waits_s)
        return self._kept[2] if self._kept is not None else None

    def _run(self, find: Callable[[], T], version: object) -> None:
        try:
            with giving_way():
                found = find()
        except (AtlasError, RuntimeError) as error:  # the scheduler stops, or its store does not answer
            logger.debug("{} found nothing: {}", self._name, error)
            return
        self._kept = time.monotonic(), version, found
        self._told()

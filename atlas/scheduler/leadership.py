"""Who of several processes serves a store: one thread that waits for its turn, takes the lead and steps down.

::

    standing by ── the leader stopped, died, or was silent for a lease ──► leading
         ▲                                                                   │
         └───────── another process took over: a write was fenced ◄──────────┘
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, ParamSpec
from weakref import WeakMethod

from loguru import logger

from atlas.scheduler.errors import AtlasError, StoreHeldError
from atlas.scheduler.store.leases import LEASE_S, RENEW_S, Claim, last_lease, leave_standby, stand_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from atlas.scheduler.store.leases import Lease
    from atlas.scheduler.store.store import Store

P = ParamSpec("P")
LOOK_S: Final = 1.0
"""How often a process that stands by looks whether the leader lives."""


class Leadership:
    """Watches over the lead of one store, from the start of a queue to its stop.

    Args:
        lead: Takes the lead, given the lease of a leader that fell silent; raises `StoreHeldError` if another process
            was faster.
        tell: Tells those who must know that this process leads; called again until it does not raise.
        step_down: Ends what a leader does; nothing of it may write any more.

    The three are methods of a queue, which this thread must not keep alive: one that is dropped ends.
    """

    def __init__(
        self,
        store: Store,
        *,
        lead: Callable[[Lease | None], None],
        tell: Callable[[], None],
        step_down: Callable[[], None],
    ) -> None:
        self._store = store
        self._lead, self._tell, self._step_down = (
            _unless_dropped(lead),
            _unless_dropped(tell),
            _unless_dropped(step_down),
        )
        self._changed = threading.Condition()
        self._leads = self._fenced = self._closed = False
        self._is_told, self._is_ill = True, False
        self._seen: Lease | None = None
        self._seen_at_s = 0.0
        self._renewed_s = float("-inf")
        self._looked_at_s = store.clock.monotonic()
        self._kept_from: str | None = None
        self._thread: threading.Thread | None = None

    def looked_s(self) -> float | None:
        """Seconds since it was looked whether the leader lives; None for a process that leads."""
        return None if self._leads else self._store.clock.monotonic() - self._looked_at_s

    def start(self, *, leads: bool) -> None:
        """Start watching."""
        self._leads = leads
        self._store.writer.on_fenced = self._on_fenced
        self._thread = threading.Thread(target=self._loop, name="atlas-leadership", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching; whoever leads still does."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._store.writer.on_fenced = None
        if not self._leads:
            try:
                self._store.write(lambda connection: leave_standby(connection, self._store.owner))
            except AtlasError as error:
                logger.debug("the row of a process that stood by stays: {}", error)

    def _on_fenced(self) -> None:
        with self._changed:
            self._fenced = True
            self._changed.notify()

    def _loop(self) -> None:
        while True:
            with self._changed:
                if not self._closed and not self._fenced:
                    self._store.clock.wait(self._changed, None if self._leads and self._is_told else LOOK_S)
                if self._closed:
                    return
                fenced, self._fenced = self._fenced, False
            try:
                if fenced and self._leads:
                    self._leads = False
                    self._seen = None
                    self._step_down()
                elif not self._leads:
                    self._look()
                elif not self._is_told:
                    self._tell_lead()
            except StoreHeldError as error:
                logger.debug("another process was faster: {}", error)
            except AtlasError as error:
                self._cannot(error)
            except Exception:  # noqa: BLE001 - it must be tried again, whatever went wrong
                logger.exception("taking or leaving the lead raised")

    def _look(self) -> None:
        store, now_s = self._store, self._store.clock.monotonic()
        self._looked_at_s = now_s
        if now_s - self._renewed_s >= RENEW_S:
            self._renewed_s = now_s
            store.write(lambda connection: stand_by(connection, store.owner, store.clock.now()), tells=False)
        last, dead = store.read(self._read)
        if last is not None and not dead and not self._is_silent(last, now_s):
            return
        self._lead(None if dead else last)
        self._kept_from = None
        self._leads = True
        self._renewed_s = float("-inf")
        self._is_told = self._is_ill = False
        self._tell_lead()

    def _tell_lead(self) -> None:
        """A process that leads while its jobs do not fire keeps others from firing them: it is tried until they do."""
        try:
            self._tell()
            self._is_told = True
        except Exception as error:  # noqa: BLE001 - whatever went wrong
            if not self._is_ill:
                logger.opt(exception=not isinstance(error, AtlasError)).error(
                    "this process leads, but not all of it runs yet; it is tried again: {}", error
                )
            self._is_ill = True

    def _cannot(self, error: AtlasError) -> None:
        """The database does not answer; where the leader died or froze with its lock, say who has it, once."""
        logger.debug("the lead cannot be looked at: {}", error)
        holder = self._store.lock_holder()
        words = None if holder is None else holder.words
        if words is not None and words != self._kept_from:
            assert holder is not None
            logger.warning("this process stands by and cannot write: {}; {}", words, holder.remedy)
        self._kept_from = words

    def _read(self, connection: Connection) -> tuple[Lease | None, bool]:
        last = last_lease(connection)
        if last is None or last.stopped_at is not None:
            return last, True
        claim = Claim(self._store.engine, self._store.owner, self._store.clock.now())
        return last, claim.is_dead(connection, last)

    def _is_silent(self, last: Lease, now_s: float) -> bool:
        """True if nothing was renewed for a lease, by this process's own clock: clocks that step fool nobody."""
        seen = self._seen
        if seen is None or (seen.token, seen.renewed_at) != (last.token, last.renewed_at):
            self._seen, self._seen_at_s = last, now_s
        return now_s - self._seen_at_s >= LEASE_S


def _unless_dropped(method: Callable[P, None]) -> Callable[P, None]:
    """``method``, or nothing once its object is gone."""
    weak = WeakMethod(method)

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        alive = weak()
        if alive is not None:
            alive(*args, **kwargs)

    return call

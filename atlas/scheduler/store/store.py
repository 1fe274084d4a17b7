"""The store: one object per database and process, with its writer, its counters and its event stream."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, TypeVar

from loguru import logger
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from atlas.scheduler.clock import SystemClock
from atlas.scheduler.errors import QueueStoppedError, StoreError, StoreHeldError, StoreUnavailableError
from atlas.scheduler.events import EventStream, SchedulerEvent, SchedulerEventKind
from atlas.scheduler.message import Message, joined
from atlas.scheduler.metrics import Totals
from atlas.scheduler.store.database_file import Loss
from atlas.scheduler.store.engine import (
    Durability,
    database_url,
    file_of,
    make_private,
    may_pass,
    open_engine,
    refuse_pooler,
    why_not_opened,
)
from atlas.scheduler.store.leases import Claim, new_owner
from atlas.scheduler.store.lock_holders import Holder, postgres_holder, sqlite_holder
from atlas.scheduler.store.pipe_notifier import PipeNotifier
from atlas.scheduler.store.postgres_notifier import PostgresNotifier
from atlas.scheduler.store.readers import Readers
from atlas.scheduler.store.schema import is_prepared, prepare
from atlas.scheduler.store.tickets import Ticket
from atlas.scheduler.store.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from atlas.scheduler.clock import Clock
    from atlas.scheduler.store.leases import Lease

T = TypeVar("T")
Work = Callable[["Connection"], T]

ACCEPT_S: Final = 30.0
"""How long `submit` waits for a store that does not answer."""
CALL_S: Final = 5.0
"""How long the documented synchronous calls wait."""
PATIENCE_S: Final = 2.0
"""How long `Store.write` waits before `Store.on_wait` is called."""


class Store:
    """A database and everything this process keeps for it. Made by `open_store`.

    Attributes:
        url: The database, password hidden.
        owner: This process's name in rows.
        totals: Counters of what is on disk.
        events: What happened, told behind the commits.
        losses: Times the database was lost and made anew.
        is_private: True for a database in memory: nothing survives the process.
        on_wait: Called in the thread that waits where a `write` waits longer than `PATIENCE_S`, with who keeps it from
            writing where that is known; None tells nobody.
    """

    writer_kind: type[Writer] = Writer
    stream_kind: type[EventStream] = EventStream

    def __init__(
        self,
        target: Path | str | None,
        *,
        durability: Durability = "full",
        clock: Clock | None = None,
        follows: bool = True,
    ) -> None:
        """Open ``target``, bring its schema up to date and start the writer.

        With ``follows`` the counters follow what other processes commit; without, they are as read at the opening.
        """
        self._process_id = os.getpid()
        self.clock: Clock = clock or SystemClock()
        url = database_url(target)
        self.url = url.render_as_string()
        self.path = file_of(url)
        self._refuse_inherited()
        self.is_private = self.path is None and url.get_backend_name() == "sqlite"
        self.engine = open_engine(url, durability)
        self._guard: threading.RLock | None = threading.RLock() if self.is_private else None
        self.owner = new_owner()
        self.totals = Totals()
        self.events = self.stream_kind()
        self.writer = self.writer_kind(self.engine, self.clock, self.totals, self.events)
        self._readers = Readers()
        self.writer.guard = self._guard
        if self.path is not None:
            self.writer.notifier = PipeNotifier(self.path, self.writer.look_soon)
        elif url.get_backend_name() == "postgresql":
            look_again = self.writer.look_again
            self.writer.notifier = PostgresNotifier(self.engine, self.owner, self.clock, look_again)
        self._follows = follows
        self._foreign_listeners: list[Callable[[], None]] = []
        self._claim: Claim | None = None
        self._keepers: list[Callable[[Connection], str]] = []
        self.losses: list[Loss] = []
        self.writer.on_lost = None if self.path is None else self._make_anew
        self.on_wait: Callable[[Holder | None], None] | None = None
        self._users = 1
        _open.add(self)
        try:
            if url.get_backend_name() == "postgresql":
                refuse_pooler(self.engine)
            prepare(self.engine)
            self.read(self.totals.load)
        except DBAPIError as error:
            self.engine.dispose()
            message = f"{self.url} cannot be opened: {why_not_opened(error, self.path)}"
            raise StoreUnavailableError(message, waited_s=0.0, may_pass=may_pass(error)) from error
        except BaseException:
            self.engine.dispose()
            raise
        self.writer.start()
        if follows:
            self._hear()

    # --- reading and writing ----------------------------------------------------------------------------------------

    def read(self, work: Work[T]) -> T:
        """What ``work`` returns on a reading connection.

        Raises:
            StoreUnavailableError: The database does not answer.
            QueueStoppedError: The store is closed, or was opened before a fork.
        """
        self.refuse_fork()
        try:
            with self._readers, self._guard or nullcontext(), self.engine.connect() as connection:
                return work(connection)
        except (DBAPIError, NoConnectionError) as error:
            message = f"{self.url} cannot be read: {getattr(error, 'orig', error)}"
            raise StoreUnavailableError(message, waited_s=0.0) from error

    async def read_async(self, work: Work[T]) -> T:
        """`read` without blocking the loop."""
        return await asyncio.to_thread(self.read, work)

    def write(
        self, work: Work[T], *, after: Callable[[T], None] | None = None, wait_s: float = CALL_S, tells: bool = True
    ) -> T:
        """What ``work`` returned in a transaction that is committed; an error of ``work`` undoes its own changes only.

        ``after`` and ``tells``: see `Writer.work`.

        Raises:
            StoreUnavailableError: The database did not take it within ``wait_s`` seconds; it was withdrawn.
        """
        ticket = self.ticket(wait_s=wait_s)
        self.writer.work(work, ticket, after=after, tells=tells)
        if self.on_wait is not None:
            try:
                return ticket.wait(PATIENCE_S)  # type: ignore[no-any-return]
            except TimeoutError:
                if not ticket.done:
                    self.on_wait(self.lock_holder())
        try:
            return ticket.wait(wait_s)  # type: ignore[no-any-return]
        except TimeoutError:
            if not ticket.done:  # behind a commit that fails or hangs
                self.writer.withdraw_expired()
        return ticket.wait()  # type: ignore[no-any-return]

    async def write_async(self, work: Work[T]) -> T:
        """`write` without blocking the loop."""
        ticket = self.ticket(asyncio.get_running_loop())
        self.writer.work(work, ticket)
        return await ticket.future()  # type: ignore[no-any-return]

    def ticket(self, loop: asyncio.AbstractEventLoop | None = None, *, wait_s: float = CALL_S) -> Ticket:
        """A ticket that is withdrawn after ``wait_s`` seconds of a database that does not answer.

        Raises:
            QueueStoppedError: The store was opened before a fork.
        """
        self.refuse_fork()
        return Ticket(loop, waited_s=wait_s, expires_s=self.clock.monotonic() + wait_s)

    def on_foreign(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` on the writer's thread soon, and then after each commit of another process.

        It must not wait for the writer.
        """
        self._foreign_listeners.append(listener)
        self._hear()
        self.writer.look_again()

    def off_foreign(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` no more."""
        if listener in self._foreign_listeners:
            self._foreign_listeners.remove(listener)

    @property
    def hears(self) -> bool:
        """True while others' commits are told at once; elsewhere they are noticed within half a second."""
        return self.writer.notifier is not None and self.writer.notifier.listens

    def _hear(self) -> None:
        if self.writer.notifier is not None:
            self.writer.notifier.start()
        self.writer.on_foreign = self._foreign

    def _foreign(self) -> None:
        if self._follows:
            self.read(self.totals.refresh)
        for listener in list(self._foreign_listeners):
            listener()

    def lock_holder(self) -> Holder | None:
        """The other process that keeps this one from writing; None where none is seen."""
        if self.path is not None:
            return sqlite_holder(self.path)
        try:
            return None if self.is_private else self.read(postgres_holder)
        except StoreUnavailableError:
            return None

    # --- a lost database --------------------------------------------------------------------------------------------

    def on_rebuild(self, keeper: Callable[[Connection], str]) -> Callable[[], None]:
        """Let ``keeper`` write what memory has into a database that was lost and made anew; returns its undoing.

        It runs on the writer's thread, in the transaction that makes the database whole again, and says in words what
        it has written; it must not wait for the writer.
        """
        self._keepers.append(keeper)

        def undo() -> None:
            if keeper in self._keepers:
                self._keepers.remove(keeper)

        return undo

    def _make_anew(self, why: str) -> None:
        """Make the lost database again; runs on the writer's thread, which tries again if it raises."""
        assert self.path is not None
        self.engine.dispose()
        now, claim = self.clock.now(), self._claim
        if claim is None:  # whoever schedules here makes it anew, and then this process goes on with it
            # One that is empty still is not even opened: SQLite would take the old one's log for its own.
            if not self.path.exists() or not self.path.stat().st_size or not is_prepared(self.engine):
                raise OSError(f"{why}; stop this process, or move the old file back")
            self.read(lambda _connection: self.writer.file.remember())
            return
        logger.error("{}; it is made anew from memory", why)
        self.events.publish(SchedulerEvent(kind=SchedulerEventKind.FAULT, at=now, detail={"store": why}))
        aside = self.writer.file.set_aside(now)
        make_private(self.path)
        prepare(self.engine)
        with self.engine.connect().execution_options(atlas_write=True) as connection, connection.begin():
            claim.enter(connection, now)
            self.totals.restore(connection)
            kept = [keeper(connection) for keeper in self._keepers]
        self.read(lambda _connection: self.writer.file.remember())
        self.writer.look_again()
        loss = Loss(now, why, aside, joined(", ", kept) or Message("nothing"))
        self.losses.append(loss)
        logger.error("{}", loss.words)
        self.events.publish(SchedulerEvent(kind=SchedulerEventKind.STORE_REBUILT, at=now, detail={"store": loss.words}))

    # --- the claim --------------------------------------------------------------------------------------------------

    def claim(self, *, silent: Lease | None = None) -> tuple[Claim, bool]:
        """Become the process that schedules here; the second value is True if the one before stopped cleanly.

        Raises:
            StoreHeldError: Another living process, or another queue of this one, does.
        """
        if self._claim is not None:
            raise StoreHeldError(self.url, "another queue of this process")
        claim = Claim(self.engine, self.owner, self.clock.now())

        def entered(_clean: object) -> None:
            self.writer.set_fence(claim.check)

        try:
            clean = self.write(lambda connection: claim.enter(connection, self.clock.now(), silent), after=entered)
        except BaseException:
            self.writer.set_fence(None)
            claim.release()
            raise
        self._claim = claim
        return claim, clean

    @property
    def holds_claim(self) -> bool:
        """True while a queue of this process serves the store."""
        return self._claim is not None

    def unclaim(self, *, clean: bool) -> None:
        """Give the claim up; ``clean`` leaves the mark that nothing was left running."""
        claim, self._claim = self._claim, None
        if claim is None:
            return
        try:
            if clean:
                self.write(lambda connection: claim.leave(connection, self.clock.now()))
        finally:
            self.writer.set_fence(None)
            claim.release()

    @property
    def is_closed(self) -> bool:
        """True once its last user has closed it; it opens no more."""
        return self._users <= 0

    @property
    def was_left_behind(self) -> bool:
        """True in a process that was forked from the one that opened it: the threads and locks of it are not there."""
        return self._process_id != os.getpid()

    def refuse_fork(self) -> None:
        """Raise in a forked process, where every call would wait for a thread that is not there.

        Raises:
            QueueStoppedError: The store was opened by the process this one was forked from.
        """
        if self.was_left_behind:
            raise QueueStoppedError(
                Message(
                    "{url} was opened by process {id}, of which this one is a fork: its threads are not here; open it"
                    " after the fork, or start processes by 'spawn'",
                    url=self.url,
                    id=self._process_id,
                )
            )

    def _refuse_inherited(self) -> None:
        """Raise where this process is a fork of one that had the file open.

        SQLite keeps its locks per process and file: a fork believes that it holds those of the other one, and either
        waits for a lock that nobody lets go of, or reads and writes beside the other one without any.
        """
        id_ = None if self.path is None else _inherited.get(self.path.resolve())
        if id_ is not None:
            raise StoreError(
                Message(
                    "{url} was open in process {id} when this one was forked from it: SQLite's locks do not hold here;"
                    " start processes by 'spawn', or fork before it is opened",
                    url=self.url,
                    id=id_,
                )
            )

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give this user's hold up; the last one ends the writer, the events and the engine."""
        if self.was_left_behind:
            self._users = 0
            return  # whatever it holds is the other process's
        with _stores_lock:
            self._users -= 1
            if self._users > 0:
                return
        self._forget()
        if self.writer.notifier is not None:
            self.writer.notifier.close()
        self.writer.close()
        self.events.close()
        self._readers.close()
        self.engine.dispose()
        _open.discard(self)

    def _forget(self) -> None:
        """Let the next `open_store` open another one."""
        with _stores_lock:
            for key, store in list(_stores.items()):
                if store is self:
                    del _stores[key]


_stores: dict[str, Store] = {}
_stores_lock = threading.Lock()
_open: weakref.WeakSet[Store] = weakref.WeakSet()
_inherited: dict[Path, int] = {}
"""Files that were open when this process was forked, and the process that had opened them."""


def _leave_behind() -> None:
    global _stores_lock  # noqa: PLW0603 - a thread that is not here may have had it
    for store in _open:
        if store.path is not None:
            _inherited[store.path.resolve()] = store._process_id  # noqa: SLF001 - the same module
        if store._claim is not None:  # noqa: SLF001
            store._claim.leave_behind()  # noqa: SLF001
    _open.clear()
    _stores_lock = threading.Lock()
    _stores.clear()


os.register_at_fork(after_in_child=_leave_behind)


def open_store(
    target: Path | str | None, *, durability: Durability = "full", clock: Clock | None = None, kind: type[Store] = Store
) -> Store:
    """The store of ``target``: the one that is open in this process already, or a new one.

    Every call is answered by one `Store.close`.

    Args:
        target: A file's path, an SQLAlchemy URL, or None for a private database in memory.
        durability: ``full``: a commit is on the disk; ``normal``: a power cut may take the newest.
        clock: Time; the machine's unless a test brings its own.
        kind: What a new one is; the test kit has its own.

    Raises:
        StoreUnavailableError: The database does not open.
        StoreError: This process is a fork of one that had this SQLite file open.
        StoreVersionError: It was written by a newer Atlas.
    """
    if target is None:
        return kind(None, durability=durability, clock=clock)
    key = str(database_url(target))
    with _stores_lock:
        store = _stores.get(key)
        if store is None:
            store = _stores[key] = kind(target, durability=durability, clock=clock)
        else:
            store._users += 1  # noqa: SLF001 - the same module
        return store

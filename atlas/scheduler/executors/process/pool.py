"""Functions in processes that can be killed for real: `WorkerPool`.

::

    start ──► waiting ──► worker ──► done(outcome)             one keeper thread decides it all and makes every call;
    stop  ──► Stopped     killed with its group ──► Stopped    a worker is one process behind its own Pebble pool

Every worker has a Pebble pool of its own, of one process that is never replaced. Workers of one pool share two locks
and a pipe: one that is killed can leave the others waiting, stopping one that ignores SIGTERM holds up the rest for
3 s, and ``os._exit(0)``, or a cancel at the wrong moment, leaves a call without an end (Pebble issue 153). Here nothing
is shared, the death of the process is the one thing to watch, and only as many are started as have work.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import queue
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from loguru import logger

from atlas.scheduler.errors import QueueStoppedError
from atlas.scheduler.executors.process.child import Progress, WorkerCall, await_room
from atlas.scheduler.executors.process.worker import Worker, require_pebble
from atlas.scheduler.outcome import Crashed, Outcome, Stopped, StopReason, raised

if TYPE_CHECKING:
    from collections.abc import Callable

    from atlas.scheduler.executors.process.worker import Answer

    Done = Callable[[Outcome], None]
    OnProgress = Callable[[str, int, float, float | None], None]
    OnLine = Callable[[str, int, float, str, str], None]

KILL_GRACE_S: Final = 5.0
"""How long `WorkerPool.close` waits for processes it has killed."""


@dataclass(slots=True, eq=False)
class WorkerHandle:
    """One call given to a `WorkerPool`; made by it, and changed by it alone.

    Attributes:
        pid: The worker's process id, also after its end; None while the call waits for a worker.
        reason: Why it was stopped, None if nobody asked.
        done: Who is told the outcome, None once that was done.
    """

    call: WorkerCall
    done: Done | None
    _ask_to_stop: Callable[[WorkerHandle, StopReason], None]
    pid: int | None = None
    reason: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        """Have it end as ``Stopped(reason)``: its worker is killed, together with the worker's children.

        Returns at once, from any thread. No effect on an attempt that has ended; an outcome that is on its way already
        wins; of several reasons the first counts.
        """
        self._ask_to_stop(self, reason)


class WorkerPool:
    """At most ``max_workers`` functions at a time, each alone in a process.

    No process is started before the first call, and one without work for ``idle_stop_s`` is ended. Workers are reused:
    what a function changes in its process (directory, environment, modules) stays for the next, and programs it leaves
    behind live as long as its worker. A child that makes a session of its own escapes the kill.

    Args:
        max_workers: Most processes at a time; further calls wait, first come first served.
        idle_stop_s: Seconds a worker stays without work.
        on_progress: Called as ``(task_id, attempt, done, total)`` a few times a second, never after the attempt's end.
        on_line: Called as ``(task_id, attempt, time, level, text)`` for each line an attempt logged and that is kept,
            before its end is told; on a thread that must not be held up.

    One thread, the keeper, calls ``on_progress`` and every ``done``; they should return soon, and may call any method.
    """

    def __init__(
        self,
        max_workers: int,
        *,
        idle_stop_s: float = 60.0,
        on_progress: OnProgress,
        on_line: OnLine,
    ) -> None:
        self._max_workers, self._idle_stop_s = max_workers, idle_stop_s
        self._on_progress, self._on_line = on_progress, on_line
        self._behind: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()
        self._gate = threading.Lock()
        self._closed = False
        self._keeper: threading.Thread | None = None
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        # The keeper alone looks at what follows.
        self._waiting: deque[WorkerHandle] = deque()
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []  # the one without work for longest comes first
        self._closing = False

    def start(self, call: WorkerCall, done: Done) -> WorkerHandle:
        """Have ``call`` run as soon as a worker is free; returns at once. The keeper calls ``done`` exactly once.

        Raises:
            FunctionRefusedError: Pebble is not installed.
            QueueStoppedError: `close` was called.
        """
        require_pebble()
        handle = WorkerHandle(call, done, lambda it, reason: self._inbox.put(partial(self._stop, it, reason)))
        with self._gate:
            if self._closed:
                raise QueueStoppedError("the worker pool is closed")
            if self._keeper is None:
                self._keeper = self._new_keeper()
                # Before what Pebble and multiprocessing do there: they would meet these threads at the same work.
                atexit.register(self._end_with_the_interpreter, os.getpid())
            self._inbox.put(partial(self._take, handle))
        return handle

    def _new_keeper(self) -> threading.Thread:
        ours, self._channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener = threading.Thread(target=self._listen, args=(ours,), name="atlas-process-listener", daemon=True)
        keeper = threading.Thread(target=self._keep, args=(listener,), name="atlas-process-keeper", daemon=True)
        listens = False
        try:
            listener.start()
            listens = True
            keeper.start()
        except RuntimeError:  # no thread is left on this machine; the next call tries again
            if listens:
                self._channel.send(b"")  # ends it
            else:
                ours.close()
            self._channel.close()
            raise
        return keeper

    def close(self) -> None:
        """Take nothing more, and kill every worker; calls that run or wait end as ``Stopped("shutdown")``.

        May be called again, from any thread.
        """
        with self._gate:
            self._closed = True
            keeper = self._keeper
            self._inbox.put(self._end)
        if keeper is not None and keeper is not threading.current_thread():
            keeper.join(KILL_GRACE_S)
            if keeper.is_alive():
                logger.error("worker processes were killed {} s ago and are still there", KILL_GRACE_S)

    def _end_with_the_interpreter(self, pid: int) -> None:
        if pid == os.getpid():  # a fork has neither the workers nor the keeper
            self.close()

    # --- on the keeper thread ----------------------------------------------------------------------------------------

    def _keep(self, listener: threading.Thread) -> None:
        while not self._closing or self._workers:
            with contextlib.suppress(queue.Empty):
                self._guarded(self._inbox.get(timeout=self._next_s()))
            self._guarded(self._end_idle)
        self._send(b"")  # ends the listener
        listener.join()
        self._channel.close()
        atexit.unregister(self._end_with_the_interpreter)

    @staticmethod
    def _guarded(action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:  # noqa: BLE001 - one broken callback must not leave all other calls without an end
            logger.exception("a callback of the worker pool failed")

    def _next_s(self) -> float | None:
        return max(0.0, self._idle[0].idle_until_s - time.monotonic()) if self._idle else None

    def _end_idle(self) -> None:
        while self._idle and self._idle[0].idle_until_s <= time.monotonic():
            self._idle.pop(0).kill()

    def _take(self, handle: WorkerHandle) -> None:
        self._waiting.append(handle)
        self._serve()

    def _serve(self) -> None:
        while self._waiting and (self._idle or len(self._workers) < self._max_workers):
            handle = self._waiting.popleft()
            try:
                worker = self._idle.pop() if self._idle else self._new_worker()
            except Exception as error:  # noqa: BLE001 - no process or file descriptor is left: an error to retry later
                self._finish(handle, raised(error))
                continue
            if worker.give(handle):
                handle.pid = worker.pid
            else:
                self._waiting.appendleft(handle)

    def _new_worker(self) -> Worker:
        worker = Worker(
            self._channel,
            ended=lambda it, answer: self._put_behind_the_lines(partial(self._ended, it, answer)),
            gone=lambda it: self._put_behind_the_lines(partial(self._gone, it)),
        )
        self._workers.add(worker)
        return worker

    def _put_behind_the_lines(self, action: Callable[[], None]) -> None:
        """Have the keeper do ``action`` once all that workers have sent so far is taken in.

        What a worker sent before its answer lies in the channel, and a datagram of our own comes out behind it.
        """
        number = next(self._numbers)
        self._behind[number] = action
        try:
            self._send(json.dumps(["behind", "", 0, number]).encode())
        except OSError:  # the channel is closed: there are no lines any more
            if (left := self._behind.pop(number, None)) is not None:
                self._inbox.put(left)

    def _send(self, datagram: bytes) -> None:
        while True:
            try:
                self._channel.send(datagram)
                return
            except BlockingIOError:  # workers share the socket's mode; the listener makes room
                await_room(self._channel)

    def _ended(self, worker: Worker, answer: Answer) -> None:
        handle = worker.handle
        if handle is None or answer.exception() is not None:
            worker.kill()  # Pebble lost it, as a rule because it is dead; `_gone` tells how
            return
        outcome, progress = answer.result()
        if progress is not None:
            self._progress(handle.call.task_id, handle.call.attempt, progress)
        worker.handle = None
        if worker.doomed:
            worker.kill()
        else:
            worker.idle_until_s = time.monotonic() + self._idle_stop_s
            self._idle.append(worker)
            self._serve()
        self._finish(handle, outcome)

    def _gone(self, worker: Worker) -> None:
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        death = worker.bury()
        self._serve()
        handle = worker.handle
        if handle is not None:
            self._finish(handle, Stopped(handle.reason) if handle.reason else Crashed(death))

    def _finish(self, handle: WorkerHandle, outcome: Outcome) -> None:
        done, handle.done = handle.done, None
        if done is not None:
            self._guarded(partial(done, outcome))

    def _stop(self, handle: WorkerHandle, reason: StopReason) -> None:
        if handle in self._waiting:
            self._waiting.remove(handle)
            self._finish(handle, Stopped(reason))
        for worker in self._workers:
            if worker.handle is handle:
                handle.reason = handle.reason or reason
                worker.kill()

    def _end(self) -> None:
        self._closing = True
        self._idle.clear()
        while self._waiting:
            self._finish(self._waiting.popleft(), Stopped("shutdown"))
        for worker in self._workers:
            if worker.handle is not None:
                worker.handle.reason = worker.handle.reason or "shutdown"
            worker.kill()

    def _progress(self, task_id: str, attempt: int, progress: Progress) -> None:
        running = (worker.handle.call for worker in self._workers if worker.handle is not None)
        if any((call.task_id, call.attempt) == (task_id, attempt) for call in running):
            self._guarded(partial(self._on_progress, task_id, attempt, progress.done, progress.total))

    # --- on the listener thread --------------------------------------------------------------------------------------

    def _listen(self, channel: socket.socket) -> None:
        with channel:
            while datagram := channel.recv(65_536):
                kind, task_id, attempt, *rest = json.loads(datagram)
                match kind:
                    case "progress":
                        self._inbox.put(partial(self._progress, task_id, attempt, Progress(*rest)))
                    case "log":
                        self._guarded(partial(self._on_line, task_id, attempt, *rest))
                    case "behind":
                        self._inbox.put(self._behind.pop(rest[0]))
                    case _:
                        pass

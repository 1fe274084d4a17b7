"""What goes on in a worker process: how it begins, how it dies with its parent, and how it runs one attempt.

The child imports this module and little else, so it stays light: no APScheduler, no SQLAlchemy, no Pebble.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import inspect
import json
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from contextvars import Context
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import wait
from operator import attrgetter
from select import POLLOUT, poll
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from loguru import logger

from atlas.scheduler.context import TaskContext, enter_task
from atlas.scheduler.errors import TaskStopped
from atlas.scheduler.outcome import Outcome, Returned, Stopped, StopReason, not_to_be_awaited, raised, returned
from atlas.scheduler.tasks.capture import DEFAULT_RULES, AttemptLines, Capture, LogRules

if TYPE_CHECKING:
    import socket
    from datetime import datetime

PROGRESS_EVERY_S: Final = 0.25
LAST_LINES_S: Final = 5.0
"""How long the parent, when it is behind, is waited for with the last lines of an attempt."""
LEFT_TO_THE_PARENT: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCall:
    """All that a worker needs for one attempt: plain values, so that nothing of the parent is pickled.

    Attributes:
        attempt: Number of the attempt, from 1.
        reference: The function as ``module:qualname``.
        arguments: JSON object ``{"args": [...], "kwargs": {...}}``.
        is_async: True for a coroutine function, which gets a loop.
        deadline: When the attempt runs out of time, for `current_task`; whoever made the call keeps it.
        log_bytes: Most that is kept of what it logs; 0 keeps nothing.
    """

    task_id: str
    attempt: int
    reference: str
    arguments: str
    is_async: bool = False
    job_id: str | None = None
    deadline: datetime | None = None
    fire_time: datetime | None = None
    log_bytes: int = 0
    log_rules: LogRules = DEFAULT_RULES


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is: ``done`` of ``total``."""

    done: float
    total: float | None


def await_room(channel: socket.socket, timeout_s: float | None = None) -> None:
    """Wait until ``channel`` takes a datagram, or it is time.

    By ``poll``: ``select`` knows no descriptor above 1023, and a server with many clients has more.
    """
    room = poll()
    room.register(channel, POLLOUT)
    room.poll(None if timeout_s is None else timeout_s * 1000)


# --- the child's side: one process -----------------------------------------------------------------------------------

_channel: socket.socket


def enter(channel: socket.socket) -> None:
    """Make this process a worker; Pebble calls it once, before the first attempt.

    Args:
        channel: Datagram socket to the parent, each datagram a JSON array ``[kind, task id, attempt, ...]``: kinds
            are ``progress`` (done, total) and ``log`` (time, level, text).
    """
    global _channel  # noqa: PLW0603 - one per process
    os.setsid()
    for number in LEFT_TO_THE_PARENT:
        signal.signal(number, _leave_it_to_the_parent)
    os.register_at_fork(after_in_child=_default_signals)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_PARENT)
    channel.setblocking(False)
    _channel = channel
    _die_with_parent()


def _leave_it_to_the_parent(_number: int, _frame: object) -> None:
    # Ctrl-C and service managers signal everybody, but the parent drains. A handler, not SIG_IGN: that would be
    # inherited by the programs a function starts, and nothing could terminate those.
    pass


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _die_with_parent() -> None:
    """See to it that this whole process group is killed when the parent ends in any way.

    The parent alone holds the other end of the sentinel pipe. Linux itself signals the group when that end closes, so
    code that holds the GIL for hours dies as well. PR_SET_PDEATHSIG would not do: it reaches no grandchild, and it
    fires when the *thread* that started the worker ends. Elsewhere a thread waits for the same.
    """
    parent = parent_process()
    if parent is None:
        raise RuntimeError("not started by multiprocessing")
    sentinel = parent.sentinel
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(sentinel, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)
        if wait([sentinel], timeout=0):  # closed before the line above
            os.killpg(0, signal.SIGKILL)
    else:
        threading.Thread(target=_kill_group_after, args=(sentinel,), name="atlas-parent-watch", daemon=True).start()


def _kill_group_after(sentinel: int) -> None:
    wait([sentinel])
    os.killpg(0, signal.SIGKILL)


# --- the child's side: one attempt -----------------------------------------------------------------------------------


class _ProgressSender:
    """Sends the first progress at once and then the newest at most every `PROGRESS_EVERY_S`; never blocks."""

    def __init__(self, call: WorkerCall) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._unsent: Progress | None = None
        self._timer: threading.Timer | None = None
        self._ended = False

    def __call__(self, done: float, total: float | None) -> None:
        progress = Progress(float(done), None if total is None else float(total))
        with self._lock:
            self._unsent = progress
            if self._timer is None:
                self._send()

    def _send(self) -> None:
        if self._unsent is None or self._ended:
            return
        message = ["progress", self._call.task_id, self._call.attempt, self._unsent.done, self._unsent.total]
        self._unsent = None
        with contextlib.suppress(OSError):  # the parent is behind, or gone; the last one travels with the outcome
            _channel.send(json.dumps(message).encode())
        self._timer = threading.Timer(PROGRESS_EVERY_S, self._tick)
        self._timer.daemon = True
        self._timer.start()

    def _tick(self) -> None:
        with self._lock:
            self._timer = None
            self._send()

    def close(self) -> Progress | None:
        """Send nothing more; the newest progress if it is still unsent."""
        with self._lock:
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()
            return self._unsent


class _Lines:
    """Sends the lines that are kept of an attempt; those the parent is too slow for wait until it has room.

    One object serves all attempts of this process, one after the other.
    """

    def __init__(self, rules: LogRules) -> None:
        self._lock = threading.RLock()  # a signal handler or destructor may log while a line is being sent
        self._unsent: deque[bytes] = deque()
        self._lines: AttemptLines | None = None
        self._rules = rules
        self._capture = Capture(self, rules)
        logging.getLogger().addHandler(
            logging.NullHandler()
        )  # the parent shows the lines; here nobody shows them again
        logging.getLogger().setLevel(logger.level(rules.level).no)

    def begin(self, call: WorkerCall) -> None:
        """An attempt begins."""
        head = ["log", call.task_id, call.attempt]
        with self._lock:
            self._lines = AttemptLines(call.log_bytes, lambda *line: self._send([*head, *line]))

    def add(self, context: TaskContext, at_s: float, level: str, message: str) -> None:
        """Keep one line."""
        with self._lock:
            if self._lines is not None and context.logs is self:
                self._lines.add(at_s, level, message)

    def end(self, context: TaskContext) -> None:
        """The attempt is over: send what was held back, and wait a moment for the parent if it is behind."""
        with self._lock:
            context.logs = None
            lines, self._lines = self._lines, None
            if lines is None:
                return
            lines.end(context.unprinted, self._rules)
            until_s = time.monotonic() + LAST_LINES_S
            while self._unsent and (left_s := until_s - time.monotonic()) > 0:
                await_room(_channel, left_s)
                self._flush()
            self._unsent.clear()

    def _send(self, message: list[Any]) -> None:
        self._unsent.append(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace"))
        self._flush()

    def _flush(self) -> None:
        with contextlib.suppress(OSError):  # the parent is behind, or gone
            while self._unsent:
                _channel.send(self._unsent[0])
                self._unsent.popleft()


_lines: _Lines | None = None


def _lines_for(call: WorkerCall) -> _Lines | None:
    """What keeps the attempt's lines, None if nobody wants them."""
    global _lines  # noqa: PLW0603 - one per process
    if not call.log_bytes:
        return None
    if _lines is None:
        with contextlib.suppress(ValueError):
            logger.remove(0)  # loguru's own handler shows the values of local variables; the parent shows the lines
        _lines = _Lines(call.log_rules)
    _lines.begin(call)
    return _lines


def work(call: WorkerCall) -> tuple[Outcome, Progress | None]:
    """Run one attempt; its outcome as plain text, so that no result or error can hurt the way back.

    ``SystemExit`` and ``KeyboardInterrupt`` raised by the function are errors like others (with their names for
    ``retry_on``): only a process that really dies has crashed.
    """
    return Context().run(_attempt, call)


def _attempt(call: WorkerCall) -> tuple[Outcome, Progress | None]:
    sender, lines = _ProgressSender(call), _lines_for(call)
    context = TaskContext(
        task_id=call.task_id,
        attempt=call.attempt,
        job_id=call.job_id,
        deadline=call.deadline,
        fire_time=call.fire_time,
        on_progress=sender,
        logs=lines,
    )
    outcome: Outcome
    try:
        enter_task(context)
        outcome = Returned(None, returned(_call(call)).text)
    except TaskStopped as stopped:
        known = stopped.reason in get_args(StopReason)
        outcome = Stopped(cast("StopReason", stopped.reason) if known else "cancelled")
    except BaseException as error:  # noqa: BLE001 - the function must not end the worker
        outcome = raised(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # the worker will be killed: print now
            stream.flush()
    if lines is not None:
        lines.end(context)
    return outcome, sender.close()


def _call(call: WorkerCall) -> object:
    module, _, qualname = call.reference.partition(":")
    function = attrgetter(qualname)(importlib.import_module(module))
    arguments = json.loads(call.arguments)
    value = function(*arguments["args"], **arguments["kwargs"])
    if call.is_async and inspect.iscoroutine(value):
        return asyncio.run(value)
    return not_to_be_awaited(value, call.reference)

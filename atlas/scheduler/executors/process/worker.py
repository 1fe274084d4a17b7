"""One worker process as its parent sees it, from its start behind a Pebble pool of its own to its death."""

from __future__ import annotations

import contextlib
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING

from atlas.scheduler.errors import FunctionRefusedError
from atlas.scheduler.executors.process.child import enter, work
from atlas.scheduler.executors.process.spawning import OneProcess
from atlas.scheduler.registry import NEEDS_PEBBLE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from pebble import ProcessFuture, ProcessPool

    from atlas.scheduler.executors.process.child import Progress
    from atlas.scheduler.executors.process.pool import WorkerHandle
    from atlas.scheduler.outcome import Outcome

    Answer = ProcessFuture[tuple[Outcome, Progress | None]]


def require_pebble() -> type[ProcessPool]:
    """Pebble's pool, imported when first needed.

    Raises:
        FunctionRefusedError: Pebble is not installed.
    """
    try:
        from pebble import ProcessPool
    except ImportError as error:
        raise FunctionRefusedError(NEEDS_PEBBLE) from error
    return ProcessPool


class Worker:
    """One process, from its start to its death.

    Attributes:
        handle: The call it was given and has not answered.
        idle_until_s: Monotonic time at which it has been without work for long enough.
        doomed: It was killed, or is to be.
    """

    def __init__(
        self, channel: socket.socket, *, ended: Callable[[Worker, Answer], None], gone: Callable[[Worker], None]
    ) -> None:
        """Start the process; ``gone`` is called once it is dead and Pebble has said all it had to say."""
        self.handle: WorkerHandle | None = None
        self.idle_until_s = 0.0
        self.doomed = False
        self._ended, self._gone = ended, gone
        context = OneProcess()
        self._pool = require_pebble()(max_workers=1, initializer=enter, initargs=(channel,), context=context)
        try:
            if not self._pool.active or context.process is None or context.process.pid is None:  # asking starts it
                msg = "no worker process could be started"
                raise OSError(msg)  # noqa: TRY301 - one way out for this and for what Pebble raises
            self._process, self.pid = context.process, context.process.pid
            self._watch = threading.Thread(target=self._outlive, name=f"atlas-process-{self.pid}", daemon=True)
            self._watch.start()
        except BaseException:
            self._end_pool()
            raise

    def give(self, handle: WorkerHandle) -> bool:
        """Have the call run; False if the process is found dead."""
        try:
            answer = self._pool.schedule(work, args=(handle.call,))
        except RuntimeError:
            self.kill()
            return False
        self.handle = handle
        answer.add_done_callback(partial(self._ended, self))
        return True

    def kill(self) -> None:
        """Kill the process and its children; `gone` follows."""
        self.doomed = True
        self._process.terminate()

    def bury(self) -> str:
        """Let go of all it held, once it is gone; what is known of the death."""
        self._watch.join()
        code = self._process.exitcode
        with contextlib.suppress(ValueError):  # its exit code is unknown, so it counts as running
            self._process.close()
        if code is None:
            how = "died; somebody else took its exit code"
        elif code >= 0:
            how = f"ended with exit code {code} in the middle of the attempt"
        else:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            how = f"was killed by {name}" + (" (by hand, or because memory ran out)" if name == "SIGKILL" else "")
        return f"the worker process {self.pid} {how}"

    def _outlive(self) -> None:
        self._process.join()
        self._process.terminate()  # what it left behind in its group
        try:
            self._end_pool()
        finally:
            self._gone(self)

    def _end_pool(self) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

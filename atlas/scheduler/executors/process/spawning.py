"""How a worker process is started and killed: the parent's side of spawn."""

from __future__ import annotations

import contextlib
import os
import signal
from multiprocessing import popen_spawn_posix, resource_tracker, spawn
from multiprocessing.context import SpawnContext, SpawnProcess
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from atlas.scheduler.executors.process.child import LEFT_TO_THE_PARENT

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess


def _preparation_without_main(name: str) -> dict[str, Any]:
    data = spawn.get_preparation_data(name)
    return {key: value for key, value in data.items() if not key.startswith("init_main_from_")}


class _Popen(popen_spawn_posix.Popen):
    """Spawn that does not import the user's ``__main__`` again: an unguarded script would start a second scheduler.

    multiprocessing has no switch for it. The standard library's own ``_launch`` runs here with one name of its module
    replaced, for this class alone; nothing is patched for others.
    """

    _launch = FunctionType(
        popen_spawn_posix.Popen._launch.__code__,  # type: ignore[attr-defined] # noqa: SLF001 - see above
        {
            **vars(popen_spawn_posix),
            "spawn": SimpleNamespace(**{**vars(spawn), "get_preparation_data": _preparation_without_main}),
        },
    )


class WorkerProcess(SpawnProcess):
    """A spawned process that is ended only by SIGKILL, and together with its children."""

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> popen_spawn_posix.Popen:  # noqa: N802 - multiprocessing's name
        return _Popen(process_obj)

    def start(self) -> None:
        """Start with the signals blocked that `enter` will handle: until then Ctrl-C would end it."""
        resource_tracker.ensure_running()  # first: where it has to start its process it unblocks them
        before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_PARENT)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def terminate(self) -> None:
        """Kill the process and whatever else lives in its group; also what it left behind when it is dead already."""
        if self.pid is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter: macOS, a group of zombies
            os.killpg(self.pid, signal.SIGKILL)
            return
        self.kill()  # it has not made its group yet


class OneProcess(SpawnContext):
    """A spawn context that gives Pebble one process and refuses the replacement of a dead one."""

    process: WorkerProcess | None = None

    def Process(self, *args: Any, **kwargs: Any) -> WorkerProcess:  # type: ignore[override] # noqa: N802
        """The one process.

        Raises:
            OSError: It was made before.
        """
        if self.process is not None:
            raise OSError("a worker that is dead is not replaced")  # Pebble then ends the pool
        self.process = WorkerProcess(*args, **kwargs)
        return self.process

"""Python programs that begin with Atlas imported: forked from one process that imported it once.

Tests start hundreds of processes, and half a second of each went into the same imports. `Program` is a
`subprocess.Popen` for ``[python, "-m", module, …]``, ``[python, "-c", code, …]`` and ``[python, script, …]``: a process
of its own, with pipes, signals and exit code. Only what Python does before a program's first line is not in it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, AnyStr, Final, NoReturn

IMPORTED: Final = (
    "alembic.command",
    "atlas.cli.commands",
    "atlas.scheduler.client",
    "atlas.scheduler.testing.crashes",
    "atlas.service",
    "atlas.web.server",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
)
MOST_BYTES: Final = 1 << 20
KILLED: Final = int(signal.SIGKILL)


@cache
def _parent() -> socket.socket:
    """The way to the process that forks; it ends with this one."""
    here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with there:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked", str(there.fileno())],
            cwd=Path(__file__).parent.parent,
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end() -> None:
        here.close()
        process.wait(10)

    atexit.register(end)
    return here


class Program(subprocess.Popen[AnyStr]):
    """A forked process; of the options of `subprocess.Popen` it knows the pipes, ``cwd``, ``env`` and ``text``."""

    def _execute_child(self, *given: Any) -> None:
        command, cwd, env, ends = given[0], given[5], given[6], given[10:16]
        if given[2] or given[4] or given[9] or given[21]:
            raise NotImplementedError("a forked program knows no preexec_fn, pass_fds, shell, start_new_session")
        asked = {"argv": command[1:], "cwd": str(cwd or Path.cwd()), "env": dict(os.environ if env is None else env)}
        child: list[int] = [own if end == -1 else end for own, end in enumerate((ends[0], ends[3], ends[5]))]
        pair = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self._line: socket.socket = pair[0]
        with pair[1] as there:
            socket.send_fds(_parent(), [json.dumps(asked).encode()], [*child, there.fileno()])
        self._close_pipe_fds(*ends)  # type: ignore[attr-defined] # they are the child's now
        self.pid = int(self._line.recv(64))
        self._child_created = True

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if self._line.fileno() < 0:  # another thread was told
            return 0, 0
        self._line.setblocking(not flags & os.WNOHANG)
        try:
            told = self._line.recv(64)
        except BlockingIOError:
            return 0, 0
        self._line.close()
        return self.pid, int(told or KILLED)

    def _internal_poll(self, *_args: Any, **_options: Any) -> int | None:
        lock = self._waitpid_lock  # type: ignore[attr-defined]
        if self.returncode is None and lock.acquire(blocking=False):  # who waits for the end holds it
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            finally:
                lock.release()
        return self.returncode


def run_program(command: list[str], *, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """`Program`, to its end; what it wrote is text."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Program(command, text=True, **pipes, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


# --- in the process that forks ---------------------------------------------------------------------------------------


def _serve(control: socket.socket) -> dict[str, Any]:
    """Fork for each request; returns what was asked for in each of the new processes, with their pipes in place."""
    waiting: list[int] = []
    while True:
        asked, descriptors, _flags, _address = socket.recv_fds(control, MOST_BYTES, 4)
        waiting = [one for one in waiting if os.waitpid(one, os.WNOHANG) == (0, 0)]
        if not asked:
            sys.exit()
        waiting.append(os.fork())
        if not waiting[-1]:
            break
        for one in descriptors:
            os.close(one)
    control.close()
    *pipes, line = descriptors
    program = os.fork()
    if program:
        _tell_end(program, pipes, line)
    os.close(line)
    for number, one in enumerate(pipes):
        os.dup2(one, number)
        os.close(one)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    made: dict[str, Any] = json.loads(asked)
    return made


def _tell_end(program: int, pipes: list[int], line: int) -> NoReturn:
    """Tell the process id of the program, and how it ended once it has."""
    for one in pipes:
        os.close(one)
    os.write(line, str(program).encode())
    _pid, status = os.waitpid(program, 0)
    with suppress(BrokenPipeError):  # nobody wants to know any more
        os.write(line, str(status).encode())
    os._exit(0)


def _become(argv: list[str], cwd: str, env: dict[str, str]) -> None:
    """Do what ``python *argv`` does there."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    paths = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path] + sys.path[1:]
    if argv[0] == "-m":
        sys.path[:] = [cwd, *paths]
        sys.argv[:] = argv[1:]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    elif argv[0] == "-c":
        sys.path[:] = ["", *paths]
        sys.argv[:] = ["-c", *argv[2:]]
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(argv[1], "<string>", "exec"), main.__dict__)
    else:
        sys.path[:] = [str(Path(argv[0]).parent), *paths]
        sys.argv[:] = argv
        runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    for _name in IMPORTED:
        importlib.import_module(_name)
    gc.freeze()  # or the first collection of each program would copy all of it
    _become(**_serve(socket.socket(fileno=int(sys.argv[1]))))

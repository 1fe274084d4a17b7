"""A complete installation in a folder of its own, and ``atlas`` as a user types it: processes, pipes, exit codes."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.forked import Program
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Typed = Callable[..., "Finished"]

ROOT = Path(__file__).resolve().parent.parent
READY = "Ctrl-C drains"
FUNCTIONS = """
import asyncio, gc, pathlib, time
from atlas.scheduler.context import current_task

def add(a, b=0):
    return a + b

def greet(name="世界"):
    return {"greeting": f"你好 {name}", "zero": 0}

def set_aside():
    return gc.get_freeze_count()

def fail(text="boom"):
    raise ValueError(text)

def speak(times, then=None):
    from loguru import logger
    for number in range(times):
        logger.info("说 {}\\x1b[2J", number)
    if then:
        until(then)
    logger.warning("完")

async def sleep(seconds):
    await asyncio.sleep(seconds)

def until(file):
    while not pathlib.Path(file).exists():
        current_task().check()
        time.sleep(0.02)
    return "seen"
"""


def free_port() -> int:
    """A port that nobody listens on. It lies below those that systems give away: no connection gets it meanwhile."""
    first = 20_000 + os.getpid() * 16 % 11_000  # another one for each process that tests
    for port in range(first, first + 1000):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no port is free")


@dataclass
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Stdout by lines."""
        return self.out.splitlines()


@dataclass
class Installation:
    """Settings, jobs and functions below ``folder``."""

    folder: Path
    jobs: dict[str, Any]
    sections: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Write the files."""
        (self.folder / "config").mkdir(parents=True)
        (self.folder / "functions").mkdir()
        (self.folder / "functions" / "work_of_tests.py").write_text(FUNCTIONS)
        settings = {
            "scheduler": {"timezone": "Asia/Shanghai", "max_retries": 0, "drain_timeout": 5},
            "functions": {"allow": ["work_of_tests"]},
            "collect": {"sources": []},
            "web": {"enabled": False},
            **self.sections,
        }
        self.config.write_text(json.dumps(settings))  # JSON is YAML
        self.jobs_file.write_text(json.dumps({"cron_jobs": self.jobs}, ensure_ascii=False, indent=1))

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.folder / "config" / "config.yaml"

    @property
    def jobs_file(self) -> Path:
        """The jobs file."""
        return self.folder / "config" / "cron_jobs.json"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a child process: this code, and the functions."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ATLAS_")}
        return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.folder / "functions")]), "NO_COLOR": ""}

    def start(self, *argv: str, script: str | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """``atlas …``, or a script of the project, as a process in this folder."""
        program = ["-m", "atlas"] if script is None else [str(ROOT / "scripts" / script)]
        defaults: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "cwd": self.folder,
            "env": self.environment,
        }
        return Program([sys.executable, *program, *argv], **{**defaults, **options})

    def atlas(self, *argv: str, script: str | None = None, **options: Any) -> Finished:
        """Run it to its end."""
        with self.start(*argv, script=script, **options) as process:
            try:
                out, err = process.communicate(timeout=LIMIT_S)
            finally:
                process.kill()
        return Finished(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


class Served:
    """``atlas serve`` in a process, ready (it said ``ready``) once entered; left, it is told to stop."""

    def __init__(self, installation: Installation, *argv: str, script: str | None = None, ready: str = READY) -> None:
        self.installation, self._argv, self._script = installation, argv or ("serve",), script
        self._ready = ready
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.told: list[str] = []
        self.log = ""

    def __enter__(self) -> Self:
        self.process = self.installation.start(*self._argv, script=self._script)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()
        self._log = threading.Thread(target=self._read_log, args=(self.process.stderr,), daemon=True)
        self._log.start()
        self.wait_for(self._ready)
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.stop()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def wait_for(self, words: str) -> str:
        """The next line of its stdout with ``words``."""
        while True:
            line = self._lines.get(timeout=LIMIT_S)
            if line is None:
                self._log.join(LIMIT_S)
                raise AssertionError(f"it ended without saying {words!r}: {self.told}\n{self.log}")
            if words in line:
                return line

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and wait; returns the exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(LIMIT_S)
        finally:
            self.process.kill()
            self._reader.join(LIMIT_S)
            self._log.join(LIMIT_S)

    def _read_log(self, stream: Iterable[bytes]) -> None:
        for raw in stream:
            self.log += raw.decode(errors="replace")

    def _read(self, stream: Iterable[bytes]) -> None:
        for raw in stream:
            self.told.append(raw.decode().rstrip("\n"))
            self._lines.put(self.told[-1])
        self._lines.put(None)

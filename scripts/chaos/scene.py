"""The scene of a run: its folder, the schedulers and the producer in it, and what is done to them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from atlas.settings import Settings
from scripts.chaos import broken, ledger, processes

if TYPE_CHECKING:
    from scripts.chaos.databases import Database

ROOT: Final = Path(__file__).resolve().parents[2]
LEASE_S: Final = 20.0
MEMBER: Final = "CHAOS_MEMBER"
"""The variable that the schedulers, the producer and their children have, and a database server has not."""
STOP_LIMIT_S: Final = 60.0

JOBS: Final[dict[str, Any]] = {
    "each_second": {"cron_expression": "* * * * * *", "function": "scripts.chaos.functions:instant"},
    "each_five": {
        "name": "每五秒",
        "cron_expression": "*/5 * * * * *",
        "function": "scripts.chaos.functions:slow_async",
    },
    "long": {"cron_expression": "*/7 * * * * *", "function": "scripts.chaos.functions:slow", "overlap": "skip"},
}
JOBS["each_five"]["args"] = [0.3]
JOBS["long"]["args"] = [10]


class Scene:
    """Processes and files of one run.

    Args:
        folder: Of the run.
        database: What it uses.
        rate: Tasks a second the producer submits.
        seed: Of every draw.
        variant: How the product is broken on purpose, or None.
        stock: Run stock APScheduler in the product's place.
    """

    def __init__(
        self, folder: Path, database: Database, *, rate: float, seed: int, variant: str | None, stock: bool = False
    ) -> None:
        """Write the files; nothing runs yet."""
        self.folder, self.database, self.variant, self.stock = folder, database, variant, stock
        self.draw = random.Random(seed)  # noqa: S311 - a reproducible draw, no secret
        self.schedulers: list[subprocess.Popen[bytes]] = []
        self._ended: list[subprocess.Popen[bytes]] = []
        self.producer: subprocess.Popen[bytes] | None = None
        self._rate, self._seed = rate, seed
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ATLAS_")},
            ledger.FOLDER: str(folder),
            MEMBER: str(folder),
            "PYTHONPATH": str(ROOT),
        }
        os.environ[ledger.FOLDER] = str(folder)
        self._settings, self.jobs_file = folder / "config" / "config.yaml", folder / "config" / "cron_jobs.json"
        self._settings.parent.mkdir()
        settings = {
            "scheduler": {"max_workers": 16, "stop_grace": 1, "drain_timeout": 5, "timezone": "UTC"},
            "persistence": {"database": str(database.url), "status_file": None, "keep_tasks": None},
            "functions": {"allow": ["scripts.chaos.functions"]},
            **({"web": {"enabled": False}} if "web" in Settings.model_fields else {}),
            "collect": {"sources": []},
        }
        self._settings.write_text(json.dumps(settings))
        self.write_jobs(JOBS)

    # --- files --------------------------------------------------------------------------------------------------------

    def write_jobs(self, jobs: dict[str, Any]) -> None:
        """Replace the jobs file; whoever runs notices."""
        self.jobs_file.write_text(json.dumps({"cron_jobs": jobs}, ensure_ascii=False))

    # --- processes ----------------------------------------------------------------------------------------------------

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        """Start one more; a line in the faults file tells when."""
        if self.variant == "no-unique-key":
            broken.drop_unique_key(str(self.database.url))
        command = [sys.executable, "-m", "scripts.chaos.victim", "--config", str(self._settings), *self._break()]
        if self.stock:
            command = [sys.executable, "-m", "scripts.chaos.stock", "serve", str(self.database.url)]
        with (self.folder / "scheduler.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own words
                command,
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        ledger.write(ledger.FAULTS, what="start", pid=process.pid)
        self.schedulers.append(process)
        return process

    def start_producer(self) -> None:
        """Start the producer."""
        program = ["scripts.chaos.stock", "produce"] if self.stock else ["scripts.chaos.producer"]
        command = [sys.executable, "-m", *program, str(self.database.url), *self._break()]
        command += ["--rate", str(self._rate), "--seed", str(self._seed + self.draw.randrange(1_000_000))]
        with (self.folder / "producer.log").open("ab") as log:
            self.producer = subprocess.Popen(  # noqa: S603 - our own words
                command,
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _break(self) -> list[str]:
        return [] if self.variant is None else ["--break", self.variant]

    def alive(self) -> list[subprocess.Popen[bytes]]:
        """The schedulers that live, oldest first; one that ended by itself is written down."""
        for process in self.schedulers:
            if process.poll() is not None and process not in self._ended:
                ledger.write(ledger.FAULTS, what="died", pid=process.pid, code=process.returncode)
        self.schedulers = [process for process in self.schedulers if process.poll() is None]
        return self.schedulers

    def _end(self, process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
        self._ended.append(process)
        process.send_signal(number)

    def kill_scheduler(self) -> None:
        """Kill -9 the oldest one."""
        for process in self.alive()[:1]:
            self._end(process)
            process.wait()

    def stop_scheduler(self, number: int = signal.SIGTERM) -> None:
        """Ask all of them to end, and wait."""
        stopping = list(self.alive())
        for process in stopping:
            self._end(process, number)
        for process in stopping:
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                ledger.write(ledger.FAULTS, what="stuck", pid=process.pid)
                process.kill()
                process.wait()

    def stop_producer(self, number: int = signal.SIGTERM) -> None:
        """End the producer; SIGTERM lets its calls in flight end."""
        if self.producer is not None:
            self.producer.send_signal(number)
            self.producer.wait(STOP_LIMIT_S)
            self.producer = None

    def close(self) -> None:
        """Kill whatever is left."""
        for pid in processes.marked(f"{MEMBER}={self.folder}"):
            os.kill(pid, signal.SIGKILL)

    # --- faults -------------------------------------------------------------------------------------------------------

    def faults(self, *, long: bool) -> list[str]:
        """Names of what can be done here."""
        names = ["kill scheduler", "kill scheduler", "kill worker", "kill producer", "restart", "freeze"]
        names += ["damaged config", "second scheduler", *self.database.faults]
        if self.stock:  # it has no jobs file and no process that can be killed alone
            names = [name for name in names if name not in {"damaged config", "kill worker"}]
        return [*names, "freeze past the lease"] if long else names

    def hurt(self, name: str) -> None:
        """Do it, see that a scheduler runs afterwards, and write down from when to when it held."""
        begun = time.time()
        match name:
            case "kill scheduler":
                self.kill_scheduler()
                time.sleep(self.draw.uniform(0.0, 1.0))
            case "kill worker":
                workers = [
                    pid for one in self.alive() for pid in processes.children(one.pid) if processes.is_worker(pid)
                ]
                if workers:
                    _kill(self.draw.choice(workers))
            case "kill producer":
                self.stop_producer(signal.SIGKILL)
                self.start_producer()
            case "restart":
                self.stop_scheduler(self.draw.choice([signal.SIGTERM, signal.SIGINT]))
            case "freeze" | "freeze past the lease":
                self._freeze(self.draw.uniform(1, 5) if name == "freeze" else LEASE_S + 5)
            case "damaged config":
                self._damage_config()
            case "second scheduler":
                self._second_scheduler()
            case _:
                self.database.hurt(name, self.draw.uniform(1, 4) if self.draw.random() < 0.8 else 12.0)
        if not self.alive():
            self.start_scheduler()
        ledger.write(ledger.FAULTS, what="fault", name=name, begun=begun)

    def _freeze(self, seconds: float) -> None:
        frozen = self.alive()[:1]
        for process in frozen:
            process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        for process in frozen:
            process.send_signal(signal.SIGCONT)

    def _damage_config(self) -> None:
        whole = self.jobs_file.read_bytes()
        self.jobs_file.write_bytes(whole[: self.draw.randrange(len(whole))])
        time.sleep(self.draw.uniform(0.5, 4))
        self.jobs_file.write_bytes(whole)

    def _second_scheduler(self) -> None:
        """One more beside the first; then one of the two is killed."""
        second = self.start_scheduler()
        time.sleep(self.draw.uniform(2, 5))
        victim = second if self.draw.random() < 0.5 else self.alive()[0]
        self._end(victim)
        victim.wait()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return

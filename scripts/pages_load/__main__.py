"""``make pages-load``: what the pages cost at 10,000 jobs and 1,000,000 tasks, and whether they delay any start.

The real service runs in a process of its own over real HTTP.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

from scripts.pages_load.client import Visitor, hammering, watching
from scripts.pages_load.history import copy_of, installation, job_id, newest_task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from scripts.pages_load.client import Count

MOST_CPU_S: Final = 0.100
MOST_BYTES: Final = 150_000
MOST_DELAY_S: Final = 0.050
ROUNDS: Final = 7
TABS: Final = 8
SETTLED: Final = 0.05
"""CPU seconds a second below which the process has little to do."""
KEPT: Final = Path(tempfile.gettempdir()) / "atlas-pages-load"


class Service:
    """The measured process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wait until its pages answer."""
        self._process = process
        self.address: str = self._answer()["address"]

    def load(self, per_s: float, seconds: float) -> dict[str, Any]:
        """See `scripts.pages_load.service.load`."""
        order = cast("IO[str]", self._process.stdin)
        order.write(f"{per_s} {seconds}\n")
        order.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = cast("IO[str]", self._process.stdout).readline()
        if not line:
            raise SystemExit("the service ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def cpu(self) -> dict[str, float]:
        """See `scripts.pages_load.service.cpu`."""
        return self.load(0, 0)

    def settle(self) -> float:
        """Wait until it has little to do; returns its CPU seconds a second then."""
        share = 1.0
        for _ in range(60):
            begin = self.cpu()["all"]
            time.sleep(1.0)
            share = self.cpu()["all"] - begin
            if share < SETTLED:
                break
        return share


@contextmanager
def serving(folder: Path) -> Iterator[Service]:
    """The service over the installation in ``folder``."""
    command = [sys.executable, "-m", "scripts.pages_load.service", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
    try:
        yield Service(process)
    finally:
        cast("IO[str]", process.stdin).close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def pages(task: str, failed: str) -> dict[str, str]:
    """Name → path of every page that is measured."""
    return {
        "Overview, at once": "/",
        "Overview": "/?",
        "Overview by name": "/?sort=name",
        "Overview, 30 days": "/?range=30d",
        "Jobs": "/jobs",
        "Jobs, failing": "/jobs?state=failing",
        "Jobs, found by text": "/jobs?q=source_07",
        "Job, busy": f"/jobs/{job_id(0)}",
        "Job, busy, 30 days": f"/jobs/{job_id(0)}?range=30d",
        "Job, daily": f"/jobs/{job_id(1)}",
        "Job, skips": f"/jobs/{job_id(0)}?only=skips",
        "Tasks": "/tasks",
        "Tasks, failed": "/tasks?status=FAILED",
        "Tasks, found by text": "/tasks?q=RateLimit",
        "Tasks of a job": f"/tasks?job={job_id(0)}",
        "Task": f"/tasks/{task}",
        "Task, failed": f"/tasks/{failed}",
        "Queue": "/queue",
        "Config": "/config",
        "System": "/system",
        "Find": "/find?q=source_07",
        "Help": "/help",
        "Ask to run": f"/ask/run?job={job_id(0)}",
        "Ask to submit": "/ask/submit",
        "Metrics": "/metrics",
    }


def measure(service: Service, shown: dict[str, str]) -> list[str]:
    """CPU and bytes of each page, at its first view and later; returns what is over a limit.

    CPU is that of the threads that answer. The first page is asked for at once after the start, the others when the
    process has done what it does ahead and aside.
    """
    over: list[str] = []
    print(f"{'page':24}{'first':>9}{'median':>9}{'worst':>9}{'bytes':>10}")
    for number, (name, path) in enumerate(shown.items()):
        if number == 1:
            share, cpu = service.settle(), service.cpu()
            print(f"{cpu['all']:.1f} s of CPU since the start; the process rests at {share:.1%} of a core", flush=True)
        costs: list[float] = []
        size = 0
        with Visitor(service.address) as visitor:
            for _ in range(1 + (ROUNDS if number else 0)):
                begin = service.cpu()["pages"]
                size = max(size, len(visitor.get(path)))
                costs.append(service.cpu()["pages"] - begin)
        first, middle, worst = costs[0], statistics.median(costs[1:] or costs), max(costs[1:] or costs)
        is_over = first > MOST_CPU_S or middle > MOST_CPU_S or (size > MOST_BYTES and name != "Metrics")
        cells = f"{first * 1000:7.0f}ms{middle * 1000:7.0f}ms{worst * 1000:7.0f}ms{size:>10,}"
        print(f"{name:24}{cells}{'  OVER' if is_over else ''}", flush=True)
        if is_over:
            over.append(name)
    return over


def delays(service: Service, shown: Sequence[str], per_s: float, seconds: float, rounds: int) -> list[str]:
    """Start delays of a steady load with nobody there, with a client that hammers, and with live tabs, in turn."""
    found: dict[str, list[float]] = {}
    service.settle()
    for number in range(rounds):
        for name, beside in _besides(service, shown).items():
            begin, start = service.cpu()["all"], time.monotonic()
            with beside as count:
                answer = service.load(per_s, seconds)
            took = time.monotonic() - start
            if count is not None and count.errors:
                print(*count.errors, sep="\n", file=sys.stderr)
            delays_s = sorted(answer["delays_s"])
            p50, p99 = (delays_s[int(len(delays_s) * part)] * 1000 for part in (0.5, 0.99))
            found.setdefault(name, []).append(p99 / 1000)
            told = "" if count is None else f", {count.pages / took:.0f} answers/s, {count.bytes / took / 1e6:.2f} MB/s"
            print(
                f"round {number + 1}, {name:9}: {len(delays_s)} of {answer['asked']} started, delay p50 {p50:.1f} ms,"
                f" p99 {p99:.1f} ms, CPU {(service.cpu()['all'] - begin) / took:.0%}{told}",
                flush=True,
            )
    over: list[str] = []
    middle = {name: statistics.median(each) for name, each in found.items()}
    for name in [name for name in middle if name != "alone"]:
        more_s = middle[name] - middle["alone"]
        is_over = more_s > MOST_DELAY_S
        print(f"{name}: {more_s * 1000:+.1f} ms at p99, median of {rounds} rounds{'  OVER' if is_over else ''}")
        over += [name] if is_over else []
    return over


def _besides(service: Service, shown: Sequence[str]) -> dict[str, AbstractContextManager[Count | None]]:
    live = ["/", "/jobs", "/tasks", "/queue"] * (TABS // 4)
    return {
        "alone": nullcontext(),
        "hammered": hammering(service.address, shown, 4),
        "live tabs": watching(service.address, live),
    }


def main() -> int:
    """Measure and print; returns 1 if something is over its limit."""
    parser = argparse.ArgumentParser(prog="make pages-load", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--per-s", type=float, default=50.0, help="tasks a second of the steady load")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one stretch of it")
    parser.add_argument("--rounds", type=int, default=5, help="stretches of each kind")
    parser.add_argument("--only", choices=("pages", "delays"), help="one of the two measurements")
    args = parser.parse_args()
    start = time.monotonic()
    kept = installation(KEPT, args.jobs, args.tasks, args.seed)
    print(f"{args.jobs:,} jobs, {args.tasks:,} tasks; the store is ready after {time.monotonic() - start:.0f} s")
    over: list[str] = []
    with tempfile.TemporaryDirectory(prefix="atlas-pages-run-") as folder:
        settings = copy_of(kept, Path(folder))
        shown = pages(newest_task(settings, "SUCCESS"), newest_task(settings, "FAILED"))
        with serving(Path(folder)) as service:
            if args.only != "delays":
                over += measure(service, shown)
            if args.only != "pages":
                over += delays(service, list(shown.values()), args.per_s, args.seconds, args.rounds)
    print(f"over the limit: {', '.join(over) or 'nothing'}")
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main())

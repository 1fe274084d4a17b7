"""``make chaos``: run the scheduler for real, hurt it by seed, and judge it by what its functions wrote down.

::

    producer ──submit, cancel──► database ◄── schedulers ──start, end──► ledger
                    │                             ▲                         │
                    └── acknowledgements ──► ledger        faults           ▼
                                                  └────── driver ──────► verdict
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, text

from scripts.chaos import broken, processes, stock
from scripts.chaos.databases import database
from scripts.chaos.scene import JOBS, Scene
from scripts.chaos.verdict import Evidence, Sample, ask_store, gather, judge, told

if TYPE_CHECKING:
    from scripts.chaos.checks import Check

PERIODS = {"each_second": 1, "each_five": 5, "long": 7}
STRETCH = 0.3
"""Share of a run that is its closing stretch: the long form's 600 s end with three minutes without a fault."""
STALLED_S = 60.0
"""No task ends any more: three leases without one are no take-over."""
BROKEN_STALLED_S = 20.0
"""The same for a product that is broken on purpose: what it loses does not come back."""
NOTICED_S = 4.0


def main() -> int:
    """Run; 0 only if every promise was kept."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the run, the closing stretch included")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--db", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--rate", type=float, default=40.0, help="tasks a second")
    parser.add_argument("--break", dest="variant", choices=list(broken.VARIANTS), help="a product broken on purpose")
    parser.add_argument("--keep", action="store_true", help="leave the folder of the run where it is")
    parser.add_argument("--stock", action="store_true", help="stock APScheduler 3.11 in the product's place")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="atlas-chaos-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # takes along what it has started
    try:
        with database(args.db, folder, keep=args.keep) as under_test:
            scene = Scene(folder, under_test, rate=args.rate, seed=args.seed, variant=args.variant, stock=args.stock)
            try:
                samples = run(scene, args.seconds)
                found = gather(folder, samples)
                if not args.stock:
                    ask_store(found, under_test)
            finally:
                scene.close()
        checks = stock.judge(found) if args.stock else judge(found, PERIODS)
        show(args, found, checks)
        return 0 if all(check.holds is not False for check in checks) else 1
    finally:
        if args.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def run(scene: Scene, seconds: float) -> list[Sample]:
    """The run: faults, then a stretch without, then the end; returns how the scheduler did in that stretch."""
    stretch_s = min(180.0, seconds * STRETCH)
    scene.start_scheduler()
    scene.start_producer()
    calm_at = time.monotonic() + seconds - stretch_s
    long = seconds >= 300
    names = scene.faults(long=long)
    queue: list[str] = []
    time.sleep(4)
    while time.monotonic() < calm_at:
        if not queue:
            queue = scene.draw.sample(names, len(names))
            queue.sort(key=lambda name: name == "kill scheduler")  # popped first: no run is too short for it
        scene.hurt(queue.pop())
        time.sleep(min(scene.draw.uniform(2, 8 if long else 4), max(0.0, calm_at - time.monotonic())))
    samples = []
    time.sleep(min(10.0, stretch_s / 3))
    while time.monotonic() < calm_at + stretch_s:
        leader = scene.alive()[0]
        samples.append(
            Sample(
                time.time(),
                processes.memory_mb(leader.pid),
                processes.open_files(leader.pid),
                sum(map(processes.is_worker, processes.children(leader.pid))),
            )
        )
        time.sleep(0.5)
    scene.stop_producer()
    if scene.stock:
        time.sleep(10)  # nothing tells when it is done
    else:
        settle(scene)
    scene.stop_scheduler()
    return samples


def settle(scene: Scene) -> None:
    """Take the jobs away and wait until all that was accepted is final, or nothing ends any more: the verdict tells."""
    scene.write_jobs({name: {**job, "enabled": False} for name, job in JOBS.items()})
    engine = create_engine(scene.database.url)
    count = text("SELECT count(*) FROM tasks WHERE status IN ('PENDING', 'RUNNING', 'RETRYING')")
    least, moved, quiet_since = None, time.monotonic(), None
    patience_s = STALLED_S if scene.variant is None else BROKEN_STALLED_S
    while time.monotonic() - moved < patience_s:
        with engine.connect() as connection:
            unfinished = int(connection.execute(count).scalar_one())
        now = time.monotonic()
        if least is None or unfinished < least:
            least, moved = unfinished, now
        quiet_since = None if unfinished else quiet_since or now
        if quiet_since is not None and now - quiet_since > NOTICED_S:
            break  # the jobs file has been noticed meanwhile, and no job was served after all
        time.sleep(0.5)
    engine.dispose()


def show(args: argparse.Namespace, found: Evidence, checks: list[Check]) -> None:
    """Print the table."""
    extra = ", stock APScheduler" if args.stock else f", broken on purpose: {args.variant}" if args.variant else ""
    table = Table(title=f"chaos: {args.seconds:g} s, seed {args.seed}, {args.db}{extra}")
    table.add_column("must hold")
    table.add_column("found")
    table.add_column("")
    for check in checks:
        mark = {True: "[green]✓[/]", False: "[red]✗[/]", None: "–"}[check.holds]
        table.add_row(check.name, check.figure, mark)
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table)
    console.print(f"faults: {told(found)}; {found.refused} calls refused while the database was away")


if __name__ == "__main__":
    sys.exit(main())

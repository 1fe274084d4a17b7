"""``make simulate``: months of schedulers on virtual time, hurt by seed, judged by a model of its own.

::

    seed ─► jobs, faults, what each attempt does ─► VirtualTime: the real scheduler ─► rows, events
                         │                                                               │
                         └─► model: which fire times must be served, and how often ──► verdict
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from scripts.simulate.broken import VARIANTS
from scripts.simulate.seeds import Report, run_seed, shrink

if TYPE_CHECKING:
    from collections.abc import Iterable

MUST_HAPPEN: Final = (
    "actions: edit",
    "actions: lose store",
    "actions: pause",
    "actions: poison",
    "actions: roll back",
    "actions: suspend",
    "clock steps back",
    "clock steps forward",
    "jobs served again",
    "jobs set apart",
    "lives ended by a kill",
    "lives ended by a stop",
    "moves: RETRYING",
    "moves: TIMEOUT",
    "skips: coalesced",
    "skips: fault",
    "skips: missed",
    "skips: overlap",
    "skips: paused",
)
"""A simulation in which one of these never happened proves nothing about it, and fails once it is long enough."""
LONG_DAYS: Final = 300.0


def main() -> int:
    """Run; 0 only if every promise was kept."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--days", type=float, default=90.0)
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes")
    parser.add_argument("--break", dest="variant", choices=list(VARIANTS), help="a product broken on purpose")
    parser.add_argument("--shrink", action="store_true", help="cut the first failing seed down to as few days as fail")
    args = parser.parse_args()
    begun_s = time.monotonic()
    reports = sorted(run_all(args), key=lambda report: report.seed)
    failed = [report for report in reports if report.problems]
    missing = show(args, reports, time.monotonic() - begun_s)
    for report in failed[:3]:
        tell(args, shrink(report.seed, args.days, args.variant) if args.shrink and report is failed[0] else report)
    if failed:
        print(f"{len(failed)} of {len(reports)} seeds broke a promise: {', '.join(str(one.seed) for one in failed)}")
    if missing:
        print(f"never happened, so nothing is known of it: {', '.join(missing)}")
    return 1 if failed or missing else 0


def run_all(args: argparse.Namespace) -> Iterable[Report]:
    """A report for each seed, as they come."""
    context = multiprocessing.get_context("spawn")
    bar = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
    with bar, ProcessPoolExecutor(args.jobs, mp_context=context) as pool:
        step = bar.add_task("seeds", total=args.seeds)
        seeds = range(args.first, args.first + args.seeds)
        running = [pool.submit(run_seed, seed, args.days, args.variant) for seed in seeds]
        for done in as_completed(running):
            bar.advance(step)
            yield done.result()


def show(args: argparse.Namespace, reports: list[Report], took_s: float) -> list[str]:
    """Print what was exercised; returns what should have been and was not."""
    counts: Counter[str] = Counter()
    for report in reports:
        counts += report.counts
    table = Table(title=f"simulate: {args.seeds} seeds of {args.days:g} days, {took_s:.0f} s, {args.jobs} processes")
    for _pair in range(2):
        table.add_column("exercised")
        table.add_column("times", justify="right")
    rows = [(name, f"{count:,}") for name, count in sorted(counts.items())]
    half = (len(rows) + 1) // 2
    for left, right in zip(rows[:half], [*rows[half:], ("", "")], strict=False):
        table.add_row(*left, *right)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return [name for name in MUST_HAPPEN if not counts[name]] if args.seeds * args.days >= LONG_DAYS else []


def tell(args: argparse.Namespace, report: Report) -> None:
    """Print what broke, how it ended, and how to see it again."""
    print(f"\nseed {report.seed} broke {len(report.problems)}:")
    for problem in report.problems[:8]:
        print(f"  {problem}")
    print("the end of its trace:")
    for line in report.end:
        print(f"  {line}")
    extra = f" --break {args.variant}" if args.variant else ""
    print(f"again: python -m scripts.simulate --first {report.seed} --seeds 1 --days {report.days:g}{extra}\n")


if __name__ == "__main__":
    sys.exit(main())

"""``make bench``: Atlas beside its peers, in turn, on the same work, in one run.

A full run takes about a quarter of an hour. It writes scripts/bench/benchmarks.json and the table of README.md;
measures that were not asked for stay in both as they were. A quick one takes about two minutes, with less work and one
round, and only prints its table.

Exit codes: 0 measured, whatever the goals; 1 a side failed, or its own checks found it wrong (a peer is left out then,
without Atlas the measure is not kept); 2 usage.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import platform
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scripts.bench import busy, peers, report
from scripts.bench.contenders import CHOICES
from scripts.bench.runner import Run, SideFailedError, measured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

MEASURES: Final = {
    name: f"scripts.bench.measures.{name}"
    for name in (
        "herd",
        "drain",
        "submit",
        "latency",
        "urgent",
        "start",
        "edit",
        "history",
        "memory",
        "fire_time",
        "imports",
    )
}
"""Every measure and its module, in the order of the table."""

KEPT: Final = Path(__file__).with_name("benchmarks.json")
README: Final = peers.ROOT / "README.md"


def main(
    argv: Sequence[str] | None = None,
    *,
    measures: Mapping[str, str] = MEASURES,
    kept: Path = KEPT,
    readme: Path = README,
) -> int:
    """Measure, print, keep; returns the exit code."""
    compileall.compile_dir(peers.ROOT / "atlas", quiet=1)  # as pip does for a user, and did for the peers
    modules = {name: importlib.import_module(module) for name, module in measures.items()}
    args = _parsed(argv, modules)
    run = Run(peers=args.peers, quick=args.quick)
    now: dict[str, Any] = {"machine": _machine(), "measures": {}}
    if (said := busy.warning(os.getloadavg()[0])) is not None:
        print(f"warning: {said}", file=sys.stderr)
    failed = False
    for name in args.only:
        try:
            found = measured(name, measures[name], modules[name].MEASURE, run)
        except SideFailedError as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        now["measures"][name] = found
        failed = failed or bool(found["failed"])
        print(f"{name} took {found['took_s']} s", file=sys.stderr)
        for side, why in found["left_out"].items():
            print(f"{name}: {side} is left out: {why}", file=sys.stderr)
        if (found["others"] or 0.0) > busy.MUCH:
            print(f"warning: {name}: others had {found['others']:.0%} of the CPUs meanwhile", file=sys.stderr)
        if not run.quick:
            report.keep(kept, now, list(measures))  # a run that is broken off keeps what it has
    if run.quick:
        print(report.table(now))
    elif now["measures"]:
        text = report.table(report.keep(kept, now, list(measures)))
        print(text)
        if not report.write_readme(readme, text):
            print(f"{readme.name} has no markers for the table", file=sys.stderr)
    return int(failed)


def _parsed(argv: Sequence[str] | None, modules: Mapping[str, ModuleType]) -> argparse.Namespace:
    told = "\n".join(f"  {name:<10} {(module.__doc__ or '').splitlines()[0]}" for name, module in modules.items())
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench",
        description=__doc__,
        epilog=f"measures:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", metavar="NAMES", help="measures, with commas; all by default (ONLY=)")
    parser.add_argument(
        "--peers",
        choices=CHOICES,
        default="some",
        help="none: Atlas and the floors; some: stock APScheduler and huey as well; all: APScheduler on PostgreSQL "
        "and Celery on Redis too (PEERS=)",
    )
    parser.add_argument("--quick", action="store_true", help="one round of less work, printed and not kept (QUICK=1)")
    args = parser.parse_args(argv)
    args.only = [name for name in args.only.replace(" ", "").split(",") if name] or list(modules)
    if unknown := [name for name in args.only if name not in modules]:
        parser.error(f"no measure is called {', '.join(unknown)}; there are {', '.join(modules)}")
    return args


def _machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}


if __name__ == "__main__":
    sys.exit(main())

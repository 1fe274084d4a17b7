"""``make bench [ONLY=drain,herd,…] [PEERS=all]``: Atlas beside its peers, in turn, on the same work, in one run."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.bench import peers, report

if TYPE_CHECKING:
    from scripts.bench.measure import Figures, Measure, Side

MEASURES = (
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
KEPT = Path(__file__).with_name("benchmarks.json")
LIMIT_S = 400.0


class SideFailedError(Exception):
    """A side ended without figures."""


def main() -> int:
    """Measure, print, keep; returns the exit code: 1 if a side failed, 0 also when a goal is missed."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", metavar="NAMES", help=f"with commas, of: {', '.join(MEASURES)}")
    parser.add_argument("--peers", choices=("some", "all"), default="some", help="all: Celery on Redis as well")
    args = parser.parse_args()
    names = [name for name in args.only.split(",") if name] or list(MEASURES)
    if unknown := sorted(set(names) - set(MEASURES)):
        parser.error(f"no measure is called {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    kept: dict[str, Any] = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": _machine(), "measures": {}}
    failed = False
    for name in names:
        try:
            kept["measures"][name] = _measured(
                name, importlib.import_module(f"scripts.bench.{name}").MEASURE, every_peer=args.peers == "all"
            )
        except SideFailedError as error:
            print(error, file=sys.stderr)
            failed = True
        else:
            report.keep(KEPT, kept, MEASURES)  # a run that is broken off keeps what it has
    text = report.table(report.keep(KEPT, kept, MEASURES))
    print(text)
    if not report.write_readme(peers.ROOT / "README.md", text):
        print("README.md has no markers for the table", file=sys.stderr)
    return int(failed)


def _measured(name: str, measure: Measure, *, every_peer: bool) -> dict[str, Any]:
    """Run all sides of one measure in turn, round by round."""
    sides = [side for side in measure.sides if every_peer or not side.asked]
    load = round(os.getloadavg()[0], 1)
    found: dict[str, dict[int, list[Figures]]] = {side.name: {} for side in sides}
    for number in range(measure.rounds):
        for side in sides:
            for size in side.sizes or measure.sizes:
                if number < (side.rounds if size == measure.sizes[0] else 1):  # other sizes show growth: once
                    figures = _run(name, side, size)
                    found[side.name].setdefault(size, []).append(figures)
                    words = ", ".join(f"{figure} {value:.4g}" for figure, value in figures.items())
                    print(f"{name} {size} round {number + 1}, {side.name}: {words}", file=sys.stderr, flush=True)
    middle = {
        side: {size: report.medians(rounds) for size, rounds in sizes.items()} for side, sizes in found.items() if sizes
    }
    return {
        "title": measure.title,
        "load": load,
        "units": dict(measure.shown),
        "sides": {
            side.name: {
                "durability": side.durability,
                "rounds": min(side.rounds, measure.rounds),
                "figures": {str(size): figures for size, figures in middle[side.name].items()},
            }
            for side in sides
        },
        "goals": report.judged(measure, middle),
    }


def _run(name: str, side: Side, size: int) -> Figures:
    """One side once, in an interpreter and a folder of its own, on the disk the project is on."""
    python = str(peers.interpreter()) if side.home == "peer" else sys.executable
    peers.FOLDER.mkdir(exist_ok=True)
    folder = tempfile.mkdtemp(prefix="run-", dir=peers.FOLDER)
    try:
        done = subprocess.run(  # noqa: S603 - the command is made here
            [python, "-m", "scripts.bench.child", name, side.name, str(size), folder],
            cwd=peers.ROOT,
            env=os.environ | {"PYTHONPATH": str(peers.ROOT)},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SideFailedError(f"{name}, {side.name}: no figures within {LIMIT_S:g} s") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode:
        raise SideFailedError(f"{name}, {side.name} failed:\n{done.stderr[-3000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


if __name__ == "__main__":
    sys.exit(main())

"""Runs the sides of a measure in turn, each in an interpreter and a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from scripts.bench import busy, peers, report
from scripts.bench.contenders import ATLAS, left_out

if TYPE_CHECKING:
    from scripts.bench.contenders import Peers
    from scripts.bench.measure import Figures, Measure, Side

LIMIT_S: Final = 900.0
"""Longest one side may take; stock needs a minute and a half for its ten thousand jobs on a machine at rest."""


class SideFailedError(Exception):
    """A side ended without figures, or its own checks found it wrong."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is asked of the bench.

    Attributes:
        peers: Who takes part.
        quick: One round at the quick size.
    """

    peers: Peers
    quick: bool = False

    def turns(self, measure: Measure, side: Side) -> dict[int, int]:
        """How often ``side`` runs at which size."""
        if self.quick:
            return {measure.quick: 1}
        first = measure.sizes[0]
        return {size: min(side.rounds, measure.rounds) if size == first else 1 for size in side.sizes or measure.sizes}

    def head(self, measure: Measure) -> int:
        """The size that the goals speak of."""
        return measure.quick if self.quick else measure.sizes[0]


def measured(name: str, module: str, measure: Measure, run: Run) -> dict[str, Any]:
    """Everything that is kept of one measure.

    Args:
        name: Of the measure.
        module: Where the child process finds it.
        measure: The measure.
        run: What is asked.

    Raises:
        SideFailedError: Atlas's side failed, and without it there is nothing to tell. A peer's is left out.
    """
    absent = {side.name: why for side in measure.sides if (why := _absent(side, run)) is not None}
    sides = [side for side in measure.sides if side.name not in absent]
    failed: dict[str, str] = {}
    others, begun_s = busy.Others(), time.monotonic()
    found: dict[str, dict[int, list[Figures]]] = {side.name: {} for side in sides}
    for number in range(measure.rounds):
        for side in [side for side in sides if side.name not in failed]:
            try:
                for size in (size for size, times in run.turns(measure, side).items() if number < times):
                    figures = run_side(name, module, side, size)
                    found[side.name].setdefault(size, []).append(figures)
                    words = ", ".join(f"{figure} {value:.4g}" for figure, value in figures.items())
                    print(f"{name} {size} round {number + 1}, {side.name}: {words}", file=sys.stderr, flush=True)
            except SideFailedError as error:
                if side.who.name.startswith(ATLAS.name):
                    raise
                print(error, file=sys.stderr, flush=True)
                failed[side.name] = "its run failed"
    sides = [side for side in sides if side.name not in failed]
    middle = {side.name: {size: report.medians(rounds) for size, rounds in found[side.name].items()} for side in sides}
    return {
        "title": measure.title,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "took_s": round(time.monotonic() - begun_s),
        "load": others.load,
        "others": others.share(),
        "sides": {
            side.name: {
                "durability": side.who.durability,
                "runs": {str(size): len(rounds) for size, rounds in found[side.name].items()},
                "figures": {str(size): figures for size, figures in middle[side.name].items()},
            }
            for side in sides
        },
        "left_out": absent | failed,
        "failed": list(failed),
        "shown": {figure: list(words) for figure, words in measure.shown.items()},
        "goals": report.judged(measure, middle, head=run.head(measure), grown=not run.quick),
    }


def _absent(side: Side, run: Run) -> str | None:
    why = left_out(side.who, run.peers)
    return peers.missing() if why is None and side.who.home == "peers" else why


def run_side(name: str, module: str, side: Side, size: int) -> Figures:
    """The figures of one side, once, on the disk that the project is on.

    Raises:
        SideFailedError: It has none.
    """
    python = str(peers.interpreter()) if side.who.home == "peers" else sys.executable
    peers.FOLDER.mkdir(exist_ok=True)
    folder = tempfile.mkdtemp(prefix="run-", dir=peers.FOLDER)
    try:
        done = subprocess.run(  # noqa: S603 - the command is made here
            [python, "-m", "scripts.bench.child", module, side.name, str(size), folder],
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

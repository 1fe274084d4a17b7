"""A measure for the bench's tests: numbers come back, and the peer loses one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.bench.contenders import ATLAS, THREAD_POOL
from scripts.bench.measure import Figures, Goal, Measure, Side, check_results

if TYPE_CHECKING:
    from pathlib import Path


def honest(_folder: Path, size: int) -> Figures:
    check_results(range(size), size)
    return {"per_s": 2.0}


def lying(_folder: Path, size: int) -> Figures:
    check_results([number for number in range(size) if number != 1], size)
    return {"per_s": 1.0}


MEASURE = Measure(
    title="numbers that come back",
    sizes=(3,),
    quick=2,
    rounds=2,
    sides=(Side(who=ATLAS, run=honest), Side(who=THREAD_POOL, run=lying)),
    goals=(
        Goal(what="numbers", figure="per_s", must=1, reach=1, least=True),
        Goal(what="numbers beside", figure="per_s", to="thread pool", must=1, reach=1, least=True),
    ),
)

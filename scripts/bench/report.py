"""Figures become medians, medians are held against goals; both are kept as JSON and become the README's table."""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from scripts.bench.measure import Figures, Goal, Measure

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def medians(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure over the rounds, with three to four digits."""
    return {name: rounded(median(one[name] for one in rounds)) for name in rounds[0]}


def rounded(value: float) -> float:
    """``value`` with as many digits as a measurement has."""
    return float(f"{value:.4g}")


def judged(measure: Measure, found: dict[str, dict[int, Figures]]) -> list[dict[str, Any]]:
    """Every goal whose figures were measured, with what was found."""
    return [line for goal in measure.goals if (line := _line(measure, goal, found)) is not None]


def _line(measure: Measure, goal: Goal, found: dict[str, dict[int, Figures]]) -> dict[str, Any] | None:
    size = goal.size or measure.sizes[0]
    own = found.get(goal.side, {}).get(size)
    if own is None or goal.figure not in own:
        return None
    value, line = own[goal.figure], {"what": goal.what, "side": goal.side, "value": own[goal.figure], "unit": goal.unit}
    if goal.to is not None:
        other = found.get(goal.to, {}).get(goal.to_size or size)
        if other is None:
            return None
        beside = other[goal.to_figure or goal.figure]
        value = value / beside if beside else float("inf")
        line |= {"beside": goal.to, "beside_value": beside, "ratio": rounded(value)}
    met = "reach" if goal.is_met(value, goal.reach) else "must" if goal.is_met(value, goal.must) else "missed"
    return line | {"must": goal.must, "reach": goal.reach, "least": goal.least, "met": met}


def table(kept: dict[str, Any]) -> str:
    """The README's table, and beneath it what each side's figures stand for."""
    lines = ["| what, median | Atlas | beside it | ratio | goal |", "|---|---|---|---|---|"]
    for measure in kept["measures"].values():
        lines.extend(_row(goal) for goal in measure["goals"])
    machine, loads = kept["machine"], [measure["load"] for measure in kept["measures"].values()]
    lines += [
        "",
        (
            f"`make bench`, {kept['date']}: {machine['cores']} cores, Python {machine['python']}, "
            f"SQLite {machine['sqlite']}, load {min(loads)} to {max(loads)} before a measure; "
            "sides in turn, each in a process of its own."
        ),
        "",
        "What is safe when a call has returned:",
        "",
    ]
    lines.extend(f"* {name}: {words}." for name, words in _sides(kept))
    return "\n".join(lines)


def _row(goal: dict[str, Any]) -> str:
    beside = f"{goal['beside']} {shown(goal['beside_value'], goal['unit'])}" if "beside" in goal else ""
    ratio = as_ratio(goal["ratio"]) if "ratio" in goal else ""
    sign = "≥" if goal["least"] else "≤"
    must = as_ratio(goal["must"]) if "ratio" in goal else shown(goal["must"], goal["unit"])
    missed = " **missed**" if goal["met"] == "missed" else ""
    return f"| {goal['what']} | {shown(goal['value'], goal['unit'])} | {beside} | {ratio} | {sign} {must}{missed} |"


def _sides(kept: dict[str, Any]) -> Iterable[tuple[str, str]]:
    sides = {
        (name, side["durability"]) for measure in kept["measures"].values() for name, side in measure["sides"].items()
    }
    return sorted(one for one in sides if one[1])


def shown(value: float, unit: str) -> str:
    """A figure as one reads it."""
    if unit == "s" and value < 1:
        value, unit = value * 1000, "ms"
    if unit == "ms" and value < 1:
        value, unit = value * 1000, "µs"
    number = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
    return number + (unit if unit.startswith("/") else f" {unit}" if unit else "")


def as_ratio(value: float) -> str:
    """1/37, or 12 ×."""
    if value < 0.95:
        return f"1/{1 / value:.3g}" if value else "0"
    return f"{value:.3g} ×"


def write_readme(path: Path, text: str) -> bool:
    """Put the table between the markers; False if the README has none."""
    old = path.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return False
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    return True


def keep(path: Path, new: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Write the figures; measures that were not measured this time stay as they were."""
    old = json.loads(path.read_text(encoding="utf-8"))["measures"] if path.exists() else {}
    both = old | new["measures"]
    kept = new | {"measures": {name: both[name] for name in order if name in both}}
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return kept

"""Figures become medians, medians are held against goals; both are kept as JSON and become the README's table."""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from scripts.bench.measure import Figures, Goal, Measure

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
VERDICTS: Final = {
    "reach": "reached",
    "must": "met",
    "missed": "**missed**",
    "wished": "not reached",
    "unknown": "not measured",
}
"""``wished``: there is no bound, and what one would like is not reached."""


def medians(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure over the rounds, with three to four digits."""
    return {name: rounded(median(one[name] for one in rounds)) for name in rounds[0]}


def rounded(value: float) -> float:
    """``value`` with as many digits as a measurement has."""
    return float(f"{value:.4g}")


# --- goals -----------------------------------------------------------------------------------------------------------


def judged(
    measure: Measure, found: dict[str, dict[int, Figures]], *, head: int, grown: bool = True
) -> list[dict[str, Any]]:
    """Every goal with what was found; what was not measured is told as such.

    Args:
        measure: Whose goals.
        found: Side → size → medians.
        head: The size that goals without one speak of.
        grown: False leaves out what speaks of other sizes.
    """
    goals = [goal for goal in measure.goals if grown or (goal.size is None and goal.to_size is None)]
    return [_line(goal, found, head) for goal in goals]


def _line(goal: Goal, found: dict[str, dict[int, Figures]], head: int) -> dict[str, Any]:
    size = goal.size or head
    line: dict[str, Any] = {
        "what": goal.what.format(size=f"{size:,}"),
        "side": goal.side,
        "figure": goal.figure,
        "unit": goal.unit,
        "must": goal.must,
        "reach": goal.reach,
        "least": goal.least,
    }
    value = line["value"] = found.get(goal.side, {}).get(size, {}).get(goal.figure)
    if goal.to is not None:
        beside = found.get(goal.to, {}).get(goal.to_size or size, {}).get(goal.to_figure or goal.figure)
        line |= {"beside": goal.to, "beside_value": beside, "ratio": None}
        if value is not None and beside is not None:
            line["ratio"] = rounded(value / beside) if beside else float("inf")
        value = line["ratio"]
    return line | {"met": "unknown" if value is None else _verdict(goal, value)}


def _verdict(goal: Goal, value: float) -> str:
    if goal.is_met(value, goal.reach):
        return "reach"
    if goal.must is None:
        return "wished"
    return "must" if goal.is_met(value, goal.must) else "missed"


# --- the table -------------------------------------------------------------------------------------------------------


def table(kept: dict[str, Any]) -> str:
    """The README's table, and beneath it what was seen beside the goals and what each side's figures stand for."""
    measures: dict[str, dict[str, Any]] = kept["measures"]
    lines = [
        "| what, median | Atlas | beside it | ratio | must | reach | | runs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for measure in measures.values():
        lines.extend(_row(goal, measure) for goal in measure["goals"])
    lines += ["", _circumstances(kept), "", "How it grows, and what has no goal:", ""]
    lines.extend(line for measure in measures.values() for line in _shown(measure))
    lines += ["", "What is safe when a call has returned:", ""]
    words = {name: side["durability"] for measure in measures.values() for name, side in measure["sides"].items()}
    lines.extend(f"* {name}: {durability}." for name, durability in words.items() if durability)
    absent = dict.fromkeys(
        f"* {name}: {why}." for measure in measures.values() for name, why in measure["left_out"].items()
    )
    if absent:
        lines += ["", "Not measured:", "", *absent]
    return "\n".join(lines)


def _row(goal: dict[str, Any], measure: dict[str, Any]) -> str:
    unit, is_ratio = goal["unit"], "beside" in goal
    value = "–" if goal["value"] is None else shown(goal["value"], unit)
    beside = ""
    if is_ratio:
        beside = goal["beside"]
        if goal["beside_value"] is not None:
            beside += f" {shown(goal['beside_value'], unit)}"
    ratio = as_ratio(goal["ratio"]) if goal.get("ratio") is not None else ""
    sign = "≥" if goal["least"] else "≤"
    bounds = [
        "" if bound is None else f"{sign} {as_ratio(bound) if is_ratio else shown(bound, unit)}"
        for bound in (goal["must"], goal["reach"])
    ]
    sides = dict.fromkeys((goal["side"], goal.get("beside") or goal["side"]))
    runs = [max(measure["sides"][name]["runs"].values()) for name in sides if name in measure["sides"]]
    verdict = VERDICTS[goal["met"]]
    cells = (goal["what"], value, beside, ratio, *bounds, verdict, ", ".join(map(str, runs)))
    return f"| {' | '.join(cells)} |"


def _circumstances(kept: dict[str, Any]) -> str:
    machine, measures = kept["machine"], list(kept["measures"].values())
    loads = ", ".join(f"{name} {measure['load']:g}" for name, measure in kept["measures"].items())
    dates = sorted({measure["date"] for measure in measures})
    others = [measure["others"] for measure in measures if measure["others"] is not None]
    taken = f", others had {min(others):.0%} to {max(others):.0%} of the CPUs meanwhile" if others else ""
    return (
        f"`make bench`, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}: {machine['cores']} cores, "
        f"Python {machine['python']}, SQLite {machine['sqlite']}; load before each measure: {loads}{taken}. "
        "Sides take turns, each in a process of its own; a figure is the median of so many runs."
    )


def _shown(measure: dict[str, Any]) -> Iterator[str]:
    judged = {goal["figure"] for goal in measure["goals"]}
    for figure, (words, unit) in measure["shown"].items():
        told: list[str] = []
        figures = 0
        for name, side in measure["sides"].items():
            found = sorted((int(size), row[figure]) for size, row in side["figures"].items() if figure in row)
            if found:
                figures += len(found)
                told.append(f"{name} {', '.join(f'{shown(value, unit)} ({size:,})' for size, value in found)}")
        if figures > 1 or (figures and figure not in judged):  # one alone that has a goal stands in the table
            yield f"* {words}: {'; '.join(told)}."


def shown(value: float, unit: str) -> str:
    """A figure as one reads it."""
    if unit == "s" and 0 < value < 1:
        value, unit = value * 1000, "ms"
    if unit == "ms" and 0 < value < 1:
        value, unit = value * 1000, "µs"
    number = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
    return number + (unit if unit.startswith("/") else f" {unit}" if unit else "")


def as_ratio(value: float) -> str:
    """1/37, 0.75 ×, or 12 ×."""
    if value <= 0.5:
        return f"1/{1 / value:.3g}" if value else "0"
    return f"{value:.3g} ×"


# --- what is kept ----------------------------------------------------------------------------------------------------


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

"""What a measure is: sides that do the same work, figures they give, goals the figures are held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from scripts.bench.contenders import Contender

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One way to do the work of a measure.

    Attributes:
        who: Whose way.
        run: Does the work in a folder of its own, ``size`` times; returns figures, and raises when its own checks fail.
        rounds: Most rounds it takes part in; slow peers take one.
        sizes: Sizes it is measured at; None means all of the measure's.
    """

    who: Contender
    run: Callable[[Path, int], Figures]
    rounds: int = 3
    sizes: Sequence[int] | None = None

    @property
    def name(self) -> str:
        """How the table calls it."""
        return self.who.name


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A bound for a figure, or for its ratio to another side's.

    Attributes:
        what: The line of the table; ``{size}`` stands for the size.
        side: Whose figure.
        figure: Which one.
        to: The side it is divided by; None holds the figure itself against the bounds.
        to_figure: The other side's figure, when it has another name.
        must: The bound; None has only a wish.
        reach: The bound one would like.
        least: True if more is better.
        unit: Of the figure.
        size: At which size; None means the one that the goals speak of.
        to_size: The other side's size, where growth is held against a bound.
    """

    what: str
    figure: str
    must: float | None
    reach: float
    side: str = "Atlas"
    to: str | None = None
    to_figure: str | None = None
    least: bool = False
    unit: str = "s"
    size: int | None = None
    to_size: int | None = None

    def is_met(self, value: float, bound: float) -> bool:
        """True if ``value`` is within ``bound``."""
        return value >= bound if self.least else value <= bound


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Sides that do the same work.

    Attributes:
        title: What is done, in words.
        sides: Who does it; in each round all of them run, one after the other.
        goals: What the figures are held against.
        sizes: How much work; the first is the one the goals speak of, the others show growth and run once.
        quick: How much work in the quick form.
        rounds: How often.
        shown: Figures that are told of every side at every size: name → (words, unit).
    """

    title: str
    sides: Sequence[Side]
    goals: Sequence[Goal]
    sizes: Sequence[int]
    quick: int
    rounds: int = 3
    shown: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class WrongResultError(Exception):
    """A side did not do what it was measured at."""


def check(holds: bool, what: str) -> None:  # noqa: FBT001 - reads like an assertion
    """Raise unless ``holds``: a fast wrong result is no result.

    Raises:
        WrongResultError: It does not hold.
    """
    if not holds:
        raise WrongResultError(what)


def check_results(found: Sequence[object], count: int) -> None:
    """Raise unless the results are the numbers that were sent, 0 to ``count``, in this order.

    Raises:
        WrongResultError: One is missing, twice there, or another.
    """
    sent = list(range(count))
    if list(found) != sent:
        wrong = next((at for at, (one, other) in enumerate(zip(found, sent, strict=False)) if one != other), None)
        where = "" if wrong is None else f"; number {wrong} came back as {found[wrong]!r}"
        raise WrongResultError(f"{len(found)} results for {count} tasks are not what was sent{where}")


def share(values: Sequence[float], part: float) -> float:
    """The value below which ``part`` (0 to 1) of ``values`` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]

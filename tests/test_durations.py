"""Durations as text: what is read, what is refused, what people see."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.scheduler.durations import LONGEST_S, UNITS_S, format_duration, parse_duration
from atlas.scheduler.errors import ArgumentsError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (0, 0.0),
        (2.5, 2.5),
        ("300", 300.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        (" 1 H 30 Min ", 5400.0),
        ("1.5h", 5400.0),
        ("14 days", 1_209_600.0),
        ("1w2d3h4m5s6ms", 788_645.006),
        ("250ms", 0.25),
    ],
    ids=str,
)
def test_a_duration_is_read(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("m", "cannot read"),
        ("5x", "cannot read"),
        ("-3", "cannot read"),
        ("1e3", "cannot read"),
        ("inf", "cannot read"),
        ("５m", "cannot read"),
        ("9" * 16, "cannot read"),
        ("5m junk", "junk"),
        ("5m5m", "twice"),
        ("5m1h", "shorter"),
        (-1, "between 0"),
        (math.nan, "between 0"),
        (math.inf, "between 0"),
        (10**400, "between 0"),
        ("101 years", "cannot read"),
        ("6000w", "between 0"),
        (True, "number or text"),
        (None, "number or text"),
        ([5], "number or text"),
    ],
    ids=repr,
)
def test_what_is_no_duration_is_refused_with_a_reason(value: object, said: str) -> None:
    with pytest.raises(ArgumentsError, match=said):
        parse_duration(value)


@given(st.floats(min_value=0, max_value=LONGEST_S))
def test_a_shown_duration_reads_back_to_within_half_of_its_last_unit(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0, abs=_precision(seconds) + 1e-6)


def _precision(seconds: float) -> float:
    """Half of what the last figure shown stands for."""
    for below, unit in ((0.0995, 0.001), (0.995, 0.01), (59.95, 0.1), (3_599.5, 1.0), (86_370.0, 60.0)):
        if seconds < below:
            return unit / 2
    return 1_800.0


@given(st.integers(min_value=0, max_value=3_599))
def test_whole_seconds_below_an_hour_round_trip_exactly(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.lists(st.sampled_from(sorted(UNITS_S)), unique=True, min_size=1), st.data())
def test_parts_in_falling_order_add_up(units: list[str], data: st.DataObject) -> None:
    ordered = [unit for unit in UNITS_S if unit in units]
    counts = [data.draw(st.integers(0, 99)) for _ in ordered]
    text = data.draw(st.sampled_from(["", " "])).join(f"{n}{unit}" for n, unit in zip(counts, ordered, strict=True))
    assert parse_duration(text) == pytest.approx(sum(n * UNITS_S[u] for n, u in zip(counts, ordered, strict=True)))


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ArgumentsError:
        return
    assert 0 <= seconds <= LONGEST_S


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_what_is_no_time_span_is_not_shown(seconds: float) -> None:
    with pytest.raises(ArgumentsError):
        format_duration(seconds)

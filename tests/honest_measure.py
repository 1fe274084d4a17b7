"""A measure of the bench that costs nothing, for its tests."""

from __future__ import annotations

from dataclasses import replace

from tests.lying_measure import MEASURE as LYING

MEASURE = replace(LYING, sides=LYING.sides[:1])

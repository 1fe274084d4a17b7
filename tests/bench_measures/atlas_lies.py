"""A measure for the bench's tests in which Atlas itself loses a number."""

from __future__ import annotations

from dataclasses import replace

from scripts.bench.measure import Side
from tests.bench_measures.peer_lies import MEASURE as WITH_PEER

MEASURE = replace(WITH_PEER, sides=[Side(who=WITH_PEER.sides[0].who, run=WITH_PEER.sides[1].run)])

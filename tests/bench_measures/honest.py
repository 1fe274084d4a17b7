"""A measure for the bench's tests that Atlas does alone and right."""

from __future__ import annotations

from dataclasses import replace

from tests.bench_measures.peer_lies import MEASURE as WITH_PEER

MEASURE = replace(WITH_PEER, sides=WITH_PEER.sides[:1], goals=WITH_PEER.goals[:1], rounds=1)

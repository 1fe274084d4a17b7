"""A store of one's own, on a clock that can be set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from atlas.scheduler.store.store import open_store
from atlas.scheduler.testing.clocks import SetClock
from tests.builtin.rows import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from atlas.scheduler.store.store import Store


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> Iterator[Store]:
    opened = open_store(tmp_path / "atlas.db", durability="normal", clock=clock)
    yield opened
    opened.close()

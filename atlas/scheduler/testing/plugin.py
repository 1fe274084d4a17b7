"""The plugin that pytest finds by itself: fixtures ``virtual_time``, ``inline_queue`` and ``crash_at``.

pytest imports it in every session of an environment that has Atlas: what a fixture needs is imported by the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from atlas.scheduler.testing.inline import InlineQueue
    from atlas.scheduler.testing.virtual_time import VirtualTime


@pytest.fixture
def virtual_time() -> Iterator[VirtualTime]:
    """A whole scheduler in memory, at the present instant; its days pass by ``virtual_time.advance(days=1)``."""
    from atlas.scheduler.testing.virtual_time import VirtualTime

    with VirtualTime() as time:
        yield time


@pytest.fixture
def inline_queue() -> Iterator[InlineQueue]:
    """A queue in memory whose ``submit`` returns when the function has run, retries included."""
    from atlas.scheduler.testing.inline import InlineQueue

    with InlineQueue() as queue:
        yield queue


@pytest.fixture
def crash_at() -> Iterator[Callable[..., None]]:
    """Let a point kill: ``crash_at(CrashPoint.COMMIT_BEFORE_COMMIT, how="raise")``; nothing is armed after the test."""
    from atlas.scheduler.testing.crashes import disarmed_after

    with disarmed_after() as arm:
        yield arm

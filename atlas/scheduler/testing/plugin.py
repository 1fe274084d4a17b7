"""The plugin that pytest finds by itself: fixtures ``virtual_time`` and ``inline_queue``.

pytest imports it in every session of an environment that has Atlas: what a fixture needs is imported by the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

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

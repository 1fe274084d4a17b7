"""The side that is huey: on SQLite, each step on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

SLOTS: Final = 4


def opened(folder: Path) -> Any:
    """A huey whose file is synchronous, and whose ties of priority may be served in any order: its faster way."""
    from huey import SqliteHuey

    return SqliteHuey(filename=str(folder / "huey.db"), fsync=True, strict_fifo=False)


def consumer(huey: Any, **polling: float) -> Any:
    """Its threads; ``polling`` says how often they look for work, as `Huey.create_consumer` takes it."""
    return huey.create_consumer(workers=SLOTS, worker_type="thread", periodic=False, **polling)

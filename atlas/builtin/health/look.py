"""`health`: looks at everything once."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from atlas.builtin.health.check import RANK, Check
from atlas.builtin.health.clock import scheduler_check
from atlas.builtin.health.database import store_check
from atlas.builtin.health.jobs import jobs_check, sources_check
from atlas.builtin.health.machine import disk_check, memory_check
from atlas.builtin.health.work import config_check, queue_check, threads_check
from atlas.scheduler.errors import StoreError
from atlas.scheduler.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from atlas.builtin.health.check import HealthSource
    from atlas.scheduler.clock import Clock
    from atlas.scheduler.store.store import Store


def health(
    *,
    store: Store,
    source: HealthSource,
    clock: Clock,
    folder: Path,
    collected: Collection[str],
    more: Mapping[str, Callable[[], Check]] | None = None,
) -> dict[str, Any]:
    """Look at everything once; returns ``status`` and ``checks``, each with name, status, detail and remedy.

    The disk that counts is that of the database, or of ``folder`` where the database is a server. Of ``more``, a check
    of a known name takes its place.
    """
    looks: dict[str, Callable[[], Check]] = {
        "store": lambda: store_check(store, clock),
        "scheduler": lambda: scheduler_check(source, clock),
        "config": lambda: config_check(source),
        "queue": lambda: queue_check(source),
        "threads": lambda: threads_check(source),
        "jobs": lambda: jobs_check(store, source, clock),
        "sources": lambda: sources_check(store, collected),
        "disk": lambda: disk_check(folder if store.path is None else store.path.parent),
        "memory": memory_check,
        **(more or {}),
    }
    checks = {name: _guarded(look) for name, look in looks.items()}
    worst = max((check.status for check in checks.values()), key=RANK.index)
    return {"status": worst, "checks": [{"name": name, **asdict(check)} for name, check in checks.items()]}


def _guarded(look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - a check that cannot look must not hide what the others see
        remedy = (
            Message("see the log; the other checks are valid")
            if not isinstance(error, StoreError)
            else Message("see the check store")
        )
        return Check(status="failing", detail=f"{type(error).__name__}: {error}", remedy=remedy)

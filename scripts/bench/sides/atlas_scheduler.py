"""The sides that are the whole of Atlas: the scheduler by its settings, with jobs from a jobs file."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from atlas.service import AtlasScheduler

SLOTS: Final = 4
LIMIT_S: Final = 600.0


def write_jobs_file(path: Path, count: int, schedule: str) -> None:
    """A jobs file as one writes it, with ``count`` jobs on one schedule; line by line, to leave no mark in memory."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"cron_jobs": {\n')
        for number in range(count):
            job = {"name": f"Job {number}", "cron_expression": schedule, "function": "nothing"}
            end = "\n" if number == count - 1 else ",\n"
            file.write(f' "job_{number}": {json.dumps(job)}{end}')
        file.write("}}\n")


@contextmanager
def scheduler_in(folder: Path, call: Callable[[], object]) -> Iterator[AtlasScheduler]:
    """The whole scheduler on ``folder``, with the jobs file that stands there; left, it has stopped.

    Everything is as ``atlas serve`` has it, but for 4 slots, the zone UTC, no console, and pages on any free port
    without sign-in, for whoever starts them.
    """
    from atlas import AtlasScheduler, service
    from atlas.heap import keep_heap_small
    from atlas.logs import configure_logging
    from atlas.pauses import collect_rarely, shorten_pauses
    from atlas.settings import LoggingSettings, PersistenceSettings, SchedulerSettings, Settings, WebSettings

    keep_heap_small()
    collect_rarely()
    settings = Settings(
        scheduler=SchedulerSettings(max_workers=SLOTS, timezone="UTC"),
        persistence=PersistenceSettings(
            database=folder / "atlas.db", cron_config=folder / "jobs.json", status_file=folder / "task_status.json"
        ),
        logging=LoggingSettings(file=folder / "atlas.log"),
        web=WebSettings(port=0, token_file=None),
    ).anchored(folder)
    configure_logging(settings, console=False)
    service.START_LIMIT_S = LIMIT_S  # type: ignore[misc] # fifty thousand jobs on a busy machine take their time
    atlas = AtlasScheduler.from_settings(settings)
    atlas.registry.add("nothing", call)
    with atlas.in_thread():
        shorten_pauses(atlas)
        yield atlas


@contextmanager
def run_jobs_file(folder: Path, count: int, schedule: str, call: Callable[[], object]) -> Iterator[AtlasScheduler]:
    """`scheduler_in` with a new jobs file."""
    write_jobs_file(folder / "jobs.json", count, schedule)
    with scheduler_in(folder, call) as atlas:
        yield atlas

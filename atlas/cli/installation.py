"""The installation a command works on: its settings, its store seen from outside, the time on its wall."""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from atlas.cli.times import LocalTimes
from atlas.scheduler.client import AtlasClient
from atlas.scheduler.errors import ConfigError, Problem
from atlas.scheduler.store.store import ACCEPT_S
from atlas.scheduler.tasks.submission import QueueDefaults
from atlas.scheduler.zones import local_zone_name, zone_named
from atlas.settings import DEFAULT_FILE, load_settings, prepare_folders

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from atlas.scheduler.client import SyncAtlasClient
    from atlas.scheduler.store.lock_holders import Holder
    from atlas.settings import Settings


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings that ``--config``, ``ATLAS_CONFIG`` or the working directory name.

    Raises:
        ConfigError: They cannot be used.
    """
    return load_settings(Path(args.config) if args.config else None)


def local_times(settings: Settings) -> LocalTimes:
    """The zone of the settings, this machine's where they name none, at this moment."""
    return LocalTimes(zone_named(settings.scheduler.timezone or local_zone_name()), datetime.now(UTC))


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[tuple[SyncAtlasClient, Settings]]:
    """The store as a process that does not schedule sees it, and the settings that name it.

    Raises:
        ConfigError: The settings cannot be used; or there are none here and no database either, which is the wrong
            folder rather than a new installation.
        StoreError: The database cannot be opened.
    """
    settings = settings_of(args)
    database = settings.persistence.database
    if settings.file is None and isinstance(database, Path) and not database.exists():
        message = f"no such file in {Path.cwd()}; go to the project's folder, or name one with --config"
        raise ConfigError([Problem(file=DEFAULT_FILE, path="", message=message)])
    prepare_folders(settings)
    scheduler = settings.scheduler
    defaults = QueueDefaults(timeout_s=scheduler.task_timeout, max_retries=scheduler.max_retries)
    with quiet_logs(verbose=args.verbose), AtlasClient(database, defaults=defaults).sync as client:
        client.on_wait = _tell_of_waiting
        yield client, settings


def _tell_of_waiting(holder: Holder | None) -> None:
    """Say on stderr that the database takes no commit yet, and whose lock it is."""
    why = "" if holder is None else f": {holder.words}; {holder.remedy}"
    print(f"atlas: waiting for the database, at most {ACCEPT_S:g} s{why}", file=sys.stderr, flush=True)


@contextmanager
def quiet_logs(*, verbose: bool) -> Iterator[None]:
    """Let log lines of a short-lived process go to stderr: warnings, or all of them if ``verbose``."""
    with suppress(ValueError):
        logger.remove(0)  # loguru's own handler, which shows the values of local variables
    handler = logger.add(
        sys.stderr,
        level="DEBUG" if verbose else "WARNING",
        format="atlas: {level.name}: {message} {extra}" if verbose else "atlas: {message}",
        backtrace=False,
        diagnose=False,
    )
    try:
        yield
    finally:
        logger.remove(handler)

"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from loguru import logger

from atlas.cli.main import main
from atlas.scheduler.store.store import open_store
from atlas.settings import Settings, prepare_folders
from tests.browser import browser, chromium
from tests.clockwork import Clockwork
from tests.feed_server import FeedServer
from tests.installations import Finished, Installation
from tests.postgres import Missing, Postgres, postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from atlas.scheduler.store.store import Store
    from tests.installations import Typed

# One machine's slow moment is no failure, and CI draws the same examples each time.
hypothesis_settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.register_profile("ci", hypothesis_settings.get_profile("here"), derandomize=True, print_blob=True)
hypothesis_settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell; the programs would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an installation in ``tmp_path``: no file, no variables, its folders made."""
    made = Settings().anchored(tmp_path)
    prepare_folders(made)
    return made


@pytest.fixture
def store() -> Iterator[Store]:
    """A store in memory; files that need another one make their own."""
    opened = open_store(None)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new, empty database of each kind."""
    return str(tmp_path / "atlas.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url"))


@pytest.fixture
def clockwork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clockwork]:
    """A scheduler on a time that the test sets."""
    with Clockwork(tmp_path / "atlas.db", monkeypatch) as made:
        yield made


@pytest.fixture
def server() -> Iterator[FeedServer]:
    """A server of feeds and pages, good and bad."""
    with FeedServer() as running:
        yield running


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    """The command line in this process: the arguments, then what it printed and returned; ``at`` an installation."""

    def run(*argv: str, at: Installation | None = None) -> Finished:
        code = main([*argv, "--config", str(at.config)] if at is not None else argv)
        out, err = capsys.readouterr()
        return Finished(code, out, err)

    return run


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """What the test's own thread warns of: other ones may belong to what an earlier test left."""
    said: list[str] = []
    own = threading.get_ident()
    handler = logger.add(
        lambda message: said.append(message.record["message"]),
        level="WARNING",
        filter=lambda record: record["thread"].id == own,
    )
    yield said
    logger.remove(handler)


@pytest.fixture
def unavailable() -> Callable[[str], NoReturn]:
    """Call it with what this machine lacks: the test is skipped on a laptop and fails in CI (``CI=true``)."""

    def give_up(what: str) -> NoReturn:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{what} must be here in CI", pytrace=False)
        pytest.skip(f"needs {what}")

    return give_up


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[Postgres | Missing]:
    with ExitStack() as stack:
        try:
            yield stack.enter_context(postgres_server())
        except Missing as what:
            yield what


@pytest.fixture
def postgres(_postgres_server: Postgres | Missing, unavailable: Callable[[str], NoReturn]) -> Postgres:
    """A running PostgreSQL server of the tests' own."""
    if isinstance(_postgres_server, Missing):
        unavailable(str(_postgres_server))
    return _postgres_server


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The address of a new, empty PostgreSQL database."""
    return postgres.new_database()


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser | None]:
    """A Chromium for a module's tests, None without one; it keeps a loop on this thread, so it ends with the module."""
    path = chromium()
    if path is None:
        yield None
        return
    with browser(path) as running:
        yield running


@pytest.fixture
def window(chrome: Browser | None, unavailable: Callable[[str], NoReturn]) -> Browser:
    """A running Chromium."""
    if chrome is None:
        unavailable("Chromium")
    return chrome

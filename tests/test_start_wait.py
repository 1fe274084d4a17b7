"""``atlas serve`` beside a database that starts later, as after a reboot; and beside one that never will."""

from __future__ import annotations

import re
import signal
import sqlite3
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from atlas.scheduler.errors import AtlasError, StoreUnavailableError
from atlas.scheduler.store import engine
from atlas.scheduler.store.store import open_store
from atlas.service import AtlasScheduler
from atlas.settings import Settings
from tests.installations import READY, Installation, Served, free_port
from tests.queue_bench import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import Postgres

JOBS = {"health": {"cron_expression": "@yearly"}}
WAITS = "waiting for the database"
NOBODY = "postgresql://atlas@127.0.0.1:1/atlas"
"""Nothing listens there."""

pytestmark = pytest.mark.timeout(120)


def installation(folder: Path, database: str, **persistence: Any) -> Installation:
    port = free_port()
    sections = {
        "persistence": {"database": database, **persistence},
        "web": {"port": port},
        "scheduler": {"drain_timeout": 1},
    }
    return Installation(folder / "here", JOBS, sections)


def pages(made: Installation) -> httpx.Client:
    token = (made.folder / "data" / "web_token").read_text().strip()
    return httpx.Client(
        base_url=f"http://127.0.0.1:{made.sections['web']['port']}",
        headers={"authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=10,
    )


@pytest.fixture
def sleeping(postgres: Postgres, postgres_url: str) -> Iterator[str]:
    """The address of an empty database whose server does not run; the test may start it."""
    postgres.stop()
    try:
        yield postgres_url
    finally:
        if postgres._process is None:
            postgres.start()


def test_it_waits_for_a_server_that_starts_later_and_says_so_everywhere(
    postgres: Postgres, sleeping: str, tmp_path: Path
) -> None:
    made = installation(tmp_path, sleeping)
    with Served(made, ready=WAITS) as served, pages_when_there(made) as client:
        assert client.get("/healthz").json() == {"alive": True, "role": "starting"}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert ready.json()["words"] == "the scheduler starts: the database does not answer yet"
        for path in ("/", "/jobs", "/system", "/api/v1/tasks"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopped"), path
            assert "does not answer yet" in answer.text
            assert answer.headers["retry-after"] == "1"
        postgres.start()
        served.wait_for(READY)
        assert client.get("/readyz").json() == {"ready": True, "words": "runs"}
        assert client.get("/healthz").json()["role"] == "leader"
        assert [one["id"] for one in client.get("/api/v1/jobs").json()["items"]] == ["health"]
        assert client.get("/").status_code == 200
        assert served.stop() == 0
        assert "the database does not answer yet; it is asked again: postgresql" in served.log
        assert "the database answers" in served.log
        assert "Traceback" not in served.log


def pages_when_there(made: Installation) -> httpx.Client:
    """The pages come behind the words on the terminal."""

    def are_there() -> bool:
        with suppress(OSError, httpx.TransportError), pages(made) as client:
            return client.get("/healthz").status_code > 0
        return False

    eventually(are_there)
    return pages(made)


def test_a_signal_ends_the_wait(tmp_path: Path) -> None:
    with Served(installation(tmp_path, NOBODY), ready=WAITS) as served:
        start_s = time.monotonic()
        assert served.stop(signal.SIGTERM) == 0
        assert time.monotonic() - start_s < 15
        assert "Traceback" not in served.log


def test_a_hang_up_does_not_end_a_start(tmp_path: Path) -> None:
    file = tmp_path / "here" / "data" / "atlas.db"
    made = installation(tmp_path, str(file))
    open_store(file).close()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with Served(made, ready=WAITS) as served:
            served.process.send_signal(signal.SIGHUP)
            other.execute("ROLLBACK")
            other.close()
            served.wait_for(READY)
            assert served.stop(signal.SIGTERM) == 0
            assert "Traceback" not in served.log


def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "here" / "data" / "atlas.db"
    made = installation(tmp_path, str(file))
    open_store(file).close()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with Served(made, ready=WAITS) as served:
            other.execute("ROLLBACK")
            other.close()
            served.wait_for(READY)


@pytest.mark.parametrize("wait", [0, "1.2s"], ids=["not at all", "a while"])
def test_the_wait_is_bounded(tmp_path: Path, wait: object) -> None:
    done = installation(tmp_path, NOBODY, start_wait=wait).atlas("serve")
    assert done.code == 1
    assert "cannot be opened" in done.err
    assert (WAITS in done.out) is (wait != 0)


def test_what_waiting_does_not_mend_ends_it_at_once(postgres: Postgres, tmp_path: Path) -> None:
    nowhere = installation(tmp_path, postgres.url("nowhere")).atlas("serve")
    assert (nowhere.code, WAITS in nowhere.out) == (1, False)
    assert 'database "nowhere" does not exist' in nowhere.err
    broken = tmp_path / "other" / "here" / "data" / "atlas.db"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no database at all" * 500)
    file = installation(tmp_path / "another", str(broken)).atlas("serve")
    assert (file.code, WAITS in file.out) == (1, False)
    assert "file is not a database" in file.err


def test_a_wrong_password_is_known_in_every_language(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres.lock("clerk", "right")
    good = postgres.new_database().replace("atlas@", "clerk:right@")
    eventually(lambda: refused(good.replace("right", "wrong")) is not None)  # the server has read its rules
    monkeypatch.setattr(engine, "_LASTING", re.compile("Passwort-Authentifizierung fehlgeschlagen"))
    for address in (
        good.replace("right", "wrong"),
        good.replace(":right", ""),
        postgres.url("nowhere").replace("atlas@", "clerk:right@"),
    ):
        error = refused(address)
        assert error is not None
        assert not error.may_pass, address
    missing = refused("postgresql://clerk:right@/any?host=/no/such/folder")
    assert missing is not None
    assert missing.may_pass


async def test_an_embedded_start_does_not_wait_and_says_whether_that_would_help(tmp_path: Path) -> None:
    settings = Settings.model_validate({"persistence": {"database": NOBODY}}).anchored(tmp_path)
    atlas = AtlasScheduler(settings)
    with pytest.raises(StoreUnavailableError) as refusal:
        await atlas.start()
    assert refusal.value.may_pass


def refused(address: str) -> StoreUnavailableError | None:
    """Why a connection is refused, None if it is not."""
    try:
        open_store(address).close()
    except StoreUnavailableError as error:
        return error
    except AtlasError:
        return None
    return None

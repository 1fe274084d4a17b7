"""An edit of the config file under a running scheduler: noticed however it is saved, applied once, never by half."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest
from loguru import logger
from sqlalchemy import select

from atlas.scheduler.client import AtlasClient
from atlas.scheduler.definition_text import digest_of
from atlas.scheduler.errors import ConfigError, StoreUnavailableError, UnknownRevisionError
from atlas.scheduler.events import SchedulerEvent, SchedulerEventKind
from atlas.scheduler.job_view import JobState
from atlas.scheduler.reconcile import file as config_file
from atlas.scheduler.reconcile import watch as config_watch
from atlas.scheduler.reconcile.file import FileWatch, is_being_written, replacing
from atlas.scheduler.reconcile.requests import text_digest
from atlas.scheduler.reconcile.watch import ConfigWatch
from atlas.scheduler.store.audit import Action, read_audit
from atlas.scheduler.store.revisions import Revision, ask, find_revisions, open_requests, request_numbered
from atlas.scheduler.store.tables import jobs
from atlas.scheduler.testing.clocks import SetClock
from atlas.service import AtlasScheduler
from tests.clockwork import START
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from atlas.settings import Settings

HEALTH = {"function": "health", "cron_expression": "*/30 * * * *"}
APPLIED, REFUSED, CHANGED = (
    SchedulerEventKind.CONFIG_APPLIED,
    SchedulerEventKind.CONFIG_REFUSED,
    SchedulerEventKind.CONFIG_CHANGED,
)


def text_of(*, reload: str | None = None, **entries: dict[str, Any]) -> str:
    document: dict[str, Any] = {"cron_jobs": entries}
    if reload is not None:
        document["reload"] = reload
    return json.dumps(document, ensure_ascii=False, indent=1)


class Edited:
    """A running scheduler whose config file a test edits."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.file = settings, settings.persistence.cron_config
        self._looked = threading.Condition()
        self._looks = 0
        look = ConfigWatch._look

        def counted(watch: ConfigWatch, *, asked: bool) -> float:
            try:
                return look(watch, asked=asked)
            finally:
                with self._looked:
                    self._looks += 1
                    self._looked.notify_all()

        monkeypatch.setattr(ConfigWatch, "_look", counted)
        self.told: list[SchedulerEvent] = []
        self._told = threading.Condition()

    def start(self, text: str | None = None) -> None:
        if text is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(text, "utf-8")
        self.told.clear()
        self.threaded = AtlasScheduler.from_settings(self.settings).in_thread()
        self.atlas = self.threaded.start()
        assert self.atlas.store.events.drain(LIMIT_S)  # what the start did is no edit
        self.atlas.store.events.subscribe(self._hear)
        self.looks(1)

    def stop(self) -> None:
        self.threaded.stop()

    def _hear(self, event: object) -> None:
        if isinstance(event, SchedulerEvent):
            with self._told:
                self.told.append(event)
                self._told.notify_all()

    def looks(self, count: int) -> None:
        """Wait until the file was looked at so often, from now on."""
        with self._looked:
            wanted = self._looks + count
            assert self._looked.wait_for(lambda: self._looks >= wanted, LIMIT_S), "the file is not watched"

    def wait_for(self, kind: SchedulerEventKind, count: int = 1) -> SchedulerEvent:
        with self._told:
            assert self._told.wait_for(lambda: len(self.all(kind)) >= count, LIMIT_S), self.told
            return self.all(kind)[-1]

    def all(self, kind: SchedulerEventKind) -> list[SchedulerEvent]:
        return [event for event in self.told if event.kind is kind]

    def revisions(self) -> list[Revision]:
        return self.atlas.store.read(lambda connection: find_revisions(connection, limit=100))

    def states(self) -> dict[str, JobState]:
        return {job.id: job.state for job in self.atlas.get_jobs()}

    def rows(self) -> dict[str, Any]:
        return self.atlas.store.read(
            lambda connection: {row.id: tuple(row) for row in connection.execute(select(jobs))}
        )


@pytest.fixture
def edited(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edited]:
    monkeypatch.setattr(config_watch, "LOOK_S", 0.05)
    monkeypatch.setattr(config_watch, "SETTLED_S", 0.1)
    made = Edited(settings, monkeypatch)
    made.start(text_of(one=HEALTH))
    yield made
    made.stop()


def test_a_refused_file_that_is_put_back_is_logged_as_in_force_and_a_new_one_as_applied(edited: Edited) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="INFO")
    again = "the jobs file is in force again: revision 1"
    good = edited.file.read_text("utf-8")
    try:
        for count, text in ((1, good), (1, text_of(one={**HEALTH, "cron_expression": "@hourly"}))):
            edited.file.write_text("{", "utf-8")
            edited.wait_for(REFUSED, len(edited.all(REFUSED)) + 1)
            edited.file.write_text(text, "utf-8")
            while edited.atlas.config_error() is not None:
                edited.looks(1)
            edited.looks(2)
            assert lines.count(again) == count
    finally:
        logger.remove(sink)
    assert len(edited.all(APPLIED)) == 1


def test_a_pipe_in_the_place_of_the_file_is_refused_and_the_next_edit_is_seen(edited: Edited) -> None:
    edited.file.unlink()
    os.mkfifo(edited.file)
    assert "this is a pipe" in str(edited.wait_for(REFUSED).detail)
    edited.file.unlink()
    edited.file.write_text(text_of(one=HEALTH, two=HEALTH), "utf-8")
    edited.wait_for(APPLIED)
    assert edited.states() == {"one": JobState.ACTIVE, "two": JobState.ACTIVE}


def test_a_revision_takes_the_place_of_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "jobs.json")
    with replacing(tmp_path / "jobs.json", "text") as put_in_place:
        assert put_in_place() is None
    assert (tmp_path / "jobs.json").read_text() == "text"


# --- eight ways to save ----------------------------------------------------------------------------------------------


def in_place(file: Path, text: str) -> None:
    """The same file is overwritten, then cut."""
    with file.open("r+b") as opened:
        opened.write(text.encode())
        opened.truncate()


def truncated_and_written_slowly(file: Path, text: str) -> None:
    """Emptied first, then written in pieces: most of what can be read meanwhile is half a file."""
    with file.open("w", encoding="utf-8") as opened:
        for start in range(0, len(text), 40):
            opened.write(text[start : start + 40])
            opened.flush()
            os.fsync(opened.fileno())


def renamed_over(file: Path, text: str) -> None:
    """Written beside it and put in its place."""
    beside = file.with_name("new")
    beside.write_text(text, "utf-8")
    beside.replace(file)


def moved_away_first(file: Path, text: str) -> None:
    """The old file becomes the backup, so that for a moment there is none."""
    file.replace(file.with_name(file.name + "~"))
    file.write_text(text, "utf-8")


def removed_and_created(file: Path, text: str) -> None:
    file.unlink()
    file.write_text(text, "utf-8")


def with_the_old_times(file: Path, text: str) -> None:
    """The same length and the same time of change as before."""
    before = file.stat()
    raw = text.encode()
    assert len(raw) <= before.st_size
    with file.open("r+b") as opened:
        opened.write(raw + b" " * (before.st_size - len(raw)))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)


def copied_with_an_older_time(file: Path, text: str) -> None:
    older = file.with_name("older")
    older.write_text(text, "utf-8")
    os.utime(older, (1, 1))
    shutil.copy2(older, file)


def mounted(file: Path) -> None:
    """The file as a mounted volume has it: a link into a folder that is a link itself."""
    folder = file.parent
    (folder / "..first").mkdir()
    file.replace(folder / "..first" / file.name)
    (folder / "..data").symlink_to("..first")
    file.symlink_to(f"..data/{file.name}")


def symlink_swapped(file: Path, text: str) -> None:
    folder = file.parent
    if not file.is_symlink():
        mounted(file)
    (folder / "..second").mkdir()
    (folder / "..second" / file.name).write_text(text, "utf-8")
    (folder / "..new").symlink_to("..second")
    (folder / "..new").replace(folder / "..data")


STYLES: dict[str, Callable[[Path, str], None]] = {
    style.__name__: style
    for style in (
        in_place,
        truncated_and_written_slowly,
        renamed_over,
        moved_away_first,
        removed_and_created,
        with_the_old_times,
        copied_with_an_older_time,
        symlink_swapped,
    )
}


@pytest.mark.parametrize("style", list(STYLES))
def test_each_way_of_saving_is_one_revision(edited: Edited, style: str) -> None:
    one = edited.rows()["one"]
    first = text_of(one=HEALTH, two={**HEALTH, "name": "第二", "description": "long enough for what comes behind it"})
    STYLES["renamed_over"](edited.file, first)
    edited.wait_for(APPLIED)
    edited.looks(5)
    assert set(edited.rows()) == {"one", "two"}

    STYLES[style](edited.file, text_of(one=HEALTH, three=HEALTH))
    edited.wait_for(APPLIED, 2)
    edited.looks(8)
    assert [one.summary for one in edited.revisions()] == ["+three -two", "+two", "+one"]
    assert {one.author for one in edited.revisions()} == {"file"}
    assert edited.rows()["one"] == one  # what did not change was not written
    assert edited.all(REFUSED) == []
    assert edited.atlas.config_error() is None


def test_two_edits_within_one_tick_of_the_clock_are_both_seen(edited: Edited) -> None:
    for number in range(6):
        in_place(edited.file, text_of(one={**HEALTH, "timeout": 100 + number}))
        edited.wait_for(APPLIED, number + 1)
    assert len(edited.revisions()) == 7


# --- half a save -----------------------------------------------------------------------------------------------------


def test_half_a_file_is_neither_applied_nor_reported(edited: Edited) -> None:
    text = text_of(one=HEALTH, two=HEALTH)
    with edited.file.open("w", encoding="utf-8") as opened:
        opened.write(text[:50])
        opened.flush()
        edited.looks(30)  # longer than the text must stand still
        assert edited.all(REFUSED) == []
        assert set(edited.rows()) == {"one"}
        opened.write(text[50:])
    assert edited.wait_for(APPLIED).detail["words"] == "+two"
    assert edited.all(REFUSED) == []


def test_a_valid_mixture_of_old_and_new_is_not_applied_while_the_file_is_open(edited: Edited) -> None:
    old, new = text_of(one=HEALTH, two=HEALTH), text_of(six=HEALTH, ten=HEALTH)
    assert len(old) == len(new)
    in_place(edited.file, old)
    edited.wait_for(APPLIED)
    cut = old.index("two") - 3
    with edited.file.open("r+", encoding="utf-8") as opened:
        opened.write(new[:cut])  # what stands there now is good JSON that nobody wrote
        opened.flush()
        edited.looks(10)
        assert set(edited.rows()) == {"one", "two"}
        opened.write(new[cut:])
    edited.wait_for(APPLIED, 2)
    assert edited.revisions()[0].summary == "+six +ten -one -two"


def test_a_file_that_stays_open_is_taken_in_the_end(edited: Edited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_watch, "WRITTEN_S", 0.3)
    with edited.file.open("r+", encoding="utf-8") as opened:
        opened.write(text_of(one=HEALTH, two=HEALTH))
        opened.flush()
        edited.wait_for(APPLIED)


def test_a_bad_file_changes_nothing_is_told_once_and_everywhere_until_it_is_mended(edited: Edited) -> None:
    before = edited.rows()
    in_place(edited.file, text_of(one={**HEALTH, "cron_expression": "61 * * * *"}))
    told = edited.wait_for(REFUSED)
    edited.looks(20)
    assert len(edited.all(REFUSED)) == 1
    assert told.detail["words"].startswith("revision 1 runs on\n")
    assert "cron_jobs.json:" in told.detail["words"]
    assert "minute" in (edited.atlas.config_error() or "")
    assert "minute" in edited.atlas.reconciler.standing.facts()["error"]
    assert edited.rows() == before
    in_place(edited.file, text_of(one=HEALTH))  # the text that runs: no new revision, and all is well
    edited.looks(20)
    assert edited.atlas.config_error() is None
    assert len(edited.revisions()) == 1


def test_a_file_that_disappears_keeps_what_runs(edited: Edited) -> None:
    before = edited.rows()
    text = edited.file.read_text("utf-8")
    edited.file.unlink()
    assert "no such file" in edited.wait_for(REFUSED).detail["words"]
    assert edited.rows() == before
    edited.file.write_text(text, "utf-8")
    edited.looks(10)
    assert edited.atlas.config_error() is None
    assert len(edited.revisions()) == 1


def test_an_edit_that_the_database_does_not_take_is_applied_when_it_does(
    edited: Edited, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, failures = edited.atlas.cron.sync.running.jobs.apply, threading.Semaphore(2)

    def failing(*args: Any, **options: Any) -> Any:
        if failures.acquire(blocking=False):
            raise StoreUnavailableError("locked", waited_s=5.0)
        return apply(*args, **options)

    monkeypatch.setattr(edited.atlas.cron.sync.running.jobs, "apply", failing)
    in_place(edited.file, text_of(one=HEALTH, two=HEALTH))
    edited.wait_for(APPLIED)
    assert set(edited.rows()) == {"one", "two"}


def test_a_restart_with_a_bad_file_says_so_and_runs_on(edited: Edited) -> None:
    edited.stop()
    edited.start("{")
    assert edited.states() == {"one": JobState.ACTIVE}
    assert edited.atlas.config_error() is not None
    assert edited.atlas.reconciler.standing.facts()["revision"] == 1
    edited.looks(20)
    assert len(edited.all(REFUSED)) <= 1  # told at the start, perhaps before anybody listened, and not again
    assert all(one.detail["words"].startswith("revision 1 runs on") for one in edited.all(REFUSED))
    in_place(edited.file, text_of(one=HEALTH, two=HEALTH))
    edited.wait_for(APPLIED)
    assert edited.atlas.config_error() is None


def test_a_function_that_appears_binds_its_job(edited: Edited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "appears_later_in_the_watch"
    monkeypatch.setattr(edited.atlas.registry, "_allow", (name,))
    in_place(edited.file, text_of(one=HEALTH, two={**HEALTH, "function": f"{name}:work"}))
    edited.wait_for(APPLIED)
    assert edited.states()["two"] is JobState.UNBOUND
    written = tmp_path / "written"
    written.write_text("def work(): return 1\n", "utf-8")
    written.rename(tmp_path / f"{name}.py")  # whole at once: a look between would import what is there so far
    assert edited.states()["two"] is JobState.ACTIVE


# --- reload: manual --------------------------------------------------------------------------------------------------


@pytest.fixture
def manual(edited: Edited) -> Edited:
    in_place(edited.file, text_of(reload="manual", one=HEALTH))
    edited.wait_for(APPLIED)
    edited.looks(5)
    return edited


def test_manual_tells_of_an_edit_and_waits(manual: Edited) -> None:
    in_place(manual.file, text_of(reload="auto", one=HEALTH, two=HEALTH))
    assert "atlas apply" in manual.wait_for(CHANGED).detail["words"]
    manual.looks(20)
    assert len(manual.all(CHANGED)) == 1
    assert set(manual.rows()) == {"one"}
    assert "revision 2" in (manual.atlas.reconciler.standing.drift or "")
    in_place(manual.file, text_of(reload="manual", one=HEALTH))
    manual.looks(20)
    assert manual.atlas.reconciler.standing.drift is None


def test_manual_tells_that_an_edit_cannot_be_used_and_where(manual: Edited) -> None:
    broken = text_of(reload="manual", one={**HEALTH, "cron_expression": "61 * * * *"})
    in_place(manual.file, broken)
    assert "minute 61" in manual.wait_for(REFUSED).detail["words"]
    reconciler = manual.atlas.reconciler
    assert reconciler.standing.drift is None
    assert "cron_jobs.one.cron_expression" in str(reconciler.standing.error)
    in_place(manual.file, text_of(reload="manual", one=HEALTH, two=HEALTH))
    manual.wait_for(CHANGED)
    assert reconciler.standing.error is None
    manual.stop()
    manual.start(broken)
    assert "minute 61" in str(manual.atlas.reconciler.standing.error)
    assert manual.atlas.reconciler.standing.drift is None
    assert set(manual.rows()) == {"one"}


def request(edited: Edited, text: str, *, by: str = "cli:root", action: Action = Action.APPLY) -> int:
    """What `atlas apply` writes, from another process."""
    with AtlasClient(edited.settings.persistence.database).sync as client:
        now = client.store.clock.now()
        return client.store.write(
            lambda connection: ask(connection, at=now, by=by, action=action, digest=digest_of(text))
        )


def test_a_request_puts_the_file_in_force_in_the_name_of_who_asked(manual: Edited) -> None:
    text = text_of(reload="manual", one=HEALTH, two=HEALTH)
    in_place(manual.file, text)
    manual.wait_for(CHANGED)
    request(manual, text)
    manual.wait_for(APPLIED, 2)
    newest = manual.revisions()[0]
    assert (newest.author, newest.source, newest.summary) == ("cli:root", "cli", "+two")
    assert manual.atlas.store.read(open_requests) == []
    (entry, *_others) = manual.atlas.store.read(read_audit)
    assert (entry.actor, entry.action, entry.after["revision"]) == ("cli:root", "apply", 3)
    assert manual.atlas.reconciler.standing.drift is None


def test_a_request_that_nobody_heard_counts_at_the_next_start(manual: Edited) -> None:
    manual.stop()
    text = text_of(reload="manual", one=HEALTH, two=HEALTH)
    manual.start(text)
    assert set(manual.rows()) == {"one"}  # edited, and nobody applied it
    assert manual.atlas.reconciler.standing.drift is not None
    manual.stop()
    request(manual, text)
    manual.start()
    assert set(manual.rows()) == {"one", "two"}
    assert manual.revisions()[0].author == "cli:root"


def test_an_edit_while_a_start_reads_the_file_is_seen(manual: Edited, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is what is known: the watch finds the rest, and a file that is gone ends no start."""
    manual.stop()

    def slow(text: str) -> str:
        manual.file.unlink(missing_ok=True)
        return text_digest(text)

    monkeypatch.setattr("atlas.scheduler.reconcile.reconciler.text_digest", slow)
    manual.start(text_of(reload="manual", one=HEALTH, two=HEALTH))
    assert "no such file" in manual.wait_for(REFUSED).detail["words"]
    assert set(manual.rows()) == {"one"}


def test_hang_up_applies_whatever_the_file_says(manual: Edited) -> None:
    in_place(manual.file, text_of(reload="manual", one=HEALTH, two=HEALTH))
    assert manual.atlas.reload() == "+two"
    manual.looks(20)
    assert len(manual.revisions()) == 3


def test_a_request_for_a_bad_file_is_answered_with_its_error(manual: Edited) -> None:
    text = text_of(reload="manual", one={**HEALTH, "timeout": -1})
    in_place(manual.file, text)
    number = request(manual, text)
    manual.wait_for(REFUSED)
    answered = manual.atlas.store.read(lambda connection: request_numbered(connection, number))
    assert answered is not None
    assert answered.revision is None
    assert "timeout" in (answered.error or "")


# --- replace and roll back -------------------------------------------------------------------------------------------


def test_replace_writes_the_file_whole_and_keeps_what_it_replaced(edited: Edited) -> None:
    before, new = edited.file.read_text("utf-8"), text_of(one=HEALTH, 二=HEALTH)
    edited.file.chmod(0o640)
    assert edited.atlas.reconciler.replace(new, by="web").summary == "+二"
    assert edited.file.read_text("utf-8") == new
    assert edited.file.stat().st_mode & 0o777 == 0o640
    assert edited.file.with_name("cron_jobs.json.bak").read_text("utf-8") == before
    edited.looks(20)
    assert [(one.author, one.summary) for one in edited.revisions()] == [("web", "+二"), ("file", "+one")]
    assert sorted(one.name for one in edited.file.parent.iterdir()) == ["cron_jobs.json", "cron_jobs.json.bak"]


def test_a_text_that_is_refused_replaces_nothing(edited: Edited) -> None:
    before = edited.file.read_text("utf-8")
    with pytest.raises(ConfigError, match="timeout"):
        edited.atlas.reconciler.replace(text_of(one={**HEALTH, "timeout": 0}), by="web")
    assert edited.file.read_text("utf-8") == before
    assert edited.atlas.store.read(open_requests) == []
    assert edited.atlas.config_error() is None


def test_rollback_brings_the_old_text_back_as_a_new_revision(edited: Edited) -> None:
    first = edited.file.read_text("utf-8")
    in_place(edited.file, text_of(one={**HEALTH, "timeout": 7}, two=HEALTH))
    edited.wait_for(APPLIED)
    assert edited.atlas.reconciler.rollback(1, by="api").summary == "~one -two"
    assert edited.file.read_text("utf-8") == first
    edited.looks(20)
    assert [(one.number, one.author) for one in edited.revisions()] == [(3, "api"), (2, "file"), (1, "file")]
    (entry, *_others) = edited.atlas.store.read(read_audit)
    assert (entry.action, entry.after["detail"]) == ("rollback", "back to revision 1")
    with pytest.raises(UnknownRevisionError, match="the newest is 3"):
        edited.atlas.reconciler.rollback(9, by="api")


def test_replacing_leaves_a_link_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "jobs.json"
    target.write_text("old", "utf-8")
    link = tmp_path / "jobs.json"
    link.symlink_to(target)
    with replacing(link, "new") as put_in_place:
        assert target.read_text("utf-8") == "old"
        kept = put_in_place()
    assert link.is_symlink()
    assert target.read_text("utf-8") == "new"
    assert kept is not None
    assert kept.read_text("utf-8") == "old"


def test_replacing_a_file_that_is_not_there_makes_it(tmp_path: Path) -> None:
    file = tmp_path / "jobs.json"
    with replacing(file, "new") as put_in_place:
        assert put_in_place() is None
    assert [one.name for one in tmp_path.iterdir()] == ["jobs.json"]


def test_what_is_not_put_in_place_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "jobs.json"
    file.write_text("old", "utf-8")
    with pytest.raises(RuntimeError), replacing(file, "new"):
        raise RuntimeError
    assert [(one.name, one.read_text("utf-8")) for one in tmp_path.iterdir()] == [("jobs.json", "old")]


def test_a_copy_that_cannot_be_kept_leaves_nothing_behind(tmp_path: Path) -> None:
    file, kept = tmp_path / "jobs.json", tmp_path / "jobs.json.bak"
    file.write_text("old", "utf-8")
    kept.mkdir()
    with replacing(file, "new") as put_in_place, pytest.raises(ConfigError, match="cannot be replaced"):
        put_in_place()
    assert file.read_text("utf-8") == "old"
    assert sorted(tmp_path.iterdir()) == [file, kept]


def test_a_folder_that_cannot_be_flushed_does_not_make_a_replaced_file_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems refuse it; the file holds the new text all the same."""
    file, flush = tmp_path / "jobs.json", os.fsync

    def refused(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        flush(handle)

    monkeypatch.setattr(os, "fsync", refused)
    with replacing(file, "new") as put_in_place:
        put_in_place()
    assert file.read_text("utf-8") == "new"


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be replaced: No such file"), replacing(tmp_path / "no" / "x", "text"):
        pass


# --- the watch itself ------------------------------------------------------------------------------------------------


def test_a_quiet_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    clock = SetClock(START)  # far from the file's times: nothing is fresh
    reads: list[Path] = []
    read = config_file.read_content

    def counted(path: Path, max_bytes: int) -> config_file.Seen:
        reads.append(path)
        return read(path, max_bytes)

    monkeypatch.setattr(config_file, "read_content", counted)
    watch = FileWatch(file, clock, max_bytes=100)
    seen, _stood = watch.look(None)
    assert seen is not None
    assert seen.raw == b"one"
    for _ in range(100):
        assert watch.look(seen.digest) == (None, 0.0)
    assert len(reads) == 1
    os.utime(file, (1, 1))  # touched, and the same all the same
    assert watch.look(seen.digest) == (None, 0.0)
    assert len(reads) == 2
    again, _stood = watch.look(None)  # its text was let go
    assert again == seen
    assert len(reads) == 3


def test_more_than_enough_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1000)
    seen, _stood = FileWatch(file, SetClock(START), max_bytes=10).look(None)
    assert seen is not None
    assert seen.raw == b"x" * 11


def test_a_file_that_is_open_for_writing_is_told_from_one_that_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert not is_being_written(file)
    file.write_bytes(b"x")
    with file.open("rb"):
        assert not is_being_written(file)
    with file.open("r+b"):
        assert is_being_written(file)
    assert not is_being_written(file)


def test_stopping_twice_does_nothing(edited: Edited) -> None:
    watch = ConfigWatch(edited.atlas.reconciler, edited.atlas.store)
    watch.stop()
    watch.start()
    watch.stop()
    watch.stop()

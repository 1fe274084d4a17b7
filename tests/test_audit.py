"""The audit: who changed what is on disk exactly if the change is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert

from atlas.scheduler.client import AtlasClient, SyncAtlasClient
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.errors import AtlasError, JobBusyError, QueueStoppedError, UnknownJobError
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.reconcile.reconciler import Reconciler
from atlas.scheduler.store import audit
from atlas.scheduler.store.audit import MAX_NAME, Action, Entry, read_audit, write_audit
from tests.clockwork import START, Clockwork
from tests.installations import Installation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

Line = tuple[str, str, str]


@pytest.fixture
def client(clockwork: Clockwork) -> Iterator[SyncAtlasClient]:
    with AtlasClient(clockwork.database).sync as made:
        yield made


def entries(clockwork: Clockwork, **wanted: Any) -> list[Entry]:
    return clockwork.store.read(lambda connection: read_audit(connection, **wanted))


def lines(clockwork: Clockwork, **wanted: Any) -> list[Line]:
    """(who, did, to), oldest first."""
    return [(entry.actor, entry.action, entry.subject) for entry in reversed(entries(clockwork, **wanted))]


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_a_job_of_code_is_added_changed_and_removed(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing", timeout=5)
    clockwork.cron.add_job("job", "@hourly", "nothing", timeout=5)  # the same again changes nothing
    clockwork.cron.add_job("job", "@daily", "nothing", timeout=5, by="web")
    clockwork.cron.remove_job("job", by="api")
    assert lines(clockwork) == [("code", "add", "job"), ("web", "change", "job"), ("api", "remove", "job")]
    removed, changed, added = entries(clockwork)
    assert added.before is None
    assert changed.before == added.after
    assert (changed.before["schedule"]["cron"], changed.after["schedule"]["cron"]) == (["@hourly"], ["@daily"])
    assert (removed.before, removed.after) == (changed.after, None)
    assert added.at == START


def test_a_pause_and_its_end_with_what_was_before(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing")
    end = START + timedelta(hours=1)
    clockwork.cron.pause_job("job", by="web", reason="搬家")
    clockwork.cron.pause_job("job", by="api", reason="quota", until=end)
    assert clockwork.cron.resume_job("job", by="cli:lin")
    assert not clockwork.cron.resume_job("job", by="cli:lin")  # nothing changed, so nothing is told
    resumed, second, first = entries(clockwork, subject="job")[:3]
    assert (first.actor, first.action, first.before, first.after["reason"]) == ("web", "pause", None, "搬家")
    assert (second.actor, second.before, second.after["until"]) == ("api", first.after, end.isoformat())
    assert (resumed.actor, resumed.action, resumed.before, resumed.after) == ("cli:lin", "resume", second.after, None)


def test_several_jobs_have_a_line_each(clockwork: Clockwork, client: SyncAtlasClient) -> None:
    for name in ("a", "b"):
        clockwork.cron.add_job(name, "@hourly", "nothing")
    clockwork.cron.pause_jobs(by="web", reason="搬家")
    client.resume_jobs(by="cli:lin")
    client.pause_jobs(["b", "a"], by="cli:lin")
    assert lines(clockwork)[2:] == [
        *(("web", "pause", "a"), ("web", "pause", "b"), ("cli:lin", "resume", "a"), ("cli:lin", "resume", "b")),
        *(("cli:lin", "pause", "b"), ("cli:lin", "pause", "a")),
    ]
    assert {entry.before["reason"] for entry in entries(clockwork, action="resume")} == {"搬家"}


def test_a_removed_job_takes_its_pause_along(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing")
    clockwork.cron.pause_job("job")
    clockwork.cron.remove_job("job")
    clockwork.cron.add_job("job", "@hourly", "nothing")
    assert clockwork.job().pause is None
    clockwork.restart()
    assert clockwork.job().pause is None


def test_a_run_by_hand_names_its_task(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "gate")
    task_id = clockwork.cron.run_job_now("job", by="web")
    with pytest.raises(JobBusyError):
        clockwork.cron.run_job_now("job", by="web")
    newest, *_others = entries(clockwork)
    assert (newest.actor, newest.action, newest.subject, newest.after) == ("web", "run", "job", {"task": task_id})
    assert len(entries(clockwork, action=Action.RUN)) == 1  # what was refused changed nothing
    clockwork.gate.open()
    assert clockwork.queue.sync.get_task_result(task_id) == "through"


def test_cancels_of_waiting_running_and_final_tasks(clockwork: Clockwork) -> None:
    queue = clockwork.queue
    running = queue.sync.submit("gate")
    clockwork.gate.wait_entered()
    others = [queue.sync.submit("gate") for _ in range(clockwork.max_workers)]
    waiting = others[-1]
    assert queue.cancel_task(waiting, by="web")
    assert queue.cancel_task(running)
    assert not queue.cancel_task(waiting, by="web")
    assert lines(clockwork, action="cancel") == [("web", "cancel", waiting), ("code", "cancel", running)]


def test_a_submit_is_kept_where_somebody_is_named(clockwork: Clockwork) -> None:
    queue = clockwork.queue.sync
    queue.submit("nothing")
    one = queue.submit("nothing", by="web")
    many = queue.submit_many("nothing", [(), ()], by="api")
    assert lines(clockwork) == [("web", "submit", one), *(("api", "submit", task_id) for task_id in many)]
    assert entries(clockwork)[0].after == {"function": "nothing"}
    assert [queue.get_task_result(task_id) for task_id in (one, *many)] == [None, None, None]
    assert clockwork.store.totals.metrics().total_tasks == 4


async def test_the_async_faces_pass_it_on(clockwork: Clockwork) -> None:
    cron, queue = clockwork.manager, clockwork.queue
    await cron.add_job("job", "@hourly", "gate", by="a")
    task_id = await cron.run_job_now("job", by="b")
    assert queue.cancel_task(task_id, by="c")
    await cron.pause_job("job", by="d")
    await cron.resume_job("job", by="e")
    await cron.disable_job("job")
    await cron.enable_job("job")
    await cron.remove_job("job", by="f")
    submitted = await queue.submit("nothing", by="g")
    async with AtlasClient(clockwork.database) as client:
        told = await client.audit()
    assert [(entry.actor, entry.action) for entry in reversed(told)] == [
        ("a", "add"),
        ("b", "run"),
        ("c", "cancel"),
        ("d", "pause"),
        ("e", "resume"),
        ("code", "pause"),
        ("code", "resume"),
        ("f", "remove"),
        ("g", "submit"),
    ]
    assert told[0].subject == submitted


def test_a_client_of_another_process(clockwork: Clockwork, client: SyncAtlasClient) -> None:
    clockwork.cron.add_job("job", "@hourly", "gate")
    client.pause_job("job", by="cli:root", reason="why")
    client.resume_job("job", by="cli:root")
    task_id = client.run_job("job", by="cli:root")
    submitted = client.submit("nothing")
    assert client.cancel(task_id, by="api")
    assert lines(clockwork)[1:] == [
        ("cli:root", "pause", "job"),
        ("cli:root", "resume", "job"),
        ("cli:root", "run", "job"),
        ("code", "submit", submitted),
        ("api", "cancel", task_id),
    ]
    with pytest.raises(UnknownJobError):
        client.pause_job("no", by="cli:root")
    assert len(entries(clockwork)) == 6
    assert client.audit(limit=1) == entries(clockwork)[:1]


def test_a_file_that_is_applied(clockwork: Clockwork, tmp_path: Path) -> None:
    file = tmp_path / "cron_jobs.json"
    reconciler = Reconciler(clockwork.cron, file, PolicyDefaults())
    for jobs in ({"a": {"cron_expression": "@hourly", "function": "nothing"}}, {}):
        file.write_text(json.dumps({"cron_jobs": jobs}))
        reconciler.reload()
        reconciler.reload()
    second, first = entries(clockwork)
    assert (first.actor, first.action, first.subject) == ("file", "apply", str(file))
    assert (first.before, first.after) == (None, {"revision": 1, "summary": "+a"})
    assert (second.before, second.after) == ({"revision": 1}, {"revision": 2, "summary": "-a"})


# --- with the change or not at all -----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["add", "pause", "resume", "remove", "run", "cancel", "submit"])
def test_where_the_line_cannot_be_written_nothing_changes(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    cron, queue = clockwork.cron, clockwork.queue
    cron.add_job("job", "@hourly", "gate")
    if what == "resume":
        cron.pause_job("job")
    running = queue.sync.submit("gate")
    clockwork.gate.wait_entered()
    before = (cron.get_job("job"), clockwork.rows(), len(clockwork.tasks()))
    calls: dict[str, Callable[[], object]] = {
        "add": lambda: cron.add_job("job", "@daily", "gate"),
        "pause": lambda: cron.pause_job("job"),
        "resume": lambda: cron.resume_job("job"),
        "remove": lambda: cron.remove_job("job"),
        "run": lambda: cron.run_job_now("job"),
        "cancel": lambda: queue.cancel_task(running),
        "submit": lambda: queue.sync.submit("nothing", by="web"),
    }

    def broken(_table: object) -> object:
        raise QueueStoppedError("no room for another line")

    monkeypatch.setattr(audit, "insert", broken)
    with pytest.raises(AtlasError, match="no room"):
        calls[what]()
    monkeypatch.setattr(audit, "insert", insert)
    clockwork.cron.running.states.load()
    assert (cron.get_job("job"), clockwork.rows(), len(clockwork.tasks())) == before
    clockwork.gate.open()
    assert queue.sync.get_task_result(running) == "through"
    cron.add_job("job", "@weekly", "gate")  # and the next change is told again
    assert [entry.action for entry in entries(clockwork, limit=1)] == ["change"]


async def test_the_line_survives_a_restart_on_postgresql(postgres_url: str) -> None:
    queue = TaskQueue(2, store=postgres_url)
    async with queue, CronManager(queue) as cron:
        await cron.add_job("任务", "@hourly", print, by="web\x00\ud800")
        await cron.pause_job("任务", by="web", reason="\x00")
    async with AtlasClient(postgres_url) as client:
        paused, added = await client.audit(subject="任务")
    assert (paused.actor, added.action, added.after["title"]) == ("web", "add", "任务")
    assert added.actor == "web\ufffd?"


# --- reading ---------------------------------------------------------------------------------------------------------


def written(clockwork: Clockwork, *made: tuple[str, Action, str]) -> None:
    def write(connection: Connection) -> None:
        for number, (by, action, subject) in enumerate(made):
            write_audit(connection, action, subject, by=by, at=START + timedelta(minutes=number))

    clockwork.store.write(write)


def test_lines_are_found_by_subject_actor_action_time_and_page(clockwork: Clockwork) -> None:
    written(
        clockwork,
        ("cli:root", Action.RUN, "a"),
        ("cli:lin", Action.PAUSE, "a"),
        ("cli%", Action.RUN, "b"),
        ("", Action.RESUME, "a"),
    )
    found = entries(clockwork)
    assert [entry.subject for entry in found] == ["a", "b", "a", "a"]
    assert [entry.actor for entry in entries(clockwork, actor="cli")] == ["cli:lin", "cli:root"]
    assert [entry.actor for entry in entries(clockwork, actor="cli%")] == ["cli%"]
    assert [entry.actor for entry in entries(clockwork, actor="cli:root")] == ["cli:root"]
    assert [entry.actor for entry in entries(clockwork, actor="code")] == ["code"]
    assert entries(clockwork, action="run", subject="a") == [found[3]]
    assert entries(clockwork, since=START + timedelta(minutes=2)) == found[:2]
    assert entries(clockwork, until=START + timedelta(minutes=2)) == found[2:]
    assert entries(clockwork, before_id=found[1].id, limit=1) == [found[2]]


def test_what_is_too_long_is_cut(clockwork: Clockwork) -> None:
    big = {"text": "字" * 100_000}

    def write(connection: Connection) -> None:
        write_audit(connection, Action.ADD, "很" * 500, by="x" * 500, at=datetime.now(UTC), after=big)

    clockwork.store.write(write)
    (entry,) = entries(clockwork)
    assert (len(entry.subject), len(entry.actor)) == (MAX_NAME, MAX_NAME)
    assert entry.after["cut"].startswith('{"text": "')
    assert len(entry.after["cut"]) < 100_000


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_line_names_itself_and_shows_the_audit(tmp_path: Path) -> None:
    made = Installation(tmp_path / "atlas", {})
    with AtlasClient(made.folder / "data" / "atlas.db").sync as client:
        client.store.write(lambda connection: write_audit(connection, Action.RUN, "任务", by="web", at=START))
    submitted = made.atlas("submit", "work_of_tests:greet")
    assert submitted.code == 0
    shown = made.atlas("audit")
    assert shown.code == 0
    head, newest, oldest, foot = shown.out.splitlines()
    assert head.split() == ["WHEN", "WHO", "DID", "TO", "WHAT"]
    assert oldest.split()[-3:] == ["web", "run", "任务"]
    assert "cli:" in newest
    assert submitted.out.strip() in newest
    assert foot.startswith("2 changes · times in")
    told = json.loads(made.atlas("audit", "任务", "--json").out)
    assert [(one["actor"], one["action"], one["subject"]) for one in told] == [("web", "run", "任务")]
    assert made.atlas("audit", "--by", "nobody").out == "nobody changed anything of that kind\n"
    assert made.atlas("audit", "nobody").code == 3
    assert made.atlas("audit", "--since", "nonsense").code == 2

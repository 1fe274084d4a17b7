"""What a task logs stands with the task: from the loop, threads and processes, within its limit, and delays nobody."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import threading
from typing import TYPE_CHECKING

import pytest
from loguru import logger

from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.errors import TaskFailedError
from atlas.scheduler.log_lines import REDACT
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import REGISTRY, Registry
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.store.store import open_store
from atlas.scheduler.store.task_logs import read_logs
from atlas.scheduler.store.task_queries import find_attempts
from atlas.scheduler.tasks.capture import DEFAULT_RULES, LINE_COST, MAX_LINE, NOTE, PRINT, AttemptLines, LogRules
from tests import process_workloads as workloads
from tests.queue_bench import LIMIT_S, HandClock, eventually, passes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from atlas.scheduler.job_options import JobOptions
    from atlas.scheduler.store.store import Store
    from atlas.scheduler.store.task_logs import LogLine


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "atlas.db", clock=HandClock())
    yield store
    store.close()


def lines_of(store: Store, task_id: str) -> list[LogLine]:
    return store.read(lambda connection: read_logs(connection, task_id, limit=1_000_000))


def messages(store: Store, task_id: str) -> list[tuple[str, str]]:
    return [(line.level, line.message) for line in lines_of(store, task_id)]


async def log_on_the_loop() -> None:
    workloads.log_everywhere()
    await asyncio.to_thread(logger.info, "in a thread of its own")


def log_the_unspeakable() -> None:
    logger.info("nul \x00, half \ud800, back \u202e, line \u2028")
    logger.info("采集完成 ✓")
    logging.getLogger("own").log(35, "a level of one's own")


@pytest.fixture(autouse=True, scope="module")
def level_of_our_own() -> None:
    logging.addLevelName(35, "Ludicrous")


@pytest.mark.parametrize("where", ["thread", "process", "async"])
async def test_every_line_of_a_task_is_stored_with_it(store: Store, where: str) -> None:
    async with TaskQueue(2, store=store, log_rules=LogRules(prints=True)) as queue:
        function = log_on_the_loop if where == "async" else workloads.log_everywhere
        task_id = await queue.submit(function, executor=where if where == "process" else None)
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    found = messages(store, task_id)
    assert found[0] == ("INFO", r"by loguru\nforged | source=BBC")
    assert ("WARNING", "by logging, token=[hidden]") in found
    assert (PRINT, "by print") in found
    assert (PRINT, "without an end") in found
    (trace,) = (text for level, text in found if level == "ERROR")
    first, *others = trace.split("\n")
    assert first == "with a traceback"
    assert others[-1] == "    ValueError: broken"
    assert all(line.startswith("    ") for line in others)
    if where == "async":
        assert ("INFO", "in a thread of its own") in found


@pytest.mark.parametrize("where", ["thread", "process"])
async def test_a_task_logs_from_threads_of_its_own_by_what_it_knows_of_itself(store: Store, where: str) -> None:
    async with TaskQueue(2, store=store) as queue:
        task_id = await queue.submit(workloads.log_from_a_thread, executor=where)
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    lines = [("INFO", "{by} a thread, token=[hidden]"), ("WARNING", "twice"), ("INFO", "by the task")]
    assert messages(store, task_id) == lines


@pytest.mark.parametrize("where", ["thread", "process"])
async def test_secrets_in_the_text_of_an_error_are_hidden_as_in_a_log(store: Store, where: str) -> None:
    rules = LogRules(redact=(*REDACT, re.compile(r"order \d+")))
    async with TaskQueue(2, store=store, log_rules=rules) as queue:
        retry = RetryPolicy(max_retries=1, delay_s=0.0)
        task_id = await queue.submit(workloads.fail, "secret", executor=where, retry=retry)
        with pytest.raises(TaskFailedError) as caught:
            await queue.get_task_result(task_id, timeout=LIMIT_S)
    hidden = "ValueError: 401: https://[hidden]@feeds.example/?token=[hidden] [hidden]"
    (first,) = store.read(lambda connection: find_attempts(connection, task_id))
    assert caught.value.error.endswith(hidden)
    assert first["error"].endswith(hidden)


async def test_lines_of_other_code_and_of_ended_attempts_are_not_a_tasks(store: Store) -> None:
    said, leave, left = threading.Event(), threading.Event(), threading.Event()

    def late() -> None:
        logger.info("in time")
        said.set()
        try:
            leave.wait(LIMIT_S)
        finally:
            logger.info("too late")
            left.set()

    async with TaskQueue(2, store=store, stop_grace_s=30.0) as queue:
        task_id = await queue.submit(late, timeout=50, max_retries=0)
        logger.info("nobody's")
        assert await asyncio.to_thread(said.wait, LIMIT_S)
        for seconds in 50, 30:
            await asyncio.to_thread(passes, queue, seconds)
        with pytest.raises(Exception, match="limit"):
            await queue.get_task_result(task_id, timeout=LIMIT_S)
        leave.set()
        assert await asyncio.to_thread(left.wait, LIMIT_S)
    assert messages(store, task_id) == [("INFO", "in time")]


async def test_nothing_is_remembered_of_a_task_that_is_cancelled_while_it_waits_for_a_retry(store: Store) -> None:
    """Of each some hundred bytes were: a job that fails and is replaced every minute makes half a million a year."""

    def fails() -> None:
        logger.info("line")
        raise ValueError

    async with TaskQueue(2, store=store) as queue:
        task_id = await queue.submit(fails, retry=RetryPolicy(delay_s=3600.0, max_delay_s=3600.0))
        await asyncio.to_thread(eventually, lambda: queue.get_queue_status()["retrying_tasks"] == 1)
        kept = queue.serving._logs
        assert kept._used.keys() == {task_id}
        assert queue.cancel_task(task_id)
        assert not kept._used
        assert not kept._attempts


async def test_attempts_are_told_apart_and_none_is_silenced_by_the_one_before(store: Store) -> None:
    def fails() -> None:
        workloads.log_much(1000)
        raise ValueError

    async with TaskQueue(2, store=store, log_rules=LogRules(max_bytes=10_000)) as queue:
        task_id = await queue.submit(fails, retry=RetryPolicy(max_retries=3, delay_s=0.0))
        with pytest.raises(TaskFailedError):
            await queue.get_task_result(task_id, timeout=LIMIT_S)
    found = lines_of(store, task_id)
    assert [line.id for line in found] == sorted(line.id for line in found)
    assert sorted({line.attempt for line in found}) == [1, 2, 3, 4]
    assert sum(len(line.message) for line in found if line.level != NOTE) <= 10_000
    for attempt in (1, 2, 3, 4):
        assert next(line.message for line in found if line.attempt == attempt) == "line 0"


async def beside_a_loud_one(queue: TaskQueue, where: str) -> tuple[str, int]:
    """A task that logs 100,000 lines, and how many others, up to 200, came one behind the other until it ended."""
    ended = threading.Event()

    def loud() -> None:
        workloads.log_much(100_000)

    if where == "thread":
        task_id = await queue.submit(loud)
    else:
        task_id = await queue.submit(workloads.log_much, 100_000, executor="process")
    waiting = asyncio.create_task(queue.get_task_result(task_id, timeout=50))
    waiting.add_done_callback(lambda _task: ended.set())
    others = 0
    while not ended.is_set() and others < 200:
        await queue.get_task_result(await queue.submit(asyncio.sleep, 0), timeout=LIMIT_S)
        others += 1
    await waiting
    return task_id, others


@pytest.mark.parametrize("where", ["thread", "process"])
async def test_a_hundred_thousand_lines_are_capped_with_a_note_and_delay_nobody(store: Store, where: str) -> None:
    async with TaskQueue(2, store=store) as queue:
        task_id, others = await beside_a_loud_one(queue, where)
        for _again in range(2):  # on a machine with other work they had no turn, nor had the loud one
            if others < 20:
                task_id, others = await beside_a_loud_one(queue, where)
    assert others >= 20  # the others went on beside it
    found = messages(store, task_id)
    notes = [text for level, text in found if level == NOTE]
    kept = [text for level, text in found if level != NOTE]
    assert len(notes) == 2
    match = re.search(r"([\d,]+) lines left out", notes[1])
    assert match
    assert len(kept) + int(match[1].replace(",", "")) == 100_000
    assert (kept[0], kept[-1]) == ("line 0", "line 99999")
    assert sum(map(len, kept)) <= 500_000
    assert sorted(kept, key=lambda text: int(text.split()[1])) == kept


async def test_the_last_words_of_a_process_that_dies_are_kept(store: Store) -> None:
    async with TaskQueue(1, store=store) as queue:
        task_id = await queue.submit(workloads.log_and_die, executor="process", on_crash="fail")
        with pytest.raises(TaskFailedError):
            await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert messages(store, task_id) == [("INFO", "the last words")]


async def test_nothing_is_kept_where_nothing_is_wanted(store: Store) -> None:
    async with TaskQueue(1, store=store, log_rules=LogRules(max_bytes=0)) as queue:
        for executor in (None, "process"):
            task_id = await queue.submit(workloads.log_much, 3, executor=executor)
            await queue.get_task_result(task_id, timeout=LIMIT_S)
            assert lines_of(store, task_id) == []


@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.parametrize(
    ("of_queue", "of_job", "kept"),
    [(1_000_000, 2000, (1, 1000)), (1_000_000, 0, (0, 0)), (0, 4000, (1001, 2000)), (2000, None, (1, 1000))],
    ids=["a job that may say less", "a job that is silent", "a job alone that may speak", "as the queue says"],
)
async def test_a_job_has_a_log_limit_of_its_own(
    store: Store, executor: str, of_queue: int, of_job: int | None, kept: tuple[int, int]
) -> None:
    registry = Registry(parent=REGISTRY)
    registry.add("loud", workloads.log_much)
    async with TaskQueue(1, store=store, registry=registry, log_rules=LogRules(max_bytes=of_queue)) as queue:
        cron = CronManager(queue)
        await cron.start()
        options: JobOptions = {"executor": executor, "args": [1000]}
        if of_job is not None:
            options["log_max_bytes"] = of_job
        await cron.add_job("loud", "0 0 1 1 *", "loud", **options)
        task_id = await cron.run_job_now("loud")
        await queue.get_task_result(task_id, timeout=LIMIT_S)
        await cron.stop()
    size = sum(len(line.message) + LINE_COST for line in lines_of(store, task_id) if line.level != NOTE)
    assert kept[0] <= size <= kept[1]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_no_text_that_is_logged_upsets_the_database(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    target = tmp_path / "atlas.db" if database == "sqlite" else request.getfixturevalue("postgres_url")
    store = open_store(target)
    try:
        async with TaskQueue(1, store=store) as queue:
            task_id = await queue.submit(log_the_unspeakable)
            await queue.get_task_result(task_id, timeout=LIMIT_S)
            assert messages(store, task_id) == [
                ("INFO", r"nul \x00, half \ud800, back \u202e, line \u2028"),
                ("INFO", "采集完成 ✓"),
                ("Ludicrous", "a level of one's own"),
            ]
    finally:
        store.close()


async def test_a_reader_follows_a_task_that_runs(store: Store) -> None:
    go_on = threading.Event()

    def speaks() -> None:
        logger.info("one")
        go_on.wait(LIMIT_S)
        logger.info("two")

    async with TaskQueue(1, store=store) as queue:
        task_id = await queue.submit(speaks)
        async with asyncio.timeout(LIMIT_S):
            while not (first := lines_of(store, task_id)):
                await store.write_async(lambda _connection: None)  # behind the next commit
        go_on.set()
        await queue.get_task_result(task_id, timeout=LIMIT_S)
    more = store.read(lambda connection: read_logs(connection, task_id, after_id=first[0].id))
    assert [line.message for line in more] == ["two"]
    assert more[0].at.tzinfo is not None
    assert more[0].to_json()["level"] == "INFO"


async def test_capturing_leaves_no_trace_behind(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    handlers = list(logging.getLogger().handlers)
    async with TaskQueue(1, store=store, log_rules=LogRules(prints=True)) as queue:
        print("as ever")
        assert await queue.get_task_result(await queue.submit(lambda: 1), timeout=LIMIT_S) == 1
    assert logging.getLogger().handlers == handlers
    print("and after")
    gc.collect()  # what stood in for stdout must not close it when it is forgotten
    assert capsys.readouterr().out == "as ever\nand after\n"


@pytest.mark.parametrize("where", ["thread", "process"])
async def test_a_line_that_cannot_be_formatted_fails_no_task(
    store: Store, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # what pytest's own handler does with such a line
    async with TaskQueue(1, store=store) as queue:
        task_id = await queue.submit(workloads.log_what_has_no_format, executor=where, max_retries=0)
        assert await queue.get_task_result(task_id, timeout=LIMIT_S) == "done"
    assert messages(store, task_id) == [("WARNING", "the next one")]


async def test_the_program_around_logs_as_it_does_without_a_queue(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(text: str) -> None:
        logging.getLogger("app").warning(text)

    root = logging.getLogger()
    with monkeypatch.context() as changed:
        changed.setattr(root, "handlers", [])  # as in a program that has set up nothing
        async with TaskQueue(1, store=store) as queue:
            says("no handler")
            logging.basicConfig(format="shown: %(message)s")
            says("set up")
            logging.basicConfig(format="anew: %(message)s", force=True)
            task_id = await queue.submit(says, "of the task")
            await queue.get_task_result(task_id, timeout=LIMIT_S)
    assert capsys.readouterr().err == "no handler\nshown: set up\nanew: of the task\n"
    assert messages(store, task_id) == [("WARNING", "of the task")]
    assert root.parent is None


def test_a_long_line_is_cut_and_an_empty_one_costs_something() -> None:
    kept: list[str] = []
    lines = AttemptLines(100_000, lambda _at, _level, text: kept.append(text))
    lines.add(0.0, "INFO", "x" * 20_000)
    assert len(kept[0]) < MAX_LINE + 100
    assert kept[0].endswith("[12,000 characters cut]")
    for _ in range(10_000):
        lines.add(0.0, "INFO", "")
    lines.end("", DEFAULT_RULES)
    assert len(kept) < 3_000


def test_what_fits_after_all_is_whole_and_has_no_gap_note() -> None:
    kept: list[tuple[str, str]] = []
    lines = AttemptLines(1000, lambda _at, level, text: kept.append((level, text)))
    for number in range(12):
        lines.add(0.0, "INFO", f"{number:40}")
    lines.end("", DEFAULT_RULES)
    assert [text for level, text in kept if level != NOTE] == [f"{number:40}" for number in range(12)]
    assert sum(level == NOTE for level, _text in kept) == 1

"""What the pages are made of: words in both languages, figures against a plain count, lanes, errors, diffs."""

from __future__ import annotations

import ast
import pickle
import re
import string
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.collectors.memory import remember_failure
from atlas.scheduler.errors import (
    AtlasError,
    ConfigError,
    JobBusyError,
    QueueFullError,
    UnknownJobError,
    UnknownTaskError,
)
from atlas.scheduler.events import TaskEvent
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.jobs_file.parsing import parse_jobs
from atlas.scheduler.message import message_of
from atlas.scheduler.reconcile.advice import advise
from atlas.scheduler.store.store import open_store
from atlas.scheduler.store.tables import fires
from atlas.scheduler.store.task_rows import attempt_row, full_row, insert_attempts, insert_tasks
from atlas.scheduler.task import Cause, Origin, Task, TaskStatus
from atlas.service import AtlasScheduler
from atlas.settings import CollectSettings, Source
from atlas.web.app import create_app
from atlas.web.health import look
from atlas.web.pages import asking, charts, config, course, finding, job, jobs, lanes, overview, ranges, system, tasks
from atlas.web.pages.errors import Errors, folded, headline, place
from atlas.web.pages.failing import Failing
from atlas.web.pages.history import Histories
from atlas.web.pages.plan import Starts
from atlas.web.pages.recent import CELL_S, Recent, worst_of
from atlas.web.pages.rollup import Rollup, total_of
from atlas.web.pages.said import Said
from atlas.web.pages.view import REASONS, SECTIONS, WORD_OF
from atlas.web.words.speech import Speech
from atlas.web.words.zh import ZH
from atlas.web.words.zh.acting import ACTING
from atlas.web.words.zh.shared import SHARED
from atlas.web.words.zh.watching import WATCHING
from tests.seeded import Week

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atlas.scheduler.store.store import Store
    from atlas.settings import Settings

WEB = Path(asking.__file__).resolve().parent.parent
NOW = datetime(2026, 11, 25, 15, 33, tzinfo=UTC)


# --- words ------------------------------------------------------------------------------------------------------------


def texts() -> Iterator[str]:
    """Every text that a template or a view says, and those that stand in tables."""
    for file in (WEB / "templates").rglob("*.html"):
        for single, double in re.findall(r"""\bsay\((?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")""", file.read_text()):
            yield single or double
    for file in (*(WEB / "pages").glob("*.py"), WEB / "actions.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name == "say":
                    yield str(node.args[0].value)
    for file in WEB.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Message" and node.args:
                pattern = node.args[0]
                if isinstance(pattern, ast.Constant) and re.search("[a-z]{2}", str(pattern.value)):
                    yield str(pattern.value)
    yield from REASONS
    yield from (cause.value for cause in Cause)
    yield from WORD_OF.values()
    yield from (words for _key, words in SECTIONS)
    yield from overview.SORTS.values()
    yield from jobs.SORTS.values()
    yield from job.SKIPS.values()
    yield from (words for _keys, words in finding.KEYS)
    yield from course.ENDINGS.values()
    yield from (words for words, _seconds in ranges.RANGES.values())
    yield from (words for both in asking.SEVERAL.values() for words in both)


def places(text: str) -> set[str]:
    return {name for _text, name, _spec, _conversion in string.Formatter().parse(text) if name}


def test_every_text_of_the_pages_stands_in_chinese_too() -> None:
    assert sorted({text for text in texts() if text not in ZH}) == []


def test_no_text_of_the_pages_stands_in_chinese_that_nobody_says() -> None:
    said = {*texts(), *(f"last {key}" for key in tasks.SINCE), "Not Found", "Method Not Allowed"}  # HTTP's own words
    for file in WEB.parent.rglob("*.py"):
        if "words" not in file.parts:
            said |= {
                node.value
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
    assert sorted({text for part in (SHARED, WATCHING, ACTING) for text in part} - said) == []


def test_no_translation_takes_other_values_than_its_text() -> None:
    for english, chinese in ZH.items():
        assert places(chinese) <= places(english), english
        one, bar, many = english.partition("|")
        assert not bar or places(many) >= places(one), english


@pytest.mark.parametrize(
    ("error", "chinese"),
    [
        (UnknownJobError("nightly", nearest="night"), "作业 nightly：没有这个作业；您是指 'night' 吗？"),
        (UnknownTaskError("7"), "任务 7：没有这个任务（从未创建，或已按保留期清除）"),
        (JobBusyError("nightly", "7"), "作业 nightly：任务 7 尚未结束，重叠策略不允许再启动"),
        (QueueFullError(1000), "已有 1,000 个任务在等待（max_waiting）；未接受新任务，请稍后再提交"),
    ],
    ids=["job", "task", "busy", "full"],
)
def test_an_error_keeps_what_it_was_made_of_and_is_said_in_both_languages(error: AtlasError, chinese: str) -> None:
    assert Speech("zh").told(message_of(error)) == chinese
    assert Speech("en").told(message_of(error)) == str(error)
    copied = pickle.loads(pickle.dumps(message_of(error)))
    assert (copied, type(copied)) == (str(error), str)


def test_every_line_of_health_is_said_in_chinese(settings: Settings) -> None:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    say = Speech("zh")
    with AtlasScheduler(settings).in_thread() as atlas:
        found = look(create_app(atlas).state.site)
    for check in found["checks"]:
        assert re.search("[一-鿿]", say.told(check["detail"])), check
        assert not check["remedy"] or re.search("[一-鿿]", say.told(check["remedy"])), check
        assert re.search("[a-z]{2}", check["detail"])


def test_the_pages_tell_of_a_source_that_keeps_failing(settings: Settings) -> None:
    source = Source(name="feed", url="https://feeds.example/rss")
    settings = settings.model_copy(update={"collect": CollectSettings(sources=(source,))})
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text('{"cron_jobs": {"health": {"cron_expression": "@yearly"}}}')
    with AtlasScheduler(settings).in_thread() as atlas:
        for _ in range(3):
            atlas.store.write(
                lambda connection: remember_failure(
                    connection, source.name, source.url, "the answer is empty", atlas.store.clock.now()
                )
            )
        checks = {check["name"]: check for check in look(create_app(atlas).state.site)["checks"]}
    assert checks["sources"]["detail"] == "1 keep failing: feed (3 times: the answer is empty)"
    assert Speech("zh").told(checks["sources"]["detail"]) == "1 个持续失败：feed（3 次：应答为空）"


@pytest.mark.parametrize(
    ("part", "chinese"),
    [
        ('"timeout": "soon", ', None),
        ('"timeout": -1, ', None),
        ('"max_retries": "3", ', "这是文字；必须是整数：3"),
        ('"max_retries": -1, ', "超出范围；必须不小于 0"),
        ('"retries": 3, ', '未知的键；您是指 "max_retries" 吗？'),
        ('"timezon": "UTC", ', '未知的键；您是指 "timezone" 吗？'),
        ('"pool": "a", ', "此版本尚不支持；请删除"),
        ('"priority": "HIHG", ', '不是 URGENT, HIGH, NORMAL, LOW 之一；您是指 "HIGH" 吗？'),
        ('"enabled": null, ', "此处不能为 null；要用默认值，请去掉这个键"),
        ('"start_at": "2026-02-30T09:00", ', "没有这个日期或时间"),
        ('"calendar": "holidays", ', "没有这个日历；文件中没有任何日历"),
        ('"triggers": [{"type": "interval"}], ', '缺失；请写 "every": "10m"'),
    ],
)
def test_what_is_wrong_in_the_config_file_is_said_in_chinese(part: str, chinese: str | None) -> None:
    text = '{"cron_jobs": {"a": {' + part + '"cron_expression": "@hourly"}}}'
    with pytest.raises(ConfigError) as caught:
        parse_jobs(text, file="jobs.json", defaults=PolicyDefaults(), registry=None)
    (problem,) = caught.value.problems
    said = Speech("zh").told(problem.message)
    assert str(problem) == problem.place + problem.message
    assert problem.place.startswith("jobs.json:1:")
    assert chinese is None or said.startswith(chinese), said
    assert Speech("en").told(problem.message) == problem.message


def test_advice_is_said_in_chinese() -> None:
    entry = '{"cron_expression": "30 2 * * *", "timezone": "Europe/Berlin", "function": "f", "max_instances": 2}'
    text = '{"cron_jobs": {' + ", ".join(f'"{name}": {entry}' for name in "abcdefg") + "}}"
    wanted = parse_jobs(text, file="jobs.json", defaults=PolicyDefaults(), registry=None)
    found = advise(wanted, file="jobs.json", now=datetime(2026, 1, 1, tzinfo=UTC), slots=2)
    assert len(found) >= 9  # a herd, those that share a minute, and a clock change for each
    for one in (*found, *wanted.warnings):
        assert re.search("[一-鿿]", Speech("zh").told(one.message)), one


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (None, "–"),
        ({"revision": 7, "summary": "+a ~b"}, "r7 +a ~b"),
        ({"revision": 7, "summary": "no change to jobs", "detail": "back to revision 3"}, "r7 ← r3 作业没有变化"),
        (
            {"paused_at": "2026-11-25T00:00Z", "until": "2026-11-25T16:30Z", "by": "lin", "reason": ""},
            "未说明原因，至 ",
        ),
        ({"paused_at": "2026-11-25T00:00Z", "until": None, "by": "lin", "reason": "搬迁"}, "搬迁"),
        ({"task": "01a2"}, "01a2"),
        ({"task": "01a2", "arguments": {"args": [1]}}, '01a2 {"args": [1]}'),
        ({"function": "collect"}, "collect"),
        ({"timeout": 5, "name": "x"}, "timeout 5, name x"),
        (["other"], '["other"]'),
    ],
    ids=["none", "revision", "rollback", "until", "pause", "task", "arguments", "function", "job", "other"],
)
def test_what_the_audit_keeps_is_said_by_what_a_reader_asks_of_it(kept: Any, words: str) -> None:
    said = Said(ZoneInfo("Asia/Shanghai"), "Asia/Shanghai", "zh", NOW)
    view: Any = SimpleNamespace(say=Speech("zh"), said=said)
    assert system.kept_in_words(view, kept).startswith(words)


def test_a_job_whose_times_are_over_is_told_before_it_is_saved() -> None:
    end = '"cron_expression": "0 9 * * *", "end_at": "2025-06-01T00:00Z"'
    date = '"triggers": [{"type": "date", "at": "2025-06-01T09:00Z"}]'
    off = end + ', "enabled": false'
    jobs = ", ".join(f'"{name}": {{"function": "f", {text}}}' for name, text in (("a", end), ("b", date), ("c", off)))
    wanted = parse_jobs(f'{{"cron_jobs": {{{jobs}}}}}', file="jobs.json", defaults=PolicyDefaults(), registry=None)
    before, after = (
        advise(wanted, file="jobs.json", now=datetime(year, 1, 1, tzinfo=UTC), slots=9) for year in (2025, 2026)
    )
    assert before == ()
    assert [one.path for one in after] == ["cron_jobs.a.end_at", "cron_jobs.b"]
    for one in after:
        assert one.message == "every time of it is over: the job does not start any more"
        assert re.search("[一-鿿]", Speech("zh").told(one.message))


def test_one_thing_and_many_things() -> None:
    say = Speech("en")
    assert [say("1 job|{n} jobs", n=n) for n in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]
    assert Speech("zh")("1 job|{n} jobs", n=1) == "1 个作业"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"),
        (0.41, "410 ms"),
        (11.84, "11.8 s"),
        (59.96, "1m 00s"),
        (192, "3m 12s"),
        (3900, "1h 05m"),
        (260_000, "3d 0h"),
    ],
)
def test_a_duration_is_said_in_two_units_at_most(seconds: float, text: str) -> None:
    assert Said.duration(seconds) == text


def test_instants_are_said_in_the_zone_of_the_page_and_carry_their_day() -> None:
    said = Said(ZoneInfo("Asia/Shanghai"), "Asia/Shanghai", "en", NOW)
    assert said.moment(NOW) == "23:33:00"
    assert said.moment(NOW + timedelta(hours=1)) == "Thu 26 Nov 00:33"
    assert said.within(NOW + timedelta(seconds=273)) == "in 4m 33s"
    assert said.full(NOW) == "2026-11-25 23:33:00.000 +08:00"
    assert Said(ZoneInfo("Asia/Shanghai"), "", "zh", NOW).day(NOW) == "11月25日 周三"


# --- figures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def week(tmp_path: Path) -> Iterator[tuple[Store, Week]]:
    made = Week(NOW, days=2.5)
    made.make()
    store = open_store(tmp_path / "atlas.db")
    try:
        store.write(lambda connection: insert_tasks(connection, [full_row(task) for task in made.tasks]), wait_s=30.0)
        yield store, made
    finally:
        store.close()


def test_the_figures_of_a_day_are_those_of_a_plain_count(week: tuple[Store, Week]) -> None:
    store, made = week
    rollup = Rollup(store)
    begin_s = NOW.timestamp() // 300 * 300 - 86_400
    pieces = 1
    while rollup.read_on(NOW):
        assert not rollup.is_whole(NOW)
        pieces += 1
    assert rollup.is_whole(NOW)
    assert pieces > 1
    for later_s in (0, 5):  # read anew, then what is kept and what is new
        total = total_of(rollup.steps(NOW + timedelta(seconds=later_s)))
        ended = [task for task in made.tasks if task.finished_at and task.finished_at.timestamp() >= begin_s]
        assert total.total == len(ended) > 500
        assert total.by_status == Counter(task.status.value for task in ended)
        assert total.retried == sum(task.failures > (task.status in {"FAILED", "TIMEOUT"}) for task in ended)
        assert total.busy_s == pytest.approx(sum(task.duration_s or 0 for task in ended))
        first = [t for t in ended if t.attempt == 1 and t.started_at and t.fire_time]
        delays = sorted((t.started_at - t.fire_time).total_seconds() for t in first if t.started_at and t.fire_time)
        assert total.worst_s == pytest.approx(delays[-1])
        found = total.delay_s(0.95)
        assert found is not None
        assert found == pytest.approx(delays[int(0.95 * len(delays))], rel=0.35)


def test_the_figures_of_days_are_those_of_a_plain_count_newest_first(week: tuple[Store, Week]) -> None:
    store, made = week
    rollup = Rollup(store, 30 * 86_400, 3600)
    while not rollup.is_whole(NOW, 2 * 86_400):
        assert rollup.read_on(NOW)
    assert not rollup.is_whole(NOW)
    begin_s = (NOW.timestamp() - 2 * 86_400) // 3600 * 3600
    ended = [task for task in made.tasks if task.finished_at and task.finished_at.timestamp() >= begin_s]
    assert total_of(rollup.steps(NOW, 2 * 86_400)).total == len(ended)
    while rollup.read_on(NOW):
        pass
    assert total_of(rollup.steps(NOW)).total == sum(task.finished_at is not None for task in made.tasks)


def ended(task_id: str, at: datetime, **values: Any) -> Task:
    times = {"created_at": at, "started_at": at, "finished_at": at, "attempt": 1}
    return Task(**{"id": task_id, "name": "x", "function": "f", "status": TaskStatus.SUCCESS, **times, **values})


def keep(store: Store, *some: Task) -> None:
    store.write(lambda connection: insert_tasks(connection, [full_row(task) for task in some]))


def test_a_failure_that_no_attempt_followed_is_no_retry(store: Store) -> None:
    at = NOW - timedelta(minutes=5)
    keep(
        store,
        ended("once", at, status=TaskStatus.FAILED, failures=1),
        ended("four times", at, status=TaskStatus.FAILED, failures=4, attempt=4),
        ended("recovered", at, failures=1, attempt=2),
        ended("at once", at),
    )
    rollup = Rollup(store)
    while rollup.read_on(NOW):
        pass
    total = total_of(rollup.steps(NOW))
    assert (total.total, total.retried, total.recovered) == (4, 2, 1)


def test_what_ends_after_the_clock_was_set_back_is_counted(store: Store) -> None:
    keep(store, ended("t0", NOW - timedelta(minutes=5)))
    rollup = Rollup(store)
    while rollup.read_on(NOW):
        pass
    back = NOW - timedelta(hours=1)
    keep(store, *(ended(f"t{number}", back + timedelta(seconds=number)) for number in range(1, 10)))
    while rollup.read_on(back + timedelta(minutes=1)):
        pass
    assert total_of(rollup.steps(back + timedelta(minutes=1))).total == 10
    assert total_of(rollup.steps(NOW)).total == 10


def test_what_is_moved_by_hand_counts_on_no_day(store: Store) -> None:
    for name, at in (("a", NOW - timedelta(hours=2)), ("b", NOW - timedelta(hours=30))):
        by_hand = [ended(f"{name}{n}", at, status=TaskStatus.FAILED, origin=Origin.MANUAL) for n in range(3)]
        keep(store, ended(name, at), *by_hand)
    rollup = Rollup(store)
    while rollup.read_on(NOW):
        pass
    assert total_of(rollup.steps(NOW)).success_rate == rollup.day_before(NOW) == 100.0


@pytest.mark.parametrize("now", [datetime(2026, 4, 3, 10, tzinfo=UTC), datetime(2026, 10, 29, 11, tzinfo=UTC)])
def test_a_day_of_a_chart_has_its_name_behind_a_change_of_the_clock_too(store: Store, now: datetime) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    days = [now.astimezone(berlin).replace(hour=11) - timedelta(days=number) for number in range(10)]
    keep(store, *(ended(f"t{day:%d}", day.astimezone(UTC), job_id="j") for day in days))
    found = Histories(store).of("j", 30 * 86_400, 86_400, now.astimezone(berlin))
    said = Said(berlin, "Europe/Berlin", "en", now)
    drawn = str(charts.history(found, said, Speech("en"), timeout_s=None, days=30))
    assert re.findall(r"<title>([^:]+):", drawn) == [said.day(day) for day in reversed(days)]


def test_the_days_of_a_job_are_those_of_a_plain_count(week: tuple[Store, Week]) -> None:
    store, made = week
    found = Histories(store).of("llm_summarize", 7 * 86_400, 14_400, NOW)
    mine = [task for task in made.tasks if task.job_id == "llm_summarize" and task.status.is_final]
    assert sum(found.by_status.values()) == len(mine) > 100
    assert found.by_status["RETRYING"] == sum(task.status == "SUCCESS" and task.failures > 0 for task in mine)
    took = sorted(task.duration_s or 0 for task in mine if task.status == "SUCCESS")
    assert found.duration_s(0.5) == pytest.approx(took[len(took) // 2])
    assert max(bucket.longest_s for bucket in found.buckets) == pytest.approx(max(one.duration_s or 0 for one in mine))
    assert all(bucket.start_s % 14_400 == 0 for bucket in found.buckets)  # NOW is told in UTC


def test_a_lane_follows_its_job_and_equals_one_that_is_read_anew(week: tuple[Store, Week]) -> None:
    store, made = week
    kept = Recent(store)
    before = kept.of(["collect_rss"], NOW)["collect_rss"]
    mine = [task for task in made.tasks if task.job_id == "collect_rss"]
    assert before.last is not None
    assert before.last.id == mine[-1].id
    newest = [task.status.value for task in mine[:-61:-1]]
    good, bad = newest.count("SUCCESS"), newest.count("FAILED") + newest.count("TIMEOUT")
    assert before.success_rate == pytest.approx(100 * good / (good + bad))
    old = sum(sum(cell.values()) for cell in before.cells.values())
    add(store, "collect_rss", TaskStatus.RUNNING)
    assert kept.of(["collect_rss"], NOW)["collect_rss"].shown != "RUNNING"
    kept.hear(moved("collect_rss", TaskStatus.RUNNING))
    after = kept.of(["collect_rss"], NOW + timedelta(minutes=1))["collect_rss"]
    anew = Recent(store).of(["collect_rss"], NOW + timedelta(minutes=1))["collect_rss"]
    assert after.cells == anew.cells
    assert after.shown == "RUNNING"
    assert sum(sum(cell.values()) for cell in after.cells.values()) == old + 1


def test_a_range_of_skips_lies_where_its_fire_times_were(store: Store) -> None:
    """Paused for three days until an hour ago, or for twenty hours of which nobody counted the fire times."""
    on_hour = NOW.timestamp() // 3600 * 3600
    skip = {"skip_reason": "paused", "decided_at": NOW.timestamp()}
    rows = [
        {**skip, "job_id": "long", "fire_time": on_hour - 72 * 3600, "last": on_hour - 3600, "count": 72},
        {**skip, "job_id": "cut", "fire_time": on_hour - 4 * 3600, "last": on_hour - 3 * 3600, "count": None},
        {**skip, "job_id": "single", "fire_time": on_hour - 3600, "last": on_hour - 3600, "count": 1},
        {**skip, "job_id": "over", "fire_time": on_hour - 72 * 3600, "last": on_hour - 48 * 3600, "count": 25},
    ]
    store.write(lambda connection: connection.execute(fires.insert(), rows))
    kept = Recent(store)
    found = kept.of(["long", "cut", "single", "over"], NOW)
    key = int(on_hour // CELL_S)
    assert found["long"].cells == {key - 2 * hour: {"SKIPPED": 1} for hour in range(1, 24)}
    assert found["cut"].cells == {key - step: {"SKIPPED": 1} for step in (8, 7, 6)}
    assert found["single"].cells == {key - 2: {"SKIPPED": 1}}
    assert found["over"].cells == {}
    words = lanes.told_past(Speech("en"), "long", found["long"].cells)
    assert words == "long: 0 tasks in the last 24 hours; 23 fire times were skipped"
    longer = {"last": on_hour, "count": 73}
    store.write(lambda connection: connection.execute(fires.update().where(fires.c.job_id == "long").values(longer)))
    kept.hear(moved("long", TaskStatus.SUCCESS))
    assert kept.of(["long"], NOW)["long"].cells[key] == {"SKIPPED": 1}
    assert kept.of(["long"], NOW)["long"].cells == Recent(store).of(["long"], NOW)["long"].cells


def add(store: Store, job_id: str, status: TaskStatus, *, number: int = 0, **more: Any) -> Task:
    """One more task of the job, made now."""
    ended = NOW if status.is_final else None
    values = {"started_at": NOW, "finished_at": ended, "attempt": 1, "function": "seeded"} | more
    task = Task(
        id=f"{int(NOW.timestamp() * 1000):012x}{number:010x}",
        name=job_id,
        job_id=job_id,
        created_at=NOW + timedelta(milliseconds=number),
        status=status,
        **values,
    )
    store.write(lambda connection: insert_tasks(connection, [full_row(task)]))
    return task


def moved(job_id: str, status: TaskStatus, task_id: str = "x") -> TaskEvent:
    return TaskEvent(task_id=task_id, name=job_id, job_id=job_id, status=status, attempt=1, at=NOW)


def test_a_job_fails_until_its_newest_task_succeeds(week: tuple[Store, Week]) -> None:
    store, _made = week
    failing = Failing(store)
    assert "newsletter" not in failing.of(NOW)
    add(store, "newsletter", TaskStatus.FAILED, error="boom")
    assert "newsletter" not in failing.of(NOW)  # nobody has told it
    failing.hear(moved("newsletter", TaskStatus.FAILED))
    assert failing.of(NOW)["newsletter"] == 1
    add(store, "newsletter", TaskStatus.SUCCESS, number=1)
    failing.hear(moved("newsletter", TaskStatus.SUCCESS))
    assert "newsletter" not in failing.of(NOW)


def test_errors_are_grouped_and_follow_what_happens(week: tuple[Store, Week]) -> None:
    store, made = week
    errors = Errors(store)
    known = {group.title: group.count for group in errors.groups(NOW, most=99)}
    failed = [
        task
        for task in made.tasks
        if task.status in {TaskStatus.FAILED, TaskStatus.TIMEOUT} and task.created_at >= NOW - timedelta(days=1)
    ]
    assert sum(known.values()) == len(failed) > 5
    one = add(store, "newsletter", TaskStatus.RETRYING, failures=1)
    store.write(lambda connection: insert_attempts(connection, [retried(one, "ValueError: page 7 is empty")]))
    errors.hear(moved("newsletter", TaskStatus.RETRYING, one.id))
    (group,) = [group for group in errors.groups(NOW) if "page 7" in group.title]
    assert (group.count, group.status, group.jobs) == (1, "RETRYING", {"newsletter": 1})
    two = add(store, "other", TaskStatus.FAILED, number=1, error="ValueError: page 123 is empty")
    errors.hear(moved("other", TaskStatus.FAILED, two.id))
    (group,) = [group for group in errors.groups(NOW) if "page" in group.title]
    assert (group.count, group.failed, group.last_task) == (2, 1, two.id)


def test_timeouts_are_grouped_by_what_ran_whatever_their_limits(store: Store) -> None:
    limits = ((120, "digest", "news:summarise"), (60, "digest", "news:summarise"), (5, "crawl", "news:crawl"))
    for number, (limit, name, function) in enumerate(limits):
        error = f"the attempt ran longer than its limit of {limit} s"
        add(store, name, TaskStatus.TIMEOUT, number=number, error=error, function=function)
    found = [(group.place, group.title[-5:], group.count) for group in Errors(store).groups(NOW)]
    assert found == [("news:summarise", " 60 s", 2), ("news:crawl", "f 5 s", 1)]


def retried(task: Task, error: str) -> dict[str, Any]:
    return attempt_row(task, outcome="error", ended_at=NOW, wait_s=1.0, error=error)


# --- lanes, errors, diffs ---------------------------------------------------------------------------------------------


def test_a_cell_shows_the_worst_and_a_lane_says_it_in_words() -> None:
    assert worst_of(Counter(SUCCESS=9, RETRYING=1)) == "RETRYING"
    assert worst_of(Counter(SUCCESS=9, RETRYING=1, TIMEOUT=1, FAILED=1)) == "FAILED"
    now_s = NOW.timestamp()
    key = int(now_s // CELL_S) - 3
    cells = {key: Counter(SUCCESS=2, FAILED=1), key + 1: Counter(SUCCESS=3)}
    span, said = lanes.Span(now_s), Said(UTC, "UTC", "en", NOW)
    starts = Starts([now_s + 600 * step for step in range(144)])
    drawn = lanes.lane(span, said, Speech("en"), title='<"x">', cells=cells, starts=starts, takes_s=5.0)
    assert (
        'aria-label="&lt;&#34;x&#34;&gt;: 6 tasks in the last 24 hours, of them 1 failed; 144 starts planned' in drawn
    )
    assert "<title>14:00–14:30: 1 failed, 2 succeeded</title>" in drawn
    assert "style=" not in drawn


def test_a_busy_lane_costs_little() -> None:
    now_s = NOW.timestamp()
    first = int(now_s // CELL_S) - 47
    cells = {first + step: Counter(FAILED=1, SUCCESS=60) for step in range(48)}
    starts = Starts([now_s + 60 * step for step in range(300)], more_every_s=60.0)
    said = Said(UTC, "UTC", "en", NOW)
    drawn = lanes.lane(lanes.Span(now_s), said, Speech("en"), title="x", cells=cells, starts=starts, takes_s=1.0)
    assert len(drawn) < 5_000
    good = {key: Counter(SUCCESS=60) for key in cells}
    drawn = lanes.lane(lanes.Span(now_s), said, Speech("en"), title="x", cells=good, starts=starts, takes_s=1.0)
    assert len(drawn) < 1_500


TRACE = """Traceback (most recent call last):
  File "/srv/news/tasks.py", line 88, in run
    results = step(batch)
  File "/venv/lib/python3.11/site-packages/httpx/_client.py", line 914, in send
    response = self._send()
news.llm.RateLimitError: 429 Too Many Requests"""


def test_an_error_is_named_placed_and_folded() -> None:
    assert headline(TRACE) == "RateLimitError: 429 Too Many Requests"
    assert headline("the attempt ran longer than its limit of 3 s") == "the attempt ran longer than its limit of 3 s"
    assert headline(None) == ""
    assert place(TRACE) == "srv/news/tasks.py:88"
    stretches = folded(TRACE)
    assert [library for library, _lines in stretches] == [False, True, False]
    assert [line.kind for line in stretches[0][1]] == ["plain", "app", "hit"]
    assert "\n".join(line.text for _library, lines in stretches for line in lines) == TRACE


@given(st.text("ab\n"), st.integers(1, 4))
def test_a_file_is_drawn_line_by_line_up_to_what_a_page_holds(text: str, width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "MOST_LINES", 5)
        patch.setattr(config, "MOST_WIDE", width)
        drawn = [(line.new, line.parts) for line in config._numbered(text)]
    assert drawn == [(n, ((line[:width], False),)) for n, line in enumerate(text.split("\n")[:5], 1)]


@pytest.mark.parametrize("lines", [1_990, 20_000])
def test_a_draft_of_equal_lines_is_compared_at_once(lines: int) -> None:
    """It took a minute, on the thread that makes all pages."""
    job = '  "job_{}": {{\n    "cron_expression": "@hourly",\n    "function": "health"\n  }},\n'
    old = "".join(map(job.format, range(300)))
    start = time.thread_time()
    _shown, added, removed, _is_cut = config.diff_lines(old, "  },\n" * lines)
    assert time.thread_time() - start < 3.0
    assert added - removed == lines - 1_200
    changed = old.replace(
        '"job_150": {\n    "cron_expression": "@hourly"', '"job_150": {\n    "cron_expression": "@daily"'
    )
    assert config.diff_lines(old, changed)[1:] == (1, 1, False)


def test_a_diff_marks_the_words_that_differ_within_a_line() -> None:
    lines, added, removed, is_cut = config.diff_lines('a\n"t": 180,\nb', 'a\n"t": 240,\nb\nc')
    assert (added, removed, is_cut) == (2, 1, False)
    assert [line.kind for line in lines] == ["h", "", "d", "a", "", "a"]
    assert [text for text, marked in lines[2].parts if marked] == ["180"]
    assert [text for text, marked in lines[3].parts if marked] == ["240"]

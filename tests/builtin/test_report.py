"""`report`: a day as a page and as Markdown, in both languages."""

from __future__ import annotations

import html.parser
import re
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from atlas.builtin.report.figures import last_line, read_skips, share
from atlas.builtin.report.pages import sparkline
from atlas.builtin.report.words import WORDS, change, percent
from atlas.builtin.report.write import day_named, midnight, report
from atlas.collectors.memory import remember_failure
from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.store.tables import fires
from atlas.scheduler.task import TaskStatus
from tests.builtin.rows import DAY, SHANGHAI, add_articles, add_rows, add_tasks, task

if TYPE_CHECKING:
    from pathlib import Path

    from atlas.scheduler.store.store import Store
    from atlas.scheduler.testing.clocks import SetClock


def written(store: Store, clock: SetClock, tmp_path: Path, **more: Any) -> tuple[dict[str, Any], str, str]:
    """The result, the Markdown and the HTML of yesterday in Shanghai (23 November)."""
    given: dict[str, Any] = {"folder": tmp_path / "reports", "host": "atlas-01", "collected": ["bbc"], **more}
    result = report(store=store, clock=clock, zone=SHANGHAI, **given)
    markdown, page = ((tmp_path / "reports" / name.rsplit("/", 1)[1]).read_text() for name in result["files"])
    return result, markdown, page


@pytest.fixture
def busy_day(store: Store) -> None:
    """23 November in Shanghai: from 22 November 16:00 UTC on."""
    start = datetime(2026, 11, 22, 16, tzinfo=UTC)
    error = 'Traceback …\n  File "x.py"\nRateLimitError: 429 Too Many Requests, retry in {n} s\n'
    add_tasks(
        store,
        *(task(ended=start + timedelta(minutes=30 * n), job="collect", took_s=10.0 + n) for n in range(40)),
        *(task(ended=start + timedelta(hours=n), job="embed", failures=1) for n in range(3)),
        *(
            task(
                TaskStatus.FAILED,
                ended=start + timedelta(hours=14, minutes=n),
                job="llm",
                failures=4,
                error=error.format(n=n),
            )
            for n in range(5)
        ),
        task(TaskStatus.CANCELLED, ended=start, job="embed"),
        task(TaskStatus.FAILED, ended=start - timedelta(seconds=1), job="the day before", error="E: no"),
        task(TaskStatus.SUCCESS, ended=start + DAY, job="the day after"),
        task(TaskStatus.RUNNING, job="unfinished"),
    )
    add_articles(store, 0.5, 0.6, 9)


def test_a_report_tells_what_happened_and_what_to_look_into(
    store: Store, clock: SetClock, tmp_path: Path, busy_day: None
) -> None:
    result, markdown, page = written(store, clock, tmp_path)
    assert (result["day"], result["tasks"], result["success_rate"]) == ("2026-11-23", 49, 89.58)
    assert [name.rsplit("/", 1)[1] for name in result["files"]] == ["2026-11-23.md", "2026-11-23.html"]
    assert "# Daily report, Monday 23 November 2026" in markdown
    assert (
        "49 tasks ended, 5 did not succeed. **llm** caused 5 of them, all with the same error since 14:00." in markdown
    )
    assert "Everything else is normal." in markdown
    assert "1. **llm**: `RateLimitError: 429 Too Many Requests, retry in 0 s` 5 times, 14:00 to 14:04" in markdown
    assert "| collect | 40 |  |  | 100 % | 29.0 s | 47.0 s |" in markdown
    assert "| llm | 5 | 5 |  | 0 % |" in markdown
    assert "3 of 8" in markdown
    assert "the day" not in markdown + page
    assert "unfinished" not in markdown + page
    assert "tasks, +48" in page
    assert "| s | 2 |" in markdown


def test_the_page_is_whole_needs_nothing_else_and_escapes_what_it_shows(
    store: Store, clock: SetClock, tmp_path: Path
) -> None:
    at = datetime(2026, 11, 23, 1, tzinfo=UTC)
    add_tasks(store, task(TaskStatus.FAILED, ended=at, job="<img src=x onerror=alert(1)>|`*", error="E: <script>|`\n"))
    _result, markdown, page = written(store, clock, tmp_path)
    assert "<img" not in page
    assert "<script" not in page
    assert r"\<img src=x onerror=alert(1)\>\|\`\*" in markdown
    assert not re.search(r"url\(|@import|https?:", page)
    open_tags: list[str] = []

    class Balanced(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert not {name for name, _value in attrs} & {"src", "href", "onerror"}
            if tag != "meta":
                open_tags.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            """Closed at once."""

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Balanced().feed(page.removeprefix("<!doctype html>"))
    assert open_tags == []


def test_a_report_speaks_chinese(store: Store, clock: SetClock, tmp_path: Path, busy_day: None) -> None:
    result, markdown, page = written(store, clock, tmp_path, language="zh")
    assert [name.rsplit("/", 1)[1] for name in result["files"]] == ["2026-11-23.zh.md", "2026-11-23.zh.html"]
    assert "# 日报，2026年11月23日 星期一" in markdown
    assert (
        "结束了 49 个任务，其中 5 个未成功。其中 5 个来自 **llm**，自 14:00 起都是同一个错误。其余一切正常。"
        in markdown
    )
    assert '<html lang="zh">' in page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_day_on_which_nothing_happened_has_a_report(
    store: Store, clock: SetClock, tmp_path: Path, language: str
) -> None:
    result, markdown, page = written(store, clock, tmp_path, language=language)
    assert (result["tasks"], result["success_rate"]) == (0, 0.0)
    assert WORDS[language].nothing in markdown
    assert "<svg" not in page
    assert "–" in markdown


def test_a_report_is_private_and_replaces_the_older_one(store: Store, clock: SetClock, tmp_path: Path) -> None:
    for _ in range(2):
        written(store, clock, tmp_path, day="2026-11-20")
    files = sorted((tmp_path / "reports").iterdir())
    assert [file.name for file in files] == ["2026-11-20.html", "2026-11-20.md"]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]


@pytest.mark.parametrize(
    ("text", "day"),
    [
        (None, date(2026, 11, 23)),
        ("yesterday", date(2026, 11, 23)),
        ("today", date(2026, 11, 24)),
        ("2026-01-02", date(2026, 1, 2)),
    ],
)
def test_a_day_has_a_name_or_a_date(text: str | None, day: date) -> None:
    assert day_named(text, date(2026, 11, 24)) == day


def test_only_sources_that_are_collected_are_told_to_keep_failing(
    store: Store, clock: SetClock, tmp_path: Path
) -> None:
    for name in ("bbc", "removed long ago") * 3:
        store.write(partial(remember_failure, name=name, address="http://x/", reason="it is gone", at=clock.now()))
    _result, markdown, page = written(store, clock, tmp_path)
    for text in (markdown, page):
        assert "bbc" in text
        assert "removed long ago" not in text


def test_a_long_stop_is_told_on_each_of_its_days(store: Store) -> None:
    begin = datetime(2026, 11, 20, tzinfo=UTC)

    def skip(job: str, count: int | None, hours: int | None, after: int = 0) -> dict[str, Any]:
        first_s = (begin + timedelta(hours=after)).timestamp()
        last_s = None if hours is None else first_s + 3600 * hours
        more = {"skip_reason": "missed", "count": count, "last": last_s, "decided_at": first_s}
        return {"job_id": job, "fire_time": first_s, **more}

    rows = [skip("hourly", 60, 59, 12), skip("daily", 3, 48, 9), skip("once", None, None, 30), skip("two", 2, 0, 71)]
    add_rows(store, fires, *rows)
    begins = [begin + day * DAY for day in range(-1, 4)]
    told = store.read(lambda connection: [read_skips(connection, one, one + DAY) for one in begins])
    assert told == [
        [],
        [("hourly", "missed", 12), ("daily", "missed", 1)],
        [("hourly", "missed", 24), ("daily", "missed", 1), ("once", "missed", 1)],
        [("hourly", "missed", 24), ("two", "missed", 2), ("daily", "missed", 1)],
        [],
    ]


@pytest.mark.parametrize("day", ["1970-01-01", "9998-12-31"])
def test_the_first_and_the_last_day_have_a_report(store: Store, clock: SetClock, tmp_path: Path, day: str) -> None:
    assert written(store, clock, tmp_path, day=day)[0]["tasks"] == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"day": "tomorrowish"},
        {"day": "2026-02-30"},
        {"day": 20261123},
        {"day": "9999-12-31"},
        {"day": "0001-01-05"},
        {"language": "fr"},
    ],
)
def test_what_is_no_day_or_language_is_refused(
    store: Store, clock: SetClock, tmp_path: Path, bad: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentsError):
        written(store, clock, tmp_path, **bad)


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        (date(2026, 3, 29), "Europe/Berlin", 23),
        (date(2026, 10, 25), "Europe/Berlin", 25),
        (date(2017, 10, 15), "America/Sao_Paulo", 23),  # its midnight does not exist
        (date(2026, 11, 23), "Asia/Shanghai", 24),
    ],
)
def test_a_day_is_as_long_as_its_zone_makes_it(day: date, zone: str, hours: int) -> None:
    place = ZoneInfo(zone)
    assert (midnight(day + DAY, place) - midnight(day, place)) == timedelta(hours=hours)
    assert midnight(day, place).astimezone(place).date() == day


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (100.0, "100 %"), (99.96, "99.9 %"), (98.25, "98.2 %"), (0.0, "0 %"), (89.583, "89.5 %")],
)
def test_a_rate_is_never_rounded_up_to_perfect(value: float | None, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(4, 0, "+4"), (-0.9, 1, "−0.9"), (0.04, 1, "±0"), (-1234, 0, "−1,234")]
)
def test_a_change_has_its_sign(value: float, digits: int, text: str) -> None:
    assert change(value, digits) == text


@pytest.mark.parametrize(
    ("seconds", "en", "zh"),
    [(None, "–", "–"), (0.31, "0.31 s", "0.31 秒"), (52.0, "52.0 s", "52.0 秒"), (59.96, "1m 00s", "1 分 00 秒"),
     (171.4, "2m 51s", "2 分 51 秒"), (3840.0, "1h 04m", "1 小时 04 分")],
)  # fmt: skip
def test_a_duration_is_said_in_two_units_at_most(seconds: float | None, en: str, zh: str) -> None:
    assert (WORDS["en"].duration(seconds), WORDS["zh"].duration(seconds)) == (en, zh)


@pytest.mark.parametrize(
    ("values", "part", "result"),
    [
        ([], 0.5, None),
        ([1.0], 0.95, 1.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        ([float(n) for n in range(100)], 0.95, 94.0),
    ],
)
def test_a_share_is_a_value_that_occurred(values: list[float], part: float, result: float | None) -> None:
    assert share(values, part) == result


def test_a_spark_line_shows_the_smallest_and_leaves_out_nothing_else() -> None:
    assert sparkline([0, 1, 50, 100]) == " ▁▄█"
    assert sparkline([0, 0]) == "  "


@pytest.mark.parametrize(
    ("error", "line"), [("a\nb\n\n", "b"), (None, ""), ("", ""), ("x\x1b[31m", "x [31m"), ("e" * 999, "e" * 159 + "…")]
)
def test_the_last_line_says_what_happened(error: str | None, line: str) -> None:
    assert last_line(error) == line

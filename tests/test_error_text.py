"""An error is told by the line that names it, whatever stands behind that line."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

import pytest

from atlas.builtin.report.figures import last_line
from atlas.scheduler.error_text import error_line, named_error
from atlas.scheduler.errors import TaskFailedError
from atlas.scheduler.event_log import facts_of
from atlas.scheduler.events import TaskEvent
from atlas.scheduler.outcome import raised
from atlas.scheduler.task import TaskStatus
from atlas.web.pages.errors import headline

if TYPE_CHECKING:
    from collections.abc import Callable


class FeedError(Exception):
    pass


def many_lines() -> NoReturn:
    raise FeedError("no such table: feeds\n[SQL: select 1]\n(Background on this error at: https://example.org/e3q8)")


def with_a_note() -> NoReturn:
    error = FeedError("401")
    error.add_note("see the runbook")
    raise error


def starts_with_an_empty_line() -> NoReturn:
    raise FeedError("\n\n  3 feeds are away\nBBC")


def led_to_another() -> NoReturn:
    try:
        many_lines()
    except FeedError as error:
        raise ValueError("nothing to report") from error


def in_a_group() -> None:
    async def together() -> None:
        async with asyncio.TaskGroup() as feeds:
            feeds.create_task(asyncio.to_thread(many_lines))

    asyncio.run(together())


def in_a_group_of_a_group() -> NoReturn:
    raise ExceptionGroup("feeds", [ExceptionGroup("of a site", [FeedError("401"), FeedError("500")])])


def behind_a_deep_stack(deep: int = 200) -> None:
    """Frames that differ: a traceback leaves out those that are alike."""
    if deep == 0:
        many_lines()
    if deep % 2:
        behind_a_deep_stack(deep - 1)
    else:
        behind_a_deep_stack(deep - 1)


def without_text() -> NoReturn:
    raise FeedError


def of_the_syntax() -> None:
    compile("a b", "feed", "exec")


@pytest.mark.parametrize(
    ("fails", "line"),
    [
        (many_lines, "test_error_text.FeedError: no such table: feeds"),
        (with_a_note, "test_error_text.FeedError: 401"),
        (starts_with_an_empty_line, "test_error_text.FeedError: 3 feeds are away"),
        (led_to_another, "ValueError: nothing to report"),
        (
            in_a_group,
            (
                "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception): "
                "test_error_text.FeedError: no such table: feeds"
            ),
        ),
        (in_a_group_of_a_group, "ExceptionGroup: feeds (1 sub-exception): test_error_text.FeedError: 401"),
        (behind_a_deep_stack, "test_error_text.FeedError: no such table: feeds"),
        (without_text, "test_error_text.FeedError"),
        (of_the_syntax, "SyntaxError: invalid syntax"),
    ],
)
def test_the_line_that_names_the_error_is_found(fails: Callable[[], object], line: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the text is what counts
        fails()
    text = raised(caught.value).error
    assert (named_error(text) or "").replace("tests.", "") == line


def test_a_text_without_a_traceback_names_nothing() -> None:
    assert named_error("the attempt ran longer than its limit of 3 s") is None
    assert named_error("") is None


def test_who_tells_of_an_error_tells_what_names_it() -> None:
    with pytest.raises(FeedError) as caught:
        many_lines()
    text, said = raised(caught.value).error, "FeedError: no such table: feeds"
    event = TaskEvent("t1", "feeds", None, TaskStatus.FAILED, 1, datetime(2026, 3, 2, tzinfo=UTC), error=text)
    assert str(TaskFailedError("t1", text)).endswith(said)
    assert facts_of(event)["error"].endswith(said)
    assert headline(text) == said
    assert last_line(text).endswith(said)
    assert error_line(text).endswith(said)

"""A report before it has a format: headings, sentences, figures and tables in one language."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from atlas.builtin.report.figures import BAD, share, success_rate
from atlas.builtin.report.words import change, percent
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence
    from datetime import date, tzinfo

    from atlas.builtin.report.figures import DayFigures, ErrorGroup, JobFigures
    from atlas.builtin.report.words import Words

MAX_ERRORS = 10
MAX_JOBS = 30
MAX_SOURCES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number people look at first.

    Attributes:
        value: As text.
        label: What it counts, with the change from the day before.
        bad: True if it should stand out.
    """

    value: str
    label: str
    bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a heading.

    Attributes:
        title: The heading.
        head: Names of the columns; the first is text, the others are numbers.
        rows: Cells as text.
        bad_rows: Numbers of the rows that should stand out.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bad_rows: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Something to look into.

    Attributes:
        job: Whose it is.
        error: What the program said.
        when: How often and when.
    """

    job: str
    error: str
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The report.

    Attributes:
        words: Its language.
        title: First heading.
        where: Which scheduler, which span.
        lead: What happened, in words; ``**…**`` stands for emphasis.
        figures: Key figures.
        hours: Tasks per status for each hour, 24 of them; empty when no task ended.
        attention: What to look into.
        tables: Details.
        footer: Where it came from.
    """

    words: Words
    title: str
    where: str
    lead: str
    figures: Sequence[Figure]
    hours: Sequence[Counter[TaskStatus]]
    attention: Sequence[Attention]
    tables: Sequence[Table]
    footer: str


def compose(
    day: date,
    figures: DayFigures,
    before: Counter[TaskStatus],
    *,
    words: Words,
    host: str,
    zone: tzinfo,
    made_at: datetime,
) -> Document:
    """The report of ``day``, compared with the totals of the day ``before``."""

    def clock(at: float) -> str:
        return f"{datetime.fromtimestamp(at, zone):%H:%M}"

    return Document(
        words=words,
        title=words.title.format(day=words.day(day)),
        where=words.where.format(host=host, zone=zone),
        lead=_lead(figures, words, clock(figures.errors[0].first_at) if figures.errors else ""),
        figures=_key_figures(figures, before, words),
        hours=[figures.by_hour[hour] for hour in range(24)] if figures.total else [],
        attention=[
            _attention(group, words, clock(group.first_at), clock(group.last_at))
            for group in figures.errors[:MAX_ERRORS]
        ],
        tables=[table for table in (_jobs(figures, words), _sources(figures, words)) if table.rows],
        footer=words.footer.format(
            time=f"{made_at.astimezone(zone):%Y-%m-%d %H:%M %Z}", total=f"{figures.total:,}", noun=_noun(figures)
        ),
    )


def _lead(figures: DayFigures, words: Words, since: str) -> str:
    if not figures.total:
        return words.nothing
    noun = _noun(figures)
    if not figures.bad:
        return words.all_well.format(total=f"{figures.total:,}", noun=noun)
    worst = max(figures.jobs.values(), key=lambda job: job.bad)
    if figures.bad == 1:
        return words.one_bad.format(total=f"{figures.total:,}", noun=noun, job=worst.name)
    lead = words.some_bad.format(total=f"{figures.total:,}", noun=noun, bad=f"{figures.bad:,}")
    if 2 * worst.bad <= figures.bad:
        return lead
    stop, space = ("。", "") if words.language == "zh" else (".", " ")
    lead += space + words.one_job.format(job=worst.name, count=f"{worst.bad:,}")
    if worst.bad > 1 and figures.errors[0].job == worst.name and figures.errors[0].count == worst.bad:
        lead += words.same_error.format(time=since)
    lead += stop
    return lead + space + words.rest_well if worst.bad == figures.bad else lead


def _noun(figures: DayFigures) -> str:
    return "task" if figures.total == 1 else "tasks"


def _key_figures(figures: DayFigures, before: Counter[TaskStatus], words: Words) -> list[Figure]:
    comma = "，" if words.language == "zh" else ", "
    rate, old_rate = figures.success_rate, success_rate(before)
    tasks = words.tasks + (comma + change(figures.total - before.total()) if before else "")
    success = words.success + ("" if rate is None or old_rate is None else comma + change(rate - old_rate, 1))
    found = [
        Figure(value=f"{figures.total:,}", label=tasks),
        Figure(value=percent(rate), label=success),
        Figure(
            value=" + ".join(f"{figures.by_status[status]:,}" for status in BAD), label=words.bad, bad=figures.bad > 0
        ),
    ]
    if figures.retried:
        found.append(
            Figure(value=words.saved_of.format(saved=figures.saved, retried=figures.retried), label=words.saved)
        )
    if figures.delays_s:
        found.append(Figure(value=words.duration(share(figures.delays_s, 0.95)), label=words.delay))
    if figures.articles:
        found.append(Figure(value=f"{figures.articles.total():,}", label=words.articles))
    return found


def _attention(group: ErrorGroup, words: Words, first: str, last: str) -> Attention:
    template = words.once if group.count == 1 else words.times
    return Attention(
        job=group.job, error=group.error, when=template.format(count=f"{group.count:,}", first=first, last=last)
    )


def _jobs(figures: DayFigures, words: Words) -> Table:
    jobs = sorted(figures.jobs.values(), key=lambda job: (-job.bad, -job.by_status.total(), job.name))
    shown, others = jobs[:MAX_JOBS], jobs[MAX_JOBS:]
    rows = [_job_row(job, words) for job in shown]
    if others:
        total = sum(job.by_status.total() for job in others)
        rows.append([words.others.format(count=len(others)), f"{total:,}", *[""] * (len(words.job_head) - 2)])
    bad = frozenset(number for number, job in enumerate(shown) if job.bad)
    return Table(title=words.jobs, head=words.job_head, rows=rows, bad_rows=bad)


def _job_row(job: JobFigures, words: Words) -> list[str]:
    counts = [job.by_status[status] for status in (*BAD, TaskStatus.CANCELLED)]
    return [
        job.name,
        f"{job.by_status.total():,}",
        *(f"{count:,}" if count else "" for count in counts),
        percent(success_rate(job.by_status)),
        words.duration(share(job.durations_s, 0.5)),
        words.duration(share(job.durations_s, 0.95)),
    ]


def _sources(figures: DayFigures, words: Words) -> Table:
    rows = [[name, f"{count:,}"] for name, count in figures.articles.most_common(MAX_SOURCES)]
    return Table(title=words.sources, head=words.source_head, rows=rows)

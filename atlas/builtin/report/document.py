"""A report before it has a format: headings, sentences, figures and tables in one language."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from atlas.builtin.report.figures import BAD, share, success_rate
from atlas.builtin.report.words import change, percent
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date, tzinfo

    from atlas.builtin.report.figures import DayFigures, ErrorGroup, JobFigures, JobWeek
    from atlas.builtin.report.words import Words
    from atlas.scheduler.forecast.result import Forecast

MAX_ERRORS = 10
MAX_JOBS = 30
MAX_SOURCES = 50
SLOWER = 1.5
"""A job whose median grew by this factor, and by `SLOWER_S`, over `LEAST_TASKS` tasks became slow."""
SLOWER_S = 1.0
LEAST_TASKS = 5
FAILED_COLUMNS = frozenset({2, 3})
EXPECTED_SKIPS = frozenset({"paused", "calendar", "coalesced"})
"""Fire times without a task that somebody wanted so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number people look at first."""

    value: str
    label: str
    """What it counts, with the change from the day before."""
    bad: bool = False
    """True if it should stand out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A rate that a table shows as a bar as well."""

    text: str
    percent: float | None
    """0 to 100, None if there is none."""


Cell = str | Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a heading.

    Attributes:
        head: Names of the columns; the first is text, the others are numbers.
        rows: Cells as text.
        bad_rows: Numbers of the rows that should stand out.
        bad_columns: Numbers of the columns that say why.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    bad_rows: frozenset[int] = frozenset()
    bad_columns: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Something to look into.

    Attributes:
        job: Whose it is; "" for the scheduler itself.
        error: What the program said, word for word; "" if it said nothing.
        when: How often and when, or what was noticed.
        command: What to type to see more, "" where there is nothing to see.
    """

    job: str
    error: str
    when: str
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What comes next."""

    text: str
    """In words; ``**…**`` stands for emphasis."""
    hours: Sequence[tuple[int, int]]
    """Planned tasks for each of the next hours, with the hour of its begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What a day is compared with, and what is known beyond its tasks.

    Attributes:
        before: Tasks per final status of the day before.
        week: The seven days before, by job.
        skips: (job, reason, how many) of fire times that made no task.
        failing: (source, failures in a row, reason) of sources that keep failing.
        forecast: The next 24 hours, None if they are not known.
    """

    before: Counter[TaskStatus]
    week: Mapping[str, JobWeek] = field(default_factory=dict)
    skips: Sequence[tuple[str, str, int]] = ()
    failing: Sequence[tuple[str, int, str]] = ()
    forecast: Forecast | None = None
    paused: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The report.

    Attributes:
        where: Which scheduler, which span.
        lead: What happened, in words; ``**…**`` stands for emphasis.
        hours: Tasks per status for each hour, 24 of them; empty when no task ended.
        footer: Where it came from.
        command: What makes it again.
    """

    words: Words
    title: str
    where: str
    lead: str
    figures: Sequence[Figure]
    hours: Sequence[Counter[TaskStatus]]
    attention: Sequence[Attention]
    tables: Sequence[Table]
    ahead: Ahead | None
    footer: str
    command: str


def compose(
    day: date, figures: DayFigures, compared: Compared, *, words: Words, host: str, zone: tzinfo, made_at: datetime
) -> Document:
    """The report of ``day``, compared with what came before it."""

    def clock(at: float) -> str:
        return f"{datetime.fromtimestamp(at, zone):%H:%M}"

    return Document(
        words=words,
        title=words.title.format(day=words.day(day)),
        where=words.where.format(host=host, zone=zone),
        lead=_lead(figures, words, clock(figures.errors[0].first_at) if figures.errors else ""),
        figures=_key_figures(figures, compared.before, words),
        hours=[figures.by_hour[hour] for hour in range(24)] if figures.total else [],
        attention=[
            *(
                _attention(group, words, clock(group.first_at), clock(group.last_at))
                for group in figures.errors[:MAX_ERRORS]
            ),
            *_noticed(figures, compared, words, zone),
        ],
        tables=[table for table in (_jobs(figures, compared, words), _sources(figures, words)) if table.rows],
        ahead=None if compared.forecast is None else _ahead(compared.forecast, compared.paused, words, zone),
        command=f"atlas report --day {day.isoformat()}" + (" --lang zh" if words.language == "zh" else ""),
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
    elif figures.errors[0].job == worst.name and 2 * figures.errors[0].count > worst.bad:
        lead += words.some_same_error.format(count=f"{figures.errors[0].count:,}", time=since)
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
        job=group.job,
        error=group.error,
        when=template.format(count=f"{group.count:,}", first=first, last=last),
        command=f"atlas tasks {group.job}" if group.is_job else "",
    )


def _noticed(figures: DayFigures, compared: Compared, words: Words, zone: tzinfo) -> Iterator[Attention]:
    """What no error tells: jobs that became slow, fire times without a task, sources that fail, slots that are few."""
    for job in sorted(figures.jobs.values(), key=lambda one: one.name):
        week, now_s = compared.week.get(job.name), share(job.durations_s, 0.5)
        before_s = week.median_s if week is not None else None
        if now_s is None or before_s is None or len(job.durations_s) < LEAST_TASKS:
            continue
        if now_s > SLOWER * before_s and now_s - before_s > SLOWER_S:
            said = words.slower.format(
                factor=f"{now_s / max(before_s, 0.001):.1f}", now=words.duration(now_s), before=words.duration(before_s)
            )
            yield Attention(job=job.name, error="", when=said)
    for job_id, reason, count in compared.skips[:MAX_ERRORS]:
        if reason not in EXPECTED_SKIPS:
            said = words.skipped.format(count=f"{count:,}", reason=words.skip_reasons.get(reason, reason))
            yield Attention(job=job_id, error="", when=said, command=f"atlas why {job_id}")
    for source, count, reason in compared.failing[:MAX_ERRORS]:
        yield Attention(job=source, error=reason, when=words.source_fails.format(count=f"{count:,}"))
    ahead = compared.forecast
    if ahead is not None and ahead.crowds:
        worst = max(ahead.crowds, key=lambda crowd: crowd.needed)
        said = words.too_many.format(
            peak=f"{worst.needed:,}",
            time=f"{worst.at.astimezone(zone):%H:%M}",
            slots=ahead.slots,
            late=f"{len(worst.late_s):,}",
        )
        herd = next((one for one in ahead.herds if one.spread_s is not None), None)
        if herd is not None and herd.spread_s is not None:
            comma = "、" if words.language == "zh" else ", "
            named = comma.join(herd.job_ids[:3]) + ("…" if len(herd.job_ids) > 3 else "")
            said += words.spread.format(spread=words.duration(herd.spread_s), jobs=named)
        yield Attention(job=words.next_day, error="", when=said, command="atlas forecast")


def _ahead(ahead: Forecast, paused: Sequence[str], words: Words, zone: tzinfo) -> Ahead:
    stop, space, comma = ("。", "", "、") if words.language == "zh" else (".", " ", ", ")
    text = words.nothing_planned
    if ahead.tasks:
        text = words.planned.format(count=f"{ahead.tasks:,}")
        if ahead.peak_at is not None:
            text += words.peak.format(
                time=f"{ahead.peak_at.astimezone(zone):%H:%M}", peak=ahead.peak, slots=ahead.slots
            )
        text += stop
    if paused:
        names = comma.join(f"**{name}**" for name in paused[:5]) + ("…" if len(paused) > 5 else "")
        text += space + (words.paused if len(paused) == 1 else words.paused_more).format(jobs=names)
    hours = [(bucket.at.astimezone(zone).hour, bucket.starts) for bucket in ahead.buckets] if ahead.tasks else []
    return Ahead(text=text, hours=hours)


def _jobs(figures: DayFigures, compared: Compared, words: Words) -> Table:
    jobs = sorted(figures.jobs.values(), key=lambda job: (-job.bad, -job.by_status.total(), job.name))
    shown, others = jobs[:MAX_JOBS], jobs[MAX_JOBS:]
    rows: list[list[Cell]] = [_job_row(job, compared.week.get(job.name), words) for job in shown]
    if others:
        total = sum(job.by_status.total() for job in others)
        rows.append([words.others.format(count=len(others)), f"{total:,}", *[""] * (len(words.job_head) - 2)])
    bad = frozenset(number for number, job in enumerate(shown) if job.bad)
    # A column that says nothing of any job is left out.
    told = [place for place in range(len(words.job_head)) if any(row[place] for row in rows)]
    return Table(
        title=words.jobs,
        head=[words.job_head[place] for place in told],
        rows=[[row[place] for place in told] for row in rows],
        bad_rows=bad,
        bad_columns=frozenset(number for number, place in enumerate(told) if place in FAILED_COLUMNS),
    )


def _job_row(job: JobFigures, week: JobWeek | None, words: Words) -> list[Cell]:
    rate = success_rate(job.by_status + (week.by_status if week is not None else Counter()))
    median_s = share(job.durations_s, 0.5)
    against = "–"
    if week is not None and week.median_s and median_s is not None:
        against = change(100 * (median_s / week.median_s - 1)) + " %"
    counts = [job.by_status[status] for status in (*BAD, TaskStatus.CANCELLED)]
    return [
        job.name,
        f"{job.by_status.total():,}",
        *(f"{count:,}" if count else "" for count in counts),
        Share(text=percent(rate), percent=rate),
        words.duration(median_s),
        words.duration(share(job.durations_s, 0.95)),
        against,
    ]


def _sources(figures: DayFigures, words: Words) -> Table:
    rows = [[name, f"{count:,}"] for name, count in figures.articles.most_common(MAX_SOURCES)]
    return Table(title=words.sources, head=words.source_head, rows=rows)

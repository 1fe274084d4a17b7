"""``/metrics``: the figures in the text format of Prometheus, version 0.0.4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse
from starlette.routing import Route

from atlas.scheduler.task import FINAL, TaskPriority

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from starlette.requests import Request

    from atlas.web.site import Site

MOST_JOBS: Final = 1_000
"""Jobs that get labels of their own, by name; further ones are summed as ``other``."""
OTHER: Final = "other"
Sample = tuple["Mapping[str, str]", float]


def routes(site: Site) -> list[Route]:
    """The one route; it asks for the token as every page does."""

    async def metrics(request: Request) -> PlainTextResponse:
        del request
        text = await site.renders.run(lambda: figures(site))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/metrics", metrics, name="metrics")]


def figures(site: Site) -> str:
    """Everything that is measured, now."""
    atlas, totals = site.atlas, site.store.totals
    queue = atlas.get_queue_status()
    shown = atlas.cron.sync.shown
    tick_s = atlas.last_tick_s()
    overall = totals.metrics()
    waits = queue.get("oldest_wait_s", {})
    priorities = [priority.name for priority in TaskPriority]
    parts = [
        _family("atlas_tasks_total", "counter", "Tasks that ended, by job and status.", _ended(site)),
        _durations(site),
        *_counted(site),
        _family(
            "atlas_tasks_unfinished",
            "gauge",
            "Tasks that have not ended, by status.",
            [({"status": one.value}, n) for one, n in overall.by_status.items() if one not in FINAL],
        ),
        _family(
            "atlas_queue_depth",
            "gauge",
            "Tasks that wait, by priority.",
            [({"priority": name}, queue["by_priority"][name]) for name in priorities],
        ),
        _family(
            "atlas_queue_oldest_wait_seconds",
            "gauge",
            "How long the oldest task in line waits, by priority.",
            [({"priority": name}, waits.get(name, 0.0)) for name in priorities],
        ),
        _one("atlas_slots", "Tasks that can run at once.", queue["max_workers"]),
        _one("atlas_slots_busy", "Tasks that run.", queue["running_tasks"]),
        _one("atlas_threads_abandoned", "Threads that do not stop and were given up.", queue["abandoned_threads"]),
        _one("atlas_leads", "1 where this process leads, 0 where it stands by.", float(not atlas.stands_by)),
        _one("atlas_jobs", "Jobs that are known.", len(shown.jobs.records())),
        _one("atlas_config_revision", "Revision of the config file in force.", shown.revision or 0),
        _one("atlas_config_error", "1 while the config file is refused.", float(atlas.config_error() is not None)),
        _one(
            "atlas_events_dropped_total",
            "Events that no subscriber was told of, since one stands still or is too slow.",
            site.store.events.dropped,
        ),
    ]
    if tick_s is not None:
        parts.append(_one("atlas_last_tick_age_seconds", "Since the clock last looked for due jobs.", tick_s))
    return "".join(parts)


def _jobs(site: Site) -> list[str]:
    """The jobs with labels of their own; one whose id is `OTHER` is among those that are summed."""
    return sorted({record.id for record in site.atlas.cron.sync.shown.jobs.records()} - {OTHER})[:MOST_JOBS]


def _durations(site: Site) -> str:
    """How long final tasks ran, per job; the rest is ``other``."""
    totals = site.store.totals
    count, seconds = totals.ran()
    name = "atlas_task_duration_seconds"
    lines = _head(name, "summary", "How long final tasks ran, the last attempt of each, by job.")
    for job_id in _jobs(site):
        ran, took_s = totals.ran(job_id)
        count, seconds = count - ran, seconds - took_s
        lines += _summed(name, job_id, ran, took_s)
    lines += _summed(name, OTHER, max(0, count), max(0.0, seconds))
    return "\n".join(lines) + "\n"


def _summed(name: str, job_id: str, count: int, seconds: float) -> list[str]:
    label = f'{{job="{_escaped(job_id)}"}}'
    return [f"{name}_sum{label} {seconds!r}", f"{name}_count{label} {count!r}"]


def _counted(site: Site) -> Iterator[str]:
    """What the tally of this site has: retries, crashes, start lags."""
    found = site.tally.look(site.store)
    text = "Failed attempts that another one followed, of tasks that ended."
    yield _one("atlas_task_retries_total", text, found.retries)
    yield _one(
        "atlas_task_crashes_total", "Attempts that ended with their process, of tasks that ended.", found.crashes
    )
    name = "atlas_task_start_lag_seconds"
    lines = _head(name, "histogram", "From fire time or acceptance to the start, of tasks that ended.")
    lines += [f'{name}_bucket{{le="{limit}"}} {count}' for limit, count in found.buckets()]
    lines += [f"{name}_sum {found.lag_s!r}", f"{name}_count {found.lags.total()}"]
    yield "\n".join(lines) + "\n"


def _ended(site: Site) -> list[Sample]:
    """Final tasks per job and status; the rest (no job, or one too many) is ``other``; together they are the whole."""
    totals = site.store.totals
    left = {status: totals.metrics().by_status[status] for status in sorted(FINAL)}
    found: list[Sample] = []
    for job_id in _jobs(site):
        by_status = totals.metrics(job_id).by_status
        for status in left:
            if by_status[status]:
                left[status] -= by_status[status]
                found.append(({"job": job_id, "status": status.value}, by_status[status]))
    found += [({"job": OTHER, "status": status.value}, max(0, count)) for status, count in left.items()]
    return found


def _one(name: str, text: str, value: float) -> str:
    """A figure without labels; one that only grows has ``_total`` in its name."""
    return _family(name, "counter" if name.endswith("_total") else "gauge", text, [({}, value)])


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    lines = _head(name, kind, text)
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(of)}"' for label, of in labels.items())
        lines.append(f"{name}{{{inside}}} {value!r}" if inside else f"{name} {value!r}")
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

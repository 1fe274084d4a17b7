"""What a scheduler's lease tells another process of its clock, its troubles and its config file."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.events import SchedulerEventKind
from atlas.scheduler.loop_watch import Trouble
from atlas.scheduler.message import from_parts, parts_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from atlas.scheduler.job_store.apart import Apart
    from atlas.scheduler.store.leases import Lease

MOST_PARKED: Final = 200
"""A lease tells of so many jobs that are set apart."""


def silent_s(lease: Lease, now: datetime) -> float:
    """Seconds since it last said that it lives."""
    return max(0.0, (now - lease.renewed_at).total_seconds())


def tick_age_s(lease: Lease, now: datetime) -> float | None:
    """Seconds since its clock last looked for due jobs; None where it never did."""
    told = lease.figures.get("last_tick_s")
    return None if told is None else float(told) + silent_s(lease, now)


def troubles_of(lease: Lease | None) -> list[Trouble]:
    """What befell its loop and its database."""
    figures = _figures(lease)
    lost = ((*loss, SchedulerEventKind.STORE_REBUILT) for loss in figures.get("losses", []))
    told = [*figures.get("troubles", []), *lost]
    return [
        Trouble(datetime.fromisoformat(at), SchedulerEventKind(kind), from_parts(words)) for at, words, kind in told
    ]


def config_facts(lease: Lease | None) -> Mapping[str, Any]:
    """``error`` (why it refuses the jobs file) and ``drift``, as `Standing.facts` gave them; {} if it told none."""
    facts: Mapping[str, Any] = _figures(lease).get("config", {})
    return facts


def config_said(lease: Lease | None, name: str) -> str | None:
    """``error`` or ``drift`` of `config_facts`, with what it was made of where the lease tells that."""
    facts = config_facts(lease)
    text = facts.get(name)
    if text is None:
        return None
    try:
        return from_parts(facts["parts"][name])
    except (KeyError, TypeError, ValueError):  # it was long, or another version told it
        return str(text)


def parked_figure(apart: Mapping[str, Apart]) -> dict[str, Any]:
    """What a lease tells of jobs that are set apart."""
    return {job_id: parts_of(one.words) for job_id, one in list(apart.items())[:MOST_PARKED]}


def parked_words(lease: Lease | None) -> dict[str, str]:
    """Job that is set apart → why and what to do, as its scheduler told."""
    found: dict[str, str] = {}
    for job_id, parts in _figures(lease).get("parked_jobs", {}).items():
        try:
            found[job_id] = from_parts(parts)
        except ValueError:  # another version told it
            found[job_id] = str(parts)
    return found


def unbound_figure(unbound: Mapping[str, str]) -> dict[str, Any]:
    """What a lease tells of jobs without a function: of all why, of the first also what that is made of."""
    parts = {job_id: parts_of(why) for job_id, why in list(unbound.items())[:MOST_PARKED]}
    return {"unbound_jobs": unbound, "unbound_parts": parts}


def unbound_jobs(lease: Lease | None) -> dict[str, str]:
    """Job without a function → why it has none, as its scheduler told."""
    figures = _figures(lease)
    found: dict[str, str] = dict(figures.get("unbound_jobs", {}))
    for job_id, parts in figures.get("unbound_parts", {}).items():
        with suppress(ValueError):  # another version told it
            found[job_id] = from_parts(parts)
    return found


def _figures(lease: Lease | None) -> Mapping[str, Any]:
    return {} if lease is None else lease.figures

"""The command ``doctor``: the health check, looked at from outside and live."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from atlas.builtin.health.check import Check
from atlas.builtin.health.clock import leader_check
from atlas.builtin.health.look import health
from atlas.cli.exits import Exit
from atlas.cli.installation import local_times, opened
from atlas.cli.tables import Cell, print_json, say
from atlas.scheduler.definition_text import digest_of
from atlas.scheduler.errors import ConfigError
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.jobs_file.parsing import load_jobs
from atlas.scheduler.jobs_file.text import read_jobs_text
from atlas.scheduler.lease_facts import config_facts, tick_age_s, troubles_of
from atlas.scheduler.store.leases import scheduler_lease, standbys
from atlas.scheduler.store.revisions import latest_revision

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from atlas.scheduler.client import SyncAtlasClient
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.loop_watch import Trouble
    from atlas.scheduler.store.leases import Lease
    from atlas.settings import Settings

LOOK: Final = {"ok": ("✓", "green"), "degraded": ("!", "yellow"), "failing": ("✗", "bold red")}


def doctor(args: argparse.Namespace) -> int:
    """Every check with its remedy; the exit code is 1 unless all is well."""
    with opened(args) as (client, settings):
        times = local_times(settings)
        source = _FromOutside(client, settings)
        result = health(
            store=client.store,
            source=source,
            clock=client.store.clock,
            folder=settings.root,
            collected=settings.collect.collected,
            more={"scheduler": source.scheduler},
        )
    if args.json:
        print_json(result)
    else:
        for check in result["checks"]:
            glyph, style = LOOK[check["status"]]
            say(Cell(f"{glyph} {check['name']:<10}", style), " ", times.within(check["detail"]))
            if check["remedy"]:
                say(Cell(f"{'':12} → {check['remedy']}", style))
        glyph, style = LOOK[result["status"]]
        say(Cell(times.words, "dim"))
        say(Cell(result["status"], style))
    return Exit.OK if result["status"] == "ok" else Exit.FAILED


class _FromOutside:
    """What the scheduler's lease, the store and the jobs file tell another process."""

    def __init__(self, client: SyncAtlasClient, settings: Settings) -> None:
        self._client, self._settings = client, settings
        self._lease: Lease | None = client.scheduler()

    def scheduler(self) -> Check:
        """Whether a scheduler lives, how long ago it said so, and who would take over."""
        store = self._client.store
        last, waiting = store.read(scheduler_lease), store.read(standbys)
        now = store.clock.now()
        waiting = [lease for lease in waiting if lease.lives(now)]
        others = f"; {len(waiting)} stand{'s' * (len(waiting) == 1)} by" if waiting else ""
        if self._lease is None:
            if last is not None and last.stopped_at is None and not last.ended:
                return Check(
                    status="failing",
                    detail=f"{last.words} is silent since {last.renewed_at.isoformat(timespec='seconds')}:"
                    f" nothing fires, and what is submitted waits{others}",
                    remedy="it goes on by itself when the store (above) takes its commits; if it is frozen or gone: "
                    f"kill -9 {last.holder.get('pid', '?')} there, then 'atlas serve'",
                )
            was = ""
            if last is not None and last.ended:
                was = f"; {last.words} ended without a clean stop"
            return Check(
                status="failing",
                detail=f"no scheduler runs: nothing fires, and what is submitted waits{was}{others}",
                remedy="one that stands by takes over by itself"
                if waiting
                else "'atlas serve' (as a service: config/atlas-scheduler.service)",
            )
        found = leader_check(self._lease, self, store.clock)
        return replace(found, detail=f"{found.detail}{others}")

    def get_queue_status(self) -> Mapping[str, Any]:
        """The figures of the scheduler's last sign of life; of none, an empty queue."""
        workers = {"max_workers": self._settings.scheduler.max_workers}
        if self._lease is None:
            return {**workers, "queue_size": 0, "running_tasks": 0}
        return {**workers, **self._lease.figures}

    def last_tick_s(self) -> float | None:
        """Its age when the scheduler last gave a sign of life, and how long ago that was."""
        return None if self._lease is None else tick_age_s(self._lease, self._client.store.clock.now())

    def troubles(self) -> Sequence[Trouble]:
        """What befell its loop and its database, as its lease tells."""
        return troubles_of(self._lease)

    def config_error(self) -> str | None:
        """Why the running scheduler refuses the jobs file; without one, why it would be refused."""
        facts = config_facts(self._lease)
        if facts:
            error = facts.get("error")
            return None if error is None else str(error)
        try:
            load_jobs(self._settings.persistence.cron_config, defaults=PolicyDefaults())
        except ConfigError as error:
            return str(error)
        return None

    def config_drift(self) -> str | None:
        """In words that the file waits for `atlas apply` or, where no scheduler runs, for one."""
        facts = config_facts(self._lease)
        if facts:
            drift = facts.get("drift")
            return None if drift is None else str(drift)
        latest = self._client.store.read(latest_revision)
        if latest is None:
            return "no scheduler has taken the jobs file yet; it counts when one starts"
        with suppress(ConfigError):  # told as an error already
            text = read_jobs_text(self._settings.persistence.cron_config)
            if digest_of(text) == latest.digest:
                return None
        return f"the file differs from revision {latest.number}, which was in force when the scheduler ended"

    def each_job(self) -> Sequence[Job]:
        """Every job as it stands in the store."""
        return self._client.jobs()

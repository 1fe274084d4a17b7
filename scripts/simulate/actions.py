"""What people, machines and disks do to a scheduler in a simulation."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler import crash_points
from atlas.scheduler.errors import (
    ConfigError,
    JobBusyError,
    JobRefusedError,
    JobUnboundError,
    StoreUnavailableError,
    UnknownTaskError,
)
from atlas.scheduler.testing.crashes import Killed
from scripts.simulate.drawing import RARE, draw_entry, draw_times
from scripts.simulate.expected import BY_ITSELF_S, SAYS_WHEN
from scripts.simulate.poison import KINDS, TIMES
from scripts.simulate.watching import FINAL

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from atlas.scheduler.crash_points import CrashPoint
    from atlas.scheduler.reconcile.reconciler import Reconciler
    from atlas.scheduler.testing.virtual_time import VirtualTime
    from scripts.simulate.expected import Expected
    from scripts.simulate.poison import Poison
    from scripts.simulate.watching import Trace, Watch

WEIGHTS: Final = {
    "edit": 16,
    "break file": 4,
    "roll back": 5,
    "edit code": 4,
    "pause": 7,
    "resume": 7,
    "run now": 7,
    "submit": 10,
    "cancel": 5,
    "retry": 3,
    "lose store": 9,
    "step clock": 7,
    "suspend": 5,
    "stand still": 4,
    "kill": 6,
    "kill in call": 8,
    "kill at edge": 14,
    "stop": 9,
    "poison": 9,
}
"""Actions and how often they are drawn."""
NEVER_INSIDE: Final = frozenset({"stop", "kill", "stand still"})
"""What waits for the end of running functions."""


class Actions:
    """The actions; `World` has the scheduler they are done to."""

    seed: int
    days: float
    draw: random.Random
    started: datetime
    file: Path
    watch: Watch
    trace: Trace
    expected: Expected
    poisoned: Poison
    reconciler: Reconciler
    document: dict[str, Any]
    documents: dict[int, dict[str, Any]]
    in_force: dict[str, Any]
    code_jobs: dict[str, dict[str, Any]]
    pauses: dict[str, tuple[datetime | None, datetime | None]]
    accepted: set[str]
    cancelled: set[str]
    doomed: bool
    dies_in_call: bool
    lacks_rare: bool
    must_reload: bool
    edges: int

    @property
    def alive(self) -> VirtualTime:
        """The scheduler that runs."""
        raise NotImplementedError

    @property
    def now(self) -> datetime:
        """The wall clock."""
        raise NotImplementedError

    @property
    def true_s(self) -> float:
        """Seconds since the begin, by no clock that anybody sets."""
        raise NotImplementedError

    def later(self, at_s: float, name: str) -> None:
        """Plan an action."""
        raise NotImplementedError

    def code_entry(self) -> dict[str, Any]:
        """A job that the app makes."""
        raise NotImplementedError

    def doom(self) -> None:
        """The process dies here."""
        raise NotImplementedError

    def at_edge(self, point: CrashPoint) -> None:
        """A crash point is reached."""
        raise NotImplementedError

    # --- the jobs file ----------------------------------------------------------------------------------------------

    def write_document(self, document: dict[str, Any]) -> None:
        """An editor saves the file."""
        self.document = document
        self.file.write_text(json.dumps(document), "utf-8")

    def edit_document(self) -> None:
        """Change one thing in the file."""
        document = copy.deepcopy(self.document)
        jobs, draw = document["cron_jobs"], self.draw
        change = draw.choice(("add", "remove", "when", "policy", "enabled"))
        if change == "add" or not jobs:
            jobs[f"job-{draw.randrange(9)}"] = draw_entry(draw, self.started, self.days)
        else:
            name = draw.choice(sorted(jobs))
            new = draw_entry(draw, self.started, self.days)
            if change == "remove":
                del jobs[name]
            elif change == "when":
                jobs[name] = new
            elif change == "policy":
                jobs[name]["catchup"] = draw.choice(("none", "latest", "all"))
                jobs[name]["max_retries"] = draw.randrange(4)
            else:
                jobs[name]["enabled"] = not jobs[name].get("enabled", True)
        self.write_document(document)

    def edit(self) -> None:
        """Change one thing, and it is applied."""
        self.edit_document()
        self.reload()

    def break_file(self) -> None:
        """Save half of the file; what is in force stays."""
        self.file.write_text(json.dumps(self.document)[: self.draw.randint(0, 60)], "utf-8")
        before = self.alive.cron.sync.running.bridge.revision
        try:
            self.reconciler.reload()
        except ConfigError:
            pass
        else:
            self.watch.problem("half a file was taken for a config")
        if self.alive.cron.sync.running.bridge.revision != before:
            self.watch.problem("half a file changed the revision")

    def reload(self) -> None:
        """The watcher saw the file."""
        self.must_reload = True
        try:
            self.reconciler.reload()
        except ConfigError as error:
            self.must_reload = False
            if self.file.read_text("utf-8") != json.dumps(self.document):
                self.watch.counts["broken files refused"] += 1
            elif self.lacks_rare and RARE in json.dumps(self.document):
                self.watch.counts["files refused for want of a function"] += 1
            else:
                self.watch.problem(f"a good file was refused: {error}")
            return
        self.must_reload = False
        self.took_effect()

    def roll_back(self) -> None:
        """Go back to an earlier revision."""
        number = self.draw.choice(sorted(self.documents))
        self.document = self.documents[number]
        self.must_reload = True
        try:
            self.reconciler.rollback(number, by="simulation")
        except ConfigError as error:
            self.must_reload = False
            if not self.lacks_rare:
                self.watch.problem(f"a good revision was refused: {error}")
            self.document = self.in_force
            return
        self.must_reload = False
        self.took_effect()

    def took_effect(self) -> None:
        """The file is in force: from now on its jobs are expected."""
        revision = self.alive.cron.sync.running.bridge.revision
        if revision is not None and self.reconciler.standing.error is None:
            self.in_force = self.documents[revision] = json.loads(self.file.read_text("utf-8"))
            self.trace.add(self.now, "revision", revision)
        self.tell_expected(self.now)

    def tell_expected(self, now: datetime) -> None:
        """Expect the jobs of the file and of the code."""
        zone, calendars = self.in_force.get("timezone", "UTC"), self.in_force.get("calendars", {})
        jobs = {name: (entry, zone, calendars) for name, entry in self.in_force["cron_jobs"].items()}
        jobs |= {name: (entry, "UTC", {}) for name, entry in self.code_jobs.items()}
        self.expected.in_force(jobs, now)
        for name in [name for name, kind in self.poisoned.kinds.items() if kind == TIMES]:
            if not self.expected.is_ill(name):  # the times that were poisoned are nobody's any more
                self.poisoned.take_away(name)
                del self.expected.ill[name]

    # --- jobs of code -------------------------------------------------------------------------------------------------

    def add_code_job(self, name: str, entry: dict[str, Any]) -> None:
        """The app adds its job, as it does at each start."""
        options = {key: value for key, value in entry.items() if key not in {"cron_expression", "function"}}
        for key in ("start_at", "end_at"):
            if key in options:
                options[key] = datetime.fromisoformat(options[key])
        self.alive.cron.sync.add_job(name, entry["cron_expression"], entry["function"], **options)
        self.code_jobs[name] = entry
        self.tell_expected(self.now)

    def edit_code(self) -> None:
        """A new version of the app has other jobs."""
        if crash_points.armed is not None:
            return  # what a death in the middle of it left is for the tests of each point
        if self.code_jobs and self.draw.random() < 0.4:
            self.alive.cron.sync.remove_job("code-0")
            del self.code_jobs["code-0"]
            self.tell_expected(self.now)
        else:
            old = self.code_jobs.get("code-0", {})
            when = ("cron_expression", "start_at", "end_at", "timezone", "spread")
            new = self.code_entry()
            kept = {key: value for key, value in old.items() if key not in when} or new
            self.add_code_job("code-0", {**kept, **{key: new[key] for key in when if key in new}})

    # --- verbs --------------------------------------------------------------------------------------------------------

    def a_job(self) -> str | None:
        """Any job that is there."""
        names = [record.id for record in self.alive.cron.sync.running.jobs.records()]
        return self.draw.choice(names) if names else None

    def pause(self) -> None:
        """Pause a job, for a while or for good."""
        if (name := self.a_job()) is not None:
            until = self.now + timedelta(hours=self.draw.uniform(1, 200)) if self.draw.random() < 0.6 else None
            self.alive.cron.sync.pause_job(name, until=until, by="simulation")
            self.pauses[name] = self.now, until

    def resume(self) -> None:
        """End a pause."""
        if self.pauses:
            name = self.draw.choice(sorted(self.pauses))
            record = self.alive.cron.sync.running.jobs.record(name)
            if record is not None and record.enabled:
                self._resume(name)

    def _resume(self, name: str) -> None:
        self.alive.cron.sync.resume_job(name)
        since, until = self.pauses.get(name, (None, self.now))
        self.pauses[name] = since, self.now if until is None else min(until, self.now)

    def run_now(self) -> None:
        """Somebody presses the button."""
        if (name := self.a_job()) is not None:
            try:
                self.accepted.add(self.alive.cron.sync.run_job_now(name))
            except (JobBusyError, JobUnboundError):
                pass
            except JobRefusedError:
                self.is_refused()

    def submit(self) -> None:
        """The app submits work of its own."""
        draw = self.draw
        self.accepted.add(
            self.alive.queue.sync.submit(
                "work",
                priority=draw.choice(("urgent", "normal", "low")),
                timeout=draw.choice((30, 3600)),
                max_retries=draw.randrange(3),
                on_crash=draw.choice(("retry", "fail")),
            )
        )

    def cancel(self) -> None:
        """Cancel what waits or runs."""
        names = sorted((self.watch.name(one), one) for one, status in self.watch.status.items() if status not in FINAL)
        if names:
            task_id = self.draw.choice(names)[1]
            waits = self.watch.status[task_id] != "RUNNING"
            with suppress(UnknownTaskError):
                if self.alive.queue.cancel_task(task_id) and waits and self.watch.status[task_id] == "CANCELLED":
                    self.cancelled.add(task_id)

    def retry(self) -> None:
        """Do what has failed once more."""
        failed = sorted(
            (self.watch.name(one), one) for one, status in self.watch.status.items() if status in {"FAILED", "TIMEOUT"}
        )
        if failed:
            try:
                self.accepted.add(self.alive.queue.sync.retry_task(self.draw.choice(failed)[1]))
            except JobBusyError:
                pass
            except JobRefusedError:
                self.is_refused()

    def is_refused(self) -> None:
        """The database took no task of some job."""
        if "tasks" not in self.poisoned.kinds.values():
            self.watch.problem("a task was refused, and no job is poisoned")

    # --- machines and disks -------------------------------------------------------------------------------------------

    def lose_store(self) -> None:
        """The database is away for a while."""
        if self.alive.store.answers:
            self.alive.store.answers = False
            away_s = self.draw.choice((0.3, 20, 600, 20_000))
            self.later(self.true_s + away_s, "heal")
            if self.draw.random() < 0.2:
                self.later(self.true_s + away_s / 2, "kill")

    def heal(self) -> None:
        """The database is back."""
        if self.alive.store.answers:
            return  # another process opened it meanwhile
        self.alive.store.answers = True
        self.alive.advance()
        if self.must_reload:
            self.reload()

    def step_clock(self) -> None:
        """Somebody sets the wall clock."""
        seconds = self.draw.choice((-3600.0, 3600.0, self.draw.uniform(-7200, 7200)))
        healthy = self.alive.store.answers
        self.alive.step_clock(seconds)
        self.watch.counts[f"clock steps {'back' if seconds < 0 else 'forward'}"] += 1
        if seconds < 0:
            self.expected.came_back(self.now, certainly=healthy)

    def suspend(self) -> None:
        """The machine sleeps."""
        self.alive.suspend(self.draw.uniform(5, 40_000))

    def stand_still(self) -> None:
        """The process gets no processor."""
        self.alive.queue.clock.pass_s(self.draw.uniform(5, 4000))

    def kill(self) -> None:
        """Kill while nothing runs."""
        self.doom()
        raise Killed

    def kill_in_call(self) -> None:
        """Kill in the middle of the next function."""
        self.dies_in_call = True

    def kill_at_edge(self) -> None:
        """Kill at the edge of one of the next transactions."""
        self.edges = self.draw.randint(1, 40)
        crash_points.armed = self.at_edge

    # --- one job alone ------------------------------------------------------------------------------------------------

    def poison(self) -> None:
        """A job that starts soon cannot be served for a while, whichever scheduler runs."""
        well = self.expected.open.keys() - self.expected.ill.keys()
        records = [one for one in self.alive.cron.sync.running.jobs.records() if one.id in well]
        soon = sorted((one.next_run, one.id, one.trigger.schedule) for one in records if one.next_run is not None)
        if not soon:
            return
        _at, name, schedule = self.draw.choice(soon[:3])
        kind = self.draw.choice(KINDS)
        alike = [one.id for one in self.alive.cron.sync.running.jobs.records() if one.trigger.schedule == schedule]
        if kind == TIMES and len(alike) > 1:  # it would befall them all
            return
        self.poisoned.give(name, kind, schedule)
        self.expected.falls_ill(name, kind)
        self.trace.add(self.now, "poisoned", name, kind)
        lasts_s = self.draw.choice((90, 20_000, 100_000, 300_000))
        self.later(self.true_s + lasts_s, "cure")
        # Somebody gives it other times, or the next scheduler finds it among all that was missed.
        meanwhile = self.draw.choice(("edit poisoned", "stop", None))
        if meanwhile is not None:
            self.later(self.true_s + lasts_s * self.draw.uniform(0.3, 1.0), meanwhile)

    def edit_poisoned(self) -> None:
        """The job that cannot be served gets other times: what was due by the old ones is a skip with its reason."""
        name = next(iter(self.poisoned.kinds), None)
        document = copy.deepcopy(self.document)
        if name is not None and name in document["cron_jobs"]:
            kept = {key: value for key, value in document["cron_jobs"][name].items() if key not in SAYS_WHEN}
            document["cron_jobs"][name] = {**kept, **draw_times(self.draw, self.started, self.days)}
            self.write_document(document)
            self.reload()

    def cure(self) -> None:
        """What was wrong with a job is over; somebody may resume it, or it comes back by itself."""
        name = next(iter(self.poisoned.kinds), None)
        if name is None:
            return  # with the times it was in
        self.poisoned.take_away(name)
        self.expected.is_well_again(name, self.true_s + BY_ITSELF_S)
        self.trace.add(self.now, "cured", name)
        record = self.alive.cron.sync.running.jobs.record(name)
        if record is not None and record.enabled and self.draw.random() < 0.5:
            self._resume(name)
            self.expected.is_well_again(name, self.true_s)


__all__ = ["NEVER_INSIDE", "WEIGHTS", "Actions", "StoreUnavailableError"]

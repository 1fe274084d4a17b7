"""One seed's run: a scheduler that lives, dies and starts again on virtual time, and what people do to it meanwhile."""

from __future__ import annotations

import heapq
import json
import random
import sqlite3
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler import crash_points, serving
from atlas.scheduler.context import current_task
from atlas.scheduler.errors import StoreUnavailableError
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.reconcile.reconciler import Reconciler
from atlas.scheduler.registry import Registry
from atlas.scheduler.testing.crashes import Killed
from atlas.scheduler.testing.virtual_time import VirtualTime
from scripts.simulate.actions import NEVER_INSIDE, WEIGHTS, Actions
from scripts.simulate.drawing import FUNCTIONS, RARE, draw_document, draw_entry, draw_fate, start_of
from scripts.simulate.expected import BY_ITSELF_S, Expected
from scripts.simulate.poison import Poison
from scripts.simulate.watching import FINAL, Trace, Watch

if TYPE_CHECKING:
    from pathlib import Path

    from atlas.scheduler.crash_points import CrashPoint
    from atlas.scheduler.events import JobEvent

DAY_S: Final = 86_400.0
NEAR_S: Final = 1e-3
SETTLE_DAYS: Final = 20
"""Beyond the end of a run: its clock may have been set forward, and what waits has to end."""


class World(Actions):
    """A run of one seed.

    Args:
        seed: Decides everything.
        days: Length of the run.
        folder: Empty; holds database and jobs file.
        quiet: Without faults: nothing but jobs, for a run that must be boring.
    """

    def __init__(self, seed: int, days: float, folder: Path, *, quiet: bool = False) -> None:
        """Draw the jobs; `run` runs."""
        self.seed, self.days, self.folder = seed, days, folder
        self.draw = random.Random(seed)  # noqa: S311 - a simulation
        serving.CHANCE.seed(seed)
        self.wall = start_of(self.draw)
        self.started = self.wall
        self.trace = Trace()
        self.watch = Watch(self.trace, lambda: self.now, self._why)
        self.expected = Expected(self.wall, self.wall + timedelta(days=days + SETTLE_DAYS))
        self.document = draw_document(self.draw, self.wall, days)
        self.documents: dict[int, dict[str, Any]] = {}
        self.in_force: dict[str, Any] = {"cron_jobs": {}}
        self.code_jobs: dict[str, dict[str, Any]] = {}
        self.pauses: dict[str, tuple[datetime | None, datetime | None]] = {}
        self.ended_pauses: dict[tuple[str, float], float] = {}  # job and when it was decided → end of its pause
        self.accepted: set[str] = set()
        self.cancelled: set[str] = set()
        self.time: VirtualTime | None = None
        self.doomed = self.dies_in_call = self.lacks_rare = self.must_reload = False
        self.edges = 0
        self._passed_s = 0.0
        self._numbers = 0
        self._agenda: list[tuple[float, int, str]] = []
        self.file, self.database = folder / "cron_jobs.json", folder / "atlas.db"
        self.poisoned = Poison(self.database)
        if self.draw.random() < 0.5:
            self.code_jobs["code-0"] = self.code_entry()
        self._fill_agenda(quiet=quiet)

    def _fill_agenda(self, *, quiet: bool) -> None:
        names, weights = zip(*WEIGHTS.items(), strict=True)
        at_s = 0.0
        while not quiet and (at_s := at_s + self.draw.expovariate(1 / (1.1 * DAY_S))) < self.days * DAY_S:
            self.later(at_s, self.draw.choices(names, weights)[0])

    def code_entry(self) -> dict[str, Any]:
        """A job that the app's own code makes."""
        while "cron_expression" not in (entry := draw_entry(self.draw, self.started, self.days)):
            pass
        entry.pop("calendar", None)
        entry.pop("enabled", None)
        return {**entry, "function": "work"}

    # --- time -----------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> VirtualTime:
        """The scheduler that runs."""
        assert self.time is not None
        return self.time

    @property
    def now(self) -> datetime:
        """The wall clock."""
        return self.wall if self.time is None else self.time.now

    @property
    def true_s(self) -> float:
        """Seconds since the begin, whatever anybody did to the wall clock."""
        return self._passed_s + (0.0 if self.time is None else self.time.queue.clock.boot())

    def later(self, at_s: float, name: str) -> None:
        """Plan an action."""
        self._numbers += 1
        heapq.heappush(self._agenda, (at_s, self._numbers, name))

    def spend(self, seconds: float, *, inside: bool = False) -> None:
        """Let time pass, with everything that is planned on the way; ``inside`` a function some of it has to wait."""
        until_s = self.true_s + seconds
        while True:
            due_s = self._agenda[0][0] if self._agenda else inf
            step_s = min(until_s, due_s) - self.true_s
            self.alive.advance(max(0.0, step_s))
            if self.doomed:
                raise Killed
            self._rest()
            if self._agenda and self.true_s >= due_s - NEAR_S:  # a function on the way may have done the last one
                name = heapq.heappop(self._agenda)[2]
                if inside and name in NEVER_INSIDE:
                    self.later(due_s + 900, name)
                else:
                    self._act(name)
                if self.doomed:
                    raise Killed
            elif self.true_s >= until_s - NEAR_S:
                return

    def _act(self, name: str) -> None:
        self.watch.counts[f"actions: {name}"] += 1
        self.trace.add(self.now, "action", name)
        try:
            getattr(self, name.replace(" ", "_"))()
        except StoreUnavailableError as error:
            self.watch.counts["refused while the store was away"] += 1
            if self.time is not None and self.alive.store.answers:
                self.watch.problem(f"{name}: {error}")

    def _rest(self) -> None:
        """Nothing is due just now: nothing that is may lie in the past."""
        if not self.alive.store.answers:
            return
        now = self.now
        self.expected.served_to(now, self.true_s)
        for record in self.alive.cron.sync.running.jobs.records():
            if self.expected.is_ill(record.id):
                continue
            if record.next_run is not None and record.next_run <= now:
                self.watch.problem(f"{record.id} starts next at {record.next_run}, which is over")
            if record.id not in self.expected.open:
                if record.enabled:
                    self.watch.problem(f"{record.id} is in force and should not be")
            elif not self.expected.lags(now):
                wanted = self.expected.next_start(record.id, now)
                if wanted is not None and wanted != record.next_run:
                    self.watch.problem(f"{record.id} starts next at {record.next_run}, not at {wanted}")

    # --- functions ------------------------------------------------------------------------------------------------

    def _function(self) -> str:
        context = current_task()
        if self.doomed:
            raise Killed
        task_id, number = context.task_id, context.attempt
        self.watch.called(task_id, number)
        if task_id in self.cancelled:
            self.watch.problem(f"{self.watch.name(task_id)} began although its cancel was acknowledged")
        timeout_s = None if context.deadline is None else (context.deadline - self.now).total_seconds()
        what = self.watch.name(task_id) if context.fire_time is None else f"{context.job_id} {context.fire_time}"
        fate = draw_fate(random.Random(f"{self.seed} {what} {number}"), timeout_s)  # noqa: S311 - a simulation
        takes_s = fate.takes_s
        if self.dies_in_call:
            self.dies_in_call = False
            self.spend(takes_s / 2, inside=True)
            self.doom()
            raise Killed
        if not fate.stubborn and timeout_s is not None and takes_s > timeout_s:
            self.spend(timeout_s + 0.5, inside=True)
            takes_s -= timeout_s + 0.5
            context.check()
        if takes_s:
            self.spend(max(0.0, takes_s), inside=True)
        if self.doomed:
            raise Killed
        if fate.fails:
            raise ValueError(what)
        self.watch.calls[task_id].returned.add(number)
        return what

    async def _coroutine(self) -> str:
        context = current_task()
        if self.doomed:
            raise Killed
        self.watch.called(context.task_id, context.attempt)
        what = f"{context.job_id} {context.fire_time} {context.attempt}"
        if draw_fate(random.Random(f"{self.seed} {what}"), None).fails:  # noqa: S311 - a simulation
            raise ValueError(what)
        self.watch.calls[context.task_id].returned.add(context.attempt)
        return what

    # --- lives ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live to the end."""
        with self.poisoned.at_work():
            self._live()

    def _live(self) -> None:
        self.write_document(self.document)
        self.start_again()
        while True:
            try:
                if self.time is None:
                    self.start_again()
                left_s = self.days * DAY_S - self.true_s
                if left_s <= NEAR_S:
                    break
                self.spend(left_s)
            except Killed:
                self._bury()
        self._settle()

    def doom(self) -> None:
        """The process dies here: it writes nothing more, though its code unwinds still."""
        self.doomed = True
        self.alive.store.hand_writer.dead = True

    def at_edge(self, point: CrashPoint) -> None:
        """A crash point is reached."""
        self.edges -= 1
        if self.edges == 0:
            self.watch.counts[f"killed at {point}"] += 1
            self.trace.add(self.now, "dies at", point)
            crash_points.armed = None
            self.doomed = True
            raise Killed

    def _bury(self) -> None:
        crash_points.armed = None
        self.watch.counts["lives ended by a kill"] += 1
        self.trace.add(self.now, "killed")
        time, self.wall = self.alive, self.now
        self._passed_s += time.queue.clock.boot()
        self.time = None
        time.kill()
        self.watch.killed()
        self.expected.died(self.wall)
        self.doomed = self.dies_in_call = False
        self.be_down()

    def stop(self) -> None:
        """A clean stop."""
        if not self.alive.store.answers:
            self.heal()
        time, self.wall = self.alive, self.now
        self._passed_s += time.queue.clock.boot()
        time.__exit__(None, None, None)
        self.time = None
        crash_points.armed = None
        self.dies_in_call = False
        self.watch.counts["lives ended by a stop"] += 1
        self.be_down()
        self.start_again()

    def be_down(self) -> None:
        """Nobody runs; the file may be edited and the clock be set meanwhile."""
        draw, short = self.draw, self.draw.random()
        down_s = draw.uniform(1, 300) if short < 0.5 else draw.uniform(300, 20_000 if short < 0.8 else 3 * DAY_S)
        self.wall += timedelta(seconds=down_s)
        self._passed_s += down_s
        if draw.random() < 0.2:
            self.edit_document()
            self.watch.counts["edits while down"] += 1
        if draw.random() < 0.1:
            self.wall += timedelta(seconds=draw.choice((-3600, 3600)))
            self.watch.counts["clock steps while down"] += 1
        self.lacks_rare = draw.random() < 0.25

    def start_again(self) -> None:
        """Start on what is on disk."""
        self._read_disk()
        registry = Registry()
        registry.add(FUNCTIONS[0], self._function)
        registry.add(FUNCTIONS[1], self._function)
        registry.add(FUNCTIONS[2], self._coroutine)
        if not self.lacks_rare:
            registry.add(RARE, self._function)
        time = self.time = VirtualTime(self.wall, store=self.database, registry=registry, max_workers=6)
        self.watch.counts["starts"] += 1
        self.trace.add(self.wall, "start")
        time.__enter__()
        time.store.events.subscribe(self.watch.hear)
        self.watch.recovered(self.statuses())
        self.expected.came_back(self.wall, certainly=False)
        self.reconciler = Reconciler(time.cron.sync, self.file, PolicyDefaults())
        self.reconciler.start()
        self.took_effect()
        for name, entry in self.code_jobs.items():
            self.add_code_job(name, entry)

    def _read_disk(self) -> None:
        """Take from the disk what a death may have kept from being told."""
        if not self.database.exists():
            return
        connection = sqlite3.connect(self.database)
        try:
            self.watch.found(dict(connection.execute("SELECT id, status FROM tasks ORDER BY id").fetchall()))
            revisions = connection.execute("SELECT number, accepted_at, content FROM revisions ORDER BY number")
            for number, accepted_at, content in revisions.fetchall():
                if number not in self.documents:
                    self.in_force = self.documents[number] = json.loads(content)
                    self.tell_expected(datetime.fromtimestamp(accepted_at, UTC))
            paused = connection.execute("SELECT job_id, paused_until FROM job_state WHERE paused_at IS NOT NULL")
            self.pauses = {
                job_id: (None, None if until is None else datetime.fromtimestamp(until, UTC))
                for job_id, until in paused.fetchall()
            }
        finally:
            connection.close()

    def statuses(self) -> dict[str, str]:
        """Task id → status, as the store says."""
        text = "SELECT id, status FROM tasks ORDER BY id"
        rows = self.alive.store.read(lambda connection: connection.exec_driver_sql(text).all())
        return {task_id: status for task_id, status in rows}  # noqa: C416 - rows are no pairs to the type checker

    def _settle(self) -> None:
        """Take the jobs away, heal everything, and wait until all work has ended."""
        self._agenda.clear()
        crash_points.armed = None
        self.dies_in_call = False
        if not self.alive.store.answers:
            self.heal()
        for name in list(self.poisoned.kinds):
            self.poisoned.take_away(name)
            self.expected.is_well_again(name, self.true_s + BY_ITSELF_S)
        self.spend(BY_ITSELF_S)
        for name in list(self.code_jobs):
            self.alive.cron.sync.remove_job(name)
            del self.code_jobs[name]
        self.write_document({"cron_jobs": {}})
        self.reload()
        for _hour in range(24 * 10):
            self.spend(3600)
            if all(status in FINAL for status in self.watch.status.values()):
                break
        self._passed_s += self.alive.queue.clock.boot()
        self.wall = self.now
        self.metrics = self.alive.store.totals.metrics()
        time, self.time = self.alive, None
        time.__exit__(None, None, None)

    # --- what a skip, and a job that is set apart, must have for a reason -----------------------------------------

    def _why(self, event: JobEvent) -> str | None:
        match str(event.detail.get("reason", "fault")):
            case "paused":
                pause = self.pauses.get(event.job_id)
                if pause is None:
                    return "it is not paused"
                if pause[1] is not None and event.at >= pause[1]:  # what was due before its end: judged by the rows
                    self.ended_pauses[event.job_id, event.at.timestamp()] = pause[1].timestamp()
            case "unbound":
                if not self.lacks_rare:
                    return "its function is there"
            case "overlap":
                busy = str(event.detail["detail"])
                ended_at = self.watch.final_at.get(busy)
                if self.watch.status.get(busy) in FINAL and (ended_at is None or ended_at < event.at):
                    return f"{self.watch.name(busy)} had ended"
            case "fault" if not self.expected.is_ill(event.job_id):
                return f"it is well: {event.detail}"
            case "stopped":
                return f"stopped: {event.detail['detail']}"
            case _:
                pass  # judged at the end, by the rows
        return None

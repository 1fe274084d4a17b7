"""The verdict at the end of a run, from its rows and what was seen, never from what the engine thinks of itself."""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.task import OnCrash, TaskPolicy
from scripts.simulate.watching import FINAL

if TYPE_CHECKING:
    from scripts.simulate.world import World

ON_TIME_S: Final = 30.0
NAMED: Final = 3
"""Broken fire times of one job that are told one by one."""


def judge(world: World) -> list[str]:
    """What is against the promises; empty if all hold."""
    connection = sqlite3.connect(world.database)
    connection.row_factory = sqlite3.Row
    try:
        tasks = [dict(row) for row in connection.execute("SELECT * FROM tasks ORDER BY id")]
        fires = [dict(row) for row in connection.execute("SELECT * FROM fires ORDER BY job_id, fire_time")]
        counters = [dict(row) for row in connection.execute("SELECT * FROM counters")]
    finally:
        connection.close()
    found = [*world.watch.problems, *_tasks(world, tasks), *_counters(world, tasks, counters)]
    by_job = defaultdict(list)
    for row in fires:
        by_job[row["job_id"]].append(row)
    for job_id in sorted(by_job.keys() | world.expected.all.keys()):
        found += _fire_times(world, job_id, by_job[job_id])
        found += _decisions(world, job_id, by_job[job_id])
    return found + _tasks_of_fires(world, tasks, fires)


def _tasks(world: World, tasks: list[dict[str, Any]]) -> list[str]:
    """Every accepted task is there and ended as its calls say, within its attempts."""
    watch, found = world.watch, list[str]()
    there = {task["id"] for task in tasks}
    found += [f"{watch.name(one)} was accepted and is gone" for one in sorted(world.accepted - there, key=watch.name)]
    for task in tasks:
        task_id, status, calls = task["id"], task["status"], watch.calls[task["id"]]
        words = f"{watch.name(task_id)} of {task['job_id']}"
        if status not in FINAL:
            found.append(f"{words} is {status} at the end")
        if status == "SUCCESS" and task["attempt"] not in calls.returned:
            found.append(f"{words} is SUCCESS and attempt {task['attempt']} never returned")
        if task_id in world.cancelled and status != "CANCELLED":
            found.append(f"{words} is {status} although its cancel was acknowledged")
        policy = TaskPolicy.from_json(task["policy"])
        most = policy.retry.max_retries + 1 + calls.kills
        if len(calls.attempts) > most:
            found.append(f"{words} was called {len(calls.attempts)} times, {most} at most: {calls.attempts}")
        if task["failures"] > policy.retry.max_retries + 1 or task["crashes"] > min(3, calls.kills):
            found.append(f"{words} counts {task['failures']} failures, {task['crashes']} of {calls.kills} crashes")
        if policy.on_crash is OnCrash.FAIL and len(calls.attempts) > policy.retry.max_retries + 1:
            found.append(f"{words} may run at most once each attempt: {calls.attempts}")
    return found


def _counters(world: World, tasks: list[dict[str, Any]], counters: list[dict[str, Any]]) -> list[str]:
    """The lifetime totals are the rows, and the metrics are both."""
    found = []
    rows = Counter((task["job_id"] or "", task["status"]) for task in tasks)
    kept = Counter({(row["job_id"], row["status"]): row["tasks"] for row in counters})
    found += [
        f"{count} {key} in rows, {kept[key]} in counters" for key, count in sorted(rows.items()) if kept[key] != count
    ]
    found += [f"{count} {key} in counters, none in rows" for key, count in sorted((kept - rows).items())]
    statuses = Counter(task["status"] for task in tasks)
    told = {status.value: count for status, count in world.metrics.by_status.items() if count}
    if told != dict(statuses) or world.metrics.total_tasks != len(tasks):
        found.append(f"metrics say {told}, rows {dict(statuses)}")
    took = defaultdict(list)
    for task in tasks:
        if task["started_at"] is not None and task["finished_at"] is not None:
            took[task["job_id"] or ""].append(task)
    for row in counters:
        if row["timed"] > row["tasks"] or (
            row["timed"] and not row["min_s"] <= row["duration_s"] / row["timed"] + 1e-6
        ):
            found.append(f"durations of {row['job_id']} {row['status']} do not fit: {row}")
    return found


def _fire_times(world: World, job_id: str, rows: list[dict[str, Any]]) -> list[str]:
    """Each fire time is served exactly once."""
    expected = world.expected.of(job_id)
    times = [at.timestamp() for at in expected]
    must = dict(zip(times, expected.values(), strict=True))
    singles = {row["fire_time"] for row in rows if not _is_range(row)}
    served: Counter[float] = Counter(singles)
    found = [f"{job_id}: {_at(one)} was served and was not due" for one in sorted(singles - must.keys())]
    for row in filter(_is_range, rows):
        if row["last"] < row["fire_time"]:
            found.append(
                f"{job_id}: a range of skips ends before it begins: {_at(row['fire_time'])} {_at(row['last'])}"
            )
        covered = times[bisect_left(times, row["fire_time"]) : bisect_right(times, row["last"])]
        mine = [one for one in covered if one not in singles]
        served.update(mine)
        sure, count = sum(must[one] for one in mine), row["count"]
        if count is not None and not sure <= count <= len(covered):
            found.append(
                f"{job_id}: {count} skips ({row['skip_reason']}) counted from {_at(row['fire_time'])}"
                f" to {_at(row['last'])}, there are {sure} to {len(covered)}"
            )
    none = [one for one, needed in must.items() if needed and not served[one]]
    twice = [one for one, count in sorted(served.items()) if count > 1]
    found += [f"{job_id}: {_at(one)} was never served" for one in none[:NAMED]]
    found += [f"{job_id}: {_at(one)} was served {served[one]} times" for one in twice[:NAMED]]
    if len(none) > NAMED or len(twice) > NAMED:
        found.append(f"{job_id}: {len(none)} never, {len(twice)} more than once")
    return found


def _is_range(row: dict[str, Any]) -> bool:
    return row["task_id"] is None and (row["count"] != 1 or row["last"] != row["fire_time"])


def _tasks_of_fires(world: World, tasks: list[dict[str, Any]], fires: list[dict[str, Any]]) -> list[str]:
    """A fire time that was served by a task has one, and no other."""
    named = {row["task_id"]: (row["job_id"], row["fire_time"]) for row in fires if row["task_id"] is not None}
    found = [
        f"{world.watch.name(task['id'])} serves {task['job_id']} {_at(task['fire_time'])} beside another"
        for task in tasks
        if task["fire_time"] is not None and named.pop(task["id"], None) != (task["job_id"], task["fire_time"])
    ]
    return found + [f"{job_id}: the task of {_at(at)} is gone" for job_id, at in sorted(named.values())]


def _decisions(world: World, job_id: str, rows: list[dict[str, Any]]) -> list[str]:
    """What was caught up, and what was not, is what the policy says."""
    found = []
    made = Counter(row["decided_at"] for row in rows if row["task_id"] is not None)
    # What a catch-up has chosen may meet a task of its job that has not ended, and is skipped for that.
    chosen = made + Counter(row["decided_at"] for row in rows if row["skip_reason"] == "overlap")
    for row in rows:
        policy = _policy(world, job_id, row["revision"])
        if policy is None:
            continue
        catchup, window_s, limit, offset = policy
        newest = row["last"] if row["task_id"] is None and row["last"] is not None else row["fire_time"]
        late_s = row["decided_at"] - (newest + offset.total_seconds())
        words = (
            f"{job_id}: {_at(row['fire_time'])} decided {late_s:.0f} s late, catch-up {catchup} {window_s} s {limit}"
        )
        within = late_s <= max(ON_TIME_S, 0 if catchup == "none" else window_s)
        most = limit if catchup == "all" else 1
        match row["skip_reason"]:
            case None if not within:
                found.append(f"{words}: a task all the same")
            case None if made[row["decided_at"]] > most:
                found.append(f"{words}: {made[row['decided_at']]} tasks at once")
            case "missed" if within:
                found.append(f"{words}: not caught up")
            case "paused" if newest + offset.total_seconds() >= world.ended_pauses.get(
                (job_id, row["decided_at"]), float("inf")
            ):
                found.append(f"{words}: paused, and its pause had ended")
            case "coalesced" if within and catchup == "all" and chosen[row["decided_at"]] == 0:
                found.append(f"{words}: in favour of nothing")
            case "calendar" if not world.expected.excluded(job_id, datetime.fromtimestamp(row["fire_time"], UTC)):
                found.append(f"{words}: left out, and not in the calendar")
            case _:
                pass
    return found[:NAMED]


def _policy(world: World, job_id: str, revision: int | None) -> tuple[str, float, int, timedelta] | None:
    """Catch-up, window, limit and offset of a job of the file in a revision."""
    document = world.documents.get(revision or 0, {"cron_jobs": {}})
    entry = document["cron_jobs"].get(job_id)
    if entry is None:
        return None
    offset = next((one.times.offset for one in world.expected.all[job_id] if _same(one.key, entry)), timedelta())
    return entry.get("catchup", "latest"), entry.get("catchup_window", 3600), entry.get("catchup_limit", 100), offset


def _same(key: str, entry: dict[str, Any]) -> bool:
    return bool(json.loads(key)[3]["spread"] == entry.get("spread"))


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")

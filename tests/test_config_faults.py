"""What mutated files, and kills in the middle of an apply, can do to a schedule: nothing."""

from __future__ import annotations

import json
import random
import re
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy import text as sql

from atlas.scheduler.crash_points import CrashPoint
from atlas.scheduler.errors import ConfigError
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.jobs_file.parsing import parse_jobs
from atlas.scheduler.reconcile.reconciler import Reconciler
from tests.forked import run_program
from tests.installations import ROOT
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection

    from tests.clockwork import Clockwork

FULL: dict[str, Any] = {
    "$schema": "./cron_jobs.schema.json",
    "version": 1,
    "timezone": "Asia/Shanghai",
    "reload": "auto",
    "defaults": {
        "max_retries": 2,
        "retry_delay": "30s",
        "retry_max_delay": "15m",
        "catchup": "latest",
        "keep_days": 30,
    },
    "calendars": {"holidays": {"exclude": ["2026-10-01/2026-10-07"], "include": ["2026-10-10"]}},
    "cron_jobs": {
        "data_collection": {
            "name": "数据采集",
            "cron_expression": "@hourly",
            "max_retries": 3,
            "timeout": 300,
            "function": "nothing",
            "spread": 120,
            "priority": "HIGH",
            "tags": ["news"],
        },
        "daily_report": {
            "function": "nothing",
            "cron_expression": ["0 9 * * mon-fri", "0 11 * * sat,sun"],
            "calendar": "holidays",
            "catchup": "all",
            "overlap": "queue",
        },
        "每十分钟": {
            "function": "nothing",
            "triggers": [{"type": "interval", "every": "10m", "anchor": "2026-01-01T00:05:00+08:00"}],
            "timeout": "3m",
            "on_crash": "fail",
            "x_note": "kept, not read",
        },
    },
}
ODD: list[Any] = [
    None, True, -1, 0, 1e308, 10**30, "", " ", "\u0000", "字", "61 * * * *", "0 0 30 2 *", [], {}, [[]], {"x": 1},
    "9999-99-99T99:99", "1h1h", "-5m", "os:system", "builtins:eval", "../../etc/passwd", "NaN", "a" * 5000,
]  # fmt: skip
TOKENS = [
    '"',
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "NaN",
    "Infinity",
    "1e999",
    "-",
    "null",
    "//",
    "\\u0000",
    "'",
    "\ufeff",
    "🙂",
]


# --- mutations -------------------------------------------------------------------------------------------------------


def of_bytes(draw: random.Random, text: str) -> bytes:
    """Flipped, removed, inserted, doubled or cut bytes; other encodings."""
    raw = bytearray(text.encode())
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(raw))
        match draw.randrange(7):
            case 0:
                raw[at] = draw.randrange(256)
            case 1:
                del raw[at : at + draw.randint(1, 40)]
            case 2:
                raw[at:at] = bytes(draw.randrange(256) for _ in range(draw.randint(1, 8)))
            case 3:
                raw[at:at] = raw[at : at + draw.randint(1, 200)]
            case 4:
                del raw[at:]
            case 5:
                raw[at:at] = draw.choice([b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", "数".encode("gbk")])
            case _:
                return draw.choice([text.encode("utf-16"), text.encode("gbk"), b"\xef\xbb\xbf" + text.encode(), b""])
        if not raw:
            break
    return bytes(raw)


def of_tokens(draw: random.Random, text: str) -> bytes:
    """Tokens that are removed, doubled, swapped or replaced by others."""
    tokens = re.findall(r'"(?:\\.|[^"\\])*"|[{}\[\],:]|[^\s{}\[\],:"]+|\s+', text)
    for _ in range(draw.randint(1, 3)):
        at, other = draw.randrange(len(tokens)), draw.randrange(len(tokens))
        match draw.randrange(4):
            case 0:
                del tokens[at]
            case 1:
                tokens.insert(at, tokens[other])
            case 2:
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case _:
                tokens[at] = draw.choice(TOKENS)
    return "".join(tokens).encode("utf-8", "surrogatepass")


def of_structure(draw: random.Random, text: str) -> bytes:
    """Keys that are renamed, removed or moved, values that are something else."""
    document = json.loads(text)
    for _ in range(draw.randint(1, 3)):
        places = [place for place in _containers(document) if place]
        container = draw.choice(places)
        keys: list[Any] = list(container) if isinstance(container, dict) else list(range(len(container)))
        key = draw.choice(keys)
        match draw.randrange(4):
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                word = str(key)
                at = draw.randrange(len(word) + 1)
                container[word[:at] + draw.choice(["", "x", "_", "名"]) + word[at + 1 :]] = container.pop(key)
            case 2:
                container[key] = json.loads(json.dumps(draw.choice(places)))
            case _:
                container[key] = draw.choice(ODD)
    return json.dumps(document, ensure_ascii=draw.random() < 0.5, indent=draw.choice([None, 1])).encode(
        "utf-8", "surrogatepass"
    )


def _containers(value: Any) -> list[Any]:
    if not isinstance(value, dict | list):
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [value, *(found for one in inner for found in _containers(one))]


MUTATIONS: dict[str, Callable[[random.Random, str], bytes]] = {
    "bytes": of_bytes,
    "tokens": of_tokens,
    "structure": of_structure,
}


def refusal(reconciler: Reconciler) -> ConfigError | None:
    """Why the file is refused, None where it is good; any other error is a failure."""
    try:
        reconciler.reload()
    except ConfigError as error:
        return error
    return None


@pytest.mark.parametrize("kind", list(MUTATIONS))
def test_a_mutated_file_is_refused_with_its_place_and_changes_nothing_or_is_good(
    clockwork: Clockwork, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "cron_jobs.json"
    reconciler = Reconciler(clockwork.cron, file, PolicyDefaults())
    refused = 0
    for number in range(200):
        draw = random.Random(f"{kind} {number}")
        text = json.dumps(FULL, ensure_ascii=False, indent=draw.choice([None, 1, 2]))
        file.write_text(text, "utf-8")
        reconciler.reload()
        before = clockwork.rows()
        assert set(before) == set(FULL["cron_jobs"])
        raw = MUTATIONS[kind](draw, text)
        file.write_bytes(raw)
        found = refusal(reconciler)
        if found is None:
            wanted = parse_jobs(raw.decode("utf-8-sig"), file=file, defaults=PolicyDefaults(), registry=None)
            assert set(clockwork.rows()) == set(wanted.definitions), (number, raw)
            continue
        refused += 1
        assert clockwork.rows() == before, (number, raw)
        assert reconciler.standing.error is found
        for problem in found.problems:
            assert problem.file == file
            assert min(problem.line, problem.column) >= 1, (number, problem, raw)
            assert problem.message, (number, raw)
            assert str(problem).isprintable(), (number, problem, raw)
    assert refused >= 20


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b'{"cron_jobs": ' * 50_000,
        b'{"version": ' + b"9" * 1_000_000 + b"}",
        b'{"cron_jobs": {"a": {"timeout": 1e999, "cron_expression": "@daily"}}}',
        b'{"cron_jobs": {"a": {"cron_expression": "@daily"}, "a": {"cron_expression": "@daily"}}}',
        b" " * 21_000_000,
        b"\x00" * 1000,
    ],
    ids=["deep array", "deep object", "long number", "infinite", "doubled key", "too large", "zero bytes"],
)
def test_absurd_files_are_refused(clockwork: Clockwork, tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "cron_jobs.json"
    file.write_text(json.dumps(FULL), "utf-8")
    reconciler = Reconciler(clockwork.cron, file, PolicyDefaults())
    reconciler.reload()
    before = clockwork.rows()
    file.write_bytes(raw)
    with pytest.raises(ConfigError):
        reconciler.reload()
    assert clockwork.rows() == before


def test_one_changed_job_of_ten_thousand_writes_one_row(clockwork: Clockwork, tmp_path: Path) -> None:
    file = tmp_path / "cron_jobs.json"
    jobs = {f"job{number:05}": {"cron_expression": "@daily", "function": "nothing"} for number in range(10_000)}
    file.write_text(json.dumps({"cron_jobs": jobs}), "utf-8")
    reconciler = Reconciler(clockwork.cron, file, PolicyDefaults())
    reconciler.reload()
    jobs["job07777"]["timeout"] = 5  # type: ignore[assignment]
    file.write_text(json.dumps({"cron_jobs": jobs}), "utf-8")
    written: list[Any] = []

    def execute(_connection: Connection, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if "apscheduler_jobs" in statement and not statement.lstrip().startswith("SELECT"):
            written.extend(parameters if isinstance(parameters, list) else [parameters])

    event.listen(clockwork.store.engine, "before_cursor_execute", execute)
    assert reconciler.reload().summary == "~job07777"
    event.remove(clockwork.store.engine, "before_cursor_execute", execute)
    assert [row[0] for row in written] == ["job07777"]


# --- kills -----------------------------------------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
from atlas.scheduler.testing.crashes import crash_at
from atlas.service import AtlasScheduler
from atlas.settings import Settings, prepare_folders

folder, point, text, database = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
settings = Settings(persistence={"database": database} if database else {}).anchored(folder)
prepare_folders(settings)
with AtlasScheduler.from_settings(settings).in_thread() as atlas:
    if point:
        crash_at(point)
        atlas.reconciler.replace(text, by="web")
print("lived")
"""
POINTS = [point for point in CrashPoint if point.value.startswith("apply")]
HEALTH = {"cron_expression": "0 3 * * *", "function": "health"}
OLD = json.dumps({"reload": "manual", "cron_jobs": {"kept": HEALTH, "gone": HEALTH}})
NEW = json.dumps({"reload": "manual", "cron_jobs": {"kept": {**HEALTH, "timeout": 7}, "new": HEALTH}})


@pytest.mark.timeout(280)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("point", POINTS, ids=[point.name.lower().replace("_", "-") for point in POINTS])
def test_a_kill_in_the_middle_of_an_apply_leaves_one_revision_whole(
    tmp_path: Path, point: CrashPoint, kind: str, request: pytest.FixtureRequest
) -> None:
    database = f"sqlite:///{tmp_path / 'atlas.db'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    (tmp_path / "config").mkdir()
    file = tmp_path / "config" / "cron_jobs.json"
    file.write_text(OLD, "utf-8")

    def run(point: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", CHILD, str(tmp_path), point, NEW, database]
        return run_program(command, cwd=ROOT, timeout=LIMIT_S * 12)

    killed = run(point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    on_disk = file.read_text("utf-8")
    assert on_disk in {OLD, NEW}
    jobs, newest = _stored(database)
    assert newest in {OLD, NEW}
    assert jobs == _jobs_of(newest)  # the rows are those of the newest revision, all of them
    assert newest == NEW or point is not CrashPoint.APPLY_COMMITTED
    assert newest == OLD or on_disk == NEW

    # The next start brings into force what was asked for, or goes on with what was; nothing is half done.
    again = run("")
    assert again.returncode == 0, again.stderr
    jobs, newest = _stored(database)
    assert jobs == _jobs_of(newest)
    assert newest == file.read_text("utf-8")


def _stored(database: str) -> tuple[dict[str, float], str]:
    """The jobs' timeouts in the database, and the text of the newest revision."""
    engine = create_engine(database)
    with engine.connect() as connection:
        rows = connection.execute(sql("SELECT id, job_state FROM apscheduler_jobs")).all()
        content = connection.execute(sql("SELECT content FROM revisions ORDER BY number DESC LIMIT 1")).scalar_one()
    engine.dispose()
    return {row.id: json.loads(bytes(row.job_state))["timeout_s"] for row in rows}, content


def _jobs_of(text: str) -> dict[str, float]:
    return {job_id: float(job.get("timeout", 600)) for job_id, job in json.loads(text)["cron_jobs"].items()}

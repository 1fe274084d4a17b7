"""Settings: every documented key, what a variable overrides, and that each mistake is named with its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from atlas.scheduler.errors import ConfigError, Problem
from atlas.settings import Settings, load_settings, prepare_folders

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parents[1]

DOCUMENTED = """\
# config/config.yaml as first specified; every key keeps working
scheduler:
  max_workers: 10
  task_timeout: 600
  max_retries: 3

persistence:
  status_file: "data/task_status.json"
  queue_file: "data/task_queue.pkl"     # accepted; the queue lives in the database and nothing is pickled
  cron_config: "config/cron_jobs.json"

logging:
  level: "INFO"
  file: "logs/scheduler.log"
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Write ``config/config.yaml`` of a project in ``tmp_path``."""

    def writer(text: str | bytes) -> Path:
        file = tmp_path / "config" / "config.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return writer


def problems_of(file: Path | None, **environ: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load_settings(file, environ)
    return list(caught.value.problems)


# --- what is read ----------------------------------------------------------------------------------------------------


def test_the_documented_file_is_valid_unchanged(write: Callable[[str], Path], tmp_path: Path) -> None:
    file = write(DOCUMENTED)
    settings, built_in = load_settings(file, {}), Settings().anchored(tmp_path, file=file)
    assert settings == built_in.model_copy(update={"persistence": settings.persistence})
    assert settings.persistence.queue_file == "data/task_queue.pkl"
    assert settings.persistence.cron_config == tmp_path / "config" / "cron_jobs.json"


def test_the_shipped_file_sets_what_is_built_in_and_adds_only_sources() -> None:
    shipped = load_settings(PROJECT / "config" / "config.yaml", {})
    built_in = Settings().anchored(PROJECT)
    assert [source.type for source in shipped.collect.sources] == ["rss", "rss", "rss"]
    assert shipped.scheduler == built_in.scheduler
    assert shipped.logging == built_in.logging
    assert shipped.collect.model_copy(update={"sources": ()}) == built_in.collect


def test_the_commented_keys_of_the_shipped_file_are_the_values_in_force(write: Callable[[str], Path]) -> None:
    text = (PROJECT / "config" / "config.yaml").read_text(encoding="utf-8")
    shown = re.sub(r"(?m)^(  )# (?=(?:  )*(?:- '|[a-z_]+:))", r"\1", text)
    settings, built_in = load_settings(write(shown), {}), Settings()
    shown_keys = {(name, key) for name, section in built_in for key, _ in section if f"\n  {key}:" in shown}
    all_keys = {(name, key) for name, section in built_in for key, _ in section}
    assert all_keys == shown_keys
    examples = {
        ("scheduler", "executor_limits"),
        ("logging", "json_file"),
        ("functions", "allow"),
        ("collect", "sources"),
    }
    for name, section in built_in.anchored(settings.root):
        for key, value in section:
            if (name, key) not in examples | {("persistence", "queue_file")}:
                assert getattr(getattr(settings, name), key) == value, key


def test_a_missing_default_file_means_the_built_in_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(environ={})
    assert (settings.file, settings.root) == (None, tmp_path)
    assert settings.persistence.database == tmp_path / "data" / "atlas.db"


def test_the_file_in_the_working_directory_is_the_default(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("scheduler: {max_workers: 7}")
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={}).scheduler.max_workers == 7


@pytest.mark.parametrize(
    ("folder", "root"), [("config", "."), ("etc", "etc"), (".", ".")], ids=["config", "elsewhere", "project"]
)
def test_relative_paths_start_at_the_project(tmp_path: Path, folder: str, root: str) -> None:
    file = tmp_path / folder / "atlas.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text("logging: {file: a/b.log, json_file: /var/log/x.jsonl}", encoding="utf-8")
    settings = load_settings(file, {})
    assert settings.logging.file == tmp_path / root / "a" / "b.log"
    assert settings.logging.json_file == Path("/var/log/x.jsonl")


def test_empty_files_and_sections_mean_the_built_in_values(write: Callable[[str], Path], tmp_path: Path) -> None:
    file = write("")
    built_in = Settings().anchored(tmp_path, file=file)
    assert load_settings(file, {}) == built_in
    assert load_settings(write("scheduler:\n  # max_workers: 3\ncollect:\n"), {}) == built_in


def test_durations_sizes_and_levels_are_read_as_people_write_them(write: Callable[[str], Path]) -> None:
    text = """
    scheduler: {task_timeout: 1h30m, stop_grace: 0}
    logging: {level: debug, rotation: 5 MB, retention: 2 weeks}
    """
    settings = load_settings(write(text), {})
    assert (settings.scheduler.task_timeout, settings.scheduler.stop_grace) == (5400.0, 0.0)
    assert (settings.logging.level, settings.logging.rotation) == ("DEBUG", 5_000_000)
    assert settings.logging.retention == 14 * 86_400.0


def test_null_is_no_limit(write: Callable[[str], Path]) -> None:
    settings = load_settings(write("scheduler: {task_timeout: null}\npersistence: {keep_days: null}"), {})
    assert settings.scheduler.task_timeout is None
    assert settings.persistence.keep_days is None


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("state/a.db", "/p/state/a.db"),
        ("sqlite:///state/a.db", "/p/state/a.db"),
        ("sqlite:////srv/a.db", "/srv/a.db"),
        ("postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgres://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
    ],
    ids=str,
)
def test_a_database_is_a_path_or_a_postgresql_address(given: str, means: str) -> None:
    database = Settings.model_validate({"persistence": {"database": given}}).anchored(Path("/p")).persistence.database
    assert str(database) == means
    assert isinstance(database, Path) == ("://" not in means)


def test_settings_cannot_be_changed_and_do_not_show_the_database_password() -> None:
    settings = Settings.model_validate({"persistence": {"database": "postgresql://u:hunter2@h/d"}})
    with pytest.raises(ValueError, match="frozen"):
        settings.scheduler.max_workers = 3  # type: ignore[misc]
    assert "hunter2" not in repr(settings)


def test_settings_made_directly_do_not_look_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLAS_SCHEDULER__MAX_WORKERS", "99")
    assert Settings().scheduler.max_workers == 10


# --- variables -------------------------------------------------------------------------------------------------------


def test_a_variable_wins_over_the_file(write: Callable[[str], Path]) -> None:
    file = write("scheduler: {max_workers: 3, max_retries: 9, executor_limits: {thread: 2, process: 2}}")
    settings = load_settings(
        file,
        {
            "ATLAS_SCHEDULER__MAX_WORKERS": "4",
            "atlas_scheduler__task_timeout": "null",
            "ATLAS_SCHEDULER__EXECUTOR_LIMITS__PROCESS": "1",
            "ATLAS_FUNCTIONS__ALLOW": '["news.jobs", "llm"]',
            "ATLASX": "not ours",
        },
    )
    assert settings.scheduler.max_workers == 4
    assert settings.scheduler.max_retries == 9
    assert settings.scheduler.task_timeout is None
    assert settings.scheduler.executor_limits == {"thread": 2, "process": 1}
    assert settings.functions.allow == ("news.jobs", "llm")


def test_the_process_environment_is_read_when_none_is_given(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATLAS_LOGGING__LEVEL", "warning")
    assert load_settings(write("")).logging.level == "WARNING"


def test_a_variable_mends_a_bad_value_in_the_file(write: Callable[[str], Path]) -> None:
    file = write("scheduler: {max_workers: lots}")
    assert load_settings(file, {"ATLAS_SCHEDULER__MAX_WORKERS": "2"}).scheduler.max_workers == 2


def test_atlas_config_names_the_file(write: Callable[[str], Path]) -> None:
    file = write("scheduler: {max_workers: 6}")
    assert load_settings(environ={"ATLAS_CONFIG": str(file)}).scheduler.max_workers == 6
    assert problems_of(None, ATLAS_CONFIG=str(file) + "x")[0].message.startswith("cannot be read")


@pytest.mark.parametrize("service", ["ATLAS", "ATLAS_WEB"])
def test_what_kubernetes_tells_of_a_service_of_our_name_is_no_setting(
    service: str, write: Callable[[str], Path]
) -> None:
    told = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8787",
        "SERVICE_PORT_HTTP": "8787",
        "PORT": "tcp://10.0.0.1:8787",
        "PORT_8787_TCP": "tcp://10.0.0.1:8787",
        "PORT_8787_TCP_PROTO": "tcp",
        "PORT_8787_TCP_PORT": "8787",
        "PORT_8787_TCP_ADDR": "10.0.0.1",
    }
    environ = {f"{service}_{name}": value for name, value in told.items()}
    assert load_settings(write(""), environ).web.port == 8787


@pytest.mark.parametrize(
    ("name", "value", "path", "said"),
    [
        ("ATLAS_WEB_PORT", "9000", "ATLAS_WEB_PORT", "mean ATLAS_WEB__PORT?"),
        ("ATLAS_SCHEDULER__MAX_WORKERS", "0", "ATLAS_SCHEDULER__MAX_WORKERS", "1–1000"),
        ("ATLAS_SCHEDULER__MAX_WORKERS", "four", "ATLAS_SCHEDULER__MAX_WORKERS", "1–1000"),
        ("ATLAS_SCHEDULER__MAX_WORKER", "4", "ATLAS_SCHEDULER__MAX_WORKER", "mean ATLAS_SCHEDULER__MAX_WORKERS?"),
        ("ATLAS_FOO", "4", "ATLAS_FOO", "ATLAS_<SECTION>__<KEY>"),
        ("ATLAS_SCHEDULER", "{}", "ATLAS_SCHEDULER", "unknown variable"),
        ("ATLAS_FUNCTIONS__ALLOW", "a,b", "ATLAS_FUNCTIONS__ALLOW", "JSON"),
        ("ATLAS_FUNCTIONS__ALLOW", "", "ATLAS_FUNCTIONS__ALLOW", "packages"),
        ("ATLAS_COLLECT__SOURCES", '[{"name": "x"}]', "ATLAS_COLLECT__SOURCES.0.url", "required"),
        ("ATLAS_SCHEDULER__EXECUTOR_LIMITS__ASYNC", "-1", "ATLAS_SCHEDULER__EXECUTOR_LIMITS__ASYNC", "below"),
    ],
)
def test_a_bad_variable_is_named(name: str, value: str, path: str, said: str, write: Callable[[str], Path]) -> None:
    (problem,) = problems_of(write(""), **{name: value})
    assert (problem.file, problem.path) == ("environment", path)
    assert said in problem.message


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "column", "path", "value", "said"),
    [
        ("scheduler:\n  max_workers: 0", 2, 16, "scheduler.max_workers", "0", "1–1000"),
        ("scheduler:\n  max_workers: yes", 2, 16, "scheduler.max_workers", "yes", "not true or false"),
        ("scheduler:\n  max_worker: 3", 2, 3, "scheduler.max_worker", None, "did you mean max_workers?"),
        ("scheduler:\n  task_timeout: 0", 2, 17, "scheduler.task_timeout", "0", "null"),
        ("scheduler:\n  stop_grace: 5 parsecs", 2, 15, "scheduler.stop_grace", "5 parsecs", "1h30m"),
        ("scheduler:\n  timezone: Asia/Shangai", 2, 13, "scheduler.timezone", "Asia/Shangai", "Asia/Shanghai"),
        ("scheduler:\n  timezone: /etc/passwd", 2, 13, "scheduler.timezone", "/etc/passwd", "no time zone"),
        ("scheduler:\n  executor_limits: {thred: 1}", 2, 28, "scheduler.executor_limits.thred", "1", "'thread'"),
        ("scheduler: 5", 1, 12, "scheduler", "5", "keys and values"),
        ("schedular: {}", 1, 1, "schedular", None, "did you mean scheduler?"),
        ("max_retries: 3", 1, 1, "max_retries", None, "did you mean scheduler.max_retries?"),
        ("{5: x}", 1, 2, "5", None, "known here: scheduler"),
        ("_env_file: /etc/passwd", 1, 1, "_env_file", None, "unknown key"),
        ("persistence:\n  database: mysql://h/d", 2, 13, "persistence.database", "mysql://h/d", "postgresql://"),
        ("persistence:\n  status_file: ''", 2, 16, "persistence.status_file", "''", "a path is wanted"),
        ("persistence:\n  durability: 3", 2, 15, "persistence.durability", "3", "fsync"),
        ("logging:\n  level: loud", 2, 10, "logging.level", "loud", "'INFO'"),
        ("logging:\n  rotation: big", 2, 13, "logging.rotation", "big", '"20 MB"'),
        ("logging:\n  log_max_bytes: yes", 2, 18, "logging.log_max_bytes", "yes", "not true or false"),
        ("logging:\n  file: ~nobody-here/x.log", 2, 9, "logging.file", "~nobody-here/x.log", "write the whole path"),
        ("persistence:\n  keep_tasks: 9999999999999999999", 2, 15, "persistence.keep_tasks", "9" * 19, "kept"),
        (
            "collect:\n  sources: [{name: a, url: 'http://x:99999/'}]",
            2,
            28,
            "collect.sources.0.url",
            "'http://x:99999/'",
            "out of range",
        ),
        ("logging:\n  redact: ['(']", 2, 12, "logging.redact.0", "'('", "regular expression"),
        ("functions:\n  allow: [os]", 2, 11, "functions.allow.0", "os", "standard library"),
        ("functions:\n  allow: [a-b]", 2, 11, "functions.allow.0", "a-b", "package name"),
        ("collect:\n  sources: [{name: a}]", 2, 13, "collect.sources.0.url", None, "required"),
        ("collect:\n  sources: [{name: a, url: 'ftp://x'}]", 2, 28, "collect.sources.0.url", "'ftp://x'", "https://"),
        ("collect:\n  sources: [{name: a, url: 'http://'}]", 2, 28, "collect.sources.0.url", "'http://'", "no host"),
        ("collect:\n  sources: [5]", 2, 13, "collect.sources.0", "5", "keys and values"),
        ("collect:\n  allow_hosts: ['http://x']", 2, 17, "collect.allow_hosts.0", "'http://x'", "bare host"),
        ("collect:\n  user_agent: 新闻", 2, 15, "collect.user_agent", "新闻", "ASCII"),
    ],
)
def test_a_bad_value_is_named_with_its_place_and_a_remedy(
    text: str, line: int, column: int, path: str, value: str | None, said: str, write: Callable[[str], Path]
) -> None:
    file = write(text)
    (problem,) = problems_of(file)
    assert (problem.file, problem.line, problem.column, problem.path) == (file, line, column, path)
    assert problem.value == value
    assert said in problem.message


def test_two_sources_of_one_name_are_refused(write: Callable[[str], Path]) -> None:
    source = "{name: a, url: 'https://x'}"
    (problem,) = problems_of(write(f"collect: {{sources: [{source}, {source}]}}"))
    assert "named 'a'" in problem.message


def test_every_problem_is_told_at_once_in_the_order_of_the_file(write: Callable[[str], Path]) -> None:
    text = "logging: {level: loud}\nschedular: {}\nscheduler:\n  max_retries: -1\n  max_workers: 0\n"
    problems = problems_of(write(text), ATLAS_FOO="1", ATLAS_PATHS__REPORTS="")
    places = [(problem.line, problem.path) for problem in problems]
    assert places[:4] == [
        (1, "logging.level"),
        (2, "schedular"),
        (4, "scheduler.max_retries"),
        (5, "scheduler.max_workers"),
    ]
    assert sorted(places[4:]) == [(0, "ATLAS_FOO"), (0, "ATLAS_PATHS__REPORTS")]


def test_a_password_in_a_refused_address_is_not_shown(write: Callable[[str], Path]) -> None:
    in_file = problems_of(write("persistence: {database: 'mysql://root:hunter2@h/d'}"))
    in_variable = problems_of(write(""), ATLAS_PERSISTENCE__DATABASE="mysql://root:hunter2@h/d")
    assert "hunter2" not in str([*in_file, *in_variable])


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("scheduler:\n  max_workers: 1\n  max_workers: 2", 2, "again in line 3"),
        ("scheduler: {}\nlogging: {}\nscheduler: {}", 1, "again in line 3"),
        ("scheduler: [", 1, "not YAML"),
        ("scheduler:\n\tmax_workers: 1", 2, "not YAML"),
        ("- a\n- b", 0, "must hold sections"),
        ("just text", 0, "must hold sections"),
        ("a: 1\n---\nb: 2", 2, "not YAML"),
        ("a: !!python/object/apply:os.system [true]", 1, "not YAML"),
        ("a: " + "[" * 5000, 0, "nested too deeply"),
        ("a: " + "9" * 5000, 0, "not YAML"),
        ("a: 2026-13-45", 0, "not YAML"),
        (b"a: \xff\xfe", 0, "not UTF-8"),
        (b"a: \x00", 0, "not YAML"),
        ("#" * 1_000_001, 0, "over 1 MB"),
    ],
    ids=range(14),
)
def test_a_file_that_cannot_be_read_is_one_clear_problem(
    text: str | bytes, line: int, said: str, write: Callable[[str | bytes], Path]
) -> None:
    file = write(text)
    (problem,) = problems_of(file)
    assert (problem.file, problem.line) == (file, line)
    assert said in problem.message


def test_aliases_that_unfold_to_billions_are_read_in_no_time(write: Callable[[str], Path]) -> None:
    rows = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    assert all("unknown key" in problem.message for problem in problems_of(write("\n".join(rows))))


@pytest.mark.parametrize("name", ["missing.yaml", "."], ids=["missing", "folder"])
def test_a_named_file_must_be_there(name: str, tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path / name)
    assert problem.file == tmp_path / name
    assert "cannot be read" in problem.message


# --- folders ---------------------------------------------------------------------------------------------------------


def test_folders_are_made_for_this_user_alone(tmp_path: Path) -> None:
    settings = Settings().anchored(tmp_path / "new")
    made = prepare_folders(settings)
    assert set(made) == {tmp_path / "new" / name for name in ("", "data", "logs", "reports")}
    assert {folder.stat().st_mode & 0o777 for folder in made} == {0o700}
    assert prepare_folders(settings) == ()


def test_a_folder_that_was_there_keeps_its_rights(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o750)
    prepare_folders(Settings().anchored(tmp_path))
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o750


def test_a_folder_that_cannot_be_made_names_its_key(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"logging\.file"):
        prepare_folders(Settings().anchored(tmp_path))


def test_a_database_address_needs_no_folder(tmp_path: Path) -> None:
    settings = Settings.model_validate({"persistence": {"database": "postgresql://h/d", "status_file": None}})
    assert tmp_path / "data" not in prepare_folders(settings.anchored(tmp_path))

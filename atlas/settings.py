"""What an installation sets: ``config/config.yaml``, overridden by ``ATLAS_*`` variables, as frozen `Settings`.

::

    config/config.yaml ──► located data ──┐
                                          ├──► Settings (checked, frozen, paths absolute)
    ATLAS_SCHEDULER__MAX_WORKERS=4 ───────┘    or one ConfigError with every problem and its place

Relative paths start at the project: the folder above a ``config/`` folder that holds the file, else the file's own
folder; without a file, the working directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from atlas.scheduler.errors import ConfigError, Problem
from atlas.scheduler.log_lines import REDACT
from atlas.settings_input.environment import FILE_VARIABLE, read_variables
from atlas.settings_input.problems import explain, unknown_key
from atlas.settings_input.values import (
    BindAddress,
    Count,
    Database,
    Duration,
    HeaderText,
    HostName,
    HttpUrl,
    PackageName,
    ProjectPath,
    ProxyAddress,
    Size,
    TimeLimit,
    UpperCase,
    UrlPrefix,
    ZoneName,
    is_loopback,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

DEFAULT_FILE: Final = Path("config/config.yaml")

_NAME = Annotated[str, Field(min_length=1, max_length=100)]


class _Section(BaseModel):
    """A part of the settings: no unknown key, no change after loading. Descriptions are shown with a bad value."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class SchedulerSettings(_Section):
    """How much runs at once, and what holds for a task whose job does not say otherwise."""

    max_workers: Count = Field(10, ge=1, le=1000, description="tasks that run at once, 1–1000")
    task_timeout: TimeLimit | None = Field(600.0, description='longest attempt: seconds or "5m"; null: no limit')
    max_retries: Count = Field(3, ge=0, le=1000, description="retries after a failure, 0–1000")
    max_waiting: Count = Field(100_000, ge=1, description="tasks that may wait in the queue, at least 1")
    stop_grace: Duration = Field(5.0, description='time a cancelled function has to return: seconds or "5s"')
    drain_timeout: Duration = Field(30.0, description='time running tasks have at a stop: seconds or "30s"')
    timezone: ZoneName = Field("", description="zone of schedules, such as Asia/Shanghai; empty: this machine's")
    executor_limits: Mapping[Literal["thread", "process", "async"], Annotated[Count, Field(ge=1)]] = Field(
        {}, description="running tasks per executor (thread, process, async), below max_workers"
    )

    @property
    def limits(self) -> dict[str, int]:
        """`executor_limits` by plain names."""
        return {str(executor): limit for executor, limit in self.executor_limits.items()}


class PersistenceSettings(_Section):
    """Where tasks and history are kept, and how long."""

    database: Database = Field(Path("data/atlas.db"), repr=False, description="SQLite file, or postgresql://… address")
    durability: Literal["full", "normal"] = Field(
        "full", description="full: fsync each commit; normal: power loss may lose the last ones"
    )
    start_wait: Duration = Field(
        300.0, description='how long `atlas serve` waits for a database that does not answer yet: seconds or "5m"'
    )
    status_file: ProjectPath | None = Field(Path("data/task_status.json"), description="readable snapshot; null: none")
    queue_file: str | None = Field(None, description="accepted and ignored: the queue lives in the database")
    cron_config: ProjectPath = Field(Path("config/cron_jobs.json"), description="file with the jobs")
    keep_days: Count | None = Field(30, ge=1, description="days a finished task is kept; null: no limit by age")
    keep_tasks: Count | None = Field(100_000, ge=1, description="finished tasks kept; null: no limit by number")
    keep_log_days: Count | None = Field(14, ge=1, description="days a line that a task logged is kept; null: no limit")
    keep_log_lines: Count | None = Field(1_000_000, ge=1, description="lines of tasks kept; null: no limit by number")
    keep_audit_days: Count | None = Field(365, ge=1, description="days a line of the audit is kept; null: no limit")
    keep_audit_lines: Count | None = Field(100_000, ge=1, description="lines of the audit kept; null: no limit")
    keep_revision_days: Count | None = Field(
        None, ge=1, description="days a revision of the jobs file is kept, the one in force always; null: no limit"
    )
    keep_revisions: Count | None = Field(
        200, ge=1, description="revisions of the jobs file kept; null: no limit by number"
    )
    keep_article_days: Count | None = Field(365, ge=1, description="days an article is kept; null: no limit by age")
    keep_articles: Count | None = Field(200_000, ge=1, description="articles kept; null: no limit by number")
    keep_report_days: Count | None = Field(365, ge=1, description="days a daily report is kept; null: no limit by age")
    keep_reports: Count | None = Field(None, ge=1, description="days with a report kept; null: no limit by number")


class LoggingSettings(_Section):
    """Where log lines go and what they hide."""

    level: Annotated[Literal["TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"], UpperCase] = Field(
        "INFO", description="DEBUG, INFO, WARNING or ERROR"
    )
    file: ProjectPath | None = Field(Path("logs/scheduler.log"), description="log file; null: none")
    json_file: ProjectPath | None = Field(None, description="the same lines as JSON objects; null: none")
    rotation: Size = Field(
        ByteSize(20_000_000), ge=10_000, description='size at which a new file begins, such as "20 MB"'
    )
    retention: TimeLimit = Field(14 * 86_400.0, description='how long old files are kept, such as "14 days"')
    redact: tuple[re.Pattern[str], ...] = Field(
        REDACT,
        description="regular expressions; what the first group matches is hidden, without a group the whole match",
    )

    log_max_bytes: Size = Field(
        ByteSize(1_000_000), ge=0, description='most that is kept of what one task logs, such as "1 MB"; 0: nothing'
    )
    prints: bool = Field(False, description="keep what tasks print to stdout as well")


class FunctionSettings(_Section):
    """Which functions a jobs file may name."""

    allow: tuple[PackageName, ...] = Field((), description='packages whose functions jobs may name: ["atlas_app.jobs"]')


class Source(_Section):
    """One place news comes from."""

    name: _NAME = Field(description="name of the source, unique, up to 100 characters")
    url: HttpUrl = Field(description="http or https address")
    type: Literal["rss", "web"] = Field("rss", description="rss (RSS, Atom, RDF) or web (pages)")
    enabled: bool = Field(True, description="false: leave it out")


class CollectSettings(_Section):
    """What is collected, and how politely."""

    sources: tuple[Source, ...] = Field((), description="list of name, url, type and enabled")
    concurrency: Count = Field(8, ge=1, le=100, description="sources read at once, 1–100")
    per_host: Count = Field(2, ge=1, le=100, description="requests to one host at once, 1–100")
    max_pages: Count = Field(20, ge=1, le=500, description="new pages of one index page (type web) read at once, 1–500")
    timeout: TimeLimit = Field(30.0, description='longest read of one source: seconds or "30s"')
    max_bytes: Size = Field(ByteSize(10_000_000), ge=1000, description='largest answer read, such as "10 MB"')
    user_agent: HeaderText = Field("AtlasScheduler", description="how we name ourselves to servers")
    allow_hosts: tuple[HostName, ...] = Field((), description="hosts with private addresses that may be read")

    @property
    def collected(self) -> list[str]:
        """Names of the sources that are collected."""
        return [source.name for source in self.sources if source.enabled]

    @field_validator("sources")
    @classmethod
    def _named_once(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        names = [source.name for source in sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are named {twice[0]!r}")
        return sources


class WebSettings(_Section):
    """The pages and the HTTP API (extra ``web``)."""

    enabled: bool = Field(True, description="false: no pages, no API")
    port: Count = Field(8787, ge=0, le=65_535, description="port to listen on, 0–65535; 0: any that is free")
    token_file: ProjectPath | None = Field(
        Path("data/web_token"), description="file with the sign-in token, made at the first start; null: no sign-in"
    )
    host: BindAddress = Field("127.0.0.1", description="address to listen on; 127.0.0.1: this machine alone")
    read_only: bool = Field(False, description="true: nothing can be changed over HTTP")
    allowed_hosts: tuple[HostName, ...] = Field((), description="names of this site, such as atlas.example.org")
    trusted_proxies: tuple[ProxyAddress, ...] = Field(
        ("127.0.0.1", "::1"), description="addresses or networks of reverse proxies that say who asks, and by https"
    )
    root_path: UrlPrefix = Field(
        "", max_length=200, description="prefix under which a reverse proxy shows it, such as /scheduler"
    )

    @field_validator("host")
    @classmethod
    def _guarded(cls, host: str, info: ValidationInfo) -> str:
        if info.data.get("token_file") is None and not is_loopback(host):
            raise ValueError("it lets other machines in, so a token is needed: name a token_file, or write 127.0.0.1")
        return host


class PathSettings(_Section):
    """Where finished documents go."""

    reports: ProjectPath = Field(Path("reports"), description="folder for daily reports")


class Settings(BaseModel):
    """Everything an installation sets. Made by `load_settings`; made directly it knows no file and no environment."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    scheduler: SchedulerSettings = SchedulerSettings()
    persistence: PersistenceSettings = PersistenceSettings()
    logging: LoggingSettings = LoggingSettings()
    functions: FunctionSettings = FunctionSettings()
    collect: CollectSettings = CollectSettings()
    web: WebSettings = WebSettings()
    paths: PathSettings = PathSettings()

    _file: Path | None = PrivateAttr(default=None)
    _root: Path = PrivateAttr(default_factory=Path.cwd)

    @property
    def file(self) -> Path | None:
        """The file that was read, or None."""
        return self._file

    @property
    def root(self) -> Path:
        """The folder relative paths started at."""
        return self._root

    def anchored(self, root: Path, *, file: Path | None = None) -> Self:
        """The same settings with every path made absolute, below ``root`` where it was relative."""
        sections: dict[str, _Section] = {}
        for name, section in self:
            paths = {key: root / value for key, value in section if isinstance(value, Path)}
            sections[name] = section.model_copy(update=paths)
        copy = self.model_copy(update=sections)
        copy._root, copy._file = root, file  # noqa: SLF001 - our own class
        return copy


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in ``path`` with the ``ATLAS_*`` variables of ``environ`` over them, checked, paths absolute.

    Without ``path`` that is the file named by ``ATLAS_CONFIG``, else ``config/config.yaml`` if there is one. A variable
    names one key, ``ATLAS_<SECTION>__<KEY>``, in any case; lists are JSON, ``null`` is none.

    Raises:
        ConfigError: The file named is missing or cannot be read, a key or variable is unknown, or a value cannot be
            used; with every problem and its place.
    """
    from atlas.settings_input.yaml_file import LocatedYaml, read_yaml  # settings made directly read no file

    environ = os.environ if environ is None else environ
    named = path or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    file = named or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    document = read_yaml(file) if file else LocatedYaml(file=DEFAULT_FILE, data={})
    variables, problems = read_variables(environ, Settings)

    def located(error: ErrorDetails) -> Problem:
        message, place = explain(error, Settings), tuple(step for step in error["loc"] if step != "[key]")
        for variable in reversed(variables):
            if variable.place == place[: len(variable.place)]:
                return variable.problem(message, inner=place[len(variable.place) :])
        return document.problem(place, message, with_key=error["type"] == "extra_forbidden")

    data = {key: value for key, value in document.data.items() if value is not None}  # a section with comments only
    for variable in variables:
        data = _replaced(data, variable.place, variable.value)
    strays = [key for key in data if key not in Settings.model_fields]
    problems += [document.problem((key,), unknown_key((key,), Settings), with_key=True) for key in strays]
    settings = Settings()
    try:
        settings = Settings(**{key: value for key, value in data.items() if key not in strays})
    except ValidationError as error:
        problems += [located(detail) for detail in error.errors(include_url=False)]
    if problems:
        raise ConfigError(sorted(problems, key=lambda found: (found.file == "environment", found.line, found.column)))
    return settings.anchored(_root_of(file), file=file)


def prepare_folders(settings: Settings) -> tuple[Path, ...]:
    """The folders that had to be made for what ``settings`` names, each open to this user alone.

    Folders that were there keep their rights.

    Raises:
        ConfigError: A folder cannot be made.
    """
    made: list[Path] = []
    files = {
        "persistence.database": settings.persistence.database,
        "persistence.status_file": settings.persistence.status_file,
        "logging.file": settings.logging.file,
        "logging.json_file": settings.logging.json_file,
    }
    folders = {key: file.parent for key, file in files.items() if isinstance(file, Path)}
    for key, folder in {**folders, "paths.reports": settings.paths.reports}.items():
        try:
            for part in (*reversed(folder.parents), folder):
                if not part.is_dir():
                    part.mkdir(mode=0o700, exist_ok=True)
                    made.append(part)
        except OSError as error:
            message = f"its folder cannot be made: {error.strerror}"
            raise ConfigError([Problem(file=settings.file, path=key, value=str(folder), message=message)]) from error
    return tuple(made)


def _replaced(data: Mapping[str, Any], place: Sequence[str | int], value: object) -> dict[str, Any]:
    """A copy of ``data`` with ``value`` at ``place``; unchanged where something other than a mapping is in the way."""
    key, *inner = map(str, place)
    if inner:
        below = data.get(key) or {}
        value = _replaced(below, inner, value) if isinstance(below, Mapping) else below
    return {**data, key: value}


def _root_of(file: Path | None) -> Path:
    """The folder relative paths start at."""
    if file is None:
        return Path.cwd()
    folder = file.absolute().parent
    return folder.parent if folder.name == "config" else folder

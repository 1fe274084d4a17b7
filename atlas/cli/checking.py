"""The commands about the jobs file: ``check`` says what is wrong with it, ``schema`` describes it to editors."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.cli.exits import Exit
from atlas.cli.installation import quiet_logs, settings_of
from atlas.cli.tables import Cell, print_json, say
from atlas.scheduler.errors import ConfigError
from atlas.scheduler.jobs_file.format import schema_text
from atlas.scheduler.jobs_file.parsing import parse_jobs
from atlas.scheduler.jobs_file.text import decode_jobs_text, read_jobs_bytes
from atlas.scheduler.log_lines import one_line
from atlas.scheduler.reconcile.advice import advise

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from atlas.scheduler.errors import Problem
    from atlas.scheduler.jobs_file.parsing import JobsFile
    from atlas.scheduler.registry import Registry
    from atlas.service import AtlasScheduler
    from atlas.settings import Settings

STYLES = {"error": "bold red", "warning": "yellow"}


def check(args: argparse.Namespace) -> int:
    """Load the file as a scheduler would; print everything found; apply nothing."""
    settings = settings_of(args)
    file = Path(args.file) if args.file else shown_file(settings.persistence.cron_config)
    with quiet_logs(verbose=args.verbose):
        raw, loaded, problems = _load(file, settings, or_pipe=bool(args.file))
    errors = sum(problem.severity == "error" for problem in problems)
    if args.json:
        told = [problem.to_json() for problem in problems]
        print_json(
            {"file": str(file), "ok": not errors, "jobs": list(loaded.definitions) if loaded else [], "problems": told}
        )
        return Exit.USAGE if errors else Exit.OK
    text = raw.decode("utf-8-sig", errors="replace").split("\n") if raw else ()
    for problem in problems:
        _print_problem(problem, text)
    found = ", ".join(
        f"{count} {word}{'s' * (count != 1)}"
        for word, count in (("error", errors), ("warning", len(problems) - errors))
        if count
    )
    jobs = f"{len(loaded.definitions):,} job{'s' * (len(loaded.definitions) != 1)}" if loaded else ""
    if errors:
        say(Cell(f"{found} in {file}. Nothing was applied.", "dim"))
        return Exit.USAGE
    say(Cell(f"{file}: {jobs}, {found or 'no problems'}. Nothing was applied.", "dim"))
    return Exit.OK


def schema(_args: argparse.Namespace) -> int:
    """The JSON Schema of the jobs file."""
    print(schema_text(), end="")
    return Exit.OK


def _load(file: Path, settings: Settings, *, or_pipe: bool) -> tuple[bytes, JobsFile | None, Sequence[Problem]]:
    """The bytes of the file, its jobs if it can be used, and what there is to say about it; a pipe is read once."""
    raw = b""
    try:
        raw = read_jobs_bytes(file, or_pipe=or_pipe)
        return raw, *read_wanted(decode_jobs_text(raw, file=file), file, settings)
    except ConfigError as error:
        return raw, None, error.problems


def _print_problem(problem: Problem, text: Sequence[str]) -> None:
    """``file:line:column severity path: message``, and the line it is about."""
    where = str(problem.file or "")
    where += f":{problem.line}:{problem.column}" if problem.line else ""
    what = ": ".join(part for part in (problem.path, problem.value, problem.message) if part)
    say(Cell(where, "bold"), " ", Cell(problem.severity, STYLES[problem.severity]), " ", what)
    if not 0 < problem.line <= len(text):
        return
    from rich.cells import cell_len

    line = text[problem.line - 1].replace("\t", " ")
    start = max(0, problem.column - 61)  # a line of ten thousand characters is shown around its fault
    shown, before = one_line(line[start : start + 120]), one_line(line[start : max(start, problem.column - 1)])
    say(Cell(f"{problem.line:>8} │ ", "dim"), shown)
    say(
        Cell(f"{'':>8} │ ", "dim"),
        " " * cell_len(before),
        Cell("^" * _width(problem, len(shown) - len(before)), STYLES[problem.severity]),
    )


def _width(problem: Problem, room: int) -> int:
    from rich.cells import cell_len

    return max(1, min(cell_len((problem.value or "").splitlines()[0]) if problem.value else 1, room))


def shown_file(file: Path) -> Path:
    """The path as seen from here, where that is shorter."""
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def read_wanted(text: str, file: Path, settings: Settings) -> tuple[JobsFile, tuple[Problem, ...]]:
    """``text`` as a scheduler with these settings reads it, and all warnings.

    Raises:
        ConfigError: It cannot be used.
    """
    with functions_of(settings) as (atlas, registry):
        wanted = parse_jobs(text, file=file, defaults=atlas.policy_defaults(), registry=registry)
    scheduler = settings.scheduler
    advised = advise(wanted, file=file, now=datetime.now(UTC), slots=scheduler.max_workers, limits=scheduler.limits)
    return wanted, tuple(sorted((*wanted.warnings, *advised), key=lambda one: (one.line, one.column)))


@contextmanager
def functions_of(settings: Settings) -> Iterator[tuple[AtlasScheduler, Registry]]:
    """A scheduler that is never started, and the functions it would know."""
    from atlas.builtin.binding import bind_builtins
    from atlas.scheduler.store.store import open_store
    from atlas.service import AtlasScheduler

    atlas = AtlasScheduler(settings)
    store = open_store(None)  # the built-in functions want one; none of them is called
    try:
        bind_builtins(atlas.registry, store=store, settings=settings, health_source=atlas, clock=store.clock)
        yield atlas, atlas.registry
    finally:
        store.close()

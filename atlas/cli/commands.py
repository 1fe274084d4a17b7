"""The commands: their names, their help, their arguments, and which function does each."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from atlas import __version__
from atlas.cli.parsing import Parser, count, hours, limit, whole

if TYPE_CHECKING:
    from collections.abc import Callable

_EXIT_CODES: Final = """\
exit codes: 0 ok · 1 it ran and failed, or was refused · 2 usage or bad config · 3 no such thing
            4 --wait and no scheduler runs · 5 timed out waiting · 130 interrupted"""
_PRIORITIES: Final = ("URGENT", "HIGH", "NORMAL", "LOW")
_STATUSES: Final = ("PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELLED", "TIMEOUT", "RETRYING")


class Command(NamedTuple):
    """A command: its name, its line in the help, ``module:function`` that does it, and what adds arguments to it."""

    name: str
    help: str
    target: str
    arguments: tuple[Callable[[Parser], object], ...] = ()


def _takes(*names: str, **how: Any) -> Callable[[Parser], object]:
    """What adds an argument, as `argparse.ArgumentParser.add_argument` describes it."""
    return lambda parser: parser.add_argument(*names, **how)


def _several(parser: Parser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("jobs", nargs="*", default=[], metavar="JOB")
    which.add_argument("--all", action="store_true", help="every job, in the place of names")


def _end(parser: Parser) -> None:
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--until", metavar="T", help='end: "18:30", "2026-11-24T09:00", tomorrow')
    end.add_argument("--for", dest="length", type=limit, metavar="D", help='length: seconds, "2h", "3 days"')


def _shape(parser: Parser) -> None:
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--format", choices=("md", "html"), metavar="F", help="print it as md or html")
    shape.add_argument("--json", action="store_true", help="print where it is and its figures as JSON")


def _wait(*names: str) -> tuple[Callable[[Parser], object], ...]:
    return (
        _takes("--wait", action="store_true", help="wait for its end; the exit code is its outcome"),
        _takes(*names, dest="wait_timeout", type=limit, metavar="S", help='longest wait: seconds or "5m"'),
    )


_JSON: Final = _takes("--json", action="store_true", help="print JSON, times in UTC")
_JSON_ANYWAY: Final = _takes("--json", action="store_true", help="it is JSON anyway")
_JOB: Final = _takes("job", metavar="JOB")
_TASK: Final = _takes("task", metavar="TASK", help="its id")
_FILE: Final = _takes("file", nargs="?", metavar="FILE", help="a jobs file; by default the one of the settings")
_LIMIT: Final = _takes("--limit", type=count, default=20, metavar="N", help="the newest N (20)")
_TASKS: Final = (
    _takes("job", nargs="?", metavar="JOB", help="only those of this job"),
    _takes("--status", type=str.upper, choices=_STATUSES, metavar="S", help=" ".join(_STATUSES).lower()),
    _takes("--since", metavar="T", help='accepted since "2h" ago, "09:00", "2026-11-23", yesterday'),
    _LIMIT,
    _JSON,
)
_SUBMIT: Final = (
    _takes("function", metavar="FUNCTION", help="its registered name, or package.module:name"),
    _takes("arguments", nargs="*", default=[], metavar="ARG", help="JSON where it is JSON (5, true, [1]), else text"),
    _takes("--kwargs", metavar="JSON", help='keyword arguments: {"limit": 5}'),
    _takes("--priority", type=str.upper, choices=_PRIORITIES, metavar="P", help=" ".join(_PRIORITIES).lower()),
    _takes("--timeout", type=limit, metavar="S", help='longest attempt: seconds or "5m"'),
    _takes("--max-retries", type=whole, metavar="N", help="retries after a failure"),
    *_wait("--wait-timeout"),
    _JSON,
)
_EXPLAIN: Final = (
    _takes("what", nargs="+", metavar="EXPR|JOB", help='a cron expression such as "0 9 * * mon-fri", or a job'),
    _takes("--timezone", metavar="ZONE", help="zone of the expression; by default the one of the settings"),
    _takes("--count", type=count, default=3, metavar="N", help="how many of the next times (3)"),
    _JSON,
)
_DIFF: Final = (
    _takes("a", nargs="?", metavar="A", help="a revision's number, or 'file'; by default the one before"),
    _takes("b", nargs="?", metavar="B", help="another one; by default the one in force"),
    _JSON,
)
_AUDIT: Final = (
    _takes("subject", nargs="?", metavar="JOB|TASK", help="only what was done to this one"),
    _takes("--by", metavar="WHO", help='only by this one: "cli", "cli:root", "web", "api", "file", "code"'),
    _takes("--since", metavar="T", help='since "2h" ago, "09:00", "2026-11-23", yesterday'),
    _LIMIT,
    _JSON,
)
_REPORT: Final = (
    _takes("--day", default="yesterday", metavar="D", help='"yesterday" (default), "today", "2026-11-23"'),
    _takes("--lang", default="en", choices=("en", "zh"), metavar="L", help="en (default) or zh"),
    _shape,
)
_WHOLE_JOB: Final = _takes("job", nargs="?", metavar="JOB", help="show everything about this one")
_HOURS: Final = _takes("--hours", type=hours, default=24, metavar="N", help="how far to look (24), at most 8,784")
_REASON: Final = _takes("--reason", default="", metavar="TEXT", help="why, for whoever looks later")
_REVISION: Final = _takes("revision", type=count, metavar="N", help="the revision's number")
_THEN: Final = _takes("--at", metavar="T", help='then: "09:00", "2026-11-24T09:00"; by default the latest decision')
_FOLLOW: Final = _takes("-f", "--follow", action="store_true", help="go on until the task has ended")
_RUN: Final = (*_wait("--timeout", "--wait-timeout"), _JSON)


COMMANDS: Final = (
    Command("serve", "run the scheduler until Ctrl-C", "serving:serve"),
    Command("jobs", "every job: when next, how it went; or one in full", "listing:jobs", (_WHOLE_JOB, _JSON)),
    Command("tasks", "the newest tasks", "listing:tasks", _TASKS),
    Command("task", "one task: attempts, error, arguments, result", "details:task", (_TASK, _JSON)),
    Command("run", "run a job now", "acting:run", (_JOB, *_RUN)),
    Command("submit", "put a task of a registered function into the queue", "acting:submit", _SUBMIT),
    Command("cancel", "cancel a waiting or running task", "acting:cancel", (_TASK,)),
    Command("retry", "run a final task once more, as a new one", "acting:retry", (_TASK, *_RUN)),
    Command("pause", "let jobs make no tasks", "acting:pause", (_several, _REASON, _end)),
    Command("resume", "end the pause of jobs", "acting:resume", (_several,)),
    Command("check", "check a jobs file; nothing is applied", "checking:check", (_FILE, _JSON)),
    Command("plan", "what an edit of the jobs file would change", "planning:plan", (_FILE, _JSON)),
    Command("apply", "bring a jobs file into force", "planning:apply", (_FILE,)),
    Command("revisions", "the accepted versions of the jobs file", "revising:revisions", (_LIMIT, _JSON)),
    Command("diff", "what two revisions differ in", "revising:diff", _DIFF),
    Command("rollback", "bring an earlier revision back", "planning:rollback", (_REVISION,)),
    Command("why", "why a job ran, did not run, ran late or again", "reasons:why", (_JOB, _THEN, _JSON)),
    Command("explain", "a schedule in words, and its next times", "explaining:explain", _EXPLAIN),
    Command("audit", "who changed what, and when", "auditing:audit", _AUDIT),
    Command("logs", "what a task logged; -f while it runs", "logs:logs", (_TASK, _FOLLOW, _JSON)),
    Command("report", "what happened on a day, as a page and as Markdown", "reporting:report", _REPORT),
    Command("doctor", "is all well, and if not, what to do", "doctor:doctor", (_JSON,)),
    Command("forecast", "what starts when, and whether the slots are enough", "forecasting:show", (_HOURS, _JSON)),
    Command("schema", "the JSON Schema of the jobs file", "checking:schema", (_JSON_ANYWAY,)),
)


def _everywhere(*, config: str | None, verbose: bool | str) -> Parser:
    """The options that stand before a command or behind it, with their values where neither names them.

    Each level has its own: parsers that share them as parents share their defaults, too.
    """
    options = Parser(add_help=False)
    options.add_argument(
        "--config", default=config, metavar="FILE", help="settings (ATLAS_CONFIG, else config/config.yaml)"
    )
    options.add_argument("--verbose", action="store_true", default=verbose, help="log lines and tracebacks")
    return options


def make_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="atlas",
        description="Cron jobs and a durable task queue for the Atlas news collector.",
        epilog=_EXIT_CODES,
        parents=[_everywhere(config=None, verbose=False)],
    )
    parser.add_argument("--version", action="version", version=f"atlas {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    # A command sets these options only where they stand behind it: a default of its own would undo one before it.
    again = _everywhere(config=argparse.SUPPRESS, verbose=argparse.SUPPRESS)
    for command in COMMANDS:
        summary = command.help[0].upper() + command.help[1:] + "."
        one = commands.add_parser(command.name, help=command.help, description=summary, parents=[again])
        for add in command.arguments:
            add(one)
        one.set_defaults(command=command, parser=one)
    return parser

"""The commands: their names, their help, their arguments, and which function does each."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final, NamedTuple

from atlas import __version__
from atlas.cli.parsing import Parser, count, hours, limit, whole

if TYPE_CHECKING:
    from collections.abc import Callable

_EXIT_CODES: Final = """\
exit codes: 0 ok · 1 it ran and failed, or was refused · 2 usage or bad config · 3 no such thing
            4 --wait and no scheduler runs · 5 timed out waiting · 130 interrupted"""
_PRIORITIES: Final = ("URGENT", "HIGH", "NORMAL", "LOW")
_STATUSES: Final = ("PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELLED", "TIMEOUT", "RETRYING")


def _json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, times in UTC")


def _serve(_parser: Parser) -> None:
    pass


def _jobs(parser: Parser) -> None:
    parser.add_argument("job", nargs="?", metavar="JOB", help="show everything about this one")
    _json(parser)


def _tasks(parser: Parser) -> None:
    parser.add_argument("job", nargs="?", metavar="JOB", help="only those of this job")
    parser.add_argument("--status", type=str.upper, choices=_STATUSES, metavar="S", help=" ".join(_STATUSES).lower())
    parser.add_argument("--since", metavar="T", help='accepted since "2h" ago, "09:00", "2026-11-23", yesterday')
    parser.add_argument("--limit", type=count, default=20, metavar="N", help="the newest N (20)")
    _json(parser)


def _task(parser: Parser) -> None:
    parser.add_argument("task", metavar="TASK", help="its id")
    _json(parser)


def _run(parser: Parser) -> None:
    parser.add_argument("job", metavar="JOB")
    _waiting(parser, "--timeout", "--wait-timeout")
    _json(parser)


def _submit(parser: Parser) -> None:
    parser.add_argument("function", metavar="FUNCTION", help="its registered name, or package.module:name")
    parser.add_argument(
        "arguments", nargs="*", default=[], metavar="ARG", help="JSON where it is JSON (5, true, [1]), else text"
    )
    parser.add_argument("--kwargs", metavar="JSON", help='keyword arguments: {"limit": 5}')
    parser.add_argument(
        "--priority", type=str.upper, choices=_PRIORITIES, metavar="P", help=" ".join(_PRIORITIES).lower()
    )
    parser.add_argument("--timeout", type=limit, metavar="S", help='longest attempt: seconds or "5m"')
    parser.add_argument("--max-retries", type=whole, metavar="N", help="retries after a failure")
    _waiting(parser, "--wait-timeout")
    _json(parser)


def _waiting(parser: Parser, *names: str) -> None:
    parser.add_argument("--wait", action="store_true", help="wait for its end; the exit code is its outcome")
    parser.add_argument(*names, dest="wait_timeout", type=limit, metavar="S", help='longest wait: seconds or "5m"')


def _cancel(parser: Parser) -> None:
    parser.add_argument("task", metavar="TASK", help="its id")


def _retry(parser: Parser) -> None:
    parser.add_argument("task", metavar="TASK", help="its id")
    _waiting(parser, "--timeout", "--wait-timeout")
    _json(parser)


def _several(parser: Parser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("jobs", nargs="*", default=[], metavar="JOB")
    which.add_argument("--all", action="store_true", help="every job, in the place of names")


def _pause(parser: Parser) -> None:
    _several(parser)
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for whoever looks later")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--until", metavar="T", help='end: "18:30", "2026-11-24T09:00", tomorrow')
    end.add_argument("--for", dest="length", type=limit, metavar="D", help='length: seconds, "2h", "3 days"')


def _resume(parser: Parser) -> None:
    _several(parser)


def _check(parser: Parser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="a jobs file; by default the one of the settings")
    _json(parser)


def _explain(parser: Parser) -> None:
    parser.add_argument(
        "what", nargs="+", metavar="EXPR|JOB", help='a cron expression such as "0 9 * * mon-fri", or a job'
    )
    parser.add_argument("--timezone", metavar="ZONE", help="zone of the expression; by default the one of the settings")
    parser.add_argument("--count", type=count, default=3, metavar="N", help="how many of the next times (3)")
    _json(parser)


def _forecast(parser: Parser) -> None:
    parser.add_argument("--hours", type=hours, default=24, metavar="N", help="how far to look (24), at most 8,784")
    _json(parser)


def _schema(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="it is JSON anyway")


def _file(parser: Parser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="a jobs file; by default the one of the settings")


def _plan(parser: Parser) -> None:
    _file(parser)
    _json(parser)


def _revisions(parser: Parser) -> None:
    parser.add_argument("--limit", type=count, default=20, metavar="N", help="the newest N (20)")
    _json(parser)


def _diff(parser: Parser) -> None:
    parser.add_argument("a", nargs="?", metavar="A", help="a revision's number, or 'file'; by default the one before")
    parser.add_argument("b", nargs="?", metavar="B", help="another one; by default the one in force")
    _json(parser)


def _rollback(parser: Parser) -> None:
    parser.add_argument("revision", type=count, metavar="N", help="the revision's number")


def _why(parser: Parser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("--at", metavar="T", help='then: "09:00", "2026-11-24T09:00"; by default the latest decision')
    _json(parser)


def _audit(parser: Parser) -> None:
    parser.add_argument("subject", nargs="?", metavar="JOB|TASK", help="only what was done to this one")
    parser.add_argument("--by", metavar="WHO", help='only by this one: "cli", "cli:root", "web", "api", "file", "code"')
    parser.add_argument("--since", metavar="T", help='since "2h" ago, "09:00", "2026-11-23", yesterday')
    parser.add_argument("--limit", type=count, default=20, metavar="N", help="the newest N (20)")
    _json(parser)


def _logs(parser: Parser) -> None:
    parser.add_argument("task", metavar="TASK", help="its id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the task has ended")
    _json(parser)


def _report(parser: Parser) -> None:
    parser.add_argument("--day", default="yesterday", metavar="D", help='"yesterday" (default), "today", "2026-11-23"')
    parser.add_argument("--lang", default="en", choices=("en", "zh"), metavar="L", help="en (default) or zh")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--format", choices=("md", "html"), metavar="F", help="print it as md or html")
    shape.add_argument("--json", action="store_true", help="print where it is and its figures as JSON")


def _doctor(parser: Parser) -> None:
    _json(parser)


class Command(NamedTuple):
    """A command: its name, its line in the help, its arguments and ``module:function`` that does it."""

    name: str
    help: str
    arguments: Callable[[Parser], None]
    target: str


COMMANDS: Final = (
    Command("serve", "run the scheduler until Ctrl-C", _serve, "atlas.cli.serving:serve"),
    Command("jobs", "every job: when next, how it went; or one in full", _jobs, "atlas.cli.listing:jobs"),
    Command("tasks", "the newest tasks", _tasks, "atlas.cli.listing:tasks"),
    Command("task", "one task: attempts, error, arguments, result", _task, "atlas.cli.details:task"),
    Command("run", "run a job now", _run, "atlas.cli.acting:run"),
    Command("submit", "put a task of a registered function into the queue", _submit, "atlas.cli.acting:submit"),
    Command("cancel", "cancel a waiting or running task", _cancel, "atlas.cli.acting:cancel"),
    Command("retry", "run a final task once more, as a new one", _retry, "atlas.cli.acting:retry"),
    Command("pause", "let jobs make no tasks", _pause, "atlas.cli.acting:pause"),
    Command("resume", "end the pause of jobs", _resume, "atlas.cli.acting:resume"),
    Command("check", "check a jobs file; nothing is applied", _check, "atlas.cli.checking:check"),
    Command("plan", "what an edit of the jobs file would change", _plan, "atlas.cli.planning:plan"),
    Command("apply", "bring a jobs file into force", _file, "atlas.cli.planning:apply"),
    Command("revisions", "the accepted versions of the jobs file", _revisions, "atlas.cli.revising:revisions"),
    Command("diff", "what two revisions differ in", _diff, "atlas.cli.revising:diff"),
    Command("rollback", "bring an earlier revision back", _rollback, "atlas.cli.planning:rollback"),
    Command("why", "why a job ran, did not run, ran late or again", _why, "atlas.cli.reasons:why"),
    Command("explain", "a schedule in words, and its next times", _explain, "atlas.cli.explaining:explain"),
    Command("audit", "who changed what, and when", _audit, "atlas.cli.auditing:audit"),
    Command("logs", "what a task logged; -f while it runs", _logs, "atlas.cli.logs:logs"),
    Command("report", "what happened on a day, as a page and as Markdown", _report, "atlas.cli.reporting:report"),
    Command("doctor", "is all well, and if not, what to do", _doctor, "atlas.cli.doctor:doctor"),
    Command("forecast", "what starts when, and whether the slots are enough", _forecast, "atlas.cli.forecasting:show"),
    Command("schema", "the JSON Schema of the jobs file", _schema, "atlas.cli.checking:schema"),
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
        command.arguments(one)
        one.set_defaults(command=command, parser=one)
    return parser

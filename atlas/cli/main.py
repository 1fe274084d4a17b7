"""`main`: the command ``atlas``. Parsing imports nothing heavy; each command imports what it needs when it runs."""

from __future__ import annotations

import importlib
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from atlas.cli.commands import make_parser
from atlas.cli.stdout import close_stdout, flushed, never_fail_to_print

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Do what ``argv`` (by default the process's own arguments) says, and return the exit code."""
    never_fail_to_print()
    given = sys.argv[1:] if argv is None else list(argv)
    try:
        args = parse(given)
    except SystemExit as stop:  # --help, --version, or wrong usage, which was explained
        return flushed(stop.code if isinstance(stop.code, int) else 2)
    return perform(args.command.target, args)


def perform(target: str, args: argparse.Namespace) -> int:
    """Call ``module:function`` of `atlas.cli` with ``args``; every error becomes a message and an exit code."""
    never_fail_to_print()
    try:
        module, _, function = target.partition(":")
        command: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(f"atlas.cli.{module}"), function)
        return flushed(int(command(args)))
    except BrokenPipeError:  # whoever read us, such as `head`, has seen enough
        close_stdout()
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last line of defence: no traceback for users
        from atlas.cli.exits import explain_error

        with suppress(BrokenPipeError):
            return int(explain_error(error, verbose=args.verbose))
        return 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments in ``argv``.

    Raises:
        SystemExit: They ask for help or the version (0), or are wrong (2); either way it was said.
    """
    parser = make_parser()
    for word in argv:
        if not word.isprintable() and re.search("[\ud800-\udfff]", word):
            parser.error(f"this argument is not UTF-8: {os.fsencode(word)!r}")
    # argparse ends ARG… at the first option and is of two minds about "--", so both are seen to here.
    cut = argv.index("--") if "submit" in argv and "--" in argv else len(argv)
    args, extra = parser.parse_known_args(argv[:cut])
    if args.command.name == "submit" and not any(word.startswith("--") for word in extra):
        args.arguments, extra = [*args.arguments, *extra, *argv[cut + 1 :]], []
    if extra:
        args.parser.refuse_extra(extra)
    return args


if __name__ == "__main__":
    sys.exit(main())

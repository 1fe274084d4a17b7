"""The parser of command lines, and the kinds of argument it reads. Imports nothing heavy."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence


class Parser(argparse.ArgumentParser):
    """A parser that proposes the nearest name, and takes no option by half its name."""

    def __init__(self, **options: object) -> None:
        """As `argparse.ArgumentParser`."""
        super().__init__(**{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **options})  # type: ignore[arg-type]

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As `argparse.ArgumentParser.parse_args`; an unknown option is refused with the nearest name."""
        found, extra = self.parse_known_args(args, namespace)
        if extra:
            self.refuse_extra(extra)
        return found

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, with the nearest name, and exit 2."""
        from atlas.scheduler.nearest import did_you_mean

        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        if choice:
            names = re.findall(r"[\w-]+", choice[2])
            hint = did_you_mean(choice[1], names) or f"; choose from {', '.join(names)}"
            message = f"there is no {choice[1]!r}{hint}"
        self.exit(2, f"{self.prog}: {message} ('{self.prog} --help' explains)\n")

    def refuse_extra(self, extra: Sequence[str]) -> NoReturn:
        """Exit 2 over arguments that nothing takes."""
        from atlas.scheduler.nearest import did_you_mean

        option = next((word for word in extra if word.startswith("-")), None)
        if option is None:
            self.error(f"one argument too many: {extra[0]!r}")
        known = [name for action in self._actions for name in action.option_strings]
        name = option.partition("=")[0]
        self.error(f"there is no option {name!r}{did_you_mean(name, known)}")


# --- kinds of argument -----------------------------------------------------------------------------------------------


def whole(text: str) -> int:
    """A whole number from 0."""
    try:
        number = int(text) if text.isascii() else -1
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return number


def count(text: str) -> int:
    """A whole number from 1 to a million."""
    number = whole(text)
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not in 1 to 1,000,000")
    return number


def hours(text: str) -> int:
    """A whole number of hours, from 1 to a leap year."""
    number = whole(text)
    if not 1 <= number <= 8_784:
        raise argparse.ArgumentTypeError(f"{text!r} is not in 1 to 8,784 (a year)")
    return number


def limit(text: str) -> float:
    """Seconds above 0, as a number or such as ``5m``."""
    from atlas.scheduler.durations import parse_duration
    from atlas.scheduler.errors import ArgumentsError

    try:
        seconds = parse_duration(text)
    except ArgumentsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds == 0:
        raise argparse.ArgumentTypeError("0 is no usable length; leave it out for none")
    return seconds

"""Cron text to sets of numbers: which seconds, minutes, hours, days, months and weekdays are meant.

The reference is Debian's cron (crontab(5), entry.c): five fields, or six with seconds first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NoReturn

from atlas.scheduler.errors import CronExpressionError
from atlas.scheduler.message import Message
from atlas.scheduler.nearest import nearest

MAX_LENGTH: Final = 1000
"""Longest text that is read, characters; every field spelt out in full takes about 600."""

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

MONTH_NAMES: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAY_NAMES: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LONGEST_MONTH: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_REFUSED: Final = {
    "?": Message("? is not cron; write * for any"),
    "#": Message(
        "the nth weekday of a month (#) is not supported; fire on each of them and let the job look at the date"
    ),
    "L": Message("last (L) is not supported; the first of the next month can be written"),
    "W": Message("the nearest weekday (W) is not supported; write mon-fri, or list the days"),
    "H": Message("a hashed value (H) is not supported; give the job a spread instead"),
    "~": Message("a random value (~) is not supported; give the job a spread instead"),
}
_FOREIGN: Final = re.compile(r"(?:\d*|[A-Z]{3})([LWH])(?:W|\W.*)?|.*?([?#~]).*")
_NUMBER: Final = re.compile(r"[0-9]+")
_TOKEN: Final = re.compile(r"[^ \t]+")


@dataclass(frozen=True, slots=True)
class FieldKind:
    """One of the six fields: its name, bounds, the names its values have, and an example for hints."""

    name: str
    plural: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    example: str = Message("0, 10-20 or */15")

    @property
    def allowed(self) -> str:
        """The range in words: ``minutes are 0–59``."""
        also = Message(" or {first}–{last}", first=self.names[0], last=self.names[-1]) if self.names else ""
        return Message("{what} are {low}–{high}{also}", what=self.plural, low=self.low, high=self.high, also=also)

    def value(self, word: str) -> int | None:
        """The number that a name stands for, None when it is not one of this field's."""
        return self.names.index(word) + min(self.low, 1) if word in self.names else None


SECOND: Final = FieldKind(Message("second"), Message("seconds"), 0, 59)
MINUTE: Final = FieldKind(Message("minute"), Message("minutes"), 0, 59)
HOUR: Final = FieldKind(Message("hour"), Message("hours"), 0, 23, example=Message("0, 9-17 or */4; midnight is 0"))
DAY: Final = FieldKind(Message("day of month"), Message("days of a month"), 1, 31, example=Message("1, 1-15 or */2"))
MONTH: Final = FieldKind(Message("month"), Message("months"), 1, 12, MONTH_NAMES, example=Message("1, jan-mar or */3"))
WEEKDAY: Final = FieldKind(
    Message("weekday"),
    Message("weekdays (days of the week, Sunday is 0 and 7)"),
    0,
    7,
    WEEKDAY_NAMES,
    example=Message("1, mon-fri or sat,sun"),
)
KINDS: Final = (SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY)


@dataclass(frozen=True, slots=True)
class CronFields:
    """What a cron text means, every tuple ascending and never empty.

    Attributes:
        text: The text, lower case, with single blanks.
        weekdays: 0 is Sunday, 6 Saturday.
        wildcard: Minute or hour begins with ``*``: the job follows the wall clock through clock changes.
        either_day: Neither day field begins with ``*``: a day counts if one of the two fields takes it. Otherwise
            both must.
    """

    text: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    wildcard: bool
    either_day: bool

    def days_by_first_weekday(self) -> tuple[int, ...]:
        """For months that begin on Sunday, Monday …: bit n is set if day n counts, should the month be so long."""
        return _days_by_first_weekday(self.days, self.weekdays, self.either_day)


@lru_cache(maxsize=1024)
def _days_by_first_weekday(days: tuple[int, ...], weekdays: tuple[int, ...], either: bool) -> tuple[int, ...]:  # noqa: FBT001
    by_date = sum(1 << day for day in days)
    masks = []
    for first in range(7):
        by_weekday = sum(1 << day for day in range(1, 32) if (first + day - 1) % 7 in weekdays)
        masks.append(by_date | by_weekday if either else by_date & by_weekday)
    return tuple(masks)


@lru_cache(maxsize=1024)
def _shared(values: tuple[int, ...]) -> tuple[int, ...]:
    """One tuple for equal ones: ten thousand expressions mostly differ in one field."""
    return values


def parse_fields(expression: str) -> CronFields:
    """The meaning of ``expression``.

    Raises:
        CronExpressionError: It is not a cron text, or one that never fires; names field, token and what is allowed.
    """
    if not isinstance(expression, str):
        # Values of JSON and YAML come here before anything has looked at their types.
        kind = type(expression).__name__  # type: ignore[unreachable]
        msg = Message("a cron expression is text such as '0 9 * * mon-fri', not {kind}", kind=kind)
        raise CronExpressionError(str(expression), msg)
    tokens = _split(expression)
    words = [token for token, _ in tokens]
    text = " ".join(words).lower()
    if words[0].startswith("@"):
        return _fields(expression, text, [(word, 0) for word in _alias(expression, text).split()])
    return _fields(expression, text, tokens)


def _split(expression: str) -> list[tuple[str, int]]:
    """The fields with their positions, one for an alias."""
    if len(expression) > MAX_LENGTH:
        msg = Message(
            "{n} characters are too many for a cron expression; the limit is {most}",
            n=f"{len(expression):,}",
            most=f"{MAX_LENGTH:,}",
        )
        raise CronExpressionError(expression[:60] + "…", msg)
    tokens = [(found[0], found.start()) for found in _TOKEN.finditer(expression.rstrip("\r\n"))]
    for token, offset in tokens:
        if strange := next((char for char in token if char.isspace() or not char.isprintable()), None):
            msg = Message("character {one} is no separator; put plain blanks between the fields", one=f"{strange!a}")
            raise CronExpressionError(expression, msg, token=strange, offset=offset + token.index(strange))
    if tokens and (tokens[0][0].startswith("@") or len(tokens) in {5, 6}):
        return tokens
    five = Message("five are needed (minute hour day month weekday), or six with seconds first")
    if len(tokens) == 7:
        msg = Message("7 fields; {five}; a year cannot be given: use start_at and end_at", five=five)
    elif len(tokens) == 1:
        msg = Message("1 field; {five}", five=five)
    elif tokens:
        msg = Message("{n} fields; {five}", n=len(tokens), five=five)
    else:
        msg = Message("the text is empty; {five}", five=five)
    raise CronExpressionError(expression, msg)


def _alias(expression: str, text: str) -> str:
    """The five fields an alias stands for."""
    if text in ALIASES:
        return ALIASES[text]
    word = text.split(maxsplit=1)[0]
    if word == "@reboot":
        hint = Message("it names no time: start the work where the program starts")
    elif word == "@every":
        hint = Message('use a trigger {{"type": "interval", "every": "5m"}}, or */5 in the minute field')
    else:
        meant = nearest(word, ALIASES)
        known = Message("known are {names}", names=", ".join(ALIASES))
        hint = known if meant is None else Message("did you mean {name}?", name=meant)
    msg = Message("{text} is not supported; {hint}", text=repr(text[:60]), hint=hint)
    raise CronExpressionError(expression, msg, token=text, offset=expression.index("@"))


def _fields(expression: str, text: str, tokens: list[tuple[str, int]]) -> CronFields:
    """The six sets, and what the stars say."""
    if len(tokens) == 5:
        tokens = [("0", 0), *tokens]
    sets = [_Reader(expression, kind, offset).field(token) for kind, (token, offset) in zip(KINDS, tokens, strict=True)]
    _, minute, hour, day, _, weekday = (token for token, _ in tokens)
    days, months, weekdays = sets[3], sets[4], _shared(tuple(sorted({value % 7 for value in sets[5]})))
    either_day = not (day.startswith("*") or weekday.startswith("*"))
    longest = max(LONGEST_MONTH[month - 1] for month in months)
    if days[0] > longest and not either_day:
        msg = Message(
            "never fires: day of month {day} does not come in month {month}, which has at most {longest} days;"
            " days of a month are 1–31, did you mean {longest}?",
            day=day,
            month=tokens[4][0],
            longest=longest,
        )
        raise CronExpressionError(expression, msg, field=DAY.name, token=day, offset=tokens[3][1])
    wildcard = minute.startswith("*") or hour.startswith("*")
    return CronFields(text, sets[0], sets[1], sets[2], days, months, weekdays, wildcard, either_day)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one field, and knows where it stands for its errors."""

    expression: str
    kind: FieldKind
    offset: int

    def field(self, text: str) -> tuple[int, ...]:
        """The values of a whole field."""
        values: set[int] = set()
        at = 0
        for item in text.split(","):
            if not item:
                self.refuse(text, 0, Message("has an empty item in its list; take the extra comma out"))
            values.update(self.item(item, at))
            at += len(item) + 1
        return _shared(tuple(sorted(values)))

    def item(self, item: str, at: int) -> range:
        """The values of ``*``, ``5``, ``5-9``, each with ``/step`` or without."""
        span, slash, step_text = item.partition("/")
        step = 1
        if slash:
            if not _NUMBER.fullmatch(step_text) or int(step_text) == 0:
                wrong = Message("has no whole step of at least 1 after the slash; write {span}/5", span=span or "*")
                self.refuse(item, at, wrong)
            step = int(step_text)
        if span.startswith("*"):
            if span != "*":
                self.refuse(item, at, Message("has text after its star; only a step may follow, as in */5"))
            return range(self.kind.low, self.kind.high + 1, step)
        low_text, dash, high_text = span.partition("-")
        if not dash:
            low = self.number(low_text, item, at)
            # Debian: 5/15 runs to the end of the range, a bare 5 is just 5.
            return range(low, (self.kind.high if slash else low) + 1, step)
        if not low_text or not high_text or "-" in high_text:
            self.refuse(item, at, Message("is no range; a range is two values and one dash, and no value has a sign"))
        low, high = self.number(low_text, item, at), self.number(high_text, item, at)
        if low > high:
            self.refuse(item, at, Message("runs backwards{remedy}", remedy=self.wrapped(low_text, high_text, slash)))
        return range(low, high + 1, step)

    def wrapped(self, low_text: str, high_text: str, slash: str) -> str:
        """How a backward range is written as two."""
        kind = self.kind
        last = 6 if kind is WEEKDAY else kind.high
        if slash:
            return Message("; write it as two ranges")
        first_name, last_name = str(kind.low), str(last)
        if low_text.lower() in kind.names:
            first_name, last_name = kind.names[0], kind.names[-1]
        ends = [(low_text.lower(), last_name), (first_name, high_text.lower())]
        return Message("; write {ranges}", ranges=",".join(a if a == b else f"{a}-{b}" for a, b in ends))

    def number(self, word: str, item: str, at: int) -> int:
        """One value, written as number or name."""
        kind = self.kind
        named = kind.value(word.lower())
        if named is not None:
            return named
        if not _NUMBER.fullmatch(word):
            self.refuse(item, at, Message("is not understood: {guess}", guess=self.guess(word)))
        value = int(word)
        if value > kind.high:
            self.refuse(item, at, Message("is above {limit}", limit=kind.high), word)
        if value < kind.low:
            self.refuse(item, at, Message("is below {limit}", limit=kind.low), word)
        return value

    def guess(self, word: str) -> str:
        """What ``word`` was probably meant to be."""
        import unicodedata  # its tables are half a megabyte, and most processes never see such a word

        plain = unicodedata.normalize("NFKC", word)
        if plain != word and plain.isascii():
            return Message("write {plain} with plain characters", plain=plain)
        if re.fullmatch(r"[+-]\d+", word):
            return Message("numbers have no sign")
        if re.fullmatch(r"\d*\.\d*", word):
            if self.kind is MINUTE:
                return Message("only whole numbers are allowed; seconds are the first of six fields")
            return Message("only whole numbers are allowed")
        for kind in (MONTH, WEEKDAY):
            if kind is not self.kind and word.lower() in kind.names:
                return Message(
                    "{word} is a {kind}; the order is minute hour day month weekday", word=word, kind=kind.name
                )
        foreign = _FOREIGN.fullmatch(word.upper())
        if foreign:
            return _REFUSED[foreign[1] or foreign[2]]
        near = word[:3].lower()
        if self.kind.value(near) is not None:
            return Message("did you mean {name}?", name=near)
        return Message("{word} is no value", word=repr(word[:20]))

    def refuse(self, token: str, at: int, fault: str, word: str | None = None) -> NoReturn:
        """Raise, naming field, token, range and an example."""
        shown = token if word is None else word
        shown = shown if len(shown) <= 24 else shown[:24] + "…"
        msg = Message(
            "{field} {token} {fault}; {allowed}, for example {example}",
            field=self.kind.name,
            token=shown,
            fault=fault,
            allowed=self.kind.allowed,
            example=self.kind.example,
        )
        raise CronExpressionError(self.expression, msg, field=self.kind.name, token=token, offset=self.offset + at)

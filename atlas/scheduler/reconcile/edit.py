"""`EditReader`: a jobs file of which little was edited is read where it was edited.

::

    accepted text   {… "cron_jobs": { "a": {…}, "b": {…}, "c": {…}, "d": {…} }}
    edited text     {… "cron_jobs": { "a": {…}, "b": {…}, "new": {…}, "d": {…} }}
                    ──── the same ─────────┘  │            │  └──── the same ────
                                              └─ is read ──┘

What is read begins and ends with an entry that is the same in both, so that the texts on either side are known to be
whole entries. Whatever is not plainly right there (an error, a warning, a key that stands elsewhere too, an edit beyond
the entries) is left to a reading of the whole file, which tells it with line and column.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from atlas.scheduler.definition import JobDefinition
from atlas.scheduler.definition_text import digest_of
from atlas.scheduler.jobs_file.json_reading import read_json
from atlas.scheduler.jobs_file.located_json import LocatedJson
from atlas.scheduler.jobs_file.parsing import JobsFile, build_document
from atlas.scheduler.jobs_file.values import NOTE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.jobs_file.building import PolicyDefaults
    from atlas.scheduler.registry import Registry
    from atlas.scheduler.store.revisions import RevisionText

_OPENING: Final = '{"cron_jobs":{'


class _Entries(NamedTuple):
    """The members of ``cron_jobs`` in a text.

    Attributes:
        starts: Where each key begins.
        ends: Where each value ends.
        opened: Where the first may begin, behind the brace.
        closed: Where the closing brace stands.
    """

    digest: str
    keys: list[str]
    starts: array[int]
    ends: array[int]
    opened: int
    closed: int


class EditReader:
    """Reads edits of one accepted text after the other; that one is in force, and without a warning."""

    def __init__(self, accepted: RevisionText, defaults: PolicyDefaults, registry: Registry) -> None:
        self._defaults, self._registry = defaults, registry
        self._rest, self._entries = _walk(accepted)
        self._edited = self._entries

    def knows(self, accepted: RevisionText) -> bool:
        """True if ``accepted`` is the text it was made for, or the one it read last."""
        if self._edited.digest == accepted.digest:
            self._entries = self._edited
        return self._entries.digest == accepted.digest

    def read(self, accepted: RevisionText, text: str, known: Mapping[str, JobRecord]) -> JobsFile | None:
        """``text`` as a jobs file; None if it has to be read as a whole.

        ``accepted`` is the revision in force, which it `knows`, and ``known`` are its jobs as they run.
        """
        try:
            digest = digest_of(text)
        except UnicodeEncodeError:  # half of a surrogate pair, which no file holds
            return None
        entries = self._entries
        same, same_behind = _common(accepted.text, text)
        if entries.opened > same or entries.closed < len(accepted.text) - same_behind:
            return None
        first = bisect_right(entries.ends, same) - 1  # the last entry that is wholly before the edit
        last = bisect_right(entries.starts, len(accepted.text) - same_behind - 1)  # and the first that is wholly behind
        before, after = entries.keys[: max(0, first)], entries.keys[last + 1 :]
        shift = len(text) - len(accepted.text)
        begin = entries.starts[first] if first >= 0 else entries.opened
        end = shift + (entries.ends[last] if last < len(entries.keys) else entries.closed)
        part = read_json(f"{_OPENING}{text[begin:end]}}}}}")
        if not part.complete or part.faults or part.value.keys() != {"cron_jobs"}:
            return None
        built = build_document({**self._rest, **part.value}, self._defaults, self._registry)
        others = {*before, *after}
        if built.errors or built.warnings or not others.isdisjoint(part.value["cron_jobs"]):
            return None
        if any(key not in known and not key.startswith(NOTE) for key in others):
            return None
        members, at = part.members(len(_OPENING) - 1), begin - len(_OPENING)
        self._edited = _Entries(
            digest,
            [*before, *(str(member.key) for member in members), *after],
            _spliced(entries.starts, len(before), [member.key_start + at for member in members], last + 1, shift),
            _spliced(entries.ends, len(before), [member.end + at for member in members], last + 1, shift),
            entries.opened,
            entries.closed + shift,
        )
        definitions = _Definitions(self._edited.keys, built.definitions, known)
        kept = others & known.keys()
        return JobsFile(definitions, text, digest, built.reload, built.timezone, (), built.functions, kept)


class _Definitions(Mapping[str, JobDefinition]):
    """The definitions of an edited text, looked up when asked for: few of ten thousand are. Some ``keys`` are notes."""

    def __init__(self, keys: Iterable[str], read: Mapping[str, JobDefinition], known: Mapping[str, JobRecord]) -> None:
        self._read, self._known = read, known
        self._keys = {key: None for key in keys if key in read or key in known}

    def __getitem__(self, key: str) -> JobDefinition:
        return self._read[key] if key in self._read else self._known[key].definition

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _common(one: str, other: str) -> tuple[int, int]:
    """How many characters two texts share in front, and how many of the rest at the end."""
    least = min(len(one), len(other))
    front = _agree(least, lambda low, high: one[low:high] == other[low:high])
    ends = len(one), len(other)
    back = _agree(
        least - front, lambda low, high: one[ends[0] - high : ends[0] - low] == other[ends[1] - high : ends[1] - low]
    )
    return front, back


def _agree(most: int, alike: Callable[[int, int], bool]) -> int:
    """The largest n up to ``most`` for which 0 to n is alike; halves what it looks at."""
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        if alike(low, middle):
            low = middle
        else:
            most = middle - 1
    return low


def _spliced(offsets: array[int], head: int, middle: list[int], tail: int, shift: int) -> array[int]:
    return offsets[:head] + array("l", middle) + array("l", [offset + shift for offset in offsets[tail:]])


def _walk(accepted: RevisionText) -> tuple[dict[str, Any], _Entries]:
    """Everything but ``cron_jobs``, and where its entries stand."""
    text = accepted.text
    document = LocatedJson(text, None, (), complete=True, repaired=text)
    rest: dict[str, Any] = {}
    entries = _Entries(accepted.digest, [], array("l"), array("l"), 0, 0)
    for member in document.members(document.member(()).start):
        if member.key == "cron_jobs":
            found = document.members(member.start)
            entries = _Entries(
                accepted.digest,
                [str(one.key) for one in found],
                array("l", [one.key_start for one in found]),
                array("l", [one.end for one in found]),
                member.start + 1,
                member.end - 1,
            )
        else:
            rest[str(member.key)] = json.loads(text[member.start : member.end])
    return rest, entries

"""The job `collect`: every source at once, each on its own, and what came of it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from loguru import logger

from atlas.collectors.articles import known_pages, mark_seen, store_articles
from atlas.collectors.barren import Barren
from atlas.collectors.errors import SourceError
from atlas.collectors.memory import NOTHING, recall, remember_failure, remember_reading, remember_unchanged
from atlas.scheduler.context import running_task
from atlas.scheduler.errors import ArgumentsError, AtlasError
from atlas.scheduler.nearest import did_you_mean
from atlas.scheduler.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from atlas.collectors.articles import Reading
    from atlas.collectors.memory import Validators
    from atlas.scheduler.clock import Clock
    from atlas.scheduler.store.store import Store
    from atlas.settings import CollectSettings, Source

RETRY: Final = RetryPolicy(max_retries=2, delay_s=1.0, backoff=3.0, max_delay_s=15.0)
"""Within one collection; the job's own retries come on top, and the next fire anyway."""
RETRY_FOR_S: Final = 60.0
"""Later in a collection nothing is asked again: a hundred dead hosts must not use up the job's timeout."""
MAX_RESULT: Final = 48_000
"""Characters of JSON a result may take, below the 64 kB beyond which it would not be kept."""
TYPES: Final = ("rss", "web")
PAGES_TIMEOUTS: Final = 4
"""The new pages of an index may take as long as so many single reads."""


class CollectError(AtlasError):
    """No source at all could be collected; the message names each.

    Attributes:
        reasons: Source → why.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        """Compose the message, at most some 4,000 characters of it."""
        lines = [f"{name}: {reason}" for name, reason in reasons.items()]
        shown = lines[:20] + ([f"and {len(lines) - 20} more"] if len(lines) > 20 else [])
        super().__init__(f"all {len(lines)} sources failed:\n" + "\n".join(line[:200] for line in shown))
        self.reasons = dict(reasons)


class MissingExtraError(AtlasError, ImportError):
    """A library that only an extra brings is not installed."""


class Collector(Protocol):
    """What reads one type of source."""

    async def read(self, source: Source, known: Validators) -> Reading | None:
        """Everything it lists, or None when nothing changed since ``known``.

        Raises:
            SourceError: It cannot be read.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """What came of one source."""

    name: str
    status: str
    fetched: int = 0
    new: int = 0
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        counts = {"fetched": self.fetched, "new": self.new} if self.status in {"ok", "unchanged"} else {}
        return {"status": self.status, **counts, **({"reason": self.reason} if self.reason else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Collects the sources of the settings into the store.

    Attributes:
        draw: A chance number in 0 to 1, for the waits between tries.
        retry: How often and how soon a source that failed for now is asked again.
        barren: Pages that gave no article in earlier collections.
    """

    store: Store
    settings: CollectSettings
    clock: Clock
    draw: Callable[[], float]
    retry: RetryPolicy = RETRY
    barren: Barren = field(default_factory=Barren)

    async def run(self, only: Sequence[str] | None = None) -> dict[str, Any]:
        """Collect all sources once, or ``only`` those of these names or types; returns counts and what came of each.

        ``sources`` were looked at: ``unchanged`` said nothing is new, ``failed`` failed, ``skipped`` were left out;
        ``fetched`` articles stand in the others, of which ``new`` were stored. ``by_source`` holds each one's
        ``status`` (``ok``, ``unchanged``, ``failed``, ``skipped``), counts, and the reason.

        Raises:
            ArgumentsError: ``only`` names what is no source and no type.
            CollectError: Every source failed.
            MissingExtraError: The extra ``collect`` is not installed.
            StoreUnavailableError: The database does not answer; sources stored before stay stored.
        """
        wanted = _wanted(self.settings.sources, only)
        reports = [_Report(name=source.name, status="skipped", reason=why) for source, why in wanted if why]
        reports += await self._collect([source for source, why in wanted if not why])
        failed = {report.name: report.reason or "" for report in reports if report.status == "failed"}
        if failed and len(failed) == sum(report.status != "skipped" for report in reports):
            raise CollectError(failed)
        result = _result(reports)
        told = {name: result[name] for name in ("sources", "new", "unchanged", "failed", "skipped")}
        logger.info("collected", **told)
        return result

    async def _collect(self, sources: Sequence[Source]) -> list[_Report]:
        if not sources:
            return []
        until_s = self.clock.monotonic() + RETRY_FOR_S
        known = await self.store.read_async(recall)
        slots = asyncio.Semaphore(self.settings.concurrency)
        hosts: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(self.settings.per_host))
        async with AsyncExitStack() as stack:
            collectors = await self._open_collectors(stack)

            async def one(source: Source) -> _Report:
                # The host first: who waits for a busy host takes no slot from the others.
                async with hosts[urlsplit(source.url).hostname or ""], slots:
                    validators = known.get((source.name, source.url), NOTHING)
                    return await self._source(source, collectors[source.type], validators, until_s)

            tasks = [asyncio.create_task(one(source)) for source in sources]
            try:
                reports = []
                for done, report in enumerate(asyncio.as_completed(tasks), 1):
                    reports.append(await report)
                    if (mine := running_task()) is not None:
                        mine.progress(done, len(tasks))
                return reports
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _open_collectors(self, stack: AsyncExitStack) -> dict[str, Collector]:
        """Type → what reads it; closed with ``stack``."""
        try:
            from atlas.collectors.fetch import Fetcher, FetchLimits
            from atlas.collectors.rss import RSSCollector
            from atlas.collectors.web import WebCollector
        except ImportError as error:
            message = f"collecting needs the extra: pip install 'atlas-scheduler[collect]' ({error})"
            raise MissingExtraError(message) from error
        settings, store = self.settings, self.store
        limits = FetchLimits(
            timeout_s=settings.timeout,
            max_bytes=settings.max_bytes,
            user_agent=settings.user_agent,
            allow_hosts=frozenset(settings.allow_hosts),
        )

        async def known(source: str, keys: Sequence[str]) -> set[str]:
            return await store.read_async(lambda connection: known_pages(connection, source, keys))

        fetcher = await stack.enter_async_context(Fetcher(limits, self.clock))
        web = WebCollector(
            fetcher,
            self.clock,
            known_pages=known,
            max_pages=settings.max_pages,
            pages_s=PAGES_TIMEOUTS * settings.timeout,
            barren=self.barren,
        )
        return {"rss": RSSCollector(fetcher, self.clock), "web": web}

    async def _source(self, source: Source, collector: Collector, known: Validators, until_s: float) -> _Report:
        try:
            reading = await self._read(source, collector, known, until_s)
        except SourceError as error:
            reason, at = str(error), self.clock.now()
            logger.warning("a source could not be collected", source=source.name, reason=reason)
            await self.store.write_async(
                partial(remember_failure, name=source.name, address=source.url, reason=reason, at=at)
            )
            return _Report(name=source.name, status="failed", reason=reason)
        if reading is None:
            at = self.clock.now()
            await self.store.write_async(partial(remember_unchanged, name=source.name, address=source.url, at=at))
            return _Report(name=source.name, status="unchanged")

        def save(connection: Connection) -> int:
            mark_seen(connection, source.name, reading.seen, reading.at)
            remember_reading(connection, source.name, source.url, reading.validators, reading.at)
            return store_articles(connection, reading.articles)

        new = await self.store.write_async(save)
        return _Report(name=source.name, status="ok", fetched=len(reading.articles) + len(reading.seen), new=new)

    async def _read(self, source: Source, collector: Collector, known: Validators, until_s: float) -> Reading | None:
        for retry in itertools.count(1):
            try:
                return await collector.read(source, known)
            except SourceError as error:
                wait_s = max(self.retry.wait_s(retry, draw=self.draw()), error.retry_after_s or 0.0)
                in_time = wait_s <= self.retry.max_delay_s and self.clock.monotonic() + wait_s < until_s
                if not (error.transient and self.retry.allows(retry) and in_time):
                    raise
            except Exception as error:  # a feed nobody thought of must not take the others with it
                logger.opt(exception=error).error("a source made its collector fail", source=source.name)
                raise SourceError(f"unexpected {type(error).__name__}: {error}") from error
            await asyncio.sleep(wait_s)
        raise AssertionError


def _wanted(sources: Sequence[Source], only: Sequence[str] | None) -> list[tuple[Source, str | None]]:
    """The sources meant, each with why it is left out, if it is."""
    if only is None:
        return [(source, None) for source in sources if source.enabled]
    words = [only] if isinstance(only, str) else list(only)
    names = {source.name for source in sources}
    for word in words:
        if word not in names and word not in TYPES:
            hint = did_you_mean(word, [*names, *TYPES])
            raise ArgumentsError(f"only: {word!r} is no source in the settings and no type ({', '.join(TYPES)}){hint}")
    return [
        (source, None if source.enabled else "enabled: false in the settings")
        for source in sources
        if source.name in words or (source.type in words and source.enabled)
    ]


def _result(reports: Sequence[_Report]) -> dict[str, Any]:
    """The reports as JSON, short enough to be kept: if need be the sources with nothing to tell are left out."""
    result: dict[str, Any] = {"sources": len(reports)}
    result |= {name: sum(getattr(report, name) for report in reports) for name in ("fetched", "new")}
    result |= {
        status: sum(report.status == status for report in reports) for status in ("unchanged", "failed", "skipped")
    }
    if not reports:
        result["note"] = "no source is enabled; name some under collect.sources in config.yaml"
    by_source: dict[str, Any] = {}
    room = MAX_RESULT
    order = ("failed", "ok", "skipped", "unchanged")
    for report in sorted(reports, key=lambda one: (order.index(one.status), -one.new)):
        entry = report.to_json()
        room -= len(json.dumps({report.name: entry}))
        if room < 0:
            break
        by_source[report.name] = entry
    if len(by_source) < len(reports):
        result["left_out"] = len(reports) - len(by_source)
    return {**result, "by_source": by_source}

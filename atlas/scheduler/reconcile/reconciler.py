"""Makes the scheduler equal to the config file: plan, apply in one commit, keep the accepted text as a revision.

::

    start, SIGHUP ──────────────► reload ──┐
    the watcher saw a new text ─► notice ──┼─► check ─► plan ─► one commit: job rows, revision, audit, answers
    web, API ──────► replace, rollback ────┘     └─ refused: what runs goes on, `Standing.error` says why
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from loguru import logger

from atlas.scheduler.errors import ConfigError, RevisionRefusedError, StoreUnavailableError, UnknownRevisionError
from atlas.scheduler.events import JobEventKind, SchedulerEventKind
from atlas.scheduler.job_store.records import JobChange, make_records
from atlas.scheduler.jobs_file.functions import is_missing
from atlas.scheduler.jobs_file.parsing import JobsFile, parse_jobs
from atlas.scheduler.jobs_file.text import MAX_BYTES, decode_jobs_text, read_jobs_text
from atlas.scheduler.message import Message
from atlas.scheduler.reconcile.checked import Checked
from atlas.scheduler.reconcile.file import REPORTED_S, Seen, content_digest, read_content
from atlas.scheduler.reconcile.plan import Plan, function_lost, make_plan
from atlas.scheduler.reconcile.reading import JobsReader, mode_in
from atlas.scheduler.reconcile.requests import ANSWER_S, await_answer, request, request_replace, text_digest
from atlas.scheduler.reconcile.standing import Standing
from atlas.scheduler.store.audit import CODE, Action
from atlas.scheduler.store.revisions import (
    Request,
    Revision,
    RevisionText,
    answer,
    keep_revision,
    latest_revision,
    note_check,
    open_requests,
    revision_numbered,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from atlas.scheduler.cron_manager import SyncCronManager
    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.jobs_file.building import PolicyDefaults
    from atlas.scheduler.reconcile.preview import Preview
    from atlas.scheduler.store.store import Store

FILE: Final = "file"
"""Who changed the file where nobody said so: an editor."""
STALE_S: Final = 60.0
"""How old a request for a text that the file does not hold is before it is answered so."""


class Reconciler:
    """Keeps a scheduler equal to one config file; ``defaults`` hold where neither a job nor the file says anything.

    Attributes:
        standing: How the file stands.
        known: Digest of the file's content that was dealt with last.
    """

    def __init__(self, cron: SyncCronManager, path: Path, defaults: PolicyDefaults) -> None:
        self._cron, self.path, self._defaults = cron, path, defaults
        self._reader = self._new_reader()
        self._lock = threading.RLock()
        self.standing = Standing(cron, path)
        self.known: str | None = None

    # --- bringing the file into force -----------------------------------------------------------------------------

    def start(self) -> Plan | None:
        """`reload` as a start does it: None when the last good revision runs on.

        That is so when the file is refused, and with ``reload: manual`` when the file was edited and nobody applied it.

        Raises:
            ConfigError: The file is refused and there is no earlier revision.
        """
        self._reader = self._new_reader()  # another process may have led since
        latest = self.latest_revision()
        self.run_last_good()
        try:
            if latest is not None and self.standing.mode == "manual":
                try:
                    text, known = self._on_disk()
                    if text_digest(text) != latest.digest and self._asked(text_digest(text)) is None:
                        self.known = known
                        self.plan(self._read(text))
                        self.standing.drifted()
                        return None
                except ConfigError as error:
                    self.standing.refused(error)
                    raise
            return self.reload(author=FILE)
        except ConfigError:
            if latest is None:
                raise
            return None

    def reload(self, *, author: str = FILE) -> Plan:
        """Read the file and make the scheduler equal to it; an unchanged file writes nothing.

        A process that stands by asks the one that leads.

        Raises:
            ConfigError: The file cannot be used; what runs goes on, and `Standing.error` keeps the reason.
            RevisionRefusedError: The process that leads refused it.
            StoreUnavailableError: The database, or the process that leads, does not answer.
        """
        if self._cron.queue.stands_by:
            wanted = self.parse(read_jobs_text(self.path))
            plan = self.plan(wanted)
            # What an editor saves meanwhile is not written over.
            self._answered(request(self._store, wanted.text, by=author, action=Action.APPLY, detail=""))
            return plan
        with self._lock:
            try:
                self.known = None  # whatever goes wrong now, the watcher looks again
                text, known = self._on_disk()
                try:
                    plan = self._bring_in(text, author=author)
                except ConfigError as error:
                    self._answer(text_digest(text), None, str(error))
                    raise
                self.known = known
                return plan
            except ConfigError as error:
                self.standing.refused(error)
                raise

    def notice(self, seen: Seen, stood_s: float) -> bool:
        """Deal with a content that the watcher saw; False to be asked again when it has stood longer.

        It has been the same for ``stood_s`` seconds.

        Raises:
            StoreUnavailableError: The database does not answer; ask again.
        """
        with self._lock:
            digest = None
            try:
                if seen.raw is None:
                    read_jobs_text(self.path)  # says why it cannot be read
                    return False
                text = decode_jobs_text(seen.raw, file=self.path)
                digest = text_digest(text)
                if self.standing.mode == "manual" and self._asked(digest) is None:
                    latest = self.latest_revision()
                    if latest is None or latest.digest != digest:
                        self.plan(self._read(text))  # one that cannot be used is told so: nobody may apply it
                        self.standing.drifted()
                    else:
                        self.standing.in_force()
                else:
                    self._bring_in(text, author=FILE)
            except ConfigError as error:
                if stood_s < REPORTED_S:
                    return False
                if digest is not None:
                    self._answer(digest, None, str(error))
                self.standing.refused(error)
            self.known = seen.digest
            return True

    def replace(
        self, text: str, *, by: str, action: Action = Action.APPLY, detail: str = "", over: int | None = None
    ) -> Plan:
        """Put ``text`` in the file's place, all at once, and in force; what was replaced is kept beside it.

        ``over`` is the revision it was made from, None for any. ``action`` and ``detail`` go into the audit.

        Raises:
            ConfigError: The text, or the file, cannot be used; nothing changed.
            StoreUnavailableError: The file is replaced, the database did not take it; with ``reload: auto`` it is
                applied as soon as it does.
            RevisionRefusedError: Another revision than ``over`` is in force: it would be lost. Or this process stands
                by, and the one that leads refused the text.
        """
        store = self._store
        with self._lock:
            if over is not None and over != (in_force := self._in_force_number()):
                raise RevisionRefusedError(
                    Message(
                        "this text was made from r{over}, and r{n} is in force by now: look at what it would change",
                        over=over,
                        n=in_force,
                    )
                )
            if self._cron.queue.stands_by:
                return self._ask_leader(self.parse(text), by=by, action=action, detail=detail)
            wanted = self._read(text)
            self.plan(wanted)
            request_replace(store, self.path, text, by=by, action=action, detail=detail)
            plan = self._apply(wanted, author=by or CODE)
            self.known = content_digest(text.encode())
            return plan

    def rollback(self, number: int, *, by: str) -> Plan:
        """`replace` with the text of revision ``number``; it becomes a new revision.

        Raises:
            UnknownRevisionError: There is no such revision.
            ConfigError: What was good then cannot be used now; nothing changed.
            StoreUnavailableError: As `replace`.
        """
        wanted = self.revision(number)
        return self.replace(wanted.text, by=by, action=Action.ROLLBACK, detail=f"back to revision {number}")

    def _in_force_number(self) -> int:
        latest = self.latest_revision()
        return 0 if latest is None else latest.number

    def _ask_leader(self, wanted: JobsFile, *, by: str, action: Action, detail: str) -> Plan:
        store, plan = self._store, self.plan(wanted)
        self._answered(request_replace(store, self.path, wanted.text, by=by, action=action, detail=detail))
        return plan

    def _answered(self, asked: int) -> None:
        """Wait for the process that leads to bring in what it was asked for.

        Raises:
            StoreUnavailableError: It does not answer.
            RevisionRefusedError: It refused it.
        """
        answered = await_answer(self._store, asked)
        if answered is None:
            message = f"the process that leads did not answer within {ANSWER_S:g} s; the file holds the new text"
            raise StoreUnavailableError(message, waited_s=ANSWER_S)
        if answered.revision is None:
            raise RevisionRefusedError(f"the process that leads refused it: {answered.error}")

    def look_for_requests(self) -> None:
        """Let the file be dealt with again where another process asks for it."""
        asked = self._store.read(open_requests)
        if asked:
            self.known = None

    def refuse_stale_requests(self) -> None:
        """Answer requests for a text that the file does not hold, once it has had the time to."""
        now = self._store.clock.now()
        stale = [one for one in self._store.read(open_requests) if (now - one.asked_at).total_seconds() > STALE_S]
        for one in stale:
            self._answer(one.digest, None, "the file holds another text")

    # --- looking --------------------------------------------------------------------------------------------------

    def parse(self, text: str) -> JobsFile:
        """``text`` as a jobs file of this scheduler; nothing is applied.

        Raises:
            ConfigError: It cannot be used; the error holds everything that is wrong.
        """
        return parse_jobs(text, file=self.path, defaults=self._defaults, registry=self._cron.queue.registry)

    def plan(self, wanted: JobsFile) -> Plan:
        """What `replace` would change.

        Raises:
            ConfigError: A key of the file belongs to a job made by code.
        """
        jobs = self._cron.shown.jobs
        return make_plan(jobs.records(), [parked.id for parked in jobs.parked()], wanted, file=self.path)

    def preview(self, text: str) -> Preview:
        """What `replace` with this text would do, in words and figures; nothing is applied.

        Raises:
            ConfigError: It cannot be used; the error holds everything that is wrong.
        """
        from atlas.scheduler.reconcile.preview import make_preview  # with the forecast: few ask for it

        wanted, store, queue = self.parse(text), self._store, self._cron.queue
        limits = {kind.value: limit for kind, limit in queue.executor_limits.items()}
        now = store.clock.now()
        return store.read(
            lambda connection: make_preview(
                connection, wanted, file=self.path, now=now, slots=queue.max_workers, limits=limits
            )
        )

    def latest_revision(self) -> Revision | None:
        """The newest accepted version without its text, None when there is none."""
        return self._store.read(latest_revision)

    def revision(self, number: int) -> RevisionText:
        """One accepted version with its text.

        Raises:
            UnknownRevisionError: There is no such.
        """
        found = self._store.read(lambda connection: revision_numbered(connection, number))
        if found is None:
            latest = self.latest_revision()
            raise UnknownRevisionError(number, newest=None if latest is None else latest.number)
        return found

    def run_last_good(self) -> bool:
        """Go on with the last accepted revision, whose jobs are the rows; False if there never was one."""
        latest = self.latest_revision()
        if latest is not None:
            self.standing.revision = latest.number
            checked = Checked.from_json(latest.checked)
            self.standing.mode = mode_in(self.revision(latest.number).text) if checked is None else checked.reload
        return latest is not None

    # --- within ---------------------------------------------------------------------------------------------------

    @property
    def _store(self) -> Store:
        return self._cron.queue.role.store

    def _on_disk(self) -> tuple[str, str | None]:
        """The file's text and the digest of its content, of one reading; the digest is None if that was its second.

        Raises:
            ConfigError: It cannot be read.
        """
        seen = read_content(self.path, MAX_BYTES)
        if seen.raw is None:
            return read_jobs_text(self.path), None  # which says why, or finds it after all
        return decode_jobs_text(seen.raw, file=self.path), seen.digest

    def _bring_in(self, text: str, *, author: str) -> Plan:
        """Make the scheduler equal to ``text``, which is not read where it is known to say what runs."""
        digest, latest = text_digest(text), self.latest_revision()
        if latest is not None and latest.digest == digest:
            checked = self._reader.unchanged(latest, self._cron.running.jobs.records())
            if checked is not None:
                self.standing.revision = latest.number
                self._answer(digest, latest.number, None)
                self._in_force(checked)
                return Plan((), (), (), checked.jobs)
        return self._apply(self._read(text), author=author)

    def _read(self, text: str) -> JobsFile:
        """`parse`, of what is not known yet."""
        latest = self.latest_revision()
        in_force = None if latest is None else self.revision(latest.number)
        return self._reader.read(text, in_force, self._cron.running.jobs.records())

    def _new_reader(self) -> JobsReader:
        return JobsReader(self.path, self._defaults, self._cron.queue.registry)

    def _apply(self, wanted: JobsFile, *, author: str) -> Plan:
        running = self._cron.running
        jobs, store = running.jobs, running.serving.store
        plan, latest, before = self.plan(wanted), self.latest_revision(), jobs.records()
        if not plan and latest is not None and latest.digest == wanted.digest:
            self.standing.revision = latest.number
            checked = self._reader.check_of(wanted, plan, before, {})
            if (text := checked.to_json()) != latest.checked:
                store.write(partial(note_check, number=latest.number, checked=text))
            self._answer(wanted.digest, latest.number, None)
            self._in_force(checked)
            return plan
        now, asked = store.clock.now(), self._asked(wanted.digest)
        author = author if asked is None else asked.actor
        changes = [
            JobChange(record, kind)
            for kind, definitions in ((JobEventKind.ADDED, plan.added), (JobEventKind.CHANGED, plan.changed))
            for record in make_records(definitions, now=now, old_of=jobs.record)
        ]

        def keep(connection: Connection) -> tuple[int, Checked]:
            rows = {one.record.id: one.record.digest for one in changes}  # known by now: they are written
            checked = self._reader.check_of(wanted, plan, before, rows)
            number = keep_revision(
                connection,
                at=now,
                by=author,
                file=self.path,
                digest=wanted.digest,
                summary=plan.summary,
                text=wanted.text,
                asked=asked,
                checked=checked.to_json(),
            )
            return number, checked

        lost = self._functions_lost(plan, wanted, before)
        kept = jobs.apply(changes, plan.removed, serve=running.bridge.submit_job, also=keep)
        assert kept is not None
        number, checked = kept
        self.standing.revision = number
        detail = {
            "revision": number,
            "file": str(self.path),
            "by": author,
            "unchanged": plan.unchanged,
            "words": plan.summary,
        }
        self.standing.tell(SchedulerEventKind.CONFIG_APPLIED, detail)
        self._in_force(checked)
        self._cron.tell_unbound()
        for job_id, words in lost.items():
            logger.bind(job_id=job_id).warning("{}: {}", job_id, words)
        return plan

    def _functions_lost(self, plan: Plan, wanted: JobsFile, records: Sequence[JobRecord]) -> dict[str, str]:
        """Job that had its function → in words that it makes no tasks with the new one."""
        missing = {name for name, fact in wanted.functions.items() if is_missing(fact)}
        new = {one.id: one for one in plan.changed if one.function in missing}
        states, old = self._cron.running.states, [one.definition for one in records if one.id in new]
        found = {one.id: function_lost(one, new[one.id], wanted.functions) for one in old if not states.unbound(one)}
        return {job_id: words for job_id, words in found.items() if words is not None}

    def _in_force(self, checked: Checked) -> None:
        self._reader.in_force(checked)
        self.standing.in_force(checked)

    def _asked(self, digest: str) -> Request | None:
        """The newest request for this text."""
        mine = [one for one in self._store.read(open_requests) if one.digest == digest]
        return mine[-1] if mine else None

    def _answer(self, digest: str, revision: int | None, error: str | None) -> None:
        store = self._store
        if self._asked(digest) is not None:
            now = store.clock.now()
            store.write(lambda connection: answer(connection, at=now, digest=digest, revision=revision, error=error))

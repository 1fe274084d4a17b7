"""What the pages' forms do: each POST is one verb of the scheduler, and leads back with a note of what happened."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import RedirectResponse
from starlette.routing import Route

from atlas.scheduler.durations import parse_duration
from atlas.scheduler.errors import ArgumentsError, AtlasError, UnknownFunctionError
from atlas.scheduler.jobs_file.json_faults import diagnose
from atlas.scheduler.message import Message, message_of
from atlas.scheduler.zones import zone_named
from atlas.web.choosing import chosen_in, is_choice, may_resume
from atlas.web.forms import read_form
from atlas.web.site import Note, back_of, leave_note, visit_of
from atlas.web.words.speech import Speech

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from atlas.scheduler.tasks.submission import SubmitOptions
    from atlas.web.site import Site, Visit


MOST_ADDRESS: Final = 8_000
"""Characters of an address that leads back to a form."""


@dataclass(frozen=True, slots=True)
class Action:
    """One form.

    Attributes:
        name: What `Visit.url` calls it.
        path: Where it is posted to.
        do: Does it and says what happened; it may block, and raises `AtlasError` where it is refused.
        again: The address of the form as it was sent, below the prefix; by default the page it came from.
        keeper: The address that is sent the same form where it is refused, so that nothing written in it is lost.
    """

    name: str
    path: str
    do: Callable[[Visit, Speech], Note]
    again: Callable[[Visit], str] | None = None
    keeper: Callable[[Visit], str] | None = None

    def route(self, site: Site) -> Route:
        """The action as a route: it leads back to where the form says, or to the form when it was refused."""

        async def answer(request: Request) -> Response:
            form = await read_form(request)
            visit = visit_of(site, request, form=form)
            say = Speech(visit.language)
            status = 303
            try:
                note = await asyncio.to_thread(self.do, visit, say)
                back = back_of(request, form)
            except AtlasError as error:
                again = {} if self.again is None else {"back": self.again(visit)}
                note, back = Note("error", say.told(message_of(error))), back_of(request, again)
                if self.keeper is not None and not isinstance(error, LookupError):  # of what is not there is no page
                    back, status = self.keeper(visit), 307  # with which a browser sends the form once more
            response = RedirectResponse(back, status)
            leave_note(request, response, note)
            return response

        return Route(self.path, answer, methods=["POST"], name=self.name)


def _json(form: Mapping[str, str], name: str, kind: type, example: str) -> Any:
    """A field that holds JSON; None where it is empty."""
    text = form.get(name, "").strip()
    if not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = diagnose(text, error.pos, error.msg).message if isinstance(error, json.JSONDecodeError) else str(error)
        raise ArgumentsError(
            Message("{name}: this is not JSON ({error}); write {example}", name=name, error=why, example=example)
        ) from error
    if not isinstance(value, kind):
        raise ArgumentsError(
            Message("{name}: this is no {kind}; write {example}", name=name, kind=kind.__name__, example=example)
        )
    return value


def _arguments(form: Mapping[str, str]) -> tuple[list[Any] | None, dict[str, Any] | None]:
    return _json(form, "args", list, '["a", 1]'), _json(form, "kwargs", dict, '{"name": "value"}')


def _run(visit: Visit, say: Speech) -> Note:
    args, kwargs = _arguments(visit.form)
    job = visit.form.get("job", "")
    task_id = visit.atlas.cron.sync.run_job_now(job, args=args, kwargs=kwargs, by=visit.by)
    return Note("ok", say("A task of {job} was accepted.", job=job), _below(visit, "task", task=task_id))


def _pause(visit: Visit, say: Speech) -> Note:
    job = visit.form.get("job", "")
    visit.atlas.cron.sync.pause_job(job, reason=_reason(visit), by=visit.by, until=_until(visit))
    return Note("ok", say("{job} is paused.", job=job))


def _reason(visit: Visit) -> str:
    return visit.form.get("reason", "").strip()[:500]


def _until(visit: Visit) -> datetime | None:
    """When a pause ends by itself, in the scheduler's zone where the form names none."""
    text = visit.form.get("until", "").strip()
    if not text:
        return None
    try:
        until = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentsError(
            Message("until {text} is no date and time such as 2026-12-24T18:00", text=repr(text))
        ) from error
    return until if until.tzinfo is not None else until.replace(tzinfo=zone_named(visit.atlas.timezone))


def _resume(visit: Visit, say: Speech) -> Note:
    job = visit.form.get("job", "")
    if visit.atlas.cron.sync.resume_job(job, by=visit.by):
        return Note("ok", say("{job} fires again.", job=job))
    return Note("ok", say("{job} was not paused.", job=job))


def _several(visit: Visit, say: Speech) -> Note:
    """Run, pause or resume the chosen jobs, or pause or resume all of them."""
    cron, form = visit.atlas.cron.sync, visit.form
    everything, chosen = form.get("all") == "1", chosen_in(form)
    if not everything and not chosen:
        raise ArgumentsError(Message("no job is selected"))
    match form.get("do"):
        case "run" if chosen:
            return _ran(say, cron.run_jobs_now(chosen, by=visit.by))
        case "pause":
            paused = cron.pause_jobs(
                None if everything else chosen, reason=_reason(visit), by=visit.by, until=_until(visit)
            )
            return Note("ok", say("1 job is paused.|{n} jobs are paused.", n=len(paused)))
        case "resume":
            resumed = cron.resume_jobs(None if everything else may_resume(visit, chosen), by=visit.by)
            return Note("ok", say("1 job fires again.|{n} jobs fire again.", n=len(resumed)))
        case _:
            raise ArgumentsError(Message("several jobs are run, paused or resumed; nothing else is done to them"))


def _ran(say: Speech, made: Mapping[str, str | AtlasError]) -> Note:
    refused = [one for one in made.values() if isinstance(one, AtlasError)]
    text = say("1 task was accepted.|{n} tasks were accepted.", n=len(made) - len(refused))
    if refused:
        why = say.told(message_of(refused[0]))
        text += " " + say("1 job was refused: {why}|{n} jobs were refused, the first: {why}", n=len(refused), why=why)
    return Note("error" if refused else "ok", text)


def _several_again(visit: Visit) -> str:
    """The page that asks, with what was chosen; where that is too much for an address, the page before it."""
    kept = {name: value for name, value in visit.form.items() if name in {"do", "all", "back"} or is_choice(name)}
    address = _below(visit, "ask_several", **kept)
    return address if len(address) <= MOST_ADDRESS else visit.form.get("back", "")


def _cancel(visit: Visit, say: Speech) -> Note:
    task = visit.form.get("task", "")
    if visit.atlas.queue.cancel_task(task, by=visit.by):
        return Note("ok", say("The task is cancelled, or asked to stop."))
    return Note("error", say("The task had ended already."))


def _retry(visit: Visit, say: Speech) -> Note:
    task_id = visit.atlas.queue.sync.retry_task(visit.form.get("task", ""), by=visit.by)
    return Note("ok", say("A new task was accepted."), _below(visit, "task", task=task_id))


def _submit(visit: Visit, say: Speech) -> Note:
    form = visit.form
    args, kwargs = _arguments(form)
    options: SubmitOptions = {"priority": form.get("priority", "NORMAL"), "kwargs": kwargs or {}, "by": visit.by}
    if form.get("timeout", "").strip():
        options["timeout"] = parse_duration(form["timeout"])
    retries = form.get("max_retries", "").strip()
    if retries:
        if not (retries.isascii() and retries.isdigit()):
            raise ArgumentsError(Message("max_retries {text} is no whole number", text=repr(retries)))
        options["max_retries"] = int(retries)
    function = form.get("function", "")
    if function not in visit.atlas.registry.names():
        raise UnknownFunctionError(function)
    task_id = visit.atlas.queue.sync.submit(function, *(args or ()), **options)
    return Note("ok", say("A task of {job} was accepted.", job=function), _below(visit, "task", task=task_id))


def _apply(visit: Visit, say: Speech) -> Note:
    # A textarea loses the line break it begins with; the form gives one more to lose.
    text, over = visit.form.get("text", ""), visit.form.get("over", "")
    known = over.isascii() and over.isdigit() and len(over) < 10
    plan = visit.atlas.reconciler.replace(text, by=visit.by, over=int(over) if known else None)
    return Note("ok", say("The config is applied: {what}", what=say.told(plan.summary[:300])))


def _rollback(visit: Visit, say: Speech) -> Note:
    number = visit.form.get("number", "")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise ArgumentsError(Message("revision {text} is no number", text=repr(number)))
    plan = visit.atlas.reconciler.rollback(int(number), by=visit.by)
    return Note("ok", say("Rolled back to r{n}: {what}", n=number, what=say.told(plan.summary[:300])))


def _below(visit: Visit, name: str, **params: str) -> str:
    """The address of a page, below the prefix."""
    return visit.url(name, **params).removeprefix(visit.root)


def _asking(page: str, name: str) -> Callable[[Visit], str]:
    """The page that asks, about the same thing."""

    def address(visit: Visit) -> str:
        form = visit.form
        return visit.url(page, **{name: form.get(name, "")[:MOST_ADDRESS], "back": form.get("back", "")[:MOST_ADDRESS]})

    return address


ACTIONS: Final = (
    Action("run_job", "/act/run", _run, keeper=_asking("ask_run", "job")),
    Action("pause_job", "/act/pause", _pause, keeper=_asking("ask_pause", "job")),
    Action("resume_job", "/act/resume", _resume),
    Action("several_jobs", "/act/several", _several, _several_again),
    Action("cancel_task", "/act/cancel", _cancel),
    Action("retry_task", "/act/retry", _retry),
    Action("submit_task", "/act/submit", _submit, keeper=_asking("ask_submit", "function")),
    Action("apply_config", "/act/apply", _apply, keeper=lambda visit: visit.url("config")),
    Action("rollback", "/act/rollback", _rollback),
)


def routes(site: Site) -> list[Route]:
    """One route per action."""
    return [action.route(site) for action in ACTIONS]

"""`FunctionCheck`: whether the functions a jobs file names exist, may be used, and take their arguments."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final

from atlas.scheduler.errors import AtlasError, FunctionRefusedError, UnknownFunctionError
from atlas.scheduler.jobs_file.findings import Finding
from atlas.scheduler.jobs_file.values import did_you_mean
from atlas.scheduler.message import Message, message_of
from atlas.scheduler.task import ExecutorKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from atlas.scheduler.jobs_file.format import JobEntry
    from atlas.scheduler.jobs_file.located_json import Path
    from atlas.scheduler.registry import Function, Registry


_KINDS: Final = frozenset(kind.value for kind in ExecutorKind)


class FunctionCheck:
    """Checks that functions exist and take the arguments the file has for them."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._found: dict[str, Function | Exception] = {}
        self._refusals: dict[tuple[str, int, tuple[str, ...]], str | None] = {}

    def check(self, path: Path, entry: JobEntry, name: str) -> tuple[list[Finding], list[Finding]]:
        """Errors and warnings of one job; a function that is missing is a warning, since the others can run."""
        found = self.find(name)
        where = Finding((*path, "function"), "") if entry.function else Finding(path, "", on_key=True)
        if isinstance(found, FunctionRefusedError):
            return [where._replace(message=message_of(found))], []
        if isinstance(found, Exception):
            add = "" if entry.function else Message(', add "function"')
            message = Message("the job will not run (UNBOUND){add}: {found}", found=message_of(found), add=add)
            return [], [where._replace(message=message)]
        errors = []
        if wrong := _wrong_executor(found, entry.executor):
            errors.append(Finding((*path, "executor"), wrong))
        args, kwargs = entry.args or (), entry.kwargs or {}
        key = (name, len(args), tuple(kwargs))  # whether a call fits does not depend on the values
        if key not in self._refusals:
            self._refusals[key] = found.refusal(args, kwargs)
        if refusal := self._refusals[key]:
            errors += _refused_arguments(path, entry, found, refusal) or [_arguments_at(path, entry, where, refusal)]
        return errors, []

    def facts(self) -> dict[str, str]:
        """What was found under each name that was looked up."""
        return {name: _fact(found) for name, found in self._found.items()}

    def find(self, name: str) -> Function | Exception:
        """The function of this name, or why there is none."""
        found = self._found.get(name)
        if found is None:
            try:
                found = self._registry.find(name)
            except AtlasError as error:
                found = error
            except (Exception, SystemExit) as error:  # noqa: BLE001 - importing runs foreign code, which may raise anything
                found = UnknownFunctionError(name, detail=f"{type(error).__name__}: {error}")
            self._found[name] = found
        return found


def function_facts(registry: Registry, names: Iterable[str]) -> dict[str, str]:
    """What is found under each name now: as long as it is the same, a check of the same file has the same result."""
    check = FunctionCheck(registry)
    return {name: _fact(check.find(name)) for name in names}


def is_missing(fact: str) -> bool:
    """True if `function_facts` found no function that can run."""
    return fact.partition(" ")[0] not in _KINDS


def _fact(found: Function | Exception) -> str:
    if isinstance(found, Exception):
        return f"{type(found).__name__}: {found}"
    try:
        signature = str(inspect.signature(found.call))
    except (TypeError, ValueError):  # some builtins have none
        signature = "(?)"
    return f"{found.executor.value} {found.reference} {signature}"


def _wrong_executor(function: Function, executor: ExecutorKind | None) -> str | None:
    if executor is ExecutorKind.PROCESS and function.reference is None:
        return Message(
            '{function} cannot be imported by another process; define it in a module, or write "thread"',
            function=function.name,
        )
    if executor is ExecutorKind.ASYNC and not function.is_async:
        return Message(
            '{function} is a plain function; write "thread" or "process", or leave the key out', function=function.name
        )
    if executor is ExecutorKind.THREAD and not function.may_be_called_in_a_thread:
        return Message(
            '{function} is a coroutine function; write "async", or leave the key out', function=function.name
        )
    return None


def _refused_arguments(path: Path, entry: JobEntry, function: Function, refusal: str) -> list[Finding]:
    """The keyword arguments that the function does not know, each at its place."""
    if "unexpected keyword argument" not in refusal:
        return []
    known = inspect.signature(function.call).parameters
    unknown = [name for name in entry.kwargs or () if name not in known]
    return [
        Finding(
            (*path, "kwargs", name),
            Message("no argument of {function}{proposal}", function=function.name, proposal=did_you_mean(name, known)),
            on_key=True,
        )
        for name in unknown
    ]


def _arguments_at(path: Path, entry: JobEntry, where: Finding, refusal: str) -> Finding:
    message = Message("the arguments do not fit: {why}", why=refusal if len(refusal) <= 400 else refusal[:399] + "…")
    for name in ("args", "kwargs"):
        if getattr(entry, name):
            return Finding((*path, name), message)
    return where._replace(message=message)

"""Functions by name: `register`, the allow-list and the entry points ``atlas.functions``.

Rows and files name functions; nothing else of them is ever stored. A name is resolved in this order: the scheduler's
own registry, the global one filled by `register` and the entry points, then ``package.module:name`` for packages on
the allow-list. Nothing else can be reached, so a row or a file cannot call ``os:system``.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from loguru import logger

from atlas.scheduler.errors import FunctionRefusedError, UnknownFunctionError
from atlas.scheduler.message import Message
from atlas.scheduler.nearest import nearest
from atlas.scheduler.task import ExecutorKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

F = TypeVar("F", bound="Callable[..., Any]")
ENTRY_POINT_GROUP: Final = "atlas.functions"
NEEDS_PEBBLE: Final = Message(
    "executor 'process' needs Pebble, which is not installed: pip install 'atlas-scheduler[process]'"
)
_LOOKING: Final = threading.RLock()
_SHOWN: Final = 80
"""Characters of a value that an error shows."""


@dataclass(frozen=True, slots=True)
class Function:
    """A callable with the name rows know it by."""

    name: str
    """Registered name, or ``package.module:name``."""
    call: Callable[..., Any]
    is_async: bool
    reference: str | None
    """``module:qualname`` by which another process can import it, or None."""

    @property
    def may_be_called_in_a_thread(self) -> bool:
        """True for plain functions and what wraps a coroutine function, which may run the coroutine to its end."""
        return not (self.is_async and _makes_coroutines(self.call))

    @property
    def executor(self) -> ExecutorKind:
        """Where it runs unless a process is asked for."""
        return ExecutorKind.ASYNC if self.is_async else ExecutorKind.THREAD

    def refusal(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """Why the function cannot be called with these arguments, or None if it can."""
        try:
            signature = inspect.signature(self.call)
        except (TypeError, ValueError):
            return None  # some builtins have no signature; the call itself will tell
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            return Message("{call} does not accept them: {error}", call=f"{self.name}{signature}", error=_why(error))
        return None


def surely_refused(function: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """`Function.refusal` for work that is about to be accepted: cheap where it fits, and silent where it is not sure.

    A decorator may put arguments in that the signature of what it wraps asks for, so wrapped functions are not judged.
    """
    call = function.call.func if isinstance(function.call, partial) else function.call
    if hasattr(call, "__wrapped__"):
        return None
    if not kwargs and isinstance(function.call, FunctionType) and _takes(function.call, len(args)):
        return None
    return function.refusal(args, kwargs)


def _takes(call: FunctionType, count: int) -> bool:
    """True if so many positional arguments fit for sure; `inspect.signature` takes ten times as long to say it."""
    code = call.__code__
    least = code.co_argcount - len(call.__defaults__ or ())
    most = count if code.co_flags & inspect.CO_VARARGS else code.co_argcount
    return least <= count <= most and code.co_kwonlyargcount <= len(call.__kwdefaults__ or ())


_NAMED: Final = re.compile(r"([^'{}]+)('[^'{}]*')")


def _why(error: TypeError) -> str:
    """What `inspect` says of arguments that do not fit, ready for another language."""
    text = str(error)
    if {"{", "}"} & set(text):
        return text
    named = _NAMED.fullmatch(text)
    return Message(text) if named is None else Message(named[1] + "{name}", name=named[2])


def _makes_coroutines(call: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004


def function_from(name: str, call: Callable[..., Any]) -> Function:
    """Describe ``call`` under ``name``.

    Raises:
        FunctionRefusedError: It is not callable, or a generator function: calling it runs nothing of it.
    """
    if not callable(call):  # a caller without type checks
        msg = Message("{name}: {call} is not callable", name=name, call=repr(call))  # type: ignore[unreachable]
        raise FunctionRefusedError(msg)
    if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        msg = Message("{name} yields: calling it runs nothing of it; write a function that returns a list", name=name)
        raise FunctionRefusedError(msg)
    is_async = _makes_coroutines(inspect.unwrap(call.func if isinstance(call, partial) else call))
    return Function(name, call, is_async, _reference(call))


def function_of(call: Callable[..., Any]) -> Function:
    """Describe a callable that was given itself, and by no name.

    Raises:
        FunctionRefusedError: It is what a function returned, or nothing that can be called.
    """
    if not callable(call):  # `submit(fetch(url))`, mostly
        what = f"{call!r:.{_SHOWN}}"  # type: ignore[unreachable]  # a caller without type checks
        msg = f"{what} is not callable: give the function and then its arguments, 'fetch, url' in place of 'fetch(url)'"
        raise FunctionRefusedError(msg)
    return function_from(describe(call), call)


def _reference(call: Callable[..., Any]) -> str | None:
    module, qualname = getattr(call, "__module__", None), getattr(call, "__qualname__", None)
    if not module or not qualname or module == "__main__" or "<" in qualname:
        return None
    return f"{module}:{qualname}"


def _written_at(call: Callable[..., Any]) -> tuple[str, str] | str:
    """Where the text of ``call`` stands: the same for a module that is reloaded, or is both script and import."""
    code = getattr(inspect.unwrap(call), "__code__", None)
    return describe(call) if code is None else (code.co_filename, code.co_qualname)


def _own_name(call: Callable[..., Any]) -> str:
    """The name that was written where ``call`` was defined.

    Raises:
        FunctionRefusedError: None was.
    """
    name: str | None = getattr(call, "__name__", None)
    if name is None or "<" in name:
        msg = (
            f"{call!r:.{_SHOWN}} has no name of its own, and rows know functions by name: register('a_name') gives one"
        )
        raise FunctionRefusedError(msg)
    return name


def describe(call: Callable[..., Any]) -> str:
    """A readable name of any callable, for rows and messages."""
    call = call.func if isinstance(call, partial) else call
    name = f"{getattr(call, '__module__', '?')}:{getattr(call, '__qualname__', type(call).__qualname__)}"
    if name.isprintable():
        return name
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in name)  # as no row could hold it


class Registry:
    """Names and their functions.

    Args:
        allow: Packages whose functions may be named as ``package.module:name``, submodules included.
        parent: Registry asked for names this one does not know.
    """

    def __init__(self, *, allow: Iterable[str] = (), parent: Registry | None = None) -> None:
        self._lock = threading.Lock()
        self._functions: dict[str, Function] = {}
        self._names: dict[int, str] = {}
        self._allow = tuple(allow)
        self._parent = parent
        self._version = 0

    @property
    def version(self) -> int:
        """A number that changes with every name that is added."""
        return self._version + (self._parent.version if self._parent else 0)

    @property
    def allowed(self) -> tuple[str, ...]:
        """Packages whose functions may be named as ``package.module:name``."""
        return self._allow + (self._parent.allowed if self._parent else ())

    @overload
    def register(self, name: F) -> F: ...
    @overload
    def register(self, name: str | None = None) -> Callable[[F], F]: ...
    def register(self, name: F | str | None = None) -> F | Callable[[F], F]:
        """Decorate a function so that rows and files can name it; without a name by its own ``__name__``.

        Registering another function under a taken name replaces it; where it is not the same one anew (a module that is
        reloaded), the log says so.

        Raises:
            FunctionRefusedError: It brings no name of its own (a lambda, a partial, an object): after a restart nothing
                would tell it from the next one.
        """
        if name is None or isinstance(name, str):
            return lambda call: self.add(_own_name(call) if name is None else name, call)
        return self.add(_own_name(name), name)

    def add(self, name: str, call: F) -> F:
        """Register ``call`` under ``name`` and return it."""
        if not name or ":" in name or name != name.strip():
            msg = Message(
                "function name {name} must not be empty, contain ':' or begin or end with space", name=repr(name)
            )
            raise FunctionRefusedError(msg)
        function = function_from(name, call)
        with self._lock:
            old = self._functions.get(name)
            self._functions[name] = function
            if old is not None and old.call is not call:
                self._forget_name(old)
            self._names[id(call)] = name
            self._version += 1
        if old is not None and _written_at(old.call) != _written_at(call):
            was, now = describe(old.call), describe(call)
            logger.warning(
                "two functions are registered under one name; the later one runs", name=name, was=was, now=now
            )
        return call

    def _forget_name(self, old: Function) -> None:
        others = [one.name for one in self._functions.values() if one.call is old.call]
        if others:
            self._names[id(old.call)] = others[-1]
        else:
            self._names.pop(id(old.call), None)

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        with self._lock:
            mine = set(self._functions)
        return sorted(mine.union(self._parent.names()) if self._parent else mine)

    def find(self, name: str) -> Function:
        """The function named ``name``.

        Raises:
            UnknownFunctionError: Nothing has this name; the nearest known one is proposed.
            FunctionRefusedError: It is written ``module:name`` and its package is not on the allow-list.
        """
        function = self._registered(name)
        if function is not None:
            return function
        if ":" in name:
            return self._imported(name)
        raise UnknownFunctionError(name, nearest=nearest(name, self.names()))

    def name_of(self, call: Callable[..., Any]) -> str | None:
        """The name by which rows may mean ``call``, or None: then work with it is volatile."""
        with self._lock:
            name = self._names.get(id(call))
        if name is None and self._parent is not None:
            name = self._parent.name_of(call)
            if name in self._functions:
                return None  # here the name means another function
        if name is None:
            reference = _reference(call)
            if reference is not None and self._allows(reference.partition(":")[0]) and self._is_at(reference, call):
                name = reference
        return name

    def meant_by(self, func: Callable[..., Any] | str) -> tuple[Function, str | None]:
        """The function, and why work with it is volatile: None where rows can name it.

        Raises:
            FunctionError: There is none of this name, or it is nothing that can be called.
        """
        name = func if isinstance(func, str) else self.name_of(func)
        if name is not None:
            return self.find(name), None
        return function_of(func), "its function is neither registered nor on the allow-list"  # type: ignore[arg-type]

    def _registered(self, name: str) -> Function | None:
        with self._lock:
            function = self._functions.get(name)
        if function is None and self._parent is not None:
            function = self._parent._registered(name)  # noqa: SLF001 - the same class
        return function

    def _allows(self, module: str) -> bool:
        return is_within(module, self.allowed)

    @staticmethod
    def _is_at(reference: str, call: Callable[..., Any]) -> bool:
        module, _, qualname = reference.partition(":")
        try:
            return _walk(importlib.import_module(module), qualname) is call
        except (ImportError, AttributeError):
            return False

    def _imported(self, name: str) -> Function:
        module, _, qualname = name.partition(":")
        if not self._allows(module):
            raise FunctionRefusedError(not_allowed(name))
        try:
            call = _looked_up(module, qualname)
        except FunctionRefusedError:
            raise
        except Exception as error:  # importing runs foreign code, which may raise anything
            raise UnknownFunctionError(name, detail=_why_not(error, module)) from error
        origin = getattr(call.func if isinstance(call, partial) else call, "__module__", None)
        if origin is not None and not self._allows(origin):
            msg = Message(
                "function {name} is defined in {origin}, which is not on the allow-list (functions.allow)",
                name=repr(name),
                origin=repr(origin),
            )
            raise FunctionRefusedError(msg)
        function = function_from(name, call)
        with self._lock:
            self._functions[name] = function
        return function


def is_within(module: str, packages: Iterable[str]) -> bool:
    """True if ``module`` is one of the packages, or lies in one."""
    return any(module == one or module.startswith(one + ".") for one in packages)


def not_allowed(name: str) -> str:
    """Why a function that is written ``package.module:name`` cannot be had."""
    return Message(
        "function {name}: package {package} is not on the allow-list (functions.allow in config.yaml)",
        name=repr(name),
        package=repr(name.partition(":")[0].partition(".")[0]),
    )


_READ_AS: Final[dict[str, tuple[int, int] | None]] = {}
"""How the files of modules stood when a lookup here was the first to import them: time of the last change, size."""


def _looked_up(module: str, qualname: str) -> Any:
    """What is at ``module:qualname``; a module that is not imported yet is.

    One that lacks the name is executed once more if a lookup here imported it and its file has changed since: it was
    half written then, mostly. One that the program itself imported is left as it is: others hold what it made, and
    what it does when it is executed is the program's business.
    """
    if module not in sys.modules:
        with _LOOKING:  # who looks meanwhile may leave an older listing of the folder behind
            if module not in sys.modules:
                importlib.invalidate_caches()  # it may have been put there a moment ago
                stands = _stands(module)
                importlib.import_module(module)
                _READ_AS[module] = stands
    try:
        return _walk(importlib.import_module(module), qualname)
    except AttributeError:
        with _LOOKING:
            stands = _stands(module) if module in _READ_AS else None
            if stands is None or stands == _READ_AS[module]:
                raise
            again = importlib.reload(sys.modules[module])
            _READ_AS[module] = stands
        return _walk(again, qualname)


def _stands(module: str) -> tuple[int, int] | None:
    """Time of the last change and size of a module's file; None where it has none."""
    with suppress(ImportError, OSError, ValueError):
        spec = find_spec(module)
        if spec is not None and spec.origin is not None:
            stat = Path(spec.origin).stat()
            return stat.st_mtime_ns, stat.st_size
    return None


def _why_not(error: Exception, module: str) -> str:
    """What a lookup in ``module`` raised, and what to do where only that helps."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, AttributeError) and module in sys.modules and module not in _READ_AS:
        return Message("{error}; what was written there since this program imported it needs a restart", error=said)
    return said


def _walk(module: object, qualname: str) -> Any:
    target = module
    for part in qualname.split("."):
        target = getattr(target, part)
        if part.startswith("__") or isinstance(target, ModuleType):
            # An allowed module imports others (`jobs:os.system`), and special names lead everywhere.
            msg = Message(
                "function name {name} leads out of its module at {part}", name=repr(qualname), part=repr(part)
            )
            raise FunctionRefusedError(msg)
    return target


class _GlobalRegistry(Registry):
    """Filled by `register` and, on the first name it does not know, by the entry points ``atlas.functions``."""

    def __init__(self) -> None:
        super().__init__()
        self._loading = threading.RLock()
        self._loaded = False

    def _registered(self, name: str) -> Function | None:
        function = super()._registered(name)
        if function is None:
            self._load_entry_points()
            function = super()._registered(name)
        return function

    def names(self) -> list[str]:
        self._load_entry_points()
        return super().names()

    def _load_entry_points(self) -> None:
        with self._loading:  # others wait; a plugin that asks for names while it is imported gets those there are
            if self._loaded:
                return
            self._loaded = True
            for point in entry_points(group=ENTRY_POINT_GROUP):
                if super()._registered(point.name) is not None:
                    continue  # what the program registered itself wins
                try:
                    self.add(point.name, point.load())
                except Exception as error:  # noqa: BLE001 - foreign code; the other plugins must still come
                    where, text = f"{point.name} = {point.value}", f"{type(error).__name__}: {error}"
                    logger.error("a plugin's function cannot be loaded", entry_point=where, error=text)


REGISTRY: Final[Registry] = _GlobalRegistry()
"""The registry that `register` fills; every scheduler's own registry has it as its parent."""

register = REGISTRY.register

"""Functions by name: what rows and files can reach, and what they cannot."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import shlex
import sys
from functools import lru_cache, partial, wraps
from importlib.metadata import EntryPoint
from inspect import signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.scheduler import registry as registry_module
from atlas.scheduler.arguments import decode_arguments, encode_arguments
from atlas.scheduler.errors import ArgumentsError, FunctionRefusedError, UnknownFunctionError
from atlas.scheduler.registry import Registry, _GlobalRegistry, describe, function_from, surely_refused
from atlas.scheduler.task import ExecutorKind
from atlas.scheduler.tasks.submission import executor_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


def collect(source: str = "") -> str:
    return source


async def collect_later() -> None:
    pass


def other() -> None:
    pass


class Holder:
    def method(self) -> None:
        pass

    async def later(self) -> None:
        pass

    def __call__(self) -> None:
        pass


class AsyncCall:
    async def __call__(self) -> None:
        pass


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def plugin() -> Iterator[ModuleType]:
    """A package of the user that is on the allow-list, importing what packages import."""
    made = ModuleType("atlas_test_plugin")
    source = (
        "import os\nfrom os import system\nfrom shlex import quote\n"
        "def work():\n    return 'plugin'\n"
        "class Tool:\n    @staticmethod\n    def use():\n        return 'tool'\n"
        "from functools import partial\nbound = partial(work)\nescape = partial(system, 'true')\n"
        "not_callable = 5\n"
    )
    exec(source, made.__dict__)
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


# --- registered names ------------------------------------------------------------------------------------------------


def test_a_registered_function_is_found_by_its_name(registry: Registry) -> None:
    @registry.register("collect")
    def work() -> str:
        return "done"

    assert registry.find("collect").call is work
    assert registry.name_of(work) == "collect"
    assert work() == "done"


def test_without_a_name_its_own_name_counts(registry: Registry) -> None:
    @registry.register
    def one() -> None: ...

    @registry.register()
    def two() -> None: ...

    assert registry.names() == ["one", "two"]


@pytest.mark.parametrize("name", ["", "a:b", " a", "a "], ids=repr)
def test_names_that_look_like_something_else_are_refused(registry: Registry, name: str) -> None:
    with pytest.raises(FunctionRefusedError, match="function name"):
        registry.add(name, collect)


def test_an_empty_name_is_no_missing_one(registry: Registry) -> None:
    with pytest.raises(FunctionRefusedError, match="must not be empty"):
        registry.register("")(collect)


@pytest.mark.parametrize("call", [lambda: 1, partial(collect, "bbc"), Holder()], ids=["lambda", "partial", "object"])
def test_what_has_no_name_of_its_own_is_registered_under_one_that_is_given(registry: Registry, call: Any) -> None:
    with pytest.raises(FunctionRefusedError, match=r"no name of its own.*register\('a_name'\) gives one"):
        registry.register(call)
    with pytest.raises(FunctionRefusedError, match="no name of its own"):
        registry.register()(call)
    assert registry.names() == []
    assert registry.register("named")(call) is call
    assert registry.name_of(call) == "named"


def test_what_is_not_callable_is_refused(registry: Registry) -> None:
    with pytest.raises(FunctionRefusedError, match="is not callable"):
        registry.add("five", 5)  # type: ignore[type-var]


def generates() -> Iterator[int]:
    yield 1


async def generates_later() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("call", [generates, partial(generates), generates_later])
def test_a_generator_function_is_refused_since_nothing_of_it_would_run(registry: Registry, call: Any) -> None:
    with pytest.raises(FunctionRefusedError, match="feeds yields: calling it runs nothing of it"):
        registry.add("feeds", call)


def test_what_makes_a_list_of_a_generator_is_a_function_like_others(registry: Registry) -> None:
    @wraps(generates)
    def collected() -> list[int]:
        return list(generates())

    registry.add("feeds", collected)
    assert registry.find("feeds").call() == [1]


def test_an_unknown_name_proposes_the_nearest(registry: Registry) -> None:
    registry.add("collect_news", collect)
    with pytest.raises(UnknownFunctionError, match="did you mean 'collect_news'") as caught:
        registry.find("colect_news")
    assert isinstance(caught.value, LookupError)


def test_registering_a_name_again_replaces_the_function(registry: Registry) -> None:
    registry.add("work", collect)
    before = registry.version
    registry.add("work", other)
    assert registry.find("work").call is other
    assert registry.name_of(collect) is None
    assert registry.version > before


def _collect_of(module: str) -> Callable[..., Any]:
    """The function of a module anew, as a reload makes it, or a script that is imported as well."""
    names: dict[str, Any] = {"__name__": module}
    exec(compile("def collect(): ...", "/srv/app.py", "exec"), names)
    made: Callable[..., Any] = names["collect"]
    return made


def test_two_functions_of_one_name_are_told_and_a_reloaded_one_is_not(warned: list[str]) -> None:
    alike = [_collect_of(module) for module in ("app", "app", "__main__")]
    sets: list[list[Callable[..., Any]]] = [[collect, collect], alike, [collect, other]]
    for calls in sets:
        assert warned == []
        registry = Registry()
        for call in calls:
            registry.add("work", call)
    assert warned == ["two functions are registered under one name; the later one runs"]


def test_a_function_with_two_names_keeps_the_one_that_is_left(registry: Registry) -> None:
    registry.add("first", collect)
    registry.add("second", collect)
    registry.add("second", other)
    assert registry.name_of(collect) == "first"


def test_a_name_of_the_parent_is_found_and_the_own_one_wins(registry: Registry) -> None:
    child = Registry(parent=registry)
    registry.add("work", collect)
    assert child.find("work").call is collect
    assert child.name_of(collect) == "work"
    child.add("work", other)
    assert child.find("work").call is other


def test_a_function_whose_name_means_another_one_here_has_no_name(registry: Registry) -> None:
    """Else `submit(collect)` would run ``other``."""
    child = Registry(parent=registry)
    registry.add("work", collect)
    child.add("work", other)
    assert child.name_of(collect) is None


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        pytest.param(collect, ExecutorKind.THREAD, id="def"),
        pytest.param(collect_later, ExecutorKind.ASYNC, id="async def"),
        pytest.param(partial(collect, "x"), ExecutorKind.THREAD, id="partial of def"),
        pytest.param(partial(collect_later), ExecutorKind.ASYNC, id="partial of async def"),
        pytest.param(partial(partial(collect_later)), ExecutorKind.ASYNC, id="partial of a partial"),
        pytest.param(Holder().method, ExecutorKind.THREAD, id="method"),
        pytest.param(Holder().later, ExecutorKind.ASYNC, id="async method"),
        pytest.param(Holder(), ExecutorKind.THREAD, id="object with __call__"),
        pytest.param(AsyncCall(), ExecutorKind.ASYNC, id="object with async __call__"),
        pytest.param(len, ExecutorKind.THREAD, id="builtin"),
    ],
)
def test_a_coroutine_function_runs_on_the_loop_and_the_rest_in_a_thread(
    call: Callable[..., Any], kind: ExecutorKind
) -> None:
    assert function_from("f", call).executor is kind


def test_a_plain_wrapper_that_passes_a_coroutine_on_counts_as_a_coroutine_function() -> None:
    @wraps(collect_later)
    def wrapper() -> Any:
        return collect_later()

    assert function_from("f", wrapper).is_async


def test_a_plain_wrapper_of_a_coroutine_function_runs_in_a_thread_where_that_is_asked_for() -> None:
    @wraps(collect_later)
    def runs_it_itself() -> Any:
        return asyncio.run(collect_later())

    assert executor_for("thread", function_from("f", runs_it_itself)) is ExecutorKind.THREAD
    with pytest.raises(FunctionRefusedError, match="is an async def function: it cannot run on executor 'thread'"):
        executor_for("thread", function_from("f", collect_later))


# --- names by import -------------------------------------------------------------------------------------------------


def test_nothing_can_be_imported_without_an_allow_list(registry: Registry) -> None:
    for name in ("os:system", "builtins:eval", "subprocess:run"):
        with pytest.raises(FunctionRefusedError, match="is not on the allow-list"):
            registry.find(name)


def test_an_allowed_package_is_named_by_its_beginning_and_not_by_a_part_of_it() -> None:
    registry = Registry(allow=("xml",))
    assert registry.find("xml.sax.saxutils:escape").call("<") == "&lt;"
    with pytest.raises(FunctionRefusedError):
        registry.find("xmlrpc.client:escape")


@pytest.mark.parametrize("name", ["work", "Tool.use", "bound"])
def test_an_allowed_package_gives_what_it_defines(plugin: ModuleType, name: str) -> None:
    call = Registry(allow=(plugin.__name__,)).find(f"{plugin.__name__}:{name}").call
    assert call() in {"plugin", "tool"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("os.system", id="through a module it imports"),
        pytest.param("system", id="a function it imports"),
        pytest.param("escape", id="a partial of one"),
        pytest.param("work.__globals__", id="the globals of a function"),
        pytest.param("work.__class__", id="the class of a function"),
        pytest.param("Tool.__subclasses__", id="the subclasses of a class"),
        pytest.param("work.__call__", id="a special method"),
        pytest.param("not_callable", id="not callable"),
    ],
)
def test_what_an_allowed_package_imports_is_not_allowed_with_it(plugin: ModuleType, name: str) -> None:
    with pytest.raises(FunctionRefusedError):
        Registry(allow=(plugin.__name__,)).find(f"{plugin.__name__}:{name}")


@pytest.mark.parametrize("name", ["atlas_no_such:f", "shlex:nothing", "shlex:quote.nothing"])
def test_a_name_that_leads_nowhere_is_unknown_and_says_why(name: str) -> None:
    with pytest.raises(UnknownFunctionError, match="Error: "):
        Registry(allow=("atlas_no_such", "shlex")).find(name)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Writes a module that says in ``executed`` beside it each time it is executed."""
    monkeypatch.syspath_prepend(str(tmp_path))
    executed = tmp_path / "executed"
    executed.touch()

    def write(text: str) -> Path:
        note = f"with open({str(executed)!r}, 'a') as file:\n    file.write('x')\n"
        (tmp_path / "atlas_written_slowly.py").write_text(note + text, "utf-8")
        return executed

    yield write
    sys.modules.pop("atlas_written_slowly", None)
    registry_module._READ_AS.pop("atlas_written_slowly", None)


def test_a_module_that_a_look_imported_half_written_is_read_again_once_it_has_changed(
    written: Callable[[str], Path],
) -> None:
    registry, name = Registry(allow=("atlas_written_slowly",)), "atlas_written_slowly:work"
    executed = written("def helper(): return 1\n")
    for _ in range(3):
        with pytest.raises(UnknownFunctionError, match=r"has no attribute 'work'$"):
            registry.find(name)
    assert executed.read_text() == "x", "it stands as it was: nothing to read again"
    written("def helper(): return 1\ndef work(:\n")
    with pytest.raises(UnknownFunctionError, match="SyntaxError"):
        registry.find(name)
    written("def helper(): return 1\ndef work(): return helper()\n")
    assert registry.find(name).call() == 1
    written("def helper(): return 2\ndef work(): return helper()\ndef more(): return helper()\n")
    assert registry.find(name).call() == 1, "what is found stays as it is"
    assert executed.read_text() == "xx"


def test_a_module_that_the_program_imported_is_not_executed_again_and_the_error_says_what_helps(
    written: Callable[[str], Path],
) -> None:
    executed = written("")
    importlib.import_module("atlas_written_slowly")
    written("def work(): return 1\n")
    with pytest.raises(UnknownFunctionError, match=r"has no attribute 'work'; what was written .* needs a restart"):
        Registry(allow=("atlas_written_slowly",)).find("atlas_written_slowly:work")
    assert executed.read_text() == "x"


def test_a_function_of_an_allowed_package_is_named_by_where_it_is() -> None:
    registry = Registry(allow=("shlex",))
    assert registry.name_of(shlex.quote) == "shlex:quote"
    assert Registry().name_of(shlex.quote) is None


def test_closures_methods_and_partials_have_no_name() -> None:
    registry = Registry(allow=(__name__,))
    for call in (lambda: None, Holder().method, partial(collect), Holder()):
        assert registry.name_of(call) is None
        assert describe(call)


def test_a_wrapped_function_is_found_where_it_says_it_is() -> None:
    cached = lru_cache(collect)
    assert function_from("f", cached).reference == f"{__name__}:collect"
    assert Registry(allow=(__name__,)).name_of(cached) is None, "what is there is not the cached one"


# --- entry points ----------------------------------------------------------------------------------------------------


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, registry_module.ENTRY_POINT_GROUP)


def test_entry_points_are_loaded_when_a_name_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "entry_points", lambda *, group: [entry("quote", "shlex:quote")])
    registry = _GlobalRegistry()
    assert registry.find("quote").call is shlex.quote


def test_one_broken_plugin_takes_no_other_function_away(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [entry("bad", "atlas_no_such:f"), entry("worse", "os:no_such"), entry("quote", "shlex:quote")]
    monkeypatch.setattr(registry_module, "entry_points", lambda *, group: found)
    registry = _GlobalRegistry()
    registry.add("mine", collect)
    assert registry.names() == ["mine", "quote"]
    with pytest.raises(UnknownFunctionError):
        registry.find("bad")


def test_what_the_program_registers_wins_over_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "entry_points", lambda *, group: [entry("work", "shlex:quote")])
    registry = _GlobalRegistry()
    registry.add("work", collect)
    assert registry.names() == ["work"]
    assert registry.find("work").call is collect


# --- arguments -------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=3), st.dictionaries(st.text(), JSON, max_size=3))
def test_json_arguments_come_back_as_they_were(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert decode_arguments(encode_arguments(args, kwargs)) == (args, kwargs)


@given(st.lists(st.integers() | st.text(st.characters(codec="utf-8")), max_size=4))
def test_numbers_and_texts_are_written_as_the_library_writes_them(args: list[Any]) -> None:
    whole = json.dumps({"args": args, "kwargs": {}}, ensure_ascii=False, separators=(",", ":"))
    assert encode_arguments(args, {}) == whole


@pytest.mark.parametrize(
    "argument",
    [
        pytest.param((1, 2), id="tuple"),
        pytest.param({1: 2}, id="number as a key"),
        pytest.param({1, 2}, id="set"),
        pytest.param(float("nan"), id="nan"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param(object(), id="object"),
        pytest.param(ExecutorKind.THREAD, id="enum"),
        pytest.param(b"x", id="bytes"),
        pytest.param([[(1,)]], id="tuple deep inside"),
    ],
)
def test_arguments_that_json_would_change_are_refused(argument: Any) -> None:
    with pytest.raises(ArgumentsError):
        encode_arguments([argument], {})
    with pytest.raises(ArgumentsError):
        encode_arguments([], {"key": argument})


@pytest.mark.parametrize("text", ["\ud800", os.fsdecode(b"caf\xe9"), "a\x00b"], ids=ascii)
def test_every_text_argument_fits_into_a_row(text: str) -> None:
    for kwargs in ({}, {"key": text}):
        encoded = encode_arguments([text], kwargs)
        encoded.encode()
        assert "\x00" not in encoded
        assert decode_arguments(encoded) == ([text], kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "fits"),
    [((), {}, True), (("x",), {}, True), ((), {"source": "x"}, True), (("x", "y"), {}, False), ((), {"to": 1}, False)],
    ids=repr,
)
def test_a_function_says_beforehand_which_arguments_it_does_not_accept(
    args: tuple[Any, ...], kwargs: dict[str, Any], *, fits: bool
) -> None:
    refusal = function_from("collect", collect).refusal(args, kwargs)
    assert (refusal is None) is fits
    if refusal is not None:
        assert refusal.startswith("collect(source")


SHAPES: list[Callable[..., Any]] = [
    lambda: None,
    lambda _a: None,
    lambda _a, _b=1: None,
    lambda _a, /, _b=1, *, _c=2: None,
    lambda *_a: None,
    lambda _a, *_rest, _c: None,
    lambda _a, **_k: None,
    partial(lambda _a, _b: None, 1),
    [].append,
]


@pytest.mark.parametrize("call", SHAPES, ids=lambda call: str(signature(call)))
@given(args=st.lists(st.integers(), max_size=4), kwargs=st.dictionaries(st.sampled_from(["_a", "_b", "_c"]), st.none()))
def test_arguments_are_refused_beforehand_exactly_where_the_call_would_refuse_them(
    call: Callable[..., Any], args: list[int], kwargs: dict[str, None]
) -> None:
    refused = surely_refused(function_from("f", call), args, kwargs) is not None
    try:
        call(*args, **kwargs)
    except TypeError:
        assert refused
    else:
        assert not refused


def test_a_decorator_that_puts_arguments_in_is_not_judged() -> None:
    @wraps(collect)
    def with_session() -> Any:
        return None

    assert surely_refused(function_from("f", with_session), [], {}) is None
    assert surely_refused(function_from("f", partial(with_session)), [1, 2, 3], {}) is None

"""JSON with positions: what is wrong is named and located, what is right is read as the standard library reads it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.scheduler.jobs_file.json_reading import MAX_DEPTH, MAX_REPAIRS, read_json
from atlas.scheduler.jobs_file.located_json import LocatedJson, path_text

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def places(document: LocatedJson, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    """Every path of the document with the value that stands there."""
    value = document.value
    for part in path:
        value = value[part]
    found = [(path, value)]
    if isinstance(value, dict | list):
        for part in value if isinstance(value, dict) else range(len(value)):
            found += places(document, (*path, part))
    return found


def faults(text: str) -> list[tuple[int, int, str]]:
    document = read_json(text)
    return [(*document.position(fault.offset), fault.message) for fault in document.faults]


# --- what is right ---------------------------------------------------------------------------------------------------


@given(JSON, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_a_good_text_reads_as_the_standard_library_reads_it(value: object, indent: Any, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    document = read_json(text)
    if any(0xD800 <= ord(one) <= 0xDFFF for one in json.dumps(value, ensure_ascii=False)):
        assert document.faults
        return
    assert (document.value, document.faults, document.complete) == (json.loads(text), (), True)


@given(JSON, st.sampled_from([None, 2]))
def test_every_value_is_found_at_its_place(value: object, indent: int | None) -> None:
    document = read_json(json.dumps(value, indent=indent))
    for path, found in places(document) if document.complete else ():
        member = document.member(path)
        assert json.loads(document.text[member.start : member.end]) == found
        if path and isinstance(path[-1], str):
            assert json.loads(document.text[member.key_start : document.key_end(member.key_start)]) == path[-1]


def test_equal_texts_are_one_object() -> None:
    value = read_json('{"one": {"cron_expression": "5 4 * * *"}, "two": {"cron_expression": "5 4 * * *"}}').value
    assert value["one"]["cron_expression"] is value["two"]["cron_expression"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
def test_lines_and_columns_count_from_one(end: str) -> None:
    document = read_json(end.join(["{", '  "键": [1,', '  "二", 3]', "}"]))
    assert [document.position(document.member(("键", index)).start) for index in range(3)] == [(2, 9), (3, 3), (3, 8)]
    assert document.position(document.member(("键",)).key_start) == (2, 3)


def test_a_path_that_leads_beyond_the_text_ends_at_the_last_value_on_it() -> None:
    document = read_json('{"a": [10, {"b": 1}]}')
    assert document.member(("a", 1, "c", "d")) == document.member(("a", 1))
    assert document.member(("z",)) == document.member(())


@pytest.mark.parametrize(
    ("source", "inside", "column"),
    [
        pytest.param('"abc"', 2, 4, id="plain"),
        pytest.param(r'"\u0030 99"', 2, 9, id="a four digit escape is one character"),
        pytest.param(r'"\ud83d\ude00x"', 1, 14, id="a surrogate pair is one character"),
        pytest.param(r'"\\\"x"', 2, 6, id="short escapes"),
        pytest.param('"ab"', 9, 4, id="not beyond the closing quote"),
        pytest.param("12", 1, 1, id="no text at all"),
    ],
)
def test_a_position_inside_a_text_counts_escapes(source: str, inside: int, column: int) -> None:
    problem = read_json(source).problem("f", (), "wrong", inside=inside)
    assert (problem.line, problem.column) == (1, column)


def test_the_shown_source_is_short_and_harmless() -> None:
    document = read_json('{"a": "' + "x" * 200 + '", "b": {\n  "c": 1\n}, "d": "\u202e\x9b31m"}')
    shown = [document.problem("f", (key,), "m").value for key in "abd"]
    assert shown == ['"' + "x" * 58 + "…", '{ "c": 1 }', '"\\u202e\\u009b31m"']


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("cron_jobs", "a-b", "triggers", 0, "every"), "cron_jobs.a-b.triggers[0].every"),
        (("cron_jobs", "a.b", "数据"), 'cron_jobs["a.b"].数据'),
        (("", 'q"'), '[""]["q\\""]'),
        (("\x1b[0m",), '["\\u001b[0m"]'),
        (("k" * 100,), '["' + "k" * 59 + '…"]'),
    ],
    ids=["plain", "a dot in a key", "empty and quoted", "control characters", "long"],
)
def test_a_path_is_readable(path: tuple[str | int, ...], text: str) -> None:
    assert path_text(path) == text


# --- what Python would let pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ('{"a": NaN}', 7, "NaN is not JSON"),
        ('{"a": [1, -Infinity]}', 11, "-Infinity is not JSON"),
        ('{"a": 1e999}', 7, "too large"),
        ('{"a": -1e999}', 7, "too large"),
        ('{"a": 9223372036854775808}', 7, "64 bits"),
        ('{"a": -9223372036854775809}', 7, "64 bits"),
        ('{"a": ' + "9" * 1_000_000 + "}", 7, "64 bits"),
        (r'{"a": "x\ud800"}', 7, "surrogate"),
        (r'{"a\udfff": 1}', 2, "surrogate"),
    ],
    ids=[
        "nan",
        "infinity",
        "1e999",
        "-1e999",
        "2**63",
        "-2**63-1",
        "a million digits",
        "half in a value",
        "half in a key",
    ],
)
def test_values_that_are_no_json_are_refused(text: str, column: int, message: str) -> None:
    [(line, found, words)] = faults(text)
    assert (line, found) == (1, column)
    assert message in words


def test_the_limits_themselves_are_accepted() -> None:
    text = '[9223372036854775807, -9223372036854775808, 1.7976931348623157e308, "\\ud83d\\ude00"]'
    document = read_json(text)
    assert (document.value, document.faults) == ([2**63 - 1, -(2**63), 1.7976931348623157e308, "😀"], ())


def test_a_doubled_key_is_found_at_any_depth_and_names_the_first() -> None:
    text = '{"a": [{"k": 1,\n "k": 2, "k": 3}], "a": {"k": 1}, "b": [{"x": 1, "x": 1}]}'
    document = read_json(text)
    assert [(fault.path, document.position(fault.offset)) for fault in document.faults] == [
        (("a",), (2, 20)),
        (("b", 0, "x"), (2, 50)),
    ]
    assert "first at 1:2" in document.faults[0].message


def test_what_is_unusable_becomes_none_and_the_rest_is_read() -> None:
    document = read_json('{"a": NaN, "b": [1e999, 5], "c": "ok"}')
    assert document.complete
    assert document.value == {"a": None, "b": [None, 5], "c": "ok"}
    assert [fault.path for fault in document.faults] == [("a",), ("b", 0)]


@pytest.mark.parametrize("opening", ["[", '{"a":'], ids=["lists", "objects"])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 100_000])
def test_absurd_depth_is_one_located_fault(opening: str, depth: int) -> None:
    closing = "]" if opening == "[" else "}"
    [(line, column, message)] = faults(opening * depth + "1" + closing * depth)
    assert (line, column) == (1, len(opening) * MAX_DEPTH + 1)
    assert "nested deeper" in message


def test_the_deepest_allowed_value_is_read_and_located() -> None:
    document = read_json("[" * MAX_DEPTH + "7" + "]" * MAX_DEPTH)
    assert document.faults == ()
    assert document.member((0,) * MAX_DEPTH).start == MAX_DEPTH


# --- syntax ----------------------------------------------------------------------------------------------------------

SYNTAX = [
    ("", 1, "empty", False),
    (" \n ", 1, "empty", False),
    ('{"a": 1,}', 8, "a comma too many", True),
    ("[1, 2,]", 6, "a comma too many", True),
    ("[,1]", 2, "a comma too many", True),
    ('{"a": 1,, "b": 2}', 9, "a comma too many", True),
    ('{"a": 1 "b": 2}', 8, "a comma is missing", True),
    ("[1 2]", 3, "a comma is missing", True),
    ('{"a" 1}', 5, "a colon is missing", True),
    ('{"a" = 1}', 6, "expected a colon", True),
    ('{"a": 1; "b": 2}', 8, "expected a comma", True),
    ('{"a": 1 // note\n}', 9, "x_note", True),
    ("# note\n{}", 1, "no comments", True),
    ("{/* note */}", 2, "no comments", True),
    ("{'a': 1}", 2, "single quotes", True),
    ("{“a”: 1}", 2, "curly quotes", True),
    ('{"a"： 1}', 5, "full-width '：'", True),
    ('{"a": ３００}', 7, "JSON needs '300'", True),
    ('{\u3000"a": 1}', 2, "invisible character (U+3000)", True),
    ('{"a": True}', 7, "JSON writes true", True),
    ('{"a": None}', 7, "JSON writes null", True),
    ('{"a": yes}', 7, 'write "yes"', False),
    ("{a: 1}", 2, 'write "a"', False),
    ('{"a": 01}', 7, "no JSON number", False),
    ('{"a": 1.}', 7, "no JSON number", False),
    ('{"a": .5}', 7, "no JSON number", False),
    ('{"a": +5}', 7, "no JSON number", False),
    ('{"a": 0x10}', 7, "no JSON number", False),
    (r'{"a": "C:\temp\q"}', 15, "backslash", True),
    (r'{"a": "\u12"}', 8, "backslash", True),
    ('{"a": "b\tc"}', 9, "write \\t", True),
    ('{"a": "b\x1bc"}', 9, "write \\u001b", True),
    ('{"a": "b\n}', 9, "does not end on its line", False),
    ('{"a": 1', 8, "cut off", False),
    ('{"a": "b', 9, "cut off", False),
    ('{"a": tr', 9, "cut off", False),
    ('{"a":\n', 6, "cut off", False),
    ("{}}", 3, "closing bracket too many", False),
    ("{} {}", 4, "behind the end", False),
    ('{"a":}', 6, "expected a value", False),
    ('{"a": 1 ?}', 9, "expected a comma or a closing bracket", False),
    ("{?}", 2, "expected a key in double quotes", False),
    ('{"a" ? 1}', 6, "expected a colon", False),
]


@pytest.mark.parametrize(("text", "column", "message", "goes_on"), SYNTAX, ids=[repr(row[0]) for row in SYNTAX])
def test_a_syntax_error_is_named(text: str, column: int, message: str, goes_on: bool) -> None:
    document = read_json(text)
    fault = document.faults[0]
    assert message in fault.message
    assert document.position(fault.offset) == (1, column)
    assert document.complete is goes_on
    assert len(document.faults) == 1


@pytest.mark.parametrize("mark", ["<<<<<<< HEAD", "=======", ">>>>>>> 1a2b3c (later)", "||||||| base"])
def test_a_mark_that_a_merge_left_is_named(mark: str) -> None:
    document = read_json(f'{{"a": 1,\n{mark}\n"b": 2}}')
    [fault] = document.faults
    assert fault.message.startswith("a merge left its marks here; keep one of the two versions")
    assert document.position(fault.offset) == (2, 1)


def test_what_does_not_belong_is_shown_up_to_the_end_of_its_line() -> None:
    [fault] = read_json('{"a": 1,\n? what\n"b": 2}').faults
    assert fault.message == "'? what' does not belong here; expected a key in double quotes"


def test_nobody_is_told_to_write_a_file_without_jobs() -> None:
    [fault] = read_json("").faults
    assert fault.message.startswith("the file is empty; 'atlas rollback N' writes an accepted version back")
    assert fault.message.endswith('{"cron_jobs": {}} would be no jobs')


def test_reading_goes_on_behind_a_repair_and_places_stay_true() -> None:
    document = read_json("{'a': True,, // note\n“b”：５ \"c\": NaN,}")
    assert document.value == {"a": True, "b": 5, "c": None}
    assert [document.position(fault.offset) for fault in document.faults] == [
        (1, 2),
        (1, 7),
        (1, 12),
        (1, 14),
        (2, 1),
        (2, 4),
        (2, 6),
        (2, 12),
        (2, 15),
    ]
    assert document.position(document.member(("c",)).key_start) == (2, 7)


def test_repairs_have_a_limit() -> None:
    document = read_json("[" + "True," * 1000 + "1]")
    assert (len(document.faults), document.complete) == (MAX_REPAIRS, False)


@given(JSON, st.data())
def test_no_text_raises_and_every_fault_has_a_place_in_it(value: object, data: st.DataObject) -> None:
    text = json.dumps(value, indent=data.draw(st.sampled_from([None, 1])), ensure_ascii=data.draw(st.booleans()))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, min(len(text), at + 3)))
        text = (
            text[:at]
            + data.draw(st.sampled_from([*'{}[],:"\\\n', "NaN", "1e999", "True", "//", "/*", "１", "’", ""]))
            + text[end:]
        )
    document = read_json(text)
    assert len(document.repaired) == len(text)
    assert document.complete or document.faults
    assert not any(isinstance(found, float) and not math.isfinite(found) for _, found in places(document))
    for problem in document.problems("f"):
        assert 1 <= problem.line <= len(text.splitlines()) + 1
        assert problem.column >= 1
        assert problem.message

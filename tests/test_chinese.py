"""No English sentence on Chinese pages: whatever may be wrong in a config file is said in Chinese."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from atlas import builtin, collectors, scheduler
from atlas.collectors.fetch import _STATUS_WORDS
from atlas.scheduler.cron.fields import KINDS
from atlas.scheduler.errors import ConfigError, Problem
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.jobs_file.parsing import parse_jobs
from atlas.scheduler.jobs_file.text import read_jobs_text
from atlas.scheduler.message import Message, from_parts, message_of, parts_of
from atlas.scheduler.reconcile.checked import Checked
from atlas.scheduler.registry import Registry
from atlas.web.words.speech import Speech
from atlas.web.words.zh import PARTS, ZH
from atlas.web.words.zh.kept import KEPT, KEPT_TOO
from atlas.web.words.zh.sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTING: Final = tuple(Path(str(package.__file__)).parent for package in (collectors, builtin))
_DATA = re.compile(r""""[^"]*"|'[^']*'|“[^”]*”|\{[^{}]*\}|\S*[_./:*\\]\S*""")
_ENGLISH = re.compile(r"[A-Za-z]{2,}(?:-[a-z]+)*(?: +[A-Za-z]{2,}(?:-[a-z]+)*){1,}")


def english_in(text: str) -> list[str]:
    """Runs of two English words or more that are no quoted value, name, path or code."""
    return _ENGLISH.findall(_DATA.sub("·", text))


def plain(count: int = 1) -> int:
    return count


async def waits() -> None:
    return None


REGISTRY = Registry()
REGISTRY.add("plain", plain)
REGISTRY.add("waits", waits)


def job(**fields: object) -> str:
    """A file with one job."""
    return json.dumps({"cron_jobs": {"a": {"cron_expression": "@hourly", "function": "plain", **fields}}})


def cron(text: object) -> str:
    return job(cron_expression=text)


CRON: tuple[object, ...] = (
    *("", "*", "* * *", "0 0 1 1 * * 2030", "61 * * * *", "0 24 * * *", "0 0 0 * *", "0 0 * 13 *", "0 0 * * 8"),
    *("0 0 30 2 *", "@reboot", "@every 5m", "@houry", "@nothing", "a * * * *", "1.5 * * * *", "0 1.5 * * *"),
    *("-1 * * * *", "5- * * * *", "9-5 * * * *", "0 0 * * fri-mon", "9-5/2 * * * *", "*5 * * * *", "*/0 * * * *"),
    *("*/x * * * *", "1,,2 * * * *", "0 0 ? * *", "0 0 * * 1#2", "0 0 L * *", "0 0 15W * *", "H * * * *", "~ * * * *"),
    *("mon * * * *", "0 0 * mon *", "0 0 * * mondays", "\uff10 * * * *", "0\u00a0* * * *", "+5 * * * *"),
    *("* " * 600, "1" * 40 + " * * * *", 5, {"a": 1}, []),
)
BROKEN: dict[str, str] = {
    **{f"cron {text!r:.40}": cron(text) for text in CRON},
    **{
        f"value {name} {value!r:.30}": job(**{name: value})
        for name, value in (
            *(("timeout", "soon"), ("timeout", "5m 1h"), ("timeout", ""), ("timeout", -1), ("timeout", True)),
            *(("timeout", 1e300), ("timezone", "Asia/Shanghia"), ("timezone", "Nowhere"), ("timezone", 8)),
            *(("executor", "async"), ("executor", "process pool"), ("kwargs", {"cuont": 1}), ("args", [1, 2])),
            *(
                ("kwargs", {"zzz": 1}),
                ("max_retries", "3"),
                ("max_retries", -1),
                ("priority", "HIHG"),
                ("enabled", None),
            ),
            *(("start_at", "2026-02-30T09:00"), ("start_at", "soon"), ("calendar", "x"), ("triggers", [{"type": "x"}])),
            *(("triggers", [{"type": "interval"}]), ("triggers", [{"type": "cron"}]), ("tags", "a"), ("name", "")),
            *(("retry_on", ["a b"]), ("unknown", 1), ("spread", "2d"), ("pool", "a"), ("keep_days", 0)),
        )
    },
    "async as thread": job(function="waits", executor="thread"),
    "not allowed": job(function="os:system"),
    "ends first": job(start_at="2026-02-02T09:00", end_at="2026-02-01T09:00"),
    "no time": '{"cron_jobs": {"a": {"function": "plain"}}}',
    "empty": "",
    "cut": '{"cron_jobs": {',
    "comment": '{"cron_jobs": {} // note\n}',
    "comma": '{"cron_jobs": {},}',
    "no comma": '{"a": 1 "cron_jobs": {}}',
    "semicolon": '{"a": 1; "cron_jobs": {}}',
    "equals": '{"cron_jobs"= {}}',
    "no colon": '{"cron_jobs" {}}',
    "curly": "{“cron_jobs”: {}}",
    "full width": '{"cron_jobs"：{}}',
    "invisible": '{\u200b"cron_jobs": {}}',
    "single": "{'cron_jobs': {}}",
    "bare key": "{cron_jobs: {}}",
    "bare word": '{"cron_jobs": {"a": hourly}}',
    "True": '{"cron_jobs": {"a": {"enabled": True}}}',
    "number": '{"cron_jobs": {"a": {"timeout": 05}}}',
    "escape": '{"cron_jobs": {"a\\q": {}}}',
    "control": '{"cron_jobs": {"a\tb": {}}}',
    "line": '{"cron_jobs": {"a\n": {}}}',
    "bracket": '{"cron_jobs": {}}}',
    "behind": '{"cron_jobs": {}} x',
    "twice": '{"cron_jobs": {}, "cron_jobs": {}}',
    "deep": '{"cron_jobs": ' + "[" * 70 + "]" * 70 + "}",
    "big": '{"cron_jobs": {}, "x": 99999999999999999999999}',
    "huge": '{"cron_jobs": {}, "x": 1e999}',
    "nan": '{"cron_jobs": {}, "x": NaN}',
    "half": '{"cron_jobs": {"a\\ud800": {}}}',
    "list": "[]",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_whatever_is_wrong_in_the_file_is_said_in_chinese(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_jobs(text, file="jobs.json", defaults=PolicyDefaults(), registry=REGISTRY)
    for problem in caught.value.problems:
        said = Speech("zh").told(problem.message)
        assert re.search("[一-鿿]", said), said
        assert english_in(said) == [], said
        assert Speech("en").told(problem.message) == problem.message


@pytest.mark.parametrize("raw", [b"\xff\xfe{\x00", b"{\x00}\x00", "中文".encode("gbk"), None], ids=repr)
def test_a_file_that_cannot_be_read_says_so_in_chinese(tmp_path: Path, raw: bytes | None) -> None:
    file = tmp_path / "jobs.json"
    if raw is not None:
        file.write_bytes(raw)
    for path in (file, tmp_path):
        with pytest.raises(ConfigError) as caught:
            read_jobs_text(path)
        said = Speech("zh").told(caught.value.problems[0].message)
        assert re.search("[一-鿿]", said), said
        assert english_in(said) == [], said


def nodes(*folders: Path) -> Iterator[ast.AST]:
    for folder in folders:
        for file in folder.rglob("*.py"):
            yield from ast.walk(ast.parse(file.read_text(encoding="utf-8")))


def test_what_rows_keep_in_plain_english_is_what_the_engine_writes() -> None:
    folders = [Path(scheduler.__file__).parent, *COLLECTING]
    written = [node.value for node in nodes(*folders) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    for english in (*KEPT, *KEPT_TOO, *SOURCES):
        for part in re.split(r"\{\w+\}", english):
            words = part.removeprefix("; 1").strip()
            assert any(words in one for one in written), (english, words)


def test_why_a_source_could_not_be_collected_is_said_in_chinese() -> None:
    """Every sentence a collector refuses with; 7 stands for the values in it."""
    said = []
    for node in nodes(*COLLECTING):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "SourceError":
            match node.args:
                case [ast.Constant(value=str() as text)]:
                    said.append(text)
                case [ast.JoinedStr(values=parts)]:
                    said.append("".join(str(one.value) if isinstance(one, ast.Constant) else "7" for one in parts))
                case _:
                    assert ast.unparse(node) == "SourceError(reason, transient=not hopeless)"
    assert len(said) > 25
    for text in [*said, *(f"the server answers 404: {words}" for words in _STATUS_WORDS.values())]:
        told = Speech("zh").told(text)
        assert re.search("[一-鿿]", told), text
        assert english_in(told) == [], told


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("the attempt ran longer than its limit of 2.5 s", "本次尝试超过了 2.5 秒的时限"),
        (
            "the worker process 42 was killed by SIGKILL (by hand, or because memory ran out)",
            "工作进程 42 被 SIGKILL 终止（手动终止，或内存不足）",
        ),
        (
            "the loop that looks for due jobs was restarted: it had not looked for due jobs for 4m 33s",
            "查找到期作业的循环已重启：已有 4m 33s 没有查找到期作业",
        ),
        (
            "none of its 3 new pages could be read; the first: the server answers 403: it refuses us",
            "3 个新页面都无法读取；第一个：服务器应答 403：拒绝访问",
        ),
        ("a sign-in page came in place of a feed: '登录'", "返回的是登录页而不是订阅源：'登录'"),
        ("no change to jobs", "作业没有变化"),
        (
            "no function 'a:b': ImportError: no; did you mean 'a:c'?",
            "没有函数 'a:b'：ImportError: no；您是指 'a:c' 吗？",
        ),
        ("ValueError: the attempt ran longer", "ValueError: the attempt ran longer"),
        ("a {brace} of somebody else", "a {brace} of somebody else"),
    ],
    ids=["limit", "killed", "nested", "source", "page", "revision", "function", "somebody else's", "braces"],
)
def test_what_rows_keep_in_plain_english_is_said_in_chinese(english: str, chinese: str) -> None:
    assert Speech("zh").told(english) == chinese
    assert Speech("en").told(english) == english


def test_an_error_of_many_problems_is_said_in_chinese() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_jobs(
            '{"cron_jobs": {"a": {"cron_expression": "61 * * * *"}, "b": {"timeout": "soon"}}}',
            file="jobs.json",
            defaults=PolicyDefaults(),
            registry=None,
        )
    lines = Speech("zh").told(message_of(caught.value)).splitlines()
    assert len(lines) == len(caught.value.problems) == len(str(caught.value).splitlines())
    assert lines[0].startswith('jobs.json:1:42: cron_jobs.a.cron_expression: "61 * * * *": 分 61 大于 59；'), lines
    assert [english_in(line) for line in lines] == [[]] * len(lines)


def test_every_field_of_cron_has_a_chinese_name() -> None:
    for kind in KINDS:
        for text in (kind.name, kind.plural, kind.example, kind.allowed):
            assert re.search("[一-鿿、]", Speech("zh").told(text)), text


def test_no_text_stands_in_two_parts() -> None:
    assert sum(len(part) for part in PARTS) == len(ZH)


def test_a_warning_that_was_stored_keeps_what_it_was_made_of() -> None:
    message = Message("unknown key{proposal}", proposal=Message("; did you mean {name}?", name='"a"'))
    warnings = (Problem(file="f", path="a", message=message), Problem(file="f", path="b", message="plain {text}"))
    checked = Checked(program="p", defaults="{}", functions={}, rows="", jobs=1, reload="auto", warnings=warnings)
    again = Checked.from_json(checked.to_json())
    assert again == checked
    assert Speech("zh").told(again.warnings[0].message) == '未知的键；您是指 "a" 吗？'
    assert Speech("zh").told(again.warnings[1].message) == "plain {text}"


@pytest.mark.parametrize("parts", [3, ["a"], ["{a}", {}], ["{a}", {"a": 1}], ["{0}", {}]], ids=repr)
def test_parts_that_are_none_are_refused(parts: object) -> None:
    with pytest.raises(ValueError, match=r"not the parts|has no such value"):
        from_parts(parts)
    assert from_parts(parts_of("{a}")) == "{a}"

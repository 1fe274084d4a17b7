"""The README is true: its programs run and print what it says, its config loads, its commands exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import atlas.scheduler
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.jobs_file.format import CalendarEntry, DateTrigger, IntervalTrigger, JobEntry, JobsDocument
from atlas.scheduler.jobs_file.parsing import parse_jobs

ROOT = Path(__file__).parent.parent
README, CHINESE, FIELDS = ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "config" / "README.md"
READMES = [README, CHINESE, FIELDS]


class Block(NamedTuple):
    language: str
    text: str


def blocks(readme: Path) -> list[Block]:
    return [
        Block(*found)
        for found in re.findall(r"^```(\w+)\n(.*?)^```$", readme.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ]


class Program(NamedTuple):
    name: str
    code: str
    output: str | None


def programs(readme: Path) -> list[Program]:
    """Python blocks; a text block right behind one that begins with ``$ python NAME`` is what it prints, each time."""
    found, all_blocks = [], blocks(readme)
    for block, after in zip(all_blocks, [*all_blocks[1:], Block("", "")], strict=True):
        if block.language == "python":
            name = block.text.splitlines()[0].removeprefix("# ")
            call, _, output = after.text.partition("\n")
            found.append(Program(name, block.text, output if call == f"$ python {name}" else None))
    return found


PROGRAMS = programs(README)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("program", PROGRAMS, ids=[program.name for program in PROGRAMS])
def test_a_program_runs_twice_in_one_directory_and_prints_what_it_promises(program: Program, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "config" / "config.yaml").write_text("collect: {sources: []}\n")
    (tmp_path / program.name).write_text(program.code, "utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ATLAS_")}
    for number in ("first", "second"):
        ran = subprocess.run(
            [sys.executable, program.name],
            cwd=tmp_path,
            env={**environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "TZ": "UTC"},
            capture_output=True,
            encoding="utf-8",
            timeout=50,
            check=False,
        )
        assert ran.returncode == 0, f"the {number} time:\n{ran.stderr}"
        assert program.output is not None, "each program of the README is followed by what it prints"
        assert ran.stdout == program.output, f"the {number} time"


def test_every_jobs_file_in_the_readme_is_valid() -> None:
    texts = [block.text for readme in READMES for block in blocks(readme) if block.language == "json"]
    assert texts
    for text in texts:
        assert parse_jobs(text, file="README.md", defaults=PolicyDefaults(), registry=None).definitions


def test_every_file_a_readme_points_to_is_there() -> None:
    for readme in READMES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", readme.read_text("utf-8")):
            assert (readme.parent / target).exists(), f"{readme.name}: {target}"


def test_both_languages_have_the_same_sections_and_promises_with_the_same_tests() -> None:
    def shape(readme: Path) -> tuple[int, list[tuple[str, list[str]]], list[str]]:
        text = readme.read_text("utf-8")
        promises = re.findall(r"^\| (\d) \|.*\|(.*)\|$", text, re.MULTILINE)
        commands = re.findall(
            r"\batlas ([a-z]+)", "\n".join(one.text for one in blocks(readme) if one.language == "text")
        )
        return (
            text.count("\n## "),
            [(number, re.findall(r"\((tests/\w+\.py)\)", proofs)) for number, proofs in promises],
            sorted(set(commands)),
        )

    assert shape(README) == shape(CHINESE)
    assert [number for number, proofs in shape(README)[1] if proofs] == list("12345678")


def test_every_field_of_the_jobs_file_is_described() -> None:
    text = FIELDS.read_text("utf-8")
    for model in (JobsDocument, JobEntry, IntervalTrigger, DateTrigger, CalendarEntry):
        for name, field in model.model_fields.items():
            assert re.search(rf"[`\"]{re.escape(field.alias or name)}[`\"]", text), name


def test_every_error_that_a_readme_names_comes_from_the_package_that_apps_import() -> None:
    for readme in READMES:
        for name in re.findall(r"`(\w+Error)`", readme.read_text("utf-8")):
            assert name in atlas.scheduler.__all__, f"{readme.name}: {name}"


def test_every_make_target_and_script_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    text = "\n".join(readme.read_text("utf-8") for readme in READMES)
    for target in set(re.findall(r"`?make ([a-z-]+)\b", text)) - {"alone"}:
        if target not in {"it", "sure"}:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for script in set(re.findall(r"scripts/\w+\.py", text)):
        assert (ROOT / script).is_file(), script


def test_every_command_of_the_readme_is_known_to_the_command_line() -> None:
    from atlas.cli.commands import make_parser

    text = "\n".join(readme.read_text("utf-8") for readme in READMES)
    known = make_parser().format_help()
    for command in set(re.findall(r"^(?:\.venv/bin/)?atlas ([a-z]+)", text, re.MULTILINE)):
        assert re.search(rf"\b{command}\b", known), command

"""A YAML file read once: its data, and where each value stands in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from atlas.scheduler.errors import ConfigError, Problem
from atlas.settings_input.problems import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAX_FILE_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedYaml:
    """The mapping a file holds, with the marks of its parts."""

    file: Path
    data: dict[str, Any]
    """What it holds; empty for an empty file."""
    _text: str = ""
    _root: yaml.Node | None = None

    def problem(self, path: Sequence[str | int], message: str, *, with_key: bool = False) -> Problem:
        """A problem with the value at ``path``, or with its key, located there or at what should have held it."""
        node, key, missing = self._root, None, False
        for step in path:
            found = _child(node, step)
            if found is None:
                missing = True
                break
            key, node = found
        shown = key if with_key and key is not None else node
        mark = None if shown is None else shown.start_mark
        return Problem(
            file=self.file,
            line=mark.line + 1 if mark else 0,
            column=mark.column + 1 if mark else 0,
            path=".".join(map(str, path)),
            value=None if missing or with_key or shown is None else shorten(self._source(shown)),
            message=message,
        )

    def _source(self, node: yaml.Node) -> str:
        """The text of ``node`` as it stands in the file."""
        return self._text[node.start_mark.index : node.end_mark.index]


def read_yaml(file: Path) -> LocatedYaml:
    """The mapping in ``file``.

    Raises:
        ConfigError: It cannot be read, is over 1 MB, is not UTF-8 or not YAML, is no mapping, or names a key twice.
    """

    def failure(message: str, mark: yaml.Mark | None = None) -> ConfigError:
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        return ConfigError([Problem(file=file, path="", message=message, line=line, column=column)])

    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise failure(f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise failure("is over 1 MB, which no settings file needs")
    try:
        text = raw.decode("utf-8-sig")
        root, data = _parse(text)
    except UnicodeDecodeError as error:
        raise failure(f"is not UTF-8 text (byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        reason = "; ".join(part for part in (error.context, error.problem) if part)
        raise failure(f"is not YAML: {reason}", error.problem_mark or error.context_mark) from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise failure(f"is not YAML: {reason}") from error
    if not isinstance(data, dict):
        raise failure(f"must hold sections such as `scheduler:`, not a single {type(data).__name__}")
    located = LocatedYaml(file=file, data=data, _text=text, _root=root)
    if root is not None and (twice := [located.problem(path, text, with_key=True) for path, text in _repeated(root)]):
        raise ConfigError(twice)
    return located


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    """The node tree and the data of ``text``."""
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        return root, {} if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    """Key and value node found in ``node`` under ``step``; the key is None in a list."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    return None


def _repeated(root: yaml.Node) -> Iterator[tuple[list[str | int], str]]:
    """Path and message of each key that its mapping names a second time. An alias is looked at once."""
    todo: list[tuple[list[str | int], yaml.Node]] = [([], root)]
    seen: set[int] = set()
    while todo:
        path, node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += [([*path, index], item) for index, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in lines and key.value != "<<":
                    line = key.start_mark.line + 1
                    yield [*path, key.value], f"stands here and again in line {line}; keep one of them"
                lines.setdefault(str(key.value), key.start_mark.line + 1)
                todo.append(([*path, str(key.value)], value))

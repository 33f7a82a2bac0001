"""YAML as a cluster file may use it, with the place of every value.

The parts of YAML that surprise are refused: aliases, tags, duplicate keys, several documents,
words that one YAML reads as a number or a truth value and another as text. What is refused is
found in the event stream, before anything is built, so a hostile file costs neither time nor
memory. What the values mean is not known here.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labctl.errors import ConfigError, ConfigProblem

BYTES_MOST = 256 * 1024
DEPTH_MOST = 32

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C parser where PyYAML has it: ten times as quick, the same events."""

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}
_DOUBTFUL = re.compile(
    r"(?i:y|yes|n|no|on|off|true|false|null|[-+]?\.inf|\.nan)"  # truth values of YAML 1.1, other spellings
    r"|[-+]?0[0-9_]+|0[xob][0-9a-fA-F_]+"  # octal in one YAML, decimal in another
    r"|[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+|[-+]?(?:[0-9][0-9_]*)?\.[0-9_]+|[-+]?[0-9]+\."
    r"|[-+]?[0-9]+_[0-9_]*|[-+]?[0-9]+(?::[0-5]?[0-9])+|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?|=|<<"
)


@dataclass(frozen=True)
class Position:
    """A line and a column, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Scalar:
    """A single value: str, int, bool or None. ``text`` is what stands in the file."""

    value: str | int | bool | None
    text: str
    place: Position


@dataclass(frozen=True)
class Items:
    """A list."""

    items: tuple[Tree, ...]
    place: Position


@dataclass(frozen=True)
class Entries:
    """A mapping: ``entries`` maps each key to the key's place and its value."""

    entries: dict[str, tuple[Position, Tree]]
    place: Position


Tree = Scalar | Items | Entries


def plain(tree: Tree) -> Any:
    """The values without their places."""
    if isinstance(tree, Scalar):
        return tree.value
    if isinstance(tree, Items):
        return [plain(item) for item in tree.items]
    return {key: plain(value) for key, (_, value) in tree.entries.items()}


def read(path: Path) -> Tree:
    """The one document of the file at ``path``. Raises `ConfigError` with every problem found."""
    try:
        data = _content(path)
    except OSError as cause:
        problem = ConfigProblem(str(path), 1, 1, f"cannot be read: {cause.strerror}")
        raise ConfigError(f"{path} cannot be used", problems=[problem]) from cause
    return parse(data, str(path))


def _content(path: Path) -> bytes:
    """What a plain file holds, and one byte more than it may; a pipe or device could go on for ever."""
    # Without O_NONBLOCK the open itself waits for somebody who writes into a pipe.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file")
        with open(handle, "rb", closefd=False) as source:
            return source.read(BYTES_MOST + 1)
    finally:
        os.close(handle)


def parse(data: bytes, file: str, *, words: bool = True) -> Tree:
    """The one document in ``data``; ``file`` is the name used in problems. Raises `ConfigError`.

    ``words`` refuses those that one YAML reads as a number and another as text. It is false for a text that is
    handed on as it is, whose reader is known: what is built here then only serves to look at it.
    """
    problems: list[ConfigProblem] = []
    tree = None
    text = _decode(data, file, problems)
    if not problems:
        problems += _refused(text, file)
    if not problems:
        node = yaml.compose(text, Loader=Loader)
        if node is None:
            problems.append(_empty(file))
        else:
            tree = _Builder(file, problems, words).build(node)
    if problems or tree is None:
        raise ConfigError(f"{file} cannot be used", problems=problems)
    return tree


def dump(data: Any) -> str:
    """``data`` as YAML in the order of its keys: texts of several lines as blocks, no anchors."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


class _Dumper(yaml.SafeDumper):
    """Blocks for texts of several lines, and no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # PyYAML's signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _decode(data: bytes, file: str, problems: list[ConfigProblem]) -> str:
    def problem(message: str, value: str = "", allowed: str = "", at: int = 0) -> str:
        line = data.count(b"\n", 0, at) + 1
        column = at - (data.rfind(b"\n", 0, at) + 1) + 1
        problems.append(ConfigProblem(file, line, column, message, value, allowed))
        return ""

    if len(data) > BYTES_MOST:
        return problem("the file is too long", "more than 256 KiB", f"at most {BYTES_MOST} bytes")
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return problem("the file begins with a byte order mark", data[:3].hex(" "), "UTF-8 without one")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as bad:
        return problem("this is not UTF-8", f"byte 0x{data[bad.start]:02x}", "UTF-8", bad.start)
    if not text.strip():
        problems.append(_empty(file))
    return text


def _empty(file: str) -> ConfigProblem:
    return ConfigProblem(file, 1, 1, "the file is empty", allowed="a cluster: see `labctl config schema`")


def _refused(text: str, file: str) -> Iterator[ConfigProblem]:
    """What the event stream holds that a cluster file may not; ends where going on could cost much."""

    def problem(event: yaml.Event, message: str, value: str = "", allowed: str = "") -> ConfigProblem:
        mark: Any = event.start_mark
        return ConfigProblem(file, mark.line + 1, mark.column + 1, message, value, allowed)

    depth = documents = 0
    try:
        for event in yaml.parse(text, Loader=Loader):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    yield problem(event, "a second document begins here", "---", "one cluster per file")
                    return
            elif isinstance(event, yaml.AliasEvent):
                yield problem(event, "aliases are not read", f"*{event.anchor}", "write the value again")
                return
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                depth += 1
                if depth > DEPTH_MOST:
                    yield problem(event, "nested too deep", allowed=f"at most {DEPTH_MOST} levels")
                    return
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                depth -= 1
            if getattr(event, "anchor", None) and not isinstance(event, yaml.AliasEvent):
                yield problem(
                    event,
                    "anchors are not read",
                    f"&{getattr(event, 'anchor', '')}",
                    "write the value where it is meant",
                )
            if tag := getattr(event, "tag", None):
                yield problem(event, "tags are not read", str(tag), "plain values")
    except yaml.MarkedYAMLError as bad:
        mark = bad.problem_mark or bad.context_mark
        where = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        yield ConfigProblem(
            file, *where, f"not YAML: {bad.problem or bad.context}", allowed=_hint(text, where)
        )
    except yaml.reader.ReaderError as bad:
        before = text[: bad.position] if isinstance(bad.position, int) else ""
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        yield ConfigProblem(file, line, column, "a character that YAML does not have", repr(bad.character))


def _hint(text: str, where: tuple[int, int]) -> str:
    lines = text.splitlines()
    line = lines[where[0] - 1] if where[0] <= len(lines) else ""
    return "spaces instead of the tab" if "\t" in line else ""


class _Builder:
    """Makes the tree and collects what is wrong with keys and words."""

    def __init__(self, file: str, problems: list[ConfigProblem], words: bool) -> None:
        self._file = file
        self._problems = problems
        self._words = words

    def build(self, node: Any) -> Tree:
        place = Position(node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.SequenceNode):
            return Items(tuple(self.build(item) for item in node.value), place)
        if isinstance(node, yaml.MappingNode):
            return Entries(self._entries(node), place)
        return self._scalar(node, place)

    def _scalar(self, node: Any, place: Position) -> Scalar:
        text: str = node.value
        if node.style:  # quoted, or a block
            return Scalar(text, text, place)
        if text in _WORDS:
            return Scalar(_WORDS[text], text, place)
        if _INTEGER.fullmatch(text) and len(text) <= 18:
            return Scalar(int(text), text, place)
        if self._words and _DOUBTFUL.fullmatch(text):
            self._wrong(place, "this word is a number or a truth value to some readers and text to others",
                        text, "a decimal integer, true, false, or text in quotes")  # fmt: skip
        return Scalar(text, text, place)

    def _entries(self, node: Any) -> dict[str, tuple[Position, Tree]]:
        entries: dict[str, tuple[Position, Tree]] = {}
        for key, value in node.value:
            place = Position(key.start_mark.line + 1, key.start_mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(place, "a key must be a word", "a list or mapping")
                continue
            if key.value == "<<" and not key.style:  # nested ones multiply when they are carried out
                self._wrong(place, "merge keys are not read", "<<", "the values themselves")
            if key.value in entries:
                first = entries[key.value][0]
                message = f"the key stands here a second time, first in line {first.line}"
                self._wrong(place, message, key.value, "each key once")
            built = self.build(value)
            entries.setdefault(key.value, (place, built))
        return entries

    def _wrong(self, place: Position, message: str, value: str = "", allowed: str = "") -> None:
        self._problems.append(
            ConfigProblem(self._file, place.line, place.column, message, value[:80], allowed)
        )

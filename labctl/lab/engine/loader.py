"""Lab files: where they are, what they are called, and how one becomes a `Lab`.

A lab file is ``NN_slug.py``; its docstring's first line is the title, the rest its story. Beside
it may lie ``NN_slug.ko.md`` with the same in Korean ("# title", then the story). Listing reads
files as text and runs nothing; loading runs one file, and whatever is wrong with it
becomes a `ConfigError` that names file and line.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import re
import sys
import traceback
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl import paths
from labctl.errors import ConfigError, ConfigProblem, UsageError
from labctl.lab.api import Lab
from labctl.lab.engine import foreign
from labctl.lab.source import LabMistake

FOLDER = "labs"

LOAD_SECONDS = 30.0
"""How long a lab file may take to be loaded: the official client takes two seconds on a busy machine."""

_FILE = re.compile(r"(\d\d)_([a-z0-9_]+)\.py")
_LIKE_A_LAB = re.compile(r"(\d{1,3})[-_. ]?([^.].*)\.py")
_DASH = re.compile("[_\u2010-\u2015\u2212]")
"""What stands for a dash: a file's underscore, and what keyboards and word processors make of one."""
_RANGE = re.compile(r"(\d{1,2})-(\d{1,2})")


@dataclass(frozen=True)
class LabFile:
    """A lab as its file tells without being run; ``problem`` says why it cannot even be read."""

    number: int
    slug: str
    path: Path
    title: str = ""
    story: str = ""
    term: str = ""
    problem: ConfigProblem | None = None
    misnamed: bool = False

    @property
    def name(self) -> str:
        """``11-volume``: number and slug, as labels and messages carry it."""
        return f"{self.number:02d}-{self.slug}"


def find_folder(given: Path | None = None) -> Path:
    """The folder with the labs: ``given``, else the nearest ``labs/`` upward that holds some, else our own.

    Raises `UsageError` when ``given`` is no folder with labs.
    """
    if given is not None:
        if not given.is_dir() or not any(_FILE.fullmatch(one.name) for one in given.iterdir()):
            raise UsageError(
                f"{given} holds no lab",
                why="a lab is a file named NN_topic.py" if given.is_dir() else "there is no such folder",
                next_step="name a folder with labs, or leave the option out",
            )
        return given
    upward = paths.found_upward(FOLDER)
    if upward is not None and any(_FILE.fullmatch(one.name) for one in upward.iterdir()):
        return upward
    return paths.shipped(FOLDER)


def own_folder() -> Path:
    """Where a new lab belongs: the nearest ``labs/`` upward, else one here, which may not be there yet."""
    return paths.found_upward(FOLDER) or Path(FOLDER)


def is_lab(path: Path) -> bool:
    """Whether a file is called like a lab."""
    return bool(_FILE.fullmatch(path.name))


def discover(folder: Path) -> tuple[LabFile, ...]:
    """Every lab of a folder by number. Raises `ConfigError` when two files carry one number."""
    if not folder.is_dir():
        return ()
    found = [_read(one) for one in sorted(folder.iterdir()) if _LIKE_A_LAB.fullmatch(one.name)]
    found.sort(key=lambda one: one.number)
    problems = [
        ConfigProblem(
            str(second.path),
            1,
            1,
            f"lab {second.number:02d} is also {first.path.name}",
            allowed="one file per number",
        )
        for first, second in itertools.pairwise(one for one in found if not one.misnamed)
        if first.number == second.number
    ]
    if problems:
        raise ConfigError("two labs carry one number", problems=problems)
    return tuple(found)


def select(labs: Sequence[LabFile], words: Iterable[str], *, everything: bool = False) -> tuple[LabFile, ...]:
    """The labs that ``words`` name, each once, in the order in which they are named.

    A word is a number (``9``, ``09``), a range (``9-15``, with any dash), a slug, a file's name (``11_volume``), or
    several of these with commas. Raises `UsageError` for a word that names no lab, and when there is no word at all.
    """
    pieces = [piece for word in words for piece in word.split(",") if piece]
    if everything and pieces:
        raise UsageError("name labs or say --all, not both", next_step="leave one of them out")
    if everything:
        return tuple(labs)
    if not pieces:
        raise UsageError(
            "no lab was named",
            next_step="name one (`9`), several (`9-12,volume`) or all of them (`lab run --all`)",
        )
    chosen: dict[LabFile, None] = {}
    for piece in pieces:
        chosen.update(dict.fromkeys(_named(labs, piece)))
    return tuple(chosen)


def load(file: LabFile) -> Lab:
    """Run a lab file and return its ``lab``. Raises `ConfigError` that names the line."""
    if file.problem is not None:
        raise ConfigError(f"lab {file.name} cannot be read", problems=[file.problem])
    module = types.ModuleType(f"labctl_lab_{file.number:02d}_{file.slug.replace('-', '_')}")
    module.__file__ = str(file.path)
    sys.modules[module.__name__] = module
    try:
        with _beside(file.path.parent):
            foreign.call(lambda: _execute(file.path, module), within=LOAD_SECONDS)
        lab = module.__dict__.get("lab")
        if not isinstance(lab, Lab):
            raise _NoLab("the file defines no `lab = Lab(...)`")
        lab.refuse_incomplete()
    except Exception as raised:  # noqa: BLE001  # an author's file may raise anything
        wrong = raised.__cause__ if isinstance(raised, foreign.Escaped) and raised.__cause__ else raised
        problem = ConfigProblem(str(file.path), _line(wrong, file.path), 1, _message(wrong))
        raise ConfigError(f"lab {file.name} cannot be loaded", problems=[problem]) from wrong
    return lab


def _execute(path: Path, module: types.ModuleType) -> None:
    # Not through the import system: it would leave compiled files beside the learner's own.
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102  # loading by path is its purpose


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Let a lab import modules that lie beside it; they come last, so that none hides an installed one."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = before


def translated(file: LabFile, language: str) -> tuple[str, str]:
    """Title and story in ``language`` ("ko"), or as the file has them where there is no translation."""
    beside = file.path.with_suffix(f".{language}.md")
    if not beside.is_file():
        return file.title, file.story
    first, _, rest = beside.read_text(encoding="utf-8").partition("\n")
    return first.lstrip("# ").strip(), rest.strip()


def where(wrong: BaseException, path: Path) -> str:
    """``11_volume.py:42``: the last line of the lab file that took part, else the last of all."""
    frames = traceback.extract_tb(wrong.__traceback__)
    frame = next(
        (one for one in reversed(frames) if one.filename == str(path)), frames[-1] if frames else None
    )
    return f"{Path(frame.filename).name}:{frame.lineno}" if frame else path.name


class _NoLab(Exception):
    """A file in the shape of a lab that is none."""


def _read(path: Path) -> LabFile:
    """What the file tells; whatever is wrong with it is a problem of its own, and no other lab's."""
    match = _FILE.fullmatch(path.name)
    if match is None:
        return _misnamed(path)
    number, slug = int(match.group(1)), match.group(2).replace("_", "-")
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except OSError as refused:
        problem = ConfigProblem(str(path), 1, 1, f"cannot be read: {refused.strerror or refused}")
        return LabFile(number, slug, path, problem=problem)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as wrong:
        line = getattr(wrong, "lineno", None) or 1
        column = getattr(wrong, "offset", None) or 1
        said = getattr(wrong, "msg", wrong)
        return LabFile(
            number, slug, path, problem=ConfigProblem(str(path), line, column, f"not Python: {said}")
        )
    title, _, story = (ast.get_docstring(tree) or "").partition("\n")
    return LabFile(number, slug, path, title.strip().rstrip("."), story.strip(), _term(tree))


def _misnamed(path: Path) -> LabFile:
    """A file that looks like a lab and is not called like one: passed over in silence it would be missed."""
    match = _LIKE_A_LAB.fullmatch(path.name)
    assert match is not None
    problem = ConfigProblem(
        str(path),
        1,
        1,
        "looks like a lab and is not called like one",
        value=path.name,
        allowed="two digits, an underscore, then a-z, 0-9 and underscores: NN_topic.py",
    )
    return LabFile(int(match.group(1)), match.group(2), path, problem=problem, misnamed=True)


def _term(tree: ast.Module) -> str:
    """The ``term=`` of the file's ``Lab(...)``, if it is written as plain text."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Lab":
            for keyword in call.keywords:
                if keyword.arg == "term" and isinstance(keyword.value, ast.Constant):
                    return str(keyword.value.value)
    return ""


def _named(labs: Sequence[LabFile], given: str) -> list[LabFile]:
    word = _DASH.sub("-", given.strip().removesuffix(".py"))
    if word.isascii() and word.isdigit():
        found = [one for one in labs if one.number == int(word)]
    elif spread := _RANGE.fullmatch(word):
        first, last = map(int, spread.groups())
        if first > last:
            raise UsageError(
                f"{given!r} is no range",
                why="it begins with the larger number",
                next_step=f"write {last}-{first}",
            )
        found = [one for one in labs if first <= one.number <= last]
    else:
        found = [one for one in labs if word in (one.slug, one.name, f"{one.number}-{one.slug}")]
    if not found:
        known = ", ".join(one.name for one in labs) or "none"
        raise UsageError(
            f"no lab is called {given!r}", why=f"there are: {known}", next_step="`labctl lab list` shows them"
        )
    return found


def _line(wrong: BaseException, path: Path) -> int:
    if isinstance(wrong, SyntaxError) and wrong.filename == str(path):
        return wrong.lineno or 1
    if isinstance(wrong, LabMistake) and wrong.line:
        return wrong.line
    lines = [
        frame.lineno for frame in traceback.extract_tb(wrong.__traceback__) if frame.filename == str(path)
    ]
    return (lines[-1] if lines else 1) or 1


def _message(wrong: BaseException) -> str:
    if isinstance(wrong, LabMistake | _NoLab):
        return str(wrong)
    return f"{type(wrong).__name__}: {wrong}"

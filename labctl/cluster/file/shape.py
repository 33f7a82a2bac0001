"""What a value in a file may be: the few types of which kind's own are made.

Each says its JSON Schema and judges a tree that keeps its places. What the keys mean is not known
here; the table of them is labctl.cluster.file.kindblock's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from labctl.cluster.file.yamlfile import Entries, Items, Position, Scalar, Tree

Add = Callable[[Position, str, str, str], None]
"""Takes note of a problem: its place, what is wrong, what was found, what is allowed."""

RAW_OPTION = "--allow-raw-kind"


@dataclass(frozen=True)
class Judge:
    """Where problems go, and whether the user vouches for what reaches into the machine."""

    add: Add
    allow_raw: bool = False

    def refuse(self, name: str, tree: Tree, allowed: str) -> None:
        """Report that the value of ``name`` cannot be what stands there."""
        self.add(tree.place, f"{name} cannot be this", shown(tree), allowed)


class Shape(Protocol):
    """A type of values."""

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""

    def check(self, name: str, tree: Tree, judge: Judge) -> None:
        """Report what keeps the value of ``name`` from being one."""


@dataclass(frozen=True)
class Text:
    """A text of one line, or of several ``lines``.

    ``choices`` are all that it may be, in ``any_case``; ``quoted`` where they need quotes to be text.
    """

    choices: tuple[str, ...] = ()
    any_case: bool = False
    quoted: bool = False
    holds: Callable[[str], bool] = lambda _: True
    allowed: str = "text (a number or a truth value in quotes)"
    lines: bool = False

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"enum": list(self.choices)} if self.choices and not self.any_case else {"type": "string"}

    def check(self, name: str, tree: Tree, judge: Judge) -> None:
        """Report a value that is no text, or another than it may be."""
        value = tree.value if isinstance(tree, Scalar) else None
        if not isinstance(value, str) or not self._fits(value):
            choices = (f'"{one}"' if self.quoted else one for one in self.choices)
            allowed = " | ".join(choices) or self.allowed
            judge.refuse(name, tree, allowed)
        elif not self.lines and any(ord(character) < 32 or ord(character) == 127 for character in value):
            judge.add(tree.place, f"{name} holds a control character", ascii(value), "text of one line")

    def _fits(self, value: str) -> bool:
        if self.choices:
            return (value.upper() if self.any_case else value) in self.choices
        return self.holds(value)


@dataclass(frozen=True)
class Flag:
    """A truth value."""

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "boolean"}

    def check(self, name: str, tree: Tree, judge: Judge) -> None:
        """Report anything but true and false."""
        if not isinstance(tree, Scalar) or not isinstance(tree.value, bool):
            judge.refuse(name, tree, "true | false (not in quotes)")


@dataclass(frozen=True)
class Number:
    """A whole number from ``least`` to ``most``; ``why`` says what is not obvious about the limits."""

    least: int
    most: int
    why: str = ""

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def check(self, name: str, tree: Tree, judge: Judge) -> None:
        """Report anything but a whole number within the limits."""
        value = tree.value if isinstance(tree, Scalar) else None
        if type(value) is not int or not self.least <= value <= self.most:
            allowed = f"a whole number from {self.least} to {self.most}{self.why}"
            judge.refuse(name, tree, allowed)


@dataclass(frozen=True)
class Listed:
    """A list of values of one type; ``each`` is what one of them is called."""

    of: Shape
    each: str

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "array", "items": self.of.schema()}

    def check(self, name: str, tree: Tree, judge: Judge) -> None:
        """Report what is no list, and each item that is not of the type."""
        if not isinstance(tree, Items):
            judge.refuse(name, tree, "a list")
            return
        for item in tree.items:
            self.of.check(self.each, item, judge)


@dataclass(frozen=True)
class Mapped:
    """A mapping from free names to values of one type; ``key`` says what a name is."""

    of: Shape
    key: Text = field(default_factory=Text)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "object", "additionalProperties": self.of.schema()}

    def check(self, name: str, tree: Tree, judge: Judge) -> None:
        """Report what is no mapping, and each name and value that cannot be."""
        if not isinstance(tree, Entries):
            judge.refuse(name, tree, "a mapping")
            return
        for key, (place, value) in tree.entries.items():
            self.key.check(f"a name in {name}", Scalar(key, key, place), judge)
            self.of.check(key, value, judge)


@dataclass(frozen=True)
class Struct:
    """A mapping with known keys.

    ``owned`` are keys that another setting decides, with the reason; ``raw`` are those that need the user's word.
    """

    fields: Mapping[str, Shape]
    called: str
    required: tuple[str, ...] = ()
    raw: frozenset[str] = frozenset()
    owned: Mapping[str, str] = field(default_factory=dict)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        properties = {key: shape.schema() for key, shape in self.fields.items()}
        made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        return made | ({"required": list(self.required)} if self.required else {})

    def check(self, name: str, tree: Tree, judge: Judge) -> None:
        """Report unknown, missing and reserved keys, and each value that is not of its key's type."""
        if not isinstance(tree, Entries):
            judge.refuse(name, tree, f"a mapping: {', '.join(self.fields)}")
            return
        for key, (place, value) in tree.entries.items():
            if key in self.owned:
                judge.add(place, f"{key} is not to be set here", key, self.owned[key])
            elif key not in self.fields:
                judge.add(place, f"unknown key in {self.called}", key, ", ".join(self.fields))
            else:
                if key in self.raw and not judge.allow_raw:
                    judge.add(
                        place, f"{key} reaches into the machine or the nodes", key, f"only with {RAW_OPTION}"
                    )
                self.fields[key].check(key, value, judge)
        for key in self.required:
            if key not in tree.entries:
                judge.add(tree.place, f"{self.called} without {key}", "", f"{key}: ...")


def child(tree: Tree | None, key: str) -> Tree | None:
    """The value of ``key``; None where it is absent or ``tree`` is no mapping."""
    found = tree.entries.get(key) if isinstance(tree, Entries) else None
    return found[1] if found else None


def items(tree: Tree | None) -> tuple[Tree, ...]:
    """The items of a list; none of anything else."""
    return tree.items if isinstance(tree, Items) else ()


def text(tree: Tree | None) -> str | None:
    """The text that stands there; None for anything else."""
    return tree.value if isinstance(tree, Scalar) and isinstance(tree.value, str) else None


def number(tree: Tree | None) -> int | None:
    """The whole number that stands there; None for anything else."""
    value = tree.value if isinstance(tree, Scalar) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def shown(tree: Tree) -> str:
    """What stands there, in a word for people."""
    if isinstance(tree, Scalar):
        return tree.text or "nothing"
    return "a mapping" if isinstance(tree, Entries) else "a list"

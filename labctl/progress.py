"""What work says while it goes on, without knowing who listens.

Everything below the command line takes a `Progress` and reports to it; the console is
one listener, a test another. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """One named piece of work that is under way."""

    def note(self, text: str) -> None:
        """Replace the step's live remark: what it waits for and why it is not there yet."""

    def result(self, text: str) -> None:
        """Say, for the step's final line, what came of it ("3 nodes", "already present")."""


class Overall(Protocol):
    """A whole that consists of pieces of work."""

    def advance(self, count: int = 1) -> None:
        """Say that ``count`` more pieces are done."""


class Progress(Protocol):
    """A listener for steps and remarks. Any thread may call it at any time; a step belongs to the thread it is in."""

    def step(self, title: str) -> AbstractContextManager[Step]:
        """Open a step; leaving the block normally ends it well, leaving by exception ends it badly."""

    def overall(self, total: int, title: str) -> AbstractContextManager[Overall]:
        """Open a whole of ``total`` pieces of work, which may go on side by side."""

    def say(self, text: str) -> None:
        """A remark that belongs to no step."""


class Quiet:
    """The listener that keeps nothing."""

    def note(self, text: str) -> None:
        """Forget the remark."""

    def result(self, text: str) -> None:
        """Forget the outcome."""

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:  # noqa: ARG002  # the protocol's signature
        """Open a step nobody sees."""
        yield self

    def advance(self, count: int = 1) -> None:
        """Forget the progress."""

    @contextmanager
    def overall(self, total: int, title: str) -> Iterator[Overall]:  # noqa: ARG002  # the protocol's signature
        """Open a whole nobody sees."""
        yield self

    def say(self, text: str) -> None:
        """Forget the remark."""

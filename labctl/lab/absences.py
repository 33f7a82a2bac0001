"""What a lab takes away for a while: the authors' side of counterfactuals."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


class Absences:
    """What one lab has taken away."""

    def __init__(self, handle: Any, *, placebo: bool = False) -> None:
        self._handle = handle
        self.placebo = placebo
        self._active: list[str] = []

    @property
    def active(self) -> tuple[str, ...]:
        """The takings-away that the lab's code is inside of now, in a placebo too."""
        return tuple(self._active)

    @contextlib.contextmanager
    def away(self, name: str) -> Iterator[bool]:
        """A block that counts as an absence; yields whether something must really be taken away."""
        self._active.append(name)
        try:
            yield not self.placebo
        finally:
            self._active.remove(name)


class TakesAway:
    """The part of the handle by which a lab takes things away; each is a ``with`` block."""

    absences: Absences
    node: Any

    @contextlib.contextmanager
    def frozen(self, node: str) -> Iterator[None]:
        """Freeze a node for the length of a block; it goes on at every exit from the block."""
        with self.absences.away(f"node {node}") as really:
            if not really:
                yield
                return
            found = self.node(node)
            try:
                found.pause()
                yield
            finally:
                found.unpause()

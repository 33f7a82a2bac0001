"""What a step of a bring-up is.

A frozen object that says of itself all that the runner must know: when it takes part, what it
changes, and beside which other step it may run. This module knows no step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from labctl.cluster.up.plan import Action

if TYPE_CHECKING:
    from labctl import progress
    from labctl.cluster.up.context import Context

MAKE: frozenset[Action] = frozenset({"create", "replace"})
REPLACE: frozenset[Action] = frozenset({"replace"})
VERIFY: frozenset[Action] = frozenset({"create", "replace", "verify"})
"""Also for a cluster that runs and whose proof is not on record."""

Changes = Literal["nothing", "the former cluster", "the new cluster"]


@dataclass(frozen=True)
class UpStep:
    """A step. ``name`` is the phase in the journal, and the key of its seconds.

    ``title`` is what the user reads, with ``{spec}`` for the cluster's spec; '' for a step that shows lines of
    its own. ``changes`` says what is no longer as it was once the step has begun. With ``beside`` it runs in a
    thread of its own while the step of that name does, from the moment on that ``awaits`` returns.
    """

    name: str
    does: Callable[[Context, progress.Step], None]
    title: str = ""
    part_of: frozenset[Action] = MAKE
    changes: Changes = "nothing"
    beside: str = ""
    awaits: Callable[[Context], None] | None = None

"""What a look at the cluster may raise: not as it should be, or not to be had on this cluster.

Below everything else of the authors' side, so that conditions and the handle can raise it too.
"""

from __future__ import annotations

from labctl.waiting import NotYet


class CheckFailed(NotYet):
    """What was looked at is not as it should be: now, and for good once the check's time is over."""

    def __init__(self, seen: str, *, expected: str = "") -> None:
        super().__init__(seen)
        self.seen = seen
        self.expected = expected


class Unmet(Exception):
    """Raised in an experiment before it acts: the cluster lacks what it needs; the text says what."""


def expect(holds: bool, *, seen: object, expected: object = "") -> None:
    """Go on if ``holds``, else raise `CheckFailed` that says what was ``seen`` and, unless the check's
    title says it already, what was ``expected``."""
    if not holds:
        raise CheckFailed(str(seen), expected=str(expected))

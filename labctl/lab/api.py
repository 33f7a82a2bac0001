"""The authors' API: one `Lab` object per file, plain functions registered in source order.

Steps act and never wait, checks observe and never act, the runner waits. This module only
records what an author wrote and refuses what the rules forbid, with a message that the
loader puts beside the line. It knows nothing of Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from labctl.waiting import NotYet

if TYPE_CHECKING:
    from labctl.lab.handle import Cluster

WITHIN_SECONDS = 30.0
"""How long a check may take to come true when its author names no time."""
WHEN_SECONDS = 120.0
"""How long a step waits for its ``when=``; a present image starts in seconds, a volume in ten."""

NEEDS = ("node access", "load balancer", "NetworkPolicy", "host reaches nodes")
"""What a lab may ask of a cluster, besides ``workers=N``."""

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?")
_WORKERS = re.compile(r"workers=([1-9]\d?)")

Act = Callable[["Cluster"], Any]
"""What every function of a lab is: it takes the handle on the cluster."""
Condition = Callable[["Cluster"], None]
"""Returns when it holds; raises `CheckFailed` (not yet) or `labctl.waiting.Hopeless` (never again)."""
Function = TypeVar("Function", bound=Callable[..., Any])


class LabMistake(ValueError):
    """A lab file breaks a rule of the API; the loader adds the file and the line."""


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


@dataclass(frozen=True)
class Step:
    """An action and the conditions that it waits for, at most ``within`` seconds."""

    id: str
    title: str
    act: Act
    when: tuple[Condition, ...]
    within: float


@dataclass(frozen=True)
class Check:
    """An observation that must come true ``within`` seconds and then stay so for ``consistently`` seconds.

    With a ``control`` each round counts only while the control holds in the same round.
    """

    id: str
    title: str
    look: Condition
    within: float
    consistently: float
    control: Condition | None


@dataclass(frozen=True)
class Trial:
    """An experiment: a generator that takes something away and yields `Holds` meanwhile."""

    id: str
    title: str
    act: Callable[[Cluster], Experiment]


@dataclass(frozen=True)
class Holds:
    """A statement of an experiment; the runner makes it a check of its own in the results."""

    title: str
    look: Condition
    within: float
    consistently: float
    control: Condition | None


Experiment = Generator[Holds, None, None]
"""What the generator function of an experiment returns."""


@dataclass(frozen=True)
class Sabotage:
    """A fault put in on purpose, and the ids of the checks that must fail under it.

    A generator function puts the fault in before its ``yield`` and takes it away after.
    """

    id: str
    title: str
    act: Act
    breaks: tuple[str, ...]


@dataclass(frozen=True)
class Hint:
    """Advice computed from the cluster's state, for the checks with these ids (none: for every check)."""

    advise: Callable[[Cluster], str | None]
    checks: tuple[str, ...]


class Lab:
    """One lab, filled by its decorators in source order.

    ``namespace`` (or each of ``owns_namespaces``) belongs to the lab: the runner makes it before the first
    step and removes it with all that is in it. ``needs`` names what the cluster must have, see `NEEDS`;
    ``touches`` names the components that the lab stops; ``term`` is the term of the study notes.
    """

    def __init__(
        self,
        *,
        namespace: str = "",
        owns_namespaces: Sequence[str] = (),
        term: str = "",
        needs: Sequence[str] = (),
        touches: Sequence[str] = (),
    ) -> None:
        self.namespaces = tuple(dict.fromkeys([*([namespace] if namespace else []), *owns_namespaces]))
        self.term = term
        self.needs = tuple(needs)
        self.touches = tuple(touches)
        self.steps: list[Step] = []
        self.observations: list[Check | Trial] = []
        self.sabotages: list[Sabotage] = []
        self.hints: list[Hint] = []
        self._ids: dict[Callable[..., Any], str] = {}
        self._refuse_wrong_names()

    @property
    def namespace(self) -> str:
        """The lab's first namespace: where its memory is kept and where the handle looks by default."""
        return self.namespaces[0]

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks in source order, experiments left out."""
        return tuple(one for one in self.observations if isinstance(one, Check))

    def step(
        self, title: str, *, when: Condition | Sequence[Condition] | None = None, within: float = WHEN_SECONDS
    ) -> Callable[[Function], Function]:
        """Register an action. It starts once every ``when`` holds, and the lab is ERROR if that takes
        longer than ``within`` seconds."""
        conditions = _conditions(when)
        _refuse(within <= 0, "within= must be more than 0 seconds")

        def register(act: Function) -> Function:
            self.steps.append(Step(self._name(act), title, act, conditions, within))
            return act

        return register

    def check(
        self,
        title: str,
        *,
        within: float = WITHIN_SECONDS,
        consistently: float = 0.0,
        control: Condition | None = None,
    ) -> Callable[[Function], Function]:
        """Register an observation. It must come true ``within`` seconds; with ``consistently`` it must then
        stay true for that many seconds, which is how a negative is stated.

        ``control`` is another check (or condition) that does the same on an allowed path: a negative
        counts only while its control holds, so ``consistently`` needs one.
        """
        _refuse_untestable(within, consistently, control)

        def register(look: Function) -> Function:
            self.observations.append(Check(self._name(look), title, look, within, consistently, control))
            return look

        return register

    def experiment(self, title: str) -> Callable[[Function], Function]:
        """Register a generator function that takes something away in a ``with`` block and yields `holds`."""

        def register(act: Function) -> Function:
            self.observations.append(Trial(self._name(act), title, act))
            return act

        return register

    def sabotage(
        self, title: str, *, breaks: Callable[..., Any] | Sequence[Callable[..., Any]]
    ) -> Callable[[Function], Function]:
        """Register a fault for `labctl lab prove`; ``breaks`` are the checks that must fail under it.

        A generator function yields once while the fault is in, and takes it away after the ``yield``;
        a plain one leaves that to the next reset, so it may touch nothing outside the lab's namespaces.
        """
        broken = self._known(breaks, "breaks=")

        def register(act: Function) -> Function:
            self.sabotages.append(Sabotage(self._name(act), title, act, broken))
            return act

        return register

    def hint(
        self, *, for_: Callable[..., Any] | Sequence[Callable[..., Any]] = ()
    ) -> Callable[[Function], Function]:
        """Register a function that returns advice when it sees what is wrong, and None otherwise."""
        checks = self._known(for_, "for_=")

        def register(advise: Function) -> Function:
            self.hints.append(Hint(advise, checks))
            return advise

        return register

    def refuse_incomplete(self) -> None:
        """Raise `LabMistake` unless the lab has something to look at; for the loader, after the last line."""
        _refuse(not self.observations, "the lab has no @lab.check: there is nothing to verify")

    def _name(self, function: Callable[..., Any]) -> str:
        name = function.__name__
        _refuse(name in self._ids.values(), f"two functions of the lab are called {name}")
        self._ids[function] = name
        return name

    def _known(
        self, functions: Callable[..., Any] | Sequence[Callable[..., Any]], where: str
    ) -> tuple[str, ...]:
        names = []
        looks = {one.id for one in self.observations}
        for function in (functions,) if callable(functions) else functions:
            name = self._ids.get(function, "")
            _refuse(
                name not in looks,
                f"{where} names {getattr(function, '__name__', function)!s}, which is no check of this lab",
            )
            names.append(name)
        return tuple(names)

    def _refuse_wrong_names(self) -> None:
        _refuse(not self.namespaces, "Lab() needs namespace= or owns_namespaces=")
        for name in self.namespaces:
            _refuse(not _NAME.fullmatch(name), f"{name!r} is no namespace name (a-z, 0-9, '-', at most 32)")
            _refuse(
                name in {"default"} or name.startswith("kube-"), f"namespace {name!r} belongs to the cluster"
            )
        for need in self.needs:
            known = need in NEEDS or _WORKERS.fullmatch(need)
            _refuse(not known, f"unknown need {need!r}; possible: workers=N, {', '.join(NEEDS)}")


def holds(
    title: str,
    look: Condition,
    *,
    within: float = WITHIN_SECONDS,
    consistently: float = 0.0,
    control: Condition | None = None,
) -> Holds:
    """A statement for an experiment to yield; the arguments are those of `Lab.check`."""
    _refuse_untestable(within, consistently, control)
    return Holds(title, look, within, consistently, control)


def workers_needed(need: str) -> int:
    """The number in ``workers=N``, or 0 for another need."""
    found = _WORKERS.fullmatch(need)
    return int(found.group(1)) if found else 0


def _conditions(when: Condition | Sequence[Condition] | None) -> tuple[Condition, ...]:
    if when is None:
        return ()
    return (when,) if callable(when) else tuple(when)


def _refuse_untestable(within: float, consistently: float, control: Condition | None) -> None:
    _refuse(within < 0 or consistently < 0, "within= and consistently= are seconds, not below 0")
    _refuse(
        consistently > 0 and control is None,
        "consistently= states that something does not happen; it needs control=, "
        "a check that does the same where it must work",
    )


def _refuse(wrong: bool, message: str) -> None:
    if wrong:
        raise LabMistake(message)

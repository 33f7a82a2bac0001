"""The authors' API: one `Lab` object per file, plain functions registered in source order.

Steps act and never wait, checks observe and never act, the runner waits. This module only
records what an author wrote and refuses what the rules forbid, with a message that the
loader puts beside the line. It knows nothing of Kubernetes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from labctl.lab import source
from labctl.lab.expectation import CheckFailed, Unmet, expect
from labctl.lab.source import LabMistake

if TYPE_CHECKING:
    from labctl.lab.handle import Cluster

__all__ = ["CheckFailed", "Experiment", "Lab", "LabMistake", "Unmet", "expect", "holds"]

WITHIN_SECONDS = 30.0
"""How long a check may take to come true when its author names no time."""
WHEN_SECONDS = 120.0
"""How long a step waits for its ``when=``; a present image starts in seconds, a volume in ten."""

NEEDS = ("node access", "load balancer", "NetworkPolicy", "host reaches nodes")
"""What a lab may ask of a cluster, besides ``workers=N``."""

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,14}[a-z0-9])?")
_WORKERS = re.compile(r"workers=([1-9]\d?)")

Act = Callable[["Cluster"], Any]
"""What every function of a lab is: it takes the handle on the cluster."""
Condition = Callable[["Cluster"], None]
"""Returns when it holds; raises `CheckFailed` (not yet) or `labctl.waiting.Hopeless` (never again)."""
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class LabStep:
    """An action and the conditions that it waits for, at most ``within`` seconds."""

    id: str
    title: str
    act: Act
    when: tuple[Condition, ...]
    within: float


@dataclass(frozen=True)
class Statement:
    """What must come true ``within`` seconds and then stay so for ``consistently`` seconds.

    With a ``control`` each round counts only while the control holds in the same round. ``id`` is '' for one
    that an experiment has just yielded; its place in the experiment gives it one.
    """

    title: str
    look: Condition
    within: float = WITHIN_SECONDS
    consistently: float = 0.0
    control: Condition | None = None
    id: str = ""


Check = Statement
"""A statement that stands in the lab by itself."""

Experiment = Generator["Statement | tuple[str, Condition]", None, None]
"""What the generator function of an experiment returns: statements, or a title and a condition for short."""


@dataclass(frozen=True)
class Trial:
    """An experiment: a generator function that takes something away and makes statements meanwhile.

    ``titles`` are those of its statements in source order, as its file has them.
    """

    id: str
    title: str
    act: Callable[[Cluster], Experiment]
    needs: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()

    def statement_id(self, title: str) -> str:
        """The id of one of its statements: its place, so that a better wording changes no id.

        Raises `LabMistake` for a title that the experiment's source does not have.
        """
        if title not in self.titles:
            raise LabMistake(
                f"experiment {self.id} yields {title!r}, which its source does not say literally"
            )
        return f"{self.id}.{self.titles.index(title) + 1}"

    @property
    def statement_ids(self) -> tuple[str, ...]:
        """The ids of its statements."""
        return tuple(map(self.statement_id, self.titles))


@dataclass(frozen=True)
class Sabotage:
    """A fault put in on purpose, and the ids of the checks and statements that must fail under it.

    A generator function puts the fault in before its ``yield`` and takes it away after.
    """

    id: str
    title: str
    act: Act
    breaks: tuple[str, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hint:
    """Advice computed from the cluster's state, for the checks with these ids (none: for every check)."""

    advise: Callable[[Cluster], str | None]
    checks: tuple[str, ...]


Broken = Callable[..., Any] | str
"""What a sabotage breaks: a check, a whole experiment, or a statement by its title."""


class Lab:
    """One lab, filled by its decorators in source order.

    The runner gives each run namespaces of its own and removes them with all that is in them: one, or those
    that ``namespaces`` names. ``needs`` says what the cluster must have, see `NEEDS`; ``touches`` names what the
    lab takes away or changes beyond its namespaces; ``settled`` are the conditions that the runner waits for
    between the last step and the first check; ``term`` is the term of the study notes.
    """

    def __init__(
        self,
        *,
        term: str = "",
        needs: Sequence[str] = (),
        touches: Sequence[str] = (),
        namespaces: Sequence[str] = (),
        settled: Condition | Sequence[Condition] = (),
    ) -> None:
        self.namespaces = _texts(namespaces, "namespaces=")
        self.term = term
        self.needs = _texts(needs, "needs=")
        self.touches = _texts(touches, "touches=")
        self.settled = _conditions(settled, "settled=")
        self.steps: list[LabStep] = []
        self.observations: list[Check | Trial] = []
        self.sabotages: list[Sabotage] = []
        self.hints: list[Hint] = []
        self._ids: dict[Callable[..., Any], str] = {}
        _refuse(not isinstance(term, str), "term= is a text")
        for name in self.namespaces:
            _refuse(not _NAME.fullmatch(name), f"{name!r} is no short name (a-z, 0-9, inner '-', at most 16)")
        _refuse(len(set(self.namespaces)) < len(self.namespaces), "namespaces= names one twice")
        _refuse_unknown(self.needs)

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks in source order, experiments left out."""
        return tuple(one for one in self.observations if isinstance(one, Statement))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The experiments in source order."""
        return tuple(one for one in self.observations if isinstance(one, Trial))

    @property
    def statements(self) -> dict[str, str]:
        """Each check's and each experiment's statement's id, and its title, in source order."""
        found: dict[str, str] = {}
        for one in self.observations:
            pairs = (
                [(one.statement_id(title), title) for title in one.titles] if isinstance(one, Trial) else []
            )
            found |= dict(pairs or [(one.id, one.title)])
        return found

    def step(
        self, title: str, *, when: Condition | Sequence[Condition] | None = None, within: float = WHEN_SECONDS
    ) -> Callable[[Function], Function]:
        """Register an action. It starts once every ``when`` holds, and the lab is ERROR if that takes
        longer than ``within`` seconds."""
        _refuse_title(title, "@lab.step")
        conditions = _conditions(when, "when=")
        _refuse_seconds(within, "within=", least=0.001)

        def register(act: Function) -> Function:
            source.refuse_unplain(act, "a step")
            self.steps.append(LabStep(self._name(act), title, act, conditions, within))
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
        _refuse_title(title, "@lab.check")
        _refuse_untestable(within, consistently, control)

        def register(look: Function) -> Function:
            source.refuse_unplain(look, "a check")
            source.refuse_returning(look)
            self.observations.append(Check(title, look, within, consistently, control, self._name(look)))
            return look

        return register

    def experiment(self, title: str, *, needs: Sequence[str] = ()) -> Callable[[Function], Function]:
        """Register a generator function that takes something away in a ``with`` block and yields statements:
        a title and a condition, or `holds`. Titles are written out, so that they are known beforehand."""
        _refuse_title(title, "@lab.experiment")
        wanted = _texts(needs, "needs=")
        _refuse_unknown(wanted)

        def register(act: Function) -> Function:
            source.refuse_no_generator(act, "an experiment")
            titles = source.yielded_titles(act)
            twice = [one for one in titles if titles.count(one) > 1 or one in self.statements.values()]
            _refuse(bool(twice), f"the statement {twice[0] if twice else ''!r} stands in the lab twice")
            self.observations.append(Trial(self._name(act), title, act, wanted, titles))
            return act

        return register

    def sabotage(
        self, title: str, *, breaks: Broken | Sequence[Broken], needs: Sequence[str] = ()
    ) -> Callable[[Function], Function]:
        """Register a fault for `labctl lab prove`; ``breaks`` are the checks that must fail under it, and the
        titles of experiments' statements.

        A generator function yields once while the fault is in, and takes it away after the ``yield``;
        a plain one leaves that to the next reset, so it may touch nothing outside the lab's namespaces.
        """
        _refuse_title(title, "@lab.sabotage")
        broken = self._known(breaks, "breaks=")
        _refuse(not broken, "breaks= names nothing: a sabotage that breaks nothing proves nothing")
        wanted = _texts(needs, "needs=")
        _refuse_unknown(wanted)

        def register(act: Function) -> Function:
            source.refuse_async(act, "a sabotage")
            self.sabotages.append(Sabotage(self._name(act), title, act, broken, wanted))
            return act

        return register

    @overload
    def hint(self, *, for_: Broken | Sequence[Broken] = ()) -> Callable[[Function], Function]: ...

    @overload
    def hint(self, advise: Function, *, for_: Broken | Sequence[Broken] = ()) -> Function: ...

    def hint(
        self,
        advise: Callable[[Cluster], str | None] | None = None,
        *,
        for_: Broken | Sequence[Broken] = (),
    ) -> Any:
        """Register a function that returns advice when it sees what is wrong, and None otherwise; as a
        decorator, or with one that stands ready: ``lab.hint(advice.endpoints("web"))``."""
        checks = self._known(for_, "for_=")

        def register(advise: Function) -> Function:
            source.refuse_unplain(advise, "a hint")
            self.hints.append(Hint(advise, checks))
            return advise

        return register(advise) if advise is not None else register

    def refuse_incomplete(self) -> None:
        """Raise `LabMistake` unless the lab has something to look at; for the loader, after the last line."""
        _refuse(not self.observations, "the lab has no @lab.check: there is nothing to verify")

    def _name(self, function: Callable[..., Any]) -> str:
        name = str(getattr(function, "__name__", ""))
        _refuse(not name.isidentifier(), "a decorator of the lab stands over a function with a name")
        _refuse(name in self._ids.values(), f"two functions of the lab are called {name}")
        self._ids[function] = name
        return name

    def _known(self, broken: Broken | Sequence[Broken], where: str) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for one in (broken,) if callable(broken) or isinstance(broken, str) else broken:
            names |= dict.fromkeys(self._ids_of(one, where))
        return tuple(names)

    def _ids_of(self, broken: Broken, where: str) -> tuple[str, ...]:
        """The ids that stand for a check, for all statements of an experiment, or for a statement's title."""
        if isinstance(broken, str):
            found = [name for name, title in self.statements.items() if title == broken]
            _refuse(not found, f"{where} names {broken!r}, which is no statement of this lab")
            return tuple(found)
        name = self._ids.get(broken, "")
        for one in self.observations:
            if one.id == name:
                return one.statement_ids if isinstance(one, Trial) else (name,)
        called = getattr(broken, "__name__", broken)
        raise LabMistake(f"{where} names {called!s}, which is no check of this lab")


def holds(
    title: str,
    look: Condition,
    *,
    within: float = WITHIN_SECONDS,
    consistently: float = 0.0,
    control: Condition | None = None,
) -> Statement:
    """A statement for an experiment to yield; the arguments are those of `Lab.check`."""
    _refuse_title(title, "holds()")
    _refuse_untestable(within, consistently, control)
    return Statement(title, look, within, consistently, control)


def stated(yielded: object) -> Statement:
    """What an experiment has yielded, as a statement. Raises `LabMistake` for anything else."""
    if isinstance(yielded, Statement):
        return yielded
    if isinstance(yielded, tuple) and len(yielded) == 2 and callable(yielded[1]):
        return holds(yielded[0], yielded[1])
    raise LabMistake(f"an experiment yields a title and a condition, not {type(yielded).__name__}")


def workers_needed(need: str) -> int:
    """The number in ``workers=N``, or 0 for another need."""
    found = _WORKERS.fullmatch(need)
    return int(found.group(1)) if found else 0


def _texts(given: Sequence[str], what: str) -> tuple[str, ...]:
    """A list of texts as a tuple. One text is a sequence too, of its letters; it is never what was meant."""
    _refuse(isinstance(given, str | bytes), f'{what} is a list of texts: {what}["{given!s}"]')
    try:
        texts = tuple(given)
    except TypeError:
        raise LabMistake(f"{what} is a list of texts, not {type(given).__name__}") from None
    _refuse(not all(isinstance(one, str) for one in texts), f"{what} is a list of texts")
    return texts


def _conditions(given: Condition | Sequence[Condition] | None, what: str) -> tuple[Condition, ...]:
    if given is None:
        return ()
    found = (given,) if callable(given) else tuple(given)
    _refuse(not all(map(callable, found)), f"{what} takes conditions: ready('web'), a check, or a function")
    return found


def _refuse_unknown(needs: Sequence[str]) -> None:
    for need in needs:
        known = need in NEEDS or _WORKERS.fullmatch(need)
        _refuse(not known, f"unknown need {need!r}; possible: workers=N, {', '.join(NEEDS)}")


def _refuse_title(title: object, where: str) -> None:
    said = isinstance(title, str) and bool(title.strip())
    _refuse(not said, f'{where} needs a title: {where}("What must be so")')


def _refuse_untestable(within: float, consistently: float, control: Condition | None) -> None:
    _refuse_seconds(within, "within=")
    _refuse_seconds(consistently, "consistently=")
    _refuse(control is not None and not callable(control), "control= is a check or a condition")
    _refuse(
        consistently > 0 and control is None,
        "consistently= states that something does not happen; it needs control=, "
        "a check that does the same where it must work",
    )


MOST_SECONDS = 3600.0
"""The longest time that a lab may ask for: what takes an hour is broken."""


def _refuse_seconds(seconds: object, what: str, least: float = 0.0) -> None:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds)
    fits = number and least <= float(seconds) <= MOST_SECONDS  # type: ignore[arg-type]  # it is a number
    _refuse(not fits, f"{what} is a number of seconds from 0 to {MOST_SECONDS:.0f}, not {seconds!r}")


def _refuse(wrong: bool, message: str) -> None:
    if wrong:
        raise LabMistake(message)

"""One look at the cluster, and looking again until it holds or time is over.

A look has five outcomes, and this module keeps them apart: it holds; not yet; it can no longer
hold; the probe did not run; the lab is wrong. It knows nothing of reports or of the order
in which checks come.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from labctl.errors import ApiRefused, ApiUnreachable, KubernetesError, LabctlError
from labctl.lab.api import Condition, Statement
from labctl.lab.engine import foreign
from labctl.lab.expectation import CheckFailed
from labctl.lab.handle import Cluster
from labctl.waiting import POLL_SECONDS, Deadline, Hopeless, NotYet, until

PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP answers of a server that is busy or starting; the others will be the same next time."""

LATE_SECONDS = 20.0
"""How long one look may take beyond the check's own time. The slowest that a probe does by itself is a name
whose server is silent, some 12 s; whatever takes longer does not look, it hangs."""


class Outcome(enum.Enum):
    """What one look came to."""

    HOLDS = enum.auto()
    NOT_YET = enum.auto()
    HOPELESS = enum.auto()
    DID_NOT_RUN = enum.auto()
    BROKEN = enum.auto()


@dataclass(frozen=True)
class Seen:
    """The outcome and, unless it holds, what was expected (may be empty) and what was there instead.

    ``cause`` is the exception behind it; ``by_control`` says that the control did not hold, so that the
    look itself was not even tried.
    """

    outcome: Outcome
    expected: str = ""
    actual: str = ""
    cause: Exception | None = None
    by_control: bool = False


def look_once(look: Condition, k8s: Cluster, *, within: float = 60.0) -> Seen:
    """Look and say what came of it; an interrupt is the only thing that comes out as an exception.

    A look that has not returned after ``within`` seconds is ended and is BROKEN.
    """
    try:
        with k8s.kube.translated("ask the API server"):
            foreign.refuse_value(foreign.call(lambda: look(k8s), within=within))
    except Hopeless as never:
        return Seen(Outcome.HOPELESS, actual=str(never), cause=never)
    except CheckFailed as failed:
        return Seen(Outcome.NOT_YET, failed.expected, failed.seen, failed)
    except NotYet as not_yet:
        return Seen(Outcome.NOT_YET, actual=str(not_yet), cause=not_yet)
    except ApiRefused as refused:
        return _refused(refused)
    except LabctlError as broken:
        return Seen(Outcome.DID_NOT_RUN, actual=str(broken), cause=broken)
    except Exception as wrong:  # noqa: BLE001  # an author's function may raise anything
        return Seen(Outcome.BROKEN, actual=f"{type(wrong).__name__}: {wrong}", cause=wrong)
    return Seen(Outcome.HOLDS)


def settle(
    check: Statement,
    k8s: Cluster,
    *,
    between: Callable[[], None] = lambda: None,
    on_wait: Callable[[str], None] | None = None,
    within: float | None = None,
) -> Seen:
    """Look until ``check`` holds (and has held as long as it must), can no longer hold, or its time is over.

    ``between`` is called after each look that does not hold and may raise to end the wait. ``within``
    replaces the check's own time.
    """
    return until(_Round(check, k8s, between, check.within if within is None else within), what=check.title,
                 within=math.inf, every=POLL_SECONDS, on_wait=on_wait)  # fmt: skip


class _Round:
    """The state between two looks: the time that is left, and since when it holds."""

    def __init__(self, check: Statement, k8s: Cluster, between: Callable[[], None], within: float) -> None:
        self._check = check
        self._k8s = k8s
        self._between = between
        self._deadline = Deadline(within)
        self._holds_since: float | None = None
        self._server_was_away = False
        self._last: Seen | None = None

    def __call__(self) -> Seen:
        """One round; returns the final outcome, or raises `NotYet` for another round."""
        seen = self._look()
        self._server_was_away = isinstance(seen.cause, ApiUnreachable)
        if seen.outcome is Outcome.HOLDS:
            return self._held()
        if isinstance(seen.cause, foreign.Overdue) and self._last is not None and self._deadline.over():
            return self._last  # it looked in its time, and this is what it saw
        if seen.outcome in (Outcome.HOPELESS, Outcome.BROKEN):
            return seen
        if self._holds_since is not None and seen.outcome is Outcome.NOT_YET and not seen.by_control:
            held = time.monotonic() - self._holds_since
            return replace(seen, actual=f"held for {held:.1f} s, then: {seen.actual}")
        self._holds_since = None
        self._last = seen
        self._between()
        if self._deadline.over():
            return seen
        raise NotYet(seen.actual)

    def _look(self) -> Seen:
        patience = self._deadline.left() + LATE_SECONDS
        if self._server_was_away:
            # A server that has just started refuses (403) what it will allow a moment later.
            ready = look_once(_server_ready, self._k8s)
            if ready.outcome is not Outcome.HOLDS:
                return ready
        if self._check.control is not None:
            control = look_once(self._check.control, self._k8s, within=patience)
            if control.outcome is not Outcome.HOLDS:
                wanted = control.expected or _name(self._check.control)
                return replace(
                    control,
                    expected=f"the control holds in the same round: {wanted}",
                    actual=f"the control does not hold, so nothing follows from this check: {control.actual}",
                    by_control=True,
                )
        return look_once(self._check.look, self._k8s, within=patience)

    def _held(self) -> Seen:
        now = time.monotonic()
        if self._holds_since is None:
            self._holds_since = now
        if now - self._holds_since >= self._check.consistently:
            return Seen(Outcome.HOLDS)
        raise NotYet(f"it holds; it must stay so for {self._check.consistently:.0f} s")


def _refused(refused: ApiRefused) -> Seen:
    if refused.not_found:
        return Seen(Outcome.NOT_YET, actual=f"not found: {refused.why}", cause=refused)
    outcome = Outcome.DID_NOT_RUN if refused.status in PASSING else Outcome.BROKEN
    return Seen(outcome, actual=str(refused), cause=refused)


def _server_ready(k8s: Cluster) -> None:
    try:
        k8s.kube.raw_get("/readyz", timeout=5.0)
    except KubernetesError as away:
        # /readyz lists every part of the server, one to a line, and marks those that are not ready.
        lines = away.why.splitlines() or [""]
        unready = [line for line in lines if line.startswith("[-]")]
        raise ApiUnreachable("the API server is not ready", why="; ".join(unready) or lines[0]) from away


def _name(look: Condition) -> str:
    return getattr(look, "__name__", "the control").replace("_", " ")

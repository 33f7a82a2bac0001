"""R1 (a probe that did not run proves nothing), R3 (a negative needs its control) and polling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
import urllib3
from kubernetes.client.exceptions import ApiException

from labctl.errors import ApiRefused, ApiUnreachable, CommandFailed, NodeDown, ProbeDidNotRun
from labctl.lab import Cluster
from labctl.lab.api import Check, CheckFailed, expect
from labctl.lab.engine.foreign import Escaped
from labctl.lab.engine.observe import Outcome, look_once, settle
from labctl.lab.instance import Instance
from labctl.lab.labels import NONCE
from labctl.waiting import Cancelled, Hopeless, cancellable, pause
from tests.unit.fakes.apiserver import FakeKube, missing, running

Raise = Exception | None


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.waiting.pause", lambda seconds: pause(min(seconds, 0.005)))


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
def k8s(kube: FakeKube) -> Cluster:
    return Cluster(
        kube,  # type: ignore[arg-type]  # a stand-in
        running(),
        Instance(11, "11-volume", run="r", nonce="n"),
    )


def cancelled() -> Event:
    event = Event()
    event.set()
    return event


class Script:
    """A look that does what it is told, once for each call; the last word is repeated."""

    def __init__(self, *acts: Raise | Callable[[], None]) -> None:
        self.acts = list(acts)
        self.calls = 0

    def __call__(self, k8s: Cluster) -> None:
        act = self.acts[min(self.calls, len(self.acts) - 1)]
        self.calls += 1
        if isinstance(act, Exception):
            raise act
        if act is not None:
            act()


def check(look: Any, *, within: float = 0.2, consistently: float = 0.0, control: Any = None) -> Check:
    return Check("it is so", look, within, consistently, control, "c")


HOLDS = None
NO = CheckFailed("two", expected="one")
DID_NOT_RUN = ProbeDidNotRun("the probe did not run", why="pod not there")


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (HOLDS, Outcome.HOLDS),
        (NO, Outcome.NOT_YET),
        (missing("pods", "writer"), Outcome.NOT_YET),
        (Hopeless("ImagePullBackOff"), Outcome.HOPELESS),
        (DID_NOT_RUN, Outcome.DID_NOT_RUN),
        (NodeDown("a node is down"), Outcome.DID_NOT_RUN),
        (CommandFailed(["crictl"], 1, "", "no"), Outcome.DID_NOT_RUN),
        (urllib3.exceptions.ProtocolError("reset"), Outcome.DID_NOT_RUN),
        (ApiException(status=503, reason="Service Unavailable"), Outcome.DID_NOT_RUN),
        (ApiException(status=403, reason="Forbidden"), Outcome.BROKEN),
        (ApiException(status=422, reason="Unprocessable"), Outcome.BROKEN),
        (TypeError("a typo"), Outcome.BROKEN),
        (AttributeError("a typo"), Outcome.BROKEN),
    ],
)
def test_every_exception_has_one_outcome(k8s: Cluster, raised: Raise, outcome: Outcome) -> None:
    seen = look_once(Script(raised), k8s)
    assert seen.outcome is outcome
    assert (seen.cause is None) == (outcome is Outcome.HOLDS)


def test_an_interrupt_of_the_labs_own_is_a_bug_and_one_of_ours_is_no_outcome(k8s: Cluster) -> None:
    def interrupted(k8s: Cluster) -> None:
        raise KeyboardInterrupt

    seen = look_once(interrupted, k8s)
    assert (seen.outcome, type(seen.cause)) == (Outcome.BROKEN, Escaped)
    with cancellable(cancelled()), pytest.raises(Cancelled):
        settle(check(interrupted), k8s)


def test_a_check_is_polled_until_it_holds(k8s: Cluster) -> None:
    look = Script(NO, missing("pods", "x"), DID_NOT_RUN, HOLDS)
    assert settle(check(look), k8s).outcome is Outcome.HOLDS
    assert look.calls == 4


def test_a_check_that_never_holds_ends_with_what_was_expected_and_seen(k8s: Cluster) -> None:
    look = Script(NO)
    seen = settle(check(look), k8s)
    assert (seen.outcome, seen.expected, seen.actual) == (Outcome.NOT_YET, "one", "two")
    assert look.calls > 3


def test_no_time_at_all_is_one_look(k8s: Cluster) -> None:
    look = Script(NO, HOLDS)
    assert settle(check(look), k8s, within=0.0).outcome is Outcome.NOT_YET
    assert look.calls == 1


def test_a_probe_that_never_ran_is_neither_yes_nor_no(k8s: Cluster) -> None:
    seen = settle(check(Script(NO, DID_NOT_RUN)), k8s)
    assert seen.outcome is Outcome.DID_NOT_RUN
    assert "pod not there" in seen.actual


@pytest.mark.parametrize("last", [Hopeless("phase Failed"), TypeError("a typo")])
def test_what_can_no_longer_come_true_ends_at_once(k8s: Cluster, last: Exception) -> None:
    look = Script(NO, last, HOLDS)
    seen = settle(check(look, within=60), k8s)
    assert seen.outcome in (Outcome.HOPELESS, Outcome.BROKEN)
    assert look.calls == 2


def test_between_two_looks_somebody_may_end_the_wait(k8s: Cluster) -> None:
    def dead() -> None:
        raise NodeDown("container one-worker exited")

    with pytest.raises(NodeDown):
        settle(check(Script(NO), within=60), k8s, between=dead)


def test_a_negative_must_stay_true(k8s: Cluster) -> None:
    look, control = Script(HOLDS), Script(HOLDS)
    assert settle(check(look, consistently=0.05, control=control), k8s).outcome is Outcome.HOLDS
    assert look.calls == control.calls
    assert look.calls > 3


def test_a_negative_that_breaks_fails_at_once(k8s: Cluster) -> None:
    look = Script(HOLDS, HOLDS, NO, HOLDS)
    seen = settle(check(look, within=60, consistently=60, control=Script(HOLDS)), k8s)
    assert seen.outcome is Outcome.NOT_YET
    assert seen.actual.startswith("held for 0.")
    assert seen.actual.endswith("then: two")
    assert look.calls == 3


def test_a_negative_counts_only_while_its_control_holds(k8s: Cluster) -> None:
    look = Script(HOLDS)
    seen = settle(check(look, consistently=0.01, control=Script(NO)), k8s)
    assert seen.outcome is Outcome.NOT_YET
    assert seen.by_control
    assert "the control does not hold" in seen.actual
    assert look.calls == 0


def test_a_control_that_did_not_run_makes_the_negative_unknown(k8s: Cluster) -> None:
    seen = settle(check(Script(HOLDS), consistently=0.01, control=Script(DID_NOT_RUN)), k8s)
    assert seen.outcome is Outcome.DID_NOT_RUN


def test_a_control_that_comes_back_starts_the_time_anew(k8s: Cluster) -> None:
    flickering = Script(HOLDS, NO, HOLDS)
    look = Script(HOLDS)
    assert settle(check(look, within=5, consistently=0.03, control=flickering), k8s).outcome is Outcome.HOLDS
    assert flickering.calls > 3


def test_after_the_server_was_away_it_is_first_asked_whether_it_is_ready(
    k8s: Cluster, kube: FakeKube
) -> None:
    # A server that has just started answers 403 for a moment: that must not end the check.
    kube.ready_after = 2

    def early() -> None:
        if kube.ready_after:
            raise ApiException(status=403, reason="Forbidden")

    look = Script(ApiUnreachable("away"), early)
    assert settle(check(look), k8s).outcome is Outcome.HOLDS
    assert kube.calls == ["GET /readyz"] * 3


def test_of_a_server_that_starts_only_the_parts_that_are_missing_are_named(
    k8s: Cluster, kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "500 Internal Server Error: [+]ping ok\n[-]rbac failed: reason withheld\n[+]etcd ok"

    def starting(path: str, *, timeout: float) -> str:
        raise ApiRefused("GET /readyz", status=500, reason="Internal Server Error", why=said)

    monkeypatch.setattr(kube, "raw_get", starting)
    seen = settle(check(Script(ApiUnreachable("away"))), k8s)
    assert seen.outcome is Outcome.DID_NOT_RUN
    assert seen.actual == "the API server is not ready: [-]rbac failed: reason withheld"


def test_nothing_is_remembered_is_not_yet(k8s: Cluster, kube: FakeKube) -> None:
    def recalls(k8s: Cluster) -> None:
        expect(k8s.recall("digest") == "abc", seen="another")

    assert look_once(recalls, k8s).outcome is Outcome.NOT_YET
    assert "labctl-memory" not in kube.names("config_map", "lab11")


def test_the_nonce_is_on_the_handle(k8s: Cluster) -> None:
    assert k8s.labels[NONCE] == k8s.nonce == "n"


@pytest.fixture(autouse=True)
def no_time_lost() -> Iterator[None]:
    import time

    started = time.monotonic()
    yield
    assert time.monotonic() - started < 5, "a wait did not end when it should"

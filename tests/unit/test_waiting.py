"""The only place that waits: a value or an error that says what was last seen; the clock is monotonic."""

from __future__ import annotations

import time

import pytest

from labctl import waiting
from labctl.errors import DeadlineExceeded, LabctlError, NodeDown
from labctl.waiting import Deadline, Hopeless, NotYet, until


class Clock:
    """A clock that moves only when somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(waiting, "pause", self.pause)

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def probe(*answers: object) -> object:
    rest = list(answers)

    def ask() -> object:
        answer = rest.pop(0) if len(rest) > 1 else rest[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def test_the_value_of_the_probe_is_returned_at_once(clock: Clock) -> None:
    assert until(lambda: 0, what="x", within=5) == 0
    assert clock.pauses == []


def test_it_is_asked_once_even_with_no_time(clock: Clock) -> None:
    assert until(lambda: "here", what="x", within=0) == "here"


def test_it_is_asked_until_it_holds(clock: Clock) -> None:
    assert until(probe(NotYet("0/2"), NotYet("1/2"), "done"), what="x", within=5) == "done"  # type: ignore[arg-type]
    assert clock.pauses == [waiting.POLL_SECONDS] * 2


def test_a_time_out_says_what_was_last_seen(clock: Clock) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        until(probe(NotYet("0/2"), NotYet("1/2")), what="nodes ready", within=3, next_step="look")  # type: ignore[arg-type]
    error = caught.value
    assert error.last == "1/2"
    assert error.seconds == 3
    assert "nodes ready" in error.what
    assert error.next_step == "look"
    assert clock.now == 1003.0


def test_the_last_pause_ends_with_the_deadline(clock: Clock) -> None:
    with pytest.raises(DeadlineExceeded):
        until(probe(NotYet("no")), what="x", within=1.2, every=0.5)  # type: ignore[arg-type]
    assert clock.pauses == pytest.approx([0.5, 0.5, 0.2])


def test_each_new_observation_is_told_once(clock: Clock) -> None:
    told: list[str] = []
    answers = [NotYet("a"), NotYet("a"), NotYet("b"), NotYet("a"), 1]
    until(probe(*answers), what="x", within=9, on_wait=told.append)  # type: ignore[arg-type]
    assert told == ["a", "b", "a"]


def test_what_cannot_come_true_ends_the_wait_at_once(clock: Clock) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        until(probe(NotYet("wait"), Hopeless("image refused")), what="x", within=60)  # type: ignore[arg-type]
    assert "image refused" in caught.value.last
    assert clock.now < 1002


def test_what_cannot_come_true_may_have_an_error_of_its_own(clock: Clock) -> None:
    def gone(reason: str) -> LabctlError:
        return NodeDown("a node is down", why=reason)

    with pytest.raises(NodeDown) as caught:
        until(probe(Hopeless("exited")), what="x", within=60, hopeless=gone)  # type: ignore[arg-type]
    assert caught.value.why == "exited"


def test_any_other_exception_is_not_swallowed(clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError):
        until(lambda: 1 // 0, what="x", within=60)


def test_the_wall_clock_has_no_say(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """F34: the wall clock jumps back an hour at every look, and the wait still ends in time."""
    hours = iter(range(10_000, 0, -1))
    monkeypatch.setattr(time, "time", lambda: next(hours) * 3600.0)
    with pytest.raises(DeadlineExceeded):
        until(probe(NotYet("no")), what="x", within=2)  # type: ignore[arg-type]
    assert clock.now == 1002.0


def test_a_deadline_is_shared_and_never_negative(clock: Clock) -> None:
    deadline = Deadline(10)
    clock.now += 4
    assert deadline.left() == 6
    assert not deadline.over()
    clock.now += 60
    assert deadline.left() == 0
    assert deadline.over()


def test_a_pause_takes_its_time() -> None:
    started = time.monotonic()
    waiting.pause(0.05)
    assert time.monotonic() - started >= 0.045

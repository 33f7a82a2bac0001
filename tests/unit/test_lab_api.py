from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from labctl.lab import CheckFailed, Cluster, Experiment, Lab, expect, holds
from labctl.lab.api import LabMistake
from labctl.lab.instance import Instance, new_tag
from labctl.waiting import NotYet


def look(k8s: Cluster) -> None:
    """A condition that always holds."""


def test_everything_is_kept_in_the_order_of_the_source() -> None:
    lab = Lab()

    @lab.step("first")
    def one(k8s: Cluster) -> None: ...

    @lab.step("second", when=look)
    def two(k8s: Cluster) -> None: ...

    @lab.check("a")
    def a(k8s: Cluster) -> None: ...

    @lab.experiment("e")
    def e(k8s: Cluster) -> Experiment:
        yield "it is away", look
        yield holds("it is back", look)

    @lab.check("b", consistently=3, control=a)
    def b(k8s: Cluster) -> None: ...

    @lab.sabotage("break both", breaks=[a, b])
    def s(k8s: Cluster) -> None: ...

    @lab.sabotage("break a part", breaks=("it is back", a))
    def part(k8s: Cluster) -> None: ...

    @lab.sabotage("break all of it", breaks=e)
    def whole(k8s: Cluster) -> None: ...

    assert [step.title for step in lab.steps] == ["first", "second"]
    assert lab.steps[1].when == (look,)
    assert [one.id for one in lab.observations] == ["a", "e", "b"]
    assert [one.id for one in lab.checks] == ["a", "b"]
    assert [one.breaks for one in lab.sabotages] == [("a", "b"), ("e.2", "a"), ("e.1", "e.2")]
    assert lab.statements == {"a": "a", "e.1": "it is away", "e.2": "it is back", "b": "b"}
    assert lab.checks[1].control is a


def negative_without_control(lab: Lab) -> None:
    lab.check("never", consistently=5)


def statement_without_control(lab: Lab) -> None:
    holds("never", look, consistently=5)


def breaks_no_check(lab: Lab) -> None:
    lab.sabotage("s", breaks=look)


def hint_for_no_check(lab: Lab) -> None:
    lab.hint(for_=look)


def twice_the_same_name(lab: Lab) -> None:
    lab.check("a")(look)
    lab.step("b")(look)


def no_check(lab: Lab) -> None:
    lab.step("only this")(look)
    lab.refuse_incomplete()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (negative_without_control, "it needs control="),
        (statement_without_control, "it needs control="),
        (breaks_no_check, "breaks= names look, which is no check"),
        (hint_for_no_check, "for_= names look, which is no check"),
        (twice_the_same_name, "two functions of the lab are called look"),
        (no_check, "nothing to verify"),
    ],
)
def test_what_the_rules_forbid_is_refused_where_it_stands(wrong: Callable[[Lab], None], said: str) -> None:
    with pytest.raises(LabMistake, match=said):
        wrong(Lab())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"namespaces": ("blue",), "needs": ["magic"]}, "unknown need 'magic'"),
        ({"needs": ["workers=0"]}, "unknown need"),
        ({"namespaces": ("-x",)}, "no short name"),
        ({"namespaces": ("Lab",)}, "no short name"),
        ({"namespaces": ("",)}, "no short name"),
        ({"namespaces": ("blue", "blue")}, "names one twice"),
        ({"namespaces": "blue"}, "namespaces= is a list of texts"),
        ({"needs": "workers=2"}, "needs= is a list of texts"),
        ({"touches": "kube-scheduler"}, "touches= is a list of texts"),
        ({"touches": [1]}, "touches= is a list of texts"),
        ({"needs": 2}, "needs= is a list of texts"),
        ({"settled": ["web"]}, "settled= takes conditions"),
        ({"term": 3}, "term= is a text"),
    ],
)
def test_a_lab_that_asks_for_what_is_not_there_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(LabMistake, match=re.escape(said)):
        Lab(**arguments)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, "5", None, True, 10**9])
def test_a_time_that_is_none_is_refused(seconds: Any) -> None:
    with pytest.raises(LabMistake, match="within= is a number of seconds"):
        Lab().check("a", within=seconds)
    with pytest.raises(LabMistake, match="consistently= is a number of seconds"):
        Lab().check("a", consistently=seconds, control=look)
    with pytest.raises(LabMistake, match="within= is a number of seconds"):
        Lab().step("a", within=seconds)


def test_an_instance_names_everything_after_itself() -> None:
    plain = Instance(10, "10-namespace", ("blue", "green"))
    other = Instance(10, "10-namespace", ("blue", "green"), tag="x7kq")
    assert dict(plain.namespaces) == {"blue": "lab10-blue", "green": "lab10-green"}
    assert dict(other.namespaces) == {"blue": "lab10-x7kq-blue", "green": "lab10-x7kq-green"}
    assert dict(Instance(9, "09-pod").namespaces) == {"": "lab09"}
    assert (plain.own("reader"), other.own("reader")) == ("lab10-reader", "lab10-x7kq-reader")
    assert (plain.domain, other.domain) == ("lab10.labctl.dev", "lab10-x7kq.labctl.dev")
    assert plain.selector != other.selector
    assert plain.nonce != other.nonce


def test_tags_are_random_and_may_stand_in_a_name() -> None:
    tags = {new_tag() for _ in range(200)}
    assert len(tags) > 190
    assert all(re.fullmatch("[a-z][a-z0-9]{3}", tag) for tag in tags)


def test_expect_says_what_was_seen() -> None:
    expect(True, seen="nothing wrong")
    with pytest.raises(CheckFailed) as failed:
        expect(False, seen=3, expected=2)
    assert (failed.value.seen, failed.value.expected) == ("3", "2")
    assert isinstance(failed.value, NotYet)  # so that a wait takes it for "not yet"


def test_the_authors_names_are_all_there() -> None:
    import labctl.lab

    for name in labctl.lab.__all__:
        assert getattr(labctl.lab, name) is not None
    with pytest.raises(AttributeError, match="offers"):
        labctl.lab.nonsense  # noqa: B018  # the access is the test

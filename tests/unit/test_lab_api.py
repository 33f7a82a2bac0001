from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labctl.lab import CheckFailed, Cluster, Lab, expect, holds
from labctl.lab.api import LabMistake
from labctl.waiting import NotYet


def look(k8s: Cluster) -> None:
    """A condition that always holds."""


def test_everything_is_kept_in_the_order_of_the_source() -> None:
    lab = Lab(namespace="lab11")

    @lab.step("first")
    def one(k8s: Cluster) -> None: ...

    @lab.step("second", when=look)
    def two(k8s: Cluster) -> None: ...

    @lab.check("a")
    def a(k8s: Cluster) -> None: ...

    @lab.experiment("e")
    def e(k8s: Cluster) -> Any: ...

    @lab.check("b", consistently=3, control=a)
    def b(k8s: Cluster) -> None: ...

    @lab.sabotage("break both", breaks=[a, b])
    def s(k8s: Cluster) -> None: ...

    assert [step.title for step in lab.steps] == ["first", "second"]
    assert lab.steps[1].when == (look,)
    assert [one.id for one in lab.observations] == ["a", "e", "b"]
    assert [one.id for one in lab.checks] == ["a", "b"]
    assert lab.sabotages[0].breaks == ("a", "b")
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
        wrong(Lab(namespace="lab11"))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"namespace": "kube-system"},
        {"namespace": "default"},
        {"namespace": "-x"},
        {"namespace": "Lab"},
        {"namespace": "lab11", "needs": ["magic"]},
        {"namespace": "lab11", "needs": ["workers=0"]},
    ],
)
def test_a_lab_that_could_harm_the_cluster_or_asks_for_magic_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(LabMistake):
        Lab(**arguments)


def test_namespaces_are_kept_once_and_the_first_is_the_default() -> None:
    lab = Lab(
        namespace="lab10-a", owns_namespaces=["lab10-a", "lab10-b"], needs=["workers=2", "load balancer"]
    )
    assert lab.namespaces == ("lab10-a", "lab10-b")
    assert lab.namespace == "lab10-a"


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

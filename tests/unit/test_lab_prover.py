"""The prover must see through labs whose checks cannot fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from kubernetes.client import V1ConfigMap, V1ObjectMeta

from labctl.errors import ProbeDidNotRun
from labctl.lab import Cluster, Experiment, Lab, Unmet, expect, holds
from labctl.lab.engine import namespaces as namespaces_module
from labctl.lab.engine import prover as prover_module
from labctl.lab.engine.loader import LabFile
from labctl.lab.results import LabResult, Status
from labctl.waiting import Cancelled, cancellable, pause
from tests.unit.fakes.apiserver import FakeKube
from tests.unit.fakes.site import FakeDocker, prove, prove_on, site

FILE = LabFile(11, "volume", Path(__file__), "Volumes")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.waiting.pause", lambda seconds: pause(min(seconds, 0.005)))
    monkeypatch.setattr(prover_module, "TURN_SECONDS", 0.05)
    monkeypatch.setattr(prover_module, "STAY_SECONDS", 0.05)


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


def never(k8s: Cluster) -> None:
    """A sabotage that does nothing."""


def spoil(k8s: Cluster) -> None:
    k8s.core.patch_namespaced_config_map(
        namespace=k8s.namespace, name="kept", body={"data": {"word": "spoilt"}}
    )


def remove(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_config_map(namespace=k8s.namespace, name="kept")


def reads(k8s: Cluster) -> None:
    found: Any = k8s.core.read_namespaced_config_map(namespace=k8s.namespace, name="kept")
    expect(found.data["word"] == "good", seen=found.data["word"])


def lab_with(
    *,
    look: Callable[[Cluster], None] = reads,
    sabotage: Callable[[Cluster], Any] | None = spoil,
    word: str = "good",
    touches: Sequence[str] = (),
) -> Lab:
    lab = Lab(touches=touches)

    @lab.step("Make it")
    def make(k8s: Cluster) -> None:
        body = V1ConfigMap(metadata=V1ObjectMeta(name="kept"), data={"word": word})
        k8s.core.create_namespaced_config_map(namespace=k8s.namespace, body=body)

    @lab.check("it is good", within=0.02)
    def good(k8s: Cluster) -> None:
        look(k8s)

    if sabotage is not None:
        lab.sabotage("spoil it", breaks=good)(sabotage)
    return lab


def outcome(result: LabResult) -> list[tuple[str, Status]]:
    return [(check.id, check.status) for check in result.checks]


def test_an_honest_lab_is_proven_and_leaves_nothing(kube: FakeKube) -> None:
    result = prove(kube, FILE, lab_with())
    assert result.status is Status.PASS
    assert outcome(result) == [
        ("good-untouched", Status.PASS),
        ("all-after-the-steps", Status.PASS),
        ("good-spoil", Status.PASS),
    ]
    assert kube.names("namespace") == {"kube-system"}


def test_what_was_proven_stays_when_a_finalizer_holds_the_last_reset(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces_module, "REMOVAL_SECONDS", 0.05)

    def held(k8s: Cluster) -> None:
        kube.finalizers.add(k8s.namespace)
        spoil(k8s)

    result = prove(kube, FILE, lab_with(sabotage=held))
    assert outcome(result) == [
        ("good-untouched", Status.PASS),
        ("all-after-the-steps", Status.PASS),
        ("good-held", Status.PASS),
        ("the-rest", Status.ERROR),
    ]
    assert (result.status, result.checks[-1].actual) == (Status.ERROR, result.reason)
    (left,) = result.leftovers
    assert left.startswith("namespace/lab11-")


def test_what_was_proven_stays_when_a_step_fails_in_a_later_instance(kube: FakeKube) -> None:
    def fails_the_second_time(k8s: Cluster) -> None:
        if made:
            raise KeyError("typo")
        made.append(1)

    made: list[int] = []
    lab = lab_with()
    lab.step("Once only")(fails_the_second_time)
    result = prove(kube, FILE, lab)
    assert outcome(result)[:2] == [("good-untouched", Status.PASS), ("all-after-the-steps", Status.PASS)]
    assert result.status is Status.ERROR
    assert result.reason.startswith("step 'Once only': KeyError: 'typo'")


def test_what_was_proven_stays_when_a_node_dies_between_two_checks(kube: FakeKube) -> None:
    docker = FakeDocker()
    lab = lab_with()

    @lab.check("another", within=0.02)
    def another(k8s: Cluster) -> None:
        docker.states["one-worker"] = "exited"
        reads(k8s)

    lab.sabotage("spoil it again", breaks=another)(remove)
    where = site(kube, docker=docker)
    where.guard.glance = where.guard.ask_docker  # type: ignore[method-assign]  # without its three seconds
    result = prove_on(where, FILE, lab)
    assert outcome(result)[:2] == [("good-untouched", Status.PASS), ("another-untouched", Status.FAIL)]
    assert "container one-worker exited" in result.reason


def test_a_check_that_cannot_fail_is_found_on_untouched_namespaces(kube: FakeKube) -> None:
    result = prove(kube, FILE, lab_with(look=lambda k8s: None))
    assert outcome(result)[0] == ("good-untouched", Status.FAIL)
    assert result.checks[0].actual == "'it is good' is PASS"


def test_a_sabotage_that_breaks_nothing_is_found(kube: FakeKube) -> None:
    result = prove(kube, FILE, lab_with(sabotage=never))
    assert outcome(result)[-1] == ("good-never", Status.FAIL)
    assert result.checks[-1].actual == "'it is good' is PASS"


def test_a_check_that_looks_only_whether_it_is_there_is_found(kube: FakeKube) -> None:
    def there(k8s: Cluster) -> None:
        k8s.core.read_namespaced_config_map(namespace=k8s.namespace, name="kept")

    assert prove(kube, FILE, lab_with(look=there)).status is Status.FAIL
    assert prove(FakeKube(), FILE, lab_with(look=there, sabotage=remove)).status is Status.PASS


def test_a_check_that_errs_under_its_sabotage_proves_nothing(kube: FakeKube) -> None:
    def probes(k8s: Cluster) -> None:
        try:
            reads(k8s)
        except Exception as wrong:
            if "kept" in kube.names("config_map", k8s.namespace):
                raise ProbeDidNotRun("the probe did not run", why="spoilt") from wrong
            raise

    result = prove(kube, FILE, lab_with(look=probes))
    assert outcome(result)[-1] == ("good-spoil", Status.FAIL)
    assert "ERROR: the probe did not run: spoilt" in result.checks[-1].actual


def test_a_check_that_errs_on_untouched_namespaces_proves_nothing(kube: FakeKube) -> None:
    def probes(k8s: Cluster) -> None:
        raise ProbeDidNotRun("the probe did not run", why="no pod")

    result = prove(kube, FILE, lab_with(look=probes))
    assert outcome(result)[0] == ("good-untouched", Status.FAIL)


def test_a_lab_that_does_not_hold_after_its_steps_is_found(kube: FakeKube) -> None:
    result = prove(kube, FILE, lab_with(word="bad"))
    assert outcome(result)[:2] == [("good-untouched", Status.PASS), ("good", Status.FAIL)]
    assert result.checks[1].title == "after the steps: 'it is good' holds"


def test_a_check_that_no_sabotage_breaks_is_refused_before_anything_is_touched(kube: FakeKube) -> None:
    result = prove(kube, FILE, lab_with(sabotage=None))
    assert outcome(result) == [("sabotages", Status.FAIL)]
    assert result.checks[0].actual == "none breaks it is good"
    assert kube.calls == []


def test_a_fault_that_heals_by_itself_does_not_count(kube: FakeKube) -> None:
    looks: list[int] = []

    def heals(k8s: Cluster) -> None:
        looks.append(1)
        # Untouched, after the steps, before the sabotage, broken once, whole again.
        expect(len(looks) != 4, seen="broken") if len(looks) > 1 else reads(k8s)

    result = prove(kube, FILE, lab_with(look=heals, sabotage=never))
    assert outcome(result)[-1] == ("good-never", Status.FAIL)


def test_a_fault_outside_the_lab_is_taken_away_again(kube: FakeKube) -> None:
    events: list[str] = []

    def freeze(k8s: Cluster) -> Any:
        spoil(k8s)
        events.append("in")
        yield
        events.append("out")

    assert prove(kube, FILE, lab_with(sabotage=freeze)).status is Status.PASS
    assert events == ["in", "out"]


def test_a_fault_is_taken_away_when_the_proof_is_cancelled(kube: FakeKube) -> None:
    events: list[str] = []
    cancel = Event()

    def freeze(k8s: Cluster) -> Any:
        events.append("in")
        yield
        events.append("out")

    def cancelled(k8s: Cluster) -> None:
        if events:
            cancel.set()
        reads(k8s)

    with cancellable(cancel), pytest.raises(Cancelled):
        prove(kube, FILE, lab_with(look=cancelled, sabotage=freeze))
    assert events == ["in", "out"]
    assert kube.names("namespace") == {"kube-system"}, "the interrupted instance is removed"


def test_a_negative_that_fails_by_its_control_only_proves_nothing(kube: FakeKube) -> None:
    lab = lab_with()
    positive = lab.checks[0]

    @lab.check("nothing bad", within=0.02, consistently=0.01, control=positive.look)
    def negative(k8s: Cluster) -> None: ...

    lab.sabotage("spoil the control", breaks=negative)(remove)
    result = prove(kube, FILE, lab)
    assert ("negative-remove", Status.FAIL) in outcome(result)


def always(k8s: Cluster) -> None:
    """A look that cannot fail."""


def test_every_statement_of_an_experiment_must_fail_under_its_sabotage(kube: FakeKube) -> None:
    """Of three statements two always hold: each of the two is named."""
    lab = lab_with()

    @lab.experiment("Without it")
    def without(k8s: Cluster) -> Experiment:
        reads(k8s)
        yield holds("it shows", unspoilt, within=0.02)
        yield "it goes on", always
        yield "it is back", always

    lab.sabotage("spoil the experiment", breaks=without)(spoil_data)
    result = prove(kube, FILE, lab)
    assert [name for name, status in outcome(result) if status is not Status.PASS] == [
        "without.2-spoil_data",
        "without.3-spoil_data",
    ]
    assert "'it goes on' is PASS" in [one.actual for one in result.checks]


def spoil_data(k8s: Cluster) -> None:
    """The statements are made and see it; the experiment's own start does not."""
    body = {"data": {"word": "good", "more": "spoilt"}}
    k8s.core.patch_namespaced_config_map(namespace=k8s.namespace, name="kept", body=body)


def unspoilt(k8s: Cluster) -> None:
    found: Any = k8s.core.read_namespaced_config_map(namespace=k8s.namespace, name="kept")
    expect("more" not in found.data, seen=found.data)


def test_a_statement_that_holds_on_untouched_namespaces_is_found(kube: FakeKube) -> None:
    lab = lab_with()

    @lab.experiment("Without it")
    def without(k8s: Cluster) -> Experiment:
        yield holds("it shows", reads, within=0.02)
        yield "it goes on", always

    lab.sabotage("spoil the experiment", breaks=without)(remove)
    assert [name for name, status in outcome(prove(kube, FILE, lab)) if status is not Status.PASS][:1] == [
        "without.2-untouched"
    ]


def test_a_statement_that_nothing_breaks_is_named(kube: FakeKube) -> None:
    lab = lab_with()

    @lab.experiment("Without it")
    def without(k8s: Cluster) -> Experiment:
        yield holds("it shows", unspoilt, within=0.02)
        yield holds("nobody asks this", reads, within=0.02)

    lab.sabotage("spoil the experiment", breaks="it shows")(spoil_data)
    result = prove(kube, FILE, lab)
    assert [name for name, status in outcome(result) if status is not Status.PASS] == ["without.2-unbroken"]
    assert "something breaks 'nobody asks this'" in [one.title for one in result.checks]


def counterfactual_lab(*, really: bool, touches: Sequence[str] = ()) -> Lab:
    """A lab that takes a ConfigMap away for a while, or only says so."""
    lab = lab_with(touches=touches)

    def without_it(k8s: Cluster) -> AbstractContextManager[None]:
        def put_back() -> None:
            body = V1ConfigMap(metadata=V1ObjectMeta(name="kept"), data={"word": "good"})
            if really:
                k8s.core.create_namespaced_config_map(namespace=k8s.namespace, body=body)

        return k8s.absences.own(
            "the ConfigMap",
            take=lambda: remove(k8s) if really else None,
            gone=lambda: None,
            give=put_back,
            back=lambda: None,
        )

    def is_gone(k8s: Cluster) -> None:
        there: Any = k8s.core.list_namespaced_config_map(namespace=k8s.namespace).items
        names = {one.metadata.name for one in there}
        expect(really and "kept" not in names and k8s.recall("made") is True, seen="it is there")

    def is_never_there(k8s: Cluster) -> None:
        expect(bool(k8s.recall("made")), seen="no step has run")

    @lab.step("Note that it is made")
    def note(k8s: Cluster) -> None:
        k8s.remember(made=True)

    @lab.experiment("Without it")
    def without(k8s: Cluster) -> Experiment:
        with without_it(k8s):
            yield holds("it is away", is_gone if really else is_never_there, within=0.02)
        yield holds("it is back", reads, within=0.02)

    lab.sabotage("spoil what is put back", breaks="it is back")(spoil_for_good)
    return lab


def spoil_for_good(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_config_map(namespace=k8s.namespace, name="kept")
    body = V1ConfigMap(metadata=V1ObjectMeta(name="kept"), data={"word": "spoilt"})
    k8s.core.create_namespaced_config_map(namespace=k8s.namespace, body=body)


@pytest.mark.parametrize("touches", [(), ["a worker"]])
def test_a_statement_about_an_absence_is_broken_by_the_placebo(kube: FakeKube, touches: list[str]) -> None:
    result = prove(kube, FILE, counterfactual_lab(really=True, touches=touches))
    assert [name for name, _ in outcome(result)].count("without.1-placebo") == 1
    assert ("without.1-placebo", Status.PASS) in outcome(result)


def test_only_the_placebos_of_a_lab_that_must_be_alone_may_run_beside_others() -> None:
    """They take nothing away. Those of a lab that takes only what is its own are part of its story."""
    alone = {
        one.title: one.alone
        for one in prover_module.pieces(counterfactual_lab(really=True, touches=["a worker"]))
    }
    assert (alone["story"], alone["placebos"]) == (True, False)
    assert "placebos" not in {one.title for one in prover_module.pieces(counterfactual_lab(really=True))}


@pytest.mark.parametrize("touches", [(), ["a worker"]])
def test_a_counterfactual_that_takes_nothing_away_is_named_by_its_placebo(
    kube: FakeKube, touches: list[str]
) -> None:
    result = prove(kube, FILE, counterfactual_lab(really=False, touches=touches))
    assert ("without.1-placebo", Status.FAIL) in outcome(result)
    assert result.status is Status.FAIL


def lacks(k8s: Cluster) -> None:
    raise Unmet("needs two workers")


def test_an_experiment_that_this_cluster_cannot_make_hides_no_other_fault(kube: FakeKube) -> None:
    def lab_that(sabotage: Callable[[Cluster], Any]) -> Lab:
        lab = lab_with(sabotage=sabotage)

        @lab.experiment("Without it")
        def without(k8s: Cluster) -> Experiment:
            lacks(k8s)
            yield holds("the symptom", reads)

        lab.sabotage("spoil the experiment", breaks=without)(remove)
        return lab

    result = prove(kube, FILE, lab_that(spoil))
    assert outcome(result) == [
        ("good-untouched", Status.PASS),
        ("without", Status.SKIP),
        ("all-after-the-steps", Status.PASS),
        ("without", Status.SKIP),
        ("good-spoil", Status.PASS),
        ("without", Status.SKIP),
    ]
    result = prove(FakeKube(), FILE, lab_that(never))
    assert result.status is Status.FAIL, "its own checks are proven all the same"


def test_a_sabotage_with_a_bug_is_an_error(kube: FakeKube) -> None:
    def bug(k8s: Cluster) -> None:
        raise KeyError("typo")

    result = prove(kube, FILE, lab_with(sabotage=bug))
    assert outcome(result)[-1] == ("bug", Status.ERROR)
    assert "KeyError" in result.checks[-1].actual

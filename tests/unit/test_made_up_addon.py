"""A made-up CNI plugin that the node image installs itself: no manifest of ours, yet waited for and proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml
from kubernetes.client import (
    V1DaemonSet,
    V1DaemonSetSpec,
    V1DaemonSetStatus,
    V1Deployment,
    V1DeploymentSpec,
    V1DeploymentStatus,
    V1LabelSelector,
    V1ObjectMeta,
    V1PodTemplateSpec,
)

from labctl.ci.stages import RealStages
from labctl.cluster import proof, readiness
from labctl.cluster.readiness import Lasting
from labctl.cluster.spec import ClusterSpec, complaints
from labctl.cluster.up import context, kindconfig, proven
from labctl.cluster.up.context import Options
from labctl.cluster.up.plan import Plan
from labctl.lab.engine import fitness
from labctl.network import addons
from labctl.network.addon import NETWORK, POLICY, SERVICE_PROXY, Addon, Workload
from labctl.progress import Quiet
from labctl.waiting import Deadline
from tests.unit.fakes.apiserver import FakeKube, Listener, running
from tests.unit.fakes.fleet import Fleet

AGENT = Workload("DaemonSet", "kube-system", "made-up")
MADE_UP = Addon(
    name="made-up",
    provides=frozenset({NETWORK, POLICY}),
    ready_when=(AGENT,),
    kind_settings={"networking": {"disableDefaultCNI": False}},
)
SPEC = ClusterSpec(name="one", cni="made-up", load_balancer="none")
SELECTOR = V1LabelSelector(match_labels={"app": "x"})


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line in the table is all that it takes."""
    monkeypatch.setitem(addons.CNIS, "made-up", MADE_UP)


@pytest.fixture
def kube() -> FakeKube:
    """A cluster whose own parts are ready and whose plugin has not come."""
    made = FakeKube()
    daemons(made, "kube-proxy", ready=3)
    spec = V1DeploymentSpec(replicas=2, selector=SELECTOR, template=V1PodTemplateSpec())
    status = V1DeploymentStatus(ready_replicas=2, updated_replicas=2, observed_generation=1)
    meta = V1ObjectMeta(name="coredns", generation=1)
    made.add("deployment", "kube-system", V1Deployment(metadata=meta, spec=spec, status=status))
    return made


def daemons(kube: FakeKube, name: str, *, ready: int) -> None:
    status = V1DaemonSetStatus(
        desired_number_scheduled=3, number_ready=ready, updated_number_scheduled=3, observed_generation=1,
        current_number_scheduled=3, number_misscheduled=0,
    )  # fmt: skip
    spec = V1DaemonSetSpec(selector=SELECTOR, template=V1PodTemplateSpec())
    meta = V1ObjectMeta(name=name, generation=1)
    kube.add("daemon_set", "kube-system", V1DaemonSet(metadata=meta, spec=spec, status=status))


def test_kind_is_told_to_let_it_be(kube: FakeKube) -> None:
    rendered = yaml.safe_load(kindconfig.render(SPEC))
    assert rendered["networking"]["disableDefaultCNI"] is False
    assert yaml.safe_load(kindconfig.render(ClusterSpec()))["networking"]["disableDefaultCNI"] is True
    assert complaints(SPEC) == ()


def test_its_rung_names_what_is_missing_and_holds_when_it_is_there(kube: Any) -> None:
    rungs = {rung.name: rung for rung in readiness.ladder(SPEC, kube)}
    assert list(rungs) == ["api", "proxy", "cni", "nodes", "dns"]
    with pytest.raises(Lasting, match="DaemonSet kube-system/made-up does not exist"):
        rungs["cni"].look()
    daemons(kube, "made-up", ready=3)
    assert rungs["cni"].look() == "3/3 ready"


def test_the_ladder_is_climbed_with_it(kube: Any) -> None:
    daemons(kube, "made-up", ready=3)
    heard = Listener()
    docker = Fleet()
    docker.cluster(SPEC)
    readiness.climb(readiness.ladder(SPEC, kube), running(), heard, Deadline(5), docker=docker)
    assert "CNI made-up" in heard.done
    assert heard.done.index("kube-proxy") < heard.done.index("CNI made-up") < heard.done.index("CoreDNS")


@pytest.mark.parametrize(("cni", "proofs"), [("made-up", 1), ("none", 0)])
def test_its_network_is_proven(kube: Any, monkeypatch: pytest.MonkeyPatch, cni: str, proofs: int) -> None:
    made: list[Any] = []
    monkeypatch.setattr(proof, "prove", lambda *of: made.append(of))
    monkeypatch.setattr(proof, "require", lambda result: result)
    monkeypatch.setattr(context, "connect", lambda *_: kube)
    docker = Fleet()
    spec = ClusterSpec(name="one", cni=cni, load_balancer="none")
    whose = docker.cluster(spec)
    run = context.Context(spec, Options(), Plan("create", ""), docker, Quiet(), whose, settle=0.0)
    proven.prove(run, Quiet())
    assert len(made) == proofs


def test_ci_proves_it_too(kube: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def prove(*of: Any) -> proof.ProofResult:
        made.append(of)
        return proof.ProofResult((proof.Proven("pods", "pods", True, "-", "-"),), "nonce", 0.1)

    monkeypatch.setattr("labctl.ci.stages.connect", lambda *_: kube)
    monkeypatch.setattr("labctl.ci.stages.proof.prove", prove)
    docker = Fleet()
    docker.cluster(SPEC)
    checks = RealStages(SPEC, (), Options(), docker=docker).proof(Quiet())
    assert len(made) == 1
    assert [check.id for check in checks] == ["pods"]


def test_labs_that_need_policy_run_on_it() -> None:
    here = running()
    assert "does not enforce" in fitness.unmet(("NetworkPolicy",), here)
    assert fitness.unmet(("NetworkPolicy",), replace(here, cni="made-up")) == ""
    assert "not known" in fitness.unmet(("NetworkPolicy",), replace(here, cni=None))
    assert "not known" in fitness.unmet(("load balancer",), replace(here, load_balancer=None))
    assert "has none" in fitness.unmet(("load balancer",), replace(here, load_balancer="none"))


def test_what_serves_services_itself_makes_kube_proxy_s_rung_its_own(
    kube: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without: Mapping[str, Any] = {"networking": {"kubeProxyMode": "none"}}
    spec = ClusterSpec(name="one", cni="made-up", load_balancer="none", kind=without)
    assert "nothing would serve Services" in complaints(spec)[0]
    serving = Addon(
        "made-up", frozenset({NETWORK, SERVICE_PROXY}), ready_when=(AGENT,),
        kind_settings={"networking": {"kubeProxyMode": "none"}},
    )  # fmt: skip
    monkeypatch.setitem(addons.CNIS, "made-up", serving)
    assert complaints(spec) == ()
    assert complaints(SPEC) == ()
    for one in (spec, SPEC):
        assert [rung.name for rung in readiness.ladder(one, kube)] == ["api", "cni", "nodes", "dns"]

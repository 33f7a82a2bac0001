"""Labels on everything that is created, and F22: an API server that goes away makes nothing twice."""

from __future__ import annotations

import pytest
import urllib3
from kubernetes.client import (
    V1ConfigMap,
    V1Deployment,
    V1DeploymentSpec,
    V1LabelSelector,
    V1Namespace,
    V1ObjectMeta,
    V1PodSpec,
    V1PodTemplateSpec,
)
from kubernetes.client.exceptions import ApiException

from labctl.lab import Cluster, pod
from labctl.lab.instance import PLAIN, Instance
from labctl.lab.labels import INSTANCE, LAB, NONCE, RUN, labelled
from labctl.waiting import pause
from tests.unit.fakes.apiserver import FakeKube, running

LABELS = {LAB: "11-volume", INSTANCE: PLAIN, RUN: "r", NONCE: "n"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.waiting.pause", lambda seconds: pause(min(seconds, 0.005)))


@pytest.fixture
def kube() -> FakeKube:
    kube = FakeKube()
    kube.add("namespace", "", V1Namespace(metadata=V1ObjectMeta(name="lab11")))
    return kube


@pytest.fixture
def k8s(kube: FakeKube) -> Cluster:
    k8s = Cluster(
        kube,  # type: ignore[arg-type]  # a stand-in
        running(),
        Instance(11, "11-volume", run="r", nonce="n"),
    )
    return k8s.patient(5.0)


def config_map(name: str = "kept", **labels: str) -> V1ConfigMap:
    return V1ConfigMap(metadata=V1ObjectMeta(name=name, labels=labels or None))


def never_sent() -> Exception:
    refused = urllib3.exceptions.NewConnectionError(None, "connection refused")  # type: ignore[arg-type]
    return urllib3.exceptions.MaxRetryError(None, "/", refused)  # type: ignore[arg-type]


def answer_lost() -> Exception:
    return urllib3.exceptions.ProtocolError("Connection aborted")


def create(k8s: Cluster, name: str = "kept") -> V1ConfigMap:
    return k8s.core.create_namespaced_config_map(namespace="lab11", body=config_map(name))


def test_what_is_created_carries_the_labs_labels(k8s: Cluster, kube: FakeKube) -> None:
    body = config_map(app="web")
    k8s.core.create_namespaced_config_map(namespace="lab11", body=body)
    made = kube.objects["config_map", "lab11", "kept"]
    assert made.metadata.labels == {"app": "web", **LABELS}
    assert body.metadata is not None
    assert body.metadata.labels == {"app": "web"}, "the author's own object is left alone"


def test_so_do_the_pods_that_a_controller_makes() -> None:
    template = V1PodTemplateSpec(metadata=V1ObjectMeta(labels={"app": "web"}), spec=V1PodSpec(containers=[]))
    selector = V1LabelSelector(match_labels={"app": "web"})
    body = V1Deployment(
        metadata=V1ObjectMeta(name="web"), spec=V1DeploymentSpec(selector=selector, template=template)
    )
    marked = labelled(body, LABELS)
    assert marked.spec.template.metadata.labels == {"app": "web", **LABELS}
    assert marked.spec.selector.match_labels == {"app": "web"}


def test_plain_dictionaries_are_labelled_too() -> None:
    job = {"kind": "CronJob", "metadata": {"name": "c"}, "spec": {"jobTemplate": {"spec": {"template": {}}}}}
    marked = labelled(job, LABELS)
    assert marked["metadata"] == {"name": "c", "labels": LABELS}
    assert marked["spec"]["jobTemplate"]["metadata"]["labels"] == LABELS
    assert marked["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"] == LABELS
    assert "labels" not in job["metadata"]


def test_a_pod_without_labels_gets_them() -> None:
    body = pod("writer")
    body.metadata = V1ObjectMeta(name="writer")
    assert labelled(body, LABELS).metadata.labels == LABELS


@pytest.mark.parametrize("body", ["text", None, 3, {"data": {}}])
def test_what_is_no_object_stays_as_it_is(body: object) -> None:
    assert labelled(body, LABELS) is body


def test_a_request_that_never_left_is_made_again(k8s: Cluster, kube: FakeKube) -> None:
    kube.faults["create_namespaced_config_map"] = [never_sent(), never_sent()]
    kube.ready_after = 2
    create(k8s)
    assert kube.calls.count("create_namespaced_config_map") == 3
    assert "kept" in kube.names("config_map", "lab11")


def test_an_object_whose_answer_was_lost_is_not_made_twice(k8s: Cluster, kube: FakeKube) -> None:
    kube.faults_after["create_namespaced_config_map"] = [answer_lost()]
    made = create(k8s)
    assert made.metadata is not None
    assert made.metadata.uid == kube.objects["config_map", "lab11", "kept"].metadata.uid
    assert kube.names("config_map", "lab11") == {"kept"}


def test_somebody_elses_object_of_that_name_stays_a_conflict(k8s: Cluster, kube: FakeKube) -> None:
    kube.add("config_map", "lab11", config_map())
    kube.faults["create_namespaced_config_map"] = [answer_lost()]
    with pytest.raises(ApiException) as refused:
        create(k8s)
    assert refused.value.status == 409


def test_a_plain_conflict_is_the_authors(k8s: Cluster) -> None:
    create(k8s)
    with pytest.raises(ApiException) as refused:
        create(k8s)
    assert refused.value.status == 409


def test_an_object_without_a_name_is_not_tried_twice(k8s: Cluster, kube: FakeKube) -> None:
    kube.faults["create_namespaced_config_map"] = [answer_lost()]
    with pytest.raises(urllib3.exceptions.ProtocolError):
        k8s.core.create_namespaced_config_map(
            namespace="lab11", body=V1ConfigMap(metadata=V1ObjectMeta(generate_name="kept-"))
        )


def test_a_deletion_whose_answer_was_lost_is_done(k8s: Cluster, kube: FakeKube) -> None:
    create(k8s)
    kube.faults_after["delete_namespaced_config_map"] = [answer_lost()]
    k8s.core.delete_namespaced_config_map(namespace="lab11", name="kept")
    assert kube.names("config_map", "lab11") == set()


def test_deleting_what_is_not_there_is_an_answer(k8s: Cluster) -> None:
    with pytest.raises(ApiException) as refused:
        k8s.core.delete_namespaced_config_map(namespace="lab11", name="kept")
    assert refused.value.status == 404


def test_reads_are_repeated_while_there_is_patience(k8s: Cluster, kube: FakeKube) -> None:
    create(k8s)
    kube.faults["read_namespaced_config_map"] = [answer_lost(), ApiException(status=503), never_sent()]
    k8s.core.read_namespaced_config_map(namespace="lab11", name="kept")
    assert kube.calls.count("read_namespaced_config_map") == 4


def test_without_patience_the_first_failure_comes_out(k8s: Cluster, kube: FakeKube) -> None:
    k8s.patience = 0.0
    kube.faults["read_namespaced_config_map"] = [answer_lost()]
    with pytest.raises(urllib3.exceptions.ProtocolError):
        k8s.core.read_namespaced_config_map(namespace="lab11", name="kept")


def test_patience_ends(k8s: Cluster, kube: FakeKube) -> None:
    k8s.patience = 0.05
    kube.ready_after = 10_000
    kube.faults["read_namespaced_config_map"] = [answer_lost()]
    with pytest.raises(urllib3.exceptions.ProtocolError):
        k8s.core.read_namespaced_config_map(namespace="lab11", name="kept")


def test_memory_outlives_the_handle(k8s: Cluster, kube: FakeKube) -> None:
    kube.add("config_map", "lab11", config_map("labctl-memory"))
    k8s.remember(digest="abc", pods=["a", "b"])
    k8s.remember(more=1)
    later = Cluster(
        kube,  # type: ignore[arg-type]  # a stand-in
        running(),
        Instance(11, "11-volume", run="s", nonce="m"),
    )
    assert (later.recall("digest"), later.recall("pods"), later.recall("more")) == ("abc", ["a", "b"], 1)

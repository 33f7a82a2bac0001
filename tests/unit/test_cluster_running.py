"""Finding clusters by what docker says, and keeping their kubeconfig equal to the cluster (F16, F17)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from labctl.cluster import kubeconfig, mark, running
from labctl.cluster.kubeconfig import KubeconfigEntry
from labctl.cluster.mark import Mark
from labctl.cluster.spec import ClusterSpec
from labctl.errors import ClusterNotFound, NodeDown, StateUnusable, UsageError, WriteFailed
from labctl.process import Completed
from tests.unit.fakes.fleet import Fleet

ADMIN = """
apiVersion: v1
clusters: [{cluster: {certificate-authority-data: Q0E=, server: "https://c-control-plane:6443"}, name: c}]
contexts: [{context: {cluster: c, user: admin}, name: admin@c}]
current-context: admin@c
users: [{name: admin, user: {client-certificate-data: QQ==, client-key-data: Qg==}}]
"""


class Fleet2(Fleet):
    """A fleet whose control planes publish a port and hold an admin.conf."""

    port = "40001"
    admin = ADMIN

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        described = super().inspect(*names)
        for one in described:
            one["NetworkSettings"]["Ports"] = {"6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": self.port}]}
        return described

    def exec(self, container: str, argv: Sequence[str], **_: Any) -> Completed:
        return Completed(tuple(argv), 0, self.admin, "", 0.0)


@pytest.fixture
def docker() -> Fleet2:
    return Fleet2()


def server(path: Path) -> str:
    return str(yaml.safe_load(path.read_text())["clusters"][0]["cluster"]["server"])


def test_a_cluster_is_described_by_its_labels_alone(docker: Fleet2) -> None:
    docker.cluster(ClusterSpec(name="c", workers=2))
    found = running.find("c", docker=docker)
    assert [node.name for node in found.nodes] == ["c-control-plane", "c-worker", "c-worker2"]
    assert [node.role for node in found.nodes] == ["control-plane", "worker", "worker"]
    assert (found.cni, found.load_balancer, found.owner) == ("flannel", "metallb", "0wner")
    assert found.pool == "172.18.254.224-172.18.254.255"
    assert server(found.kubeconfig) == "https://127.0.0.1:40001"
    assert found.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert running.find(None, docker=docker) == found


def test_the_kubeconfig_is_renewed_when_it_does_not_fit_and_left_alone_when_it_does(docker: Fleet2) -> None:
    docker.cluster(ClusterSpec(name="c"))
    path = running.find("c", docker=docker).kubeconfig
    first = path.stat().st_mtime_ns
    assert running.find("c", docker=docker).kubeconfig.stat().st_mtime_ns == first
    docker.port = "40002"
    assert server(running.find("c", docker=docker).kubeconfig) == "https://127.0.0.1:40002"
    path.write_text(path.read_text().replace("Q0E=", "YnJva2Vu"))
    running.find("c", docker=docker)
    assert "Q0E=" in path.read_text()
    assert "insecure-skip-tls-verify" not in path.read_text()
    path.unlink()
    running.find("c", docker=docker)
    assert path.exists()


@pytest.mark.parametrize(
    "admin", ["", "[]", "clusters: []", ADMIN.replace("certificate-authority-data: Q0E=, ", "")]
)
def test_an_admin_conf_that_cannot_be_used_is_an_error_and_never_unverified(
    docker: Fleet2, admin: str
) -> None:
    docker.cluster(ClusterSpec(name="c"))
    docker.admin = admin
    with pytest.raises(StateUnusable):
        running.find("c", docker=docker)


def test_behind_several_control_planes_the_balancer_s_port_counts(docker: Fleet2) -> None:
    docker.cluster(ClusterSpec(name="c", control_planes=3))
    docker.node("c-external-load-balancer", "c", "external-load-balancer", None)
    described = docker.inspect(*docker.there)
    for one in described:
        front = one["Name"].endswith("load-balancer")
        ports = {"6443/tcp": [{"HostIp": "0.0.0.0", "HostPort": "40009" if front else "1"}]}
        one["NetworkSettings"]["Ports"] = ports
    found = kubeconfig.entry(described)
    assert found is not None
    assert found.server == "https://127.0.0.1:40009"
    assert found.container == "c-control-plane"
    assert len(running.find("c", docker=docker).nodes) == 5


def test_no_entry_while_the_control_plane_is_down(docker: Fleet2) -> None:
    docker.cluster(ClusterSpec(name="c"), state="exited")
    found = running.find("c", docker=docker)
    assert not found.kubeconfig.exists()
    assert len(found.down) == 3
    with pytest.raises(NodeDown) as caught:
        running.require_nodes(found, docker=docker)
    assert caught.value.exit_code == 4
    assert "docker start c-control-plane c-worker c-worker2" in caught.value.next_step


def test_a_kubeconfig_that_cannot_be_written_is_named(docker: Fleet2, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(WriteFailed) as caught:
        kubeconfig.refresh(
            blocked / "kubeconfig", KubeconfigEntry("c", "c-control-plane", "id", "https://x"), docker
        )
    assert "kubeconfig" in caught.value.what


def test_what_is_not_there_is_said(docker: Fleet2) -> None:
    for name in (None, "c", "../x"):
        with pytest.raises(ClusterNotFound):
            running.find(name, docker=docker)
    docker.put_mark(Mark("c", "0wner", 0, ClusterSpec(name="c")))
    with pytest.raises(StateUnusable) as caught:
        running.find("c", docker=docker)
    assert "c-worker2" in caught.value.why
    docker.put_mark(Mark("d", "0wner", 0, ClusterSpec(name="d")))
    with pytest.raises(UsageError, match="several"):
        running.find(None, docker=docker)


def test_a_mark_survives_docker_s_labels() -> None:
    spec = ClusterSpec(name="c", kind={"featureGates": {"a,b=c": True}})
    one = Mark("c", "0wner", 7, spec, "node:image")
    assert mark.read(one.labels()) == one
    assert all("," not in value and '"' not in value for value in one.labels().values())
    assert mark.read({}) is None
    broken = mark.read({**one.labels(), mark.SPEC: "%%%"})
    assert broken is not None
    assert broken.spec is None


def test_slots_are_given_once(docker: Fleet2) -> None:
    assert mark.free_slot(docker) == 0
    for slot in (0, 1, 3):
        docker.put_mark(Mark(f"c{slot}", "x", slot, None))
    assert mark.free_slot(docker) == 2


def test_putting_a_mark_leaves_no_container(docker: Fleet2) -> None:
    one = Mark("c", "0wner", 0, ClusterSpec(name="c"), "node:image")
    mark.put(docker, one)
    assert mark.marks(docker) == {"c": one}
    assert not docker.there
    mark.take_away(docker, "c")
    assert not docker.marked


def test_what_a_foreign_cluster_has_is_unknown_and_not_none(docker: Fleet2) -> None:
    docker.cluster(ClusterSpec(name="theirs", workers=0), ours=False)
    theirs = running.find("theirs", docker=docker)
    assert (theirs.cni, theirs.load_balancer, theirs.pool) == (None, None, "")
    assert theirs.provides("network") is None
    assert theirs.provides("load balancer") is None
    docker.cluster(ClusterSpec(name="bare", workers=0, cni="none", load_balancer="none"))
    bare = running.find("bare", docker=docker)
    assert (bare.cni, bare.load_balancer, bare.pool) == ("none", "none", "")
    assert bare.provides("network") is False
    assert bare.provides("load balancer") is False
    docker.cluster(ClusterSpec(name="ours", workers=0))
    ours = running.find("ours", docker=docker)
    assert ours.provides("network") is True
    assert ours.provides("policy") is False
    assert ours.provides("load balancer") is True


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("2026-11-28T11:02:45.123456789Z", datetime(2026, 11, 28, 11, 2, 45, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
    ],
)
def test_a_node_knows_when_docker_started_it(
    docker: Fleet2, monkeypatch: pytest.MonkeyPatch, said: str, seen: datetime | None
) -> None:
    docker.cluster(ClusterSpec(name="c", workers=0))
    described = docker.inspect("c-control-plane")
    described[0]["State"]["StartedAt"] = said
    monkeypatch.setattr(docker, "inspect", lambda *_: described)
    found = running.find("c", docker=docker)
    assert found.started == ({"c-control-plane": seen} if seen else {})

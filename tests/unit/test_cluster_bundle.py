"""Bundles: they explain a failure and hold no secret."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from labctl.cluster import bundle, journal
from labctl.cluster.journal import Journal
from labctl.cluster.spec import ClusterSpec
from labctl.process import Completed
from labctl.tools.kind import Kind
from tests.unit.fakes.fleet import Fleet

CANARIES = {
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nCANARYKEY\nMORE\n-----END RSA PRIVATE KEY-----",
    "cut private key": "-----BEGIN EC PRIVATE KEY-----\nCANARYCUT",
    "service account token": "Bearer eyJhbGciOiJSUzI1NiJ9.eyJDQU5BUlkiOjF9.CANARYSIGNATURE",
    "bootstrap token": "kubeadm join --token canary.0123456789abcdef",
    "kubeconfig": f"client-key-data: {base64.b64encode(b'CANARYCANARYCANARY').decode()}",
    "certificate key": "--certificate-key 0123CANARY4567890abcdef",
    "password": 'password = "CANARY-0123456789abcdef"',
}


@pytest.mark.parametrize("name", CANARIES)
def test_what_looks_like_a_secret_is_taken_out(name: str) -> None:
    text = f"before\n{CANARIES[name]}\n"
    clean = bundle.scrubbed(text)
    assert clean.startswith("before\n")
    assert bundle._GONE in clean
    for word in ("CANARY", "canary.", "eyJhb", base64.b64encode(b"CANARYCANARYCANARY").decode()):
        assert word not in clean


def test_ordinary_lines_stay_as_they_are() -> None:
    for text in (
        "E1124 07:58:41 main.go:248] Failed to create SubnetManager: connection refused\n",
        "kube-flannel   kube-flannel-ds-bhd6b   0/1   ImagePullBackOff   ghcr.io/flannel-io/flannel:v0.28.4\n",
        'secret "memberlist" not found\n',
        "using token authentication for the API server\n",
    ):
        assert bundle.scrubbed(text) == text


@pytest.fixture(autouse=True)
def short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cut is cut at the same place of any size; 16 MiB of x only cost time."""
    monkeypatch.setattr(bundle, "TEXT_MOST", 256 * 1024)


class LoggingKind(Kind):
    """A kind whose exported logs hold what they should not."""

    def __init__(self) -> None:
        super().__init__("no-kind-here")

    def export_logs(self, name: str, directory: Path) -> Completed:
        (directory / "node").mkdir(parents=True)
        (directory / "node" / "kubelet.log").write_text("".join(f"{one}\n" for one in CANARIES.values()))
        (directory / "node" / "big.log").write_bytes(b"x" * (bundle.TEXT_MOST + 100) + b"\nthe end\n")
        for name in ("admin.conf", "kubeconfig", "apiserver.key"):
            (directory / "node" / name).write_text("CANARY")
        (directory / "link").symlink_to("/etc/passwd")
        return Completed(("kind",), 0, "", "", 0.1)


def test_a_bundle_explains_itself_and_holds_no_canary(tmp_path: Path) -> None:
    docker = Fleet()
    docker.cluster(ClusterSpec(name="c"))
    spec = ClusterSpec(name="c")
    journal.write(
        Journal("c", "0wner", "nodes", spec, 1, f"labctl up --x={CANARIES['service account token']}", "now")
    )
    place = bundle.collect(
        "c", f"it broke: {CANARIES['password']}", tmp_path / "b",
        docker=docker, kind=LoggingKind(), trace=[CANARIES["bootstrap token"], "kind: Starting control-plane"],
    )  # fmt: skip
    everything = {path: path.read_text("utf-8", "replace") for path in place.rglob("*") if path.is_file()}
    assert "it broke" in everything[place / "reason.txt"]
    assert "Starting control-plane" in everything[place / "trace.txt"]
    assert '"phase": "nodes"' in everything[place / "journal.json"]
    assert "c-worker" in everything[place / "containers.txt"]
    assert "nodes.txt" in everything[place / "missing.txt"], "kubectl did not run, and that is said"
    assert everything[place / "kind" / "node" / "big.log"].endswith("the end\n")
    for path, text in everything.items():
        assert "CANARY" not in text, path
        assert "0123456789abcdef" not in text, path
    assert not list(place.rglob("*.key")) + list(place.rglob("admin.conf")) + list(place.rglob("kubeconfig"))
    assert not any(path.is_symlink() for path in place.rglob("*"))
    assert place.stat().st_mode & 0o777 == 0o700


def test_an_interrupted_bundle_holds_no_canary_either(tmp_path: Path) -> None:
    class Interrupted(LoggingKind):
        def export_logs(self, name: str, directory: Path) -> Completed:
            super().export_logs(name, directory)
            raise KeyboardInterrupt

    docker = Fleet()
    docker.cluster(ClusterSpec(name="c"))
    with pytest.raises(KeyboardInterrupt):
        bundle.collect("c", "why", tmp_path / "b", docker=docker, kind=Interrupted())
    logs = [one for one in (tmp_path / "b").rglob("*") if one.is_file()]
    assert any("kind" in one.parts for one in logs)
    assert not [one for one in logs if "CANARY" in one.read_text("utf-8", "replace")]


def test_a_bundle_is_made_although_docker_is_gone(tmp_path: Path) -> None:
    class Dead(Fleet):
        def containers(self, labels: Any = ()) -> Any:
            from labctl.errors import DockerUnreachable

            raise DockerUnreachable("no docker daemon answers")

    place = bundle.collect("c", "it broke", tmp_path / "b", docker=Dead(), kind=LoggingKind())
    assert (place / "reason.txt").read_text() == "it broke\n"

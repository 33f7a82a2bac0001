"""What labctl says of a file, and what kind itself makes of it; and that nobody is locked in.

The first tests need no cluster: the real kind talks to a docker that creates nothing (pretend_docker).
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from labctl import process
from labctl.cluster.file import specfile
from labctl.cluster.up import kindconfig
from labctl.process import Completed
from labctl.tools import kind
from labctl.tools.docker import Docker
from tests.kind_files import KIND_FILES, KindFile, Verdict

from .conftest import Labctl, containers, node_image

NAME = "labctl-test-render"
PRETENDER = Path(__file__).with_name("pretend_docker")
KUBEADM = "nothing is made here"
"""What the pretended kubeadm says: kind has come as far as it can."""
KIND_SECONDS = 60.0
CREATE_SECONDS = 600.0


@dataclass(frozen=True)
class Pretended:
    """What kind said, and all that it wrote into the nodes."""

    said: Completed
    wrote: str

    def verdict(self, effect: str) -> Verdict:
        """What became of a setting that must bring ``effect`` with it."""
        if KUBEADM not in self.said.stderr:
            return "refused"
        return "taken" if effect in self.wrote else "dropped"


@pytest.fixture
def pretended_path(tmp_path: Path) -> str:
    """A PATH on which docker creates nothing."""
    programs = tmp_path / "bin"
    programs.mkdir()
    shutil.copy(PRETENDER, programs / "docker")
    return f"{programs}:{os.environ['PATH']}"


def pretend(config: str, tmp_path: Path, path: str) -> Pretended:
    """Let kind create the cluster of a file, as far as that goes without a docker."""
    file, wrote = tmp_path / "kind.yaml", tmp_path / "wrote"
    file.write_text(config)
    wrote.mkdir()
    said = process.run(
        [kind.locate(), "create", "cluster", "--retain", "--image=example.com/node:1",
         "--name=labctl-test-pretended", f"--kubeconfig={tmp_path / 'kubeconfig'}", f"--config={file}"],
        timeout=KIND_SECONDS, check=False, env={**os.environ, "PATH": path, "PRETEND": str(wrote)},
    )  # fmt: skip
    nodes = [one for one in wrote.iterdir() if one.name not in ("calls", "nodes")]
    return Pretended(said, "\n".join(one.read_text() for one in nodes))


@pytest.mark.parametrize("one", KIND_FILES, ids=lambda one: str(one.name))
def test_kind_does_with_a_setting_what_the_table_says(
    one: KindFile, tmp_path: Path, pretended_path: str
) -> None:
    done = pretend(one.for_kind, tmp_path, pretended_path)
    assert done.verdict(one.effect) == one.kind, done.said.stderr


@pytest.mark.parametrize("one", [one for one in KIND_FILES if not one.labctl], ids=lambda one: str(one.name))
def test_what_labctl_finds_fine_is_taken_by_kind_as_labctl_renders_it(
    one: KindFile, tmp_path: Path, pretended_path: str
) -> None:
    spec = specfile.loads(one.for_labctl.encode(), allow_raw=True)
    done = pretend(kindconfig.render(spec), tmp_path, pretended_path)
    assert done.verdict(one.effect) == "taken", done.said.stderr


def test_plain_kind_makes_a_cluster_of_what_render_prints(
    labctl: Labctl, docker: Docker, tmp_path: Path
) -> None:
    """You are not locked in: without labctl, kind makes the nodes on this machine, and they register."""
    config, kubeconfig = tmp_path / "kind.yaml", tmp_path / "kubeconfig"
    config.write_text(labctl("config", "render", "--image", node_image(docker), "two-nodes").stdout)
    named = [f"--name={NAME}", f"--kubeconfig={kubeconfig}"]
    try:
        process.run(
            [kind.locate(), "create", "cluster", "--retain", f"--config={config}", *named],
            timeout=CREATE_SECONDS,
        )
        assert set(containers(docker, NAME)) == {f"{NAME}-control-plane", f"{NAME}-worker"}
        kubectl = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "get", "nodes", "--output=name"]
        registered = docker.exec(f"{NAME}-control-plane", kubectl).stdout.split()
        assert sorted(registered) == [f"node/{NAME}-control-plane", f"node/{NAME}-worker"]
    finally:
        process.run([kind.locate(), "delete", "cluster", *named], timeout=KIND_SECONDS, check=False)
    assert containers(docker, NAME) == {}

"""`labctl config`, and the options of cluster files that several commands share."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml

from labctl.cli.main import cli
from labctl.cluster.file import specfile
from labctl.console import Console
from labctl.errors import ConfigError
from labctl.host.machine import Machine
from tests.kind_files import KIND_FILES, KindFile, mount
from tests.unit import fakes

KIND_HEAD = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"


def labctl(*words: str) -> tuple[str, str]:
    """What a command writes to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    cli.main(args=list(words), standalone_mode=False, obj=Console(out=out, err=err))
    return out.getvalue(), err.getvalue()


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "kind.yaml"
    path.write_text(text)
    return str(path)


# --- render


def machine_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: int, capabilities: str) -> None:
    root = tmp_path / "machine"
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/status").write_text(f"CapBnd:\t{capabilities}\n")
    hierarchy = root / "sys/fs/cgroup"
    hierarchy.mkdir(parents=True)
    (hierarchy / ("memory" if cgroup == 1 else "cgroup.controllers")).mkdir()
    monkeypatch.setattr("labctl.cluster.up.demands.Machine", lambda: Machine(root))


ALL = "000001ffffffffff"
NO_CAPABILITY = "000001fffeffffff"
"""Without CAP_SYS_RESOURCE."""


@pytest.mark.parametrize("answers", [True, False])
def test_render_writes_what_this_machine_needs_also_when_docker_is_down(
    answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = fakes.install(tmp_path, monkeypatch)
    if answers:
        tools.on("docker", "info*", stdout={"CgroupVersion": "1", "ServerVersion": "29"})
    machine_of(tmp_path, monkeypatch, 1, NO_CAPABILITY)
    made = yaml.safe_load(labctl("config", "render", "single")[0])
    assert "failCgroupV1: false" in made["kubeadmConfigPatches"][0]
    assert "restrict_oom_score_adj = true" in made["containerdConfigPatches"][0]
    portable = yaml.safe_load(labctl("config", "render", "--portable", "single")[0])
    assert {"kubeadmConfigPatches", "containerdConfigPatches"}.isdisjoint(portable)


def test_render_writes_no_need_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(tmp_path, monkeypatch).on("docker", "info*", stdout={"CgroupVersion": "2"})
    machine_of(tmp_path, monkeypatch, 2, ALL)
    assert labctl("config", "render", "single") == labctl("config", "render", "--portable", "single")


def test_render_writes_an_image_into_each_node_when_asked() -> None:
    made = yaml.safe_load(labctl("config", "render", "--portable", "--image", "r:1", "two-nodes")[0])
    assert [node["image"] for node in made["nodes"]] == ["r:1", "r:1"]


# --- from kind


@pytest.mark.parametrize("one", [one for one in KIND_FILES if not one.labctl], ids=lambda one: str(one.name))
def test_what_labctl_takes_comes_from_kind_as_the_same_cluster(one: KindFile, tmp_path: Path) -> None:
    made, _ = labctl("config", "from-kind", written(tmp_path, one.for_kind))
    spec = specfile.loads(made.encode(), allow_raw=True)
    assert (spec.control_planes, spec.workers) == one.nodes
    straight = specfile.loads(one.for_labctl.encode(), allow_raw=True).kind
    plain_nodes = straight.get("nodes") and all(set(node) <= {"role"} for node in straight["nodes"])
    assert spec.kind == ({} if plain_nodes else straight)


def test_from_kind_sorts_nodes_leaves_out_what_labctl_decides_and_says_so(tmp_path: Path) -> None:
    text = (
        KIND_HEAD + "name: mine\nnetworking: {disableDefaultCNI: true, apiServerAddress: 0.0.0.0}\n"
        "nodes:\n- {role: worker, image: x, labels: {tier: 1, empty: }}\n- {image: x}\n- {role: worker}\n"
    )
    made, said = labctl("config", "from-kind", written(tmp_path, text))
    assert yaml.safe_load(made) == {
        "apiVersion": "labctl.dev/v1", "kind": "Cluster", "name": "mine",
        "nodes": {"controlPlanes": 1, "workers": 2}, "cni": "none", "loadBalancer": "none",
        "kindConfig": {"nodes": [{}, {"role": "worker", "labels": {"tier": "1"}}, {"role": "worker"}]},
    }  # fmt: skip
    for word in ("image is left out", "apiServerAddress is left out", "no network plugin"):
        assert word in said


def test_from_kind_takes_mounts_from_the_current_directory_as_kind_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    made, said = labctl(
        "config", "from-kind", written(tmp_path, KIND_HEAD + mount("hostPath: ., containerPath: /d"))
    )
    assert f"hostPath: {here}\n" in made
    assert "absolute now" in said
    assert "--allow-raw-kind" in said


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        (
            KIND_HEAD + "nodes: [{role: control-plane}, {role: control-plane}]\n",
            (3, 1),
            "controlPlanes cannot",
        ),
        (KIND_HEAD + "networking:\n  ipFamily: dual\n", (4, 13), "ipFamily cannot"),
        (KIND_HEAD + "name: a.b\n", (3, 7), "name cannot"),
        (KIND_HEAD + "nodes:\n- {}\n- {role: worker, extraMounts: 3}\n", (5, 31), "extraMounts cannot"),
        (KIND_HEAD + "nodes: 3\n", (3, 8), "nodes cannot"),
        (KIND_HEAD + "networking: 3\n", (3, 13), "networking cannot"),
        ("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha3\n", (2, 13), "no cluster of kind's"),
        ("- a\n", (1, 1), "no cluster of kind's"),
    ],
)
def test_what_labctl_cannot_do_is_named_at_the_line_of_kind_s_file(
    text: str, place: tuple[int, int], word: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        labctl("config", "from-kind", written(tmp_path, text))
    first = caught.value.problems[0]
    assert word in first.message
    assert (first.line, first.column) == place


@pytest.mark.parametrize("command", [("up",), ("ci",), ("config", "validate"), ("config", "render")])
def test_a_file_of_kind_s_is_told_the_way(command: tuple[str, ...], tmp_path: Path) -> None:
    path = written(tmp_path, KIND_HEAD + "nodes: [{role: control-plane}]\nnetworking: {}\n")
    with pytest.raises(ConfigError) as caught:
        labctl(*command, path)
    [problem] = caught.value.problems
    assert "kind's own configuration" in problem.message
    assert "under kindConfig" in problem.allowed


@pytest.mark.parametrize("command", [("up",), ("ci",), ("config", "validate"), ("config", "render")])
def test_the_word_for_mounts_and_patches_reads_the_same_everywhere(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it the mount's own fault is all that is left; without it the option is named."""
    fakes.install(tmp_path, monkeypatch)
    path = written(tmp_path, KindFile("", mount("hostPath: /no/such/path, containerPath: /d")).for_labctl)
    with pytest.raises(ConfigError) as caught:
        labctl(*command, path)
    assert [one.allowed for one in caught.value.problems if "reaches into" in one.message] == [
        "only with --allow-raw-kind"
    ]
    with pytest.raises(ConfigError) as caught:
        labctl(*command, "--allow-raw-kind", path)
    assert [one.message for one in caught.value.problems] == ["there is no such path on this machine"]

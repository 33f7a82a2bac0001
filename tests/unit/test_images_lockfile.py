"""The lock file, and that it agrees with the modules that are built."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import Bug
from labctl.images import catalog, components, lockfile
from labctl.images.kindfiles import Storage

MODULES = components.MODULES


def data() -> dict[str, Any]:
    return copy.deepcopy(tomllib.loads(lockfile.FILE.read_text()))


def go_mod(module: str) -> str:
    return (MODULES / module / "go.mod").read_text()


def test_the_shipped_file_is_valid_and_names_every_part() -> None:
    loaded = lockfile.load()
    assert loaded.pulled.image.digest.startswith("sha256:")
    assert {one.name for one in loaded.manifests} == {"flannel", "metallb"}
    assert {"probe", "flannel", "metallb-controller", "metallb-speaker"} <= {
        one.name for one in loaded.images
    }


def test_a_pull_goes_by_digest_where_there_is_one() -> None:
    loaded = lockfile.load()
    assert (
        loaded.pulled.image.pull_reference == f"{loaded.pulled.image.reference}@{loaded.pulled.image.digest}"
    )
    assert loaded.image("probe").pull_reference == loaded.image("probe").reference


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(schema=2), "schema 2"),
        (lambda d: d["node"]["pulled"].update(digest="sha256:short"), "node.pulled"),
        (lambda d: d["node"]["pulled"].pop("digest"), "node.pulled"),
        (lambda d: d["node"].pop("built"), "built"),
        (lambda d: d["image"][0].update(identity="guess"), "guess"),
        (lambda d: d["image"][0].update(reference="no-tag"), "no-tag"),
        (lambda d: d["image"].append(d["image"][0]), "listed twice"),
        (lambda d: d["manifest"][0].update(sha256="ABC"), "sha256"),
        (lambda d: d["manifest"][0].update(surprise="x"), "surprise"),
    ],
)
def test_what_is_wrong_is_named(change: Any, said: str) -> None:
    broken = data()
    change(broken)
    with pytest.raises((ValueError, KeyError, TypeError), match=said):
        lockfile.parse(broken)


def test_a_broken_file_is_a_bug_of_labctl(tmp_path: Path) -> None:
    (tmp_path / "lock.toml").write_text("schema = 7\n")
    with pytest.raises(Bug, match="lock file"):
        lockfile.load(tmp_path / "lock.toml")


def test_manifests_are_pinned_by_the_modules_that_are_built() -> None:
    everything = "".join(go_mod(directory.name) for directory in MODULES.iterdir())
    for one in lockfile.load().manifests:
        assert f"{one.module} {one.version}" in everything
        assert one.version in one.url


def test_kubernetes_is_the_version_of_the_node_module() -> None:
    assert f"k8s.io/kubernetes {lockfile.load().kubernetes}\n" in go_mod("node")
    staging = f"v0.{lockfile.load().kubernetes.removeprefix('v1.')}"
    replaced = re.findall(r"(?m)^\s+k8s\.io/\S+ => k8s\.io/\S+ (\S+)$", go_mod("node"))
    assert len(replaced) > 20
    assert set(replaced) == {staging}


def test_every_component_is_pinned_by_its_module() -> None:
    for one in components.COMPONENTS:
        directory = MODULES / one.module
        assert (directory / "go.sum").is_file()
        if one.own_source:
            assert list((directory / one.own_source).glob("*.go")), one.name
        elif not one.c_source:
            assert f'"{one.package}"' in (directory / "tools.go").read_text(), one.name


def test_version_stamps_are_the_versions_that_are_pinned() -> None:
    stamped = {
        "containerd": "github.com/containerd/containerd/v2",
        "crictl": "sigs.k8s.io/cri-tools",
        "flanneld": "github.com/flannel-io/flannel",
        "local-path-provisioner": "github.com/rancher/local-path-provisioner",
        "metallb-controller": "go.universe.tf/metallb",
        "runc": "github.com/opencontainers/runc",
    }
    table = {one.name: one for one in components.COMPONENTS}
    for name, module in stamped.items():
        found = re.search(rf"(?m)^(?:require )?\s*{re.escape(module)} v(\S+)", go_mod(table[name].module))
        assert found, module
        stamp = rf"([vV]ersion=v?|release=v|VERSION=v){re.escape(found[1])}( |$)"
        assert re.search(stamp, table[name].ldflags), name


def test_the_modules_name_no_host_but_the_sources_of_modules() -> None:
    for file in [*MODULES.glob("*/*.go"), *MODULES.glob("*/go.mod"), lockfile.FILE]:
        assert "GOPROXY" not in file.read_text()
        assert not re.search(r"https?://(?!raw\.githubusercontent\.com/)", file.read_text()), file


def test_the_catalog_has_every_locked_image_and_only_known_programs() -> None:
    storage = Storage(
        "", "docker.io/kindest/local-path-provisioner:v1", "docker.io/kindest/local-path-helper:v1"
    )
    recipes = catalog.recipes(storage, "registry.k8s.io/pause:3.10")
    names = [reference for one in recipes for reference in one.references]
    assert len(set(names)) == len(names)
    assert {one.reference for one in lockfile.load().images} <= set(names)
    assert "registry.k8s.io/pause:3.10" in names
    known = {one.name for one in components.COMPONENTS}
    assert {component for one in recipes for _, component in one.programs} <= known

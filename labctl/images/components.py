"""The programs that a node image is made of: a table, and how one of them is built.

Each is a main package that a committed go.mod and go.sum under ``modules/`` pin, byte by
byte. This module must not know where a program ends up in the image.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labctl import process
from labctl.errors import BuildFailed, CommandFailed, ToolMissing
from labctl.images import lockfile
from labctl.images.store import key_of
from labctl.tools.go import Go

MODULES = Path(__file__).with_name("modules")
COMPILE_SECONDS = 120.0

KUBERNETES = lockfile.load().kubernetes
PAUSE = "3.10.2"
"""As kubeadm of this Kubernetes names it."""
STRIP = "-s -w"


def _stamps(package: str, **values: str) -> str:
    return "".join(f" -X {package}.{name}={value}" for name, value in values.items())


def _kubernetes_stamps() -> str:
    """kubeadm refuses to work without its own version; no commit is known for a module."""
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    built = lockfile.load().source_date.strftime("%Y-%m-%dT%H:%M:%SZ")
    return "".join(
        _stamps(
            package,
            gitVersion=KUBERNETES,
            gitMajor=major,
            gitMinor=minor,
            gitTreeState="clean",
            gitCommit="unknown",
            buildDate=built,
        )
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    )


@dataclass(frozen=True)
class Component:
    """A program: which package of which of our modules, and how it is linked.

    ``seconds`` is what it took on two cores, alone, after the components above it and with
    nothing cached: the source of every expected total.
    """

    name: str
    module: str
    package: str
    seconds: float
    ldflags: str = STRIP
    tags: str = ""
    cgo: bool = False
    own_source: str = ""
    """A directory of the module that holds our own Go files, if the package is ours."""
    c_source: str = ""
    """``MODULE FILE`` of a C program instead of a Go package."""

    def key(self, toolchain: str) -> str:
        """The hash of all that goes into the program, ``toolchain`` being the compiler's version."""
        directory = MODULES / self.module
        files = [directory / "go.mod", directory / "go.sum"]
        files += sorted((directory / self.own_source).glob("*.go")) if self.own_source else []
        return key_of(
            self.name,
            self.package,
            self.ldflags,
            self.tags,
            str(self.cgo),
            self.c_source,
            toolchain,
            *(file.read_bytes() for file in files),
        )


_FLANNEL = "github.com/flannel-io/flannel"
_CONTAINERD = "github.com/containerd/containerd/v2"
_PLUGINS = "github.com/containernetworking/plugins/plugins"
_METALLB = "go.universe.tf/metallb"
_NO_SNAPSHOTTERS = "no_aufs,no_btrfs,no_devmapper,no_zfs"
_STATIC = f'{STRIP} -extldflags "-static"'
_CONTAINERD_STAMP = STRIP + _stamps(f"{_CONTAINERD}/version", Version="v2.3.4", Package=_CONTAINERD)
_METALLB_STAMP = STRIP + _stamps(f"{_METALLB}/internal/version", release="v0.15.2", gitCommit="unknown")

COMPONENTS = (
    Component("kube", "node", "./kube", 423, STRIP + _kubernetes_stamps(), own_source="kube"),
    Component(
        "containerd", "containerd", f"{_CONTAINERD}/cmd/containerd", 45, _CONTAINERD_STAMP, _NO_SNAPSHOTTERS
    ),
    Component(
        "containerd-shim-runc-v2",
        "containerd",
        f"{_CONTAINERD}/cmd/containerd-shim-runc-v2",
        4,
        _CONTAINERD_STAMP,
    ),
    Component("ctr", "containerd", f"{_CONTAINERD}/cmd/ctr", 4, _CONTAINERD_STAMP),
    Component("contentstore", "containerd", "./contentstore", 3, own_source="contentstore"),
    Component("metallb-controller", "metallb", f"{_METALLB}/controller", 70, _METALLB_STAMP),
    Component("metallb-speaker", "metallb", f"{_METALLB}/speaker", 15, _METALLB_STAMP),
    Component("flannel", "flannel-cni", f"{_PLUGINS}/meta/flannel", 5),
    Component("pause", "node", "", 1, c_source="k8s.io/kubernetes build/pause/linux/pause.c"),
    Component("coredns", "node", "github.com/coredns/coredns", 41),
    Component(
        "flanneld",
        "node",
        _FLANNEL,
        58,
        _STATIC + _stamps(f"{_FLANNEL}/pkg/version", Version="v0.28.4"),
        cgo=True,
    ),
    Component(
        "crictl",
        "node",
        "sigs.k8s.io/cri-tools/cmd/crictl",
        8,
        STRIP + _stamps("sigs.k8s.io/cri-tools/pkg/version", Version="v1.36.0"),
    ),
    Component("agnhost", "node", "k8s.io/kubernetes/test/images/agnhost", 7),
    Component("etcd", "node", "go.etcd.io/etcd/server/v3", 7),
    Component("etcdctl", "node", "go.etcd.io/etcd/etcdctl/v3", 3),
    Component("etcdutl", "node", "go.etcd.io/etcd/etcdutl/v3", 3),
    Component(
        "local-path-provisioner",
        "node",
        "github.com/rancher/local-path-provisioner",
        5,
        STRIP + _stamps("main", VERSION="v0.0.30"),
    ),
    Component(
        "runc",
        "node",
        "github.com/opencontainers/runc",
        7,
        _STATIC + _stamps("main", version="1.4.3"),
        tags="seccomp,netgo,osusergo",
        cgo=True,
    ),
    Component("bridge", "node", f"{_PLUGINS}/main/bridge", 3),
    Component("loopback", "node", f"{_PLUGINS}/main/loopback", 1),
    Component("ptp", "node", f"{_PLUGINS}/main/ptp", 1),
    Component("host-local", "node", f"{_PLUGINS}/ipam/host-local", 1),
    Component("portmap", "node", f"{_PLUGINS}/meta/portmap", 1),
)
"""In the order of building: what is long and what others share packages with comes first."""

CNI_PLUGINS = ("bridge", "flannel", "host-local", "loopback", "portmap", "ptp")


def declared() -> str:
    """The hash of the whole table and of every file of our modules, for the image's recipe."""
    return key_of(*(one.key("") for one in COMPONENTS))


@dataclass(frozen=True)
class Compiler:
    """What builds components: a Go toolchain, where its output goes, and what can stop it."""

    go: Go
    version: str
    on_line: Callable[[str], None]
    cancel: threading.Event
    roomy: bool

    def build(self, component: Component, into: Path) -> None:
        """Build one component into the directory ``into``, under its own name.

        Raises `BuildFailed`, `ToolMissing`, or `Interrupted` when cancelled.
        """
        directory = MODULES / component.module
        output = into / component.name
        if component.c_source:
            self._compile_c(component, output)
            return
        self.go.build(
            component.package,
            output,
            directory=directory,
            ldflags=component.ldflags,
            tags=component.tags,
            cgo=component.cgo,
            # The compiler is a quarter quicker when it may let its heap grow.
            env={"GOGC": "400"} if self.roomy and "GOGC" not in os.environ else {},
            on_line=self.on_line,
            cancel=self.cancel,
        )

    def module(self, module: str, path: str) -> Path:
        """The directory with the files of a dependency of one of our modules, fetched if need be."""
        return self.go.download(path, directory=MODULES / module).directory

    def _compile_c(self, component: Component, output: Path) -> None:
        module, file = component.c_source.split()
        source = self.module(component.module, module) / file
        try:
            process.run(
                ["gcc", "-Os", "-static", "-s", f"-DVERSION={PAUSE}", "-o", str(output), str(source)],
                timeout=COMPILE_SECONDS,
                on_line=self.on_line,
                cancel=self.cancel,
            )
        except ToolMissing as missing:
            raise ToolMissing(
                "gcc was not found", why=missing.why, next_step="run `labctl host prepare`"
            ) from missing
        except CommandFailed as failed:
            raise BuildFailed(
                f"{component.name} did not build", why=failed.why, details=failed.details
            ) from failed

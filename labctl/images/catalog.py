"""The images that a built node carries for its pods: which program under which name on which base.

The names are those that kubeadm, kind and the upstream manifests ask for, so that nothing has
to be renamed in them. This module must not know how a layer is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from labctl.images import lockfile
from labctl.images.components import KUBERNETES, PAUSE
from labctl.images.kindfiles import Storage

Base = Literal["scratch", "net", "probe"]
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Recipe:
    """One image: all its names, what it lies on, and its programs by the component they come from."""

    name: str
    references: tuple[str, ...]
    base: Base
    programs: tuple[tuple[str, str], ...]
    """Pairs of a path and the name of a component; a component's second path becomes a hard link."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    busybox: bool = False
    """Whether busybox and its links are added, where the base has none."""


CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler")


def recipes(storage: Storage, sandbox: str) -> tuple[Recipe, ...]:
    """Every image; kind's module names those of its ``storage`` and the ``sandbox`` of every pod."""
    pause = tuple(dict.fromkeys((sandbox, f"registry.k8s.io/pause:{PAUSE}")))
    locked: Callable[[str], str] = lambda name: lockfile.load().image(name).reference  # noqa: E731  # a short name for a long call
    return (
        Recipe(
            "kubernetes",
            tuple(f"registry.k8s.io/{name}:{KUBERNETES}" for name in CONTROL_PLANE),
            "net",
            tuple((f"usr/local/bin/{name}", "kube") for name in CONTROL_PLANE),
        ),
        _single("etcd", "registry.k8s.io/etcd:3.7.0-0", "usr/local/bin/etcd", "etcd"),
        _single("coredns", "registry.k8s.io/coredns/coredns:v1.14.6", "coredns", "coredns"),
        Recipe("pause", pause, "scratch", (("pause", "pause"),), ("/pause",)),
        _single(
            "local-path-provisioner",
            storage.provisioner,
            "usr/local/bin/local-path-provisioner",
            "local-path-provisioner",
        ),
        Recipe("local-path-helper", (storage.helper,), "scratch", (), busybox=True),
        Recipe(
            "flannel",
            (locked("flannel"),),
            "net",
            (("opt/bin/flanneld", "flanneld"),),
            ("/opt/bin/flanneld",),
        ),
        Recipe(
            "flannel-cni-plugin",
            (locked("flannel-cni-plugin"),),
            "scratch",
            (("flannel", "flannel"),),
            busybox=True,
        ),
        _single("metallb-controller", locked("metallb-controller"), "controller", "metallb-controller"),
        _single("metallb-speaker", locked("metallb-speaker"), "speaker", "metallb-speaker"),
        Recipe("agnhost", (locked("probe"),), "probe", (("agnhost", "agnhost"),), ("/agnhost",), ("pause",)),
    )


def _single(name: str, reference: str, path: str, component: str) -> Recipe:
    return Recipe(name, (_full(reference),), "scratch", ((path, component),), (f"/{path}",))


def _full(reference: str) -> str:
    """With the registry that docker leaves out: a node's containerd knows images by their whole name."""
    return reference if "." in reference.split("/")[0] else f"docker.io/{reference}"

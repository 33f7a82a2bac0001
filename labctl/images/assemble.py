"""From programs and root file systems to layers, and from layers to the node image.

Every function here fills one piece of the store. This module must not know in which order
pieces are made, nor how a program is compiled.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl import process
from labctl.errors import BuildFailed, CommandFailed
from labctl.images import catalog, kindfiles, layers, lockfile, manifests, oci, rootfs
from labctl.images.catalog import Recipe
from labctl.images.components import CNI_PLUGINS
from labctl.images.layers import Blob, Tree
from labctl.images.recipe import LABEL

SHARE = "usr/local/share/labctl"
RUN_SECONDS = 120.0

MTIME = int(lockfile.load().source_date.timestamp())
CREATED = lockfile.load().source_date.strftime("%Y-%m-%dT%H:%M:%SZ")

_IPTABLES = tuple(f"{name}{rest}" for name in ("iptables", "ip6tables") for rest in ("", "-save", "-restore"))
_BUSYBOX = tuple(
    """
    awk base64 basename cat chmod chown cmp cp cut date dd df diff dirname du echo env expr false find grep gunzip gzip
    head hexdump hostname id kill ln ls md5sum mkdir mkfifo mktemp mv nproc od printf ps pwd readlink realpath rm rmdir
    sed seq sh sha256sum sleep sort stat sync tail tar tee test timeout touch tr true tty uname uniq wc wget which xargs
    yes
    """.split()  # noqa: SIM905  # a paragraph of words reads better than seventy quoted ones
)
"""What upstream's images have from busybox or coreutils and a manifest, a lab or a test may call."""
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"  # noqa: S105  # no password in it
_GROUP = "root:x:0:\nnogroup:x:65534:\n"


@dataclass(frozen=True)
class Parts:
    """Where the finished parts lie: programs by component, the rest by name, and kind's module."""

    program: Callable[[str], Path]
    root: Callable[[str], Path]
    blob: Callable[[str], Blob]
    kind: Path
    upstream: Callable[[str], Path]
    """The directory of a module that a locked manifest comes from."""


# --- layers under the workload images


def net_layer(parts: Parts, piece: Path) -> None:
    """The root file system under kube-proxy and flannel, with the links that package scripts make."""
    extra = Tree(MTIME)
    for name in _IPTABLES:
        extra.symlink(f"usr/sbin/{name}", "xtables-nft-multi")
    for name in _BUSYBOX:
        extra.symlink(f"bin/{name}", "busybox")
    extra.file("etc/passwd", _PASSWD.encode())
    extra.file("etc/group", _GROUP.encode())
    _rewritten(parts.root("debian-net"), piece, gzip=True, drop=rootfs.left_out, extra=extra)


def probe_layer(parts: Parts, piece: Path) -> None:
    """What agnhost's root file system has beyond the one above, which lies below it."""
    known = layers.without(parts.root("debian-probe"), layers.fingerprints(parts.root("debian-net")))
    extra = Tree(MTIME)
    # A conformance test looks for exactly these.
    extra.file("etc/passwd", f"{_PASSWD}user-defined-in-image:x:1000:1000::/home:/bin/sh\n".encode())
    extra.file(
        "etc/group",
        f"{_GROUP}user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n".encode(),
    )
    extra.symlink("agnhost-2", "agnhost")
    # Called from busybox's shell, nc would be busybox's own, which cannot do what the tests ask of it.
    extra.symlink("bin/sh", "bash")
    extra.symlink("usr/bin/nc", "/bin/nc.openbsd")
    extra.directory("uploads")
    _rewritten(
        parts.root("debian-probe"),
        piece,
        gzip=True,
        drop=lambda path: rootfs.left_out(path) or known(path),
        extra=extra,
    )


def program_layer(recipe: Recipe, parts: Parts, piece: Path) -> None:
    """The layer that one workload image adds to its base."""
    tree = Tree(MTIME)
    first: dict[str, str] = {}
    for path, component in recipe.programs:
        if component in first:
            tree.hardlink(path, first[component])
        else:
            first[component] = path
            tree.file(path, parts.program(component), 0o755)
    if recipe.busybox:
        tree.file("bin/busybox", layers.read_file(parts.root("debian-net"), "bin/busybox"), 0o755)
        for name in _BUSYBOX:
            tree.symlink(f"bin/{name}", "busybox")
    layers.save_blob(piece, tree.write, gzip=True)


# --- the node's layers


def node_root(parts: Parts, piece: Path) -> None:
    """The node's own root file system, from Debian."""
    _rewritten(parts.root("debian-node"), piece, gzip=False, drop=rootfs.left_out)


def node_files(parts: Parts, piece: Path) -> None:
    """kind's node files, every program, the upstream manifests."""
    tree = Tree(MTIME)
    kindfiles.add_node_files(tree, parts.kind)
    tree.file("usr/bin/kubelet", parts.program("kube"), 0o755)
    for name in ("kubeadm", "kubectl"):
        tree.hardlink(f"usr/bin/{name}", "usr/bin/kubelet")
    for name in ("containerd", "containerd-shim-runc-v2", "crictl", "ctr", "etcdctl", "etcdutl"):
        tree.file(f"usr/local/bin/{name}", parts.program(name), 0o755)
    tree.file("usr/local/sbin/runc", parts.program("runc"), 0o755)
    for name in CNI_PLUGINS:
        tree.file(f"opt/cni/bin/{name}", parts.program(name), 0o755)
    tree.file("etc/containerd/cri-base.json", _container_defaults(parts.program("ctr")))
    tree.directory("etc/kubernetes/manifests")
    # The kernel's log is the host's; it would confuse a reader of the node's.
    tree.file("etc/systemd/journald.conf.d/10-container.conf", b"[Journal]\nReadKMsg=no\n")
    tree.symlink("usr/sbin/init", "../lib/systemd/systemd")
    tree.file("kind/version", lockfile.load().kubernetes.encode())
    tree.file("kind/manifests/default-storage.yaml", kindfiles.storage(parts.kind).manifest.encode())
    for manifest in lockfile.load().manifests:
        data = (parts.upstream(manifest.module) / manifest.path).read_bytes()
        tree.file(
            f"{SHARE}/manifests/{manifest.name}.yaml", manifests.checked(manifest, data, "the Go module")
        )
    layers.save_blob(piece, tree.write, gzip=False)


def node_store(recipes: Sequence[Recipe], architecture: str, parts: Parts, piece: Path) -> None:
    """Every workload image in the node's containerd, as it will find it at its first start."""
    _all_asked_for(recipes, parts.program("kube"))
    images = [_workload(recipe, architecture, parts) for recipe in recipes]
    with tempfile.TemporaryDirectory(dir=piece.parent) as work:
        archive, root = Path(work) / "images.tar", Path(work) / "containerd"
        oci.write_layout(images, archive)
        _own_program([str(parts.program("contentstore")), str(archive), str(root)])
        tree = Tree(MTIME)
        tree.directory("var/lib/containerd", 0o711)
        tree.copy("var/lib/containerd", root)
        layers.save_blob(piece, tree.write, gzip=False)


def node_image(reference: str, recipe: str, architecture: str, blobs: Sequence[Blob]) -> oci.LayeredImage:
    """The finished node image; ``recipe`` is the hash that says what went in."""
    return oci.LayeredImage(
        names=(reference,),
        layers=tuple(blobs),
        architecture=architecture,
        created=CREATED,
        config={
            "Env": ["container=docker", catalog.PATH],
            "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"],
            "StopSignal": "SIGRTMIN+3",
            "Labels": {LABEL: recipe, "dev.labctl.kubernetes": lockfile.load().kubernetes},
        },
    )


# --- inside


def _rewritten(
    source: Path, piece: Path, *, gzip: bool, drop: Callable[[str], bool], extra: Tree | None = None
) -> None:
    layers.save_blob(
        piece, lambda sink: layers.rewrite(source, sink, mtime=MTIME, drop=drop, extra=extra), gzip=gzip
    )


def _workload(recipe: Recipe, architecture: str, parts: Parts) -> oci.LayeredImage:
    below: Mapping[str, tuple[str, ...]] = {
        "scratch": (),
        "net": ("layer-net",),
        "probe": ("layer-net", "layer-probe"),
    }
    config: dict[str, Any] = {"Env": [catalog.PATH]}
    if recipe.entrypoint:
        config["Entrypoint"] = list(recipe.entrypoint)
    if recipe.command:
        config["Cmd"] = list(recipe.command)
    names = (*below[recipe.base], f"layer-{recipe.name}")
    return oci.LayeredImage(
        recipe.references, tuple(parts.blob(name) for name in names), architecture, CREATED, config
    )


def _container_defaults(ctr: Path) -> bytes:
    """containerd's default container, changed as kind changes it: a hook that hides the host's product id,
    and no limits that a nested container cannot set."""
    spec = json.loads(_own_program([str(ctr), "oci", "spec"]))
    hooks = spec.setdefault("hooks", {}).setdefault("createContainer", [])
    hooks.append({"path": "/kind/bin/mount-product-files.sh"})
    spec["process"].pop("rlimits", None)
    return json.dumps(spec, indent=1).encode()


def _all_asked_for(recipes: Sequence[Recipe], kube: Path) -> None:
    """See that every image that kubeadm is going to ask for is among ``recipes``. Raises `BuildFailed`."""
    have = {reference for recipe in recipes for reference in recipe.references}
    with tempfile.TemporaryDirectory() as work:
        kubeadm = Path(work) / "kubeadm"
        kubeadm.symlink_to(kube)
        version = f"--kubernetes-version={lockfile.load().kubernetes}"
        asked = set(_own_program([str(kubeadm), "config", "images", "list", version]).split())
    if lacking := sorted(asked - have):
        raise BuildFailed(
            "the node image would lack images that kubeadm asks for",
            why=", ".join(lacking),
            next_step="add them to labctl/images/catalog.py",
        )


def _own_program(argv: Sequence[str]) -> str:
    """Run a program that was just built, and return what it printed."""
    try:
        return process.run(argv, timeout=RUN_SECONDS).stdout
    except CommandFailed as failed:
        raise BuildFailed(
            f"a program that was just built does not run: {Path(argv[0]).name}",
            why=failed.why,
            details=failed.details,
        ) from failed

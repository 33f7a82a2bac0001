"""What kind's own repository says a node image must hold, read from its module at build time.

No copy of these files is kept here. This module must not know what else goes into the image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import BuildFailed
from labctl.images.layers import Tree

_FILES = Path("images/base/files")
_STORAGE = Path("pkg/build/nodeimage/const_storage.go")
_CONTAINERD = "etc/containerd/config.toml"
_PROGRAMS = ("usr/local/bin/", "kind/bin/")


@dataclass(frozen=True)
class Storage:
    """kind's default storage: its manifest and the names of the two images it runs."""

    manifest: str
    provisioner: str
    helper: str


def add_node_files(tree: Tree, module: Path) -> None:
    """Put kind's entry point, units (enabled) and configuration into ``tree``. Raises `BuildFailed`."""
    root = module / _FILES
    if not (root / "usr/local/bin/entrypoint").is_file():
        raise unknown(f"{_FILES}/usr/local/bin/entrypoint is not there")
    for found in sorted(path for path in root.rglob("*") if path.is_file()):
        path = found.relative_to(root).as_posix()
        if path == _CONTAINERD:
            tree.file(path, containerd_config(found.read_text()).encode())
        else:
            tree.file(path, found, 0o755 if path.startswith(_PROGRAMS) else 0o644)
    units = root / "etc/systemd/system"
    for name in ("containerd.service", "kubelet.service", "undo-mount-hacks.service"):
        for target in _wanted_by((units / name).read_text()):
            tree.symlink(f"etc/systemd/system/{target}.wants/{name}", f"/etc/systemd/system/{name}")
    # It would register interpreters with the kernel that all containers and the host share.
    tree.symlink("etc/systemd/system/systemd-binfmt.service", "/dev/null")


def containerd_config(text: str) -> str:
    """kind's containerd configuration, made to work without CAP_SYS_RESOURCE: then no process may lower
    its OOM score below its parent's, and containerd must not ask for it. Raises `BuildFailed`."""
    changed, count = re.subn(r"(?m)^(\s*restrict_oom_score_adj\s*=\s*)false\s*$", r"\1true", text)
    if count != 1:
        raise unknown("containerd's config.toml has no line restrict_oom_score_adj = false")
    return changed


def sandbox_image(module: Path) -> str:
    """The pause image that kind's containerd configuration names. Raises `BuildFailed`."""
    text = (module / _FILES / _CONTAINERD).read_text()
    return _one(r'(?m)^\s*sandbox_image\s*=\s*"([^"]+)"', text, "sandbox_image")


def storage(module: Path) -> Storage:
    """kind's default storage, out of the Go constants that hold it. Raises `BuildFailed`."""
    text = (module / _STORAGE).read_text()
    names = {
        name: _one(rf'const {name} = "([^"]+)"', text, name)
        for name in ("storageProvisionerImage", "storageHelperImage")
    }
    manifest = _one(r"(?s)const defaultStorageManifest = `(.*)`\s*\Z", text, "defaultStorageManifest")
    for name, value in names.items():
        manifest = manifest.replace(f"` + {name} + `", value)
    if "`" in manifest:
        raise unknown("its storage manifest has a part that is not a plain constant")
    return Storage(manifest, names["storageProvisionerImage"], names["storageHelperImage"])


def unknown(why: str) -> BuildFailed:
    """The error for a kind module that is not laid out as the one this was written for."""
    return BuildFailed(
        "kind's module does not look as expected",
        why=why,
        next_step="use the kind version of labctl/images/modules/node/go.mod",
    )


def _one(pattern: str, text: str, what: str) -> str:
    found = re.findall(pattern, text)
    if len(found) != 1:
        raise unknown(f"{what} stands there {len(found)} times")
    return str(found[0])


def _wanted_by(unit: str) -> list[str]:
    return [target for line in re.findall(r"(?m)^WantedBy=(.*)$", unit) for target in line.split()]

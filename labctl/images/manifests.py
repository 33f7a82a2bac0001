"""The upstream manifests, byte for byte as their projects published them.

Whatever the source, the bytes are checked against the lock file, so it does not matter which
one answers. What labctl changes in a manifest is not done here: see labctl.network.
"""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress

from labctl import paths
from labctl.errors import (
    BuildFailed,
    DeadlineExceeded,
    HostError,
    ImageUnavailable,
    InfrastructureError,
    LabctlError,
)
from labctl.images import lockfile
from labctl.images.components import MODULES
from labctl.images.lockfile import LockedManifest
from labctl.images.node import NodeImage
from labctl.progress import Progress
from labctl.tools import go
from labctl.tools.docker import Docker
from labctl.waiting import bounded

SHARE = "/usr/local/share/labctl/manifests"
"""Where a node image that labctl built carries them."""
FETCH_SECONDS = 30.0
MOST_BYTES = 16 << 20
"""Of a manifest; the longest has one."""


def text(name: str, docker: Docker, image: NodeImage, progress: Progress) -> str:
    """The upstream manifest called ``name`` (``flannel``, ``metallb``).

    From labctl's cache, else from ``image`` if labctl built it, else from the Go module, else from
    its release URL. Raises `InfrastructureError` with what each source said, or KeyError for a
    name that is not in the lock file.
    """
    manifest = lockfile.load().manifest(name)
    kept = paths.cache_root() / "manifests" / manifest.sha256
    with suppress(OSError, InfrastructureError):
        return checked(manifest, kept.read_bytes(), str(kept)).decode()
    said = []
    with progress.step(f"Fetch the manifest of {name}") as step:
        for source, fetch in _sources(manifest, docker, image):
            step.note(f"from {source}")
            try:
                data = checked(manifest, fetch(), source)
            except (LabctlError, OSError) as failed:
                said.append(f"{source}: {failed}")
                continue
            step.result(f"from {source}")
            with suppress(OSError):  # only a convenience for the next time
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(data)
            return data.decode()
    raise ImageUnavailable(
        f"the manifest of {name} could not be had",
        why="no source supplied it",
        next_step="make the Go module proxy or the release URL reachable",
        details="\n".join(said),
    )


def checked(manifest: LockedManifest, data: bytes, source: str) -> bytes:
    """``data`` if it is what the lock file says; raises `BuildFailed` showing both hashes."""
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.sha256:
        raise BuildFailed(
            f"the manifest of {manifest.name} from {source} has the wrong checksum",
            why=f"locked {manifest.sha256}, found {found}",
            next_step="do not use it; compare it with the upstream release",
        )
    return data


def _sources(
    manifest: LockedManifest, docker: Docker, image: NodeImage
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    if image.origin == "built":
        path = f"{SHARE}/{manifest.name}.yaml"
        yield (
            "the node image",
            lambda: docker.run(
                image.reference, [path], options=["--rm", "--network=none", "--entrypoint=cat"]
            ).stdout.encode(),
        )
    yield "its Go module", lambda: _from_module(manifest)
    yield manifest.url, lambda: _from_url(manifest.url)


def _from_module(manifest: LockedManifest) -> bytes:
    try:
        toolchain = go.find()
    except HostError as missing:
        raise ImageUnavailable("not without Go", why=missing.what) from missing
    for directory in sorted(MODULES.iterdir()):
        if f"{manifest.module} {manifest.version}" in (directory / "go.mod").read_text():
            return (
                toolchain.download(manifest.module, directory=directory).directory / manifest.path
            ).read_bytes()
    raise ImageUnavailable(f"no module of ours pins {manifest.module} {manifest.version}")


def _from_url(url: str) -> bytes:
    """What the URL answers, whole within `FETCH_SECONDS`: its library counts them anew with every byte."""

    def fetch() -> bytes:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:  # noqa: S310  # https, from the lock file
            data: bytes = answer.read(MOST_BYTES)  # one that is longer fails its checksum
            return data

    try:
        return bounded(fetch, what=url, within=FETCH_SECONDS)
    except (urllib.error.URLError, DeadlineExceeded) as failed:
        why = failed.why if isinstance(failed, DeadlineExceeded) else str(failed.reason)
        raise ImageUnavailable("the release URL does not answer", why=why) from failed

"""What the lock file names, beside what is on this machine.

This module only looks; it must not fetch or judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labctl.errors import HostError
from labctl.images import lockfile, nodeimage, recipe
from labctl.images.lockfile import LockedImage
from labctl.tools.docker import Docker


@dataclass(frozen=True)
class Entry:
    """One line of the lock file: how it is recognised, and what docker has by the name."""

    name: str
    kind: Literal["node image", "workload image", "manifest"]
    reference: str
    identity: str
    here: str


def survey(docker: Docker) -> tuple[Entry, ...]:
    """Every image and manifest of the lock file, node images first. Works without docker, and then says so."""
    locked = lockfile.load()
    built = Entry(
        "node (built)", "node image", locked.built.image.reference, f"recipe {recipe.digest()[:12]}", ""
    )
    pulled = Entry(
        "node (pulled)", "node image", locked.pulled.image.reference, locked.pulled.image.digest[:19], ""
    )
    rows = [_looked(docker, built, locked.built.image), _looked(docker, pulled, locked.pulled.image)]
    holds = rows[0].here == "yes"
    rows += [
        Entry(
            image.name,
            "workload image",
            image.reference,
            "tag only" if image.identity == "tag" else image.digest[:19],
            "in the node image" if holds else "no",
        )
        for image in locked.images
    ]
    rows += [
        Entry(
            one.name,
            "manifest",
            f"{one.module}@{one.version}/{one.path}",
            f"sha256:{one.sha256[:12]}",
            "in the node image" if holds else "no",
        )
        for one in locked.manifests
    ]
    return tuple(rows)


def _looked(docker: Docker, row: Entry, image: LockedImage) -> Entry:
    """``row`` with what docker has: the locked image, another one by its name, or none."""
    here = "no"
    try:
        found = docker.image(image.pull_reference) or docker.image(image.reference)
    except HostError as unknown:
        found, here = None, f"unknown: {unknown.what}"
    if found:
        same = nodeimage.is_locked(image, found)
        here = "yes" if same else f"another: {nodeimage.identity_of(found)[:30]}"
    return Entry(row.name, row.kind, row.reference, row.identity, here)

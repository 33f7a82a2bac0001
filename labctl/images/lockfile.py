"""The lock file: which images and manifests labctl uses, and how each is recognised.

This module reads and checks ``lock.toml`` and nothing else; it must not know docker, nor how
an image is made. The rest of labctl asks here instead of writing a version down.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from labctl.errors import Bug

FILE = Path(__file__).with_name("lock.toml")
SCHEMA = 1

Identity = Literal["digest", "recipe", "tag"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REFERENCE = re.compile(r"[a-z0-9]+([._/-][a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class LockedImage:
    """An image: its name in labctl, its reference, and how its identity is known."""

    name: str
    reference: str
    identity: Identity
    digest: str = ""
    program: str = ""

    @property
    def pull_reference(self) -> str:
        """What to ask a registry for: by digest wherever one is known."""
        return f"{self.reference}@{self.digest}" if self.digest else self.reference


@dataclass(frozen=True)
class LockedNode:
    """A node image and the Kubernetes version inside it."""

    image: LockedImage
    kubernetes: str


@dataclass(frozen=True)
class LockedManifest:
    """An upstream manifest: a file of a Go module, the same file by URL, and the hash of its bytes."""

    name: str
    module: str
    version: str
    path: str
    url: str
    sha256: str


@dataclass(frozen=True)
class Lock:
    """The whole lock file. ``source_date`` is the time stamp (UTC) of everything that is built."""

    kubernetes: str
    source_date: datetime
    built: LockedNode
    pulled: LockedNode
    images: tuple[LockedImage, ...]
    manifests: tuple[LockedManifest, ...]

    def image(self, name: str) -> LockedImage:
        """The image of that name; raises KeyError."""
        return {one.name: one for one in self.images}[name]

    def manifest(self, name: str) -> LockedManifest:
        """The manifest of that name; raises KeyError."""
        return {one.name: one for one in self.manifests}[name]


@cache
def load(file: Path = FILE) -> Lock:
    """Read the lock file. Raises `Bug` naming what is wrong in it: it ships with labctl."""
    try:
        return parse(tomllib.loads(file.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError) as wrong:
        raise Bug(
            f"the image lock file {file.name} is not valid", why=f"{type(wrong).__name__}: {wrong}"
        ) from wrong


def parse(data: dict[str, Any]) -> Lock:
    """A `Lock` from the file's data; raises ValueError, KeyError or TypeError on anything unfit."""
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']} (this labctl knows {SCHEMA})")
    lock = Lock(
        kubernetes=data["kubernetes"],
        source_date=data["source_date"],
        built=_node("node.built", data["node"]["built"]),
        pulled=_node("node.pulled", data["node"]["pulled"]),
        images=tuple(_image(one["name"], one) for one in data["image"]),
        manifests=tuple(_manifest(one) for one in data["manifest"]),
    )
    for kind, named in (("image", lock.images), ("manifest", lock.manifests)):
        names = [one.name for one in named]
        if len(set(names)) != len(names):
            raise ValueError(f"an {kind} is listed twice")
    return lock


def _node(name: str, row: dict[str, Any]) -> LockedNode:
    return LockedNode(_image(name, row), row["kubernetes"])


def _image(name: str, row: dict[str, Any]) -> LockedImage:
    image = LockedImage(
        name=name,
        reference=row["reference"],
        identity=row["identity"],
        digest=row.get("digest", ""),
        program=row.get("program", ""),
    )
    if not _REFERENCE.fullmatch(image.reference):
        raise ValueError(f"{name}: reference {image.reference!r}")
    if image.identity not in ("digest", "recipe", "tag"):
        raise ValueError(f"{name}: identity {image.identity!r}")
    if (image.identity == "digest") != bool(_DIGEST.fullmatch(image.digest)):
        raise ValueError(f"{name}: identity {image.identity!r} with digest {image.digest!r}")
    return image


def _manifest(row: dict[str, Any]) -> LockedManifest:
    manifest = LockedManifest(**row)
    if not _SHA256.fullmatch(manifest.sha256):
        raise ValueError(f"manifest {manifest.name}: sha256 {manifest.sha256!r}")
    return manifest

"""Images as archives: the OCI layout that a node's containerd imports, and the form that `docker load` takes.

Written by hand from the specifications, since no builder is needed to put finished layers
beside each other. This module must not know what is in the layers.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.images.layers import Blob

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class LayeredImage:
    """An image to be written: every name it carries, its layers from the bottom, and how it runs.

    ``created`` is an RFC 3339 time. ``config`` holds what docker calls Config (Env, Entrypoint...).
    """

    names: tuple[str, ...]
    layers: tuple[Blob, ...]
    architecture: str
    created: str
    config: Mapping[str, Any] = field(default_factory=dict)

    def config_json(self) -> bytes:
        """The image's configuration; its SHA-256 is the image's id."""
        return _json(
            {
                "architecture": self.architecture,
                "os": "linux",
                "created": self.created,
                "config": dict(self.config),
                "rootfs": {"type": "layers", "diff_ids": [blob.diff_id for blob in self.layers]},
                "history": [
                    {"created": self.created, "created_by": "labctl image build"} for _ in self.layers
                ],
            }
        )


def write_layout(images: Sequence[LayeredImage], target: Path) -> None:
    """An OCI layout archive of ``images``, whose layers must be gzipped; what they share appears once."""
    descriptors = []
    with _Archive(target) as archive:
        for image in images:
            config = image.config_json()
            manifest = _json(
                {
                    "schemaVersion": 2,
                    "mediaType": MANIFEST_TYPE,
                    "config": _descriptor(CONFIG_TYPE, config),
                    "layers": [
                        {"mediaType": LAYER_TYPE, "digest": blob.digest, "size": blob.size}
                        for blob in image.layers
                    ],
                }
            )
            for blob in image.layers:
                archive.file(_blob_path(blob.digest), blob.path)
            for document in (config, manifest):
                archive.bytes(_blob_path(_digest(document)), document)
            platform = {"architecture": image.architecture, "os": "linux"}
            descriptors += [
                {
                    **_descriptor(MANIFEST_TYPE, manifest),
                    "platform": platform,
                    "annotations": {
                        "io.containerd.image.name": name,
                        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
                    },
                }
                for name in image.names
            ]
        archive.bytes("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        archive.bytes(
            "index.json", _json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": descriptors})
        )


def write_docker_archive(image: LayeredImage, target: Path) -> str:
    """An archive for `docker load`, whose layers must be plain tars. Returns the image id, ``sha256:...``."""
    config = image.config_json()
    name = _digest(config).removeprefix("sha256:")
    layers = [f"{blob.diff_id.removeprefix('sha256:')}/layer.tar" for blob in image.layers]
    with _Archive(target) as archive:
        for place, blob in zip(layers, image.layers, strict=True):
            archive.file(place, blob.path)
        archive.bytes(f"{name}.json", config)
        archive.bytes(
            "manifest.json",
            _json([{"Config": f"{name}.json", "RepoTags": list(image.names), "Layers": layers}]),
        )
    return _digest(config)


class _Archive:
    """A tar of named documents, each once."""

    def __init__(self, target: Path) -> None:
        self._tar = tarfile.open(target, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  # closed by __exit__
        self._names: set[str] = set()

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def bytes(self, name: str, data: bytes) -> None:
        if self._new(name):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            self._tar.addfile(info, io.BytesIO(data))

    def file(self, name: str, source: Path) -> None:
        if self._new(name):
            info = tarfile.TarInfo(name)
            info.size = source.stat().st_size
            with source.open("rb") as stream:
                self._tar.addfile(info, stream)

    def _new(self, name: str) -> bool:
        new = name not in self._names
        self._names.add(name)
        return new


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _blob_path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")

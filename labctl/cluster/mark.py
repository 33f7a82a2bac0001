"""The mark by which labctl knows a cluster as its own, kept in docker.

kind cannot put labels of ours on a node container, but a container inherits the labels of its
image. So every cluster gets an image of its own, ``labctl/cluster:NAME``: the node image plus one
empty layer and our labels. The mark exists before the first container and after the last one,
is on a container from the moment it is made, and needs no file of ours. It names its cluster: on
the containers of another one, made from the same image, it says nothing. What a mark permits is not decided here.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from labctl import paths
from labctl.cluster import holders
from labctl.cluster.spec import ClusterSpec, from_json
from labctl.tools import kind
from labctl.tools.docker import Docker

KIND_CLUSTER = kind.CLUSTER_LABEL
KIND_ROLE = "io.x-k8s.kind.role"

CLUSTER = "dev.labctl.cluster"
OWNER = "dev.labctl.owner"
SPEC = "dev.labctl.spec"
SLOT = "dev.labctl.slot"
NODE_IMAGE = "dev.labctl.node-image"
USER = "dev.labctl.user"

REPOSITORY = "labctl/cluster"


@dataclass(frozen=True)
class Mark:
    """Whose a cluster is: ``owner`` is one bring-up's random id, ``slot`` its place among address pools.

    ``spec`` is None where the labels do not hold one that this release can read. ``user`` is who made it, as
    "1000:alice", or '' where that is not known.
    """

    cluster: str
    owner: str
    slot: int
    spec: ClusterSpec | None
    node_image: str = ""
    user: str = ""

    @property
    def is_mine(self) -> bool:
        """Whether this process's user made it, or nobody is known to have."""
        return not self.user or self.user.partition(":")[0] == me().partition(":")[0]

    @property
    def image(self) -> str:
        """The reference of the image that carries the mark."""
        return reference(self.cluster)

    def labels(self) -> dict[str, str]:
        """The docker labels that say all of it."""
        data = json.dumps(self.spec.as_json() if self.spec else {}, separators=(",", ":"))
        return {
            CLUSTER: self.cluster,
            OWNER: self.owner,
            SLOT: str(self.slot),
            SPEC: base64.urlsafe_b64encode(data.encode()).decode().rstrip("="),
            NODE_IMAGE: self.node_image,
            USER: self.user,
        }


def reference(name: str) -> str:
    """The image that marks the cluster ``name``."""
    return f"{REPOSITORY}:{name}"


def new_owner() -> str:
    """A new random owner id."""
    return secrets.token_hex(6)


def me() -> str:
    """The user of this process, as a mark names him."""
    name = re.sub(r"[^-\w.]", "", holders.user())
    return f"{os.geteuid()}:{name}"


def of(labels: Mapping[str, str]) -> Mark | None:
    """The mark on a container of a kind cluster, or None: it counts for the cluster that it names only."""
    found = read(labels)
    return found if found and found.cluster == labels.get(KIND_CLUSTER) else None


def read(labels: Mapping[str, str]) -> Mark | None:
    """The mark in an image's labels, or None."""
    if not labels.get(OWNER) or not paths.CLUSTER_NAME.fullmatch(labels.get(CLUSTER, "")):
        return None
    slot = labels.get(SLOT, "")
    return Mark(
        cluster=labels[CLUSTER],
        owner=labels[OWNER],
        slot=int(slot) if slot.isdecimal() else 0,
        spec=_spec(labels.get(SPEC, "")),
        node_image=labels.get(NODE_IMAGE, ""),
        user=labels.get(USER, ""),
    )


def marks(docker: Docker) -> dict[str, Mark]:
    """Every cluster of labctl's on this daemon, by name: from the images that mark them."""
    found = [(read(image.labels), image.tags) for image in docker.images([OWNER])]
    mine = [mark for mark, tags in found if mark and mark.image in tags]
    return {mark.cluster: mark for mark in sorted(mine, key=lambda one: one.cluster)}


def put(docker: Docker, mark: Mark) -> None:
    """Make the image that carries ``mark``; about half a second. Raises `CommandFailed`."""
    container = f"labctl-mark-{mark.cluster}-{mark.owner}"
    docker.create(mark.node_image, name=container)
    try:
        changes = [f"LABEL {name}={value}" for name, value in mark.labels().items()]
        docker.commit(container, mark.image, changes=changes)
    finally:
        docker.remove(container)


def take_away(docker: Docker, name: str) -> None:
    """Remove the marking image of a cluster and what an interrupted `put` left; absent is no error."""
    docker.remove(*(one.name for one in docker.containers() if _is_marker(one.name, name)))
    docker.remove_image(reference(name))


def free_slot(docker: Docker) -> int:
    """The lowest slot that no cluster's mark has. Only the global lock keeps it free."""
    taken = {mark.slot for mark in marks(docker).values()}
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


def _is_marker(container: str, name: str) -> bool:
    return bool(re.fullmatch(rf"labctl-mark-{re.escape(name)}-[0-9a-f]+", container))


def _spec(encoded: str) -> ClusterSpec | None:
    try:
        data = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        return from_json(data)
    except (ValueError, KeyError, TypeError):
        return None

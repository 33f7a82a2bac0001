"""Former proofs of a cluster: what one left that was killed is removed before the next begins.

A proof deletes its namespace when it ends, unless it was killed. It would stay for ever then, with pods on
every node and an address of the load balancer's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from labctl.cluster import lock
from labctl.cluster.proof.stage import NAMESPACE_PREFIX, PROOF_LABEL
from labctl.errors import LabctlError
from labctl.kube import Kube
from labctl.progress import Progress

PROOF_SECONDS = 180.0
"""How long to wait for another labctl's proof of the same cluster; one takes 10 s, at most some minutes."""


@contextlib.contextmanager
def swept(name: str, kube: Kube, progress: Progress) -> Iterator[None]:
    """Within the block this is the only proof of the cluster ``name``, and what former ones left is going.

    Waits for another's, and raises `Conflict` that names it when it takes too long.
    """
    what = "the proof of the network"
    with lock.instance(name, "proof", what=what, wait=PROOF_SECONDS, on_wait=progress.say):
        for namespace in sweep(kube):
            progress.say(f"removing {namespace}, which a proof left that was killed")
        yield


def sweep(kube: Kube) -> tuple[str, ...]:
    """Begin to delete the namespaces of former proofs, and return their names. Others look like them in vain:
    both the label and the name must be a proof's. What cannot be deleted does not hinder the next proof."""
    gone: list[str] = []
    with contextlib.suppress(LabctlError), kube.translated("remove what former proofs left"):
        listed: list[Any] = kube.core.list_namespace(label_selector=PROOF_LABEL).items
        for one in listed:
            if one.metadata.name.startswith(NAMESPACE_PREFIX) and not one.metadata.deletion_timestamp:
                kube.core.delete_namespace(name=one.metadata.name)
                gone.append(str(one.metadata.name))
    return tuple(gone)

"""The recipe of the node image: one hash over all that goes into it, and how an image carries it.

It is known without building anything or having Go, so that an image which is here can be told from another. This
module must not know how a piece is made.
"""

from __future__ import annotations

import platform

from labctl.errors import HostError
from labctl.images import components, lockfile, rootfs
from labctl.images.store import key_of

FORMAT = "4"
"""Changes by hand whenever labctl.images.assemble puts files into an image in another way; part of every key."""

LABEL = "dev.labctl.recipe"
"""The label of an image that labctl built. Anybody can set it: it tells builds apart, it proves nothing."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def digest() -> str:
    """The hash of everything that goes into the node image. Debian's updates do not change it: packages are
    not pinned."""
    return key_of(
        FORMAT,
        architecture(),
        lockfile.FILE.read_bytes(),
        components.declared(),
        *(root.key() for root in rootfs.ROOT_FILE_SYSTEMS),
    )


def architecture() -> str:
    """Docker's word for this machine's processor; raises `HostError` for one that is not built for."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise HostError(f"no node image can be built on {machine}", why=f"known: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[machine]

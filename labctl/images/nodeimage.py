"""The node image: which one to use, and where it comes from.

Sources in order: what is here with the locked identity, the image that kind pins, a build
from packages. This module must not know how an image is built.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labctl.errors import ImageIdentityMismatch, ImageUnavailable, UsageError
from labctl.host.finding import Source
from labctl.images import build, lockfile, recipe
from labctl.images.lockfile import LockedImage, LockedNode
from labctl.images.node import NodeImage, Origin
from labctl.progress import Progress
from labctl.tools.docker import Docker, Image

PULL_SECONDS = 1200.0


def ensure(docker: Docker, progress: Progress, *, source: Source = "auto") -> NodeImage:
    """The node image, made available in docker.

    ``auto`` takes what is here, else pulls, else builds. Raises `ImageIdentityMismatch` when an image
    carries a locked name and is another one, and what the last source that was tried raises.
    """
    if source in ("auto", "present") and (found := present(docker)):
        return found
    if source == "present":
        raise ImageUnavailable(
            "no node image is here",
            why=f"neither {lockfile.load().built.image.reference} nor {lockfile.load().pulled.image.reference}",
            next_step="run `labctl image pull` or `labctl image build`",
        )
    if source == "pull":
        return pull(docker, progress)
    if source == "build":
        return built(docker, progress)
    try:
        return pull(docker, progress)
    except ImageUnavailable as failed:
        progress.say(f"{failed.what} ({failed.why or failed.id}): building it from packages instead")
    return built(docker, progress)


def given(docker: Docker, reference: str) -> NodeImage:
    """A node image that the user names, pulled where it is not present. Raises `ImageUnavailable`."""
    found = docker.image(reference)
    if found is None:
        docker.pull(reference)
        found = docker.image(reference)
    if found is None:
        raise ImageUnavailable(f"the node image {reference} is not here", next_step="`labctl image list`")
    origin: Origin = "built" if found.labels.get(recipe.LABEL) else "pulled"
    return NodeImage(reference, identity_of(found), origin, "")


def present(docker: Docker) -> NodeImage | None:
    """What is here with the locked identity, a built image before a pulled one; None when neither is.

    Raises `ImageIdentityMismatch` for a locked name on anything else. An image that an earlier labctl
    built under the name is no stranger: it counts as absent.
    """
    return _present_built(docker) or _present_pulled(docker)


def pull(docker: Docker, progress: Progress) -> NodeImage:
    """Pull the image that kind pins, by its digest. Raises `ImageUnavailable` or a subclass."""
    node = lockfile.load().pulled
    with progress.step(f"Pull {node.image.reference}") as step:
        docker.pull(node.image.pull_reference, timeout=PULL_SECONDS, on_line=_remarks(step.note))
    return _pulled(node)


def built(docker: Docker, progress: Progress, *, fresh: bool = False) -> NodeImage:
    """Build the node image from packages, or find it built. Raises as `build.node_image` does."""
    if not fresh and (found := _present_built(docker)):
        return found
    build.node_image(docker, progress, fresh=fresh)
    return _built()


def load(docker: Docker, archive: Path, progress: Progress) -> NodeImage:
    """Load a node image that labctl built elsewhere. Raises `ImageIdentityMismatch` when the archive holds
    another one, `UsageError` when it holds no node image of labctl's at all; docker keeps what it loaded.
    """
    node = lockfile.load().built
    with progress.step(f"Load {archive.name}") as step:
        names = docker.load(archive)
        step.result(", ".join(names))
    if node.image.reference not in names:
        raise UsageError(
            f"{archive.name} does not hold {node.image.reference}",
            why=f"it holds {', '.join(names) or 'no image'}",
            next_step=f"write it elsewhere with `docker save {node.image.reference} -o FILE`",
        )
    found = docker.image(node.image.reference)
    if found is None or not is_locked(node.image, found):
        raise _mismatch(node, f"recipe {recipe.digest()}", found)
    return _built()


def is_locked(image: LockedImage, found: Image) -> bool:
    """Whether what docker has is what the lock file says."""
    if image.identity == "recipe":
        return found.labels.get(recipe.LABEL) == recipe.digest()
    return any(digest.endswith(f"@{image.digest}") for digest in found.digests)


def identity_of(image: Image) -> str:
    """How an image in docker identifies itself: recipe, digests, or at least its id."""
    carried = image.labels.get(recipe.LABEL)
    return (
        f"recipe {carried}" if carried else ", ".join(image.digests) or f"{image.id} (no digest, no recipe)"
    )


def _present_built(docker: Docker) -> NodeImage | None:
    node = lockfile.load().built
    found = docker.image(node.image.reference)
    if found is None or found.labels.get(recipe.LABEL, recipe.digest()) != recipe.digest():
        return None
    if recipe.LABEL not in found.labels:
        raise _mismatch(node, f"recipe {recipe.digest()}", found)
    return _built()


def _present_pulled(docker: Docker) -> NodeImage | None:
    node = lockfile.load().pulled
    if docker.image(node.image.pull_reference) is not None:
        return _pulled(node)
    if (other := docker.image(node.image.reference)) is not None:
        raise _mismatch(node, node.image.digest, other)
    return None


def _built() -> NodeImage:
    node = lockfile.load().built
    return NodeImage(node.image.reference, recipe.digest(), "built", node.kubernetes)


def _pulled(node: LockedNode) -> NodeImage:
    return NodeImage(node.image.pull_reference, node.image.digest, "pulled", node.kubernetes)


def _mismatch(node: LockedNode, locked: str, found: Image | None) -> ImageIdentityMismatch:
    return ImageIdentityMismatch(
        f"the image {node.image.reference} here is not the one that labctl knows by that name",
        why=f"locked: {locked}; found: {identity_of(found) if found else 'none'}",
        next_step=f"give it another name and free this one: `docker rmi {node.image.reference}`",
    )


def _remarks(note: Callable[[str], None]) -> Callable[[str], None]:
    """Of docker's many lines only those that tell of a whole layer."""
    return lambda line: (
        note(line.strip()) if line.strip().endswith(("Pull complete", "Downloading")) else None
    )

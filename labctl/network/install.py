"""Installing an addon, whichever it is.

Everything goes through a node's container, so that it can start as soon as the API server
answers there, while other nodes are still joining. Waiting for the result is not done here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from labctl.errors import CommandFailed
from labctl.images import manifests, workloads
from labctl.network import programs
from labctl.network.addon import Addon, Requirement, Source
from labctl.network.site import InstallSite
from labctl.progress import Progress
from labctl.tools.kubectl import NodeKubectl
from labctl.waiting import NotYet, until

CONDITION_SECONDS = 60
APPLY_SECONDS = 60.0
APPLY_EVERY_SECONDS = 1.0

PASSING = re.compile(
    r"connection refused|handshake timeout|i/o timeout|etcdserver|unexpected EOF|connection reset"
    r"|currently unable to handle|failed calling webhook|ensure CRDs are installed|not yet ready",
    re.IGNORECASE,
)
"""What a young API server answers that will pass."""


def upstream(name: str) -> Source:
    """The file that the project itself published, by its name in the lock file, which knows its checksum."""
    return lambda site, progress: manifests.text(name, site.docker, site.image, progress)


def install(addon: Addon, site: InstallSite, progress: Progress) -> None:
    """Bring an addon's programs and images onto the nodes, then apply its phases one after the other.

    Raises `ImageUnavailable`, `CommandFailed` with the API server's words, `DeadlineExceeded`.
    """
    if not addon.phases:
        return
    published = addon.source(site, progress) if addon.source else ""
    here = programs.ensure(addon.programs, site.docker, site.nodes, progress) if addon.programs else ()
    facts = replace(site.facts, programs=frozenset(here))
    _images(site, addon.images(facts), progress)
    for phase in addon.phases:
        _apply(site.kubectl, phase.objects(published, facts))
        if phase.then:
            _await(site.kubectl, phase.then)


def _apply(kubectl: NodeKubectl, text: str) -> None:
    """Apply, again and again while the API server says that it is not in order yet."""

    def attempt() -> None:
        try:
            kubectl.apply(text)
        except CommandFailed as failed:
            if PASSING.search(failed.stderr):
                raise NotYet(failed.why) from failed
            raise

    until(attempt, what="applying a manifest", within=APPLY_SECONDS, every=APPLY_EVERY_SECONDS)


def _await(kubectl: NodeKubectl, condition: Requirement) -> None:
    argv = ["wait", f"--for=condition={condition.type}", f"--timeout={CONDITION_SECONDS}s"]
    kubectl.run([*argv, *condition.objects], timeout=CONDITION_SECONDS + 10)


def _images(site: InstallSite, names: Sequence[str], progress: Progress) -> None:
    if names and site.image.origin != "built":  # one that labctl built carries them all
        workloads.ensure(site.docker, site.nodes, [workloads.reference(name) for name in names], progress)

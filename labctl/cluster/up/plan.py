"""What `labctl up` has to do, compared with what is there.

One question, one answer: nothing, create, look again, or a refusal that says what stands in the
way. Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from labctl.cluster import journal, mark, running, teardown
from labctl.cluster.journal import Journal
from labctl.cluster.mark import KIND_CLUSTER, KIND_ROLE, Mark
from labctl.cluster.spec import ClusterSpec
from labctl.errors import Conflict
from labctl.tools.docker import Container, Docker

Action = Literal["create", "nothing", "verify", "replace"]


@dataclass(frozen=True)
class Plan:
    """``action``: ``verify`` means that it runs and its proof is not on record; ``reason`` is for people."""

    action: Action
    reason: str


def decide(
    spec: ClusterSpec, docker: Docker, *, replace: bool = False, force: bool = False, image: str = ""
) -> Plan:
    """What to do for ``spec``; ``image`` is a node image asked for by name, or ''.

    Raises `Conflict` (another's cluster, another spec, an interrupted bring-up), `NodeDown` when a
    node's container does not run, `StateUnusable` for a journal of a newer labctl.
    """
    containers = docker.containers({KIND_CLUSTER: spec.name})
    known = mark.marks(docker).get(spec.name)
    written = None if replace else journal.read(spec.name)
    teardown.refuse_foreign(spec.name, containers, force=force and replace)
    if replace:
        there = containers or known or journal.path(spec.name).exists()
        return Plan("replace", "replace what is there") if there else Plan("create", "nothing is there")
    if written and not written.ready:
        raise interrupted(written)
    if not containers and known is None:
        return Plan("create", "nothing is there")
    refuse_other(spec, own(containers) or known, image)
    refuse_down(spec, containers)
    if written is None:
        return Plan("verify", "it runs, and no proof of it is on record")
    return Plan("nothing", "it runs as asked for")


def own(containers: Sequence[Container]) -> Mark | None:
    """The mark on these containers."""
    return next(filter(None, (mark.read(one.labels) for one in containers)), None)


def interrupted(written: Journal) -> Conflict:
    """The refusal to go on with what another process left half done."""
    ended = "failed, and was kept," if written.failed else "was interrupted"
    return Conflict(
        f"a bring-up of cluster {written.name} {ended} in phase {written.phase}",
        why=written.failed or f"process {written.pid} ({written.command}), started {written.started}",
        next_step=f"start anew: that command with --replace; or delete: `labctl down {written.name}`",
    )


def refuse_other(spec: ClusterSpec, there: Mark | None, image: str) -> None:
    """Raise `Conflict` naming the difference when what runs is not what is asked for."""
    if there is None or there.spec is None:
        return
    lines = list(spec.difference(there.spec))
    if image and image != there.node_image:
        lines.append(f"node image: {image} asked for, {there.node_image} there")
    if lines:
        raise Conflict(
            f"cluster {spec.name} runs already, and it is another one",
            why="; ".join(lines),
            next_step=f"add --replace to delete it and make this one, or choose another name than {spec.name}",
            details="\n".join(lines),
        )


def refuse_down(spec: ClusterSpec, containers: Sequence[Container]) -> None:
    """Raise `NodeDown` when a node of the cluster is stopped or gone."""
    states = {one.name: one.state for one in containers if one.labels.get(KIND_ROLE) in running.ROLES}
    wanted = dict.fromkeys(spec.node_names(), "gone") | states
    bad = {name: state for name, state in wanted.items() if state != running.RUNNING}
    if bad:
        raise running.node_down(spec.name, bad)

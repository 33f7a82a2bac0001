"""What `labctl up` has to do, compared with what is there.

One question, one answer: nothing, create, look again, or a refusal that says what stands in the
way. Nothing is changed here.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Literal

from labctl.cluster import lock, teardown
from labctl.cluster.condition import look
from labctl.cluster.lock import Hold
from labctl.cluster.mark import Mark
from labctl.cluster.spec import ClusterSpec
from labctl.errors import Conflict, LabctlError
from labctl.tools.docker import Docker

Action = Literal["create", "nothing", "verify", "replace"]


@dataclass(frozen=True)
class Plan:
    """``action``: ``verify`` means that it runs and its proof is not on record; ``reason`` is for people."""

    action: Action
    reason: str

    @property
    def changes(self) -> bool:
        """Whether it makes or deletes anything that others may use."""
        return self.action in {"create", "replace"}


def decide(
    spec: ClusterSpec, docker: Docker, *, replace: bool = False, force: bool = False, image: str = ""
) -> Plan:
    """What to do for ``spec``; ``image`` is a node image asked for by name, or ''.

    Raises `Conflict` (another's cluster, another spec, an interrupted bring-up), `NodeDown` when a
    node's container does not run, `StateUnusable` for a journal of a newer labctl.
    """
    seen = look(spec.name, docker, locked=True)
    if replace:
        teardown.refuse_others(spec.name, seen.containers, seen.mark, force=force)
        absent = seen.state == "absent"
        return Plan("create", "nothing is there") if absent else Plan("replace", "replace what is there")
    if seen.state == "absent":
        return Plan("create", "nothing is there")
    if seen.state not in {"running", "broken"}:
        raise seen.trouble or Conflict(f"cluster {spec.name} is {seen.state}")
    refuse_other(spec, seen.mark, image)
    if seen.trouble:
        raise seen.trouble
    if not seen.proven:
        return Plan("verify", "it runs, and no proof of it is on record")
    return Plan("nothing", "it runs as asked for")


def claim(
    spec: ClusterSpec, docker: Docker, *, replace: bool = False, force: bool = False, image: str = ""
) -> tuple[Hold, Plan]:
    """What to do, and the lock to do it under: held alone to make or delete something, else beside others.

    The first look chooses the lock, and only the one under the lock counts: what it says stays true. A running
    cluster can so be asked for while labs use it. Raises as `decide`, and `Conflict` that names the holder.
    """

    def decided() -> Plan:
        return decide(spec, docker, replace=replace, force=force, image=image)

    changes = False
    with contextlib.suppress(LabctlError):
        changes = decided().changes
    while True:
        hold = (lock.changing if changes else lock.using)(spec.name)
        with contextlib.ExitStack() as undo:
            undo.enter_context(hold)
            plan = decided()
            if plan.changes and not changes:
                changes = True
                continue
            if not plan.changes:
                hold.share()
            undo.pop_all()
            return hold, plan


def refuse_rivals(name: str, docker: Docker) -> None:
    """Raise `Conflict` when there is something of that name after all, right before anything is made.

    The lock keeps away every labctl of this machine; others share the daemon too, and this is the last look.
    """
    seen = look(name, docker, locked=True)
    if seen.containers or seen.mark:
        made = [one.name for one in seen.containers] or [
            f"the mark of user {seen.mark.user}" if seen.mark else ""
        ]
        raise Conflict(
            f"another has made a cluster {name} meanwhile",
            why=", ".join(made),
            next_step=f"look at it with `labctl status {name}`, or choose another name",
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

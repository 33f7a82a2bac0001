"""The doctor: every check, in one list, and what follows from a failed one.

The doctor only looks. Each check is a function of a `Checkup` with one line of docstring that
says when it holds; the list is the order in which a user reads the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from labctl.errors import HostError, LabctlError, UsageError
from labctl.host import checks_docker, checks_machine, checks_network, checks_programs
from labctl.host.checkup import Checkup
from labctl.host.finding import Answer, Finding, Needs, fail
from labctl.host.machine import Machine
from labctl.tools.docker import Docker


@dataclass(frozen=True)
class HostCheck:
    """A named question about the machine."""

    id: str
    title: str
    look: Callable[[Checkup], Answer]


CHECKS = (
    HostCheck("docker", "docker daemon", checks_docker.answers),
    HostCheck("docker-version", "docker version", checks_docker.version),
    HostCheck("docker-storage", "docker storage", checks_docker.storage),
    HostCheck("privileged", "privileged containers", checks_docker.privileged),
    HostCheck("capability", "CAP_SYS_RESOURCE", checks_docker.capability),
    HostCheck("cgroup", "cgroup version", checks_docker.cgroup),
    HostCheck("cores", "processors", checks_machine.cores),
    HostCheck("memory", "memory", checks_machine.memory),
    HostCheck("disk-docker", "disk of docker", checks_machine.docker_disk),
    HostCheck("disk-state", "disk of labctl", checks_machine.state_disk),
    HostCheck("inotify", "inotify limits", checks_machine.inotify),
    HostCheck("ports", "host ports", checks_network.ports),
    HostCheck("subnets", "subnets", checks_network.subnets),
    HostCheck("service-proxy", "kube-proxy's mode", checks_network.service_proxy),
    HostCheck("kind", "kind", checks_programs.kind),
    HostCheck("image-source", "node image source", checks_programs.image_source),
    HostCheck("dead-nodes", "stopped nodes", checks_docker.dead_nodes),
    HostCheck("stale-pid", "stale pid file", checks_programs.stale_pid),
    HostCheck("namesake", "another labctl", checks_programs.namesake),
)


def examine(
    needs: Needs, *, docker: Docker | None = None, machine: Machine | None = None, skip: Sequence[str] = ()
) -> tuple[Finding, ...]:
    """Make every check that is not in ``skip`` and return what each found, in the order of CHECKS.

    Never raises for what a check finds; `UsageError` for an id in ``skip`` that does not exist.
    """
    demand_known(skip)
    checkup = Checkup(needs, docker or Docker(), machine or Machine())
    return tuple(_make(check, checkup) for check in CHECKS if check.id not in skip)


def require(
    needs: Needs, skip: Sequence[str] = (), *, docker: Docker | None = None, machine: Machine | None = None
) -> tuple[Finding, ...]:
    """Examine; return the findings, or raise one `HostError` that lists every failed check with its cure.

    The error's class, and with it its id, is that of the first failed check.
    """
    findings = examine(needs, docker=docker, machine=machine, skip=skip)
    failed = [finding for finding in findings if finding.failed]
    if failed:
        raise failure(failed)
    return findings


def demand_known(ids: Sequence[str]) -> None:
    """Raise `UsageError` with the list of all checks when one of ``ids`` is none of them."""
    unknown = sorted(set(ids) - {check.id for check in CHECKS})
    if unknown:
        raise UsageError(
            f"there is no check {', '.join(unknown)}",
            next_step=f"the checks are: {', '.join(check.id for check in CHECKS)}",
        )


def failure(failed: Sequence[Finding]) -> HostError:
    """The one error for these failed findings."""
    first = failed[0]
    if len(failed) == 1:
        return first.error(
            f"this machine is not ready: {first.title}",
            why=first.seen,
            next_step=f"{first.cure} (or pass over this check: --skip-check {first.id})",
        )
    return first.error(
        f"this machine is not ready: {len(failed)} checks failed",
        why=", ".join(finding.title for finding in failed),
        next_step="`labctl host prepare` cures most, the rest is yours (--skip-check ID passes over one)",
        details="\n".join(f"{one.id}: {one.seen}\n    cure: {one.cure}" for one in failed),
    )


def _make(check: HostCheck, checkup: Checkup) -> Finding:
    try:
        answer = check.look(checkup)
    except LabctlError as error:
        kind = type(error) if isinstance(error, HostError) else HostError
        answer = fail(f"could not be looked at: {error}", error.next_step, kind)
    return answer.named(check.id, check.title)

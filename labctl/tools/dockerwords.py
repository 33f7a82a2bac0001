"""What docker's words on stderr mean.

The docker program has exit codes that say little and sentences that say much; this module is
the one place that reads them, and the other half of labctl.tools.docker.
"""

from __future__ import annotations

import re

from labctl.errors import (
    DockerForbidden,
    DockerUnreachable,
    ImageUnavailable,
    InfrastructureError,
    LabctlError,
    NodeDown,
    RegistryRateLimited,
    RegistryUnreachable,
    RegistryUntrusted,
    ToolUnfit,
)

PREPARE = "run `labctl host prepare`, or install docker"
START_DAEMON = "start the docker daemon: `labctl host prepare` does it, with systemd or without"
PULL_NEXT = "use an image that is here, or let labctl build it: `labctl image build`"

_FORBIDDEN = re.compile(
    r"^.*permission denied while trying to connect to the docker (daemon socket|API).*$",
    re.IGNORECASE | re.MULTILINE,
)
_UNREACHABLE = re.compile(
    r"^(?:ERROR: |error: )?(?:Cannot connect to the Docker daemon|failed to connect to the docker API"
    r"|error during connect|Is the docker daemon running).*$",
    re.IGNORECASE | re.MULTILINE,
)
_NO_CONTEXT = re.compile(
    r"^(?:Failed to initialize: .*)?(?:unable to resolve docker endpoint: )?"
    r"(?:context \"[^\"]*\": context not found|Current context \"[^\"]*\" is not found).*$",
    re.MULTILINE,
)
_PODMAN = re.compile(
    r"^(?:Emulate Docker CLI using podman|Cannot connect to Podman|.*nil pointer evaluating \*define\.).*$",
    re.MULTILINE,
)
_NOT_RUNNING = re.compile(
    r"^Error(?: response from daemon)?: "
    r"(?:No such container: \S+|Container \S+ is (?:not running|paused).*)$",
    re.IGNORECASE | re.MULTILINE,
)
HELP = re.compile(r"^(?:See|Run) 'docker .*--help'.*$", re.MULTILINE)
GONE = re.compile(r"No such container|is already in progress", re.IGNORECASE)

ABSENT = re.compile(r"not found|manifest unknown", re.IGNORECASE)
_RATE_LIMIT = re.compile(r"toomanyrequests|too many requests|rate limit", re.IGNORECASE)
_UNTRUSTED = re.compile(
    r"x509:|certificate signed by unknown authority|failed to verify certificate", re.IGNORECASE
)
_NO_ANSWER = re.compile(
    r"no such host|connection refused|i/o timeout|Client\.Timeout|deadline exceeded|handshake timeout"
    r"|network is unreachable|no route to host|name resolution|server misbehaving|connection reset"
    r"|proxyconnect|unexpected EOF|: EOF|request canceled",
    re.IGNORECASE,
)


def failure(said: str) -> LabctlError | None:
    """The error that docker's words on stderr stand for, or None when they are about something else."""
    if known := daemon_failure(said):
        return known
    if seen := _NOT_RUNNING.search(said):
        return NodeDown(
            "a container is not running", why=seen.group(0).strip(), next_step="`labctl status` names it"
        )
    return None


def pull_failure(reference: str, said: str) -> InfrastructureError:
    """The error for a pull of ``reference`` that failed with these words."""
    what = f"image {reference} could not be pulled"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    why = lines[-1] if lines else "docker gave no reason"
    if _RATE_LIMIT.search(said):
        step = f"log in with `docker login`, wait, or build instead. {PULL_NEXT}"
        return RegistryRateLimited(what, why=why, next_step=step, details=said)
    if _UNTRUSTED.search(said):
        step = "add your organisation's certificate to the docker daemon's trust, or build instead"
        return RegistryUntrusted(what, why=why, next_step=step, details=said)
    if _NO_ANSWER.search(said):
        return RegistryUnreachable(what, why=why, next_step=PULL_NEXT, details=said)
    return ImageUnavailable(what, why=why, next_step=PULL_NEXT, details=said)


def podman(why: str) -> ToolUnfit:
    """The error for podman behind the name docker; ``why`` is what gave it away."""
    return ToolUnfit(
        "the program called docker is podman",
        why=why,
        next_step="install docker itself and put it first on PATH: labctl was proven with nothing else",
    )


def daemon_failure(said: str) -> DockerForbidden | DockerUnreachable | ToolUnfit | None:
    """The error for a daemon that cannot be talked to, or None."""
    if seen := _PODMAN.search(said):
        return podman(seen.group(0).strip())
    if seen := _NO_CONTEXT.search(said):
        return DockerUnreachable(
            "docker's context does not exist",
            why=seen.group(0).strip(),
            next_step="choose one that does: `docker context ls`, `docker context use NAME`, `unset DOCKER_CONTEXT`",
        )
    if seen := _FORBIDDEN.search(said):
        return DockerForbidden(
            "docker's socket may not be opened by this user",
            why=seen.group(0).strip(),
            next_step="add the user to the docker group (`sudo usermod -aG docker $USER`, then log in again)",
        )
    if seen := _UNREACHABLE.search(said):
        return DockerUnreachable(
            "no docker daemon answers", why=seen.group(0).strip(), next_step=START_DAEMON
        )
    return None

"""Every way labctl can fail, in one place.

This module exists so that a failure has one shape from the place it happens to the
line the user reads: what went wrong, why, what to do next, a stable id for scripts
and an exit code. It knows nothing of docker, kind or Kubernetes.

The tree (id, exit code):

    LabctlError
    ├── UsageError                 usage               2
    │   └── ConfigError            config-invalid      2   one ConfigProblem per fault, all at once
    ├── HostError                  host-not-ready      3
    │   ├── DockerUnreachable      docker-unreachable  3
    │   ├── DockerForbidden        docker-permission   3
    │   ├── ToolMissing            tool-missing        3
    │   ├── ToolUnfit              tool-unfit          3   too old, wrong checksum
    │   ├── ImageIdentityMismatch  image-identity      3
    │   └── PortTaken              port-taken          3
    ├── InfrastructureError        infrastructure      4
    │   ├── CommandFailed          command-failed      4   carries argv, exit code, output
    │   ├── ImageUnavailable       image-unavailable   4
    │   │   ├── RegistryUnreachable  registry-unreachable  4
    │   │   ├── RegistryRateLimited  registry-rate-limit   4
    │   │   └── RegistryUntrusted    registry-certificate  4
    │   ├── BuildFailed            build-failed        4
    │   ├── NodeDown               node-down           4
    │   ├── KubernetesError        kubernetes-api      4
    │   │   ├── ApiUnreachable     api-unreachable     4
    │   │   └── ApiRefused         api-refused         4   carries the HTTP status
    │   ├── ProofFailed            proof-failed        4
    │   ├── ProbeDidNotRun         probe-did-not-run   4
    │   └── WriteFailed            write-failed        4   disk full, read-only, I/O error
    ├── DeadlineExceeded           deadline            5   carries the last observation
    │   └── CommandTimedOut        command-timeout     5
    ├── Conflict                   conflict            6
    ├── StateUnusable              state-unusable      7
    │   └── ClusterNotFound        cluster-not-found   7
    ├── CleanupIncomplete          cleanup-incomplete  8   lists the leftovers
    ├── NothingVerified            nothing-verified    9
    ├── Bug                        bug                 70
    └── Interrupted                interrupted         130 / 143 / 129

A failed lab check (exit 1) is a result, not an exception: see labctl.lab.results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

NOT_FOUND = 404
"""The HTTP status of what does not exist."""


class LabctlError(Exception):
    """The root: ``what`` went wrong, ``why``, and the ``next_step`` the user can take.

    ``details`` holds captured output or a list, shown below the three lines; it may be long.
    ``bundle`` is set to a path where evidence was collected, ``kept`` when the cluster of a failed
    bring-up was left standing on demand.
    """

    id: ClassVar[str] = "error"
    exit_code: int = 70
    usual_step: ClassVar[str] = ""
    """The next step where the one who raises it knows no better one."""

    def __init__(self, what: str, *, why: str = "", next_step: str = "", details: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next_step = next_step or self.usual_step
        self.details = details
        self.bundle = ""
        self.kept = False

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what


class UsageError(LabctlError):
    """The command line asks for something that does not exist or cannot be."""

    id = "usage"
    exit_code = 2
    usual_step = "`labctl --help` lists what is possible"


@dataclass(frozen=True)
class ConfigProblem:
    """One fault in a file: where (1-based line and column), what stands there, what is allowed."""

    file: str
    line: int
    column: int
    message: str
    value: str = ""
    allowed: str = ""

    def __str__(self) -> str:
        shown = f"{self.file}:{self.line}:{self.column}: {self.message}"
        if self.value:
            shown += f" (found {self.value})"
        return f"{shown}; allowed: {self.allowed}" if self.allowed else shown


class ConfigError(UsageError):
    """A configuration file is wrong; ``problems`` lists every fault that was found."""

    id = "config-invalid"

    def __init__(self, what: str, *, problems: Sequence[ConfigProblem], next_step: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__(
            what,
            why=f"{len(self.problems)} problem(s)",
            next_step=next_step or "correct the lines named below and run the command again",
            details="\n".join(map(str, self.problems)),
        )


class HostError(LabctlError):
    """The machine lacks something; `labctl doctor` finds it, `labctl host prepare` cures it."""

    id = "host-not-ready"
    exit_code = 3
    usual_step = "`labctl doctor` shows what this machine has and lacks"


class DockerUnreachable(HostError):
    """No docker daemon answers."""

    id = "docker-unreachable"


class DockerForbidden(HostError):
    """The docker socket exists, and this user may not open it."""

    id = "docker-permission"


class ToolMissing(HostError):
    """An external program is not on PATH."""

    id = "tool-missing"


class ToolUnfit(HostError):
    """An external program is there, in a version or with a checksum that does not fit."""

    id = "tool-unfit"


class ImageIdentityMismatch(HostError):
    """A local image carries the locked name and another identity than the lock file says."""

    id = "image-identity"


class PortTaken(HostError):
    """Another process listens on a host port that the cluster needs."""

    id = "port-taken"


class InfrastructureError(LabctlError):
    """The machine was ready, and still something underneath the labs broke."""

    id = "infrastructure"
    exit_code = 4
    usual_step = "`labctl status` shows what runs and what does not"


class CommandFailed(InfrastructureError):
    """An external program ended with a non-zero exit code (negative: the signal that ended it)."""

    id = "command-failed"

    def __init__(
        self, argv: Sequence[str], exit_code: int, stdout: str, stderr: str, *, next_step: str = ""
    ) -> None:
        self.argv = tuple(argv)
        self.returncode = exit_code
        self.stdout = stdout
        self.stderr = stderr
        said = (stderr.strip() or stdout.strip()).splitlines()
        super().__init__(
            f"`{shell_line(argv)}` ended with exit code {exit_code}",
            why=said[-1].strip() if said else "it printed nothing",
            next_step=next_step or "run that command by hand to see it fail alone",
            details=stderr.strip() or stdout.strip(),
        )


class ImageUnavailable(InfrastructureError):
    """An image is not here and no source could supply it."""

    id = "image-unavailable"
    usual_step = "`labctl image list` shows what is here and where the rest comes from"


class RegistryUnreachable(ImageUnavailable):
    """The container registry's host does not resolve or does not answer."""

    id = "registry-unreachable"


class RegistryRateLimited(ImageUnavailable):
    """The container registry answers: too many requests."""

    id = "registry-rate-limit"


class RegistryUntrusted(ImageUnavailable):
    """The container registry's certificate is not trusted here (x509)."""

    id = "registry-certificate"


class BuildFailed(InfrastructureError):
    """A component of the node image did not build."""

    id = "build-failed"
    usual_step = "run the command again: what is built already is kept"


class NodeDown(InfrastructureError):
    """A node's container exited, is paused or is gone."""

    id = "node-down"


class KubernetesError(InfrastructureError):
    """The Kubernetes API did not do what was asked."""

    id = "kubernetes-api"


class ApiUnreachable(KubernetesError):
    """No usable answer from the API server: refused, reset, TLS, or no answer in time."""

    id = "api-unreachable"


class ApiRefused(KubernetesError):
    """The API server answered with an error; ``status`` is its HTTP code, ``reason`` its word."""

    id = "api-refused"

    def __init__(self, what: str, *, status: int, reason: str, why: str = "", next_step: str = "") -> None:
        self.status = status
        self.reason = reason
        super().__init__(what, why=why or f"{status} {reason}", next_step=next_step)

    @property
    def not_found(self) -> bool:
        """Whether what was asked for does not exist."""
        return self.status == NOT_FOUND


class ProofFailed(InfrastructureError):
    """The cluster is up and its network does not do what a cluster network must do."""

    id = "proof-failed"


class ProbeDidNotRun(InfrastructureError):
    """A probe never looked, so it saw neither "open" nor "blocked"; a check must not conclude anything."""

    id = "probe-did-not-run"


class WriteFailed(InfrastructureError):
    """A file could not be written (no space, read-only, I/O error); the old content is intact."""

    id = "write-failed"
    usual_step = "free space or correct the permissions, then run the command again"


class DeadlineExceeded(LabctlError):
    """A wait ended without its condition; ``last`` is the last observation."""

    id = "deadline"
    exit_code = 5
    usual_step = "run the command again when the machine is less busy; `labctl status` shows what runs"

    def __init__(
        self, what: str, *, seconds: float, last: str, next_step: str = "", details: str = ""
    ) -> None:
        self.seconds = seconds
        self.last = last
        super().__init__(
            f"{what}: not within {seconds:.0f} s",
            why=f"last seen: {last}",
            next_step=next_step,
            details=details,
        )


class CommandTimedOut(DeadlineExceeded):
    """An external program ran longer than it may and was ended; its output so far is kept."""

    id = "command-timeout"

    def __init__(self, argv: Sequence[str], seconds: float, stdout: str, stderr: str) -> None:
        self.argv = tuple(argv)
        self.stdout = stdout
        self.stderr = stderr
        said = (stderr.strip() or stdout.strip()).splitlines()
        super().__init__(
            f"`{shell_line(argv)}`",
            seconds=seconds,
            last=said[-1].strip() if said else "no output",
            next_step="run that command by hand to see where it stays",
            details=stderr.strip() or stdout.strip(),
        )


class Conflict(LabctlError):
    """Somebody else is at it: another labctl, or a cluster that labctl did not make."""

    id = "conflict"
    exit_code = 6
    usual_step = "`labctl ls` lists the clusters on this machine"


class StateUnusable(LabctlError):
    """labctl's own record or kubeconfig cannot be used, or does not match what runs."""

    id = "state-unusable"
    exit_code = 7
    usual_step = "`labctl ls` lists the clusters on this machine"


class ClusterNotFound(StateUnusable):
    """No cluster of that name runs here."""

    id = "cluster-not-found"


class CleanupIncomplete(LabctlError):
    """Something could not be removed; ``leftovers`` names each object."""

    id = "cleanup-incomplete"
    exit_code = 8
    usual_step = "remove what is listed, then run the command again"

    def __init__(self, what: str, *, leftovers: Sequence[str], why: str = "", next_step: str = "") -> None:
        self.leftovers = tuple(leftovers)
        super().__init__(what, why=why, next_step=next_step, details="\n".join(self.leftovers))


class NothingVerified(LabctlError):
    """Not one check ran, so nothing may be called proven."""

    id = "nothing-verified"
    exit_code = 9
    usual_step = "name labs or checks that this cluster can be asked for"


class Bug(LabctlError):
    """labctl itself is wrong; the traceback is in ``details``."""

    id = "bug"
    exit_code = 70
    usual_step = "please report this, with the lines below"

    @classmethod
    def of(cls, error: Exception, where: str = "") -> Bug:
        """The error for an exception that nothing of ours foresaw; ``where`` names the phase it came in."""
        import traceback

        within = f" in {where}" if where else ""
        return cls(
            f"labctl failed{within} in a way it does not know: {type(error).__name__}",
            why=str(error) or "no message",
            details="".join(traceback.format_exception(error)),
        )


class Interrupted(LabctlError):
    """The user (SIGINT, 130; SIGHUP, 129) or the system (SIGTERM, 143) asked labctl to stop."""

    id = "interrupted"
    usual_step = "run the command again"

    def __init__(
        self, what: str = "interrupted", *, signal_number: int = 2, why: str = "", next_step: str = ""
    ) -> None:
        super().__init__(what, why=why, next_step=next_step)
        self.exit_code = 128 + signal_number

    @classmethod
    def of(cls, stop: BaseException) -> Interrupted:
        """The error for an interrupt that nobody on the way had more to say about."""
        return cls(str(stop) or "interrupted", signal_number=signal_number(stop))


class Terminated(KeyboardInterrupt):
    """SIGTERM, treated as an interrupt by everything that cleans up."""

    number: ClassVar[int] = 15


class HungUp(Terminated):
    """SIGHUP: the terminal was closed, or the connection to it broke. Nobody reads what is said from now on."""

    number: ClassVar[int] = 1


def signal_number(stop: BaseException) -> int:
    """The signal behind an interrupt: 15 for SIGTERM, 1 for SIGHUP, 2 for SIGINT."""
    return stop.number if isinstance(stop, Terminated) else 2


def shell_line(argv: Sequence[str]) -> str:
    """``argv`` as one line that can be pasted into a shell."""
    import shlex

    return shlex.join(argv)

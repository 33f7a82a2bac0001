"""The kind command line.

This module exists so that kind's traps are met in one place: never ``--wait`` (it reports
success after a time-out), always ``--retain`` (its own rollback destroys the evidence),
always a private kubeconfig. It must not know what a cluster is used for.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labctl import paths, process
from labctl.errors import CommandFailed, Conflict, ToolMissing
from labctl.process import Completed

VERSION = "0.33.0"
"""The release that labctl is written for; the node image takes its node files from the same one."""

CLUSTER_LABEL = "io.x-k8s.kind.cluster"
"""kind's label on the container of every node: the cluster's name."""

ANSWER_SECONDS = 30.0
DELETE_SECONDS = 120.0
EXPORT_SECONDS = 180.0

NEED = f"v{VERSION} or a later patch of it"
PREPARE = "run `labctl host prepare`: it builds the right kind into labctl's own directory"

Outcome = Literal["started", "done", "failed"]
_MARKS: dict[str, Outcome] = {"•": "started", "✓": "done", "✗": "failed"}
_EMOJI = re.compile(r"[^\w()\[\]\"'.,:;/@&+-]+$")


@dataclass(frozen=True)
class KindStage:
    """One line of kind's progress; ``seconds`` since the stage started, 0.0 while it starts."""

    title: str
    outcome: Outcome
    seconds: float = 0.0

    def __str__(self) -> str:
        """The title alone while it starts, else with its outcome and time."""
        return (
            self.title
            if self.outcome == "started"
            else f"{self.title}: {self.outcome} after {self.seconds:.1f} s"
        )


class StageReader:
    """Turns kind's lines (as it prints them without a terminal) into `KindStage` objects.

    A line it does not know gives None: the caller passes it through.
    """

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def read(self, line: str) -> KindStage | None:
        """The stage that ``line`` tells of, or None."""
        mark, _, rest = line.strip().partition(" ")
        outcome = _MARKS.get(mark)
        if outcome is None or not rest.strip():
            return None
        title = _EMOJI.sub("", rest.strip().removesuffix("...").strip()).strip()
        if outcome == "started":
            self._since[title] = time.monotonic()
            return KindStage(title, outcome)
        return KindStage(title, outcome, time.monotonic() - self._since.get(title, time.monotonic()))


class Kind:
    """The ``kind`` program: labctl's own copy when there is one, else the one on PATH."""

    def __init__(self, program: str | None = None) -> None:
        self.program = program or locate()

    def version(self) -> str:
        """The version without ``v``, such as ``0.33.0``. Raises `ToolMissing`."""
        said = self._run("version", timeout=ANSWER_SECONDS).stdout
        found = re.search(r"\bv?(\d+\.\d+\.\d+\S*)", said)
        return found.group(1) if found else said.strip()

    def create_cluster(
        self,
        *,
        name: str,
        config: str,
        image: str,
        kubeconfig: Path,
        timeout: float,
        on_event: Callable[[str], None] | None = None,
        on_stage: Callable[[KindStage], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Completed:
        """Create the node containers and run kubeadm in them; node readiness is not waited for.

        ``config`` is kind's YAML. ``on_event`` receives a readable line for everything kind says,
        ``on_stage`` the timed stages only; both are called from a thread that reads kind's output.
        What was made stays on a failure. Raises `Conflict` when nodes of that name exist,
        `CommandFailed`, `CommandTimedOut`, `Interrupted` once ``cancel`` is set.
        """
        # kind leaves this lock behind when it is killed, and then refuses for ever. The kubeconfig
        # is private and its cluster is locked by the caller, so nobody else can hold it.
        kubeconfig.with_name(kubeconfig.name + ".lock").unlink(missing_ok=True)
        reader = StageReader()

        def heard(line: str) -> None:
            stage = reader.read(line)
            if stage and on_stage:
                on_stage(stage)
            if on_event and (stage or line.strip()):
                on_event(str(stage) if stage else line.strip())

        try:
            return self._run(
                "create",
                "cluster",
                f"--name={name}",
                "--config=-",
                f"--image={image}",
                f"--kubeconfig={kubeconfig}",
                "--retain",
                timeout=timeout,
                stdin=config,
                kubeconfig=kubeconfig,
                on_line=heard,
                cancel=cancel,
            )
        except CommandFailed as failed:
            if "already exist for a cluster with the name" in failed.stderr:
                raise Conflict(
                    f"nodes of a cluster {name} exist already",
                    why=failed.why,
                    next_step=f"`labctl status {name}` shows whose they are",
                ) from failed
            raise

    def delete_cluster(self, name: str, kubeconfig: Path) -> None:
        """Remove the node containers of a cluster; an absent cluster is no error."""
        self._run(
            "delete",
            "cluster",
            f"--name={name}",
            f"--kubeconfig={kubeconfig}",
            timeout=DELETE_SECONDS,
            kubeconfig=kubeconfig,
        )

    def export_logs(self, name: str, directory: Path) -> Completed:
        """Write what kind can collect from every node into ``directory``; nodes that fail are skipped."""
        return self._run(
            "export", "logs", str(directory), f"--name={name}", timeout=EXPORT_SECONDS, check=False
        )

    def _run(
        self,
        *args: str,
        timeout: float,
        check: bool = True,
        stdin: str | None = None,
        kubeconfig: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Completed:
        # Whatever kind does, the user's own kubeconfig is out of its reach.
        env = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig or os.devnull),
            "KIND_EXPERIMENTAL_PROVIDER": "docker",
        }
        try:
            return process.run(
                [self.program, *args],
                timeout=timeout,
                check=check,
                stdin=stdin,
                env=env,
                on_line=on_line,
                cancel=cancel,
            )
        except ToolMissing as missing:
            raise ToolMissing(
                "the kind program was not found", why=f"needed: {NEED}; {missing.why}", next_step=PREPARE
            ) from missing


def own_program() -> Path:
    """Where labctl keeps the kind that it built itself."""
    return paths.cache_root() / "bin" / "kind"


def locate() -> str:
    """labctl's own kind when it exists, else the name for PATH to resolve."""
    own = own_program()
    return str(own) if own.is_file() else "kind"


def fits(version: str) -> bool:
    """Whether a version of kind may be used: the same minor release, the same patch or later."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)(.*)$", version.strip())
    if not found:
        return False
    major, minor, patch = (int(part) for part in VERSION.split("."))
    same_minor = (int(found[1]), int(found[2])) == (major, minor)
    return same_minor and int(found[3]) >= patch and not found[4].startswith("-")

"""The docker command line.

This module exists so that docker's arguments, JSON and failures are known in one place.
It must not know what the containers are for. Works with a client that is newer than its
daemon (client 28.2 with Debian's daemon 20.10 is what it was written on).
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from labctl import process
from labctl.errors import (
    CommandFailed,
    CommandTimedOut,
    DockerUnreachable,
    ImageUnavailable,
    NodeDown,
    RegistryRateLimited,
    RegistryUnreachable,
    RegistryUntrusted,
    ToolMissing,
)
from labctl.process import Completed
from labctl.tools.dockerwords import (
    ABSENT,
    GONE,
    HELP,
    PREPARE,
    PULL_NEXT,
    START_DAEMON,
    daemon_failure,
    failure,
    podman,
    pull_failure,
)

ANSWER_SECONDS = 30.0
"""For verbs that only ask the daemon something; it answers in well under a second when it is well."""
CHANGE_SECONDS = 120.0
"""For verbs that start, stop or remove containers: a stop alone may take docker's 10 s of grace."""
ARCHIVE_SECONDS = 900.0
"""For verbs that read or write whole images of one to two gigabytes."""


@dataclass(frozen=True)
class Container:
    """A container in any state: ``state`` is docker's word (created, running, paused, exited, dead)."""

    id: str
    name: str
    state: str
    image: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Image:
    """An image in the daemon's store. ``digests`` are ``name@sha256:...``; ``size`` is in bytes."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    labels: Mapping[str, str]
    size: int


@dataclass(frozen=True)
class Network:
    """A docker network; ``subnets`` are IPv4 and IPv6 mixed."""

    name: str
    subnets: tuple[str, ...]


class Docker:
    """The ``docker`` program on PATH and the daemon it talks to.

    Every method raises `ToolMissing`, `DockerUnreachable`, `DockerForbidden`, `CommandFailed`
    or `CommandTimedOut`; what a method raises besides stands in its docstring.
    """

    def __init__(self, program: str = "docker") -> None:
        self.program = program
        self._cancel: threading.Event | None = None

    def cancelled_by(self, cancel: threading.Event) -> Self:
        """The same docker for a thread of its own: a verb under way ends with `Interrupted` once ``cancel`` is set."""
        other = copy.copy(self)
        other._cancel = cancel
        return other

    # --- the daemon

    def version(self) -> str:
        """The version of the server, such as ``20.10.24+dfsg1``."""
        return self._text("version", "--format={{.Server.Version}}")

    def info(self) -> dict[str, Any]:
        """``docker info`` as docker's own JSON object. Raises `ToolUnfit` where podman answers in docker's name."""
        said = self._text("info", "--format={{json .}}")
        try:
            answer: dict[str, Any] = json.loads(
                said[max(said.find("{"), 0) :]
            )  # warnings may stand before it
        except json.JSONDecodeError as odd:
            raise DockerUnreachable(
                "`docker info` gives no answer that can be read",
                why=str(odd),
                details=said,
                next_step=START_DAEMON,
            ) from odd
        if "buildahVersion" in (answer.get("host") or {}):
            raise podman("`docker info` answers as podman does")
        # With no daemon some clients exit 0, describe only themselves and put the reason in here.
        if errors := answer.get("ServerErrors"):
            raise daemon_failure("\n".join(errors)) or DockerUnreachable(
                "docker does not answer", why=str(errors[0]), next_step=START_DAEMON
            )
        return answer

    # --- containers

    def containers(self, labels: Mapping[str, str] | Sequence[str] = ()) -> list[Container]:
        """The containers that carry all ``labels``, in every state, sorted by name.

        ``labels`` maps names to values; a sequence of names matches any value.
        """
        form = "--format={{json .}}"
        lines = self._text("ps", "--all", "--no-trunc", form, *_filters(labels)).splitlines()
        found = [_container(json.loads(line)) for line in lines if line.strip()]
        return sorted(found, key=lambda one: one.name)

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        """Docker's own description of each container; raises `NodeDown` when one does not exist."""
        found: list[dict[str, Any]] = json.loads(self._text("container", "inspect", *names))
        return found

    def exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        stdin: str | bytes | None = None,
        timeout: float = 60.0,
        check: bool = True,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run ``argv`` inside a running container.

        Raises `NodeDown` when the container is not running, even without ``check``. After a
        time-out the program inside may go on: docker has no verb that ends it.
        """
        options = [] if stdin is None else ["--interactive"]
        return self._run(
            "exec", *options, container, *argv, stdin=stdin, timeout=timeout, check=check, on_line=on_line
        )

    def exec_attached(self, container: str, argv: Sequence[str]) -> int:
        """Run ``argv`` inside a container on the user's own terminal; returns its exit code."""
        import sys

        tty = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
        return process.run_attached([self.program, "exec", "--interactive", *tty, container, *argv])

    def run(
        self,
        image: str,
        argv: Sequence[str] = (),
        *,
        options: Sequence[str] = (),
        timeout: float = CHANGE_SECONDS,
        check: bool = True,
        stdin: str | bytes | None = None,
    ) -> Completed:
        """``docker run OPTIONS IMAGE ARGV`` with an image that is present: it is never pulled.

        Raises `ImageUnavailable` when it is not present.
        """
        try:
            return self._run(
                "run", "--pull=never", *options, image, *argv, timeout=timeout, check=check, stdin=stdin
            )
        except CommandFailed as failed:
            if re.search(r"no such image", failed.stderr, re.IGNORECASE):
                raise ImageUnavailable(
                    f"image {image} is not here", why=failed.why, next_step=PULL_NEXT
                ) from failed
            raise

    def create(self, image: str, *, name: str) -> None:
        """Make a container of an image that is present, without starting it."""
        self._text("create", "--pull=never", f"--name={name}", image, timeout=CHANGE_SECONDS)

    def start(self, container: str) -> None:
        """Start a container that is stopped; one that runs stays as it is."""
        self._text("start", container, timeout=CHANGE_SECONDS)

    def stop(self, container: str) -> None:
        """Stop a container, with docker's own grace time."""
        self._text("stop", container, timeout=CHANGE_SECONDS)

    def pause(self, container: str) -> None:
        """Freeze every process of a container; one that is frozen already stays so."""
        self._freeze("pause", container, "is already paused")

    def unpause(self, container: str) -> None:
        """Let a frozen container go on; one that is not frozen is left as it is."""
        self._freeze("unpause", container, "is not paused")

    def _freeze(self, verb: str, container: str, no_news: str) -> None:
        done = self._run(verb, container, timeout=CHANGE_SECONDS, check=False)
        if not done.ok and no_news not in done.stderr:
            raise CommandFailed(done.argv, done.exit_code, done.stdout, done.stderr)

    def remove(self, *containers: str) -> None:
        """Remove containers with their anonymous volumes, running or not; absent ones are no error."""
        if not containers:
            return
        done = self._run(
            "rm",
            "--force",
            "--volumes",
            *containers,
            timeout=CHANGE_SECONDS,
            check=False,
            absent_is_error=False,
        )
        others = [line for line in done.stderr.splitlines() if line.strip() and not GONE.search(line)]
        if not done.ok and others:
            raise CommandFailed(done.argv, done.exit_code, done.stdout, done.stderr)

    def copy_in(self, container: str, source: Path, target: str) -> None:
        """Copy a file or directory into a container. ``target`` must not lie on a tmpfs of the
        container (``/tmp`` and ``/run`` of a kind node): docker writes below such mounts."""
        self._text("cp", str(source), f"{container}:{target}", timeout=ARCHIVE_SECONDS)

    def commit(self, container: str, reference: str, *, changes: Sequence[str] = ()) -> str:
        """Make an image of a container's file system; ``changes`` are Dockerfile lines. Returns its id."""
        options = [f"--change={change}" for change in changes]
        return self._text("commit", *options, container, reference, timeout=ARCHIVE_SECONDS)

    # --- images

    def image(self, reference: str) -> Image | None:
        """The image of that name, digest or id, or None when the daemon does not have it."""
        done = self._run("image", "inspect", reference, timeout=ANSWER_SECONDS, check=False)
        if not done.ok:
            if re.search(r"no such image", done.stderr, re.IGNORECASE):
                return None
            raise CommandFailed(done.argv, done.exit_code, done.stdout, done.stderr)
        return _image(json.loads(done.stdout)[0])

    def images(self, labels: Mapping[str, str] | Sequence[str] = ()) -> list[Image]:
        """The tagged or untagged images that carry all ``labels``."""
        ids = self._text("image", "ls", "--quiet", "--no-trunc", *_filters(labels)).split()
        if not ids:
            return []
        return [_image(one) for one in json.loads(self._text("image", "inspect", *dict.fromkeys(ids)))]

    def pull(
        self,
        reference: str,
        *,
        timeout: float = ARCHIVE_SECONDS,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        """Pull an image. Raises `RegistryUnreachable` (also when ``timeout`` seconds pass),
        `RegistryRateLimited`, `RegistryUntrusted`, or `ImageUnavailable` for any other answer."""
        try:
            self._run("pull", reference, timeout=timeout, on_line=on_line)
        except CommandTimedOut as slow:
            raise RegistryUnreachable(
                f"image {reference} could not be pulled",
                why=f"the registry did not deliver it within {timeout:.0f} s",
                next_step=PULL_NEXT,
            ) from slow
        except CommandFailed as failed:
            raise pull_failure(reference, failed.stderr or failed.stdout) from failed

    def ask_registry(self, repository: str, *, timeout: float = ANSWER_SECONDS) -> None:
        """Ask the daemon to ask a registry for an image that cannot exist, which transfers nothing.

        Returns when the registry answers so; raises like `pull` when it does not answer, is not
        trusted, or asks us to wait. This is the daemon's view, with its proxies and certificates.
        """
        nothing = f"{repository}@sha256:{'0' * 64}"
        try:
            self.pull(nothing, timeout=timeout)
        except (RegistryUnreachable, RegistryRateLimited, RegistryUntrusted):
            raise
        except ImageUnavailable as answer:
            if not ABSENT.search(answer.details):
                raise

    def load(self, archive: Path) -> tuple[str, ...]:
        """Load every image of an archive; returns the names (or ids) that docker reports."""
        said = self._text("load", f"--input={archive}", timeout=ARCHIVE_SECONDS)
        return tuple(re.findall(r"^Loaded image(?: ID)?: (\S+)", said, re.MULTILINE))

    def save(self, references: Sequence[str], archive: Path) -> None:
        """Write images into one archive."""
        self._text("save", f"--output={archive}", *references, timeout=ARCHIVE_SECONDS)

    def import_stream(self, archive: bytes, reference: str, changes: Sequence[str] = ()) -> str:
        """The same from bytes in memory, for archives of a few megabytes."""
        options = [f"--change={change}" for change in changes]
        return self._text("import", *options, "-", reference, timeout=CHANGE_SECONDS, stdin=archive)

    def remove_image(self, reference: str, *, force: bool = True) -> None:
        """Remove a name, and the image with its last name; an absent image is no error. Without
        ``force`` an image that any container uses, even a stopped one, is a `CommandFailed`."""
        options = ["--force"] if force else []
        done = self._run("image", "rm", *options, reference, timeout=CHANGE_SECONDS, check=False)
        if not done.ok and not re.search(r"no such image", done.stderr, re.IGNORECASE):
            raise CommandFailed(done.argv, done.exit_code, done.stdout, done.stderr)

    # --- networks and volumes

    def network(self, name: str) -> Network | None:
        """The network of exactly that name, or None."""
        return next((one for one in self.networks() if one.name == name), None)

    def networks(self) -> list[Network]:
        """Every network of the daemon."""
        ids = self._text("network", "ls", "--quiet", "--no-trunc").split()
        return [_network(one) for one in json.loads(self._text("network", "inspect", *ids))] if ids else []

    def volumes(self, labels: Mapping[str, str] | Sequence[str] = ()) -> list[str]:
        """The names of the volumes that carry all ``labels``."""
        return sorted(self._text("volume", "ls", "--quiet", *_filters(labels)).split())

    def create_volume(self, name: str, labels: Mapping[str, str]) -> str:
        """Make a volume (one of that name stays as it is); returns its directory on the daemon's machine."""
        self._text("volume", "create", *(f"--label={key}={value}" for key, value in labels.items()), name)
        return self._text("volume", "inspect", "--format={{.Mountpoint}}", name)

    def remove_volume(self, name: str) -> None:
        """Remove a volume; an absent one is no error."""
        self._text("volume", "rm", "--force", name, timeout=CHANGE_SECONDS)

    # --- mechanics

    def _text(self, *args: str, timeout: float = ANSWER_SECONDS, stdin: bytes | None = None) -> str:
        return self._run(*args, timeout=timeout, stdin=stdin).stdout.strip()

    def _run(
        self,
        *args: str,
        timeout: float,
        check: bool = True,
        stdin: str | bytes | None = None,
        on_line: Callable[[str], None] | None = None,
        absent_is_error: bool = True,
    ) -> Completed:
        try:
            done = process.run(
                [self.program, *args],
                timeout=timeout,
                check=False,
                stdin=stdin,
                on_line=on_line,
                cancel=self._cancel,
            )
        except ToolMissing as missing:
            raise ToolMissing(
                "the docker program was not found", why=missing.why, next_step=PREPARE
            ) from missing
        if not done.ok:
            done = replace(done, stderr=HELP.sub("", done.stderr).rstrip())
            known = failure(done.stderr)
            if known and (absent_is_error or not isinstance(known, NodeDown)):
                raise known
            if check:
                raise CommandFailed(done.argv, done.exit_code, done.stdout, done.stderr)
        return done


# --- docker's JSON


def _filters(labels: Mapping[str, str] | Sequence[str]) -> list[str]:
    if isinstance(labels, Mapping):
        return [f"--filter=label={name}={value}" for name, value in labels.items()]
    return [f"--filter=label={name}" for name in labels]


def _container(row: dict[str, Any]) -> Container:
    return Container(
        id=row["ID"], name=row["Names"], state=row["State"], image=row["Image"], labels=_labels(row["Labels"])
    )


def _labels(joined: str) -> dict[str, str]:
    """Docker joins labels with commas, unquoted; a piece without ``=`` belongs to the value before it."""
    labels: dict[str, str] = {}
    last = ""
    for piece in joined.split(",") if joined else []:
        name, equals, value = piece.partition("=")
        if equals:
            labels[name], last = value, name
        elif last:
            labels[last] += f",{piece}"
    return labels


def _image(row: dict[str, Any]) -> Image:
    config = row.get("Config") or {}
    return Image(
        id=row["Id"],
        tags=tuple(row.get("RepoTags") or ()),
        digests=tuple(row.get("RepoDigests") or ()),
        labels=dict(config.get("Labels") or {}),
        size=int(row.get("Size") or 0),
    )


def _network(row: dict[str, Any]) -> Network:
    configs = (row.get("IPAM") or {}).get("Config") or []
    return Network(
        name=row["Name"],
        subnets=tuple(one["Subnet"] for one in configs if one.get("Subnet")),
    )

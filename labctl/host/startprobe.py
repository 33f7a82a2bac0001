"""Does a privileged container really start here?

Asking the daemon for its capabilities does not tell; starting one does. There may be no image
on the machine and no registry in reach, so this module makes the smallest image there is: one
static program of a few instructions that exits with 0, written down byte by byte below.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
from collections.abc import Mapping

from labctl.errors import CommandFailed, CommandTimedOut, LabctlError
from labctl.tools.docker import Docker

START_SECONDS = 60.0

AS_KIND_STARTS_NODES = (
    "--privileged",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--tmpfs=/tmp",
    "--tmpfs=/run",
)
"""The options of kind's node containers that a machine may refuse; network and volumes apart."""

_EXIT_0: Mapping[str, tuple[int, bytes]] = {
    # ELF machine number, then exit(0): mov edi, 0; mov eax, 60; syscall
    "x86_64": (62, bytes.fromhex("bf00000000 b83c000000 0f05".replace(" ", ""))),
    # mov x0, #0; mov x8, #93; svc #0
    "aarch64": (183, bytes.fromhex("000080d2 a80b80d2 010000d4".replace(" ", ""))),
}
_BASE = 0x400000
_HEADERS = 64 + 56


def supported(architecture: str) -> bool:
    """Whether there is a program for ``architecture``, as ``docker info`` names it."""
    return architecture in _EXIT_0


def start(docker: Docker, architecture: str) -> LabctlError | None:
    """Start the probe, remove it, and return the error if it did not run to its end.

    Raises what docker raises when it does not answer at all.
    """
    reference = f"labctl/start-probe:{os.getpid()}"  # two doctors at a time do not take each other's
    docker.import_stream(archive(architecture), reference, changes=['ENTRYPOINT ["/exit"]'])
    options = ["--rm", "--network=none", *AS_KIND_STARTS_NODES]
    try:
        docker.run(reference, options=options, timeout=START_SECONDS)
    except (CommandFailed, CommandTimedOut) as failed:
        return failed
    finally:
        docker.remove_image(reference)
    return None


def archive(architecture: str) -> bytes:
    """A tar archive with the program as ``/exit`` and nothing else."""
    content = program(architecture)
    entry = tarfile.TarInfo("exit")
    entry.size, entry.mode = len(content), 0o755
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def program(architecture: str) -> bytes:
    """A static ELF program for Linux that exits with 0 (raises KeyError for other architectures)."""
    machine, code = _EXIT_0[architecture]
    size = _HEADERS + len(code)
    identification = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    # type EXEC, entry behind the headers, program headers at 64, no sections
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    # one LOAD segment, readable and executable, the whole file
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return identification + header + segment + code

"""Finished pieces of a build, each under the hash of what it was made from.

A piece is a directory. It is made under a temporary name and renamed when it is whole, so
whatever carries a final name is complete, and an interrupted build goes on where it stopped.
This module must not know what the pieces are.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from labctl.errors import WriteFailed

KEY_LENGTH = 16
"""Hexadecimal digits of a piece's key in its directory name."""


def key_of(*parts: str | bytes) -> str:
    """The SHA-256 over ``parts``, each set off by its length, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


class Store:
    """A directory of pieces."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str, key: str) -> Path:
        """Where the piece lies, or would lie."""
        return self.root / f"{name}-{key[:KEY_LENGTH]}"

    def has(self, name: str, key: str) -> bool:
        """Whether the piece is there, whole."""
        return self.path(name, key).is_dir()

    def make(self, name: str, key: str, produce: Callable[[Path], None]) -> Path:
        """The piece; ``produce`` fills a directory with it when it is not there yet.

        Raises what ``produce`` raises, and `WriteFailed` when the disk refuses; then nothing of
        the piece is left.
        """
        final = self.path(name, key)
        if final.is_dir():
            return final
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                prefix=f".{name}-", dir=self.root, ignore_cleanup_errors=True
            ) as work:
                piece = Path(work) / "piece"
                piece.mkdir()
                produce(piece)
                piece.rename(final)
        except OSError as refused:
            raise write_failed(refused, self.root) from refused
        return final

    def prune(self, keep: Iterable[Path]) -> None:
        """Remove every piece that is not in ``keep``, and what a killed build left half-made."""
        kept = {path.name for path in keep}
        for entry in self.root.iterdir() if self.root.is_dir() else ():
            if entry.name not in kept and entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)


def write_failed(refused: OSError, where: Path) -> WriteFailed:
    """The error for a disk that refuses to take what is written below ``where``."""
    full = refused.errno in (errno.ENOSPC, errno.EDQUOT)
    return WriteFailed(
        f"could not write below {where}",
        why=refused.strerror or str(refused),
        next_step=(
            "free some space there and run the command again: what is built already is kept"
            if full
            else "make the directory writable, or set XDG_CACHE_HOME to another place"
        ),
    )

"""Layers: trees of files as tar archives that are the same for the same content.

Every entry gets root as its owner where we make it, one fixed time, and an order of its own,
so that a layer's hash says whether its content changed. This module must not know what
the files are.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

GZIP_LEVEL = 6


class Sink(Protocol):
    """Anything that takes bytes."""

    def write(self, data: bytes, /) -> int:
        """Take ``data`` and return how much of it was taken."""


@dataclass
class Tree:
    """Files to be, by their path without a leading slash. Parents of a path come by themselves (0755)."""

    mtime: int
    _entries: dict[str, tuple[tarfile.TarInfo, Path | bytes | None]] = field(default_factory=dict)

    def file(self, path: str, content: Path | bytes, mode: int = 0o644) -> None:
        """A regular file, from a file of ours or from bytes."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        self._add(path, tarfile.REGTYPE, mode, size=size, content=content)

    def directory(self, path: str, mode: int = 0o755) -> None:
        """A directory."""
        self._add(path, tarfile.DIRTYPE, mode)

    def symlink(self, path: str, target: str) -> None:
        """A symbolic link; ``target`` is written as it is."""
        self._add(path, tarfile.SYMTYPE, 0o777, link=target)

    def hardlink(self, path: str, target: str) -> None:
        """One more name of a file that was added before under the path ``target``."""
        if target not in self._entries:
            raise ValueError(f"{path} would link to {target}, which is not there")
        self._add(path, tarfile.LNKTYPE, self._entries[target][0].mode, link=target)

    def copy(self, path: str, source: Path) -> None:
        """A whole directory with the modes that its files have."""
        for found in sorted(source.rglob("*")):
            place = f"{path}/{found.relative_to(source).as_posix()}"
            mode = stat.S_IMODE(found.lstat().st_mode)
            if found.is_symlink():
                self.symlink(place, str(found.readlink()))
            elif found.is_dir():
                self.directory(place, mode)
            else:
                self.file(place, found, mode)

    def write(self, sink: Sink) -> None:
        """The archive: directories before their content, hard links after their target."""
        # PAX, so that long names and times need no second thought; the headers hold nothing else.
        with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
            self.add_to(archive)

    def add_to(self, archive: tarfile.TarFile) -> None:
        """Append every entry to an archive that is open for writing."""
        for info, content in sorted(
            self._entries.values(), key=lambda entry: (entry[0].islnk(), entry[0].name)
        ):
            if isinstance(content, Path):
                with content.open("rb") as source:
                    archive.addfile(info, source)
            else:
                archive.addfile(info, io.BytesIO(content) if content is not None else None)

    def _add(
        self,
        path: str,
        kind: bytes,
        mode: int,
        *,
        size: int = 0,
        link: str = "",
        content: Path | bytes | None = None,
    ) -> None:
        path = path.strip("/")
        parent = path.rpartition("/")[0]
        if parent and parent not in self._entries:
            self._add(parent, tarfile.DIRTYPE, 0o755)
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.size, info.linkname, info.mtime = kind, mode, size, link, self.mtime
        info.uname = info.gname = "root"
        self._entries[path] = (info, content)


def rewrite(
    source: Path, sink: Sink, *, mtime: int, drop: Callable[[str], bool], extra: Tree | None = None
) -> None:
    """Copy a root file system archive, without device nodes and what ``drop`` names, with one fixed
    time; ``extra`` is added at its end."""
    with (
        tarfile.open(source, mode="r|*") as old,
        tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as new,  # type: ignore[call-overload]
    ):
        for info in old:
            name = info.name.removeprefix("./").rstrip("/")
            if name in ("", ".") or info.ischr() or info.isblk() or drop(name):
                continue
            info.name = name
            if info.islnk():
                info.linkname = info.linkname.removeprefix("./")
            info.mtime = mtime
            # Capabilities of files live in extended attributes; everything else there is about the archive.
            info.pax_headers = {k: v for k, v in info.pax_headers.items() if k.startswith("SCHILY.xattr.")}
            new.addfile(info, old.extractfile(info) if info.isreg() else None)
        if extra:
            extra.add_to(new)


def read_file(source: Path, path: str) -> bytes:
    """The content of one file of an archive; raises KeyError when it is not there."""
    with tarfile.open(source, mode="r|*") as archive:
        for info in archive:
            content = archive.extractfile(info) if info.name.removeprefix("./") == path else None
            if content:
                return content.read()
    raise KeyError(path)


def fingerprints(source: Path) -> dict[str, str]:
    """What each path of an archive is (type, mode, and a hash of its content), to compare two archives by."""
    found: dict[str, str] = {}
    with tarfile.open(source, mode="r|*") as archive:
        for info in archive:
            content = archive.extractfile(info) if info.isreg() else None
            digest = hashlib.sha256(content.read() if content else info.linkname.encode()).hexdigest()
            found[info.name.removeprefix("./").rstrip("/")] = f"{info.type!r} {info.mode:o} {digest}"
    return found


def without(source: Path, known: Mapping[str, str]) -> Callable[[str], bool]:
    """A ``drop`` for `rewrite`: what an archive has in common with one of these `fingerprints`."""
    ours = fingerprints(source)
    return lambda path: path in known and known[path] == ours.get(path)


@dataclass(frozen=True)
class Blob:
    """A layer on disk: ``digest`` of the file as it is, ``diff_id`` of the plain tar, ``size`` in bytes."""

    path: Path
    digest: str
    diff_id: str
    size: int


class HashingFile:
    """A file that is written, gzipped or not, and knows both hashes when it is closed."""

    def __init__(self, path: Path, *, gzip: bool) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("wb")
        self._plain = hashlib.sha256()
        self._stored = hashlib.sha256()
        self._size = 0
        # wbits 31 is gzip; its header then holds no name and no time.
        self._squeeze = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31) if gzip else None

    def write(self, data: bytes, /) -> int:
        """Take ``data``; always all of it."""
        self._plain.update(data)
        self._store(self._squeeze.compress(data) if self._squeeze else data)
        return len(data)

    def close(self) -> Blob:
        """Finish the file and say what became of it."""
        if self._squeeze:
            self._store(self._squeeze.flush())
        self._file.close()
        return Blob(
            self._path, f"sha256:{self._stored.hexdigest()}", f"sha256:{self._plain.hexdigest()}", self._size
        )

    def _store(self, data: bytes) -> None:
        self._stored.update(data)
        self._size += len(data)
        self._file.write(data)


def write_blob(path: Path, fill: Callable[[Sink], None], *, gzip: bool) -> Blob:
    """Write a layer to ``path``: ``fill`` receives a sink for the plain tar."""
    sink = HashingFile(path, gzip=gzip)
    try:
        fill(sink)
    finally:
        blob = sink.close()
    return blob


def save_blob(piece: Path, fill: Callable[[Sink], None], *, gzip: bool) -> None:
    """Write a layer as the content of a directory that `load_blob` reads."""
    blob = write_blob(piece / "layer", fill, gzip=gzip)
    about = {"digest": blob.digest, "diff_id": blob.diff_id, "size": blob.size}
    (piece / "blob.json").write_text(json.dumps(about))


def load_blob(piece: Path) -> Blob:
    """The layer that `save_blob` put into a directory."""
    return Blob(path=piece / "layer", **json.loads((piece / "blob.json").read_text()))

"""A directory of texts from a cluster, made fit to be handed on.

Whatever is in it was named and written by others: a directory may be called ``kubeconfig``, a file may be a
pipe, a line a megabyte. Plain files stay, searched line by line with bounded memory; what is no text,
what is a credential by its name, what cannot be read and what is beyond the bounds is deleted and named.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from labctl import shown
from labctl.cluster.redaction import Redactor

TEXT_MOST = 16 * 1024 * 1024
"""Bytes of one file; of a longer one its end is kept."""
WHOLE_MOST = 256 * 1024 * 1024
"""Bytes of all files together; they are searched at some 20 MB a second."""
LINE_MOST = 64 * 1024
"""Bytes of one line; of a longer one its beginning is kept."""
WORD_MOST = 4096
"""Bytes of a word that is left out where a line is cut within it."""

CREDENTIALS = frozenset(
    ("kubeconfig", "admin.conf", "super-admin.conf", "kubelet.conf", "bootstrap-kubelet.conf", "scheduler.conf",
     "controller-manager.conf", ".dockerconfigjson", ".dockercfg", ".netrc", "id_rsa", "id_ecdsa", "id_ed25519")
)  # fmt: skip
KEY_FILES = frozenset((".key", ".pem", ".p12", ".pfx", ".jks", ".kubeconfig"))


@dataclass
class _Left:
    """What may still be kept, and what was deleted and why."""

    space: int
    deleted: list[str] = field(default_factory=list)


def clean(directory: Path) -> tuple[str, ...]:
    """Take secrets out of everything below ``directory``; returns what was deleted, ``path: why``.

    Raises OSError where something could be neither cleaned nor deleted: then the directory is not clean.
    """
    left = _Left(WHOLE_MOST)
    for path in _files(directory, left):
        why = _unfit(path)
        if not why:
            try:
                why = _searched(path, left)
            except OSError as refused:
                why = refused.strerror or str(refused)
        if why:
            path.unlink(missing_ok=True)
            left.deleted.append(f"{_shown(path, directory)}: {why}")
    return tuple(left.deleted)


def _files(top: Path, left: _Left) -> Iterator[Path]:
    """Everything below that is no directory, what lies higher first; links are not followed."""
    waiting = deque([top])
    while waiting:
        directory = waiting.popleft()
        try:
            entries = _listed(directory)
        except OSError as refused:
            shutil.rmtree(directory)
            left.deleted.append(f"{_shown(directory, top)}: {refused.strerror or refused}")
            continue
        waiting.extend(Path(one.path) for one in entries if one.is_dir(follow_symlinks=False))
        yield from (Path(one.path) for one in entries if not one.is_dir(follow_symlinks=False))


def _listed(directory: Path) -> list[os.DirEntry[str]]:
    # It may have come with any mode; only we shall read it from now on.
    directory.chmod(0o700)
    with os.scandir(directory) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _shown(path: Path, top: Path) -> str:
    return shown.line(str(path.relative_to(top)))


def _unfit(path: Path) -> str:
    """Why a file may not even be read; '' if it may."""
    kind = path.lstat().st_mode
    if not stat.S_ISREG(kind):
        return "not a plain file"
    if path.name in CREDENTIALS or path.suffix in KEY_FILES:
        return "holds credentials, by its name"
    return ""


def _searched(path: Path, left: _Left) -> str:
    """Replace a file by its cleaned text. Returns why it must go instead, or ''."""
    size = path.stat().st_size
    if min(size, TEXT_MOST) > left.space:
        return "too much altogether"
    left.space -= min(size, TEXT_MOST)
    cleaned = path.with_name(f".{os.getpid()}.cleaning")
    try:
        path.chmod(0o600)
        with path.open("rb") as source, cleaned.open("xb") as sink:
            cleaned.chmod(0o600)
            if not _copied(source, sink, size):
                return "no text"
        os.replace(cleaned, path)
    finally:
        cleaned.unlink(missing_ok=True)
    return ""


def _copied(source: IO[bytes], sink: IO[bytes], size: int) -> bool:
    """Copy what may stay, line by line; False for a file that holds no text."""
    if size > TEXT_MOST:
        source.seek(-TEXT_MOST, os.SEEK_END)
        while (rest := source.readline(LINE_MOST)) and not rest.endswith(b"\n"):
            pass  # half a line could show half a secret
        sink.write(b"[beginning left out]\n")
    redactor = Redactor()
    for line in _joined(_lines(source)):
        if b"\0" in line:
            return False
        text = redactor.line(line.decode("utf-8", "replace"))
        if text is not None:
            sink.write(text.encode() + b"\n")
    return True


def _lines(source: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file without their ends, each cut to `LINE_MOST` bytes."""
    while line := source.readline(LINE_MOST):
        gone = 0
        rest = line
        while not rest.endswith(b"\n") and (rest := source.readline(LINE_MOST)):
            gone += len(rest.rstrip(b"\n"))
        yield _cut(line.rstrip(b"\n"), gone)


def _cut(line: bytes, gone: int) -> bytes:
    """``line``, of which ``gone`` bytes were left out behind it. Half a word at its end could be half a secret."""
    if gone <= 0:
        return line
    word = len(line) - max(line.rfind(b" "), line.rfind(b'"'), 0)
    whole = line[:-word] if word < WORD_MOST else line
    return whole + b" ... [%d bytes left out]" % (gone + len(line) - len(whole))


@dataclass
class _Begun:
    """A line of a container of which more pieces come; ``gone`` bytes had no room."""

    text: bytearray
    gone: int = 0

    def add(self, piece: bytes) -> None:
        room = max(LINE_MOST - len(self.text), 0)
        self.text += piece[:room]
        self.gone += len(piece[room:])

    def whole(self) -> bytes:
        return _cut(bytes(self.text), self.gone)


def _joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The same with the pieces together into which the container runtime cut a long line (at 16 KiB, tagged P,
    the last one F): a secret may lie on a seam."""
    begun: dict[bytes, _Begun] = {}
    for line in lines:
        words = line[:128].split(b" ", 3)
        if len(words) < 3 or words[1] not in (b"stdout", b"stderr") or words[2] not in (b"P", b"F"):
            yield line
            continue
        time, stream, tag = words[:3]
        text = line[len(time) + len(stream) + len(tag) + 3 :]
        if tag == b"P":
            begun.setdefault(stream, _Begun(bytearray(b"%s %s F " % (time, stream)))).add(text)
        elif stream in begun:
            begun[stream].add(text)
            yield begun.pop(stream).whole()
        else:
            yield line
    yield from (one.whole() for one in begun.values())

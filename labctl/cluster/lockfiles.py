"""The files that locks lie on: where every user of one docker daemon finds them, and the kernel's verbs.

They lie in a directory of the machine, not of a user: root and the members of the docker group share the
clusters, so they must share the locks. Its name comes from the daemon's socket, and so does its group: who
may open the socket may lock, and nobody else can have made that directory.

The locks are open-file-description locks (fcntl's OFD), not flock's. Like those they end with their process,
however it ends, and may be let go by any thread. Beyond that they can be *looked at* without being taken
(F_OFD_GETLK), change from "alone" to "shared" and back without a gap (flock lets go first), and lock single
bytes, so that a cluster needs one file however many instances of labs it has.

The files stay: they are empty, one for each name, and a directory like /run/lock is gone after a reboot.
Removing them would be the only way to lock a file that nobody else finds.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labctl import files
from labctl.errors import HostError
from labctl.tools import dockersocket

VARIABLE = "LABCTL_LOCKS"
"""Another directory for the locks, for a machine without a common one, or for two containers that share it."""

BASES = (Path("/run/lock"), Path("/tmp"))  # noqa: S108  # what is in it is trusted by its group, not its name
"""Where a directory is made if all may write there. The first that fits is the same one for every user."""

SHARED, ALONE, FREE = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK

_FLOCK = "hhqqi4x"
"""The kernel's ``struct flock``: type, whence, start, length, process."""

_ALL = 0o006


@dataclass(frozen=True)
class Place:
    """The directory of one daemon's locks. ``group`` is None where only one user is known to reach the daemon."""

    path: Path
    group: int | None
    mode: int

    def complaint(self, seen: os.stat_result) -> str:
        """Why the directory that is there is not to be trusted, or ''."""
        if not stat.S_ISDIR(seen.st_mode):
            return "it is no directory"
        if self.group is None:
            return "" if seen.st_uid == os.geteuid() else f"it belongs to user {seen.st_uid}"
        if seen.st_gid != self.group:
            return f"its group is {seen.st_gid}, that of the docker socket is {self.group}"
        return "others may write in it" if seen.st_mode & 0o002 & ~self.mode else ""


def place() -> Place:
    """The directory for the locks of the daemon that docker is set to. Touches nothing."""
    socket = dockersocket.socket()
    which = hashlib.sha256(str(socket or dockersocket.endpoint()).encode()).hexdigest()[:12]
    try:
        seen = socket.stat() if socket else None
    except OSError:
        seen = None
    if seen is None:  # a daemon elsewhere, or none: nothing says who else may use it
        return Place(_base() / f"labctl-{which}-{os.geteuid()}", None, 0o700)
    all_may = seen.st_mode & _ALL == _ALL
    return Place(_base() / f"labctl-{which}", seen.st_gid, 0o2777 if all_may else 0o2770)


@contextlib.contextmanager
def directory(*, make: bool) -> Iterator[int | None]:
    """A descriptor of the directory, or None when it is not there and ``make`` is not said.

    Raises OSError, and `HostError` for a directory that somebody else made in its place.
    """
    where = place()
    descriptor = files.despite_removal(lambda: _opened(where)) if make else _there(where)
    try:
        if descriptor is not None and (wrong := where.complaint(os.fstat(descriptor))):
            raise _not_ours(where, wrong)
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def lock_file(name: str) -> int:
    """A descriptor of the lock file ``name``, made where missing. Raises OSError, `HostError`."""

    def opened() -> int:
        with directory(make=True) as within:
            assert within is not None
            with contextlib.suppress(FileNotFoundError):
                return _regular(name, os.O_RDWR, within)
            # Whole before it has its name: nobody may find it with a mode that shuts him out.
            new = create(within, at := f".{secrets.token_hex(8)}")
            try:
                with contextlib.suppress(FileExistsError):
                    os.link(at, name, src_dir_fd=within, dst_dir_fd=within)
            finally:
                os.close(new)
                os.unlink(at, dir_fd=within)
            return _regular(name, os.O_RDWR, within)

    return files.despite_removal(opened)


def create(within: int, name: str) -> int:
    """A new file that every user of the daemon may use; the descriptor is open for writing. Raises OSError."""
    descriptor = os.open(
        name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=within
    )
    os.fchmod(descriptor, place().mode & 0o666)  # whatever the umask
    return descriptor


def for_reading(within: int, name: str) -> int | None:
    """A descriptor to look at a file with, or None when it cannot be had."""
    with contextlib.suppress(OSError):
        return _regular(name, os.O_RDONLY, within)
    return None


def is_there(descriptor: int, name: str) -> bool:
    """Whether the file still has its name: a cleaner of old files may have taken it."""
    try:
        with directory(make=False) as within:
            there = os.stat(name, dir_fd=within, follow_symlinks=False) if within is not None else None
    except OSError:
        return False
    ours = os.fstat(descriptor)
    return there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def take(descriptor: int, kind: int, at: int) -> bool:
    """Lock (or, with `FREE`, let go) the byte ``at``; False when another has it. Raises OSError.

    A lock that this descriptor has on the byte changes its kind at once, without being let go between.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, at, 1, 0))
    except OSError as refused:
        if refused.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise
    return True


def would_meet(descriptor: int, kind: int, at: int) -> bool:
    """Whether a lock of that kind on the byte would be refused now. Takes nothing, not even for a moment."""
    asked = struct.pack(_FLOCK, kind, os.SEEK_SET, at, 1, 0)
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    return bool(struct.unpack(_FLOCK, answer)[0] != FREE)


def _base() -> Path:
    if named := os.environ.get(VARIABLE):
        return Path(named)
    return next(filter(_all_may_write, BASES), BASES[-1])


def _all_may_write(path: Path) -> bool:
    try:
        seen = path.stat()
    except OSError:
        return False
    return seen.st_uid == 0 and seen.st_mode & 0o1777 == 0o1777


def _there(where: Place) -> int | None:
    try:
        return os.open(where.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as refused:
        if wrong := where.complaint(os.lstat(where.path)):
            raise _not_ours(where, wrong) from refused
        raise


def _not_ours(where: Place, why: str) -> HostError:
    return HostError(
        f"the directory of labctl's locks, {where.path}, is not labctl's",
        why=why,
        next_step=f"delete it: `sudo rm -r {where.path}`",
    )


def _opened(where: Place) -> int:
    there = _there(where)
    if there is not None:
        return there
    if os.environ.get(VARIABLE):
        where.path.parent.mkdir(parents=True, exist_ok=True)
    # Right in every respect before it has its name, so that nobody meets it half made.
    new = where.path.with_name(f".{where.path.name}.{secrets.token_hex(4)}")
    new.mkdir(mode=0o700)
    try:
        if where.group is not None:
            os.chown(new, -1, where.group)
        new.chmod(where.mode)
        with contextlib.suppress(OSError):  # another was quicker, and his has files in it or is his alone
            new.rename(where.path)
    finally:
        with contextlib.suppress(OSError):
            new.rmdir()
    if (made := _there(where)) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(where.path))
    return made


def _regular(name: str, flags: int, within: int) -> int:
    descriptor = os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=within)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file", name)
    return descriptor

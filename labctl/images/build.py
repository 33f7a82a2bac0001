"""The node image from packages: the plan, and carrying it out.

Reads as a list: programs from Go modules, root file systems from Debian, a layer for each
image, all of them in one node image, and only at the very end its name in docker. What is
finished is kept, so a build that was interrupted or that failed goes on where it stopped.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from labctl import paths
from labctl.errors import BuildFailed, CommandFailed, ImageUnavailable, LabctlError, WriteFailed
from labctl.images import assemble, catalog, components, kindfiles, layers, lockfile, oci, recipe, rootfs
from labctl.images.assemble import Parts
from labctl.images.components import COMPONENTS, Compiler
from labctl.images.schedule import Schedule, Task
from labctl.images.store import Store, key_of, write_failed
from labctl.progress import Progress
from labctl.tools import go
from labctl.tools.docker import Docker
from labctl.waiting import NotYet, until

TAIL_LINES = 30
WAIT_SECONDS = 7200.0
"""How long to wait for another labctl that builds the same."""
SPACE_WARM = 4 << 30
SPACE_COLD = 12 << 30
"""Bytes: Go's caches take about 7 GiB, the pieces 2.5, docker's copy and the archive on its way 1 each."""
ROOMY_MEMORY = 7 << 30
"""Bytes of memory from which the compiler may let its heap grow and two programs are built side by side."""

_DISK_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


def node_image(docker: Docker, progress: Progress, *, fresh: bool = False) -> str:
    """Build the node image and load it into docker under its locked name; returns the image id.

    ``fresh`` forgets the pieces of earlier builds (not Go's own caches). Raises `BuildFailed` with the
    log's last lines, `WriteFailed`, `ToolMissing`, `ToolUnfit` or `HostError`; then docker is untouched.
    """
    home = paths.cache_root() / "image"
    docker.version()  # before many minutes of work for it
    with _alone(home, progress):
        store = Store(home / "pieces")
        if fresh:
            store.prune(())
        toolchain = go.find()
        log = Log(home / "build.log")
        cancel = threading.Event()
        compiler = Compiler(toolchain, toolchain.version(), log.line, cancel, _roomy())
        try:
            plan = BuildPlan(store, compiler)
            _need_space(home, plan.tasks)
            with progress.step("Build the node image's parts from packages") as step:
                Schedule(plan.tasks, store, workers=_workers(), progress=progress, cancel=cancel).run(step)
                step.result(f"{len(plan.tasks)} parts")
            image_id = _into_docker(plan, docker, store, progress)
        except BuildFailed as failed:
            raise _explained(failed, log) from failed
        except OSError as refused:
            raise write_failed(refused, home) from refused
        finally:
            log.close()
        store.prune(store.path(task.name, task.key) for task in plan.tasks)
        return image_id


class BuildPlan:
    """Every piece of the node image as a task, in the order of their importance, and the image at the end."""

    def __init__(self, store: Store, compiler: Compiler) -> None:
        self._store = store
        self._compiler = compiler
        self._keys: dict[str, str] = {}
        self.tasks: list[Task] = []
        self._kind: Path | None = None
        self._components()
        self._root_file_systems()
        self._layers()
        self.tasks.sort(key=self._rank)

    def image(self, reference: str) -> oci.LayeredImage:
        """The image, once every task is done."""
        blobs = [self._parts().blob(name) for name in ("node-root", "node-files", "node-store")]
        return assemble.node_image(reference, recipe.digest(), recipe.architecture(), blobs)

    def _components(self) -> None:
        for one in COMPONENTS:
            # What shares kube's packages would compile them a second time beside it.
            needs = ("kube",) if one.module == "node" and one.name != "kube" and not one.c_source else ()
            self._add(
                one.name,
                one.key(self._compiler.version),
                one.seconds,
                partial(self._compiler.build, one),
                needs,
            )

    def _root_file_systems(self) -> None:
        for root in rootfs.ROOT_FILE_SYSTEMS:
            produce = partial(self._root, root)
            self._add(root.name, root.key(), root.seconds, produce)

    def _layers(self) -> None:
        """Keys chain: a layer's key holds the keys of all that goes into it."""
        self._layer("layer-net", 6, assemble.net_layer, "debian-net")
        self._layer("layer-probe", 8, assemble.probe_layer, "debian-probe", "debian-net")
        module = self._compiler.module("node", "sigs.k8s.io/kind")
        self._kind = module
        recipes = catalog.recipes(kindfiles.storage(module), kindfiles.sandbox_image(module))
        for one in recipes:
            programs = dict.fromkeys(component for _, component in one.programs)
            needs = (*programs, "debian-net") if one.busybox else tuple(programs)
            self._layer(f"layer-{one.name}", 3, partial(assemble.program_layer, one), *needs, about=repr(one))
        self._layer("node-root", 6, assemble.node_root, "debian-node")
        all_programs = [one.name for one in COMPONENTS if one.name != "contentstore"]
        self._layer("node-files", 6, assemble.node_files, *all_programs, about=lockfile.FILE.read_text())
        below = (
            "layer-net",
            "layer-probe",
            *(f"layer-{one.name}" for one in recipes),
            "contentstore",
            "kube",
        )
        store = partial(assemble.node_store, recipes, recipe.architecture())
        self._layer("node-store", 8, store, *below, about=repr(recipes))

    def _layer(
        self, name: str, seconds: float, fill: Callable[[Parts, Path], None], *needs: str, about: str = ""
    ) -> None:
        key = key_of(recipe.FORMAT, name, about, *(self._keys[need] for need in needs))
        self._add(name, key, seconds, lambda piece: fill(self._parts(), piece), needs)

    def _add(
        self, name: str, key: str, seconds: float, produce: Callable[[Path], None], needs: Sequence[str] = ()
    ) -> None:
        self._keys[name] = key
        self.tasks.append(Task(name, key, seconds, produce, tuple(needs)))

    def _root(self, root: rootfs.RootFs, piece: Path) -> None:
        rootfs.build(root, piece, on_line=self._compiler.on_line, cancel=self._compiler.cancel)

    def _rank(self, task: Task) -> int:
        """kube first, for it is the longest; beside it what does not wait for it, root file systems first."""
        if task.name == "kube":
            return 0
        return 1 if task.name.startswith("debian-") else 2

    def _piece(self, name: str) -> Path:
        return self._store.path(name, self._keys[name])

    def _parts(self) -> Parts:
        assert self._kind is not None
        return Parts(
            program=lambda name: self._piece(name) / name,
            root=lambda name: self._piece(name) / "root.tar",
            blob=lambda name: layers.load_blob(self._piece(name)),
            kind=self._kind,
            upstream=self._upstream,
        )

    def _upstream(self, module: str) -> Path:
        for directory in sorted(components.MODULES.iterdir()):
            if f"{module} v" in (directory / "go.mod").read_text():
                return self._compiler.module(directory.name, module)
        raise BuildFailed(
            f"no module of ours pins {module}", next_step="add it to one of labctl/images/modules"
        )


class Log:
    """What every program of the build said, in one file; the last lines are at hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8", errors="replace")
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        """Add a line; called from several threads."""
        with self._lock:
            self._tail.append(text)
            if not self._file.closed:
                self._file.write(text + "\n")

    def tail(self) -> str:
        """The last lines."""
        return "\n".join(self._tail)

    def close(self) -> None:
        """Close the file; late lines are dropped."""
        with self._lock:
            self._file.close()


def _into_docker(plan: BuildPlan, docker: Docker, store: Store, progress: Progress) -> str:
    """Only here does docker learn of the image: whole, and under its name at once."""
    reference = lockfile.load().built.image.reference
    archive = store.root / ".node-image.tar"
    with progress.step(f"Load {reference} into docker") as step:
        try:
            image_id = oci.write_docker_archive(plan.image(reference), archive)
            docker.load(archive)
        finally:
            archive.unlink(missing_ok=True)
        found = docker.image(reference)
        if found is None or found.labels.get(recipe.LABEL) != recipe.digest():
            raise ImageUnavailable(
                f"docker took {reference} and does not have it",
                why=f"it shows {found.id if found else 'no image'} instead of {image_id}",
                next_step="look with `docker images`",
            )
        step.result(f"{found.size / 1e6:.0f} MB")
    _forget_nameless(docker)
    return found.id


def _forget_nameless(docker: Docker) -> None:
    """Remove node images of earlier builds that lost their name to this one, unless a node still uses them."""
    for image in docker.images([recipe.LABEL]):
        if not image.tags:
            with suppress(CommandFailed):
                docker.remove_image(image.id, force=False)


@contextmanager
def _alone(home: Path, progress: Progress) -> Iterator[None]:
    """Hold the build's lock: a second build waits, then finds everything made."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as refused:
        raise write_failed(refused, home) from refused
    lock_file = FileLock(home / "build.lock")

    def take() -> None:
        try:
            lock_file.acquire(timeout=0)
        except Timeout as held:
            raise NotYet("another labctl builds the node image here") from held

    until(take, what="the build of another labctl", within=WAIT_SECONDS, on_wait=progress.say)
    try:
        yield
    finally:
        lock_file.release()


def _need_space(home: Path, tasks: Sequence[Task]) -> None:
    cold = not any(home.glob("pieces/kube-*"))
    needed = SPACE_COLD if cold else SPACE_WARM
    free = shutil.disk_usage(home).free
    if free < needed and tasks:
        raise WriteFailed(
            f"too little space below {home} for a build of the node image",
            why=f"{free / (1 << 30):.1f} GiB free, {needed >> 30} GiB needed",
            next_step="free some space, or set XDG_CACHE_HOME to a larger disk",
        )


def _explained(failed: BuildFailed, log: Log) -> LabctlError:
    """With the log's last lines; a program that found the disk full is no mistake in what it built."""
    kept = f"the whole log: {log.path}\n{failed.details or log.tail()}"
    if _DISK_FULL.search(kept):
        return write_failed(
            OSError(errno.ENOSPC, f"{failed.what}: no space left on the device"), log.path.parent
        )
    return BuildFailed(
        failed.what,
        why=failed.why,
        next_step=failed.next_step or "read the log's end below; what was built is kept for the next try",
        details=kept,
    )


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _roomy() -> bool:
    return _memory() >= ROOMY_MEMORY


def _workers() -> int:
    """Programs built side by side. The compiler uses every core; a second one fills the gaps of linking."""
    return 2 if (os.cpu_count() or 1) > 1 and _roomy() else 1

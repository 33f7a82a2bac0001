"""The whole build with fake programs: resumable, all or nothing, every failure by its name."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl import paths
from labctl.errors import BuildFailed, DockerUnreachable, HostError, LabctlError, ToolMissing, WriteFailed
from labctl.images import build, catalog, components, kindfiles, layers, lockfile, manifests, oci, rootfs
from labctl.images import recipe as the_recipe
from labctl.images.lockfile import LockedManifest
from labctl.progress import Quiet
from labctl.tools.docker import Docker
from labctl.waiting import NotYet, until
from tests.unit.conftest import FakeTools

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = 'sandbox_image = "registry.k8s.io/pause:3.10"\n  restrict_oom_score_adj = false\n'
STORAGE = """package nodeimage
const storageProvisionerImage = "docker.io/kindest/local-path-provisioner:v1"
const storageHelperImage = "docker.io/kindest/local-path-helper:v1"
const defaultStorageManifest = `
image: ` + storageProvisionerImage + `
helper: ` + storageHelperImage + `
`
"""


GO = """
W={directory}
echo "$*" >> "$W/calls"
for last in "$@"; do :; done
refuse() {{
  if [ -f "$W/fail/$last" ]; then cat "$W/fail/$last" >&2; exit 1; fi
  if [ -f "$W/hang/$last" ]; then echo $$ > "$W/hanging"; exec sleep 60; fi
}}
case "$1" in
  env) cat "$W/goversion" ;;
  mod)
    refuse
    printf '{{"Path": "%s", "Version": "v1", "Dir": "%s", "GoMod": "x"}}' "$last" "$W/modules/$last" ;;
  build)
    case "$*" in *-mod=readonly*-trimpath*-buildvcs=false*) ;; *) echo "flags: $*" >&2; exit 2 ;; esac
    for word in "$@"; do case "$word" in -o=*) output="${{word#-o=}}" ;; esac; done
    echo half > "$output"
    refuse
    cat "$W/program" > "$output"
    chmod 755 "$output" ;;
esac
"""
MMDEBSTRAP = """
W={directory}
for last in "$@"; do :; done
echo "$*" >> "$W/debootstraps"
echo half > "$last"
if [ -f "$W/fail/mmdebstrap" ]; then cat "$W/fail/mmdebstrap" >&2; exit 1; fi
cat "$W/root.tar" > "$last"
"""
GCC = """
W={directory}
if [ -f "$W/fail/gcc" ]; then cat "$W/fail/gcc" >&2; exit 1; fi
while [ "$1" != -o ]; do shift; done
echo pause > "$2"
"""
PROGRAM = """#!/bin/sh
case "$(basename "$0") $1 $2" in
  "kubeadm config images") printf '%s\\n' {asked} ;;
  "ctr oci spec") echo '{{"process": {{"rlimits": [1], "args": ["sh"]}}}}' ;;
  contentstore*) [ -s "$1" ] && mkdir -p "$2" && echo stored > "$2/meta.db" ;;
esac
"""


class World:
    """A machine with fake programs, and what they are told to do."""

    def __init__(self, directory: Path, tools: FakeTools) -> None:
        self.directory = directory
        self.tools = tools
        for name, body in (("go", GO), ("mmdebstrap", MMDEBSTRAP), ("gcc", GCC)):
            tools.sh(name, body.format(directory=directory))
        store = shlex.quote(str(Path(__file__).with_name("fakes") / "imagestore.py"))
        tools.sh("docker", f'exec {shlex.quote(sys.executable)} -S -I {store} "$@"')
        self.put("goversion", "go1.26.8\n")
        self._modules()
        storage = kindfiles.storage(self.module("sigs.k8s.io/kind"))
        recipes = catalog.recipes(storage, "registry.k8s.io/pause:3.10")
        self.asks_for(
            [name for one in recipes for name in one.references if name.startswith("registry.k8s.io/")]
        )
        with tarfile.open(directory / "root.tar", "w") as archive:
            for name in ("bin/busybox", "etc/hostname", "usr/bin/x"):
                archive.addfile(tarfile.TarInfo(f"./{name}"))

    def put(self, path: str, text: str) -> None:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def module(self, name: str) -> Path:
        return self.directory / "modules" / name

    def asks_for(self, images: list[str]) -> None:
        """What the kubeadm that is built asks for."""
        self.put("program", PROGRAM.format(asked=" ".join(images)))

    def fails(self, what: str, said: str) -> None:
        """Let a package, a module, mmdebstrap or gcc fail with these words."""
        self.put(f"fail/{what}", said)

    def recovers(self) -> None:
        for what in ("fail", "hang"):
            shutil.rmtree(self.directory / what, ignore_errors=True)

    def build(self, *, fresh: bool = False) -> str:
        return build.node_image(Docker(), Quiet(), fresh=fresh)

    def calls(self) -> list[str]:
        """Each call of go so far. Not the record of the fake tools: programs run side by side here."""
        return self._lines("calls")

    def built(self) -> list[str]:
        """The packages that go was asked to build so far."""
        return [call.rpartition(" ")[2] for call in self.calls() if call.startswith("build ")]

    def root_file_systems(self) -> int:
        return len(self._lines("debootstraps"))

    def loads(self) -> int:
        return sum(call[0] == "load" for call in self.tools.calls("docker"))

    def daemon(self) -> dict[str, Any] | None:
        file = self.directory / "daemon.json"
        return json.loads(file.read_text()) if file.exists() else None

    def half_made(self) -> list[str]:
        home = paths.cache_root() / "image"
        return [str(path) for path in home.rglob("*") if path.name.startswith(".")]

    def _lines(self, name: str) -> list[str]:
        file = self.directory / name
        return file.read_text().splitlines() if file.exists() else []

    def _modules(self) -> None:
        kind = "modules/sigs.k8s.io/kind"
        files = {
            "etc/containerd/config.toml": CONFIG,
            "usr/local/bin/entrypoint": "#!/bin/bash\n",
            "kind/bin/mount-product-files.sh": "#!/bin/bash\n",
        }
        for unit in ("containerd", "kubelet", "undo-mount-hacks"):
            files[f"etc/systemd/system/{unit}.service"] = "[Install]\nWantedBy=multi-user.target\n"
        for name, text in files.items():
            self.put(f"{kind}/images/base/files/{name}", text)
        self.put(f"{kind}/pkg/build/nodeimage/const_storage.go", STORAGE)
        for manifest in lockfile.load().manifests:
            self.put(f"modules/{manifest.module}/{manifest.path}", "kind: X\n")


@pytest.fixture
def world(tmp_path: Path, fake_tools: FakeTools, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("FAKE_DAEMON", str(tmp_path / "daemon.json"))
    monkeypatch.setattr(build, "SPACE_COLD", 1)
    monkeypatch.setattr(build, "SPACE_WARM", 1)
    monkeypatch.setattr(manifests, "checked", _unchecked)
    return World(tmp_path, fake_tools)


def _unchecked(_: LockedManifest, data: bytes, __: str) -> bytes:
    """The fake modules hold no real manifests; the checksum has tests of its own."""
    return data


def test_a_whole_build_gives_docker_one_labelled_image(world: World) -> None:
    image_id = world.build()
    loaded = world.daemon()
    assert loaded is not None
    assert loaded["Id"] == image_id
    assert loaded["RepoTags"] == [lockfile.load().built.image.reference]
    assert loaded["Config"]["Labels"]["dev.labctl.recipe"] == the_recipe.digest()
    assert loaded["Config"]["StopSignal"] == "SIGRTMIN+3"
    for path in (
        "usr/bin/kubelet", "usr/bin/kubeadm", "usr/bin/kubectl", "usr/local/sbin/runc", "opt/cni/bin/bridge",
        "opt/cni/bin/flannel", "usr/local/bin/entrypoint", "kind/version", "kind/manifests/default-storage.yaml",
        "usr/local/share/labctl/manifests/flannel.yaml", "etc/containerd/cri-base.json", "var/lib/containerd/meta.db",
        "etc/systemd/system/multi-user.target.wants/kubelet.service",
    ):  # fmt: skip
        assert path in loaded["files"], path
    assert "etc/hostname" not in loaded["files"]
    assert world.half_made() == []


def test_every_program_is_built_once_and_a_second_build_builds_none(world: World) -> None:
    first = world.build()
    assert sorted(world.built()) == sorted(one.package for one in components.COMPONENTS if not one.c_source)
    assert world.build() == first
    assert len(world.built()) == len(components.COMPONENTS) - 1
    assert world.root_file_systems() == len(rootfs.ROOT_FILE_SYSTEMS)


def test_a_program_that_fails_is_named_with_the_log_and_the_rest_is_kept(world: World) -> None:
    coredns = "github.com/coredns/coredns"
    world.fails(coredns, "core/dns.go:7: undefined: zone")
    with pytest.raises(BuildFailed, match="coredns") as caught:
        world.build()
    assert caught.value.exit_code == 4
    assert "undefined: zone" in caught.value.details
    assert "build.log" in caught.value.details
    assert "undefined: zone" in (paths.cache_root() / "image" / "build.log").read_text()
    assert (world.loads(), world.daemon(), world.half_made()) == (0, None, [])
    before = set(world.built())
    assert "./kube" in before
    world.recovers()
    world.build()
    assert world.built().count("./kube") == 1
    assert world.built().count(coredns) == 2
    assert world.loads() == 1


@pytest.mark.parametrize(
    ("tool", "said", "named"),
    [
        ("mmdebstrap", "E: unable to reach the mirror", "E: unable to reach the mirror"),
        ("gcc", "pause.c: error", "pause.c: error"),
        ("sigs.k8s.io/kind", "verifying module: checksum mismatch", "checksum mismatch"),
    ],
)
def test_other_programs_that_fail_are_named_too(world: World, tool: str, said: str, named: str) -> None:
    world.fails(tool, said)
    with pytest.raises(BuildFailed) as caught:
        world.build()
    assert named in caught.value.why + caught.value.details
    assert (world.daemon(), world.half_made()) == (None, [])


@pytest.mark.parametrize("tool", ["go", "gcc", "mmdebstrap", "docker"])
def test_a_program_that_is_missing_is_named_with_its_cure(world: World, tool: str) -> None:
    world.tools.remove(tool)
    with pytest.raises(ToolMissing, match=f"(?i){tool}") as caught:
        world.build()
    assert "labctl host prepare" in caught.value.next_step
    assert world.daemon() is None


def test_no_daemon_is_found_out_before_any_work(world: World) -> None:
    world.tools.sh(
        "docker", "echo 'Cannot connect to the Docker daemon at x. Is the docker daemon running?' >&2; exit 1"
    )
    with pytest.raises(DockerUnreachable):
        world.build()
    assert world.built() == []


def test_too_little_space_is_found_out_before_any_work(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SPACE_COLD", 1 << 60)
    with pytest.raises(WriteFailed, match="too little space"):
        world.build()
    assert world.built() == []


def test_a_disk_that_fills_up_is_named_and_the_image_not_half_loaded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(oci, "write_docker_archive", full)
    with pytest.raises(WriteFailed, match="could not write") as caught:
        world.build()
    assert "No space left" in caught.value.why
    assert (world.daemon(), world.half_made()) == (None, [])


def test_a_compiler_that_finds_the_disk_full_is_about_the_disk(world: World) -> None:
    world.fails("./kube", "compile: writing output: write $WORK/b001/_pkg_.a: no space left on device")
    with pytest.raises(WriteFailed, match="could not write") as caught:
        world.build()
    assert "./kube" in caught.value.why
    assert "free some space" in caught.value.next_step
    assert (world.daemon(), world.half_made()) == (None, [])


def test_an_image_that_kubeadm_asks_for_must_be_there(world: World) -> None:
    world.asks_for(["registry.k8s.io/pause:3.10", "registry.k8s.io/new-thing:v1"])
    with pytest.raises(BuildFailed, match="kubeadm asks for") as caught:
        world.build()
    assert "new-thing" in caught.value.why


def test_docker_must_really_have_the_image_in_the_end(world: World) -> None:
    world.tools.sh("docker", "case $1 in image) echo 'Error: No such image: x' >&2; exit 1;; esac")
    with pytest.raises(LabctlError, match="does not have it"):
        world.build()


def test_a_nameless_earlier_image_goes_unless_a_container_uses_it(world: World) -> None:
    world.put("nameless", "sha256:old")
    world.build()
    removals = [call for call in world.tools.calls("docker") if call[:2] == ["image", "rm"]]
    assert removals == [["image", "rm", "sha256:old"]]


def test_fresh_forgets_the_pieces(world: World) -> None:
    world.build()
    world.build(fresh=True)
    assert world.built().count("./kube") == 2


def test_another_compiler_builds_anew_and_the_old_pieces_go(world: World) -> None:
    world.build()
    pieces = sorted(p.name for p in (paths.cache_root() / "image" / "pieces").iterdir())
    world.put("goversion", "go1.27.0\n")
    world.build()
    unaffected = ("debian-", "layer-net", "layer-probe", "layer-local-path-helper", "node-root")
    after = sorted(p.name for p in (paths.cache_root() / "image" / "pieces").iterdir())
    assert world.built().count("./kube") == 2
    assert len(after) == len(pieces)
    assert set(pieces) & set(after) == {name for name in pieces if name.startswith(unaffected)}


def child(world: World) -> subprocess.Popen[str]:
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from labctl.images import build, manifests\n"
        "build.SPACE_COLD = build.SPACE_WARM = 1\n"
        "manifests.checked = lambda m, data, s: data\n"
        "from labctl.cli.main import main\n"
        "sys.exit(main(['image', 'build']))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def hanging(world: World) -> Iterator[subprocess.Popen[str]]:
    world.put("hang/github.com/coredns/coredns", "")
    with child(world) as process:
        until(lambda: _there(world.directory / "hanging"), what="the build hangs", within=30, every=0.02)
        yield process
        process.kill()
        with contextlib.suppress(ProcessLookupError):  # what a killed build had started outlives it
            os.kill(int((world.directory / "hanging").read_text()), signal.SIGKILL)


def _there(path: Path) -> None:
    if not path.exists() or not path.read_text():
        raise NotYet("not there")


def test_an_interrupt_ends_in_one_line_and_the_next_build_goes_on(
    world: World, hanging: subprocess.Popen[str]
) -> None:
    hanging.send_signal(signal.SIGINT)
    _, said = hanging.communicate(timeout=30)
    assert hanging.returncode == 130
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if "interrupted" in line] == [
        "error: interrupted  [interrupted]"
    ]
    assert (world.daemon(), world.half_made()) == (None, [])
    world.recovers()
    world.build()
    assert world.built().count("./kube") == 1
    assert world.daemon() is not None


def test_a_killed_build_leaves_nothing_that_counts(world: World, hanging: subprocess.Popen[str]) -> None:
    hanging.kill()
    hanging.communicate(timeout=30)
    assert world.half_made() != []
    world.recovers()
    world.build()
    assert world.built().count("./kube") == 1
    assert world.half_made() == []


def test_two_builds_do_not_meet(
    world: World, hanging: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "WAIT_SECONDS", 0.2)
    started = world.calls().count("env GOVERSION")
    with pytest.raises(LabctlError, match="another labctl") as caught:
        world.build()
    assert caught.value.exit_code == 5
    assert world.calls().count("env GOVERSION") == started


# --- the recipe


def test_the_recipe_needs_no_program_at_all() -> None:
    assert len(the_recipe.digest()) == 64
    assert the_recipe.digest() == the_recipe.digest()


@pytest.mark.parametrize("what", ["format", "lock", "package", "component", "sum"])
def test_the_recipe_changes_with_whatever_goes_in(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = the_recipe.digest()
    if what == "format":
        monkeypatch.setattr(the_recipe, "FORMAT", "another")
    elif what == "lock":
        (tmp_path / "lock.toml").write_bytes(lockfile.FILE.read_bytes() + b"\n")
        monkeypatch.setattr(lockfile, "FILE", tmp_path / "lock.toml")
    elif what == "package":
        changed = rootfs.RootFs("debian-net", ("less",), installed=False, seconds=1)
        monkeypatch.setattr(rootfs, "ROOT_FILE_SYSTEMS", (rootfs.NODE, changed, rootfs.PROBE))
    elif what == "component":
        monkeypatch.setattr(components, "COMPONENTS", components.COMPONENTS[1:])
    else:
        _copy_modules(tmp_path / "modules")
        monkeypatch.setattr(components, "MODULES", tmp_path / "modules")
        assert the_recipe.digest() == before
        (tmp_path / "modules" / "metallb" / "go.sum").write_text("other")
    assert the_recipe.digest() != before


def _copy_modules(target: Path) -> None:
    for file in (path for path in components.MODULES.rglob("*") if path.is_file()):
        copy = target / file.relative_to(components.MODULES)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())


def test_an_unknown_processor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(HostError, match="riscv64"):
        the_recipe.digest()


# --- kind's files


def test_containerd_learns_to_do_without_the_capability() -> None:
    changed = kindfiles.containerd_config(CONFIG)
    assert "restrict_oom_score_adj = true" in changed
    assert "pause:3.10" in changed
    with pytest.raises(BuildFailed, match="not look as expected"):
        kindfiles.containerd_config("restrict_oom_score_adj = maybe\n")


def test_the_storage_manifest_is_put_together_from_its_constants(world: World) -> None:
    found = kindfiles.storage(world.module("sigs.k8s.io/kind"))
    assert "image: docker.io/kindest/local-path-provisioner:v1\n" in found.manifest
    assert "helper: docker.io/kindest/local-path-helper:v1\n" in found.manifest
    assert "`" not in found.manifest


def test_programs_of_kind_are_executable_and_its_services_enabled(world: World, tmp_path: Path) -> None:
    tree = layers.Tree(0)
    kindfiles.add_node_files(tree, world.module("sigs.k8s.io/kind"))
    assert "etc/systemd/system/multi-user.target.wants/undo-mount-hacks.service" in tree._entries
    assert tree._entries["usr/local/bin/entrypoint"][0].mode == 0o755
    assert tree._entries["etc/containerd/config.toml"][0].mode == 0o644
    assert tree._entries["etc/systemd/system/systemd-binfmt.service"][0].linkname == "/dev/null"


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("usr/share/doc/curl/copyright", True),
        ("usr/share/doc/curl", True),
        ("usr/share/doc/curl/changelog.gz", False),
        ("usr/share/man/man1/x.1.gz", False),
        ("etc/machine-id", False),
        ("etc/resolv.conf", False),
        ("dev", True),
        ("dev/null", False),
        ("etc/systemd/system/multi-user.target.wants/rpcbind.service", False),
        ("usr/lib/systemd/system/multi-user.target.wants/systemd-logind.service", False),
        ("usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service", False),
        ("usr/lib/systemd/system/sysinit.target.wants/systemd-sysusers.service", True),
        ("usr/lib/systemd/systemd", True),
    ],
)
def test_what_is_left_out_of_a_root_file_system(path: str, kept: bool) -> None:
    assert rootfs.left_out(path) is not kept

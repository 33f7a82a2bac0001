"""Layers, image archives and the store of pieces: the same bytes for the same content, nothing half-made."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from labctl.errors import WriteFailed
from labctl.images import layers, oci
from labctl.images.layers import Blob, Tree
from labctl.images.store import Store, key_of

MTIME = 1_700_000_000


def written(tree: Tree) -> bytes:
    sink = io.BytesIO()
    tree.write(sink)
    return sink.getvalue()


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: info for info in archive}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- trees


def test_the_same_content_is_the_same_archive_in_whatever_order_and_whenever(tmp_path: Path) -> None:
    source = tmp_path / "program"
    source.write_bytes(b"x" * 5000)
    one, two = Tree(MTIME), Tree(MTIME)
    one.file("usr/bin/a", source, 0o755)
    one.symlink("etc/link", "../usr/bin/a")
    os.utime(source, (1, 1))
    two.symlink("etc/link", "../usr/bin/a")
    two.file("/usr/bin/a", source, 0o755)
    assert written(one) == written(two)


def test_entries_belong_to_root_and_parents_come_first() -> None:
    tree = Tree(MTIME)
    tree.file("opt/cni/bin/bridge", b"#!", 0o755)
    found = members(written(tree))
    assert list(found) == ["opt", "opt/cni", "opt/cni/bin", "opt/cni/bin/bridge"]
    assert {info.mode for name, info in found.items() if info.isdir()} == {0o755}
    assert {(info.uid, info.gid, info.uname, info.mtime) for info in found.values()} == {
        (0, 0, "root", MTIME)
    }


def test_a_hard_link_follows_its_target_and_must_have_one() -> None:
    tree = Tree(MTIME)
    tree.file("usr/bin/kubelet", b"kube", 0o755)
    tree.hardlink("usr/bin/kubeadm", "usr/bin/kubelet")
    names = list(members(written(tree)))
    assert names.index("usr/bin/kubeadm") > names.index("usr/bin/kubelet")
    with pytest.raises(ValueError, match="not there"):
        tree.hardlink("usr/bin/kubectl", "usr/bin/missing")


def test_a_directory_is_copied_with_its_modes(tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "f").write_text("x")
    (tmp_path / "d" / "sub" / "f").chmod(0o444)
    (tmp_path / "d" / "sub").chmod(0o711)
    tree = Tree(MTIME)
    tree.copy("var/lib/containerd", tmp_path / "d")
    found = members(written(tree))
    assert found["var/lib/containerd/sub"].mode == 0o711
    assert found["var/lib/containerd/sub/f"].mode == 0o444


# --- root file systems


def root_tar(
    path: Path, *entries: tuple[str, bytes | None], mtime: int = 5, pax: dict[str, str] | None = None
) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(f"./{name}")
            info.mtime = mtime
            info.pax_headers = dict(pax or {})
            if content is None:
                info.type = tarfile.DIRTYPE
            info.size = len(content or b"")
            archive.addfile(info, io.BytesIO(content or b""))
        device = tarfile.TarInfo("./dev/null")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    return path


def rewritten(source: Path, drop: tuple[str, ...] = (), extra: Tree | None = None) -> bytes:
    sink = io.BytesIO()
    layers.rewrite(source, sink, mtime=MTIME, drop=lambda path: path in drop, extra=extra)
    return sink.getvalue()


def test_a_root_file_system_loses_devices_times_and_what_is_dropped(tmp_path: Path) -> None:
    source = root_tar(tmp_path / "r.tar", ("etc", None), ("etc/hostname", b"builder\n"), ("bin/sh", b"sh"))
    extra = Tree(MTIME)
    extra.symlink("bin/ls", "busybox")
    data = rewritten(source, ("etc/hostname",), extra)
    found = members(data)
    assert sorted(found) == ["bin", "bin/ls", "bin/sh", "etc"]
    assert {info.mtime for info in found.values()} == {MTIME}
    assert b"builder" not in data


def test_the_time_of_the_build_does_not_show(tmp_path: Path) -> None:
    early = root_tar(tmp_path / "a.tar", ("bin/sh", b"sh"), mtime=5, pax={"mtime": "5.25"})
    late = root_tar(tmp_path / "b.tar", ("bin/sh", b"sh"), mtime=9, pax={"mtime": "9.75"})
    assert early.read_bytes() != late.read_bytes()
    assert rewritten(early) == rewritten(late)


def test_file_capabilities_survive(tmp_path: Path) -> None:
    source = root_tar(
        tmp_path / "r.tar", ("bin/ping", b"p"), pax={"SCHILY.xattr.security.capability": "caps"}
    )
    assert members(rewritten(source))["bin/ping"].pax_headers["SCHILY.xattr.security.capability"] == "caps"


def test_what_two_file_systems_share_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    below = root_tar(tmp_path / "net.tar", ("lib/a", b"1"), ("lib/b", b"2"))
    above = root_tar(tmp_path / "probe.tar", ("lib/a", b"1"), ("lib/b", b"other"), ("bin/dig", b"3"))
    known = layers.without(above, layers.fingerprints(below))
    assert [path for path in ("lib/a", "lib/b", "bin/dig") if known(path)] == ["lib/a"]


def test_one_file_is_read_out_of_an_archive(tmp_path: Path) -> None:
    source = root_tar(tmp_path / "net.tar", ("bin/busybox", b"box"))
    assert layers.read_file(source, "bin/busybox") == b"box"
    with pytest.raises(KeyError):
        layers.read_file(source, "bin/absent")


# --- blobs and images


def blob(directory: Path, name: str, content: bytes, *, gzipped: bool) -> Blob:
    tree = Tree(MTIME)
    tree.file(name, content)
    piece = directory / name
    piece.mkdir()
    layers.save_blob(piece, tree.write, gzip=gzipped)
    return layers.load_blob(piece)


def test_a_blob_knows_both_of_its_hashes_and_its_size(tmp_path: Path) -> None:
    made = blob(tmp_path, "f", b"content" * 1000, gzipped=True)
    stored = made.path.read_bytes()
    assert made.digest == f"sha256:{sha(stored)}"
    assert made.diff_id == f"sha256:{sha(gzip.decompress(stored))}"
    assert made.size == len(stored) < 7000
    assert stored[4:8] == b"\0\0\0\0"  # gzip's own time stamp


def image(name: str, *blobs: Blob) -> oci.LayeredImage:
    config = {"Entrypoint": [f"/{name}"], "Labels": {"a": "b"}}
    return oci.LayeredImage((f"registry.example/{name}:v1",), blobs, "amd64", "2026-11-01T00:00:00Z", config)


def test_an_oci_layout_hangs_together(tmp_path: Path) -> None:
    base, top = (blob(tmp_path, name, name.encode(), gzipped=True) for name in ("base", "top"))
    several = oci.LayeredImage(
        ("r.example/a:v1", "r.example/b:v1"), (base, top), "amd64", "2026-11-01T00:00:00Z"
    )
    oci.write_layout([several, image("c", base)], tmp_path / "layout.tar")
    with tarfile.open(tmp_path / "layout.tar") as archive:
        names = archive.getnames()
        files = {name: archive.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    assert len(set(names)) == len(names)
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{sha(data)}"
    index = json.loads(files["index.json"])
    named = {entry["annotations"]["io.containerd.image.name"]: entry for entry in index["manifests"]}
    assert sorted(named) == ["r.example/a:v1", "r.example/b:v1", "registry.example/c:v1"]
    assert named["r.example/a:v1"]["digest"] == named["r.example/b:v1"]["digest"]

    def content(descriptor: dict[str, object]) -> bytes:
        found = files["blobs/" + str(descriptor["digest"]).replace(":", "/")]
        assert len(found) == descriptor["size"]
        return found

    for entry in index["manifests"]:
        manifest = json.loads(content(entry))
        config = json.loads(content(manifest["config"]))
        assert config["architecture"] == entry["platform"]["architecture"] == "amd64"
        plain = [f"sha256:{sha(gzip.decompress(content(layer)))}" for layer in manifest["layers"]]
        assert plain == config["rootfs"]["diff_ids"]


def test_an_archive_for_docker_hangs_together(tmp_path: Path) -> None:
    made = image("node", *(blob(tmp_path, name, name.encode(), gzipped=False) for name in ("root", "files")))
    image_id = oci.write_docker_archive(made, tmp_path / "node.tar")
    with tarfile.open(tmp_path / "node.tar") as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["registry.example/node:v1"]
    assert image_id == f"sha256:{sha(files[entry['Config']])}"
    config = json.loads(files[entry["Config"]])
    assert config["config"]["Labels"] == {"a": "b"}
    assert [f"sha256:{sha(files[layer])}" for layer in entry["Layers"]] == config["rootfs"]["diff_ids"]


# --- the store


def test_keys_tell_where_one_part_ends_and_the_next_begins() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")
    assert key_of("ab", "c") == key_of("ab", b"c")


def test_a_piece_is_made_once(tmp_path: Path) -> None:
    store, made = Store(tmp_path / "store"), []

    def produce(piece: Path) -> None:
        made.append(piece)
        (piece / "f").write_text("x")

    first = store.make("thing", "k" * 64, produce)
    assert store.make("thing", "k" * 64, produce) == first
    assert len(made) == 1
    assert (first / "f").read_text() == "x"
    assert not store.has("thing", "j" * 64)


def test_a_piece_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def produce(piece: Path) -> None:
        (piece / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path / "store").make("thing", "k", produce)
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize(("number", "advice"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "writable")])
def test_a_disk_that_refuses_is_named(tmp_path: Path, number: int, advice: str) -> None:
    def produce(piece: Path) -> None:
        (piece / "half").write_text("x")
        raise OSError(number, os.strerror(number))

    with pytest.raises(WriteFailed, match=str(tmp_path / "store")) as caught:
        Store(tmp_path / "store").make("thing", "k", produce)
    assert caught.value.exit_code == 4
    assert advice in caught.value.next_step
    assert list((tmp_path / "store").iterdir()) == []


def test_pruning_keeps_what_is_named_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    kept = store.make("thing", "new", lambda piece: None)
    store.make("thing", "old", lambda piece: None)
    (tmp_path / "store" / ".half-made").mkdir()
    store.prune([kept])
    assert list((tmp_path / "store").iterdir()) == [kept]

"""Upstream manifests and workload images: checked bytes from whichever source answers, images seen to arrive."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from labctl import paths
from labctl.errors import BuildFailed, ImageUnavailable, RegistryUnreachable, ToolMissing
from labctl.images import lockfile, manifests, workloads
from labctl.images.lockfile import LockedManifest
from labctl.images.node import NodeImage
from labctl.process import Completed
from labctl.progress import Quiet
from labctl.tools import go
from labctl.tools.docker import Docker, Image

TEXT = "kind: Namespace\n"
MANIFEST = LockedManifest(
    "flannel",
    "example.org/m",
    "v1",
    "m.yaml",
    "https://example.org/m",
    hashlib.sha256(TEXT.encode()).hexdigest(),
)
BUILT = NodeImage("labctl/node:v1", "r", "built", "v1")
PULLED = NodeImage("kindest/node:v1@sha256:x", "d", "pulled", "v1")


class Nodes(Docker):
    """Nodes whose container runtimes know images, and an image store beside them."""

    def __init__(self, known: Mapping[str, Sequence[str]], here: Sequence[str] = ()) -> None:
        super().__init__()
        self.known = {node: list(images) for node, images in known.items()}
        self.here = list(here)
        self.loses = False
        self.pulls: list[str] = []
        self.archives: dict[str, str] = {}
        self.inside = TEXT

    def run(self, image: str, argv: Sequence[str] = (), **_: Any) -> Completed:
        assert (image, list(argv)) == (BUILT.reference, [f"{manifests.SHARE}/flannel.yaml"])
        return Completed((), 0, self.inside, "", 0.0)

    def exec(self, container: str, argv: Sequence[str], **_: Any) -> Completed:
        if argv[0] == "crictl":
            said = json.dumps({"images": [{"repoTags": [tag]} for tag in self.known[container]]})
            return Completed(tuple(argv), 0, said, "", 0.0)
        if argv[0] == "ctr" and not self.loses:
            self.known[container].append(self.archives[container])
        return Completed(tuple(argv), 0, "", "", 0.0)

    def image(self, reference: str) -> Image | None:
        return Image("i", (reference,), (), {}, 1) if reference in self.here else None

    def pull(
        self, reference: str, *, timeout: float = 0, on_line: Callable[[str], None] | None = None
    ) -> None:
        if reference.startswith("gone"):
            raise RegistryUnreachable(f"image {reference} could not be pulled")
        self.pulls.append(reference)

    def save(self, references: Sequence[str], archive: Path) -> None:
        archive.write_text(references[0])

    def copy_in(self, container: str, source: Path, target: str) -> None:
        self.archives[container] = source.read_text()


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """What the Go module and the URL answer; None: nothing."""
    answers: dict[str, str | None] = {"module": None, "url": None}

    def answer(name: str) -> bytes:
        text = answers[name]
        if text is None:
            raise ImageUnavailable(f"no {name}")
        return text.encode()

    class Locked:
        def manifest(self, name: str) -> LockedManifest:
            return {"flannel": MANIFEST}[name]

    monkeypatch.setattr(lockfile, "load", Locked)
    monkeypatch.setattr(manifests, "_from_module", lambda _: answer("module"))
    monkeypatch.setattr(manifests, "_from_url", lambda _: answer("url"))
    return answers


def test_a_built_node_image_brings_the_manifest_and_it_is_kept(sources: dict[str, str | None]) -> None:
    docker = Nodes({})
    assert manifests.text("flannel", docker, BUILT, Quiet()) == TEXT
    docker.inside = "something else"
    assert manifests.text("flannel", docker, BUILT, Quiet()) == TEXT


def test_a_kept_copy_that_was_changed_is_not_used(sources: dict[str, str | None]) -> None:
    kept = paths.cache_root() / "manifests" / MANIFEST.sha256
    kept.parent.mkdir(parents=True)
    kept.write_text("kind: Evil\n")
    assert manifests.text("flannel", Nodes({}), BUILT, Quiet()) == TEXT
    assert kept.read_text() == TEXT


@pytest.mark.parametrize("source", ["module", "url"])
def test_with_a_pulled_node_image_the_module_or_the_url_serves(
    sources: dict[str, str | None], source: str
) -> None:
    sources[source] = TEXT
    assert manifests.text("flannel", Nodes({}), PULLED, Quiet()) == TEXT


def test_wrong_bytes_are_passed_over_and_named_when_nothing_is_left(sources: dict[str, str | None]) -> None:
    sources["module"] = "kind: Evil\n"
    with pytest.raises(ImageUnavailable, match="flannel") as caught:
        manifests.text("flannel", Nodes({}), PULLED, Quiet())
    assert MANIFEST.sha256 in caught.value.details
    assert hashlib.sha256(b"kind: Evil\n").hexdigest() in caught.value.details
    assert "no url" in caught.value.details
    sources["url"] = TEXT
    assert manifests.text("flannel", Nodes({}), PULLED, Quiet()) == TEXT


def test_a_checksum_is_not_negotiable() -> None:
    with pytest.raises(BuildFailed, match="wrong checksum") as caught:
        manifests.checked(MANIFEST, b"", "somewhere")
    assert MANIFEST.sha256 in caught.value.why


def test_without_go_the_module_is_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> go.Go:
        raise ToolMissing("no Go toolchain was found")

    monkeypatch.setattr(go, "find", none)
    with pytest.raises(ImageUnavailable, match="not without Go"):
        manifests._from_module(MANIFEST)


def test_unknown_names_are_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        manifests.text("weave", Nodes({}), BUILT, Quiet())


# --- workload images


def test_nodes_that_have_the_images_are_left_alone() -> None:
    docker = Nodes({"a": ["r/x:1"], "b": ["r/x:1", "r/y:1"]})
    workloads.ensure(docker, ["a", "b"], ["r/x:1"], Quiet())
    assert (docker.pulls, docker.archives) == ([], {})


def test_only_what_lacks_is_pulled_once_and_only_to_where_it_lacks() -> None:
    docker = Nodes({"a": ["r/x:1"], "b": [], "c": []}, here=["r/y:1"])
    workloads.ensure(docker, ["a", "b", "c"], ["r/x:1"], Quiet())
    assert docker.pulls == ["r/x:1"]
    assert sorted(docker.archives) == ["b", "c"]
    workloads.ensure(docker, ["a"], ["r/y:1"], Quiet())
    assert docker.pulls == ["r/x:1"]
    assert docker.known["a"] == ["r/x:1", "r/y:1"]


def test_an_image_that_did_not_arrive_is_named_with_its_node() -> None:
    docker = Nodes({"a": []})
    docker.loses = True
    with pytest.raises(ImageUnavailable, match="node a") as caught:
        workloads.ensure(docker, ["a"], ["r/x:1"], Quiet())
    assert "r/x:1" in caught.value.why


def test_a_pull_that_fails_is_the_error() -> None:
    with pytest.raises(RegistryUnreachable, match="gone/x:1"):
        workloads.ensure(Nodes({"a": []}), ["a"], ["gone/x:1"], Quiet())


def test_a_release_url_that_trickles_ends_by_its_whole_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "FETCH_SECONDS", 0.5)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while not ended.wait(0.05):
                    connection.sendall(b"x")

        server = threading.Thread(target=trickle, daemon=True)
        server.start()
        started = time.monotonic()
        with pytest.raises(ImageUnavailable) as caught:
            manifests._from_url(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        assert time.monotonic() - started < 3
        ended.set()
        server.join(5)
    assert "no answer" in caught.value.why

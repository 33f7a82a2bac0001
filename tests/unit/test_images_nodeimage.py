"""Which node image is used: what is here, then a pull, then a build; and never a stranger under a known name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import (
    BuildFailed,
    DockerUnreachable,
    ImageIdentityMismatch,
    ImageUnavailable,
    LabctlError,
    RegistryRateLimited,
    RegistryUnreachable,
    RegistryUntrusted,
    UsageError,
)
from labctl.host.finding import Source
from labctl.images import build, inventory, lockfile, nodeimage
from labctl.images import recipe as the_recipe
from labctl.progress import Quiet
from labctl.tools.docker import Docker, Image
from labctl.tools.dockerwords import pull_failure

BUILT = lockfile.load().built.image
PULLED = lockfile.load().pulled.image


class FakeDocker(Docker):
    """A daemon with the images that a test gives it; a pull brings the pinned one, or fails as told."""

    def __init__(self, images: dict[str, Image] | None = None, pull_says: str = "") -> None:
        super().__init__()
        self.here = dict(images or {})
        self.pull_says = pull_says
        self.pulls: list[str] = []

    def image(self, reference: str) -> Image | None:
        return self.here.get(reference)

    def pull(
        self, reference: str, *, timeout: float = 0, on_line: Callable[[str], None] | None = None
    ) -> None:
        self.pulls.append(reference)
        if self.pull_says:
            raise pull_failure(reference, self.pull_says)
        self.here[reference] = pulled()

    def load(self, archive: Path) -> tuple[str, ...]:
        return tuple(archive.read_text().split())


class Heard(Quiet):
    """A listener that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def built(recipe: str | None = None) -> Image:
    labels = {"dev.labctl.recipe": recipe or the_recipe.digest()}
    return Image("sha256:b", (BUILT.reference,), (), labels, 1)


def pulled(digest: str = PULLED.digest) -> Image:
    return Image("sha256:p", (), (f"kindest/node@{digest}",), {}, 1)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[FakeDocker]:
    """Stands in for the build, which has tests of its own."""
    calls: list[FakeDocker] = []

    def fake(docker: FakeDocker, progress: object, *, fresh: bool = False) -> str:
        calls.append(docker)
        docker.here[BUILT.reference] = built()
        return "sha256:b"

    monkeypatch.setattr(build, "node_image", fake)
    return calls


def test_a_built_image_that_is_here_is_used_as_it_is(builds: list[FakeDocker]) -> None:
    docker = FakeDocker({BUILT.reference: built()})
    found = nodeimage.ensure(docker, Quiet())
    assert (found.origin, found.identity, found.reference) == ("built", the_recipe.digest(), BUILT.reference)
    assert (docker.pulls, builds) == ([], [])


def test_a_pulled_image_that_is_here_is_used_as_it_is(builds: list[FakeDocker]) -> None:
    docker = FakeDocker({PULLED.pull_reference: pulled()})
    found = nodeimage.ensure(docker, Quiet())
    assert (found.origin, found.identity) == ("pulled", PULLED.digest)
    assert found.reference.endswith(f"@{PULLED.digest}")
    assert found.kubernetes == lockfile.load().pulled.kubernetes
    assert (docker.pulls, builds) == ([], [])


def test_with_nothing_here_the_pinned_image_is_pulled_by_digest(builds: list[FakeDocker]) -> None:
    docker = FakeDocker()
    assert nodeimage.ensure(docker, Quiet()).origin == "pulled"
    assert docker.pulls == [PULLED.pull_reference]
    assert builds == []


FAILURES = [
    ("toomanyrequests: You have reached your pull rate limit.", RegistryRateLimited),
    ("dial tcp: lookup registry-1.docker.io: no such host", RegistryUnreachable),
    ("tls: failed to verify certificate: x509: certificate signed by unknown authority", RegistryUntrusted),
    ("manifest unknown: manifest unknown", ImageUnavailable),
]


@pytest.mark.parametrize(("said", "error"), FAILURES)
def test_a_registry_that_fails_is_named_and_the_next_source_taken(
    builds: list[FakeDocker], said: str, error: type[LabctlError]
) -> None:
    heard = Heard()
    docker = FakeDocker(pull_says=said)
    assert nodeimage.ensure(docker, heard).origin == "built"
    assert builds == [docker]
    assert PULLED.reference in heard.said[0]
    assert "building" in heard.said[0]


@pytest.mark.parametrize(("said", "error"), FAILURES)
def test_asked_for_a_pull_only_the_failure_is_the_answer(
    builds: list[FakeDocker], said: str, error: type[LabctlError]
) -> None:
    with pytest.raises(error, match=PULLED.reference) as caught:
        nodeimage.ensure(FakeDocker(pull_says=said), Quiet(), source="pull")
    assert type(caught.value) is error
    assert caught.value.exit_code == 4
    assert builds == []


def test_when_the_last_source_fails_too_its_error_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> str:
        raise BuildFailed("kube did not build", why="x")

    monkeypatch.setattr(build, "node_image", fails)
    with pytest.raises(BuildFailed, match="kube"):
        nodeimage.ensure(FakeDocker(pull_says="no such host"), Quiet())


@pytest.mark.parametrize("source", ["auto", "present"])
def test_a_stranger_under_the_built_name_is_refused_showing_both(
    builds: list[FakeDocker], source: Source
) -> None:
    docker = FakeDocker({BUILT.reference: Image("sha256:stranger", (BUILT.reference,), (), {}, 1)})
    with pytest.raises(ImageIdentityMismatch) as caught:
        nodeimage.ensure(docker, Quiet(), source=source)
    assert caught.value.exit_code == 3
    assert the_recipe.digest() in caught.value.why
    assert "sha256:stranger" in caught.value.why
    assert (docker.pulls, builds) == ([], [])


def test_a_stranger_under_the_pulled_name_is_refused_showing_both(builds: list[FakeDocker]) -> None:
    other = "sha256:" + "0" * 64
    docker = FakeDocker({PULLED.reference: pulled(other)})
    with pytest.raises(ImageIdentityMismatch) as caught:
        nodeimage.ensure(docker, Quiet())
    assert PULLED.digest in caught.value.why
    assert other in caught.value.why
    assert (docker.pulls, builds) == ([], [])


def test_what_an_earlier_labctl_built_is_no_stranger_and_is_built_anew(builds: list[FakeDocker]) -> None:
    docker = FakeDocker({BUILT.reference: built("an older recipe")}, pull_says="no such host")
    assert nodeimage.ensure(docker, Quiet()).identity == the_recipe.digest()
    assert builds == [docker]


def test_asked_for_what_is_here_nothing_is_fetched(builds: list[FakeDocker]) -> None:
    docker = FakeDocker()
    with pytest.raises(ImageUnavailable, match="no node image") as caught:
        nodeimage.ensure(docker, Quiet(), source="present")
    assert "labctl image build" in caught.value.next_step
    assert (docker.pulls, builds) == ([], [])


def test_asked_for_a_build_no_registry_is_called(builds: list[FakeDocker]) -> None:
    docker = FakeDocker()
    assert nodeimage.ensure(docker, Quiet(), source="build").origin == "built"
    assert docker.pulls == []
    nodeimage.ensure(docker, Quiet(), source="build")
    assert builds == [docker]


def test_an_archive_is_taken_only_with_the_image_of_this_labctl(tmp_path: Path) -> None:
    archive = tmp_path / "node.tar"
    archive.write_text(BUILT.reference)
    assert nodeimage.load(FakeDocker({BUILT.reference: built()}), archive, Quiet()).origin == "built"
    with pytest.raises(ImageIdentityMismatch, match=BUILT.reference):
        nodeimage.load(FakeDocker({BUILT.reference: built("other")}), archive, Quiet())
    archive.write_text("debian:12")
    with pytest.raises(UsageError, match="does not hold"):
        nodeimage.load(FakeDocker(), archive, Quiet())


def test_the_inventory_works_without_docker() -> None:
    class NoDocker(FakeDocker):
        def image(self, reference: str) -> Image | None:
            raise DockerUnreachable("no docker daemon answers")

    rows = {row.name: row for row in inventory.survey(NoDocker())}
    assert rows["node (built)"].here == "unknown: no docker daemon answers"
    assert rows["probe"].reference == lockfile.load().image("probe").reference


def test_the_inventory_tells_what_is_here_from_what_only_has_the_name() -> None:
    rows = {row.name: row for row in inventory.survey(FakeDocker({BUILT.reference: built()}))}
    assert rows["node (built)"].here == "yes"
    assert rows["node (pulled)"].here == "no"
    assert rows["probe"].identity == "tag only"
    assert rows["probe"].here == "in the node image"
    rows = {row.name: row for row in inventory.survey(FakeDocker({BUILT.reference: built("older")}))}
    assert rows["node (built)"].here.startswith("another: recipe older")
    assert rows["probe"].here == "no"

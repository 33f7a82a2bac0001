"""`up`, when something goes wrong on the way: what is left, what is said, what stays untouched (F8, F9, F15)."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from labctl import files, paths
from labctl.cluster import bundle, journal, lock, mark, readiness, teardown
from labctl.cluster.mark import Mark
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import bringup, context, network, nodes
from labctl.cluster.up.background import Background
from labctl.cluster.up.bringup import STEPS
from labctl.cluster.up.context import Options
from labctl.errors import (
    CleanupIncomplete,
    CommandFailed,
    Conflict,
    HostError,
    ImageUnavailable,
    InfrastructureError,
    Interrupted,
    LabctlError,
    WriteFailed,
)
from labctl.images import nodeimage
from labctl.process import Completed
from labctl.progress import Quiet
from labctl.tools.docker import Container, Image
from labctl.tools.kind import Kind, KindStage
from tests.unit.fakes.apiserver import Listener
from tests.unit.fakes.fleet import Fleet

SPEC = ClusterSpec(name="c", workers=1)
OPTIONS = Options(image="node:image", prove=False)


class LivingFleet(Fleet):
    """A fleet whose nodes can be asked, once the test lets their API server answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = True
        self.asked: list[str] = []

    def exec(self, container: str, argv: Sequence[str], **more: Any) -> Completed:
        self.asked.append(container)
        if not self.answers or container not in {one.id for one in self.there.values()}:
            return super().exec(container, argv, **more)
        return Completed(tuple(argv), 0, "ok", "", 0.1)


class FakeKind(Kind):
    """A kind that makes containers in the fleet and then does what the test wants."""

    def __init__(self, docker: Fleet) -> None:
        super().__init__("no-kind-here")
        self.docker = docker
        self.then: Callable[[], None] = lambda: None
        self.config = ""

    def version(self) -> str:
        return "0.33.0"

    def create_cluster(
        self, *, name: str, config: str, image: str, on_stage: Any = None, **_: Any
    ) -> Completed:
        self.config = config
        labels = self.docker.marked[image].labels
        for node, role in (("control-plane", "control-plane"), ("worker", "worker")):
            both = {mark.KIND_CLUSTER: name, mark.KIND_ROLE: role, **labels}
            self.docker.there[f"{name}-{node}"] = Container(
                f"id-{node}", f"{name}-{node}", "running", image, both
            )
        self.then()
        on_stage(KindStage("Starting control-plane", "done", 1.0))
        return Completed(("kind",), 0, "", "", 1.0)

    def export_logs(self, name: str, directory: Path) -> Completed:
        directory.mkdir(parents=True)
        return Completed(("kind",), 0, "", "", 0.1)


@pytest.fixture
def docker() -> LivingFleet:
    fleet = LivingFleet()
    fleet.marked["node:image"] = Image("sha-node", ("node:image",), (), {"dev.labctl.recipe": "x"}, 1)
    return fleet


@pytest.fixture
def kind(docker: Fleet) -> FakeKind:
    return FakeKind(docker)


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps that need a real cluster do nothing; the doctor is content; late containers come soon."""
    monkeypatch.setattr("labctl.host.doctor.require", lambda *_, **__: ())
    monkeypatch.setattr(network, "install_addon", lambda *_: None)
    monkeypatch.setattr(network, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(network, "ASK_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(nodes, "read_back", lambda *_: None)
    monkeypatch.setattr(readiness, "climb", lambda *_, **__: None)
    monkeypatch.setattr(context, "connect", lambda *_: NoKube())
    monkeypatch.setattr(teardown, "LATE_SECONDS", 0.3)
    monkeypatch.setattr(teardown, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(teardown, "REMOVE_SECONDS", 0.1)


class NoKube:
    def version(self) -> str:
        return "v1.37.2"

    def close(self) -> None:
        pass


def up(docker: Fleet, kind: FakeKind, options: Options = OPTIONS, spec: ClusterSpec = SPEC) -> bringup.Up:
    return bringup.up(spec, options, Quiet(), docker=docker, kind=kind)


def nothing_left(docker: Fleet) -> None:
    assert not docker.there
    assert list(docker.marked) == ["node:image"]
    assert not docker.known_volumes
    assert not journal.path("c").exists()
    assert not lock.held_by("c")
    assert lock.changed_by("c") is None


def fail(error: BaseException) -> Callable[[], None]:
    def then() -> None:
        raise error

    return then


def test_all_steps_are_made_in_their_order_and_written_down(docker: Fleet, kind: FakeKind) -> None:
    done = up(docker, kind)
    assert tuple(done.seconds) == tuple(step.name for step in STEPS if "create" in step.part_of)
    assert done.cluster.owner == mark.marks(docker)["c"].owner
    written = journal.read("c")
    assert written is not None
    assert written.ready
    assert written.containers == ("id-control-plane", "id-worker")
    assert "labels" not in kind.config, "a label that nobody reads would be one more to explain"
    assert up(docker, kind).plan.action == "nothing"


def test_a_machine_that_is_not_ready_ends_it_before_anything_is_made(
    docker: Fleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.host.doctor.require", lambda *_, **__: fail(HostError("not ready"))())
    with pytest.raises(HostError):
        up(docker, kind)
    nothing_left(docker)
    assert not paths.cluster_state("c").exists()


def test_a_late_container_of_a_failed_kind_is_removed_too(docker: Fleet, kind: FakeKind) -> None:
    """F8: the second `docker run` comes to its end after kind has given up."""

    def then() -> None:
        whose = mark.marks(docker)["c"]
        late = docker.node("c-late", "c", "worker", whose)
        del docker.there["c-late"]
        docker.late = [(docker.looks + 8, late)]
        raise CommandFailed(["kind", "create"], 1, "", "ERROR: docker run failed")

    kind.then = then
    with pytest.raises(CommandFailed) as caught:
        up(docker, kind)
    assert caught.value.exit_code == 4
    assert "c-late" in docker.removed
    nothing_left(docker)
    bundle = Path(caught.value.bundle)
    assert bundle.is_dir()
    assert "FAILED  Create 2 node(s)" in (bundle / "trace.txt").read_text()
    assert "docker run failed" in (bundle / "reason.txt").read_text()
    teardown.down("c", Quiet(), docker=docker)
    assert bundle.is_dir(), "deleting the cluster does not delete what explains its end"


def test_an_interrupt_leaves_nothing_and_makes_no_bundle(docker: Fleet, kind: FakeKind) -> None:
    kind.then = fail(KeyboardInterrupt())
    with pytest.raises(Interrupted) as caught:
        up(docker, kind)
    assert caught.value.exit_code == 130
    assert "phase nodes" in caught.value.what
    nothing_left(docker)
    assert not paths.cluster_state("c").exists()


def test_a_second_interrupt_names_the_command_that_deletes(
    docker: Fleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind.then = fail(KeyboardInterrupt())
    monkeypatch.setattr(teardown, "abort", lambda *_, **__: fail(KeyboardInterrupt())())
    with pytest.raises(Interrupted) as caught:
        up(docker, kind)
    assert "labctl down c" in caught.value.next_step
    assert docker.there


def test_what_cannot_be_removed_is_the_error_then_and_the_cause_is_not_lost(
    docker: Fleet, kind: FakeKind
) -> None:
    kind.then = fail(CommandFailed(["kind"], 1, "", "broken"))
    docker.stubborn = {"c-worker"}
    with pytest.raises(CleanupIncomplete) as caught:
        up(docker, kind)
    assert caught.value.leftovers == ("container c-worker",)
    assert "broken" in caught.value.details
    assert (Path(caught.value.bundle) / "reason.txt").exists()


def test_an_interrupt_while_evidence_is_collected_goes_on_to_the_clean_up(
    docker: Fleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind.then = fail(CommandFailed(["kind"], 1, "", "broken"))
    monkeypatch.setattr(bundle, "collect", lambda *_, **__: fail(KeyboardInterrupt())())
    with pytest.raises(CommandFailed, match="kind"):
        up(docker, kind)
    nothing_left(docker)


def test_an_interrupt_while_the_mark_is_made_leaves_no_part_of_it(
    docker: Fleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = mark.put

    def put(to: Fleet, made: Mark) -> None:
        real(to, made)
        raise KeyboardInterrupt

    monkeypatch.setattr(mark, "put", put)
    with pytest.raises(Interrupted):
        up(docker, kind)
    nothing_left(docker)


def test_a_second_look_that_fails_leaves_the_cluster_and_its_files(
    docker: Fleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(docker, kind)
    journal.path("c").unlink()
    kubeconfig = paths.cluster_state("c") / "kubeconfig"
    kubeconfig.write_text("open shells read this")
    before = dict(docker.there)
    monkeypatch.setattr(readiness, "climb", lambda *_, **__: fail(InfrastructureError("dns"))())
    with pytest.raises(InfrastructureError) as caught:
        up(docker, kind)
    assert docker.there == before
    assert kubeconfig.exists()
    assert journal.read("c") is None, "a kill here would not make it an interrupted bring-up"
    assert Path(caught.value.bundle).is_dir()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ImageUnavailable("none")])
def test_a_replacement_that_ends_before_it_deletes_leaves_the_former_cluster_ready(
    docker: Fleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    up(docker, kind)
    before, written = dict(docker.there), journal.path("c").read_text()
    monkeypatch.setattr(nodeimage, "given", lambda *_: fail(error)())
    with pytest.raises((Interrupted, ImageUnavailable)) as caught:
        up(docker, kind, Options(image="node:image", prove=False, replace=True))
    assert docker.there == before
    assert journal.path("c").read_text() == written
    if isinstance(caught.value, Interrupted):
        assert "nothing was changed" in caught.value.next_step


def test_a_replacement_interrupted_while_it_deletes_says_so(
    docker: Fleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(docker, kind)
    monkeypatch.setattr(teardown, "sweep", lambda *_, **__: fail(KeyboardInterrupt())())
    with pytest.raises(Interrupted) as caught:
        up(docker, kind, Options(image="node:image", prove=False, replace=True))
    assert "in part" in caught.value.why
    assert "labctl down c" in caught.value.next_step


def test_the_ruins_stay_on_demand(docker: Fleet, kind: FakeKind) -> None:
    kind.then = fail(CommandFailed(["kind"], 1, "", "broken"))
    with pytest.raises(CommandFailed) as kept:
        up(docker, kind, Options(image="node:image", keep_on_failure=True))
    assert kept.value.kept
    assert len(docker.there) == 2
    with pytest.raises(Conflict, match="failed, and was kept, in phase nodes") as caught:
        up(docker, kind)
    assert "broken" in caught.value.why
    assert "interrupted" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_in_any_phase_is_named_and_cleaned_up_after(
    docker: Fleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """F15."""
    real = files.write
    for at in range(1, len([step for step in STEPS if "create" in step.part_of]) + 2):
        writes = 0

        def write(path: Path, text: str, at: int = at) -> None:
            nonlocal writes
            writes += path.name == "journal.json"
            if writes == at:
                raise files.failed(path, OSError(number, os.strerror(number)))
            real(path, text)

        monkeypatch.setattr(files, "write", write)
        with pytest.raises(WriteFailed) as caught:
            up(docker, kind)
        assert "journal.json" in caught.value.what
        nothing_left(docker)
        monkeypatch.setattr(files, "write", real)


def test_replace_removes_the_old_and_only_the_old(docker: Fleet, kind: FakeKind) -> None:
    docker.cluster(ClusterSpec(name="c", workers=5), owner="old")
    docker.cluster(ClusterSpec(name="other", workers=0))
    with pytest.raises(Conflict, match="another one"):
        up(docker, kind)
    assert not docker.removed
    done = up(docker, kind, Options(image="node:image", prove=False, replace=True))
    assert done.plan.action == "replace"
    assert sorted(docker.there) == ["c-control-plane", "c-worker", "other-control-plane"]


def test_a_rival_s_containers_stay_when_kind_meets_them(docker: Fleet, kind: FakeKind) -> None:
    def then() -> None:
        docker.there.clear()
        docker.node("c-control-plane", "c", "control-plane", Mark("c", "rival", 0, SPEC))
        raise Conflict("nodes of a cluster c exist already")

    kind.then = then
    with pytest.raises(Conflict):
        up(docker, kind)
    assert list(docker.there) == ["c-control-plane"]


def test_a_failed_installation_is_the_error(
    docker: Fleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "install_addon", lambda *_: fail(ImageUnavailable("no flannel"))())
    with pytest.raises(ImageUnavailable):
        up(docker, kind)
    nothing_left(docker)


def test_every_error_of_a_step_keeps_its_own_name(
    docker: Fleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (LabctlError("a"), WriteFailed("b"), ValueError("c")):
        monkeypatch.setattr(readiness, "climb", lambda *_, error=error, **__: fail(error)())
        with pytest.raises(type(error)):
            up(docker, kind)
        nothing_left(docker)
        assert any(str(error) in one.read_text() for one in paths.state_root().glob(".bundles/*/reason.txt"))


def test_the_global_lock_is_held_until_the_docker_network_exists(
    docker: LivingFleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F12: kind would make the network twice; a second bring-up waits until the first one's is there."""
    held: list[bool] = []
    made = threading.Event()
    real = kind.create_cluster

    def create(**more: Any) -> Completed:
        held.append(lock.changed_by(lock.EVERYTHING) is not None)
        made.set()
        released = threading.Event()
        deadline = time.monotonic() + 10
        while lock.changed_by(lock.EVERYTHING) and time.monotonic() < deadline:
            released.wait(0.01)
        held.append(lock.changed_by(lock.EVERYTHING) is not None)
        return real(**more)

    monkeypatch.setattr(kind, "create_cluster", create)
    there = docker.network("kind")
    monkeypatch.setattr(docker, "network", lambda _: there if made.is_set() else None)
    up(docker, kind)
    assert held == [True, False]


def test_a_docker_network_that_is_there_needs_no_waiting(docker: LivingFleet, kind: FakeKind) -> None:
    others: list[bool] = []

    def then() -> None:
        with lock.everything():
            others.append(True)

    kind.then = then
    up(docker, kind)
    assert others == [True]


@pytest.mark.parametrize("what", ["nodes", "mark"])
def test_a_rival_of_another_machine_that_came_first_keeps_all_it_has(
    docker: Fleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """D2: whoever shares the daemon but not our locks may have made the cluster while the image was looked for."""
    real = nodeimage.given

    def given(to: Fleet, name: str) -> Any:
        rival = docker.cluster(SPEC, owner="rival")
        if what == "mark":
            docker.there.clear()
        docker.create_volume("labctl-shared-c", {mark.OWNER: rival.owner})
        return real(to, name)

    monkeypatch.setattr(nodeimage, "given", given)
    with pytest.raises(Conflict, match="made a cluster c meanwhile"):
        up(docker, kind)
    assert mark.marks(docker)["c"].owner == "rival"
    assert set(docker.known_volumes) == {"labctl-shared-c"}
    assert len(docker.there) == (2 if what == "nodes" else 0)
    assert not docker.removed
    assert journal.read("c") is None


def test_the_mark_says_who_made_the_cluster(docker: Fleet, kind: FakeKind) -> None:
    up(docker, kind)
    assert mark.marks(docker)["c"].user == mark.me()
    assert mark.marks(docker)["c"].is_mine


def test_the_lock_is_held_alone_while_it_is_made_and_handed_on_without_a_gap(
    docker: Fleet, kind: FakeKind
) -> None:
    at_work: list[str | None] = []
    kind.then = lambda: at_work.append(lock.changed_by("c"))
    done = bringup.up(SPEC, OPTIONS, Quiet(), docker=docker, kind=kind, keep_lock=True)
    assert at_work[0] is not None
    assert done.lock is not None
    with done.lock, pytest.raises(Conflict, match="in use"):
        teardown.down("c", Quiet(), docker=docker)
    assert lock.held_by("c") == ()
    again = bringup.up(SPEC, OPTIONS, Quiet(), docker=docker, kind=kind, keep_lock=True)
    assert (again.plan.action, len(lock.held_by("c"))) == ("nothing", 1)
    assert again.lock is not None
    teardown.down("c", Quiet(), docker=docker, held=again.lock)
    again.lock.release()
    nothing_left(docker)


# --- the step beside kind


def wait_for(event: threading.Event) -> None:
    assert event.wait(10), "it never came"


def test_addons_are_installed_while_kind_is_at_work(
    docker: LivingFleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = threading.Event()
    monkeypatch.setattr(network, "install_addon", lambda *_: installed.set())
    kind.then = lambda: wait_for(installed)
    heard = Listener()
    done = bringup.up(SPEC, OPTIONS, heard, docker=docker, kind=kind)
    assert heard.done.index("Install CNI flannel") < heard.done.index("Create 2 node(s)")
    assert done.total >= done.seconds["nodes"]


def test_nothing_is_installed_before_the_api_server_answers(
    docker: LivingFleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.answers = False
    asked = threading.Event()
    real = docker.exec

    def exec_(container: str, argv: Sequence[str], **more: Any) -> Completed:
        if len(docker.asked) >= 2:
            asked.set()
        return real(container, argv, **more)

    monkeypatch.setattr(docker, "exec", exec_)
    answered: list[bool] = []
    monkeypatch.setattr(network, "install_addon", lambda *_: answered.append(docker.answers))

    def then() -> None:
        wait_for(asked)
        assert not answered
        docker.answers = True

    kind.then = then
    up(docker, kind)
    assert answered == [True, True]


def test_an_addon_that_cannot_be_installed_ends_kind_and_is_the_error(
    docker: LivingFleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kind would go on for minutes; its own end is no news then, and the phase is the one that failed."""
    monkeypatch.setattr(network, "install_addon", lambda *_: fail(ImageUnavailable("no flannel"))())
    real = kind.create_cluster
    ended: list[bool] = []

    def create(*, cancel: threading.Event, **more: Any) -> Completed:
        real(**more)
        ended.append(cancel.wait(10))
        raise Interrupted

    monkeypatch.setattr(kind, "create_cluster", create)
    with pytest.raises(ImageUnavailable, match="no flannel") as caught:
        up(docker, kind)
    assert ended == [True]
    assert '"phase": "network"' in (Path(caught.value.bundle) / "journal.json").read_text()
    nothing_left(docker)


def test_kind_s_own_failure_ends_the_wait_for_the_api_server(docker: LivingFleet, kind: FakeKind) -> None:
    docker.answers = False
    kind.then = fail(CommandFailed(["kind"], 1, "", "kubeadm gave up"))
    with pytest.raises(CommandFailed, match="kind"):
        up(docker, kind)
    nothing_left(docker)
    assert not [one for one in threading.enumerate() if one.daemon and one is not threading.current_thread()]


def test_another_s_node_of_the_same_name_is_never_entered(
    docker: LivingFleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(**_: Any) -> Completed:
        docker.node("c-control-plane", "c", "control-plane", Mark("c", "rival", 0, SPEC))
        looked.clear()
        wait_for(looked)
        entered.extend(docker.asked)  # what is asked later is evidence
        raise Conflict("nodes of a cluster c exist already")

    def containers(labels: Any = ()) -> list[Container]:
        found = real(labels)
        looked.set()
        return found

    entered: list[str] = []
    looked, real = threading.Event(), docker.containers
    monkeypatch.setattr(docker, "containers", containers)
    monkeypatch.setattr(kind, "create_cluster", create)
    with pytest.raises(Conflict):
        up(docker, kind)
    assert entered == []
    assert list(docker.there) == ["c-control-plane"]


def test_an_interrupt_ends_kind_in_its_thread(
    docker: LivingFleet, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal reaches the main thread alone."""
    real = kind.create_cluster
    begun, ended = threading.Event(), threading.Event()

    def create(*, cancel: threading.Event, **more: Any) -> Completed:
        real(**more)
        begun.set()
        assert cancel.wait(10)
        ended.set()
        raise Interrupted

    def interrupted(*_: Any) -> None:
        wait_for(begun)
        raise KeyboardInterrupt

    monkeypatch.setattr(kind, "create_cluster", create)
    monkeypatch.setattr(Background, "finish", interrupted)
    with pytest.raises(Interrupted) as caught:
        up(docker, kind)
    assert ended.is_set()
    assert "phase nodes" in caught.value.what
    nothing_left(docker)


def test_every_step_says_what_the_runner_must_know() -> None:
    names = [step.name for step in STEPS]
    assert len(set(names)) == len(names)
    for at, step in enumerate(STEPS):
        assert not step.beside or step.beside in names[:at], "it is waited for after the one it runs beside"
    changing = [step.name for step in STEPS if step.changes != "nothing"]
    assert changing == names[names.index("clear") : names.index("readiness")]
    assert [step.name for step in STEPS if "verify" in step.part_of] == ["readiness", "proof"]

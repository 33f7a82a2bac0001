"""One classification of a cluster for `up`, `status` and `ls`, told without changing a file (D1, D2, D3, I1, I15)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl import paths
from labctl.cluster import bundle, condition, journal, lock, mark, running, status, teardown
from labctl.cluster.condition import look, usable
from labctl.cluster.journal import Journal
from labctl.cluster.mark import Mark
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import plan
from labctl.errors import ClusterNotFound, Conflict, LabctlError, StateUnusable, UsageError
from labctl.progress import Quiet
from tests.unit.fakes.fleet import Fleet

SPEC = ClusterSpec(name="c", workers=2)
IDS = ("id-c-control-plane", "id-c-worker", "id-c-worker2")
NO_NAMES = ["../../../x/proj/yarn", "..", "a/b", "C", "1.2", "x" * 33, ""]


@pytest.fixture
def docker() -> Fleet:
    return Fleet()


def written(phase: str = journal.READY, owner: str = "0wner", ids: tuple[str, ...] = IDS) -> Journal:
    return Journal("c", owner, phase, SPEC, 99, "labctl up c", "2026-01-01T00:00:00+00:00", ids)


def kept() -> Journal:
    return Journal("c", "0wner", "nodes", SPEC, 99, "labctl up c", "x", IDS, failed="kind: broken")


def everything_in(place: Path) -> dict[str, tuple[int, int, bytes]]:
    """All files and directories below, with mode, time of change and content."""
    found = {}
    for one in sorted(place.rglob("*")):
        seen = one.lstat()
        found[str(one)] = (seen.st_mode, seen.st_mtime_ns, one.read_bytes() if one.is_file() else b"")
    return found


# --- the classification


def nothing(_: Fleet) -> None:
    pass


def ready(docker: Fleet) -> None:
    docker.cluster(SPEC)
    journal.write(written())


def unproven(docker: Fleet) -> None:
    docker.cluster(SPEC)


def interrupted(docker: Fleet) -> None:
    docker.cluster(SPEC)
    journal.write(written("nodes"))


def failed(docker: Fleet) -> None:
    docker.cluster(SPEC)
    journal.write(kept())


def stopped(docker: Fleet) -> None:
    whose = docker.cluster(SPEC)
    journal.write(written())
    docker.node("c-worker", "c", "worker", whose, "exited")


def node_gone(docker: Fleet) -> None:
    docker.cluster(SPEC)
    del docker.there["c-worker"]


def all_gone(docker: Fleet) -> None:
    docker.put_mark(Mark("c", "0wner", 0, SPEC))


def newer(_: Fleet) -> None:
    journal.write(written())
    journal.path("c").write_text(json.dumps({"schema": journal.SCHEMA + 1}))


def plain(docker: Fleet) -> None:
    docker.cluster(SPEC, ours=False)


CASES: list[tuple[Callable[[Fleet], None], str, str]] = [
    (nothing, "absent", "create"),
    (ready, "running", "nothing"),
    (unproven, "running", "verify"),
    (interrupted, "interrupted", "was interrupted in phase nodes"),
    (failed, "failed", "failed, and was kept, in phase nodes"),
    (stopped, "broken", "1 node(s) of cluster c do not run"),
    (node_gone, "broken", "1 node(s) of cluster c do not run"),
    (all_gone, "broken", "3 node(s) of cluster c do not run"),
    (newer, "unusable", "newer labctl"),
    (plain, "foreign", "was not made by labctl"),
]


@pytest.mark.parametrize(("make", "state", "planned"), CASES)
def test_every_command_uses_one_classification(
    make: Callable[[Fleet], None], state: str, planned: str, docker: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(docker)
    assert look("c", docker).state == state
    assert [one.state for one in status.every(docker)] == ([] if make is nothing else [state])
    if state not in {"absent", "running", "foreign"} and make is not all_gone:
        assert status.status("c", docker).state == state
    try:
        decided = plan.decide(SPEC, docker).action
    except LabctlError as refused:
        decided = refused.what  # type: ignore[assignment]  # a sentence instead
        assert look("c", docker).trouble is not None
    assert planned in decided


@pytest.mark.parametrize("make", [ready, interrupted, stopped, plain])
def test_what_another_labctl_changes_is_at_work_whatever_else_it_is(
    make: Callable[[Fleet], None], docker: Fleet
) -> None:
    make(docker)
    with lock.changing("c"):
        assert look("c", docker).state == "working"
        assert [one.state for one in status.every(docker)] == ["working"]
        seen = status.status("c", docker)
        assert (seen.state, seen.exit_code) == ("working", 0)
        assert str(os.getpid()) in seen.said
        assert look("c", docker, locked=True).state != "working"
    with lock.using("c"):
        assert look("c", docker).state != "working"


def test_a_cluster_that_failed_and_was_kept_says_so_everywhere(docker: Fleet) -> None:
    failed(docker)
    seen = status.status("c", docker)
    assert (seen.state, seen.exit_code, seen.phase) == ("failed", 7, "nodes")
    assert "kind: broken" in seen.said
    assert "labctl down c" in seen.next_step


def test_a_cluster_without_a_kubeconfig_says_why(docker: Fleet) -> None:
    interrupted(docker)
    with pytest.raises(StateUnusable, match="in phase nodes"):
        usable("c", docker)


# --- a journal is believed when it fits what is there


@pytest.mark.parametrize(
    "stale",
    [written(owner="former"), written(ids=("id-of-another",)), written("proof", owner="former")],
    ids=["another owner", "other containers", "unfinished, another owner"],
)
def test_a_journal_of_a_former_cluster_is_not_believed(stale: Journal, docker: Fleet) -> None:
    """I15: deleted and made anew from another state directory, seconds before that one's proof ended."""
    docker.cluster(SPEC)
    journal.write(stale)
    seen = look("c", docker)
    assert (seen.state, seen.proven, seen.journal) == ("running", False, None)
    assert plan.decide(SPEC, docker).action == "verify"


def test_a_ready_journal_of_what_is_gone_altogether_says_nothing(docker: Fleet) -> None:
    journal.write(written())
    assert look("c", docker).state == "absent"
    assert plan.decide(SPEC, docker).action == "create"


def test_a_bring_up_that_ended_before_it_made_anything_is_known_by_its_journal(docker: Fleet) -> None:
    journal.write(written("image", ids=()))
    assert look("c", docker).state == "interrupted"


# --- a name that is none never becomes a path


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_becomes_no_path(name: str) -> None:
    for make in (paths.cluster_state, journal.path, journal.read, journal.delete_directory, bundle.place):
        with pytest.raises(UsageError):
            make(name)


@pytest.mark.parametrize("name", NO_NAMES[:-1])
def test_a_container_s_label_leads_nowhere(name: str, docker: Fleet, tmp_path: Path) -> None:
    """D1: `labctl ls` deleted, renamed and chmodded files outside the state directory."""
    victim = (paths.state_root() / name).resolve()
    assert victim.is_relative_to(tmp_path)
    victim.mkdir(parents=True)
    (victim / "journal.json").write_text("[]")
    (victim / "kubeconfig").write_text("mine")
    victim.chmod(0o755)
    docker.node("box", name, "control-plane", None)
    docker.node("marked", name, "worker", Mark(name, "0wner", 0, SPEC))
    before = everything_in(tmp_path)
    (listed,) = status.every(docker)
    assert (listed.name, listed.state, listed.nodes) == (name, "foreign", 2)
    with pytest.raises(ClusterNotFound):
        status.status(name, docker)
    with pytest.raises(UsageError):
        teardown.down(name, Quiet(), docker=docker, force=True)
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("make", [make for make, _, _ in CASES])
def test_looking_changes_no_file(make: Callable[[Fleet], None], docker: Fleet, tmp_path: Path) -> None:
    make(docker)
    place = journal.path("other")
    place.parent.mkdir(parents=True, mode=0o755)
    place.write_text("{")
    before = everything_in(tmp_path)
    status.every(docker)
    look("c", docker)
    look("other", docker)
    assert everything_in(tmp_path) == before


# --- whose it is


def theirs(docker: Fleet) -> Mark:
    made = docker.cluster(SPEC)
    other = Mark("c", "0wner", 0, SPEC, made.node_image, user="4711:alice")
    docker.put_mark(other)
    for name, one in list(docker.there.items()):
        docker.node(name, "c", one.labels[mark.KIND_ROLE], other)
    return other


def test_another_user_s_cluster_is_used_but_not_deleted(docker: Fleet) -> None:
    theirs(docker)
    assert plan.decide(SPEC, docker).action == "verify"
    for act in (
        lambda: teardown.down("c", Quiet(), docker=docker),
        lambda: plan.decide(SPEC, docker, replace=True),
    ):
        with pytest.raises(Conflict, match="4711:alice") as caught:
            act()
        assert "--force" in caught.value.next_step
    assert not docker.removed
    assert status.names(docker) == (), "`down --all` is for one's own"
    assert plan.decide(SPEC, docker, replace=True, force=True).action == "replace"
    teardown.down("c", Quiet(), docker=docker, force=True)
    assert not docker.there


def test_the_mark_alone_says_whose_a_cluster_without_nodes_is(docker: Fleet) -> None:
    docker.put_mark(Mark("c", "0wner", 0, SPEC, user="4711:alice"))
    with pytest.raises(Conflict):
        teardown.down("c", Quiet(), docker=docker)
    docker.put_mark(Mark("c", "0wner", 0, SPEC, user=mark.me()))
    assert teardown.down("c", Quiet(), docker=docker).found


def test_a_mark_counts_for_its_own_cluster_only(docker: Fleet) -> None:
    """D3: `kind create cluster --image labctl/cluster:c --name other` is not labctl's."""
    mine = docker.cluster(SPEC)
    docker.node("other-control-plane", "other", "control-plane", mine)
    assert look("other", docker).state == "foreign"
    with pytest.raises(Conflict, match="not made by labctl"):
        teardown.down("other", Quiet(), docker=docker)
    assert running.find("other", docker=docker).owner == ""
    image = docker.marked.pop(mine.image)
    docker.marked["labctl/cluster:other"] = type(image)(
        image.id, ("labctl/cluster:other", "mine:1"), (), image.labels, 1
    )
    assert mark.marks(docker) == {}, "an image that has another name marks nothing"


UP = """
import sys
from labctl.cluster import lock
with lock.changing("c"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_of_two_bring_ups_from_two_state_directories_one_is_refused_and_removes_nothing(
    docker: Fleet, tmp_path: Path
) -> None:
    """I1: each removed the other's; no mark, no volume, no node was left."""
    ready(docker)
    docker.create_volume("labctl-shared-c", {})
    env = {
        **os.environ,
        "XDG_STATE_HOME": str(tmp_path / "other"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    child = subprocess.Popen(
        [sys.executable, "-c", UP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    )
    assert child.stdout
    assert child.stdout.readline()
    before = (dict(docker.there), dict(docker.marked), dict(docker.known_volumes))
    with pytest.raises(Conflict, match="another labctl works on cluster c"):
        plan.claim(SPEC, docker)
    with pytest.raises(Conflict):
        plan.claim(SPEC, docker, replace=True)
    with pytest.raises(Conflict):
        teardown.down("c", Quiet(), docker=docker)
    assert (docker.there, docker.marked, docker.known_volumes) == before
    child.communicate()
    assert journal.read("c") == written()


def test_a_running_cluster_may_be_asked_for_beside_labs_and_not_replaced(docker: Fleet) -> None:
    ready(docker)
    with lock.using("c", what="lab 9"):
        hold, planned = plan.claim(SPEC, docker)
        with hold:
            assert planned.action == "nothing"
            lock.using("c").release()
        for act in (
            lambda: plan.claim(SPEC, docker, replace=True),
            lambda: teardown.down("c", Quiet(), docker=docker),
        ):
            with pytest.raises(Conflict, match="lab 9"):
                act()
    assert not docker.removed


def test_what_is_made_is_made_alone(docker: Fleet) -> None:
    hold, planned = plan.claim(SPEC, docker)
    with hold:
        assert planned.action == "create"
        with pytest.raises(Conflict):
            plan.claim(SPEC, docker)


def test_only_the_look_under_the_lock_counts(docker: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look and the lock another's cluster came up, or went."""
    real = lock.changing

    def late(name: str) -> lock.Hold:
        ready(docker)
        return real(name)

    monkeypatch.setattr(lock, "changing", late)
    hold, planned = plan.claim(SPEC, docker)
    with hold:
        assert planned.action == "nothing"
        lock.using("c").release()
    monkeypatch.undo()


def test_names_of_this_user_s_clusters_are_those_of_marks_and_journals(docker: Fleet) -> None:
    docker.cluster(SPEC)
    (paths.state_root() / ".bundles").mkdir(parents=True)
    (paths.state_root() / ".bundles" / "journal.json").write_text("{}")
    (paths.state_root() / "begun").mkdir()
    (paths.state_root() / "begun" / "journal.json").write_text("{}")
    assert condition.begun() == {"begun"}
    assert status.names(docker) == ("begun", "c")

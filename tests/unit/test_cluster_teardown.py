"""Deleting: only what is ours, until nothing comes back (F8, F13, F16)."""

from __future__ import annotations

import pytest

from labctl import paths
from labctl.cluster import journal, teardown
from labctl.cluster.journal import Journal
from labctl.cluster.mark import Mark
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import plan
from labctl.errors import CleanupIncomplete, Conflict, NodeDown
from labctl.progress import Quiet
from tests.unit.fakes.fleet import Fleet

SPEC = ClusterSpec(name="c", workers=2)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other at once."""
    monkeypatch.setattr(teardown, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(teardown, "REMOVE_SECONDS", 0.1)


@pytest.fixture
def docker() -> Fleet:
    return Fleet()


def test_down_leaves_nothing_and_can_be_repeated(docker: Fleet) -> None:
    docker.cluster(SPEC)
    docker.cluster(ClusterSpec(name="other"))
    journal.write(written(journal.READY))
    first = teardown.down("c", Quiet(), docker=docker)
    assert first.containers == ("c-control-plane", "c-worker", "c-worker2")
    assert {one.split("-")[0] for one in docker.there} == {"other"}
    assert list(docker.marked) == ["labctl/cluster:other"]
    assert not paths.cluster_state("c").exists()
    again = teardown.down("c", Quiet(), docker=docker)
    assert not again.found


def test_a_cluster_of_plain_kind_is_never_touched_without_force(docker: Fleet) -> None:
    docker.cluster(SPEC, ours=False)
    with pytest.raises(Conflict) as caught:
        teardown.down("c", Quiet(), docker=docker)
    assert "kind delete cluster" in caught.value.next_step
    assert len(docker.there) == 3
    assert not docker.removed
    with pytest.raises(Conflict):
        plan.decide(SPEC, docker)
    with pytest.raises(Conflict):
        plan.decide(SPEC, docker, replace=True)
    assert plan.decide(SPEC, docker, replace=True, force=True).action == "replace"
    teardown.down("c", Quiet(), docker=docker, force=True)
    assert not docker.there


def test_an_abort_takes_its_own_and_no_one_else_s(docker: Fleet) -> None:
    mine = docker.cluster(SPEC, owner="a1")
    theirs = Mark("c", "b2", 0, SPEC)
    docker.node("c-worker2", "c", "worker", theirs)
    teardown.abort(docker, mine, settle=0.0)
    assert list(docker.there) == ["c-worker2"]


def test_late_containers_are_swept_until_none_comes(docker: Fleet) -> None:
    mine = docker.cluster(SPEC)
    late = docker.node("c-late", "c", "worker", mine)
    del docker.there["c-late"]
    docker.late = [(6, late)]
    teardown.abort(docker, mine, settle=0.3)
    assert not docker.there
    assert "c-late" in docker.removed


def test_the_clock_of_the_sweep_starts_anew_with_each_late_container(docker: Fleet) -> None:
    mine = docker.cluster(SPEC)
    docker.late = [(at, docker.node(f"c-late{at}", "c", "worker", mine)) for at in (10, 20, 30)]
    for at in (10, 20, 30):
        del docker.there[f"c-late{at}"]
    teardown.sweep(docker, "c", owner=mine.owner, settle=0.25)
    assert not docker.there


def test_kind_s_load_balancer_goes_with_its_nodes_and_stays_with_foreign_ones(docker: Fleet) -> None:
    mine = docker.cluster(ClusterSpec(name="c", control_planes=3))
    docker.node("c-external-load-balancer", "c", "external-load-balancer", None)
    teardown.sweep(docker, "c", owner=mine.owner)
    assert not docker.there
    docker.cluster(ClusterSpec(name="c", control_planes=3), ours=False)
    docker.node("c-external-load-balancer", "c", "external-load-balancer", None)
    assert teardown.sweep(docker, "c", owner=None) == set()


def test_docker_may_take_its_time_to_remove_a_container(
    docker: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `docker rm` that was cut short goes on in the daemon, which refuses a second one meanwhile."""
    docker.cluster(SPEC)
    real = docker.remove
    tried = []

    def slow(*names: str) -> None:
        tried.append(names)
        if len(tried) > 5:
            real(*names)

    monkeypatch.setattr(docker, "remove", slow)
    monkeypatch.setattr(teardown, "REMOVE_SECONDS", 5.0)
    teardown.down("c", Quiet(), docker=docker)
    assert not docker.there


def test_what_cannot_be_removed_is_listed(docker: Fleet) -> None:
    docker.cluster(SPEC)
    docker.stubborn = {"c-worker"}
    with pytest.raises(CleanupIncomplete) as caught:
        teardown.down("c", Quiet(), docker=docker)
    assert caught.value.exit_code == 8
    assert caught.value.leftovers == ("container c-worker",)


# --- the plan


def written(phase: str, spec: ClusterSpec = SPEC) -> Journal:
    return Journal("c", "0wner", phase, spec, 99, "labctl up c", "2026-01-01T00:00:00+00:00")


def test_nothing_there_means_create(docker: Fleet) -> None:
    assert plan.decide(SPEC, docker).action == "create"
    assert plan.decide(SPEC, docker, replace=True).action == "create"


def test_the_same_means_nothing_to_do_and_without_a_record_to_look_again(docker: Fleet) -> None:
    docker.cluster(SPEC)
    assert plan.decide(SPEC, docker).action == "verify"
    journal.write(written(journal.READY))
    assert plan.decide(SPEC, docker).action == "nothing"
    assert plan.decide(SPEC, docker, replace=True).action == "replace"


def test_another_spec_is_refused_with_the_difference(docker: Fleet) -> None:
    docker.cluster(SPEC)
    journal.write(written(journal.READY))
    with pytest.raises(Conflict) as caught:
        plan.decide(ClusterSpec(name="c", workers=3, load_balancer="none"), docker, image="mine:1")
    assert caught.value.exit_code == 6
    for words in ("workers: 3 asked for, 2 there", "loadBalancer: none asked for", "mine:1 asked for"):
        assert words in caught.value.why
    assert len(docker.there) == 3


@pytest.mark.parametrize("phase", ["doctor", "image", "nodes", "network", "readiness", "proof"])
def test_an_interrupted_bring_up_is_refused_without_replace(docker: Fleet, phase: str) -> None:
    journal.write(written(phase))
    with pytest.raises(Conflict) as caught:
        plan.decide(SPEC, docker)
    assert phase in caught.value.what
    assert "--replace" in caught.value.next_step
    assert "99" in caught.value.why
    assert plan.decide(SPEC, docker, replace=True).action == "replace"


@pytest.mark.parametrize(
    ("change", "words", "step"),
    [
        ("stop", "c-worker exited", "docker start c-worker"),
        ("pause", "c-worker is paused", "docker unpause c-worker"),
        ("remove", "c-worker is gone", "labctl down c"),
    ],
)
def test_nodes_that_do_not_run_are_named(docker: Fleet, change: str, words: str, step: str) -> None:
    whose = docker.cluster(SPEC)
    if change == "remove":
        del docker.there["c-worker"]
    else:
        docker.node("c-worker", "c", "worker", whose, {"stop": "exited", "pause": "paused"}[change])
    with pytest.raises(NodeDown) as caught:
        plan.decide(SPEC, docker)
    assert words in caught.value.why
    assert step in caught.value.next_step


def test_all_containers_gone_is_known_from_the_mark(docker: Fleet) -> None:
    docker.put_mark(Mark("c", "0wner", 0, SPEC))
    with pytest.raises(NodeDown) as caught:
        plan.decide(SPEC, docker)
    assert "c-control-plane is gone" in caught.value.why
    assert teardown.down("c", Quiet(), docker=docker).found
    assert not docker.marked

"""Bundles: they explain a failure and hold no secret."""

from __future__ import annotations

import base64
import errno
import gzip
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from labctl.cluster import bundle, cleaning, journal, secretforms
from labctl.cluster.journal import Journal
from labctl.cluster.spec import ClusterSpec
from labctl.errors import WriteFailed
from labctl.process import Completed
from labctl.tools.kind import Kind
from tests.unit.fakes.fleet import Fleet

CANARIES = {
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nCANARYKEY\nMORE\n-----END RSA PRIVATE KEY-----",
    "cut private key": "-----BEGIN EC PRIVATE KEY-----\nCANARYCUT",
    "service account token": "Bearer eyJhbGciOiJSUzI1NiJ9.eyJDQU5BUlkiOjF9.CANARYSIGNATURE",
    "bootstrap token": "kubeadm join --token canary.0123456789abcdef",
    "kubeconfig": f"client-key-data: {base64.b64encode(b'CANARYCANARYCANARY').decode()}",
    "certificate key": "--certificate-key 0123CANARY4567890abcdef",
    "password": 'password = "CANARY-0123456789abcdef"',
}


@pytest.fixture(autouse=True)
def short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cut is cut at the same place of any size; 16 MiB of x only cost time."""
    monkeypatch.setattr(cleaning, "TEXT_MOST", 256 * 1024)


class LoggingKind(Kind):
    """A kind whose exported logs hold what they should not."""

    def __init__(self) -> None:
        super().__init__("no-kind-here")

    def export_logs(self, name: str, directory: Path) -> Completed:
        (directory / "node").mkdir(parents=True)
        (directory / "node" / "kubelet.log").write_text("".join(f"{one}\n" for one in CANARIES.values()))
        (directory / "node" / "big.log").write_bytes(b"x" * (cleaning.TEXT_MOST + 100) + b"\nthe end\n")
        for name in ("admin.conf", "kubeconfig", "apiserver.key"):
            (directory / "node" / name).write_text("CANARY")
        (directory / "link").symlink_to("/etc/passwd")
        return Completed(("kind",), 0, "", "", 0.1)


def test_a_bundle_explains_itself_and_holds_no_canary(tmp_path: Path) -> None:
    docker = Fleet()
    docker.cluster(ClusterSpec(name="c"))
    spec = ClusterSpec(name="c")
    journal.write(
        Journal("c", "0wner", "nodes", spec, 1, f"labctl up --x={CANARIES['service account token']}", "now")
    )
    place = bundle.collect(
        "c", f"it broke: {CANARIES['password']}", tmp_path / "b",
        docker=docker, kind=LoggingKind(), trace=[CANARIES["bootstrap token"], "kind: Starting control-plane"],
    )  # fmt: skip
    everything = {path: path.read_text("utf-8", "replace") for path in place.rglob("*") if path.is_file()}
    assert "it broke" in everything[place / "reason.txt"]
    assert "Starting control-plane" in everything[place / "trace.txt"]
    assert '"phase": "nodes"' in everything[place / "journal.json"]
    assert "c-worker" in everything[place / "containers.txt"]
    assert "nodes.txt" in everything[place / "missing.txt"], "kubectl did not run, and that is said"
    assert everything[place / "kind" / "node" / "big.log"].endswith("the end\n")
    for path, text in everything.items():
        assert "CANARY" not in text, path
        assert "0123456789abcdef" not in text, path
    assert not list(place.rglob("*.key")) + list(place.rglob("admin.conf")) + list(place.rglob("kubeconfig"))
    assert not any(path.is_symlink() for path in place.rglob("*"))
    assert place.stat().st_mode & 0o777 == 0o700


def test_an_interrupted_bundle_holds_no_canary_either(tmp_path: Path) -> None:
    class Interrupted(LoggingKind):
        def export_logs(self, name: str, directory: Path) -> Completed:
            super().export_logs(name, directory)
            raise KeyboardInterrupt

    docker = Fleet()
    docker.cluster(ClusterSpec(name="c"))
    with pytest.raises(KeyboardInterrupt):
        bundle.collect("c", "why", tmp_path / "b", docker=docker, kind=Interrupted())
    logs = [one for one in (tmp_path / "b").rglob("*") if one.is_file()]
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith((".b", "b"))] == ["b"]
    assert any("kind" in one.parts for one in logs)
    assert not [one for one in logs if "CANARY" in one.read_text("utf-8", "replace")]


def test_a_bundle_is_made_although_docker_is_gone(tmp_path: Path) -> None:
    class Dead(Fleet):
        def containers(self, labels: Any = ()) -> Any:
            from labctl.errors import DockerUnreachable

            raise DockerUnreachable("no docker daemon answers")

    place = bundle.collect("c", "it broke", tmp_path / "b", docker=Dead(), kind=LoggingKind())
    assert (place / "reason.txt").read_text() == "it broke\n"


# --- what a cluster of somebody's making leaves in kind's export


TEN = {
    "bearer": "Authorization: Bearer CANARY0bearer0123456789",
    "jwt": "eyJhbGciOiJSUzI1NiJ9.eyJDQU5BUlkiOjF9.CANARYSIGNATURE",
    "url": "https://user:CANARYurl@registry.example/v2/",
    "proxy": "HTTPS_PROXY=http://user:CANARYproxy@proxy.example:3128",
    "kubeconfig": "    token: CANARYkubeconfig",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\\nCANARYpem\\n-----END RSA PRIVATE KEY-----",
    "certificate key": "--certificate-key 0123CANARY4567890abcdef",
    "docker": '{"auths":{"r.example":{"auth":"CANARYauth"}}}',
    "aws": "AKIA0123CANARY012345",
    "secret": '{"kind":"Secret","data":{"x":"CANARYsecretdata"}}',
}


class HostileKind(Kind):
    """A kind whose export holds what a hostile pod can put there."""

    def __init__(self) -> None:
        super().__init__("no-kind-here")

    def export_logs(self, name: str, directory: Path) -> Completed:
        plant(directory)
        return Completed(("kind",), 0, "", "", 0.1)


def plant(directory: Path) -> None:
    """Canaries of ten forms in every place that one can think of, and places in which no search can be made."""
    secrets = "\n".join(TEN.values())
    pods = directory / "node" / "pods" / "room_pod_0"
    for name in ("kubeconfig", "admin.conf", "x.key", "x.pem"):  # containers may be called so
        (pods / name).mkdir(parents=True)
        (pods / name / "0.log").write_text(secrets)
    (pods / "kubeconfig" / "kubeconfig").write_text("CANARY")
    (pods / "odd\n\x1b name").write_text(secrets)
    (pods / os.fsdecode(b"\xff\xfe")).write_text(secrets)
    (pods / "long.log").write_text(" ".join(TEN.values()) + "y" * 1_000_000 + " CANARY\nnext line\n")
    for number, form in enumerate(TEN.values()):
        (pods / f"repeated-{number}.log").write_text(f"{form} " * (1_000_000 // len(form)))
        (pods / f"seam-{number}.log").write_text(pieces("x" * 100 + " " + form + " end", 7))
    (pods / "tail.log").write_text(TEN["proxy"] + "z" * cleaning.TEXT_MOST + "\n" + secrets + "\nthe end\n")
    (pods / "rotated.log.gz").write_bytes(gzip.compress(secrets.encode()))
    (pods / "wide.log").write_text(secrets, "utf-16")
    (pods / "secret.log").write_text(secrets)
    os.link(pods / "secret.log", pods / "second-name.log")
    (pods / "link.log").symlink_to(pods / "secret.log")
    (pods / "loop").symlink_to(pods)
    os.mkfifo(pods / "pipe.log")
    (pods / "closed").mkdir()
    (pods / "closed" / "0.log").write_text(secrets)
    (pods / "closed" / "0.log").chmod(0)
    (pods / "closed").chmod(0)


def pieces(text: str, size: int) -> str:
    """A line of a container as its runtime writes it, which cuts long ones; here into pieces of ``size``."""
    head = "2026-11-28T18:58:57.123456789Z stdout"
    cut = [text[at : at + size] for at in range(0, len(text), size)]
    return "".join(f"{head} P {one}\n" for one in cut[:-1]) + f"{head} F {cut[-1]}\n"


def contents(place: Path) -> dict[str, str]:
    return {
        str(one.relative_to(place)): one.read_text("utf-8", "replace")
        for one in place.rglob("*")
        if one.is_file()
    }


def test_a_hostile_pod_s_bundle_takes_seconds_and_holds_no_canary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "TEXT_MOST", 4 * 1024 * 1024)  # so that a line of a megabyte is searched
    docker = Fleet()
    docker.cluster(ClusterSpec(name="c"))
    started = time.process_time()
    place = bundle.collect("c", "it broke", tmp_path / "b", docker=docker, kind=HostileKind())
    assert time.process_time() - started < 20, "it takes less than two"
    found = contents(place)
    for path, text in found.items():
        assert "CANARY" not in text, path
        assert "eyJ" not in text, path
    for one in place.rglob("*"):
        assert one.is_file() or one.is_dir()
        assert not one.is_symlink()
        assert one.stat().st_mode & 0o077 == 0
    logs = "kind/node/pods/room_pod_0"
    assert secretforms.GONE in found[f"{logs}/kubeconfig/0.log"], "a directory may be called so"
    assert "next line" in found[f"{logs}/long.log"]
    assert len(found[f"{logs}/repeated-2.log"]) > cleaning.LINE_MOST // 3, "it was searched, not left out"
    assert "bytes left out" in found[f"{logs}/repeated-2.log"]
    assert found[f"{logs}/tail.log"].startswith("[beginning left out]\n")
    assert found[f"{logs}/tail.log"].endswith("the end\n")
    assert found[f"{logs}/seam-0.log"].endswith(" end\n")
    assert found[f"{logs}/closed/0.log"]
    for gone in (
        "kubeconfig/kubeconfig: ",
        "rotated.log.gz: no text",
        "pipe.log: not a plain file",
        "wide.log",
    ):
        assert gone in found["deleted.txt"]
    assert [one.name for one in tmp_path.iterdir() if "b" in one.name] == ["b"]


def test_beyond_a_bound_of_all_files_the_rest_goes_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "WHOLE_MOST", 25)
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("0123456789")
    assert cleaning.clean(tmp_path) == ("c: too much altogether",)
    assert sorted(contents(tmp_path)) == ["a", "b"]


def test_nothing_has_the_bundle_s_name_before_it_is_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    whole = cleaning.clean

    def clean(directory: Path) -> tuple[str, ...]:
        seen.append((tmp_path / "b").exists())
        return whole(directory)

    monkeypatch.setattr(cleaning, "clean", clean)
    bundle.collect("c", "why", tmp_path / "b", docker=Fleet(), kind=LoggingKind())
    assert seen == [False]


def test_what_cannot_be_cleaned_is_deleted_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def clean(directory: Path) -> tuple[str, ...]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(cleaning, "clean", clean)
    with pytest.raises(WriteFailed, match="Input/output"):
        bundle.collect("c", "CANARY", tmp_path / "b", docker=Fleet(), kind=LoggingKind())
    assert [one for one in tmp_path.iterdir() if "b" in one.name] == []


def test_a_second_interrupt_while_it_is_cleaned_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(directory: Path) -> tuple[str, ...]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cleaning, "clean", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bundle.collect("c", "CANARY", tmp_path / "b", docker=Fleet(), kind=LoggingKind())
    assert [one for one in tmp_path.iterdir() if "b" in one.name] == []


def test_what_a_killed_run_left_is_deleted_by_the_next_one_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    old, new = (tmp_path / f".b.{name}{bundle.UNFINISHED}" for name in ("old", "new"))
    for one in (old, new):
        one.mkdir()
        (one / "log").write_text("CANARY")
    os.utime(old, (0, 0))
    bundle.collect("c", "why", tmp_path / "b", docker=Fleet(), kind=LoggingKind())
    assert (old.exists(), new.exists()) == (False, True)


def test_two_bundles_of_one_second_do_not_mix(tmp_path: Path) -> None:
    first, second = (
        bundle.collect("c", reason, tmp_path / "b", docker=Fleet(), kind=LoggingKind())
        for reason in ("one", "two")
    )
    assert ((first / "reason.txt").read_text(), (second / "reason.txt").read_text()) == ("one\n", "two\n")


class Answers(Fleet):
    """A fleet whose kubectl says what the test gives it."""

    pods: str = ""

    def exec(self, container: str, argv: Sequence[str], **_: Any) -> Completed:
        said = self.pods if "--output=json" in argv else "CANARY= said"
        return Completed(tuple(argv), 0, said, "", 0.1)


@pytest.mark.parametrize(
    "pods", ["", "no JSON", "[]", '{"items": [{}]}', '{"items": [{"metadata": null}]}', "null"]
)
def test_an_odd_answer_of_kubectl_is_named_and_the_rest_collected(tmp_path: Path, pods: str) -> None:
    docker = Answers()
    docker.cluster(ClusterSpec(name="c"))
    docker.pods = pods
    place = bundle.collect("c", "why", tmp_path / "b", docker=docker, kind=LoggingKind())
    assert "not-ready pods: " in (place / "missing.txt").read_text()
    assert (place / "kind" / "node" / "kubelet.log").exists()


def test_a_pod_of_the_longest_name_has_its_files(tmp_path: Path) -> None:
    docker = Answers()
    docker.cluster(ClusterSpec(name="c"))
    pods = [{"metadata": {"namespace": "n" * 63, "name": "p" * 252 + end}, "status": {}} for end in "ab"]
    docker.pods = json.dumps({"items": pods})
    place = bundle.collect("c", "why", tmp_path / "b", docker=docker, kind=LoggingKind())
    assert len(list((place / "not-ready").iterdir())) == 4

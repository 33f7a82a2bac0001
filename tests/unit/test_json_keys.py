"""The keys of every command's JSON, in one place: they are what other programs read.

A key that changes here changes for every script that reads it; a new command with ``-o json`` must be
added. Keys are in snake_case, except below ``spec`` and in kind's own configuration, which carry a file's keys.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.ci import stages
from labctl.cli import reference
from labctl.cli.main import cli
from labctl.cluster import heal as healing
from labctl.cluster import running, status, teardown
from labctl.cluster.proof import ProofResult, Proven
from labctl.cluster.running import Node, RunningCluster
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import bringup
from labctl.cluster.up.plan import Plan
from labctl.console import Console
from labctl.errors import HostError
from labctl.host import daemon, doctor, prepare
from labctl.host.finding import Finding
from labctl.host.prepare import Change
from labctl.images import inventory, nodeimage
from labctl.images.node import NodeImage
from labctl.lab.engine.suite import Suite
from labctl.lab.results import CheckResult, LabResult, RunResult, Status
from tests.unit.test_ci import FakeStages

NODE = Node("c-worker", "worker", "c-worker", "172.18.0.3", "running")
CLUSTER = RunningCluster("c", Path("/k"), (NODE,), "flannel", "metallb", "172.18.0.9-172.18.0.10")
PROOF = ProofResult((Proven("dns", "DNS answers", True, "an answer", "answered", 1.0),), "n", 2.0)
IMAGE = NodeImage("r:1", "sha256:a", "built", "v1.37.2")
RUN = RunResult(
    "c",
    "n",
    "v1.37.2",
    (LabResult(9, "pod", "Pods", Status.PASS, (CheckResult("a", "A", Status.PASS),)),),
    1.0,
)

CHECK = {"id", "title", "status", "expected", "actual", "hint", "seconds"}
NODES = {"name", "role", "state", "address"}
LAB = {"number", "slug", "title", "term", "path", "problem"}
LABS_RUN = {"cluster", "nonce", "kubernetes", "labs", "seconds", "exit_code", "on_record"}
NODE_IMAGE = {"reference", "identity", "origin", "kubernetes"}
FINDING = {"id", "title", "status", "seen", "cure", "error"}
CHANGE = {"title", "why", "root"}

Keys = dict[str, set[str]]
"""A path of keys (`labs[].checks[]`; '' for the document itself) -> the keys that stand there."""

SHAPES: dict[str, Keys] = {
    "doctor": {"": {"ready", "findings"}, "findings[]": FINDING},
    "host prepare --yes": {"": {"ready", "changes"}, "changes[]": CHANGE},
    "host release": {"": {"stopped"}},
    "image list": {"[]": {"name", "kind", "reference", "identity", "here"}},
    "image build": {"": NODE_IMAGE},
    "image pull": {"": NODE_IMAGE},
    "image load ARCHIVE": {"": NODE_IMAGE},
    "up": {
        "": {
            "name", "action", "kubernetes", "cni", "load_balancer", "pool", "kubeconfig", "nodes", "proof", "seconds",
        },
        "nodes[]": NODES,
        "proof[]": CHECK,
    },
    "down c": {"": {"deleted"}, "deleted[]": {"name", "containers", "found"}},
    "status c": {
        "": {
            "name", "state", "said", "next_step", "phase", "spec", "nodes", "pool", "kubeconfig", "readiness",
            "seconds",
        },
        "nodes[]": NODES,
        "readiness[]": {"title", "holds", "seen"},
    },
    "heal c": {
        "": {"name", "changed", "steps", "kubernetes", "proof", "seconds"},
        "steps[]": {"title", "outcome", "seconds"},
        "proof[]": CHECK,
    },
    "ls": {"": {"clusters"}, "clusters[]": {"name", "state", "nodes", "running", "cni", "load_balancer"}},
    "config from-kind KINDFILE": {"": {"apiVersion", "kind", "nodes", "cni", "loadBalancer"}},
    "config render --portable single": {"": {"kind", "apiVersion", "name", "networking", "nodes"}},
    "config validate single": {"": {"single"}},
    "lab list": {"[]": LAB},
    "lab show 9": {
        "[]": LAB | {"story", "namespaces", "needs", "touches", "steps", "checks", "sabotages"},
        "[].steps[]": {"id", "title"},
        "[].checks[]": {"id", "title"},
        "[].sabotages[]": {"id", "title", "breaks"},
    },
    **{
        f"lab {verb} 9": {
            "": LABS_RUN,
            "labs[]": {"number", "slug", "title", "status", "checks", "reason", "seconds", "leftovers"},
            "labs[].checks[]": CHECK,
        }
        for verb in ("run", "verify", "prove")
    },
    "lab reset 9": {"": {"removed"}},
    "ci --labs 9": {
        "": {
            "schema", "exit_code", "verdict", "cluster", "labctl", "started", "seconds", "facts", "phases", "proof",
            "run", "bundle", "kept",
        },
        "phases[]": {"name", "outcome", "seconds", "said", "steps", "failure"},
        "proof": {"totals", "checks"},
        "proof.checks[]": CHECK,
        "run": LABS_RUN,
    },
}  # fmt: skip

AS_IN_A_FILE = {"config from-kind KINDFILE", "config render --portable single", "config validate single"}
"""What these print is a file's content, with the file's own keys."""


@pytest.fixture(autouse=True)
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever does real work answers with one of each."""
    up = bringup.Up(CLUSTER, Plan("create", "nothing runs"), "v1.37.2", PROOF, {"nodes": 1.0})
    seen = status.ClusterStatus(
        "c", "ready", spec=ClusterSpec(), nodes=(NODE,), rungs=(status.RungSeen("r", True, "s"),)
    )
    step = healing.HealStep("a", "b", 1.0)
    healed = healing.Healed("c", True, (step,), "v1.37.2", PROOF, 2.0)
    found = Finding("memory", "memory", "ok", "16 GiB")
    answers: list[tuple[Any, str, Callable[..., Any]]] = [
        (bringup, "up", lambda *_, **__: up),
        (healing, "heal", lambda *_, **__: healed),
        (status, "status", lambda *_, **__: seen),
        (status, "every", lambda *_, **__: (status.Listed("c", "ready", 1, 1),)),
        (status, "names", lambda *_, **__: ("c",)),
        (teardown, "down", lambda *_, **__: teardown.Deleted("c", ("c-worker",), True)),
        (doctor, "examine", lambda *_, **__: (found,)),
        (prepare, "plan", lambda *_, **__: [Change("a", "b", False, lambda _: None)]),
        (daemon, "release", lambda **_: 7),
        (inventory, "survey", lambda _: (inventory.Entry("n", "manifest", "r", "i", "h"),)),
        *((nodeimage, name, lambda *_, **__: IMAGE) for name in ("built", "pull", "load")),
        (running, "find", lambda *_, **__: CLUSTER),
        (Suite, "go", lambda *_: RUN),
        (Suite, "reset", lambda *_: 3),
        (stages, "RealStages", lambda *_: FakeStages()),
    ]
    for where, name, answer in answers:
        monkeypatch.setattr(where, name, answer)


def document(command: str, tmp_path: Path) -> Any:
    archive = tmp_path / "archive"
    archive.touch()
    kind_file = tmp_path / "kind.yaml"
    kind_file.write_text("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n")
    files = {"ARCHIVE": str(archive), "KINDFILE": str(kind_file)}
    out, err = io.StringIO(), io.StringIO()
    words = [files.get(word, word) for word in command.split()]
    cli.main(args=[*words, "-o", "json"], standalone_mode=False, obj=Console(out=out, err=err))
    return json.loads(out.getvalue())


def at(value: Any, path: str) -> Any:
    """What stands under ``path``; of a list its first."""
    for name in re.findall(r"\[\]|\w+", path):
        assert value, f"nothing stands before {name} in {path}"
        value = value[0] if name == "[]" else value[name]
    return value


@pytest.mark.parametrize("command", SHAPES)
def test_the_keys_of(command: str, tmp_path: Path) -> None:
    made = document(command, tmp_path)
    for path, keys in SHAPES[command].items():
        assert set(at(made, path)) == keys, path


@pytest.mark.parametrize("command", sorted(set(SHAPES) - AS_IN_A_FILE))
def test_keys_are_written_in_one_way(command: str) -> None:
    keys = {key for shape in SHAPES[command].values() for key in shape}
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", key) for key in keys)


def test_every_command_that_writes_json_is_pinned() -> None:
    pinned = {" ".join(re.findall(r"(?<!\S)[a-z][a-z-]*(?!\S)", one)) for one in SHAPES}
    for context in reference.commands(cli, "labctl"):
        if any(parameter.name == "output" for parameter in context.command.params):
            path = context.command_path.removeprefix("labctl ")
            assert any(one == path or one.startswith(f"{path} ") for one in pinned), f"{path} is not pinned"


def test_an_error_has_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(out=out, err=io.StringIO())
    console.format = "json"
    error = HostError("what", why="why", next_step="next", details="more")
    error.bundle = "/b"
    console.error(error)
    told = json.loads(out.getvalue())
    assert set(told["error"]) == {"id", "exit_code", "what", "why", "next_step", "details", "bundle"}

"""The kind tool: what it is asked, what its progress becomes, and no kubeconfig of the user is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.errors import CommandFailed, Conflict, ToolMissing
from labctl.tools import kind
from labctl.tools.docker import Docker
from labctl.tools.kind import Kind, KindStage, StageReader
from labctl.tools.kubectl import NodeKubectl
from tests.unit.conftest import FakeTools
from tests.unit.fakes import ScriptedTools, install

CREATED = """\
Creating cluster "c" ...
 • Ensuring node image (labctl/node:v1.37.2) 🖼  ...
 ✓ Ensuring node image (labctl/node:v1.37.2) 🖼
 • Preparing nodes 📦 📦 📦   ...
 ✓ Preparing nodes 📦 📦 📦
WARNING: something about cgroup v1
 • Starting control-plane 🕹️  ...
 ✗ Starting control-plane 🕹️
"""


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedTools:
    return install(tmp_path, monkeypatch)


def create(tool: Kind, kubeconfig: Path, **listeners: object) -> None:
    tool.create_cluster(
        name="c",
        config="kind: Cluster\n",
        image="i",
        kubeconfig=kubeconfig,
        timeout=10,
        **listeners,  # type: ignore[arg-type]  # on_event and on_stage, as each test needs them
    )


def test_creating_never_waits_always_retains_and_has_a_private_kubeconfig(
    fakes: ScriptedTools, tmp_path: Path
) -> None:
    rule = fakes.on("kind", "create cluster *", keep_stdin=True)
    create(Kind("kind"), tmp_path / "kc")
    (call,) = fakes.calls
    assert call == f"kind create cluster --name=c --config=- --image=i --kubeconfig={tmp_path}/kc --retain"
    assert (rule / "stdin").read_text() == "kind: Cluster\n"


def test_a_lock_that_a_killed_kind_left_is_removed(fakes: ScriptedTools, tmp_path: Path) -> None:
    fakes.on("kind")
    (tmp_path / "kc.lock").touch()
    create(Kind("kind"), tmp_path / "kc")
    assert not (tmp_path / "kc.lock").exists()


def test_progress_becomes_stages_and_the_rest_passes_through(fakes: ScriptedTools, tmp_path: Path) -> None:
    fakes.on("kind", stderr=CREATED)
    stages: list[KindStage] = []
    events: list[str] = []
    create(Kind("kind"), tmp_path / "kc", on_stage=stages.append, on_event=events.append)
    image = "Ensuring node image (labctl/node:v1.37.2)"
    assert [(stage.title, stage.outcome) for stage in stages] == [
        (image, "started"),
        (image, "done"),
        ("Preparing nodes", "started"),
        ("Preparing nodes", "done"),
        ("Starting control-plane", "started"),
        ("Starting control-plane", "failed"),
    ]
    assert events[0] == 'Creating cluster "c" ...'
    assert "WARNING: something about cgroup v1" in events
    assert events[-1].startswith("Starting control-plane: failed after ")


@pytest.mark.parametrize(
    "line", ["", "   ", "•", " ✓ ", "ERROR: failed to create cluster", "• ", "Have a nice day! 👋"]
)
def test_lines_that_are_no_stage(line: str) -> None:
    assert StageReader().read(line) is None


def test_a_stage_is_timed_from_its_start() -> None:
    reader = StageReader()
    reader.read(" • Joining worker nodes 🚜  ...")
    done = reader.read(" ✓ Joining worker nodes 🚜")
    assert done is not None
    assert 0 < done.seconds < 5
    unknown = reader.read(" ✓ Never started")
    assert unknown is not None
    assert unknown.seconds < 1


def test_nodes_that_exist_are_a_conflict(fakes: ScriptedTools, tmp_path: Path) -> None:
    said = 'ERROR: failed to create cluster: node(s) already exist for a cluster with the name "c"\n'
    fakes.on("kind", stderr=said, exit_code=1)
    with pytest.raises(Conflict) as caught:
        create(Kind("kind"), tmp_path / "kc")
    assert caught.value.exit_code == 6


def test_any_other_failure_carries_what_kind_said(fakes: ScriptedTools, tmp_path: Path) -> None:
    fakes.on("kind", stderr="ERROR: failed to init node with kubeadm\n", exit_code=1)
    with pytest.raises(CommandFailed) as caught:
        create(Kind("kind"), tmp_path / "kc")
    assert "kubeadm" in caught.value.details


def test_a_missing_kind_names_the_version_needed(fakes: ScriptedTools) -> None:
    with pytest.raises(ToolMissing) as caught:
        Kind().version()
    assert kind.VERSION in caught.value.why
    assert "labctl host prepare" in caught.value.next_step


def test_kubeconfig_is_out_of_reach_of_every_verb(
    fake_tools: FakeTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F18, F19: whatever KUBECONFIG names is neither read nor written by kind."""
    precious = tmp_path / "precious"
    precious.write_text("garbage: [")
    monkeypatch.setenv("KUBECONFIG", str(precious))
    seen = tmp_path / "seen"
    fake_tools.sh("kind", f'echo "$KUBECONFIG" >> {seen}; echo x >> "$KUBECONFIG"')
    tool = Kind("kind")
    create(tool, tmp_path / "kc")
    tool.delete_cluster("c", tmp_path / "kc")
    tool.export_logs("c", tmp_path / "logs")
    assert set(seen.read_text().split()) == {str(tmp_path / "kc"), "/dev/null"}
    assert precious.read_text() == "garbage: ["


def test_labctls_own_kind_comes_before_the_one_on_path(fakes: ScriptedTools) -> None:
    assert kind.locate() == "kind"
    kind.own_program().parent.mkdir(parents=True)
    kind.own_program().write_text("")
    assert kind.locate() == str(kind.own_program())


@pytest.mark.parametrize(
    ("version", "fit"),
    [
        (kind.VERSION, True),
        (f"v{kind.VERSION}", True),
        ("0.33.7", True),
        ("0.33.0-alpha+x", False),
        ("0.32.9", False),
        ("0.34.0", False),
        ("1.33.0", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_which_versions_fit(version: str, fit: bool) -> None:
    assert kind.fits(version) is fit


def test_the_version_is_read_out_of_the_line(fakes: ScriptedTools) -> None:
    fakes.on("kind", "version", stdout="kind v0.33.0 go1.26.3 linux/amd64\n")
    assert Kind("kind").version() == "0.33.0"


# --- kubectl in a node


def test_applying_goes_through_the_node_and_owns_its_fields(fakes: ScriptedTools) -> None:
    rule = fakes.on("docker", "exec *", keep_stdin=True)
    NodeKubectl(Docker(), "c-control-plane").apply("kind: X\n")
    (call,) = fakes.calls
    assert call == (
        "docker exec --interactive c-control-plane kubectl --kubeconfig=/etc/kubernetes/admin.conf "
        "apply --server-side --force-conflicts --field-manager=labctl --filename=-"
    )
    assert (rule / "stdin").read_text() == "kind: X\n"


def test_what_the_api_server_refuses_is_told(fakes: ScriptedTools) -> None:
    fakes.on("docker", "exec *", stderr='error: no matches for kind "X"\n', exit_code=1)
    with pytest.raises(CommandFailed) as caught:
        NodeKubectl(Docker(), "n").apply("kind: X\n")
    assert "no matches" in caught.value.why

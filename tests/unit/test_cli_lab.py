from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labctl.cli import lab_text
from labctl.cli.main import main
from labctl.cluster import lock
from labctl.errors import CleanupIncomplete, NodeDown
from labctl.lab.engine import labrun as labrun_module
from labctl.lab.engine import namespaces as namespaces_module
from labctl.lab.engine import suite as suite_module
from labctl.lab.results import CheckResult, LabResult, RunResult, Status
from labctl.waiting import pause
from tests.unit.fakes.apiserver import FakeKube, running

LAB = '''"""Objects: one name.

Its story.
"""
from kubernetes.client import V1ConfigMap, V1ObjectMeta
from labctl.lab import Cluster, Lab, expect

lab = Lab(term="오브젝트")


@lab.step("Make it")
def make(k8s: Cluster) -> None:
    body = V1ConfigMap(metadata=V1ObjectMeta(name="kept"), data={"word": "good"})
    k8s.core.create_namespaced_config_map(namespace=k8s.namespace, body=body)


@lab.check("It is good", within=0.05)
def good(k8s: Cluster) -> None:
    seen = k8s.core.read_namespaced_config_map(namespace=k8s.namespace, name="kept").data["word"]
    expect(seen == "good", seen=seen, expected="good")


@lab.sabotage("spoil it", breaks=good)
def spoil(k8s: Cluster) -> None:
    k8s.core.patch_namespaced_config_map(namespace=k8s.namespace, name="kept", body={"data": {"word": "bad"}})
'''


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "labs"
    folder.mkdir()
    (folder / "21_objects.py").write_text(LAB)
    (folder / "22_more.py").write_text(LAB.replace("Objects", "More"))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKube:
    """A cluster called ``one`` that every command finds."""
    kube = FakeKube()
    monkeypatch.setattr(
        "labctl.cluster.running.find", lambda name=None, docker=None: running(containers=False)
    )
    monkeypatch.setattr(suite_module, "require_nodes", lambda *_, **__: None)
    monkeypatch.setattr("labctl.lab.engine.guard.require_nodes", lambda *_, **__: None)
    monkeypatch.setattr(suite_module, "connect", lambda *_: kube)
    monkeypatch.setattr("labctl.waiting.pause", lambda seconds: pause(min(seconds, 0.005)))
    monkeypatch.setattr("labctl.paths.state_root", lambda: tmp_path / "state")
    return kube


def labctl(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["lab", *arguments])
    return int(left.value.code or 0)


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_list_names_every_lab(labs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl("list") == 0
    shown = capsys.readouterr().out
    assert "21  objects  Objects: one name  (오브젝트)" in shown
    assert labctl("list", "-o", "json") == 0
    first, second = told(capsys)
    assert list(first) == ["number", "slug", "title", "term", "path", "problem"]
    assert (first["number"], first["slug"], second["number"]) == (21, "objects", 22)


def test_list_shows_the_others_beside_a_broken_lab(labs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (labs / "23_broken.py").write_text("x = (\n")
    assert labctl("list") == 2
    shown = capsys.readouterr()
    assert "21  objects" in shown.out
    assert "23_broken.py:1:5: not Python" in shown.err


def test_listing_imports_no_kubernetes(labs: Path) -> None:
    code = (
        "import sys\nfrom labctl.cli.main import main\n"
        "try:\n    main(['lab', 'list'])\n"
        "except SystemExit as left:\n    assert not left.code\n"
        "assert 'kubernetes' not in sys.modules and 'rich' not in sys.modules, 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=labs.parent, check=True, capture_output=True)


def test_show_tells_the_story_the_steps_and_the_checks(
    labs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labctl("show", "21") == 0
    shown = capsys.readouterr().out
    for part in (
        "21 Objects: one name",
        "Its story.",
        "1. Make it",
        "- It is good",
        "- spoil it  (breaks good)",
    ):
        assert part in shown
    (labs / "21_objects.ko.md").write_text("# 오브젝트: 이름 하나\n\n이야기.\n", encoding="utf-8")
    assert labctl("show", "21", "--lang", "ko", "-o", "json") == 0
    (story,) = told(capsys)
    assert (story["title"], story["story"]) == ("오브젝트: 이름 하나", "이야기.")
    assert story["checks"] == [{"id": "good", "title": "It is good"}]


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "99"],
        ["run", "21", "--all"],
        ["run", "21", "--name", "a", "--kubeconfig", "b"],
        ["run", "21", "--context", "c"],
        ["show", "21", "--lang", "ko/"],
        ["show", "21", "--lang", "../ko"],
        ["run", "21", "--labs-dir", "absent"],
        ["nonsense"],
    ],
)
def test_a_wrong_command_line_is_exit_2(labs: Path, arguments: list[str]) -> None:
    assert labctl(*arguments) == 2


def test_what_a_lab_prints_is_narration_and_the_result_stays_one_document(
    labs: Path, kube: FakeKube, capsys: pytest.CaptureFixture[str]
) -> None:
    printing = LAB.replace("    seen = k8s", "    print('50%')\n    seen = k8s")
    printing = printing.replace("from kubernetes", "print('while loading')\nfrom kubernetes", 1)
    (labs / "21_objects.py").write_text(printing)
    for verb in ("run", "prove", "verify"):
        labctl(verb, "21", "-o", "json")
        shown = capsys.readouterr()
        assert json.loads(shown.out)["labs"][0]["number"] == 21
        assert "21 prints: 50%" in shown.err


def test_former_words_work_with_a_note(
    labs: Path, kube: FakeKube, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labctl("list", "--labs", str(labs), "-o", "json") == 0
    shown = capsys.readouterr()
    assert [one["number"] for one in json.loads(shown.out)] == [21, 22]
    assert "--labs is now --labs-dir" in shown.err
    assert labctl("run", "21", "--cluster", "one", "-o", "json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["cluster"] == "one"
    assert "--cluster is now --name" in shown.err
    assert labctl("run", "21", "--name", "one") == 0
    assert "is now" not in capsys.readouterr().err


def test_run_verify_prove_reset(labs: Path, kube: FakeKube, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl("run", "--all", "-o", "json") == 0
    data = told(capsys)
    assert [(lab["number"], lab["status"]) for lab in data["labs"]] == [(21, "PASS"), (22, "PASS")]
    assert (data["cluster"], data["kubernetes"], data["exit_code"]) == ("one", "v1.37.2", 0)

    assert labctl("verify", "objects", "-o", "json") == 0
    assert [lab["number"] for lab in told(capsys)["labs"]] == [21]

    kube.objects["config_map", "lab21", "kept"].data = {"word": "bad"}
    assert labctl("verify", "21-22", "-o", "json") == 1
    data = told(capsys)
    assert [lab["status"] for lab in data["labs"]] == ["FAIL", "PASS"]
    (check,) = data["labs"][0]["checks"]
    assert (check["expected"], check["actual"]) == ("good", "bad")

    assert labctl("prove", "21", "-o", "json") == 0
    assert {check["status"] for check in told(capsys)["labs"][0]["checks"]} == {"PASS"}

    assert labctl("reset", "--all", "-o", "json") == 0
    assert told(capsys) == {"removed": 2}
    assert kube.names("namespace") == {"kube-system"}
    assert kube.closed


def test_a_broken_lab_file_is_exit_2_and_touches_nothing(labs: Path, kube: FakeKube) -> None:
    (labs / "22_more.py").write_text("1 / 0\n")
    assert labctl("run", "--all") == 2
    assert kube.calls == []


def test_a_node_that_is_down_is_named_before_the_api_server_is_asked(
    labs: Path, kube: FakeKube, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def down(*_: object, **__: object) -> None:
        raise NodeDown("1 node(s) of cluster one do not run", why="container one-worker exited")

    monkeypatch.setattr(suite_module, "require_nodes", down)
    for verb in ("run", "verify", "prove", "reset"):
        assert labctl(verb, "21") == NodeDown.exit_code
        assert "container one-worker exited" in capsys.readouterr().err
    assert kube.calls == []


def test_the_same_lab_from_two_shells_is_refused_and_another_lab_is_not(
    labs: Path, kube: FakeKube, capsys: pytest.CaptureFixture[str]
) -> None:
    key = str(kube.objects["namespace", "", "kube-system"].metadata.uid)
    with lock.using(key), lock.instance(key, "lab21", what="lab 21"):
        assert labctl("run", "21") == 6
    assert "lab 21 is another labctl's now" in capsys.readouterr().err
    with lock.using(key), lock.instance(key, "lab22"), lock.labs(key, False, 0):
        assert labctl("run", "21") == 0


def test_no_lab_runs_while_the_cluster_is_changed(
    labs: Path, kube: FakeKube, capsys: pytest.CaptureFixture[str]
) -> None:
    key = str(kube.objects["namespace", "", "kube-system"].metadata.uid)
    with lock.changing(key):
        assert labctl("run", "21") == 6
    assert "process " in capsys.readouterr().err


def test_an_interrupted_lab_is_removed(
    labs: Path, kube: FakeKube, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("labctl.lab.engine.labrun.LabRun.observe", interrupt)
    assert labctl("run", "21") == 130
    assert (
        "interrupted; 0 of 1 lab(s) had ended; lab 21-objects: all that it made is removed"
        in capsys.readouterr().err
    )
    assert kube.names("namespace") == {"kube-system"}


def test_an_interrupted_lab_that_cannot_be_removed_is_listed(
    labs: Path, kube: FakeKube, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    kube.finalizers.add("lab21")
    monkeypatch.setattr("labctl.lab.engine.labrun.LabRun.observe", interrupt)
    monkeypatch.setattr(labrun_module, "INTERRUPTED_SECONDS", 0.02)
    assert labctl("run", "21") == 130
    said = capsys.readouterr().err
    assert "left behind: namespace/lab21: " in said
    assert "labctl lab reset 21" in said


def test_reset_lists_what_cannot_be_removed(
    labs: Path, kube: FakeKube, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labctl("run", "--all") == 0
    kube.finalizers.add("lab21")
    monkeypatch.setattr(namespaces_module, "REMOVAL_SECONDS", 0.02)
    assert labctl("reset", "--all") == CleanupIncomplete.exit_code
    assert "example.com/hold" in capsys.readouterr().err
    assert kube.names("namespace") == {"kube-system", "lab21"}
    assert labctl("run", "21") == CleanupIncomplete.exit_code
    kube.finalizers.clear()
    assert labctl("run", "21") == 0


def as_text(result: RunResult, verb: str) -> str:
    """All that is shown of a run: each lab as it ends, then the summary."""
    parts = [*(lab_text.lab(one) for one in result.labs), lab_text.summary(result, verb)]
    return "".join(part.plain for part in parts)


def test_the_text_says_status_expected_actual_and_hint_without_colour() -> None:
    checks = (
        CheckResult("a", "It is so", Status.PASS, seconds=1.0),
        CheckResult("b", "It is good", Status.FAIL, "good", "bad", "look at it", 2.0),
        CheckResult("c", "Nobody answers", Status.ERROR, "Nobody answers", "the probe did not run", "", 3.0),
    )
    labs = (
        LabResult(21, "objects", "Objects", Status.ERROR, checks, seconds=6.0),
        LabResult(22, "more", "More", Status.SKIP, (), "needs 3 workers, the cluster has 2"),
        LabResult(23, "held", "Held", Status.ERROR, (), "not gone", 1.0, ("namespace/lab23: held",)),
    )
    shown = as_text(RunResult("one", "n", "v1.37.2", labs, 7.0), "run")
    for line in (
        "21 objects: Objects  ERROR  6.0 s",
        "  PASS  It is so  1.0 s",
        "  FAIL  It is good  2.0 s",
        "        expected  good",
        "        actual    bad",
        "        hint      look at it",
        "        actual    the probe did not run",
        "22 more: More  SKIP  0.0 s",
        "   needs 3 workers, the cluster has 2",
        "   left: namespace/lab23: held",
        "run: 3 lab(s) on one (v1.37.2), 1 PASS, 1 FAIL, 1 ERROR, 7 s",
    ):
        assert line in shown.splitlines()


def test_what_was_seen_before_a_lab_broke_off_is_shown_with_the_reason() -> None:
    seen = CheckResult("a", "It is so", Status.PASS)
    untold = CheckResult("b", "It is good", Status.SKIP, actual="not looked at: the node died")

    def shown(*checks: CheckResult) -> str:
        lab = LabResult(21, "objects", "Objects", Status.ERROR, checks, "the node died")
        return as_text(RunResult("one", "n", "v1.37.2", (lab,), 1.0), "prove")

    assert "PASS  It is so" in shown(seen, untold)
    assert "It is good" not in shown(untold), "it would only repeat the reason"

"""What somebody who writes a first lab meets: the example in the docs, and `labctl lab new`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labctl.cli.main import main
from labctl.errors import Conflict, UsageError
from labctl.lab import Cluster, skeleton
from labctl.lab.callers import Call
from labctl.lab.engine import loader
from labctl.lab.engine import prover as prover_module
from labctl.lab.results import LabResult, Status
from labctl.waiting import pause
from tests.unit.fakes.apiserver import FakeKube
from tests.unit.fakes.site import prove

ROOT = Path(__file__).resolve().parents[2]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.waiting.pause", lambda seconds: pause(min(seconds, 0.005)))
    monkeypatch.setattr(prover_module, "TURN_SECONDS", 0.05)
    monkeypatch.setattr(prover_module, "STAY_SECONDS", 0.05)


def proof(path: Path) -> LabResult:
    (file,) = loader.discover(path.parent)
    return prove(FakeKube(), file, loader.load(file))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_example_of_the_docs_is_a_lab_that_is_proven(page: str, tmp_path: Path) -> None:
    (example,) = PYTHON.findall((ROOT / page).read_text())
    path = tmp_path / "25_settings.py"
    path.write_text(example)
    result = proof(path)
    assert result.status is Status.PASS, result
    assert len(result.checks) == 3


def test_the_docs_tell_one_example() -> None:
    readme, contributing = (
        PYTHON.findall((ROOT / one).read_text()) for one in ("README.md", "CONTRIBUTING.md")
    )
    assert readme == contributing


def test_the_page_tells_words_that_are_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    told = set(re.findall(r"`k8s\.(\w+)", page)) | set(re.findall(r"`\.(\w+)\(", page))
    known = set(dir(Cluster)) | set(dir(Call)) | {"namespace", "namespaces", "nonce"}
    assert told and told <= known, told - known
    builders = set(re.findall(r"^def ([a-z]\w*)", (ROOT / "labctl/lab/objects.py").read_text(), re.MULTILINE))
    assert all(f"`{name}`" in page for name in builders)


def test_a_skeleton_runs_and_is_not_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = skeleton.write(tmp_path / "labs", "16_controller_manager")
    assert path.name == "16_controller_manager.py"
    path.write_text(path.read_text().replace("within=10", "within=0.05"))
    result = proof(path)
    assert result.status is Status.FAIL
    assert "a check that is written" in result.checks[-1].expected
    path.write_text(path.read_text().replace("expect(False,", "expect(bool(note.data),"))
    assert proof(path).status is Status.PASS


@pytest.mark.parametrize(
    "word", ["9_pod", "16-controller", "16_", "16_Big", "../16_x", "16_x/y", "16__x", ""]
)
def test_a_word_that_is_no_name_writes_nothing(word: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no name for a lab"):
        skeleton.write(tmp_path / "labs", word)
    assert not (tmp_path / "labs").exists()


def test_a_number_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "labs"
    there = skeleton.write(folder, "16_mine")
    with pytest.raises(Conflict, match="16 is there already"):
        skeleton.write(folder, "16_other")
    assert list(folder.iterdir()) == [there]


def test_the_command_says_where_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["lab", "new", "16_controller_manager", "--labs-dir", str(tmp_path / "labs")])
    assert left.value.code == 0
    assert str(tmp_path / "labs" / "16_controller_manager.py") in capsys.readouterr().out

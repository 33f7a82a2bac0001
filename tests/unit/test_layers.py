"""The import contracts of pyproject.toml hold, and they can be broken."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

from labctl import process

ROOT = Path(__file__).resolve().parents[2]


def lint(tree: Path) -> process.Completed:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    return process.run(
        [sys.executable, "-c", code], timeout=120, check=False, cwd=tree, env={"PYTHONPATH": str(tree)}
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package, to spoil."""
    shutil.copytree(
        ROOT / "labctl", tmp_path / "labctl", ignore=shutil.ignore_patterns("__pycache__", "modules")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_go_down_only(tree: Path) -> None:
    done = lint(tree)
    assert done.ok, done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("process.py", "import labctl.lab.results"),
        ("console.py", "import labctl.kube"),
        ("host/machine.py", "import kubernetes"),
        ("cluster/spec.py", "import click"),
    ],
)
def test_a_broken_contract_is_found(tree: Path, module: str, line: str) -> None:
    spoiled = tree / "labctl" / module
    spoiled.write_text(spoiled.read_text() + f"\n{line}\n")
    done = lint(tree)
    assert done.exit_code == 1
    assert "BROKEN" in done.stdout


def drawn() -> dict[str, Path]:
    """Each line of the drawing in CONTRIBUTING.md, and the place it stands for."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split("```text\n")[1].split("```")[0]
    found: dict[str, Path] = {}
    above: list[tuple[int, Path]] = [(-1, ROOT)]
    for line in text.splitlines():
        name = line.split()[0]
        depth = len(line) - len(line.lstrip())
        while above[-1][0] >= depth:
            above.pop()
        place = above[-1][1] / name.rstrip("/")
        above.append((depth, place))
        found[name] = place
    return found


def test_the_drawing_of_the_tree_is_true() -> None:
    """What is drawn is there, and every package of labctl is drawn."""
    places = drawn()
    assert [name for name, place in places.items() if not place.exists()] == []
    packages = {one.parent for one in (ROOT / "labctl").rglob("__init__.py")}
    assert {one.relative_to(ROOT) for one in packages} <= {one.relative_to(ROOT) for one in places.values()}


def test_the_layers_that_are_told_are_those_that_are_held() -> None:
    held = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    told = (ROOT / "CONTRIBUTING.md").read_text().split("[tool.importlinter]`):\n\n")[1].split("\n\n")[0]
    layers = [sorted(one.strip() for one in layer.split(",")) for layer in told.split(">")]
    assert layers == [
        sorted(one.strip().removeprefix("labctl.") for one in layer.split("|")) for layer in held["layers"]
    ]


def test_no_module_imports_itself_by_a_detour() -> None:
    """Imports that only the type checker reads are left out: they run nothing."""
    graph = grimp.build_graph("labctl", exclude_type_checking_imports=True, cache_dir=None)
    left = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    while free := {name for name, imported in left.items() if not imported & left.keys()}:
        left = {name: imported for name, imported in left.items() if name not in free}
    assert not left, "these import one another in a circle"

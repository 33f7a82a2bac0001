"""The import contracts of pyproject.toml hold, and they can be broken."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

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

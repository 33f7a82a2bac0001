"""What is installed is what runs: the wheel is complete, the lock names hashes and nobody's registry."""

from __future__ import annotations

import re
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl import __version__, process

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements/run.txt", "requirements/dev.txt")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    directory = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    process.run(build, timeout=120, cwd=ROOT)
    [path] = directory.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_wheel_holds_labs_cluster_files_and_the_modules_of_the_image(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for folder, pattern in (("labs", "[0-9][0-9]_*.py"), ("cluster-configs", "*.yaml")):
        for path in (ROOT / folder).glob(pattern):
            assert f"labctl/_shipped/{folder}/{path.name}" in names
    for path in (ROOT / "labctl").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names
    assert "labctl/py.typed" in names


def test_the_wheel_holds_no_test_and_no_leftover(wheel: zipfile.ZipFile) -> None:
    strange = [
        name
        for name in wheel.namelist()
        if not name.startswith(("labctl/", f"labctl-{__version__}.dist-info/"))
    ]
    assert strange == []


def test_the_command_is_an_entry_point(wheel: zipfile.ZipFile) -> None:
    entry_points = wheel.read(f"labctl-{__version__}.dist-info/entry_points.txt").decode()
    assert "labctl = labctl.__main__:main" in entry_points


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash_and_no_registry_is_named(lock: str) -> None:
    text = (ROOT / lock).read_text()
    packages = re.findall(r"^[a-z0-9][^=\s]*==\S+.*?(?=^[a-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(packages) > 20
    assert [package.splitlines()[0] for package in packages if "--hash=sha256:" not in package] == []
    assert not re.search(r"://|--index-url|--find-links", text)


def test_the_locks_agree_and_cover_what_is_declared() -> None:
    run, dev = (
        dict(re.findall(r"^([a-z0-9][\w.-]*)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE))
        for lock in LOCKS
    )
    assert run.items() <= dev.items()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = {re.split(r"[<>=]", one)[0] for one in declared["project"]["dependencies"]}
    assert names <= run.keys()
    assert {re.split(r"[<>=]", one)[0] for one in declared["dependency-groups"]["dev"]} <= dev.keys()


def test_every_action_is_pinned_by_commit() -> None:
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = workflow.read_text()
        uses = re.findall(r"uses: (\S+)(.*)", text)
        assert uses
        for action, comment in uses:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
            assert re.search(r"# v\d", comment), f"{action} does not say its version"
        assert re.search(r"^permissions: \{\}$", text, re.MULTILINE)

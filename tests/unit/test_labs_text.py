"""The shipped labs as files: what every one of them must have, seen without a cluster."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from labctl.lab.api import Lab, Trial
from labctl.lab.engine import loader
from labctl.lab.engine.loader import LabFile

FOLDER = Path(__file__).resolve().parents[2] / "labs"
FILES = loader.discover(FOLDER)
TERMS = {
    9: "파드",
    10: "네임스페이스",
    11: "볼륨",
    12: "ClusterIP",
    13: "NodePort",
    14: "LoadBalancer",
    15: "ExternalName",
}
"""The terms of the study notes that have a lab so far."""

ALLOWED_IMPORTS = re.compile(
    r"(labctl\.lab|kubernetes\.client(\.exceptions)?|contextlib|collections\.abc|ipaddress|itertools|secrets)"
)
ACTS = re.compile(r"(create|delete|patch|replace|connect)_\w+")
SILENCE = re.compile(r"\b(refuse[sd]?|closed|nobody|waits|no more|another place)\b")
"""How titles say that nothing comes back."""
LONGEST = 260
"""Lines; a lab is read in one sitting."""

each_lab = pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])


@pytest.fixture
def lab(file: LabFile) -> Lab:
    return loader.load(file)


def functions(file: LabFile) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(file.path.read_bytes())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_term_has_its_lab() -> None:
    assert {file.number: file.term for file in FILES if file.number in TERMS} == TERMS


@each_lab
def test_a_lab_tells_a_story(file: LabFile) -> None:
    assert re.match(r"[A-Z]\w+: \w", file.title), file.title
    assert len(file.story.split()) > 40
    assert "TODO" not in file.path.read_text()
    assert len(file.path.read_text().splitlines()) <= LONGEST


@each_lab
def test_every_check_is_broken_by_a_sabotage(lab: Lab) -> None:
    assert len(lab.sabotages) >= 2
    broken = {name for sabotage in lab.sabotages for name in sabotage.breaks}
    assert {one.id for one in lab.observations} == broken


@each_lab
def test_every_lab_gives_advice(lab: Lab) -> None:
    assert lab.hints


@each_lab
def test_namespaces_carry_the_number(file: LabFile, lab: Lab) -> None:
    assert all(re.fullmatch(rf"lab{file.number:02d}(-[a-z]+)?", name) for name in lab.namespaces)


@each_lab
def test_the_nonce_is_looked_at(file: LabFile) -> None:
    assert "k8s.nonce" in file.path.read_text()


@each_lab
def test_silence_is_watched_for_a_while_beside_a_control(lab: Lab) -> None:
    """One look that meets silence shows nothing: the checks whose titles speak of it are those that keep looking."""
    looks = [one for one in lab.observations if not isinstance(one, Trial)]
    silent = {one.title for one in looks if SILENCE.search(one.title)}
    assert silent == {one.title for one in looks if one.consistently and one.control is not None}


def test_the_labs_speak_of_silence_at_all() -> None:
    titles = [one.title for file in FILES for one in loader.load(file).observations]
    assert any(SILENCE.search(title) for title in titles)


@each_lab
def test_checks_observe_and_never_act(file: LabFile, lab: Lab) -> None:
    bodies = functions(file)
    for check in lab.checks:
        calls = {node.attr for node in ast.walk(bodies[check.id]) if isinstance(node, ast.Attribute)}
        assert not {name for name in calls if ACTS.fullmatch(name)}, check.id


@each_lab
def test_a_lab_needs_little(file: LabFile) -> None:
    imports = [
        node
        for node in ast.walk(ast.parse(file.path.read_bytes()))
        if isinstance(node, ast.ImportFrom | ast.Import)
    ]
    assert all(isinstance(node, ast.ImportFrom) for node in imports)
    modules = {node.module for node in imports if isinstance(node, ast.ImportFrom) and node.module}
    assert all(ALLOWED_IMPORTS.fullmatch(module) for module in modules), modules


@each_lab
def test_nobody_waits_or_prints(file: LabFile) -> None:
    names = {node.id for node in ast.walk(ast.parse(file.path.read_bytes())) if isinstance(node, ast.Name)}
    assert not names & {"print", "sleep", "time", "subprocess"}


@each_lab
def test_a_translation_has_title_and_story(file: LabFile) -> None:
    title, story = loader.translated(file, "ko")
    assert title.startswith(file.term)
    assert re.search("[가-힣]", story)

"""The shipped labs as files: what every one of them must have, seen without a cluster."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import TypeGuard

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

ALLOWED_IMPORTS = re.compile(r"(labctl\.lab|kubernetes|contextlib|collections\.abc|itertools)")
ACTS = re.compile(r"(create|delete|patch|replace|connect)_\w+")
SILENCE = re.compile(r"\b(refuse[sd]?|closed|nobody|waits|no more|another place)\b")
"""How titles say that nothing comes back."""
LONGEST = 160
"""Lines; a lab is read in one sitting."""
SHORT = 110
"""At least half of the labs have fewer lines."""
ITS_OWN = re.compile(r"""["']lab\d\d""")
"""How the name of a namespace or of a cluster-wide object would begin; the handle knows it."""

TAKING_AWAY = {"stopped", "frozen", "unready", "stopped_node", "without_rules"}
"""The handle's blocks that the prover leaves out in a placebo."""

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


def test_half_of_the_labs_are_short() -> None:
    lengths = sorted(len(file.path.read_text().splitlines()) for file in FILES)
    assert lengths[len(lengths) // 2] < SHORT, lengths


@each_lab
def test_every_check_is_broken_by_a_sabotage(lab: Lab) -> None:
    """And so is every statement, unless it is made while something is taken away: then the placebo breaks it."""
    assert len(lab.sabotages) >= 2
    broken = {name for sabotage in lab.sabotages for name in sabotage.breaks}
    away = {trial.statement_id(title) for trial in lab.trials for title in made_in_an_absence(trial)}
    assert set(lab.statements) - away <= broken


def made_in_an_absence(trial: Trial) -> list[str]:
    """The titles of statements that an experiment yields inside of a ``with k8s.stopped(...)`` or its like."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(trial.act)))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.With) and takes_away(node)]
    yields = [one.value for block in blocks for one in ast.walk(block) if isinstance(one, ast.Yield)]
    return [str(text.value) for one in yields if one for text in ast.walk(one) if is_title(text, trial)]


def takes_away(block: ast.With) -> bool:
    called = [item.context_expr.func for item in block.items if isinstance(item.context_expr, ast.Call)]
    return any(isinstance(one, ast.Attribute) and one.attr in TAKING_AWAY for one in called)


def is_title(node: ast.AST, trial: Trial) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and node.value in trial.titles


@each_lab
def test_every_lab_gives_advice(lab: Lab) -> None:
    assert lab.hints


@each_lab
def test_no_name_is_written_that_only_one_instance_could_have(file: LabFile) -> None:
    assert not ITS_OWN.search(file.path.read_text())


@each_lab
def test_every_object_is_created_with_its_namespace_written_out(file: LabFile) -> None:
    calls = [node for node in ast.walk(ast.parse(file.path.read_bytes())) if isinstance(node, ast.Call)]
    bare = [
        ast.unparse(one)
        for one in calls
        if isinstance(one.func, ast.Attribute)
        and "_namespaced_" in one.func.attr
        and "namespace" not in {keyword.arg for keyword in one.keywords}
    ]
    assert not bare


@each_lab
def test_who_answers_is_known_by_the_nonce(file: LabFile) -> None:
    """The words that compare answers with pods do it with the nonce; the others say it themselves."""
    assert re.search(r"k8s\.nonce|answered_by\(", file.path.read_text())


@each_lab
def test_silence_is_watched_for_a_while_beside_a_control(lab: Lab) -> None:
    """One look that meets silence shows nothing: the checks whose titles speak of it are those that keep looking."""
    silent = {one.title for one in lab.checks if SILENCE.search(one.title)}
    assert silent == {one.title for one in lab.checks if one.consistently and one.control is not None}


def test_the_labs_speak_of_silence_at_all() -> None:
    titles = [one.title for file in FILES for one in loader.load(file).observations]
    assert any(SILENCE.search(title) for title in titles)


@each_lab
def test_checks_observe_and_never_act(file: LabFile, lab: Lab) -> None:
    bodies = functions(file)
    for check in lab.checks:
        tree = bodies[check.id]
        calls = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        acts = {name for name in calls if ACTS.fullmatch(name)}
        assert not acts or "dry_run" in ast.unparse(tree), check.id


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

"""What a lab file may do wrong, by kind: each is refused when it is loaded, or ends as an ERROR that says so.

In every case the other checks are looked at, and the run comes to its end.
"""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import pytest

from labctl.errors import ConfigError
from labctl.lab.engine import foreign, labrun, loader, observe
from labctl.lab.results import LabResult, Status
from labctl.waiting import pause
from tests.unit.fakes.apiserver import FakeKube
from tests.unit.fakes.site import run_of

HEAD = '''"""A lab."""
import asyncio, os, sys, time
from labctl.lab import Cluster, Experiment, Lab, expect, holds

lab = Lab()
'''

FINE = """

@lab.check("the good one", within=1)
def fine(k8s: Cluster) -> None: ...
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.waiting.pause", lambda seconds: pause(min(seconds, 0.005)))
    monkeypatch.setattr(observe, "LATE_SECONDS", 0.3)
    monkeypatch.setattr(foreign, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(foreign, "LOOK_SECONDS", 0.05)


def write(folder: Path, text: str, name: str = "11_odd.py") -> loader.LabFile:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(HEAD + textwrap.dedent(text) + FINE)
    return next(one for one in loader.discover(folder) if one.path.name == name)


def run(folder: Path, text: str) -> LabResult:
    file = write(folder, text)
    return run_of(FakeKube(), file, loader.load(file)).run()


def refused(folder: Path, text: str) -> str:
    file = write(folder, text)
    with pytest.raises(ConfigError) as wrong:
        loader.load(file)
    (problem,) = wrong.value.problems
    return f"{problem.line}: {problem.message}"


LEAVING = [
    'sys.exit("no luck")',
    "sys.exit(0)",
    "raise SystemExit",
    "raise KeyboardInterrupt",
    "raise GeneratorExit",
    "raise asyncio.CancelledError",
    "raise BaseException('base')",
    "exit(3)",
    "raise StopIteration",
    "raise RecursionError",
    "assert 1 == 2, 'no'",
    "(lambda f: f(f))(lambda f: f(f))",
]


@pytest.mark.parametrize("act", LEAVING)
def test_a_check_that_would_leave_is_an_error_and_the_others_go_on(tmp_path: Path, act: str) -> None:
    result = run(
        tmp_path,
        f"""
        @lab.check("leaves", within=1)
        def leaves(k8s: Cluster) -> None:
            {act}
        """,
    )
    assert [one.status for one in result.checks] == [Status.ERROR, Status.PASS]
    assert "11_odd.py:" in result.checks[0].actual


@pytest.mark.parametrize("act", LEAVING)
def test_a_step_that_would_leave_is_an_error_of_the_lab(tmp_path: Path, act: str) -> None:
    result = run(
        tmp_path,
        f"""
        @lab.step("leaves")
        def leaves(k8s: Cluster) -> None:
            {act}
        """,
    )
    assert result.status is Status.ERROR
    assert result.reason.startswith("step 'leaves': ")


@pytest.mark.parametrize("act", LEAVING)
def test_an_experiment_that_would_leave_is_an_error(tmp_path: Path, act: str) -> None:
    result = run(
        tmp_path,
        f"""
        @lab.experiment("leaves")
        def leaves(k8s: Cluster) -> Experiment:
            yield "before", lambda k8s: None
            {act}
        """,
    )
    assert [one.status for one in result.checks] == [Status.PASS, Status.ERROR, Status.PASS]


@pytest.mark.parametrize("act", LEAVING)
def test_a_hint_that_would_leave_loses_nothing(tmp_path: Path, act: str) -> None:
    result = run(
        tmp_path,
        f"""
        @lab.check("fails", within=0)
        def fails(k8s: Cluster) -> None:
            expect(False, seen="no")

        @lab.hint()
        def leaves(k8s: Cluster) -> str:
            {act}
        """,
    )
    assert [one.status for one in result.checks] == [Status.FAIL, Status.PASS]
    assert "no advice" in result.checks[0].hint


@pytest.mark.parametrize("act", [*LEAVING[:6], "while True: pass"])
def test_a_file_that_would_leave_while_it_is_loaded_is_refused(
    tmp_path: Path, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "LOAD_SECONDS", 2.0)
    assert refused(tmp_path, f"\n{act}\n")


HANGING = [
    "while True: pass",
    "while True: time.sleep(0.01)",
    "for _ in iter(int, 1): pass",
    "time.sleep(0.8)",
]


@pytest.mark.parametrize("act", HANGING)
def test_a_check_that_hangs_ends_after_its_time_and_the_others_go_on(tmp_path: Path, act: str) -> None:
    started = time.monotonic()
    result = run(
        tmp_path,
        f"""
        @lab.check("hangs", within=0.2)
        def hangs(k8s: Cluster) -> None:
            {act}
        """,
    )
    assert time.monotonic() - started < 8
    assert [one.status for one in result.checks] == [Status.ERROR, Status.PASS]
    assert "has not returned" in result.checks[0].actual


def test_a_check_that_swallows_everything_is_left_behind(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        """
        @lab.check("hangs", within=0.2)
        def hangs(k8s: Cluster) -> None:
            end = time.monotonic() + 3
            while time.monotonic() < end:
                try:
                    time.sleep(0.01)
                except BaseException:
                    pass
        """,
    )
    assert [one.status for one in result.checks] == [Status.ERROR, Status.PASS]
    assert "does not stop" in result.checks[0].actual


@pytest.mark.parametrize("act", HANGING)
def test_a_step_that_hangs_is_an_error_of_the_lab(
    tmp_path: Path, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labrun, "ACT_SECONDS", 0.3)
    result = run(
        tmp_path,
        f"""
        @lab.step("hangs")
        def hangs(k8s: Cluster) -> None:
            {act}
        """,
    )
    assert result.status is Status.ERROR
    assert "has not returned" in result.reason


def test_an_experiment_that_yields_for_ever_ends(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        """
        @lab.experiment("for ever")
        def for_ever(k8s: Cluster) -> Experiment:
            while True:
                yield "again", lambda k8s: None
        """,
    )
    assert [one.status for one in result.checks][-2:] == [Status.ERROR, Status.PASS]
    assert "goes on after 50 statements" in result.checks[-2].actual


def test_an_experiment_that_hangs_between_two_statements_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labrun, "TRIAL_SECONDS", 0.3)
    result = run(
        tmp_path,
        """
        @lab.experiment("hangs")
        def hangs(k8s: Cluster) -> Experiment:
            yield "before", lambda k8s: None
            while True: pass
        """,
    )
    assert [one.status for one in result.checks] == [Status.PASS, Status.ERROR, Status.PASS]


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        ("return 1 == 2", 9, "a check returns nothing"),
        ("return expect", 9, "a check returns nothing"),
        ("if k8s: return False", 9, "a check returns nothing"),
        ("yield 1", 8, "a check has no `yield`"),
    ],
)
def test_a_check_whose_value_would_be_lost_is_refused_with_its_line(
    tmp_path: Path, body: str, line: int, said: str
) -> None:
    text = f"""
        @lab.check("returns")
        def returns(k8s: Cluster) -> None:
            {body}
        """
    assert refused(tmp_path, text).startswith((f"{line}: {said}", f"{line - 1}: {said}"))


@pytest.mark.parametrize("decorator", ["check('a')", "step('a')", "experiment('a')", "hint()"])
def test_a_coroutine_is_refused(tmp_path: Path, decorator: str) -> None:
    text = f"""
        @lab.{decorator}
        async def later(k8s: Cluster) -> None: ...
        """
    assert "nobody awaits an `async def`" in refused(tmp_path, text)


@pytest.mark.parametrize("decorator", ["check", "step", "experiment", "sabotage"])
def test_a_decorator_without_its_title_is_refused(tmp_path: Path, decorator: str) -> None:
    text = f"""
        @lab.{decorator}
        def bare(k8s: Cluster) -> None: ...
        """
    assert "title" in refused(tmp_path, text) or "missing 1 required" in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("look", "said"),
    [
        ("lambda k8s: 1 == 2", "returned bool"),
        ("lambda k8s: (yield)", "returned generator"),
        ("later", "returned coroutine"),
    ],
)
def test_a_look_that_returns_something_does_not_hold(tmp_path: Path, look: str, said: str) -> None:
    result = run(
        tmp_path,
        f"""
        async def later(k8s: Cluster) -> None: ...

        @lab.experiment("looks")
        def looks(k8s: Cluster) -> Experiment:
            yield "it is so", {look}
        """,
    )
    assert [one.status for one in result.checks] == [Status.ERROR, Status.PASS]
    assert said in result.checks[0].actual


@pytest.mark.parametrize(
    ("yielded", "said"),
    [
        ("1", "begins with its title"),
        ("f'{k8s}', fine", "begins with its title"),
        ("'', fine", "begins with its title"),
        ("holds(str(1), fine)", "begins with its title"),
    ],
)
def test_a_statement_without_a_written_title_is_refused(tmp_path: Path, yielded: str, said: str) -> None:
    text = f"""
        @lab.experiment("says")
        def says(k8s: Cluster) -> Experiment:
            yield {yielded}
        """
    assert said in refused(tmp_path, text)


def test_two_statements_of_one_title_are_refused(tmp_path: Path) -> None:
    text = """
        @lab.experiment("says")
        def says(k8s: Cluster) -> Experiment:
            yield "the same", print
            yield "the same", print
        """
    assert "stands in the lab twice" in refused(tmp_path, text)


# --- the folder


def test_one_odd_entry_is_a_problem_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "")
    (tmp_path / "38_dangling.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "39_folder.py").mkdir()
    (tmp_path / "40_bytes.py").write_bytes(b"\0\xff")
    (tmp_path / "41-dash.py").write_text(HEAD + FINE)
    (tmp_path / "42_Upper.py").write_text(HEAD + FINE)
    (tmp_path / "7_one_digit.py").write_text(HEAD + FINE)
    found = {one.path.name: str(one.problem or "") for one in loader.discover(tmp_path)}
    assert found["11_odd.py"] == ""
    for name in ("38_dangling.py", "39_folder.py"):
        assert "cannot be read" in found[name]
    assert "not Python" in found["40_bytes.py"]
    for name in ("41-dash.py", "42_Upper.py", "7_one_digit.py"):
        assert "is not called like one" in found[name]
    (good,) = loader.select(loader.discover(tmp_path), ["11"])
    assert loader.load(good).checks


def test_a_module_beside_the_labs_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "rooms_of_ours.py").write_text("NAME = 'ours'\n")
    file = write(tmp_path, "\nfrom rooms_of_ours import NAME\n")
    assert loader.load(file).checks
    assert not (tmp_path / "__pycache__").exists()

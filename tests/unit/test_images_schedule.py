"""Tasks of a build: each once, after what it needs, and none left half-way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import BuildFailed, Interrupted
from labctl.images.schedule import Schedule, Task
from labctl.images.store import Store
from labctl.progress import Quiet


class Run:
    """Tasks over a store, with a record of what was produced in which order."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.made: list[str] = []
        self.cancel = threading.Event()
        self.said: list[str] = []

    def task(self, name: str, *needs: str, act: Callable[[], object] = lambda: None) -> Task:
        def produce(piece: Path) -> None:
            assert all(self.store.has(need, need) for need in needs)
            act()
            self.made.append(name)

        return Task(name, name, 10.0, produce, needs)

    def __call__(self, *tasks: Task, workers: int = 2) -> Run:
        heard = self

        class Heard(Quiet):
            def say(self, text: str) -> None:
                heard.said.append(text)

        schedule = Schedule(tasks, self.store, workers=workers, progress=Heard(), cancel=self.cancel)
        schedule.run(Quiet())
        return self


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "pieces")


def test_tasks_wait_for_what_they_need(run: Run) -> None:
    run(
        run.task("image", "layer"),
        run.task("layer", "program", "root"),
        run.task("program"),
        run.task("root"),
    )
    assert set(run.made[:2]) == {"program", "root"}
    assert run.made[2:] == ["layer", "image"]


def test_every_task_is_told_with_its_seconds(run: Run) -> None:
    run(run.task("a"), run.task("b"))
    assert len(run.said) == 2
    assert run.said[-1].endswith("(2/2)")


def test_what_is_done_is_not_done_again(run: Run) -> None:
    run(run.task("a"), run.task("b", "a"))
    run.made.clear()
    run(run.task("a"), run.task("b", "a"), run.task("c", "b"))
    assert run.made == ["c"]
    assert run.said[-1].endswith("(3/3)")


def test_two_run_side_by_side_and_no_more(run: Run) -> None:
    both = threading.Barrier(2, timeout=10)
    run(run.task("a", act=lambda: both.wait()), run.task("b", act=lambda: both.wait()))
    assert set(run.made) == {"a", "b"}
    lonely = threading.Barrier(2)
    with pytest.raises(threading.BrokenBarrierError):
        run(
            run.task("c", act=lambda: lonely.wait(timeout=0.05)),
            run.task("d", act=lambda: lonely.wait(timeout=0.05)),
            workers=1,
        )


def test_the_first_failure_ends_the_rest_and_is_the_one_that_is_raised(run: Run) -> None:
    def fail() -> None:
        raise BuildFailed("a did not build")

    def until_cancelled() -> None:
        assert run.cancel.wait(10)
        raise Interrupted

    with pytest.raises(BuildFailed, match="a did not build"):
        run(
            run.task("done"),
            run.task("a", "done", act=fail),
            run.task("b", "done", act=until_cancelled),
            run.task("c", "a"),
        )
    assert run.made == ["done"]
    assert [piece.name for piece in run.store.root.iterdir()] == ["done-done"]


def test_an_interrupt_ends_what_is_under_way(run: Run) -> None:
    started = threading.Event()

    def until_cancelled() -> None:
        started.set()
        assert run.cancel.wait(10)
        raise Interrupted

    class Interrupting(Quiet):
        def say(self, text: str) -> None:
            assert started.wait(10)
            raise KeyboardInterrupt

    tasks = [run.task("quick"), run.task("long", act=until_cancelled)]
    with pytest.raises(KeyboardInterrupt):
        Schedule(tasks, run.store, workers=2, progress=Interrupting(), cancel=run.cancel).run(Quiet())
    assert run.made == ["quick"]
    assert [piece.name for piece in run.store.root.iterdir()] == ["quick-quick"]

"""Several pieces of work at once: order, exclusion, cancellation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from labctl import parallel, process
from labctl.parallel import Work
from labctl.waiting import Cancelled, pause, undisturbed

SECONDS = 10.0


def test_results_come_in_order_and_each_is_heard_of_as_it_ends() -> None:
    gate = threading.Event()
    heard: list[int] = []

    def slow() -> str:
        assert gate.wait(SECONDS)
        return "slow"

    def quick() -> str:
        gate.set()
        return "quick"

    pieces = [Work("slow", slow), Work("quick", quick)]
    assert parallel.run(pieces, at_once=2, on_end=lambda index, _: heard.append(index)) == ["slow", "quick"]
    assert sorted(heard) == [0, 1]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_more_than_so_many_at_once(at_once: int) -> None:
    under_way, most, lock = [0], [0], threading.Lock()

    def work() -> None:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        pause(0.02)
        with lock:
            under_way[0] -= 1

    parallel.run([Work(str(number), work) for number in range(7)], at_once=at_once)
    assert most[0] == at_once


def test_what_is_alone_runs_while_nothing_else_does() -> None:
    under_way: set[str] = set()
    seen: dict[str, set[str]] = {}

    def work(name: str) -> Callable[[], None]:
        def do() -> None:
            under_way.add(name)
            pause(0.02)
            seen[name] = set(under_way)
            under_way.discard(name)

        return do

    names = ["a", "A", "b", "B", "c"]
    parallel.run([Work(name, work(name), alone=name.isupper()) for name in names], at_once=5)
    assert (seen["A"], seen["B"]) == ({"A"}, {"B"})
    assert set(seen) == set(names)


def test_the_first_failure_cancels_the_others_and_is_raised() -> None:
    ended: list[str] = []

    def waits() -> None:
        try:
            pause(SECONDS)
        except Cancelled:
            ended.append("cancelled")
            raise

    def fails() -> None:
        raise ValueError("no")

    started = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        parallel.run([Work("waits", waits), Work("fails", fails), Work("never", waits)], at_once=2)
    assert time.monotonic() - started < SECONDS / 2
    assert ended == ["cancelled"]


def test_a_program_is_ended_with_its_work() -> None:
    def runs() -> None:
        process.run(["sleep", "60"], timeout=120)

    def fails() -> None:
        pause(0.2)
        raise ValueError("no")

    started = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        parallel.run([Work("runs", runs), Work("fails", fails)], at_once=2)
    assert time.monotonic() - started < 20


def test_what_is_put_back_is_not_cut_short() -> None:
    put_back: list[str] = []

    def takes_away() -> None:
        try:
            pause(SECONDS)
        finally:
            with undisturbed():
                pause(0.05)
                put_back.append("all of it")

    def fails() -> None:
        pause(0.05)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        parallel.run([Work("takes away", takes_away), Work("fails", fails)], at_once=2)
    assert put_back == ["all of it"]


SCRIPT = """
import sys
from labctl import parallel
from labctl.parallel import Work
from labctl.waiting import Cancelled, pause

def work(name):
    def do():
        sys.stdout.write(f"began {name}\\n")
        sys.stdout.flush()
        try:
            pause(60)
        except Cancelled:
            sys.stdout.write(f"tidied {name}\\n")
            raise
    return do

def stuck():
    import time
    sys.stdout.write("began stuck\\n")
    sys.stdout.flush()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            time.sleep(1)
        except BaseException:
            pass

parallel.ENDING_SECONDS = 3
pieces = [Work("a", work("a")), Work("b", work("b")), Work("stuck", stuck)]
try:
    parallel.run(pieces, at_once=3)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


def test_an_interrupt_ends_all_of_them_and_the_process_even_if_one_is_stuck() -> None:
    child = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        began = {child.stdout.readline().strip() for _ in range(3)}
        assert began == {"began a", "began b", "began stuck"}
        os.kill(child.pid, signal.SIGINT)
        out, _ = child.communicate(timeout=30)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 130
    assert set(out.split("\n")) >= {"tidied a", "tidied b", "interrupted"}

"""The exception tree is what its docstring draws, and every error says what to do."""

from __future__ import annotations

import re

import pytest

from labctl import errors
from labctl.errors import HostError, LabctlError


def every_error() -> list[type[LabctlError]]:
    found: list[type[LabctlError]] = []
    waiting = [LabctlError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += [k for k in kind.__subclasses__() if k.__module__ == errors.__name__]
    return found


def drawn() -> dict[str, tuple[str, int]]:
    assert errors.__doc__
    rows = re.findall(r"── (\w+)\s+([\w-]+)\s+(\d+)", errors.__doc__)
    return {name: (identity, int(code)) for name, identity, code in rows}


def test_every_class_is_drawn_with_its_id_and_exit_code() -> None:
    actual = {k.__name__: (k.id, k.exit_code) for k in every_error() if k is not LabctlError}
    actual["Interrupted"] = (errors.Interrupted.id, errors.Interrupted().exit_code)
    assert actual == drawn()


def test_ids_are_unique() -> None:
    ids = [k.id for k in every_error()]
    assert sorted(ids) == sorted(set(ids))


def test_a_child_keeps_the_exit_code_of_its_family() -> None:
    for kind in every_error():
        for parent in kind.__mro__[1:]:
            if parent in every_error() and parent is not LabctlError:
                assert kind.exit_code == parent.exit_code, f"{kind.__name__} under {parent.__name__}"


def test_the_failed_command_can_be_pasted_into_a_shell_and_shows_its_last_words() -> None:
    error = errors.CommandFailed(["kind", "create", "a b"], 3, "out\n", "first\nlast words\n")
    assert "`kind create 'a b'` ended with exit code 3" in error.what
    assert error.why == "last words"
    assert error.details == "first\nlast words"


def test_a_command_that_said_nothing_is_said_to_have_said_nothing() -> None:
    assert errors.CommandFailed(["true"], 1, "", " \n").why == "it printed nothing"


def test_a_config_error_lists_every_problem_with_its_place() -> None:
    problems = [
        errors.ConfigProblem("a.yaml", 2, 3, "unknown key", value="wokers", allowed="workers"),
        errors.ConfigProblem("a.yaml", 9, 1, "too many"),
    ]
    error = errors.ConfigError("a.yaml is not a cluster", problems=problems)
    assert error.details == ("a.yaml:2:3: unknown key (found wokers); allowed: workers\na.yaml:9:1: too many")


@pytest.mark.parametrize(("number", "code"), [(1, 129), (2, 130), (15, 143)])
def test_an_interrupt_ends_with_128_plus_its_signal(number: int, code: int) -> None:
    assert errors.Interrupted(signal_number=number).exit_code == code


def test_every_error_says_what_to_do_next() -> None:
    assert [kind.__name__ for kind in every_error() if kind is not LabctlError and not kind.usual_step] == []
    assert HostError("x").next_step == HostError.usual_step
    assert HostError("x", next_step="better").next_step == "better"

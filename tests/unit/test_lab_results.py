from __future__ import annotations

import json

import pytest

from labctl.lab.results import CheckResult, LabResult, RunResult, Status, as_json, overall


def check(status: Status) -> CheckResult:
    return CheckResult("c", "a check", status, "yes", "no", "look", 1.5)


def run(*statuses: Status, leftovers: tuple[str, ...] = ()) -> RunResult:
    labs = tuple(
        LabResult(number, "x", "X", status, (check(status),), leftovers=leftovers)
        for number, status in enumerate(statuses, 1)
    )
    return RunResult("one", "abcd", "v1.37.2", labs)


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([Status.PASS, Status.PASS], 0),
        ([Status.PASS, Status.SKIP], 0),
        ([Status.PASS, Status.FAIL], 1),
        ([Status.FAIL, Status.ERROR, Status.PASS], 4),
        ([Status.SKIP, Status.SKIP], 9),
        ([], 9),
    ],
)
def test_the_exit_code_tells_a_failed_lab_from_a_broken_environment(
    statuses: list[Status], code: int
) -> None:
    assert run(*statuses).exit_code == code


def test_what_could_not_be_removed_has_a_code_of_its_own() -> None:
    assert run(Status.ERROR, leftovers=("namespace/lab11",)).exit_code == 8


def test_a_lab_without_checks_verifies_nothing() -> None:
    assert RunResult("one", "n", "v1", (LabResult(1, "x", "X", Status.PASS),)).exit_code == 9


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([Status.PASS, Status.FAIL, Status.ERROR], Status.ERROR),
        ([Status.PASS, Status.FAIL, Status.SKIP], Status.FAIL),
        ([Status.PASS, Status.SKIP], Status.PASS),
        ([Status.SKIP], Status.SKIP),
        ([], Status.SKIP),
    ],
)
def test_a_lab_is_as_bad_as_its_worst_check(statuses: list[Status], status: Status) -> None:
    assert overall(map(check, statuses)) is status


def test_the_keys_of_the_json_are_pinned() -> None:
    data = json.loads(json.dumps(as_json(run(Status.FAIL))))
    assert list(data) == ["cluster", "nonce", "kubernetes", "labs", "seconds", "on_record", "exit_code"]
    assert list(data["labs"][0]) == [
        "number", "slug", "title", "status", "checks", "reason", "seconds", "leftovers",
    ]  # fmt: skip
    assert data["labs"][0]["checks"] == [
        {
            "id": "c",
            "title": "a check",
            "status": "FAIL",
            "expected": "yes",
            "actual": "no",
            "hint": "look",
            "seconds": 1.5,
        }
    ]
    assert data["exit_code"] == 1

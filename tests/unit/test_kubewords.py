"""One explanation of why something is not ready, for bring-up and labs alike."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from labctl import kubewords
from labctl.lab.api import CheckFailed
from labctl.lab.conditions import refuse_unready
from labctl.waiting import Hopeless

NS = SimpleNamespace


def pod(*, waiting: str = "", message: str = "", ready: str = "False", **more: Any) -> Any:
    state = NS(
        waiting=NS(reason=waiting, message=message) if waiting else None, terminated=more.get("terminated")
    )
    container = NS(name="main", image="some/image:v1", state=state, last_state=more.get("last"))
    conditions = [NS(type="Ready", status=ready, reason="", message=""), *more.get("conditions", ())]
    status = NS(
        conditions=conditions, phase=more.get("phase", "Pending"), message=None, reason=more.get("reason"),
        init_container_statuses=None, container_statuses=[container],
    )  # fmt: skip
    return NS(metadata=NS(name="a", namespace="room", deletion_timestamp=more.get("deleted")), status=status)


@pytest.mark.parametrize(
    ("found", "words", "lasting", "final"),
    [
        (pod(ready="True", phase="Running"), "", "", False),
        (pod(ready="True", deleted=datetime.now(UTC)), "is being deleted", "", False),
        (pod(phase="Running"), "runs, not ready yet", "", False),
        (pod(waiting="ContainerCreating"), "ContainerCreating", "", False),
        (pod(waiting="ErrImagePull"), "ErrImagePull: some/image:v1", "image", False),
        (pod(waiting="ImagePullBackOff"), "ImagePullBackOff: some/image:v1", "image", True),
        (
            pod(waiting="CreateContainerConfigError", message='configmap "x" not found'),
            'CreateContainerConfigError: configmap "x" not found', "configuration", False,
        ),
        (
            pod(waiting="CrashLoopBackOff", last=NS(terminated=NS(exit_code=3))),
            "CrashLoopBackOff: main, last exit code 3", "crash", False,
        ),
        (pod(terminated=NS(exit_code=1)), "container main ended with exit code 1", "", False),
        (pod(phase="Failed", reason="Evicted"), "phase Failed: Evicted", "", True),
        (pod(phase="Succeeded"), "phase Succeeded: no reason given", "", True),
        (
            pod(conditions=[NS(type="PodScheduled", status="False", reason="Unschedulable", message="0/3 nodes")]),
            "no node takes it: 0/3 nodes", "", False,
        ),
    ],
)  # fmt: skip
def test_the_bring_up_and_labs_see_the_same(found: Any, words: str, lasting: str, final: bool) -> None:
    assert kubewords.pod(found) == kubewords.Trouble(words, lasting, final)
    if not words:
        refuse_unready(found)
        return
    with pytest.raises(Hopeless if final else CheckFailed) as caught:
        refuse_unready(found)
    assert words in str(caught.value)


def test_several_pods_are_told_by_their_most_common_reason() -> None:
    seen = kubewords.pods([pod(), pod(waiting="ErrImageNeverPull"), pod()])
    assert seen.text == "starting (pod a and 1 more); ErrImageNeverPull: some/image:v1 (pod a)"
    assert (seen.lasting, seen.final) == ("image", True)


def test_parsed_json_is_read_like_the_clients_models() -> None:
    assert kubewords.is_ready({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    assert not kubewords.is_ready({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
    assert not kubewords.is_ready({"metadata": {}})


def test_a_node_speaks_for_itself() -> None:
    def node(status: str, message: str = "") -> Any:
        return NS(status=NS(conditions=[NS(type="Ready", status=status, message=message, reason="R")]))

    assert kubewords.node(node("True")) == ""
    assert kubewords.node(node("False", "cni plugin not initialized")) == "cni plugin not initialized"
    assert kubewords.node(node("Unknown")) == "R"
    assert kubewords.node(NS(status=None)) == "has not reported yet"

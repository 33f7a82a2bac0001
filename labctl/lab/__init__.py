"""What a lab file imports.

The names are imported when they are first used: listing labs and printing results need
none of the Kubernetes client, whose import takes most of a second.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.lab.api import Condition as Condition
    from labctl.lab.api import Experiment as Experiment
    from labctl.lab.api import Lab as Lab
    from labctl.lab.api import holds as holds
    from labctl.lab.conditions import gone as gone
    from labctl.lab.conditions import ready as ready
    from labctl.lab.conditions import ready_pods as ready_pods
    from labctl.lab.expectation import CheckFailed as CheckFailed
    from labctl.lab.expectation import Unmet as Unmet
    from labctl.lab.expectation import expect as expect
    from labctl.lab.handle import Cluster as Cluster
    from labctl.lab.objects import EMPTY_DIR as EMPTY_DIR
    from labctl.lab.objects import claim as claim
    from labctl.lab.objects import probe_deployment as probe_deployment
    from labctl.lab.objects import probe_pod as probe_pod
    from labctl.probe.objects import APP_LABEL as APP_LABEL
    from labctl.probe.objects import UNREADY_FILE as UNREADY_FILE
    from labctl.probe.objects import probe_container as probe_container
    from labctl.probe.objects import probe_on_every_node as probe_on_every_node
    from labctl.probe.outside import outside_server as outside_server
    from labctl.waiting import Hopeless as Hopeless

_HOME = {
    "Cluster": "labctl.lab.handle",
    "Hopeless": "labctl.waiting",
    "outside_server": "labctl.probe.outside",
    **dict.fromkeys(("Condition", "Experiment", "Lab", "holds"), "labctl.lab.api"),
    **dict.fromkeys(("CheckFailed", "Unmet", "expect"), "labctl.lab.expectation"),
    **dict.fromkeys(("gone", "ready", "ready_pods"), "labctl.lab.conditions"),
    **dict.fromkeys(("EMPTY_DIR", "claim", "probe_deployment", "probe_pod"), "labctl.lab.objects"),
    **dict.fromkeys(
        ("APP_LABEL", "UNREADY_FILE", "probe_container", "probe_on_every_node"), "labctl.probe.objects"
    ),
}
"""Each name of the authors' API and the module it lives in."""

__all__ = sorted(_HOME)  # one list, not two


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"labctl.lab has no {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)

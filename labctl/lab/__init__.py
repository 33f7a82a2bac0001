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
    from labctl.lab.callers import PodCaller as PodCaller
    from labctl.lab.calls import attempt as attempt
    from labctl.lab.conditions import gone as gone
    from labctl.lab.conditions import ready as ready
    from labctl.lab.expectation import CheckFailed as CheckFailed
    from labctl.lab.expectation import Unmet as Unmet
    from labctl.lab.expectation import expect as expect
    from labctl.lab.handle import Cluster as Cluster
    from labctl.lab.objects import EMPTY_DIR as EMPTY_DIR
    from labctl.lab.objects import alias as alias
    from labctl.lab.objects import by_hand as by_hand
    from labctl.lab.objects import claim as claim
    from labctl.lab.objects import config_map as config_map
    from labctl.lab.objects import deployment as deployment
    from labctl.lab.objects import pod as pod
    from labctl.lab.objects import volume as volume
    from labctl.probe.objects import container as container
    from labctl.probe.objects import on_every_node as on_every_node
    from labctl.probe.objects import service as service
    from labctl.probe.outside import outside_server as outside_server
    from labctl.waiting import Hopeless as Hopeless

_NAMES = {
    "labctl.lab.api": "Condition Experiment Lab holds",
    "labctl.lab.callers": "PodCaller",
    "labctl.lab.calls": "attempt",
    "labctl.lab.conditions": "gone ready",
    "labctl.lab.expectation": "CheckFailed Unmet expect",
    "labctl.lab.handle": "Cluster",
    "labctl.lab.objects": "EMPTY_DIR alias by_hand claim config_map deployment pod volume",
    "labctl.probe.objects": "container on_every_node service",
    "labctl.probe.outside": "outside_server",
    "labctl.waiting": "Hopeless",
}
_HOME = {name: home for home, names in _NAMES.items() for name in names.split()}
"""Each name of the authors' API and the module it lives in."""

__all__ = sorted(_HOME)  # one list, not two


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"labctl.lab has no {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)

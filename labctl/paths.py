"""Where labctl keeps things and where it finds what ships with it.

State may be deleted at any time; the cache may be deleted and costs a rebuild. Nothing here
creates a directory for reading only.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

from labctl.errors import UsageError

APP = "labctl"

CLUSTER_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,30}[a-z0-9])?")
"""A cluster's name. It becomes the name of containers and files, so less is allowed than kind allows."""


def state_root() -> Path:
    """One directory per cluster lives in here: ``$XDG_STATE_HOME/labctl`` on Linux."""
    return Path(platformdirs.user_state_dir(APP))


def cluster_state(name: str) -> Path:
    """The state directory of one cluster: kubeconfig and journal. Raises `UsageError`, as `cluster_name` does."""
    return state_root() / cluster_name(name)


def cluster_name(name: str) -> str:
    """``name``, which may be part of a path then. Raises `UsageError` for what is no cluster's name.

    Names come from command lines and from labels that anybody can put on a container: "../../x" is one too.
    """
    if not CLUSTER_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no cluster's name",
            why="a name is lower-case letters, digits and inner dashes",
            next_step="`labctl ls` lists the clusters",
        )
    return name


def cache_root() -> Path:
    """Downloads and built components: ``$XDG_CACHE_HOME/labctl`` on Linux."""
    return Path(platformdirs.user_cache_dir(APP))


def package_root() -> Path:
    """The directory of the installed package."""
    return Path(__file__).resolve().parent


def shipped(folder: str) -> Path:
    """A folder that ships with labctl (``labs``, ``cluster-configs``): inside the package where it
    was installed from a wheel, beside it in a checkout."""
    inside = package_root() / "_shipped" / folder
    return inside if inside.is_dir() else package_root().parent / folder


def found_upward(folder: str, start: Path | None = None) -> Path | None:
    """The nearest ``folder`` in the working directory or above it, or None."""
    here = (start or Path(os.getcwd())).resolve()
    return next((p / folder for p in (here, *here.parents) if (p / folder).is_dir()), None)

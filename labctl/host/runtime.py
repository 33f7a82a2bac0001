"""A container runtime for machines without CAP_SYS_RESOURCE.

Docker asks runc for every capability when a container is privileged, and runc cannot give one
that the bounding set lacks ("unable to apply caps"). The wrapper in files/labctl-runc asks
for one less. This module installs it and tells docker, whose other settings stay as they are.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from labctl import files, paths
from labctl.errors import HostError

NAME = "labctl-runc"
INSTALLED = Path("/usr/local/sbin/labctl-runc")
DAEMON_JSON = Path("/etc/docker/daemon.json")
AS_ROOT = "run as root"


def wrapper_file() -> Path:
    """The wrapper program as it ships."""
    return paths.package_root() / "host" / "files" / NAME


def configured(root: Path = Path("/")) -> bool:
    """Whether the wrapper is installed as it ships and is docker's default runtime.

    Raises `HostError` when docker's settings cannot be read or are not JSON.
    """
    settings = _read(_below(root, DAEMON_JSON))
    installed = _below(root, INSTALLED)
    try:
        same = installed.read_bytes() == wrapper_file().read_bytes() and os.access(installed, os.X_OK)
    except OSError:
        return False
    return same and settings == merged(settings)


def install(root: Path = Path("/")) -> None:
    """Write the wrapper and make it docker's default runtime; a former daemon.json is kept beside it.

    The daemon must be told (SIGHUP) or started afterwards. Raises `HostError` when the present daemon.json
    cannot be read or is not JSON, and changes nothing then; `WriteFailed` when a file cannot be written.
    """
    daemon_json = _below(root, DAEMON_JSON)
    settings = _read(daemon_json)
    files.install(_below(root, INSTALLED), wrapper_file().read_bytes(), mode=0o755, next_step=AS_ROOT)
    new = merged(settings)
    if new == settings:
        return
    backup = daemon_json.with_name(f"{daemon_json.name}.before-labctl")
    if daemon_json.exists() and not backup.exists():
        files.install(backup, daemon_json.read_bytes(), mode=0o644, next_step=AS_ROOT)
    files.install(daemon_json, json.dumps(new, indent=2) + "\n", mode=0o644, next_step=AS_ROOT)


def merged(settings: dict[str, Any]) -> dict[str, Any]:
    """Docker's settings with the wrapper as one more runtime and as the default one."""
    runtimes = {**settings.get("runtimes", {}), NAME: {"path": str(INSTALLED)}}
    return {**settings, "runtimes": runtimes, "default-runtime": NAME}


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _read(daemon_json: Path) -> dict[str, Any]:
    step = "correct or remove that file, then run the command again"
    try:
        text = daemon_json.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as fault:
        if isinstance(fault, PermissionError):
            step = "run the command as root, or let that file be read by everybody"
        why = getattr(fault, "strerror", None) or str(fault)
        raise HostError(f"{daemon_json} cannot be read", why=why, next_step=step) from fault
    try:
        settings = json.loads(text or "{}")
    except ValueError as broken:
        raise HostError(f"{daemon_json} is not JSON", why=str(broken), next_step=step) from broken
    if not isinstance(settings, dict) or not isinstance(settings.get("runtimes", {}), dict):
        raise HostError(
            f"{daemon_json} does not hold docker's settings", why="it is no JSON object", next_step=step
        )
    return settings

"""Where the docker program finds its daemon, read from the same settings as docker reads, without asking it.

This is for what must be known of a daemon that need not answer: which one it is. It costs no process.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

USUAL = "unix:///var/run/docker.sock"


def endpoint() -> str:
    """The daemon's URL: of DOCKER_HOST, else of the context in use, else docker's default."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    settings = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    name = os.environ.get("DOCKER_CONTEXT") or _text(settings / "config.json", "currentContext")
    if not name or name == "default":
        return USUAL
    meta = settings / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    return _text(meta, "Endpoints", "docker", "Host") or USUAL


def socket() -> Path | None:
    """The daemon's socket with no link in its path, or None for a daemon that is reached in another way."""
    scheme, _, path = endpoint().partition("://")
    return Path(os.path.realpath(path)) if scheme == "unix" else None


def _text(file: Path, *keys: str) -> str:
    """The text under ``keys`` in a JSON file, or '' where there is none."""
    try:
        found = json.loads(file.read_text("utf-8"))
        for key in keys:
            found = found[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return found if isinstance(found, str) else ""

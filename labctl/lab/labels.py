"""The mark on everything that a lab makes, and how it gets there.

Whose an object is, which run made it and a random nonce of that run stand in its labels: reset
finds objects by them, and yesterday's leftovers cannot pass for today's. It knows objects
of the official client and plain dictionaries, and makes no call.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Mapping
from typing import Any

from labctl.probe import NONCE_LABEL

LAB = "labctl.dev/lab"
INSTANCE = "labctl.dev/instance"
RUN = "labctl.dev/run"
NONCE = NONCE_LABEL

_TEMPLATES = (("spec", "template"), ("spec", "job_template"), ("spec", "job_template", "spec", "template"))
"""Where an object carries the description of objects that a controller makes from it."""


def new_nonce() -> str:
    """Eight random hexadecimal digits: enough to tell one run from another, short enough for a DNS name."""
    return secrets.token_hex(4)


def labelled(body: Any, labels: Mapping[str, str]) -> Any:
    """A copy of ``body`` (a model of the client or a dict) that carries ``labels``, its templates too.

    What is no Kubernetes object comes back as it is.
    """
    if not _get(body, "metadata") and not _get(body, "kind"):
        return body
    marked = copy.deepcopy(body)
    _mark(marked, labels)
    for path in _TEMPLATES:
        template = marked
        for name in path:
            template = _get(template, name)
        if template is not None:
            _mark(template, labels)
    return marked


def _mark(target: Any, labels: Mapping[str, str]) -> None:
    metadata = _get(target, "metadata")
    if isinstance(target, dict):
        metadata = target.setdefault("metadata", {}) if metadata is None else metadata
        metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
        return
    if metadata is None:
        from kubernetes.client import V1ObjectMeta

        metadata = target.metadata = V1ObjectMeta()
    metadata.labels = {**(metadata.labels or {}), **labels}


def _get(target: Any, name: str) -> Any:
    if isinstance(target, dict):
        return target.get(_camel(name))
    return getattr(target, name, None)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)

"""The official client's API objects as a lab gets them: labelled creation, and patience with the API server.

A call that never reached the server is made again; one whose answer was lost is made again only
where that cannot make a second object. Everything else, exceptions included, is the official client's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import urllib3
from kubernetes.client.exceptions import ApiException

from labctl.errors import NOT_FOUND, ApiRefused, DeadlineExceeded, KubernetesError
from labctl.kube import Kube, translated
from labctl.lab.labels import NONCE, labelled
from labctl.waiting import Deadline, NotYet, refuse_cancelled, until

STEP_PATIENCE_SECONDS = 60.0
"""How long a step's calls wait for an API server that is away; one that restarts is back in 10 to 20 s."""

CONFLICT = 409
NOT_TAKEN = frozenset({429, 503})
"""Answers that say the request was not carried out."""
LOST = frozenset({504})
"""Answers that leave open whether it was."""

_UNMARKED = ("token", "binding", "eviction", "review")
"""Requests in the shape of objects that the server keeps nowhere."""


class LabApi:
    """Wraps one API object (`CoreV1Api`, ...) of ``kube``; its methods and their arguments stay the same."""

    def __init__(self, kube: Kube, api: Any, labels: Mapping[str, str], patience: float) -> None:
        self._kube = kube
        self._api = api
        self._labels = labels
        self._patience = patience

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._api, name)
        return functools.partial(self._call, name, method) if callable(method) else method

    def _call(self, name: str, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("create_") and not any(word in name for word in _UNMARKED):
            args = tuple(labelled(one, self._labels) for one in args)
            kwargs = {
                key: labelled(one, self._labels) if key == "body" else one for key, one in kwargs.items()
            }
        deadline = Deadline(self._patience)
        unsure = False
        while True:
            refuse_cancelled()
            try:
                return method(*args, **kwargs)
            except (ApiException, urllib3.exceptions.HTTPError) as failed:
                if unsure and _status(failed) == CONFLICT and name.startswith("create_"):
                    return self._made_before(name, failed, args, kwargs)
                if unsure and _status(failed) == NOT_FOUND and name.startswith("delete_"):
                    return None
                lost = _answer_lost(failed)
                if (
                    deadline.over()
                    or not (lost or _never_taken(failed))
                    or (lost and not _repeatable(name, args, kwargs))
                ):
                    raise
                unsure = unsure or lost
                self._await_server(deadline, failed)

    def _await_server(self, deadline: Deadline, failed: Exception) -> None:
        """Until the server says that it is ready: one that just started refuses what it will soon allow."""

        def look() -> None:
            try:
                self._kube.raw_get("/readyz", timeout=5.0)
            except KubernetesError as away:
                raise NotYet(str(away)) from away

        try:
            until(look, what="the API server", within=deadline.left())
        except DeadlineExceeded:
            raise failed from None

    def _made_before(
        self, name: str, conflict: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The object that our own lost request made, or the conflict if somebody else made it."""
        read = getattr(self._api, name.replace("create_", "read_", 1), None)
        body = _body(args, kwargs)
        if read is None or body is None:
            raise conflict
        place = (
            {"namespace": kwargs.get("namespace", args[0] if args else None)}
            if "_namespaced_" in name
            else {}
        )
        found = read(name=_metadata(body, "name"), **place)
        if (found.metadata.labels or {}).get(NONCE) != self._labels[NONCE]:
            raise conflict
        return found


def attempt(call: Callable[..., object], **arguments: Any) -> str:
    """ "done", or why the API server refused the call: "403 Forbidden: ..." """
    try:
        with translated():
            call(**arguments)
    except ApiRefused as refused:
        return refused.why
    return "done"


def _status(failed: Exception) -> int:
    return int(failed.status or 0) if isinstance(failed, ApiException) else 0


def _never_taken(failed: Exception) -> bool:
    reason = failed.reason if isinstance(failed, urllib3.exceptions.MaxRetryError) else failed
    return _status(failed) in NOT_TAKEN or isinstance(reason, urllib3.exceptions.ConnectTimeoutError)


def _answer_lost(failed: Exception) -> bool:
    if isinstance(failed, ApiException):
        return not failed.status or _status(failed) in LOST
    return not _never_taken(failed)


def _repeatable(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether asking twice does the same as asking once; a create is, once its object has a name."""
    if name.startswith("create_"):
        return bool(_metadata(_body(args, kwargs), "name"))
    return name.startswith(("read_", "list_", "get_", "patch_", "delete_"))


def _body(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs.get("body", args[-1] if args else None)


def _metadata(body: Any, field: str) -> Any:
    metadata = body.get("metadata") if isinstance(body, dict) else getattr(body, "metadata", None)
    return metadata.get(field) if isinstance(metadata, dict) else getattr(metadata, field, None)

"""The Kubernetes API, made safe to call.

The official client is used openly everywhere else; this module is where it is constructed and
where its failures get our names. It takes away the client's habits that hurt a tool like
this one: no time-outs by default, proxies from the environment even for a local cluster,
private keys left in the temporary directory, one exec changing the client of all others.
It knows nothing of kind, docker or labs.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import urllib3
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, load_kube_config
from kubernetes.stream import stream
from websocket import WebSocketException

from labctl import clientkeys, wholeanswers
from labctl.errors import NOT_FOUND, ApiRefused, ApiUnreachable, DeadlineExceeded, LabctlError, StateUnusable
from labctl.waiting import bounded

if TYPE_CHECKING:
    from urllib3.util.retry import Retry

CALL_SECONDS = (5.0, 20.0)
"""Time-outs of one call that brings none of its own: to connect, and for the whole answer."""

READ_RETRIES = 2
"""How often a read (GET, HEAD) is tried again after a broken connection, 429 or 503. Writes never are."""

RETRY_AFTER_MOST_SECONDS = 5.0
"""A server that asks for a longer pause gets this one: the caller's own deadline decides, not the server."""

EXEC_CHARACTERS = 16 << 20
"""What a program in a pod may print, both streams together."""

_HANDSHAKE = re.compile(r"Handshake status (\d{3}) ([A-Za-z ]*)")


ERROR_CHANNEL = 3
"""The websocket channel on which an exec reports how it ended."""


_APIS = {
    "core": "CoreV1Api",
    "apps": "AppsV1Api",
    "batch": "BatchV1Api",
    "networking": "NetworkingV1Api",
    "discovery": "DiscoveryV1Api",
    "events": "EventsV1Api",
    "rbac": "RbacAuthorizationV1Api",
    "authorization": "AuthorizationV1Api",
    "authentication": "AuthenticationV1Api",
    "storage": "StorageV1Api",
    "coordination": "CoordinationV1Api",
    "policy": "PolicyV1Api",
    "custom": "CustomObjectsApi",
}


@dataclass(frozen=True)
class ExecResult:
    """What a program in a pod said and how it ended."""

    exit_code: int
    stdout: str
    stderr: str


class Kube:
    """One connection to one cluster: the official client's API objects and the few calls they lack."""

    core: client.CoreV1Api
    apps: client.AppsV1Api
    batch: client.BatchV1Api
    networking: client.NetworkingV1Api
    discovery: client.DiscoveryV1Api
    events: client.EventsV1Api
    rbac: client.RbacAuthorizationV1Api
    authorization: client.AuthorizationV1Api
    authentication: client.AuthenticationV1Api
    storage: client.StorageV1Api
    coordination: client.CoordinationV1Api
    policy: client.PolicyV1Api
    custom: client.CustomObjectsApi

    def __init__(self, configuration: client.Configuration, *, context: str = "") -> None:
        self._configuration = configuration
        self.context = context
        self._api = _ApiClient(configuration)
        self._version = client.VersionApi(self._api)
        self._proxy = _ApiClient(_without_retries(configuration))

    def __getattr__(self, name: str) -> Any:
        """Make an API object when it is first asked for: the models of all of them take a second to import."""
        if name not in _APIS:
            raise AttributeError(f"a Kube has no {name!r}")
        made = getattr(client, _APIS[name])(self._api)
        setattr(self, name, made)
        return made

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._configuration.host)

    def version(self) -> str:
        """The API server's version, such as ``v1.37.2``. Raises `ApiUnreachable`, `ApiRefused`."""
        with translated("read the version of the API server"):
            return str(self._version.get_code().git_version)

    def translated(self, doing: str = "") -> contextlib.AbstractContextManager[None]:
        """See `translated`; here so that a holder of a connection needs no import."""
        return translated(doing)

    def pod_get(
        self,
        namespace: str,
        pod: str,
        *,
        port: int,
        path: str,
        query: Mapping[str, str | int] | None = None,
        timeout: float = 10.0,
    ) -> str:
        """The body of ``GET path`` on a pod's port, asked through the API server's pod proxy; never retried.

        Raises `ApiRefused` with status 503 where the API server could not reach the pod,
        or with the status the pod itself answered; `ApiUnreachable` where no answer came.
        """
        target = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/{path.lstrip('/')}"
        with translated(f"GET {path} on pod {namespace}/{pod}"):
            return raw_get(self._proxy, target, query=query, timeout=timeout)

    def raw_get(
        self,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        timeout: float = 20.0,
        accept: str = "",
    ) -> str:
        """The body of ``GET path`` on the API server itself (``/readyz?verbose``), in the format ``accept``."""
        with translated(f"GET {path}"):
            return raw_get(self._api, path, query=query, timeout=timeout, accept=accept)

    def raw_delete(self, path: str) -> None:
        """``DELETE path`` on the API server, dependents in the background; an absent object is no error."""
        with translated(f"DELETE {path}"):
            try:
                raw(self._api, "DELETE", f"{path}?propagationPolicy=Background", timeout=CALL_SECONDS[1])
            except ApiException as refused:
                if refused.status != NOT_FOUND:
                    raise

    def exec(
        self,
        namespace: str,
        pod: str,
        argv: Sequence[str],
        *,
        container: str | None = None,
        timeout: float = 30.0,
    ) -> ExecResult:
        """Run ``argv`` in a container and return its exit code and output.

        A connection of its own each time: the client's `stream` changes the client it is called on.
        Raises `DeadlineExceeded` when the program has not ended after ``timeout`` seconds,
        `ApiRefused` when it could not be started, `ApiUnreachable` when the connection broke.
        """
        what = f"exec in pod {namespace}/{pod}"
        # The websocket library has no time-out to connect, and turns an interrupt into an ApiException.
        with translated(what):
            return bounded(
                lambda: self._exec(what, namespace, pod, argv, container, timeout),
                what=what,
                within=timeout + 1,
            )

    def _exec(
        self, what: str, namespace: str, pod: str, argv: Sequence[str], container: str | None, timeout: float
    ) -> ExecResult:
        fresh = client.ApiClient(_for_websockets(self._configuration))
        chosen = {"container": container} if container else {}
        with contextlib.closing(fresh):
            socket = _stream(
                client.CoreV1Api(fresh).connect_get_namespaced_pod_exec,
                name=pod,
                namespace=namespace,
                command=list(argv),
                stdin=False,
                stdout=True,
                stderr=True,
                tty=False,
                _preload_content=False,
                _request_timeout=timeout,
                **chosen,
            )
            with contextlib.closing(socket):
                socket._all = _Counted()
                socket.run_forever(timeout=timeout)
                if socket.is_open():
                    raise DeadlineExceeded(
                        what, seconds=timeout, last=socket.read_stdout(timeout=0) or "no output"
                    )
                out, err = socket.read_stdout(timeout=0), socket.read_stderr(timeout=0)
                return ExecResult(_exit_code(what, socket.read_channel(ERROR_CHANNEL)), out, err)

    def with_token(self, token: str) -> Kube:
        """The same server, asked with a bearer token instead of our own credentials; the caller closes it."""
        import copy

        twin = copy.deepcopy(self._configuration)
        twin.cert_file = twin.key_file = twin.username = twin.password = None
        twin.refresh_api_key_hook = None
        twin.api_key_prefix = {}
        # The client's name for it changed between its releases 36 and 37.
        twin.api_key = dict.fromkeys(("authorization", "BearerToken"), f"Bearer {token}")
        return Kube(twin, context=self.context)

    def close(self) -> None:
        """Close all connections."""
        self._api.close()  # type: ignore[no-untyped-call]  # the official client types some of its methods only
        self._proxy.close()  # type: ignore[no-untyped-call]  # as above


def connect(kubeconfig: Path, context: str | None = None) -> Kube:
    """A connection to the cluster that ``kubeconfig`` describes; no request is made yet.

    The environment is not consulted, neither KUBECONFIG nor proxies. Raises `StateUnusable`
    when the file cannot be read or describes no cluster.
    """
    configuration = client.Configuration()
    try:
        load_kube_config(  # type: ignore[no-untyped-call]  # kubernetes.config is untyped
            config_file=str(kubeconfig),
            context=context,
            client_configuration=configuration,
            persist_config=False,
            temp_file_path=str(clientkeys.directory()),
        )
    except (ConfigException, OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as cause:
        raise StateUnusable(
            f"the kubeconfig {kubeconfig} cannot be used",
            why=" ".join(str(cause).split()),
            next_step="for a cluster of labctl's: `labctl status` shows whether it still runs",
        ) from cause
    # After loading: the constructor and the loader both consult the environment.
    configuration.proxy = None
    configuration.retries = _reads_only()
    return Kube(configuration, context=context or "")


@contextlib.contextmanager
def translated(doing: str = "") -> Iterator[None]:
    """Map every exception of the official client and its libraries to ours; ``doing`` names the call.

    `ApiUnreachable` for connections, TLS and time-outs, `ApiRefused` for an HTTP status.
    """
    what = f"cannot {doing}" if doing and " " in doing else (doing or "the Kubernetes API call failed")
    try:
        yield
    except ApiException as cause:
        raise _translate(what, cause) from cause
    except (urllib3.exceptions.HTTPError, WebSocketException, OSError) as cause:
        raise _unreachable(what, cause) from cause


def raw_get(
    api: client.ApiClient,
    path: str,
    *,
    query: Mapping[str, str | int] | None,
    timeout: float,
    accept: str = "",
) -> str:
    """The decoded body of a GET through ``api``; raises the client's own exceptions."""
    from urllib.parse import urlencode

    return raw(api, "GET", f"{path}?{urlencode(query)}" if query else path, timeout=timeout, accept=accept)


def raw(api: client.ApiClient, method: str, path: str, *, timeout: float, accept: str = "") -> str:
    """The decoded body of a request without one through ``api``; raises the client's own exceptions."""
    answer = api.rest_client.pool_manager.request(
        method,
        f"{api.configuration.host}{path}",
        headers={**_authorization(api), **({"Accept": accept} if accept else {})},
        timeout=urllib3.Timeout(connect=CALL_SECONDS[0], read=timeout),
        decode_content=False,  # none is asked for, and a packed body may be a thousand times its size
        retries=api.configuration.retries,
    )
    body = answer.data.decode("utf-8", "replace")
    if not 200 <= answer.status <= 299:
        raise ApiException(status=answer.status, reason=answer.reason, body=body)
    return body


class _ApiClient(client.ApiClient):
    """The official client with a time-out on every call, which is that of the whole answer."""

    def __init__(self, configuration: client.Configuration) -> None:
        super().__init__(configuration)
        wholeanswers.bound(self.rest_client.pool_manager)

    def call_api(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("_request_timeout") is None:
            kwargs["_request_timeout"] = CALL_SECONDS
        return super().call_api(*args, **kwargs)


class _Counted:
    """Stands for the second copy of all output that the client keeps, and ends an exec that says too much."""

    def __init__(self) -> None:
        self._left = EXEC_CHARACTERS

    def write(self, text: str) -> None:
        self._left -= len(text)
        if self._left < 0:
            raise OSError(
                errno.EMSGSIZE, f"the program printed more than {EXEC_CHARACTERS >> 20} million characters"
            )


class _BoundedRetry(urllib3.Retry):
    """urllib3's retries, with a bound on how long the server may make us wait."""

    def increment(self, *args: Any, **kwargs: Any) -> Self:
        """The next try; none after an answer that was not whole in its time, which has had all of it."""
        error = kwargs.get("error")
        if isinstance(error, urllib3.exceptions.ReadTimeoutError):
            raise error
        return super().increment(*args, **kwargs)

    def get_retry_after(self, response: Any) -> float | None:
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, RETRY_AFTER_MOST_SECONDS)


def _reads_only() -> Retry:
    return _BoundedRetry(
        total=READ_RETRIES,
        redirect=0,
        allowed_methods=frozenset({"GET", "HEAD"}),
        status_forcelist=frozenset({429, 503}),
        backoff_factor=0.2,
        raise_on_status=False,
    )


def _stream(method: Any, **arguments: Any) -> Any:
    """The client's `stream`. Its release 36 stumbles over its own exception for a refused exec; that one is raised."""
    try:
        return stream(method, **arguments)
    except AttributeError as stumbled:
        if isinstance(stumbled.__context__, ApiException):
            raise stumbled.__context__ from None
        raise


def _without_retries(configuration: client.Configuration) -> client.Configuration:
    import copy

    twin = copy.deepcopy(configuration)
    twin.retries = urllib3.Retry(total=False)
    return twin


def _for_websockets(configuration: client.Configuration) -> client.Configuration:
    """The websocket library consults HTTPS_PROXY by itself, unless it is given a proxy and a list of
    hosts that bypass it: so it gets one that nobody needs and that every host bypasses."""
    twin = _without_retries(configuration)
    twin.proxy = "http://bypassed.invalid:1"
    twin.no_proxy = "*"
    return twin


def _authorization(api: client.ApiClient) -> dict[str, str]:
    token = api.configuration.get_api_key_with_prefix(
        "BearerToken"
    ) or api.configuration.get_api_key_with_prefix("authorization")
    return {"authorization": token} if token else {}


def _translate(what: str, cause: ApiException) -> LabctlError:
    if not cause.status:
        return _refused_handshake(what, str(cause.reason)) or _unreachable(what, cause)
    reason, message = _status_message(cause)
    return ApiRefused(
        what,
        status=int(cause.status),
        reason=reason,
        why=f"{cause.status} {reason}: {message}" if message else f"{cause.status} {reason}",
    )


def _refused_handshake(what: str, reason: str) -> ApiRefused | None:
    """The API server's own answer to an exec, which the client hides in the text of an error without status."""
    if not (seen := _HANDSHAKE.search(reason)):
        return None
    hidden = ApiException(status=int(seen[1]), reason=seen[2].strip())
    hidden.body = reason[reason.find('{"kind":"Status"') :] if '{"kind":"Status"' in reason else ""
    word, message = _status_message(hidden)
    return ApiRefused(
        what, status=int(seen[1]), reason=word, why=f"{seen[1]} {word}: {message}" if message else ""
    )


def _status_message(cause: ApiException) -> tuple[str, str]:
    """The word and the sentence of a Status object, or of whatever body there is instead."""
    import json

    body = str(cause.body or "")
    with contextlib.suppress(ValueError, AttributeError):
        status = json.loads(body)
        return str(status.get("reason") or cause.reason or ""), str(status.get("message") or "")
    return str(cause.reason or ""), body.strip()[:500]


def _unreachable(what: str, cause: BaseException) -> ApiUnreachable:
    return ApiUnreachable(
        what,
        why=" ".join(f"{type(cause).__name__}: {cause}".split()),
        next_step="for a cluster of labctl's: `labctl status` shows which nodes run",
    )


def _exit_code(what: str, report: str) -> int:
    """The exit code from an exec's closing Status object."""
    status = yaml.safe_load(report) if report else None
    if not isinstance(status, dict):
        raise ApiUnreachable(what, why="the connection closed before the program's exit code arrived")
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise ApiRefused(
        what,
        status=int(status.get("code") or 500),
        reason=str(status.get("reason") or "InternalError"),
        why=str(status.get("message") or report),
    )
